/*
 * SQLite back end of store/db.h. Plain SQL that PostgreSQL takes as well (BIGINT, TEXT, ON
 * CONFLICT).
 *
 * SECURITY: every value is bound, none is ever part of a statement's text.
 */
#include "store/db.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#define SCHEMA_VERSION 1
#define BUSY_MS        5000
#define QUERY_MAX      10000
#define TREE_MAX       (64u * 1024 * 1024)

enum statement {
    ST_EVENT_ADD,
    ST_MESSAGE_ADD,
    ST_FAMILY,
    ST_CURSOR_GET,
    ST_CURSOR_SET,
    ST_EVENTS_OF,
    ST_FIND,
    ST_FIND_ALL,
    ST_PURGE_BEFORE,
    ST_PURGE_EVENTS,
    ST_PURGE_MESSAGES,
    ST_REVISION_ADD,
    ST_REVISION_OFF,
    ST_REVISION_TREE,
    ST_REVISION_ACTIVE,
    ST_REVISION_LIST,
    ST_DRAFT_SET,
    ST_DRAFT_GET,
    ST_AUDIT_ADD,
    ST_AUDIT_LIST,
    ST_BEGIN,
    ST_COMMIT,
    ST_ROLLBACK,
    ST_BYTES,
    STATEMENTS
};

static const char *const sql[STATEMENTS] = {
    [ST_EVENT_ADD] = "INSERT INTO event(seq, at_ms, kind, id, parent, family, revision, sender, "
                     "rcpt, subject, message_id, detail) VALUES(?,?,?,?,?,?,?,?,?,?,?,?) "
                     "ON CONFLICT DO NOTHING",
    [ST_MESSAGE_ADD] = "INSERT INTO message(id, family, seq, at_ms) VALUES(?,?,?,?) "
                       "ON CONFLICT(id) DO NOTHING",
    [ST_FAMILY] = "SELECT family FROM message WHERE id = ?",
    [ST_CURSOR_GET] = "SELECT seq FROM event_cursor WHERE one = 1",
    [ST_CURSOR_SET] = "INSERT INTO event_cursor(one, seq) VALUES(1, ?) "
                      "ON CONFLICT(one) DO UPDATE SET seq = excluded.seq",
    [ST_EVENTS_OF] = "SELECT seq, at_ms, kind, id, parent, revision, sender, rcpt, subject, "
                     "message_id, detail FROM event WHERE family = ? ORDER BY seq",
    [ST_FIND] = "SELECT e.seq, e.at_ms, e.kind, e.id, e.parent, e.revision, e.sender, e.rcpt, "
                "e.subject, e.message_id, e.detail FROM message m JOIN event e ON e.seq = m.seq "
                "WHERE m.at_ms >= ?1 AND m.at_ms < ?2 AND (e.sender LIKE ?3 ESCAPE '\\' OR "
                "e.subject LIKE ?3 ESCAPE '\\' OR e.message_id LIKE ?3 ESCAPE '\\' OR m.id IN "
                "(SELECT id FROM event WHERE rcpt LIKE ?3 ESCAPE '\\')) "
                "ORDER BY m.at_ms DESC, m.id DESC LIMIT ?4",
    [ST_FIND_ALL] = "SELECT e.seq, e.at_ms, e.kind, e.id, e.parent, e.revision, e.sender, e.rcpt, "
                    "e.subject, e.message_id, e.detail FROM message m JOIN event e ON e.seq = "
                    "m.seq WHERE m.at_ms >= ?1 AND m.at_ms < ?2 "
                    "ORDER BY m.at_ms DESC, m.id DESC LIMIT ?3",
    [ST_PURGE_BEFORE] = "SELECT COALESCE(MAX(seq), 0), COUNT(*) FROM "
                        "(SELECT seq, at_ms FROM event ORDER BY seq LIMIT ?) AS slice "
                        "WHERE at_ms < ?",
    [ST_PURGE_EVENTS] = "DELETE FROM event WHERE seq <= ?",
    [ST_PURGE_MESSAGES] = "DELETE FROM message WHERE seq <= ?",
    [ST_REVISION_ADD] = "INSERT INTO revision(number, at_ms, author, comment, tree, active) "
                        "VALUES(?,?,?,?,?,1)",
    [ST_REVISION_OFF] = "UPDATE revision SET active = 0 WHERE active = 1",
    [ST_REVISION_TREE] = "SELECT tree FROM revision WHERE number = ?",
    [ST_REVISION_ACTIVE] = "SELECT number FROM revision WHERE active = 1",
    [ST_REVISION_LIST] = "SELECT number, at_ms, author, comment, active FROM revision "
                         "ORDER BY number",
    [ST_DRAFT_SET] = "INSERT INTO draft(one, tree) VALUES(1, ?) "
                     "ON CONFLICT(one) DO UPDATE SET tree = excluded.tree",
    [ST_DRAFT_GET] = "SELECT tree FROM draft WHERE one = 1",
    [ST_AUDIT_ADD] = "INSERT INTO audit(at_ms, username, action, element, detail) "
                     "VALUES(?,?,?,?,?)",
    [ST_AUDIT_LIST] = "SELECT at_ms, username, action, element, detail FROM audit "
                      "ORDER BY at_ms DESC LIMIT ?",
    [ST_BEGIN] = "BEGIN",
    [ST_COMMIT] = "COMMIT",
    [ST_ROLLBACK] = "ROLLBACK",
    /* pages in use: those that a purge freed wait in the file for the next events */
    [ST_BYTES] = "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count(), "
                 "pragma_freelist_count(), pragma_page_size()",
};

/* INTEGER PRIMARY KEY is the row id itself (64 bits); BIGINT, which PostgreSQL wants, would be a
 * second tree beside the table: a third of the work of storing an event. */
_Static_assert(EVENT_DELIVERED == 8 && EVENT_BOUNCED == 10 && EVENT_EXPIRED == 11 &&
                   EVENT_DONE == 16,
               "numbers in the schema");

static const char *const schema =
    "CREATE TABLE IF NOT EXISTS event(seq INTEGER PRIMARY KEY, at_ms BIGINT NOT NULL, kind INTEGER "
    "NOT NULL, id BIGINT NOT NULL, parent BIGINT NOT NULL, family BIGINT NOT NULL, revision BIGINT "
    "NOT NULL, sender TEXT NOT NULL, rcpt TEXT NOT NULL, subject TEXT NOT NULL, message_id TEXT "
    "NOT "
    "NULL, detail TEXT NOT NULL);"
    "CREATE INDEX IF NOT EXISTS event_family ON event(family) WHERE family <> 0;"
    /* A result may be told twice: queue writes of it before it is durable, and hears of it again
     * when it dies in between. Once it happened. */
    "CREATE UNIQUE INDEX IF NOT EXISTS event_once ON event(id, kind, rcpt) WHERE kind IN (8, 16) "
    "OR (kind IN (10, 11) AND rcpt <> '');"
    "CREATE TABLE IF NOT EXISTS message(id INTEGER PRIMARY KEY, family BIGINT NOT NULL, seq BIGINT "
    "NOT NULL, at_ms BIGINT NOT NULL);"
    "CREATE INDEX IF NOT EXISTS message_at ON message(at_ms);"
    "CREATE TABLE IF NOT EXISTS event_cursor(one INTEGER PRIMARY KEY, seq BIGINT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS revision(number BIGINT PRIMARY KEY, at_ms BIGINT NOT NULL, author "
    "TEXT NOT NULL, comment TEXT NOT NULL, tree TEXT NOT NULL, active INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS draft(one INTEGER PRIMARY KEY, tree TEXT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS audit(at_ms BIGINT NOT NULL, username TEXT NOT NULL, action TEXT "
    "NOT NULL, element TEXT NOT NULL, detail TEXT NOT NULL);"
    "CREATE INDEX IF NOT EXISTS audit_at ON audit(at_ms);";

struct db {
    sqlite3 *h;
    sqlite3_stmt *st[STATEMENTS];
};

static enum err failed(struct db *db, struct errinfo *info, const char *what)
{
    return err_set(info, ERR_IO, "%s: %s", what, sqlite3_errmsg(db->h));
}

/* ---- statements: use() binds from 1 on through b; always give() back ---- */

struct use {
    struct db *db;
    sqlite3_stmt *s;
    int at;
};

static struct use use(struct db *db, enum statement which)
{
    if (!db->st[which])
        (void)sqlite3_prepare_v3(db->h, sql[which], -1, SQLITE_PREPARE_PERSISTENT, &db->st[which],
                                 NULL);
    return (struct use){.db = db, .s = db->st[which], .at = 1};
}

static void bind_i64(struct use *u, int64_t v)
{
    (void)sqlite3_bind_int64(u->s, u->at++, v);
}

static void bind_sv(struct use *u, struct sv v)
{
    (void)sqlite3_bind_text64(u->s, u->at++, v.p ? v.p : "", v.n, SQLITE_STATIC, SQLITE_UTF8);
}

static void give(struct use *u)
{
    (void)sqlite3_reset(u->s);
    (void)sqlite3_clear_bindings(u->s);
}

static enum err run(struct use *u)
{
    int rc = u->s ? sqlite3_step(u->s) : SQLITE_ERROR;

    give(u);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? ERR_OK : ERR_IO;
}

static enum err run_plain(struct db *db, enum statement which)
{
    struct use u = use(db, which);

    return run(&u);
}

/* First column of the first row; ERR_NOTFOUND without one. */
static enum err get_i64(struct use *u, int64_t *out_value)
{
    int rc = u->s ? sqlite3_step(u->s) : SQLITE_ERROR;

    if (rc == SQLITE_ROW)
        *out_value = sqlite3_column_int64(u->s, 0);
    give(u);
    return rc == SQLITE_ROW ? ERR_OK : rc == SQLITE_DONE ? ERR_NOTFOUND : ERR_IO;
}

static struct sv column_sv(sqlite3_stmt *s, int i)
{
    const char *p = (const char *)sqlite3_column_text(s, i);

    return sv_of(p ? p : "", p ? (size_t)sqlite3_column_bytes(s, i) : 0);
}

/* ---- open ---- */

static enum err migrate(struct db *db, struct errinfo *info)
{
    sqlite3_stmt *s = NULL;
    int version = 0;

    if (sqlite3_prepare_v2(db->h, "PRAGMA user_version", -1, &s, NULL) == SQLITE_OK &&
        sqlite3_step(s) == SQLITE_ROW)
        version = sqlite3_column_int(s, 0);
    (void)sqlite3_finalize(s);
    if (version > SCHEMA_VERSION)
        return err_set(info, ERR_CONFLICT, "the database has format %d, this version knows %d",
                       version, SCHEMA_VERSION);
    if (sqlite3_exec(db->h, schema, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(db->h, "PRAGMA user_version = 1", NULL, NULL, NULL) != SQLITE_OK)
        return failed(db, info, "database schema");
    return ERR_OK;
}

enum err db_open(const char *url, struct db **out_db, struct errinfo *info)
{
    static const char prefix[] = "sqlite:";
    struct db *db;

    if (strncmp(url, prefix, sizeof(prefix) - 1) != 0)
        return err_set(info, ERR_SYNTAX, "database \"%s\": only sqlite:PATH is supported", url);
    db = calloc(1, sizeof(*db));
    if (!db)
        return err_set(info, ERR_LIMIT, "out of memory");
    enum err err = ERR_OK;
    if (sqlite3_open_v2(url + sizeof(prefix) - 1, &db->h,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(db->h, BUSY_MS) != SQLITE_OK ||
        sqlite3_exec(db->h,
                     /* these come first: WAL writes the header that fixes them. Events are long
                      * and appended: large pages mean fewer writes */
                     "PRAGMA page_size = 16384; PRAGMA auto_vacuum = INCREMENTAL; "
                     "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; "
                     "PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF",
                     NULL, NULL, NULL) != SQLITE_OK)
        err = failed(db, info, url);
    if (!err)
        err = migrate(db, info);
    if (err)
        db_close(db);
    else
        *out_db = db;
    return err;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    for (unsigned i = 0; i < STATEMENTS; i++)
        (void)sqlite3_finalize(db->st[i]);
    (void)sqlite3_close(db->h);
    free(db);
}

/* ---- tracking ---- */

static int64_t family_of(struct db *db, const struct event *e)
{
    int64_t family = 0;

    if (!e->parent)
        return (int64_t)e->id;
    struct use u = use(db, ST_FAMILY);
    bind_i64(&u, (int64_t)e->parent);
    return get_i64(&u, &family) ? (int64_t)e->parent : family;
}

static enum err event_add(struct db *db, const struct event *e)
{
    int64_t family = family_of(db, e);
    struct use u = use(db, ST_EVENT_ADD);

    bind_i64(&u, (int64_t)e->seq);
    bind_i64(&u, e->at_ms);
    bind_i64(&u, e->kind);
    bind_i64(&u, (int64_t)e->id);
    bind_i64(&u, (int64_t)e->parent);
    bind_i64(&u, family);
    bind_i64(&u, (int64_t)e->revision);
    bind_sv(&u, e->sender);
    bind_sv(&u, e->rcpt);
    bind_sv(&u, e->subject);
    bind_sv(&u, e->message_id);
    bind_sv(&u, e->detail);
    enum err err = run(&u);
    /* the first event of an id stands for the message in searches */
    bool first = e->kind == EVENT_RECEIVED || (e->kind == EVENT_DECIDED && e->parent);
    if (err || !e->id || !first)
        return err;
    u = use(db, ST_MESSAGE_ADD);
    bind_i64(&u, (int64_t)e->id);
    bind_i64(&u, family);
    bind_i64(&u, (int64_t)e->seq);
    bind_i64(&u, e->at_ms);
    return run(&u);
}

static enum err cursor_set(struct db *db, uint64_t seq)
{
    struct use u = use(db, ST_CURSOR_SET);

    bind_i64(&u, (int64_t)seq);
    return run(&u);
}

enum err db_events_add(struct db *db, const struct event *events, uint32_t n, struct errinfo *info)
{
    uint64_t cursor = 0;
    enum err err = db_events_cursor(db, &cursor, info);

    if (!err)
        err = run_plain(db, ST_BEGIN);
    if (err)
        return failed(db, info, "tracking");
    for (uint32_t i = 0; !err && i < n; i++) {
        if (events[i].seq > cursor) {
            err = event_add(db, &events[i]);
            cursor = events[i].seq;
        }
    }
    if (!err)
        err = cursor_set(db, cursor);
    if (!err)
        err = run_plain(db, ST_COMMIT);
    if (err) {
        err = failed(db, info, "tracking");
        (void)run_plain(db, ST_ROLLBACK);
    }
    return err;
}

enum err db_events_cursor(struct db *db, uint64_t *out_seq, struct errinfo *info)
{
    struct use u = use(db, ST_CURSOR_GET);
    int64_t seq = 0;
    enum err err = get_i64(&u, &seq);

    if (err && err != ERR_NOTFOUND)
        return failed(db, info, "tracking cursor");
    *out_seq = (uint64_t)seq;
    return ERR_OK;
}

static void each_event(struct use *u, void (*each)(void *ctx, const struct event *e), void *ctx)
{
    while (u->s && sqlite3_step(u->s) == SQLITE_ROW) {
        struct event e = {.seq = (uint64_t)sqlite3_column_int64(u->s, 0),
                          .at_ms = sqlite3_column_int64(u->s, 1),
                          .kind = (uint8_t)sqlite3_column_int(u->s, 2),
                          .id = (uint64_t)sqlite3_column_int64(u->s, 3),
                          .parent = (uint64_t)sqlite3_column_int64(u->s, 4),
                          .revision = (uint64_t)sqlite3_column_int64(u->s, 5),
                          .sender = column_sv(u->s, 6),
                          .rcpt = column_sv(u->s, 7),
                          .subject = column_sv(u->s, 8),
                          .message_id = column_sv(u->s, 9),
                          .detail = column_sv(u->s, 10)};
        each(ctx, &e);
    }
    give(u);
}

enum err db_events_of(struct db *db, uint64_t id, void (*each)(void *ctx, const struct event *e),
                      void *ctx, struct errinfo *info)
{
    struct use u = use(db, ST_FAMILY);
    int64_t family = 0;

    bind_i64(&u, (int64_t)id);
    enum err err = get_i64(&u, &family);
    if (err == ERR_NOTFOUND)
        family = (int64_t)id;
    else if (err)
        return failed(db, info, "tracking");
    u = use(db, ST_EVENTS_OF);
    bind_i64(&u, family);
    each_event(&u, each, ctx);
    return ERR_OK;
}

/* "%text%" with LIKE's own characters escaped. */
static void like(struct sv text, struct buf *out)
{
    (void)buf_append_byte(out, '%');
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '%' || text.p[i] == '_' || text.p[i] == '\\')
            (void)buf_append_byte(out, '\\');
        (void)buf_append_byte(out, text.p[i]);
    }
    (void)buf_append_byte(out, '%');
}

enum err db_messages_find(struct db *db, const struct event_query *q,
                          void (*each)(void *ctx, const struct event *first), void *ctx,
                          struct errinfo *info)
{
    struct use u = use(db, q->text.n ? ST_FIND : ST_FIND_ALL);
    struct buf pattern;

    if (!u.s)
        return failed(db, info, "tracking");
    buf_init(&pattern, 2048);
    like(q->text, &pattern);
    bind_i64(&u, q->from_ms);
    bind_i64(&u, q->to_ms ? q->to_ms : INT64_MAX);
    if (q->text.n)
        bind_sv(&u, buf_sv(&pattern));
    bind_i64(&u, q->limit && q->limit < QUERY_MAX ? q->limit : QUERY_MAX);
    each_event(&u, each, ctx);
    buf_done(&pattern);
    return ERR_OK;
}

static bool too_large(struct db *db, uint64_t max_bytes)
{
    struct use u = use(db, ST_BYTES);
    int64_t bytes = 0;

    return get_i64(&u, &bytes) == ERR_OK && (uint64_t)bytes > max_bytes;
}

static enum err purge_to(struct db *db, int64_t seq)
{
    struct use u = use(db, ST_PURGE_EVENTS);

    bind_i64(&u, seq);
    enum err err = run(&u);
    u = use(db, ST_PURGE_MESSAGES);
    bind_i64(&u, seq);
    return err ? err : run(&u);
}

bool db_events_purge(struct db *db, int64_t before_ms, uint64_t max_bytes, uint32_t slice)
{
    struct use u = use(db, ST_PURGE_BEFORE);
    int64_t seq = 0, n = 0;

    bind_i64(&u, slice);
    bind_i64(&u, too_large(db, max_bytes) ? INT64_MAX : before_ms);
    if (u.s && sqlite3_step(u.s) == SQLITE_ROW) {
        seq = sqlite3_column_int64(u.s, 0);
        n = sqlite3_column_int64(u.s, 1);
    }
    give(&u);
    if (!n)
        return false;
    if (run_plain(db, ST_BEGIN) || purge_to(db, seq) || run_plain(db, ST_COMMIT)) {
        (void)run_plain(db, ST_ROLLBACK);
        return false;
    }
    (void)sqlite3_exec(db->h, "PRAGMA incremental_vacuum(256)", NULL, NULL, NULL);
    return n == slice;
}

/* ---- revisions ---- */

enum err db_revision_add(struct db *db, const struct revision *r, struct sv tree,
                         struct errinfo *info)
{
    enum err err = run_plain(db, ST_BEGIN);

    if (!err)
        err = run_plain(db, ST_REVISION_OFF);
    if (!err) {
        struct use u = use(db, ST_REVISION_ADD);
        bind_i64(&u, (int64_t)r->number);
        bind_i64(&u, r->at_ms);
        bind_sv(&u, r->author);
        bind_sv(&u, r->comment);
        bind_sv(&u, tree);
        err = run(&u);
    }
    if (!err)
        err = run_plain(db, ST_COMMIT);
    if (err) {
        err = failed(db, info, "revision");
        (void)run_plain(db, ST_ROLLBACK);
    }
    return err;
}

static enum err get_text(struct use *u, struct buf *out)
{
    int rc = u->s ? sqlite3_step(u->s) : SQLITE_ERROR;
    enum err err = rc == SQLITE_DONE ? ERR_NOTFOUND : rc == SQLITE_ROW ? ERR_OK : ERR_IO;

    if (!err)
        err = buf_append_sv(out, column_sv(u->s, 0));
    give(u);
    return err;
}

enum err db_revision_tree(struct db *db, uint64_t number, struct buf *out_tree,
                          struct errinfo *info)
{
    struct use u = use(db, ST_REVISION_TREE);

    bind_i64(&u, (int64_t)number);
    enum err err = get_text(&u, out_tree);
    if (err == ERR_NOTFOUND)
        return err_set(info, err, "there is no revision %llu", (unsigned long long)number);
    return err ? failed(db, info, "revision") : ERR_OK;
}

enum err db_revision_active(struct db *db, uint64_t *out_number, struct errinfo *info)
{
    struct use u = use(db, ST_REVISION_ACTIVE);
    int64_t number = 0;
    enum err err = get_i64(&u, &number);

    if (err == ERR_NOTFOUND)
        return err_set(info, err, "no revision is active");
    if (err)
        return failed(db, info, "revision");
    *out_number = (uint64_t)number;
    return ERR_OK;
}

enum err db_revision_list(struct db *db, void (*each)(void *ctx, const struct revision *r),
                          void *ctx, struct errinfo *info)
{
    struct use u = use(db, ST_REVISION_LIST);

    if (!u.s)
        return failed(db, info, "revision");
    while (sqlite3_step(u.s) == SQLITE_ROW) {
        struct revision r = {.number = (uint64_t)sqlite3_column_int64(u.s, 0),
                             .at_ms = sqlite3_column_int64(u.s, 1),
                             .author = column_sv(u.s, 2),
                             .comment = column_sv(u.s, 3),
                             .active = sqlite3_column_int(u.s, 4) != 0};
        each(ctx, &r);
    }
    give(&u);
    return ERR_OK;
}

enum err db_draft_set(struct db *db, struct sv tree, struct errinfo *info)
{
    struct use u = use(db, ST_DRAFT_SET);

    bind_sv(&u, tree);
    return run(&u) ? failed(db, info, "draft") : ERR_OK;
}

enum err db_draft_get(struct db *db, struct buf *out_tree, struct errinfo *info)
{
    struct use u = use(db, ST_DRAFT_GET);
    enum err err = get_text(&u, out_tree);

    return err && err != ERR_NOTFOUND ? failed(db, info, "draft") : ERR_OK;
}

/* ---- audit ---- */

enum err db_audit_add(struct db *db, const struct audit *a, struct errinfo *info)
{
    struct use u = use(db, ST_AUDIT_ADD);

    bind_i64(&u, a->at_ms);
    bind_sv(&u, a->user);
    bind_sv(&u, a->action);
    bind_sv(&u, a->element);
    bind_sv(&u, a->detail);
    return run(&u) ? failed(db, info, "audit") : ERR_OK;
}

enum err db_audit_list(struct db *db, uint32_t limit,
                       void (*each)(void *ctx, const struct audit *a), void *ctx,
                       struct errinfo *info)
{
    struct use u = use(db, ST_AUDIT_LIST);

    if (!u.s)
        return failed(db, info, "audit");
    bind_i64(&u, limit);
    while (sqlite3_step(u.s) == SQLITE_ROW) {
        struct audit a = {.at_ms = sqlite3_column_int64(u.s, 0),
                          .user = column_sv(u.s, 1),
                          .action = column_sv(u.s, 2),
                          .element = column_sv(u.s, 3),
                          .detail = column_sv(u.s, 4)};
        each(ctx, &a);
    }
    give(&u);
    return ERR_OK;
}
