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

void queue_worker_metrics(struct queue *q, struct buf *out)
{
    for (uint8_t i = 0; i < q->n_smtp; i++) {
        struct sv rest = buf_sv(&q->smtp[i].stats);
        while (rest.p && rest.n)
            one_line(out, i, sv_cut(&rest, '\n'));
    }
}
