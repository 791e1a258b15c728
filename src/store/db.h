/*
 * Data access: typed operations, no SQL outside. Back end SQLite (WAL, synchronous=FULL); the SQL
 * stays within what PostgreSQL also takes, so that a second back end can follow. Owned by `store`.
 */
#ifndef STORE_DB_H
#define STORE_DB_H

#include "model/events.h"

struct db;
/* url "sqlite:/path/file.db"; creates and migrates the schema. */
NODISCARD enum err db_open(const char *url, struct db **out_db, struct errinfo *info);
void db_close(struct db *db);

/* ---- tracking ---- */
/* Stores a batch and the cursor in one transaction; events with seq <= cursor are ignored. */
NODISCARD enum err db_events_add(struct db *db, const struct event *events, uint32_t n,
                                 struct errinfo *info);
NODISCARD enum err db_events_cursor(struct db *db, uint64_t *out_seq, struct errinfo *info);
struct event_query {
    uint64_t id;    /* queue id (its children and parent too), 0 = any */
    struct sv text; /* substring of sender, rcpt, subject or message-id; "" = any */
    int64_t from_ms, to_ms;
    uint32_t limit; /* messages or events, at most 10000 */
};
/* Timeline of one message family in order of seq / newest messages that match. */
NODISCARD enum err db_events_of(struct db *db, uint64_t id,
                                void (*each)(void *ctx, const struct event *e), void *ctx,
                                struct errinfo *info);
NODISCARD enum err db_messages_find(struct db *db, const struct event_query *q,
                                    void (*each)(void *ctx, const struct event *first), void *ctx,
                                    struct errinfo *info);
/* Removes a bounded slice of what is over age or size; true = more to purge. */
bool db_events_purge(struct db *db, int64_t before_ms, uint64_t max_bytes, uint32_t slice);

/* ---- settings revisions ---- */
struct revision {
    uint64_t number;
    int64_t at_ms;
    struct sv author, comment;
    bool active;
};
NODISCARD enum err db_revision_add(struct db *db, const struct revision *r, struct sv tree,
                                   struct errinfo *info); /* becomes the active one */
NODISCARD enum err db_revision_tree(struct db *db, uint64_t number, struct buf *out_tree,
                                    struct errinfo *info);
NODISCARD enum err db_revision_active(struct db *db, uint64_t *out_number, struct errinfo *info);
NODISCARD enum err db_revision_list(struct db *db,
                                    void (*each)(void *ctx, const struct revision *r), void *ctx,
                                    struct errinfo *info);
/* The draft: one tree being edited, "" = none. */
NODISCARD enum err db_draft_set(struct db *db, struct sv tree, struct errinfo *info);
NODISCARD enum err db_draft_get(struct db *db, struct buf *out_tree, struct errinfo *info);

/* ---- audit (spec F12) ---- */
struct audit {
    int64_t at_ms;
    struct sv user, action, element, detail;
};
NODISCARD enum err db_audit_add(struct db *db, const struct audit *a, struct errinfo *info);
NODISCARD enum err db_audit_list(struct db *db, uint32_t limit,
                                 void (*each)(void *ctx, const struct audit *a), void *ctx,
                                 struct errinfo *info);

#endif
