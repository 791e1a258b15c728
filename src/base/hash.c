#include "base/hash.h"

#include <string.h>

/* Reflected Castagnoli polynomial; one step of the bitwise division, four make a table entry. */
#define POLY     0x82f63b78U
#define STEP(c)  (((c) >> 1) ^ (POLY & (0U - ((c)&1U))))
#define ENTRY(c) STEP(STEP(STEP(STEP(c))))

static const uint32_t nibble[16] = {
    ENTRY(0U), ENTRY(1U), ENTRY(2U),  ENTRY(3U),  ENTRY(4U),  ENTRY(5U),  ENTRY(6U),  ENTRY(7U),
    ENTRY(8U), ENTRY(9U), ENTRY(10U), ENTRY(11U), ENTRY(12U), ENTRY(13U), ENTRY(14U), ENTRY(15U),
};

static uint32_t crc_table(uint32_t crc, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ nibble[crc & 15];
        crc = crc >> 4 ^ nibble[crc & 15];
    }
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_sse(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t c = crc;

    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v;

        memcpy(&v, p, 8);
        c = __builtin_ia32_crc32di(c, v);
    }
    crc = (uint32_t)c;
    for (; n; p++, n--)
        crc = __builtin_ia32_crc32qi(crc, *p);
    return crc;
}

static uint32_t crc_run(uint32_t crc, const uint8_t *p, size_t n)
{
    return __builtin_cpu_supports("sse4.2") ? crc_sse(crc, p, n) : crc_table(crc, p, n);
}
#else
static uint32_t crc_run(uint32_t crc, const uint8_t *p, size_t n)
{
    return crc_table(crc, p, n);
}
#endif

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    return n ? ~crc_run(~crc, p, n) : crc;
}

uint32_t crc32c_portable(uint32_t crc, const void *p, size_t n)
{
    return n ? ~crc_table(~crc, p, n) : crc;
}

static uint64_t rotl(uint64_t x, unsigned b)
{
    return x << b | x >> (64 - b);
}

/* Little endian on any machine; n <= 8. */
static uint64_t load_le(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static void sip_rounds(uint64_t v[4], unsigned rounds)
{
    while (rounds--) {
        v[0] += v[1];
        v[1] = rotl(v[1], 13) ^ v[0];
        v[0] = rotl(v[0], 32);
        v[2] += v[3];
        v[3] = rotl(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotl(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotl(v[1], 17) ^ v[2];
        v[2] = rotl(v[2], 32);
    }
}

/* One load on the little-endian machines we run on. */
static uint64_t load_word(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

uint64_t siphash24(const uint8_t key[16], const void *p, size_t n)
{
    const uint8_t *in = p;
    uint64_t k0 = load_le(key, 8), k1 = load_le(key + 8, 8);
    uint64_t v[4] = {k0 ^ 0x736f6d6570736575U, k1 ^ 0x646f72616e646f6dU, k0 ^ 0x6c7967656e657261U,
                     k1 ^ 0x7465646279746573U};
    uint64_t last = (uint64_t)n << 56;

    for (; n >= 8; in += 8, n -= 8) {
        uint64_t m = load_word(in);

        v[3] ^= m;
        sip_rounds(v, 2);
        v[0] ^= m;
    }
    last |= load_le(in, n);
    v[3] ^= last;
    sip_rounds(v, 2);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
