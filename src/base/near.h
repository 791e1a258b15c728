/* "Did you mean": the word of a list that someone who mistyped most likely meant. */
#ifndef BASE_NEAR_H
#define BASE_NEAR_H

#include "base/sv.h"

#define NEAR_WORD_MAX 63 /* longer words are like none */

/* The nearest of n words, the first among equals; NULL when none is near. Near: fewer than a third
 * of the letters (and two) inserted, dropped or replaced, or more than half of one is the other's
 * begin. */
const char *near_word(struct sv word, const char *const *words, size_t n);

#endif
