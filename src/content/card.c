/*
 * Payment card numbers: issuer ranges and lengths, Luhn, groupings, context.
 *
 * SECURITY: works on a bounded window of digit groups; see content/ident_int.h.
 */
#include "content/ident_int.h"

/* Issuer ranges by their first six digits, with the usual lengths (bit n = n digits). A length in
 * `weak` exists but is rare: it needs a label. */
struct issuer {
    uint32_t from, to;
    uint32_t lengths, weak;
};
#define LEN(n) (1u << (n))
static const struct issuer issuers[] = {
    {340000, 349999, LEN(15), 0}, /* American Express */
    {370000, 379999, LEN(15), 0},
    {400000, 499999, LEN(16), LEN(13) | LEN(19)}, /* Visa */
    {510000, 559999, LEN(16), 0},                 /* Mastercard */
    {222100, 272099, LEN(16), 0},
    {601100, 601199, LEN(16), LEN(19)}, /* Discover */
    {644000, 659999, LEN(16), LEN(19)},
    {622126, 622925, LEN(16), LEN(17) | LEN(18) | LEN(19)},
    {300000, 305999, LEN(14), LEN(16) | LEN(19)}, /* Diners Club */
    {309500, 309599, LEN(14), LEN(16) | LEN(19)},
    {360000, 369999, LEN(14), LEN(16) | LEN(19)},
    {380000, 399999, LEN(14), LEN(16) | LEN(19)},
    {352800, 358999, LEN(16), LEN(17) | LEN(18) | LEN(19)}, /* JCB */
    {620000, 629999, LEN(16), LEN(17) | LEN(18) | LEN(19)}, /* UnionPay */
    {810000, 817199, 0, LEN(16) | LEN(17) | LEN(18) | LEN(19)},
    {500000, 509999, 0, LEN(13) | LEN(15) | LEN(16) | LEN(18) | LEN(19)}, /* Maestro and others */
    {560000, 589999, 0, LEN(13) | LEN(15) | LEN(16) | LEN(18) | LEN(19)},
    {600000, 639999, 0, LEN(16) | LEN(18) | LEN(19)},
    {670000, 679999, LEN(16), LEN(13) | LEN(15) | LEN(18) | LEN(19)},
    {220000, 220499, 0, LEN(16) | LEN(19)}, /* Mir */
};

static bool luhn(struct sv digits)
{
    unsigned sum = 0;
    for (size_t i = 0; i < digits.n; i++) {
        unsigned d = (unsigned)(digits.p[digits.n - 1 - i] - '0');
        if (i % 2) {
            d *= 2;
            d -= d > 9 ? 9 : 0;
        }
        sum += d;
    }
    return sum % 10 == 0;
}

/* Numbers that pass by construction only: one digit, or one digit behind the issuer's. */
static bool is_filler(struct sv digits)
{
    size_t same = 0;
    for (size_t i = 1; i < digits.n; i++)
        same += digits.p[i] == digits.p[0];
    return same == digits.n - 1;
}

enum card_fit card_check(struct sv digits)
{
    if (digits.n < 13 || digits.n > 19 || !luhn(digits) || is_filler(digits))
        return CARD_NO;
    uint32_t iin = 0;
    for (size_t i = 0; i < 6; i++)
        iin = iin * 10 + (uint32_t)(digits.p[i] - '0');
    enum card_fit fit = CARD_NO;
    for (size_t i = 0; i < ARRAY_LEN(issuers); i++) {
        if (iin < issuers[i].from || iin > issuers[i].to)
            continue;
        if (issuers[i].lengths & LEN(digits.n))
            return CARD_YES;
        if (issuers[i].weak & LEN(digits.n))
            fit = CARD_WEAK;
    }
    return fit;
}

/* "DE89 3704 0044 ...": four-character tokens that lead back to a country code and check digits. */
static bool in_iban(struct sv t, size_t start)
{
    size_t i = start;
    for (int tokens = 0; tokens < 8; tokens++) {
        if (i < 5 || (t.p[i - 1] != ' ' && t.p[i - 1] != '-'))
            return false;
        const char *p = t.p + i - 5;
        bool head = p[0] >= 'A' && p[0] <= 'Z' && p[1] >= 'A' && p[1] <= 'Z' && p[2] >= '0' &&
                    p[2] <= '9' && p[3] >= '0' && p[3] <= '9';
        if (head)
            return true;
        for (int k = 0; k < 4; k++) {
            bool alnum = (p[k] >= '0' && p[k] <= '9') || (p[k] >= 'A' && p[k] <= 'Z');
            if (!alnum)
                return false;
        }
        i -= 5;
    }
    return false;
}

/* Decides on groups [i, i + k) and reports. `need` = must have a label that says card. */
static bool card_try(struct seq *q, size_t i, size_t k, bool need)
{
    char digits[20];
    size_t n = seq_digits(q, i, k, digits);
    if (n < 13 || n > 19)
        return false;
    enum card_fit fit = card_check(sv_of(digits, n));
    if (fit == CARD_NO)
        return false;
    size_t start = q->g[i].start, end = seq_end(q, i + k - 1);
    enum label label = label_of(q->text, start, end, n, LABEL_CARD, &q->table);
    if (label == LABEL_AGAINST)
        return false;
    if ((need || fit == CARD_WEAK) && label != LABEL_FOR)
        return false;
    if (label_in_url(q->text, start, end) && label != LABEL_FOR)
        return false;
    if (k > 1 && in_iban(q->text, start))
        return false;
    if (k == 1 && label != LABEL_FOR && seq_is_noise(q, n))
        return false;
    q->fn(q->ctx, IDENT_CREDIT_CARD, sv_of(digits, n));
    return true;
}

static bool joins(char sep)
{
    return sep == '-' || sep == '.' || sep == '_';
}

static char sep_before(const struct seq *q, size_t i)
{
    return i < q->n ? q->g[i].sep : 0;
}

/* "card4111111111111111" and "4111111111111111exp": glued to a word that says card. */
static bool glued_to_label(const struct seq *q, size_t start, size_t end)
{
    struct sv t = q->text;
    char b = start > 0 ? t.p[start - 1] : ' ';
    char a = end < t.n ? t.p[end] : ' ';
    bool letter_before = (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || b == '_';
    bool letter_after = (a >= 'a' && a <= 'z') || (a >= 'A' && a <= 'Z');
    return letter_before && !letter_after;
}

static bool bare_at(struct seq *q, size_t i)
{
    const struct group *g = &q->g[i];
    if (g->len < 13 || g->len > 19 || joins(g->sep) || joins(sep_before(q, i + 1)))
        return false;
    bool need = false;
    if (seq_glued(q->text, g->start, seq_end(q, i))) {
        if (!glued_to_label(q, g->start, seq_end(q, i)))
            return false;
        need = true;
    }
    return card_try(q, i, 1, need);
}

struct shape {
    uint8_t k;
    uint8_t len[5];
    bool need; /* only with a label */
};
static const struct shape shapes[] = {
    {4, {4, 4, 4, 4, 0}, false}, {3, {4, 6, 5, 0, 0}, false}, {3, {4, 6, 4, 0, 0}, false},
    {5, {4, 4, 4, 4, 3}, false}, {4, {4, 3, 3, 3, 0}, true},  {2, {6, 13, 0, 0, 0}, true},
    {4, {4, 4, 4, 3, 0}, true},  {4, {4, 4, 4, 2, 0}, true},
};

static bool shape_fits(const struct seq *q, size_t i, const struct shape *s)
{
    if (i + s->k > q->n)
        return false;
    for (size_t k = 0; k < s->k; k++) {
        if (q->g[i + k].len != s->len[k])
            return false;
    }
    return true;
}

/* How a shape of groups of four goes on behind it: 0 = it ends there, 1 = one more group, which may
 * be an expiry date or code, 2 = a longer number. Whole further numbers end it. */
static int fours_behind(const struct seq *q, size_t i, char sep)
{
    size_t n = 0;
    while (i + n < q->n && q->g[i + n].sep == sep && q->g[i + n].len == 4)
        n++;
    if (n % 4 == 0 || i + n == SEQ_GROUPS) /* a list that leaves the window */
        return 0;
    return n == 1 ? 1 : 2;
}

static bool shape_try(struct seq *q, size_t i, const struct shape *s)
{
    char sep = seq_sep(q, i, s->k);
    size_t after = i + s->k;
    if (!sep)
        return false;
    char before = q->g[i].sep;
    bool first_used = i > 0 && q->g[i - 1].used;
    if (!first_used && (joins(before) || (sep == ' ' && before == ' ' && q->g[i - 1].len == 4)))
        return false;
    if (joins(sep_before(q, after)) && q->g[after].len != 4)
        return false;
    bool need = s->need;
    int more = s->len[s->k - 1] == 4 ? fours_behind(q, after, sep) : 0;
    if (more == 2 || (more == 1 && sep != ' '))
        return false;
    if (more == 1) /* "0100" to "1299": month and year */
        need |= !(q->text.p[q->g[after].start] == '0' || q->text.p[q->g[after].start] == '1');
    if (seq_glued(q->text, q->g[i].start, seq_end(q, after - 1))) {
        if (!glued_to_label(q, q->g[i].start, seq_end(q, after - 1)))
            return false;
        need = true;
    }
    return card_try(q, i, s->k, need);
}

/* Groups of one length and separator from i on, when i begins them. */
static size_t uniform_run(const struct seq *q, size_t i)
{
    size_t len = q->g[i].len, n = 1;
    char sep = sep_before(q, i + 1);
    if (i > 0 && q->g[i].sep == sep && q->g[i - 1].len == len)
        return 0;
    while (i + n < q->n && q->g[i + n].sep == sep && q->g[i + n].len == len)
        n++;
    return n;
}

/* "4 1 1 1 ...": one digit a group, or pairs; the run is the whole number. */
static size_t spaced_at(struct seq *q, size_t i)
{
    size_t len = q->g[i].len;
    if (len > 2)
        return 0;
    size_t n = uniform_run(q, i);
    if (n * len < 13 || n * len > 19)
        return 0;
    if (seq_glued(q->text, q->g[i].start, seq_end(q, i + n - 1)))
        return 0;
    return card_try(q, i, n, len == 2) ? n : 0;
}

/* Any other grouping under one separator: the whole sequence, and only with a label. */
static size_t odd_at(struct seq *q, size_t i)
{
    if (i > 0 && q->g[i].sep != '\n')
        return 0;
    size_t n = 1, digits = q->g[i].len;
    char sep = sep_before(q, i + 1);
    while (i + n < q->n && q->g[i + n].sep == sep && digits <= 19)
        digits += q->g[i + n++].len;
    if (n < 2 || n > 10 || digits < 14 || digits > 19)
        return 0;
    if (seq_glued(q->text, q->g[i].start, seq_end(q, i + n - 1)))
        return 0;
    return card_try(q, i, n, true) ? n : 0;
}

size_t card_at(struct seq *q, size_t i)
{
    if (bare_at(q, i))
        return 1;
    for (size_t s = 0; s < ARRAY_LEN(shapes); s++) {
        if (shape_fits(q, i, &shapes[s]) && shape_try(q, i, &shapes[s]))
            return shapes[s].k;
    }
    size_t took = spaced_at(q, i);
    return took ? took : odd_at(q, i);
}
