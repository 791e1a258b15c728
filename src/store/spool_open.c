/*
 * Recovery: checkpoint, then every record from its LSN on, then one call per live message.
 *
 * 1. Names: segments, checkpoint, files of large bodies.
 * 2. Which lives belong to the log: those the checkpoint lists and those begun after it. Without a
 *    checkpoint all lives are read from their beginning; that is right as long as none was ever
 *    written (nothing is freed before the first). If one is missing or damaged there is an alarm:
 *    nothing is lost, but a message that ended long ago may come back.
 * 3. Replay of each life in order of sequence, up to the first LSN of any later life.
 * 4. What was accepted may still be in the page cache only (the process was killed): the last batch
 *    is written again and the files that were replayed are synced before anything is built on them.
 * No life is continued; the next commit begins a new one, which makes void whatever lies behind the
 * tail.
 * 5. Large-body files that no message names are removed, unless there was damage: then they may be
 *    the remains of a message.
 */
#include "store/spool_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

struct group { /* BODY records seen, waiting for their ENVELOPE */
    uint64_t id, next_lsn, next_off;
    uint32_t off, bytes;
    uint16_t next;
};

struct names {
    char (*p)[SPOOL_NAME_MAX + 1];
    size_t n, cap;
};

struct opening {
    struct spool *sp;
    struct checkpoint_lives ck;
    bool has_ck;
    uint32_t *order; /* segments that hold a life, by sequence */
    uint32_t n;
    struct names big, used; /* large-body files there, and named by messages */
    bool unsure;            /* damage: remove no files */
    enum err fatal;         /* not damage but trouble that may pass: better not to start */
    struct seg *seg;        /* being replayed */
    uint64_t batch_off, batch_durable; /* where the last batch of this life begins */
    struct group g;
};

static void damage(struct opening *o, const char *what, uint64_t a, uint64_t b)
{
    o->unsure = true;
    o->sp->st.damaged++;
    spool_alarm(o->sp, ERR_CORRUPT, 0, "damage in the spool: %s (%llu, %llu)", what,
                (unsigned long long)a, (unsigned long long)b);
}

/* ---- names ---- */

static void names_add(struct names *l, struct sv name)
{
    l->p = spool_grow(l->p, &l->cap, l->n + 1, sizeof(*l->p));
    memcpy(l->p[l->n], name.p, name.n);
    l->p[l->n++][name.n] = 0;
}

static void each_name(void *arg, const char *name)
{
    struct opening *o = arg;
    struct sv s = sv_str(name);
    uint32_t number;

    if (seg_name_parse(name, &number))
        (void)seg_add(o->sp, number, -1);
    else if (sv_starts(s, SV(SPOOL_FILE_PREFIX)) && s.n <= SPOOL_NAME_MAX)
        names_add(&o->big, s);
}

/* ---- lives ---- */

static const struct life *listed_life(const struct opening *o, uint32_t number)
{
    for (uint32_t i = 0; i < o->ck.n; i++) {
        if (o->ck.numbers[i] == number)
            return &o->ck.lives[i];
    }
    return NULL;
}

/* The life of a segment that belongs to the log, if any. */
static bool life_of(struct opening *o, struct seg *s, struct life *out_life)
{
    uint8_t head[SPOOL_HEAD];
    const struct life *want = listed_life(o, s->number);
    bool read = seg_full_pread(&o->sp->c.io, s->fd, head, sizeof(head), 0);
    bool got = read && life_decode(head, out_life);

    if (!read) {
        s->damaged = true; /* whatever it holds, it is not used again */
        damage(o, "the header of a segment cannot be read", s->number, 0);
    }
    if (!o->has_ck)
        return got;
    if (got && out_life->sequence > o->ck.max_sequence)
        return true;
    if (!want)
        return false;
    if (!got || out_life->sequence != want->sequence)
        *out_life = *want; /* its header was damaged; the checkpoint knows it */
    return true;
}

static void seg_load(struct opening *o, struct seg *s)
{
    struct spool *sp = o->sp;
    char name[SEG_NAME_MAX];
    struct life life;

    seg_name(s->number, name);
    s->fd = sp->c.io.open(sp->c.io.ctx, name, O_RDWR);
    if (s->fd < 0) {
        o->fatal = ERR_IO;
        return;
    }
    if (!life_of(o, s, &life)) {
        s->state = s->damaged ? SEG_CLOSED : SEG_FREED;
        return;
    }
    s->life = life;
    s->state = SEG_CLOSED;
    s->end = life.size;
    if (life.sequence >= sp->next_sequence)
        sp->next_sequence = life.sequence + 1;
    if (life.checkpoints > sp->checkpoints)
        sp->checkpoints = life.checkpoints;
    enum err err = seg_unwrap(sp, s);
    if (err == ERR_IO || err == ERR_TIMEOUT || err == ERR_AGAIN || err == ERR_CLOSED) {
        o->fatal = err;
    } else if (err) {
        s->damaged = true;
        damage(o, "the key of a segment cannot be unwrapped", s->number, life.sequence);
    }
}

static int by_sequence(const void *a, const void *b, void *ctx)
{
    const struct spool *sp = ctx;
    uint64_t x = sp->segs[*(const uint32_t *)a]->life.sequence;
    uint64_t y = sp->segs[*(const uint32_t *)b]->life.sequence;
    return x < y ? -1 : x > y;
}

static void lives_load(struct opening *o)
{
    struct spool *sp = o->sp;

    o->order = calloc((size_t)sp->n_segs + 1, sizeof(*o->order));
    if (!o->order)
        abort();
    sp->next_sequence = o->ck.max_sequence + 1;
    for (uint32_t i = 0; i < sp->n_segs; i++) {
        if (!sp->segs[i])
            continue;
        seg_load(o, sp->segs[i]);
        if (sp->segs[i]->life.sequence)
            o->order[o->n++] = i;
    }
    qsort_r(o->order, o->n, sizeof(*o->order), by_sequence, sp);
    if (sp->checkpoints > o->ck.count)
        damage(o, "the newest checkpoint is missing; ended messages may come back", sp->checkpoints,
               o->ck.count);
    if (o->ck.count > sp->checkpoints)
        sp->checkpoints = o->ck.count;
}

/* ---- replay ---- */

static void replay_body(struct opening *o, const struct rec *r, uint64_t off)
{
    struct group *g = &o->g;

    if (r->fragment == 0)
        *g = (struct group){.id = r->id, .off = (uint32_t)off};
    else if (g->id != r->id || g->next != r->fragment || g->next_lsn != r->lsn ||
             g->next_off != off)
        *g = (struct group){.next = UINT16_MAX};
    if (g->next == UINT16_MAX)
        return;
    g->next++;
    g->bytes += r->length;
    g->next_lsn = r->lsn + 1;
    g->next_off = off + rec_size(r->length);
}

static void replay_envelope(struct opening *o, const struct rec *r, uint64_t off)
{
    struct group *g = &o->g;
    bool bodies = r->fragment > 0;

    if (bodies &&
        (g->next != r->fragment || g->id != r->id || g->next_lsn != r->lsn || g->next_off != off)) {
        damage(o, "a message without its body", r->id, r->lsn);
        return;
    }
    uint32_t msg = index_find(&o->sp->ix, r->id);
    if (msg == NONE)
        msg = index_add(&o->sp->ix, r->id);
    struct msg *m = index_at(&o->sp->ix, msg);
    m->seg = o->seg->number;
    m->env_off = (uint32_t)off;
    m->env_len = r->length;
    m->body_off = bodies ? g->off : (uint32_t)off;
    m->body_len = bodies ? g->bytes : 0;
    m->flags = MSG_USED | (r->flags & REC_FILE ? MSG_FILE : 0);
}

static void replay_record(void *ctx, const struct rec *r, uint64_t off, char *p)
{
    struct opening *o = ctx;
    struct index *ix = &o->sp->ix;
    uint32_t msg = index_find(ix, r->id);

    (void)p;
    if (r->durable != o->batch_durable) {
        o->batch_durable = r->durable;
        o->batch_off = off;
    }
    o->sp->tail_bytes += rec_size(r->length);
    switch (r->kind) {
    case REC_BODY:
        replay_body(o, r, off);
        break;
    case REC_ENVELOPE:
        replay_envelope(o, r, off);
        break;
    case REC_STATE:
        if (msg != NONE && r->lsn >= index_at(ix, msg)->state_lsn) {
            struct msg *m = index_at(ix, msg);
            m->state_seg = o->seg->number;
            m->state_off = (uint32_t)off;
            m->state_len = r->length;
            m->state_lsn = r->lsn;
        }
        break;
    case REC_DONE:
        if (msg != NONE)
            index_remove(ix, msg);
        break;
    }
}

static void replay_lost(void *ctx, uint64_t off, uint64_t from_lsn, uint64_t to_lsn)
{
    struct opening *o = ctx;

    (void)off;
    damage(o, "records lost, from and to sequence number", from_lsn, to_lsn);
}

/* What was read may be in the page cache only, and after a failed sync not even dirty there: the
 * kernel would call it synced while the disk never had it. So the header and the last batch of the
 * last life are written once more, byte for byte, before they are believed to be durable. */
static int write_again(struct opening *o, struct seg *s, uint64_t end)
{
    const struct spool_io *io = &o->sp->c.io;
    uint8_t head[SPOOL_HEAD];
    char part[32768];

    life_encode(&s->life, head);
    int sys = seg_full_pwrite(io, s->fd, head, sizeof(head), 0);
    for (uint64_t at = o->batch_off; at < end && !sys; at += sizeof(part)) {
        size_t n = end - at < sizeof(part) ? (size_t)(end - at) : sizeof(part);
        if (!seg_full_pread(io, s->fd, part, n, (int64_t)at))
            return -EIO;
        sys = seg_full_pwrite(io, s->fd, part, n, (int64_t)at);
    }
    return sys;
}

static void replay_seg(struct opening *o, struct seg *s, uint64_t limit)
{
    struct spool *sp = o->sp;
    struct replay r;
    uint64_t end = 0;
    bool at_begin = o->has_ck && s->life.sequence == o->ck.begin_sequence;
    struct replay_range range = {.off = at_begin ? o->ck.begin_off : SPOOL_HEAD,
                                 .lsn = at_begin ? o->ck.begin_lsn : s->life.first_lsn,
                                 .limit = limit};
    const struct replay_calls calls = {replay_record, replay_lost, o};

    if (!at_begin && s->life.first_lsn > sp->next_lsn)
        damage(o, "records lost before a segment, from and to sequence number", sp->next_lsn,
               s->life.first_lsn);
    if (!replay_init(&r, &sp->c.io, &s->life, s->fd))
        abort();
    o->seg = s;
    o->batch_off = range.off;
    o->batch_durable = UINT64_MAX;
    o->g = (struct group){.next = UINT16_MAX};
    sp->next_lsn = replay_life(&r, &range, &calls, &end);
    if (limit != UINT64_MAX && sp->next_lsn < limit)
        sp->next_lsn = limit; /* the hole has been reported */
    replay_done(&r);
    s->end = (uint32_t)end;
    sp->applied_seg = s->number;
    sp->applied_off = (uint32_t)end;
    sp->applied_sequence = s->life.sequence;
    int sys = limit == UINT64_MAX ? write_again(o, s, end) : 0;
    if (!sys)
        sys = sp->c.io.sync(sp->c.io.ctx, s->fd);
    if (sys)
        spool_alarm(sp, ERR_IO, -sys, "a replayed segment could not be synced");
}

static void replay_all(struct opening *o)
{
    struct spool *sp = o->sp;

    sp->next_lsn = o->has_ck ? o->ck.begin_lsn : 1;
    if (o->has_ck) {
        sp->applied_sequence = o->ck.begin_sequence;
        sp->applied_off = o->ck.begin_off;
    } else if (o->n) {
        sp->next_lsn = sp->segs[o->order[0]]->life.first_lsn;
    }
    for (uint32_t i = 0; i < o->n; i++) {
        struct seg *s = sp->segs[o->order[i]];
        uint64_t limit = UINT64_MAX;
        if (o->has_ck && s->life.sequence < o->ck.begin_sequence)
            continue;
        for (uint32_t k = i + 1; k < o->n; k++) {
            uint64_t first = sp->segs[o->order[k]]->life.first_lsn;
            limit = first < limit ? first : limit;
        }
        if (s->life.first_lsn >= limit)
            continue; /* all of it is void */
        replay_seg(o, s, limit);
    }
    sp->durable_lsn = sp->next_lsn - 1;
    sp->applied_lsn = sp->next_lsn;
}

/* ---- messages ---- */

static bool place_ok(const struct spool *sp, uint32_t seg)
{
    return seg < sp->n_segs && sp->segs[seg] && sp->segs[seg]->life.sequence &&
           sp->segs[seg]->fd >= 0;
}

/* Live bytes of each segment; entries whose segment is not there any more are lost. */
static void account(struct opening *o)
{
    struct spool *sp = o->sp;

    for (uint32_t i = 0; i < sp->ix.end; i++) {
        struct msg *m = index_at(&sp->ix, i);
        if (!(m->flags & MSG_USED))
            continue;
        if (!place_ok(sp, m->seg)) {
            damage(o, "the segment of a message is gone", m->id, m->seg);
            index_remove(&sp->ix, i);
            continue;
        }
        if (m->state_seg != NONE && !place_ok(sp, m->state_seg)) {
            damage(o, "the segment of a state is gone", m->id, m->state_seg);
            m->state_seg = NONE;
            m->flags |= MSG_STATE_LOST;
        }
        seg_live(sp, m->seg, (int64_t)msg_group_size(m));
        if (m->state_seg != NONE)
            seg_live(sp, m->state_seg, (int64_t)rec_size(m->state_len));
    }
}

static int by_id(const void *a, const void *b, void *ctx)
{
    const struct index *ix = ctx;
    uint64_t x = index_at(ix, *(const uint32_t *)a)->id;
    uint64_t y = index_at(ix, *(const uint32_t *)b)->id;
    return x < y ? -1 : x > y;
}

static void tell(struct opening *o, struct msg *m, struct buf *state,
                 void (*each)(void *ctx, const struct spool_found *m), void *ctx)
{
    struct spool *sp = o->sp;
    struct spool_found f = {.id = m->id, .body_size = m->body_len};

    buf_reset(&sp->scratch2);
    buf_reset(state);
    enum err err = msg_envelope(sp, m, &sp->scratch2);
    if (!err)
        err = envelope_split(buf_sv(&sp->scratch2), &f.envelope, &f.file);
    if (err) { /* kept, so that `spool export` can look at it; its segment is never reused */
        sp->segs[m->seg]->damaged = true;
        damage(o, "a message cannot be read", m->id, m->seg);
        return;
    }
    if (m->state_seg != NONE &&
        seg_record(sp, m->state_seg, m->state_off, m->state_len, REC_STATE, m->id, state)) {
        sp->segs[m->state_seg]->damaged = true;
        damage(o, "a state cannot be read", m->id, m->state_seg);
        buf_reset(state);
        m->state_seg = NONE;
        m->flags |= MSG_STATE_LOST;
    }
    f.state = buf_sv(state);
    f.state_lost = m->state_seg == NONE && m->flags & MSG_STATE_LOST;
    if (m->flags & MSG_FILE)
        names_add(&o->used, f.file);
    if (each)
        each(ctx, &f);
}

static void tell_all(struct opening *o, void (*each)(void *ctx, const struct spool_found *m),
                     void *ctx)
{
    struct index *ix = &o->sp->ix;
    uint32_t n = 0, *order = calloc((size_t)ix->count + 1, sizeof(*order));
    struct buf state;

    if (!order)
        abort();
    buf_init(&state, SPOOL_RECORD_MAX);
    for (uint32_t i = 0; i < ix->end; i++) {
        if (index_at(ix, i)->flags & MSG_USED)
            order[n++] = i;
    }
    qsort_r(order, n, sizeof(*order), by_id, ix);
    for (uint32_t i = 0; i < n; i++)
        tell(o, index_at(ix, order[i]), &state, each, ctx);
    buf_done(&state);
    free(order);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void remove_orphans(struct opening *o)
{
    const struct spool_io *io = &o->sp->c.io;

    if (o->used.n)
        qsort(o->used.p, o->used.n, sizeof(*o->used.p), by_name);
    if (o->big.n)
        qsort(o->big.p, o->big.n, sizeof(*o->big.p), by_name);
    for (size_t i = 0; i < o->used.n; i++) {
        if (!o->big.n || !bsearch(o->used.p[i], o->big.p, o->big.n, sizeof(*o->big.p), by_name))
            damage(o, "the body file of a message is missing", i, 0);
    }
    for (size_t i = 0; i < o->big.n && !o->unsure; i++) {
        if (!o->used.n || !bsearch(o->big.p[i], o->used.p, o->used.n, sizeof(*o->used.p), by_name))
            (void)io->unlink(io->ctx, o->big.p[i]);
    }
}

/* ---- open and close ---- */

static enum err spool_new(const struct spool_config *c, struct spool **out_spool,
                          struct errinfo *info)
{
    if (c->segment_size < SPOOL_HEAD + 4096 || c->segment_size > (1u << 30) ||
        c->segment_size % 8) {
        (void)err_set(info, ERR_LIMIT, "segment size %u is out of range", c->segment_size);
        return ERR_LIMIT;
    }
    struct spool *sp = calloc(1, sizeof(*sp));
    if (!sp) {
        (void)err_set(info, ERR_LIMIT, "out of memory");
        return ERR_LIMIT;
    }
    sp->c = *c;
    sp->active = sp->beginning = sp->applied_seg = sp->victim = sp->side_seg = NONE;
    sp->ck.fd = -1;
    sp->next_lsn = sp->applied_lsn = 1;
    buf_init(&sp->cur.bytes, SPOOL_BATCH_MAX);
    buf_init(&sp->wr.bytes, SPOOL_BATCH_MAX);
    buf_init(&sp->scratch, 4 * SPOOL_RECORD_MAX);
    buf_init(&sp->scratch2, 2 * SPOOL_RECORD_MAX);
    index_init(&sp->ix);
    *out_spool = sp;
    return ERR_OK;
}

void spool_abandon(struct spool *sp)
{
    if (sp->side_token)
        sp->side_token->sp = NULL;
    if (sp->batch_token)
        sp->batch_token->sp = NULL;
    for (uint32_t i = 0; i < sp->n_segs; i++) {
        if (sp->segs[i])
            seg_drop(sp, sp->segs[i], false);
    }
    free(sp->segs);
    batch_free(&sp->cur);
    batch_free(&sp->wr);
    free(sp->late.p);
    buf_done(&sp->scratch);
    buf_done(&sp->scratch2);
    index_free(&sp->ix);
    free(sp);
}

static enum err recover(struct opening *o, struct errinfo *info)
{
    struct spool *sp = o->sp;
    const struct spool_io *io = &sp->c.io;
    int sys = io->list(io->ctx, each_name, o);

    if (sys)
        return err_set_sys(info, ERR_IO, -sys, "the spool directory cannot be read");
    enum err err = checkpoint_load(sp, &o->ck);
    if (err == ERR_IO)
        return err_set(info, ERR_IO, "the checkpoint cannot be opened");
    if (err == ERR_CORRUPT)
        damage(o, "the checkpoint; all segments are read, ended messages may come back", 0, 0);
    o->has_ck = err == ERR_OK;
    sp->checkpoints = o->ck.count;
    lives_load(o);
    if (o->fatal)
        return err_set(info, o->fatal, "a segment or its key cannot be opened");
    replay_all(o);
    account(o);
    sys = io->sync_dir(io->ctx);
    if (sys)
        return err_set_sys(info, ERR_IO, -sys, "the spool directory cannot be synced");
    return ERR_OK;
}

enum err spool_open(const struct spool_config *c,
                    void (*each)(void *ctx, const struct spool_found *m), void *ctx,
                    struct spool **out_spool, struct errinfo *info)
{
    struct opening o = {0};
    enum err err = spool_new(c, &o.sp, info);

    if (err)
        return err;
    err = recover(&o, info);
    if (!err) {
        tell_all(&o, each, ctx);
        remove_orphans(&o);
        *out_spool = o.sp;
    } else {
        spool_abandon(o.sp);
    }
    free(o.ck.lives);
    free(o.ck.numbers);
    free(o.order);
    free(o.big.p);
    free(o.used.p);
    return err;
}

void spool_close(struct spool *sp)
{
    if (!sp)
        return;
    commit_drain(sp);
    if (sp->side_token)
        sp->side_token->sp = NULL;
    sp->side_token = NULL;
    sp->side = SIDE_NONE;
    checkpoint_write(sp);
    spool_abandon(sp);
}
