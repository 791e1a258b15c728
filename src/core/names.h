/* Tables of the names that stand in settings text, logs and JSON. */
#ifndef CORE_NAMES_H
#define CORE_NAMES_H

#include "core/settings.h"

extern const struct name_table names_method, names_backup, names_tls_level, names_tls_strength,
    names_tls_version, names_relay, names_dlp_mode, names_exception_action, names_action,
    names_severity, names_direction;

/* Row of a name or value, or NULL. */
const struct name_row *name_row_of(const struct name_table *t, struct sv name);
const char *name_of_value(const struct name_table *t, uint32_t value); /* "unknown" when absent */
/* Names that this version accepts, in out_names (room for t->n); returns their number. */
size_t name_available(const struct name_table *t, const char **out_names);

#endif
