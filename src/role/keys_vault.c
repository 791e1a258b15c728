/*
 * See keys_vault.h.
 *
 * SECURITY: requests come from processes that talk to the internet. What they may ask was decided
 * before (keys_wire.c); here every index and length is checked, and no answer ever holds a private
 * key.
 */
#include "role/keys_vault.h"

#include "base/log.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <sys/mman.h>

#define SECURE_HEAP    (512u * 1024) /* private numbers of 16 keys need a tenth of it */
#define TICKET_LIFE_MS (3600 * 1000)

struct secret {
    char name[KEYS_ID_MAX + 1];
    uint16_t n;
    char value[KEYS_SECRET_MAX];
};
struct ticket_set {
    uint8_t keys[KEYS_TICKET_SIZE];
    int64_t made_ms;
    bool made;
};
/* The locked pages. */
struct locked {
    uint8_t master[32];
    bool has_master;
    struct ticket_set smtp, web; /* apart: a session of one is nothing to the other */
    struct secret secrets[KEYS_SECRETS];
    size_t n_secrets;
};

struct identity {
    char id[KEYS_ID_MAX + 1];
    EVP_PKEY *key;
    struct buf chain;
};
struct keys_vault {
    struct locked *locked;
    struct identity ids[KEYS_IDENTITIES];
    size_t n_ids;
};

enum err keys_vault_new(struct keys_vault **out_v, bool *out_locked)
{
    struct keys_vault *v = calloc(1, sizeof(*v));
    void *p = mmap(NULL, sizeof(struct locked), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                   -1, 0);
    if (!v || p == MAP_FAILED) {
        free(v);
        return ERR_LIMIT;
    }
    bool locked = mlock(p, sizeof(struct locked)) == 0;
    (void)madvise(p, sizeof(struct locked), MADV_DONTDUMP);
    (void)madvise(p, sizeof(struct locked), MADV_WIPEONFORK);
    if (!CRYPTO_secure_malloc_initialized())
        locked = CRYPTO_secure_malloc_init(SECURE_HEAP, 32) == 1 && locked;
    v->locked = p;
    *out_v = v;
    *out_locked = locked;
    return ERR_OK;
}

void keys_vault_forget(struct keys_vault *v)
{
    for (size_t i = 0; i < v->n_ids; i++) {
        EVP_PKEY_free(v->ids[i].key);
        v->ids[i].key = NULL;
    }
    OPENSSL_cleanse(v->locked, sizeof(*v->locked));
}

void keys_vault_free(struct keys_vault *v)
{
    if (!v)
        return;
    keys_vault_forget(v);
    for (size_t i = 0; i < v->n_ids; i++)
        buf_done(&v->ids[i].chain);
    (void)munmap(v->locked, sizeof(*v->locked));
    free(v);
}

/* ---- filling ---- */

static struct identity *identity_find(struct keys_vault *v, struct sv id)
{
    for (size_t i = 0; i < v->n_ids; i++)
        if (sv_eq(sv_str(v->ids[i].id), id))
            return &v->ids[i];
    return NULL;
}

static struct identity *identity_get(struct keys_vault *v, struct sv id)
{
    struct identity *found = identity_find(v, id);
    if (found || v->n_ids == KEYS_IDENTITIES)
        return found;
    struct identity *fresh = &v->ids[v->n_ids++];
    memcpy(fresh->id, id.p, id.n);
    buf_init(&fresh->chain, KEYS_PEM_MAX);
    return fresh;
}

static enum err put_key(struct identity *id, struct sv pem, struct errinfo *info)
{
    EVP_PKEY *key = NULL;
    enum err err = cert_load_key(pem, &key, info);
    if (err)
        return err;
    EVP_PKEY_free(id->key);
    id->key = key;
    return ERR_OK;
}

static enum err put_chain(struct identity *id, struct sv pem, struct errinfo *info)
{
    struct arena a;
    struct cert_info about;
    arena_init(&a, 16384);
    enum err err = cert_describe(pem, &a, &about, info);
    arena_done(&a);
    if (err)
        return err;
    buf_reset(&id->chain);
    return buf_append_sv(&id->chain, pem);
}

static struct secret *secret_find(struct locked *l, struct sv name)
{
    for (size_t i = 0; i < l->n_secrets; i++)
        if (sv_eq(sv_str(l->secrets[i].name), name))
            return &l->secrets[i];
    return NULL;
}

/* A final line break belongs to the editor, not to the password. */
static enum err put_secret(struct locked *l, struct sv name, struct sv value, struct errinfo *info)
{
    while (value.n && (value.p[value.n - 1] == '\n' || value.p[value.n - 1] == '\r'))
        value.n--;
    if (value.n > KEYS_SECRET_MAX)
        return err_set(info, ERR_LIMIT, "a secret has at most %d bytes", KEYS_SECRET_MAX);
    struct secret *s = secret_find(l, name);
    if (!s && l->n_secrets == KEYS_SECRETS)
        return err_set(info, ERR_LIMIT, "more than %d secrets", KEYS_SECRETS);
    if (!s)
        s = &l->secrets[l->n_secrets++];
    OPENSSL_cleanse(s, sizeof(*s));
    memcpy(s->name, name.p, name.n);
    memcpy(s->value, value.p, value.n);
    s->n = (uint16_t)value.n;
    return ERR_OK;
}

static enum err put_master(struct locked *l, struct sv data, struct errinfo *info)
{
    if (data.n != sizeof(l->master))
        return err_set(info, ERR_SYNTAX, "the master key has 32 bytes");
    memcpy(l->master, data.p, sizeof(l->master));
    l->has_master = true;
    return ERR_OK;
}

enum err keys_vault_put(struct keys_vault *v, struct sv name, struct sv data, struct errinfo *info)
{
    struct sv rest = name;
    if (sv_eq(name, SV("master")))
        return put_master(v->locked, data, info);
    struct sv kind = sv_cut(&rest, '/');
    bool key = sv_eq(kind, SV("key")), chain = sv_eq(kind, SV("cert"));
    if (!key && !chain && !sv_eq(kind, SV("secret")))
        return err_set(info, ERR_NOTFOUND, "not for keys");
    if (!keys_id_valid(rest))
        return err_set(info, ERR_SYNTAX, "name of 1 to %d of a-z 0-9 . _ -", KEYS_ID_MAX);
    if (data.n > KEYS_PEM_MAX)
        return err_set(info, ERR_LIMIT, "more than %u bytes", KEYS_PEM_MAX);
    if (!key && !chain)
        return put_secret(v->locked, rest, data, info);
    struct identity *id = identity_get(v, rest);
    if (!id)
        return err_set(info, ERR_LIMIT, "more than %d keys", KEYS_IDENTITIES);
    return key ? put_key(id, data, info) : put_chain(id, data, info);
}

/* ---- answering ---- */

/* Do the halves belong together? A pair that does not would fail every handshake. */
static bool halves_match(const struct identity *id)
{
    BIO *bio = BIO_new_mem_buf(id->chain.p, (int)id->chain.n);
    X509 *leaf = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    bool match = leaf && X509_check_private_key(leaf, id->key) == 1;

    if (!match)
        log_msg(LOG_ERROR, "keys.pair", "%s.key and %s.crt do not belong together: not used",
                id->id, id->id);
    X509_free(leaf);
    BIO_free(bio);
    ERR_clear_error();
    return match;
}

/* Only identities with both halves; EC first, then RSA, in order of arrival. */
static enum err answer_certs(const struct keys_vault *v, struct buf *out)
{
    for (int rsa = 0; rsa < 2; rsa++)
        for (size_t i = 0; i < v->n_ids; i++) {
            const struct identity *id = &v->ids[i];
            if (id->key && id->chain.n && EVP_PKEY_is_a(id->key, "RSA") == rsa && halves_match(id))
                key_certs_put(out, sv_str(id->id), buf_sv(&id->chain));
        }
    return out->overflow ? ERR_LIMIT : ERR_OK;
}

static enum err answer_sign(struct keys_vault *v, const struct key_req *req, struct buf *out)
{
    const struct identity *id = identity_find(v, req->name);
    if (!id || !id->key)
        return ERR_NOTFOUND;
    return cert_sign(id->key, (enum key_alg)req->alg, req->data, out, NULL);
}

/* Both keys are random and never leave memory: a restart of `keys` costs one full handshake a peer.
 */
static enum err answer_ticket(struct ticket_set *t, int64_t now_ms, struct buf *out)
{
    const size_t half = KEYS_TICKET_SIZE / 2;
    int64_t age = now_ms - t->made_ms;
    if (!t->made || age >= TICKET_LIFE_MS) {
        uint8_t fresh[KEYS_TICKET_SIZE / 2];
        if (RAND_priv_bytes(fresh, (int)half) != 1)
            return ERR_BUG;
        if (t->made && age < 2 * TICKET_LIFE_MS)
            memcpy(t->keys + half, t->keys, half);
        else
            memset(t->keys + half, 0, half); /* absent, or too old to honour */
        memcpy(t->keys, fresh, half);
        OPENSSL_cleanse(fresh, half);
        t->made = true;
        t->made_ms = now_ms;
    }
    return buf_append(out, t->keys, KEYS_TICKET_SIZE);
}

static enum err answer_secret(struct keys_vault *v, struct sv name, struct buf *out)
{
    const struct secret *s = secret_find(v->locked, name);
    return s ? buf_append(out, s->value, s->n) : ERR_NOTFOUND;
}

enum err keys_vault_answer(struct keys_vault *v, const struct key_req *req, enum role asker,
                           int64_t now_ms, struct buf *out_data)
{
    struct locked *l = v->locked;
    switch ((enum key_op)req->op) {
    case KEY_OP_CERTS:
        return answer_certs(v, out_data);
    case KEY_OP_SIGN:
        return answer_sign(v, req, out_data);
    case KEY_OP_WRAP:
        return l->has_master ? seal_wrap(l->master, req->data, out_data) : ERR_NOTFOUND;
    case KEY_OP_UNWRAP:
        return l->has_master ? seal_unwrap(l->master, req->data, out_data) : ERR_NOTFOUND;
    case KEY_OP_SECRET:
        return answer_secret(v, req->name, out_data);
    case KEY_OP_TICKET:
        return answer_ticket(asker == ROLE_WEB ? &l->web : &l->smtp, now_ms, out_data);
    case KEY_OP_GENERATE:
    case KEY_OP_IMPORT:
        break;
    }
    return ERR_SYNTAX;
}
