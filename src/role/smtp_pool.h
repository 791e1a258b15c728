/*
 * Idle connections out, kept for the next message to the same destination under the same promise.
 * The key names everything that makes two sessions interchangeable: destination, TLS requirement,
 * whether clear text is permitted, and the AUTH user. A session is never found under a key weaker
 * than the one it was opened for. Knows no I/O: entries are nodes inside the connections.
 */
#ifndef ROLE_SMTP_POOL_H
#define ROLE_SMTP_POOL_H

#include "base/buf.h"
#include "base/list.h"
#include "model/delivery.h"

#define POOL_BUCKETS 256u

struct pool_node {
    struct list bucket; /* first: LIST_ENTRY goes through it */
    struct list age;    /* oldest first */
    struct sv key;      /* lives as long as the connection */
};
struct smtp_pool {
    struct list buckets[POOL_BUCKETS];
    struct list age;
    uint32_t n;
};

void smtp_pool_init(struct smtp_pool *p);
/* Key of a job under the requirement that holds for it (never weaker than hop.tls). */
enum err smtp_pool_key(const struct hop *hop, const struct tls_req *req, struct buf *out);
void smtp_pool_put(struct smtp_pool *p, struct pool_node *node);
void smtp_pool_remove(struct smtp_pool *p, struct pool_node *node); /* no-op when not inside */
/* Most recently used entry of that key, taken out; NULL when there is none. */
struct pool_node *smtp_pool_take(struct smtp_pool *p, struct sv key);
struct pool_node *smtp_pool_oldest(const struct smtp_pool *p);

#endif
