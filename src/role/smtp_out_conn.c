/*
 * One connection out: connect, the pump between connection and client machine, TLS, the gate, the
 * pool.
 *
 * The gate: no transaction is begun unless smtp_out_may_begin accepts what is known about the
 * session, and that is asked before each transaction, kept connections included.
 *
 * SECURITY: reads replies of hostile servers and hands them to the machine unseen. Every state has
 * a deadline.
 */
#include "role/smtp_out.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define OUT_READ     (16u * 1024) /* what the machine takes at a time */
#define QUIT_MS      (5 * 1000)
#define HANDSHAKE_MS (60 * 1000)
#define WAITS_MAX    4 /* time limits that one answer may take in pieces */
#define POOL_MAX     300

enum flow { FLOW_ON, FLOW_WAIT, FLOW_END };

static void oc_pump(struct out_conn *c);
static void on_ready(void *ctx)
{
    oc_pump(ctx);
}
static void on_deadline(void *ctx);
const struct conn_handler smtp_out_handler = {on_ready, on_deadline};

/* ---- life ---- */

void smtp_out_conn_free(struct out_conn *c)
{
    struct smtp *m = c->m;

    smtp_pool_remove(&m->pool, &c->pool);
    conn_close(&c->conn);
    smtp_cli_free(c->cli);
    smtp_snap_unref(c->snap);
    buf_done(&c->left);
    arena_done(&c->mem);
    free(c);
    m->n_out--;
    smtp_out_room(m);
}

/* Takes the connection from its attempt. */
struct attempt *smtp_out_detach(struct out_conn *c)
{
    struct attempt *a = c->job;

    c->job = NULL;
    if (a)
        a->conn = NULL;
    return a;
}

void smtp_out_conn_quit(struct out_conn *c)
{
    c->state = OUT_RUN;
    smtp_cli_quit(c->cli);
    oc_pump(c);
}

static void park(struct out_conn *c)
{
    int64_t idle_ms = (int64_t)c->snap->s->delivery_connection_idle_s * 1000;

    c->state = OUT_IDLE;
    c->begun = c->dot_given = false;
    smtp_pool_put(&c->m->pool, &c->pool);
    conn_deadline(&c->conn, smtp_now(c->m) + idle_ms);
}

static bool worth_keeping(const struct out_conn *c)
{
    const struct settings *s = c->snap->s;

    return s->delivery_connection_idle_s && c->used < s->delivery_connection_reuse &&
           c->left.n == 0 && c->m->pool.n < POOL_MAX && !c->m->stopping &&
           list_empty(&c->m->waiting);
}

/* ---- the gate ---- */

static bool may_begin(const struct attempt *a, const struct out_conn *c, enum failure *out_why)
{
    if (c->facts.version == 0 && !smtp_out_opportunistic(a) && a->req.level != TLS_LEVEL_OFF) {
        *out_why = FAILURE_TLS_NOT_OFFERED;
        return false;
    }
    if (c->facts.version == 0 && (a->job.encrypt || a->job.hop.auth_user.n)) {
        *out_why = FAILURE_TLS_NOT_OFFERED;
        return false;
    }
    return tls_verdict(&a->req, &c->facts, out_why);
}

static void refuse_session(struct out_conn *c, enum failure why)
{
    struct attempt *a = smtp_out_detach(c);

    smtp_out_remote(a, c);
    smtp_out_note(a, why, 0, why == FAILURE_TLS_NOT_OFFERED ? "4.7.4" : "4.7.5",
                  why == FAILURE_TLS_WEAK   ? "TLS session of %.*s is weaker than required"
                  : why == FAILURE_TLS_CERT ? "Server certificate of %.*s does not satisfy the "
                                              "requirement"
                                            : "TLS is required, but was not offered by host %.*s",
                  SV_ARG(c->host));
    smtp_stats_add(&c->m->stats, COUNT_OUT_TLS_UNFIT, 1);
    smtp_log_out(a, "tls-failed", a->note.text);
    smtp_cli_quit(c->cli);
    smtp_out_next(a);
}

static enum flow begin(struct out_conn *c)
{
    struct attempt *a = c->job;
    enum failure why = FAILURE_TLS_CERT;

    c->ready_once = true;
    if (!may_begin(a, c, &why)) {
        refuse_session(c, why);
        return FLOW_ON;
    }
    c->begun = true;
    c->dot_given = false;
    a->ready_ms = smtp_now(c->m);
    smtp_out_txn_prepare(a);
    smtp_cli_begin(c->cli, &a->txn);
    return FLOW_ON;
}

static enum flow ready_step(struct out_conn *c)
{
    if (c->job)
        return begin(c);
    if (worth_keeping(c)) {
        park(c);
        return FLOW_WAIT;
    }
    smtp_cli_quit(c->cli);
    return FLOW_ON;
}

/* ---- results ---- */

static enum flow done_step(struct out_conn *c)
{
    struct attempt *a = c->job;
    bool reused = c->used > 0, dot = c->dot_given;

    if (!a)
        return FLOW_ON;
    smtp_out_remote(a, c);
    smtp_out_merge(a, c);
    a->out.reused = reused;
    smtp_out_detach(c);
    c->used++;
    c->begun = c->dot_given = false;
    smtp_out_after_txn(a, reused, dot);
    return FLOW_ON;
}

/* The session ended before a transaction: may clear text follow (mta 2.3 b, d)? */
static bool falls_back(const struct out_conn *c, const struct attempt *a, enum failure f)
{
    return (c->tls_tried || f == FAILURE_TLS_HANDSHAKE) && !c->ready_once && !a->fell_back &&
           f != FAILURE_TIMEOUT && smtp_out_opportunistic(a);
}

static const char *status_for(enum failure f, const struct smtp_cli_rcpt *r)
{
    if (r->status[0] == '4')
        return r->status;
    switch (f) {
    case FAILURE_TLS_NOT_OFFERED:
    case FAILURE_TLS_REFUSED:
        return "4.7.4";
    case FAILURE_TLS_HANDSHAKE:
    case FAILURE_TLS_WEAK:
    case FAILURE_TLS_CERT:
        return "4.7.5";
    case FAILURE_AUTH:
        return "4.7.8";
    case FAILURE_CONNECT:
    case FAILURE_PROTOCOL:
    case FAILURE_TIMEOUT:
        return "4.4.2";
    case FAILURE_NONE:
    case FAILURE_DNS_TEMP:
    case FAILURE_DNS_PERM:
    case FAILURE_SMTP_TEMP:
    case FAILURE_SMTP_PERM:
    case FAILURE_SIZE:
    case FAILURE_8BIT:
    case FAILURE_CORRUPT:
    case FAILURE_INTERNAL:
        break;
    }
    return "4.0.0";
}

static void note_session(struct attempt *a, const struct out_conn *c, enum failure f)
{
    struct smtp_cli_rcpt r = smtp_cli_session_reply(c->cli);
    bool temp = f == FAILURE_SMTP_PERM; /* a session refused is no verdict on the message */

    smtp_out_note(a, temp ? FAILURE_SMTP_TEMP : f, r.code, status_for(f, &r), "host %.*s: %s",
                  SV_ARG(c->host),
                  r.reply[0]             ? r.reply
                  : f == FAILURE_TIMEOUT ? "conversation timed out"
                                         : "lost connection");
}

static enum flow close_step(struct out_conn *c)
{
    enum failure f = smtp_cli_failure(c->cli);
    struct attempt *a = smtp_out_detach(c);

    if (!a)
        return FLOW_END;
    if (f == FAILURE_NONE)
        f = FAILURE_PROTOCOL;
    smtp_out_remote(a, c);
    /* spec A7: silence in the handshake is a failure of TLS; but no clear text follows it */
    if (c->facts.version == 0 && c->tls_tried &&
        (f != FAILURE_TIMEOUT || !smtp_out_opportunistic(a)))
        f = FAILURE_TLS_HANDSHAKE;
    if (!c->noted)
        note_session(a, c, f);
    if (falls_back(c, a, f)) {
        smtp_log_fallback(a);
        smtp_out_again_in_clear(a, c);
    } else {
        smtp_log_out(a, "session-failed", a->note.text);
        smtp_out_next(a);
    }
    return FLOW_END;
}

/* ---- steps ---- */

static enum flow feed(struct out_conn *c, struct sv bytes, bool fresh)
{
    size_t n = smtp_cli_feed(c->cli, bytes);

    if (!fresh)
        buf_consume(&c->left, n);
    else if (n < bytes.n && buf_append_sv(&c->left, sv_skip(bytes, n)))
        n = 0;
    if (n == 0)
        smtp_cli_lost(c->cli, FAILURE_PROTOCOL);
    return FLOW_ON;
}

static enum flow read_step(struct out_conn *c)
{
    size_t n = 0;

    if (c->left.n)
        return feed(c, buf_sv(&c->left), false);
    switch (conn_read(&c->conn, c->m->read, OUT_READ, &n)) {
    case TLS_IO_OK:
        return feed(c, sv_of(c->m->read, n), true);
    case TLS_IO_WANT_READ:
    case TLS_IO_WANT_WRITE:
        return FLOW_WAIT;
    case TLS_IO_CLOSED:
    case TLS_IO_FAILED:
        smtp_cli_lost(c->cli, FAILURE_NONE);
        return FLOW_ON;
    }
    return FLOW_END;
}

static int64_t wait_ms(const struct out_conn *c)
{
    const struct settings *s = c->snap->s;

    switch (c->wait) {
    case WAIT_GREETING:
        return (int64_t)s->delivery_greeting_timeout_s * 1000;
    case WAIT_COMMAND:
        return (int64_t)s->delivery_command_timeout_s * 1000;
    case WAIT_DATA:
        return (int64_t)s->delivery_data_timeout_s * 1000;
    case WAIT_END_OF_DATA:
        return (int64_t)s->delivery_end_of_data_timeout_s * 1000;
    case WAIT_QUIT:
        return QUIT_MS;
    }
    return QUIT_MS;
}

/* No later than the whole attempt may take. The reply to the final dot is not cut short: it has its
 * own limit, and who hangs up there makes duplicates. */
static void wait_until(struct out_conn *c, int64_t at_ms)
{
    const struct attempt *a = c->job;
    bool cut = a && !c->dot_given && a->until_ms < at_ms;

    conn_deadline(&c->conn, cut ? a->until_ms : at_ms);
}

static enum flow input_step(struct out_conn *c, const struct smtp_cli_step *step)
{
    c->wait = step->wait;
    enum flow f = read_step(c);
    if (f == FLOW_WAIT) { /* a server that drips bytes wins a few turns, not hours */
        int64_t now = smtp_now(c->m), ms = wait_ms(c);
        c->since_ms = c->since_ms ? c->since_ms : now;
        int64_t last = c->since_ms + WAITS_MAX * ms;
        wait_until(c, now + ms < last ? now + ms : last);
    }
    return f;
}

static enum flow body_step(struct out_conn *c)
{
    if (c->blocked) { /* something moved: perhaps the server has words for us */
        c->blocked = false;
        if (conn_flush(&c->conn) != TLS_IO_OK && read_step(c) == FLOW_ON)
            return FLOW_ON;
    }
    if (conn_waiting(&c->conn) > CONN_OUT_HIGH) {
        (void)conn_flush(&c->conn);
        if (conn_waiting(&c->conn) > CONN_OUT_HIGH) {
            c->blocked = true;
            c->wait = WAIT_DATA;
            wait_until(c, smtp_now(c->m) + wait_ms(c));
            return FLOW_WAIT;
        }
    }
    smtp_out_body_step(c);
    return FLOW_ON;
}

static enum flow start_tls(struct out_conn *c)
{
    const struct attempt *a = c->job;

    c->tls_tried = true;
    c->state = OUT_HANDSHAKE;
    c->wait = WAIT_COMMAND; /* the handshake is a part of STARTTLS */
    wait_until(c, smtp_now(c->m) + (wait_ms(c) < HANDSHAKE_MS ? wait_ms(c) : HANDSHAKE_MS));
    if (!a || c->left.n || !c->m->tls_client ||
        tls_connect(c->m->tls_client, c->conn.fd, c->host, &a->req, c->pool.key, &c->conn.tls)) {
        smtp_cli_tls_failed(c->cli);
        c->state = OUT_RUN;
    }
    return FLOW_ON;
}

static enum flow run_step(struct out_conn *c)
{
    struct smtp_cli_step step = smtp_cli_next(c->cli);

    if (step.kind != CLI_NEED_INPUT)
        c->since_ms = 0;
    switch (step.kind) {
    case CLI_NEED_INPUT:
        return input_step(c, &step);
    case CLI_SEND:
        if (conn_write(&c->conn, step.bytes))
            smtp_cli_lost(c->cli, FAILURE_PROTOCOL);
        return FLOW_ON;
    case CLI_START_TLS:
        return start_tls(c);
    case CLI_READY:
        return ready_step(c);
    case CLI_NEED_BODY:
        return body_step(c);
    case CLI_DONE:
        return done_step(c);
    case CLI_CLOSE:
        return close_step(c);
    }
    return FLOW_END;
}

static enum flow handshake_failed(struct out_conn *c)
{
    char why[200] = "";

    tls_error(c->conn.tls, why, sizeof(why));
    smtp_stats_add(&c->m->stats, COUNT_OUT_TLS_FAILED, 1);
    if (c->job) {
        c->noted = true;
        smtp_out_remote(c->job, c);
        smtp_out_note(c->job, FAILURE_TLS_HANDSHAKE, 0, "4.7.5",
                      "Cannot start TLS with %.*s: handshake failure (%s)", SV_ARG(c->host), why);
        smtp_log_out(c->job, "tls-failed", c->job->note.text);
    }
    smtp_cli_tls_failed(c->cli);
    c->state = OUT_RUN;
    return FLOW_ON;
}

static enum flow handshake_step(struct out_conn *c)
{
    switch (conn_handshake(&c->conn)) {
    case TLS_IO_OK:
        break;
    case TLS_IO_WANT_READ:
    case TLS_IO_WANT_WRITE:
        return FLOW_WAIT;
    case TLS_IO_CLOSED:
    case TLS_IO_FAILED:
        return handshake_failed(c);
    }
    tls_facts_of(c->conn.tls, &c->mem, &c->facts);
    smtp_stats_add(&c->m->stats, COUNT_OUT_TLS, 1);
    smtp_stats_add(&c->m->stats, COUNT_OUT_TLS_RESUMED, c->facts.resumed ? 1 : 0);
    smtp_out_tls_worked(c->m, &c->ip);
    smtp_cli_tls_done(c->cli);
    c->state = OUT_RUN;
    return FLOW_ON;
}

void smtp_out_note_connect(struct attempt *a, const struct out_conn *c, const char *why)
{
    char ip[IP_TEXT_MAX];

    ip_format(&c->ip, ip);
    smtp_out_remote(a, c);
    smtp_out_note(a, FAILURE_CONNECT, 0, "4.4.1", "connect to %.*s[%s]:%u: %s", SV_ARG(c->host), ip,
                  c->port, why);
    smtp_log_out(a, "connect-failed", a->note.text);
}

static enum flow connect_failed(struct out_conn *c, const char *why)
{
    struct attempt *a = smtp_out_detach(c);

    if (!a)
        return FLOW_END;
    smtp_out_note_connect(a, c, why);
    smtp_out_next(a);
    return FLOW_END;
}

static enum flow connect_step(struct out_conn *c)
{
    struct sockaddr_storage ss;
    socklen_t n = sizeof(ss);
    int err = 0, one = 1;
    socklen_t err_n = sizeof(err);

    if (getsockopt(c->conn.fd, SOL_SOCKET, SO_ERROR, &err, &err_n) != 0)
        err = errno;
    if (err != 0)
        return connect_failed(c, strerror(err));
    if (getpeername(c->conn.fd, (struct sockaddr *)&ss, &n) != 0)
        return FLOW_WAIT; /* not yet */
    (void)setsockopt(c->conn.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c->conn.want_write = false;
    c->state = OUT_RUN;
    return FLOW_ON;
}

/* In the pool: whatever comes (EOF, 421) ends the connection; TLS tickets come here too. */
static enum flow idle_step(struct out_conn *c)
{
    size_t n = 0;

    switch (conn_read(&c->conn, c->m->read, OUT_READ, &n)) {
    case TLS_IO_WANT_READ:
    case TLS_IO_WANT_WRITE:
        return FLOW_WAIT;
    case TLS_IO_OK:
    case TLS_IO_CLOSED:
    case TLS_IO_FAILED:
        break;
    }
    return FLOW_END;
}

static enum flow one_step(struct out_conn *c)
{
    switch (c->state) {
    case OUT_CONNECTING:
        return connect_step(c);
    case OUT_RUN:
        return run_step(c);
    case OUT_HANDSHAKE:
        return handshake_step(c);
    case OUT_IDLE:
        return idle_step(c);
    }
    return FLOW_END;
}

static void oc_pump(struct out_conn *c)
{
    enum flow f = FLOW_ON;

    for (;;) {
        while (f == FLOW_ON)
            f = one_step(c);
        if (f == FLOW_WAIT && conn_settle(&c->conn, c->state == OUT_RUN || c->state == OUT_IDLE))
            return;
        if (f == FLOW_END || c->state == OUT_IDLE)
            break;
        smtp_cli_lost(c->cli, FAILURE_NONE); /* the connection broke while sending */
        c->state = OUT_RUN;
        f = FLOW_ON;
    }
    struct attempt *a = smtp_out_detach(c); /* none, unless a machine broke its promise */
    smtp_out_conn_free(c);
    if (a)
        smtp_out_next(a);
}

static void on_deadline(void *ctx)
{
    struct out_conn *c = ctx;

    switch (c->state) {
    case OUT_CONNECTING:
        (void)connect_failed(c, "Connection timed out");
        smtp_out_conn_free(c);
        return;
    case OUT_IDLE:
        smtp_pool_remove(&c->m->pool, &c->pool);
        smtp_out_conn_quit(c);
        return;
    case OUT_HANDSHAKE:
        c->state = OUT_RUN;
        smtp_cli_lost(c->cli, FAILURE_TIMEOUT);
        oc_pump(c);
        return;
    case OUT_RUN:
        smtp_cli_lost(c->cli, FAILURE_TIMEOUT);
        oc_pump(c);
        return;
    }
}

bool smtp_out_reuse(struct attempt *a)
{
    struct pool_node *node = a->no_pool ? NULL : smtp_pool_take(&a->m->pool, a->pool_key);
    struct out_conn *c = (struct out_conn *)(void *)node;

    if (!c)
        return false;
    smtp_stats_add(&a->m->stats, COUNT_OUT_REUSED, 1);
    a->connect_ms = smtp_now(a->m);
    a->conn = c;
    c->job = a;
    c->state = OUT_RUN;
    oc_pump(c);
    return true;
}
