/*
 * The mail spool: an append-only segment log with group commit (design section 6). Owned by
 * `queue`, single-threaded; only fdatasync and segment zeroing run in libuv's pool, through struct
 * spool_io.
 *
 * Durability: spool_commit() makes everything appended so far durable in one fdatasync and calls
 * done(); only then may anybody be told 250. Records of one batch become visible together or, for a
 * torn tail, as a prefix in LSN order; a message exists only when its ENVELOPE record (the commit
 * record) is there and its BODY records are complete.
 *
 * Record: header {magic, kind, flags, payload length, LSN, message id, CRC32C, 64-bit SipHash tag
 * under the salt of this segment life over salt, segment sequence, header and payload}, payload
 * (encrypted with the key of the segment life), padding to 8 bytes. Segment life: synced header
 * {format version, segment sequence, salt, wrapped key}.
 */
#ifndef STORE_SPOOL_H
#define STORE_SPOOL_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/rng.h"

#define SPOOL_FORMAT          1
#define SPOOL_SEGMENT_DEFAULT (64u * 1024 * 1024)
#define SPOOL_INLINE_MAX      (64u * 1024)        /* larger bodies live in files of their own */
#define SPOOL_RECORD_MAX      (1024u * 1024)      /* an envelope or a state */
#define SPOOL_BATCH_MAX       (64u * 1024 * 1024) /* records that wait for the next commit */
/* Names of large-body files begin so. Files of this prefix that no message refers to are removed at
 * open; other names that are not ours are left alone. */
#define SPOOL_FILE_PREFIX "big-"

/* I/O and time come from outside: production uses store/spoolio.h, tests a fault injector. */
struct spool_io {
    void *ctx;
    int (*open)(void *ctx, const char *name, int flags); /* in the spool dir; -errno */
    int64_t (*pwrite)(void *ctx, int fd, const void *p, size_t n, int64_t at);
    int64_t (*pread)(void *ctx, int fd, void *p, size_t n, int64_t at);
    int (*truncate)(void *ctx, int fd, int64_t size);
    int (*unlink)(void *ctx, const char *name);
    int (*rename)(void *ctx, const char *from, const char *to);
    int (*sync_dir)(void *ctx);
    int (*sync)(void *ctx, int fd); /* fdatasync, blocking */
    /* asynchronous fdatasync; cb(arg, 0 or -errno) later from the loop */
    int (*sync_async)(void *ctx, int fd, void (*cb)(void *arg, int result), void *arg);
    int (*list)(void *ctx, void (*each)(void *arg, const char *name), void *arg);
    uint64_t (*free_bytes)(void *ctx);
    void (*close)(void *ctx, int fd);
};
/* Keys of segment lives. seal/open are symmetric stream ciphers over a record's payload. NULL
 * functions = no encryption (tests, `spool verify` without keys). */
struct spool_crypto {
    void *ctx;
    enum err (*new_key)(void *ctx, uint8_t out_key[32], struct buf *out_wrapped);
    enum err (*unwrap)(void *ctx, struct sv wrapped, uint8_t out_key[32]);
    void (*crypt)(const uint8_t key[32], uint64_t lsn, char *p, size_t n); /* AES-256-CTR */
};

struct spool_config {
    uint32_t segment_size;
    uint64_t reserve; /* bytes kept for results, DSNs and the database when the disk is full */
    struct spool_io io;
    struct spool_crypto crypto;
    struct rng rng;
    /* a failed sync, damage, disk pressure: for logs and metrics */
    void (*alarm)(void *ctx, const struct errinfo *what);
    void *alarm_ctx;
};

/* One message found at start, in order of id. */
struct spool_found {
    uint64_t id;
    struct sv envelope; /* as appended */
    struct sv state;    /* latest STATE payload, "" = none */
    uint64_t body_size; /* of an inline body; 0 with a file */
    struct sv file;     /* name of a large body's file, "" = inline */
    bool state_lost;    /* damage: there was a state, nobody knows which */
};

struct spool;
/* Opens or creates; recovers (checkpoint plus tail); calls each() for every live message. Damage is
 * reported through alarm and never ends recovery; ERR_CORRUPT only when no format can be read. */
NODISCARD enum err spool_open(const struct spool_config *c,
                              void (*each)(void *ctx, const struct spool_found *m), void *ctx,
                              struct spool **out_spool, struct errinfo *info);
/* Commits what was appended (blocking; waiting done() calls are made), checkpoint, clean end. */
void spool_close(struct spool *sp);

/* Append to the batch (memory only until spool_commit). ERR_NOSPACE: disk; ERR_IO: the spool
 * refuses mail (second failed sync); ERR_LIMIT: too large, or the batch is full; ERR_CONFLICT: the
 * id lives; ERR_SYNTAX: a file name without SPOOL_FILE_PREFIX. Nothing is half-appended. Order for
 * a message: put (body and envelope in one call). `file` names a large body's file that was synced
 * before (its directory too); it belongs to the caller until the commit succeeds, then to the
 * spool. */
NODISCARD enum err spool_put(struct spool *sp, uint64_t id, struct sv envelope, struct sv body,
                             struct sv file);
/* The same for what follows from accepted mail, reports and copies: half of the room that is kept
 * for results on a full disk is theirs. */
NODISCARD enum err spool_put_own(struct spool *sp, uint64_t id, struct sv envelope, struct sv body,
                                 struct sv file);
/* New state of a message (replaces the former one). May use the reserve. ERR_NOTFOUND: no such
 * message, or its end is already appended. */
NODISCARD enum err spool_state(struct spool *sp, uint64_t id, struct sv state);
/* The message is finished: its records are garbage from now on; its large file is removed. */
NODISCARD enum err spool_done(struct spool *sp, uint64_t id);

/* One durable transaction for all appended since the last commit. done(arg, err) comes later from
 * the loop (never from inside this call; when no disk operation could be started, from spool_tend);
 * several commits may wait, they are synced together. After a failed sync all of the batch gets
 * ERR_IO (ERR_NOSPACE: the disk was full), none of it will be found again, the segment is read-only
 * and a new one is begun. */
void spool_commit(struct spool *sp, void (*done)(void *arg, enum err err), void *arg);
/* Would a message of this size be accepted now? ERR_OK, ERR_NOSPACE or ERR_IO. */
enum err spool_room(const struct spool *sp, uint64_t size);

/* Reads an inline body (from its commit until spool_done; checked). ERR_AGAIN: its put is not
 * durable yet; ERR_NOTFOUND: no such message, or its body is in a file; ERR_CORRUPT: damage. */
NODISCARD enum err spool_read(struct spool *sp, uint64_t id, struct buf *out_body);
/* Latest envelope and state of a live message. */
NODISCARD enum err spool_load(struct spool *sp, uint64_t id, struct buf *out_envelope,
                              struct buf *out_state);
/* Housekeeping: copies long-lived messages forward, frees and zeroes segments, writes checkpoints.
 * Call from a timer or when idle; bounded work per call. Returns true when more is to be done. */
bool spool_tend(struct spool *sp, struct clock now);

struct spool_stats {
    uint64_t messages, live_bytes, disk_bytes, commits, synced_records, failed_syncs, damaged;
    uint32_t segments, free_segments;
    uint64_t checkpoints, copied; /* since open: checkpoints written, records copied forward */
    bool refusing;
};
void spool_stats(const struct spool *sp, struct spool_stats *out_stats);

/* Offline, read-only, survives damage: prints one row per record through each(). For
 * `postsealctl spool verify|export`. crypto may be empty: then only checks, no payloads. */
struct spool_record {
    const char *segment;
    uint64_t offset, lsn, id;
    const char *kind; /* "body" "envelope" "state" "done" "checkpoint" */
    uint32_t length;
    bool good;
    const char *problem; /* when !good */
    struct sv payload;   /* decrypted, "" without keys */
};
NODISCARD enum err spool_scan(const struct spool_io *io, const struct spool_crypto *crypto,
                              void (*each)(void *ctx, const struct spool_record *r), void *ctx,
                              struct errinfo *info);

#endif
