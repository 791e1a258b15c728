/*
 * Content scan: one message -> facts. Runs in the locked `content` worker only. GMime finds the
 * structure; decoding, charsets, HTML and classifiers are our own. Never fails open: damage and
 * limits are facts of their own.
 *
 * Parts reported, in this order: the header section ("HEADER", PLACE_HEADER; its MALFORMED flag
 * speaks for the structure of the whole message), the subject ("SUBJECT"), then every leaf by its
 * IMAP path, encrypted containers and nested messages included; a leaf with a file name is followed
 * by a PLACE_NAME part of the same path.
 *
 * Key phrases match whole words, in any case, over any white space; "word" and "Word" are two
 * unique matches (spec K11).
 *
 * SECURITY: parses hostile bytes. Depth, parts, decoded text are bounded by settings.
 */
#ifndef CONTENT_SCAN_H
#define CONTENT_SCAN_H

#include "model/facts.h"
#include "model/settings.h"

struct scanner;

/* Once per process, before the sandbox: GMime, iconv tables of every supported charset, self-test
 * of the classifiers. */
NODISCARD enum err scan_new(struct scanner **out_sc, struct errinfo *info);
void scan_free(struct scanner *sc);
/* Charsets that scan_new has loaded ("utf-8", "iso-8859-1", ...), NULL-terminated. */
const char *const *scan_charsets(void);
/* Takes the limits and compiles the key phrases of a settings snapshot, which must outlive its use
 * here. Before the first message, and again for each new snapshot. */
NODISCARD enum err scan_use(struct scanner *sc, const struct settings *s, struct errinfo *info);
/* Facts live in the arena; an arena that is too small is SCAN_LIMIT. micros is left 0: the caller
 * owns the clock. */
void scan_message(struct scanner *sc, struct sv message, struct arena *a, struct facts *out_facts);

/* Is the message plain enough for the warm worker? True for text and for multiparts whose parts are
 * no documents, archives or nested messages, up to 2 MiB. */
bool scan_is_simple(struct sv message);

#endif
