#include "base/err.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

PRINTF(4, 0)
static void fill(struct errinfo *info, enum err code, int sys, const char *fmt, va_list ap)
{
    if (!info)
        return;
    info->code = code;
    info->sys = sys;
    (void)vsnprintf(info->text, sizeof(info->text), fmt, ap);
    for (char *p = info->text; *p; p++)
        if (*p == '\n' || *p == '\r')
            *p = ' ';
}

enum err err_set(struct errinfo *info, enum err code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fill(info, code, 0, fmt, ap);
    va_end(ap);
    return code;
}

enum err err_set_sys(struct errinfo *info, enum err code, int sys, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fill(info, code, sys, fmt, ap);
    va_end(ap);
    if (info && sys) {
        size_t n = strlen(info->text);
        char room[64];
        const char *why = strerror_r(sys, room, sizeof(room));

        (void)snprintf(info->text + n, sizeof(info->text) - n, ": %s", why);
    }
    return code;
}

const char *err_name(enum err code)
{
    switch (code) {
    case ERR_OK:
        return "ok";
    case ERR_LIMIT:
        return "limit";
    case ERR_SYNTAX:
        return "syntax";
    case ERR_CLOSED:
        return "closed";
    case ERR_TIMEOUT:
        return "timeout";
    case ERR_DENIED:
        return "denied";
    case ERR_NOTFOUND:
        return "not-found";
    case ERR_CONFLICT:
        return "conflict";
    case ERR_IO:
        return "io";
    case ERR_NOSPACE:
        return "no-space";
    case ERR_CORRUPT:
        return "corrupt";
    case ERR_AGAIN:
        return "again";
    case ERR_BUG:
        return "bug";
    }
    return "unknown";
}
