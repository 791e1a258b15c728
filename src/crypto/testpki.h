/* Certificates and connected sockets for the unit tests of this folder. */
#ifndef CRYPTO_TESTPKI_H
#define CRYPTO_TESTPKI_H

#include "crypto/cert.h"

struct pki {
    struct buf key_pem, cert_pem;
    EVP_PKEY *key;
    X509 *cert;
};
/* CA (issuer == NULL) or leaf. alt: SAN entries "DNS:a,DNS:b" or NULL; days may be negative
 * (expired). */
struct pki pki_make(enum key_kind kind, const char *cn, const char *alt, const struct pki *issuer,
                    int days);
void pki_done(struct pki *p);
void test_socketpair(int out_fds[2]); /* non-blocking stream */

#endif
