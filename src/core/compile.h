/*
 * Inside of the settings compiler: shared state, the line reader and the block tables. Private to
 * core/settings_*.c.
 */
#ifndef CORE_COMPILE_H
#define CORE_COMPILE_H

#include "core/settings.h"

#define CONF_LINE_MAX  4096
#define GROUP_FILE_MAX (10u * 1024 * 1024)

struct compile {
    struct arena *a;
    struct settings *s;
    struct settings_errors *errors;
    struct sv file;  /* being read */
    uint32_t *lines; /* line of each row of settings_table, 0 = it does not stand in its file */
};

/* Collects an error; key may be empty, line 0 = the file as a whole. */
void compile_error(struct compile *c, uint32_t line, struct sv key, const char *fmt, ...)
    PRINTF(4, 5);
/* " (did you mean X?)" or "" for an error text; names is a list of n. */
const char *compile_hint(struct compile *c, struct sv word, const char *const *names, size_t n);
/* Arena array; NULL (and an error at the end of the compilation) when the arena is full. */
void *compile_array(struct compile *c, size_t n, size_t size);

/* One meaningful line of a block file: "[kind name]" or "key = value". */
struct conf_item {
    uint32_t line;
    bool section;
    struct sv key;   /* key, or kind of the section */
    struct sv value; /* value, or name of the section */
};
struct conf {
    struct compile *c;
    struct sv left;
    uint32_t line;
};
/* Next item; reports and skips malformed lines. False at the end. */
bool conf_next(struct conf *r, struct conf_item *out_item);
/* Next line of a plain list (comments and blank lines skipped, trimmed). */
bool conf_next_line(struct conf *r, struct sv *out_line);
/* Upper bound of the sections in a text. */
uint32_t conf_count_sections(struct sv text);

/* Key of a block with its setter; the setter reports its own errors. */
struct block_key {
    const char *key;
    bool repeat; /* may stand more than once */
    void (*set)(struct compile *c, void *block, const struct conf_item *item);
};
void block_set(struct compile *c, const struct block_key *keys, size_t n, uint32_t *seen,
               void *block, const struct conf_item *item);

/* A file of [WORD NAME] blocks, nothing else. */
struct block_kind {
    const char *word;
    const struct block_key *keys;
    size_t n_keys;
    /* What the keys behind a header are set in; NULL = refused and reported; its keys are passed
     * over then. */
    void *(*begin)(struct compile *c, void *ctx, const struct conf_item *item);
};
void blocks_compile(struct compile *c, struct sv text, const struct block_kind *kind, void *ctx);

/* Value parsers of block keys; report and return false. */
bool value_bool(struct compile *c, const struct conf_item *item, bool *out_value);
bool value_choice(struct compile *c, uint32_t line, struct sv key, const struct name_table *t,
                  struct sv text, uint32_t *out_value);
/* Next word of *rest (separated by spaces), "" at the end. */
struct sv value_word(struct sv *rest);
/* [a-z0-9-]{min,max} */
bool name_valid(struct sv name, size_t min, size_t max);

/* Parts of a compilation, in the order in which settings_compile calls them. */
void compile_scalar_defaults(struct settings *s);
void compile_scalars(struct compile *c, struct sv section, struct sv text);
void compile_scalar_checks(struct compile *c);
void compile_groups(struct compile *c, const struct tree_file *files, uint32_t n);
void compile_routes(struct compile *c, struct sv text); /* NULL text: the default route */
void compile_submitters(struct compile *c, struct sv text);
void compile_phrases(struct compile *c, struct sv text);
void compile_policies(struct compile *c, const struct tree_file *files, uint32_t n);
bool scalar_file_known(struct sv section);

/* Canonical texts. */
void export_scalars(const struct settings *s, const char *section, const char *heading,
                    struct buf *out);
void export_domain_group(const struct domain_group *g, struct buf *out);
void export_ip_group(const struct ip_group *g, struct buf *out);
void export_routes(const struct settings *s, struct buf *out);
void export_submitters(const struct settings *s, struct buf *out);
void export_phrases(const struct settings *s, struct buf *out);
void export_policy(const struct policy *p, struct buf *out);

/* File name between prefix and suffix ("groups/ip/" "trusted" ".txt"), or "" when it has not both.
 */
struct sv tree_name_inner(struct sv name, struct sv prefix, struct sv suffix);

#endif
