/* See smtp_pool.h. */
#include "role/smtp_pool.h"

#include "base/hash.h"

static struct list *bucket_of(struct smtp_pool *p, struct sv key)
{
    return &p->buckets[crc32c(0, key.p, key.n) % POOL_BUCKETS];
}

void smtp_pool_init(struct smtp_pool *p)
{
    for (size_t i = 0; i < POOL_BUCKETS; i++)
        list_init(&p->buckets[i]);
    list_init(&p->age);
    p->n = 0;
}

/* Every string is preceded by its length, so no choice of names makes two keys equal. */
static void put_part(struct buf *out, struct sv v)
{
    (void)buf_printf(out, "%zu:", v.n);
    (void)buf_append_sv(out, v);
}

enum err smtp_pool_key(const struct hop *hop, const struct tls_req *req, struct buf *out)
{
    put_part(out, hop->key);
    put_part(out, hop->auth_user);
    put_part(out, hop->auth_secret);
    /* servers in their present order: equals take turns, and settings that name others count */
    for (uint32_t i = 0; i < hop->n_hosts; i++) {
        put_part(out, hop->hosts[i].name);
        (void)buf_printf(out, "%u%c", hop->hosts[i].port, hop->hosts[i].mx ? 'm' : 'a');
    }
    (void)buf_printf(out, "%u/%u", req->level, req->strength);
    return out->overflow ? ERR_LIMIT : ERR_OK;
}

void smtp_pool_put(struct smtp_pool *p, struct pool_node *node)
{
    list_push_back(bucket_of(p, node->key), &node->bucket);
    list_push_back(&p->age, &node->age);
    p->n++;
}

void smtp_pool_remove(struct smtp_pool *p, struct pool_node *node)
{
    if (!list_linked(&node->bucket))
        return;
    list_remove(&node->bucket);
    list_remove(&node->age);
    p->n--;
}

struct pool_node *smtp_pool_take(struct smtp_pool *p, struct sv key)
{
    struct list *b = bucket_of(p, key);

    for (struct list *it = b->prev; it != b; it = it->prev) {
        struct pool_node *node = LIST_ENTRY(it, struct pool_node, bucket);
        if (sv_eq(node->key, key)) {
            smtp_pool_remove(p, node);
            return node;
        }
    }
    return NULL;
}

struct pool_node *smtp_pool_oldest(const struct smtp_pool *p)
{
    return list_empty(&p->age) ? NULL : LIST_ENTRY(p->age.next, struct pool_node, age);
}
