/*
 * See smtp_limits.h.
 *
 * SECURITY: keys are addresses of strangers. The table never holds more than the connections that
 * are open, so its size is bounded by max_total; the hash is keyed by nothing secret, and the worst
 * a set of chosen addresses can do is to make probes as long as that number.
 */
#include "role/smtp_limits.h"

#include "base/hash.h"

#include <stdlib.h>

#define CAP_FIRST 64u

static struct ip key_of(const struct ip *ip)
{
    struct ip k = *ip;

    if (!ip_is_v4(ip))
        memset(k.b + 8, 0, 8);
    return k;
}

static size_t home_of(const struct conn_limits *t, const struct ip *key)
{
    return crc32c(0, key->b, sizeof(key->b)) & (t->cap - 1);
}

/* The slot of key, or the free slot where it belongs. */
static size_t slot_of(const struct conn_limits *t, const struct ip *key)
{
    size_t i = home_of(t, key);

    while (t->slots[i].n > 0 && !ip_eq(&t->slots[i].net, key))
        i = (i + 1) & (t->cap - 1);
    return i;
}

void conn_limits_init(struct conn_limits *t)
{
    memset(t, 0, sizeof(*t));
}

void conn_limits_done(struct conn_limits *t)
{
    free(t->slots);
    memset(t, 0, sizeof(*t));
}

static bool grow(struct conn_limits *t)
{
    struct conn_limits bigger = *t;

    bigger.cap = t->cap ? t->cap * 2 : CAP_FIRST;
    bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
    if (!bigger.slots)
        return false;
    for (size_t i = 0; i < t->cap; i++) {
        if (t->slots[i].n > 0)
            bigger.slots[slot_of(&bigger, &t->slots[i].net)] = t->slots[i];
    }
    free(t->slots);
    *t = bigger;
    return true;
}

enum admission conn_limits_enter(struct conn_limits *t, const struct ip *ip, bool trusted,
                                 uint32_t per_ip, uint32_t max_total)
{
    struct ip key = key_of(ip);

    if (t->total >= max_total || (!trusted && t->untrusted >= max_total - max_total / 5))
        return REFUSE_TOTAL;
    if (t->used * 2 >= t->cap && !grow(t))
        return REFUSE_TOTAL;
    struct limit_slot *slot = &t->slots[slot_of(t, &key)];
    if (!trusted && slot->n >= per_ip)
        return REFUSE_PER_IP;
    if (slot->n++ == 0) {
        slot->net = key;
        t->used++;
    }
    t->total++;
    t->untrusted += trusted ? 0 : 1;
    return ADMIT;
}

/* Takes slot i out and moves later entries of its run up, so that no tombstones are needed. */
static void take_out(struct conn_limits *t, size_t i)
{
    size_t mask = t->cap - 1;

    t->used--;
    for (size_t j = (i + 1) & mask; t->slots[j].n > 0; j = (j + 1) & mask) {
        size_t home = home_of(t, &t->slots[j].net);
        if (((j - home) & mask) >= ((j - i) & mask)) {
            t->slots[i] = t->slots[j];
            i = j;
        }
    }
    t->slots[i].n = 0;
}

void conn_limits_leave(struct conn_limits *t, const struct ip *ip, bool trusted)
{
    struct ip key = key_of(ip);

    if (!t->cap)
        return;
    size_t i = slot_of(t, &key);
    if (t->slots[i].n == 0)
        return;
    t->total--;
    t->untrusted -= trusted ? 0 : 1;
    if (--t->slots[i].n == 0)
        take_out(t, i);
}

uint32_t conn_limits_of(const struct conn_limits *t, const struct ip *ip)
{
    struct ip key = key_of(ip);

    return t->cap ? t->slots[slot_of(t, &key)].n : 0;
}
