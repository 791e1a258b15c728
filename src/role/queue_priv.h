/*
 * Inside of the `queue` process: the mail queue and its scheduler. One thread, one loop. It owns
 * the spool; it never parses a message body, never touches the network and never waits for the
 * database.
 *
 * Life of a message here:
 *   RECEIVED -> spool_put -> [commit durable] -> COMMITTED 250 -> scan job -> facts -> decision
 *   (recipients with another plan: copies) -> tasks per destination -> DELIVER -> ATTEMPT_DONE
 *   -> plan_next -> done | retry at T | report | hold.
 *
 * A message is always in exactly one of these: held (waits for an administrator), or in the due
 * heap (its next attempt, or the watchdog's deadline while it is being worked on). So none is ever
 * stuck.
 *
 * Cold messages take about 64 bytes here; a message being worked on is "hot" and has its envelope,
 * state and small body in memory.
 */
#ifndef ROLE_QUEUE_PRIV_H
#define ROLE_QUEUE_PRIV_H

#include "base/list.h"
#include "base/log.h"
#include "core/plan.h"
#include "core/settings.h"
#include "model/queue_state.h"
#include "net/ipc.h"
#include "role/role.h"
#include "role/tell.h"
#include "store/eventlog.h"
#include "store/spool.h"
#include "store/spoolio.h"

#define WORKERS_MAX 64
#define HOT_MAX     4000 /* messages being worked on at a time */
#define HOT_BODY_BYTES                                                                             \
    (48u * 1024 * 1024)       /* bodies kept in memory; beyond, they are read again                \
                               */
#define CONTENT_PIPE     4    /* jobs sent ahead to one content worker */
#define TASKS_MAX        2000 /* attempts in flight */
#define TASK_DEADLINE_MS (2 * 3600 * 1000)
#define DUE_MAX_MS       (24 * 3600 * (int64_t)1000)
#define LEASE_IDS        4096
#define FILES_AHEAD      8 /* large-body files made before they are asked for */

struct queue;
struct hot;
struct keyclient;

/* A compiled settings revision, shared by those that use it. */
struct snapshot {
    struct arena arena;
    struct settings *s;
    struct buf tree;
    uint32_t refs;
};
struct snapshot *snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot *s);

struct qmsg {
    uint64_t id;
    int64_t due_ms;   /* wall clock */
    uint32_t heap_at; /* index in the due heap, HEAP_NONE = not in it */
    uint32_t n_rcpts; /* not yet final */
    uint8_t stage;    /* enum stage */
    uint8_t hold;     /* enum hold_queue */
    uint8_t kind;     /* enum message_kind */
    uint8_t losses;   /* workers that died while they delivered it */
    bool encrypt;
    uint16_t attempts;
    uint16_t writing; /* STATE records appended, not durable yet: the spool still has the old one */
    struct hot *hot;  /* NULL = cold */
    struct qmsg *next;
};
#define HEAP_NONE UINT32_MAX

enum hot_phase {
    HOT_LOADED,     /* in memory, nothing begun */
    HOT_COMMITTING, /* not acknowledged yet */
    HOT_SCAN,       /* waits for or is in a content worker */
    HOT_TASKS,      /* has delivery tasks */
    HOT_REPORT      /* waits for a report to be built */
};

struct hot {
    struct qmsg *m;
    struct arena arena;
    struct envelope env;
    struct queue_state st;
    struct buf body; /* inline body while it is kept */
    struct snapshot *snap;
    enum hot_phase phase;
    uint32_t tasks;       /* delivery tasks outstanding */
    uint32_t job_tries;   /* failed content jobs of the present kind */
    bool dirty;           /* STATE to be written when the present tasks are over */
    bool idle;            /* settled; kept only until its STATE is durable */
    struct list node;     /* scan queue; idle: unwritten */
    struct list reports;  /* struct report_job waiting to be built */
    struct ctl_wait *ctl; /* simulate and scan: who waits for the facts */
    int fd;               /* simulate: message file, else -1 */
};

/* Equal destinations share a limit. */
struct qdest {
    struct sv key;     /* in the struct's own memory */
    struct list ready; /* struct qtask */
    struct list node;  /* in queue.ready_dests when something is ready and the limit allows */
    uint32_t active, waiting;
    struct qdest *next;
};

struct qtask {
    struct list node; /* in qdest.ready */
    struct hot *hot;
    struct qdest *dest;
    struct hop hop;  /* in the hot arena */
    uint32_t *rcpts; /* indices into env.rcpts */
    uint32_t n_rcpts;
    uint64_t attempt; /* 0 = not sent */
    uint8_t worker;
    struct qtask *next; /* by attempt */
};

struct job_slot {
    uint64_t job;
    struct hot *hot;
    int64_t sent_ms; /* monotonic */
    struct report_job *report;
};

struct worker {
    struct ipc *ch;
    uint32_t generation; /* counts channels */
    /* smtp */
    uint64_t lease_first, lease_before; /* ids that are its to give; 0 = none */
    uint32_t active;
    bool synced;      /* has told what it knew of before our start */
    struct buf stats; /* its counters, as last reported */
    /* content */
    struct job_slot jobs[CONTENT_PIPE];
    uint32_t n_jobs;
    bool killing;
};

/* What happens once a batch is durable (or has failed). */
struct completion {
    void (*fn)(struct queue *q, const struct completion *c, enum err err);
    uint64_t id, tag;
    uint32_t generation;
    uint8_t worker;
    void *ptr;
};

struct batch {
    struct queue *q;
    struct completion *list;
    uint32_t n, cap;
};

struct file_slot { /* large-body file handed to a worker, not yet committed */
    uint64_t file;
    uint8_t worker;
    uint32_t generation;
    int fd;
    bool used;
    uint8_t key[32];
};

struct queue {
    struct role_ctx *role;
    struct loop *loop;
    struct sv hostname; /* of the bootstrap file */
    struct spool *spool;
    struct spool_fs *fs;
    int spool_dir, settings_dir;
    struct eventlog *events;
    uint64_t events_untold; /* last event that `store` has not heard of, 0 = none */
    int64_t events_told_ms;
    struct snapshot *snap;
    struct worker smtp[WORKERS_MAX], content[WORKERS_MAX];
    uint8_t n_smtp, n_content;
    struct ipc *store, *control, *lookup, *web;
    struct keyclient *keys;
    bool ready, unsettled; /* unsettled: which settings are active is not known yet */
    int ctl_fd;
    struct list ctl_clients;

    struct qmsg **msgs; /* hash by id */
    uint32_t msgs_cap, msgs_n;
    struct qmsg **heap;
    uint32_t heap_n, heap_cap;
    struct qdest *dests[1024];
    struct list ready_dests;
    struct qtask *tasks[4096];
    uint32_t tasks_n;
    struct list scan_queue;
    struct list unwritten;    /* struct hot at rest whose state is not in the spool */
    struct list report_queue; /* struct report_job waiting for a content worker */
    uint32_t hot_n;
    uint64_t hot_bytes;
    bool starved; /* messages are due, but HOT_MAX is reached */

    struct batch *batch; /* gathers this turn's completions */
    uint64_t next_id, id_limit, next_job, next_attempt, turn;
    struct file_slot *files;
    uint32_t n_files;
    struct buf scratch;
    struct timer *due_timer, *tick, *tend;
    bool intake_open;
    char intake_why[128];
    uint64_t counters[32];
    uint64_t *redo; /* messages whose end is to be recorded again */
    uint32_t n_redo;
    uint64_t first_new_id; /* ids below are of before our start */
    uint32_t ticks;        /* seconds since then */
    int64_t clock_gap_ms;  /* wall minus monotonic clock at the last tick */
};

enum counter {
    COUNT_RECEIVED,
    COUNT_RECEIVED_BYTES,
    COUNT_DELIVERED,
    COUNT_DEFERRED,
    COUNT_BOUNCED,
    COUNT_HELD,
    COUNT_DROPPED,
    COUNT_ENCRYPTED,
    COUNT_SCANNED,
    COUNT_SCAN_FAILED,
    COUNT_CONTENT_KILLED,
    COUNT_TLS_FAILED,
    COUNT_REPORTS,
    COUNT_ALARMS,
    COUNT_SPLIT,
    COUNT_REFUSED,
    COUNTERS
};

/* queue_table.c */
struct qmsg *msg_find(const struct queue *q, uint64_t id);
struct qmsg *msg_add(struct queue *q, uint64_t id);
void msg_remove(struct queue *q, struct qmsg *m);              /* frees; must be cold */
void msg_due(struct queue *q, struct qmsg *m, int64_t due_ms); /* (re)enters the heap */
void msg_shift_due(struct queue *q, int64_t back_ms);
void msg_not_due(struct queue *q, struct qmsg *m);
struct qmsg *msg_first_due(const struct queue *q);
struct qdest *dest_of(struct queue *q, struct sv key);
void dest_maybe_free(struct queue *q, struct qdest *d);
struct qtask *task_find(const struct queue *q, uint64_t attempt);
void task_index(struct queue *q, struct qtask *t);
void task_unindex(struct queue *q, struct qtask *t);

/* queue_hot.c: cold <-> hot, records */
struct hot *hot_new(struct queue *q, struct qmsg *m);
NODISCARD enum err hot_load(struct queue *q, struct qmsg *m, struct hot **out_hot);
void hot_free(struct queue *q, struct hot *h);               /* message becomes cold */
NODISCARD enum err hot_body(struct queue *q, struct hot *h); /* inline body into memory */
void hot_forget_body(struct queue *q, struct hot *h);
int hot_body_fd(struct queue *q, const struct hot *h); /* large body, read only; -1 */
void hot_unlink_body(struct queue *q, const struct hot *h);
NODISCARD enum err hot_write_state(struct queue *q, struct hot *h);
void hot_finish(struct queue *q, struct hot *h); /* spool_done and gone */
/* After tasks are over: retry later, finish or hold; writes what must be written. */
enum err hot_settle(struct queue *q, struct hot *h); /* error: the state could not be written */
void hot_wake(struct queue *q, struct hot *h);
void hot_end_record(struct queue *q, uint64_t id); /* spool_done, tried again until it is durable */
void hot_redo_ends(struct queue *q);
void hot_rewrite(struct queue *q); /* states that could not be written */
/* queue_state of a fresh message: every recipient waiting. */
void hot_fresh_state(struct hot *h);
uint32_t hot_waiting(const struct hot *h); /* recipients not final, reports to be made included */
void on_commit(struct queue *q, void (*fn)(struct queue *, const struct completion *, enum err),
               struct completion c);
void queue_commit_turn(struct queue *q); /* end of a loop turn */
uint64_t queue_new_id(struct queue *q);
/* A message made by us (report, notice): appended to the batch, due once durable. */
NODISCARD enum err queue_put_own(struct queue *q, const struct envelope *env, struct sv body);

/* queue_intake.c */
void intake_received(struct queue *q, uint8_t worker, const struct received *r);
void intake_file_ask(struct queue *q, uint8_t worker, const struct file_ask *a);
void intake_file_drop(struct queue *q, uint8_t worker, uint64_t file);
void intake_worker_gone(struct queue *q, uint8_t worker);
void intake_lease(struct queue *q, uint8_t worker);
enum err intake_room(const struct queue *q);
struct intake intake_state(enum err room);
void intake_gate(struct queue *q); /* opens or closes reception by disk and spool state */
bool queue_ids_open(struct queue *q);

/* queue_scan.c */
void scan_enqueue(struct queue *q, struct hot *h);
void scan_dispatch(struct queue *q);
void scan_done(struct queue *q, uint8_t worker, const struct job_done *d);
void scan_worker_gone(struct queue *q, uint8_t worker);
void scan_watch(struct queue *q); /* time limits */

/* queue_decide.c */
void decide_message(struct queue *q, struct hot *h, const struct facts *facts);

/* queue_deliver.c */
/* plan_route; <Postmaster> without a domain is, failing all else, that of this host. */
NODISCARD enum err deliver_route(struct queue *q, const struct settings *s,
                                 const struct decision *d, struct sv rcpt, struct arena *a,
                                 struct hop *out_hop);
void deliver_due(struct queue *q, struct hot *h); /* makes tasks of what is due */
void deliver_dispatch(struct queue *q);
void deliver_done(struct queue *q, uint8_t worker, const struct outcome *o);
void deliver_worker_gone(struct queue *q, uint8_t worker);
void queue_run_due(struct queue *q);
void queue_arm(struct queue *q);

/* queue_report.c */
struct report_job {
    struct list node;     /* hot.reports */
    struct list in_queue; /* queue.report_queue */
    struct hot *hot;
    enum report kind;
    uint32_t *rcpts;
    uint32_t n_rcpts;
    uint32_t tries;
    uint64_t made; /* id of the report that is not durable yet, 0 = none */
};
void report_again(struct queue *q, struct hot *h); /* reports that a restart interrupted */
void report_add(struct queue *q, struct hot *h, enum report kind, uint32_t rcpt);
void report_dispatch(struct queue *q, struct worker *w, uint8_t index);
void report_built(struct queue *q, struct report_job *r, struct sv body);
void report_failed(struct queue *q, struct report_job *r);
bool report_pending(const struct queue *q);

/* queue_settings.c */
NODISCARD enum err settings_load(struct queue *q, struct errinfo *info);
void settings_receive(struct queue *q, struct ipc *from, const struct settings_msg *m);
void settings_push(struct queue *q, struct ipc *to);
void settings_confirmed(struct queue *q, uint64_t revision);

/* queue_track.c */
void track(struct queue *q, enum event_kind kind, const struct hot *h, struct sv rcpt,
           struct sv detail);
void track_alarm(struct queue *q, const char *what, const char *fmt, ...) PRINTF(3, 4);
void jw_tls(struct buf *b, const struct tls_facts *t);
void jw_decision(struct buf *b, const struct decision *d);

/* queue.c */
bool queue_syncing(const struct queue *q);

/* queue_ctl.c */
void ctl_accept(void *ctx, int events);
void ctl_request(struct queue *q, struct ipc *ch, const struct ctl_req *r, int fd);
void ctl_facts(struct queue *q, struct hot *h, const struct facts *facts);
void queue_metrics(struct queue *q, struct buf *out);
void queue_worker_stats(struct queue *q, uint8_t worker, struct sv text);

#endif
