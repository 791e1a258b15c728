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
#define SETTINGS_TREE_MAX   (64u * 1024 * 1024)

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

/* ---- the table of scalar settings (parser, export, man page, range tests) ---- */
struct name_row {
    const char *name;
    uint32_t value;
    bool available; /* false: known, but refused by this version with a clear message */
};
struct name_table {
    const char *what; /* "method" */
    const struct name_row *rows;
    size_t n;
};
enum setting_kind { SETTING_NUMBER, SETTING_BOOL, SETTING_TEXT, SETTING_CHOICE };
struct setting {
    const char *file, *key, *doc;
    enum setting_kind kind;
    uint32_t min, max; /* of a number; max = longest text */
    uint32_t def;      /* of a number, bool (0, 1) or choice */
    const char *def_text;
    const struct name_table *choices;
    size_t offset; /* of the member in struct settings */
};
extern const struct setting settings_table[];
extern const size_t settings_table_n;
/* Row "file.key", or NULL. */
const struct setting *setting_find(struct sv dotted);
/* Value as it stands in the text tree ("15", "yes", "tls"); empty text is "". */
void setting_format(const struct setting *row, const struct settings *s, struct buf *out);
/* "1-1440; default 15", "yes or no; default yes", "tls; default tls" */
void setting_range_format(const struct setting *row, struct buf *out);

bool domain_group_has(const struct domain_group *g, struct sv domain); /* any case */
bool ip_group_has(const struct ip_group *g, const struct ip *ip);
const struct domain_group *settings_domain_group(const struct settings *s, struct sv name);
const struct ip_group *settings_ip_group(const struct settings *s, struct sv name);

#endif
