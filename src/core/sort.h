/* In-place heap sort: O(n log n) in the worst case, no recursion, no allocation (libc's qsort
 * allocates). Items of at most SORT_ITEM_MAX bytes. */
#ifndef CORE_SORT_H
#define CORE_SORT_H

#include <stddef.h>

#define SORT_ITEM_MAX 128
void sort_items(void *base, size_t n, size_t size, int (*cmp)(const void *, const void *));

#endif
