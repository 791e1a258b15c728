/* Tracking events of `queue`, and its log lines: one per event. */
#include "role/queue_priv.h"

#include "base/enc.h"
#include "role/json.h"

#include <stdarg.h>
#include <stdio.h>

void jw_tls(struct buf *b, const struct tls_facts *t)
{
    jw_open(b, "tls");
    jw_str(b, "version",
           t->version == 0x0304   ? "TLSv1.3"
           : t->version == 0x0303 ? "TLSv1.2"
           : t->version           ? "other"
                                  : "none");
    if (t->version) {
        jw_sv(b, "cipher", t->cipher);
        jw_u64(b, "bits", t->bits);
        jw_bool(b, "resumed", t->resumed);
        jw_sv(b, "peer", t->peer_subject);
        jw_sv(b, "issuer", t->peer_issuer);
        jw_sv(b, "sha256", t->peer_sha256);
        jw_time(b, "not_after", t->peer_not_after_ms);
        jw_bool(b, "chain_ok", t->chain_ok);
        jw_bool(b, "name_ok", t->name_ok);
        if (t->verify_error.n)
            jw_sv(b, "verify_error", t->verify_error);
    }
    jw_close(b);
}

void jw_decision(struct buf *b, const struct decision *d)
{
    jw_str(b, "direction", direction_name(d->direction));
    jw_str(b, "action", action_name(d->action));
    jw_str(b, "wanted", action_name(d->wanted));
    jw_bool(b, "monitor", d->monitor);
    jw_bool(b, "encrypt", d->encrypt);
    jw_str(b, "method", method_name(d->method));
    if (d->hold)
        jw_str(b, "hold", hold_queue_name(d->hold));
    jw_bool(b, "analysed", d->analysed);
    jw_str(b, "severity", severity_name(d->severity));
    jw_sv(b, "reason", d->reason);
    jw_array(b, "rules");
    for (uint32_t i = 0; i < d->n_fired && i < 50; i++) {
        const struct fired *f = &d->fired[i];
        jw_open(b, NULL);
        jw_sv(b, "policy", f->policy);
        jw_sv(b, "rule", f->rule);
        jw_str(b, "action", action_name(f->action));
        jw_str(b, "severity", severity_name(f->severity));
        jw_u64(b, "matches", f->matches);
        jw_sv(b, "why", f->why);
        jw_close(b);
    }
    jw_array_end(b);
}

static void line(const struct hot *h, enum event_kind kind, struct sv rcpt)
{
    char id[ID_TEXT_LEN + 1];
    struct log_line l = log_begin(LOG_INFO, event_name((uint8_t)kind));

    if (!l.on)
        return;
    log_as(&l, "qmgr");
    id_format(h->env.id, id);
    if (kind == EVENT_RECEIVED)
        log_text(&l, "%s: from=<%.*s>, size=%llu, nrcpt=%u (queue active)", id,
                 SV_ARG(h->env.sender), (unsigned long long)h->env.size, h->env.n_rcpts);
    else if (kind == EVENT_DONE)
        log_text(&l, "%s: removed", id);
    else
        log_text(&l, "%s: %s", id, event_name((uint8_t)kind));
    if (rcpt.n)
        log_kv(&l, "to", rcpt);
    if (kind == EVENT_DECIDED) {
        const struct decision *d = &h->st.decision;
        log_kv(&l, "direction", sv_str(direction_name(d->direction)));
        log_kv(&l, "action", sv_str(action_name(d->action)));
        log_kv_u64(&l, "revision", d->revision);
        if (d->n_fired) {
            log_kv(&l, "policy", d->fired[0].policy);
            log_kv(&l, "rule", d->fired[0].rule);
        }
    }
    if (kind == EVENT_HELD) {
        log_kv(&l, "queue", sv_str(hold_queue_name(h->st.hold)));
        log_kv(&l, "reason", h->st.hold_reason);
    }
    log_end(&l);
}

void track(struct queue *q, enum event_kind kind, const struct hot *h, struct sv rcpt,
           struct sv detail)
{
    struct event e = {.at_ms = loop_clock(q->loop).wall_ms,
                      .kind = (uint8_t)kind,
                      .rcpt = rcpt,
                      .detail = detail,
                      .revision = q->snap->s->revision};

    if (h) {
        e.id = h->env.id;
        e.parent = h->env.parent;
        e.sender = h->env.sender;
        e.subject = h->env.subject;
        e.message_id = h->env.message_id;
        if (h->st.decision.revision)
            e.revision = h->st.decision.revision;
    }
    struct buf b;
    buf_init(&b, 16384);
    if (h && kind == EVENT_RECEIVED) {
        char ip[IP_TEXT_MAX];
        ip_format(&h->env.peer.ip, ip);
        jw_open(&b, NULL);
        jw_str(&b, "client", ip);
        jw_sv(&b, "helo", h->env.peer.helo);
        jw_sv(&b, "user", h->env.peer.auth_user);
        jw_u64(&b, "size", h->env.size);
        jw_u64(&b, "recipients", h->env.n_rcpts);
        jw_sv(&b, "first_recipient", h->env.rcpts[0].addr);
        jw_tls(&b, &h->env.peer.tls);
        jw_close(&b);
        e.detail = buf_sv(&b);
    } else if (h && kind == EVENT_HELD && !detail.n) {
        jw_open(&b, NULL);
        jw_str(&b, "queue", hold_queue_name(h->st.hold));
        jw_sv(&b, "reason", h->st.hold_reason);
        jw_close(&b);
        e.detail = buf_sv(&b);
    }
    eventlog_add(q->events, &e);
    buf_done(&b);
    if (h && kind != EVENT_DELIVERED && kind != EVENT_DELAYED && kind != EVENT_ATTEMPT)
        line(h, kind, rcpt); /* attempts are logged by the worker that made them */
}

void track_alarm(struct queue *q, const char *what, const char *fmt, ...)
{
    char text[256];
    struct buf b;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    log_msg(LOG_ERROR, "alarm", "%s: %s", what, text);
    if (!q->events)
        return;
    buf_init(&b, 2048);
    jw_open(&b, NULL);
    jw_str(&b, "alarm", what);
    jw_str(&b, "text", text);
    jw_close(&b);
    q->counters[COUNT_ALARMS]++;
    track(q, EVENT_ALARM, NULL, SV(""), buf_sv(&b));
    buf_done(&b);
}
