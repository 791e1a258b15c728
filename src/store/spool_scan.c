/*
 * `postsealctl spool verify|export`: every record of every segment, whatever became of the rest.
 * Needs neither checkpoint nor index, writes nothing. Stretches without a good record where there
 * should be one are reported as one bad row; free segments and the unused end of a segment are not.
 * Records of finished messages are shown too: this is the log, not the queue.
 *
 * SECURITY: reads a possibly hostile, damaged directory; see spool_replay.c for what is believed.
 */
#include "store/spool_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

struct scan {
    const struct spool_io *io;
    const struct spool_crypto *crypto;
    void (*each)(void *ctx, const struct spool_record *r);
    void *ctx;
    uint32_t *numbers;
    size_t n, cap;
    bool checkpoint;
    /* the segment at work */
    char name[SEG_NAME_MAX];
    struct life life;
    uint8_t key[32];
    bool has_key;
    struct buf plain;
};

static void each_name(void *arg, const char *name)
{
    struct scan *s = arg;
    uint32_t number;

    if (sv_eq(sv_str(name), SV(CHECKPOINT_NAME)))
        s->checkpoint = true;
    if (!seg_name_parse(name, &number))
        return;
    s->numbers = spool_grow(s->numbers, &s->cap, s->n + 1, sizeof(*s->numbers));
    s->numbers[s->n++] = number;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static const char *kind_name(enum rec_kind kind)
{
    switch (kind) {
    case REC_BODY:
        return "body";
    case REC_ENVELOPE:
        return "envelope";
    case REC_STATE:
        return "state";
    case REC_DONE:
        return "done";
    }
    return "unknown";
}

static void problem(const struct scan *s, uint64_t off, uint64_t lsn, const char *what)
{
    struct spool_record r = {
        .segment = s->name, .offset = off, .lsn = lsn, .kind = "unknown", .problem = what};
    s->each(s->ctx, &r);
}

static void show(struct scan *s, const struct rec *rec, uint64_t off, const char *p)
{
    struct spool_record r = {.segment = s->name,
                             .offset = off,
                             .lsn = rec->lsn,
                             .id = rec->id,
                             .kind = kind_name(rec->kind),
                             .length = rec->length,
                             .good = true};

    buf_reset(&s->plain);
    if (s->has_key && !buf_append(&s->plain, p + REC_HEADER, rec->length)) {
        if (s->crypto->crypt && rec->length)
            s->crypto->crypt(s->key, rec->lsn, s->plain.p, rec->length);
        struct sv envelope, file;
        r.payload = buf_sv(&s->plain);
        if (rec->kind == REC_ENVELOPE && !envelope_split(r.payload, &envelope, &file))
            r.payload = envelope;
    }
    s->each(s->ctx, &r);
}

static void scan_records(struct scan *s, struct replay *r)
{
    uint64_t off = SPOOL_HEAD, lsn = s->life.first_lsn;

    for (;;) {
        struct rec rec;
        char *p = replay_at(r, off, &rec);
        if (!p) {
            uint64_t next = replay_find(r, off, lsn, &rec);
            if (!next)
                return;
            problem(s, off, lsn, "damaged, or torn by a power cut");
            off = next;
            p = replay_at(r, off, &rec);
            if (!p)
                return;
        } else if (rec.lsn != lsn) {
            problem(s, off, lsn, "sequence numbers are not consecutive");
        }
        show(s, &rec, off, p);
        off += rec_size(rec.length);
        lsn = rec.lsn + 1;
    }
}

static void scan_life(struct scan *s, int fd)
{
    uint8_t head[SPOOL_HEAD];
    struct replay r;

    if (!seg_full_pread(s->io, fd, head, sizeof(head), 0)) {
        problem(s, 0, 0, "the header cannot be read");
        return;
    }
    if (!life_decode(head, &s->life)) {
        for (size_t i = 0; i < sizeof(head); i++) {
            if (head[i]) {
                problem(s, 0, 0, "the header is damaged");
                return;
            }
        }
        return; /* free */
    }
    struct sv wrapped = sv_of((const char *)s->life.wrapped, s->life.wrapped_n);
    s->has_key = !s->life.wrapped_n || (s->crypto && s->crypto->unwrap &&
                                        !s->crypto->unwrap(s->crypto->ctx, wrapped, s->key));
    if (!s->crypto)
        s->has_key = false;
    if (!replay_init(&r, s->io, &s->life, fd))
        return;
    scan_records(s, &r);
    replay_done(&r);
}

static void scan_segment(struct scan *s, uint32_t number)
{
    seg_name(number, s->name);
    int fd = s->io->open(s->io->ctx, s->name, O_RDONLY);
    if (fd < 0) {
        problem(s, 0, 0, "the segment cannot be opened");
        return;
    }
    scan_life(s, fd);
    s->io->close(s->io->ctx, fd);
    explicit_bzero(s->key, sizeof(s->key));
}

enum err spool_scan(const struct spool_io *io, const struct spool_crypto *crypto,
                    void (*each)(void *ctx, const struct spool_record *r), void *ctx,
                    struct errinfo *info)
{
    struct scan s = {.io = io, .crypto = crypto, .each = each, .ctx = ctx};
    int sys = io->list(io->ctx, each_name, &s);

    if (sys) {
        free(s.numbers);
        return err_set_sys(info, ERR_IO, -sys, "the spool directory cannot be read");
    }
    buf_init(&s.plain, 2 * SPOOL_RECORD_MAX);
    if (s.n)
        qsort(s.numbers, s.n, sizeof(*s.numbers), by_number);
    for (size_t i = 0; i < s.n; i++)
        scan_segment(&s, s.numbers[i]);
    enum err err = s.checkpoint ? checkpoint_verify(io, each, ctx) : ERR_OK;
    buf_done(&s.plain);
    free(s.numbers);
    return err;
}
