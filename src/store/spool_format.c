/* See spool_format.h.
 * SECURITY: everything decoded here may be damaged, stale or imitated by the body of a message.
 * Nothing is believed before its check; lengths are bounded before they are used. */
#include "store/spool_format.h"
#include "base/hash.h"
#include "store/spool.h"

#include <endian.h>
#include <stdio.h>

#define LIFE_MAGIC 0x47455350u /* "PSEG" */
#define REC_MAGIC  0x31525350u /* "PSR1" */
#define LIFE_FIXED 60u

uint32_t le32_get(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

uint64_t le64_get(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

void le32_put(void *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof(v));
}

void le64_put(void *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof(v));
}

/* 0 magic, 4 format, 8 sequence, 16 first lsn, 24 checkpoints, 32 size, 36 wrapped length,
 * 40 salt, 56 crc (over the copy with crc = 0), 60 wrapped key */
void life_encode(const struct life *l, uint8_t out_head[SPOOL_HEAD])
{
    uint8_t *p = out_head;

    memset(p, 0, SPOOL_HEAD);
    le32_put(p, LIFE_MAGIC);
    le32_put(p + 4, SPOOL_FORMAT);
    le64_put(p + 8, l->sequence);
    le64_put(p + 16, l->first_lsn);
    le64_put(p + 24, l->checkpoints);
    le32_put(p + 32, l->size);
    le32_put(p + 36, l->wrapped_n);
    memcpy(p + 40, l->salt, sizeof(l->salt));
    memcpy(p + LIFE_FIXED, l->wrapped, l->wrapped_n);
    le32_put(p + 56, crc32c(0, p, LIFE_FIXED + l->wrapped_n));
    memcpy(p + SPOOL_HEAD_COPY, p, SPOOL_HEAD_COPY);
}

static bool copy_decode(const uint8_t *p, struct life *out_life)
{
    static const uint8_t zero[4];
    uint32_t n = le32_get(p + 36);

    if (le32_get(p) != LIFE_MAGIC || le32_get(p + 4) != SPOOL_FORMAT || n > SPOOL_WRAPPED_MAX)
        return false;
    uint32_t crc = crc32c(0, p, 56);
    crc = crc32c(crc, zero, 4);
    crc = crc32c(crc, p + LIFE_FIXED, n);
    struct life l = {.sequence = le64_get(p + 8),
                     .first_lsn = le64_get(p + 16),
                     .checkpoints = le64_get(p + 24),
                     .size = le32_get(p + 32),
                     .wrapped_n = (uint16_t)n};
    if (crc != le32_get(p + 56) || l.sequence == 0 || l.first_lsn == 0 || l.size < SPOOL_HEAD)
        return false;
    memcpy(l.salt, p + 40, sizeof(l.salt));
    memcpy(l.wrapped, p + LIFE_FIXED, n);
    *out_life = l;
    return true;
}

bool life_decode(const uint8_t head[SPOOL_HEAD], struct life *out_life)
{
    struct life a, b;
    bool has_a = copy_decode(head, &a), has_b = copy_decode(head + SPOOL_HEAD_COPY, &b);

    if (!has_a && !has_b)
        return false;
    *out_life = has_a && (!has_b || a.sequence >= b.sequence) ? a : b;
    return true;
}

void rec_begin(char *p, const struct rec *r)
{
    memset(p, 0, REC_HEADER);
    le32_put(p, REC_MAGIC);
    p[4] = (char)r->kind;
    p[5] = (char)r->flags;
    p[6] = (char)(r->fragment & 0xff);
    p[7] = (char)(r->fragment >> 8);
    le32_put(p + 8, r->length);
    le64_put(p + 24, r->id);
}

/* p: header with tag = sequence, crc = 0. */
static uint32_t head_check(const struct life *l, const char *p)
{
    char h[48];

    memcpy(h, p, sizeof(h));
    le32_put(h + 12, 0);
    le64_put(h + 40, l->sequence);
    return (uint32_t)siphash24(l->salt, h, sizeof(h));
}

void rec_seal(const struct life *l, char *p, uint64_t lsn, uint64_t durable)
{
    uint32_t length = le32_get(p + 8);
    size_t n = REC_HEADER + length;

    memset(p + n, 0, rec_size(length) - n);
    le64_put(p + 16, lsn);
    le64_put(p + 32, durable);
    le32_put(p + 12, head_check(l, p));
    le64_put(p + 40, l->sequence);
    le32_put(p + 48, 0);
    le64_put(p + 40, siphash24(l->salt, p, n));
    le32_put(p + 48, crc32c(0, p, n));
}

bool rec_peek(const struct life *l, const char *p, struct rec *out_rec)
{
    const uint8_t *u = (const uint8_t *)p;

    if (le32_get(p) != REC_MAGIC || u[4] < REC_BODY || u[4] > REC_DONE)
        return false;
    if (le32_get(p + 12) != head_check(l, p))
        return false;
    struct rec r = {.kind = (enum rec_kind)u[4],
                    .flags = u[5],
                    .fragment = (uint16_t)(u[6] | u[7] << 8),
                    .length = le32_get(p + 8),
                    .lsn = le64_get(p + 16),
                    .id = le64_get(p + 24),
                    .durable = le64_get(p + 32)};
    if (r.length > l->size || r.lsn < l->first_lsn || r.durable >= r.lsn)
        return false;
    *out_rec = r;
    return true;
}

bool rec_check(const struct life *l, char *p, struct rec *out_rec)
{
    struct rec r;

    if (!rec_peek(l, p, &r))
        return false;
    size_t n = REC_HEADER + r.length;
    uint32_t crc = le32_get(p + 48);
    uint64_t tag = le64_get(p + 40);

    le32_put(p + 48, 0);
    bool good = crc32c(0, p, n) == crc;
    if (good) {
        le64_put(p + 40, l->sequence);
        good = siphash24(l->salt, p, n) == tag;
        le64_put(p + 40, tag);
    }
    le32_put(p + 48, crc);
    if (good)
        *out_rec = r;
    return good;
}

void seg_name(uint32_t number, char out_name[SEG_NAME_MAX])
{
    (void)snprintf(out_name, SEG_NAME_MAX, "seg-%08u", number);
}

bool seg_name_parse(const char *name, uint32_t *out_number)
{
    uint64_t v;
    struct sv s = sv_str(name);

    if (s.n != 12 || !sv_starts(s, SV("seg-")) || !sv_to_u64(sv_skip(s, 4), 0, 99999999, &v))
        return false;
    *out_number = (uint32_t)v;
    return true;
}
