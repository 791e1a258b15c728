/*
 * Growable byte buffer with a mandatory maximum. Appending past the maximum changes nothing, sets
 * buf->overflow and returns ERR_LIMIT; a builder may ignore single results and check overflow once.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/err.h"
#include "base/sv.h"

struct buf {
    char *p;
    size_t n;   /* bytes in use */
    size_t cap; /* bytes allocated */
    size_t max; /* hard limit of n */
    bool overflow;
};

void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b);
void buf_wipe(struct buf *b);                      /* buf_done for secrets; growing leaves copies */
void buf_reset(struct buf *b);                     /* n = 0, keeps memory, clears overflow */
void buf_release(struct buf *b);                   /* n = 0, frees memory, keeps max */
enum err buf_reserve(struct buf *b, size_t extra); /* room for extra bytes at p + n */
enum err buf_append(struct buf *b, const void *p, size_t n);
enum err buf_append_sv(struct buf *b, struct sv v);
enum err buf_append_byte(struct buf *b, char c);
enum err buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
void buf_consume(struct buf *b, size_t n); /* drops n bytes at the front (memmove) */

static inline struct sv buf_sv(const struct buf *b)
{
    return (struct sv){b->p, b->n};
}

#endif
