/*
 * Tolerant HTML tokenizer: see content/html.h.
 *
 * SECURITY: hostile input, malformed on purpose. One pass, no recursion, no tree; each function
 * returns a position behind the one it was given. Searches for an end that does not exist are
 * remembered (`no_*`), so that a thousand "<!--" without "-->" stay linear.
 */
#include "content/html.h"
#include "base/utf8.h"

struct html {
    struct sv in;
    struct buf *text, *extra;
    bool no_comment_end, no_close;
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}
static bool is_alpha(char c)
{
    c = lower(c);
    return c >= 'a' && c <= 'z';
}
static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f';
}

/* ---- entities ---- */

struct entity {
    const char *name;
    uint32_t cp;
};
/* Those that matter between digits and words; others stay as written. */
static const struct entity entities[] = {
    {"amp", '&'},        {"lt", '<'},
    {"gt", '>'},         {"quot", '"'},
    {"apos", '\''},      {"nbsp", 0xa0},
    {"shy", 0xad},       {"ensp", 0x2002},
    {"emsp", 0x2003},    {"thinsp", 0x2009},
    {"zwnj", 0x200c},    {"zwj", 0x200d},
    {"lrm", 0x200e},     {"rlm", 0x200f},
    {"ndash", 0x2013},   {"mdash", 0x2014},
    {"hyphen", 0x2010},  {"dash", 0x2010},
    {"minus", 0x2212},   {"bull", 0x2022},
    {"middot", 0xb7},    {"hellip", 0x2026},
    {"numsp", 0x2007},   {"puncsp", 0x2008},
    {"hairsp", 0x200a},  {"period", '.'},
    {"comma", ','},      {"colon", ':'},
    {"semi", ';'},       {"num", '#'},
    {"sol", '/'},        {"lowbar", '_'},
    {"Tab", '\t'},       {"NewLine", '\n'},
    {"excl", '!'},       {"commat", '@'},
    {"lpar", '('},       {"rpar", ')'},
    {"horbar", 0x2015},  {"ZeroWidthSpace", 0x200b},
    {"NoBreak", 0x2060}, {"NonBreakingSpace", 0xa0},
    {"auml", 0xe4},      {"ouml", 0xf6},
    {"uuml", 0xfc},      {"Auml", 0xc4},
    {"Ouml", 0xd6},      {"Uuml", 0xdc},
    {"szlig", 0xdf},     {"eacute", 0xe9},
    {"egrave", 0xe8},    {"agrave", 0xe0},
    {"aacute", 0xe1},    {"iacute", 0xed},
    {"oacute", 0xf3},    {"uacute", 0xfa},
    {"ntilde", 0xf1},    {"ccedil", 0xe7},
    {"Eacute", 0xc9},    {"ecirc", 0xea},
    {"acirc", 0xe2},     {"ocirc", 0xf4},
    {"aring", 0xe5},     {"oslash", 0xf8},
    {"aelig", 0xe6},     {"euro", 0x20ac},
    {"pound", 0xa3},     {"copy", 0xa9},
    {"reg", 0xae},       {"trade", 0x2122},
    {"sect", 0xa7},      {"deg", 0xb0},
    {"lsquo", 0x2018},   {"rsquo", 0x2019},
    {"ldquo", 0x201c},   {"rdquo", 0x201d},
    {"laquo", 0xab},     {"raquo", 0xbb},
    {"yen", 0xa5},       {"cent", 0xa2},
    {"atilde", 0xe3},    {"otilde", 0xf5},
};

static int digit_value(char c, uint32_t base)
{
    int v = -1;
    if (c >= '0' && c <= '9')
        v = c - '0';
    else if (lower(c) >= 'a' && lower(c) <= 'f')
        v = lower(c) - 'a' + 10;
    return v >= 0 && (uint32_t)v < base ? v : -1;
}

/* v starts at '&'. Length of the entity and its code point, 0 = none. */
static size_t entity_numeric(struct sv v, uint32_t *out_cp)
{
    size_t i = 2;
    uint32_t base = 10, cp = 0;
    if (i < v.n && lower(v.p[i]) == 'x') {
        base = 16;
        i++;
    }
    size_t start = i;
    for (; i < v.n && i < start + 12; i++) {
        int d = digit_value(v.p[i], base);
        if (d < 0)
            break;
        cp = cp > 0x110000 ? cp : cp * base + (uint32_t)d;
    }
    if (i == start)
        return 0;
    *out_cp = cp == 0 || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000) ? 0xfffd : cp;
    return i < v.n && v.p[i] == ';' ? i + 1 : i;
}

static size_t entity_next(struct sv v, uint32_t *out_cp)
{
    if (v.n > 2 && v.p[1] == '#')
        return entity_numeric(v, out_cp);
    size_t i = 1;
    while (i < v.n && i < 20 && (is_alpha(v.p[i]) || (v.p[i] >= '0' && v.p[i] <= '9')))
        i++;
    struct sv name = sv_of(v.p + 1, i - 1);
    for (size_t k = 0; k < ARRAY_LEN(entities); k++) {
        if (sv_eq(name, sv_str(entities[k].name))) {
            *out_cp = entities[k].cp;
            return i < v.n && v.p[i] == ';' ? i + 1 : i;
        }
    }
    return 0;
}

/* Text with its entities resolved, as written. */
static void put_text(struct sv v, struct buf *out)
{
    while (v.n > 0) {
        size_t amp = sv_find_byte(v, '&');
        (void)buf_append_sv(out, sv_take(v, amp));
        if (amp == SIZE_MAX)
            return;
        v = sv_skip(v, amp);
        uint32_t cp = '&';
        size_t len = entity_next(v, &cp);
        char bytes[4];
        (void)buf_append(out, bytes, utf8_put(cp, bytes));
        v = sv_skip(v, len > 0 ? len : 1);
    }
}

static bool ends_in_space(const struct buf *out)
{
    return out->n == 0 || is_space(out->p[out->n - 1]);
}

/* Text between tags: a run of white space is one blank, line breaks of the source included. */
static void put_flow(struct sv v, struct buf *out)
{
    size_t i = 0;
    while (i < v.n) {
        size_t start = i;
        while (i < v.n && !is_space(v.p[i]))
            i++;
        put_text(sv_of(v.p + start, i - start), out);
        start = i;
        while (i < v.n && is_space(v.p[i]))
            i++;
        if (i > start && !ends_in_space(out))
            (void)buf_append_byte(out, ' ');
    }
}

/* ---- tags ---- */

enum tag_kind { TAG_INLINE, TAG_BLOCK, TAG_CELL, TAG_RAW };

static bool in_list(struct sv name, const char *const *list)
{
    for (; *list; list++) {
        if (sv_eq_nocase(name, sv_str(*list)))
            return true;
    }
    return false;
}

static enum tag_kind tag_kind(struct sv name)
{
    static const char *const block[] = {
        "p",      "div",     "br",      "tr",       "table",      "ul",     "ol",
        "li",     "dl",      "dt",      "dd",       "h1",         "h2",     "h3",
        "h4",     "h5",      "h6",      "hr",       "pre",        "body",   "html",
        "head",   "title",   "form",    "section",  "article",    "header", "footer",
        "main",   "nav",     "aside",   "address",  "blockquote", "center", "fieldset",
        "tbody",  "thead",   "tfoot",   "caption",  "option",     "select", "textarea",
        "figure", "details", "summary", "noscript", "xmp",        NULL};
    static const char *const cell[] = {"td", "th", NULL};
    static const char *const raw[] = {"script", "style", "template", NULL};
    if (in_list(name, cell))
        return TAG_CELL;
    if (in_list(name, raw))
        return TAG_RAW;
    return in_list(name, block) ? TAG_BLOCK : TAG_INLINE;
}

/* Position behind the name that starts at i. */
static size_t name_end(struct sv in, size_t i)
{
    while (i < in.n && !is_space(in.p[i]) && in.p[i] != '>' && in.p[i] != '/' && in.p[i] != '=')
        i++;
    return i;
}

/* Value of an attribute at i (behind '='); *out_value without quotes. */
static size_t attr_value(struct sv in, size_t i, struct sv *out_value)
{
    while (i < in.n && is_space(in.p[i]))
        i++;
    if (i < in.n && (in.p[i] == '"' || in.p[i] == '\'')) {
        struct sv rest = sv_skip(in, i + 1);
        size_t end = sv_find_byte(rest, in.p[i]);
        if (end != SIZE_MAX) {
            *out_value = sv_take(rest, end);
            return i + 1 + end + 1;
        }
        i++; /* an unclosed quote ends where an unquoted value would */
    }
    size_t start = i;
    while (i < in.n && !is_space(in.p[i]) && in.p[i] != '>')
        i++;
    *out_value = sv_of(in.p + start, i - start);
    return i;
}

/* Attributes that carry layout only: no text of a person. */
static bool attr_is_noise(struct sv name)
{
    static const char *const noise[] = {"style", "class",   "id",    "width",  "height",
                                        "color", "border",  "align", "valign", "face",
                                        "size",  "bgcolor", NULL};
    return in_list(name, noise);
}

/* Attributes from i to behind '>'. */
static size_t attrs_skip(struct html *h, size_t i)
{
    struct sv in = h->in;
    while (i < in.n && in.p[i] != '>') {
        if (is_space(in.p[i]) || in.p[i] == '/' || in.p[i] == '=') {
            i++;
            continue;
        }
        size_t start = i;
        i = name_end(in, i);
        struct sv name = sv_of(in.p + start, i - start);
        while (i < in.n && is_space(in.p[i]))
            i++;
        if (i >= in.n || in.p[i] != '=')
            continue;
        struct sv value = SV_NULL;
        i = attr_value(in, i + 1, &value);
        if (value.n > 0 && !attr_is_noise(name)) {
            (void)buf_append_sv(h->extra, name);
            (void)buf_append_byte(h->extra, ' ');
            put_text(value, h->extra);
            (void)buf_append_byte(h->extra, '\n');
        }
    }
    return i < in.n ? i + 1 : i;
}

static void extra_line(struct html *h, struct sv v)
{
    (void)buf_append_sv(h->extra, v);
    (void)buf_append_byte(h->extra, '\n');
}

/* "</name" from i on, SIZE_MAX = none. */
static size_t raw_end(struct html *h, size_t i, struct sv name)
{
    while (!h->no_close && i < h->in.n) {
        struct sv rest = sv_skip(h->in, i);
        size_t at = sv_find(rest, SV("</"));
        if (at == SIZE_MAX)
            break;
        if (sv_starts_nocase(sv_skip(rest, at + 2), name))
            return i + at;
        i += at + 2;
    }
    return SIZE_MAX;
}

/* Element whose content is no markup: everything up to its end tag is extra text. Without an end
 * tag the rest of the document is scanned as markup: nothing hides behind an unclosed <script>. */
static size_t raw_skip(struct html *h, size_t i, struct sv name)
{
    size_t end = raw_end(h, i, name);
    if (end == SIZE_MAX) {
        h->no_close = true;
        return i;
    }
    extra_line(h, sv_of(h->in.p + i, end - i));
    return end;
}

static size_t comment_skip(struct html *h, size_t i)
{
    struct sv rest = sv_skip(h->in, i + 4);
    size_t end = h->no_comment_end ? SIZE_MAX : sv_find(rest, SV("-->"));
    if (end == SIZE_MAX) {
        h->no_comment_end = true;
        return i + 4;
    }
    extra_line(h, sv_take(rest, end));
    return i + 4 + end + 3;
}

/* <!doctype ...>, <?xml ...>, <![if ...]> */
static size_t declaration_skip(struct html *h, size_t i)
{
    struct sv rest = sv_skip(h->in, i);
    if (sv_starts(rest, SV("<![CDATA[")))
        return i + 9;
    size_t end = sv_find_byte(rest, '>');
    if (end == SIZE_MAX)
        return i + 1;
    extra_line(h, sv_take(rest, end));
    return i + end + 1;
}

/* Tag at i, whose '<' is followed by a letter or "/letter". */
static size_t tag_skip(struct html *h, size_t i)
{
    bool closing = h->in.p[i + 1] == '/';
    size_t start = i + 1 + closing;
    size_t end = name_end(h->in, start);
    struct sv name = sv_of(h->in.p + start, end - start);
    size_t next = attrs_skip(h, end);
    switch (tag_kind(name)) {
    case TAG_INLINE:
        break;
    case TAG_BLOCK:
        if (h->text->n > 0 && h->text->p[h->text->n - 1] != '\n')
            (void)buf_append_byte(h->text, '\n');
        break;
    case TAG_CELL:
        if (!closing)
            (void)buf_append_byte(h->text, '\t');
        break;
    case TAG_RAW:
        if (!closing)
            return raw_skip(h, next, name);
        break;
    }
    return next;
}

static size_t markup_skip(struct html *h, size_t i)
{
    struct sv rest = sv_skip(h->in, i);
    char c = rest.n > 1 ? rest.p[1] : '\0';
    if (sv_starts(rest, SV("<!--")))
        return comment_skip(h, i);
    if (c == '!' || c == '?')
        return declaration_skip(h, i);
    if (is_alpha(c) || (c == '/' && rest.n > 2 && is_alpha(rest.p[2])))
        return tag_skip(h, i);
    (void)buf_append_byte(h->text, '<');
    return i + 1;
}

void html_to_text(struct sv html, struct buf *out_text, struct buf *out_extra)
{
    struct html h = {html, out_text, out_extra, false, false};
    size_t i = 0;
    while (i < html.n) {
        struct sv rest = sv_skip(html, i);
        size_t lt = sv_find_byte(rest, '<');
        put_flow(sv_take(rest, lt), out_text);
        if (lt == SIZE_MAX)
            return;
        i = markup_skip(&h, i + lt);
    }
}

struct sv html_meta_charset(struct sv html)
{
    struct sv head = sv_take(html, 1024);
    for (size_t at = sv_find(head, SV("charset=")); at != SIZE_MAX;
         at = sv_find(head, SV("charset="))) {
        head = sv_skip(head, at + 8);
        size_t start = head.n > 0 && (head.p[0] == '"' || head.p[0] == '\'') ? 1 : 0, end = start;
        while (end < head.n && !is_space(head.p[end]) && !strchr("\"'>;/", head.p[end]))
            end++;
        if (end > start)
            return sv_of(head.p + start, end - start);
    }
    return SV_NULL;
}
