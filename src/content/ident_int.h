/* Inside of the identifier scanner: a sequence of digit groups and what may stand between them. */
#ifndef CONTENT_IDENT_INT_H
#define CONTENT_IDENT_INT_H

#include "content/ident.h"
#include "content/label.h"

#define SEQ_GROUPS 64
#define SEQ_KEEP   24 /* groups a candidate may span, with room to look beyond */

struct group {
    size_t start, len;
    char sep; /* before it: ' ', '-', '.', '_', '\n' (a line break), 0 = first of the sequence */
    bool used;
};
struct seq {
    struct sv text;
    struct group g[SEQ_GROUPS];
    size_t n;
    size_t digits;
    ident_fn *fn;
    void *ctx;
    struct label_table table;
    uint8_t noise[20]; /* by length: 0 = not known yet, 1 = no, 2 = yes */
};

/* Tries a candidate that starts at group i; returns the groups it took, 0 = none. */
size_t card_at(struct seq *q, size_t i);
size_t ssn_at(struct seq *q, size_t i);

/* Digits of groups [i, i + k) into out (at most 19 + 1 bytes are written); their number. */
size_t seq_digits(const struct seq *q, size_t i, size_t k, char out[20]);
size_t seq_end(const struct seq *q, size_t i); /* end of group i in the text */
/* Many bare numbers of this length, most of which are no cards: then those that happen to pass a
 * check digit are none either. */
bool seq_is_noise(struct seq *q, size_t len);
/* Is [start, end) part of a longer token: letters, or signs that join, on either side? */
bool seq_glued(struct sv text, size_t start, size_t end);
/* Separator common to groups [i, i + k), line breaks (at most one) aside; 0 = they differ. */
char seq_sep(const struct seq *q, size_t i, size_t k);

#endif
