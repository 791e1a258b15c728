/* See smtp_stats.h. */
#include "role/smtp_stats.h"

#include <inttypes.h>

static const char *const names[COUNTERS_N] = {
#define COUNTER_NAME(id, name, doc) [COUNT_##id] = (name),
    COUNTERS(COUNTER_NAME)
#undef COUNTER_NAME
};

bool smtp_stats_format(struct smtp_stats *s, struct buf *out)
{
    if (memcmp(s->now, s->told, sizeof(s->now)) == 0)
        return false;
    for (size_t i = 0; i < COUNTERS_N; i++) {
        if (s->now[i])
            (void)buf_printf(out, "%s %" PRIu64 "\n", names[i], s->now[i]);
    }
    memcpy(s->told, s->now, sizeof(s->now));
    return !out->overflow;
}

void smtp_stats_forget(struct smtp_stats *s)
{
    memset(s->told, 0, sizeof(s->told));
}
