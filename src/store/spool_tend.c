/*
 * Housekeeping in bounded steps. At most one of them waits for the disk at a time (sp->side), apart
 * from the batch in flight.
 */
#include "store/spool_int.h"

#include <errno.h>

#define ZERO_SLICE   (1024u * 1024)
#define COPY_SLICE   (1024u * 1024) /* bytes copied forward per call */
#define COPY_ENTRIES 8192u          /* entries looked at per call */
#define TAIL_MIN     (64ull * 1024 * 1024)

static const uint8_t zeros[64 * 1024];

/* ---- preparing segments ---- */

static void wiped(struct spool *sp, int result)
{
    struct seg *s = sp->segs[sp->side_seg];

    sp->side = SIDE_NONE;
    if (result) { /* its old key may still be there: not used again, and gone if we can */
        spool_alarm(sp, ERR_IO, -result, "the header of a freed segment could not be overwritten");
        seg_drop(sp, s, true);
        return;
    }
    explicit_bzero(s->key, sizeof(s->key));
    s->life = (struct life){0};
    s->state = SEG_FREE;
}

static bool side_start(struct spool *sp, enum side side, struct seg *s,
                       void (*fn)(struct spool *sp, int result))
{
    sp->side = side;
    sp->side_seg = s->number;
    int sys = spool_sync_start(sp, s->fd, &sp->side_token, fn);
    if (sys)
        fn(sp, sys);
    return true;
}

static struct seg *seg_of_state(const struct spool *sp, enum seg_state state, uint32_t *out_count)
{
    struct seg *found = NULL;

    *out_count = 0;
    for (uint32_t i = 0; i < sp->n_segs; i++) {
        if (sp->segs[i] && sp->segs[i]->state == state) {
            found = sp->segs[i];
            ++*out_count;
        }
    }
    return found;
}

static bool step_wipe(struct spool *sp)
{
    uint32_t n;
    struct seg *s = seg_of_state(sp, SEG_FREED, &n);

    if (!s)
        return false;
    int sys = seg_full_pwrite(&sp->c.io, s->fd, zeros, SPOOL_HEAD, 0);
    if (sys) {
        sp->side_seg = s->number;
        wiped(sp, sys);
        return true;
    }
    return side_start(sp, SIDE_WIPE, s, wiped);
}

static void zeroed(struct spool *sp, int result)
{
    struct seg *s = sp->segs[sp->side_seg];

    sp->side = SIDE_NONE;
    if (result)
        seg_drop(sp, s, true);
    else
        s->state = SEG_FREE;
}

static bool zero_slice(struct spool *sp, struct seg *s)
{
    uint64_t stop = s->zeroed + ZERO_SLICE;

    while (s->zeroed < sp->c.segment_size && s->zeroed < stop) {
        uint64_t left = sp->c.segment_size - s->zeroed;
        size_t n = left < sizeof(zeros) ? (size_t)left : sizeof(zeros);
        if (seg_full_pwrite(&sp->c.io, s->fd, zeros, n, (int64_t)s->zeroed)) {
            seg_drop(sp, s, true);
            sp->copy_after = sp->now + SPOOL_RETRY_MS;
            return true;
        }
        s->zeroed += n;
    }
    if (s->zeroed < sp->c.segment_size)
        return true;
    return side_start(sp, SIDE_ZERO, s, zeroed);
}

static bool step_prepare(struct spool *sp)
{
    uint32_t n_free, n_raw;
    struct seg *spare = seg_of_state(sp, SEG_FREE, &n_free);
    struct seg *raw = seg_of_state(sp, SEG_RAW, &n_raw);

    if (raw)
        return zero_slice(sp, raw);
    if (n_free > SPOOL_FREE_MAX) {
        seg_drop(sp, spare, true);
        return true;
    }
    uint64_t disk = sp->c.io.free_bytes ? sp->c.io.free_bytes(sp->c.io.ctx) : UINT64_MAX / 4;
    /* the first one is for results on a full disk: it may come out of the reserve */
    uint64_t need = n_free ? sp->c.reserve + 2ull * sp->c.segment_size : sp->c.segment_size;
    if (n_free >= SPOOL_FREE_WANT || sp->now < sp->copy_after || disk < need)
        return false;
    uint32_t number;
    int sys = 0;
    if (seg_create(sp, &number, &sys)) {
        sp->copy_after = sp->now + SPOOL_RETRY_MS;
        return false;
    }
    sp->segs[number]->state = SEG_RAW;
    return true;
}

/* ---- checkpoints ---- */

static uint64_t dead_bytes(const struct spool *sp)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < sp->n_segs; i++) {
        const struct seg *s = sp->segs[i];
        if (s && s->state == SEG_CLOSED && !s->damaged && !s->live && !s->unapplied)
            n += sp->c.segment_size;
    }
    return n;
}

static bool checkpoint_due(const struct spool *sp)
{
    uint64_t dead = dead_bytes(sp), cost = 2 * sp->last_checkpoint_bytes;
    uint64_t tail = 4ull * sp->c.segment_size;

    if (sp->now < sp->checkpoint_after)
        return false;
    if (tail > TAIL_MIN * 4)
        tail = TAIL_MIN * 4;
    if (tail < cost)
        tail = cost;
    return (dead && dead >= cost) || sp->tail_bytes > tail;
}

static bool step_checkpoint(struct spool *sp)
{
    if (sp->ck.fd >= 0)
        return checkpoint_step(sp);
    return checkpoint_due(sp) && checkpoint_begin(sp);
}

/* ---- copying forward ---- */

static void copied(void *arg, enum err err)
{
    struct spool *sp = arg;

    sp->copying = false;
    if (err) {
        sp->victim = NONE;
        sp->copy_after = sp->now + SPOOL_RETRY_MS;
    }
}

static bool is_victim(const struct spool *sp, const struct seg *s)
{
    return s && s->state == SEG_CLOSED && !s->damaged && s->live && !s->unapplied &&
           s->live < sp->c.segment_size / 4 * 3;
}

/* Worth it when more than half of the closed segments' bytes are dead, or the disk is short. */
static uint32_t victim_choose(const struct spool *sp)
{
    uint64_t live = 0, total = 0;
    uint32_t best = NONE;

    for (uint32_t i = 0; i < sp->n_segs; i++) {
        const struct seg *s = sp->segs[i];
        if (!s || s->state != SEG_CLOSED || !s->live || s->damaged)
            continue;
        live += s->live;
        total += sp->c.segment_size;
        if (is_victim(sp, s) && (best == NONE || s->live < sp->segs[best]->live))
            best = i;
    }
    bool wasteful = total > 2 * live + 4ull * sp->c.segment_size;
    return wasteful || spool_room(sp, 0) == ERR_NOSPACE ? best : NONE;
}

/* Appends copies of what entry i has in the victim; false = it could not be read or appended. */
static bool copy_entry(struct spool *sp, uint32_t i, uint64_t *io_bytes)
{
    struct msg *m = index_at(&sp->ix, i);
    struct sv envelope, file;
    struct buf body;
    enum err err = ERR_OK;

    if (m->state_seg == sp->victim) {
        buf_reset(&sp->scratch2);
        err = seg_record(sp, m->state_seg, m->state_off, m->state_len, REC_STATE, m->id,
                         &sp->scratch2);
        if (!err)
            err = batch_add(sp, i, REC_STATE, buf_sv(&sp->scratch2), REC_COPY);
        *io_bytes += m->state_len;
        sp->st.copied++;
    }
    if (err || m->seg != sp->victim)
        return !err;
    buf_init(&body, SPOOL_INLINE_MAX);
    buf_reset(&sp->scratch2);
    if (m->body_len)
        err = msg_body(sp, m, &body);
    if (!err)
        err = msg_envelope(sp, m, &sp->scratch2);
    if (!err)
        err = envelope_split(buf_sv(&sp->scratch2), &envelope, &file);
    if (!err)
        err = batch_put(sp, i, envelope, file, buf_sv(&body),
                        (uint8_t)(REC_COPY | (file.n ? REC_FILE : 0)));
    buf_done(&body);
    *io_bytes += msg_group_size(m);
    sp->st.copied++;
    return !err;
}

static void copy_slice(struct spool *sp)
{
    struct seg *s = sp->segs[sp->victim];
    uint64_t bytes = 0;
    uint32_t stop = sp->victim_cursor + COPY_ENTRIES;

    for (; sp->victim_cursor < sp->ix.end && sp->victim_cursor < stop && bytes < COPY_SLICE;
         sp->victim_cursor++) {
        struct msg *m = index_at(&sp->ix, sp->victim_cursor);
        if (!(m->flags & MSG_USED) || (m->seg != sp->victim && m->state_seg != sp->victim))
            continue;
        if (m->pending) { /* rule 6: a newer state or the end may be on its way */
            sp->victim_skipped = true;
            continue;
        }
        if (!copy_entry(sp, sp->victim_cursor, &bytes)) {
            s->damaged = true;
            sp->st.damaged++;
            spool_alarm(sp, ERR_CORRUPT, 0, "message %llu cannot be copied out of segment %u",
                        (unsigned long long)m->id, s->number);
        }
    }
    if (bytes) {
        sp->copying = true;
        commit_add(sp, copied, sp);
    }
}

static bool step_copy(struct spool *sp)
{
    /* not between a caller's records and its commit: they would be committed behind its back */
    if (sp->copying || sp->refusing || sp->now < sp->copy_after || sp->cur.n > sp->cur.covered)
        return false;
    if (sp->victim == NONE) {
        sp->victim = victim_choose(sp);
        sp->victim_cursor = 0;
        sp->victim_skipped = false;
        if (sp->victim == NONE)
            return false;
    }
    struct seg *s = sp->segs[sp->victim];
    if (!s || !s->live || s->damaged || s->state != SEG_CLOSED) {
        sp->victim = NONE;
        return true;
    }
    if (sp->victim_cursor < sp->ix.end) {
        copy_slice(sp);
        return !sp->copying;
    }
    bool again = sp->victim_skipped;
    sp->victim_cursor = 0;
    sp->victim_skipped = false;
    if (!again)
        sp->victim = NONE;
    return !again; /* what is pending needs time: next timer */
}

static void step_retry(struct spool *sp)
{
    if ((!sp->refusing && !sp->unsealed) || sp->busy)
        return;
    if (sp->now < sp->retry_at)
        return;
    sp->retry_at = sp->now + SPOOL_RETRY_MS;
    commit_retry(sp);
}

bool spool_tend(struct spool *sp, struct clock now)
{
    bool more = false;

    sp->now = now.mono_ms;
    step_retry(sp);
    commit_pump(sp);
    commit_late(sp);
    if (sp->side == SIDE_NONE)
        more = step_wipe(sp) || step_prepare(sp) || step_checkpoint(sp);
    more = step_copy(sp) || more;
    return more && (sp->side == SIDE_NONE);
}
