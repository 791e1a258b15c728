/* SECURITY: reads untrusted text. Overlong forms, surrogates and values past U+10FFFF are invalid.
 */
#include "base/utf8.h"

static unsigned sequence_len(uint8_t first)
{
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if (first >= 0xe0 && first <= 0xef)
        return 3;
    return first >= 0xf0 && first <= 0xf4 ? 4 : 0;
}

size_t utf8_next(struct sv v, uint32_t *out_cp)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    static const uint8_t mask[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};

    if (v.n == 0)
        return 0;
    unsigned len = sequence_len((uint8_t)v.p[0]);
    if (len == 0 || len > v.n)
        return 0;
    uint32_t cp = (uint8_t)v.p[0] & mask[len];

    for (unsigned i = 1; i < len; i++) {
        uint8_t b = (uint8_t)v.p[i];

        if ((b & 0xc0) != 0x80)
            return 0;
        cp = cp << 6 | (b & 0x3f);
    }
    if (cp < least[len] || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
        return 0;
    *out_cp = cp;
    return len;
}

size_t utf8_put(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
        cp = 0xfffd;
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

#define HIGH_BITS 0x8080808080808080u

/* Bytes at the front that are ASCII for sure: whole steps of 32. */
static size_t ascii_steps(struct sv v)
{
    size_t i = 0;

    for (; i + 32 <= v.n; i += 32) {
        uint64_t w[4];
        memcpy(w, v.p + i, sizeof w);
        if ((w[0] | w[1] | w[2] | w[3]) & HIGH_BITS)
            break;
    }
    return i;
}

bool utf8_valid(struct sv v)
{
    uint32_t cp;

    while (v.n) {
        size_t run = (uint8_t)v.p[0] < 0x80 ? ascii_steps(v) : 0;
        if (run) {
            v = sv_skip(v, run);
            continue;
        }
        size_t len = utf8_next(v, &cp);

        if (len == 0)
            return false;
        v = sv_skip(v, len);
    }
    return true;
}

bool sv_is_ascii(struct sv v)
{
    for (size_t i = ascii_steps(v); i < v.n; i++)
        if ((uint8_t)v.p[i] >= 0x80)
            return false;
    return true;
}
