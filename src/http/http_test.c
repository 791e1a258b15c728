/* The server over TLS on a socket pair: one client, driven in turn with the server's loop. */
#include "http/http.h"

#include "base/buf.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#define DEADLINE_MS 10000

struct world {
    uv_loop_t loop;
    struct http_server *server;
    EVP_PKEY *key;
    X509 *cert;
    SSL_CTX *client;
    struct http_request *late; /* of /late: answered when the test says so */
    unsigned asked;
    char path[300];
};

static bool give_keys(void *ctx, SSL_CTX *ssl)
{
    struct world *w = ctx;

    return SSL_CTX_use_certificate(ssl, w->cert) == 1 && SSL_CTX_use_PrivateKey(ssl, w->key) == 1;
}

static void on_request(void *ctx, struct http_request *r, struct sv path)
{
    struct world *w = ctx;

    w->asked++;
    (void)snprintf(w->path, sizeof(w->path), "%.*s", SV_ARG(path));
    if (sv_eq(path, SV("/late")))
        w->late = r;
    else if (sv_eq(path, SV("/empty")))
        http_answer(r, 503, "text/plain", SV(""));
    else if (sv_eq(path, SV("/huge")))
        http_answer(r, 200, "text/plain", sv_of(w->path, 5u * 1024 * 1024)); /* never read */
    else
        http_answer(r, sv_eq(path, SV("/ok")) ? 200 : 404, "text/plain", SV("hello\n"));
}

static void make_cert(struct world *w)
{
    w->key = EVP_EC_gen("P-256");
    w->cert = X509_new();
    assert_true(w->key && w->cert);
    (void)X509_gmtime_adj(X509_getm_notBefore(w->cert), 0);
    (void)X509_gmtime_adj(X509_getm_notAfter(w->cert), 3600);
    (void)X509_set_pubkey(w->cert, w->key);
    assert_true(X509_sign(w->cert, w->key, EVP_sha256()) > 0);
}

static int setup(void **state)
{
    static struct world w;
    struct http_config c = {
        .uv_loop = &w.loop, .keys = give_keys, .request = on_request, .ctx = &w};
    struct errinfo info;

    w = (struct world){0};
    assert_int_equal(uv_loop_init(&w.loop), 0);
    make_cert(&w);
    w.client = SSL_CTX_new(TLS_client_method());
    if (http_server_new(&c, &w.server, &info))
        fail_msg("%s", info.text);
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    http_server_free(w->server);
    for (int i = 0; i < 100 && uv_run(&w->loop, UV_RUN_NOWAIT); i++)
        ;
    (void)uv_loop_close(&w->loop);
    SSL_CTX_free(w->client);
    X509_free(w->cert);
    EVP_PKEY_free(w->key);
    return 0;
}

/* A connected pair on loopback; one end becomes the server's. */
static int dial(struct world *w)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(l, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(l, 1), 0);
    assert_int_equal(getsockname(l, (struct sockaddr *)&at, &n), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    int server = accept4(l, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(server >= 0);
    (void)close(l);
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    http_adopt(w->server, server);
    return fd;
}

struct client {
    int fd;
    SSL *ssl;
    struct buf in;
    bool closed;
};

static void client_open(struct world *w, struct client *c)
{
    int64_t until = clock_now().mono_ms + DEADLINE_MS;

    *c = (struct client){.fd = dial(w), .ssl = SSL_new(w->client)};
    buf_init(&c->in, 65536);
    assert_int_equal(SSL_set_fd(c->ssl, c->fd), 1);
    while (SSL_connect(c->ssl) != 1) {
        assert_true(clock_now().mono_ms < until);
        (void)uv_run(&w->loop, UV_RUN_NOWAIT);
    }
}

static void client_close(struct client *c)
{
    SSL_free(c->ssl);
    (void)close(c->fd);
    buf_done(&c->in);
}

/* Reads until the text is there, or (NULL) until the server closes. */
static void client_await(struct world *w, struct client *c, const char *text)
{
    int64_t until = clock_now().mono_ms + DEADLINE_MS;
    char part[4096];

    while (!c->closed && (!text || sv_find(buf_sv(&c->in), sv_str(text)) == SIZE_MAX)) {
        if (clock_now().mono_ms > until)
            fail_msg("no \"%s\" in \"%.*s\"", text ? text : "end", SV_ARG(buf_sv(&c->in)));
        (void)uv_run(&w->loop, UV_RUN_NOWAIT);
        int n = SSL_read(c->ssl, part, sizeof(part));
        if (n > 0)
            (void)buf_append(&c->in, part, (size_t)n);
        else if (SSL_get_error(c->ssl, n) != SSL_ERROR_WANT_READ)
            c->closed = true;
    }
}

static void client_say(struct client *c, const char *text)
{
    buf_reset(&c->in);
    assert_int_equal(SSL_write(c->ssl, text, (int)strlen(text)), (int)strlen(text));
}

static bool got(const struct client *c, const char *text)
{
    return sv_find(buf_sv(&c->in), sv_str(text)) != SIZE_MAX;
}

/* Several requests on one connection; each answer has the headers that browsers must obey. */
static void answers_carry_their_headers(void **state)
{
    static const char *const headers[] = {
        "content-type: text/plain", "content-length: 6", "x-content-type-options: nosniff",
        "cache-control: no-store", "content-security-policy: default-src 'none'"};
    struct world *w = *state;
    struct client c;

    client_open(w, &c);
    client_say(&c, "GET /ok HTTP/1.1\r\nHost: x\r\n\r\n");
    client_await(w, &c, "hello\n");
    assert_true(got(&c, "HTTP/1.1 200 "));
    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        if (!got(&c, headers[i]))
            fail_msg("lacks %s: %.*s", headers[i], SV_ARG(buf_sv(&c.in)));
    client_say(&c, "GET /other HTTP/1.1\r\nHost: x\r\n\r\n");
    client_await(w, &c, "hello\n");
    assert_true(got(&c, "HTTP/1.1 404 "));
    client_say(&c, "GET /empty HTTP/1.1\r\nHost: x\r\n\r\n");
    client_await(w, &c, "\r\n\r\n");
    assert_true(got(&c, "HTTP/1.1 503 ") && got(&c, "content-length: 0"));
    assert_int_equal(w->asked, 3);
    client_close(&c);
}

/* RFC 9110 9.3.2: HEAD is answered as GET without the content; other methods are not ours. */
static void methods(void **state)
{
    struct world *w = *state;
    struct client c;

    client_open(w, &c);
    client_say(&c, "HEAD /ok HTTP/1.1\r\nHost: x\r\n\r\n");
    client_await(w, &c, "\r\n\r\n");
    assert_true(got(&c, "HTTP/1.1 200 ") && got(&c, "content-length: 6"));
    client_say(&c, "POST /ok HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    client_await(w, &c, "\r\n\r\n");
    client_await(w, &c, NULL);
    if (!got(&c, "HTTP/1.1 405 ") || !got(&c, "allow: GET, HEAD") || got(&c, "hello"))
        fail_msg("%.*s", SV_ARG(buf_sv(&c.in)));
    assert_int_equal(w->asked, 1);
    client_close(&c);
}

static struct http_request *await_late(struct world *w)
{
    int64_t until = clock_now().mono_ms + DEADLINE_MS;
    struct http_request *r;

    while (!w->late && clock_now().mono_ms < until)
        (void)uv_run(&w->loop, UV_RUN_NOWAIT);
    r = w->late;
    assert_non_null(r);
    w->late = NULL;
    return r;
}

/* An answer may come later, and when it comes after the client went away it goes nowhere. */
static void late_answers(void **state)
{
    struct world *w = *state;
    struct client c;

    client_open(w, &c);
    client_say(&c, "GET /late HTTP/1.1\r\nHost: x\r\n\r\n");
    http_answer(await_late(w), 200, "text/plain", SV("at last"));
    client_await(w, &c, "at last");
    client_say(&c, "GET /late HTTP/1.1\r\nHost: x\r\n\r\n");
    struct http_request *r = await_late(w);
    client_close(&c);
    for (int i = 0; i < 50; i++)
        (void)uv_run(&w->loop, UV_RUN_NOWAIT);
    http_answer(r, 200, "text/plain", SV("nobody is there"));
}

/* What is no request, or one too long, reaches nobody. */
static void bad_requests_are_not_asked(void **state)
{
    static char path[400] = "GET /";
    static const char *const bad[] = {"\r\n\r\nxyz\r\n\r\n", "EHLO mx.example\r\n\r\n",
                                      "GET\r\n\r\n", path};
    struct world *w = *state;

    memset(path + 5, 'a', 300);
    memcpy(path + 305, " HTTP/1.1\r\nHost: x\r\n\r\n", 23);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct client c;
        client_open(w, &c);
        client_say(&c, bad[i]);
        client_await(w, &c, i == 3 ? "HTTP/1.1 414 " : NULL);
        assert_false(got(&c, " 200 "));
        client_close(&c);
    }
    assert_int_equal(w->asked, 0);
}

/* An answer beyond the limit closes the connection instead. */
static void too_large_answers_close(void **state)
{
    struct world *w = *state;
    struct client c;

    client_open(w, &c);
    client_say(&c, "GET /huge HTTP/1.1\r\nHost: x\r\n\r\n");
    client_await(w, &c, NULL);
    assert_int_equal(c.in.n, 0);
    client_close(&c);
}

static bool no_keys(void *ctx, SSL_CTX *ssl)
{
    (void)ctx, (void)ssl;
    return false;
}

static void no_keys_no_server(void **state)
{
    struct world *w = *state;
    struct http_config c = {.uv_loop = &w->loop, .keys = no_keys, .request = on_request, .ctx = w};
    struct http_server *s = NULL;
    struct errinfo info;

    assert_int_equal(http_server_new(&c, &s, &info), ERR_IO);
    assert_null(s);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(answers_carry_their_headers),
        TEST(methods),
        TEST(late_answers),
        TEST(bad_requests_are_not_asked),
        TEST(too_large_answers_close),
        TEST(no_keys_no_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
