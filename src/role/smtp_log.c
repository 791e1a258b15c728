/*
 * Log lines of the `smtp` process: a head that Postfix's tools understand (pflogsumm counts it),
 * then key=value. No content, no secrets; base/log escapes what strangers chose.
 */
#include "base/enc.h"
#include "role/json.h"
#include "role/smtp_in.h"
#include "role/smtp_out.h"

#include <inttypes.h>

static void kv_session(struct log_line *l, const struct smtp_in *s)
{
    log_kv_u64(l, "session", s->session);
    log_kv_u64(l, "port", s->peer.port);
}

void smtp_log_kv_tls(struct log_line *l, const struct tls_facts *t)
{
    if (t->version == 0) {
        log_kv(l, "tls", SV("none"));
        return;
    }
    log_kv(l, "tls", t->version >= 0x0304 ? SV("TLSv1.3") : SV("TLSv1.2"));
    log_kv(l, "cipher", t->cipher);
    log_kv_u64(l, "bits", t->bits);
    if (t->resumed)
        log_kv(l, "resumed", SV("yes"));
}

static void log_words(const struct smtp_in *s, enum log_level level, const char *event,
                      const char *words)
{
    struct log_line l = log_begin(level, event);

    log_as(&l, "smtpd");
    log_text(&l, "%s %.*s[%s]", words, SV_ARG(smtp_in_name(s)), s->ip_text);
    kv_session(&l, s);
    log_end(&l);
}

void smtp_log_in(const struct smtp_in *s, const char *event, const char *words)
{
    log_words(s, LOG_INFO, event, words);
}

/* "warning: name[ip]: words"; base/log writes the first word. */
void smtp_log_in_warning(const struct smtp_in *s, const char *event, const char *words)
{
    struct log_line l = log_begin(LOG_WARN, event);

    log_as(&l, "smtpd");
    log_text(&l, "%.*s[%s]: %s", SV_ARG(smtp_in_name(s)), s->ip_text, words);
    kv_session(&l, s);
    log_end(&l);
}

static void tell_queue(struct smtp *m, const char *ip, const char *command, uint16_t code,
                       const char *status, struct sv sender, struct sv rcpt)
{
    struct buf b;

    buf_init(&b, 1024);
    jw_open(&b, NULL);
    jw_str(&b, "ip", ip);
    jw_str(&b, "command", command);
    jw_u64(&b, "code", code);
    jw_str(&b, "status", status);
    jw_close(&b);
    if (!b.overflow)
        smtp_event(m, EVENT_REFUSED, 0, sender, rcpt, buf_sv(&b));
    buf_done(&b);
}

/* Postfix: "NOQUEUE: reject: RCPT from host[ip]: 554 5.7.1 <rcpt>: text; from=<> to=<> proto=
 * helo=" */
void smtp_log_reject(const struct smtp_in *s, const char *command, uint16_t code,
                     const char *status, struct sv text, struct sv rcpt)
{
    const struct envelope *env = smtp_srv_envelope(s->srv);
    struct log_line l = log_begin(LOG_INFO, "refused");

    log_as(&l, "smtpd");
    log_text(&l, "NOQUEUE: reject: %s from %.*s[%s]: %u %s %s%.*s%s%.*s; from=<%.*s>", command,
             SV_ARG(smtp_in_name(s)), s->ip_text, code, status, rcpt.n ? "<" : "", SV_ARG(rcpt),
             rcpt.n ? ">: " : "", SV_ARG(text), SV_ARG(env->sender));
    if (rcpt.n)
        log_text(&l, " to=<%.*s>", SV_ARG(rcpt));
    log_text(&l, " proto=%s helo=<%.*s>", smtp_srv_is_esmtp(s->srv) ? "ESMTP" : "SMTP",
             SV_ARG(smtp_srv_helo(s->srv)));
    kv_session(&l, s);
    log_end(&l);
    tell_queue(s->m, s->ip_text, command, code, status, env->sender, rcpt);
}

void smtp_log_turned_away(struct smtp *m, const char *ip, const char *status, const char *text)
{
    struct log_line l = log_begin(LOG_INFO, "refused");

    log_as(&l, "smtpd");
    log_text(&l, "NOQUEUE: reject: CONNECT from unknown[%s]: 421 %s %s", ip, status, text);
    log_end(&l);
    tell_queue(m, ip, "CONNECT", 421, status, SV(""), SV(""));
}

/* The message is durable: "ID: client=name[ip]" (pflogsumm counts it as received). */
void smtp_log_client(const struct smtp_in *s)
{
    const struct envelope *env = smtp_srv_envelope(s->srv);
    struct log_line l = log_begin(LOG_INFO, "received");
    char id[ID_TEXT_LEN + 1];

    id_format(s->id, id);
    log_as(&l, "smtpd");
    log_text(&l, "%s: client=%.*s[%s]", id, SV_ARG(smtp_in_name(s)), s->ip_text);
    if (s->peer.auth_user.n)
        log_text(&l, ", sasl_method=PLAIN, sasl_username=%.*s", SV_ARG(s->peer.auth_user));
    kv_session(&l, s);
    log_kv_u64(&l, "size", s->body.size);
    log_kv_u64(&l, "nrcpt", env->n_rcpts);
    smtp_log_kv_tls(&l, &s->peer.tls);
    log_end(&l);
}

/* ---- out ---- */

static void put_seconds(struct log_line *l, const char *before, int64_t ms)
{
    ms = ms > 0 ? ms : 0;
    log_text(l, "%s%" PRId64 ".%02d", before, ms / 1000, (int)(ms % 1000 / 10));
}

static void put_relay(struct log_line *l, const struct attempt *a)
{
    char ip[IP_TEXT_MAX];

    if (!a->out.remote_name.n) {
        log_text(l, "relay=none");
        return;
    }
    ip_format(&a->out.remote_ip, ip);
    log_text(l, "relay=%.*s[%s]:%u", SV_ARG(a->out.remote_name), ip, a->out.remote_port);
}

static const char *status_word(uint8_t result)
{
    switch ((enum rcpt_result)result) {
    case RCPT_DELIVERED:
        return "sent";
    case RCPT_FAILED:
        return "bounced";
    case RCPT_PENDING:
    case RCPT_DEFERRED:
        break;
    }
    return "deferred";
}

static const char *status_default(uint8_t result)
{
    return result == RCPT_DELIVERED ? "2.0.0" : result == RCPT_FAILED ? "5.0.0" : "4.0.0";
}

void smtp_log_rcpt(const struct attempt *a, uint32_t i)
{
    const struct rcpt_outcome *r = &a->results[i];
    struct log_line l = log_begin(LOG_INFO, "attempt");
    int64_t age = a->start_wall_ms - a->job.received_ms;
    int64_t took = (int64_t)(a->out.queue_us + a->out.connect_us + a->out.send_us) / 1000;
    char id[ID_TEXT_LEN + 1];

    if (!l.on) {
        log_end(&l);
        return;
    }
    id_format(a->job.id, id);
    log_as(&l, "smtp");
    log_text(&l, "%s: to=<%.*s>, ", id, SV_ARG(a->job.rcpts[i].addr));
    put_relay(&l, a);
    put_seconds(&l, ", delay=", age + took);
    put_seconds(&l, ", delays=", age);
    put_seconds(&l, "/", a->out.queue_us / 1000);
    put_seconds(&l, "/", a->out.connect_us / 1000);
    put_seconds(&l, "/", a->out.send_us / 1000);
    log_text(&l, ", dsn=%.*s, status=%s (%.*s)",
             SV_ARG(r->status.n ? r->status : sv_str(status_default(r->result))),
             status_word(r->result), SV_ARG(sv_take(r->reply, 300)));
    log_kv_u64(&l, "attempt", a->job.attempt);
    log_kv(&l, "route", a->job.hop.route);
    smtp_log_kv_tls(&l, &a->out.tls);
    log_kv(&l, "required", sv_str(tls_level_name(a->req.level)));
    if (a->out.failure != FAILURE_NONE)
        log_kv(&l, "failure", sv_str(failure_name(a->out.failure)));
    if (a->out.reused)
        log_kv(&l, "reused", SV("yes"));
    log_end(&l);
}

void smtp_log_out(const struct attempt *a, const char *event, const char *words)
{
    struct log_line l = log_begin(LOG_INFO, event);
    char id[ID_TEXT_LEN + 1];

    id_format(a->job.id, id);
    log_as(&l, "smtp");
    log_text(&l, "%s: %s", id, words);
    log_kv_u64(&l, "attempt", a->job.attempt);
    log_kv(&l, "host", a->out.remote_name);
    log_end(&l);
}

/* A TLS failure that the sender of the message never hears of, because clear text follows. */
void smtp_log_fallback(const struct attempt *a)
{
    char ip[IP_TEXT_MAX];
    struct buf b;

    smtp_log_out(a, "tls-failed", "TLS failed: trying a new connection in clear");
    ip_format(&a->out.remote_ip, ip);
    buf_init(&b, 2048);
    jw_open(&b, NULL);
    jw_sv(&b, "host", a->out.remote_name);
    jw_str(&b, "ip", ip);
    jw_u64(&b, "port", a->out.remote_port);
    jw_str(&b, "reason", a->note.text);
    jw_str(&b, "then", "clear text");
    jw_close(&b);
    if (!b.overflow)
        smtp_event(a->m, EVENT_TLS_FAILED, a->job.id, a->job.sender, SV(""), buf_sv(&b));
    buf_done(&b);
}
