/*
 * How often one address (IPv6: one /64) did something in the last minute, and how often log-ins
 * failed (mta.md 4). A table of fixed size that forgets; no I/O, time is a parameter.
 *
 * The last minute slides: what was counted in the minute before weighs as much as of it is still
 * inside. What was refused is not counted, so an address over its limit gets the limit, not
 * nothing.
 */
#ifndef ROLE_SMTP_RATES_H
#define ROLE_SMTP_RATES_H

#include "base/err.h"
#include "base/ip.h"

enum rate { RATE_CONNECT, RATE_HANDSHAKE, RATE_MESSAGE, RATE_RCPT, RATES_N };

#define RATES_ADDRESSES     16384 /* slots; a power of two */
#define RATES_ACCOUNTS      4096
#define RATES_AUTH_FIRST_MS 1000               /* after one failed log-in, then doubling */
#define RATES_AUTH_MAX_MS   (60 * 1000)        /* ... to this */
#define RATES_AUTH_QUIET_MS (15LL * 60 * 1000) /* failures are forgotten after this */

struct rate_key {
    uint8_t b[16];
};
struct rate_slot {
    struct rate_key key;
    int64_t seen_ms; /* last use; 0 = free */
    int64_t minute;  /* the minute that `now` belongs to */
    uint32_t now[RATES_N], before[RATES_N];
    uint32_t failures;
    int64_t failed_ms;
    uint64_t good; /* of an account: who logged in last (rate_key hashed), 0 = nobody */
};
struct rates {
    uint8_t secret[16]; /* of the hash: nobody chooses his bucket */
    struct rate_slot *slots;
    size_t n;
};

/* n: slots, a power of two of at least 8; secret: random. */
NODISCARD enum err rates_init(struct rates *t, size_t n, const uint8_t secret[16]);
void rates_done(struct rates *t);

struct rate_key rates_key_ip(const struct ip *ip);
struct rate_key rates_key_user(const struct rates *t, struct sv user);

/* Counts one and says yes, or no when that would be more than limit in the last minute. limit 0 =
 * no limit. now_ms must not run backwards. */
bool rates_take(struct rates *t, const struct rate_key *key, enum rate kind, uint32_t limit,
                int64_t now_ms);
/* Would take say no? Counts nothing. */
bool rates_full(const struct rates *t, const struct rate_key *key, enum rate kind, uint32_t limit,
                int64_t now_ms);
/* What was taken turned out to cost nothing. */
void rates_give_back(struct rates *t, const struct rate_key *key, enum rate kind, int64_t now_ms);

/* A log-in begins: how long must it wait? Counted as failed until rates_auth_undo, so that many at
 * once wait like many in turn. */
int64_t rates_auth_begin(struct rates *t, const struct rate_key *key, int64_t now_ms);
void rates_auth_undo(struct rates *t, const struct rate_key *key, int64_t now_ms);
/* An account remembers from where it was used last: failures of others do not delay it there. */
void rates_auth_good(struct rates *t, const struct rate_key *account, const struct rate_key *from,
                     int64_t now_ms);
bool rates_auth_known(const struct rates *t, const struct rate_key *account,
                      const struct rate_key *from);

#endif
