#include "base/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct rng rng_system(void)
{
    return (struct rng){{0, 0}};
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9U;
    x = (x ^ x >> 27) * 0x94d049bb133111ebU;
    return x ^ x >> 31;
}

struct rng rng_seeded(uint64_t seed)
{
    /* Two different odd offsets: the state is never all zero, which would mean "system". */
    struct rng r = {{mix(seed + 0x9e3779b97f4a7c15U), mix(seed + 0x3c6ef372fe94f82aU) | 1}};

    return r;
}

static uint64_t rotl(uint64_t x, unsigned b)
{
    return x << b | x >> (64 - b);
}

static uint64_t next(struct rng *r)
{
    uint64_t a = r->s[0], b = r->s[1], out = a + b;

    b ^= a;
    r->s[0] = rotl(a, 24) ^ b ^ b << 16;
    r->s[1] = rotl(b, 37);
    return out;
}

/* Without randomness nothing safe can be done: the process ends. */
static void system_bytes(uint8_t *p, size_t n)
{
    while (n) {
        ssize_t got = getrandom(p, n, 0);

        if (got < 0 && errno != EINTR)
            abort();
        if (got > 0) {
            p += got;
            n -= (size_t)got;
        }
    }
}

void rng_bytes(struct rng *r, void *out, size_t n)
{
    uint8_t *p = out;

    if (!r->s[0] && !r->s[1]) {
        system_bytes(p, n);
        return;
    }
    while (n) {
        uint64_t v = next(r);
        size_t k = n < 8 ? n : 8;

        memcpy(p, &v, k);
        p += k;
        n -= k;
    }
}

uint64_t rng_u64(struct rng *r)
{
    uint64_t v;

    rng_bytes(r, &v, sizeof(v));
    return v;
}
