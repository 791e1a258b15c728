/*
 * Reading a life record by record, without trust in anything but the checks.
 *
 * Where the expected record is not there or not good, either the tail was torn by a power cut or
 * the disk lost something it had promised. The difference: every record carries the LSN up to which
 * all was synced when it was written (`durable`), and every life begins after everything before it
 * was. So a hole at LSN n is damage when a later life begins above n, or when a later good record
 * of this life says durable >= n. Otherwise the hole and all behind it belong to the last batch,
 * which was never acknowledged: the tail ends there, as a prefix in LSN order.
 *
 * SECURITY: a segment holds stale records of earlier lives and whatever senders put into bodies, at
 * every alignment. A candidate must pass the keyed 32-bit header check before its payload is
 * hashed, so that a body full of look-alikes costs a few nanoseconds each and no more.
 */
#include "store/spool_int.h"

#include <stdlib.h>

#define WINDOW (4u * 1024 * 1024)

bool replay_init(struct replay *r, const struct spool_io *io, const struct life *l, int fd)
{
    size_t cap = l->size < WINDOW ? l->size : WINDOW;

    *r = (struct replay){.io = io, .life = l, .fd = fd, .win = malloc(cap), .win_cap = cap};
    return r->win != NULL;
}

void replay_done(struct replay *r)
{
    free(r->win);
    r->win = NULL;
}

/* n bytes at off inside the window, or NULL: beyond the end, unreadable or larger than the window.
 */
static char *view(struct replay *r, uint64_t off, size_t n)
{
    if (off > r->life->size || n > r->life->size - off || n > r->win_cap)
        return NULL;
    if (off < r->win_at || off + n > r->win_at + r->win_n) {
        uint64_t left = r->life->size - off;
        r->win_at = off;
        r->win_n = left < r->win_cap ? (size_t)left : r->win_cap;
        if (!seg_full_pread(r->io, r->fd, r->win, r->win_n, (int64_t)off))
            memset(r->win, 0, r->win_n); /* an unreadable stretch holds no record */
    }
    return r->win + (off - r->win_at);
}

char *replay_at(struct replay *r, uint64_t off, struct rec *out_rec)
{
    struct rec rec;
    char *p = view(r, off, REC_HEADER);

    if (!p || !rec_peek(r->life, p, &rec))
        return NULL;
    p = view(r, off, rec_size(rec.length));
    return p && rec_check(r->life, p, out_rec) ? p : NULL;
}

uint64_t replay_find(struct replay *r, uint64_t off, uint64_t lsn, struct rec *out_rec)
{
    for (; off + REC_HEADER <= r->life->size; off += 8) {
        struct rec rec;
        const char *p = view(r, off, REC_HEADER);
        if (!p)
            return 0;
        if (*p != 'P' || !rec_peek(r->life, p, &rec) || rec.lsn < lsn)
            continue;
        if (replay_at(r, off, &rec)) {
            *out_rec = rec;
            return off;
        }
    }
    return 0;
}

/* Is a hole at lsn damage? from = first good record behind it. */
static bool is_damage(struct replay *r, const struct replay_range *range, uint64_t lsn,
                      uint64_t from, struct rec rec)
{
    if (range->limit != UINT64_MAX && lsn < range->limit)
        return true;
    while (from) {
        if (rec.durable >= lsn)
            return true;
        from = replay_find(r, from + rec_size(rec.length), lsn, &rec);
    }
    return false;
}

uint64_t replay_life(struct replay *r, const struct replay_range *range,
                     const struct replay_calls *calls, uint64_t *out_end)
{
    uint64_t off = range->off, lsn = range->lsn;

    while (lsn < range->limit) {
        struct rec rec;
        char *p = replay_at(r, off, &rec);
        if (!p || rec.lsn != lsn) {
            uint64_t next = replay_find(r, off, lsn, &rec);
            if (!is_damage(r, range, lsn, next, rec))
                break;
            if (next) { /* the search for proof may have moved the window */
                p = replay_at(r, next, &rec);
                next = p ? next : 0;
            }
            bool none = !next || rec.lsn >= range->limit;
            calls->lost(calls->ctx, off, lsn, none ? range->limit : rec.lsn);
            if (none)
                break;
            off = next;
            lsn = rec.lsn;
        }
        calls->each(calls->ctx, &rec, off, p);
        off += rec_size(rec.length);
        lsn++;
    }
    *out_end = off;
    return lsn;
}
