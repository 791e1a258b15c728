/*
 * Text tree -> struct settings -> text tree. Pure.
 *
 * A tree is one byte string: for each file, sorted by name, "== NAME LENGTH\n" and LENGTH bytes.
 * Its canonical form (settings_export) is the only stored form, so that export -> apply -> export
 * is byte-identical. Files: general.conf encryption.conf delivery.conf conn.conf msg.conf tls.conf
 * submission.conf relay.conf dlp.conf content.conf exceptions.conf tracking.conf dns.conf
 * ("key = value", each key with its doc line as a comment), groups/domain/NAME.txt and
 * groups/ip/NAME.txt (one entry a line), routes.conf, submitters.conf, phrases.conf and
 * policies/NAME.conf ("[section name]" blocks).
 */
#ifndef CORE_SETTINGS_H
#define CORE_SETTINGS_H

#include "model/settings.h"

#define SETTINGS_ERRORS_MAX 50
#define SETTINGS_TREE_MAX (64u * 1024 * 1024)

struct settings_errors {
    struct errinfo list[SETTINGS_ERRORS_MAX]; /* file, line, key, text with a suggestion */
    uint32_t n;                               /* kept; `total` counts all */
    uint32_t total;
};

struct tree_file {
    struct sv name, text;
};
/* Splits a tree into files (views into it). */
NODISCARD enum err tree_parse(struct sv tree, struct arena *a, struct tree_file **out_files,
                              uint32_t *out_n);
/* Sorts by name, refuses duplicates, joins. */
NODISCARD enum err tree_join(struct tree_file *files, uint32_t n, struct buf *out_tree);

/* Compiles and validates; on failure ERR_SYNTAX with every error found in *errors. */
NODISCARD enum err settings_compile(struct sv tree, uint64_t revision, struct arena *a,
                                    struct settings **out_settings, struct settings_errors *errors);
/* Canonical tree of a snapshot. */
NODISCARD enum err settings_export(const struct settings *s, struct buf *out_tree);
/* The embedded default (revision 1). */
struct sv settings_default_tree(void);
/* One line for a human: "file:line: key: text". */
void settings_error_format(const struct errinfo *e, struct buf *out);

bool domain_group_has(const struct domain_group *g, struct sv domain); /* any case */
bool ip_group_has(const struct ip_group *g, const struct ip *ip);
const struct domain_group *settings_domain_group(const struct settings *s, struct sv name);
const struct ip_group *settings_ip_group(const struct settings *s, struct sv name);

#endif
