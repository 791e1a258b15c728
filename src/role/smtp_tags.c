/* Tags of questions to other processes: see smtp_priv.h. A tag is generation << 32 | slot + 1, so a
 * late answer to a session that has ended finds nobody. */
#include "role/smtp_priv.h"

#include <stdlib.h>

#define NO_SLOT UINT32_MAX

void smtp_tags_init(struct smtp_tags *t)
{
    memset(t, 0, sizeof(*t));
    t->free_head = NO_SLOT;
}

void smtp_tags_done(struct smtp_tags *t)
{
    free(t->slots);
    smtp_tags_init(t);
}

static bool grow(struct smtp_tags *t)
{
    uint32_t cap = t->cap ? t->cap * 2 : 64;
    struct smtp_tag *slots = realloc(t->slots, cap * sizeof(*slots));

    if (!slots)
        return false;
    t->slots = slots;
    t->cap = cap;
    return true;
}

uint64_t smtp_tag_new(struct smtp_tags *t, void *who)
{
    uint32_t i = t->free_head;

    if (i == NO_SLOT) {
        if (t->n == t->cap && !grow(t))
            return 0;
        i = t->n++;
        t->slots[i] = (struct smtp_tag){.generation = 1};
    } else {
        t->free_head = t->slots[i].next_free;
    }
    t->slots[i].who = who;
    return (uint64_t)t->slots[i].generation << 32 | (i + 1);
}

static struct smtp_tag *find(const struct smtp_tags *t, uint64_t tag)
{
    uint32_t i = (uint32_t)tag - 1; /* wraps for slot 0: beyond n */

    if (i >= t->n || t->slots[i].generation != (uint32_t)(tag >> 32) || !t->slots[i].who)
        return NULL;
    return &t->slots[i];
}

void *smtp_tag_peek(const struct smtp_tags *t, uint64_t tag)
{
    const struct smtp_tag *slot = find(t, tag);

    return slot ? slot->who : NULL;
}

void *smtp_tag_take(struct smtp_tags *t, uint64_t tag)
{
    struct smtp_tag *slot = find(t, tag);

    if (!slot)
        return NULL;
    void *who = slot->who;
    slot->who = NULL;
    slot->generation++;
    slot->next_free = t->free_head;
    t->free_head = (uint32_t)(slot - t->slots);
    return who;
}
