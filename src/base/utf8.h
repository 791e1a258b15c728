/* UTF-8 helpers. Pure. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/buf.h"

/* Length of the valid sequence at v (1..4) and its code point, or 0 when invalid. */
size_t utf8_next(struct sv v, uint32_t *out_cp);
size_t utf8_put(uint32_t cp, char out[4]);
bool utf8_valid(struct sv v);
bool sv_is_ascii(struct sv v);

#endif
