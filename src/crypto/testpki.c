/* See testpki.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "crypto/ossl.h"
#include "crypto/testpki.h"
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

static void add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(ext);
    assert_int_equal(X509_add_ext(x, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

struct pki pki_make(enum key_kind kind, const char *cn, const char *alt, const struct pki *issuer,
                    int days)
{
    struct pki p = {0};
    buf_init(&p.key_pem, 16384);
    buf_init(&p.cert_pem, 16384);
    p.key = kind == KEY_EC_P256 ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048);
    p.cert = X509_new();
    X509 *by = issuer ? issuer->cert : p.cert;
    X509_set_version(p.cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(p.cert), issuer ? 2 : 1);
    X509_time_adj_ex(X509_getm_notBefore(p.cert), days < 0 ? 2 * days : -1, 0, NULL);
    X509_time_adj_ex(X509_getm_notAfter(p.cert), days, 0, NULL);
    X509_set_pubkey(p.cert, p.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(p.cert), "CN", MBSTRING_UTF8,
                               (const uint8_t *)cn, -1, -1, 0);
    X509_set_issuer_name(p.cert, X509_get_subject_name(by));
    add_ext(p.cert, by, NID_basic_constraints, issuer ? "critical,CA:FALSE" : "critical,CA:TRUE");
    if (alt)
        add_ext(p.cert, by, NID_subject_alt_name, alt);
    assert_true(X509_sign(p.cert, issuer ? issuer->key : p.key, EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, p.cert);
    assert_int_equal(ossl_bio_take(bio, &p.cert_pem), ERR_OK);
    (void)BIO_reset(bio);
    PEM_write_bio_PrivateKey(bio, p.key, NULL, NULL, 0, NULL, NULL);
    assert_int_equal(ossl_bio_take(bio, &p.key_pem), ERR_OK);
    BIO_free(bio);
    return p;
}

void pki_done(struct pki *p)
{
    buf_done(&p->key_pem);
    buf_done(&p->cert_pem);
    EVP_PKEY_free(p->key);
    X509_free(p->cert);
}

void test_socketpair(int out_fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, out_fds),
                     0);
}
