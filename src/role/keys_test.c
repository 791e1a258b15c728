/*
 * `keys` as a process of its own, asked over real channels: who may ask what, garbage, signatures
 * while a slow key is made, handshakes with remote keys, files of the first start.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "base/log.h"
#include "crypto/cert.h"
#include "net/ipc.h"
#include "net/sandbox.h"
#include "role/keyclient.h"
#include "role/keys.h"
#include "role/keys_files.h"
#include "role/keys_vault.h"
#include <errno.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SMTP0, SMTP1, QUEUE, WEB, STORE, PEERS };
static const struct {
    enum role role;
    uint8_t index;
} peers[PEERS] = {{ROLE_SMTP, 0}, {ROLE_SMTP, 1}, {ROLE_QUEUE, 0}, {ROLE_WEB, 0}, {ROLE_STORE, 0}};

struct world {
    pid_t pid;
    int fds[PEERS];
    int kept; /* read end: names that `keys` wants on disk */
    struct keyclient *clients[PEERS];
};

/* ---- the process ---- */

struct start {
    struct keys *keys;
    int kept;
};

static enum err push(void *ctx, struct sv name, struct sv data)
{
    struct start *s = ctx;
    keys_bytes(s->keys, name, data);
    return ERR_OK;
}

static void on_keep(void *ctx, struct sv name, struct sv data)
{
    struct start *s = ctx;
    char line[512];
    int n = snprintf(line, sizeof(line), "%.*s %zu\n", SV_ARG(name), data.n);
    if (write(s->kept, line, (size_t)n) != n)
        _exit(4);
}

NORETURN static void keys_process(const char *dir, const int fds[PEERS], int kept)
{
    struct loop *loop = NULL;
    struct start s = {.kept = kept};
    const struct keys_handler h = {&s, on_keep};
    log_init(LOG_TEXT, "keys", "test");
    if (loop_new(&loop) || keys_new(loop, &h, &s.keys) ||
        keys_load_files(sv_str(dir), push, &s, NULL))
        _exit(3);
    for (int i = 0; i < PEERS; i++)
        keys_channel(s.keys, peers[i].role, peers[i].index, fds[i]);
    /* as in production: everything below must work in the cage, child processes included */
    struct sandbox_result cage;
    if (sandbox_enter(ROLE_KEYS, NULL, 0, false, &cage, NULL))
        _exit(5);
    loop_run(loop);
    _exit(0);
}

/* One data directory for all tests: making its RSA key takes the longest. */
static char data_dir[] = "/tmp/keys-test-XXXXXX";

static int make_dir(void **state)
{
    struct errinfo info = {0};
    char path[128];
    (void)state;
    if (!mkdtemp(data_dir))
        return 1;
    if (keys_first_start(sv_str(data_dir), SV("mx.example.org"), &info)) {
        print_error("%s\n", info.text);
        return 1;
    }
    (void)snprintf(path, sizeof(path), "%s/secrets", data_dir);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/secrets/smarthost", data_dir);
    FILE *f = fopen(path, "w");
    assert_int_equal(fchmod(fileno(f), 0600), 0);
    (void)fputs("open sesame\n", f);
    (void)fclose(f);
    return 0;
}

static int remove_dir(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -r %s", data_dir);
    return system(command);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    int theirs[PEERS], kept[2];
    assert_int_equal(pipe(kept), 0);
    for (int i = 0; i < PEERS; i++) {
        int pair[2];
        assert_int_equal(ipc_pair(pair), ERR_OK);
        w->fds[i] = pair[0];
        theirs[i] = pair[1];
    }
    w->pid = fork();
    if (w->pid == 0) {
        for (int i = 0; i < PEERS; i++)
            (void)close(w->fds[i]);
        keys_process(data_dir, theirs, kept[1]);
    }
    (void)close(kept[1]);
    w->kept = kept[0];
    for (int i = 0; i < PEERS; i++) {
        (void)close(theirs[i]);
        assert_int_equal(keyclient_new(w->fds[i], &w->clients[i]), ERR_OK);
    }
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    int status = 0;
    assert_int_equal(waitpid(w->pid, &status, WNOHANG), 0); /* it lives */
    (void)kill(w->pid, SIGKILL);
    (void)waitpid(w->pid, NULL, 0);
    for (int i = 0; i < PEERS; i++)
        keyclient_free(w->clients[i]);
    (void)close(w->kept);
    free(w);
    return 0;
}

/* ---- helpers ---- */

static const uint8_t digest[64] = "a digest of no particular meaning, 64 bytes long, no more";

static X509 *cert_of(const struct tls_identity *id)
{
    BIO *bio = BIO_new_mem_buf(id->chain_pem.p, (int)id->chain_pem.n);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(x);
    return x;
}

static bool signature_good(X509 *cert, struct sv sig)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, X509_get0_pubkey(cert), NULL);
    assert_int_equal(EVP_PKEY_verify_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()), 1);
    int ok = EVP_PKEY_verify(ctx, (const uint8_t *)sig.p, sig.n, digest, 32);
    EVP_PKEY_CTX_free(ctx);
    return ok == 1;
}

static struct sv digest_sv(size_t n)
{
    return sv_of((const char *)digest, n);
}

/* ---- tests ---- */

static void certificates_ec_first(void **state)
{
    struct world *w = *state;
    struct arena a;
    struct tls_identity *ids = NULL;
    size_t n = 0;
    arena_init(&a, 1 << 20);
    assert_int_equal(keyclient_certs(w->clients[SMTP0], &a, &ids, &n), ERR_OK);
    assert_int_equal(n, 2);
    assert_true(sv_eq(ids[0].key_id, SV("default-ec")));
    assert_true(sv_eq(ids[1].key_id, SV("default-rsa")));
    struct cert_info about;
    assert_int_equal(cert_describe(ids[0].chain_pem, &a, &about, NULL), ERR_OK);
    assert_string_equal(about.key, "EC P-256");
    assert_true(sv_eq(about.sans, SV("mx.example.org")));
    arena_done(&a);
}

static void signatures_are_good(void **state)
{
    struct world *w = *state;
    struct arena a;
    struct tls_identity *ids = NULL;
    size_t n = 0;
    struct buf sig;
    buf_init(&sig, 1024);
    arena_init(&a, 1 << 20);
    assert_int_equal(keyclient_certs(w->clients[WEB], &a, &ids, &n), ERR_OK);
    for (size_t i = 0; i < n; i++) {
        X509 *x = cert_of(&ids[i]);
        enum key_alg alg = i == 0 ? KEY_ALG_ECDSA_SHA256 : KEY_ALG_RSA_PKCS1_SHA256;
        buf_reset(&sig);
        assert_int_equal(keyclient_sign(w->clients[WEB], ids[i].key_id, alg, digest_sv(32), &sig),
                         ERR_OK);
        assert_true(signature_good(x, buf_sv(&sig)));
        X509_free(x);
    }
    buf_done(&sig);
    arena_done(&a);
}

static void odd_signature_requests_are_refused(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *id;
        unsigned alg;
        size_t n;
        enum err err;
    } cases[] = {
        {"default-ec", KEY_ALG_RSA_PKCS1_SHA256, 32, ERR_DENIED}, /* not its algorithm */
        {"default-ec", KEY_ALG_ECDSA_SHA256, 31, ERR_DENIED},
        {"default-ec", KEY_ALG_ECDSA_SHA256, 0, ERR_DENIED},
        {"default-ec", 4711, 32, ERR_DENIED},
        {"default-ec", UINT32_MAX, 32, ERR_DENIED},
        {"nobody", KEY_ALG_ECDSA_SHA256, 32, ERR_NOTFOUND},
        {"", KEY_ALG_ECDSA_SHA256, 32, ERR_NOTFOUND},
        {"../default-ec", KEY_ALG_ECDSA_SHA256, 32, ERR_NOTFOUND},
        {"default-ec", KEY_ALG_ECDSA_SHA256, 32, ERR_OK}, /* and it still serves */
    };
    struct buf sig;
    buf_init(&sig, 1024);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum err err = keyclient_sign(w->clients[SMTP1], sv_str(cases[i].id),
                                      (enum key_alg)cases[i].alg, digest_sv(cases[i].n), &sig);
        assert_int_equal(err, cases[i].err);
    }
    buf_done(&sig);
}

static void each_role_gets_only_its_own(void **state)
{
    struct world *w = *state;
    static const bool allowed[PEERS][KEY_OP_IMPORT + 1] = {
        /*         CERTS SIGN   WRAP   UNWRAP SECRET TICKET GENERATE IMPORT */
        [SMTP0] = {true, true, false, false, true, true, false, false},
        [SMTP1] = {true, true, false, false, true, true, false, false},
        [QUEUE] = {true, false, true, true, false, false, false, false},
        [WEB] = {true, true, false, false, false, true, true, true},
        [STORE] = {false},
    };
    for (int p = 0; p < PEERS; p++)
        for (unsigned op = KEY_OP_CERTS; op <= KEY_OP_IMPORT + 2; op++) {
            bool may = op <= KEY_OP_IMPORT && allowed[p][op];
            struct buf out;
            buf_init(&out, KIB(64));
            /* an empty request: whoever may ask is told something else than "denied" */
            struct key_req req = {.op = (uint8_t)op};
            enum err err = keyclient_ask(w->clients[p], &req, 5000, &out);
            if (op == KEY_OP_SIGN && may)
                assert_int_equal(err, ERR_NOTFOUND);
            else
                assert_int_equal(err == ERR_DENIED, !may);
            buf_done(&out);
        }
}

static void wrapping_and_secrets(void **state)
{
    struct world *w = *state;
    struct buf sealed, plain;
    buf_init(&sealed, 4096);
    buf_init(&plain, 4096);
    struct keyclient *queue = w->clients[QUEUE];
    assert_int_equal(keyclient_wrap(queue, SV("key of a segment"), &sealed), ERR_OK);
    assert_int_equal(keyclient_unwrap(queue, buf_sv(&sealed), &plain), ERR_OK);
    assert_true(sv_eq(buf_sv(&plain), SV("key of a segment")));
    sealed.p[sealed.n - 1] ^= 1;
    assert_int_equal(keyclient_unwrap(queue, buf_sv(&sealed), &plain), ERR_CORRUPT);
    assert_int_equal(keyclient_unwrap(queue, SV("x"), &plain), ERR_SYNTAX);
    buf_reset(&plain);
    assert_int_equal(keyclient_secret(w->clients[SMTP0], SV("smarthost"), &plain), ERR_OK);
    assert_true(sv_eq(buf_sv(&plain), SV("open sesame")));
    assert_int_equal(keyclient_secret(w->clients[SMTP0], SV("other"), &plain), ERR_NOTFOUND);
    buf_done(&sealed);
    buf_done(&plain);
}

static void tickets_are_shared_by_workers_not_by_roles(void **state)
{
    struct world *w = *state;
    uint8_t a[KEYS_TICKET_SIZE], b[KEYS_TICKET_SIZE], web[KEYS_TICKET_SIZE];
    assert_int_equal(keyclient_ticket(w->clients[SMTP0], a), ERR_OK);
    assert_int_equal(keyclient_ticket(w->clients[SMTP1], b), ERR_OK);
    assert_int_equal(keyclient_ticket(w->clients[WEB], web), ERR_OK);
    assert_memory_equal(a, b, sizeof(a));
    assert_memory_not_equal(a, web, KEYS_TICKET_SIZE / 2);
}

/* Time is a parameter of the vault. */
static void tickets_rotate_hourly(void **state)
{
    struct keys_vault *v = NULL;
    bool locked;
    const struct key_req req = {.op = KEY_OP_TICKET};
    struct buf t[4];
    static const int64_t at[4] = {1000, 3600999, 3601000, 3601000 + 7200000};
    const size_t half = KEYS_TICKET_SIZE / 2;
    uint8_t zero[KEYS_TICKET_SIZE] = {0};
    (void)state;
    assert_int_equal(keys_vault_new(&v, &locked), ERR_OK);
    for (int i = 0; i < 4; i++) {
        buf_init(&t[i], KEYS_TICKET_SIZE);
        assert_int_equal(keys_vault_answer(v, &req, ROLE_SMTP, at[i], &t[i]), ERR_OK);
        assert_int_equal(t[i].n, KEYS_TICKET_SIZE);
    }
    assert_memory_equal(t[0].p + half, zero, half);        /* no previous one at first */
    assert_memory_equal(t[1].p, t[0].p, KEYS_TICKET_SIZE); /* a second before the hour */
    assert_memory_not_equal(t[2].p, t[1].p, half);
    assert_memory_equal(t[2].p + half, t[1].p, half); /* current became previous */
    assert_memory_equal(t[3].p + half, zero, half);   /* two hours: nothing old is honoured */
    for (int i = 0; i < 4; i++)
        buf_done(&t[i]);
    keys_vault_free(v);
}

static int raw_channel(struct world *w, int peer)
{
    (void)w;
    return w->fds[peer];
}

static void closed_by_keys(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char c;
    assert_int_equal(poll(&p, 1, 5000), 1);
    ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);
    assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
}

/* Uses up the store's channel, then those that it is given instead (none here): each kind of
 * garbage needs a process of its own, hence the loop over fresh worlds. */
static void garbage_closes_the_channel_only(void **state)
{
    static char big[KIB(80)];
    struct hello hello = {.role = ROLE_KEYS};
    struct buf frames[4];
    for (int i = 0; i < 4; i++)
        buf_init(&frames[i], KIB(128));
    (void)buf_append_sv(&frames[0], SV("\xff\xff garbage"));
    assert_int_equal(message_encode(MSG_HELLO, &hello, &frames[1]),
                     ERR_OK); /* not theirs to send */
    (void)buf_append(&frames[2], big, sizeof(big));
    struct key_req req = {.op = KEY_OP_CERTS};
    assert_int_equal(message_encode(MSG_KEY_REQ, &req, &frames[3]), ERR_OK);
    frames[3].n--; /* cut short */
    (void)state;
    for (int i = 0; i < 4; i++) {
        void *other = NULL;
        assert_int_equal(setup(&other), 0);
        struct world *w = other;
        int fd = raw_channel(w, STORE);
        assert_int_equal(send(fd, frames[i].p, frames[i].n, MSG_NOSIGNAL), frames[i].n);
        closed_by_keys(fd);
        uint8_t ticket[KEYS_TICKET_SIZE];
        assert_int_equal(keyclient_ticket(w->clients[SMTP0], ticket), ERR_OK);
        assert_int_equal(teardown(&other), 0);
        buf_done(&frames[i]);
    }
}

static void late_answers_are_passed_over(void **state)
{
    struct world *w = *state;
    struct buf out;
    uint8_t ticket[KEYS_TICKET_SIZE];
    buf_init(&out, KIB(64));
    struct key_req req = {.op = KEY_OP_CERTS};
    assert_int_equal(keyclient_ask(w->clients[SMTP0], &req, 0, &out), ERR_TIMEOUT);
    assert_int_equal(keyclient_ask(w->clients[SMTP0], &req, 0, &out), ERR_TIMEOUT);
    assert_int_equal(keyclient_ticket(w->clients[SMTP0], ticket), ERR_OK);
    assert_int_equal(keyclient_ask(w->clients[SMTP0], &req, 5000, &out), ERR_OK);
    assert_true(out.n > 0);
    buf_done(&out);
}

static void a_silent_keys_costs_one_deadline(void **state)
{
    int pair[2];
    struct keyclient *k = NULL;
    struct buf sig;
    (void)state;
    assert_int_equal(ipc_pair(pair), ERR_OK);
    assert_int_equal(keyclient_new(pair[0], &k), ERR_OK);
    buf_init(&sig, 1024);
    int64_t start = clock_now().mono_ms;
    assert_int_equal(keyclient_sign(k, SV("x"), KEY_ALG_ECDSA_SHA256, digest_sv(32), &sig),
                     ERR_TIMEOUT);
    assert_true(clock_now().mono_ms - start < 10 * KEYPROV_DEADLINE_MS);
    (void)close(pair[1]);
    assert_int_equal(keyclient_sign(k, SV("x"), KEY_ALG_ECDSA_SHA256, digest_sv(32), &sig),
                     ERR_CLOSED);
    assert_int_equal(keyclient_sign(k, SV("x"), KEY_ALG_ECDSA_SHA256, digest_sv(32), &sig),
                     ERR_CLOSED);
    buf_done(&sig);
    keyclient_free(k);
}

/* ---- keys made while others sign ---- */

static void send_req(int fd, const struct key_req *req)
{
    assert_int_equal(ipc_send_fd(fd, MSG_KEY_REQ, req, -1), ERR_OK);
}

static void thousand_signatures_while_rsa_4096_is_made(void **state)
{
    struct world *w = *state;
    struct arena a;
    struct tls_identity *ids = NULL;
    size_t n = 0;
    struct buf sig;
    char line[64] = "";
    buf_init(&sig, 1024);
    arena_init(&a, 1 << 20);
    assert_int_equal(keyclient_certs(w->clients[SMTP0], &a, &ids, &n), ERR_OK);
    X509 *cert = cert_of(&ids[0]);
    struct key_req make = {.tag = 99,
                           .op = KEY_OP_GENERATE,
                           .name = SV("slow"),
                           .alg = KEY_RSA_4096,
                           .data = SV("new.example.org")};
    send_req(w->fds[WEB], &make);
    for (int i = 0; i < 1000; i++) {
        buf_reset(&sig);
        assert_int_equal(keyclient_sign(w->clients[SMTP0], SV("default-ec"), KEY_ALG_ECDSA_SHA256,
                                        digest_sv(32), &sig),
                         ERR_OK); /* which includes: within its deadline */
        assert_true(signature_good(cert, buf_sv(&sig)));
    }
    X509_free(cert);
    enum message m;
    union message_body body;
    int fd;
    assert_int_equal(ipc_recv_fd(w->fds[WEB], ROLE_WEB, ROLE_KEYS, 60000, &a, &m, &body, &fd),
                     ERR_OK);
    assert_int_equal(m, MSG_KEY_REPLY);
    assert_int_equal(body.KEY_REPLY.tag, 99);
    assert_true(sv_empty(body.KEY_REPLY.error));
    struct cert_info about;
    assert_int_equal(cert_describe(body.KEY_REPLY.data, &a, &about, NULL), ERR_OK);
    assert_string_equal(about.key, "RSA 4096");
    /* it is in use, and was handed out to be kept */
    buf_reset(&sig);
    assert_int_equal(
        keyclient_sign(w->clients[SMTP0], SV("slow"), KEY_ALG_RSA_PSS_SHA256, digest_sv(32), &sig),
        ERR_OK);
    assert_true(read(w->kept, line, sizeof(line) - 1) > 0);
    assert_non_null(strstr(line, "key/slow "));
    buf_done(&sig);
    arena_done(&a);
}

static enum err import(struct world *w, const char *id, struct sv password, struct sv blob)
{
    struct buf data, out;
    buf_init(&data, KIB(64));
    buf_init(&out, KIB(64));
    key_import_put(&data, password, blob);
    struct key_req req = {.op = KEY_OP_IMPORT, .name = sv_str(id), .data = buf_sv(&data)};
    enum err err = keyclient_ask(w->clients[WEB], &req, 30000, &out);
    buf_done(&data);
    buf_done(&out);
    return err;
}

static enum err count(void *ctx, struct sv name, struct sv data)
{
    (void)name;
    *(size_t *)ctx += data.n > 0;
    return ERR_OK;
}

/* Certificates that the vault offers, asked directly. */
static size_t offered(struct keys_vault *v)
{
    const struct key_req req = {.op = KEY_OP_CERTS};
    struct tls_identity *ids = NULL;
    struct arena a;
    struct buf out;
    size_t n = 0;

    arena_init(&a, 1 << 20);
    buf_init(&out, 1 << 20);
    assert_int_equal(keys_vault_answer(v, &req, ROLE_SMTP, 0, &out), ERR_OK);
    assert_int_equal(key_certs_get(buf_sv(&out), &a, &ids, &n), ERR_OK);
    buf_done(&out);
    arena_done(&a);
    return n;
}

static void halves_that_do_not_match_are_not_offered(void **state)
{
    struct keys_vault *v = NULL;
    struct buf key[2], cert[2];
    bool locked;

    (void)state;
    assert_int_equal(keys_vault_new(&v, &locked), ERR_OK);
    for (int i = 0; i < 2; i++) {
        buf_init(&key[i], 16384);
        buf_init(&cert[i], 16384);
        assert_int_equal(
            cert_self_signed(KEY_EC_P256, SV("mx.example.org"), 30, &key[i], &cert[i], NULL),
            ERR_OK);
    }
    assert_int_equal(keys_vault_put(v, SV("key/a"), buf_sv(&key[0]), NULL), ERR_OK);
    assert_int_equal(keys_vault_put(v, SV("cert/a"), buf_sv(&cert[1]), NULL), ERR_OK);
    assert_int_equal(offered(v), 0);
    assert_int_equal(keys_vault_put(v, SV("cert/a"), buf_sv(&cert[0]), NULL), ERR_OK);
    assert_int_equal(offered(v), 1);
    for (int i = 0; i < 2; i++) {
        buf_done(&key[i]);
        buf_done(&cert[i]);
    }
    keys_vault_free(v);
}

static void files_of_the_first_start(void **state)
{
    static const struct {
        const char *name;
        mode_t mode;
    } files[] = {{"", 0700},
                 {"/master.key", 0600},
                 {"/default-ec.key", 0600},
                 {"/default-ec.crt", 0644},
                 {"/default-rsa.key", 0600},
                 {"/default-rsa.crt", 0644}};
    struct errinfo info = {0};
    struct stat st;
    char path[128];
    size_t n = 0;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        (void)snprintf(path, sizeof(path), "%s/keys%s", data_dir, files[i].name);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, files[i].mode);
    }
    ino_t before = st.st_ino;
    assert_int_equal(keys_first_start(sv_str(data_dir), SV("x"), &info),
                     ERR_OK); /* no second one */
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_ino, before);
    assert_int_equal(keys_load_files(sv_str(data_dir), count, &n, &info), ERR_OK);
    assert_int_equal(n, 6); /* five and a secret */
    /* names of other places are refused, a former file is kept */
    assert_int_equal(keys_keep_file(sv_str(data_dir), SV("key/../x"), SV("k"), &info), ERR_DENIED);
    assert_int_equal(keys_keep_file(sv_str(data_dir), SV("master"), SV("k"), &info), ERR_DENIED);
    assert_int_equal(keys_keep_file(sv_str(data_dir), SV("key/master"), SV("k"), &info),
                     ERR_DENIED);
    assert_int_equal(keys_keep_file(sv_str(data_dir), SV("cert/extra"), SV("1"), &info), ERR_OK);
    assert_int_equal(keys_keep_file(sv_str(data_dir), SV("cert/extra"), SV("2"), &info), ERR_OK);
    (void)snprintf(path, sizeof(path), "%s/keys/extra.crt.old", data_dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(path, sizeof(path), "%s/keys/extra.crt", data_dir);
    assert_int_equal(unlink(path), 0);
    /* a private file that others may read is refused by name */
    (void)snprintf(path, sizeof(path), "%s/keys/default-ec.key", data_dir);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(keys_load_files(sv_str(data_dir), count, &n, &info), ERR_DENIED);
    assert_string_equal(info.file, "default-ec.key");
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(keys_first_start(SV("/nonexistent"), SV("x"), &info), ERR_NOTFOUND);
}

static void import_in_a_child(void **state)
{
    struct world *w = *state;
    struct buf key, crt, sig;
    buf_init(&key, KIB(16));
    buf_init(&crt, KIB(16));
    buf_init(&sig, 1024);
    assert_int_equal(cert_self_signed(KEY_EC_P256, SV("bought.example.org"), 30, &key, &crt, NULL),
                     ERR_OK);
    assert_int_equal(import(w, "bought", SV(""), buf_sv(&key)), ERR_NOTFOUND); /* no certificate */
    assert_int_equal(import(w, "bought", SV(""), SV("garbage")), ERR_SYNTAX);
    assert_int_equal(import(w, "../x", SV(""), buf_sv(&key)), ERR_SYNTAX);
    assert_int_equal(
        keyclient_sign(w->clients[SMTP0], SV("bought"), KEY_ALG_ECDSA_SHA256, digest_sv(32), &sig),
        ERR_NOTFOUND);
    (void)buf_append_sv(&key, buf_sv(&crt));
    assert_int_equal(import(w, "bought", SV(""), buf_sv(&key)), ERR_OK);
    assert_int_equal(
        keyclient_sign(w->clients[SMTP0], SV("bought"), KEY_ALG_ECDSA_SHA256, digest_sv(32), &sig),
        ERR_OK);
    buf_done(&key);
    buf_done(&crt);
    buf_done(&sig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(certificates_ec_first, setup, teardown),
        cmocka_unit_test_setup_teardown(signatures_are_good, setup, teardown),
        cmocka_unit_test_setup_teardown(odd_signature_requests_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(each_role_gets_only_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(wrapping_and_secrets, setup, teardown),
        cmocka_unit_test_setup_teardown(tickets_are_shared_by_workers_not_by_roles, setup,
                                        teardown),
        cmocka_unit_test(tickets_rotate_hourly),
        cmocka_unit_test(halves_that_do_not_match_are_not_offered),
        cmocka_unit_test(files_of_the_first_start),
        cmocka_unit_test(garbage_closes_the_channel_only),
        cmocka_unit_test_setup_teardown(late_answers_are_passed_over, setup, teardown),
        cmocka_unit_test(a_silent_keys_costs_one_deadline),
        cmocka_unit_test_setup_teardown(thousand_signatures_while_rsa_4096_is_made, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(import_in_a_child, setup, teardown),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
