/*
 * Import of a key with its chain (crypto/cert.h).
 *
 * SECURITY: the file is of a stranger's making, and OpenSSL's parsers see all of it; the caller
 * runs this in a short-lived child without secrets (role/keys_child.c). Before any key derivation
 * its iteration count is read and capped, since PKCS#12 and PKCS#8 let the file choose the work.
 */
#include "crypto/cert.h"

#include "crypto/ossl.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>
#include <openssl/x509v3.h>

#define IMPORT_BLOB_MAX     (60u * 1024)
#define IMPORT_PASSWORD_MAX 100
#define IMPORT_CERTS        16
#define IMPORT_BAGS         64

struct import {
    OSSL_LIB_CTX *legacy;
    char password[IMPORT_PASSWORD_MAX + 1];
    int password_n;
    EVP_PKEY *key;
    X509 *certs[IMPORT_CERTS];
    size_t n_certs;
    struct errinfo *info;
};

OSSL_LIB_CTX *cert_legacy_ctx(void)
{
    OSSL_LIB_CTX *ctx = OSSL_LIB_CTX_new();
    if (ctx && OSSL_PROVIDER_load(ctx, "legacy") && OSSL_PROVIDER_load(ctx, "default"))
        return ctx;
    OSSL_LIB_CTX_free(ctx);
    ERR_clear_error();
    return NULL;
}

struct loaded {
    OSSL_PROVIDER *list[4];
    size_t n;
};

static int collect(OSSL_PROVIDER *p, void *arg)
{
    struct loaded *l = arg;
    if (l->n < ARRAY_LEN(l->list))
        l->list[l->n++] = p;
    return 1;
}

/* Each load holds a reference of its own that the context does not give back. */
void cert_legacy_free(OSSL_LIB_CTX *ctx)
{
    struct loaded l = {0};
    if (!ctx)
        return;
    (void)OSSL_PROVIDER_do_all(ctx, collect, &l);
    for (size_t i = 0; i < l.n; i++)
        (void)OSSL_PROVIDER_unload(l.list[i]);
    OSSL_LIB_CTX_free(ctx);
}

/* ---- cost of key derivation ---- */

static bool iterations_fair(const ASN1_INTEGER *n)
{
    int64_t v = 0;
    return n && ASN1_INTEGER_get_int64(&v, n) == 1 && v >= 0 && v <= CERT_KDF_ITERATIONS_MAX;
}

/* PBES2 with PBKDF2 only (RFC 8018); scrypt's cost is memory, and no tool writes it unasked. */
static bool pbes2_fair(const ASN1_TYPE *param)
{
    PBE2PARAM *p = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBE2PARAM), param);
    PBKDF2PARAM *kdf = NULL;
    if (p && OBJ_obj2nid(p->keyfunc->algorithm) == NID_id_pbkdf2)
        kdf = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBKDF2PARAM), p->keyfunc->parameter);
    bool fair = kdf && iterations_fair(kdf->iter);
    PBKDF2PARAM_free(kdf);
    PBE2PARAM_free(p);
    return fair;
}

static bool algor_fair(const X509_ALGOR *algor)
{
    const ASN1_OBJECT *oid = NULL;
    int type = 0;
    const void *value = NULL;
    X509_ALGOR_get0(&oid, &type, &value, algor);
    if (OBJ_obj2nid(oid) == NID_pbes2)
        return algor->parameter && pbes2_fair(algor->parameter);
    PBEPARAM *p = algor->parameter
                      ? ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBEPARAM), algor->parameter)
                      : NULL;
    bool fair = p && iterations_fair(p->iter);
    PBEPARAM_free(p);
    return fair;
}

static enum err too_slow(struct import *im)
{
    ERR_clear_error();
    return err_set(im->info, ERR_LIMIT, "key derivation of this file is unknown or above %d rounds",
                   CERT_KDF_ITERATIONS_MAX);
}

/* ---- PEM ---- */

static enum err add_cert(struct import *im, X509 *x)
{
    if (!x)
        return ossl_fail(im->info, ERR_SYNTAX, "damaged certificate");
    if (im->n_certs == IMPORT_CERTS) {
        X509_free(x);
        return err_set(im->info, ERR_LIMIT, "more than %d certificates", IMPORT_CERTS);
    }
    im->certs[im->n_certs++] = x;
    return ERR_OK;
}

static enum err add_key(struct import *im, EVP_PKEY *key)
{
    if (!key)
        return ossl_fail(im->info, ERR_SYNTAX, "damaged private key");
    if (im->key) {
        EVP_PKEY_free(key);
        return err_set(im->info, ERR_CONFLICT, "more than one private key");
    }
    im->key = key;
    return ERR_OK;
}

static enum err wrong_password(struct import *im)
{
    ERR_clear_error();
    return err_set(im->info, ERR_DENIED,
                   im->password_n ? "wrong password" : "the private key needs a password");
}

static enum err add_encrypted_key(struct import *im, const uint8_t *der, long n)
{
    X509_SIG *sig = d2i_X509_SIG(NULL, &der, n);
    const X509_ALGOR *algor = NULL;
    const ASN1_OCTET_STRING *bytes = NULL;
    if (!sig)
        return ossl_fail(im->info, ERR_SYNTAX, "damaged private key");
    X509_SIG_get0(sig, &algor, &bytes);
    if (!algor_fair(algor)) {
        X509_SIG_free(sig);
        return too_slow(im);
    }
    PKCS8_PRIV_KEY_INFO *p8 = PKCS8_decrypt(sig, im->password, im->password_n);
    X509_SIG_free(sig);
    if (!p8)
        return wrong_password(im);
    EVP_PKEY *key = EVP_PKCS82PKEY(p8);
    PKCS8_PRIV_KEY_INFO_free(p8);
    return add_key(im, key);
}

static int give_password(char *out, int size, int rwflag, void *ctx)
{
    const struct import *im = ctx;
    (void)rwflag;
    if (im->password_n == 0 || im->password_n > size)
        return -1;
    memcpy(out, im->password, (size_t)im->password_n);
    return im->password_n;
}

/* header: RFC 1421 encryption of old OpenSSL (one round of MD5: cheap). */
static enum err add_block(struct import *im, const char *name, char *header, uint8_t *der, long n)
{
    EVP_CIPHER_INFO cipher;
    const uint8_t *p = der;
    if (strcmp(name, PEM_STRING_X509) == 0 || strcmp(name, PEM_STRING_X509_OLD) == 0)
        return add_cert(im, d2i_X509(NULL, &p, n));
    if (strcmp(name, PEM_STRING_PKCS8) == 0)
        return add_encrypted_key(im, der, n);
    size_t len = strlen(name);
    if (len < 11 || strcmp(name + len - 11, "PRIVATE KEY") != 0)
        return ERR_OK; /* parameters, requests and the like are passed over */
    if (PEM_get_EVP_CIPHER_INFO(header, &cipher) != 1)
        return ossl_fail(im->info, ERR_SYNTAX, "damaged private key");
    if (cipher.cipher && PEM_do_header(&cipher, der, &n, give_password, im) != 1)
        return wrong_password(im);
    return add_key(im, d2i_AutoPrivateKey(NULL, &p, n));
}

static enum err import_pem(struct import *im, struct sv blob)
{
    BIO *bio CLEANUP(bio_cleanup) = ossl_bio_of(blob);
    enum err err = bio ? ERR_OK : ERR_LIMIT;
    while (!err) {
        char *name = NULL, *header = NULL;
        uint8_t *der = NULL;
        long n = 0;
        if (PEM_read_bio(bio, &name, &header, &der, &n) != 1) {
            bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
            err = end ? ERR_OK : ossl_fail(im->info, ERR_SYNTAX, "damaged PEM block");
            break;
        }
        err = add_block(im, name, header, der, n);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_clear_free(der, (size_t)(n > 0 ? n : 0));
    }
    ERR_clear_error();
    return err;
}

/* ---- PKCS#12 (RFC 7292) ---- */

static enum err bag_fair(struct import *im, const PKCS12_SAFEBAG *bag)
{
    if (PKCS12_SAFEBAG_get_nid(bag) == NID_safeContentsBag)
        return err_set(im->info, ERR_DENIED, "nested containers are not read");
    if (PKCS12_SAFEBAG_get_nid(bag) != NID_pkcs8ShroudedKeyBag)
        return ERR_OK;
    const X509_ALGOR *algor = NULL;
    const ASN1_OCTET_STRING *bytes = NULL;
    const X509_SIG *sig = PKCS12_SAFEBAG_get0_pkcs8(bag);
    if (!sig)
        return ossl_fail(im->info, ERR_SYNTAX, "damaged key bag");
    X509_SIG_get0(sig, &algor, &bytes);
    return algor_fair(algor) ? ERR_OK : too_slow(im);
}

static enum err safe_fair(struct import *im, PKCS7 *safe, int *bags_left)
{
    STACK_OF(PKCS12_SAFEBAG) *bags = NULL;
    if (PKCS7_type_is_data(safe)) {
        bags = PKCS12_unpack_p7data(safe);
    } else if (PKCS7_type_is_encrypted(safe)) {
        if (!safe->d.encrypted || !algor_fair(safe->d.encrypted->enc_data->algorithm))
            return too_slow(im);
        bags = PKCS12_unpack_p7encdata(safe, im->password, im->password_n);
    }
    if (!bags)
        return ossl_fail(im->info, ERR_SYNTAX, "container cannot be read");
    enum err err = ERR_OK;
    for (int i = 0; i < sk_PKCS12_SAFEBAG_num(bags) && !err; i++)
        err = --*bags_left < 0 ? too_slow(im) : bag_fair(im, sk_PKCS12_SAFEBAG_value(bags, i));
    sk_PKCS12_SAFEBAG_pop_free(bags, PKCS12_SAFEBAG_free);
    return err;
}

/* Checks every derivation that PKCS12_parse is going to run. The MAC comes first: it tells a wrong
 * password from a damaged file. */
static enum err p12_fair(struct import *im, PKCS12 *p12)
{
    const ASN1_INTEGER *rounds = NULL;
    PKCS12_get0_mac(NULL, NULL, NULL, &rounds, p12);
    if (!PKCS12_mac_present(p12))
        return err_set(im->info, ERR_DENIED, "container without integrity check");
    if (rounds && !iterations_fair(rounds)) /* absent: one round */
        return too_slow(im);
    if (PKCS12_verify_mac(p12, im->password, im->password_n) != 1)
        return wrong_password(im);
    STACK_OF(PKCS7) *safes = PKCS12_unpack_authsafes(p12);
    int bags_left = IMPORT_BAGS;
    enum err err = safes ? ERR_OK : ossl_fail(im->info, ERR_SYNTAX, "container cannot be read");
    for (int i = 0; i < sk_PKCS7_num(safes) && !err; i++)
        err = i == 4 ? too_slow(im) : safe_fair(im, sk_PKCS7_value(safes, i), &bags_left);
    sk_PKCS7_pop_free(safes, PKCS7_free);
    return err;
}

static enum err import_p12(struct import *im, struct sv blob)
{
    const uint8_t *p = (const uint8_t *)blob.p;
    PKCS12 *p12 = PKCS12_init_ex(NID_pkcs7_data, im->legacy, NULL);
    STACK_OF(X509) *more = NULL;
    X509 *leaf = NULL;
    EVP_PKEY *key = NULL;
    if (!p12 || !d2i_PKCS12(&p12, &p, (long)blob.n)) {
        PKCS12_free(p12);
        return ossl_fail(im->info, ERR_SYNTAX, "neither PEM nor PKCS#12");
    }
    enum err err = p12_fair(im, p12);
    if (!err && PKCS12_parse(p12, im->password, &key, &leaf, &more) != 1)
        err = ossl_fail(im->info, ERR_SYNTAX, "container cannot be read");
    PKCS12_free(p12);
    if (!err)
        err = key ? add_key(im, key) : err_set(im->info, ERR_NOTFOUND, "no private key");
    if (err)
        X509_free(leaf);
    else if (leaf)
        err = add_cert(im, leaf);
    while (!err && sk_X509_num(more) > 0)
        err = add_cert(im, sk_X509_shift(more));
    sk_X509_pop_free(more, X509_free);
    return err;
}

/* ---- from parts to a whole ---- */

static X509 *take_cert(struct import *im, size_t i)
{
    X509 *x = im->certs[i];
    im->certs[i] = NULL;
    return x;
}

static X509 *take_leaf(struct import *im)
{
    for (size_t i = 0; i < im->n_certs; i++) {
        EVP_PKEY *pub = X509_get0_pubkey(im->certs[i]);
        if (pub && EVP_PKEY_eq(pub, im->key) == 1)
            return take_cert(im, i);
    }
    return NULL;
}

static X509 *take_issuer(struct import *im, X509 *of)
{
    for (size_t i = 0; i < im->n_certs; i++)
        if (im->certs[i] && X509_check_issued(im->certs[i], of) == X509_V_OK)
            return take_cert(im, i);
    return NULL;
}

/* From the leaf up; certificates of no use to it are left out. */
static enum err write_chain(struct import *im, X509 *leaf, struct buf *out)
{
    BIO *bio CLEANUP(bio_cleanup) = BIO_new(BIO_s_mem());
    bool ok = bio != NULL;
    for (X509 *x = leaf, *up; x && ok; x = up) {
        ok = PEM_write_bio_X509(bio, x) == 1;
        up = X509_self_signed(x, 0) == 1 ? NULL : take_issuer(im, x);
        X509_free(x);
        if (!ok)
            X509_free(up);
    }
    if (!ok)
        return ossl_fail(im->info, ERR_BUG, "chain");
    return ossl_bio_take(bio, out);
}

static enum err write_key(struct import *im, struct buf *out)
{
    BIO *bio CLEANUP(bio_cleanup) = BIO_new(BIO_s_secmem());
    struct sv pem;
    char *p = NULL;
    if (!bio || PEM_write_bio_PrivateKey(bio, im->key, NULL, NULL, 0, NULL, NULL) != 1)
        return ossl_fail(im->info, ERR_BUG, "key");
    long n = BIO_get_mem_data(bio, &p);
    pem = sv_of(p, n > 0 ? (size_t)n : 0);
    EVP_PKEY *again CLEANUP(pkey_cleanup) = NULL;
    enum err err = cert_load_key(pem, &again, im->info); /* kind and strength */
    return err ? err : buf_append_sv(out, pem);
}

static enum err import_finish(struct import *im, struct buf *out_key, struct buf *out_chain)
{
    if (!im->key)
        return err_set(im->info, ERR_NOTFOUND, "no private key");
    if (im->n_certs == 0)
        return err_set(im->info, ERR_NOTFOUND, "no certificate");
    X509 *leaf = take_leaf(im);
    if (!leaf)
        return err_set(im->info, ERR_CONFLICT, "no certificate belongs to the private key");
    size_t chain_n = out_chain->n;
    enum err err = write_chain(im, leaf, out_chain);
    if (!err)
        err = write_key(im, out_key);
    if (err)
        out_chain->n = chain_n;
    return err;
}

enum err cert_import(OSSL_LIB_CTX *legacy, struct sv blob, struct sv password,
                     struct buf *out_key_pem, struct buf *out_chain_pem, struct errinfo *info)
{
    struct import im = {.legacy = legacy, .info = info, .password_n = (int)password.n};
    if (blob.n > IMPORT_BLOB_MAX || password.n > IMPORT_PASSWORD_MAX)
        return err_set(info, ERR_LIMIT, "file above %u bytes or password above %d characters",
                       IMPORT_BLOB_MAX, IMPORT_PASSWORD_MAX);
    if (password.n)
        memcpy(im.password, password.p, password.n);
    ERR_clear_error();
    bool pem = sv_find(blob, SV("-----BEGIN ")) != SIZE_MAX;
    enum err err = pem ? import_pem(&im, blob) : import_p12(&im, blob);
    if (!err)
        err = import_finish(&im, out_key_pem, out_chain_pem);
    EVP_PKEY_free(im.key);
    for (size_t i = 0; i < im.n_certs; i++)
        X509_free(im.certs[i]);
    OPENSSL_cleanse(im.password, sizeof(im.password));
    ERR_clear_error();
    return err;
}
