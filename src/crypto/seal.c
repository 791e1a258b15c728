/* Wrapping of small secrets, body cipher and SHA-256 (crypto/cert.h). */
#include "crypto/cert.h"

#include "crypto/ossl.h"
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>

#define SEAL_NONCE 12
#define SEAL_TAG   16
#define SEAL_MAX   (1u << 20) /* a wrapped secret is small; anything else is a mistake */

static bool gcm_run(EVP_CIPHER_CTX *ctx, struct sv in, uint8_t *out)
{
    int n = 0, fin = 0;
    return EVP_CipherUpdate(ctx, out, &n, (const uint8_t *)in.p, (int)in.n) == 1 &&
           EVP_CipherFinal_ex(ctx, out + n, &fin) == 1 && (size_t)n + (size_t)fin == in.n;
}

enum err seal_wrap(const uint8_t master[32], struct sv plain, struct buf *out_sealed)
{
    if (plain.n > SEAL_MAX)
        return ERR_LIMIT;
    EVP_CIPHER_CTX *ctx CLEANUP(cipher_ctx_cleanup) = EVP_CIPHER_CTX_new();
    enum err err = buf_reserve(out_sealed, SEAL_NONCE + plain.n + SEAL_TAG);
    if (err || !ctx)
        return err ? err : ERR_BUG;
    uint8_t *p = (uint8_t *)out_sealed->p + out_sealed->n;
    uint8_t *tag = p + SEAL_NONCE + plain.n;
    if (RAND_bytes(p, SEAL_NONCE) != 1 ||
        EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, master, p) != 1 ||
        !gcm_run(ctx, plain, p + SEAL_NONCE) ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG, tag) != 1)
        return ossl_fail(NULL, ERR_BUG, "wrap");
    out_sealed->n += SEAL_NONCE + plain.n + SEAL_TAG;
    return ERR_OK;
}

enum err seal_unwrap(const uint8_t master[32], struct sv sealed, struct buf *out_plain)
{
    if (sealed.n < SEAL_NONCE + SEAL_TAG)
        return ERR_SYNTAX;
    size_t n = sealed.n - SEAL_NONCE - SEAL_TAG;
    if (n > SEAL_MAX)
        return ERR_LIMIT;
    EVP_CIPHER_CTX *ctx CLEANUP(cipher_ctx_cleanup) = EVP_CIPHER_CTX_new();
    enum err err = buf_reserve(out_plain, n + 1);
    if (err || !ctx)
        return err ? err : ERR_BUG;
    uint8_t *p = (uint8_t *)out_plain->p + out_plain->n;
    uint8_t tag[SEAL_TAG];
    memcpy(tag, sealed.p + SEAL_NONCE + n, SEAL_TAG);
    if (EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, master, (const uint8_t *)sealed.p) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG, tag) != 1 ||
        !gcm_run(ctx, sv_of(sealed.p + SEAL_NONCE, n), p)) {
        OPENSSL_cleanse(p, n); /* unauthenticated bytes never leave */
        return ossl_fail(NULL, ERR_CORRUPT, "unwrap");
    }
    out_plain->n += n;
    return ERR_OK;
}

/* Counter block: nonce in the upper 64 bits, block number in the lower 64 (big endian). */
static void counter_block(uint64_t nonce, uint64_t block, uint8_t out_iv[16])
{
    for (int i = 0; i < 8; i++) {
        out_iv[i] = (uint8_t)(nonce >> (56 - 8 * i));
        out_iv[8 + i] = (uint8_t)(block >> (56 - 8 * i));
    }
}

/* A failure here would write clear text to disk or send noise as mail: it cannot be ignored, and
 * there is no answer but to stop (only memory exhaustion leads here). */
static void must(int ok)
{
    if (ok != 1)
        abort();
}

/* What EVP_aes_256_ctr() and EVP_sha256() name is looked up in each use, which costs as much as
 * the work on a small message: looked up once instead. They live as long as the process. */
static const EVP_CIPHER *aes_256_ctr(void)
{
    static EVP_CIPHER *cipher;

    if (!cipher)
        cipher = EVP_CIPHER_fetch(NULL, "AES-256-CTR", NULL);
    return cipher;
}

static const EVP_MD *md_sha256(void)
{
    static EVP_MD *md;

    if (!md)
        md = EVP_MD_fetch(NULL, "SHA256", NULL);
    return md;
}

void body_crypt(const uint8_t key[32], uint64_t nonce, uint64_t offset, char *p, size_t n)
{
    EVP_CIPHER_CTX *ctx CLEANUP(cipher_ctx_cleanup) = EVP_CIPHER_CTX_new();
    uint8_t iv[16], skipped[16] = {0};
    int len = 0;
    counter_block(nonce, offset / 16, iv);
    must(ctx && EVP_EncryptInit_ex2(ctx, aes_256_ctr(), key, iv, NULL) == 1);
    if (offset % 16)
        must(EVP_EncryptUpdate(ctx, skipped, &len, skipped, (int)(offset % 16)));
    while (n) {
        size_t step = n < (1u << 30) ? n : 1u << 30;
        must(EVP_EncryptUpdate(ctx, (uint8_t *)p, &len, (const uint8_t *)p, (int)step));
        p += step;
        n -= step;
    }
    OPENSSL_cleanse(skipped, sizeof(skipped));
}

struct sha256 {
    EVP_MD_CTX *ctx;
};

struct sha256 *sha256_new(void)
{
    struct sha256 *h = calloc(1, sizeof(*h));
    must(h != NULL);
    h->ctx = EVP_MD_CTX_new();
    must(h->ctx && EVP_DigestInit_ex2(h->ctx, md_sha256(), NULL) == 1);
    return h;
}

void sha256_add(struct sha256 *h, struct sv bytes)
{
    must(EVP_DigestUpdate(h->ctx, bytes.p, bytes.n));
}

void sha256_final(struct sha256 *h, uint8_t out_digest[32])
{
    must(EVP_DigestFinal_ex(h->ctx, out_digest, NULL));
    must(EVP_DigestInit_ex2(h->ctx, NULL, NULL)); /* keeps the fetched digest */
}

void sha256_free(struct sha256 *h)
{
    if (!h)
        return;
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

void sha256_once(struct sv bytes, uint8_t out_digest[32])
{
    must(EVP_Digest(bytes.n ? bytes.p : "", bytes.n, out_digest, NULL, md_sha256(), NULL));
}
