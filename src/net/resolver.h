/*
 * Asynchronous DNS over c-ares with a small TTL cache: MX with order and fallback to A/AAAA
 * (RFC 5321 5.1), null MX (RFC 7505), addresses, PTR with forward confirmation.
 */
#ifndef NET_RESOLVER_H
#define NET_RESOLVER_H

#include "base/arena.h"
#include "base/ip.h"
#include "net/loop.h"

enum dns_result { DNS_OK, DNS_NONE /* NXDOMAIN or no data */, DNS_TEMP, DNS_NULL_MX };

struct dns_addr {
    struct ip ip;
    char host[256]; /* the host name it belongs to, lower case */
    uint16_t preference;
};
#define DNS_ADDRS_MAX 64

struct resolver;
/* servers "127.0.0.1:53, [::1]:53"; "" = those of resolv_conf text. */
NODISCARD enum err resolver_new(struct loop *l, struct sv servers, struct sv resolv_conf,
                                uint32_t timeout_ms, uint32_t tries, struct resolver **out_r,
                                struct errinfo *info);
/* Pending queries are answered DNS_TEMP. Not inside one of the callbacks below. */
void resolver_free(struct resolver *r);

typedef void dns_addrs_fn(void *ctx, enum dns_result result, const struct dns_addr *addrs,
                          size_t n);
/* Addresses of the domain's mail hosts, by preference; equal ones shuffled. May call back at once.
 */
void resolver_mx(struct resolver *r, struct sv domain, dns_addrs_fn *fn, void *ctx);
/* Addresses of one host; an address literal answers itself. */
void resolver_host(struct resolver *r, struct sv host, dns_addrs_fn *fn, void *ctx);
/* The name that the address claims and that leads back to it; DNS_NONE when there is none. */
typedef void dns_name_fn(void *ctx, enum dns_result result, struct sv name);
void resolver_ptr(struct resolver *r, const struct ip *ip, dns_name_fn *fn, void *ctx);

#endif
