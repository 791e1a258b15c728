/*
 * Digit-run scanner: see content/ident.h.
 *
 * SECURITY: hostile bytes. Groups of one sequence are kept in a window of fixed size that slides
 * on; every candidate looks at a bounded number of groups and bytes around it.
 */
#include "content/ident_int.h"

const char *ident_name(enum ident kind)
{
    switch (kind) {
    case IDENT_CREDIT_CARD:
        return "CREDIT_CARD";
    case IDENT_US_SSN:
        return "US_SSN";
    }
    return "";
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}
static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

typedef uint8_t block __attribute__((vector_size(16)));

/* Which of eight bytes, marked by 0xff, is the first? */
static size_t first_marked(uint64_t w)
{
    int bits = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_ctzll(w) : __builtin_clzll(w);
    return (size_t)bits / 8;
}

/* Place of the first digit among these 16 bytes; 16 when there is none. */
static size_t block_digit(const char *p)
{
    block b;
    memcpy(&b, p, sizeof b);
    b = (block)((b - (uint8_t)'0') < 10);
    uint64_t w[2];
    memcpy(w, &b, sizeof w);
    if (w[0])
        return first_marked(w[0]);
    return w[1] ? 8 + first_marked(w[1]) : sizeof b;
}

static size_t next_digit(struct sv t, size_t i)
{
    while (i + 16 <= t.n) {
        size_t at = block_digit(t.p + i);
        if (at < 16)
            return i + at;
        i += 16;
    }
    while (i < t.n && !is_digit(t.p[i]))
        i++;
    return i;
}

static size_t skip_blanks(struct sv t, size_t i, size_t max)
{
    size_t stop = i + max < t.n ? i + max : t.n;
    while (i < stop && is_blank(t.p[i]))
        i++;
    return i;
}

/* A line break with the blanks and quote marks around it; i when there is none. */
static size_t skip_break(struct sv t, size_t i)
{
    size_t j = i;
    if (j < t.n && t.p[j] == '\r')
        j++;
    if (j >= t.n || t.p[j] != '\n')
        return i;
    j++;
    size_t stop = j + 8 < t.n ? j + 8 : t.n;
    while (j < stop && (is_blank(t.p[j]) || t.p[j] == '>'))
        j++;
    return j;
}

static bool is_sep(char c)
{
    return is_blank(c) || c == '-' || c == '.' || c == '_' || c == '\r' || c == '\n';
}

/* Separator at i that is followed by a digit: its end and kind, or i. */
static size_t sep_next(struct sv t, size_t i, char *out_sep)
{
    if (i >= t.n || !is_sep(t.p[i]))
        return i;
    size_t j = skip_blanks(t, i, 3);
    char sep = ' ';
    if (j < t.n && (t.p[j] == '-' || (j == i && (t.p[j] == '.' || t.p[j] == '_')))) {
        sep = t.p[j++];
        if (sep == '-')
            j = skip_blanks(t, j, 1);
    }
    size_t k = skip_break(t, j);
    if (k > j) {
        sep = '\n';
        j = k;
    }
    if (j >= t.n || !is_digit(t.p[j]))
        return i;
    *out_sep = sep;
    return j;
}

size_t seq_digits(const struct seq *q, size_t i, size_t k, char out[20])
{
    size_t n = 0;
    for (size_t g = i; g < i + k && g < q->n; g++) {
        if (n + q->g[g].len > 19)
            return 20;
        memcpy(out + n, q->text.p + q->g[g].start, q->g[g].len);
        n += q->g[g].len;
    }
    return n;
}

size_t seq_end(const struct seq *q, size_t i)
{
    return q->g[i].start + q->g[i].len;
}

bool seq_glued(struct sv t, size_t start, size_t end)
{
    char b = start > 0 ? t.p[start - 1] : ' ', bb = start > 1 ? t.p[start - 2] : ' ';
    char a = end < t.n ? t.p[end] : ' ', aa = end + 1 < t.n ? t.p[end + 1] : ' ';
    if (is_alpha(b) || is_digit(b) || is_alpha(a) || is_digit(a) || a == '%' || a == '_')
        return true;
    if (b == '_' || b == '+' || b == '$')
        return true;
    if ((b == '-' || b == '.') && (is_alpha(bb) || is_digit(bb)))
        return b == '-' || is_digit(bb);
    return (a == '-' && (is_alpha(aa) || is_digit(aa))) || (b == '.' && is_blank(bb));
}

char seq_sep(const struct seq *q, size_t i, size_t k)
{
    char sep = 0;
    size_t breaks = 0;
    for (size_t g = i + 1; g < i + k; g++) {
        char s = q->g[g].sep;
        if (s == '\n' && ++breaks > 1)
            return 0;
        if (s == '\n')
            continue;
        if (sep && s != sep)
            return 0;
        sep = s;
    }
    return sep;
}

#define NOISE_MIN 5 /* numbers of one length that make a population */

bool seq_is_noise(struct seq *q, size_t len)
{
    if (len >= sizeof q->noise)
        return false;
    size_t all = 0, pass = 0;
    for (size_t i = next_digit(q->text, 0); q->noise[len] == 0 && i < q->text.n;) {
        size_t start = i;
        while (i < q->text.n && is_digit(q->text.p[i]))
            i++;
        if (i - start == len) {
            all++;
            pass += card_check(sv_of(q->text.p + start, len)) != CARD_NO;
        }
        i = next_digit(q->text, i);
    }
    if (q->noise[len] == 0)
        q->noise[len] = all >= NOISE_MIN && pass * 2 < all ? 2 : 1;
    return q->noise[len] == 2;
}

/* Tries candidates that start at groups [from, to); returns where the next one may start. */
static size_t seq_eval(struct seq *q, size_t from, size_t to)
{
    size_t i = from;
    while (i < to) {
        size_t took = card_at(q, i);
        if (took == 0)
            took = ssn_at(q, i);
        for (size_t k = 0; k < took; k++)
            q->g[i + k].used = true;
        i += took ? took : 1;
    }
    return i;
}

/* Window full: decide what lies in front, keep the rest and one group before it as context. */
static size_t seq_slide(struct seq *q, size_t from)
{
    size_t next = seq_eval(q, from, SEQ_GROUPS - SEQ_KEEP);
    size_t drop = next - 1;
    memmove(q->g, q->g + drop, (q->n - drop) * sizeof q->g[0]);
    q->n -= drop;
    return 1;
}

#define DIGITS_MIN 9 /* of the shortest identifier */

/* Where the next digits stand that may be an identifier or its beginning: a short group without a
 * separator behind it is none. Binary data has hardly anything else. */
static size_t next_group(struct sv t, size_t i)
{
    for (;;) {
        size_t start = next_digit(t, i);
        i = start;
        while (i < t.n && is_digit(t.p[i]))
            i++;
        if (i == start || i - start >= DIGITS_MIN || (i < t.n && is_sep(t.p[i])))
            return start;
    }
}

void ident_scan(struct sv text, ident_fn *fn, void *ctx)
{
    struct seq q;
    q.text = text;
    q.fn = fn;
    q.ctx = ctx;
    q.table = (struct label_table){.known = false};
    memset(q.noise, 0, sizeof q.noise);
    size_t i = next_group(text, 0);
    while (i < text.n) {
        size_t from = 0;
        char sep = 0;
        q.n = q.digits = 0;
        for (;;) {
            struct group *g = &q.g[q.n++];
            g->start = i;
            while (i < text.n && is_digit(text.p[i]))
                i++;
            g->len = i - g->start;
            g->sep = sep;
            g->used = false;
            q.digits += g->len;
            size_t next = sep_next(text, i, &sep);
            if (next == i)
                break;
            i = next;
            if (q.n == SEQ_GROUPS)
                from = seq_slide(&q, from);
        }
        if (q.digits >= DIGITS_MIN)
            (void)seq_eval(&q, from, q.n);
        i = next_group(text, i);
    }
}
