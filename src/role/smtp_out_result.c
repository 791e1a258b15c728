/*
 * What an attempt came to: results per recipient, the most telling failure, facts of the session,
 * the log lines, and ATTEMPT_DONE, kept until `queue` acknowledges it.
 */
#include "role/smtp_out.h"

#include "crypto/cert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Which failure tells most. With mandatory TLS a TLS failure outranks everything: it is what the
 * sender must be told. Else it is one detail among others. */
static int rank(const struct attempt *a, enum failure f)
{
    int tls = smtp_out_opportunistic(a) ? 3 : 100;

    switch (f) {
    case FAILURE_NONE:
        return -1;
    case FAILURE_DNS_TEMP:
        return 1;
    case FAILURE_DNS_PERM:
        return 0; /* only when nothing else was found */
    case FAILURE_CONNECT:
        return 4;
    case FAILURE_TLS_NOT_OFFERED:
        return tls;
    case FAILURE_TLS_REFUSED:
        return tls + 1;
    case FAILURE_TLS_HANDSHAKE:
        return tls + 2;
    case FAILURE_TLS_WEAK:
        return tls + 3;
    case FAILURE_TLS_CERT:
        return tls + 4;
    case FAILURE_INTERNAL:
        return 10;
    case FAILURE_PROTOCOL:
        return 11;
    case FAILURE_TIMEOUT:
        return 12;
    case FAILURE_AUTH:
        return 13;
    case FAILURE_SMTP_TEMP:
        return 14;
    case FAILURE_8BIT:
    case FAILURE_SIZE:
        return 15;
    case FAILURE_SMTP_PERM:
        return 16;
    case FAILURE_CORRUPT:
        return 1000;
    }
    return 0;
}

void smtp_out_note(struct attempt *a, enum failure f, uint16_t code, const char *status,
                   const char *fmt, ...)
{
    va_list ap;

    if (rank(a, f) < rank(a, a->note.failure))
        return;
    a->note.failure = f;
    a->note.code = code;
    (void)snprintf(a->note.status, sizeof(a->note.status), "%s", status);
    va_start(ap, fmt);
    (void)vsnprintf(a->note.text, sizeof(a->note.text), fmt, ap);
    va_end(ap);
}

static struct tls_facts facts_copy(struct arena *mem, const struct tls_facts *f)
{
    struct tls_facts out = *f;

    out.cipher = arena_sv(mem, f->cipher);
    out.peer_subject = arena_sv(mem, f->peer_subject);
    out.peer_issuer = arena_sv(mem, f->peer_issuer);
    out.peer_sha256 = arena_sv(mem, f->peer_sha256);
    out.verify_error = arena_sv(mem, f->verify_error);
    return out;
}

/* The peer this attempt dealt with last. */
void smtp_out_remote(struct attempt *a, const struct out_conn *c)
{
    a->out.remote_name = arena_sv(&a->mem, c->host);
    a->out.remote_ip = c->ip;
    a->out.remote_port = c->port;
    a->out.tls = facts_copy(&a->mem, &c->facts);
    if (c->cli) {
        a->out.dsn_offered = smtp_cli_dsn_offered(c->cli);
        a->out.transcript = SV("");
        if (smtp_cli_failure(c->cli) != FAILURE_NONE)
            a->out.transcript = arena_sv(&a->mem, smtp_cli_transcript(c->cli));
    }
}

void smtp_out_merge(struct attempt *a, const struct out_conn *c)
{
    uint32_t n = 0;
    const struct smtp_cli_rcpt *r = smtp_cli_results(c->cli, &n);

    for (uint32_t i = 0; i < n && i < a->txn.n_rcpts; i++) {
        struct rcpt_outcome *o = &a->results[a->txn_map[i]];
        o->result = (uint8_t)(r[i].result == RCPT_PENDING ? RCPT_DEFERRED : r[i].result);
        o->code = r[i].code;
        o->status = arena_sv(&a->mem, sv_str(r[i].status));
        o->reply = arena_sv(&a->mem, sv_str(r[i].reply));
    }
    a->out.failure = (uint8_t)smtp_cli_failure(c->cli);
}

uint32_t smtp_out_open(const struct attempt *a)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < a->job.n_rcpts; i++)
        n += a->results[i].result != RCPT_DELIVERED && a->results[i].result != RCPT_FAILED;
    return n;
}

/* A recipient that no transaction reached gets the reason of the whole attempt. */
static void fill_pending(struct attempt *a)
{
    bool final = a->note.failure == FAILURE_DNS_PERM;

    for (uint32_t i = 0; i < a->job.n_rcpts; i++) {
        struct rcpt_outcome *o = &a->results[i];
        if (o->result != RCPT_PENDING)
            continue;
        o->result = final ? RCPT_FAILED : RCPT_DEFERRED;
        o->code = a->note.code;
        o->status = sv_str(a->note.status);
        o->reply = sv_str(a->note.text);
    }
}

/* The failure of the attempt: of its transaction, if that is what the recipients hang on, else what
 * was noted. */
static uint8_t failure_of(const struct attempt *a)
{
    if (a->out.failure != FAILURE_NONE && smtp_out_open(a) == 0)
        return a->out.failure;
    if (rank(a, a->note.failure) > rank(a, (enum failure)a->out.failure))
        return (uint8_t)a->note.failure;
    return a->out.failure;
}

static uint32_t us(int64_t from_ms, int64_t to_ms)
{
    int64_t ms = from_ms && to_ms > from_ms ? to_ms - from_ms : 0;

    return (uint32_t)(ms < 4000000 ? ms * 1000 : 4000000000);
}

static void count(struct attempt *a)
{
    for (uint32_t i = 0; i < a->job.n_rcpts; i++) {
        enum counter c = a->results[i].result == RCPT_DELIVERED ? COUNT_OUT_DELIVERED
                         : a->results[i].result == RCPT_FAILED  ? COUNT_OUT_FAILED
                                                                : COUNT_OUT_DEFERRED;
        smtp_stats_add(&a->m->stats, c, 1);
    }
}

static void close_body(struct attempt *a)
{
    if (a->fd >= 0)
        (void)close(a->fd);
    a->fd = -1;
    if (a->sha)
        sha256_free(a->sha);
    a->sha = NULL;
    free(a->chunk);
    a->chunk = NULL;
}

void smtp_out_finish(struct attempt *a)
{
    struct smtp *m = a->m;
    int64_t now = smtp_now(m);
    bool any_open = smtp_out_open(a) > 0;

    if (any_open && a->out.failure == FAILURE_NONE && a->note.failure == FAILURE_NONE)
        smtp_out_note(a, FAILURE_INTERNAL, 0, "4.3.0", "no address could be tried");
    fill_pending(a);
    a->out.failure = any_open || a->out.failure != FAILURE_NONE ? failure_of(a) : FAILURE_NONE;
    a->out.attempt = a->job.attempt;
    a->out.id = a->job.id;
    a->out.rcpts = a->results;
    a->out.n_rcpts = a->job.n_rcpts;
    int64_t connect_ms = a->connect_ms ? a->connect_ms : now;
    int64_t ready_ms = a->ready_ms ? a->ready_ms : now;
    a->out.queue_us = us(a->start_ms, connect_ms);
    a->out.connect_us = us(connect_ms, ready_ms);
    a->out.send_us = us(ready_ms, now);
    for (uint32_t i = 0; i < a->job.n_rcpts; i++)
        smtp_log_rcpt(a, i);
    count(a);
    a->finished = true;
    list_remove(&a->node);
    list_push_back(&m->unacked, &a->node);
    close_body(a);
    buf_done(&a->raw); /* strings of the job end here: the outcome has its own */
    if (m->queue && ipc_send(m->queue, MSG_ATTEMPT_DONE, &a->out, -1))
        log_msg(LOG_ERROR, "attempt", "a result could not be told; it is kept");
    if (a->orphan && --m->orphans == 0)
        smtp_settings_ack(m);
}

void smtp_out_free(struct attempt *a)
{
    list_remove(&a->node);
    close_body(a);
    buf_done(&a->raw);
    arena_done(&a->mem);
    smtp_snap_unref(a->snap);
    free(a);
}
