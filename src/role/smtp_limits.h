/*
 * Connection control (spec E1): simultaneous connections per address (IPv6: per /64) and in all,
 * with one fifth of all kept for trusted addresses. Counts only; no I/O.
 */
#ifndef ROLE_SMTP_LIMITS_H
#define ROLE_SMTP_LIMITS_H

#include "base/err.h"
#include "base/ip.h"

struct limit_slot {
    struct ip net; /* the key: IPv6 cut to /64 */
    uint32_t n;    /* 0 = free */
};
/* Open addressing with linear probing; cap is a power of two, at most half full. */
struct conn_limits {
    struct limit_slot *slots;
    size_t cap, used;
    uint32_t total;
    uint32_t untrusted;
};
enum admission { ADMIT, REFUSE_PER_IP, REFUSE_TOTAL, REFUSE_RATE /* smtp_rates.h */ };

void conn_limits_init(struct conn_limits *t);
void conn_limits_done(struct conn_limits *t);
/* Counts the connection when it is admitted. Trusted addresses are exempt from per_ip and may use
 * the reserve. */
enum admission conn_limits_enter(struct conn_limits *t, const struct ip *ip, bool trusted,
                                 uint32_t per_ip, uint32_t max_total);
void conn_limits_leave(struct conn_limits *t, const struct ip *ip, bool trusted);
uint32_t conn_limits_of(const struct conn_limits *t, const struct ip *ip);

#endif
