/*
 * NAME         queue: owner of the mail queue and its spool
 * TALKS TO     smtp (messages in, deliveries out), content (scans, reports), store (tracking
 * cursor, settings revisions), keys (keys of segment lives), lookup, web, the supervisor, and
 *              postsealctl over a local socket
 * ON FAILURE   its own end loses nothing: what was acknowledged is in the spool, results that were
 *              not acknowledged are kept and told again by the workers. A full disk or a failing
 *              one closes the intake; deliveries and administration go on from the reserve.
 */
#include "role/queue_ctl.h"

#include "crypto/cert.h"
#include "role/keyclient.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sysexits.h>
#include <unistd.h>

#define RESERVE_MAX     (256u * 1024 * 1024) /* kept free for results, reports, the database: */
#define RESERVE_PART    8                    /* this much, or an eighth of a small file system */
#define EVENTS_BYTES    (1024u * 1024 * 1024)
#define TICK_MS         1000
#define EVENTS_TELL_MS  50 /* the tending timer ends the wait */
#define REWRITE_TICKS   10
#define CLOCK_BACK_MS   2000 /* less is drift */
#define TEND_MS         100
#define SYNC_WAIT_TICKS 700 /* longer than any wait for the reply to a final dot */
#define FOUND_MAX_ENV   (4u * 1024 * 1024)

/* ---- channels ---- */

static void smtp_message(void *ctx, struct ipc *ch, enum message m, const union message_body *b,
                         int fd)
{
    struct queue *q = ctx;
    uint8_t i = ipc_peer_index(ch);

    if (fd >= 0)
        close(fd);
    if (m == MSG_RECEIVED) {
        intake_received(q, i, &b->RECEIVED);
    } else if (m == MSG_ATTEMPT_DONE) {
        deliver_done(q, i, &b->ATTEMPT_DONE);
    } else if (m == MSG_FILE_ASK) {
        intake_file_ask(q, i, &b->FILE_ASK);
    } else if (m == MSG_FILE_DROP) {
        intake_file_drop(q, i, b->FILE_DROP.file);
    } else if (m == MSG_SETTINGS_ACK) {
        q->smtp[i].synced = true;
    } else if (m == MSG_STATS) {
        queue_worker_stats(q, i, b->STATS.text);
    } else if (m == MSG_EVENT) {
        struct event e = b->EVENT;
        eventlog_add(q->events, &e);
    }
}

static void content_message(void *ctx, struct ipc *ch, enum message m, const union message_body *b,
                            int fd)
{
    if (fd >= 0)
        close(fd);
    if (m == MSG_JOB_DONE)
        scan_done(ctx, ipc_peer_index(ch), &b->JOB_DONE);
}

static void store_message(void *ctx, struct ipc *ch, enum message m, const union message_body *b,
                          int fd)
{
    struct queue *q = ctx;

    if (m == MSG_EVENTS_AT)
        eventlog_stored(q->events, b->EVENTS_AT.seq);
    else if (m == MSG_SETTINGS)
        settings_receive(q, ch, &b->SETTINGS);
    else if (m == MSG_SETTINGS_ACK)
        settings_confirmed(q, b->SETTINGS_ACK.revision);
    if (m == MSG_CTL_REQ)
        ctl_request(q, ch, &b->CTL_REQ, fd);
    else if (fd >= 0)
        close(fd);
}

static void web_message(void *ctx, struct ipc *ch, enum message m, const union message_body *b,
                        int fd)
{
    if (m == MSG_CTL_REQ)
        ctl_request(ctx, ch, &b->CTL_REQ, fd);
    else if (fd >= 0)
        close(fd);
}

static void ignore_message(void *ctx, struct ipc *ch, enum message m, const union message_body *b,
                           int fd)
{
    (void)ctx, (void)ch, (void)m, (void)b;
    if (fd >= 0)
        close(fd);
}

static void gone(void *ctx, struct ipc *ch, const char *why)
{
    struct queue *q = ctx;
    enum role peer = ipc_peer(ch);
    uint8_t i = ipc_peer_index(ch);

    log_msg(LOG_WARN, "peer-gone", "channel to %s %u ended: %s", role_name(peer), i, why);
    if (peer == ROLE_SMTP) {
        q->smtp[i].ch = NULL;
        q->smtp[i].generation++;
        intake_worker_gone(q, i);
        deliver_worker_gone(q, i);
    } else if (peer == ROLE_CONTENT) {
        scan_worker_gone(q, i);
    } else if (peer == ROLE_STORE) {
        q->store = NULL;
    } else if (peer == ROLE_LOOKUP) {
        q->lookup = NULL;
    } else if (peer == ROLE_WEB) {
        ctl_waits_gone(q, ch);
        q->web = NULL;
    }
}

static void smtp_up(struct queue *q, uint8_t i)
{
    struct worker *w = &q->smtp[i];
    enum err room = intake_room(q);
    struct intake in = intake_state(q->intake_open || room ? room : ERR_IO);

    w->generation++;
    w->active = 0;
    w->synced = false;
    if (i >= q->n_smtp)
        q->n_smtp = (uint8_t)(i + 1);
    intake_lease(q, i);
    settings_push(q, w->ch);
    role_tell(w->ch, MSG_INTAKE, &in, -1);
}

static void replace(struct ipc **slot, struct queue *q)
{
    struct ipc *old = *slot;

    if (!old)
        return;
    gone(q, old, "replaced");
    ipc_free(old);
}

static void connect_peer(struct queue *q, enum role peer, uint8_t index, int fd, struct ipc **slot,
                         void (*message)(void *, struct ipc *, enum message,
                                         const union message_body *, int))
{
    struct ipc_handler h = {.ctx = q, .message = message, .closed = gone};

    replace(slot, q);
    *slot = NULL;
    if (ipc_new(q->loop, fd, ROLE_QUEUE, peer, index, &h, slot)) {
        close(fd);
        log_msg(LOG_ERROR, "channel", "no channel to %s %u", role_name(peer), index);
    }
}

/* Asked synchronously: a new segment life waits for its key. */
static void keys_attach(struct queue *q, int fd)
{
    if (q->keys)
        keyclient_replace(q->keys, fd);
    else if (keyclient_new(fd, &q->keys))
        log_msg(LOG_ERROR, "channel", "no channel to keys");
}

static void on_channel(void *ctx, enum role peer, uint8_t index, int fd)
{
    struct queue *q = ctx;

    if (index >= WORKERS_MAX) {
        close(fd);
        return;
    }
    if (peer == ROLE_SMTP) {
        connect_peer(q, peer, index, fd, &q->smtp[index].ch, smtp_message);
        if (q->ready && q->smtp[index].ch)
            smtp_up(q, index);
    } else if (peer == ROLE_CONTENT) {
        connect_peer(q, peer, index, fd, &q->content[index].ch, content_message);
        if (index >= q->n_content)
            q->n_content = (uint8_t)(index + 1);
        if (q->ready)
            settings_push(q, q->content[index].ch);
    } else if (peer == ROLE_STORE) {
        connect_peer(q, peer, index, fd, &q->store, store_message);
        if (q->ready)
            settings_push(q, q->store);
    } else if (peer == ROLE_LOOKUP) {
        connect_peer(q, peer, index, fd, &q->lookup, ignore_message);
        if (q->ready)
            settings_push(q, q->lookup);
    } else if (peer == ROLE_WEB) {
        connect_peer(q, peer, index, fd, &q->web, web_message);
        if (q->ready)
            settings_push(q, q->web);
    } else if (peer == ROLE_KEYS) {
        keys_attach(q, fd);
    } else {
        close(fd);
    }
}

static void on_listener(void *ctx, struct sv kind, struct sv address, int fd)
{
    struct queue *q = ctx;

    (void)address;
    if (!sv_eq(kind, SV("ctl")) || q->ctl_fd >= 0) {
        close(fd);
        return;
    }
    q->ctl_fd = fd;
}

/* ---- recovery ---- */

struct found {
    struct queue *q;
    struct orphan {
        uint64_t id, parent;
        uint8_t kind;
        bool lost; /* its state is damaged */
    } * copies;    /* messages that have a parent, or are to be held */
    uint32_t n, cap;
};

static void found_add(struct found *found, struct orphan o)
{
    if (found->n == found->cap) {
        found->cap = found->cap ? found->cap * 2 : 256;
        found->copies = realloc(found->copies, found->cap * sizeof(*found->copies));
        if (!found->copies)
            abort();
    }
    found->copies[found->n++] = o;
}

static void found_one(void *ctx, const struct spool_found *f)
{
    struct found *found = ctx;
    struct queue *q = found->q;
    struct arena a;
    struct envelope env;
    struct queue_state st = {0};

    arena_init(&a, FOUND_MAX_ENV);
    enum err err = envelope_decode(f->envelope, &a, &env);
    if (!err && f->state.n)
        err = queue_state_decode(f->state, &a, &st);
    struct qmsg *m = msg_add(q, f->id);
    if (err) { /* kept, and looked at by an administrator: never thrown away */
        log_msg(LOG_ERROR, "alarm", "spool-damage: envelope of a message cannot be read");
        m->stage = STAGE_HELD;
        m->hold = HOLD_EXCEPTION;
        arena_done(&a);
        return;
    }
    m->kind = env.kind;
    m->stage = st.stage;
    m->hold = st.hold;
    m->encrypt = st.decision.encrypt || env.sealed;
    m->n_rcpts = env.n_rcpts;
    if (f->state_lost) { /* who has it, whether it was held, whether it was marked: not known */
        m->stage = STAGE_HELD;
        m->hold = HOLD_EXCEPTION;
    }
    int64_t due = INT64_MAX;
    for (uint32_t i = 0; i < st.n_rcpts; i++) {
        bool open =
            st.rcpts[i].stage == RCPT_STAGE_WAITING || st.rcpts[i].stage == RCPT_STAGE_REPORT;
        if (open && st.rcpts[i].next_ms < due)
            due = st.rcpts[i].next_ms;
    }
    if (m->stage != STAGE_HELD)
        msg_due(q, m, st.n_rcpts && due != INT64_MAX ? due : 0);
    if (env.parent || f->state_lost)
        found_add(found, (struct orphan){env.id, env.parent, env.kind, f->state_lost});
    arena_done(&a);
}

/* A torn batch may hold a copy without its parent's end, or a report without the state that knows
 * of it: both are dropped, since the parent makes them again. */
static bool torn(struct queue *q, const struct orphan *o)
{
    struct qmsg *parent = msg_find(q, o->parent);
    struct hot *h = NULL;

    if (!parent || o->lost) /* a lost state was written after the batch of the copy */
        return false;
    if (o->kind == MESSAGE_SMTP)
        return true;
    if (hot_load(q, parent, &h))
        return false;
    bool unknown = h->st.last_report < o->id;
    hot_free(q, h);
    return unknown;
}

/* Held in memory by found_one; recorded, so that it stays so. */
static void hold_lost(struct queue *q, const struct found *found)
{
    for (uint32_t i = 0; i < found->n; i++) {
        struct qmsg *m = found->copies[i].lost ? msg_find(q, found->copies[i].id) : NULL;
        struct hot *h = NULL;
        if (!m || hot_load(q, m, &h))
            continue;
        h->dirty = true;
        (void)hot_settle(q, h);
    }
}

static void drop_torn(struct queue *q, const struct found *found)
{
    for (uint32_t i = 0; i < found->n; i++) {
        struct qmsg *m = msg_find(q, found->copies[i].id);
        if (!m || !torn(q, &found->copies[i]))
            continue;
        if (spool_done(q->spool, m->id) == ERR_OK)
            msg_remove(q, m);
    }
}

/* ---- spool keys ---- */

static enum err key_new(void *ctx, uint8_t out_key[32], struct buf *out_wrapped)
{
    struct rng rng = rng_system();
    struct queue *q = ctx;

    rng_bytes(&rng, out_key, 32);
    return keyclient_wrap(q->keys, sv_of((const char *)out_key, 32), out_wrapped);
}

static enum err key_unwrap(void *ctx, struct sv wrapped, uint8_t out_key[32])
{
    struct queue *q = ctx;
    struct buf plain;

    buf_init(&plain, 256);
    enum err err = keyclient_unwrap(q->keys, wrapped, &plain);
    if (!err && plain.n != 32)
        err = ERR_CORRUPT;
    if (!err)
        memcpy(out_key, plain.p, 32);
    buf_wipe(&plain);
    return err;
}

static void key_crypt(const uint8_t key[32], uint64_t lsn, char *p, size_t n)
{
    body_crypt(key, lsn, 0, p, n);
}

static void spool_alarm(void *ctx, const struct errinfo *what)
{
    track_alarm(ctx, "spool", "%s", what->text);
}

static int queue_sync(void *loop, int fd, void (*cb)(void *, int), void *arg)
{
    return loop_fdatasync(loop, fd, cb, arg);
}

static uint64_t reserve_of(int dir)
{
    struct statvfs fs;

    if (fstatvfs(dir, &fs))
        return RESERVE_MAX;
    uint64_t part = (uint64_t)fs.f_blocks * fs.f_frsize / RESERVE_PART;
    return part < RESERVE_MAX ? part : RESERVE_MAX;
}

static enum err open_spool(struct queue *q, struct errinfo *info)
{
    struct found found = {.q = q};
    struct spool_config c = {.segment_size = SPOOL_SEGMENT_DEFAULT,
                             .reserve = reserve_of(q->spool_dir),
                             .rng = rng_system(),
                             .alarm = spool_alarm,
                             .alarm_ctx = q};

    if (q->keys)
        c.crypto = (struct spool_crypto){q, key_new, key_unwrap, key_crypt};
    enum err err = spool_fs_new(q->spool_dir, queue_sync, q->loop, &q->fs, &c.io, info);
    if (!err)
        err = spool_open(&c, found_one, &found, &q->spool, info);
    if (!err) {
        drop_torn(q, &found);
        hold_lost(q, &found);
    }
    free(found.copies);
    return err;
}

/* ---- turn, tick ---- */

/* Workers may still hold results of attempts that the queue before us made; until they have told
 * them, a message of before our start is not sent again. */
bool queue_syncing(const struct queue *q)
{
    if (q->ticks > SYNC_WAIT_TICKS)
        return false;
    for (uint8_t i = 0; i < q->n_smtp; i++) {
        if (q->smtp[i].ch && !q->smtp[i].synced)
            return true;
    }
    return q->n_smtp == 0;
}

/* Events go to their file at once; `store` hears of them twenty times a second at most. */
static void tell_store(struct queue *q)
{
    int64_t now = loop_clock(q->loop).mono_ms;
    uint64_t seq = eventlog_flush(q->events);

    if (seq)
        q->events_untold = seq;
    if (!q->events_untold || !q->store || now < q->events_told_ms + EVENTS_TELL_MS)
        return;
    struct events_at at = {.seq = q->events_untold};
    role_tell(q->store, MSG_EVENTS_AT, &at, -1);
    q->events_untold = 0;
    q->events_told_ms = now;
}

static void turn(void *ctx)
{
    struct queue *q = ctx;

    scan_dispatch(q);
    deliver_dispatch(q);
    if (q->starved && q->hot_n < HOT_MAX)
        queue_run_due(q);
    else
        queue_arm(q);
    queue_commit_turn(q);
    tell_store(q);
    log_flush();
}

static void watch_clock(struct queue *q)
{
    struct clock c = loop_clock(q->loop);
    int64_t back_ms = q->clock_gap_ms - (c.wall_ms - c.mono_ms);

    q->clock_gap_ms -= back_ms;
    if (q->ticks <= 1 || back_ms < CLOCK_BACK_MS)
        return;
    log_msg(LOG_WARN, "clock", "the clock was set back by %lld s", (long long)(back_ms / 1000));
    msg_shift_due(q, back_ms);
}

static void tick(void *ctx)
{
    struct queue *q = ctx;

    q->ticks++;
    watch_clock(q);
    hot_redo_ends(q);
    if (q->ticks % REWRITE_TICKS == 0)
        hot_rewrite(q);
    scan_watch(q);
    intake_gate(q);
    if (!q->starved)
        queue_run_due(q);
    timer_set(q->tick, TICK_MS);
}

/* Housekeeping of the spool: a bounded piece of work, at once again while there is more. */
static void tend(void *ctx)
{
    struct queue *q = ctx;
    bool more = spool_tend(q->spool, loop_clock(q->loop));

    timer_set(q->tend, more ? 1 : TEND_MS);
}

static void due(void *ctx)
{
    queue_run_due(ctx);
}

static void stop(void *ctx)
{
    struct queue *q = ctx;

    queue_commit_turn(q);
    spool_close(q->spool);
    q->spool = NULL;
    (void)eventlog_flush(q->events);
    log_flush();
    _exit(EX_OK); /* everything is durable; nothing else is worth running code for */
}

/* ---- start ---- */

static enum err open_dirs(struct queue *q, char *dir, size_t n, struct errinfo *info)
{
    snprintf(dir, n, "%.*s", SV_ARG(q->role->hello.data_dir));
    int base = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    q->spool_dir = openat(base, "spool", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    q->settings_dir = openat(base, "settings", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base >= 0)
        close(base);
    if (q->spool_dir < 0 || q->settings_dir < 0)
        return err_set_sys(info, ERR_IO, errno, "%s: spool or settings folder cannot be opened",
                           dir);
    return ERR_OK;
}

static enum err open_all(struct queue *q, char *dir, size_t n, struct errinfo *info)
{
    char events[4200];
    enum err err = open_dirs(q, dir, n, info);

    snprintf(events, sizeof(events), "%s/events", dir);
    if (!err)
        err = settings_load(q, info);
    if (!err)
        err = eventlog_open_writer(events, EVENTS_BYTES, &q->events, info);
    if (!err && !queue_ids_open(q))
        err = err_set_sys(info, ERR_IO, errno, "the file of ids cannot be written");
    if (!err)
        err = open_spool(q, info);
    return err;
}

static enum err lock(struct queue *q, const char *dir)
{
    char spool[4200], settings[4200], events[4200];

    snprintf(spool, sizeof(spool), "%s/spool", dir);
    snprintf(settings, sizeof(settings), "%s/settings", dir);
    snprintf(events, sizeof(events), "%s/events", dir);
    struct sandbox_path paths[] = {{spool, true}, {settings, true}, {events, true}};
    return role_lock(q->role, paths, ARRAY_LEN(paths));
}

static enum err start(struct queue *q, struct ctl_listener *ctl)
{
    struct watch *w;
    enum err err = timer_new(q->loop, due, q, &q->due_timer);

    if (!err)
        err = timer_new(q->loop, tick, q, &q->tick);
    if (!err)
        err = timer_new(q->loop, tend, q, &q->tend);
    if (!err && q->ctl_fd >= 0) {
        *ctl = (struct ctl_listener){q, q->ctl_fd};
        err = watch_new(q->loop, q->ctl_fd, ctl_accept, ctl, &w);
        if (!err)
            watch_set(w, WATCH_READ);
    }
    if (err)
        return err;
    q->control = q->role->control;
    q->ready = true;
    q->intake_open = intake_room(q) == ERR_OK;
    for (uint8_t i = 0; i < WORKERS_MAX; i++) {
        if (q->smtp[i].ch)
            smtp_up(q, i);
        if (q->content[i].ch)
            settings_push(q, q->content[i].ch);
    }
    settings_push(q, q->lookup);
    settings_push(q, q->web);
    settings_push(q, q->store);
    q->first_new_id = q->next_id;
    q->next_attempt = q->next_id; /* a worker may still hold attempts of the queue before us */
    loop_on_turn(q->loop, turn, q);
    timer_set(q->tick, TICK_MS);
    timer_set(q->tend, TEND_MS);
    queue_run_due(q);
    log_msg(LOG_INFO, "started", "queue is open: %u messages, settings revision %llu", q->msgs_n,
            (unsigned long long)q->snap->s->revision);
    return ERR_OK;
}

int queue_run(struct role_ctx *r)
{
    static struct queue the; /* one per process */
    struct queue *q = &the;
    struct ctl_listener ctl;
    struct role_events events = {
        .ctx = q, .channel = on_channel, .listener = on_listener, .stop = stop};
    struct errinfo info = {0};
    char dir[4096];

    q->role = r;
    q->loop = r->loop;
    q->hostname = r->hello.hostname;
    q->ctl_fd = -1;
    list_init(&q->ctl_clients);
    list_init(&q->ready_dests);
    list_init(&q->scan_queue);
    list_init(&q->unwritten);
    list_init(&q->report_queue);
    buf_init(&q->scratch, FOUND_MAX_ENV);
    if (role_begin(r, &events))
        return EX_UNAVAILABLE;
    enum err err = open_all(q, dir, sizeof(dir), &info);
    if (err) {
        log_msg(LOG_ERROR, "start", "queue cannot start: %s", info.text);
        log_flush();
        return EX_OSERR;
    }
    if (lock(q, dir) || start(q, &ctl))
        return EX_OSERR;
    return role_loop(r);
}
