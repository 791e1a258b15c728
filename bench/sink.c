/*
 * SMTP sink: takes mail, with or without STARTTLS, throws it away and counts it. One process,
 * epoll.
 *
 *   sink --listen 127.0.0.1:PORT [--cert FILE --key FILE] [--count N] [--time S] [--shared FILE]
 *
 * Ends after N messages or S seconds (600) or SIGTERM and prints one line of JSON. FILE is mapped
 * and holds struct shared: others may read the counters while it runs.
 */
#include "smtp_io.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_MAX  (64u * 1024)
#define LINE_SIZE 1100
#define OUT_SIZE  16384
#define EVENTS    256

struct shared {
    volatile uint64_t messages, connections, handshakes, resumed, bytes;
    volatile double first_s, last_s; /* CLOCK_MONOTONIC */
};

enum mode { MODE_HANDSHAKE, MODE_COMMAND, MODE_DATA };

struct session {
    struct io io;
    enum mode mode;
    bool quit;
    uint32_t events;
    size_t n_line, n_out, matched;
    char line[LINE_SIZE], out[OUT_SIZE];
};

struct sink {
    int epoll, listener;
    SSL_CTX *ctx;
    struct shared *shared;
    uint64_t count;
    char buffer[READ_MAX];
};

static volatile sig_atomic_t stopped;

static void on_signal(int s)
{
    (void)s;
    stopped = 1;
}

static void say(struct session *s, const char *text)
{
    size_t n = strlen(text);

    if (s->n_out + n <= sizeof(s->out)) {
        memcpy(s->out + s->n_out, text, n);
        s->n_out += n;
    } else {
        s->quit = true;
    }
}

static void command(struct sink *k, struct session *s)
{
    static const struct {
        const char *verb, *reply;
    } rows[] = {
        {"MAIL", "250 2.1.0 ok\r\n"},       {"RCPT", "250 2.1.5 ok\r\n"}, {"DATA", "354 go\r\n"},
        {"RSET", "250 2.0.0 ok\r\n"},       {"NOOP", "250 2.0.0 ok\r\n"}, {"HELO", "250 sink\r\n"},
        {"STAR", "220 2.0.0 go ahead\r\n"}, {"QUIT", "221 2.0.0 bye\r\n"}};

    if (strncasecmp(s->line, "EHLO", 4) == 0) {
        say(s, k->ctx && !s->io.ssl ? "250-sink\r\n250-STARTTLS\r\n" : "250-sink\r\n");
        say(s, "250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 0\r\n");
        return;
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strncasecmp(s->line, rows[i].verb, 4) != 0)
            continue;
        say(s, rows[i].reply);
        if (i == 2) {
            s->mode = MODE_DATA;
            s->matched = 2; /* the line end before the body counts */
        } else if (i == 6) {
            s->mode = MODE_HANDSHAKE;
        } else if (i == 7) {
            s->quit = true;
        }
        return;
    }
    say(s, "500 5.5.2 unknown\r\n");
}

static void counted(struct sink *k, struct session *s)
{
    double now = now_s();

    if (k->shared->messages++ == 0)
        k->shared->first_s = now;
    k->shared->last_s = now;
    s->mode = MODE_COMMAND;
    say(s, "250 2.0.0 taken\r\n");
}

/* Looks for CRLF.CRLF; returns how much was used. */
static size_t data(struct sink *k, struct session *s, const char *p, size_t n)
{
    static const char end[] = "\r\n.\r\n";

    for (size_t i = 0; i < n; i++) {
        if (s->matched == 0) {
            const char *cr = memchr(p + i, '\r', n - i);
            if (!cr)
                return n;
            i = (size_t)(cr - p);
        }
        if (p[i] == end[s->matched])
            s->matched++;
        else
            s->matched = p[i] == '\r';
        if (s->matched == 5) {
            counted(k, s);
            return i + 1;
        }
    }
    return n;
}

static void feed(struct sink *k, struct session *s, const char *p, size_t n)
{
    size_t at = 0;

    k->shared->bytes += n;
    while (at < n && s->mode != MODE_HANDSHAKE) {
        if (s->mode == MODE_DATA) {
            at += data(k, s, p + at, n - at);
            continue;
        }
        char c = p[at++];
        if (s->n_line + 1 < sizeof(s->line))
            s->line[s->n_line++] = c;
        if (c == '\n') {
            s->line[s->n_line] = 0;
            s->n_line = 0;
            command(k, s);
        }
    }
}

static bool flush(struct session *s)
{
    size_t n;

    while (s->n_out) {
        enum io_result r = io_write(&s->io, s->out, s->n_out, &n);
        if (r != IO_OK)
            return r == IO_WAIT;
        s->n_out -= n;
        memmove(s->out, s->out + n, s->n_out);
    }
    return !s->quit;
}

static bool handshake(struct sink *k, struct session *s)
{
    if (!s->io.ssl) {
        s->io.ssl = SSL_new(k->ctx);
        if (!s->io.ssl || !SSL_set_fd(s->io.ssl, s->io.fd))
            return false;
        SSL_set_accept_state(s->io.ssl);
    }
    enum io_result r = io_handshake(&s->io);
    if (r == IO_OK) {
        s->mode = MODE_COMMAND;
        k->shared->handshakes++;
        k->shared->resumed += (uint64_t)SSL_session_reused(s->io.ssl);
    }
    return r != IO_END;
}

static bool turn(struct sink *k, struct session *s)
{
    size_t n;

    for (;;) {
        if (s->mode == MODE_HANDSHAKE) {
            if (!handshake(k, s))
                return false;
            if (s->mode == MODE_HANDSHAKE)
                return true;
        }
        enum io_result r = io_read(&s->io, k->buffer, sizeof(k->buffer), &n);
        if (r == IO_END)
            return false;
        if (r == IO_OK)
            feed(k, s, k->buffer, n);
        bool clear = s->mode == MODE_HANDSHAKE && !s->io.ssl;
        if ((r == IO_WAIT || clear || s->n_out > OUT_SIZE / 2) && !flush(s))
            return false;
        if (r == IO_WAIT)
            return true;
    }
}

static void watch(struct sink *k, struct session *s)
{
    uint32_t events = EPOLLIN | (s->io.want_write ? (uint32_t)EPOLLOUT : 0);
    struct epoll_event e = {.events = events, .data.ptr = s};

    if (events != s->events)
        (void)epoll_ctl(k->epoll, s->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, s->io.fd, &e);
    s->events = events;
}

static void accept_all(struct sink *k)
{
    int fd;

    while ((fd = accept4(k->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct session *s = calloc(1, sizeof(*s));
        if (!s)
            die("memory");
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        s->io.fd = fd;
        s->mode = MODE_COMMAND;
        k->shared->connections++;
        say(s, "220 sink ESMTP\r\n");
        if (flush(s)) {
            watch(k, s);
        } else {
            io_close(&s->io);
            free(s);
        }
    }
}

static void loop(struct sink *k, double until)
{
    struct epoll_event e[EVENTS];

    while (!stopped && now_s() < until && (!k->count || k->shared->messages < k->count)) {
        int n = epoll_wait(k->epoll, e, EVENTS, 200);
        for (int i = 0; i < n; i++) {
            struct session *s = e[i].data.ptr;
            if (!s) {
                accept_all(k);
            } else if (turn(k, s)) {
                watch(k, s);
            } else {
                io_close(&s->io);
                free(s);
            }
        }
    }
}

static void certificate(struct sink *k, const char *cert, const char *key)
{
    k->ctx = SSL_CTX_new(TLS_server_method());
    if (!k->ctx || SSL_CTX_use_certificate_chain_file(k->ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(k->ctx, key, SSL_FILETYPE_PEM) != 1)
        die("certificate");
    SSL_CTX_set_mode(k->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                 SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_session_id_context(k->ctx, (const unsigned char *)"sink", 4);
}

static void listen_at(struct sink *k, const char *where)
{
    struct sockaddr_in sa = address(where);
    struct epoll_event e = {.events = EPOLLIN};

    k->epoll = epoll_create1(EPOLL_CLOEXEC);
    k->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)setsockopt(k->listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(k->listener, (struct sockaddr *)&sa, sizeof(sa)) || listen(k->listener, 1024) ||
        epoll_ctl(k->epoll, EPOLL_CTL_ADD, k->listener, &e))
        die("listen");
}

static struct shared *map(const char *path)
{
    int flags = path ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS;
    int fd = path ? open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;

    if (path && (fd < 0 || ftruncate(fd, sizeof(struct shared))))
        die(path);
    void *p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, flags, fd, 0);
    if (p == MAP_FAILED)
        die("mmap");
    return p;
}

int main(int argc, char **argv)
{
    static struct sink k;
    const char *where = NULL, *cert = NULL, *key = NULL, *shared = NULL;
    double seconds = 600;

    for (int i = 1; i + 1 < argc; i += 2) {
        const char *o = argv[i], *v = argv[i + 1];
        if (strcmp(o, "--listen") == 0)
            where = v;
        else if (strcmp(o, "--cert") == 0)
            cert = v;
        else if (strcmp(o, "--key") == 0)
            key = v;
        else if (strcmp(o, "--shared") == 0)
            shared = v;
        else if (strcmp(o, "--count") == 0)
            k.count = (uint64_t)number(v, 0, 100000000);
        else if (strcmp(o, "--time") == 0)
            seconds = (double)number(v, 1, 86400);
        else
            die(o);
    }
    if (!where || !cert != !key)
        die("usage: sink --listen IP:PORT [--cert FILE --key FILE] [--count N] [--time S] "
            "[--shared FILE]");
    (void)signal(SIGTERM, on_signal);
    (void)signal(SIGPIPE, SIG_IGN);
    if (cert)
        certificate(&k, cert, key);
    k.shared = map(shared);
    listen_at(&k, where);
    loop(&k, now_s() + seconds);
    printf("{\"messages\":%lu,\"connections\":%lu,\"handshakes\":%lu,\"resumed\":%lu}\n",
           k.shared->messages, k.shared->connections, k.shared->handshakes, k.shared->resumed);
    return 0;
}
