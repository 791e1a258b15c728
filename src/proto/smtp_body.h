/*
 * The two halves of the end-of-data rule (RFC 5321 4.1.1.4, 4.5.2): the scanner that takes a
 * message out of DATA input, and the run test that scanner and client writer share. Pure, no
 * copying.
 *
 * SECURITY: the only place that decides where a message ends. Nothing but CR LF "." CR LF (the
 * first CR LF being the one of the DATA command when the body is empty) ends it.
 */
#ifndef PROTO_SMTP_BODY_H
#define PROTO_SMTP_BODY_H

#include "base/sv.h"

/* Length (a multiple of 64, 0 allowed) of a run at p that holds no NUL, no CR that LF does not
 * follow, no LF that CR does not precede, no "." after LF. p[0] must not be LF unless CR stands
 * before it; a "." at p[0] is the caller's to judge. Never reads past p + n. */
size_t body_plain_run(const char *p, size_t n);

struct body_scan {
    bool bol; /* at the beginning of a line: set true before the first byte of a message */
    bool bad; /* a bare CR, bare LF or NUL was seen: sticky */
};
enum body_stop {
    BODY_WANTS_MORE, /* input used up, but for at most two bytes that need the next ones */
    BODY_DOT,        /* a stuffed dot was taken out: call again */
    BODY_END         /* the end-of-data line was taken */
};
/* Scans in from *pos, moves *pos behind what was used; *out_run is message text to pass on. */
enum body_stop body_scan_next(struct body_scan *b, struct sv in, size_t *pos, struct sv *out_run);

#endif
