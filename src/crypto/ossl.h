/* Small helpers around OpenSSL that every file of crypto/ shares. Private to this folder. */
#ifndef CRYPTO_OSSL_H
#define CRYPTO_OSSL_H

#include "base/arena.h"
#include "base/buf.h"
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#define OSSL_CLEANUP(type, name, fn)                                                               \
    static inline void name(type **p)                                                              \
    {                                                                                              \
        fn(*p);                                                                                    \
    }
OSSL_CLEANUP(BIO, bio_cleanup, (void)BIO_free)
OSSL_CLEANUP(X509, x509_cleanup, X509_free)
OSSL_CLEANUP(EVP_PKEY, pkey_cleanup, EVP_PKEY_free)
OSSL_CLEANUP(EVP_PKEY_CTX, pkey_ctx_cleanup, EVP_PKEY_CTX_free)
OSSL_CLEANUP(EVP_CIPHER_CTX, cipher_ctx_cleanup, EVP_CIPHER_CTX_free)
#undef OSSL_CLEANUP

/* Fills *info with "what: reason" from OpenSSL's error queue, empties the queue, returns code. */
enum err ossl_fail(struct errinfo *info, enum err code, const char *what);
/* Newest reason of the queue as text ("" when there is none); empties the queue. */
void ossl_reason(char *out_text, size_t n);
/* Read-only BIO over a view; NULL when it is longer than an int or memory is out. */
BIO *ossl_bio_of(struct sv bytes);
/* Appends what was written to a memory BIO. */
NODISCARD enum err ossl_bio_take(BIO *bio, struct buf *out);
/* Milliseconds since 1970 of an ASN.1 time, 0 when it cannot be read. */
int64_t ossl_time_ms(const ASN1_TIME *t);
/* RFC 2253 one-line name, UTF-8, control bytes escaped; cut at n - 1 bytes. */
void ossl_name(const X509_NAME *name, char *out_text, size_t n);
/* SHA-256 of the certificate in hex; empty when it cannot be computed. */
struct sv ossl_cert_sha256(const X509 *x, struct arena *a);
/* Next certificate of a PEM stream, NULL at its end or at damage; never asks for a password. */
X509 *ossl_next_cert(BIO *bio);

#endif
