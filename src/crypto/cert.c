/*
 * Certificates and private keys: making, loading, describing, signing (crypto/cert.h).
 *
 * SECURITY: cert_describe and cert_covers read certificates that a peer or an administrator
 * supplied. Names are compared as bytes of known length (an embedded NUL never ends a name), and
 * what is printed passes OpenSSL's RFC 2253 escaping. cert_load_key never asks for a password and
 * refuses keys that are too weak or so large that one signature would stall `keys`.
 */
#include "crypto/cert.h"

#include "base/enc.h"
#include "crypto/ossl.h"
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#define HOST_MAX     253
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 4096

/* ---- making ---- */

static EVP_PKEY *key_generate(enum key_kind kind)
{
    switch (kind) {
    case KEY_EC_P256:
        return EVP_EC_gen("P-256");
    case KEY_RSA_2048:
        return EVP_RSA_gen(2048);
    case KEY_RSA_3072:
        return EVP_RSA_gen(3072);
    case KEY_RSA_4096:
        return EVP_RSA_gen(4096);
    }
    return NULL;
}

static bool host_is_plain(struct sv host)
{
    if (host.n == 0 || host.n > HOST_MAX)
        return false;
    for (size_t i = 0; i < host.n; i++) {
        char c = host.p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && c != '.' && c != '-' && c != '_')
            return false;
    }
    return true;
}

static bool cert_add_ext(X509 *x, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = ext && X509_add_ext(x, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

/* The common name holds 64 characters (RFC 5280 upper bound); a longer host stands in the SAN only.
 */
static bool cert_set_names(X509 *x, struct sv host)
{
    char san[HOST_MAX + 8];
    (void)snprintf(san, sizeof(san), "DNS:%.*s", SV_ARG(host));
    struct sv cn = host.n <= 64 ? host : SV("postseal");
    X509_NAME *name = X509_get_subject_name(x);
    return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)cn.p, (int)cn.n,
                                      -1, 0) == 1 &&
           X509_set_issuer_name(x, name) == 1 && cert_add_ext(x, NID_subject_alt_name, san);
}

static bool cert_set_frame(X509 *x, EVP_PKEY *key, uint32_t days)
{
    BIGNUM *bn = BN_new();
    bool ok = bn && BN_rand(bn, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
              BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x)) != NULL;
    BN_free(bn);
    /* an hour back: the peer's clock may be slow */
    return ok && X509_set_version(x, X509_VERSION_3) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(x), -3600) &&
           X509_time_adj_ex(X509_getm_notAfter(x), (int)days, 0, NULL) &&
           X509_set_pubkey(x, key) == 1;
}

static X509 *cert_make(EVP_PKEY *key, enum key_kind kind, struct sv host, uint32_t days)
{
    X509 *x = X509_new();
    const char *usage = kind == KEY_EC_P256 ? "critical,digitalSignature"
                                            : "critical,digitalSignature,keyEncipherment";
    if (x && cert_set_frame(x, key, days) && cert_set_names(x, host) &&
        cert_add_ext(x, NID_basic_constraints, "critical,CA:FALSE") &&
        cert_add_ext(x, NID_key_usage, usage) &&
        cert_add_ext(x, NID_ext_key_usage, "serverAuth,clientAuth") &&
        cert_add_ext(x, NID_subject_key_identifier, "hash") && X509_sign(x, key, EVP_sha256()) > 0)
        return x;
    X509_free(x);
    return NULL;
}

static enum err key_to_pem(EVP_PKEY *key, struct buf *out)
{
    BIO *bio CLEANUP(bio_cleanup) = BIO_new(BIO_s_secmem());
    if (!bio || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        return ERR_BUG;
    return ossl_bio_take(bio, out);
}

static enum err cert_to_pem(X509 *x, struct buf *out)
{
    BIO *bio CLEANUP(bio_cleanup) = BIO_new(BIO_s_mem());
    if (!bio || PEM_write_bio_X509(bio, x) != 1)
        return ERR_BUG;
    return ossl_bio_take(bio, out);
}

enum err cert_self_signed(enum key_kind kind, struct sv host, uint32_t days,
                          struct buf *out_key_pem, struct buf *out_cert_pem, struct errinfo *info)
{
    if (!host_is_plain(host))
        return err_set(info, ERR_SYNTAX,
                       "host name of a certificate: letters, digits, dot, hyphen");
    if (days == 0 || days > 36500)
        return err_set(info, ERR_LIMIT, "a certificate is valid for 1 to 36500 days");
    ERR_clear_error();
    EVP_PKEY *key CLEANUP(pkey_cleanup) = key_generate(kind);
    if (!key)
        return ossl_fail(info, ERR_BUG, "key generation");
    X509 *x CLEANUP(x509_cleanup) = cert_make(key, kind, host, days);
    if (!x)
        return ossl_fail(info, ERR_BUG, "self-signed certificate");
    size_t key_n = out_key_pem->n;
    enum err err = key_to_pem(key, out_key_pem);
    if (!err)
        err = cert_to_pem(x, out_cert_pem);
    if (err) {
        out_key_pem->n = key_n;
        return ossl_fail(info, err, "PEM of a new key");
    }
    return ERR_OK;
}

/* ---- signing ---- */

struct alg_row {
    const char *type; /* of key */
    const EVP_MD *(*md)(void);
    size_t digest_n;
    int padding; /* RSA only */
};
static const struct alg_row algs[] = {
    [KEY_ALG_ECDSA_SHA256] = {"EC", EVP_sha256, 32, 0},
    [KEY_ALG_ECDSA_SHA384] = {"EC", EVP_sha384, 48, 0},
    [KEY_ALG_ECDSA_SHA512] = {"EC", EVP_sha512, 64, 0},
    [KEY_ALG_RSA_PKCS1_SHA256] = {"RSA", EVP_sha256, 32, RSA_PKCS1_PADDING},
    [KEY_ALG_RSA_PKCS1_SHA384] = {"RSA", EVP_sha384, 48, RSA_PKCS1_PADDING},
    [KEY_ALG_RSA_PKCS1_SHA512] = {"RSA", EVP_sha512, 64, RSA_PKCS1_PADDING},
    [KEY_ALG_RSA_PSS_SHA256] = {"RSA", EVP_sha256, 32, RSA_PKCS1_PSS_PADDING},
    [KEY_ALG_RSA_PSS_SHA384] = {"RSA", EVP_sha384, 48, RSA_PKCS1_PSS_PADDING},
    [KEY_ALG_RSA_PSS_SHA512] = {"RSA", EVP_sha512, 64, RSA_PKCS1_PSS_PADDING},
};

static bool sign_setup(EVP_PKEY_CTX *ctx, const struct alg_row *row)
{
    if (EVP_PKEY_sign_init(ctx) != 1)
        return false;
    if (row->padding && EVP_PKEY_CTX_set_rsa_padding(ctx, row->padding) != 1)
        return false;
    if (EVP_PKEY_CTX_set_signature_md(ctx, row->md()) != 1)
        return false;
    return row->padding != RSA_PKCS1_PSS_PADDING ||
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
}

enum err cert_sign(EVP_PKEY *key, enum key_alg alg, struct sv digest, struct buf *out_signature,
                   struct errinfo *info)
{
    if ((size_t)alg >= ARRAY_LEN(algs))
        return err_set(info, ERR_DENIED, "unknown signature algorithm");
    const struct alg_row *row = &algs[alg];
    if (digest.n != row->digest_n || !EVP_PKEY_is_a(key, row->type))
        return err_set(info, ERR_DENIED, "digest or key does not fit the algorithm");
    ERR_clear_error();
    EVP_PKEY_CTX *ctx CLEANUP(pkey_ctx_cleanup) = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    size_t n = (size_t)EVP_PKEY_get_size(key);
    enum err err = buf_reserve(out_signature, n);
    if (err)
        return err_set(info, err, "signature does not fit");
    if (!ctx || !sign_setup(ctx, row) ||
        EVP_PKEY_sign(ctx, (uint8_t *)out_signature->p + out_signature->n, &n,
                      (const uint8_t *)digest.p, digest.n) != 1)
        return ossl_fail(info, ERR_BUG, "sign");
    out_signature->n += n;
    return ERR_OK;
}

/* ---- loading ---- */

static int no_password(char *buf, int size, int rwflag, void *asked)
{
    (void)buf, (void)size, (void)rwflag;
    *(bool *)asked = true;
    return -1;
}

static enum err key_check(EVP_PKEY *key, struct errinfo *info)
{
    int bits = EVP_PKEY_get_bits(key);
    char group[32] = "";
    if (EVP_PKEY_is_a(key, "RSA")) {
        if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
            return err_set(info, ERR_DENIED, "RSA key of %d bits: %d to %d are accepted", bits,
                           RSA_BITS_MIN, RSA_BITS_MAX);
        return ERR_OK;
    }
    if (!EVP_PKEY_is_a(key, "EC"))
        return err_set(info, ERR_DENIED, "key is neither EC nor RSA");
    (void)EVP_PKEY_get_group_name(key, group, sizeof(group), NULL);
    if (strcmp(group, "prime256v1") != 0 && strcmp(group, "secp384r1") != 0 &&
        strcmp(group, "secp521r1") != 0)
        return err_set(info, ERR_DENIED, "EC curve %s: P-256, P-384 and P-521 are accepted", group);
    return ERR_OK;
}

enum err cert_load_key(struct sv pem, EVP_PKEY **out_key, struct errinfo *info)
{
    ERR_clear_error();
    BIO *bio CLEANUP(bio_cleanup) = ossl_bio_of(pem);
    bool asked = false;
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, &asked) : NULL;
    if (!key && asked)
        return ossl_fail(info, ERR_DENIED, "private key is protected by a password");
    if (!key)
        return ossl_fail(info, ERR_SYNTAX, "no private key in PEM form");
    enum err err = key_check(key, info);
    if (err) {
        EVP_PKEY_free(key);
        return err;
    }
    ERR_clear_error();
    *out_key = key;
    return ERR_OK;
}

/* ---- describing ---- */

static struct sv describe_sans(X509 *x, struct arena *a)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    struct sv all = SV("");
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && all.n < 4096; i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type != GEN_DNS)
            continue;
        struct sv san = {(const char *)ASN1_STRING_get0_data(g->d.dNSName),
                         (size_t)ASN1_STRING_length(g->d.dNSName)};
        if (san.n > HOST_MAX || sv_find_byte(san, 0) != SIZE_MAX)
            continue;
        all = arena_printf(a, "%.*s%s%.*s", SV_ARG(all), all.n ? "," : "", SV_ARG(san));
    }
    GENERAL_NAMES_free(names);
    return all;
}

static struct sv describe_name(const X509_NAME *name, struct arena *a)
{
    char text[512];
    ossl_name(name, text, sizeof(text));
    return arena_sv(a, sv_str(text));
}

static struct sv describe_serial(const ASN1_INTEGER *serial, struct arena *a)
{
    struct buf hex;
    buf_init(&hex, 256);
    (void)hex_encode(
        sv_of((const char *)ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial)),
        &hex);
    struct sv out = arena_sv(a, buf_sv(&hex));
    buf_done(&hex);
    return out;
}

/* arena_printf'd text is followed by a NUL, so its pointer serves as a C string. */
static const char *describe_key(X509 *x, struct arena *a)
{
    EVP_PKEY *key = X509_get0_pubkey(x);
    char group[32] = "";
    if (!key)
        return "unknown";
    if (EVP_PKEY_is_a(key, "EC")) {
        (void)EVP_PKEY_get_group_name(key, group, sizeof(group), NULL);
        const char *nist = EC_curve_nid2nist(OBJ_sn2nid(group));
        return arena_cstr(a, arena_printf(a, "EC %s", nist ? nist : group));
    }
    const char *type = EVP_PKEY_get0_type_name(key);
    return arena_cstr(a, arena_printf(a, "%s %d", type ? type : "unknown", EVP_PKEY_get_bits(key)));
}

enum err cert_describe(struct sv pem, struct arena *a, struct cert_info *out_info,
                       struct errinfo *info)
{
    ERR_clear_error();
    BIO *bio CLEANUP(bio_cleanup) = ossl_bio_of(pem);
    X509 *x CLEANUP(x509_cleanup) = bio ? ossl_next_cert(bio) : NULL;
    if (!x)
        return ossl_fail(info, ERR_SYNTAX, "no certificate in PEM form");
    struct cert_info c = {
        .subject = describe_name(X509_get_subject_name(x), a),
        .issuer = describe_name(X509_get_issuer_name(x), a),
        .serial = describe_serial(X509_get0_serialNumber(x), a),
        .sha256 = ossl_cert_sha256(x, a),
        .sans = describe_sans(x, a),
        .not_before_ms = ossl_time_ms(X509_get0_notBefore(x)),
        .not_after_ms = ossl_time_ms(X509_get0_notAfter(x)),
        .key = describe_key(x, a),
        .self_signed = X509_self_signed(x, 1) == 1,
    };
    ERR_clear_error();
    if (a->overflow)
        return err_set(info, ERR_LIMIT, "certificate description is too long");
    *out_info = c;
    return ERR_OK;
}

/* ---- names (RFC 6125 section 6.4) ---- */

/* One left-most wildcard label, standing for exactly one label; never directly below a top-level
 * name ("*.com"). pattern "*.example.org" covers "mx.example.org", not "a.b.example.org". */
static bool name_matches(struct sv pattern, struct sv host)
{
    if (sv_find_byte(pattern, 0) != SIZE_MAX || sv_empty(pattern))
        return false;
    if (!sv_starts(pattern, SV("*.")))
        return sv_eq_nocase(pattern, host);
    struct sv suffix = sv_skip(pattern, 1);
    size_t dot = sv_find_byte(host, '.');
    if (dot == SIZE_MAX || dot == 0)
        return false;
    if (sv_find_byte(suffix, '*') != SIZE_MAX || sv_find_byte(sv_skip(suffix, 1), '.') == SIZE_MAX)
        return false;
    return sv_eq_nocase(suffix, sv_skip(host, dot));
}

static struct sv without_final_dot(struct sv host)
{
    if (host.n > 1 && host.p[host.n - 1] == '.')
        host.n--;
    return host;
}

/* out_has: whether there was any dNSName at all (then the common name is not looked at). */
static bool sans_cover(X509 *cert, struct sv host, bool *out_has)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    bool found = false;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type != GEN_DNS)
            continue;
        *out_has = true;
        struct sv san = {(const char *)ASN1_STRING_get0_data(g->d.dNSName),
                         (size_t)ASN1_STRING_length(g->d.dNSName)};
        found = found || name_matches(without_final_dot(san), host);
    }
    GENERAL_NAMES_free(names);
    return found;
}

static bool common_name_covers(X509 *cert, struct sv host)
{
    const X509_NAME *name = X509_get_subject_name(cert);
    int last = -1, i;
    while ((i = X509_NAME_get_index_by_NID(name, NID_commonName, last)) >= 0)
        last = i;
    if (last < 0)
        return false;
    uint8_t *utf8 = NULL;
    int n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, last)));
    bool ok = n > 0 && name_matches(sv_of((const char *)utf8, (size_t)n), host);
    OPENSSL_free(utf8);
    return ok;
}

bool cert_covers(X509 *cert, struct sv host)
{
    bool has_san = false;
    host = without_final_dot(host);
    if (sv_empty(host))
        return false;
    bool ok = sans_cover(cert, host, &has_san) || (!has_san && common_name_covers(cert, host));
    ERR_clear_error();
    return ok;
}
