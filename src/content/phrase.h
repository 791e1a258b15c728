/*
 * Key phrases (spec K17): all phrases of a snapshot in one Aho-Corasick automaton over case-folded
 * text. Linear time, whatever the phrases. Matches whole words; white space matches any white
 * space.
 */
#ifndef CONTENT_PHRASE_H
#define CONTENT_PHRASE_H

#include "base/buf.h"
#include "model/settings.h"

#define PHRASE_STATES_MAX (1u << 20)
#define PHRASE_TABLE_MAX  (256u * 1024 * 1024) /* bytes of the transition table */

struct phrases;

NODISCARD enum err phrases_new(const struct phrase *list, uint32_t n, struct phrases **out_ph,
                               struct errinfo *info);
void phrases_free(struct phrases *ph);
/* match: index of the phrase, and its text as written, white space runs as one blank. */
typedef void phrase_fn(void *ctx, uint32_t index, struct sv as_written);
void phrases_scan(const struct phrases *ph, struct sv text, phrase_fn *fn, void *ctx);

#endif
