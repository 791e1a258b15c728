/* Control verbs of `queue`: shared by queue_ctl.c, queue_ctl_list.c and queue_simulate.c. */
#ifndef ROLE_QUEUE_CTL_H
#define ROLE_QUEUE_CTL_H

#include "role/ctl_verb.h"
#include "role/queue_priv.h"

struct ctl_listener {
    struct queue *q;
    int fd;
};

/* Who waits for the facts of a simulated message. */
struct ctl_wait {
    struct ipc *ch; /* NULL = went away */
    uint64_t tag;
    bool decide; /* simulate; else scan */
};

void ctl_list(struct queue *q, struct ipc *ch, uint64_t tag, const char *verb, const json_t *args);
void ctl_act(struct queue *q, struct ipc *ch, uint64_t tag, const char *verb, const json_t *args,
             struct sv user);
/* fd stays the caller's. */
void ctl_simulate(struct queue *q, struct ipc *ch, uint64_t tag, bool decide, const json_t *args,
                  int fd);
void ctl_waits_gone(struct queue *q, const struct ipc *ch);
void jw_hop(struct buf *b, const struct hop *hop);
const char *queue_counter_name(enum counter c);
void queue_worker_metrics(struct queue *q, struct buf *out); /* counters that workers reported */

#endif
