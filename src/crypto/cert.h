/* Certificates and private keys: making, loading, signing. Used by `keys` and its child only,
 * except for the describing functions. */
#ifndef CRYPTO_CERT_H
#define CRYPTO_CERT_H

#include "base/arena.h"
#include "crypto/keyprov.h"

enum key_kind { KEY_EC_P256, KEY_RSA_2048, KEY_RSA_3072, KEY_RSA_4096 };

/* New key and self-signed certificate for host (CN and SAN), valid days. PEM out. */
NODISCARD enum err cert_self_signed(enum key_kind kind, struct sv host, uint32_t days,
                                    struct buf *out_key_pem, struct buf *out_cert_pem,
                                    struct errinfo *info);
/* Signs a digest with a private key (keys' side of keyprov). */
NODISCARD enum err cert_sign(EVP_PKEY *key, enum key_alg alg, struct sv digest,
                             struct buf *out_signature, struct errinfo *info);
NODISCARD enum err cert_load_key(struct sv pem, EVP_PKEY **out_key, struct errinfo *info);

/* A key with its chain as an administrator brings it: PEM (key, plain or encrypted, and
 * certificates in any order) or PKCS#12. Checks that they belong together, orders the chain from
 * the leaf up, writes both as PEM, the key unencrypted. ERR_DENIED: wrong or missing password, or a
 * key that is not accepted; ERR_LIMIT: a key derivation that would take for ever. */
#define CERT_KDF_ITERATIONS_MAX 1000000
NODISCARD enum err cert_import(OSSL_LIB_CTX *legacy, struct sv blob, struct sv password,
                               struct buf *out_key_pem, struct buf *out_chain_pem,
                               struct errinfo *info);
/* A library context of its own that also knows RC2 and its like, for containers that old Windows
 * and OpenSSL wrote; never used for TLS. It loads a module, so make it before the cage closes. NULL
 * when there is none: then such containers are refused. */
OSSL_LIB_CTX *cert_legacy_ctx(void);
void cert_legacy_free(OSSL_LIB_CTX *ctx); /* NULL allowed */

struct cert_info {
    struct sv subject, issuer, serial, sha256, sans; /* sans: comma-separated dNSNames */
    int64_t not_before_ms, not_after_ms;
    const char *key; /* "EC P-256", "RSA 2048" */
    bool self_signed;
};
NODISCARD enum err cert_describe(struct sv pem, struct arena *a, struct cert_info *out_info,
                                 struct errinfo *info);
/* Does the leaf cover this host (RFC 6125: SAN dNSName, CN only without SAN; one left-most *)? */
bool cert_covers(X509 *cert, struct sv host);

/* AES-256-GCM wrap of small secrets under a master key: nonce || ciphertext || tag. */
NODISCARD enum err seal_wrap(const uint8_t master[32], struct sv plain, struct buf *out_sealed);
NODISCARD enum err seal_unwrap(const uint8_t master[32], struct sv sealed, struct buf *out_plain);
/* AES-256-CTR at any offset (large body files, spool records): nonce fills the upper counter. */
void body_crypt(const uint8_t key[32], uint64_t nonce, uint64_t offset, char *p, size_t n);

/* SHA-256, incremental. */
struct sha256;
struct sha256 *sha256_new(void);
void sha256_add(struct sha256 *h, struct sv bytes);
void sha256_final(struct sha256 *h, uint8_t out_digest[32]); /* resets for the next use */
void sha256_free(struct sha256 *h);
void sha256_once(struct sv bytes, uint8_t out_digest[32]);

#endif
