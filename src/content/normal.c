/*
 * Normalisation: see content/normal.h. Ranges from the Unicode 15 data files.
 *
 * SECURITY: hostile text. Reads and writes within [text, text + n); invalid UTF-8 is copied.
 */
#include "content/normal.h"
#include "base/utf8.h"

/* First code point of each run of ten decimal digits (general category Nd). */
static const uint32_t digit_zeros[] = {
    0x0660,
    0x06f0,
    0x07c0,
    0x0966,
    0x09e6,
    0x0a66,
    0x0ae6,
    0x0b66,
    0x0be6,
    0x0c66,
    0x0ce6,
    0x0d66,
    0x0de6,
    0x0e50,
    0x0ed0,
    0x0f20,
    0x1040,
    0x1090,
    0x17e0,
    0x1810,
    0x1946,
    0x19d0,
    0x1a80,
    0x1a90,
    0x1b50,
    0x1bb0,
    0x1c40,
    0x1c50,
    0xa620,
    0xa8d0,
    0xa900,
    0xa9d0,
    0xa9f0,
    0xaa50,
    0xabf0,
    0xff10,
    0x104a0,
    0x10d30,
    0x11066,
    0x110f0,
    0x11136,
    0x111d0,
    0x112f0,
    0x11450,
    0x114d0,
    0x11650,
    0x116c0,
    0x11730,
    0x118e0,
    0x11950,
    0x11c50,
    0x11d50,
    0x11da0,
    0x16a60,
    0x16ac0,
    0x16b50,
    0x1d7ce,
    0x1d7d8,
    0x1d7e2,
    0x1d7ec,
    0x1d7f6,
    0x1e140,
    0x1e2f0,
    0x1e4f0,
    0x1e950,
    0x1fbf0,
    0x2080 /* subscripts */,
};

struct range {
    uint32_t from, to;
};
static const struct range invisible[] = {
    {0xad, 0xad},     {0x34f, 0x34f},   {0x61c, 0x61c},     {0x115f, 0x1160},
    {0x17b4, 0x17b5}, {0x180b, 0x180f}, {0x200b, 0x200f},   {0x202a, 0x202e},
    {0x2060, 0x206f}, {0x3164, 0x3164}, {0xfe00, 0xfe0f},   {0xfeff, 0xfeff},
    {0xffa0, 0xffa0}, {0xfff9, 0xfffb}, {0x1d173, 0x1d17a}, {0xe0000, 0xe01ef},
};
static const struct range blanks[] = {
    {0x85, 0x85},     {0xa0, 0xa0},     {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029},
    {0x202f, 0x202f}, {0x205f, 0x205f}, {0x2800, 0x2800}, {0x3000, 0x3000},
};
static const struct range dashes[] = {
    {0x58a, 0x58a},   {0x5be, 0x5be},   {0x2010, 0x2015}, {0x2043, 0x2043}, {0x207b, 0x207b},
    {0x208b, 0x208b}, {0x2212, 0x2212}, {0x2e3a, 0x2e3b}, {0x30fc, 0x30fc}, {0xfe31, 0xfe32},
    {0xfe58, 0xfe58}, {0xfe63, 0xfe63}, {0xff0d, 0xff0d}, {0xff70, 0xff70},
};

static bool in_ranges(uint32_t cp, const struct range *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (cp >= r[i].from && cp <= r[i].to)
            return true;
    }
    return false;
}

/* The digit a code point stands for, or -1. */
static int digit_of(uint32_t cp)
{
    for (size_t i = 0; i < ARRAY_LEN(digit_zeros); i++) {
        if (cp >= digit_zeros[i] && cp < digit_zeros[i] + 10)
            return (int)(cp - digit_zeros[i]);
    }
    switch (cp) {
    case 0xb2:
    case 0xb3:
        return (int)(cp - 0xb0);
    case 0xb9:
        return 1;
    case 0x2070:
    case 0x24ea: /* circled zero */
    case 0x24ff: /* negative circled zero */
        return 0;
    default:
        break;
    }
    if (cp >= 0x2074 && cp <= 0x2079)
        return (int)(cp - 0x2070);
    static const uint32_t ones[] = {0x2460, 0x2474, 0x2488, 0x24f5, 0x2776, 0x2780, 0x278a};
    for (size_t i = 0; i < ARRAY_LEN(ones); i++) {
        if (cp >= ones[i] && cp < ones[i] + 9)
            return (int)(cp - ones[i]) + 1;
    }
    return -1;
}

#define CP_DROP UINT32_MAX

static uint32_t cp_normal(uint32_t cp)
{
    int d = digit_of(cp);
    if (d >= 0)
        return (uint32_t)('0' + d);
    if (in_ranges(cp, invisible, ARRAY_LEN(invisible)))
        return CP_DROP;
    if (in_ranges(cp, blanks, ARRAY_LEN(blanks)))
        return ' ';
    if (in_ranges(cp, dashes, ARRAY_LEN(dashes)))
        return '-';
    if (cp > 0xff00 && cp < 0xff5f) /* full-width ASCII */
        return cp - 0xfee0;
    if (cp == 0x2024 || cp == 0xfe52 || cp == 0x3002)
        return '.';
    return cp;
}

size_t text_normalise(char *text, size_t n)
{
    size_t in = 0, out = 0;
    while (in < n) {
        uint8_t c = (uint8_t)text[in];
        uint32_t cp = 0;
        if (c < 0x80) {
            text[out++] = text[in++];
            continue;
        }
        size_t len = utf8_next(sv_of(text + in, n - in), &cp);
        if (len == 0) {
            text[out++] = text[in++];
            continue;
        }
        uint32_t normal = cp_normal(cp);
        if (normal < 0x80) {
            text[out++] = (char)normal;
        } else if (normal != CP_DROP) {
            memmove(text + out, text + in, len);
            out += len;
        }
        in += len;
    }
    return out;
}

uint32_t cp_fold(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
    if (cp >= 0xc0 && cp <= 0xde && cp != 0xd7)
        return cp + 32;
    if ((cp >= 0x100 && cp <= 0x137) || (cp >= 0x14a && cp <= 0x177))
        return cp == 0x130 || cp == 0x131 ? cp : cp | 1;
    if ((cp >= 0x139 && cp <= 0x148) || (cp >= 0x179 && cp <= 0x17e))
        return (cp & 1) ? cp + 1 : cp;
    if (cp == 0x178)
        return 0xff;
    if (cp >= 0x391 && cp <= 0x3a9 && cp != 0x3a2)
        return cp + 32;
    switch (cp) {
    case 0x386:
        return 0x3ac;
    case 0x388:
    case 0x389:
    case 0x38a:
        return cp + 37;
    case 0x38c:
        return 0x3cc;
    case 0x38e:
    case 0x38f:
        return cp + 63;
    case 0x3c2: /* final sigma */
        return 0x3c3;
    default:
        break;
    }
    if (cp >= 0x410 && cp <= 0x42f)
        return cp + 32;
    if (cp >= 0x400 && cp <= 0x40f)
        return cp + 80;
    return cp >= 0x460 && cp <= 0x52f && (cp < 0x482 || cp >= 0x48a) && (cp < 0x4c0 || cp > 0x4cf)
               ? cp | 1
               : cp;
}
