/*
 * Cost of TLS handshakes, both ends in one process over a socketpair: CPU time a handshake of each
 * side, full and resumed, with and without verification of the chain, key here or in another
 * process.
 *
 *   tls_bench [SECONDS_PER_CASE]
 */
#include "base/clock.h"
#include "crypto/cert.h"
#include "crypto/tls.h"
#include "net/ipc.h"
#include "role/keyclient.h"
#include "role/keys.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct world {
    struct buf ec_key, ec_crt, rsa_key, rsa_crt;
    EVP_PKEY *ec, *rsa;
    struct keyclient *remote;
    bool use_remote;
};

static void check(enum err err, const char *what)
{
    if (!err)
        return;
    (void)fprintf(stderr, "tls_bench: %s: %s\n", what, err_name(err));
    exit(1);
}

static enum err sign(void *ctx, struct sv id, enum key_alg alg, struct sv digest, struct buf *out)
{
    struct world *w = ctx;
    if (w->use_remote)
        return keyclient_sign(w->remote, id, alg, digest, out);
    return cert_sign(sv_eq(id, SV("ec")) ? w->ec : w->rsa, alg, digest, out, NULL);
}

static void no_keep(void *ctx, struct sv name, struct sv data)
{
    (void)ctx, (void)name, (void)data;
}

static pid_t start_keys(struct world *w)
{
    int pair[2];
    check(ipc_pair(pair), "socketpair");
    pid_t pid = fork();
    if (pid == 0) {
        struct loop *loop = NULL;
        struct keys *keys = NULL;
        const struct keys_handler h = {NULL, no_keep};
        (void)close(pair[0]);
        check(loop_new(&loop), "loop");
        check(keys_new(loop, &h, &keys), "keys");
        keys_bytes(keys, SV("key/ec"), buf_sv(&w->ec_key));
        keys_bytes(keys, SV("key/rsa"), buf_sv(&w->rsa_key));
        keys_channel(keys, ROLE_SMTP, 0, pair[1]);
        loop_run(loop);
        _exit(0);
    }
    (void)close(pair[1]);
    check(keyclient_new(pair[0], &w->remote), "keyclient");
    return pid;
}

static double cpu_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

struct sums {
    double server, client;
    unsigned n, resumed;
};

static bool waits(enum tls_io io)
{
    return io == TLS_IO_WANT_READ || io == TLS_IO_WANT_WRITE;
}

static void step(struct tls *t, enum tls_io *io, double *sum)
{
    double start = cpu_us();
    if (waits(*io))
        *io = tls_handshake(t);
    *sum += cpu_us() - start;
}

static void connect_once(struct tls_server *server, struct tls_client *client,
                         const struct tls_req *req, const char *key, struct sums *sums)
{
    int fds[2];
    struct tls *s = NULL, *c = NULL;
    enum tls_io s_io = TLS_IO_WANT_READ, c_io = TLS_IO_WANT_READ;
    char p[16];
    size_t n;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0)
        exit(1);
    check(tls_accept(server, fds[0], &s), "accept");
    check(tls_connect(client, fds[1], SV("mx.example.org"), req, sv_str(key), &c), "connect");
    while (waits(s_io) || waits(c_io)) {
        step(c, &c_io, &sums->client);
        step(s, &s_io, &sums->server);
    }
    if (s_io != TLS_IO_OK || c_io != TLS_IO_OK)
        check(ERR_IO, "handshake");
    struct arena a;
    struct tls_facts facts;
    arena_init(&a, 65536);
    (void)tls_write(s, "220", 3, &n);
    (void)tls_read(c, p, sizeof(p), &n); /* the ticket */
    tls_facts_of(c, &a, &facts);
    sums->resumed += facts.resumed;
    sums->n++;
    arena_done(&a);
    tls_free(s);
    tls_free(c);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void run(struct world *w, const char *what, bool rsa, bool remote, enum tls_level level,
                const char *key, int64_t ms)
{
    const struct tls_identity id = {buf_sv(rsa ? &w->rsa_crt : &w->ec_crt),
                                    rsa ? SV("rsa") : SV("ec")};
    struct tls_server_config config = {.identities = &id, .n_identities = 1, .min_version = 0x0303};
    struct tls_server *server = NULL;
    struct tls_client *client = NULL;
    const struct tls_req req = {.level = (uint8_t)level, .strength = 128};
    struct sums sums = {0};
    memset(config.ticket_keys, 5, sizeof(config.ticket_keys));
    w->use_remote = remote;
    check(tls_server_new(&config, &server, NULL), "server");
    check(tls_client_new(buf_sv(rsa ? &w->rsa_crt : &w->ec_crt), &client, NULL), "client");
    int64_t start = clock_now().mono_ms;
    while (clock_now().mono_ms - start < ms)
        connect_once(server, client, &req, key, &sums);
    int64_t took = clock_now().mono_ms - start;
    printf("%-44s server %6.0f us  client %6.0f us CPU  %5.0f/s  resumed %u/%u\n", what,
           sums.server / sums.n, sums.client / sums.n, 1000.0 * sums.n / (double)took, sums.resumed,
           sums.n);
    tls_server_free(server);
    tls_client_free(client);
}

int main(int argc, char **argv)
{
    static struct world w;
    int64_t ms = argc > 1 ? 1000 * strtol(argv[1], NULL, 10) : 2000;
    struct buf *bufs[] = {&w.ec_key, &w.ec_crt, &w.rsa_key, &w.rsa_crt};
    for (size_t i = 0; i < ARRAY_LEN(bufs); i++)
        buf_init(bufs[i], 16384);
    check(cert_self_signed(KEY_EC_P256, SV("mx.example.org"), 30, &w.ec_key, &w.ec_crt, NULL),
          "EC");
    check(cert_self_signed(KEY_RSA_2048, SV("mx.example.org"), 30, &w.rsa_key, &w.rsa_crt, NULL),
          "RSA");
    check(cert_load_key(buf_sv(&w.ec_key), &w.ec, NULL), "EC key");
    check(cert_load_key(buf_sv(&w.rsa_key), &w.rsa, NULL), "RSA key");
    pid_t keys = start_keys(&w);
    check(keyprov_init(sign, &w, NULL), "provider");
    run(&w, "EC P-256, key here", false, false, TLS_LEVEL_VERIFY_CN, "", ms);
    run(&w, "EC P-256, key in `keys`", false, true, TLS_LEVEL_VERIFY_CN, "", ms);
    run(&w, "RSA-2048, key here", true, false, TLS_LEVEL_VERIFY_CN, "", ms);
    run(&w, "RSA-2048, key in `keys`", true, true, TLS_LEVEL_VERIFY_CN, "", ms);
    run(&w, "EC P-256, opportunistic, key in `keys`", false, true, TLS_LEVEL_OPPORTUNISTIC, "", ms);
    run(&w, "EC P-256, resumed", false, true, TLS_LEVEL_VERIFY_CN, "key", ms);
    (void)kill(keys, SIGKILL);
    (void)waitpid(keys, NULL, 0);
    return 0;
}
