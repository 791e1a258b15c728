/*
 * Content scan: one message -> facts. Runs in the locked `content` worker only. Uses GMime for
 * structure and decoding, own scanners for identifiers. Never fails open: damage and limits are
 * facts of their own.
 *
 * SECURITY: parses hostile bytes. Depth, parts, decoded text are bounded by settings.
 */
#ifndef CONTENT_SCAN_H
#define CONTENT_SCAN_H

#include "model/facts.h"
#include "model/settings.h"

/* Once per process, before the sandbox: GMime, iconv tables of every supported charset, self-test of
 * the classifiers. */
NODISCARD enum err scan_init(struct errinfo *info);
/* Charsets that scan_init has loaded ("utf-8", "iso-8859-1", ...), NULL-terminated. */
const char *const *scan_charsets(void);
void scan_message(struct sv message, const struct settings *s, struct arena *a,
                  struct facts *out_facts);

/* Is the message plain enough for the warm worker (only text parts by its top-level headers)? */
bool scan_is_simple(struct sv message);

#endif
