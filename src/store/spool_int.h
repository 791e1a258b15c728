/*
 * Inside of the spool (private to store/spool*.c). Who does what:
 *   spool.c            what callers see: put, state, done, read, load, room
 *   spool_index.c      id -> where its records are, 56 bytes a message and 4 to 8 for the hash
 *   spool_segment.c    segment files and their lives, reading records
 *   spool_commit.c     batches: write, sync, apply or roll back
 *   spool_replay.c     reading a life record by record: torn tail or damage
 *   spool_open.c       recovery
 *   spool_checkpoint.c snapshot of the index, written in slices, and loading it
 *   spool_tend.c       copying forward, freeing, zeroing, checkpoints, coming back from refusal
 *
 * The rules that recovery rests on
 * 1. One batch is in flight at a time. A new life begins only when everything before its first LSN
 *    is durable or void, so "a later life begins at F" says: earlier lives hold every LSN < F, and
 *    whatever they hold from F on is void (a failed batch, a torn tail). From the moment its
 *    header is written, synced or not, no earlier life takes records. LSNs of a void batch are
 *    used again by the next life; salt and key differ.
 * 2. The index holds only what is durable. It changes when a batch has been synced, in LSN order.
 * 3. The checkpoint lists the lives that belong to the log. A life with a sequence up to the
 *    checkpoint's highest that is not listed is over, whatever its file still says. Records below
 *    the checkpoint's LSN are never replayed, only referred to; so a DONE or a STATE record may
 *    vanish with its segment although records that it overrides still lie in other segments.
 * 4. Therefore a life without live records is freed only after a checkpoint became durable that was
 *    begun after the life was closed and empty. Then its header, the wrapped key with it, is
 *    overwritten and synced before the file is used again.
 * 5. The snapshot is taken in slices while mail goes on: each entry is at least as new as the
 *    checkpoint's LSN, and replaying from there in LSN order gives the exact index. A state is
 *    replayed only over an older one (its LSN is kept).
 * 6. Only an entry without waiting records is copied forward, so a copy never gets a higher LSN
 *    than a newer state or a DONE.
 */
#ifndef STORE_SPOOL_INT_H
#define STORE_SPOOL_INT_H

#include "store/spool.h"
#include "store/spool_format.h"

#define NONE             UINT32_MAX
#define SPOOL_RETRY_MS   10000
#define SPOOL_FREE_WANT  2u /* segments kept ready */
#define SPOOL_FREE_MAX   4u /* more are removed */
#define SPOOL_CHUNK_BITS 12
#define SPOOL_CHUNK      (1u << SPOOL_CHUNK_BITS)

/* ---- index ---- */
enum { MSG_USED = 1, MSG_FILE = 2, MSG_FRESH = 4, MSG_ENDING = 8, MSG_STATE_LOST = 16 };
struct msg {
    uint64_t id, state_lsn;
    uint32_t seg; /* of body and envelope; next free entry when not MSG_USED */
    uint32_t body_off, env_off, env_len, body_len;
    uint32_t state_seg, state_off, state_len;
    uint32_t pending; /* appended records that are not durable yet */
    uint32_t flags;
};
struct index {
    struct msg **chunks;
    uint32_t n_chunks, end, free, count; /* end: entries ever used; free: list of unused ones */
    uint32_t *slots;                     /* entry + 1, 0 = empty */
    uint32_t mask;
};
void index_init(struct index *ix);
void index_free(struct index *ix);
struct msg *index_at(const struct index *ix, uint32_t i);
uint32_t index_find(const struct index *ix, uint64_t id); /* NONE */
uint32_t index_add(struct index *ix, uint64_t id);        /* id must not be there */
void index_remove(struct index *ix, uint32_t i);

/* ---- segments ---- */
enum seg_state {
    SEG_CLOSED, /* a life that takes no more records */
    SEG_ACTIVE,
    SEG_FREED, /* its life is over; the header must be overwritten first */
    SEG_RAW,   /* new, being zeroed */
    SEG_FREE   /* may be used */
};
struct seg {
    uint32_t number;
    int fd;
    enum seg_state state;
    struct life life;
    uint8_t key[32];
    bool has_key;
    bool doomed;  /* empty when the running checkpoint was begun */
    bool damaged; /* never a victim: something in it could not be read */
    uint32_t end; /* next record goes here */
    uint64_t live;
    uint32_t unapplied; /* units written whose batch is not finished */
    uint64_t zeroed;    /* SEG_RAW */
};

/* ---- batches ---- */
struct unit {           /* records that stay together: one message, one state, one end */
    uint32_t at, size;  /* in batch.bytes */
    uint32_t msg;       /* entry, NONE = nobody's any more */
    enum rec_kind kind; /* REC_ENVELOPE with its bodies, REC_STATE, REC_DONE */
    uint8_t flags;
    uint32_t env_rel, length, body_len;
    uint64_t lsn; /* of the last record */
    uint32_t seg, off;
};
struct waiter {
    void (*done)(void *arg, enum err err);
    void *arg;
    enum err err;
};
struct waiters {
    struct waiter *p;
    size_t n, cap;
};
struct batch {
    struct buf bytes;
    struct unit *units;
    size_t n, cap, written;
    struct waiters waiters;
    size_t covered; /* units that a commit speaks for */
    uint64_t first_lsn;
    enum err failed;
    bool rolled; /* failed and undone; only its waiters are left */
};

/* Asynchronous answer that may come after the spool is gone. */
struct token {
    struct spool *sp;    /* NULL: nobody waits any more */
    struct token **slot; /* where the spool keeps it */
    void (*fn)(struct spool *sp, int result);
};

enum side { SIDE_NONE, SIDE_WIPE, SIDE_ZERO, SIDE_CHECKPOINT };
struct checkpoint_run {
    int fd; /* -1 = not running */
    int64_t at;
    uint32_t crc, cursor;
    uint64_t count, tail_at_begin;
};

struct spool {
    struct spool_config c;
    struct index ix;
    struct seg **segs; /* by number, NULL = no such file */
    uint32_t n_segs;
    uint32_t active;    /* NONE */
    uint32_t beginning; /* life whose header is being synced */
    uint64_t next_sequence, next_lsn, durable_lsn, checkpoints;
    uint32_t applied_seg, applied_off; /* where replay after a checkpoint begins */
    uint64_t applied_sequence, applied_lsn;

    struct batch cur, wr;
    bool writing, busy, closing;
    struct token *batch_token, *side_token;
    int busy_fd;
    struct waiters late; /* finished, to be told outside of the caller's call */
    uint32_t failures;
    bool refusing;
    bool unsealed; /* a failed batch may be on disk and no later life makes it void yet */
    int64_t retry_at;

    enum side side;
    uint32_t side_seg;
    struct checkpoint_run ck;
    uint64_t last_checkpoint_bytes, tail_bytes;
    int64_t checkpoint_after, copy_after; /* back off after a failure */
    uint32_t victim, victim_cursor;
    bool victim_skipped, copying;
    int64_t now;

    struct buf scratch, scratch2; /* reading records */
    struct spool_stats st;
};

void spool_alarm(struct spool *sp, enum err code, int sys, const char *fmt, ...) PRINTF(4, 5);
void *spool_grow(void *p, size_t *cap, size_t need, size_t size); /* aborts when out of memory */

/* spool_segment.c */
struct seg *seg_add(struct spool *sp, uint32_t number, int fd);
void seg_drop(struct spool *sp, struct seg *s, bool unlink);
NODISCARD enum err seg_create(struct spool *sp, uint32_t *out_seg, int *out_sys);
/* Picks or makes a file and writes (does not sync) the header of a new life. */
NODISCARD enum err seg_begin(struct spool *sp, uint32_t *out_seg, int *out_sys);
void seg_close_active(struct spool *sp);
NODISCARD enum err seg_unwrap(struct spool *sp, struct seg *s);
/* One record at a known place: checked, decrypted; payload appended to *out. */
NODISCARD enum err seg_record(struct spool *sp, uint32_t seg, uint32_t off, uint32_t length,
                              enum rec_kind kind, uint64_t id, struct buf *out);
NODISCARD enum err msg_body(struct spool *sp, const struct msg *m, struct buf *out);
NODISCARD enum err msg_envelope(struct spool *sp, const struct msg *m, struct buf *out_payload);
/* Splits an ENVELOPE payload; views into it. */
NODISCARD enum err envelope_split(struct sv payload, struct sv *out_envelope, struct sv *out_file);
uint64_t msg_group_size(const struct msg *m);
void seg_live(struct spool *sp, uint32_t seg, int64_t delta);
bool seg_full_pread(const struct spool_io *io, int fd, void *p, size_t n, int64_t at);
int seg_full_pwrite(const struct spool_io *io, int fd, const void *p, size_t n, int64_t at);

/* spool_commit.c */
/* Appends a message's records to the current batch. */
NODISCARD enum err batch_put(struct spool *sp, uint32_t msg, struct sv envelope, struct sv file,
                             struct sv body, uint8_t flags);
NODISCARD enum err batch_add(struct spool *sp, uint32_t msg, enum rec_kind kind, struct sv payload,
                             uint8_t flags);
void batch_free(struct batch *b);
void commit_pump(struct spool *sp);
void commit_late(struct spool *sp); /* tells the waiters of finished batches */
void commit_add(struct spool *sp, void (*done)(void *arg, enum err err), void *arg);
void commit_drain(struct spool *sp); /* blocking, for spool_close */
void commit_retry(struct spool *sp); /* refusing: try to begin a life */
NODISCARD int spool_sync_start(struct spool *sp, int fd, struct token **slot,
                               void (*fn)(struct spool *sp, int result));
void waiters_add(struct waiters *w, struct waiter x);

/* spool_open.c */
void spool_abandon(struct spool *sp); /* frees memory, touches no file: as if killed (tests) */

/* spool_replay.c */
struct replay {
    const struct spool_io *io;
    const struct life *life;
    int fd;
    char *win; /* window of the file */
    size_t win_cap, win_n;
    uint64_t win_at;
};
NODISCARD bool replay_init(struct replay *r, const struct spool_io *io, const struct life *l,
                           int fd);
void replay_done(struct replay *r);
/* The record at off, whole and checked; pointer to it in the window or NULL. */
char *replay_at(struct replay *r, uint64_t off, struct rec *out_rec);
/* The next good record at or after off with an LSN of at least lsn; 0 = none. */
uint64_t replay_find(struct replay *r, uint64_t off, uint64_t lsn, struct rec *out_rec);
struct replay_range {
    uint64_t off, lsn; /* where to begin and what is expected there */
    uint64_t limit;    /* first LSN of a later life, UINT64_MAX = this is the last one */
};
/* Calls each() for every record that counts. Returns the next LSN; *out_end = offset behind the
 * last record; lost() for each hole. */
struct replay_calls {
    void (*each)(void *ctx, const struct rec *r, uint64_t off, char *p);
    void (*lost)(void *ctx, uint64_t off, uint64_t from_lsn, uint64_t to_lsn);
    void *ctx;
};
uint64_t replay_life(struct replay *r, const struct replay_range *range,
                     const struct replay_calls *calls, uint64_t *out_end);

/* spool_checkpoint.c */
#define CHECKPOINT_NAME "checkpoint"
#define CHECKPOINT_TMP  "checkpoint.tmp"
struct checkpoint_lives {
    struct life *lives;
    uint32_t *numbers;
    uint32_t n;
    uint64_t max_sequence, begin_sequence, begin_lsn, count;
    uint32_t begin_off;
};
NODISCARD bool checkpoint_begin(struct spool *sp);
/* One slice; true = more slices. Ends with the sync started (or done, when blocking). */
bool checkpoint_step(struct spool *sp);
void checkpoint_write(struct spool *sp); /* whole, blocking */
void checkpoint_abort(struct spool *sp);
/* Fills the index; entries name segments by number. ERR_NOTFOUND: none; ERR_CORRUPT. */
NODISCARD enum err checkpoint_load(struct spool *sp, struct checkpoint_lives *out_lives);
/* One row for spool_scan. */
NODISCARD enum err checkpoint_verify(const struct spool_io *io,
                                     void (*each)(void *ctx, const struct spool_record *r),
                                     void *ctx);

#endif
