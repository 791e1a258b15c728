/* Counting of matches: see content/tally.h. */
#include "content/tally.h"
#include "base/hash.h"

void tally_init(struct tally *t, struct arena *a, uint32_t n_classes)
{
    *t = (struct tally){.arena = a, .n_classes = n_classes};
    t->classes = ARENA_ARRAY(a, struct tally_class, n_classes);
    t->touched = ARENA_ARRAY(a, uint32_t, n_classes);
    if (!t->classes || !t->touched) {
        t->overflow = true;
        t->n_classes = 0;
    }
}

void tally_part(struct tally *t, uint32_t part)
{
    for (uint32_t i = 0; i < t->n_touched; i++)
        t->classes[t->touched[i]].hit = 0;
    t->n_touched = 0;
    t->part = part;
    t->only_new = false;
}

static bool slot_put(uint64_t *values, uint32_t cap, uint64_t key)
{
    for (uint32_t i = (uint32_t)key & (cap - 1);; i = (i + 1) & (cap - 1)) {
        if (values[i] == key)
            return false;
        if (values[i] == 0) {
            values[i] = key;
            return true;
        }
    }
}

static bool values_grow(struct tally *t)
{
    uint32_t cap = t->cap_values ? t->cap_values * 2 : 64;
    uint64_t *values = ARENA_ARRAY(t->arena, uint64_t, cap);
    if (!values)
        return false;
    for (uint32_t i = 0; i < t->cap_values; i++) {
        if (t->values[i])
            (void)slot_put(values, cap, t->values[i]);
    }
    t->values = values;
    t->cap_values = cap;
    return true;
}

/* True when the value was not there yet. */
static bool values_put(struct tally *t, uint64_t key)
{
    if (t->n_values * 2 >= t->cap_values && (t->n_values >= TALLY_VALUES_MAX || !values_grow(t))) {
        t->overflow = true;
        return false;
    }
    bool fresh = slot_put(t->values, t->cap_values, key);
    t->n_values += fresh;
    return fresh;
}

/* scope 0 = message, else part + 1. */
static uint64_t value_key(uint32_t scope, uint32_t class_index, struct sv value)
{
    uint32_t words[4] = {0x6b65790au, scope, 0x74616c6cu, class_index};
    uint8_t key[16];
    memcpy(key, words, sizeof key);
    uint64_t h = siphash24(key, value.p, value.n);
    return h ? h : 1;
}

static struct hit *hit_new(struct tally *t, uint32_t class_index, struct sv masked)
{
    if (t->n_hits == t->cap_hits) {
        uint32_t cap = t->cap_hits ? t->cap_hits * 2 : 8;
        struct hit *hits = cap > TALLY_HITS_MAX ? NULL : ARENA_ARRAY(t->arena, struct hit, cap);
        if (!hits) {
            t->overflow = true;
            return NULL;
        }
        if (t->n_hits)
            memcpy(hits, t->hits, t->n_hits * sizeof *hits);
        t->hits = hits;
        t->cap_hits = cap;
    }
    struct tally_class *c = &t->classes[class_index];
    struct hit *hit = &t->hits[t->n_hits++];
    *hit =
        (struct hit){.classifier = c->name, .part = t->part, .masked = arena_sv(t->arena, masked)};
    c->hit = t->n_hits;
    t->touched[t->n_touched++] = class_index;
    return hit;
}

void tally_add(struct tally *t, uint32_t class_index, struct sv value, struct sv masked)
{
    if (class_index >= t->n_classes)
        return;
    struct tally_class *c = &t->classes[class_index];
    bool fresh = values_put(t, value_key(t->part + 1, class_index, value));
    if (t->only_new && !fresh)
        return;
    struct hit *hit = c->hit ? &t->hits[c->hit - 1] : hit_new(t, class_index, masked);
    if (!hit)
        return;
    hit->count += hit->count < UINT32_MAX;
    hit->unique += fresh;
    c->total.count += c->total.count < UINT32_MAX;
    c->total.unique += values_put(t, value_key(0, class_index, value));
}

void tally_finish(struct tally *t, struct facts *out_facts)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n_classes; i++)
        n += t->classes[i].total.count > 0;
    struct total *totals = n ? ARENA_ARRAY(t->arena, struct total, n) : NULL;
    if (n && !totals) {
        t->overflow = true;
        n = 0;
    }
    for (uint32_t i = 0, k = 0; totals && i < t->n_classes; i++) {
        if (t->classes[i].total.count == 0)
            continue;
        totals[k] = t->classes[i].total;
        totals[k++].classifier = t->classes[i].name;
    }
    out_facts->totals = totals;
    out_facts->n_totals = n;
    out_facts->hits = t->hits;
    out_facts->n_hits = t->n_hits;
}
