/*
 * The spool directory as untrusted input. First byte: what the rest is.
 *   0  raw bytes of a segment          1  raw bytes of a checkpoint beside an empty segment
 *   2  a list of records, sealed properly: kinds, ids, sizes, LSN steps and flags are the input's,
 * so that the checks do not stand between the fuzzer and the replay 3  a checkpoint body; header
 * fields and CRC are put right Whatever it is: open, read all, append, restart, scan. Nothing may
 * crash, and what was acknowledged here must be found again.
 */
#include "fuzz.h"

#include "../src/store/spool_disk.c" /* the disk in memory, shared with the unit tests */
#include "base/hash.h"
#include "store/spool_int.h"

#define SEG 24576u

struct seen {
    struct spool *sp;
    uint64_t ids[64];
    uint32_t n;
    bool mine;
};

static void on_found(void *ctx, const struct spool_found *f)
{
    struct seen *s = ctx;
    if (s->n < ARRAY_LEN(s->ids))
        s->ids[s->n++] = f->id;
    if (f->id == UINT64_MAX - 1)
        s->mine = sv_eq(f->envelope, SV("mine")) && sv_eq(f->state, SV("state"));
}

static void on_row(void *ctx, const struct spool_record *r)
{
    *(uint64_t *)ctx += r->good;
}

static void on_commit(void *arg, enum err err)
{
    *(enum err *)arg = err;
}

static void put_file(struct disk *d, const char *name, const void *p, size_t n)
{
    struct spool_io io = disk_io(d);
    int fd = io.open(d, name, O_CREAT | O_RDWR);
    if (fd < 0 || (n && io.pwrite(d, fd, p, n, 0) < 0))
        abort();
    io.close(d, fd);
}

static struct life life_here(void)
{
    return (struct life){.sequence = 1, .first_lsn = 1, .size = SEG, .salt = {1, 2, 3}};
}

/* Six bytes a record: kind, id, size, lsn step, flags, fragment. */
static void records(struct disk *d, const uint8_t *p, size_t n)
{
    static char seg[SEG];
    struct life l = life_here();
    uint64_t lsn = 0;
    uint32_t at = SPOOL_HEAD;

    memset(seg, 0, sizeof(seg));
    life_encode(&l, (uint8_t *)seg);
    for (; n >= 6; p += 6, n -= 6) {
        struct rec r = {.kind = (enum rec_kind)(1 + p[0] % 4),
                        .id = p[1] % 8,
                        .length = p[2] * 3u,
                        .flags = p[4] % 4,
                        .fragment = p[5] % 3};
        lsn += p[3] < 200 ? 1 : p[3] % 4;
        if (at + rec_size(r.length) > SEG || lsn == 0)
            break;
        rec_begin(seg + at, &r);
        memset(seg + at + REC_HEADER, p[5], r.length);
        if (r.length >= 4)
            le32_put(seg + at + REC_HEADER, p[4] & 8 ? p[2] : 0);
        rec_seal(&l, seg + at, lsn, lsn - 1 - (p[4] & 16 && lsn > 1 ? 1 : 0));
        if (p[4] == 255)
            seg[at + 20] ^= 1;
        at += rec_size(r.length);
    }
    put_file(d, "seg-00000000", seg, sizeof(seg));
}

static void checkpoint(struct disk *d, const uint8_t *p, size_t n)
{
    static uint8_t ck[8192];

    records(d, NULL, 0);
    if (n > sizeof(ck) - 4)
        n = sizeof(ck) - 4;
    memcpy(ck, p, n);
    if (n > 8) {
        le32_put(ck, 0x504b4350u);
        le32_put(ck + 4, SPOOL_FORMAT);
    }
    le32_put(ck + n, crc32c(0, ck, n));
    put_file(d, "checkpoint", ck, n + 4);
}

static void use(struct spool *sp, struct disk *d, const struct seen *s)
{
    struct buf b, env, st;
    enum err put, got = ERR_BUG;

    buf_init(&b, SPOOL_INLINE_MAX);
    buf_init(&env, 2 * SPOOL_RECORD_MAX);
    buf_init(&st, 2 * SPOOL_RECORD_MAX);
    for (uint32_t i = 0; i < s->n; i++) {
        buf_reset(&b);
        (void)!spool_read(sp, s->ids[i], &b);
        (void)!spool_load(sp, s->ids[i], &env, &st);
        if (i & 1)
            (void)!spool_done(sp, s->ids[i]);
    }
    put = spool_put(sp, UINT64_MAX - 1, SV("mine"), SV("body"), SV_NULL);
    if (!put)
        (void)!spool_state(sp, UINT64_MAX - 1, SV("state"));
    spool_commit(sp, on_commit, &got);
    disk_run(d);
    if (!put && got)
        abort();
    for (int64_t ms = 1; ms < 12; ms++) {
        (void)spool_tend(sp, (struct clock){.mono_ms = ms * 1000});
        disk_run(d);
    }
    buf_done(&b);
    buf_done(&env);
    buf_done(&st);
}

static void life(struct disk *d)
{
    struct spool_config c = {
        .segment_size = SEG, .reserve = 0, .io = disk_io(d), .rng = rng_seeded(5)};
    const struct spool_crypto none = {0};
    struct seen s = {0};
    uint64_t good = 0;

    (void)!spool_scan(&c.io, &none, on_row, &good, NULL);
    for (int k = 0; k < 3; k++) {
        s = (struct seen){.mine = false};
        if (spool_open(&c, on_found, &s, &s.sp, NULL))
            return;
        if (k && !s.mine)
            abort();
        if (!k)
            use(s.sp, d, &s);
        if (k == 1)
            spool_close(s.sp);
        else
            spool_abandon(s.sp);
        if (k == 0)
            disk_cut(d);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > SEG)
        return 0;
    struct disk *d = disk_new(1);
    switch (data[0] % 4) {
    case 0:
        put_file(d, "seg-00000000", data + 1, size - 1);
        break;
    case 1:
        records(d, NULL, 0);
        put_file(d, "checkpoint", data + 1, size - 1);
        break;
    case 2:
        records(d, data + 1, size - 1);
        break;
    case 3:
        checkpoint(d, data + 1, size - 1);
        break;
    }
    (void)disk_io(d).sync_dir(d);
    life(d);
    disk_free(d);
    return 0;
}
