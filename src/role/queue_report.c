/*
 * Delivery status notifications (RFC 3464) and notices. The text is built by a `content` worker,
 * since the original's header must be read for it; if that fails twice, a report without any of the
 * original is built here. A report and the state that says so are one batch: the report first, so
 * that a torn batch makes it again instead of losing it (queue.c drops the orphan).
 *
 * A report about an Encrypt-marked message is sealed: it carries nothing of it and travels under
 * the same requirement. A bounce is never bounced: its end is told to delivery.ndr_failure_address.
 */
#include "role/queue_priv.h"

#include "base/enc.h"
#include "base/utf8.h"
#include "codec/dsn.h"
#include "crypto/cert.h"

#include <stdlib.h>

#define REPORT_TRIES    2
#define REPORT_AGAIN_MS 60000 /* a report that could not be stored is made anew after this */
#define REPORT_BODY_MAX (16u * 1024 * 1024)

static struct sv fqdn(const struct queue *q, const struct hot *h)
{
    struct sv name = h->snap->s->general_fqdn;

    return name.n ? name : q->hostname;
}

static struct sv sender_of_reports(struct queue *q, struct hot *h)
{
    struct sv from = h->snap->s->general_sender_address;

    if (from.n)
        return from;
    return arena_printf(&h->arena, "mailer-daemon@%.*s", SV_ARG(fqdn(q, h)));
}

static struct sv administrator(struct queue *q, struct hot *h)
{
    const struct settings *s = h->snap->s;

    if (s->delivery_ndr_failure_address.n)
        return s->delivery_ndr_failure_address;
    if (s->general_administrator_address.n)
        return s->general_administrator_address;
    return arena_printf(&h->arena, "postmaster@%.*s", SV_ARG(fqdn(q, h)));
}

/* ---- what is to be told ---- */

static struct report_job *pending(struct hot *h, enum report kind)
{
    LIST_FOREACH (n, &h->reports) {
        struct report_job *r = LIST_ENTRY(n, struct report_job, node);
        if (r->kind == kind && list_linked(&r->in_queue))
            return r;
    }
    return NULL;
}

static void enqueue(struct queue *q, struct hot *h, enum report kind, uint32_t rcpt)
{
    struct report_job *r = pending(h, kind);

    if (!r) {
        r = calloc(1, sizeof(*r));
        if (!r)
            abort();
        r->hot = h;
        r->kind = kind;
        r->rcpts = calloc(h->env.n_rcpts, sizeof(*r->rcpts));
        if (!r->rcpts)
            abort();
        list_push_back(&h->reports, &r->node);
        list_push_back(&q->report_queue, &r->in_queue);
    }
    r->rcpts[r->n_rcpts++] = rcpt;
}

void report_add(struct queue *q, struct hot *h, enum report kind, uint32_t rcpt)
{
    bool smtp = h->env.kind == MESSAGE_SMTP;

    if (smtp ? h->env.sender.n && report_due(&h->env, &h->env.rcpts[rcpt], kind)
             : h->env.kind == MESSAGE_DSN && kind == REPORT_FAILED) {
        enqueue(q, h, kind, rcpt);
        return;
    }
    if (kind != REPORT_FAILED)
        return;
    h->st.rcpts[rcpt].stage = RCPT_STAGE_BOUNCED;
    if (h->env.kind == MESSAGE_NOTICE)
        track_alarm(q, "notice-lost", "a notice to the administrator could not be delivered");
}

void report_again(struct queue *q, struct hot *h)
{
    int64_t now = loop_clock(q->loop).wall_ms;

    for (uint32_t i = 0; i < h->st.n_rcpts; i++) {
        int64_t wait = h->st.rcpts[i].next_ms - now; /* longer: the clock was wrong */
        if (h->st.rcpts[i].stage == RCPT_STAGE_REPORT && (wait <= 0 || wait > REPORT_AGAIN_MS))
            report_add(q, h, REPORT_FAILED, i);
    }
}

bool report_pending(const struct queue *q)
{
    return !list_empty(&q->report_queue);
}

/* ---- building ---- */

static enum dsn_action action_of(enum report kind)
{
    switch (kind) {
    case REPORT_FAILED:
        return DSN_FAILED;
    case REPORT_DELAYED:
        return DSN_DELAYED;
    case REPORT_RELAYED:
        return DSN_RELAYED;
    case REPORT_DELIVERED:
        return DSN_DELIVERED;
    }
    return DSN_FAILED;
}

static struct dsn_rcpt *dsn_rcpts(const struct report_job *r)
{
    struct hot *h = r->hot;
    struct dsn_rcpt *list = ARENA_ARRAY(&h->arena, struct dsn_rcpt, r->n_rcpts);

    for (uint32_t i = 0; list && i < r->n_rcpts; i++) {
        const struct queue_rcpt *s = &h->st.rcpts[r->rcpts[i]];
        list[i] = (struct dsn_rcpt){
            .rcpt = h->env.rcpts[r->rcpts[i]],
            .action = (uint8_t)action_of(r->kind),
            .status = s->status,
            .remote_mta = s->remote,
            .diagnostic = s->code ? s->reply : SV(""), /* a reply begins with its code */
            .human = s->human,
            .last_attempt_ms = s->last_ms,
            .will_retry_until_ms =
                r->kind == REPORT_DELAYED
                    ? h->env.received_ms + (int64_t)h->snap->s->delivery_max_retry_min * 60000
                    : 0};
    }
    return list;
}

static bool is_notice(const struct report_job *r)
{
    return r->hot->env.kind != MESSAGE_SMTP;
}

static struct sv notice_text(const struct report_job *r)
{
    if (!is_notice(r))
        return SV("");
    return arena_printf(&r->hot->arena,
                        "A delivery report could not be delivered to the sender it is meant for.\n"
                        "\nSender: %.*s\nReason: %.*s\n",
                        SV_ARG(r->hot->env.rcpts[r->rcpts[0]].addr),
                        SV_ARG(r->hot->st.rcpts[r->rcpts[0]].reply));
}

void report_dispatch(struct queue *q, struct worker *w, uint8_t index)
{
    struct report_job *r = LIST_ENTRY(q->report_queue.next, struct report_job, in_queue);
    struct hot *h = r->hot;
    int fd = -1;

    (void)index;
    list_remove(&r->in_queue);
    struct job job = {.job = ++q->next_job,
                      .kind = is_notice(r) ? JOB_NOTICE : JOB_DSN,
                      .id = h->env.id,
                      .revision = h->snap->s->revision,
                      .env = h->env,
                      .sealed = h->st.decision.encrypt || h->env.sealed,
                      .reporting_mta = fqdn(q, h),
                      .from = sender_of_reports(q, h),
                      .to = is_notice(r) ? administrator(q, h) : h->env.sender,
                      .notice = notice_text(r),
                      .dsn_rcpts = dsn_rcpts(r),
                      .n_dsn_rcpts = r->n_rcpts,
                      .body_key = h->env.body_key};
    if (h->env.file.n)
        fd = hot_body_fd(q, h);
    else if (hot_body(q, h) == ERR_OK)
        job.body = buf_sv(&h->body);
    if (!job.dsn_rcpts || ipc_send(w->ch, MSG_JOB, &job, fd)) {
        report_failed(q, r);
        return;
    }
    w->jobs[w->n_jobs++] = (struct job_slot){
        .job = job.job, .hot = h, .report = r, .sent_ms = loop_clock(q->loop).mono_ms};
}

/* ---- sending ---- */

static void envelope_of_report(struct queue *q, const struct report_job *r, struct sv body,
                               struct envelope *out_env)
{
    struct hot *h = r->hot;
    struct rcpt *to = ARENA_NEW(&h->arena, struct rcpt);
    uint8_t *digest = arena_alloc(&h->arena, 32);

    if (!to || !digest)
        abort();
    sha256_once(body, digest);
    to->addr = is_notice(r) ? administrator(q, h) : h->env.sender;
    to->notify = NOTIFY_NEVER;
    *out_env = (struct envelope){.id = queue_new_id(q),
                                 .parent = h->env.id,
                                 .received_ms = loop_clock(q->loop).wall_ms,
                                 .body_type = sv_is_ascii(body) ? BODY_7BIT : BODY_8BITMIME,
                                 .size = body.n,
                                 .sha256 = sv_of((const char *)digest, 32),
                                 .subject = is_notice(r) ? SV("Undeliverable delivery report")
                                                         : SV("Delivery status notification"),
                                 .kind = is_notice(r) ? MESSAGE_NOTICE : MESSAGE_DSN,
                                 .sealed = h->st.decision.encrypt || h->env.sealed,
                                 .rcpts = to,
                                 .n_rcpts = 1};
}

static void stage_rcpts(const struct report_job *r, enum rcpt_stage from, enum rcpt_stage to,
                        int64_t next_ms)
{
    for (uint32_t i = 0; r->kind == REPORT_FAILED && i < r->n_rcpts; i++) {
        struct queue_rcpt *s = &r->hot->st.rcpts[r->rcpts[i]];
        if (s->stage != from)
            continue;
        s->stage = (uint8_t)to;
        s->next_ms = next_ms;
    }
}

static void end(struct queue *q, struct report_job *r)
{
    struct hot *h = r->hot;

    list_remove(&r->node);
    list_remove(&r->in_queue);
    free(r->rcpts);
    free(r);
    (void)hot_settle(q, h);
}

static void not_made(struct queue *q, struct report_job *r, enum rcpt_stage from)
{
    int64_t now = loop_clock(q->loop).wall_ms;

    stage_rcpts(r, from, RCPT_STAGE_REPORT, now + REPORT_AGAIN_MS);
    r->hot->dirty = true;
    end(q, r);
}

/* Until now the message could not end: were the batch lost, the report would be lost with it. */
static void report_durable(struct queue *q, const struct completion *c, enum err err)
{
    struct qmsg *m = msg_find(q, c->tag);
    struct report_job *r = NULL;

    if (!m || !m->hot)
        return;
    LIST_FOREACH (n, &m->hot->reports) {
        if (LIST_ENTRY(n, struct report_job, node)->made == c->id)
            r = LIST_ENTRY(n, struct report_job, node);
    }
    if (r && err)
        not_made(q, r, RCPT_STAGE_BOUNCED);
    else if (r)
        end(q, r);
}

void report_built(struct queue *q, struct report_job *r, struct sv body)
{
    struct hot *h = r->hot;
    struct envelope env;
    char id[ID_TEXT_LEN + 1];

    envelope_of_report(q, r, body, &env);
    enum err err = queue_put_own(q, &env, body);
    if (err) { /* the recipients stay in stage REPORT: made again when the disk has room */
        track_alarm(q, "spool", "a report could not be stored: %s", err_name(err));
        not_made(q, r, RCPT_STAGE_REPORT);
        return;
    }
    r->made = h->st.last_report = env.id;
    q->counters[COUNT_REPORTS]++;
    id_format(env.id, id);
    track(q, EVENT_DSN, h, env.rcpts[0].addr,
          arena_printf(&h->arena, "{\"report\":\"%s\",\"kind\":\"%s\"}", id,
                       r->kind == REPORT_FAILED    ? "failed"
                       : r->kind == REPORT_DELAYED ? "delayed"
                                                   : "relayed"));
    stage_rcpts(r, RCPT_STAGE_REPORT, RCPT_STAGE_BOUNCED, 0);
    h->dirty = true;
    (void)hot_settle(q, h); /* busy: only its state is written, in the batch of the report */
    on_commit(q, report_durable, (struct completion){.id = env.id, .tag = h->m->id});
}

/* Without the original: every fact a person needs, nothing that had to be parsed. */
static void build_bare(struct queue *q, struct report_job *r)
{
    struct hot *h = r->hot;
    struct rng rng = rng_system();
    struct buf body;
    char id[ID_TEXT_LEN + 1];

    buf_init(&body, REPORT_BODY_MAX);
    id_format(queue_new_id(q), id);
    struct dsn_in in = {.env = &h->env,
                        .rcpts = dsn_rcpts(r),
                        .n_rcpts = r->n_rcpts,
                        .reporting_mta = fqdn(q, h),
                        .from = sender_of_reports(q, h),
                        .notice = notice_text(r),
                        .sealed = h->st.decision.encrypt || h->env.sealed,
                        .headers_only = true,
                        .message_id = arena_printf(&h->arena, "<%s@%.*s>", id, SV_ARG(fqdn(q, h))),
                        .boundary =
                            arena_printf(&h->arena, "=_%s_%08x", id, (unsigned)rng_u64(&rng)),
                        .now_ms = loop_clock(q->loop).wall_ms};
    if (in.rcpts && dsn_build(&in, &body) == ERR_OK)
        report_built(q, r, buf_sv(&body));
    else
        not_made(q, r, RCPT_STAGE_REPORT);
    buf_done(&body);
}

void report_failed(struct queue *q, struct report_job *r)
{
    if (++r->tries >= REPORT_TRIES)
        build_bare(q, r);
    else
        list_push_back(&q->report_queue, &r->in_queue);
}
