/* Shared by tls.c (sessions), tls_server.c, tls_client.c and tls_cache.c. */
#ifndef CRYPTO_TLS_INT_H
#define CRYPTO_TLS_INT_H

#include "crypto/tls.h"
#include <openssl/ssl.h>

#define TLS_CACHE_SESSIONS                                                                         \
    4096                    /* client sessions kept, all destinations together (~4 KiB each)       \
                             */
#define TLS_CACHE_PER_KEY 4 /* of one destination: as many connections resume at once */
#define TLS_CACHE_KEY_MAX 512
#define TLS_SESSION_AGE_S 7200 /* client and server: a session is not resumed after this */

/* ---- cache of client sessions (single use, LRU, bounded) ---- */
struct tls_cache;
struct tls_cache *tls_cache_new(size_t max_sessions, size_t max_per_key);
void tls_cache_free(struct tls_cache *c);
/* Takes the reference to s. A key longer than TLS_CACHE_KEY_MAX is not cached. */
void tls_cache_put(struct tls_cache *c, struct sv key, SSL_SESSION *s);
/* The newest usable session of key, removed from the cache, or NULL. now: seconds since 1970. */
SSL_SESSION *tls_cache_take(struct tls_cache *c, struct sv key, int64_t now);
size_t tls_cache_count(const struct tls_cache *c);

/* ---- one session ---- */
struct tls {
    SSL *ssl;
    struct tls_server *server; /* one of the two; referenced */
    struct tls_client *client;
    struct buf cache_key; /* client: internal key, "" = not cached */
    struct buf name;      /* client: reference identity */
    bool up;              /* handshake finished */
    bool failed;          /* fatal error: nothing more is sent, the session is not resumed */
    bool drained;         /* the last read found nothing whole */
    bool polled;          /* tls_readable is called when there is more */
    bool dry;             /* polled, and the last read(2) was short */
    char error[160];
};

NODISCARD enum err tls_new(SSL_CTX *ctx, int fd, struct tls **out_t);
void tls_server_ref(struct tls_server *s);
void tls_client_ref(struct tls_client *c);
/* After a client's handshake: what is to be kept of it. */
void tls_client_up(struct tls *t);
/* Common to every context: versions, modes, options. */
void tls_ctx_basics(SSL_CTX *ctx, uint16_t min_version);

#endif
