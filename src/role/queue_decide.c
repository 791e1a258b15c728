/*
 * From facts to plans: asks the pure core for each recipient, keeps together those with equal
 * plans, makes a copy for each further plan, and starts what was decided.
 *
 * A split is one batch: the copies first, the end of the parent last. A torn batch therefore leaves
 * a live parent, and recovery drops copies whose parent is live (queue.c).
 */
#include "role/queue_priv.h"

#include "role/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DETAIL_MAX (8u * 1024)
#define WORDS_MAX  (16u * 1024 * 1024) /* explanations of all recipients' decisions */

static void track_decision(struct queue *q, struct hot *h, const struct facts *facts)
{
    struct buf b;

    buf_init(&b, DETAIL_MAX);
    jw_open(&b, NULL);
    jw_decision(&b, &h->st.decision);
    if (facts) {
        jw_str(&b, "scan", facts->scan == SCAN_OK ? "ok" : "failed");
        if (facts->scan_error.n)
            jw_sv(&b, "scan_error", facts->scan_error);
        jw_u64(&b, "parts", facts->n_parts);
        jw_u64(&b, "scan_us", facts->micros);
        jw_open(&b, "found");
        for (uint32_t i = 0; i < facts->n_totals && i < 20; i++) {
            char name[128];
            snprintf(name, sizeof(name), "%.*s", SV_ARG(facts->totals[i].classifier));
            jw_u64(&b, name, facts->totals[i].unique);
        }
        jw_close(&b);
    }
    jw_u64(&b, "recipients", h->env.n_rcpts);
    jw_close(&b);
    track(q, EVENT_DECIDED, h, SV(""), buf_sv(&b));
    buf_done(&b);
}

static void hold(struct queue *q, struct hot *h)
{
    struct queue_state *st = &h->st;

    st->stage = STAGE_HELD;
    st->hold = st->decision.hold ? st->decision.hold : HOLD_EXCEPTION;
    st->hold_reason = st->decision.reason;
    h->dirty = true;
    q->counters[COUNT_HELD]++;
    track(q, EVENT_HELD, h, SV(""), SV(""));
    h->phase = HOT_TASKS;
    hot_settle(q, h);
}

static void put_off(struct queue *q, struct hot *h, const char *why)
{
    track_alarm(q, "decide", "a message could not be decided and is tried again: %s", why);
    msg_due(q, h->m, loop_clock(q->loop).wall_ms + 10000);
    hot_free(q, h);
}

static void make_ready(struct queue *q, struct hot *h)
{
    int64_t now = loop_clock(q->loop).wall_ms;

    h->st.stage = h->m->stage = STAGE_READY;
    for (uint32_t i = 0; i < h->st.n_rcpts; i++) {
        if (h->st.rcpts[i].stage == RCPT_STAGE_WAITING)
            h->st.rcpts[i].next_ms = now;
    }
}

static void encrypt_durable(struct queue *q, const struct completion *c, enum err err)
{
    struct qmsg *m = msg_find(q, c->id);
    struct hot *h = m ? m->hot : NULL;

    if (!h || h->phase != HOT_COMMITTING)
        return;
    if (err)
        put_off(q, h, "its mark could not be recorded");
    else
        deliver_due(q, h);
}

/* A mark once given stays, whatever the settings are after a restart: nothing leaves, and nobody is
 * told anything of the message, before the mark is durable. */
static void begin_encrypted(struct queue *q, struct hot *h)
{
    make_ready(q, h);
    h->phase = HOT_COMMITTING;
    enum err err = hot_write_state(q, h);
    if (err)
        put_off(q, h, err_name(err));
    else
        on_commit(q, encrypt_durable, (struct completion){.id = h->m->id});
}

/* Starts what st.decision says. */
static void act(struct queue *q, struct hot *h, const struct facts *facts)
{
    struct queue_state *st = &h->st;
    bool recorded = st->stage == STAGE_READY; /* with its copy */

    track_decision(q, h, facts);
    h->m->encrypt = st->decision.encrypt;
    if (st->decision.encrypt)
        q->counters[COUNT_ENCRYPTED]++;
    if (st->decision.action == ACTION_QUARANTINE ||
        st->decision.action == ACTION_DROP_ATTACHMENTS) {
        hold(q, h);
        return;
    }
    if (st->decision.encrypt && h->env.kind == MESSAGE_SMTP && !recorded) {
        begin_encrypted(q, h);
        return;
    }
    make_ready(q, h);
    deliver_due(q, h);
}

/* ---- split ---- */

struct split {
    struct hot *parent;
    struct hot **children;
    uint32_t n;
};

static enum err copy_decision(struct queue *q, struct hot *to, const struct decision *d)
{
    buf_reset(&q->scratch);
    decision_put(&q->scratch, d);
    return decision_decode(arena_sv(&to->arena, buf_sv(&q->scratch)), &to->arena, &to->st.decision);
}

static enum err link_file(struct queue *q, struct hot *h, uint64_t id, struct envelope *env)
{
    char from[64], to[64];

    if (!h->env.file.n)
        return ERR_OK;
    snprintf(from, sizeof(from), "%.*s", SV_ARG(h->env.file));
    snprintf(to, sizeof(to), "big-%016llx", (unsigned long long)id);
    if (linkat(q->spool_dir, from, q->spool_dir, to, 0) || fsync(q->spool_dir))
        return ERR_IO;
    env->file = arena_sv(&h->arena, sv_str(to));
    return ERR_OK;
}

/* *out_child is set once the copy is in the batch, whatever is returned. */
static enum err make_child(struct queue *q, struct hot *h, const uint32_t *group, uint32_t g,
                           const struct decision *d, struct hot **out_child)
{
    struct envelope env = h->env;

    env.id = queue_new_id(q);
    env.parent = h->env.id;
    env.n_rcpts = 0;
    env.rcpts = ARENA_ARRAY(&h->arena, struct rcpt, h->env.n_rcpts);
    if (!env.rcpts)
        return ERR_LIMIT;
    for (uint32_t i = 0; i < h->env.n_rcpts; i++) {
        if (group[i] == g)
            env.rcpts[env.n_rcpts++] = h->env.rcpts[i];
    }
    enum err err = link_file(q, h, env.id, &env);
    buf_reset(&q->scratch);
    envelope_put(&q->scratch, &env);
    if (!err)
        err = spool_put_own(q->spool, env.id, buf_sv(&q->scratch), buf_sv(&h->body), env.file);
    if (err) {
        if (env.file.p != h->env.file.p)
            (void)unlinkat(q->spool_dir, env.file.p, 0);
        return err;
    }
    struct qmsg *m = msg_add(q, env.id);
    struct hot *c = *out_child = hot_new(q, m);
    c->phase = HOT_COMMITTING;
    err = envelope_decode(arena_sv(&c->arena, buf_sv(&q->scratch)), &c->arena, &c->env);
    hot_fresh_state(c);
    if (!err)
        err = copy_decision(q, c, d);
    snapshot_unref(c->snap);
    c->snap = snapshot_ref(h->snap);
    m->n_rcpts = env.n_rcpts;
    msg_due(q, m, loop_clock(q->loop).wall_ms + TASK_DEADLINE_MS);
    if (!err && d->encrypt && d->action == ACTION_ENCRYPT) { /* see begin_encrypted */
        make_ready(q, c);
        err = hot_write_state(q, c);
    }
    return err;
}

static void drop_child(struct queue *q, struct hot *c)
{
    struct qmsg *m = c->m;

    hot_free(q, c);
    msg_remove(q, m);
}

static void split_durable(struct queue *q, const struct completion *c, enum err err)
{
    struct split *s = c->ptr;

    if (err) { /* nothing of it is there: the parent is scanned and decided again */
        for (uint32_t i = 0; i < s->n; i++) {
            hot_unlink_body(q, s->children[i]);
            drop_child(q, s->children[i]);
        }
        msg_due(q, s->parent->m, loop_clock(q->loop).wall_ms + 10000);
        hot_free(q, s->parent);
    } else {
        struct qmsg *m = s->parent->m;
        track(q, EVENT_SPLIT, s->parent, SV(""), SV(""));
        q->counters[COUNT_SPLIT]++;
        hot_free(q, s->parent);
        msg_remove(q, m);
        for (uint32_t i = 0; i < s->n; i++)
            act(q, s->children[i], NULL);
    }
    free(s->children);
    free(s);
}

static enum err split(struct queue *q, struct hot *h, const struct decision *d,
                      const uint32_t *group, uint32_t groups)
{
    struct split *s = calloc(1, sizeof(*s));

    if (!s)
        abort();
    s->parent = h;
    s->children = calloc(groups, sizeof(*s->children));
    if (!s->children)
        abort();
    enum err err = hot_body(q, h);
    for (uint32_t g = 0; !err && g < groups; g++) {
        uint32_t first = 0;
        while (group[first] != g)
            first++;
        err = make_child(q, h, group, g, &d[first], &s->children[s->n]);
        s->n += s->children[s->n] != NULL;
    }
    if (!err)
        err = spool_done(q->spool, h->m->id);
    if (err) {
        /* children already appended end in the same batch, so none comes to life */
        for (uint32_t i = 0; i < s->n; i++) {
            hot_end_record(q, s->children[i]->m->id);
            drop_child(q, s->children[i]);
        }
        free(s->children);
        free(s);
        return err;
    }
    h->phase = HOT_COMMITTING;
    on_commit(q, split_durable, (struct completion){.ptr = s});
    return ERR_OK;
}

/* Numbers recipients by plan; returns how many plans there are. */
static uint32_t group_plans(const struct decision *d, uint32_t n, uint32_t *group)
{
    uint32_t groups = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = 0;
        while (k < i && !decision_same_plan(&d[k], &d[i]))
            k++;
        group[i] = k < i ? group[k] : groups++;
    }
    return groups;
}

/* Explanations have memory of their own: that it runs out changes no decision. */
static void decide_each(const struct hot *h, const struct facts *facts, struct arena *words,
                        struct decision *out_d)
{
    for (uint32_t i = 0; i < h->env.n_rcpts; i++) {
        if (h->env.kind == MESSAGE_SMTP)
            policy_decide(h->snap->s, &h->env, facts, i, words, &out_d[i]);
        else
            policy_decide_own(h->snap->s, h->env.sealed, &out_d[i]);
    }
}

static void decided(struct queue *q, struct hot *h, const struct facts *facts,
                    const struct decision *d, const uint32_t *group, uint32_t groups)
{
    enum err err = groups > 1 ? split(q, h, d, group, groups) : copy_decision(q, h, &d[0]);

    if (err)
        put_off(q, h, err_name(err));
    else if (groups == 1)
        act(q, h, facts); /* fact views die with the caller's message; the decision is copied */
}

void decide_message(struct queue *q, struct hot *h, const struct facts *facts)
{
    uint32_t n = h->env.n_rcpts;
    struct arena words;
    struct decision *d = ARENA_ARRAY(&h->arena, struct decision, n);
    uint32_t *group = ARENA_ARRAY(&h->arena, uint32_t, n);

    if (!d || !group) {
        put_off(q, h, "out of memory");
        return;
    }
    if (facts->scan != SCAN_OK)
        track(q, EVENT_SCAN_FAILED, h, SV(""), SV(""));
    arena_init(&words, WORDS_MAX);
    decide_each(h, facts, &words, d);
    decided(q, h, facts, d, group, group_plans(d, n, group));
    arena_done(&words);
}
