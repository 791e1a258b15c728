/*
 * Provider of remote keys (crypto/keyprov.h).
 *
 * A key object holds the public key (an ordinary EVP_PKEY of the default provider, to which every
 * question about parameters goes) and the id under which `keys` knows its private half. KEYMGMT
 * "EC" and "RSA" import both by EVP_PKEY_fromdata; export gives only the public half, so that
 * libssl, which looks for a usable signature implementation in the default provider first, finds
 * that the key cannot be moved there and comes back to ours (keyprov_sign.c).
 *
 * The provider is found only by its property "provider=postseal-keys" or through a key of its own:
 * plain fetches must keep getting the default provider, which keyprov_init checks.
 */
#include "crypto/keyprov_int.h"

#include "crypto/ossl.h"
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <stdlib.h>

#define PROV_NAME  "postseal-keys"
#define PROV_QUERY "provider=" PROV_NAME
#define PARAM_ID   "postseal-key-id"

/* The function that reaches `keys`. OpenSSL hands a provider nothing of the caller's but one global
 * name space, hence one per process. */
static struct keyprov remote;

const struct keyprov *keyprov_remote(void)
{
    return &remote;
}

/* ---- key objects ---- */

static struct keyprov_key *key_new_of(const char *type)
{
    struct keyprov_key *k = OPENSSL_zalloc(sizeof(*k));
    if (!k)
        return NULL;
    k->refs = 1;
    k->type = type;
    return k;
}

static void *key_new_ec(void *provctx)
{
    (void)provctx;
    return key_new_of("EC");
}

static void *key_new_rsa(void *provctx)
{
    (void)provctx;
    return key_new_of("RSA");
}

void keyprov_key_free(void *keydata)
{
    struct keyprov_key *k = keydata;
    if (!k || --k->refs > 0)
        return;
    EVP_PKEY_free(k->public_key);
    OPENSSL_free(k);
}

static int key_has(const void *keydata, int selection)
{
    const struct keyprov_key *k = keydata;
    if (!k || !k->public_key)
        return 0;
    return (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0 || k->id[0] != 0;
}

static int key_match(const void *keydata1, const void *keydata2, int selection)
{
    const struct keyprov_key *a = keydata1, *b = keydata2;
    (void)selection;
    return a->public_key && b->public_key && EVP_PKEY_eq(a->public_key, b->public_key) == 1;
}

static int key_get_params(void *keydata, OSSL_PARAM params[])
{
    struct keyprov_key *k = keydata;
    return k->public_key && EVP_PKEY_get_params(k->public_key, params);
}

static const OSSL_PARAM *key_gettable(void *provctx)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)provctx;
    return list;
}

static const OSSL_PARAM *key_types(int selection)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
        OSSL_PARAM_utf8_string(PARAM_ID, NULL, 0),
        OSSL_PARAM_END,
    };
    return (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0 ? list : NULL;
}

static int key_import(void *keydata, int selection, const OSSL_PARAM params[])
{
    struct keyprov_key *k = keydata;
    const OSSL_PARAM *id = OSSL_PARAM_locate_const(params, PARAM_ID);
    (void)selection;
    if (id) {
        char *to = k->id;
        if (!OSSL_PARAM_get_utf8_string(id, &to, sizeof(k->id)))
            return 0;
    }
    EVP_PKEY_CTX *ctx CLEANUP(pkey_ctx_cleanup) =
        EVP_PKEY_CTX_new_from_name(NULL, k->type, "provider=default");
    EVP_PKEY *pub = NULL;
    /* fromdata only reads its parameters, whatever its prototype says */
    OSSL_PARAM *mutable_params = OSSL_PARAM_dup(params);
    int ok = ctx && mutable_params && EVP_PKEY_fromdata_init(ctx) == 1 &&
             EVP_PKEY_fromdata(ctx, &pub, EVP_PKEY_PUBLIC_KEY, mutable_params) == 1;
    OSSL_PARAM_free(mutable_params);
    if (!ok)
        return 0;
    EVP_PKEY_free(k->public_key);
    k->public_key = pub;
    return 1;
}

static int key_export(void *keydata, int selection, OSSL_CALLBACK *cb, void *cbarg)
{
    struct keyprov_key *k = keydata;
    /* a key that has a private half is not moved elsewhere in part: see the head of this file */
    if (!k->public_key || (k->id[0] && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0))
        return 0;
    return EVP_PKEY_export(k->public_key, selection & ~OSSL_KEYMGMT_SELECT_PRIVATE_KEY, cb, cbarg);
}

static const char *ec_operation(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "ECDSA" : "EC";
}

static const char *rsa_operation(int operation)
{
    (void)operation;
    return "RSA";
}

typedef void (*fn)(void);
#define KEY_FUNCTIONS(new_fn, operation_fn)                                                        \
    {                                                                                              \
        {OSSL_FUNC_KEYMGMT_NEW, (fn)(new_fn)}, {OSSL_FUNC_KEYMGMT_FREE, (fn)keyprov_key_free},     \
            {OSSL_FUNC_KEYMGMT_HAS, (fn)key_has}, {OSSL_FUNC_KEYMGMT_MATCH, (fn)key_match},        \
            {OSSL_FUNC_KEYMGMT_GET_PARAMS, (fn)key_get_params},                                    \
            {OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (fn)key_gettable},                                 \
            {OSSL_FUNC_KEYMGMT_IMPORT, (fn)key_import},                                            \
            {OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (fn)key_types},                                       \
            {OSSL_FUNC_KEYMGMT_EXPORT, (fn)key_export},                                            \
            {OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (fn)key_types},                                       \
            {OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (fn)(operation_fn)}, {0, NULL},               \
    }
static const OSSL_DISPATCH ec_functions[] = KEY_FUNCTIONS(key_new_ec, ec_operation);
static const OSSL_DISPATCH rsa_functions[] = KEY_FUNCTIONS(key_new_rsa, rsa_operation);

static const OSSL_ALGORITHM keymgmt_algs[] = {
    {"EC:id-ecPublicKey:1.2.840.10045.2.1", PROV_QUERY, ec_functions, NULL},
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", PROV_QUERY, rsa_functions, NULL},
    {NULL, NULL, NULL, NULL},
};
static const OSSL_ALGORITHM signature_algs[] = {
    {"ECDSA", PROV_QUERY, keyprov_ecdsa_functions, NULL},
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", PROV_QUERY, keyprov_rsa_functions, NULL},
    {NULL, NULL, NULL, NULL},
};

static const OSSL_ALGORITHM *prov_query(void *provctx, int operation, int *no_cache)
{
    (void)provctx;
    *no_cache = 0;
    if (operation == OSSL_OP_KEYMGMT)
        return keymgmt_algs;
    return operation == OSSL_OP_SIGNATURE ? signature_algs : NULL;
}

static int prov_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                     const OSSL_DISPATCH **out, void **provctx)
{
    static const OSSL_DISPATCH functions[] = {{OSSL_FUNC_PROVIDER_QUERY_OPERATION, (fn)prov_query},
                                              {0, NULL}};
    (void)in;
    *out = functions;
    *provctx = (void *)(uintptr_t)handle;
    return 1;
}

/* ---- face ---- */

/* Plain fetches must find the default provider, or peer keys would be parsed by ours. */
static bool default_comes_first(void)
{
    EVP_KEYMGMT *ec = EVP_KEYMGMT_fetch(NULL, "EC", NULL);
    const OSSL_PROVIDER *p = ec ? EVP_KEYMGMT_get0_provider(ec) : NULL;
    bool ok = p && strcmp(OSSL_PROVIDER_get0_name(p), "default") == 0;
    EVP_KEYMGMT_free(ec);
    return ok;
}

enum err keyprov_init(keyprov_sign_fn *sign, void *ctx, struct errinfo *info)
{
    remote.sign = sign;
    remote.ctx = ctx;
    if (remote.own)
        return ERR_OK; /* a later call only replaces the function */
    ERR_clear_error();
    /* loading any provider by name ends the automatic loading of the default one */
    remote.base = OSSL_PROVIDER_load(NULL, "default");
    if (remote.base && OSSL_PROVIDER_add_builtin(NULL, PROV_NAME, prov_init) == 1)
        remote.own = OSSL_PROVIDER_load(NULL, PROV_NAME);
    if (!remote.own)
        return ossl_fail(info, ERR_BUG, "provider of remote keys");
    if (!default_comes_first())
        return err_set(info, ERR_BUG, "OpenSSL prefers the provider of remote keys to its own");
    return ERR_OK;
}

void keyprov_done(void)
{
    if (remote.own)
        (void)OSSL_PROVIDER_unload(remote.own);
    if (remote.base)
        (void)OSSL_PROVIDER_unload(remote.base);
    remote = (struct keyprov){0};
}

struct make {
    EVP_PKEY_CTX *ctx;
    const char *id;
    EVP_PKEY *key;
};

/* Receives the certificate's public key as parameters; adds our id and makes the remote key. */
static int make_remote(const OSSL_PARAM params[], void *arg)
{
    struct make *m = arg;
    char id[KEYPROV_ID_MAX];
    memcpy(id, m->id, sizeof(id));
    OSSL_PARAM extra[] = {OSSL_PARAM_construct_utf8_string(PARAM_ID, id, 0), OSSL_PARAM_END};
    OSSL_PARAM *all = OSSL_PARAM_merge(params, extra);
    int ok = all && EVP_PKEY_fromdata_init(m->ctx) == 1 &&
             EVP_PKEY_fromdata(m->ctx, &m->key, EVP_PKEY_KEYPAIR, all) == 1;
    OSSL_PARAM_free(all);
    return ok;
}

enum err keyprov_key(X509 *cert, struct sv key_id, EVP_PKEY **out_key, struct errinfo *info)
{
    char id[KEYPROV_ID_MAX] = "";
    if (key_id.n == 0 || key_id.n >= sizeof(id) || sv_find_byte(key_id, 0) != SIZE_MAX)
        return err_set(info, ERR_LIMIT, "key id of 1 to %d bytes", KEYPROV_ID_MAX - 1);
    memcpy(id, key_id.p, key_id.n);
    ERR_clear_error();
    EVP_PKEY *pub = X509_get0_pubkey(cert);
    bool ec = pub && EVP_PKEY_is_a(pub, "EC");
    if (!ec && !(pub && EVP_PKEY_is_a(pub, "RSA")))
        return ossl_fail(info, ERR_DENIED, "certificate key is neither EC nor RSA");
    EVP_PKEY_CTX *ctx CLEANUP(pkey_ctx_cleanup) =
        EVP_PKEY_CTX_new_from_name(NULL, ec ? "EC" : "RSA", PROV_QUERY);
    if (!ctx)
        return ossl_fail(info, ERR_BUG, "provider of remote keys is not loaded");
    struct make m = {ctx, id, NULL};
    if (!EVP_PKEY_export(pub, EVP_PKEY_PUBLIC_KEY, make_remote, &m) || !m.key)
        return ossl_fail(info, ERR_BUG, "remote key");
    *out_key = m.key;
    return ERR_OK;
}
