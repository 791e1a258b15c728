/*
 * The commonest mail, a single text/plain without parameters worth the name, needs no MIME parser.
 * Everything that is not plainly of that kind goes to GMime; scan_test.c holds both to equal facts.
 *
 * SECURITY: refuses whatever it does not understand; takes spans of the caller's bytes only.
 */
#include "base/utf8.h"
#include "codec/header.h"
#include "content/scan_int.h"

static bool is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
}

static struct sv token(struct sv *v)
{
    size_t n = 0;
    while (n < v->n && is_token_char(v->p[n]))
        n++;
    struct sv t = sv_take(*v, n);
    *v = sv_skip(*v, n);
    return t;
}

static bool eat(struct sv *v, char c)
{
    if (v->n == 0 || v->p[0] != c)
        return false;
    *v = sv_skip(*v, 1);
    return true;
}

static void skip_space(struct sv *v)
{
    while (v->n && (v->p[0] == ' ' || v->p[0] == '\t' || v->p[0] == '\r' || v->p[0] == '\n'))
        *v = sv_skip(*v, 1);
}

static bool is_known_param(struct sv name)
{
    return sv_eq_nocase(name, SV("charset")) || sv_eq_nocase(name, SV("format")) ||
           sv_eq_nocase(name, SV("delsp"));
}

/* "; charset=utf-8; format=flowed", with or without quotes. */
static bool params(struct sv v, struct sv *out_charset)
{
    uint32_t seen = 0;
    for (skip_space(&v); v.n > 0; skip_space(&v)) {
        if (!eat(&v, ';'))
            return false;
        skip_space(&v);
        if (v.n == 0)
            return true;
        struct sv name = token(&v);
        if (!is_known_param(name) || !eat(&v, '='))
            return false;
        bool quoted = eat(&v, '"');
        struct sv value = token(&v);
        if (value.n == 0 || (quoted && !eat(&v, '"')))
            return false;
        if (sv_eq_nocase(name, SV("charset"))) {
            if (seen++)
                return false;
            *out_charset = value;
        }
    }
    return true;
}

static bool content_type(struct sv value, struct sv *out_charset)
{
    struct sv v = value;
    skip_space(&v);
    if (!sv_starts_nocase(v, SV("text/plain")))
        return false;
    v = sv_skip(v, strlen("text/plain"));
    return params(v, out_charset);
}

struct seen {
    bool type, cte;
};

/* false: something about MIME that this path does not know. */
static bool field_take(const struct header_field *f, struct leaf *leaf, struct seen *seen)
{
    if (f->name.n == 0 || !sv_is_ascii(f->raw) || memchr(f->raw.p, 0, f->raw.n))
        return false;
    if (!sv_starts_nocase(f->name, SV("content-")))
        return true;
    if (sv_eq_nocase(f->name, SV("content-type"))) {
        bool first = !seen->type;
        seen->type = true;
        return first && content_type(f->value, &leaf->charset);
    }
    if (sv_eq_nocase(f->name, SV("content-transfer-encoding"))) {
        bool first = !seen->cte;
        seen->cte = true;
        leaf->cte = cte_parse(f->value);
        return first && leaf->cte != CTE_UNKNOWN && leaf->cte != CTE_UUENCODE;
    }
    return sv_eq_nocase(f->name, SV("content-language")) ||
           sv_eq_nocase(f->name, SV("content-length"));
}

bool fast_leaf(struct job *j, struct sv message, struct leaf *out_leaf)
{
    struct leaf leaf = {.path = SV("1"),
                        .type = SV("text/plain"),
                        .charset = SV(""),
                        .name = SV(""),
                        .smime = SV("")};
    struct seen seen = {false, false};
    struct sv rest = message;
    struct header_field field;
    if (j->recover || j->structure)
        return false;
    while (header_next(&rest, &field)) {
        if (!field_take(&field, &leaf, &seen))
            return false;
    }
    if (!eat(&rest, '\r') || !eat(&rest, '\n'))
        return false;
    leaf.raw = rest;
    if (leaf.charset.n > 0)
        leaf.charset = arena_sv(j->a, leaf.charset);
    j->mime_parts++;
    *out_leaf = leaf;
    return true;
}
