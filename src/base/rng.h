/* Randomness is a parameter too. rng_system reads getrandom(2); rng_seeded is for tests. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t s[2]; /* seeded generator (xoroshiro); all zero = system */
};

struct rng rng_system(void);
struct rng rng_seeded(uint64_t seed);
void rng_bytes(struct rng *r, void *out, size_t n);
uint64_t rng_u64(struct rng *r);

#endif
