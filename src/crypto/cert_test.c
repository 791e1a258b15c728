/* Certificates: making, describing, names, signing, import with its limits; sealing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "base/enc.h"
#include "crypto/ossl.h"
#include "crypto/testpki.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- making and describing ---- */

static void self_signed(void **state)
{
    static const struct {
        enum key_kind kind;
        const char *host, *key;
        enum err err;
    } cases[] = {
        {KEY_EC_P256, "mx.example.org", "EC P-256", ERR_OK},
        {KEY_RSA_2048, "mx.example.org", "RSA 2048", ERR_OK},
        {KEY_EC_P256, "localhost", "EC P-256", ERR_OK},
        {KEY_EC_P256,
         "a-host-name-of-more-than-sixty-four-characters.in-a-domain.of-its-own.example.org",
         "EC P-256", ERR_OK},
        {KEY_EC_P256, "", "", ERR_SYNTAX},
        {KEY_EC_P256, "a,DNS:evil.example", "", ERR_SYNTAX},
        {KEY_EC_P256, "a b", "", ERR_SYNTAX},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf key, crt;
        struct arena a;
        struct cert_info c;
        struct errinfo info = {0};
        buf_init(&key, 16384);
        buf_init(&crt, 16384);
        arena_init(&a, 65536);
        enum err err =
            cert_self_signed(cases[i].kind, sv_str(cases[i].host), 365, &key, &crt, &info);
        assert_int_equal(err, cases[i].err);
        if (!err) {
            int64_t now = (int64_t)time(NULL) * 1000, day = 86400000;
            assert_int_equal(cert_describe(buf_sv(&crt), &a, &c, &info), ERR_OK);
            assert_string_equal(c.key, cases[i].key);
            assert_true(sv_eq(c.sans, sv_str(cases[i].host)));
            assert_true(c.self_signed && sv_eq(c.subject, c.issuer));
            assert_int_equal(c.sha256.n, 64);
            assert_true(c.serial.n >= 30);
            assert_true(c.not_before_ms < now && c.not_after_ms > now + 364 * day &&
                        c.not_after_ms < now + 366 * day);
            EVP_PKEY *k = NULL;
            assert_int_equal(cert_load_key(buf_sv(&key), &k, &info), ERR_OK);
            EVP_PKEY_free(k);
        } else {
            assert_int_equal(key.n + crt.n, 0);
        }
        arena_done(&a);
        buf_done(&key);
        buf_done(&crt);
    }
}

static void names(void **state)
{
    static const struct {
        const char *cn, *san, *host;
        bool covers;
    } cases[] = {
        {"x", "DNS:mx.example.org", "mx.example.org", true},
        {"x", "DNS:mx.example.org", "MX.EXAMPLE.ORG", true},
        {"x", "DNS:mx.example.org", "mx.example.org.", true},
        {"x", "DNS:a.example,DNS:mx.example.org", "mx.example.org", true},
        {"x", "DNS:mx.example.org", "example.org", false},
        {"x", "DNS:mx.example.org", "x.mx.example.org", false},
        {"x", "DNS:*.example.org", "mx.example.org", true},
        {"x", "DNS:*.example.org", "a.mx.example.org", false},
        {"x", "DNS:*.example.org", "example.org", false},
        {"x", "DNS:*.example.org", ".example.org", false},
        {"x", "DNS:*.org", "example.org", false},
        {"x", "DNS:*", "localhost", false},
        {"x", "DNS:m*.example.org", "mx.example.org", false},
        {"x", "DNS:mx.*.org", "mx.example.org", false},
        {"x", "DNS:*.*.org", "mx.example.org", false},
        /* the common name counts only where there is no dNSName */
        {"mx.example.org", "DNS:other.example", "mx.example.org", false},
        {"mx.example.org", NULL, "mx.example.org", true},
        {"*.example.org", NULL, "mx.example.org", true},
        {"mx.example.org", "IP:192.0.2.1", "mx.example.org", true},
        {"mx.example.org", NULL, "", false},
        {"x", "IP:192.0.2.1", "192.0.2.1", false},
    };
    (void)state;
    struct pki ca = pki_make(KEY_EC_P256, "CA", NULL, NULL, 3);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pki p = pki_make(KEY_EC_P256, cases[i].cn, cases[i].san, &ca, 3);
        assert_int_equal(cert_covers(p.cert, sv_str(cases[i].host)), cases[i].covers);
        pki_done(&p);
    }
    pki_done(&ca);
}

static void describing_garbage(void **state)
{
    static const char *const cases[] = {
        "", "garbage", "-----BEGIN CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena a;
        struct cert_info c;
        EVP_PKEY *key = NULL;
        arena_init(&a, 65536);
        assert_int_equal(cert_describe(sv_str(cases[i]), &a, &c, NULL), ERR_SYNTAX);
        assert_int_equal(cert_load_key(sv_str(cases[i]), &key, NULL), ERR_SYNTAX);
        assert_int_equal(ERR_peek_error(), 0); /* nothing is left for the next call */
        arena_done(&a);
    }
}

/* ---- signing ---- */

static void signing(void **state)
{
    static const struct {
        enum key_alg alg;
        bool rsa;
        size_t n;
        const EVP_MD *(*md)(void);
        int padding;
    } cases[] = {
        {KEY_ALG_ECDSA_SHA256, false, 32, EVP_sha256, 0},
        {KEY_ALG_ECDSA_SHA384, false, 48, EVP_sha384, 0},
        {KEY_ALG_ECDSA_SHA512, false, 64, EVP_sha512, 0},
        {KEY_ALG_RSA_PKCS1_SHA256, true, 32, EVP_sha256, RSA_PKCS1_PADDING},
        {KEY_ALG_RSA_PKCS1_SHA384, true, 48, EVP_sha384, RSA_PKCS1_PADDING},
        {KEY_ALG_RSA_PKCS1_SHA512, true, 64, EVP_sha512, RSA_PKCS1_PADDING},
        {KEY_ALG_RSA_PSS_SHA256, true, 32, EVP_sha256, RSA_PKCS1_PSS_PADDING},
        {KEY_ALG_RSA_PSS_SHA384, true, 48, EVP_sha384, RSA_PKCS1_PSS_PADDING},
        {KEY_ALG_RSA_PSS_SHA512, true, 64, EVP_sha512, RSA_PKCS1_PSS_PADDING},
    };
    (void)state;
    struct pki ec = pki_make(KEY_EC_P256, "ec", NULL, NULL, 3);
    struct pki rsa = pki_make(KEY_RSA_2048, "rsa", NULL, NULL, 3);
    char digest[64] = "digest";
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sv d = sv_of(digest, cases[i].n);
        EVP_PKEY *right = cases[i].rsa ? rsa.key : ec.key, *wrong = cases[i].rsa ? ec.key : rsa.key;
        struct buf sig;
        buf_init(&sig, 512);
        assert_int_equal(cert_sign(wrong, cases[i].alg, d, &sig, NULL), ERR_DENIED);
        assert_int_equal(cert_sign(right, cases[i].alg, sv_take(d, d.n - 1), &sig, NULL),
                         ERR_DENIED);
        assert_int_equal(sig.n, 0);
        assert_int_equal(cert_sign(right, cases[i].alg, d, &sig, NULL), ERR_OK);
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, right, NULL);
        assert_int_equal(EVP_PKEY_verify_init(ctx), 1);
        if (cases[i].padding)
            assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, cases[i].padding), 1);
        assert_int_equal(EVP_PKEY_CTX_set_signature_md(ctx, cases[i].md()), 1);
        assert_int_equal(
            EVP_PKEY_verify(ctx, (uint8_t *)sig.p, sig.n, (uint8_t *)digest, cases[i].n), 1);
        EVP_PKEY_CTX_free(ctx);
        buf_done(&sig);
        buf_init(&sig, 8); /* no room: an error, nothing written */
        assert_int_equal(cert_sign(right, cases[i].alg, d, &sig, NULL), ERR_LIMIT);
        buf_done(&sig);
    }
    pki_done(&ec);
    pki_done(&rsa);
}

/* ---- import ---- */

struct parts {
    struct pki root, mid, leaf, other;
};

static void put_key(struct buf *b, EVP_PKEY *key, const char *password, int iterations)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (!password) {
        PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    } else {
        PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(key);
        X509_ALGOR *pbe =
            PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), iterations, NULL, 0, NULL, NID_hmacWithSHA256);
        X509_SIG *sig = PKCS8_set0_pbe(password, (int)strlen(password), p8, pbe);
        assert_non_null(sig);
        PEM_write_bio_PKCS8(bio, sig);
        X509_SIG_free(sig);
        PKCS8_PRIV_KEY_INFO_free(p8);
    }
    assert_int_equal(ossl_bio_take(bio, b), ERR_OK);
    BIO_free(bio);
}

/* Expects leaf and intermediate, in this order, and the key of the leaf. */
static void check_import(OSSL_LIB_CTX *legacy, struct sv blob, const char *password,
                         const struct parts *p, size_t n_chain)
{
    struct buf key, chain, want;
    struct errinfo info = {0};
    buf_init(&key, 16384);
    buf_init(&chain, 65536);
    buf_init(&want, 65536);
    if (cert_import(legacy, blob, sv_str(password), &key, &chain, &info))
        fail_msg("%s", info.text);
    const struct pki *order[] = {&p->leaf, &p->mid, &p->root};
    for (size_t i = 0; i < n_chain; i++)
        (void)buf_append_sv(&want, buf_sv(&order[i]->cert_pem));
    assert_true(sv_eq(buf_sv(&chain), buf_sv(&want)));
    EVP_PKEY *k = NULL;
    assert_int_equal(cert_load_key(buf_sv(&key), &k, NULL), ERR_OK);
    assert_int_equal(EVP_PKEY_eq(k, p->leaf.key), 1);
    EVP_PKEY_free(k);
    buf_done(&key);
    buf_done(&chain);
    buf_done(&want);
}

static void refuse_import(OSSL_LIB_CTX *legacy, struct sv blob, const char *password, enum err want,
                          const char *words)
{
    struct buf key, chain;
    struct errinfo info = {0};
    buf_init(&key, 16384);
    buf_init(&chain, 65536);
    assert_int_equal(cert_import(legacy, blob, sv_str(password), &key, &chain, &info), want);
    if (!strstr(info.text, words))
        fail_msg("\"%s\" lacks \"%s\"", info.text, words);
    assert_int_equal(key.n + chain.n, 0);
    assert_int_equal(ERR_peek_error(), 0);
    buf_done(&key);
    buf_done(&chain);
}

static int parts_make(void **state)
{
    struct parts *p = calloc(1, sizeof(*p));
    p->root = pki_make(KEY_RSA_2048, "Root", NULL, NULL, 30);
    p->mid = pki_make(KEY_EC_P256, "Middle", NULL, &p->root, 30);
    p->leaf = pki_make(KEY_EC_P256, "mx", "DNS:mx.example.org", &p->mid, 30);
    p->other = pki_make(KEY_EC_P256, "other", "DNS:other.example", &p->root, 30);
    *state = p;
    return 0;
}

static int parts_free(void **state)
{
    struct parts *p = *state;
    pki_done(&p->root);
    pki_done(&p->mid);
    pki_done(&p->leaf);
    pki_done(&p->other);
    free(p);
    return 0;
}

static void import_of_pem(void **state)
{
    struct parts *p = *state;
    struct buf b;
    buf_init(&b, 65536);
    /* order repaired, what does not belong left out */
    (void)buf_append_sv(&b, buf_sv(&p->mid.cert_pem));
    (void)buf_append_sv(&b, buf_sv(&p->other.cert_pem));
    put_key(&b, p->leaf.key, NULL, 0);
    (void)buf_append_sv(&b, SV("words between blocks\r\n"));
    (void)buf_append_sv(&b, buf_sv(&p->leaf.cert_pem));
    check_import(NULL, buf_sv(&b), "", p, 2);
    (void)buf_append_sv(&b, buf_sv(&p->root.cert_pem));
    check_import(NULL, buf_sv(&b), "", p, 3);
    put_key(&b, p->other.key, NULL, 0);
    refuse_import(NULL, buf_sv(&b), "", ERR_CONFLICT, "more than one private key");

    buf_reset(&b);
    put_key(&b, p->leaf.key, "secret", 2048);
    (void)buf_append_sv(&b, buf_sv(&p->leaf.cert_pem));
    (void)buf_append_sv(&b, buf_sv(&p->mid.cert_pem));
    check_import(NULL, buf_sv(&b), "secret", p, 2);
    refuse_import(NULL, buf_sv(&b), "", ERR_DENIED, "needs a password");
    refuse_import(NULL, buf_sv(&b), "guess", ERR_DENIED, "wrong password");

    buf_reset(&b);
    put_key(&b, p->leaf.key, "secret", CERT_KDF_ITERATIONS_MAX + 1);
    (void)buf_append_sv(&b, buf_sv(&p->leaf.cert_pem));
    refuse_import(NULL, buf_sv(&b), "secret", ERR_LIMIT, "key derivation");

    buf_reset(&b);
    put_key(&b, p->leaf.key, NULL, 0);
    refuse_import(NULL, buf_sv(&b), "", ERR_NOTFOUND, "no certificate");
    (void)buf_append_sv(&b, buf_sv(&p->other.cert_pem));
    refuse_import(NULL, buf_sv(&b), "", ERR_CONFLICT, "no certificate belongs");
    refuse_import(NULL, buf_sv(&p->leaf.cert_pem), "", ERR_NOTFOUND, "no private key");
    refuse_import(NULL, sv_take(buf_sv(&p->leaf.key_pem), 100), "", ERR_SYNTAX, "");
    refuse_import(NULL, SV("garbage"), "", ERR_SYNTAX, "neither PEM nor PKCS#12");
    refuse_import(NULL, SV(""), "", ERR_SYNTAX, "neither PEM nor PKCS#12");
    buf_done(&b);
}

static void import_of_weak_keys(void **state)
{
    struct buf b;
    (void)state;
    buf_init(&b, 65536);
    struct pki weak = pki_make(KEY_EC_P256, "weak", NULL, NULL, 3);
    EVP_PKEY_free(weak.key);
    weak.key = EVP_RSA_gen(1024);
    X509_set_pubkey(weak.cert, weak.key);
    X509_sign(weak.cert, weak.key, EVP_sha256());
    put_key(&b, weak.key, NULL, 0);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, weak.cert);
    assert_int_equal(ossl_bio_take(bio, &b), ERR_OK);
    BIO_free(bio);
    refuse_import(NULL, buf_sv(&b), "", ERR_DENIED, "RSA key of 1024 bits");
    pki_done(&weak);
    buf_done(&b);
}

static struct buf make_p12(const struct parts *p, OSSL_LIB_CTX *ctx, int key_nid, int cert_nid,
                           int iterations, int mac_iterations)
{
    struct buf b;
    uint8_t *der = NULL;
    STACK_OF(X509) *ca = sk_X509_new_null();
    sk_X509_push(ca, p->mid.cert);
    PKCS12 *p12 = PKCS12_create_ex("secret", "mx", p->leaf.key, p->leaf.cert, ca, key_nid, cert_nid,
                                   iterations, mac_iterations, 0, ctx, NULL);
    assert_non_null(p12);
    int n = i2d_PKCS12(p12, &der);
    buf_init(&b, 65536);
    (void)buf_append(&b, der, (size_t)n);
    OPENSSL_free(der);
    PKCS12_free(p12);
    sk_X509_free(ca);
    return b;
}

static void import_of_pkcs12(void **state)
{
    struct parts *p = *state;
    OSSL_LIB_CTX *legacy = cert_legacy_ctx();
    assert_non_null(legacy);
    static const struct {
        int key_nid, cert_nid;
        bool needs_legacy;
    } cases[] = {
        {NID_aes_256_cbc, NID_aes_256_cbc, false},
        {NID_pbe_WithSHA1And3_Key_TripleDES_CBC, NID_pbe_WithSHA1And3_Key_TripleDES_CBC, false},
        {NID_pbe_WithSHA1And3_Key_TripleDES_CBC, NID_pbe_WithSHA1And40BitRC2_CBC, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = make_p12(p, legacy, cases[i].key_nid, cases[i].cert_nid, 2048, 2048);
        check_import(legacy, buf_sv(&b), "secret", p, 2);
        if (cases[i].needs_legacy)
            refuse_import(NULL, buf_sv(&b), "secret", ERR_SYNTAX, "unsupported");
        else
            check_import(NULL, buf_sv(&b), "secret", p, 2);
        refuse_import(legacy, buf_sv(&b), "Secret", ERR_DENIED, "wrong password");
        refuse_import(legacy, buf_sv(&b), "", ERR_DENIED, "needs a password");
        refuse_import(legacy, sv_take(buf_sv(&b), b.n / 2), "secret", ERR_SYNTAX, "");
        buf_done(&b);
    }
    /* a file that asks for more work than anybody should do, in each of its three places */
    struct buf bomb =
        make_p12(p, NULL, NID_aes_256_cbc, NID_aes_256_cbc, CERT_KDF_ITERATIONS_MAX + 1, 2048);
    refuse_import(legacy, buf_sv(&bomb), "secret", ERR_LIMIT, "key derivation");
    buf_done(&bomb);
    bomb = make_p12(p, NULL, NID_aes_256_cbc, NID_aes_256_cbc, 2048, CERT_KDF_ITERATIONS_MAX + 1);
    refuse_import(legacy, buf_sv(&bomb), "secret", ERR_LIMIT, "key derivation");
    buf_done(&bomb);
    cert_legacy_free(legacy);
}

/* ---- sealing ---- */

static void wrapping(void **state)
{
    uint8_t master[32] = {1}, other[32] = {2};
    struct buf a, b, out;
    (void)state;
    buf_init(&a, 4096);
    buf_init(&b, 4096);
    buf_init(&out, 4096);
    static const size_t sizes[] = {0, 1, 15, 16, 32, 1000};
    char plain[1000] = "plain";
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        buf_reset(&a);
        buf_reset(&b);
        buf_reset(&out);
        struct sv p = sv_of(plain, sizes[i]);
        assert_int_equal(seal_wrap(master, p, &a), ERR_OK);
        assert_int_equal(seal_wrap(master, p, &b), ERR_OK);
        assert_int_equal(a.n, sizes[i] + 28);
        assert_false(sv_eq(buf_sv(&a), buf_sv(&b))); /* fresh nonce */
        assert_int_equal(seal_unwrap(other, buf_sv(&a), &out), ERR_CORRUPT);
        for (size_t at = 0; at < a.n; at += a.n / 7 + 1) {
            a.p[at] ^= 0x10;
            assert_int_equal(seal_unwrap(master, buf_sv(&a), &out), ERR_CORRUPT);
            a.p[at] ^= 0x10;
        }
        assert_int_equal(seal_unwrap(master, sv_take(buf_sv(&a), a.n - 1), &out),
                         sizes[i] ? ERR_CORRUPT : ERR_SYNTAX);
        assert_int_equal(out.n, 0);
        assert_int_equal(seal_unwrap(master, buf_sv(&a), &out), ERR_OK);
        assert_true(sv_eq(buf_sv(&out), p));
    }
    buf_done(&a);
    buf_done(&b);
    buf_done(&out);
}

static void body_cipher_at_any_offset(void **state)
{
    uint8_t key[32] = {9};
    char whole[5000], parts[5000];
    (void)state;
    for (size_t i = 0; i < sizeof(whole); i++)
        whole[i] = parts[i] = (char)i;
    body_crypt(key, 77, 0, whole, sizeof(whole));
    static const size_t steps[] = {1, 7, 15, 16, 17, 31, 64, 1000, 4096};
    for (size_t s = 0; s < ARRAY_LEN(steps); s++) {
        for (size_t i = 0; i < sizeof(parts); i++)
            parts[i] = (char)i;
        for (size_t at = 0; at < sizeof(parts); at += steps[s]) {
            size_t n = sizeof(parts) - at < steps[s] ? sizeof(parts) - at : steps[s];
            body_crypt(key, 77, at, parts + at, n);
        }
        assert_memory_equal(parts, whole, sizeof(whole));
    }
    body_crypt(key, 77, 0, parts, sizeof(parts)); /* its own inverse */
    for (size_t i = 0; i < sizeof(parts); i++)
        assert_int_equal(parts[i], (char)i);
    body_crypt(key, 78, 0, parts, 16);
    assert_memory_not_equal(parts, whole, 16); /* another nonce, another stream */
    /* AES-256 of the zero block under the zero key (NIST known answer): the first key stream block
     * of nonce 0 */
    uint8_t zero[32] = {0}, want[16];
    char text[16] = {0};
    assert_true(hex_decode(SV("dc95c078a2408989ad48a21492842087"), want, 16));
    body_crypt(zero, 0, 0, text, 16);
    assert_memory_equal(text, want, 16);
}

static void sha256_of_pieces(void **state)
{
    uint8_t a[32], b[32], want[32];
    (void)state;
    assert_true(hex_decode(SV("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
                           want, 32));
    sha256_once(SV("abc"), a);
    assert_memory_equal(a, want, 32);
    struct sha256 *h = sha256_new();
    for (int i = 0; i < 2; i++) { /* reset for the next use */
        sha256_add(h, SV("a"));
        sha256_add(h, SV(""));
        sha256_add(h, SV("bc"));
        sha256_final(h, b);
        assert_memory_equal(b, want, 32);
    }
    sha256_free(h);
    assert_true(hex_decode(SV("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
                           want, 32));
    sha256_once(SV_NULL, a);
    assert_memory_equal(a, want, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(self_signed),
        cmocka_unit_test(names),
        cmocka_unit_test(describing_garbage),
        cmocka_unit_test(signing),
        cmocka_unit_test_setup_teardown(import_of_pem, parts_make, parts_free),
        cmocka_unit_test(import_of_weak_keys),
        cmocka_unit_test_setup_teardown(import_of_pkcs12, parts_make, parts_free),
        cmocka_unit_test(wrapping),
        cmocka_unit_test(body_cipher_at_any_offset),
        cmocka_unit_test(sha256_of_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
