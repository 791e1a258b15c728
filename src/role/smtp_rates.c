/*
 * See smtp_rates.h.
 *
 * SECURITY: keys are chosen by strangers. The table has a fixed size; a key lives in one of WAYS
 * slots of its bucket, the bucket is found by a keyed hash. A full bucket forgets who did least:
 * first what is out of date, then the lowest count, so a flood of fresh addresses pushes out fresh
 * addresses, not the ones that are near their limit. Forgetting only ever allows more: no flood can
 * lock out somebody else.
 */
#include "role/smtp_rates.h"

#include "base/hash.h"

#include <stdlib.h>

#define WAYS      8u
#define MINUTE_MS 60000

enum err rates_init(struct rates *t, size_t n, const uint8_t secret[16])
{
    memcpy(t->secret, secret, sizeof(t->secret));
    t->slots = calloc(n, sizeof(*t->slots));
    t->n = t->slots ? n : 0;
    return t->slots ? ERR_OK : ERR_LIMIT;
}

void rates_done(struct rates *t)
{
    free(t->slots);
    memset(t, 0, sizeof(*t));
}

struct rate_key rates_key_ip(const struct ip *ip)
{
    struct rate_key key;

    memcpy(key.b, ip->b, sizeof(key.b));
    if (!ip_is_v4(ip))
        memset(key.b + 8, 0, 8);
    return key;
}

/* An address never looks so: these are two tables, but no key should have two meanings. */
struct rate_key rates_key_user(const struct rates *t, struct sv user)
{
    struct rate_key key;
    uint64_t h = siphash24(t->secret, user.p, user.n);

    memset(key.b, 0xff, sizeof(key.b));
    memcpy(key.b, &h, sizeof(h));
    return key;
}

static uint64_t hash_of(const struct rates *t, const struct rate_key *key)
{
    return siphash24(t->secret, key->b, sizeof(key->b));
}

static struct rate_slot *bucket_of(const struct rates *t, const struct rate_key *key)
{
    return &t->slots[(hash_of(t, key) & (t->n / WAYS - 1)) * WAYS];
}

static struct rate_slot *find(const struct rates *t, const struct rate_key *key)
{
    if (t->n == 0)
        return NULL;
    struct rate_slot *b = bucket_of(t, key);
    for (size_t i = 0; i < WAYS; i++) {
        if (b[i].seen_ms && memcmp(b[i].key.b, key->b, sizeof(key->b)) == 0)
            return &b[i];
    }
    return NULL;
}

/* So much of the minute before is still inside the last 60 s; rounded to the nearest. */
static uint32_t rest_of(uint32_t n, int64_t into)
{
    uint64_t left = (uint64_t)(MINUTE_MS - into);

    return (uint32_t)(((uint64_t)n * left + MINUTE_MS / 2) / MINUTE_MS);
}

static uint32_t count_of(const struct rate_slot *s, enum rate kind, int64_t now_ms)
{
    int64_t minute = now_ms / MINUTE_MS, into = now_ms % MINUTE_MS;

    if (minute == s->minute)
        return s->now[kind] + rest_of(s->before[kind], into);
    if (minute == s->minute + 1)
        return rest_of(s->now[kind], into);
    return 0;
}

static bool failures_count(const struct rate_slot *s, int64_t now_ms)
{
    return s->failures && now_ms - s->failed_ms < RATES_AUTH_QUIET_MS;
}

/* What would be lost with it. A failed log-in weighs more than all else: it delays longer. */
static uint64_t worth(const struct rate_slot *s, int64_t now_ms)
{
    uint64_t sum = 0;

    for (int k = 0; k < RATES_N; k++)
        sum += count_of(s, (enum rate)k, now_ms);
    return sum + (failures_count(s, now_ms) ? (uint64_t)s->failures << 32 : 0) + (s->good ? 1 : 0);
}

/* The slot to give away: a free one, else the least worth, of those the one longest unused. */
static struct rate_slot *victim(struct rate_slot *b, int64_t now_ms)
{
    struct rate_slot *least = &b[0];

    for (size_t i = 0; i < WAYS; i++) {
        if (!b[i].seen_ms)
            return &b[i];
        uint64_t w = worth(&b[i], now_ms), l = worth(least, now_ms);
        if (w < l || (w == l && b[i].seen_ms < least->seen_ms))
            least = &b[i];
    }
    return least;
}

static void roll(struct rate_slot *s, int64_t now_ms)
{
    int64_t minute = now_ms / MINUTE_MS;

    if (minute == s->minute)
        return;
    for (int k = 0; k < RATES_N; k++) {
        s->before[k] = minute == s->minute + 1 ? s->now[k] : 0;
        s->now[k] = 0;
    }
    s->minute = minute;
}

/* The slot of key, made when there is none, brought to now. NULL: no table. */
static struct rate_slot *get(struct rates *t, const struct rate_key *key, int64_t now_ms)
{
    struct rate_slot *s = find(t, key);

    if (!s && t->n) {
        s = victim(bucket_of(t, key), now_ms);
        *s = (struct rate_slot){.key = *key, .minute = now_ms / MINUTE_MS};
    }
    if (!s)
        return NULL;
    roll(s, now_ms);
    s->seen_ms = now_ms > 0 ? now_ms : 1;
    return s;
}

bool rates_take(struct rates *t, const struct rate_key *key, enum rate kind, uint32_t limit,
                int64_t now_ms)
{
    struct rate_slot *s = limit ? get(t, key, now_ms) : NULL;

    if (!s)
        return true;
    if (count_of(s, kind, now_ms) >= limit)
        return false;
    s->now[kind]++;
    return true;
}

bool rates_full(const struct rates *t, const struct rate_key *key, enum rate kind, uint32_t limit,
                int64_t now_ms)
{
    const struct rate_slot *s = limit ? find(t, key) : NULL;

    return s && count_of(s, kind, now_ms) >= limit;
}

void rates_give_back(struct rates *t, const struct rate_key *key, enum rate kind, int64_t now_ms)
{
    struct rate_slot *s = find(t, key);

    if (!s)
        return;
    roll(s, now_ms);
    if (s->now[kind])
        s->now[kind]--;
    else if (s->before[kind])
        s->before[kind]--;
}

/* ---- log-ins ---- */

static int64_t delay_for(uint32_t failures)
{
    int64_t ms = RATES_AUTH_FIRST_MS;

    if (failures == 0)
        return 0;
    for (uint32_t i = 1; i < failures && ms < RATES_AUTH_MAX_MS; i++)
        ms *= 2;
    return ms < RATES_AUTH_MAX_MS ? ms : RATES_AUTH_MAX_MS;
}

int64_t rates_auth_begin(struct rates *t, const struct rate_key *key, int64_t now_ms)
{
    struct rate_slot *s = get(t, key, now_ms);

    if (!s)
        return 0;
    if (!failures_count(s, now_ms))
        s->failures = 0;
    int64_t ms = delay_for(s->failures);
    if (s->failures < UINT16_MAX)
        s->failures++;
    s->failed_ms = now_ms;
    return ms;
}

void rates_auth_undo(struct rates *t, const struct rate_key *key, int64_t now_ms)
{
    struct rate_slot *s = find(t, key);

    if (s && failures_count(s, now_ms))
        s->failures--;
}

static uint64_t mark_of(const struct rates *t, const struct rate_key *from)
{
    return hash_of(t, from) | 1;
}

void rates_auth_good(struct rates *t, const struct rate_key *account, const struct rate_key *from,
                     int64_t now_ms)
{
    struct rate_slot *s = get(t, account, now_ms);

    if (s)
        s->good = mark_of(t, from);
}

bool rates_auth_known(const struct rates *t, const struct rate_key *account,
                      const struct rate_key *from)
{
    const struct rate_slot *s = find(t, account);

    return s && s->good == mark_of(t, from);
}
