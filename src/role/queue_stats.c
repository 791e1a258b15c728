/* Counters that smtp workers report once a second: last totals per worker, summed for /metrics. */
#include "role/queue_ctl.h"

#include <stdlib.h>

#define STATS_TEXT_MAX (64u * 1024)

void queue_worker_stats(struct queue *q, uint8_t worker, struct sv text)
{
    struct buf *b = &q->smtp[worker].stats;

    if (!b->max)
        buf_init(b, STATS_TEXT_MAX);
    buf_reset(b);
    (void)buf_append_sv(b, text);
}

/* "name{labels} value": one line per worker, told apart by a label. */
static void one_line(struct buf *out, uint8_t worker, struct sv line)
{
    size_t space = sv_rfind_byte(line, ' ');
    size_t brace = sv_find_byte(line, '{');

    if (space == SIZE_MAX)
        return;
    struct sv name = sv_take(line, space);
    if (brace == SIZE_MAX)
        (void)buf_printf(out, "%.*s{worker=\"%u\"}%.*s\n", SV_ARG(name), worker,
                         SV_ARG(sv_skip(line, space)));
    else
        (void)buf_printf(out, "%.*s{worker=\"%u\",%.*s\n", SV_ARG(sv_take(name, brace)), worker,
                         SV_ARG(sv_skip(line, brace + 1)));
}

static struct sv metric_name(struct sv line)
{
    size_t n = 0;

    while (n < line.n && line.p[n] != '{' && line.p[n] != ' ')
        n++;
    return sv_take(line, n);
}

/* All lines of one metric from one worker; false when it has none. */
static bool worker_lines(struct buf *out, struct queue *q, uint8_t worker, struct sv name)
{
    struct sv rest = buf_sv(&q->smtp[worker].stats);
    bool any = false;

    while (rest.p && rest.n) {
        struct sv line = sv_cut(&rest, '\n');
        if (!sv_eq(metric_name(line), name))
            continue;
        any = true;
        if (out)
            one_line(out, worker, line);
    }
    return any;
}

static bool told(struct queue *q, uint8_t before, struct sv name)
{
    for (uint8_t i = 0; i < before; i++) {
        if (worker_lines(NULL, q, i, name))
            return true;
    }
    return false;
}

/* The text format wants the type first and all lines of a metric together. */
void queue_worker_metrics(struct queue *q, struct buf *out)
{
    for (uint8_t i = 0; i < q->n_smtp; i++) {
        struct sv rest = buf_sv(&q->smtp[i].stats), last = SV("");
        while (rest.p && rest.n) {
            struct sv name = metric_name(sv_cut(&rest, '\n'));
            if (!name.n || sv_eq(name, last) || told(q, i, name))
                continue;
            last = name;
            (void)buf_printf(out, "# TYPE %.*s %s\n", SV_ARG(name),
                             sv_ends_nocase(name, SV("_total")) ? "counter" : "gauge");
            for (uint8_t w = i; w < q->n_smtp; w++)
                (void)worker_lines(out, q, w, name);
        }
    }
}
