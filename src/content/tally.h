/*
 * Counting of matches: all and distinct, in each part and over the message (spec K7, K11). Keeps
 * keyed 64-bit hashes of the values, never the values.
 */
#ifndef CONTENT_TALLY_H
#define CONTENT_TALLY_H

#include "base/arena.h"
#include "model/facts.h"

#define TALLY_VALUES_MAX (1u << 18) /* distinct values kept; thresholds end at 999 */
#define TALLY_HITS_MAX   100000u

struct tally_class {
    struct sv name;
    struct total total;
    uint32_t hit; /* index + 1 of its hit in the current part */
};
struct tally {
    struct arena *arena;
    struct tally_class *classes;
    uint32_t n_classes;
    struct hit *hits;
    uint32_t n_hits, cap_hits;
    uint64_t *values; /* open addressing, 0 = free */
    uint32_t n_values, cap_values;
    uint32_t part;
    uint32_t *touched; /* classes with a hit in the current part */
    uint32_t n_touched;
    bool only_new; /* another view of a part: count what is new in the part, once */
    bool overflow;
};

/* Counters for n classes, named by the caller before the first tally_add. */
void tally_init(struct tally *t, struct arena *a, uint32_t n_classes);
void tally_part(struct tally *t, uint32_t part); /* following matches belong to that part */
/* value is canonical; masked is copied when it is the first of its kind in the part. */
void tally_add(struct tally *t, uint32_t class_index, struct sv value, struct sv masked);
/* Lists into facts. */
void tally_finish(struct tally *t, struct facts *out_facts);

#endif
