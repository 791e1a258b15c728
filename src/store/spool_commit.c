/*
 * Group commit. Records gather in sp->cur; a commit moves them to sp->wr, which is written with one
 * pwrite and one fdatasync (more only when it is larger than a segment). What is appended meanwhile
 * goes to the next batch: at once when idle, together when busy, no timer.
 *
 * A batch ends in one of two ways: synced, then the index takes it over in LSN order; or failed,
 * then nothing of it counts: the index never saw it, its entries are taken back, the next life
 * begins at its first LSN and thereby makes void what may have reached the disk. Only after that
 * header is durable (or could not be written) are the waiters told.
 */
#include "store/spool_int.h"

#include <errno.h>
#include <stdlib.h>

#define BATCH_KEEP (8u * 1024 * 1024) /* memory kept between batches */

void waiters_add(struct waiters *w, struct waiter x)
{
    w->p = spool_grow(w->p, &w->cap, w->n + 1, sizeof(*w->p));
    w->p[w->n++] = x;
}

void batch_free(struct batch *b)
{
    buf_done(&b->bytes);
    free(b->units);
    free(b->waiters.p);
}

static void batch_clear(struct batch *b)
{
    if (b->bytes.cap > BATCH_KEEP)
        buf_release(&b->bytes);
    else
        buf_reset(&b->bytes);
    b->n = b->written = b->covered = b->waiters.n = 0;
    b->failed = ERR_OK;
    b->rolled = false;
}

/* ---- appending ---- */

static void append_record(struct batch *b, const struct rec *r, struct sv one, struct sv two,
                          struct sv three)
{
    char *p = b->bytes.p + b->bytes.n;

    rec_begin(p, r);
    p += REC_HEADER;
    if (one.n)
        memcpy(p, one.p, one.n);
    if (two.n)
        memcpy(p + one.n, two.p, two.n);
    if (three.n)
        memcpy(p + one.n + two.n, three.p, three.n);
    b->bytes.n += rec_size(r->length);
}

static struct unit *unit_new(struct spool *sp, uint32_t msg, enum rec_kind kind, uint8_t flags,
                             size_t size)
{
    struct batch *b = &sp->cur;

    if (size > sp->c.segment_size - SPOOL_HEAD || buf_reserve(&b->bytes, size)) {
        b->bytes.overflow = false;
        return NULL;
    }
    b->units = spool_grow(b->units, &b->cap, b->n + 1, sizeof(*b->units));
    struct unit *u = &b->units[b->n++];
    *u = (struct unit){.at = (uint32_t)b->bytes.n,
                       .size = (uint32_t)size,
                       .msg = msg,
                       .kind = kind,
                       .flags = flags};
    index_at(&sp->ix, msg)->pending++;
    return u;
}

enum err batch_put(struct spool *sp, uint32_t msg, struct sv envelope, struct sv file,
                   struct sv body, uint8_t flags)
{
    uint64_t id = index_at(&sp->ix, msg)->id;
    uint16_t frags = (uint16_t)((body.n + SPOOL_FRAGMENT - 1) / SPOOL_FRAGMENT);
    uint32_t length = (uint32_t)(4 + file.n + envelope.n);
    size_t bodies = 0;
    char prefix[4];

    for (size_t at = 0; at < body.n; at += SPOOL_FRAGMENT)
        bodies += rec_size((uint32_t)sv_take(sv_skip(body, at), SPOOL_FRAGMENT).n);
    struct unit *u = unit_new(sp, msg, REC_ENVELOPE, flags, bodies + rec_size(length));
    if (!u)
        return ERR_LIMIT;
    u->env_rel = (uint32_t)bodies;
    u->length = length;
    u->body_len = (uint32_t)body.n;
    for (uint16_t i = 0; i < frags; i++) {
        struct sv part = sv_take(sv_skip(body, (size_t)i * SPOOL_FRAGMENT), SPOOL_FRAGMENT);
        struct rec r = {
            .kind = REC_BODY, .flags = flags, .fragment = i, .length = (uint32_t)part.n, .id = id};
        append_record(&sp->cur, &r, part, SV_NULL, SV_NULL);
    }
    le32_put(prefix, (uint32_t)file.n);
    struct rec r = {
        .kind = REC_ENVELOPE, .flags = flags, .fragment = frags, .length = length, .id = id};
    append_record(&sp->cur, &r, sv_of(prefix, 4), file, envelope);
    return ERR_OK;
}

enum err batch_add(struct spool *sp, uint32_t msg, enum rec_kind kind, struct sv payload,
                   uint8_t flags)
{
    uint32_t length = (uint32_t)payload.n;
    struct unit *u = unit_new(sp, msg, kind, flags, rec_size(length));

    if (!u)
        return ERR_LIMIT;
    u->length = length;
    struct rec r = {
        .kind = kind, .flags = flags, .length = length, .id = index_at(&sp->ix, msg)->id};
    append_record(&sp->cur, &r, payload, SV_NULL, SV_NULL);
    return ERR_OK;
}

/* ---- the end of a batch ---- */

static void file_remove(struct spool *sp, const struct msg *m)
{
    struct sv envelope, file;
    char name[SPOOL_NAME_MAX + 1];

    buf_reset(&sp->scratch2);
    if (msg_envelope(sp, m, &sp->scratch2) ||
        envelope_split(buf_sv(&sp->scratch2), &envelope, &file) || !file.n)
        return; /* found and removed at the next start */
    memcpy(name, file.p, file.n);
    name[file.n] = 0;
    (void)sp->c.io.unlink(sp->c.io.ctx, name);
}

static void apply_put(struct spool *sp, struct msg *m, const struct unit *u)
{
    if (m->seg != NONE)
        seg_live(sp, m->seg, -(int64_t)msg_group_size(m));
    m->seg = u->seg;
    m->body_off = u->off;
    m->env_off = u->off + u->env_rel;
    m->env_len = u->length;
    m->body_len = u->body_len;
    m->flags = (m->flags & ~(uint32_t)MSG_FRESH) | (u->flags & REC_FILE ? MSG_FILE : 0);
    seg_live(sp, m->seg, (int64_t)msg_group_size(m));
}

static void apply_state(struct spool *sp, struct msg *m, const struct unit *u)
{
    if (m->state_seg != NONE)
        seg_live(sp, m->state_seg, -(int64_t)rec_size(m->state_len));
    m->state_seg = u->seg;
    m->state_off = u->off;
    m->state_len = u->length;
    m->state_lsn = u->lsn;
    seg_live(sp, m->state_seg, (int64_t)rec_size(m->state_len));
}

static void apply_done(struct spool *sp, struct msg *m, uint32_t msg)
{
    if (m->flags & MSG_FILE)
        file_remove(sp, m);
    seg_live(sp, m->seg, -(int64_t)msg_group_size(m));
    if (m->state_seg != NONE)
        seg_live(sp, m->state_seg, -(int64_t)rec_size(m->state_len));
    index_remove(&sp->ix, msg);
}

static void apply(struct spool *sp, const struct unit *u)
{
    sp->segs[u->seg]->unapplied--;
    sp->tail_bytes += u->size;
    if (u->msg == NONE)
        return;
    struct msg *m = index_at(&sp->ix, u->msg);
    m->pending--;
    switch (u->kind) {
    case REC_ENVELOPE:
        apply_put(sp, m, u);
        break;
    case REC_STATE:
        apply_state(sp, m, u);
        break;
    case REC_DONE:
        apply_done(sp, m, u->msg);
        break;
    case REC_BODY:
        break;
    }
}

/* Entry msg goes away although the next batch speaks of it: those records will find no message. */
static void orphan(struct batch *b, uint32_t msg)
{
    for (size_t i = 0; i < b->n; i++) {
        if (b->units[i].msg == msg)
            b->units[i].msg = NONE;
    }
}

static void unapply(struct spool *sp, const struct unit *u, bool written)
{
    if (written)
        sp->segs[u->seg]->unapplied--;
    if (u->msg == NONE)
        return;
    struct msg *m = index_at(&sp->ix, u->msg);
    m->pending--;
    if (u->kind == REC_DONE)
        m->flags &= ~(uint32_t)MSG_ENDING;
    if (u->kind == REC_ENVELOPE && m->flags & MSG_FRESH) {
        orphan(&sp->cur, u->msg);
        index_remove(&sp->ix, u->msg);
    }
}

static void rollback(struct spool *sp)
{
    struct batch *b = &sp->wr;

    for (size_t i = b->n; i-- > 0;)
        unapply(sp, &b->units[i], i < b->written);
    if (b->written) {
        seg_close_active(sp);
        sp->unsealed = true;
        sp->retry_at = sp->now + SPOOL_RETRY_MS;
    }
    sp->next_lsn = b->first_lsn;
    sp->durable_lsn = b->first_lsn - 1;
    b->rolled = true;
}

static void finish(struct spool *sp)
{
    struct batch *b = &sp->wr;

    if (!b->failed) {
        for (size_t i = 0; i < b->n; i++)
            apply(sp, &b->units[i]);
        if (b->n) {
            struct seg *s = sp->segs[sp->active];
            sp->applied_seg = sp->active;
            sp->applied_off = s->end;
            sp->applied_sequence = s->life.sequence;
            sp->applied_lsn = sp->next_lsn;
        }
        sp->st.commits++;
        sp->st.synced_records += b->n;
    }
    for (size_t i = 0; i < b->waiters.n; i++) {
        struct waiter w = b->waiters.p[i];
        w.err = b->failed;
        waiters_add(&sp->late, w);
    }
    batch_clear(b);
    sp->writing = false;
}

void commit_late(struct spool *sp)
{
    struct waiters w = sp->late;

    sp->late = (struct waiters){0};
    for (size_t i = 0; i < w.n; i++)
        w.p[i].done(w.p[i].arg, w.p[i].err);
    free(w.p);
}

/* ---- syncs ---- */

static void token_answer(void *arg, int result)
{
    struct token *t = arg;
    struct spool *sp = t->sp;
    void (*fn)(struct spool *, int) = t->fn;

    if (sp)
        *t->slot = NULL;
    free(t);
    if (!sp)
        return;
    fn(sp, result);
    commit_pump(sp);
    commit_late(sp);
}

int spool_sync_start(struct spool *sp, int fd, struct token **slot,
                     void (*fn)(struct spool *sp, int result))
{
    struct token *t = malloc(sizeof(*t));

    if (!t)
        abort();
    *t = (struct token){sp, slot, fn};
    *slot = t;
    int sys = sp->c.io.sync_async(sp->c.io.ctx, fd, token_answer, t);
    if (sys) {
        *slot = NULL;
        free(t);
    }
    return sys;
}

static void batch_fail(struct spool *sp, int sys, const char *what)
{
    enum err err = sys == ENOSPC || sys == EDQUOT ? ERR_NOSPACE : ERR_IO;

    if (err == ERR_IO)
        sp->failures++;
    spool_alarm(sp, err, sys, "%s failed; nothing of this batch was accepted", what);
    if (sp->failures >= 2 && !sp->refusing) {
        sp->refusing = true;
        sp->retry_at = sp->now + SPOOL_RETRY_MS;
        spool_alarm(sp, ERR_IO, sys, "the spool refuses mail until its disk works again");
    }
    if (sp->writing && !sp->wr.failed)
        sp->wr.failed = err;
}

static void batch_synced(struct spool *sp, int result)
{
    sp->busy = false;
    if (result) {
        sp->st.failed_syncs++;
        seg_close_active(sp); /* the kernel may have dropped its pages: never trusted again */
        batch_fail(sp, -result, "sync of a segment");
        return;
    }
    sp->failures = 0;
    sp->durable_lsn = sp->next_lsn - 1;
    if (sp->wr.written == sp->wr.n)
        finish(sp);
}

static void life_begun(struct spool *sp, int result)
{
    struct seg *s = sp->segs[sp->beginning];

    sp->busy = false;
    sp->beginning = NONE;
    if (result) {
        sp->st.failed_syncs++;
        seg_drop(sp, s, true);
        batch_fail(sp, -result, "sync of a new segment");
        return;
    }
    seg_close_active(sp);
    sp->unsealed = false;
    sp->active = s->number;
    s->state = SEG_ACTIVE;
    if (sp->refusing) {
        sp->refusing = false;
        sp->failures = 0;
        spool_alarm(sp, ERR_OK, 0, "the spool accepts mail again");
    }
}

static void life_begin(struct spool *sp)
{
    uint32_t number = NONE;
    int sys = 0;
    enum err err = seg_begin(sp, &number, &sys);

    if (err) {
        batch_fail(sp, err == ERR_NOSPACE ? ENOSPC : sys ? sys : EIO, "beginning a segment");
        return;
    }
    sp->beginning = number;
    sp->segs[number]->state = SEG_ACTIVE;
    sp->busy = true;
    sp->busy_fd = sp->segs[number]->fd;
    sys = spool_sync_start(sp, sp->busy_fd, &sp->batch_token, life_begun);
    if (sys)
        life_begun(sp, sys);
}

void commit_retry(struct spool *sp)
{
    if (!sp->busy)
        life_begin(sp);
}

/* ---- writing ---- */

static void seal(struct spool *sp, struct seg *s, struct unit *u)
{
    for (uint32_t at = 0; at < u->size;) {
        char *p = sp->wr.bytes.p + u->at + at;
        uint32_t length = le32_get(p + 8);
        if (sp->c.crypto.crypt)
            sp->c.crypto.crypt(s->key, sp->next_lsn, p + REC_HEADER, length);
        rec_seal(&s->life, p, sp->next_lsn++, sp->durable_lsn);
        at += rec_size(length);
    }
    u->lsn = sp->next_lsn - 1;
    s->unapplied++;
}

static void write_units(struct spool *sp, struct seg *s)
{
    struct batch *b = &sp->wr;
    uint32_t from = b->units[b->written].at, n = 0, off = s->end;

    for (; b->written < b->n && b->units[b->written].size <= s->life.size - s->end; b->written++) {
        struct unit *u = &b->units[b->written];
        u->seg = s->number;
        u->off = s->end;
        seal(sp, s, u);
        s->end += u->size;
        n += u->size;
    }
    int sys = seg_full_pwrite(&sp->c.io, s->fd, b->bytes.p + from, n, off);
    sp->busy = true;
    sp->busy_fd = s->fd;
    if (sys)
        batch_fail(sp, -sys, "writing to a segment");
    else if ((sys = spool_sync_start(sp, s->fd, &sp->batch_token, batch_synced)) == 0)
        return;
    else
        batch_fail(sp, -sys, "starting a sync");
    sp->busy = false;
}

/* An empty batch has only people who wait: they are told by the next answer of the disk. */
static void write_nothing(struct spool *sp)
{
    if (sp->active == NONE || sp->closing) {
        finish(sp);
        return;
    }
    sp->busy = true;
    sp->busy_fd = sp->segs[sp->active]->fd;
    if (spool_sync_start(sp, sp->busy_fd, &sp->batch_token, batch_synced)) {
        sp->busy = false;
        finish(sp);
    }
}

static void write_step(struct spool *sp)
{
    struct batch *b = &sp->wr;
    struct seg *s = sp->active == NONE ? NULL : sp->segs[sp->active];

    if (!b->n) {
        write_nothing(sp);
        return;
    }
    uint32_t left = (uint32_t)b->bytes.n - b->units[b->written].at;
    uint32_t room = s ? s->life.size - s->end : 0;
    bool whole = left <= sp->c.segment_size - SPOOL_HEAD; /* then it is not split */
    if (!s || b->units[b->written].size > room || (whole && left > room))
        life_begin(sp);
    else
        write_units(sp, s);
}

static void failed_step(struct spool *sp)
{
    if (!sp->wr.rolled) {
        bool wrote = sp->wr.written > 0;
        rollback(sp);
        if (wrote && !sp->refusing && !sp->closing) {
            life_begin(sp); /* makes void what may have been written */
            return;
        }
    }
    finish(sp);
}

/* What was appended after the last commit call stays for the next batch, so that the records of one
 * commit are in one batch and fail or live together. */
static void batch_split(struct batch *from, struct batch *to)
{
    size_t n = from->n - from->covered;

    if (!n)
        return;
    uint32_t at = from->units[from->covered].at;
    if (buf_append(&to->bytes, from->bytes.p + at, from->bytes.n - at))
        abort();
    to->units = spool_grow(to->units, &to->cap, n, sizeof(*to->units));
    memcpy(to->units, from->units + from->covered, n * sizeof(*to->units));
    for (size_t i = 0; i < n; i++)
        to->units[i].at -= at;
    to->n = n;
    from->n = from->covered;
    from->bytes.n = at;
}

static void batch_take(struct spool *sp)
{
    struct batch b = sp->wr;

    sp->wr = sp->cur;
    sp->cur = b;
    batch_split(&sp->wr, &sp->cur);
    sp->writing = true;
    sp->wr.first_lsn = sp->next_lsn;
    if (sp->refusing)
        sp->wr.failed = ERR_IO;
}

void commit_add(struct spool *sp, void (*done)(void *arg, enum err err), void *arg)
{
    waiters_add(&sp->cur.waiters, (struct waiter){done, arg, ERR_OK});
    sp->cur.covered = sp->cur.n;
    commit_pump(sp);
}

void commit_pump(struct spool *sp)
{
    while (!sp->busy) {
        if (!sp->writing) {
            if (!sp->cur.waiters.n)
                return;
            batch_take(sp);
        }
        if (sp->wr.failed)
            failed_step(sp);
        else
            write_step(sp);
    }
}

static void ignore(void *arg, enum err err)
{
    (void)arg;
    (void)err;
}

void commit_drain(struct spool *sp)
{
    sp->closing = true;
    if (sp->cur.n)
        commit_add(sp, ignore, NULL);
    commit_pump(sp);
    while (sp->busy) {
        struct token *t = sp->batch_token;
        void (*fn)(struct spool *, int) = t->fn;
        t->sp = NULL;
        sp->batch_token = NULL;
        fn(sp, sp->c.io.sync(sp->c.io.ctx, sp->busy_fd));
        commit_pump(sp);
    }
    commit_late(sp);
}
