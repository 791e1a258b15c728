/*
 * The spool as its callers see it; see spool.h for the contract and spool_int.h for the rules.
 */
#include "store/spool_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void spool_alarm(struct spool *sp, enum err code, int sys, const char *fmt, ...)
{
    struct errinfo info = {.code = code, .sys = sys};
    va_list ap;

    if (!sp->c.alarm)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(info.text, sizeof(info.text), fmt, ap);
    va_end(ap);
    sp->c.alarm(sp->c.alarm_ctx, &info);
}

/* ---- room ---- */

static uint64_t disk_free(const struct spool *sp)
{
    return sp->c.io.free_bytes ? sp->c.io.free_bytes(sp->c.io.ctx) : UINT64_MAX / 4;
}

/* Bytes that mail may still fill, exact when fewer than `wanted`: what is in hand, and whole
 * segments above the reserve. `kept` is always held back, so that results can be written however
 * full the disk gets: a segment, or half of it from what follows of accepted mail. */
static uint64_t room_left(const struct spool *sp, uint64_t wanted, uint64_t kept)
{
    uint64_t size = sp->c.segment_size, usable = size - SPOOL_HEAD, in_hand = 0;

    for (uint32_t i = 0; i < sp->n_segs; i++) {
        struct seg *s = sp->segs[i];
        if (s && (s->state == SEG_FREE || s->state == SEG_RAW || s->state == SEG_FREED))
            in_hand += usable;
        else if (s && s->state == SEG_ACTIVE)
            in_hand += s->life.size - s->end;
    }
    uint64_t held = kept + sp->cur.bytes.n + (sp->writing ? sp->wr.bytes.n : 0);
    if (in_hand > held && in_hand - held >= wanted)
        return in_hand - held; /* the disk is asked only when that is not enough */
    uint64_t disk = disk_free(sp);
    uint64_t more = disk > sp->c.reserve ? (disk - sp->c.reserve) / size * usable : 0;
    return in_hand + more > held ? in_hand + more - held : 0;
}

static uint64_t put_size(uint64_t envelope, uint64_t body)
{
    uint64_t frags = (body + SPOOL_FRAGMENT - 1) / SPOOL_FRAGMENT;
    return body + envelope + SPOOL_NAME_MAX + (frags + 1) * (REC_HEADER + 8);
}

enum err spool_room(const struct spool *sp, uint64_t size)
{
    if (sp->refusing)
        return ERR_IO;
    if (size > SPOOL_INLINE_MAX) { /* the body goes to a file of its own */
        uint64_t disk = disk_free(sp);
        if (disk < sp->c.reserve || disk - sp->c.reserve < size)
            return ERR_NOSPACE;
        size = 0;
    }
    uint64_t wanted = put_size(0, size);
    return room_left(sp, wanted, sp->c.segment_size) < wanted ? ERR_NOSPACE : ERR_OK;
}

/* ---- appending ---- */

static bool file_name_ok(struct sv file)
{
    if (!sv_starts(file, SV(SPOOL_FILE_PREFIX)) || file.n > SPOOL_NAME_MAX)
        return false;
    return sv_find_byte(file, '/') == SIZE_MAX && sv_find_byte(file, 0) == SIZE_MAX;
}

static enum err put(struct spool *sp, uint64_t id, struct sv envelope, struct sv body,
                    struct sv file, uint64_t kept)
{
    if (sp->refusing)
        return ERR_IO;
    if (body.n > SPOOL_INLINE_MAX || envelope.n > SPOOL_RECORD_MAX)
        return ERR_LIMIT;
    if (file.n && (!file_name_ok(file) || body.n))
        return ERR_SYNTAX;
    if (index_find(&sp->ix, id) != NONE)
        return ERR_CONFLICT;
    uint64_t wanted = put_size(envelope.n, body.n);
    if (room_left(sp, wanted, kept) < wanted)
        return ERR_NOSPACE;
    uint32_t msg = index_add(&sp->ix, id);
    index_at(&sp->ix, msg)->flags |= MSG_FRESH;
    enum err err = batch_put(sp, msg, envelope, file, body, file.n ? REC_FILE : 0);
    if (err)
        index_remove(&sp->ix, msg);
    return err;
}

enum err spool_put(struct spool *sp, uint64_t id, struct sv envelope, struct sv body,
                   struct sv file)
{
    return put(sp, id, envelope, body, file, sp->c.segment_size);
}

enum err spool_put_own(struct spool *sp, uint64_t id, struct sv envelope, struct sv body,
                       struct sv file)
{
    return put(sp, id, envelope, body, file, sp->c.segment_size / 2);
}

static enum err find(const struct spool *sp, uint64_t id, uint32_t *out_msg)
{
    uint32_t msg = index_find(&sp->ix, id);

    if (msg == NONE || index_at(&sp->ix, msg)->flags & MSG_ENDING)
        return ERR_NOTFOUND;
    *out_msg = msg;
    return ERR_OK;
}

enum err spool_state(struct spool *sp, uint64_t id, struct sv state)
{
    uint32_t msg = NONE;
    enum err err = sp->refusing ? ERR_IO : find(sp, id, &msg);

    if (err)
        return err;
    if (state.n > SPOOL_RECORD_MAX)
        return ERR_LIMIT;
    return batch_add(sp, msg, REC_STATE, state, 0);
}

enum err spool_done(struct spool *sp, uint64_t id)
{
    uint32_t msg = NONE;
    enum err err = sp->refusing ? ERR_IO : find(sp, id, &msg);

    if (err)
        return err;
    err = batch_add(sp, msg, REC_DONE, SV_NULL, 0);
    if (!err)
        index_at(&sp->ix, msg)->flags |= MSG_ENDING;
    return err;
}

void spool_commit(struct spool *sp, void (*done)(void *arg, enum err err), void *arg)
{
    if (!sp->cur.n && sp->writing &&
        !sp->wr.failed) /* all that it waits for is in flight already */
        waiters_add(&sp->wr.waiters, (struct waiter){done, arg, ERR_OK});
    else
        commit_add(sp, done, arg);
}

/* ---- reading ---- */

static enum err find_durable(const struct spool *sp, uint64_t id, struct msg **out_m)
{
    uint32_t msg = NONE;
    enum err err = find(sp, id, &msg);

    if (err)
        return err;
    struct msg *m = index_at(&sp->ix, msg);
    if (m->flags & MSG_FRESH)
        return ERR_AGAIN;
    *out_m = m;
    return ERR_OK;
}

enum err spool_read(struct spool *sp, uint64_t id, struct buf *out_body)
{
    struct msg *m = NULL;
    enum err err = find_durable(sp, id, &m);

    if (err)
        return err;
    if (m->flags & MSG_FILE)
        return ERR_NOTFOUND;
    return m->body_len ? msg_body(sp, m, out_body) : ERR_OK;
}

enum err spool_load(struct spool *sp, uint64_t id, struct buf *out_envelope, struct buf *out_state)
{
    struct msg *m = NULL;
    struct sv envelope, file;
    enum err err = find_durable(sp, id, &m);
    size_t before = out_envelope->n;

    if (err)
        return err;
    buf_reset(&sp->scratch2);
    err = msg_envelope(sp, m, &sp->scratch2);
    if (!err)
        err = envelope_split(buf_sv(&sp->scratch2), &envelope, &file);
    if (!err)
        err = buf_append_sv(out_envelope, envelope);
    if (!err && m->state_seg != NONE)
        err = seg_record(sp, m->state_seg, m->state_off, m->state_len, REC_STATE, id, out_state);
    if (err)
        out_envelope->n = before;
    return err;
}

void spool_stats(const struct spool *sp, struct spool_stats *out_stats)
{
    struct spool_stats st = sp->st;

    st.messages = sp->ix.count;
    st.refusing = sp->refusing;
    for (uint32_t i = 0; i < sp->n_segs; i++) {
        struct seg *s = sp->segs[i];
        if (!s)
            continue;
        st.disk_bytes += sp->c.segment_size;
        st.live_bytes += s->state == SEG_CLOSED || s->state == SEG_ACTIVE ? s->live : 0;
        st.segments++;
        st.free_segments += s->state == SEG_FREE || s->state == SEG_RAW || s->state == SEG_FREED;
    }
    *out_stats = st;
}
