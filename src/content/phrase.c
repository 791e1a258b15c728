/*
 * Aho-Corasick over folded bytes: see content/phrase.h. Bytes that occur in no phrase share one
 * class, so that the table stays small.
 *
 * SECURITY: text is hostile, phrases come from administrators. One transition per byte; reports at
 * one place follow suffix links, which are as many as phrases that end there.
 */
#include "content/phrase.h"
#include "base/utf8.h"
#include "content/normal.h"
#include <stdlib.h>

struct state {
    uint32_t fail;
    uint32_t link; /* next state on the fail chain that ends a phrase, 0 = none */
    uint32_t out;  /* first phrase that ends here, index + 1; 0 = none */
};

struct phrases {
    uint8_t class_of[256];
    uint32_t n_classes;
    uint32_t *next; /* [state * n_classes + class] */
    struct state *states;
    uint32_t n_states, cap_states;
    uint32_t *same;   /* next phrase with equal folded text, index + 1 */
    uint16_t *length; /* folded bytes */
    uint32_t n;
};

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Folds one character at v; returns its length in the input, *out_n folded bytes. */
static size_t fold_next(struct sv v, char out[4], size_t *out_n)
{
    uint8_t c = (uint8_t)v.p[0];
    *out_n = 1;
    out[0] = v.p[0];
    if (c < 0x80) {
        if (c >= 'A' && c <= 'Z')
            out[0] = (char)(c + 32);
        if (is_space(c))
            out[0] = ' ';
        return 1;
    }
    uint32_t cp = 0;
    size_t len = utf8_next(v, &cp);
    if (len == 0)
        return 1;
    *out_n = utf8_put(cp_fold(cp), out);
    return len;
}

/* Folded phrase, white space trimmed and collapsed. */
static void fold_phrase(struct sv text, struct buf *out)
{
    text = sv_trim(text);
    while (text.n > 0) {
        char folded[4];
        size_t n = 0, len = fold_next(text, folded, &n);
        if (folded[0] != ' ' || out->n == 0 || out->p[out->n - 1] != ' ')
            (void)buf_append(out, folded, n);
        text = sv_skip(text, len);
    }
}

static void classes_add(struct phrases *ph, struct sv folded)
{
    for (size_t i = 0; i < folded.n; i++) {
        uint8_t c = (uint8_t)folded.p[i];
        if (ph->class_of[c] == 0)
            ph->class_of[c] = (uint8_t)ph->n_classes++;
    }
}

static enum err states_grow(struct phrases *ph)
{
    uint32_t cap = ph->cap_states ? ph->cap_states * 2 : 256;
    size_t row = ph->n_classes * sizeof *ph->next;
    if (cap > PHRASE_STATES_MAX || cap * row > PHRASE_TABLE_MAX)
        return ERR_LIMIT;
    uint32_t *next = realloc(ph->next, cap * row);
    if (!next)
        return ERR_LIMIT;
    ph->next = next;
    memset((char *)next + ph->cap_states * row, 0, (cap - ph->cap_states) * row);
    struct state *states = realloc(ph->states, cap * sizeof *states);
    if (!states)
        return ERR_LIMIT;
    ph->states = states;
    memset(states + ph->cap_states, 0, (cap - ph->cap_states) * sizeof *states);
    ph->cap_states = cap;
    return ERR_OK;
}

static enum err trie_add(struct phrases *ph, struct sv folded, uint32_t index)
{
    uint32_t s = 0;
    for (size_t i = 0; i < folded.n; i++) {
        if (ph->n_states + 1 >= ph->cap_states && states_grow(ph))
            return ERR_LIMIT;
        uint32_t *slot = &ph->next[s * ph->n_classes + ph->class_of[(uint8_t)folded.p[i]]];
        if (*slot == 0)
            *slot = ph->n_states++;
        s = *slot;
    }
    ph->length[index] = (uint16_t)folded.n;
    ph->same[index] = ph->states[s].out;
    ph->states[s].out = index + 1;
    return ERR_OK;
}

/* Breadth first: fail links, then every missing transition, so that the scan never backs up. */
static enum err trie_finish(struct phrases *ph)
{
    uint32_t *queue = calloc(ph->n_states, sizeof *queue);
    if (!queue)
        return ERR_LIMIT;
    uint32_t head = 0, tail = 0;
    queue[tail++] = 0;
    while (head < tail) {
        uint32_t s = queue[head++];
        uint32_t fail = ph->states[s].fail;
        ph->states[s].link = ph->states[fail].out && s ? fail : ph->states[fail].link;
        for (uint32_t c = 0; c < ph->n_classes; c++) {
            uint32_t *slot = &ph->next[s * ph->n_classes + c];
            uint32_t via = s ? ph->next[fail * ph->n_classes + c] : 0;
            if (*slot == 0) {
                *slot = via;
                continue;
            }
            ph->states[*slot].fail = via;
            queue[tail++] = *slot;
        }
    }
    free(queue);
    return ERR_OK;
}

static enum err build(struct phrases *ph, const struct phrase *list, struct buf *folded)
{
    ph->n_classes = 1;
    for (uint32_t i = 0; i < ph->n; i++) {
        buf_reset(folded);
        fold_phrase(list[i].text, folded);
        classes_add(ph, buf_sv(folded));
    }
    ph->n_states = 1;
    if (states_grow(ph))
        return ERR_LIMIT;
    for (uint32_t i = 0; i < ph->n; i++) {
        buf_reset(folded);
        fold_phrase(list[i].text, folded);
        if (folded->n > 0 && trie_add(ph, buf_sv(folded), i))
            return ERR_LIMIT;
    }
    enum err err = trie_finish(ph);
    /* ASCII needs no folding in the scan: upper case and white space share a class. */
    for (unsigned c = 'A'; c <= 'Z'; c++)
        ph->class_of[c] = ph->class_of[c + 32];
    for (unsigned c = '\t'; c <= '\r'; c++)
        ph->class_of[c] = ph->class_of[' '];
    return err;
}

enum err phrases_new(const struct phrase *list, uint32_t n, struct phrases **out_ph,
                     struct errinfo *info)
{
    struct phrases *ph = calloc(1, sizeof *ph);
    if (!ph)
        return err_set(info, ERR_LIMIT, "out of memory");
    ph->n = n;
    ph->same = calloc(n + 1, sizeof *ph->same);
    ph->length = calloc(n + 1, sizeof *ph->length);
    struct buf folded;
    buf_init(&folded, 4096);
    enum err err = ph->same && ph->length ? build(ph, list, &folded) : ERR_LIMIT;
    buf_done(&folded);
    if (err) {
        phrases_free(ph);
        return err_set(info, err, "key phrases need too much memory");
    }
    *out_ph = ph;
    return ERR_OK;
}

void phrases_free(struct phrases *ph)
{
    if (!ph)
        return;
    free(ph->next);
    free(ph->states);
    free(ph->same);
    free(ph->length);
    free(ph);
}

static bool is_word(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
           c >= 0x80;
}

/* Start in the text of a match of `length` folded bytes that ends before `end`; white space runs
 * count as one. Folding keeps the length of every character. */
static size_t match_start(struct sv text, size_t end, size_t length)
{
    size_t i = end;
    while (length > 0 && i > 0) {
        bool space = is_space((uint8_t)text.p[i - 1]);
        i--;
        while (space && i > 0 && is_space((uint8_t)text.p[i - 1]))
            i--;
        length--;
    }
    return i;
}

/* Whole word, or "": a phrase that begins or ends with a sign needs no boundary there. */
static bool bounded(struct sv text, size_t start, size_t end)
{
    bool left = start > 0 && is_word((uint8_t)text.p[start - 1]) && is_word((uint8_t)text.p[start]);
    bool right = end < text.n && is_word((uint8_t)text.p[end]) && is_word((uint8_t)text.p[end - 1]);
    return !left && !right;
}

static void report(const struct phrases *ph, uint32_t index, struct sv text, size_t end,
                   phrase_fn *fn, void *ctx)
{
    size_t start = match_start(text, end, ph->length[index]);
    if (start >= end || !bounded(text, start, end))
        return;
    char value[1100];
    size_t n = 0;
    for (size_t i = start; i < end && n < sizeof value; i++) {
        bool space = is_space((uint8_t)text.p[i]);
        if (!space || n == 0 || value[n - 1] != ' ')
            value[n++] = space ? ' ' : text.p[i];
    }
    fn(ctx, index, sv_of(value, n));
}

static void report_all(const struct phrases *ph, uint32_t s, struct sv text, size_t end,
                       phrase_fn *fn, void *ctx)
{
    if (ph->states[s].out == 0)
        s = ph->states[s].link;
    for (; s; s = ph->states[s].link) {
        for (uint32_t i = ph->states[s].out; i; i = ph->same[i - 1])
            report(ph, i - 1, text, end, fn, ctx);
    }
}

/* Feeds one character that is not ASCII. */
static uint32_t step_wide(const struct phrases *ph, uint32_t s, struct sv text, size_t *i)
{
    char folded[4];
    size_t n = 0;
    *i += fold_next(sv_skip(text, *i), folded, &n);
    for (size_t k = 0; k < n; k++)
        s = ph->next[s * ph->n_classes + ph->class_of[(uint8_t)folded[k]]];
    return s;
}

void phrases_scan(const struct phrases *ph, struct sv text, phrase_fn *fn, void *ctx)
{
    if (!ph || ph->n == 0)
        return;
    uint32_t s = 0;
    bool was_space = false;
    for (size_t i = 0; i < text.n;) {
        uint8_t c = (uint8_t)text.p[i];
        bool space = is_space(c);
        if (space && was_space) {
            i++;
            continue;
        }
        was_space = space;
        if (c < 0x80) {
            s = ph->next[s * ph->n_classes + ph->class_of[c]];
            i++;
        } else {
            s = step_wide(ph, s, text, &i);
        }
        if (s && (ph->states[s].out || ph->states[s].link))
            report_all(ph, s, text, i, fn, ctx);
    }
}
