/*
 * id -> struct msg. Entries live in chunks and never move, so that the checkpoint and the copier
 * can walk them in slices by number; the hash holds entry numbers only (open addressing, linear
 * probing, backward shift on removal).
 */
#include "store/spool_int.h"

#include <stdlib.h>

#define FIRST_SLOTS 1024u

static void *must(void *p)
{
    if (!p)
        abort(); /* the index is the promise to keep: better to end and recover than to forget */
    return p;
}

void *spool_grow(void *p, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap)
        return p;
    size_t n = *cap ? *cap * 2 : 16;
    if (n < need)
        n = need;
    p = must(reallocarray(p, n, size));
    *cap = n;
    return p;
}

void index_init(struct index *ix)
{
    *ix = (struct index){.free = NONE, .mask = FIRST_SLOTS - 1};
    ix->slots = must(calloc(FIRST_SLOTS, sizeof(*ix->slots)));
}

void index_free(struct index *ix)
{
    for (uint32_t i = 0; i < ix->n_chunks; i++)
        free(ix->chunks[i]);
    free(ix->chunks);
    free(ix->slots);
}

struct msg *index_at(const struct index *ix, uint32_t i)
{
    return &ix->chunks[i >> SPOOL_CHUNK_BITS][i & (SPOOL_CHUNK - 1)];
}

static uint32_t home(const struct index *ix, uint64_t id)
{
    id ^= id >> 32;
    id *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(id >> 32) & ix->mask;
}

/* Slot that holds id, or the empty one where it would go. */
static uint32_t slot_of(const struct index *ix, uint64_t id)
{
    uint32_t s = home(ix, id);

    while (ix->slots[s] && index_at(ix, ix->slots[s] - 1)->id != id)
        s = (s + 1) & ix->mask;
    return s;
}

uint32_t index_find(const struct index *ix, uint64_t id)
{
    return ix->slots[slot_of(ix, id)] - 1; /* 0 becomes NONE */
}

static void rehash(struct index *ix)
{
    uint32_t *old = ix->slots;
    uint32_t n = ix->mask + 1;

    ix->mask = n * 2 - 1;
    ix->slots = must(calloc((size_t)n * 2, sizeof(*ix->slots)));
    for (uint32_t i = 0; i < n; i++) {
        if (old[i])
            ix->slots[slot_of(ix, index_at(ix, old[i] - 1)->id)] = old[i];
    }
    free(old);
}

static uint32_t entry_new(struct index *ix)
{
    if (ix->free != NONE) {
        uint32_t i = ix->free;
        ix->free = index_at(ix, i)->seg;
        return i;
    }
    if (ix->end == ix->n_chunks * SPOOL_CHUNK) {
        ix->chunks = must(reallocarray(ix->chunks, ix->n_chunks + 1, sizeof(*ix->chunks)));
        ix->chunks[ix->n_chunks++] = must(calloc(SPOOL_CHUNK, sizeof(struct msg)));
    }
    return ix->end++;
}

uint32_t index_add(struct index *ix, uint64_t id)
{
    if ((uint64_t)ix->count * 4 >= (uint64_t)ix->mask * 3)
        rehash(ix);
    uint32_t i = entry_new(ix);
    struct msg *m = index_at(ix, i);

    *m = (struct msg){.id = id, .flags = MSG_USED, .seg = NONE, .state_seg = NONE};
    ix->slots[slot_of(ix, id)] = i + 1;
    ix->count++;
    return i;
}

void index_remove(struct index *ix, uint32_t i)
{
    struct msg *m = index_at(ix, i);
    uint32_t hole = slot_of(ix, m->id);

    for (uint32_t s = (hole + 1) & ix->mask; ix->slots[s]; s = (s + 1) & ix->mask) {
        uint32_t want = home(ix, index_at(ix, ix->slots[s] - 1)->id);
        if (((s - want) & ix->mask) >= ((s - hole) & ix->mask)) {
            ix->slots[hole] = ix->slots[s];
            hole = s;
        }
    }
    ix->slots[hole] = 0;
    *m = (struct msg){.seg = ix->free};
    ix->free = i;
    ix->count--;
}
