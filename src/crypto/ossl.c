/* See ossl.h. */
#include "crypto/ossl.h"

#include "base/enc.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <time.h>

void ossl_reason(char *out_text, size_t n)
{
    unsigned long e = ERR_peek_last_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;
    if (n)
        (void)snprintf(out_text, n, "%s", reason ? reason : "");
    ERR_clear_error();
}

enum err ossl_fail(struct errinfo *info, enum err code, const char *what)
{
    char reason[160];
    ossl_reason(reason, sizeof(reason));
    if (!reason[0])
        return err_set(info, code, "%s", what);
    return err_set(info, code, "%s: %s", what, reason);
}

BIO *ossl_bio_of(struct sv bytes)
{
    if (bytes.n > INT_MAX)
        return NULL;
    return BIO_new_mem_buf(bytes.n ? bytes.p : "", (int)bytes.n);
}

enum err ossl_bio_take(BIO *bio, struct buf *out)
{
    char *p = NULL;
    long n = BIO_get_mem_data(bio, &p);
    return n < 0 ? ERR_BUG : buf_append(out, p, (size_t)n);
}

int64_t ossl_time_ms(const ASN1_TIME *t)
{
    struct tm tm;
    if (!t || !ASN1_TIME_to_tm(t, &tm))
        return 0;
    return (int64_t)timegm(&tm) * 1000;
}

void ossl_name(const X509_NAME *name, char *out_text, size_t n)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *p = NULL;
    out_text[0] = 0;
    if (bio && name &&
        X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) >=
            0) {
        long len = BIO_get_mem_data(bio, &p);
        (void)snprintf(out_text, n, "%.*s", len > 0 ? (int)(len > 4096 ? 4096 : len) : 0,
                       p ? p : "");
    }
    (void)BIO_free(bio);
    ERR_clear_error();
}

struct sv ossl_cert_sha256(const X509 *x, struct arena *a)
{
    uint8_t md[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    struct buf hex;

    buf_init(&hex, 2 * sizeof(md));
    if (X509_digest(x, EVP_sha256(), md, &n) == 1)
        (void)hex_encode(sv_of((const char *)md, n), &hex);
    struct sv out = arena_sv(a, buf_sv(&hex));
    buf_done(&hex);
    return out;
}

/* A password is never asked for on the terminal. */
static int no_password(char *buf, int size, int rwflag, void *ctx)
{
    (void)buf, (void)size, (void)rwflag, (void)ctx;
    return -1;
}

X509 *ossl_next_cert(BIO *bio)
{
    return PEM_read_bio_X509(bio, NULL, no_password, NULL);
}
