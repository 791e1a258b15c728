/*
 * A small built-in OpenSSL 3 provider whose keys are references: public key here, private key in
 * the `keys` process. Signing is one synchronous request over a private channel with a deadline of
 * KEYPROV_DEADLINE_MS; nothing else is dispatched meanwhile.
 */
#ifndef CRYPTO_KEYPROV_H
#define CRYPTO_KEYPROV_H

#include "base/buf.h"
#include <openssl/evp.h>
#include <openssl/x509.h>

#define KEYPROV_DEADLINE_MS 250

/* How a request reaches `keys`: alg is one of KEY_ALG_*, tbs the data to sign (undigested for
 * EdDSA, else the digest). Set once per process before any handshake. */
enum key_alg {
    KEY_ALG_ECDSA_SHA256,
    KEY_ALG_ECDSA_SHA384,
    KEY_ALG_ECDSA_SHA512,
    KEY_ALG_RSA_PKCS1_SHA256,
    KEY_ALG_RSA_PKCS1_SHA384,
    KEY_ALG_RSA_PKCS1_SHA512,
    KEY_ALG_RSA_PSS_SHA256,
    KEY_ALG_RSA_PSS_SHA384,
    KEY_ALG_RSA_PSS_SHA512
};
typedef enum err keyprov_sign_fn(void *ctx, struct sv key_id, enum key_alg alg, struct sv digest,
                                 struct buf *out_signature);
NODISCARD enum err keyprov_init(keyprov_sign_fn *sign, void *ctx, struct errinfo *info);
void keyprov_done(void); /* at the end of a process, after every key and session is gone */
/* A private EVP_PKEY that signs remotely, for the public key of cert. */
NODISCARD enum err keyprov_key(X509 *cert, struct sv key_id, EVP_PKEY **out_key,
                               struct errinfo *info);

#endif
