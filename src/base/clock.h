/* Time is a parameter: sampled once per loop turn and passed down. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

struct clock {
    int64_t mono_ms; /* CLOCK_MONOTONIC */
    int64_t wall_ms; /* ms since 1970-01-01 UTC */
};

struct clock clock_now(void); /* the only reader of system time; impure */
/* RFC 5322 date-time in UTC, e.g. "Tue, 24 Nov 2026 05:36:00 +0000" (31 bytes + NUL). Pure. */
#define CLOCK_RFC5322_MAX 40
size_t clock_rfc5322(int64_t wall_ms, char out_text[CLOCK_RFC5322_MAX]);
/* ISO 8601 UTC with ms: "2026-11-24T05:36:00.123Z". Pure. */
#define CLOCK_ISO_MAX 32
size_t clock_iso(int64_t wall_ms, char out_text[CLOCK_ISO_MAX]);

#endif
