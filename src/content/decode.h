/*
 * Transfer encodings (RFC 2045 section 6, uuencode) and encoded words (RFC 2047), as tolerant as
 * mail readers are. Output never exceeds the limit of the buffer; true = the input was well formed.
 */
#ifndef CONTENT_DECODE_H
#define CONTENT_DECODE_H

#include "base/buf.h"
#include "content/charset.h"

enum cte { CTE_IDENTITY, CTE_QP, CTE_BASE64, CTE_UUENCODE, CTE_UNKNOWN };

enum cte cte_parse(struct sv value);
/* Appends decoded bytes to *out. */
bool decode_qp(struct sv in, bool header, struct buf *out);
bool decode_base64(struct sv in, struct buf *out);
/* First "begin MODE NAME" block of in; *out_rest is what follows it. NULL p = no block. */
struct uu_block {
    struct sv name, lines, before, rest;
};
bool uu_find(struct sv in, struct uu_block *out_block);
bool decode_uu_lines(struct sv lines, struct buf *out);

/* Unfolds a header value and decodes its encoded words to UTF-8. */
bool decode_header(struct charsets *cs, struct sv value, struct buf *out);

#endif
