/*
 * SECURITY: b64_decode, hex_decode and id_parse read bytes of peers (SASL, ids in commands).
 * Strict forms only: a text has one decoding and a value one text.
 */
#include "base/enc.h"

static const char b64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char id_digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

enum err b64_encode(struct sv bytes, struct buf *out)
{
    if (!bytes.n)
        return ERR_OK;
    if (bytes.n > SIZE_MAX / 4 * 3 - 3 || buf_reserve(out, (bytes.n + 2) / 3 * 4)) {
        out->overflow = true;
        return ERR_LIMIT;
    }
    const uint8_t *p = (const uint8_t *)bytes.p;
    char *o = out->p + out->n;

    for (size_t i = 0; i < bytes.n; i += 3) {
        size_t left = bytes.n - i;
        uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                     (left > 2 ? (uint32_t)p[i + 2] : 0);

        *o++ = b64_digits[v >> 18];
        *o++ = b64_digits[v >> 12 & 63];
        *o++ = left > 1 ? b64_digits[v >> 6 & 63] : '=';
        *o++ = left > 2 ? b64_digits[v & 63] : '=';
    }
    out->n += (bytes.n + 2) / 3 * 4;
    return ERR_OK;
}

static int b64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* One group of four digits; pad = number of '=' at its end. Unused bits must be zero. */
static bool b64_group(const char *p, unsigned pad, uint8_t out[3])
{
    uint32_t v = 0;

    for (unsigned i = 0; i < 4; i++) {
        int d = i < 4 - pad ? b64_value(p[i]) : 0;

        if (d < 0)
            return false;
        v = v << 6 | (uint32_t)d;
    }
    if ((pad == 1 && (v & 0xff)) || (pad == 2 && (v & 0xffff)))
        return false;
    out[0] = (uint8_t)(v >> 16);
    out[1] = (uint8_t)(v >> 8);
    out[2] = (uint8_t)v;
    return true;
}

enum err b64_decode(struct sv text, struct buf *out)
{
    size_t before = out->n;

    if (text.n % 4)
        return ERR_SYNTAX;
    for (size_t i = 0; i < text.n; i += 4) {
        bool last = i + 4 == text.n;
        unsigned pad = !last || text.p[i + 3] != '=' ? 0 : text.p[i + 2] == '=' ? 2 : 1;
        uint8_t b[3];
        enum err e = b64_group(text.p + i, pad, b) ? buf_append(out, b, 3 - pad) : ERR_SYNTAX;

        if (e) {
            out->n = before;
            return e;
        }
    }
    return ERR_OK;
}

enum err hex_encode(struct sv bytes, struct buf *out)
{
    static const char digits[] = "0123456789abcdef";

    if (bytes.n > SIZE_MAX / 2 || buf_reserve(out, bytes.n * 2)) {
        out->overflow = true;
        return ERR_LIMIT;
    }
    for (size_t i = 0; i < bytes.n; i++) {
        uint8_t b = (uint8_t)bytes.p[i];

        out->p[out->n++] = digits[b >> 4];
        out->p[out->n++] = digits[b & 15];
    }
    return ERR_OK;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool hex_decode(struct sv text, uint8_t *out_bytes, size_t n)
{
    if (text.n % 2 || text.n / 2 != n)
        return false;
    for (size_t i = 0; i < text.n; i++)
        if (hex_value(text.p[i]) < 0)
            return false;
    for (size_t i = 0; i < n; i++)
        out_bytes[i] = (uint8_t)((unsigned)hex_value(text.p[2 * i]) << 4 |
                                 (unsigned)hex_value(text.p[2 * i + 1]));
    return true;
}

void id_format(uint64_t id, char out_text[ID_TEXT_LEN + 1])
{
    for (size_t i = ID_TEXT_LEN; i-- > 0; id >>= 5)
        out_text[i] = id_digits[id & 31];
    out_text[ID_TEXT_LEN] = '\0';
}

bool id_parse(struct sv text, uint64_t *out_id)
{
    uint64_t id = 0;

    if (text.n != ID_TEXT_LEN)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i] >= 'a' && text.p[i] <= 'z' ? (char)(text.p[i] - 'a' + 'A') : text.p[i];
        const char *d = c ? memchr(id_digits, c, 32) : NULL;

        /* 13 digits hold 65 bits: the first has only four. */
        if (!d || (i == 0 && d - id_digits > 15))
            return false;
        id = id << 5 | (uint64_t)(d - id_digits);
    }
    *out_id = id;
    return true;
}
