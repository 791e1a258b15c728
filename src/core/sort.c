#include "core/sort.h"

#include <stdlib.h>
#include <string.h>

struct heap {
    char *base;
    size_t size;
    int (*cmp)(const void *, const void *);
};

static char *at(const struct heap *h, size_t i)
{
    return h->base + i * h->size;
}

static void swap(const struct heap *h, size_t i, size_t j)
{
    char tmp[SORT_ITEM_MAX];

    memcpy(tmp, at(h, i), h->size);
    memcpy(at(h, i), at(h, j), h->size);
    memcpy(at(h, j), tmp, h->size);
}

/* Lets item i sink in the heap of the first n items. */
static void sink(const struct heap *h, size_t i, size_t n)
{
    for (size_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && h->cmp(at(h, child), at(h, child + 1)) < 0)
            child++;
        if (h->cmp(at(h, i), at(h, child)) >= 0)
            return;
        swap(h, i, child);
        i = child;
    }
}

void sort_items(void *base, size_t n, size_t size, int (*cmp)(const void *, const void *))
{
    struct heap h = {base, size, cmp};

    if (size > SORT_ITEM_MAX)
        abort();
    for (size_t i = n / 2; i > 0; i--)
        sink(&h, i - 1, n);
    for (size_t i = n; i > 1; i--) {
        swap(&h, 0, i - 1);
        sink(&h, 0, i - 1);
    }
}
