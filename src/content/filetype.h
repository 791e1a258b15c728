/*
 * What a part really is, by its first bytes, and whether that contradicts its label or name;
 * whether it is encrypted.
 */
#ifndef CONTENT_FILETYPE_H
#define CONTENT_FILETYPE_H

#include "base/sv.h"

/* Media type by content; "text/html", "text/plain" for readable text, "" = unknown. */
struct sv filetype_of(struct sv bytes);
/* Does the true type contradict the declared media type or the extension of the name? */
bool filetype_mismatch(struct sv true_type, struct sv declared, struct sv name);
/* Encrypted archive, document or message, as far as the format says so in the open. */
bool filetype_encrypted(struct sv true_type, struct sv bytes);
/* Media types whose bytes are text. */
bool filetype_is_text(struct sv media_type);
/* Documents and archives, by declared type: those belong into a process of their own. */
bool filetype_is_container(struct sv media_type);

#endif
