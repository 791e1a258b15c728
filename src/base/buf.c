#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_FIRST ((size_t)256)

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_done(struct buf *b)
{
    free(b->p);
    *b = (struct buf){0};
}

void buf_wipe(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    buf_done(b);
}

void buf_reset(struct buf *b)
{
    b->n = 0;
    b->overflow = false;
}

void buf_release(struct buf *b)
{
    free(b->p);
    buf_init(b, b->max);
}

static enum err full(struct buf *b)
{
    b->overflow = true;
    return ERR_LIMIT;
}

enum err buf_reserve(struct buf *b, size_t extra)
{
    if (extra <= b->cap - b->n && extra <= b->max - b->n)
        return ERR_OK;
    if (b->n > b->max || extra > b->max - b->n)
        return full(b);
    size_t need = b->n + extra;
    size_t cap = b->cap > SIZE_MAX / 2 ? need : b->cap * 2;

    if (cap < BUF_FIRST)
        cap = BUF_FIRST;
    if (cap < need)
        cap = need;
    if (cap > b->max)
        cap = b->max;
    char *p = realloc(b->p, cap);
    if (!p)
        return full(b);
    b->p = p;
    b->cap = cap;
    return ERR_OK;
}

enum err buf_append(struct buf *b, const void *p, size_t n)
{
    if (n == 0)
        return ERR_OK;
    enum err e = buf_reserve(b, n);
    if (e)
        return e;
    memcpy(b->p + b->n, p, n);
    b->n += n;
    return ERR_OK;
}

enum err buf_append_sv(struct buf *b, struct sv v)
{
    return buf_append(b, v.p, v.n);
}

enum err buf_append_byte(struct buf *b, char c)
{
    if (b->n < b->cap && b->n < b->max) {
        b->p[b->n++] = c;
        return ERR_OK;
    }
    return buf_append(b, &c, 1);
}

enum err buf_printf(struct buf *b, const char *fmt, ...)
{
    char room[512];
    va_list ap;

    va_start(ap, fmt);
    int len = vsnprintf(room, sizeof(room), fmt, ap);
    va_end(ap);
    if (len < 0)
        return full(b);
    size_t n = (size_t)len;
    if (n < sizeof(room))
        return buf_append(b, room, n);

    /* vsnprintf writes a final NUL; that byte may lie beyond the maximum, hence the extra copy. */
    char *p = n <= b->max - b->n ? malloc(n + 1) : NULL;
    if (!p)
        return full(b);
    va_start(ap, fmt);
    (void)vsnprintf(p, n + 1, fmt, ap);
    va_end(ap);
    enum err e = buf_append(b, p, n);
    free(p);
    return e;
}

void buf_consume(struct buf *b, size_t n)
{
    if (n >= b->n) {
        b->n = 0;
        return;
    }
    if (n)
        memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
}
