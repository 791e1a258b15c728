/*
 * Client side: trust store, requirements, sessions for resumption (crypto/tls.h).
 *
 * SECURITY: the handshake never fails on a certificate; what was found about it is collected, and
 * core/plan.h judges. A session is resumed only under equal name, level, strength and cache key, so
 * a session made for opportunistic mail never serves mail that needs a verified peer.
 */
#include "crypto/tls_int.h"

#include "crypto/ossl.h"
#include <openssl/err.h>
#include <stdlib.h>
#include <time.h>

/* No anonymous suites, nothing without encryption, no pre-shared keys, nothing below 128 bits. */
#define SUITES_FLOOR  ":!aNULL:!eNULL:!PSK:!SRP:!3DES:!RC4:!MD5:!DES:!IDEA:!SEED"
#define SUITES_MEDIUM "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:DHE+AESGCM:DHE+AES:RSA+AESGCM:RSA+AES"
#define SUITES_HIGH   "ECDHE+AES256:ECDHE+CHACHA20:DHE+AES256:DHE+CHACHA20:RSA+AES256"
#define TLS13_MEDIUM  "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
#define TLS13_HIGH    "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

struct tls_client {
    unsigned refs;
    SSL_CTX *medium, *high; /* share one X509_STORE */
    struct tls_cache *cache;
};

void tls_client_ref(struct tls_client *c)
{
    c->refs++;
}

void tls_client_free(struct tls_client *c)
{
    if (!c || --c->refs > 0)
        return;
    tls_cache_free(c->cache);
    SSL_CTX_free(c->medium);
    SSL_CTX_free(c->high);
    free(c);
}

/* Collects instead of refusing: libssl keeps the error as the verification result, in the session
 * too, and goes on. */
static int on_verify(X509_STORE_CTX *store, void *arg)
{
    (void)arg;
    if (X509_verify_cert(store) != 1 && X509_STORE_CTX_get_error(store) == X509_V_OK)
        X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
    ERR_clear_error();
    return 1;
}

/* A fresh session: a TLS 1.3 ticket that came after the handshake, or a full TLS 1.2 handshake.
 * Returning 1 keeps the reference. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls *t = SSL_get_app_data(ssl);
    if (!t || !t->client || t->failed || t->cache_key.n == 0)
        return 0;
    tls_cache_put(t->client->cache, buf_sv(&t->cache_key), session);
    return 1;
}

/* TLS 1.2 may resume a session again: back it goes, unless the server renewed it (on_session). */
void tls_client_up(struct tls *t)
{
    if (SSL_version(t->ssl) != TLS1_2_VERSION || !SSL_session_reused(t->ssl) || !t->cache_key.n)
        return;
    SSL_SESSION *s = SSL_get1_session(t->ssl);
    if (s)
        tls_cache_put(t->client->cache, buf_sv(&t->cache_key), s);
}

static SSL_CTX *context_new(X509_STORE *store, const char *suites, const char *tls13)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (!ctx)
        return NULL;
    tls_ctx_basics(ctx, TLS1_2_VERSION);
    SSL_CTX_set1_cert_store(ctx, store);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, on_verify, NULL);
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_session);
    if (SSL_CTX_set_cipher_list(ctx, suites) == 1 && SSL_CTX_set_ciphersuites(ctx, tls13) == 1)
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

/* Damaged blocks of a bundle are passed over; that none at all is readable is an error. */
static enum err store_fill(X509_STORE *store, struct sv ca_pem, struct errinfo *info)
{
    BIO *bio CLEANUP(bio_cleanup) = ossl_bio_of(ca_pem);
    int n = 0, damaged = 0;
    while (bio && damaged < 100) {
        X509 *x CLEANUP(x509_cleanup) = ossl_next_cert(bio);
        if (x) {
            n += X509_STORE_add_cert(store, x) == 1;
            continue;
        }
        if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE)
            break;
        damaged++;
        ERR_clear_error();
    }
    ERR_clear_error();
    if (n == 0 && !sv_empty(sv_trim(ca_pem)))
        return err_set(info, ERR_SYNTAX, "CA bundle: no readable certificate");
    /* an imported intermediate is a trust anchor of its own */
    (void)X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    return ERR_OK;
}

enum err tls_client_new(struct sv ca_pem, struct tls_client **out_c, struct errinfo *info)
{
    ERR_clear_error();
    X509_STORE *store = X509_STORE_new();
    struct tls_client *c = calloc(1, sizeof(*c));
    enum err err = store && c ? store_fill(store, ca_pem, info) : ERR_LIMIT;
    if (!err) {
        c->refs = 1;
        c->cache = tls_cache_new(TLS_CACHE_SESSIONS, TLS_CACHE_PER_KEY);
        c->medium = context_new(store, SUITES_MEDIUM SUITES_FLOOR, TLS13_MEDIUM);
        c->high = context_new(store, SUITES_HIGH SUITES_FLOOR, TLS13_HIGH);
        if (!c->cache || !c->medium || !c->high) {
            err = ossl_fail(info, ERR_BUG, "TLS client context");
            tls_client_free(c);
            c = NULL;
        }
    }
    X509_STORE_free(store);
    if (err) {
        free(c);
        return err;
    }
    *out_c = c;
    return ERR_OK;
}

/* An address literal or nonsense is not sent as server name (RFC 6066 section 3). */
static bool name_is_sni(struct sv name)
{
    if (name.n == 0 || name.n > 253)
        return false;
    bool letter = false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
        if (!alpha && c != '.' && !(c >= '0' && c <= '9'))
            return false;
        letter = letter || alpha;
    }
    return letter;
}

static enum err set_name(struct tls *t, struct sv name)
{
    while (name.n && name.p[name.n - 1] == '.')
        name.n--;
    if (buf_append_sv(&t->name, name) || buf_append_byte(&t->name, 0))
        return ERR_LIMIT;
    t->name.n--; /* NUL stands behind, not in it */
    if (name_is_sni(name) && SSL_set_tlsext_host_name(t->ssl, t->name.p) != 1)
        return ERR_LIMIT;
    return ERR_OK;
}

/* Without a key of at most TLS_CACHE_KEY_MAX bytes nothing is resumed; that is no error. */
static void set_session(struct tls *t, const struct tls_req *req, struct sv cache_key)
{
    if (sv_empty(cache_key))
        return;
    (void)buf_printf(&t->cache_key, "%u/%u/%zu/", req->level, req->strength, t->name.n);
    (void)buf_append_sv(&t->cache_key, buf_sv(&t->name));
    (void)buf_append_sv(&t->cache_key, cache_key);
    if (t->cache_key.overflow) {
        buf_release(&t->cache_key);
        return;
    }
    SSL_SESSION *s = tls_cache_take(t->client->cache, buf_sv(&t->cache_key), (int64_t)time(NULL));
    if (s)
        (void)SSL_set_session(t->ssl, s);
    SSL_SESSION_free(s);
}

enum err tls_connect(struct tls_client *c, int fd, struct sv name, const struct tls_req *req,
                     struct sv cache_key, struct tls **out_t)
{
    struct tls *t = NULL;
    enum err err = tls_new(req->strength > TLS_STRENGTH_MEDIUM ? c->high : c->medium, fd, &t);
    if (err)
        return err;
    tls_client_ref(c);
    t->client = c;
    err = set_name(t, name);
    if (err) {
        tls_free(t);
        return err;
    }
    set_session(t, req, cache_key);
    SSL_set_connect_state(t->ssl);
    *out_t = t;
    return ERR_OK;
}
