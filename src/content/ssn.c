/*
 * US social security numbers: AAA-GG-SSSS by the rules of the Social Security Administration
 * (areas 001-665, 667-899; group and serial not zero). With dashes they stand alone unless a label
 * denies; with blanks, dots or no separator they need a label.
 *
 * SECURITY: works on a bounded window of digit groups; see content/ident_int.h.
 */
#include "content/ident_int.h"

static unsigned number(struct sv v)
{
    unsigned n = 0;
    for (size_t i = 0; i < v.n; i++)
        n = n * 10 + (unsigned)(v.p[i] - '0');
    return n;
}

bool ssn_check(struct sv digits)
{
    if (digits.n != 9)
        return false;
    unsigned area = number(sv_take(digits, 3));
    unsigned group = number(sv_take(sv_skip(digits, 3), 2));
    unsigned serial = number(sv_skip(digits, 5));
    if (area == 0 || area == 666 || area >= 900 || group == 0 || serial == 0)
        return false;
    /* Printed in wallets and advertisements, void ever since. */
    return !sv_eq(digits, SV("078051120")) && !sv_eq(digits, SV("219099999"));
}

static bool ssn_try(struct seq *q, size_t i, size_t k, bool need)
{
    char digits[20];
    size_t n = seq_digits(q, i, k, digits);
    if (!ssn_check(sv_of(digits, n > 9 ? 0 : n)))
        return false;
    size_t start = q->g[i].start, end = seq_end(q, i + k - 1);
    if (seq_glued(q->text, start, end))
        return false;
    enum label label = label_of(q->text, start, end, k == 1 ? n : 4, LABEL_SSN, &q->table);
    if (label == LABEL_AGAINST || (need && label != LABEL_FOR))
        return false;
    if (label_in_url(q->text, start, end) && label != LABEL_FOR)
        return false;
    q->fn(q->ctx, IDENT_US_SSN, sv_of(digits, n));
    return true;
}

size_t ssn_at(struct seq *q, size_t i)
{
    const struct group *g = &q->g[i];
    char before = g->sep;
    if (g->len == 9 && before != '-' && before != '.' && before != '_')
        return ssn_try(q, i, 1, true) ? 1 : 0;
    if (i + 3 > q->n || g->len != 3 || g[1].len != 2 || g[2].len != 4)
        return 0;
    char sep = seq_sep(q, i, 3);
    if (!sep || before == sep)
        return 0;
    if (i + 3 < q->n && g[3].sep == sep && sep != ' ')
        return 0;
    return ssn_try(q, i, 3, sep != '-') ? 3 : 0;
}
