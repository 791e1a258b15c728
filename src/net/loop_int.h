/* What loop.c offers to its neighbours in net/ only. */
#ifndef NET_LOOP_INT_H
#define NET_LOOP_INT_H

#include "base/list.h"
#include "net/loop.h"

/* Work for the end of this turn, after every loop_on_turn function. Intrusive, runs once. */
struct loop_defer {
    struct list node;
    void (*fn)(struct loop_defer *d);
};
void loop_defer_add(struct loop *l, struct loop_defer *d);
static inline void loop_defer_cancel(struct loop_defer *d)
{
    list_remove(&d->node);
}

/* Takes the first node off a list that is not empty. */
static inline struct list *list_pop(struct list *head)
{
    struct list *node = head->next;

    head->next = node->next;
    node->next->prev = head;
    node->prev = node->next = NULL;
    return node;
}

/* One block of memory per loop (allocated once, size fixed by the first caller) that a callback may
 * use as it likes until it returns. NULL when memory is out. */
void *loop_scratch(struct loop *l, size_t size);

#endif
