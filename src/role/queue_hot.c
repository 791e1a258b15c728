/*
 * Messages being worked on, and what is written about them. Everything appended in one loop turn is
 * made durable together by queue_commit_turn; completions run when that is so.
 */
#include "role/queue_priv.h"

#include "base/enc.h"
#include "base/rng.h"
#include "crypto/cert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HOT_ARENA_MAX (16u * 1024 * 1024)
#define REWRITE_MS    10000 /* a state that could not be written is written again after this */
#define STATE_MAX     (4u * 1024 * 1024)

struct snapshot *snapshot_ref(struct snapshot *s)
{
    s->refs++;
    return s;
}

void snapshot_unref(struct snapshot *s)
{
    if (!s || --s->refs)
        return;
    arena_done(&s->arena);
    buf_done(&s->tree);
    free(s);
}

struct hot *hot_new(struct queue *q, struct qmsg *m)
{
    struct hot *h = calloc(1, sizeof(*h));

    if (!h)
        abort();
    h->m = m;
    h->fd = -1;
    arena_init(&h->arena, HOT_ARENA_MAX);
    buf_init(&h->body, SPOOL_INLINE_MAX);
    list_init(&h->reports);
    h->snap = snapshot_ref(q->snap);
    if (m)
        m->hot = h;
    q->hot_n++;
    return h;
}

void hot_fresh_state(struct hot *h)
{
    memset(&h->st, 0, sizeof(h->st));
    h->st.stage = STAGE_NEW;
    h->st.n_rcpts = h->env.n_rcpts;
    h->st.rcpts = ARENA_ARRAY(&h->arena, struct queue_rcpt, h->env.n_rcpts);
}

uint32_t hot_waiting(const struct hot *h)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < h->st.n_rcpts; i++)
        n +=
            h->st.rcpts[i].stage == RCPT_STAGE_WAITING || h->st.rcpts[i].stage == RCPT_STAGE_REPORT;
    return n;
}

static enum err decode(struct hot *h, struct sv envelope, struct sv state)
{
    struct sv env = arena_sv(&h->arena, envelope);
    enum err err = envelope_decode(env, &h->arena, &h->env);

    if (err || h->arena.overflow)
        return err ? err : ERR_LIMIT;
    if (!state.n) {
        hot_fresh_state(h);
        return h->arena.overflow ? ERR_LIMIT : ERR_OK;
    }
    err = queue_state_decode(arena_sv(&h->arena, state), &h->arena, &h->st);
    if (!err && h->st.n_rcpts != h->env.n_rcpts)
        err = ERR_CORRUPT;
    return err;
}

enum err hot_load(struct queue *q, struct qmsg *m, struct hot **out_hot)
{
    struct buf envelope, state;

    buf_init(&envelope, STATE_MAX);
    buf_init(&state, STATE_MAX);
    enum err err = spool_load(q->spool, m->id, &envelope, &state);
    if (!err) {
        struct hot *h = hot_new(q, m);
        err = decode(h, buf_sv(&envelope), buf_sv(&state));
        if (m->stage == STAGE_HELD && h->st.stage == STAGE_NEW) { /* damage: see found_one */
            h->st.stage = STAGE_HELD;
            h->st.hold = m->hold;
            h->st.hold_reason = SV("the record of what was done with the message is damaged");
        }
        if (err)
            hot_free(q, h);
        else
            *out_hot = h;
    }
    buf_done(&envelope);
    buf_done(&state);
    return err;
}

void hot_forget_body(struct queue *q, struct hot *h)
{
    q->hot_bytes -= h->body.n;
    buf_release(&h->body);
}

void hot_free(struct queue *q, struct hot *h)
{
    list_remove(&h->node);
    while (!list_empty(&h->reports)) {
        struct report_job *r = LIST_ENTRY(h->reports.next, struct report_job, node);
        list_remove(&r->node);
        list_remove(&r->in_queue);
        free(r->rcpts);
        free(r);
    }
    hot_forget_body(q, h);
    buf_done(&h->body);
    arena_done(&h->arena);
    snapshot_unref(h->snap);
    if (h->fd >= 0)
        close(h->fd);
    if (h->m)
        h->m->hot = NULL;
    q->hot_n--;
    free(h);
}

enum err hot_body(struct queue *q, struct hot *h)
{
    if (h->body.n || h->env.file.n || !h->m)
        return ERR_OK;
    enum err err = spool_read(q->spool, h->m->id, &h->body);
    if (!err)
        q->hot_bytes += h->body.n;
    return err;
}

int hot_body_fd(struct queue *q, const struct hot *h)
{
    char name[64];

    if (h->fd >= 0)
        return fcntl(h->fd, F_DUPFD_CLOEXEC, 3);
    if (!h->env.file.n || h->env.file.n >= sizeof(name))
        return -1;
    memcpy(name, h->env.file.p, h->env.file.n);
    name[h->env.file.n] = 0;
    return openat(q->spool_dir, name, O_RDONLY | O_CLOEXEC);
}

/* A large body whose message never became durable. */
void hot_unlink_body(struct queue *q, const struct hot *h)
{
    char name[64];

    if (!h->env.file.n || h->env.file.n >= sizeof(name))
        return;
    memcpy(name, h->env.file.p, h->env.file.n);
    name[h->env.file.n] = 0;
    (void)unlinkat(q->spool_dir, name, 0);
}

/* ---- records ---- */

void on_commit(struct queue *q, void (*fn)(struct queue *, const struct completion *, enum err),
               struct completion c)
{
    if (!q->batch) {
        q->batch = calloc(1, sizeof(*q->batch));
        if (!q->batch)
            abort();
        q->batch->q = q;
    }
    struct batch *b = q->batch;
    if (b->n == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 64;
        b->list = realloc(b->list, b->cap * sizeof(*b->list));
        if (!b->list)
            abort();
    }
    c.fn = fn;
    b->list[b->n++] = c;
}

static void batch_done(void *arg, enum err err)
{
    struct batch *b = arg;

    for (uint32_t i = 0; i < b->n; i++)
        b->list[i].fn(b->q, &b->list[i], err);
    free(b->list);
    free(b);
}

static void rewrite_later(struct queue *q, struct hot *h)
{
    msg_due(q, h->m, loop_clock(q->loop).wall_ms + REWRITE_MS);
    if (!list_linked(&h->node))
        list_push_back(&q->unwritten, &h->node);
}

/* Not left to the due heap alone: it stands still while too many messages are hot, and these are
 * hot until they are written. */
void hot_rewrite(struct queue *q)
{
    struct list *last = q->unwritten.prev;

    while (!list_empty(&q->unwritten)) {
        struct list *n = q->unwritten.next;
        list_remove(n);
        (void)hot_settle(q, LIST_ENTRY(n, struct hot, node));
        if (n == last)
            return;
    }
}

static void state_durable(struct queue *q, const struct completion *c, enum err err)
{
    struct qmsg *m = msg_find(q, c->id);

    if (err)
        track_alarm(q, "spool", "a state record could not be made durable: %s", err_name(err));
    if (m && m->writing)
        m->writing--;
    if (!m || !m->hot)
        return;
    m->hot->dirty |= err != ERR_OK;
    if (!m->hot->idle)
        return;
    if (m->hot->dirty) /* the spool has an older state: written again before anything else */
        rewrite_later(q, m->hot);
    else if (!m->writing)
        hot_free(q, m->hot);
}

void queue_commit_turn(struct queue *q)
{
    if (!q->batch)
        return;
    struct batch *b = q->batch;
    q->batch = NULL;
    spool_commit(q->spool, batch_done, b);
}

/* Words that may go when a state is too large for a record: what is done never depends on them. */
static void trim_state(struct hot *h)
{
    h->st.decision.n_fired = 0;
    for (uint32_t i = 0; i < h->st.n_rcpts; i++) {
        h->st.rcpts[i].reply = sv_take(h->st.rcpts[i].reply, 100);
        h->st.rcpts[i].human = sv_take(h->st.rcpts[i].human, 200);
    }
}

enum err hot_write_state(struct queue *q, struct hot *h)
{
    buf_reset(&q->scratch);
    queue_state_put(&q->scratch, &h->st);
    if (q->scratch.overflow || q->scratch.n > SPOOL_RECORD_MAX) {
        trim_state(h);
        buf_reset(&q->scratch);
        queue_state_put(&q->scratch, &h->st);
    }
    enum err err =
        q->scratch.overflow ? ERR_LIMIT : spool_state(q->spool, h->m->id, buf_sv(&q->scratch));
    if (!err) {
        h->m->writing++;
        on_commit(q, state_durable, (struct completion){.id = h->m->id});
    } else if (spool_room(q->spool, 0) != ERR_IO) { /* that it refuses all has its own alarm */
        track_alarm(q, "spool", "state of a message could not be written: %s", err_name(err));
    }
    h->dirty = err != ERR_OK;
    return err;
}

/* The end of a message could not be made durable: recorded again by the next tick. */
static void end_lost(struct queue *q, const struct completion *c, enum err err)
{
    if (!err)
        return;
    uint64_t *more = realloc(q->redo, (q->n_redo + 1) * sizeof(*more));
    if (!more)
        abort();
    q->redo = more;
    q->redo[q->n_redo++] = c->id;
}

void hot_end_record(struct queue *q, uint64_t id)
{
    enum err err = spool_done(q->spool, id);

    if (!err)
        on_commit(q, end_lost, (struct completion){.id = id});
    else if (err != ERR_NOTFOUND)
        end_lost(q, &(struct completion){.id = id}, err);
}

void hot_redo_ends(struct queue *q)
{
    uint64_t *ids = q->redo;
    uint32_t n = q->n_redo;

    q->redo = NULL;
    q->n_redo = 0;
    for (uint32_t i = 0; i < n; i++)
        hot_end_record(q, ids[i]);
    free(ids);
}

void hot_finish(struct queue *q, struct hot *h)
{
    struct qmsg *m = h->m;

    hot_end_record(q, m->id);
    track(q, EVENT_DONE, h, SV(""), SV(""));
    hot_free(q, h);
    msg_remove(q, m);
}

static int64_t next_attempt(const struct hot *h)
{
    int64_t at = INT64_MAX;

    for (uint32_t i = 0; i < h->st.n_rcpts; i++) {
        const struct queue_rcpt *r = &h->st.rcpts[i];
        bool open = r->stage == RCPT_STAGE_WAITING || r->stage == RCPT_STAGE_REPORT;
        if (open && r->next_ms < at)
            at = r->next_ms;
    }
    return at;
}

/* Until its last state is durable the spool would give the one before: kept in memory so long. */
static void hot_rest(struct queue *q, struct hot *h)
{
    if (h->m->writing || h->dirty) {
        h->idle = true;
        h->phase = HOT_LOADED;
        if (h->dirty)
            rewrite_later(q, h);
    } else {
        hot_free(q, h);
    }
}

/* A message at rest is taken up again, with the settings of now. */
void hot_wake(struct queue *q, struct hot *h)
{
    snapshot_unref(h->snap);
    h->snap = snapshot_ref(q->snap);
    h->idle = false;
    list_remove(&h->node);
}

enum err hot_settle(struct queue *q, struct hot *h)
{
    struct qmsg *m = h->m;
    int64_t now = loop_clock(q->loop).wall_ms;
    bool busy = h->tasks || !list_empty(&h->reports);
    enum err err = ERR_OK;

    list_remove(&h->node);
    h->idle = false;
    m->n_rcpts = hot_waiting(h);
    m->stage = h->st.stage;
    m->hold = h->st.hold;
    if (!busy && !m->n_rcpts) {
        hot_finish(q, h);
        return ERR_OK;
    }
    if (h->dirty)
        err = hot_write_state(q, h);
    if (busy) {
        msg_due(q, m, now + TASK_DEADLINE_MS);
        return err;
    }
    if (m->stage == STAGE_HELD)
        msg_not_due(q, m);
    else
        msg_due(q, m, next_attempt(h));
    hot_rest(q, h);
    return err;
}

/* ---- messages of our own ---- */

static void own_durable(struct queue *q, const struct completion *c, enum err err)
{
    struct qmsg *m = msg_find(q, c->id);

    if (!m)
        return;
    if (err) { /* never was: the message that it reports on makes it again */
        msg_remove(q, m);
        return;
    }
    msg_due(q, m, loop_clock(q->loop).wall_ms);
}

/* A report on very many recipients is too large for the log. Rare, so its sync is waited for. */
static enum err own_file(struct queue *q, const char *name, const uint8_t key[32], struct sv body)
{
    int fd = openat(q->spool_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    char *p = malloc(body.n);
    size_t at = 0;

    if (p && fd >= 0) {
        memcpy(p, body.p, body.n);
        body_crypt(key, 0, 0, p, body.n);
        for (ssize_t n = 1; at < body.n && n > 0; at += n > 0 ? (size_t)n : 0)
            n = pwrite(fd, p + at, body.n - at, (off_t)at);
    }
    bool ok = p && at == body.n && fdatasync(fd) == 0 && fsync(q->spool_dir) == 0;
    free(p);
    if (fd >= 0)
        close(fd);
    if (!ok && fd >= 0)
        (void)unlinkat(q->spool_dir, name, 0);
    return ok ? ERR_OK : ERR_IO;
}

static enum err put_own(struct queue *q, const struct envelope *env, struct sv body)
{
    struct buf bytes;

    buf_init(&bytes, STATE_MAX);
    envelope_put(&bytes, env);
    enum err err = bytes.overflow
                       ? ERR_LIMIT
                       : spool_put_own(q->spool, env->id, buf_sv(&bytes), body, env->file);
    buf_done(&bytes);
    return err;
}

static enum err put_own_large(struct queue *q, const struct envelope *env, struct sv body)
{
    struct envelope with_file = *env;
    struct rng rng = rng_system();
    uint8_t key[32];
    char name[64];

    rng_bytes(&rng, key, sizeof(key));
    snprintf(name, sizeof(name), SPOOL_FILE_PREFIX "%016llx", (unsigned long long)env->id);
    with_file.file = sv_str(name);
    with_file.body_key = sv_of((const char *)key, sizeof(key));
    enum err err = own_file(q, name, key, body);
    if (!err) {
        err = put_own(q, &with_file, SV(""));
        if (err)
            (void)unlinkat(q->spool_dir, name, 0);
    }
    explicit_bzero(key, sizeof(key));
    return err;
}

enum err queue_put_own(struct queue *q, const struct envelope *env, struct sv body)
{
    enum err err = body.n > SPOOL_INLINE_MAX ? put_own_large(q, env, body) : put_own(q, env, body);

    if (err)
        return err;
    struct qmsg *m = msg_add(q, env->id);
    m->kind = env->kind;
    m->n_rcpts = env->n_rcpts;
    on_commit(q, own_durable, (struct completion){.id = env->id});
    return ERR_OK;
}
