#include "base/near.h"

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;

    return m < c ? m : c;
}

/* Levenshtein's distance: letters inserted, dropped or replaced. */
static size_t distance(struct sv a, struct sv b)
{
    size_t row[NEAR_WORD_MAX + 1];

    for (size_t j = 0; j <= b.n; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.n; j++) {
            size_t replaced = diagonal + (a.p[i - 1] != b.p[j - 1]);
            diagonal = row[j];
            row[j] = min3(row[j] + 1, row[j - 1] + 1, replaced);
        }
    }
    return row[b.n];
}

/* "warning" means "warn" */
static bool is_begin_of(struct sv begin, struct sv v)
{
    return begin.n > 2 && 2 * begin.n > v.n && sv_starts(v, begin);
}

const char *near_word(struct sv word, const char *const *words, size_t n)
{
    const char *best = NULL;
    size_t least = word.n / 3 + 2;

    if (!word.n || word.n > NEAR_WORD_MAX)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        struct sv w = sv_str(words[i]);
        if (w.n > NEAR_WORD_MAX)
            continue;
        size_t d = is_begin_of(word, w) || is_begin_of(w, word) ? 1 : distance(word, w);
        if (d < least && d < w.n) {
            least = d;
            best = words[i];
        }
    }
    return best;
}
