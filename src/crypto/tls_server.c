/* Server side: identities, versions, tickets, ALPN (crypto/tls.h). */
#include "crypto/tls_int.h"

#include "crypto/keyprov.h"
#include "crypto/ossl.h"
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdlib.h>

#define ALPN_MAX 8

/* Forward secrecy always: no static RSA, and no finite-field DH (its cost is a gift to attackers);
 * the ECDSA half comes first unless RSA is preferred. */
#define SUITES_ECDSA                                                                               \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256"
#define SUITES_RSA                                                                                 \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256"
/* For old but honest mail servers of TLS 1.2. */
#define SUITES_OLD                                                                                 \
    "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA256:"                 \
    "ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-SHA:ECDHE-RSA-AES128-SHA"
#define SIGALGS_ECDSA "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512"
#define SIGALGS_RSA                                                                                \
    "rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"                                 \
    "RSA+SHA256:RSA+SHA384:RSA+SHA512"

/* 80 bytes: name 16, MAC key 32, AES key 32. */
struct ticket_key {
    uint8_t name[16], mac[32], aes[32];
};
_Static_assert(sizeof(struct ticket_key) == 80, "layout of struct tls_server_config.ticket_keys");

struct tls_server {
    unsigned refs;
    SSL_CTX *ctx;
    struct ticket_key keys[2]; /* current, previous */
    char *alpn[ALPN_MAX];
    size_t n_alpn;
    bool alpn_strict;
};

void tls_server_ref(struct tls_server *s)
{
    s->refs++;
}

void tls_server_free(struct tls_server *s)
{
    if (!s || --s->refs > 0)
        return;
    SSL_CTX_free(s->ctx);
    for (size_t i = 0; i < s->n_alpn; i++)
        free(s->alpn[i]);
    OPENSSL_cleanse(s->keys, sizeof(s->keys));
    free(s);
}

/* ---- tickets ---- */

static int ticket_setup(const struct ticket_key *k, uint8_t *iv, EVP_CIPHER_CTX *cipher,
                        EVP_MAC_CTX *mac, int enc)
{
    char sha256[] = "SHA256";
    uint8_t mac_key[sizeof(k->mac)];
    memcpy(mac_key, k->mac, sizeof(mac_key));
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, mac_key, sizeof(mac_key)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, sha256, 0), OSSL_PARAM_END};
    int ok = EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->aes, iv, enc) == 1 &&
             EVP_MAC_CTX_set_params(mac, params) == 1;
    OPENSSL_cleanse(mac_key, sizeof(mac_key));
    return ok;
}

/* Answers of SSL_CTX_set_tlsext_ticket_key_evp_cb(3): 0 unknown key, 1 good, 2 good but renew.
 * A ticket of TLS 1.3 is always renewed: the client may not use it again. */
static int on_ticket(SSL *ssl, unsigned char *key_name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int enc)
{
    const struct tls *t = SSL_get_app_data(ssl);
    const struct ticket_key *keys = t->server->keys;
    if (enc) {
        memcpy(key_name, keys[0].name, sizeof(keys[0].name));
        if (RAND_bytes(iv, 16) != 1)
            return -1;
        return ticket_setup(&keys[0], iv, cipher, mac, 1) ? 1 : -1;
    }
    for (int i = 0; i < 2; i++) {
        if (CRYPTO_memcmp(key_name, keys[i].name, sizeof(keys[i].name)) != 0)
            continue;
        bool renew = i > 0 || SSL_version(ssl) == TLS1_3_VERSION;
        return ticket_setup(&keys[i], iv, cipher, mac, 0) ? 1 + renew : -1;
    }
    return 0;
}

static bool keys_given(const uint8_t *p, size_t n)
{
    uint8_t all = 0;
    for (size_t i = 0; i < n; i++)
        all |= p[i];
    return all != 0;
}

void tls_server_set_tickets(struct tls_server *s, const uint8_t keys[160])
{
    memcpy(s->keys, keys, sizeof(s->keys));
    /* An absent previous key must not be one that everybody knows. */
    if (!keys_given(keys + 80, 80))
        s->keys[1] = s->keys[0];
    if (keys_given(keys, 80)) {
        SSL_CTX_clear_options(s->ctx, SSL_OP_NO_TICKET);
        (void)SSL_CTX_set_num_tickets(s->ctx, 1);
    } else {
        SSL_CTX_set_options(s->ctx, SSL_OP_NO_TICKET);
        (void)SSL_CTX_set_num_tickets(s->ctx, 0);
    }
}

/* ---- ALPN ---- */

static bool alpn_known(const struct tls_server *s, const uint8_t *name, size_t n)
{
    for (size_t i = 0; i < s->n_alpn; i++)
        if (sv_eq(sv_str(s->alpn[i]), sv_of((const char *)name, n)))
            return true;
    return false;
}

/* Called only when the client sent the extension. RFC 7301 3.2: none in common is fatal. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                   const unsigned char *in, unsigned n, void *arg)
{
    const struct tls *t = SSL_get_app_data(ssl);
    (void)arg;
    for (unsigned i = 0; i < n && in[i] < n - i; i += 1u + in[i]) {
        if (!alpn_known(t->server, in + i + 1, in[i]))
            continue;
        *out = in + i + 1;
        *out_n = in[i];
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static enum err set_alpn(struct tls_server *s, const char *const *alpn, struct errinfo *info)
{
    for (; *alpn; alpn++) {
        if (s->n_alpn == ALPN_MAX)
            return err_set(info, ERR_LIMIT, "more than %d ALPN names", ALPN_MAX);
        s->alpn[s->n_alpn] = strdup(*alpn);
        if (!s->alpn[s->n_alpn])
            return err_set(info, ERR_LIMIT, "out of memory");
        s->n_alpn++;
    }
    SSL_CTX_set_alpn_select_cb(s->ctx, on_alpn, NULL);
    return ERR_OK;
}

/* ---- identities ---- */

static STACK_OF(X509) * read_chain(struct sv pem)
{
    BIO *bio CLEANUP(bio_cleanup) = ossl_bio_of(pem);
    STACK_OF(X509) *chain = sk_X509_new_null();
    X509 *x;
    while (bio && chain && sk_X509_num(chain) < 10 && (x = ossl_next_cert(bio)))
        if (!sk_X509_push(chain, x))
            X509_free(x);
    ERR_clear_error(); /* "no start line" at the end */
    return chain;
}

static enum err use_identity(SSL_CTX *ctx, const struct tls_identity *id, struct errinfo *info)
{
    STACK_OF(X509) *chain = read_chain(id->chain_pem);
    X509 *leaf CLEANUP(x509_cleanup) = sk_X509_shift(chain);
    EVP_PKEY *key CLEANUP(pkey_cleanup) = NULL;
    enum err err = ERR_OK;
    if (!leaf)
        err = err_set(info, ERR_SYNTAX, "certificate %.*s: no PEM certificate", SV_ARG(id->key_id));
    if (!err)
        err = keyprov_key(leaf, id->key_id, &key, info);
    if (!err && SSL_CTX_use_cert_and_key(ctx, leaf, key, chain, 1) != 1)
        err = ossl_fail(info, ERR_DENIED, "certificate is not usable");
    sk_X509_pop_free(chain, X509_free);
    return err;
}

static bool set_preferences(SSL_CTX *ctx, bool prefer_rsa)
{
    static const char *const groups = "X25519:P-256:P-384";
    const char *suites = prefer_rsa ? SUITES_RSA ":" SUITES_ECDSA ":" SUITES_OLD
                                    : SUITES_ECDSA ":" SUITES_RSA ":" SUITES_OLD;
    const char *sigalgs =
        prefer_rsa ? SIGALGS_RSA ":" SIGALGS_ECDSA : SIGALGS_ECDSA ":" SIGALGS_RSA;
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    /* these two macros drop a const that the functions behind them keep */
    return SSL_CTX_set_cipher_list(ctx, suites) == 1 &&
           SSL_CTX_ctrl(ctx, SSL_CTRL_SET_SIGALGS_LIST, 0, (void *)(uintptr_t)sigalgs) == 1 &&
           SSL_CTX_ctrl(ctx, SSL_CTRL_SET_GROUPS_LIST, 0, (void *)(uintptr_t)groups) == 1;
}

static enum err server_fill(struct tls_server *s, const struct tls_server_config *c,
                            struct errinfo *info)
{
    s->ctx = SSL_CTX_new(TLS_server_method());
    if (!s->ctx || !set_preferences(s->ctx, c->prefer_rsa))
        return ossl_fail(info, ERR_BUG, "TLS server context");
    tls_ctx_basics(s->ctx, c->min_version < TLS1_2_VERSION ? TLS1_2_VERSION : c->min_version);
    (void)SSL_CTX_set_session_cache_mode(s->ctx, SSL_SESS_CACHE_OFF); /* tickets only */
    (void)SSL_CTX_set_tlsext_ticket_key_evp_cb(s->ctx, on_ticket);
    tls_server_set_tickets(s, c->ticket_keys);
    enum err err = c->alpn ? set_alpn(s, c->alpn, info) : ERR_OK;
    for (size_t i = 0; i < c->n_identities && !err; i++)
        err = use_identity(s->ctx, &c->identities[i], info);
    return err;
}

enum err tls_server_new(const struct tls_server_config *c, struct tls_server **out_s,
                        struct errinfo *info)
{
    if (c->n_identities == 0)
        return err_set(info, ERR_NOTFOUND, "TLS needs a certificate");
    struct tls_server *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(info, ERR_LIMIT, "out of memory");
    s->refs = 1;
    ERR_clear_error();
    enum err err = server_fill(s, c, info);
    if (err) {
        tls_server_free(s);
        return err;
    }
    *out_s = s;
    return ERR_OK;
}

enum err tls_accept(struct tls_server *s, int fd, struct tls **out_t)
{
    struct tls *t = NULL;
    enum err err = tls_new(s->ctx, fd, &t);
    if (err)
        return err;
    tls_server_ref(s);
    t->server = s;
    SSL_set_accept_state(t->ssl);
    *out_t = t;
    return ERR_OK;
}
