/* Text encodings of bytes: base64 (RFC 4648), hex, and the base32 of queue ids. Pure. */
#ifndef BASE_ENC_H
#define BASE_ENC_H

#include "base/buf.h"

enum err b64_encode(struct sv bytes, struct buf *out); /* one line, padded */
/* Strict RFC 4648: no white space, padding required. Appends to *out. */
NODISCARD enum err b64_decode(struct sv text, struct buf *out);
enum err hex_encode(struct sv bytes, struct buf *out);                   /* lower case */
NODISCARD bool hex_decode(struct sv text, uint8_t *out_bytes, size_t n); /* exactly 2n digits */

/* Queue id as text: 13 digits of Crockford's base32 (0-9A-HJKMNP-TV-Z), fixed length so that ids
 * sort as text in order of their number. */
#define ID_TEXT_LEN 13
void id_format(uint64_t id, char out_text[ID_TEXT_LEN + 1]);
NODISCARD bool id_parse(struct sv text, uint64_t *out_id); /* either case */

#endif
