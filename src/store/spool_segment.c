/*
 * Segment files and their lives; reading records at known places.
 * SECURITY: what is read is checked against the life's salt and the place the index names; damage
 * gives ERR_CORRUPT, never another message's bytes.
 */
#include "store/spool_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

bool seg_full_pread(const struct spool_io *io, int fd, void *p, size_t n, int64_t at)
{
    size_t got = 0;

    while (got < n) {
        int64_t r = io->pread(io->ctx, fd, (char *)p + got, n - got, at + (int64_t)got);
        if (r == -EINTR)
            continue;
        if (r < 0)
            return false;
        if (r == 0)
            break;
        got += (size_t)r;
    }
    memset((char *)p + got, 0, n - got); /* beyond the end of a short file */
    return true;
}

int seg_full_pwrite(const struct spool_io *io, int fd, const void *p, size_t n, int64_t at)
{
    size_t put = 0;

    while (put < n) {
        int64_t r = io->pwrite(io->ctx, fd, (const char *)p + put, n - put, at + (int64_t)put);
        if (r == -EINTR)
            continue;
        if (r <= 0)
            return r ? (int)r : -ENOSPC;
        put += (size_t)r;
    }
    return 0;
}

struct seg *seg_add(struct spool *sp, uint32_t number, int fd)
{
    if (number >= sp->n_segs) {
        uint32_t n = number + 16;
        sp->segs = reallocarray(sp->segs, n, sizeof(struct seg *));
        if (!sp->segs)
            abort();
        for (uint32_t i = sp->n_segs; i < n; i++)
            sp->segs[i] = NULL;
        sp->n_segs = n;
    }
    struct seg *s = calloc(1, sizeof(*s));
    if (!s)
        abort();
    s->number = number;
    s->fd = fd;
    s->state = SEG_FREE;
    sp->segs[number] = s;
    return s;
}

void seg_drop(struct spool *sp, struct seg *s, bool unlink)
{
    char name[SEG_NAME_MAX];

    seg_name(s->number, name);
    if (s->fd >= 0)
        sp->c.io.close(sp->c.io.ctx, s->fd);
    if (unlink)
        (void)sp->c.io.unlink(sp->c.io.ctx, name);
    sp->segs[s->number] = NULL;
    explicit_bzero(s->key, sizeof(s->key));
    free(s);
}

enum err seg_create(struct spool *sp, uint32_t *out_seg, int *out_sys)
{
    const struct spool_io *io = &sp->c.io;
    char name[SEG_NAME_MAX];
    uint32_t number = 0;

    while (number < sp->n_segs && sp->segs[number])
        number++;
    seg_name(number, name);
    int fd = io->open(io->ctx, name, O_RDWR | O_CREAT | O_TRUNC);
    int sys = fd < 0 ? fd : io->truncate(io->ctx, fd, sp->c.segment_size);
    if (!sys || fd < 0) /* the name must be durable before anything in it is */
        sys = fd < 0 ? fd : io->sync_dir(io->ctx);
    if (sys) {
        if (fd >= 0) {
            io->close(io->ctx, fd);
            (void)io->unlink(io->ctx, name);
        }
        *out_sys = -sys;
        return sys == -ENOSPC || sys == -EDQUOT ? ERR_NOSPACE : ERR_IO;
    }
    (void)seg_add(sp, number, fd);
    *out_seg = number;
    return ERR_OK;
}

static enum err life_new(struct spool *sp, struct seg *s)
{
    struct life *l = &s->life;
    struct buf wrapped;

    *l = (struct life){.sequence = sp->next_sequence,
                       .first_lsn = sp->next_lsn,
                       .checkpoints = sp->checkpoints,
                       .size = sp->c.segment_size};
    rng_bytes(&sp->c.rng, l->salt, sizeof(l->salt));
    s->has_key = true;
    if (!sp->c.crypto.new_key)
        return ERR_OK;
    buf_init(&wrapped, SPOOL_WRAPPED_MAX);
    enum err err = sp->c.crypto.new_key(sp->c.crypto.ctx, s->key, &wrapped);
    if (!err && wrapped.overflow)
        err = ERR_LIMIT;
    if (!err && wrapped.n)
        memcpy(l->wrapped, wrapped.p, wrapped.n);
    l->wrapped_n = (uint16_t)wrapped.n;
    buf_done(&wrapped);
    return err;
}

static uint32_t seg_take_free(struct spool *sp)
{
    uint32_t other = NONE;

    for (uint32_t i = 0; i < sp->n_segs; i++) {
        if (!sp->segs[i] || (sp->side != SIDE_NONE && sp->side_seg == i))
            continue;
        if (sp->segs[i]->state == SEG_FREE)
            return i;
        if (sp->segs[i]->state == SEG_RAW || sp->segs[i]->state == SEG_FREED)
            other = i;
    }
    return other; /* not prepared yet: slower, as good (its old life is in no checkpoint) */
}

void seg_close_active(struct spool *sp)
{
    if (sp->active != NONE)
        sp->segs[sp->active]->state = SEG_CLOSED;
    sp->active = NONE;
}

enum err seg_begin(struct spool *sp, uint32_t *out_seg, int *out_sys)
{
    uint8_t head[SPOOL_HEAD];
    uint32_t number = seg_take_free(sp);

    *out_sys = 0;
    if (number == NONE) {
        enum err err = seg_create(sp, &number, out_sys);
        if (err)
            return err;
    }
    struct seg *s = sp->segs[number];
    enum err err = life_new(sp, s);
    if (err)
        return err;
    sp->next_sequence++;
    /* Even if this life fails its header may be found after a crash, and then makes void what an
     * earlier one holds from here on: nothing may be added there any more. */
    seg_close_active(sp);
    life_encode(&s->life, head);
    int sys = sp->c.io.truncate(sp->c.io.ctx, s->fd, sp->c.segment_size);
    if (!sys)
        sys = seg_full_pwrite(&sp->c.io, s->fd, head, sizeof(head), 0);
    if (sys) {
        *out_sys = -sys;
        seg_drop(sp, s, true);
        return sys == -ENOSPC || sys == -EDQUOT ? ERR_NOSPACE : ERR_IO;
    }
    s->end = SPOOL_HEAD;
    s->live = 0;
    s->unapplied = 0;
    s->doomed = s->damaged = false;
    *out_seg = number;
    return ERR_OK;
}

enum err seg_unwrap(struct spool *sp, struct seg *s)
{
    s->has_key = true;
    if (!sp->c.crypto.unwrap)
        return ERR_OK;
    struct sv wrapped = sv_of((const char *)s->life.wrapped, s->life.wrapped_n);
    enum err err = sp->c.crypto.unwrap(sp->c.crypto.ctx, wrapped, s->key);
    s->has_key = !err;
    return err;
}

/* Checks and decrypts the record at p in place. */
static enum err record_open(struct spool *sp, struct seg *s, char *p, size_t room,
                            enum rec_kind kind, uint64_t id, struct rec *out_rec)
{
    struct rec r;

    if (!s->has_key)
        return ERR_DENIED;
    if (room < REC_HEADER || !rec_peek(&s->life, p, &r) || rec_size(r.length) > room)
        return ERR_CORRUPT;
    if (!rec_check(&s->life, p, &r) || r.kind != kind || r.id != id)
        return ERR_CORRUPT;
    if (sp->c.crypto.crypt)
        sp->c.crypto.crypt(s->key, r.lsn, p + REC_HEADER, r.length);
    *out_rec = r;
    return ERR_OK;
}

static enum err range_read(struct spool *sp, uint32_t seg, uint32_t off, uint32_t n,
                           struct seg **out_s)
{
    struct seg *s = seg < sp->n_segs ? sp->segs[seg] : NULL;

    if (!s || off < SPOOL_HEAD || n > s->life.size || off > s->life.size - n)
        return ERR_CORRUPT;
    buf_reset(&sp->scratch);
    if (buf_reserve(&sp->scratch, n))
        return ERR_LIMIT;
    if (!seg_full_pread(&sp->c.io, s->fd, sp->scratch.p, n, off))
        return ERR_IO;
    *out_s = s;
    return ERR_OK;
}

enum err seg_record(struct spool *sp, uint32_t seg, uint32_t off, uint32_t length,
                    enum rec_kind kind, uint64_t id, struct buf *out)
{
    struct seg *s = NULL;
    struct rec r;
    enum err err = range_read(sp, seg, off, rec_size(length), &s);

    if (err)
        return err;
    err = record_open(sp, s, sp->scratch.p, rec_size(length), kind, id, &r);
    if (err || r.length != length)
        return err ? err : ERR_CORRUPT;
    return buf_append(out, sp->scratch.p + REC_HEADER, length);
}

enum err msg_body(struct spool *sp, const struct msg *m, struct buf *out)
{
    struct seg *s = NULL;
    uint32_t n = m->env_off - m->body_off, total = 0;
    size_t before = out->n;
    enum err err = range_read(sp, m->seg, m->body_off, n, &s);

    for (uint32_t at = 0, i = 0; !err && at < n; i++) {
        struct rec r;
        err = record_open(sp, s, sp->scratch.p + at, n - at, REC_BODY, m->id, &r);
        if (!err && r.fragment != i)
            err = ERR_CORRUPT;
        if (!err)
            err = buf_append(out, sp->scratch.p + at + REC_HEADER, r.length);
        if (!err) {
            total += r.length;
            at += rec_size(r.length);
        }
    }
    if (!err && total != m->body_len)
        err = ERR_CORRUPT;
    if (err)
        out->n = before;
    return err;
}

enum err msg_envelope(struct spool *sp, const struct msg *m, struct buf *out_payload)
{
    return seg_record(sp, m->seg, m->env_off, m->env_len, REC_ENVELOPE, m->id, out_payload);
}

enum err envelope_split(struct sv payload, struct sv *out_envelope, struct sv *out_file)
{
    if (payload.n < 4)
        return ERR_CORRUPT;
    uint32_t n = le32_get(payload.p);
    if (n > SPOOL_NAME_MAX || n > payload.n - 4)
        return ERR_CORRUPT;
    *out_file = sv_of(payload.p + 4, n);
    *out_envelope = sv_skip(payload, 4 + (size_t)n);
    return ERR_OK;
}

uint64_t msg_group_size(const struct msg *m)
{
    return m->env_off - m->body_off + rec_size(m->env_len);
}

void seg_live(struct spool *sp, uint32_t seg, int64_t delta)
{
    struct seg *s = seg < sp->n_segs ? sp->segs[seg] : NULL;

    if (s)
        s->live = (uint64_t)((int64_t)s->live + delta);
}
