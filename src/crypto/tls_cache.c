/*
 * Client sessions kept for resumption: a hash of keys to sessions, newest first, with one LRU list
 * over all. A session leaves the cache when it is taken: a TLS 1.3 ticket is single use (RFC 8446
 * C.4), and OpenSSL marks it so.
 */
#include "crypto/tls_int.h"

#include "base/hash.h"
#include "base/list.h"
#include "base/rng.h"
#include <stdlib.h>

struct entry {
    struct list lru;    /* oldest first */
    struct entry *next; /* of the bucket, newest first */
    SSL_SESSION *session;
    uint64_t hash;
    size_t key_n;
    char key[];
};

struct tls_cache {
    struct list lru;
    struct entry **buckets;
    size_t n_buckets; /* power of two */
    size_t n, max, max_per_key;
    uint8_t hash_key[16];
};

struct tls_cache *tls_cache_new(size_t max_sessions, size_t max_per_key)
{
    struct tls_cache *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->n_buckets = 64;
    while (c->n_buckets < max_sessions)
        c->n_buckets *= 2;
    c->buckets = calloc(c->n_buckets, sizeof(struct entry *));
    if (!c->buckets) {
        free(c);
        return NULL;
    }
    list_init(&c->lru);
    c->max = max_sessions;
    c->max_per_key = max_per_key;
    struct rng rng = rng_system();
    rng_bytes(&rng, c->hash_key, sizeof(c->hash_key));
    return c;
}

static struct entry **bucket_of(struct tls_cache *c, uint64_t hash)
{
    return &c->buckets[hash & (c->n_buckets - 1)];
}

static bool entry_is(const struct entry *e, uint64_t hash, struct sv key)
{
    return e->hash == hash && sv_eq(sv_of(e->key, e->key_n), key);
}

/* Unlinks e and gives its session to the caller. */
static SSL_SESSION *entry_drop(struct tls_cache *c, struct entry *e)
{
    struct entry **at = bucket_of(c, e->hash);
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    list_remove(&e->lru);
    SSL_SESSION *s = e->session;
    free(e);
    c->n--;
    return s;
}

static struct entry *oldest(struct tls_cache *c)
{
    return LIST_ENTRY(c->lru.next, struct entry, lru);
}

void tls_cache_free(struct tls_cache *c)
{
    if (!c)
        return;
    while (!list_empty(&c->lru))
        SSL_SESSION_free(entry_drop(c, oldest(c)));
    free(c->buckets);
    free(c);
}

/* The bucket is newest first, so the last one of the key is its oldest. */
static void make_room_in_key(struct tls_cache *c, uint64_t hash, struct sv key)
{
    size_t n = 0;
    struct entry *last = NULL;
    for (struct entry *e = *bucket_of(c, hash); e; e = e->next) {
        if (!entry_is(e, hash, key))
            continue;
        last = e;
        n++;
    }
    if (last && n >= c->max_per_key)
        SSL_SESSION_free(entry_drop(c, last));
}

void tls_cache_put(struct tls_cache *c, struct sv key, SSL_SESSION *s)
{
    struct entry *e = key.n && key.n <= TLS_CACHE_KEY_MAX ? calloc(1, sizeof(*e) + key.n) : NULL;
    if (!e) {
        SSL_SESSION_free(s);
        return;
    }
    e->hash = siphash24(c->hash_key, key.p, key.n);
    e->session = s;
    e->key_n = key.n;
    memcpy(e->key, key.p, key.n);
    make_room_in_key(c, e->hash, key);
    if (c->n >= c->max)
        SSL_SESSION_free(entry_drop(c, oldest(c)));
    struct entry **bucket = bucket_of(c, e->hash);
    e->next = *bucket;
    *bucket = e;
    list_push_back(&c->lru, &e->lru);
    c->n++;
}

static bool session_usable(const SSL_SESSION *s, int64_t now)
{
    int64_t age = now - (int64_t)SSL_SESSION_get_time(s);
    int64_t life = (int64_t)SSL_SESSION_get_timeout(s);
    unsigned long hint = SSL_SESSION_get_ticket_lifetime_hint(s);
    if (hint && (int64_t)hint < life)
        life = (int64_t)hint;
    if (life > TLS_SESSION_AGE_S)
        life = TLS_SESSION_AGE_S;
    return SSL_SESSION_is_resumable(s) && age >= 0 && age < life;
}

SSL_SESSION *tls_cache_take(struct tls_cache *c, struct sv key, int64_t now)
{
    uint64_t hash = siphash24(c->hash_key, key.p, key.n);
    for (struct entry *e = *bucket_of(c, hash), *next; e; e = next) {
        next = e->next;
        if (!entry_is(e, hash, key))
            continue;
        SSL_SESSION *s = entry_drop(c, e);
        if (session_usable(s, now))
            return s;
        SSL_SESSION_free(s);
    }
    return NULL;
}

size_t tls_cache_count(const struct tls_cache *c)
{
    return c->n;
}
