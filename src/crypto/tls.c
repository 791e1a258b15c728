/*
 * One TLS session, either side (crypto/tls.h).
 *
 * SECURITY: everything read here comes from a stranger, and is parsed by OpenSSL only. Its error
 * queue is per thread and sticky, so it is emptied before each call: a leftover of one session must
 * not become the verdict on another. After a fatal error the object answers FAILED for ever.
 */
#include "crypto/tls_int.h"

#include "crypto/cert.h"
#include "crypto/ossl.h"
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

void tls_ctx_basics(SSL_CTX *ctx, uint16_t min_version)
{
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* peers that close without close_notify are common; SMTP frames its own end of data */
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_read_ahead(ctx, 1); /* one read(2) a record instead of two */
    (void)SSL_CTX_set_min_proto_version(ctx, min_version);
    (void)SSL_CTX_set_timeout(ctx, TLS_SESSION_AGE_S);
}

/* Keeps OpenSSL from reads that can only say EAGAIN. */
static long on_bio(BIO *bio, int op, const char *p, size_t n, int argi, long argl, int ret,
                   size_t *done)
{
    struct tls *t = (void *)BIO_get_callback_arg(bio);

    (void)p, (void)argi, (void)argl;
    if (op == BIO_CB_READ && t->dry) {
        BIO_clear_retry_flags(bio);
        BIO_set_retry_read(bio);
        return -1;
    }
    if (op == (BIO_CB_READ | BIO_CB_RETURN))
        t->dry = t->polled && ret > 0 && *done < n;
    return ret;
}

void tls_readable(struct tls *t)
{
    if (!t->polled) {
        BIO *bio = SSL_get_rbio(t->ssl);
        BIO_set_callback_arg(bio, (char *)t);
        BIO_set_callback_ex(bio, on_bio);
    }
    t->polled = true;
    t->dry = false;
}

enum err tls_new(SSL_CTX *ctx, int fd, struct tls **out_t)
{
    struct tls *t = calloc(1, sizeof(*t));
    if (!t)
        return ERR_LIMIT;
    buf_init(&t->cache_key, TLS_CACHE_KEY_MAX);
    buf_init(&t->name, 256);
    ERR_clear_error();
    t->ssl = SSL_new(ctx);
    if (!t->ssl || SSL_set_fd(t->ssl, fd) != 1 || SSL_set_app_data(t->ssl, t) != 1) {
        SSL_free(t->ssl);
        free(t);
        return ossl_fail(NULL, ERR_LIMIT, "SSL_new");
    }
    *out_t = t;
    return ERR_OK;
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    ERR_clear_error();
    /* Without this SSL_free takes the session for broken off and marks it unfit for resumption;
     * after a fatal error that is right. Nothing is sent. */
    if (t->up && !t->failed)
        SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(t->ssl);
    tls_server_free(t->server);
    tls_client_free(t->client);
    buf_done(&t->cache_key);
    buf_done(&t->name);
    free(t);
}

/* A failed verification is not an error of the handshake, but says more than "handshake failure".
 */
static void keep_reason(struct tls *t, int sys)
{
    char reason[sizeof(t->error)];
    ossl_reason(reason, sizeof(reason));
    if (reason[0])
        (void)snprintf(t->error, sizeof(t->error), "%s", reason);
    else if (sys)
        (void)snprintf(t->error, sizeof(t->error), "%s", strerror(sys));
    else
        (void)snprintf(t->error, sizeof(t->error), "connection closed by peer");
}

static enum tls_io io_result(struct tls *t, int ret)
{
    int sys = errno;
    switch (SSL_get_error(t->ssl, ret)) {
    case SSL_ERROR_NONE:
        return TLS_IO_OK;
    case SSL_ERROR_WANT_READ:
        return TLS_IO_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_IO_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        if (t->up)
            return TLS_IO_CLOSED;
        break;
    case SSL_ERROR_SYSCALL:
        keep_reason(t, sys);
        t->failed = true;
        return t->up && sys == 0 ? TLS_IO_CLOSED : TLS_IO_FAILED;
    default: /* SSL_ERROR_SSL and what cannot happen without asynchronous engines */
        break;
    }
    keep_reason(t, 0);
    t->failed = true;
    return TLS_IO_FAILED;
}

enum tls_io tls_handshake(struct tls *t)
{
    if (t->failed)
        return TLS_IO_FAILED;
    if (t->up)
        return TLS_IO_OK;
    ERR_clear_error();
    errno = 0;
    enum tls_io io = io_result(t, SSL_do_handshake(t->ssl));
    if (io != TLS_IO_OK)
        return io;
    t->up = true;
    if (t->client)
        tls_client_up(t);
    return TLS_IO_OK;
}

enum tls_io tls_read(struct tls *t, char *p, size_t n, size_t *out_n)
{
    if (t->failed || !t->up)
        return TLS_IO_FAILED;
    ERR_clear_error();
    errno = 0;
    size_t got = 0;
    enum tls_io io = io_result(t, SSL_read_ex(t->ssl, p, n, &got));
    t->drained = io != TLS_IO_OK;
    if (io == TLS_IO_OK)
        *out_n = got;
    return io;
}

enum tls_io tls_write(struct tls *t, const char *p, size_t n, size_t *out_n)
{
    if (t->failed || !t->up)
        return TLS_IO_FAILED;
    size_t put = 0;
    if (n) {
        ERR_clear_error();
        errno = 0;
        enum tls_io io = io_result(t, SSL_write_ex(t->ssl, p, n, &put));
        if (io != TLS_IO_OK)
            return io;
    }
    *out_n = put;
    return TLS_IO_OK;
}

void tls_close_notify(struct tls *t)
{
    if (!t->up || t->failed)
        return;
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl); /* sends ours; the peer's is not waited for */
    ERR_clear_error();
}

bool tls_has_pending(const struct tls *t)
{
    return t->up && !t->failed && !t->drained && SSL_has_pending(t->ssl) == 1;
}

void tls_error(struct tls *t, char *out_text, size_t n)
{
    (void)snprintf(out_text, n, "%s", t->error);
}

/* ---- facts ---- */

static void peer_facts(struct tls *t, X509 *cert, struct arena *a, struct tls_facts *f)
{
    char text[512];
    long verified = SSL_get_verify_result(t->ssl);
    f->peer_cert = true;
    f->chain_ok = verified == X509_V_OK;
    f->name_ok = cert_covers(cert, buf_sv(&t->name));
    if (!f->chain_ok)
        f->verify_error = arena_sv(a, sv_str(X509_verify_cert_error_string(verified)));
    ossl_name(X509_get_subject_name(cert), text, sizeof(text));
    f->peer_subject = arena_sv(a, sv_str(text));
    ossl_name(X509_get_issuer_name(cert), text, sizeof(text));
    f->peer_issuer = arena_sv(a, sv_str(text));
    f->peer_sha256 = ossl_cert_sha256(cert, a);
    f->peer_not_after_ms = ossl_time_ms(X509_get0_notAfter(cert));
}

/* Read from the session as negotiated, never from what was asked for. A resumed session carries
 * certificate and verification result of the handshake that made it (SSL_SESSION holds both). */
void tls_facts_of(struct tls *t, struct arena *a, struct tls_facts *out_facts)
{
    struct tls_facts f = {0};
    const SSL_CIPHER *cipher = t->up ? SSL_get_current_cipher(t->ssl) : NULL;
    if (cipher) {
        const char *name = SSL_CIPHER_standard_name(cipher);
        f.version = (uint16_t)SSL_version(t->ssl);
        f.cipher = arena_sv(a, sv_str(name ? name : SSL_CIPHER_get_name(cipher)));
        f.bits = (uint16_t)SSL_CIPHER_get_bits(cipher, NULL);
        f.resumed = SSL_session_reused(t->ssl) == 1;
        X509 *cert = SSL_get0_peer_certificate(t->ssl);
        if (cert && t->client)
            peer_facts(t, cert, a, &f);
    }
    *out_facts = f;
}
