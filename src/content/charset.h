/*
 * Bytes in some charset -> UTF-8. Labels are hints: a label that the bytes contradict is overruled
 * (BOM, NUL pattern of UTF-16, valid UTF-8, else windows-1252) and reported as damage.
 */
#ifndef CONTENT_CHARSET_H
#define CONTENT_CHARSET_H

#include "base/buf.h"

struct charsets;

/* Loads the converter of every supported charset: glibc loads them by dlopen on first use, which
 * the sandbox would forbid. */
NODISCARD enum err charsets_new(struct charsets **out_cs, struct errinfo *info);
void charsets_free(struct charsets *cs);
const char *const *charsets_names(void);

struct charset_result {
    const char *used; /* name of what was applied, "utf-8" when the bytes were UTF-8 already */
    bool clean;       /* no invalid sequence, and the label was right */
    bool ascii_like;  /* false for UTF-16, UTF-7, EBCDIC: another reader may see other text */
};
/* Plain ASCII under a label that does not contradict: needs no conversion. */
bool charset_is_plain(struct sv label, struct sv bytes);
/* Appends the text as valid UTF-8 to *out. label may be empty. */
struct charset_result charset_to_utf8(struct charsets *cs, struct sv label, struct sv bytes,
                                      struct buf *out);

#endif
