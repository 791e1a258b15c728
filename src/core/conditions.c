/*
 * SECURITY: facts come from a worker that parsed hostile bytes. Counts are only compared; an index
 * out of range is never followed. What was not seen is UNKNOWN, and UNKNOWN is never taken for NO.
 */
#include "core/conditions.h"
#include "base/hash.h"
#include "codec/mailaddr.h"

static char lower(char ch)
{
    return ch >= 'A' && ch <= 'Z' ? (char)(ch + ('a' - 'A')) : ch;
}

/* Greedy with one resume point: linear in text for each '*', no recursion. */
bool wildcard_match(struct sv pattern, struct sv text)
{
    size_t p = 0, t = 0, star = SIZE_MAX, resume = 0;

    while (t < text.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = p++;
            resume = t;
        } else if (p < pattern.n &&
                   (pattern.p[p] == '?' || lower(pattern.p[p]) == lower(text.p[t]))) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++resume;
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*')
        p++;
    return p == pattern.n;
}

/* No threshold asks for more than 999 (settings), so counting may stop behind it. */
#define DESTINATIONS_MAX  1000u
#define DESTINATION_SLOTS 2048u

/* Distinct domains among the recipients; a hash table of indices, since this runs once for each
 * recipient of a message. */
static uint32_t count_destinations(const struct envelope *env)
{
    static const uint8_t key[16] = {0};
    uint32_t slots[DESTINATION_SLOTS] = {0}; /* index + 1 */
    uint32_t n = 0;

    for (uint32_t i = 0; i < env->n_rcpts && n < DESTINATIONS_MAX; i++) {
        char one[256], other[256];
        struct sv domain = mailaddr_domain(env->rcpts[i].addr, one);
        uint32_t at = (uint32_t)(siphash24(key, domain.p, domain.n) % DESTINATION_SLOTS);
        while (slots[at] && !sv_eq(domain, mailaddr_domain(env->rcpts[slots[at] - 1].addr, other)))
            at = (at + 1) % DESTINATION_SLOTS;
        n += !slots[at];
        if (!slots[at])
            slots[at] = i + 1;
    }
    return n;
}

static bool any_condition(const struct settings *s, enum cond_kind kind)
{
    for (uint32_t i = 0; i < s->n_policies; i++)
        for (uint32_t j = 0; j < s->policies[i].n_rules; j++)
            for (uint32_t k = 0; k < s->policies[i].rules[j].n_conditions; k++)
                if (s->policies[i].rules[j].conditions[k].kind == kind)
                    return true;
    return false;
}

struct case_facts case_of(const struct settings *s, const struct envelope *env,
                          const struct facts *facts)
{
    struct case_facts c = {.s = s, .env = env, .facts = facts};

    c.incomplete = facts->scan != SCAN_OK;
    for (uint32_t i = 0; i < facts->n_parts; i++)
        c.incomplete |= (facts->parts[i].flags & PART_TRUNCATED) != 0;
    if (any_condition(s, COND_DESTINATIONS))
        c.destinations = count_destinations(env);
    return c;
}

/* A count against a threshold. An incomplete count is a lower bound: it can satisfy "at least" and
 * refute "none", it can prove nothing else. */
static enum truth count_holds(const struct condition *cond, uint32_t n, bool incomplete)
{
    enum truth no = incomplete ? TRUTH_UNKNOWN : TRUTH_NO;

    switch (cond->threshold) {
    case THRESHOLD_AT_LEAST:
        return n >= cond->low ? TRUTH_YES : no;
    case THRESHOLD_BETWEEN:
        if (n > cond->high)
            return TRUTH_NO;
        return incomplete ? TRUTH_UNKNOWN : n >= cond->low ? TRUTH_YES : TRUTH_NO;
    case THRESHOLD_NONE:
        if (n)
            return TRUTH_NO;
        return incomplete ? TRUTH_UNKNOWN : TRUTH_YES;
    }
    return TRUTH_UNKNOWN;
}

static uint32_t add_capped(uint32_t a, uint32_t b)
{
    return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

/* Over the whole message. Hits and totals should agree; where they do not, the greater counts. */
static uint32_t classifier_total(const struct facts *f, const struct condition *cond)
{
    uint32_t sum = 0, greatest = 0, total = 0;

    for (uint32_t i = 0; i < f->n_hits; i++) {
        if (!sv_eq(f->hits[i].classifier, cond->name))
            continue;
        sum = add_capped(sum, f->hits[i].count);
        greatest = f->hits[i].unique > greatest ? f->hits[i].unique : greatest;
    }
    for (uint32_t i = 0; i < f->n_totals; i++)
        if (sv_eq(f->totals[i].classifier, cond->name))
            total = cond->unique ? f->totals[i].unique : f->totals[i].count;
    uint32_t seen = cond->unique ? greatest : sum;
    return total > seen ? total : seen;
}

/* Inside one part (K7): true when any part satisfies the threshold; "none" means no part at all. */
static enum truth classifier_each(const struct case_facts *c, const struct condition *cond,
                                  uint32_t *out_matches)
{
    const struct facts *f = c->facts;
    enum truth best = TRUTH_NO;
    uint32_t greatest = 0;

    for (uint32_t i = 0; i < f->n_hits; i++) {
        if (!sv_eq(f->hits[i].classifier, cond->name))
            continue;
        uint32_t n = cond->unique ? f->hits[i].unique : f->hits[i].count;
        enum truth t = count_holds(cond, n, c->incomplete);
        best = t > best ? t : best;
        greatest = n > greatest ? n : greatest;
    }
    *out_matches = greatest;
    if (cond->threshold == THRESHOLD_NONE)
        return count_holds(cond, greatest, c->incomplete);
    return best == TRUTH_NO && c->incomplete ? TRUTH_UNKNOWN : best;
}

static bool part_matches(const struct part *p, const struct condition *cond)
{
    switch (cond->kind) {
    case COND_FILE_NAME:
        return p->name.n && wildcard_match(cond->name, p->name);
    case COND_FILE_TYPE:
        return wildcard_match(cond->name, p->true_type) ||
               wildcard_match(cond->name, p->declared_type);
    case COND_PROPERTY:
        return (p->flags & cond->flag) != 0;
    case COND_CLASSIFIER:
    case COND_ATTACHMENTS:
    case COND_SIZE_KB:
    case COND_DESTINATIONS:
    case COND_ALL:
        break;
    }
    return false;
}

static enum truth parts_hold(const struct case_facts *c, const struct condition *cond,
                             uint32_t *out_matches)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < c->facts->n_parts; i++)
        n += part_matches(&c->facts->parts[i], cond);
    *out_matches = n;
    return n ? TRUTH_YES : c->incomplete ? TRUTH_UNKNOWN : TRUTH_NO;
}

static uint32_t size_kb(const struct case_facts *c)
{
    uint64_t n = c->env->size > c->facts->size ? c->env->size : c->facts->size;

    return n / 1024 > UINT32_MAX ? UINT32_MAX : (uint32_t)(n / 1024);
}

static enum truth holds(const struct case_facts *c, const struct condition *cond, bool each_part,
                        uint32_t *out_matches)
{
    switch (cond->kind) {
    case COND_CLASSIFIER:
        if (each_part)
            return classifier_each(c, cond, out_matches);
        *out_matches = classifier_total(c->facts, cond);
        return count_holds(cond, *out_matches, c->incomplete);
    case COND_ATTACHMENTS:
        *out_matches = c->facts->attachments;
        return count_holds(cond, *out_matches, c->incomplete);
    case COND_SIZE_KB: /* the envelope knows it, whatever the scan saw */
        *out_matches = 1;
        return count_holds(cond, size_kb(c), false);
    case COND_DESTINATIONS:
        *out_matches = c->destinations;
        return count_holds(cond, *out_matches, false);
    case COND_FILE_NAME:
    case COND_FILE_TYPE:
    case COND_PROPERTY:
        return parts_hold(c, cond, out_matches);
    case COND_ALL:
        break;
    }
    *out_matches = 1;
    return TRUTH_YES;
}

enum truth condition_holds(const struct case_facts *c, const struct condition *cond, bool each_part,
                           uint32_t *out_matches)
{
    enum truth t = holds(c, cond, each_part, out_matches);

    if (!cond->negate)
        return t;
    *out_matches = 0;
    return t == TRUTH_UNKNOWN ? t : t == TRUTH_YES ? TRUTH_NO : TRUTH_YES;
}

static struct sv threshold_words(const struct condition *c, struct arena *a)
{
    switch (c->threshold) {
    case THRESHOLD_AT_LEAST:
        return arena_printf(a, "at least %u", (unsigned)c->low);
    case THRESHOLD_BETWEEN:
        return arena_printf(a, "between %u and %u", (unsigned)c->low, (unsigned)c->high);
    case THRESHOLD_NONE:
        break;
    }
    return SV("none");
}

static struct sv subject_words(const struct condition *c)
{
    switch (c->kind) {
    case COND_CLASSIFIER:
        return c->name;
    case COND_ATTACHMENTS:
        return SV("attachments");
    case COND_SIZE_KB:
        return SV("size in kb");
    case COND_DESTINATIONS:
        return SV("destinations");
    case COND_FILE_NAME:
        return SV("file name");
    case COND_FILE_TYPE:
        return SV("file type");
    case COND_PROPERTY:
        return SV("property");
    case COND_ALL:
        break;
    }
    return SV("everything");
}

/* What the subject is compared with. */
static struct sv object_words(const struct condition *c, struct arena *a)
{
    switch (c->kind) {
    case COND_CLASSIFIER:
    case COND_ATTACHMENTS:
    case COND_SIZE_KB:
    case COND_DESTINATIONS:
        return threshold_words(c, a);
    case COND_FILE_NAME:
    case COND_FILE_TYPE:
    case COND_PROPERTY:
        return c->name;
    case COND_ALL:
        break;
    }
    return SV("");
}

struct sv condition_words(const struct condition *cond, enum truth truth, uint32_t matches,
                          bool each_part, struct arena *a)
{
    struct sv subject = subject_words(cond), rest = object_words(cond, a);
    const char *negate = cond->negate ? "not " : "";

    if (cond->kind == COND_ALL)
        return subject;
    if (truth == TRUTH_UNKNOWN)
        return arena_printf(a, "%s%.*s %.*s: unknown, content was not fully read", negate,
                            SV_ARG(subject), SV_ARG(rest));
    if (cond->kind != COND_CLASSIFIER)
        return arena_printf(a, "%s%.*s %.*s", negate, SV_ARG(subject), SV_ARG(rest));
    return arena_printf(a, "%s%.*s %u%s, %.*s in %s", negate, SV_ARG(subject), (unsigned)matches,
                        cond->unique ? " unique" : "", SV_ARG(rest),
                        each_part ? "one part" : "whole message");
}
