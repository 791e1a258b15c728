/* Signatures of the provider of remote keys: digest here, sign in `keys` (crypto/keyprov.c). */
#include "crypto/keyprov_int.h"

#include "crypto/ossl.h"
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <stdio.h>

struct sign {
    struct keyprov_key *key;
    EVP_MD_CTX *md;
    size_t digest_n;
    int padding;
};

static void *sign_new(void *provctx, const char *propq)
{
    (void)provctx, (void)propq;
    struct sign *s = OPENSSL_zalloc(sizeof(*s));
    if (s)
        s->padding = RSA_PKCS1_PADDING;
    return s;
}

static void sign_free(void *ctx)
{
    struct sign *s = ctx;
    if (!s)
        return;
    keyprov_key_free(s->key);
    EVP_MD_CTX_free(s->md);
    OPENSSL_free(s);
}

static int padding_of(const OSSL_PARAM *p, int *out_padding)
{
    if (p->data_type == OSSL_PARAM_INTEGER)
        return OSSL_PARAM_get_int(p, out_padding);
    if (p->data_type != OSSL_PARAM_UTF8_STRING || !p->data)
        return 0;
    if (strcmp(p->data, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) == 0)
        *out_padding = RSA_PKCS1_PADDING;
    else if (strcmp(p->data, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0)
        *out_padding = RSA_PKCS1_PSS_PADDING;
    else
        return 0;
    return 1;
}

/* TLS (RFC 8446 4.2.3) knows one salt length: that of the digest. Anything else is refused. */
static int salt_is_digest(const OSSL_PARAM *p, size_t digest_n)
{
    int n = 0;
    if (p->data_type == OSSL_PARAM_UTF8_STRING && p->data)
        return strcmp(p->data, OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST) == 0;
    return OSSL_PARAM_get_int(p, &n) && (n == RSA_PSS_SALTLEN_DIGEST || n == (int)digest_n);
}

static int sign_set_params(void *ctx, const OSSL_PARAM params[])
{
    struct sign *s = ctx;
    if (!params)
        return 1;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE);
    if (p) {
        int padding = 0;
        if (!padding_of(p, &padding) ||
            (padding != RSA_PKCS1_PADDING && padding != RSA_PKCS1_PSS_PADDING))
            return 0;
        s->padding = padding;
    }
    p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN);
    return !p || salt_is_digest(p, s->digest_n);
}

static const OSSL_PARAM *sign_settable(void *ctx, void *provctx)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)ctx, (void)provctx;
    return list;
}

static const EVP_MD *digest_of(const char *name)
{
    static const struct {
        const char *name;
        const EVP_MD *(*md)(void);
    } rows[] = {{"SHA256", EVP_sha256},   {"SHA2-256", EVP_sha256}, {"SHA384", EVP_sha384},
                {"SHA2-384", EVP_sha384}, {"SHA512", EVP_sha512},   {"SHA2-512", EVP_sha512}};
    for (size_t i = 0; name && i < ARRAY_LEN(rows); i++)
        if (OPENSSL_strcasecmp(name, rows[i].name) == 0)
            return rows[i].md();
    return NULL;
}

static int sign_init(void *ctx, const char *md_name, void *keydata, const OSSL_PARAM params[])
{
    struct sign *s = ctx;
    struct keyprov_key *key = keydata;
    const EVP_MD *md = digest_of(md_name);
    if (!md)
        return 0; /* SHA-1 and its like are not signed with */
    if (key && key != s->key) {
        keyprov_key_free(s->key);
        s->key = key;
        key->refs++;
    }
    if (!s->md)
        s->md = EVP_MD_CTX_new();
    if (!s->key || !s->md || EVP_DigestInit_ex(s->md, md, NULL) != 1)
        return 0;
    s->digest_n = (size_t)EVP_MD_get_size(md);
    return sign_set_params(s, params);
}

static int sign_update(void *ctx, const unsigned char *data, size_t n)
{
    struct sign *s = ctx;
    return EVP_DigestUpdate(s->md, data, n);
}

static enum key_alg alg_of(const struct sign *s)
{
    bool ec = strcmp(s->key->type, "EC") == 0;
    int step = s->digest_n == 32 ? 0 : s->digest_n == 48 ? 1 : 2;
    int base = ec                                    ? KEY_ALG_ECDSA_SHA256
               : s->padding == RSA_PKCS1_PSS_PADDING ? KEY_ALG_RSA_PSS_SHA256
                                                     : KEY_ALG_RSA_PKCS1_SHA256;
    return (enum key_alg)(base + step);
}

static int sign_final(void *ctx, unsigned char *sig, size_t *out_n, size_t room)
{
    struct sign *s = ctx;
    size_t max = (size_t)EVP_PKEY_get_size(s->key->public_key);
    if (!sig) {
        *out_n = max;
        return 1;
    }
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    const struct keyprov *remote = keyprov_remote();
    if (!remote->sign || EVP_DigestFinal_ex(s->md, digest, &n) != 1)
        return 0;
    struct buf answer;
    buf_init(&answer, 1024);
    enum err err = remote->sign(remote->ctx, sv_str(s->key->id), alg_of(s),
                                sv_of((const char *)digest, n), &answer);
    int ok = !err && answer.n > 0 && answer.n <= max && answer.n <= room;
    if (ok) {
        memcpy(sig, answer.p, answer.n);
        *out_n = answer.n;
    }
    buf_done(&answer);
    return ok;
}

static int sign_once(void *ctx, unsigned char *sig, size_t *out_n, size_t room,
                     const unsigned char *tbs, size_t tbs_n)
{
    if (sig && !sign_update(ctx, tbs, tbs_n))
        return 0;
    return sign_final(ctx, sig, out_n, room);
}

typedef void (*fn)(void);
#define SIGN_FUNCTIONS                                                                             \
    {                                                                                              \
        {OSSL_FUNC_SIGNATURE_NEWCTX, (fn)sign_new}, {OSSL_FUNC_SIGNATURE_FREECTX, (fn)sign_free},  \
            {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, (fn)sign_init},                                 \
            {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, (fn)sign_update},                             \
            {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL, (fn)sign_final},                               \
            {OSSL_FUNC_SIGNATURE_DIGEST_SIGN, (fn)sign_once},                                      \
            {OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, (fn)sign_set_params},                             \
            {OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, (fn)sign_settable}, {0, NULL},               \
    }
const OSSL_DISPATCH keyprov_ecdsa_functions[] = SIGN_FUNCTIONS;
const OSSL_DISPATCH keyprov_rsa_functions[] = SIGN_FUNCTIONS;
