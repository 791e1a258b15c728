#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ALIGN       ((size_t)16)
#define CHUNK_FIRST ((size_t)4096)
#define CHUNK_MOST  ((size_t)256 * 1024)
/* A first chunk beyond this is given back by arena_reset. */
#define CHUNK_KEEP ((size_t)64 * 1024)

struct arena_chunk {
    _Alignas(16) struct arena_chunk *next; /* older chunk */
    size_t size, used;
    _Alignas(16) char data[];
};

void arena_init(struct arena *a, size_t cap)
{
    *a = (struct arena){.cap = cap};
}

static void free_chunks(struct arena_chunk *c)
{
    while (c) {
        struct arena_chunk *next = c->next;

        free(c);
        c = next;
    }
}

void arena_done(struct arena *a)
{
    free_chunks(a->head);
    arena_init(a, a->cap);
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *c = a->head;

    while (c && c->next) {
        struct arena_chunk *next = c->next;

        free(c);
        c = next;
    }
    if (c && c->size > CHUNK_KEEP) {
        free(c);
        c = NULL;
    }
    if (c)
        c->used = 0;
    a->head = c;
    a->used = 0;
    a->overflow = false;
}

static struct arena_chunk *grow(struct arena *a, size_t n)
{
    size_t size = a->head ? a->head->size * 2 : CHUNK_FIRST;

    if (size > CHUNK_MOST)
        size = CHUNK_MOST;
    if (size < n)
        size = n;
    struct arena_chunk *c = malloc(sizeof(*c) + size);
    if (!c)
        return NULL;
    c->next = a->head;
    c->size = size;
    c->used = 0;
    a->head = c;
    return c;
}

void *arena_alloc(struct arena *a, size_t n)
{
    if (n > a->cap || a->used > a->cap - n) {
        a->overflow = true;
        return NULL;
    }
    /* Cannot wrap: n <= cap, and no arena is as large as the address space. */
    size_t need = n ? (n + ALIGN - 1) & ~(ALIGN - 1) : ALIGN;
    struct arena_chunk *c = a->head;

    if (need < n || !c || c->size - c->used < need)
        c = need < n ? NULL : grow(a, need);
    if (!c) {
        a->overflow = true;
        return NULL;
    }
    char *p = c->data + c->used;

    c->used += need;
    a->used += n;
    memset(p, 0, need);
    return p;
}

void *arena_calloc(struct arena *a, size_t count, size_t size)
{
    size_t n;

    if (__builtin_mul_overflow(count, size, &n)) {
        a->overflow = true;
        return NULL;
    }
    return arena_alloc(a, n);
}

char *arena_cstr(struct arena *a, struct sv v)
{
    char *p = v.n < SIZE_MAX ? arena_alloc(a, v.n + 1) : NULL;

    if (!p) {
        a->overflow = true;
        return NULL;
    }
    if (v.n)
        memcpy(p, v.p, v.n);
    return p;
}

struct sv arena_sv(struct arena *a, struct sv v)
{
    char *p = arena_cstr(a, v);

    return p ? (struct sv){p, v.n} : SV_NULL;
}

struct sv arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n >= 0 ? arena_alloc(a, (size_t)n + 1) : NULL;

    if (!p) {
        a->overflow = true;
        return SV_NULL;
    }
    va_start(ap, fmt);
    (void)vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return (struct sv){p, (size_t)n};
}
