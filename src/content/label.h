/*
 * Context of a number: the words near it say what it is ("card", "SSN", "order no."). The nearest
 * label before wins; a label that denies must stand directly before the number (only filler words
 * and numbers of the same length between, so that the head of a column counts for all of it).
 */
#ifndef CONTENT_LABEL_H
#define CONTENT_LABEL_H

#include "base/sv.h"

enum label { LABEL_NONE, LABEL_FOR, LABEL_AGAINST };
enum label_type { LABEL_CARD, LABEL_SSN };

/* The number stands at [start, end) of text and has `digits` digits. */
enum label label_of(struct sv text, size_t start, size_t end, size_t digits, enum label_type type);
/* Inside a URL, a path, or an address? */
bool label_in_url(struct sv text, size_t start, size_t end);

#endif
