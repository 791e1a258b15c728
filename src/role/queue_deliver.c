/*
 * The scheduler: what is due becomes delivery tasks, one per message and destination; tasks go to
 * `smtp` workers under the limit of their destination; outcomes go through core/plan, which says
 * what follows. An outcome is acknowledged to the worker only once it is durable.
 */
#include "role/queue_priv.h"

#include "base/enc.h"
#include "role/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SYNC_DELAY_MS 200
#define HOUR_MS       3600000
/* A worker died: its attempts are made again, later each time, so that a message that ends workers
 * cannot do so all day long. */
#define LOST_DELAY_MS (int64_t)1000
#define LOSSES_MAX    11
#define LOSSES_FREE   5 /* so many do not count as attempts */

/* ---- making tasks ---- */

static struct qtask *task_for(struct queue *q, struct hot *h, const struct hop *hop,
                              struct qtask **mine, uint32_t n)
{
    uint32_t limit = h->snap->s->delivery_recipients_per_transaction;

    for (uint32_t i = n; i-- > 0;) {
        if (mine[i]->n_rcpts < limit && sv_eq(mine[i]->hop.key, hop->key))
            return mine[i];
    }
    struct qtask *t = calloc(1, sizeof(*t));
    if (!t)
        abort();
    t->hot = h;
    t->hop = *hop;
    t->dest = dest_of(q, hop->key);
    t->rcpts = ARENA_ARRAY(&h->arena, uint32_t, limit < h->env.n_rcpts ? limit : h->env.n_rcpts);
    if (!t->rcpts) {
        dest_maybe_free(q, t->dest);
        free(t);
        return NULL;
    }
    return t;
}

static void dest_wake(struct queue *q, struct qdest *d)
{
    if (!list_linked(&d->node) && !list_empty(&d->ready) &&
        d->active < q->snap->s->delivery_destination_concurrency)
        list_push_back(&q->ready_dests, &d->node);
}

static void task_enqueue(struct queue *q, struct qtask *t)
{
    list_push_back(&t->dest->ready, &t->node);
    t->dest->waiting++;
    dest_wake(q, t->dest);
}

enum err deliver_route(struct queue *q, const struct settings *s, const struct decision *d,
                       struct sv rcpt, struct arena *a, struct hop *out_hop)
{
    enum err err = plan_route(s, d, rcpt, ++q->turn, a, out_hop);

    if (err == ERR_NOTFOUND) /* <Postmaster> of a gateway whose settings name neither him nor it */
        err = plan_route(s, d, arena_printf(a, "postmaster@%.*s", SV_ARG(q->hostname)), q->turn, a,
                         out_hop);
    return err;
}

/* No way leads there, now or later. */
static void no_route(struct queue *q, struct hot *h, uint32_t i)
{
    struct queue_rcpt *r = &h->st.rcpts[i];

    r->stage = RCPT_STAGE_REPORT;
    r->next_ms = r->last_ms = loop_clock(q->loop).wall_ms;
    r->status = SV("5.4.4");
    r->reply = r->human = SV("there is no route for this recipient");
    h->dirty = true;
    q->counters[COUNT_BOUNCED]++;
    track(q, EVENT_BOUNCED, h, h->env.rcpts[i].addr, SV(""));
    report_add(q, h, REPORT_FAILED, i);
}

/* Times further off than any that is ever planned are of a clock that was wrong. */
static bool still_waits(const struct hot *h, const struct queue_rcpt *r, int64_t now)
{
    int64_t most = (int64_t)h->snap->s->delivery_max_retry_min * 60000;

    return r->next_ms > now && r->next_ms - now <= (most > HOUR_MS ? most : HOUR_MS);
}

void deliver_due(struct queue *q, struct hot *h)
{
    int64_t now = loop_clock(q->loop).wall_ms;
    struct qtask **mine = ARENA_ARRAY(&h->arena, struct qtask *, h->env.n_rcpts);
    uint32_t n = 0;

    h->phase = HOT_TASKS;
    for (uint32_t i = 0; mine && i < h->env.n_rcpts; i++) {
        struct queue_rcpt *r = &h->st.rcpts[i];
        struct hop hop = {0};
        if (r->stage != RCPT_STAGE_WAITING || still_waits(h, r, now))
            continue;
        enum err err =
            deliver_route(q, h->snap->s, &h->st.decision, h->env.rcpts[i].addr, &h->arena, &hop);
        if (err == ERR_NOTFOUND)
            no_route(q, h, i);
        if (err)
            continue; /* limit of memory: tried again when the others are over */
        struct qtask *t = task_for(q, h, &hop, mine, n);
        if (!t)
            continue;
        if (!t->n_rcpts)
            mine[n++] = t;
        t->rcpts[t->n_rcpts++] = i;
    }
    h->tasks += n;
    for (uint32_t i = 0; i < n; i++)
        task_enqueue(q, mine[i]);
    if (!h->tasks) { /* nothing could be made: never stuck, never a busy loop */
        for (uint32_t i = 0; i < h->st.n_rcpts; i++) {
            if (h->st.rcpts[i].next_ms <= now)
                h->st.rcpts[i].next_ms = now + 10000;
        }
    }
    if (h->tasks)
        msg_due(q, h->m, now + TASK_DEADLINE_MS);
    else
        hot_settle(q, h);
}

/* ---- sending tasks ---- */

static struct worker *pick_worker(struct queue *q, uint8_t *out_index)
{
    struct worker *best = NULL;

    for (uint8_t i = 0; i < q->n_smtp; i++) {
        struct worker *w = &q->smtp[i];
        if (w->ch && (!best || w->active < best->active)) {
            best = w;
            *out_index = i;
        }
    }
    return best;
}

static void task_end(struct queue *q, struct qtask *t)
{
    if (t->attempt) {
        task_unindex(q, t);
        t->dest->active--;
        if (q->smtp[t->worker].active)
            q->smtp[t->worker].active--;
    }
    dest_wake(q, t->dest);
    dest_maybe_free(q, t->dest);
    t->hot->tasks--;
    free(t);
}

/* The body cannot be read: nothing may be sent; an administrator must look. */
static void task_unreadable(struct queue *q, struct qtask *t)
{
    struct hot *h = t->hot;

    track_alarm(q, "spool-damage", "the body of a message cannot be read; it is held");
    h->st.stage = STAGE_HELD;
    h->st.hold = HOLD_EXCEPTION;
    h->st.hold_reason = SV("the stored body is damaged");
    h->dirty = true;
    q->counters[COUNT_HELD]++;
    track(q, EVENT_HELD, h, SV(""), SV(""));
    task_end(q, t);
    hot_settle(q, h);
}

/* Servers behind the next hop are asked not to return the content of Encrypt-marked mail (RFC 3461
 * 4.3): their bounces travel as they like. */
static bool send_task(struct queue *q, struct worker *w, uint8_t index, struct qtask *t, int fd)
{
    struct hot *h = t->hot;
    struct rcpt *rcpts = calloc(t->n_rcpts, sizeof(*rcpts));

    if (!rcpts)
        abort();
    for (uint32_t i = 0; i < t->n_rcpts; i++) {
        rcpts[i] = h->env.rcpts[t->rcpts[i]];
        rcpts[i].index = t->rcpts[i];
    }
    struct delivery d = {.attempt = ++q->next_attempt,
                         .id = h->env.id,
                         .sender = h->env.sender,
                         .envid = h->env.envid,
                         .ret = h->st.decision.encrypt ? RET_HDRS : h->env.ret,
                         .body_type = h->env.body_type,
                         .size = h->env.size,
                         .sha256 = h->env.sha256,
                         .received_ms = h->env.received_ms,
                         .encrypt = h->st.decision.encrypt,
                         .helo =
                             h->snap->s->general_fqdn.n ? h->snap->s->general_fqdn : q->hostname,
                         .hop = t->hop,
                         .rcpts = rcpts,
                         .n_rcpts = t->n_rcpts,
                         .body_key = h->env.body_key,
                         .body = fd < 0 ? buf_sv(&h->body) : SV("")};
    enum err err = ipc_send(w->ch, MSG_DELIVER, &d, fd);
    free(rcpts);
    if (err)
        return false;
    t->attempt = d.attempt;
    t->worker = index;
    task_index(q, t);
    w->active++;
    t->dest->active++;
    return true;
}

void deliver_dispatch(struct queue *q)
{
    uint8_t index = 0;
    struct worker *w;

    /* a delivery whose outcome could not be recorded is never begun */
    if (list_empty(&q->ready_dests) || spool_room(q->spool, 0) == ERR_IO)
        return;
    while (!list_empty(&q->ready_dests) && q->tasks_n < TASKS_MAX &&
           (w = pick_worker(q, &index)) != NULL) {
        struct qdest *d = LIST_ENTRY(q->ready_dests.next, struct qdest, node);
        struct qtask *t = LIST_ENTRY(d->ready.next, struct qtask, node);
        struct hot *h = t->hot;
        list_remove(&d->node);
        list_remove(&t->node);
        d->waiting--;
        int fd = hot_body_fd(q, h);
        if (fd < 0 && (h->env.file.n || hot_body(q, h))) {
            task_unreadable(q, t);
            continue;
        }
        if (!send_task(q, w, index, t, fd)) {
            task_enqueue(q, t);
            break;
        }
        if (q->hot_bytes > HOT_BODY_BYTES / 2)
            hot_forget_body(q, h);
        dest_wake(q, d);
    }
}

/* ---- outcomes ---- */

static void track_attempt(struct queue *q, struct hot *h, const struct outcome *o,
                          const struct rcpt_outcome *ro, enum event_kind kind,
                          const struct step *step, const struct hop *hop)
{
    struct buf b;
    char ip[IP_TEXT_MAX];
    uint32_t i = ro->index;

    buf_init(&b, 8192);
    ip_format(&o->remote_ip, ip);
    jw_open(&b, NULL);
    jw_u64(&b, "attempt", h->st.rcpts[i].attempts);
    jw_sv(&b, "host", o->remote_name);
    jw_str(&b, "ip", o->remote_name.n ? ip : "");
    jw_u64(&b, "port", o->remote_port);
    if (hop) {
        jw_sv(&b, "route", hop->route);
        jw_str(&b, "required", tls_level_name(hop->tls.level));
        jw_u64(&b, "required_bits", hop->tls.strength);
        jw_sv(&b, "required_by", hop->tls.why);
    }
    jw_tls(&b, &o->tls);
    jw_u64(&b, "code", ro->code);
    jw_sv(&b, "status", ro->status);
    jw_sv(&b, "reply", ro->reply);
    jw_str(&b, "failure", failure_name(o->failure));
    jw_bool(&b, "reused", o->reused);
    jw_u64(&b, "ms", (o->queue_us + o->connect_us + o->send_us) / 1000);
    if (step && step->kind == STEP_RETRY)
        jw_time(&b, "next", step->at_ms);
    if (step && step->human.n)
        jw_sv(&b, "human", step->human);
    if (o->failure != FAILURE_NONE && o->transcript.n)
        jw_sv(&b, "transcript", sv_take(o->transcript, 3000));
    jw_close(&b);
    track(q, kind, h, h->env.rcpts[i].addr, buf_sv(&b));
    buf_done(&b);
}

static void remember(struct hot *h, const struct outcome *o, const struct rcpt_outcome *ro,
                     const struct step *step, int64_t now)
{
    struct queue_rcpt *r = &h->st.rcpts[ro->index];
    char ip[IP_TEXT_MAX];

    ip_format(&o->remote_ip, ip);
    r->last_ms = now;
    r->failure = o->failure;
    r->code = ro->code;
    r->status = arena_sv(&h->arena, step->status.n ? step->status : ro->status);
    r->reply = arena_sv(&h->arena, ro->reply.n ? ro->reply : step->human);
    r->human = arena_sv(&h->arena, step->human);
    r->remote = o->remote_name.n ? arena_printf(&h->arena, "%.*s[%s]:%u", SV_ARG(o->remote_name),
                                                ip, o->remote_port)
                                 : SV("");
}

static bool warning_due(const struct hot *h, uint32_t i, int64_t now)
{
    uint32_t minutes = h->snap->s->delivery_delay_warning_min;

    return minutes && !h->st.rcpts[i].warned &&
           now - h->env.received_ms >= (int64_t)minutes * 60000;
}

static void after_retry(struct queue *q, struct hot *h, uint32_t i, const struct step *step,
                        int64_t now)
{
    h->st.rcpts[i].next_ms = step->at_ms;
    q->counters[COUNT_DEFERRED]++;
    if (warning_due(h, i, now)) {
        h->st.rcpts[i].warned = true;
        report_add(q, h, REPORT_DELAYED, i);
    }
}

static void after_hold(struct queue *q, struct hot *h, const struct step *step)
{
    h->st.stage = STAGE_HELD;
    h->st.hold = (uint8_t)step->hold;
    h->st.hold_reason = arena_sv(&h->arena, step->human);
    q->counters[COUNT_HELD]++;
    track(q, EVENT_HELD, h, SV(""), SV(""));
}

static void apply(struct queue *q, struct hot *h, const struct outcome *o,
                  const struct rcpt_outcome *ro, const struct hop *hop)
{
    struct queue_rcpt *r = &h->st.rcpts[ro->index];
    int64_t now = loop_clock(q->loop).wall_ms;

    r->attempts++;
    struct plan_in in = {.s = h->snap->s,
                         .d = &h->st.decision,
                         .received_ms = h->env.received_ms,
                         .now_ms = now,
                         .attempts = r->attempts,
                         .failure = (enum failure)o->failure,
                         .outcome = ro,
                         .backup_failed = r->backup_failed};
    struct step step = plan_next(&in, &h->arena);
    remember(h, o, ro, &step, now);
    switch (step.kind) {
    case STEP_DONE:
        r->stage = RCPT_STAGE_DONE;
        q->counters[COUNT_DELIVERED]++;
        track_attempt(q, h, o, ro, EVENT_DELIVERED, NULL, hop);
        if (!o->dsn_offered && (h->env.rcpts[ro->index].notify & NOTIFY_SUCCESS))
            report_add(q, h, REPORT_RELAYED, ro->index);
        return;
    case STEP_BACKUP: /* no further method exists yet: settings_compile refuses to name one */
    case STEP_RETRY:
        track_attempt(q, h, o, ro, EVENT_DELAYED, &step, hop);
        after_retry(q, h, ro->index, &step, now);
        break;
    case STEP_BOUNCE:
        r->stage = RCPT_STAGE_REPORT;
        q->counters[COUNT_BOUNCED]++;
        track_attempt(q, h, o, ro, step.expired ? EVENT_EXPIRED : EVENT_BOUNCED, &step, hop);
        report_add(q, h, REPORT_FAILED, ro->index);
        break;
    case STEP_HOLD:
        track_attempt(q, h, o, ro, EVENT_ATTEMPT, &step, hop);
        after_hold(q, h, &step);
        break;
    }
    if (o->failure >= FAILURE_TLS_NOT_OFFERED && o->failure <= FAILURE_TLS_CERT)
        q->counters[COUNT_TLS_FAILED]++;
}

static void result_durable(struct queue *q, const struct completion *c, enum err err)
{
    struct worker *w = &q->smtp[c->worker];
    struct attempt_ack ack = {.attempt = c->id};

    if (!err && w->ch && w->generation == c->generation)
        role_tell(w->ch, MSG_ATTEMPT_ACK, &ack, -1);
}

/* Recipients that the outcome does not name were never reached: deferred by the whole attempt. */
static bool named(const struct outcome *o, uint32_t index)
{
    for (uint32_t i = 0; i < o->n_rcpts; i++) {
        if (o->rcpts[i].index == index)
            return true;
    }
    return false;
}

static void apply_all(struct queue *q, struct hot *h, const struct outcome *o,
                      const struct qtask *t)
{
    const struct hop *hop = t ? &t->hop : NULL;

    for (uint32_t i = 0; i < o->n_rcpts; i++) {
        uint32_t at = o->rcpts[i].index;
        if (at < h->st.n_rcpts && h->st.rcpts[at].stage == RCPT_STAGE_WAITING)
            apply(q, h, o, &o->rcpts[i], hop);
    }
    for (uint32_t i = 0; t && i < t->n_rcpts; i++) {
        struct rcpt_outcome ro = {.index = t->rcpts[i], .result = RCPT_DEFERRED};
        if (!named(o, t->rcpts[i]) && h->st.rcpts[t->rcpts[i]].stage == RCPT_STAGE_WAITING)
            apply(q, h, o, &ro, hop);
    }
    h->dirty = true;
}

void deliver_done(struct queue *q, uint8_t worker, const struct outcome *o)
{
    struct qtask *t = task_find(q, o->attempt);
    struct qmsg *m = t ? t->hot->m : msg_find(q, o->id);
    struct hot *h = m ? m->hot : NULL;
    struct completion ack = {
        .id = o->attempt, .worker = worker, .generation = q->smtp[worker].generation};

    if (t && (t->worker != worker || t->hot->env.id != o->id)) {
        track_alarm(q, "garbage", "smtp worker %u answered an attempt it does not have", worker);
        return;
    }
    if (m && (!h || h->phase == HOT_LOADED) && !t && m->stage != STAGE_HELD &&
        (h || hot_load(q, m, &h) == ERR_OK)) {
        hot_wake(q, h);
        h->phase = HOT_TASKS; /* result of an attempt made before this process started */
    }
    if (!m || !h || (!t && h->phase != HOT_TASKS)) {
        result_durable(q, &ack, ERR_OK); /* the message is gone or settled: nothing to record */
        return;
    }
    apply_all(q, h, o, t);
    if (t)
        task_end(q, t);
    if (hot_settle(q, h) == ERR_OK)
        on_commit(q, result_durable, ack);
}

void deliver_worker_gone(struct queue *q, uint8_t worker)
{
    int64_t now = loop_clock(q->loop).wall_ms;

    q->smtp[worker].active = 0;
    for (uint32_t s = 0; s < ARRAY_LEN(q->tasks); s++) {
        for (struct qtask *t = q->tasks[s], *next; t; t = next) {
            next = t->next;
            if (t->worker != worker)
                continue;
            struct hot *h = t->hot;
            int64_t at = now + (LOST_DELAY_MS << h->m->losses);
            if (h->m->losses < LOSSES_MAX)
                h->m->losses++;
            const struct outcome lost = {.id = h->env.id, .failure = FAILURE_INTERNAL};
            if (h->m->losses > LOSSES_FREE) /* by the schedule now, until the period ends */
                apply_all(q, h, &lost, t);
            for (uint32_t i = 0; i < t->n_rcpts && h->m->losses <= LOSSES_FREE; i++)
                h->st.rcpts[t->rcpts[i]].next_ms = at;
            h->dirty = true;
            task_end(q, t);
            hot_settle(q, h);
        }
    }
}

/* ---- time ---- */

static void run_one(struct queue *q, struct qmsg *m, int64_t now)
{
    struct hot *h = m->hot;

    if (h && h->idle && h->dirty) { /* what is known of it is recorded first */
        (void)hot_settle(q, h);
        return;
    }
    if (h && h->idle) {
        hot_wake(q, h);
    } else if (h) { /* watchdog: nothing may stay without a next event */
        track_alarm(q, "watchdog", "a message was worked on for too long (phase %d)", h->phase);
        msg_due(q, m, now + TASK_DEADLINE_MS);
        return;
    }
    if (m->id < q->first_new_id && queue_syncing(q)) {
        msg_due(q, m, now + SYNC_DELAY_MS);
        return;
    }
    if (!h && hot_load(q, m, &h)) {
        track_alarm(q, "spool-damage", "a message cannot be loaded; tried again in 10 minutes");
        msg_due(q, m, now + 600000);
        return;
    }
    m->encrypt = h->st.decision.encrypt;
    msg_due(q, m, now + TASK_DEADLINE_MS);
    if (h->st.stage == STAGE_READY) {
        report_again(q, h);
        deliver_due(q, h);
    } else if (h->env.kind != MESSAGE_SMTP) {
        struct facts none = {.scan = SCAN_OK};
        decide_message(q, h, &none);
    } else {
        scan_enqueue(q, h);
    }
}

void queue_run_due(struct queue *q)
{
    int64_t now = loop_clock(q->loop).wall_ms;
    struct qmsg *m;

    q->starved = q->unsettled;
    while (!q->unsettled && (m = msg_first_due(q)) != NULL && m->due_ms <= now) {
        if (!m->hot && q->hot_n >= HOT_MAX) {
            q->starved = true;
            break;
        }
        run_one(q, m, now);
    }
    queue_arm(q);
}

void queue_arm(struct queue *q)
{
    struct qmsg *m = msg_first_due(q);
    int64_t wait = m ? m->due_ms - loop_clock(q->loop).wall_ms : 0;

    if (!m)
        return;
    /* a clock that was set is noticed within the second that the tick takes */
    if (q->starved)
        wait = 50;
    timer_set(q->due_timer, wait < 0 ? 0 : wait > 60000 ? 60000 : (uint64_t)wait);
}
