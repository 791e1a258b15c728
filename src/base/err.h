/*
 * Errors. A function that can fail returns enum err (checked by NODISCARD); detail for a human
 * travels in a caller-supplied struct errinfo (may be NULL). Output parameters stay untouched on
 * failure. Domain answers (accept/defer/reject, yes/no/unknown) are enums of their own, never
 * these.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/attr.h"
#include <stdint.h>

enum err {
    ERR_OK = 0,
    ERR_LIMIT,    /* a named limit was reached */
    ERR_SYNTAX,   /* malformed input */
    ERR_CLOSED,   /* the peer or file ended */
    ERR_TIMEOUT,  /* a deadline passed */
    ERR_DENIED,   /* not permitted */
    ERR_NOTFOUND, /* no such thing */
    ERR_CONFLICT, /* exists already, or state does not allow it */
    ERR_IO,       /* errno in errinfo.sys */
    ERR_NOSPACE,  /* disk or reserve exhausted */
    ERR_CORRUPT,  /* check failed on stored data */
    ERR_AGAIN,    /* would block; try later */
    ERR_BUG       /* a broken invariant of ours */
};

struct errinfo {
    enum err code;
    int sys;        /* errno or 0 */
    uint32_t line;  /* line in a text input, 0 = none */
    char file[128]; /* file of a text input, "" = none */
    char key[64];   /* setting or field, "" = none */
    char text[256]; /* one sentence, no newline */
};

/* Fills *info (NULL allowed) and returns code, so that `return err_set(...)` reads well. */
enum err err_set(struct errinfo *info, enum err code, const char *fmt, ...) PRINTF(3, 4);
enum err err_set_sys(struct errinfo *info, enum err code, int sys, const char *fmt, ...)
    PRINTF(4, 5);
const char *err_name(enum err code);

#endif
