/*
 * SECURITY: reads message bytes of the internet. See smtp_body.h for the rule; tests feed it more
 * than 20 imitations of the end of data.
 */
#include "proto/smtp_body.h"

/* Four 16-byte lanes a step in GNU C vector notation: one branch per 64 bytes. */
typedef uint8_t lane __attribute__((vector_size(16)));
enum { LANE = 16, BLOCK = 64 };

static inline lane lane_load(const char *p)
{
    lane v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Marks positions whose byte, seen with its successor, breaks the rule of a plain run. */
static inline lane lane_odd(const char *p)
{
    const lane a = lane_load(p);
    const lane b = lane_load(p + 1);
    const lane cr = (lane)(a == '\r');
    const lane lf_next = (lane)(b == '\n');
    return (cr ^ lf_next) | (lane)(a == 0) | ((lane)(a == '\n') & (lane)(b == '.'));
}

size_t body_plain_run(const char *p, size_t n)
{
    size_t i = 0;
    for (; n - i > BLOCK; i += BLOCK) {
        const lane odd = lane_odd(p + i) | lane_odd(p + i + LANE) | lane_odd(p + i + 2 * LANE) |
                         lane_odd(p + i + 3 * LANE);
        uint64_t half[2];
        memcpy(half, &odd, sizeof half);
        if (half[0] | half[1])
            break;
    }
    return i;
}

/* One byte that is no dot at the beginning of a line. Returns bytes used, 0 = needs the next one.
 */
static size_t scan_byte(struct body_scan *b, const char *p, size_t n)
{
    if (*p == '\r') {
        if (n < 2)
            return 0;
        b->bol = p[1] == '\n';
        b->bad |= !b->bol;
        return b->bol ? 2 : 1;
    }
    b->bad |= *p == '\n' || *p == '\0';
    b->bol = false;
    return 1;
}

/* A run of plain blocks; keeps b->bol true to the byte before the end of the run. */
static size_t scan_blocks(struct body_scan *b, const char *p, size_t n)
{
    if (n <= BLOCK || *p == '\n')
        return 0;
    size_t used = body_plain_run(p, n);
    if (used == 0)
        return 0;
    /* A CR at the very end is looked at again, together with its LF. */
    if (p[used - 1] == '\r')
        used--;
    b->bol = p[used - 1] == '\n';
    return used;
}

enum body_stop body_scan_next(struct body_scan *b, struct sv in, size_t *pos, struct sv *out_run)
{
    const size_t start = *pos;
    size_t i = start;
    size_t slow_until = start; /* no block test before here */
    enum body_stop stop = BODY_WANTS_MORE;
    size_t behind = 0; /* bytes of the dot or of the end line that are no message text */
    while (i < in.n) {
        const char *p = in.p + i;
        const size_t left = in.n - i;
        if (b->bol && *p == '.') {
            if (left < 2 || (p[1] == '\r' && left < 3))
                break;
            const bool end = p[1] == '\r' && p[2] == '\n';
            stop = end ? BODY_END : BODY_DOT;
            behind = end ? 3 : 1;
            b->bol = false;
            break;
        }
        if (i >= slow_until) {
            const size_t used = scan_blocks(b, p, left);
            slow_until = used ? i + used : i + BLOCK;
            if (used) {
                i += used;
                continue;
            }
        }
        const size_t used = scan_byte(b, p, left);
        if (used == 0)
            break;
        i += used;
    }
    *out_run = sv_of(in.p + start, i - start);
    *pos = i + behind;
    return stop;
}
