/*
 * Bump allocator with a hard cap. One per transaction, request or decision; freed or reset as a
 * whole. Past the cap arena_alloc returns NULL and arena->overflow stays set, so that a builder can
 * check once at its end. Memory is zeroed and 16-byte aligned.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/sv.h"
#include <stdbool.h>
#include <stddef.h>

struct arena_chunk;
struct arena {
    struct arena_chunk *head;
    size_t used; /* bytes handed out */
    size_t cap;  /* maximum of used */
    bool overflow;
};

void arena_init(struct arena *a, size_t cap);
void arena_done(struct arena *a);  /* frees everything */
void arena_reset(struct arena *a); /* keeps the first chunk */
void *arena_alloc(struct arena *a, size_t n);
void *arena_calloc(struct arena *a, size_t count, size_t size); /* overflow-checked */
/* Copy of v with a NUL behind it (not counted). On overflow SV_NULL. */
struct sv arena_sv(struct arena *a, struct sv v);
char *arena_cstr(struct arena *a, struct sv v);
struct sv arena_printf(struct arena *a, const char *fmt, ...) PRINTF(2, 3);

#define ARENA_NEW(a, type)      ((type *)arena_alloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, n) ((type *)arena_calloc((a), (n), sizeof(type)))

#endif
