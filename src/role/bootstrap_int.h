/* Between bootstrap.c (values) and bootstrap_scan.c (structure). */
#ifndef ROLE_BOOTSTRAP_INT_H
#define ROLE_BOOTSTRAP_INT_H

#include "role/bootstrap.h"

#define BOOTSTRAP_ENTRIES_MAX 64

/* Every key of the file. section "" = top level. */
struct bootstrap_key {
    const char *section, *name;
    bool list;
};
extern const struct bootstrap_key bootstrap_keys[];
extern const size_t bootstrap_n_keys;

/* Where each key was set. */
struct bootstrap_lines {
    uint32_t line[BOOTSTRAP_ENTRIES_MAX]; /* by index in bootstrap_keys, 0 = not set */
};

/* Structure: known keys and sections, each once, braces in balance, one value or a list. */
NODISCARD enum err bootstrap_scan(struct sv text, const char *file,
                                  struct bootstrap_lines *out_lines, struct errinfo *info);
enum err bootstrap_fail(struct errinfo *info, const char *file, uint32_t line, const char *key,
                        const char *fmt, ...) PRINTF(5, 6);

#endif
