/* See smtp_harness.h. */
#include "role/smtp_harness.h"

#include "crypto/cert.h"
#include "role/role.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <openssl/pem.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- network ---- */

static void add_address(int sock, const char *interface, const char *address)
{
    struct ifreq r = {.ifr_flags = 0};
    struct sockaddr_in in = {.sin_family = AF_INET};

    (void)snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", interface);
    assert_int_equal(inet_pton(AF_INET, address, &in.sin_addr), 1);
    memcpy(&r.ifr_addr, &in, sizeof(in));
    assert_int_equal(ioctl(sock, SIOCSIFADDR, &r), 0);
    r.ifr_flags = IFF_UP;
    assert_int_equal(ioctl(sock, SIOCSIFFLAGS, &r), 0);
}

void bench_private_net(void)
{
    char interface[8], address[32];

    if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET))
        fail_msg("no network namespace: %s", strerror(errno));
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(sock >= 0);
    add_address(sock, "lo", "127.0.0.1");
    for (int i = 1; i <= 4; i++) {
        (void)snprintf(interface, sizeof(interface), "lo:%d", i);
        (void)snprintf(address, sizeof(address), "198.51.100.%d", i);
        add_address(sock, interface, address);
    }
    (void)close(sock);
}

/* ---- processes ---- */

static pid_t start_role(const char *name, int (*run)(struct role_ctx *), int *out_control)
{
    int pair[2];

    assert_int_equal(ipc_pair(pair), ERR_OK);
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct role_ctx r;
        struct errinfo info = {0};
        (void)close(pair[0]);
        if (dup2(pair[1], ROLE_CONTROL_FD) < 0 || role_start(&r, name, &info))
            _exit(70);
        _exit(run(&r));
    }
    (void)close(pair[1]);
    *out_control = pair[0];
    return pid;
}

static void send_to(int sock, enum message m, const void *body, int fd)
{
    assert_int_equal(ipc_send_fd(sock, m, body, fd), ERR_OK);
}

static void send_bytes(int sock, const char *name, struct sv data)
{
    struct bytes b = {sv_str(name), data};

    send_to(sock, MSG_BYTES, &b, -1);
}

static void send_hello(int sock, enum role role)
{
    struct hello h = {.role = (uint8_t)role,
                      .workers = 1,
                      .hostname = SV(BENCH_HOST),
                      .data_dir = SV("/nonexistent"),
                      .log_level = getenv("BENCH_LOG") ? LOG_DEBUG : LOG_ERROR,
                      .log_format = LOG_TEXT};

    send_to(sock, MSG_HELLO, &h, -1);
}

static void send_channel(int sock, enum role peer, int fd)
{
    struct channel c = {(uint8_t)peer, 0};

    send_to(sock, MSG_CHANNEL, &c, fd);
}

static void send_listener(struct bench *b, const char *kind, uint16_t *out_port)
{
    int fd = listen_any(out_port);
    struct listener l = {sv_str(kind), SV("127.0.0.1")};

    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    send_to(b->control, MSG_LISTENER, &l, fd);
}

static void expect_ready(struct bench *b, int sock, enum role role)
{
    enum message m = MSG_NONE;
    int fd = -1;

    arena_reset(&b->mem);
    assert_int_equal(
        ipc_recv_fd(sock, ROLE_SUPERVISOR, role, BENCH_WAIT_MS, &b->mem, &m, &b->msg, &fd), ERR_OK);
    assert_int_equal(m, MSG_READY);
}

static SSL_CTX *server_ctx(struct sv key_pem, struct sv cert_pem)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    BIO *k = BIO_new_mem_buf(key_pem.p, (int)key_pem.n);
    BIO *c = BIO_new_mem_buf(cert_pem.p, (int)cert_pem.n);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(k, NULL, NULL, NULL);
    X509 *cert = PEM_read_bio_X509(c, NULL, NULL, NULL);

    assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    EVP_PKEY_free(key);
    X509_free(cert);
    BIO_free(k);
    BIO_free(c);
    return ctx;
}

static void start_keys(struct bench *b)
{
    struct buf key, cert;
    int pair[2];

    buf_init(&key, 16384);
    buf_init(&cert, 16384);
    assert_int_equal(cert_self_signed(KEY_EC_P256, SV(BENCH_HOST), 10, &key, &cert, NULL), ERR_OK);
    b->server = server_ctx(buf_sv(&key), buf_sv(&cert));
    b->client = SSL_CTX_new(TLS_client_method());
    send_hello(b->keys_control, ROLE_KEYS);
    send_bytes(b->keys_control, "key/default-ec", buf_sv(&key));
    send_bytes(b->keys_control, "cert/default-ec", buf_sv(&cert));
    assert_int_equal(ipc_pair(pair), ERR_OK);
    send_channel(b->keys_control, ROLE_SMTP, pair[0]);
    send_bytes(b->keys_control, ROLE_BYTES_END, SV(""));
    expect_ready(b, b->keys_control, ROLE_KEYS);
    b->keys_end = pair[1];
    buf_done(&key);
    buf_done(&cert);
}

void bench_queue_channel(struct bench *b)
{
    int pair[2];

    if (b->queue >= 0)
        (void)close(b->queue);
    assert_int_equal(ipc_pair(pair), ERR_OK);
    send_channel(b->control, ROLE_QUEUE, pair[1]);
    b->queue = pair[0];
}

void bench_settings(struct bench *b, const struct piece *pieces)
{
    struct tree_file files[16];
    struct settings_msg s = {.revision = 7};
    uint32_t n = 0;
    struct buf tree;

    buf_init(&tree, 65536);
    for (; pieces[n].name; n++)
        files[n] = (struct tree_file){sv_str(pieces[n].name), sv_str(pieces[n].text)};
    assert_int_equal(tree_join(files, n, &tree), ERR_OK);
    s.tree = buf_sv(&tree);
    bench_send(b, MSG_SETTINGS, &s, -1);
    buf_done(&tree);
}

void bench_settings_acked(struct bench *b)
{
    const union message_body *m = bench_expect(b, MSG_SETTINGS_ACK);

    if (m->SETTINGS_ACK.error.n)
        fail_msg("settings: %.*s", SV_ARG(m->SETTINGS_ACK.error));
    assert_int_equal(m->SETTINGS_ACK.revision, 7);
}

void bench_queue(struct bench *b, const struct piece *pieces)
{
    struct lease lease = {LEASE_FIRST, 1000};
    struct intake in = {.open = true};

    bench_send(b, MSG_LEASE, &lease, -1);
    bench_send(b, MSG_INTAKE, &in, -1);
    bench_settings(b, pieces);
    bench_settings_acked(b);
}

void bench_keys(struct bench *b)
{
    send_channel(b->control, ROLE_KEYS, b->keys_end);
}

static struct bench *start(bool with_keys)
{
    struct bench *b = calloc(1, sizeof(*b));
    int pair[2];

    assert_non_null(b);
    (void)signal(SIGPIPE, SIG_IGN);
    b->queue = b->lookup = b->fd = -1;
    arena_init(&b->mem, 16u * 1024 * 1024);
    b->keys = start_role("keys", keys_run, &b->keys_control);
    b->smtp = start_role("smtp", smtp_run, &b->control);
    send_hello(b->control, ROLE_SMTP);
    start_keys(b);
    if (with_keys)
        bench_keys(b);
    send_listener(b, "smtp", &b->port_mx);
    send_listener(b, "submission", &b->port_submission);
    send_listener(b, "submissions", &b->port_submissions);
    bench_queue_channel(b);
    assert_int_equal(ipc_pair(pair), ERR_OK);
    send_channel(b->control, ROLE_LOOKUP, pair[1]);
    b->lookup = pair[0];
    send_bytes(b->control, "resolv.conf", SV("nameserver 127.0.0.1\n"));
    send_bytes(b->control, ROLE_BYTES_END, SV(""));
    expect_ready(b, b->control, ROLE_SMTP);
    return b;
}

struct bench *bench_start_bare(void)
{
    return start(false);
}

struct bench *bench_start(const struct piece *pieces)
{
    struct bench *b = start(true);

    bench_queue(b, pieces);
    return b;
}

static int end_of(pid_t pid)
{
    int status = 0;

    for (int i = 0; i < BENCH_WAIT_MS / 20; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return status;
        (void)poll(NULL, 0, 20);
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    return -1;
}

void bench_stop(struct bench *b)
{
    int status = 0;

    if (waitpid(b->smtp, &status, WNOHANG) != 0)
        fail_msg("smtp ended by itself: status %x", (unsigned)status);
    (void)kill(b->smtp, SIGTERM);
    status = end_of(b->smtp);
    (void)kill(b->keys, SIGTERM);
    (void)end_of(b->keys);
    (void)close(b->control);
    (void)close(b->keys_control);
    (void)close(b->queue);
    (void)close(b->lookup);
    SSL_CTX_free(b->server);
    SSL_CTX_free(b->client);
    arena_done(&b->mem);
    free(b);
    assert_int_equal(status, 0);
}

/* ---- queue ---- */

void bench_send(struct bench *b, enum message m, const void *body, int fd)
{
    send_to(b->queue, m, body, fd);
}

const union message_body *bench_expect(struct bench *b, enum message m)
{
    for (;;) {
        enum message got = MSG_NONE;
        arena_reset(&b->mem);
        enum err err = ipc_recv_fd(b->queue, ROLE_QUEUE, ROLE_SMTP, BENCH_WAIT_MS, &b->mem, &got,
                                   &b->msg, &b->fd);
        if (err)
            fail_msg("no %s: %s", message_name(m), err_name(err));
        if (got == m)
            return &b->msg;
        if (got != MSG_STATS && got != MSG_EVENT)
            fail_msg("%s instead of %s", message_name(got), message_name(m));
    }
}

void bench_commit(struct bench *b, uint16_t code)
{
    struct committed c = {.tag = b->msg.RECEIVED.tag, .id = b->msg.RECEIVED.env.id, .code = code};

    bench_send(b, MSG_COMMITTED, &c, -1);
}

/* ---- conversations ---- */

int listen_any(uint16_t *out_port)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    socklen_t n = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
    *out_port = ntohs(in.sin_port);
    return fd;
}

static struct talk talk_of(int fd)
{
    struct timeval limit = {BENCH_WAIT_MS / 1000, 0};
    struct talk t = {.fd = fd};
    int one = 1;

    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return t;
}

struct talk talk_from(const char *source, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    struct sockaddr_in from = {.sin_family = AF_INET};

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(inet_pton(AF_INET, source, &from.sin_addr), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    return talk_of(fd);
}

struct talk talk_to(uint16_t port)
{
    return talk_from("127.0.0.1", port);
}

bool talk_pending(int listener, int ms)
{
    struct pollfd p = {listener, POLLIN, 0};

    return poll(&p, 1, ms) > 0;
}

struct talk talk_accept(int listener)
{
    if (!talk_pending(listener, BENCH_WAIT_MS))
        fail_msg("nobody connects");
    return talk_of(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

void talk_close(struct talk *t)
{
    if (t->ssl) {
        (void)SSL_shutdown(t->ssl);
        SSL_free(t->ssl);
    }
    (void)close(t->fd);
    *t = (struct talk){.fd = -1};
}

void talk_say(struct talk *t, const char *text)
{
    size_t n = strlen(text);

    while (n > 0) {
        ssize_t r = t->ssl ? SSL_write(t->ssl, text, (int)n) : send(t->fd, text, n, MSG_NOSIGNAL);
        assert_true(r > 0);
        text += r;
        n -= (size_t)r;
    }
}

const char *talk_line(struct talk *t)
{
    char *nl;

    while (!(nl = memmem(t->in, t->n, "\r\n", 2))) {
        ssize_t r = t->ssl ? SSL_read(t->ssl, t->in + t->n, (int)(sizeof(t->in) - t->n))
                           : recv(t->fd, t->in + t->n, sizeof(t->in) - t->n, 0);
        if (r <= 0)
            return NULL;
        t->n += (size_t)r;
    }
    size_t n = (size_t)(nl - t->in);
    assert_true(n < sizeof(t->line));
    memcpy(t->line, t->in, n);
    t->line[n] = 0;
    t->n -= n + 2;
    memmove(t->in, nl + 2, t->n);
    return t->line;
}

const char *talk_reply(struct talk *t, int code)
{
    const char *line;

    do {
        line = talk_line(t);
        if (!line)
            fail_msg("connection ended, expected %d", code);
        if ((int)strtol(line, NULL, 10) != code)
            fail_msg("expected %d, got \"%s\"", code, line);
    } while (line[3] == '-');
    return line;
}

const char *talk_cmd(struct talk *t, const char *line, int code)
{
    talk_say(t, line);
    talk_say(t, "\r\n");
    return talk_reply(t, code);
}

void talk_expect(struct talk *t, const char *start)
{
    const char *line = talk_line(t);

    if (!line || strncmp(line, start, strlen(start)) != 0)
        fail_msg("expected \"%s\", got \"%s\"", start, line ? line : "end of connection");
}

static void handshake(struct talk *t, SSL_CTX *ctx, bool server)
{
    t->ssl = SSL_new(ctx);
    assert_int_equal(SSL_set_fd(t->ssl, t->fd), 1);
    assert_int_equal(server ? SSL_accept(t->ssl) : SSL_connect(t->ssl), 1);
}

void talk_tls_client(struct bench *b, struct talk *t)
{
    handshake(t, b->client, false);
}

void talk_tls_server(struct bench *b, struct talk *t)
{
    handshake(t, b->server, true);
}

void talk_read_data(struct talk *t, struct buf *out)
{
    const char *line;

    while ((line = talk_line(t)) != NULL && strcmp(line, ".") != 0) {
        (void)buf_append_sv(out, sv_str(line[0] == '.' ? line + 1 : line));
        (void)buf_append_sv(out, SV("\r\n"));
    }
    assert_non_null(line);
}

struct delivery job_for(uint16_t port, uint64_t attempt, enum tls_level level, struct sv body)
{
    static struct rcpt rcpt;
    static struct host host;
    static uint8_t digest[32];

    rcpt = (struct rcpt){.addr = SV("joe@outside.example"), .index = 3};
    host = (struct host){.name = SV("127.0.0.1"), .port = port};
    sha256_once(body, digest);
    return (struct delivery){
        .attempt = attempt,
        .id = 77,
        .sender = SV("ann@inside.example"),
        .size = body.n,
        .sha256 = sv_of((const char *)digest, sizeof(digest)),
        .received_ms = 1,
        .encrypt = level >= TLS_LEVEL_ENCRYPT,
        .helo = SV(BENCH_HOST),
        .hop = {.route = SV("test"),
                .domain = SV("outside.example"),
                .key = SV("test/outside.example"),
                .hosts = &host,
                .n_hosts = 1,
                .tls = {.level = (uint8_t)level, .strength = 128, .why = SV("test")}},
        .rcpts = &rcpt,
        .n_rcpts = 1,
        .body = body,
    };
}
