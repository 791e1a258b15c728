#include "role/json.h"

#include "base/clock.h"
#include "base/enc.h"
#include "base/utf8.h"

#include <inttypes.h>

/* Bytes at the front that stand for themselves. */
static size_t plain_run(struct sv v)
{
    size_t n = 0;

    while (n < v.n && v.p[n] >= ' ' && v.p[n] <= '~' && v.p[n] != '"' && v.p[n] != '\\')
        n++;
    return n;
}

static void quote(struct buf *b, struct sv v)
{
    (void)buf_append_byte(b, '"');
    while (v.n) {
        size_t run = plain_run(v);
        (void)buf_append(b, v.p, run);
        v = sv_skip(v, run);
        if (!v.n)
            break;
        uint32_t cp = 0;
        size_t n = utf8_next(v, &cp);
        unsigned char c = (unsigned char)v.p[0];

        if (n == 0)
            (void)buf_printf(b, "\\u%04x", (unsigned)c);
        else if (c == '"' || c == '\\')
            (void)buf_printf(b, "\\%c", c);
        else if (c == '\n')
            (void)buf_append_sv(b, SV("\\n"));
        else if (c < 0x20 || c == 0x7f)
            (void)buf_printf(b, "\\u%04x", (unsigned)c);
        else
            (void)buf_append(b, v.p, n);
        v = sv_skip(v, n ? n : 1);
    }
    (void)buf_append_byte(b, '"');
}

/* Comma unless this is the first member, then the key. */
static void member(struct buf *b, const char *key)
{
    char last = b->n ? b->p[b->n - 1] : '{';

    if (last != '{' && last != '[' && last != '\n')
        (void)buf_append_byte(b, ',');
    if (key) {
        quote(b, sv_str(key));
        (void)buf_append_byte(b, ':');
    }
}

void jw_open(struct buf *b, const char *key)
{
    member(b, key);
    (void)buf_append_byte(b, '{');
}

void jw_close(struct buf *b)
{
    (void)buf_append_byte(b, '}');
}

void jw_array(struct buf *b, const char *key)
{
    member(b, key);
    (void)buf_append_byte(b, '[');
}

void jw_array_end(struct buf *b)
{
    (void)buf_append_byte(b, ']');
}

void jw_sv(struct buf *b, const char *key, struct sv v)
{
    member(b, key);
    quote(b, v);
}

void jw_str(struct buf *b, const char *key, const char *v)
{
    jw_sv(b, key, sv_str(v));
}

void jw_u64(struct buf *b, const char *key, uint64_t v)
{
    member(b, key);
    (void)buf_printf(b, "%" PRIu64, v);
}

void jw_i64(struct buf *b, const char *key, int64_t v)
{
    member(b, key);
    (void)buf_printf(b, "%" PRId64, v);
}

void jw_bool(struct buf *b, const char *key, bool v)
{
    jw_raw(b, key, v ? SV("true") : SV("false"));
}

void jw_time(struct buf *b, const char *key, int64_t wall_ms)
{
    char text[CLOCK_ISO_MAX];

    if (!wall_ms)
        jw_raw(b, key, SV("null"));
    else
        jw_sv(b, key, sv_of(text, clock_iso(wall_ms, text)));
}

void jw_id(struct buf *b, const char *key, uint64_t id)
{
    char text[ID_TEXT_LEN + 1];

    if (!id) {
        jw_raw(b, key, SV("null"));
        return;
    }
    id_format(id, text);
    jw_str(b, key, text);
}

void jw_raw(struct buf *b, const char *key, struct sv json)
{
    member(b, key);
    (void)buf_append_sv(b, json);
}
