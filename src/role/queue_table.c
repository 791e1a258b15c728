/* The index structures of `queue`: messages by id, the due heap, destinations, tasks by attempt. */
#include "role/queue_priv.h"

#include "base/hash.h"

#include <stdlib.h>

/* Memory of these tables is small and fixed by the number of messages; without it the process
 * cannot keep its promises, so exhaustion ends it and the spool brings everything back. */
static void *need(void *p)
{
    if (!p)
        abort();
    return p;
}

static uint32_t slot_of(uint64_t id, uint32_t cap)
{
    return (uint32_t)((id * 0x9E3779B97F4A7C15u) >> 32) & (cap - 1);
}

static void grow(struct queue *q)
{
    uint32_t cap = q->msgs_cap ? q->msgs_cap * 2 : 1024;
    struct qmsg **table = need(calloc(cap, sizeof(struct qmsg *)));

    for (uint32_t i = 0; i < q->msgs_cap; i++) {
        while (q->msgs[i]) {
            struct qmsg *m = q->msgs[i];
            uint32_t at = slot_of(m->id, cap);
            q->msgs[i] = m->next;
            m->next = table[at];
            table[at] = m;
        }
    }
    free(q->msgs);
    q->msgs = table;
    q->msgs_cap = cap;
}

struct qmsg *msg_find(const struct queue *q, uint64_t id)
{
    if (!q->msgs_cap)
        return NULL;
    for (struct qmsg *m = q->msgs[slot_of(id, q->msgs_cap)]; m; m = m->next) {
        if (m->id == id)
            return m;
    }
    return NULL;
}

struct qmsg *msg_add(struct queue *q, uint64_t id)
{
    if (q->msgs_n >= q->msgs_cap)
        grow(q);
    struct qmsg *m = need(calloc(1, sizeof(*m)));
    uint32_t at = slot_of(id, q->msgs_cap);

    m->id = id;
    m->heap_at = HEAP_NONE;
    m->next = q->msgs[at];
    q->msgs[at] = m;
    q->msgs_n++;
    return m;
}

void msg_remove(struct queue *q, struct qmsg *m)
{
    struct qmsg **p = &q->msgs[slot_of(m->id, q->msgs_cap)];

    msg_not_due(q, m);
    while (*p != m)
        p = &(*p)->next;
    *p = m->next;
    q->msgs_n--;
    free(m);
}

/* ---- due heap: binary heap by due_ms ---- */

static void heap_put(struct queue *q, uint32_t at, struct qmsg *m)
{
    q->heap[at] = m;
    m->heap_at = at;
}

static void heap_up(struct queue *q, uint32_t at)
{
    struct qmsg *m = q->heap[at];

    while (at > 0 && q->heap[(at - 1) / 2]->due_ms > m->due_ms) {
        heap_put(q, at, q->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(q, at, m);
}

static void heap_down(struct queue *q, uint32_t at)
{
    struct qmsg *m = q->heap[at];

    for (;;) {
        uint32_t child = at * 2 + 1;
        if (child >= q->heap_n)
            break;
        if (child + 1 < q->heap_n && q->heap[child + 1]->due_ms < q->heap[child]->due_ms)
            child++;
        if (q->heap[child]->due_ms >= m->due_ms)
            break;
        heap_put(q, at, q->heap[child]);
        at = child;
    }
    heap_put(q, at, m);
}

/* The wall clock was set back by so much: distances stay. */
void msg_shift_due(struct queue *q, int64_t back_ms)
{
    for (uint32_t i = 0; i < q->heap_n; i++)
        q->heap[i]->due_ms -= back_ms;
}

void msg_due(struct queue *q, struct qmsg *m, int64_t due_ms)
{
    int64_t last = loop_clock(q->loop).wall_ms + DUE_MAX_MS;

    m->due_ms = due_ms < last ? due_ms : last; /* looked at by then, whatever the clock was */
    if (m->heap_at == HEAP_NONE) {
        if (q->heap_n == q->heap_cap) {
            q->heap_cap = q->heap_cap ? q->heap_cap * 2 : 1024;
            q->heap = need(realloc(q->heap, q->heap_cap * sizeof(struct qmsg *)));
        }
        heap_put(q, q->heap_n++, m);
    }
    heap_up(q, m->heap_at);
    heap_down(q, m->heap_at);
}

void msg_not_due(struct queue *q, struct qmsg *m)
{
    uint32_t at = m->heap_at;

    if (at == HEAP_NONE)
        return;
    m->heap_at = HEAP_NONE;
    struct qmsg *last = q->heap[--q->heap_n];
    if (last == m)
        return;
    heap_put(q, at, last);
    heap_up(q, at);
    heap_down(q, last->heap_at);
}

struct qmsg *msg_first_due(const struct queue *q)
{
    return q->heap_n ? q->heap[0] : NULL;
}

/* ---- destinations ---- */

static uint32_t dest_slot(const struct queue *q, struct sv key)
{
    return crc32c(0, key.p, key.n) % (uint32_t)ARRAY_LEN(q->dests);
}

struct qdest *dest_of(struct queue *q, struct sv key)
{
    struct qdest **head = &q->dests[dest_slot(q, key)];

    for (struct qdest *d = *head; d; d = d->next) {
        if (sv_eq(d->key, key))
            return d;
    }
    struct qdest *d = need(calloc(1, sizeof(*d) + key.n + 1));
    char *text = (char *)(d + 1);
    memcpy(text, key.p, key.n);
    d->key = sv_of(text, key.n);
    list_init(&d->ready);
    d->next = *head;
    *head = d;
    return d;
}

void dest_maybe_free(struct queue *q, struct qdest *d)
{
    if (d->active || d->waiting)
        return;
    list_remove(&d->node);
    struct qdest **p = &q->dests[dest_slot(q, d->key)];
    while (*p != d)
        p = &(*p)->next;
    *p = d->next;
    free(d);
}

/* ---- tasks in flight ---- */

static struct qtask **task_slot(const struct queue *q, uint64_t attempt)
{
    /* the table is written through its owner only; the cast drops const of the container */
    return (struct qtask **)(uintptr_t)&q->tasks[attempt % ARRAY_LEN(q->tasks)];
}

struct qtask *task_find(const struct queue *q, uint64_t attempt)
{
    for (struct qtask *t = *task_slot(q, attempt); t; t = t->next) {
        if (t->attempt == attempt)
            return t;
    }
    return NULL;
}

void task_index(struct queue *q, struct qtask *t)
{
    struct qtask **head = task_slot(q, t->attempt);

    t->next = *head;
    *head = t;
    q->tasks_n++;
}

void task_unindex(struct queue *q, struct qtask *t)
{
    struct qtask **p = task_slot(q, t->attempt);

    while (*p != t)
        p = &(*p)->next;
    *p = t->next;
    t->next = NULL;
    q->tasks_n--;
}
