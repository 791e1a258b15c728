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

/* Table that the numbers of a text stand in; remembered, so that a long table is walked once.
 * Zeroed for a new text. */
struct label_table {
    size_t at;         /* looked at up to here */
    size_t line;       /* start of that line */
    uint32_t cells[4]; /* delimiters of each kind in the line so far */
    bool known;        /* the rest is valid */
    char delimiter;
    uint32_t searches; /* for first lines; bounded */
    size_t row;        /* start of the last line that was a row */
    struct sv header;  /* first line of the table, SV_NULL = no table */
};

/* The number stands at [start, end) of text and has `digits` digits. The head of its column counts
 * when no word stands nearer. */
enum label label_of(struct sv text, size_t start, size_t end, size_t digits, enum label_type type,
                    struct label_table *table);
/* Inside a URL, a path, or an address? */
bool label_in_url(struct sv text, size_t start, size_t end);

#endif
