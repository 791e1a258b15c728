#include "base/sv.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool same_nocase(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (lower(a[i]) != lower(b[i]))
            return false;
    return true;
}

bool sv_eq(struct sv a, struct sv b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool sv_eq_nocase(struct sv a, struct sv b)
{
    return a.n == b.n && same_nocase(a.p, b.p, a.n);
}

int sv_cmp(struct sv a, struct sv b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;

    return c ? c : (a.n > b.n) - (a.n < b.n);
}

bool sv_starts(struct sv v, struct sv prefix)
{
    return v.n >= prefix.n && sv_eq(sv_take(v, prefix.n), prefix);
}

bool sv_starts_nocase(struct sv v, struct sv prefix)
{
    return v.n >= prefix.n && same_nocase(v.p, prefix.p, prefix.n);
}

bool sv_ends_nocase(struct sv v, struct sv suffix)
{
    return v.n >= suffix.n && sv_eq_nocase(sv_skip(v, v.n - suffix.n), suffix);
}

struct sv sv_skip(struct sv v, size_t n)
{
    if (!v.p)
        return v;
    return n < v.n ? (struct sv){v.p + n, v.n - n} : (struct sv){v.p + v.n, 0};
}

struct sv sv_take(struct sv v, size_t n)
{
    return (struct sv){v.p, n < v.n ? n : v.n};
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct sv sv_trim(struct sv v)
{
    while (v.n && blank(v.p[0]))
        v = sv_skip(v, 1);
    while (v.n && blank(v.p[v.n - 1]))
        v.n--;
    return v;
}

size_t sv_find_byte(struct sv v, char c)
{
    const char *p = v.n ? memchr(v.p, c, v.n) : NULL;

    return p ? (size_t)(p - v.p) : SIZE_MAX;
}

size_t sv_rfind_byte(struct sv v, char c)
{
    const char *p = v.n ? memrchr(v.p, c, v.n) : NULL;

    return p ? (size_t)(p - v.p) : SIZE_MAX;
}

size_t sv_find(struct sv v, struct sv needle)
{
    if (needle.n == 0)
        return 0;
    const char *p = v.n >= needle.n ? memmem(v.p, v.n, needle.p, needle.n) : NULL;

    return p ? (size_t)(p - v.p) : SIZE_MAX;
}

struct sv sv_cut(struct sv *rest, char sep)
{
    size_t at = sv_find_byte(*rest, sep);
    struct sv head = *rest;

    if (at == SIZE_MAX) {
        *rest = SV_NULL;
        return head;
    }
    *rest = sv_skip(*rest, at + 1);
    return sv_take(head, at);
}

bool sv_to_u64(struct sv v, uint64_t min, uint64_t max, uint64_t *out_value)
{
    uint64_t x = 0;

    if (v.n == 0)
        return false;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(x, 10U, &x) ||
            __builtin_add_overflow(x, (uint64_t)(v.p[i] - '0'), &x))
            return false;
    }
    if (x < min || x > max)
        return false;
    *out_value = x;
    return true;
}
