/*
 * SMTP sessions in: connection control, the pump between connection and machine, timers.
 *
 * Talks to: clients (TCP), `queue` and `lookup` (through smtp_in_ask.c and smtp_in_msg.c).
 * On failure: a broken connection ends the session and drops what was not acknowledged; a full
 * table or missing memory refuses the connection; nothing ends the process.
 *
 * SECURITY: everything read here comes from strangers. Bytes are handed to the machine unseen. A
 * session holds at most one command line or one chunk of body, its input stops while it waits for
 * another process, and every state has a deadline.
 */
#include "role/smtp_in.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define READS_A_TURN   8 /* then others have their turn */
#define ACCEPTS_A_TURN 32
#define ACCEPT_PAUSE   200 /* ms without accept after EMFILE */
#define LEFT_MAX       (256u * 1024)
#define CLOSING_MS     (10 * 1000)
#define RATE_WINDOW_MS (30 * 1000)
#define IN_MEM         (16u * 1024)

#define TEXT_PREGREET "Error: SMTP protocol violation, wait for the greeting"

enum flow { FLOW_ON, FLOW_WAIT, FLOW_END };

static void on_ready(void *ctx)
{
    smtp_in_pump(ctx);
}

static void on_deadline(void *ctx);
static const struct conn_handler handler = {on_ready, on_deadline};

struct sv smtp_in_name(const struct smtp_in *s)
{
    return s->peer.rdns.n ? s->peer.rdns : SV("unknown");
}

/* ---- end ---- */

static void in_end(struct smtp_in *s)
{
    struct smtp *m = s->m;

    if (s->tag)
        (void)smtp_tag_take(&m->tags, s->tag);
    if (s->ptr_tag)
        (void)smtp_tag_take(&m->tags, s->ptr_tag);
    smtp_in_drop_body(s);
    smtp_log_in(s, "disconnect", "disconnect from");
    conn_limits_leave(&m->limits, &s->peer.ip, s->peer.trusted);
    list_remove(&s->node);
    conn_close(&s->conn);
    smtp_srv_free(s->srv);
    smtp_snap_unref(s->snap);
    buf_done(&s->left);
    arena_done(&s->mem);
    free(s);
}

/* ---- the pump ---- */

void smtp_in_wait(struct smtp_in *s, enum in_state state, int64_t ms)
{
    s->state = state;
    s->wait_until_ms = smtp_now(s->m) + ms;
}

static enum flow feed(struct smtp_in *s, struct sv bytes, bool fresh)
{
    size_t n = smtp_srv_feed(s->srv, bytes);

    if (n == 0)
        return FLOW_END; /* NEED_INPUT that takes nothing: a broken promise of the machine */
    if (!fresh)
        buf_consume(&s->left, n);
    else if (n < bytes.n && buf_append_sv(&s->left, sv_skip(bytes, n)))
        return FLOW_END;
    return FLOW_ON;
}

static enum flow read_more(struct smtp_in *s)
{
    struct smtp *m = s->m;
    size_t n = 0;

    if (s->left.n)
        return feed(s, buf_sv(&s->left), false);
    if (conn_waiting(&s->conn) > CONN_OUT_HIGH)
        return FLOW_WAIT;
    if (s->reads >= READS_A_TURN && !(s->conn.tls && tls_has_pending(s->conn.tls)))
        return FLOW_WAIT;
    switch (conn_read(&s->conn, m->read, sizeof(m->read), &n)) {
    case TLS_IO_OK:
        s->reads++;
        s->rate_bytes += n;
        return feed(s, sv_of(m->read, n), true);
    case TLS_IO_WANT_READ:
    case TLS_IO_WANT_WRITE:
        return FLOW_WAIT;
    case TLS_IO_CLOSED:
    case TLS_IO_FAILED:
        break;
    }
    if (smtp_srv_in_data(s->srv) || s->n_mail > s->n_accepted)
        smtp_log_in(s, "lost", "lost connection from");
    return FLOW_END;
}

static enum flow send_step(struct smtp_in *s, const struct smtp_srv_step *step)
{
    uint64_t ms = (uint64_t)s->snap->s->conn_tarpit_ms * step->error_delay;

    if (conn_write(&s->conn, step->bytes))
        return FLOW_END; /* a client that sends and never reads */
    if (ms == 0 || s->peer.trusted)
        return FLOW_ON;
    s->conn.hold = true;
    smtp_in_wait(s, IN_TARPIT, (int64_t)(ms < 60000 ? ms : 60000));
    return FLOW_WAIT;
}

static enum flow run_step(struct smtp_in *s)
{
    struct smtp_srv_step step = smtp_srv_next(s->srv);

    if (step.kind != SRV_NEED_INPUT)
        s->activity_ms = smtp_now(s->m);
    switch (step.kind) {
    case SRV_NEED_INPUT:
        return read_more(s);
    case SRV_SEND:
        return send_step(s, &step);
    case SRV_START_TLS:
        smtp_in_wait(s, IN_TLS_FLUSH, (int64_t)s->snap->s->conn_handshake_timeout_s * 1000);
        return s->left.n ? FLOW_END : FLOW_ON; /* bytes behind STARTTLS: RFC 3207 injection */
    case SRV_ASK_HELO:
        smtp_in_ask_helo(s);
        return FLOW_ON;
    case SRV_ASK_AUTH:
        return smtp_in_ask_auth(s, step.user, step.password) ? FLOW_ON : FLOW_WAIT;
    case SRV_ASK_MAIL:
        smtp_in_ask_mail(s);
        return FLOW_ON;
    case SRV_ASK_RCPT:
        smtp_in_ask_rcpt(s);
        return FLOW_ON;
    case SRV_ASK_DATA:
        smtp_in_ask_data(s);
        return FLOW_ON;
    case SRV_BODY:
        return smtp_in_body(s, step.bytes) ? FLOW_ON : FLOW_WAIT;
    case SRV_END_OF_BODY:
        return smtp_in_end_of_body(s) ? FLOW_ON : FLOW_WAIT;
    case SRV_ABORT_BODY:
        smtp_in_drop_body(s);
        return FLOW_ON;
    case SRV_CLOSE:
        if (smtp_srv_tls_held(s->srv))
            smtp_log_reject(s, "STARTTLS", 421, "4.7.0", SV(SMTP_TEXT_HANDSHAKES), SV(""));
        smtp_in_wait(s, IN_CLOSING, CLOSING_MS);
        return FLOW_ON;
    }
    return FLOW_END;
}

/* Who talks before the greeting is no mail server. */
static enum flow pregreet_step(struct smtp_in *s)
{
    size_t n = 0;

    switch (conn_read(&s->conn, s->m->read, sizeof(s->m->read), &n)) {
    case TLS_IO_WANT_READ:
    case TLS_IO_WANT_WRITE:
        return FLOW_WAIT;
    case TLS_IO_OK:
        break;
    case TLS_IO_CLOSED:
    case TLS_IO_FAILED:
        return FLOW_END;
    }
    smtp_stats_add(&s->m->stats, COUNT_IN_PREGREET, 1);
    smtp_log_in(s, "pregreet", "improper command pipelining before greeting from");
    smtp_log_reject(s, "CONNECT", 554, "5.5.1", SV(TEXT_PREGREET), SV(""));
    if (conn_write(&s->conn, SV("554 5.5.1 " TEXT_PREGREET "\r\n")))
        return FLOW_END;
    smtp_in_wait(s, IN_CLOSING, CLOSING_MS);
    return FLOW_ON;
}

static enum flow start_handshake(struct smtp_in *s)
{
    if (!smtp_in_rate_handshake(s)) {
        smtp_log_turned_away(s->m, s->ip_text, "4.7.0", SMTP_TEXT_HANDSHAKES);
        return FLOW_END;
    }
    if (!s->snap->tls || tls_accept(s->snap->tls, s->conn.fd, &s->conn.tls))
        return FLOW_END;
    s->state = IN_HANDSHAKE;
    return FLOW_ON;
}

static enum flow flush_step(struct smtp_in *s)
{
    switch (conn_flush(&s->conn)) {
    case TLS_IO_OK:
        return s->state == IN_TLS_FLUSH ? start_handshake(s) : FLOW_END;
    case TLS_IO_WANT_READ:
    case TLS_IO_WANT_WRITE:
        return FLOW_WAIT;
    case TLS_IO_CLOSED:
    case TLS_IO_FAILED:
        break;
    }
    return FLOW_END;
}

static enum flow handshake_failed(struct smtp_in *s)
{
    char why[200] = "";
    char words[256];

    tls_error(s->conn.tls, why, sizeof(why));
    (void)snprintf(words, sizeof(words), "TLS handshake failed (%s) from", why);
    smtp_stats_add(&s->m->stats, COUNT_IN_TLS_FAILED, 1);
    smtp_log_in(s, "tls-failed", words);
    return FLOW_END;
}

static enum flow handshake_step(struct smtp_in *s)
{
    struct tls_facts facts = {0};

    switch (conn_handshake(&s->conn)) {
    case TLS_IO_OK:
        break;
    case TLS_IO_WANT_READ:
    case TLS_IO_WANT_WRITE:
        return FLOW_WAIT;
    case TLS_IO_CLOSED:
    case TLS_IO_FAILED:
        return handshake_failed(s);
    }
    tls_facts_of(s->conn.tls, &s->mem, &facts);
    smtp_stats_add(&s->m->stats, COUNT_IN_TLS, 1);
    if (facts.resumed) {
        smtp_stats_add(&s->m->stats, COUNT_IN_TLS_RESUMED, 1);
        smtp_in_rate_resumed(s);
    }
    s->state = IN_RUN;
    s->activity_ms = smtp_now(s->m);
    smtp_in_tls_up(s, &facts);
    return s->srv ? FLOW_ON : FLOW_END;
}

static enum flow one_step(struct smtp_in *s)
{
    switch (s->state) {
    case IN_PREGREET:
        return pregreet_step(s);
    case IN_RUN:
        return run_step(s);
    case IN_TLS_FLUSH:
    case IN_CLOSING:
        return flush_step(s);
    case IN_HANDSHAKE:
        return handshake_step(s);
    case IN_TARPIT:
    case IN_AUTH_DELAY:
    case IN_WAIT_AUTH:
    case IN_WAIT_FILE:
    case IN_WAIT_COMMIT:
        break;
    }
    return FLOW_WAIT;
}

/* ---- timers ---- */

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool rate_watched(const struct smtp_in *s)
{
    return s->snap->s->conn_data_min_rate && !s->peer.trusted && smtp_srv_in_data(s->srv);
}

static int64_t run_deadline(const struct smtp_in *s)
{
    const struct settings *set = s->snap->s;
    int64_t at = s->activity_ms + (int64_t)set->conn_timeout_s * 1000;

    at = min64(at, s->progress_ms + (int64_t)set->conn_session_max_s * 1000);
    if (!s->mailed)
        at = min64(at, s->start_ms + (int64_t)set->conn_first_mail_s * 1000);
    if (rate_watched(s))
        at = min64(at, s->rate_ms + RATE_WINDOW_MS);
    return at;
}

void smtp_in_pump(struct smtp_in *s)
{
    enum flow f = FLOW_ON;

    s->reads = 0;
    while (f == FLOW_ON)
        f = one_step(s);
    if (f == FLOW_END || !conn_settle(&s->conn, s->state == IN_RUN || s->state == IN_PREGREET)) {
        in_end(s);
        return;
    }
    conn_deadline(&s->conn, s->state == IN_RUN ? run_deadline(s) : s->wait_until_ms);
}

/* Is the sender fast enough? Starts the next window when it is. */
static bool rate_ok(struct smtp_in *s, int64_t now)
{
    if (!rate_watched(s) || now < s->rate_ms + RATE_WINDOW_MS)
        return true;
    uint64_t wanted = (uint64_t)s->snap->s->conn_data_min_rate * (RATE_WINDOW_MS / 1000);
    bool ok = s->rate_bytes >= wanted;
    s->rate_ms = now;
    s->rate_bytes = 0;
    return ok;
}

static void run_timed_out(struct smtp_in *s)
{
    int64_t now = smtp_now(s->m);
    bool fast = rate_ok(s, now);

    if (fast && run_deadline(s) > now) {
        conn_deadline(&s->conn, run_deadline(s));
        return;
    }
    smtp_stats_add(&s->m->stats, COUNT_IN_TIMEOUTS, 1);
    smtp_log_in(s, "timeout", fast ? "timeout from" : "timeout (too slow in DATA) from");
    smtp_srv_close(s->srv, 421, "4.4.2",
                   fast ? SV("Error: timeout exceeded") : SV("Error: data arrives too slowly"));
    smtp_in_pump(s);
}

static void on_deadline(void *ctx)
{
    struct smtp_in *s = ctx;

    switch (s->state) {
    case IN_RUN:
        run_timed_out(s);
        return;
    case IN_PREGREET:
        smtp_srv_greet(s->srv);
        s->state = IN_RUN;
        s->activity_ms = smtp_now(s->m);
        smtp_in_pump(s);
        return;
    case IN_TARPIT:
        s->conn.hold = false;
        s->state = IN_RUN;
        smtp_in_pump(s);
        return;
    case IN_AUTH_DELAY: /* the machine asks again */
        s->state = IN_RUN;
        smtp_in_pump(s);
        return;
    case IN_WAIT_AUTH:
        smtp_in_resume(s, 454, "4.7.0", SV("Temporary authentication failure"));
        return;
    case IN_WAIT_FILE:
    case IN_WAIT_COMMIT:
        smtp_in_refuse_body(s, 451, "4.3.0", "Error: queue file write error");
        return;
    case IN_TLS_FLUSH:
    case IN_HANDSHAKE:
        smtp_stats_add(&s->m->stats, COUNT_IN_TLS_FAILED, 1);
        smtp_log_in(s, "tls-failed", "TLS handshake timeout from");
        in_end(s);
        return;
    case IN_CLOSING:
        in_end(s);
        return;
    }
}

void smtp_in_resume(struct smtp_in *s, uint16_t code, const char *status, struct sv text)
{
    if (s->tag)
        (void)smtp_tag_take(&s->m->tags, s->tag);
    s->tag = 0;
    s->state = IN_RUN;
    s->activity_ms = s->progress_ms = smtp_now(s->m);
    if (code)
        smtp_srv_answer(s->srv, code, status, text);
    smtp_in_pump(s);
}

/* ---- accept ---- */

static void peer_address(const struct sockaddr_storage *ss, struct peer *out_peer)
{
    memset(out_peer->ip.b, 0, sizeof(out_peer->ip.b));
    if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)ss;
        out_peer->ip.b[10] = out_peer->ip.b[11] = 0xff;
        memcpy(out_peer->ip.b + 12, &in->sin_addr, 4);
        out_peer->port = ntohs(in->sin_port);
    } else if (ss->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)ss;
        memcpy(out_peer->ip.b, &in6->sin6_addr, sizeof(out_peer->ip.b));
        out_peer->port = ntohs(in6->sin6_port);
    }
}

struct ptr_query {
    struct smtp *m;
    uint64_t tag;
};

static void on_ptr(void *ctx, enum dns_result result, struct sv name)
{
    struct ptr_query *q = ctx;
    struct smtp_in *s = smtp_tag_take(&q->m->tags, q->tag);

    if (s) {
        s->ptr_tag = 0;
        if (result == DNS_OK && name.n <= 255)
            s->peer.rdns = arena_sv(&s->mem, name);
    }
    free(q);
}

static void ask_ptr(struct smtp_in *s)
{
    struct ptr_query *q;

    if (ip_is_loopback(&s->peer.ip) || !s->m->resolver || !(q = calloc(1, sizeof(*q))))
        return;
    s->ptr_tag = smtp_tag_new(&s->m->tags, s);
    *q = (struct ptr_query){s->m, s->ptr_tag};
    resolver_ptr(s->m->resolver, &s->peer.ip, on_ptr, q);
}

static enum err in_setup(struct smtp_in *s, struct smtp *m, int fd, const struct peer *peer)
{
    s->m = m;
    s->peer = *peer;
    s->session = ++m->session_next;
    s->start_ms = s->activity_ms = s->progress_ms = smtp_now(m);
    s->implicit_tls = peer->listener == LISTENER_SUBMISSIONS;
    s->snap = smtp_snap_ref(m->snap);
    arena_init(&s->mem, IN_MEM);
    buf_init(&s->left, LEFT_MAX);
    smtp_body_init(&s->body);
    ip_format(&peer->ip, s->ip_text);
    s->rate_key = rates_key_ip(&peer->ip);
    list_push_back(&m->in, &s->node);
    return conn_open(&s->conn, m->loop, fd, &handler, s);
}

static void in_begin(struct smtp_in *s)
{
    const struct settings *set = s->snap->s;

    smtp_stats_add(&s->m->stats, COUNT_IN_CONNECTIONS, 1);
    ask_ptr(s);
    smtp_log_in(s, "connect", "connect from");
    if (s->implicit_tls) {
        smtp_in_wait(s, IN_TLS_FLUSH, (int64_t)set->conn_handshake_timeout_s * 1000);
        smtp_in_pump(s);
        return;
    }
    smtp_in_tls_up(s, NULL);
    if (!s->srv) {
        in_end(s);
        return;
    }
    if (set->conn_pregreet_ms && s->peer.listener == LISTENER_MX && !smtp_in_exempt(&s->peer)) {
        smtp_in_wait(s, IN_PREGREET, set->conn_pregreet_ms);
    } else {
        smtp_srv_greet(s->srv);
        s->state = IN_RUN;
    }
    smtp_in_pump(s);
}

static void in_new(struct smtp_listener *l, int fd, const struct sockaddr_storage *ss)
{
    struct smtp *m = l->m;
    struct peer peer = {.listener = (uint8_t)l->kind};
    int one = 1;

    peer_address(ss, &peer);
    peer_classify(m->snap->s, &peer);
    if (!smtp_in_admit(m, fd, &peer))
        return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct smtp_in *s = calloc(1, sizeof(*s));
    if (!s) {
        conn_limits_leave(&m->limits, &peer.ip, peer.trusted);
        (void)close(fd);
        return;
    }
    if (in_setup(s, m, fd, &peer))
        in_end(s);
    else
        in_begin(s);
}

void smtp_in_accept(void *listener, int events)
{
    struct smtp_listener *l = listener;

    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage ss = {0};
        socklen_t n = sizeof(ss);
        int fd = accept4(l->fd, (struct sockaddr *)&ss, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            in_new(l, fd, &ss);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            smtp_listen(l->m, false);
            timer_set(l->m->accept_pause, ACCEPT_PAUSE);
        }
        if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

/* ---- the process ---- */

static void shut(struct smtp_in *s)
{
    char text[400];
    int n = snprintf(text, sizeof(text), "421 4.3.2 %.*s Service shutting down\r\n",
                     SV_ARG(s->snap->hostname));

    if (s->srv && s->state != IN_HANDSHAKE && s->state != IN_CLOSING && n > 0 &&
        !conn_write(&s->conn, sv_of(text, (size_t)n)))
        (void)conn_flush(&s->conn);
    in_end(s);
}

void smtp_in_close_all(struct smtp *m, bool keep_committing)
{
    struct list *next;

    for (struct list *it = m->in.next; it != &m->in; it = next) {
        struct smtp_in *s = LIST_ENTRY(it, struct smtp_in, node);
        next = it->next;
        if (!keep_committing || s->state != IN_WAIT_COMMIT)
            shut(s);
    }
}
