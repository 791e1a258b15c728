/*
 * Listing queued messages and acting on them by filter. Filters are all optional and all must hold:
 * id, sender, recipient, domain (of a recipient), reason (substring of the last reply), queue (name
 * of a hold queue, or "delayed", "new"), older_min.
 */
#include "role/queue_ctl.h"

#include "base/enc.h"
#include "role/json.h"

#include <sysexits.h>

struct filter {
    uint64_t id;
    bool bad_id;
    struct sv sender, recipient, domain, reason, queue;
    uint64_t older_min;
};

static struct filter filter_of(const json_t *args)
{
    struct filter f = {.sender = ctl_arg(args, "sender"),
                       .recipient = ctl_arg(args, "recipient"),
                       .domain = ctl_arg(args, "domain"),
                       .reason = ctl_arg(args, "reason"),
                       .queue = ctl_arg(args, "queue"),
                       .older_min = ctl_arg_u64(args, "older_min", 0)};
    struct sv id = ctl_arg(args, "id");

    if (id.n && !id_parse(id, &f.id))
        f.bad_id = true;
    return f;
}

static bool contains(struct sv v, struct sv part)
{
    for (size_t i = 0; part.n && i + part.n <= v.n; i++) {
        if (sv_eq_nocase(sv_take(sv_skip(v, i), part.n), part))
            return true;
    }
    return part.n == 0;
}

static bool stage_matches(const struct qmsg *m, struct sv queue)
{
    if (!queue.n)
        return true;
    if (m->stage == STAGE_HELD)
        return sv_eq_nocase(queue, SV("held")) ||
               sv_eq_nocase(queue, sv_str(hold_queue_name(m->hold)));
    return sv_eq_nocase(queue, m->stage == STAGE_NEW ? SV("new") : SV("delayed"));
}

static bool rcpt_matches(const struct filter *f, const struct rcpt *r, const struct queue_rcpt *s)
{
    size_t at = sv_rfind_byte(r->addr, '@');
    struct sv domain = at == SIZE_MAX ? SV("") : sv_skip(r->addr, at + 1);

    return contains(r->addr, f->recipient) && (!f->domain.n || sv_eq_nocase(domain, f->domain)) &&
           contains(s->reply, f->reason);
}

static bool content_matches(const struct filter *f, const struct hot *h, int64_t now)
{
    if (!contains(h->env.sender, f->sender))
        return false;
    if (f->older_min && now - h->env.received_ms < (int64_t)f->older_min * 60000)
        return false;
    if (!f->recipient.n && !f->domain.n && !f->reason.n)
        return true;
    for (uint32_t i = 0; i < h->env.n_rcpts; i++) {
        if (rcpt_matches(f, &h->env.rcpts[i], &h->st.rcpts[i]))
            return true;
    }
    return false;
}

static bool needs_content(const struct filter *f)
{
    return f->sender.n || f->recipient.n || f->domain.n || f->reason.n || f->older_min;
}

/* Calls fn for each match, with the message loaded; a cold one is cooled again afterwards unless fn
 * took it. fn returns false to stop. */
static void each_match(struct queue *q, const struct filter *f, bool load,
                       bool (*fn)(void *ctx, struct qmsg *m, struct hot *h), void *ctx)
{
    int64_t now = loop_clock(q->loop).wall_ms;
    bool on = true;

    for (uint32_t i = 0; on && i < q->msgs_cap; i++) {
        for (struct qmsg *m = q->msgs[i], *next; on && m; m = next) {
            next = m->next;
            bool was_hot = m->hot != NULL;
            struct hot *h = m->hot;
            if ((f->id && m->id != f->id) || !stage_matches(m, f->queue))
                continue;
            if ((load || needs_content(f)) && !h && hot_load(q, m, &h))
                continue;
            uint64_t id = m->id;
            if (!needs_content(f) || content_matches(f, h, now))
                on = fn(ctx, m, h);
            m = msg_find(q, id);
            if (m && !was_hot && m->hot && !m->hot->idle && !m->hot->tasks &&
                list_empty(&m->hot->reports))
                hot_free(q, m->hot);
        }
    }
}

/* ---- list, show, count ---- */

struct listing {
    struct queue *q;
    struct ipc *ch;
    uint64_t tag, limit, n;
    bool full;
};

static void jw_rcpts(struct buf *b, const struct hot *h, uint64_t most)
{
    static const char *const stages[] = {"waiting", "delivered", "report", "bounced", "dropped"};

    jw_array(b, "recipients");
    for (uint32_t i = 0; i < h->env.n_rcpts && i < most; i++) {
        const struct queue_rcpt *r = &h->st.rcpts[i];
        jw_open(b, NULL);
        jw_sv(b, "address", h->env.rcpts[i].addr);
        jw_str(b, "state", r->stage < ARRAY_LEN(stages) ? stages[r->stage] : "?");
        jw_u64(b, "attempts", r->attempts);
        jw_time(b, "next", r->stage == RCPT_STAGE_WAITING ? r->next_ms : 0);
        jw_time(b, "last", r->last_ms);
        jw_str(b, "failure", failure_name(r->failure));
        jw_u64(b, "code", r->code);
        jw_sv(b, "status", r->status);
        jw_sv(b, "reason", r->reply);
        jw_sv(b, "remote", r->remote);
        jw_close(b);
    }
    jw_array_end(b);
}

static void jw_message(struct buf *b, const struct qmsg *m, const struct hot *h, bool full)
{
    jw_open(b, NULL);
    jw_id(b, "id", m->id);
    jw_id(b, "parent", h->env.parent);
    jw_str(b, "queue",
           m->stage == STAGE_HELD  ? hold_queue_name(m->hold)
           : m->stage == STAGE_NEW ? "new"
                                   : "delayed");
    jw_bool(b, "active", h->tasks || (h->phase != HOT_TASKS && h->phase != HOT_LOADED));
    jw_sv(b, "sender", h->env.sender);
    jw_sv(b, "subject", h->env.subject);
    jw_u64(b, "size", h->env.size);
    jw_time(b, "received", h->env.received_ms);
    jw_bool(b, "encrypt", h->st.decision.encrypt || h->env.sealed);
    jw_time(b, "next", m->stage == STAGE_HELD ? 0 : m->due_ms);
    if (m->stage == STAGE_HELD)
        jw_sv(b, "reason", h->st.hold_reason);
    jw_u64(b, "recipient_count", h->env.n_rcpts);
    jw_rcpts(b, h, full ? RCPTS_MAX : 5);
    if (full) {
        jw_open(b, "decision");
        jw_decision(b, &h->st.decision);
        jw_close(b);
        jw_sv(b, "message_id", h->env.message_id);
        jw_tls(b, &h->env.peer.tls);
    }
    jw_close(b);
}

static bool list_one(void *ctx, struct qmsg *m, struct hot *h)
{
    struct listing *l = ctx;
    struct buf b;

    if (l->n++ >= l->limit || !h)
        return true; /* goes on counting */
    buf_init(&b, 8u * 1024 * 1024);
    jw_message(&b, m, h, l->full);
    ctl_reply(l->ch, l->tag, true, EX_OK, &b);
    buf_done(&b);
    return true;
}

void ctl_list(struct queue *q, struct ipc *ch, uint64_t tag, const char *verb, const json_t *args)
{
    struct filter f = filter_of(args);
    bool count = strcmp(verb, "count") == 0;
    struct listing l = {.q = q,
                        .ch = ch,
                        .tag = tag,
                        .full = strcmp(verb, "show") == 0,
                        .limit = count ? 0 : ctl_arg_u64(args, "limit", 100)};
    struct buf b;

    if (f.bad_id || (l.full && !f.id)) {
        ctl_fail(ch, tag, EX_USAGE, "id: a queue id of 13 characters is needed");
        return;
    }
    each_match(q, &f, !count, list_one, &l);
    if (l.full && !l.n) {
        ctl_fail(ch, tag, EX_NOINPUT, "no message with this id is in the queue");
        return;
    }
    buf_init(&b, 256);
    jw_open(&b, NULL);
    jw_u64(&b, "matched", l.n);
    jw_u64(&b, "shown", l.n < l.limit ? l.n : l.limit);
    jw_close(&b);
    ctl_reply(ch, tag, false, EX_OK, &b);
    buf_done(&b);
}

/* ---- actions ---- */

struct acting {
    struct queue *q;
    const char *verb;
    struct sv user;
    bool in_clear;
    uint64_t matched, done, busy, unfit;
};

static void track_by(struct queue *q, struct hot *h, enum event_kind kind, const struct acting *a)
{
    struct buf b;

    buf_init(&b, 1024);
    jw_open(&b, NULL);
    jw_sv(&b, "by", a->user);
    jw_str(&b, "action", a->verb);
    jw_bool(&b, "in_clear", a->in_clear);
    jw_close(&b);
    track(q, kind, h, SV(""), buf_sv(&b));
    buf_done(&b);
}

static bool do_retry(struct queue *q, struct hot *h, const struct acting *a)
{
    (void)a;
    if (h->st.stage == STAGE_HELD)
        return false;
    for (uint32_t i = 0; i < h->st.n_rcpts; i++)
        h->st.rcpts[i].next_ms = 0;
    h->dirty |= h->st.stage == STAGE_READY;
    h->phase = HOT_TASKS;
    (void)hot_settle(q, h);
    return true;
}

static bool do_hold(struct queue *q, struct hot *h, const struct acting *a)
{
    if (h->st.stage == STAGE_HELD)
        return false;
    h->st.stage = STAGE_HELD;
    h->st.hold = HOLD_ADMIN;
    h->st.hold_reason = arena_printf(&h->arena, "held by %.*s", SV_ARG(a->user));
    h->dirty = true;
    h->phase = HOT_TASKS;
    track_by(q, h, EVENT_HELD, a);
    (void)hot_settle(q, h);
    return true;
}

/* A message that was never decided goes back to the scan. What could not be scanned, or was to be
 * encrypted on release, leaves encrypted unless the administrator said otherwise; a message that
 * was marked Encrypt and then held stays marked, whatever is said. */
static bool do_release(struct queue *q, struct hot *h, const struct acting *a)
{
    struct decision *d = &h->st.decision;
    bool decided = d->revision != 0;

    if (h->st.stage != STAGE_HELD)
        return false;
    bool marked = d->action == ACTION_ENCRYPT; /* before it was held, for damage say */
    if (decided && (h->st.hold == HOLD_EXCEPTION || d->encrypt_on_release) && !marked)
        d->encrypt = !a->in_clear;
    d->encrypt_on_release = false;
    if (d->encrypt && d->method == METHOD_NONE)
        d->method = (uint8_t)h->snap->s->encryption_method;
    d->action = d->encrypt ? ACTION_ENCRYPT : ACTION_PERMIT;
    h->st.stage = decided ? STAGE_READY : STAGE_NEW;
    h->st.hold = HOLD_NONE;
    h->m->encrypt = d->encrypt;
    for (uint32_t i = 0; i < h->st.n_rcpts; i++)
        h->st.rcpts[i].next_ms = 0;
    h->dirty = true;
    h->phase = HOT_TASKS;
    track_by(q, h, EVENT_RELEASED, a);
    (void)hot_settle(q, h);
    return true;
}

static bool do_drop(struct queue *q, struct hot *h, const struct acting *a)
{
    for (uint32_t i = 0; i < h->st.n_rcpts; i++) {
        if (h->st.rcpts[i].stage == RCPT_STAGE_WAITING)
            h->st.rcpts[i].stage = RCPT_STAGE_DROPPED;
    }
    q->counters[COUNT_DROPPED]++;
    track_by(q, h, EVENT_DROPPED, a);
    h->dirty = true;
    h->phase = HOT_TASKS;
    (void)hot_settle(q, h);
    return true;
}

/* What was never decided, could not be scanned or was to be encrypted on release is reported on as
 * if it were marked: the report tells nothing of it. */
static void seal_unknown(struct hot *h)
{
    struct decision *d = &h->st.decision;

    if (!d->revision || h->st.hold == HOLD_EXCEPTION || d->encrypt_on_release)
        d->encrypt = h->m->encrypt = true;
    if (d->encrypt && d->method == METHOD_NONE)
        d->method = METHOD_TLS;
}

static bool do_bounce(struct queue *q, struct hot *h, const struct acting *a)
{
    int64_t now = loop_clock(q->loop).wall_ms;

    if (h->env.kind == MESSAGE_SMTP)
        seal_unknown(h);
    h->st.stage = STAGE_READY;
    h->st.hold = HOLD_NONE;
    h->phase = HOT_TASKS;
    h->dirty = true;
    track_by(q, h, EVENT_BOUNCED, a);
    for (uint32_t i = 0; i < h->st.n_rcpts; i++) {
        struct queue_rcpt *r = &h->st.rcpts[i];
        if (r->stage != RCPT_STAGE_WAITING)
            continue;
        r->stage = RCPT_STAGE_REPORT;
        r->last_ms = r->next_ms = now;
        r->status = SV("5.7.0");
        r->code = 0;
        r->reply = r->human = SV("returned by the administrator of the gateway");
        q->counters[COUNT_BOUNCED]++;
        report_add(q, h, REPORT_FAILED, i);
    }
    (void)hot_settle(q, h);
    return true;
}

static bool (*action_of(const char *verb))(struct queue *, struct hot *, const struct acting *)
{
    static const struct {
        const char *verb;
        bool (*fn)(struct queue *, struct hot *, const struct acting *);
    } actions[] = {{"retry", do_retry},
                   {"hold", do_hold},
                   {"release", do_release},
                   {"drop", do_drop},
                   {"bounce", do_bounce}};

    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        if (strcmp(actions[i].verb, verb) == 0)
            return actions[i].fn;
    }
    return NULL;
}

static bool act_one(void *ctx, struct qmsg *m, struct hot *h)
{
    struct acting *a = ctx;

    a->matched++;
    if (m->hot && (h->tasks || h->phase != HOT_TASKS) && m->stage != STAGE_HELD &&
        h->phase != HOT_LOADED)
        a->busy++;
    else if (action_of(a->verb)(a->q, h, a))
        a->done++;
    else
        a->unfit++;
    return true;
}

void ctl_act(struct queue *q, struct ipc *ch, uint64_t tag, const char *verb, const json_t *args,
             struct sv user)
{
    struct filter f = filter_of(args);
    struct acting a = {.q = q,
                       .verb = verb,
                       .user = user.n ? user : SV("local"),
                       .in_clear = json_is_true(json_object_get(args, "in_clear"))};
    struct buf b;

    if (!action_of(verb)) {
        ctl_fail(ch, tag, EX_USAGE, "unknown queue verb");
        return;
    }
    if (f.bad_id || (!f.id && !needs_content(&f) && !f.queue.n)) {
        ctl_fail(ch, tag, EX_USAGE,
                 "a filter is needed: id, sender, recipient, domain, reason, "
                 "queue or older_min");
        return;
    }
    each_match(q, &f, true, act_one, &a);
    buf_init(&b, 512);
    jw_open(&b, NULL);
    jw_u64(&b, "matched", a.matched);
    jw_u64(&b, "done", a.done);
    jw_u64(&b, "being_delivered", a.busy);
    jw_u64(&b, "not_applicable", a.unfit);
    jw_close(&b);
    ctl_reply(ch, tag, false, a.done || !a.matched ? EX_OK : EX_TEMPFAIL, &b);
    buf_done(&b);
}
