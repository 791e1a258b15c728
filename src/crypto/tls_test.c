/* Two ends of TLS in one process: keys, versions, names, chains, resumption, ALPN, strength. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "crypto/testpki.h"
#include "crypto/tls_int.h"
#include <openssl/err.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* ---- the `keys` of this test: signs with the key whose id is asked for ---- */

struct world {
    struct pki ca, ec, rsa, other_ca, self, expired, cn_only, wild;
    struct tls_client *client;
    unsigned signatures;
    bool refuse;
};

static enum err sign(void *ctx, struct sv id, enum key_alg alg, struct sv digest, struct buf *out)
{
    struct world *w = ctx;
    const struct {
        const char *id;
        const struct pki *pki;
    } keys[] = {{"ec", &w->ec},           {"rsa", &w->rsa},    {"self", &w->self},
                {"expired", &w->expired}, {"cn", &w->cn_only}, {"wild", &w->wild}};
    w->signatures++;
    for (size_t i = 0; i < ARRAY_LEN(keys) && !w->refuse; i++)
        if (sv_eq(id, sv_str(keys[i].id)))
            return cert_sign(keys[i].pki->key, alg, digest, out, NULL);
    return ERR_TIMEOUT;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    w->ca = pki_make(KEY_RSA_2048, "Test CA", NULL, NULL, 30);
    w->other_ca = pki_make(KEY_EC_P256, "Stranger CA", NULL, NULL, 30);
    w->ec = pki_make(KEY_EC_P256, "mx.example.org", "DNS:mx.example.org", &w->ca, 30);
    w->rsa = pki_make(KEY_RSA_2048, "mx.example.org", "DNS:mx.example.org", &w->ca, 30);
    w->self = pki_make(KEY_EC_P256, "mx.example.org", "DNS:mx.example.org", &w->other_ca, 30);
    w->expired = pki_make(KEY_EC_P256, "mx.example.org", "DNS:mx.example.org", &w->ca, -3);
    w->cn_only = pki_make(KEY_EC_P256, "mx.example.org", NULL, &w->ca, 30);
    w->wild = pki_make(KEY_EC_P256, "mx.example.org", "DNS:*.example.org", &w->ca, 30);
    assert_int_equal(keyprov_init(sign, w, NULL), ERR_OK);
    assert_int_equal(tls_client_new(buf_sv(&w->ca.cert_pem), &w->client, NULL), ERR_OK);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    struct pki *all[] = {&w->ca,   &w->ec,      &w->rsa,     &w->other_ca,
                         &w->self, &w->expired, &w->cn_only, &w->wild};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        pki_done(all[i]);
    tls_client_free(w->client);
    keyprov_done();
    free(w);
    return 0;
}

/* ---- one connection ---- */

struct both {
    int fds[2];
    struct tls *s, *c;
    enum tls_io s_io, c_io;
};

static struct tls_req req(enum tls_level level, uint16_t strength)
{
    return (struct tls_req){.level = (uint8_t)level, .strength = strength};
}

static bool waits(enum tls_io io)
{
    return io == TLS_IO_WANT_READ || io == TLS_IO_WANT_WRITE;
}

static void shake(struct both *b)
{
    b->s_io = b->c_io = TLS_IO_WANT_READ;
    for (int i = 0; i < 20 && (waits(b->s_io) || waits(b->c_io)); i++) {
        if (waits(b->c_io))
            b->c_io = tls_handshake(b->c);
        if (waits(b->s_io))
            b->s_io = tls_handshake(b->s);
    }
}

static struct both open_both(struct world *w, struct tls_server *server, const char *name,
                             struct tls_req r, const char *key)
{
    struct both b = {0};
    test_socketpair(b.fds);
    assert_int_equal(tls_accept(server, b.fds[0], &b.s), ERR_OK);
    assert_int_equal(tls_connect(w->client, b.fds[1], sv_str(name), &r, sv_str(key), &b.c), ERR_OK);
    return b;
}

static void close_both(struct both *b)
{
    tls_free(b->s);
    tls_free(b->c);
    (void)close(b->fds[0]);
    (void)close(b->fds[1]);
}

/* One byte each way: carries the tickets of TLS 1.3 to the client. */
static void talk(struct both *b)
{
    char p[64];
    size_t n = 0;
    assert_int_equal(tls_write(b->s, "220 hi", 6, &n), TLS_IO_OK);
    assert_int_equal(n, 6);
    assert_int_equal(tls_read(b->c, p, sizeof(p), &n), TLS_IO_OK);
    assert_int_equal(n, 6);
    assert_memory_equal(p, "220 hi", 6);
    assert_int_equal(tls_read(b->c, p, sizeof(p), &n), TLS_IO_WANT_READ);
    assert_false(tls_has_pending(b->c));
    assert_int_equal(tls_write(b->c, "EHLO x", 6, &n), TLS_IO_OK);
    assert_int_equal(tls_read(b->s, p, sizeof(p), &n), TLS_IO_OK);
    assert_memory_equal(p, "EHLO x", 6);
}

static struct tls_server *server_of(const struct pki *a, const char *id_a, const struct pki *b,
                                    const char *id_b, uint16_t min, bool prefer_rsa)
{
    static const char *const alpn[] = {"smtp", NULL};
    struct tls_identity ids[2] = {{buf_sv(&a->cert_pem), sv_str(id_a)}, {SV_NULL, SV_NULL}};
    if (b)
        ids[1] = (struct tls_identity){buf_sv(&b->cert_pem), sv_str(id_b)};
    struct tls_server_config c = {.identities = ids,
                                  .n_identities = b ? 2 : 1,
                                  .min_version = min,
                                  .prefer_rsa = prefer_rsa,
                                  .alpn = alpn};
    for (size_t i = 0; i < sizeof(c.ticket_keys); i++)
        c.ticket_keys[i] = (uint8_t)(i + 1);
    struct tls_server *s = NULL;
    struct errinfo info = {0};
    enum err err = tls_server_new(&c, &s, &info);
    if (err)
        print_error("%s\n", info.text);
    assert_int_equal(err, ERR_OK);
    return s;
}

static void client_max(struct both *b, int version)
{
    assert_int_equal(SSL_set_max_proto_version(b->c->ssl, version), 1);
}

/* ---- tests ---- */

static void both_keys_both_versions(void **state)
{
    struct world *w = *state;
    static const struct {
        int version;
        bool prefer_rsa;
        bool rsa_only;
        const char *cipher;
    } cases[] = {
        {TLS1_3_VERSION, false, false, "TLS_AES_256_GCM_SHA384"},
        {TLS1_3_VERSION, true, false, "TLS_AES_256_GCM_SHA384"},
        {TLS1_3_VERSION, false, true, "TLS_AES_256_GCM_SHA384"},
        {TLS1_2_VERSION, false, false, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
        {TLS1_2_VERSION, true, false, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
        {TLS1_2_VERSION, false, true, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_server *s =
            cases[i].rsa_only
                ? server_of(&w->rsa, "rsa", NULL, NULL, 0x0303, false)
                : server_of(&w->ec, "ec", &w->rsa, "rsa", 0x0303, cases[i].prefer_rsa);
        struct both b = open_both(w, s, "mx.example.org", req(TLS_LEVEL_VERIFY_CN, 128), "");
        client_max(&b, cases[i].version);
        unsigned before = w->signatures;
        shake(&b);
        assert_int_equal(b.c_io, TLS_IO_OK);
        assert_int_equal(b.s_io, TLS_IO_OK);
        assert_int_equal(w->signatures, before + 1);
        talk(&b);
        struct arena a;
        struct tls_facts f;
        arena_init(&a, 65536);
        tls_facts_of(b.c, &a, &f);
        assert_int_equal(f.version, cases[i].version);
        assert_true(sv_eq(f.cipher, sv_str(cases[i].cipher)));
        assert_int_equal(f.bits, 256);
        assert_true(f.peer_cert && f.chain_ok && f.name_ok);
        assert_false(f.resumed);
        assert_true(sv_eq(f.peer_subject, SV("CN=mx.example.org")));
        assert_true(sv_eq(f.peer_issuer, SV("CN=Test CA")));
        assert_int_equal(f.peer_sha256.n, 64);
        assert_true(f.peer_not_after_ms > (int64_t)time(NULL) * 1000);
        X509 *got = SSL_get0_peer_certificate(b.c->ssl);
        bool rsa = cases[i].rsa_only || cases[i].prefer_rsa;
        assert_int_equal(X509_cmp(got, rsa ? w->rsa.cert : w->ec.cert), 0);
        tls_facts_of(b.s, &a, &f);
        assert_int_equal(f.version, cases[i].version);
        assert_false(f.peer_cert);
        arena_done(&a);
        close_both(&b);
        tls_server_free(s);
    }
}

static void certificates_are_judged_not_enforced(void **state)
{
    struct world *w = *state;
    const struct {
        const struct pki *pki;
        const char *id, *name;
        bool chain_ok, name_ok;
        const char *reason;
    } cases[] = {
        {&w->ec, "ec", "mx.example.org", true, true, ""},
        {&w->ec, "ec", "MX.Example.ORG.", true, true, ""},
        {&w->ec, "ec", "mx.example.net", true, false, ""},
        {&w->ec, "ec", "[192.0.2.1]", true, false, ""},
        {&w->self, "self", "mx.example.org", false, true, "unable to get local issuer certificate"},
        {&w->expired, "expired", "mx.example.org", false, true, "certificate has expired"},
        {&w->cn_only, "cn", "mx.example.org", true, true, ""},
        {&w->cn_only, "cn", "a.mx.example.org", true, false, ""},
        {&w->wild, "wild", "mail.example.org", true, true, ""},
        {&w->wild, "wild", "a.b.example.org", true, false, ""},
        {&w->wild, "wild", "example.org", true, false, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_server *s = server_of(cases[i].pki, cases[i].id, NULL, NULL, 0x0303, false);
        struct both b = open_both(w, s, cases[i].name, req(TLS_LEVEL_ENCRYPT, 128), "");
        shake(&b);
        assert_int_equal(b.c_io, TLS_IO_OK);
        struct arena a;
        struct tls_facts f;
        arena_init(&a, 65536);
        tls_facts_of(b.c, &a, &f);
        assert_int_equal(f.chain_ok, cases[i].chain_ok);
        assert_int_equal(f.name_ok, cases[i].name_ok);
        assert_string_equal(f.verify_error.p ? f.verify_error.p : "", cases[i].reason);
        arena_done(&a);
        close_both(&b);
        tls_server_free(s);
    }
}

static bool resumes(struct world *w, struct tls_server *s, const char *name, struct tls_req r,
                    const char *key, int version, bool break_off)
{
    struct arena a;
    struct tls_facts f;
    struct both b = open_both(w, s, name, r, key);
    client_max(&b, version);
    unsigned before = w->signatures;
    shake(&b);
    assert_int_equal(b.c_io, TLS_IO_OK);
    assert_int_equal(b.s_io, TLS_IO_OK);
    talk(&b);
    arena_init(&a, 65536);
    tls_facts_of(b.c, &a, &f);
    assert_int_equal(w->signatures, before + (f.resumed ? 0 : 1));
    assert_true(f.peer_cert); /* resumed or not */
    assert_int_equal(f.chain_ok, s != NULL && sv_eq(f.peer_issuer, SV("CN=Test CA")));
    assert_true(f.name_ok);
    arena_done(&a);
    if (break_off) {
        char junk[] = "\x17\x03\x03\x00\x02zz", p[16];
        size_t n;
        assert_int_equal(write(b.fds[0], junk, sizeof(junk) - 1), sizeof(junk) - 1);
        assert_int_equal(tls_read(b.c, p, sizeof(p), &n), TLS_IO_FAILED);
        char why[64];
        tls_error(b.c, why, sizeof(why));
        assert_true(strlen(why) > 0);
    }
    close_both(&b);
    return f.resumed;
}

static void sessions_resume_under_equal_keys_only(void **state)
{
    struct world *w = *state;
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct tls_server *s = server_of(&w->ec, "ec", NULL, NULL, 0x0303, false);
    struct tls_req may = req(TLS_LEVEL_OPPORTUNISTIC, 128), must = req(TLS_LEVEL_VERIFY_CN, 128);
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        int v = versions[i];
        char key[32];
        (void)snprintf(key, sizeof(key), "dest-%d", v);
        assert_false(resumes(w, s, "mx.example.org", may, key, v, false));
        assert_false(resumes(w, s, "mx.example.org", must, key, v, false)); /* other level */
        assert_false(resumes(w, s, "mx.example.org", may, "other", v, false));
        for (int n = 0; n < 3; n++)
            assert_true(resumes(w, s, "mx.example.org", may, key, v, false));
        assert_true(resumes(w, s, "mx.example.org", must, key, v, false));
        assert_false(resumes(w, s, "mx.example.org", may, "", v, false)); /* no key: no cache */
        assert_false(resumes(w, s, "mx.example.org", may, "", v, false));
    }
    tls_server_free(s);
}

static void resumed_session_keeps_its_verdict(void **state)
{
    struct world *w = *state;
    struct tls_server *s = server_of(&w->self, "self", NULL, NULL, 0x0303, false);
    struct tls_req may = req(TLS_LEVEL_OPPORTUNISTIC, 128);
    assert_false(resumes(w, s, "mx.example.org", may, "untrusted", TLS1_3_VERSION, false));
    /* resumes() checks that chain_ok is still false */
    assert_true(resumes(w, s, "mx.example.org", may, "untrusted", TLS1_3_VERSION, false));
    tls_server_free(s);
}

static void broken_session_is_not_resumed(void **state)
{
    struct world *w = *state;
    struct tls_server *s = server_of(&w->ec, "ec", NULL, NULL, 0x0303, false);
    struct tls_req may = req(TLS_LEVEL_OPPORTUNISTIC, 128);
    assert_false(resumes(w, s, "mx.example.org", may, "broken", TLS1_3_VERSION, true));
    assert_false(resumes(w, s, "mx.example.org", may, "broken", TLS1_3_VERSION, false));
    tls_server_free(s);
}

static void tickets_outlive_one_rotation(void **state)
{
    struct world *w = *state;
    struct tls_server *s = server_of(&w->ec, "ec", NULL, NULL, 0x0303, false);
    struct tls_req may = req(TLS_LEVEL_OPPORTUNISTIC, 128);
    uint8_t keys[160];
    assert_false(resumes(w, s, "mx.example.org", may, "rotate", TLS1_3_VERSION, false));
    for (size_t i = 0; i < 80; i++) {
        keys[i] = (uint8_t)(200 - i);
        keys[80 + i] = (uint8_t)(i + 1); /* what was current */
    }
    tls_server_set_tickets(s, keys);
    assert_true(resumes(w, s, "mx.example.org", may, "rotate", TLS1_3_VERSION, false));
    memset(keys, 7, sizeof(keys));
    tls_server_set_tickets(s, keys);
    assert_false(resumes(w, s, "mx.example.org", may, "rotate", TLS1_3_VERSION, false));
    tls_server_free(s);
}

static void strength_256_means_256(void **state)
{
    struct world *w = *state;
    struct tls_server *s = server_of(&w->ec, "ec", NULL, NULL, 0x0303, false);
    static const struct {
        int version;
        uint16_t strength;
        const char *server_suites; /* 128 bits only */
        bool ok;
    } cases[] = {
        {TLS1_2_VERSION, 128, "ECDHE-ECDSA-AES128-GCM-SHA256", true},
        {TLS1_2_VERSION, 256, "ECDHE-ECDSA-AES128-GCM-SHA256", false},
        {TLS1_2_VERSION, 256, "ECDHE-ECDSA-CHACHA20-POLY1305", true},
        {TLS1_3_VERSION, 128, "TLS_AES_128_GCM_SHA256", true},
        {TLS1_3_VERSION, 256, "TLS_AES_128_GCM_SHA256", false},
        {TLS1_3_VERSION, 256, "TLS_CHACHA20_POLY1305_SHA256", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct both b =
            open_both(w, s, "mx.example.org", req(TLS_LEVEL_ENCRYPT, cases[i].strength), "");
        client_max(&b, cases[i].version);
        int ok = cases[i].version == TLS1_3_VERSION
                     ? SSL_set_ciphersuites(b.s->ssl, cases[i].server_suites)
                     : SSL_set_cipher_list(b.s->ssl, cases[i].server_suites);
        assert_int_equal(ok, 1);
        shake(&b);
        assert_int_equal(b.c_io == TLS_IO_OK, cases[i].ok);
        if (cases[i].ok) {
            struct arena a;
            struct tls_facts f;
            arena_init(&a, 65536);
            tls_facts_of(b.c, &a, &f);
            assert_true(f.bits >= cases[i].strength);
            arena_done(&a);
        }
        close_both(&b);
    }
    tls_server_free(s);
}

static void alpn_is_strict(void **state)
{
    struct world *w = *state;
    struct tls_server *s = server_of(&w->ec, "ec", NULL, NULL, 0x0303, false);
    static const struct {
        const char *offer;
        unsigned n;
        bool ok;
    } cases[] = {
        {NULL, 0, true},
        {"\x04smtp", 5, true},
        {"\x02h2\x04smtp", 8, true},
        {"\x02h2\x08http/1.1", 12, false},
        {"\x05smtps", 6, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct both b = open_both(w, s, "mx.example.org", req(TLS_LEVEL_ENCRYPT, 128), "");
        if (cases[i].offer)
            assert_int_equal(
                SSL_set_alpn_protos(b.c->ssl, (const uint8_t *)cases[i].offer, cases[i].n), 0);
        shake(&b);
        assert_int_equal(b.c_io == TLS_IO_OK, cases[i].ok);
        assert_int_equal(b.s_io == TLS_IO_OK, cases[i].ok);
        if (!cases[i].ok) {
            char why[160];
            tls_error(b.c, why, sizeof(why));
            assert_non_null(strstr(why, "no application protocol"));
        }
        close_both(&b);
    }
    tls_server_free(s);
}

static void versions_below_the_minimum_are_refused(void **state)
{
    struct world *w = *state;
    struct tls_server *s = server_of(&w->ec, "ec", NULL, NULL, 0x0304, false);
    struct both b = open_both(w, s, "mx.example.org", req(TLS_LEVEL_ENCRYPT, 128), "");
    client_max(&b, TLS1_2_VERSION);
    shake(&b);
    assert_int_equal(b.c_io, TLS_IO_FAILED);
    assert_int_equal(b.s_io, TLS_IO_FAILED);
    size_t n;
    char p[8];
    assert_int_equal(tls_read(b.s, p, sizeof(p), &n), TLS_IO_FAILED);
    assert_int_equal(tls_write(b.s, "x", 1, &n), TLS_IO_FAILED);
    close_both(&b);
    tls_server_free(s);
}

static void a_refused_signature_fails_one_handshake(void **state)
{
    struct world *w = *state;
    struct tls_server *s = server_of(&w->ec, "ec", NULL, NULL, 0x0303, false);
    for (int i = 0; i < 2; i++) {
        struct both b = open_both(w, s, "mx.example.org", req(TLS_LEVEL_ENCRYPT, 128), "");
        w->refuse = i == 0;
        shake(&b);
        assert_int_equal(b.s_io, i == 0 ? TLS_IO_FAILED : TLS_IO_OK);
        assert_int_equal(b.c_io, i == 0 ? TLS_IO_FAILED : TLS_IO_OK);
        close_both(&b);
    }
    tls_server_free(s);
}

static void clear_text_and_hang_up(void **state)
{
    struct world *w = *state;
    struct tls_server *s = server_of(&w->ec, "ec", NULL, NULL, 0x0303, false);
    char why[160] = "";
    struct both b = open_both(w, s, "mx.example.org", req(TLS_LEVEL_ENCRYPT, 128), "");
    assert_int_equal(write(b.fds[1], "EHLO clear\r\n", 12), 12);
    assert_int_equal(tls_handshake(b.s), TLS_IO_FAILED);
    tls_error(b.s, why, sizeof(why));
    assert_string_equal(why, "wrong version number");
    close_both(&b);

    b = open_both(w, s, "mx.example.org", req(TLS_LEVEL_ENCRYPT, 128), "");
    assert_int_equal(tls_handshake(b.c), TLS_IO_WANT_READ);
    (void)close(b.fds[0]);
    b.fds[0] = -1;
    assert_int_equal(tls_handshake(b.c), TLS_IO_FAILED);
    close_both(&b);
    /* a server dropped while its session lives */
    b = open_both(w, s, "mx.example.org", req(TLS_LEVEL_ENCRYPT, 128), "");
    tls_server_free(s);
    shake(&b);
    assert_int_equal(b.s_io, TLS_IO_OK);
    talk(&b);
    size_t n;
    char p[8];
    tls_close_notify(b.s);
    assert_int_equal(tls_read(b.c, p, sizeof(p), &n), TLS_IO_CLOSED);
    close_both(&b);
}

static void cache_is_bounded_and_single_use(void **state)
{
    (void)state;
    struct tls_cache *c = tls_cache_new(4, 2);
    int64_t now = (int64_t)time(NULL);
    for (int i = 0; i < 3; i++)
        tls_cache_put(c, SV("a"), SSL_SESSION_new());
    assert_int_equal(tls_cache_count(c), 2); /* per key */
    for (int i = 0; i < 6; i++) {
        char key[8];
        (void)snprintf(key, sizeof(key), "k%d", i);
        tls_cache_put(c, sv_str(key), SSL_SESSION_new());
    }
    assert_int_equal(tls_cache_count(c), 4);
    /* an empty SSL_SESSION is not resumable: taken out and dropped */
    assert_null(tls_cache_take(c, SV("k5"), now));
    assert_int_equal(tls_cache_count(c), 3);
    assert_null(tls_cache_take(c, SV("k5"), now));
    char big[TLS_CACHE_KEY_MAX + 1] = {0};
    tls_cache_put(c, sv_of(big, sizeof(big)), SSL_SESSION_new());
    assert_int_equal(tls_cache_count(c), 3);
    tls_cache_free(c);
}

static void configuration_mistakes(void **state)
{
    struct world *w = *state;
    struct tls_server *s = NULL;
    struct errinfo info = {0};
    struct tls_server_config none = {0};
    assert_int_equal(tls_server_new(&none, &s, &info), ERR_NOTFOUND);
    struct tls_identity id = {SV("garbage"), SV("ec")};
    struct tls_server_config bad = {.identities = &id, .n_identities = 1};
    assert_int_equal(tls_server_new(&bad, &s, &info), ERR_SYNTAX);
    id = (struct tls_identity){buf_sv(&w->ec.cert_pem), SV("")};
    assert_int_equal(tls_server_new(&bad, &s, &info), ERR_LIMIT);
    struct tls_client *c = NULL;
    assert_int_equal(tls_client_new(SV("garbage"), &c, &info), ERR_SYNTAX);
    assert_int_equal(tls_client_new(SV(""), &c, &info), ERR_OK);
    tls_client_free(c);
    assert_null(s);
}

/* A short read is the last one until the driver says that there is more; nothing is lost by it. */
static void reads_wait_for_readiness(void **state)
{
    struct world *w = *state;
    struct tls_server *s = server_of(&w->ec, "ec", NULL, NULL, 0x0303, false);
    struct both b = open_both(w, s, "mx.example.org", req(TLS_LEVEL_OPPORTUNISTIC, 128), "");
    char p[64];
    size_t n = 0;
    shake(&b);
    talk(&b);
    for (int i = 0; i < 3; i++) {
        tls_readable(b.s);
        assert_int_equal(tls_write(b.c, "one", 3, &n), TLS_IO_OK);
        assert_int_equal(tls_read(b.s, p, sizeof(p), &n), TLS_IO_OK);
        assert_int_equal(n, 3);
        assert_int_equal(tls_write(b.c, "two", 3, &n), TLS_IO_OK);
        assert_int_equal(tls_read(b.s, p, sizeof(p), &n), TLS_IO_WANT_READ);
        tls_readable(b.s);
        assert_int_equal(tls_read(b.s, p, sizeof(p), &n), TLS_IO_OK);
        assert_memory_equal(p, "two", 3);
    }
    tls_close_notify(b.c);
    assert_int_equal(tls_read(b.s, p, sizeof(p), &n), TLS_IO_WANT_READ);
    tls_readable(b.s);
    assert_int_equal(tls_read(b.s, p, sizeof(p), &n), TLS_IO_CLOSED);
    close_both(&b);
    tls_server_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_keys_both_versions),
        cmocka_unit_test(certificates_are_judged_not_enforced),
        cmocka_unit_test(sessions_resume_under_equal_keys_only),
        cmocka_unit_test(resumed_session_keeps_its_verdict),
        cmocka_unit_test(broken_session_is_not_resumed),
        cmocka_unit_test(tickets_outlive_one_rotation),
        cmocka_unit_test(strength_256_means_256),
        cmocka_unit_test(alpn_is_strict),
        cmocka_unit_test(versions_below_the_minimum_are_refused),
        cmocka_unit_test(a_refused_signature_fails_one_handshake),
        cmocka_unit_test(clear_text_and_hang_up),
        cmocka_unit_test(cache_is_bounded_and_single_use),
        cmocka_unit_test(configuration_mistakes),
        cmocka_unit_test(reads_wait_for_readiness),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
