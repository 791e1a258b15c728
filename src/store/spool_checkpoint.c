/*
 * Checkpoint file: header, the lives that belong to the log, blocks of index entries, trailer with
 * a CRC32C over all. Written to CHECKPOINT_TMP, synced, renamed, directory synced; so it is whole
 * or not there. Taken in slices (rules 3 to 5 of spool_int.h).
 *
 * SECURITY: a damaged checkpoint is refused as a whole (then all segments are read); every place an
 * entry names is checked again by the record it finds there.
 */
#include "base/hash.h"
#include "store/spool_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define CK_MAGIC   0x504b4350u /* "PCKP" */
#define CK_END     0x444e4550u /* "PEND" */
#define CK_HEADER  56u
#define CK_LIFE    (4u + 48u + SPOOL_WRAPPED_MAX)
#define CK_ENTRY   52u
#define CK_TRAILER 16u
#define CK_LIVES   65536u /* limit of what is believed */

/* ---- writing ---- */

static int ck_put(struct spool *sp, const void *p, size_t n)
{
    int sys = seg_full_pwrite(&sp->c.io, sp->ck.fd, p, n, sp->ck.at);

    sp->ck.at += (int64_t)n;
    sp->ck.crc = crc32c(sp->ck.crc, p, n);
    return sys;
}

void checkpoint_abort(struct spool *sp)
{
    if (sp->ck.fd < 0)
        return;
    sp->c.io.close(sp->c.io.ctx, sp->ck.fd);
    (void)sp->c.io.unlink(sp->c.io.ctx, CHECKPOINT_TMP);
    sp->ck.fd = -1;
    for (uint32_t i = 0; i < sp->n_segs; i++) {
        if (sp->segs[i])
            sp->segs[i]->doomed = false;
    }
}

static void ck_failed(struct spool *sp, int sys)
{
    checkpoint_abort(sp);
    sp->checkpoint_after = sp->now + SPOOL_RETRY_MS;
    spool_alarm(sp, sys == -ENOSPC ? ERR_NOSPACE : ERR_IO, -sys,
                "a checkpoint could not be written");
}

static bool listed(const struct seg *s)
{
    return s && (s->state == SEG_ACTIVE || (s->state == SEG_CLOSED && !s->doomed)) &&
           s->life.sequence;
}

static int put_header(struct spool *sp, uint32_t n_lives)
{
    uint8_t h[CK_HEADER] = {0};

    le32_put(h, CK_MAGIC);
    le32_put(h + 4, SPOOL_FORMAT);
    le64_put(h + 8, sp->applied_sequence);
    le64_put(h + 16, sp->applied_lsn);
    le64_put(h + 24, sp->next_sequence - 1);
    le32_put(h + 32, sp->applied_off);
    le32_put(h + 36, n_lives);
    le64_put(h + 40, sp->checkpoints + 1);
    return ck_put(sp, h, sizeof(h));
}

static int put_life(struct spool *sp, const struct seg *s)
{
    uint8_t e[CK_LIFE] = {0};
    const struct life *l = &s->life;

    le32_put(e, s->number);
    le64_put(e + 4, l->sequence);
    le64_put(e + 12, l->first_lsn);
    le64_put(e + 20, l->checkpoints);
    le32_put(e + 28, l->size);
    le32_put(e + 32, l->wrapped_n);
    memcpy(e + 36, l->salt, sizeof(l->salt));
    memcpy(e + 52, l->wrapped, l->wrapped_n);
    return ck_put(sp, e, sizeof(e));
}

bool checkpoint_begin(struct spool *sp)
{
    uint32_t n = 0;
    int sys = sp->c.io.open(sp->c.io.ctx, CHECKPOINT_TMP, O_RDWR | O_CREAT | O_TRUNC);

    if (sys < 0) {
        ck_failed(sp, sys);
        return false;
    }
    sp->ck = (struct checkpoint_run){.fd = sys, .tail_at_begin = sp->tail_bytes};
    for (uint32_t i = 0; i < sp->n_segs; i++) {
        struct seg *s = sp->segs[i];
        if (s)
            s->doomed = s->state == SEG_CLOSED && !s->damaged && !s->live && !s->unapplied;
        n += listed(s);
    }
    sys = put_header(sp, n);
    for (uint32_t i = 0; i < sp->n_segs && !sys; i++) {
        if (listed(sp->segs[i]))
            sys = put_life(sp, sp->segs[i]);
    }
    if (sys)
        ck_failed(sp, sys);
    return !sys;
}

static void put_entry(char *e, const struct msg *m)
{
    const uint32_t v[] = {m->seg,       m->body_off,  m->env_off,   m->env_len, m->body_len,
                          m->state_seg, m->state_off, m->state_len, m->flags};

    le64_put(e, m->id);
    le64_put(e + 8, m->state_lsn);
    for (size_t i = 0; i < ARRAY_LEN(v); i++)
        le32_put(e + 16 + 4 * i, v[i]);
}

/* Entries of one chunk; those not durable yet come with the replay. */
static int put_slice(struct spool *sp)
{
    uint32_t n = 0, end = sp->ck.cursor + SPOOL_CHUNK;

    buf_reset(&sp->scratch);
    if (buf_reserve(&sp->scratch, 4 + SPOOL_CHUNK * CK_ENTRY))
        return -ENOMEM;
    for (; sp->ck.cursor < sp->ix.end && sp->ck.cursor < end; sp->ck.cursor++) {
        const struct msg *m = index_at(&sp->ix, sp->ck.cursor);
        if ((m->flags & (MSG_USED | MSG_FRESH)) == MSG_USED)
            put_entry(sp->scratch.p + 4 + CK_ENTRY * n++, m);
    }
    sp->ck.count += n;
    le32_put(sp->scratch.p, n);
    return n ? ck_put(sp, sp->scratch.p, 4 + (size_t)n * CK_ENTRY) : 0;
}

static int put_trailer(struct spool *sp)
{
    uint8_t t[4 + CK_TRAILER] = {0}; /* an empty block, then the trailer */

    le32_put(t + 4, CK_END);
    le64_put(t + 8, sp->ck.count);
    int sys = ck_put(sp, t, 16);
    if (sys)
        return sys;
    le32_put(t + 16, sp->ck.crc);
    return ck_put(sp, t + 16, 4);
}

static void ck_synced(struct spool *sp, int result)
{
    const struct spool_io *io = &sp->c.io;

    sp->side = SIDE_NONE;
    if (sp->ck.fd < 0)
        return;
    if (!result)
        result = io->rename(io->ctx, CHECKPOINT_TMP, CHECKPOINT_NAME);
    if (!result)
        result = io->sync_dir(io->ctx);
    if (result) {
        ck_failed(sp, result);
        return;
    }
    io->close(io->ctx, sp->ck.fd);
    sp->ck.fd = -1;
    sp->checkpoints++;
    sp->st.checkpoints++;
    sp->last_checkpoint_bytes = (uint64_t)sp->ck.at;
    sp->tail_bytes -= sp->ck.tail_at_begin;
    for (uint32_t i = 0; i < sp->n_segs; i++) {
        struct seg *s = sp->segs[i];
        if (s && s->doomed) {
            s->doomed = false;
            s->state = SEG_FREED;
        }
    }
}

bool checkpoint_step(struct spool *sp)
{
    int sys;

    if (sp->ck.cursor < sp->ix.end) {
        sys = put_slice(sp);
        if (sys)
            ck_failed(sp, sys);
        return !sys;
    }
    sys = put_trailer(sp);
    if (!sys) {
        sp->side = SIDE_CHECKPOINT;
        sp->side_seg = NONE;
        sys = spool_sync_start(sp, sp->ck.fd, &sp->side_token, ck_synced);
    }
    if (sys) {
        sp->side = SIDE_NONE;
        ck_failed(sp, sys);
    }
    return false;
}

void checkpoint_write(struct spool *sp)
{
    int sys = 0;

    checkpoint_abort(sp);
    if (!checkpoint_begin(sp))
        return;
    while (!sys && sp->ck.cursor < sp->ix.end)
        sys = put_slice(sp);
    if (!sys)
        sys = put_trailer(sp);
    if (!sys)
        sys = sp->c.io.sync(sp->c.io.ctx, sp->ck.fd);
    ck_synced(sp, sys);
}

/* ---- loading ---- */

struct reader {
    struct spool *sp; /* NULL: only checked */
    const struct spool_io *io;
    struct buf block;
    int fd;
    int64_t at;
    uint32_t crc;
};

static bool ck_get(struct reader *r, void *p, size_t n)
{
    if (!seg_full_pread(r->io, r->fd, p, n, r->at))
        return false;
    r->at += (int64_t)n;
    r->crc = crc32c(r->crc, p, n);
    return true;
}

static bool get_lives(struct reader *r, struct checkpoint_lives *l, uint32_t n)
{
    if (n > CK_LIVES)
        return false;
    l->lives = calloc((size_t)n + 1, sizeof(*l->lives));
    l->numbers = calloc((size_t)n + 1, sizeof(*l->numbers));
    if (!l->lives || !l->numbers)
        abort();
    for (; l->n < n; l->n++) {
        uint8_t e[CK_LIFE];
        struct life *x = &l->lives[l->n];
        if (!ck_get(r, e, sizeof(e)) || le32_get(e + 32) > SPOOL_WRAPPED_MAX)
            return false;
        l->numbers[l->n] = le32_get(e);
        x->sequence = le64_get(e + 4);
        x->first_lsn = le64_get(e + 12);
        x->checkpoints = le64_get(e + 20);
        x->size = le32_get(e + 28);
        x->wrapped_n = (uint16_t)le32_get(e + 32);
        memcpy(x->salt, e + 36, sizeof(x->salt));
        memcpy(x->wrapped, e + 52, x->wrapped_n);
    }
    return true;
}

static bool get_entry(struct spool *sp, const char *e)
{
    uint64_t id = le64_get(e);

    uint32_t msg = index_find(&sp->ix, id); /* twice only if an id was used again: replay decides */
    struct msg *m = index_at(&sp->ix, msg != NONE ? msg : index_add(&sp->ix, id));
    m->state_lsn = le64_get(e + 8);
    m->seg = le32_get(e + 16);
    m->body_off = le32_get(e + 20);
    m->env_off = le32_get(e + 24);
    m->env_len = le32_get(e + 28);
    m->body_len = le32_get(e + 32);
    m->state_seg = le32_get(e + 36);
    m->state_off = le32_get(e + 40);
    m->state_len = le32_get(e + 44);
    m->flags = MSG_USED | (le32_get(e + 48) & MSG_FILE);
    return m->body_off <= m->env_off && m->env_len <= 2 * SPOOL_RECORD_MAX &&
           m->state_len <= SPOOL_RECORD_MAX && m->body_len <= SPOOL_INLINE_MAX;
}

static bool get_entries(struct reader *r, uint64_t *out_count)
{
    char n4[4];
    uint64_t count = 0;

    for (;;) {
        if (!ck_get(r, n4, 4))
            return false;
        uint32_t n = le32_get(n4);
        if (!n)
            break;
        buf_reset(&r->block);
        if (n > SPOOL_CHUNK || buf_reserve(&r->block, (size_t)n * CK_ENTRY) ||
            !ck_get(r, r->block.p, (size_t)n * CK_ENTRY))
            return false;
        for (uint32_t i = 0; i < n && r->sp; i++) {
            if (!get_entry(r->sp, r->block.p + (size_t)i * CK_ENTRY))
                return false;
        }
        count += n;
    }
    *out_count = count;
    return true;
}

static bool get_all(struct reader *r, struct checkpoint_lives *l)
{
    uint8_t h[CK_HEADER], t[CK_TRAILER];

    if (!ck_get(r, h, sizeof(h)) || le32_get(h) != CK_MAGIC || le32_get(h + 4) != SPOOL_FORMAT)
        return false;
    l->begin_sequence = le64_get(h + 8);
    l->begin_lsn = le64_get(h + 16);
    l->max_sequence = le64_get(h + 24);
    l->begin_off = le32_get(h + 32);
    l->count = le64_get(h + 40);
    uint64_t count = 0;
    if (!get_lives(r, l, le32_get(h + 36)) || !get_entries(r, &count) || !ck_get(r, t, 12))
        return false;
    uint32_t crc = r->crc;
    return le32_get(t) == CK_END && le64_get(t + 4) == count && ck_get(r, t + 12, 4) &&
           le32_get(t + 12) == crc;
}

static enum err ck_read(struct reader *r, struct checkpoint_lives *l)
{
    r->fd = r->io->open(r->io->ctx, CHECKPOINT_NAME, O_RDONLY);
    if (r->fd < 0)
        return r->fd == -ENOENT ? ERR_NOTFOUND : ERR_IO;
    buf_init(&r->block, (size_t)SPOOL_CHUNK * CK_ENTRY);
    bool good = get_all(r, l);
    buf_done(&r->block);
    r->io->close(r->io->ctx, r->fd);
    if (good)
        return ERR_OK;
    free(l->lives);
    free(l->numbers);
    *l = (struct checkpoint_lives){0};
    return ERR_CORRUPT;
}

enum err checkpoint_load(struct spool *sp, struct checkpoint_lives *out_lives)
{
    struct reader r = {.sp = sp, .io = &sp->c.io};
    struct checkpoint_lives l = {0};
    enum err err = ck_read(&r, &l);

    if (err == ERR_CORRUPT) {
        index_free(&sp->ix);
        index_init(&sp->ix);
    }
    if (err)
        return err;
    sp->last_checkpoint_bytes = (uint64_t)r.at;
    *out_lives = l;
    return ERR_OK;
}

enum err checkpoint_verify(const struct spool_io *io,
                           void (*each)(void *ctx, const struct spool_record *r), void *ctx)
{
    struct reader r = {.io = io};
    struct checkpoint_lives l = {0};
    enum err err = ck_read(&r, &l);
    struct spool_record rec = {.segment = CHECKPOINT_NAME,
                               .lsn = l.begin_lsn,
                               .kind = "checkpoint",
                               .length = (uint32_t)r.at,
                               .good = !err,
                               .problem = err ? "the checkpoint is damaged" : NULL};

    each(ctx, &rec);
    free(l.lives);
    free(l.numbers);
    return ERR_OK;
}
