/*
 * SMTP load generator: N sessions at once, each sends M messages and makes way for the next. One
 * process, epoll. Full TLS handshakes, PIPELINING for MAIL, RCPT and DATA.
 *
 *   loadgen --to IP:PORT [--sessions 100] [--messages 2000] [--per-connection 20] [--size 4096]
 *           [--kind text|mixed|opaque] [--tls 1] [--card 1] [--time 300]
 *           [--from ADDRESS] [--rcpt ADDRESS]
 *
 * kinds: `text`, one part of prose; `mixed`, 8 KiB of prose and base64 of random bytes; `opaque`,
 * the same as an image. --card 1: the prose has one payment card number. Prints one line of JSON;
 * latency is the time from the write of the final dot to the reply. Exit 1 when a message was
 * refused or the time (s) ran out.
 */
#include "smtp_io.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_MAX 16384
#define EVENTS   256
#define TEXT_MAX 8192u
#define HEAD_MAX 2048

enum state {
    ST_CONNECT,
    ST_BANNER,
    ST_EHLO,
    ST_STARTTLS,
    ST_HANDSHAKE,
    ST_EHLO_TLS,
    ST_ENVELOPE,
    ST_BODY,
    ST_QUIT
};

struct session {
    struct io io;
    enum state state;
    unsigned answers, sent;
    uint32_t events;
    bool more; /* a reply of several lines goes on */
    size_t n_line, n_head, head_at, body_at;
    double dot_s;
    char line[1024], head[HEAD_MAX];
};

struct load {
    int epoll;
    SSL_CTX *ctx;
    struct sockaddr_in to;
    unsigned sessions, messages, per_connection, size;
    bool tls, card;
    const char *kind, *from, *rcpt;
    double until, first_s, last_s;
    char *body;
    size_t n_body;
    unsigned started, accepted, refused, broken, open, connections;
    float *latency; /* ms */
};

/* ---- the message ---- */

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void put(struct load *l, const char *p, size_t n)
{
    memcpy(l->body + l->n_body, p, n);
    l->n_body += n;
}

static void prose(struct load *l, size_t n)
{
    static const char *const words[] = {
        "the",     "order",    "of",      "delivery", "report", "we",    "have",    "customer",
        "meeting", "received", "on",      "and",      "price",  "with",  "account", "please",
        "find",    "attached", "invoice", "project",  "team",   "2026",  "next",    "week",
        "offer",   "42",       "regards", "number",   "to",     "house", "garden",  "confirmed"};
    uint64_t x = 88172645463325252u;
    size_t end = l->n_body + n, column = 0;

    if (l->card)
        put(l, "My card is 4111 1111 1111 1111 until June.\r\n", 44);
    while (l->n_body + 16 < end) {
        const char *w = words[next_random(&x) % 32];
        size_t k = strlen(w);
        put(l, w, k);
        column += k + 1;
        put(l, column > 70 ? "\r\n" : " ", column > 70 ? 2 : 1);
        if (column > 70)
            column = 0;
    }
    put(l, "end.\r\n", 6);
}

static void base64(struct load *l, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t x = 1234567890123u;
    bool jpeg = strcmp(l->kind, "opaque") == 0;

    for (size_t made = 0; made + 78 <= n; made += 78) {
        char line[78];
        for (size_t i = 0; i < 76; i++)
            line[i] = digits[next_random(&x) >> 32 & 63];
        memcpy(line + 76, "\r\n", 2);
        if (jpeg && made == 0)
            memcpy(line, "/9j/4AAQSkZJRgABAQEASABIAAD/", 28);
        put(l, line, 78);
    }
}

static void part(struct load *l, const char *text)
{
    put(l, text, strlen(text));
}

static void message(struct load *l)
{
    l->body = malloc(l->size + 4096u);
    if (!l->body)
        die("memory");
    part(l, "MIME-Version: 1.0\r\nX-Mailer: loadgen\r\n");
    if (strcmp(l->kind, "text") == 0) {
        part(l, "Content-Type: text/plain; charset=utf-8\r\n\r\n");
        prose(l, l->size);
    } else {
        part(l, "Content-Type: multipart/mixed; boundary=\"=_bench_1\"\r\n\r\n--=_bench_1\r\n"
                "Content-Type: text/plain; charset=utf-8\r\n\r\n");
        prose(l, l->size < TEXT_MAX ? l->size : TEXT_MAX);
        part(l, "\r\n--=_bench_1\r\nContent-Type: ");
        part(l, strcmp(l->kind, "opaque") == 0 ? "image/jpeg; name=\"a.jpg\""
                                               : "application/octet-stream; name=\"a.bin\"");
        part(l, "\r\nContent-Transfer-Encoding: base64\r\n\r\n");
        base64(l, l->size > TEXT_MAX ? l->size - TEXT_MAX : 0);
        part(l, "\r\n--=_bench_1--\r\n");
    }
    part(l, ".\r\n");
}

/* ---- one session ---- */

static void head(struct session *s, const char *text)
{
    s->n_head = strlen(text);
    s->head_at = 0;
    memcpy(s->head, text, s->n_head + 1);
}

static void envelope(struct load *l, struct session *s)
{
    int n = snprintf(s->head, sizeof(s->head), "MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n",
                     l->from, l->rcpt);

    s->n_head = (size_t)n;
    s->head_at = 0;
    s->state = ST_ENVELOPE;
    s->answers = 3;
    l->started++;
}

static void begin_body(struct load *l, struct session *s)
{
    int n = snprintf(s->head, sizeof(s->head),
                     "From: <%s>\r\nTo: <%s>\r\nSubject: load\r\n"
                     "Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%u.%u@bench.test>\r\n",
                     l->from, l->rcpt, (unsigned)getpid(), l->started);

    s->n_head = (size_t)n;
    s->head_at = 0;
    s->body_at = 0;
    s->state = ST_BODY;
}

static void next_message(struct load *l, struct session *s)
{
    if (s->sent < l->per_connection && l->started < l->messages) {
        s->sent++;
        envelope(l, s);
    } else {
        head(s, "QUIT\r\n");
        s->state = ST_QUIT;
    }
}

static void taken(struct load *l, struct session *s)
{
    l->last_s = now_s();
    l->latency[l->accepted++] = (float)((l->last_s - s->dot_s) * 1000);
    next_message(l, s);
}

/* false: the session is over. */
static bool reply(struct load *l, struct session *s, char digit)
{
    switch (s->state) {
    case ST_BANNER:
        head(s, "EHLO bench.test\r\n");
        s->state = ST_EHLO;
        return digit == '2';
    case ST_EHLO:
        if (l->tls) {
            head(s, "STARTTLS\r\n");
            s->state = ST_STARTTLS;
        } else {
            next_message(l, s);
        }
        return digit == '2';
    case ST_STARTTLS:
        s->state = ST_HANDSHAKE;
        return digit == '2';
    case ST_EHLO_TLS:
        next_message(l, s);
        return digit == '2';
    case ST_ENVELOPE:
        if (digit != (s->answers == 1 ? '3' : '2'))
            break;
        if (--s->answers == 0)
            begin_body(l, s);
        return true;
    case ST_BODY:
        if (digit != '2')
            break;
        taken(l, s);
        return true;
    case ST_CONNECT:
    case ST_HANDSHAKE:
    case ST_QUIT:
        return false;
    }
    l->refused++;
    (void)fprintf(stderr, "refused: %s", s->line);
    return false;
}

static bool feed(struct load *l, struct session *s, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s->n_line + 1 < sizeof(s->line))
            s->line[s->n_line++] = p[i];
        if (p[i] != '\n')
            continue;
        s->line[s->n_line] = 0;
        s->more = s->n_line > 3 && s->line[3] == '-';
        s->n_line = 0;
        if (!s->more && !reply(l, s, s->line[0]))
            return false;
    }
    return true;
}

static enum io_result flush(struct load *l, struct session *s)
{
    size_t n;

    while (s->head_at < s->n_head) {
        enum io_result r = io_write(&s->io, s->head + s->head_at, s->n_head - s->head_at, &n);
        if (r != IO_OK)
            return r;
        s->head_at += n;
    }
    while (s->state == ST_BODY && s->body_at < l->n_body) {
        enum io_result r = io_write(&s->io, l->body + s->body_at, l->n_body - s->body_at, &n);
        if (r != IO_OK)
            return r;
        s->body_at += n;
        if (s->body_at == l->n_body)
            s->dot_s = now_s();
    }
    return IO_OK;
}

static enum io_result handshake(struct load *l, struct session *s)
{
    if (!s->io.ssl) {
        s->io.ssl = SSL_new(l->ctx);
        if (!s->io.ssl || !SSL_set_fd(s->io.ssl, s->io.fd))
            die("SSL");
        SSL_set_connect_state(s->io.ssl);
    }
    enum io_result r = io_handshake(&s->io);
    if (r == IO_OK) {
        head(s, "EHLO bench.test\r\n");
        s->state = ST_EHLO_TLS;
    }
    return r;
}

/* false: the session is over. */
static bool turn(struct load *l, struct session *s)
{
    char buffer[READ_MAX];
    size_t n;

    for (;;) {
        enum io_result r = IO_OK;
        if (s->state == ST_HANDSHAKE)
            r = handshake(l, s);
        if (r == IO_OK)
            r = flush(l, s);
        bool writes = s->io.want_write;
        if (r == IO_END)
            return false;
        if (r == IO_WAIT && s->state == ST_HANDSHAKE)
            return true;
        enum io_result got = io_read(&s->io, buffer, sizeof(buffer), &n);
        if (got == IO_END || (got == IO_OK && !feed(l, s, buffer, n)))
            return false;
        s->io.want_write = s->io.want_write || (r == IO_WAIT && writes);
        if (got == IO_WAIT)
            return true;
    }
}

static void watch(struct load *l, struct session *s)
{
    uint32_t events = EPOLLIN | (s->io.want_write ? (uint32_t)EPOLLOUT : 0);
    struct epoll_event e = {.events = events, .data.ptr = s};

    if (events != s->events)
        (void)epoll_ctl(l->epoll, s->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, s->io.fd, &e);
    s->events = events;
}

static void open_session(struct load *l, struct session *s)
{
    memset(s, 0, sizeof(*s));
    s->io.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)setsockopt(s->io.fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (s->io.fd < 0 ||
        (connect(s->io.fd, (struct sockaddr *)&l->to, sizeof(l->to)) && errno != EINPROGRESS))
        die("connect");
    s->state = ST_BANNER;
    s->io.want_write = false;
    l->open++;
    l->connections++;
    watch(l, s);
}

static void end_session(struct load *l, struct session *s)
{
    if (s->state != ST_QUIT)
        l->broken++;
    if (s->state == ST_ENVELOPE || s->state == ST_BODY) {
        (void)fprintf(stderr, "broken off in state %d after: %s\n", (int)s->state, s->line);
        if (l->refused < l->messages)
            l->refused++;
    }
    io_close(&s->io);
    l->open--;
    if (l->started < l->messages && l->broken < 1000)
        open_session(l, s);
}

static void run(struct load *l)
{
    struct session *all = calloc(l->sessions, sizeof(*all));
    struct epoll_event e[EVENTS];

    if (!all)
        die("memory");
    l->first_s = now_s();
    for (unsigned i = 0; i < l->sessions; i++)
        open_session(l, &all[i]);
    while (l->open && now_s() < l->until) {
        int n = epoll_wait(l->epoll, e, EVENTS, 500);
        for (int i = 0; i < n; i++) {
            struct session *s = e[i].data.ptr;
            if (turn(l, s))
                watch(l, s);
            else
                end_session(l, s);
        }
    }
    free(all);
}

/* ---- result ---- */

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

static void report(struct load *l)
{
    unsigned n = l->accepted;
    double s = l->last_s - l->first_s;

    qsort(l->latency, n, sizeof(*l->latency), compare);
    printf("{\"accepted\":%u,\"refused\":%u,\"broken\":%u,\"connections\":%u,\"bytes\":%zu,"
           "\"seconds\":%.3f,\"accepted_per_s\":%.1f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,"
           "\"first_s\":%.6f,\"last_s\":%.6f}\n",
           n, l->refused, l->broken, l->connections, l->n_body, s, n && s > 0 ? n / s : 0,
           n ? (double)l->latency[n / 2] : 0, n ? (double)l->latency[(size_t)n * 99 / 100] : 0,
           l->first_s, l->last_s);
}

static bool numeric(struct load *l, const char *o, const char *v)
{
    if (strcmp(o, "--sessions") == 0)
        l->sessions = (unsigned)number(v, 1, 20000);
    else if (strcmp(o, "--messages") == 0)
        l->messages = (unsigned)number(v, 1, 10000000);
    else if (strcmp(o, "--per-connection") == 0)
        l->per_connection = (unsigned)number(v, 1, 100000);
    else if (strcmp(o, "--size") == 0)
        l->size = (unsigned)number(v, 256, 64l * 1024 * 1024);
    else if (strcmp(o, "--tls") == 0)
        l->tls = number(v, 0, 1);
    else if (strcmp(o, "--card") == 0)
        l->card = number(v, 0, 1);
    else if (strcmp(o, "--time") == 0)
        l->until = now_s() + (double)number(v, 1, 86400);
    else
        return false;
    return true;
}

static void options(struct load *l, int argc, char **argv)
{
    const char *to = NULL;

    for (int i = 1; i + 1 < argc; i += 2) {
        const char *o = argv[i], *v = argv[i + 1];
        if (strcmp(o, "--to") == 0)
            to = v;
        else if (strcmp(o, "--kind") == 0)
            l->kind = v;
        else if (strcmp(o, "--from") == 0)
            l->from = v;
        else if (strcmp(o, "--rcpt") == 0)
            l->rcpt = v;
        else if (!numeric(l, o, v))
            die(o);
    }
    if (!to || strlen(l->from) > 254 || strlen(l->rcpt) > 254)
        die("usage: loadgen --to IP:PORT ...");
    l->to = address(to);
}

int main(int argc, char **argv)
{
    struct load l = {.sessions = 100,
                     .messages = 2000,
                     .per_connection = 20,
                     .size = 4096,
                     .tls = true,
                     .kind = "text",
                     .from = "a@inside.test",
                     .rcpt = "b@bench.test",
                     .until = now_s() + 300};

    options(&l, argc, argv);
    (void)signal(SIGPIPE, SIG_IGN);
    l.ctx = SSL_CTX_new(TLS_client_method());
    l.latency = calloc(l.messages, sizeof(*l.latency));
    l.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!l.ctx || !l.latency || l.epoll < 0)
        die("start");
    SSL_CTX_set_verify(l.ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_mode(l.ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_session_cache_mode(l.ctx, SSL_SESS_CACHE_OFF);
    message(&l);
    run(&l);
    report(&l);
    SSL_CTX_free(l.ctx);
    free(l.latency);
    free(l.body);
    return l.accepted == l.messages ? 0 : 1;
}
