/*
 * One question to DNS at a time, cached and joined: what resolver.c builds its look-ups on.
 */
#ifndef NET_RESOLVER_INT_H
#define NET_RESOLVER_INT_H

#include "base/rng.h"
#include "net/dns_msg.h"
#include "net/resolver.h"

struct rrset { /* shared and counted */
    uint32_t refs;
    struct dns_answer answer;
};
typedef void rr_fn(void *ctx, const struct rrset *set);
/* Answers at once from the cache, else later; equal questions in flight are asked once. */
void rr_ask(struct resolver *r, enum dns_type type, const char *name, rr_fn *fn, void *ctx);
struct rng *resolver_rng(struct resolver *r);

#endif
