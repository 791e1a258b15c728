/* String view: {pointer, length} by value. Never owns, never relies on a final NUL. */
#ifndef BASE_SV_H
#define BASE_SV_H

#include "base/attr.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct sv {
    const char *p;
    size_t n;
};

#define SV(lit) ((struct sv){(lit), sizeof(lit) - 1})
#define SV_NULL ((struct sv){NULL, 0})
/* printf("%.*s", SV_ARG(v)) */
#define SV_ARG(v) (int)((v).n > 4096 ? 4096 : (v).n), ((v).p ? (v).p : "")

static inline struct sv sv_of(const char *p, size_t n)
{
    return (struct sv){p, n};
}
static inline struct sv sv_str(const char *cstr)
{
    return (struct sv){cstr, cstr ? strlen(cstr) : 0};
}
static inline bool sv_empty(struct sv v)
{
    return v.n == 0;
}
bool sv_eq(struct sv a, struct sv b);
bool sv_eq_nocase(struct sv a, struct sv b); /* ASCII case only */
int sv_cmp(struct sv a, struct sv b);        /* bytewise, shorter first */
bool sv_starts(struct sv v, struct sv prefix);
bool sv_starts_nocase(struct sv v, struct sv prefix);
bool sv_ends_nocase(struct sv v, struct sv suffix);
struct sv sv_skip(struct sv v, size_t n); /* n may exceed the length: empty result */
struct sv sv_take(struct sv v, size_t n);
struct sv sv_trim(struct sv v); /* SP, HTAB, CR, LF on both ends */
/* Index of the byte / of the substring, or SIZE_MAX. */
size_t sv_find_byte(struct sv v, char c);
size_t sv_rfind_byte(struct sv v, char c);
size_t sv_find(struct sv v, struct sv needle);
/* Cuts *rest at the first sep; returns the part before it. *rest becomes empty at the end (p ==
 * NULL once exhausted, so `while (rest.p)` visits every field, empty ones included). */
struct sv sv_cut(struct sv *rest, char sep);
/* Whole view as unsigned decimal within [min, max]; false on anything else. */
NODISCARD bool sv_to_u64(struct sv v, uint64_t min, uint64_t max, uint64_t *out_value);

#endif
