/*
 * Transfer encodings and encoded words: see content/decode.h.
 *
 * SECURITY: hostile input. Every loop consumes at least one byte a turn; output goes into a bounded
 * buffer and is at most as long as the input (times three for charset conversion).
 */
#include "content/decode.h"
#include "base/utf8.h"

enum cte cte_parse(struct sv value)
{
    struct sv v = sv_trim(value);
    size_t end = 0;
    while (end < v.n && v.p[end] != ' ' && v.p[end] != '\t' && v.p[end] != ';' && v.p[end] != '(')
        end++;
    v = sv_take(v, end);
    if (v.n == 0 || sv_eq_nocase(v, SV("7bit")) || sv_eq_nocase(v, SV("8bit")) ||
        sv_eq_nocase(v, SV("binary")))
        return CTE_IDENTITY;
    if (sv_eq_nocase(v, SV("quoted-printable")))
        return CTE_QP;
    if (sv_eq_nocase(v, SV("base64")))
        return CTE_BASE64;
    if (sv_eq_nocase(v, SV("uuencode")) || sv_eq_nocase(v, SV("x-uuencode")) ||
        sv_eq_nocase(v, SV("x-uue")) || sv_eq_nocase(v, SV("uue")))
        return CTE_UUENCODE;
    return CTE_UNKNOWN;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

/* Length of a soft line break behind '=' (blanks that transport added, then CRLF or LF), 0 = none.
 */
static size_t soft_break(struct sv in, size_t i)
{
    size_t j = i;
    while (j < in.n && (in.p[j] == ' ' || in.p[j] == '\t'))
        j++;
    if (j == in.n)
        return j - i;
    if (in.p[j] == '\r' && j + 1 < in.n && in.p[j + 1] == '\n')
        return j + 2 - i;
    return in.p[j] == '\n' ? j + 1 - i : 0;
}

bool decode_qp(struct sv in, bool header, struct buf *out)
{
    if (in.n == 0 || buf_reserve(out, in.n))
        return in.n == 0;
    char *o = out->p + out->n;
    bool clean = true;
    size_t i = 0;
    while (i < in.n) {
        char c = in.p[i++];
        if (c != '=') {
            *o++ = header && c == '_' ? ' ' : c;
            continue;
        }
        int hi = i < in.n ? hex_value(in.p[i]) : -1;
        int lo = i + 1 < in.n ? hex_value(in.p[i + 1]) : -1;
        size_t soft = hi >= 0 && lo >= 0 ? 0 : soft_break(in, i);
        if (hi >= 0 && lo >= 0) {
            *o++ = (char)(hi * 16 + lo);
            i += 2;
        } else if (soft > 0 || i == in.n) {
            i += soft;
        } else {
            *o++ = '=';
            clean = false;
        }
    }
    out->n = (size_t)(o - out->p);
    return clean;
}

/* 64 = padding, 65 = white space, 66 = not of the alphabet */
#define B64_PAD   64
#define B64_SPACE 65
#define B64_JUNK  66

static uint8_t b64_class(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint8_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint8_t)(c - 'a' + 26);
    if (c >= '0' && c <= '9')
        return (uint8_t)(c - '0' + 52);
    if (c == '+')
        return 62;
    if (c == '/')
        return 63;
    if (c == '=')
        return B64_PAD;
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' ? B64_SPACE : B64_JUNK;
}

static void b64_table(uint8_t table[256])
{
    for (unsigned c = 0; c < 256; c++)
        table[c] = b64_class((uint8_t)c);
}

/* Whole quanta of four letters as long as they come: the fast part. Returns letters consumed. */
static size_t b64_run(const uint8_t *p, size_t n, const uint8_t table[256], char **out)
{
    char *o = *out;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint32_t a = table[p[i]], b = table[p[i + 1]], c = table[p[i + 2]], d = table[p[i + 3]];
        if ((a | b | c | d) >= 64)
            break;
        uint32_t v = a << 18 | b << 12 | c << 6 | d;
        o[0] = (char)(uint8_t)(v >> 16);
        o[1] = (char)(uint8_t)(v >> 8);
        o[2] = (char)(uint8_t)v;
        o += 3;
    }
    *out = o;
    return i;
}

/* Bytes of an unfinished quantum. */
static char *b64_flush(uint32_t acc, unsigned have, char *o)
{
    if (have == 2)
        *o++ = (char)(uint8_t)(acc >> 4);
    if (have == 3) {
        *o++ = (char)(uint8_t)(acc >> 10);
        *o++ = (char)(uint8_t)(acc >> 2);
    }
    return o;
}

bool decode_base64(struct sv in, struct buf *out)
{
    if (in.n == 0 || buf_reserve(out, in.n))
        return in.n == 0;
    uint8_t table[256];
    b64_table(table);
    const uint8_t *p = (const uint8_t *)in.p;
    char *o = out->p + out->n;
    bool clean = true;
    uint32_t acc = 0;
    unsigned have = 0;
    for (size_t i = 0; i < in.n;) {
        if (have == 0) {
            i += b64_run(p + i, in.n - i, table, &o);
            if (i >= in.n)
                break;
        }
        uint8_t v = table[p[i++]];
        if (v < 64) {
            acc = acc << 6 | v;
            if (++have < 4)
                continue;
            *o++ = (char)(uint8_t)(acc >> 16);
            *o++ = (char)(uint8_t)(acc >> 8);
            *o++ = (char)(uint8_t)acc;
            acc = have = 0;
        } else if (v == B64_PAD) {
            /* Concatenated base64 goes on behind its padding, as readers do. */
            o = b64_flush(acc, have, o);
            acc = have = 0;
        } else if (v == B64_JUNK) {
            clean = false;
        }
    }
    o = b64_flush(acc, have, o);
    out->n = (size_t)(o - out->p);
    return clean && have != 1;
}

/* "begin 644 name" at the start of a line. */
static bool uu_begin_line(struct sv line, struct sv *out_name)
{
    if (!sv_starts(line, SV("begin ")) || line.n < 11)
        return false;
    size_t i = 6;
    while (i < line.n && line.p[i] >= '0' && line.p[i] <= '7')
        i++;
    if (i < 9 || i > 11 || i >= line.n || line.p[i] != ' ')
        return false;
    *out_name = sv_trim(sv_skip(line, i));
    return out_name->n > 0;
}

bool uu_find(struct sv in, struct uu_block *out_block)
{
    size_t at = 0;
    while (at < in.n) {
        struct sv tail = sv_skip(in, at);
        size_t hit = sv_find(tail, SV("begin "));
        if (hit == SIZE_MAX)
            return false;
        struct sv rest = sv_skip(tail, hit);
        struct sv line = sv_cut(&rest, '\n');
        struct uu_block block;
        bool at_start = at + hit == 0 || in.p[at + hit - 1] == '\n';
        if (!at_start || !rest.p || !uu_begin_line(sv_trim(line), &block.name)) {
            at += hit + 6;
            continue;
        }
        size_t end = sv_find(rest, SV("\nend"));
        block.before = sv_take(in, at + hit);
        block.lines = sv_take(rest, end == SIZE_MAX ? rest.n : end + 1);
        block.rest = sv_skip(rest, block.lines.n);
        *out_block = block;
        return true;
    }
    return false;
}

static char *uu_line(struct sv line, char *o)
{
    size_t want = (size_t)((line.p[0] - ' ') & 0x3f);
    for (size_t i = 1; want > 0; i += 4) {
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            char c = i + k < line.n ? line.p[i + k] : '`';
            v = v << 6 | (uint32_t)((c - ' ') & 0x3f);
        }
        for (unsigned k = 0; k < 3 && want > 0; k++, want--)
            *o++ = (char)(uint8_t)(v >> (16 - 8 * k));
        if (i >= line.n)
            break;
    }
    return o;
}

bool decode_uu_lines(struct sv lines, struct buf *out)
{
    bool clean = true;
    struct sv rest = lines;
    while (rest.p && rest.n > 0) {
        struct sv line = sv_cut(&rest, '\n');
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        if (line.n == 0)
            continue;
        if (line.p[0] < ' ' || line.p[0] > '`') {
            clean = false;
            continue;
        }
        if (buf_reserve(out, 66))
            return false;
        char *o = uu_line(line, out->p + out->n);
        out->n = (size_t)(o - out->p);
    }
    return clean;
}

/* ---- encoded words (RFC 2047) ---- */

struct word {
    struct sv charset, text;
    char encoding;
    size_t len;
};

/* "=?charset*lang?Q?text?=" at the head of v. */
static bool word_parse(struct sv v, struct word *out_word)
{
    if (!sv_starts(v, SV("=?")))
        return false;
    struct sv rest = sv_skip(v, 2);
    size_t q = sv_find_byte(rest, '?');
    if (q == SIZE_MAX || q == 0 || q > 64 || q + 3 >= rest.n || rest.p[q + 2] != '?')
        return false;
    struct word w = {.charset = sv_take(rest, q), .encoding = rest.p[q + 1]};
    size_t star = sv_find_byte(w.charset, '*'); /* RFC 2231 section 5: language */
    if (star != SIZE_MAX)
        w.charset.n = star;
    if (!strchr("QqBb", w.encoding))
        return false;
    struct sv text = sv_skip(rest, q + 3);
    size_t end = sv_find(text, SV("?="));
    if (end == SIZE_MAX)
        return false;
    w.text = sv_take(text, end);
    w.len = 2 + q + 3 + end + 2;
    *out_word = w;
    return true;
}

/* Decoded bytes of adjacent words in one charset are joined before conversion, since senders split
 * characters between words. */
static bool word_flush(struct charsets *cs, struct sv charset, struct buf *bytes, struct buf *out)
{
    bool clean = true;
    if (bytes->n > 0) {
        struct charset_result r = charset_to_utf8(cs, charset, buf_sv(bytes), out);
        clean = r.clean;
    }
    buf_reset(bytes);
    return clean;
}

/* Copies raw text, without line breaks; 8-bit bytes are taken as UTF-8 or windows-1252. */
static void plain_put(struct charsets *cs, struct sv v, struct buf *out)
{
    if (!sv_is_ascii(v)) {
        (void)charset_to_utf8(cs, SV_NULL, v, out);
        return;
    }
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] != '\r' && v.p[i] != '\n')
            (void)buf_append_byte(out, v.p[i]);
    }
}

static bool all_space(struct sv v)
{
    return sv_trim(v).n == 0;
}

bool decode_header(struct charsets *cs, struct sv value, struct buf *out)
{
    struct sv v = sv_trim(value);
    if (sv_find(v, SV("=?")) == SIZE_MAX) {
        plain_put(cs, v, out);
        return true;
    }
    struct buf bytes;
    buf_init(&bytes, v.n + 16);
    struct sv charset = SV_NULL;
    bool clean = true;
    size_t plain = 0, i = 0; /* plain: start of text that is not yet copied */
    while (i < v.n) {
        struct word w;
        if (v.p[i] != '=' || !word_parse(sv_skip(v, i), &w)) {
            i++;
            continue;
        }
        struct sv gap = sv_of(v.p + plain, i - plain);
        bool joined = bytes.n > 0 && all_space(gap);
        if (!joined || !sv_eq_nocase(charset, w.charset))
            clean &= word_flush(cs, charset, &bytes, out);
        if (!joined)
            plain_put(cs, gap, out);
        charset = w.charset;
        bool b = w.encoding == 'B' || w.encoding == 'b';
        clean &= b ? decode_base64(w.text, &bytes) : decode_qp(w.text, true, &bytes);
        i += w.len;
        plain = i;
    }
    clean &= word_flush(cs, charset, &bytes, out);
    plain_put(cs, sv_skip(v, plain), out);
    buf_done(&bytes);
    return clean;
}
