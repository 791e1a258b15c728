/*
 * Normalised view of UTF-8 text, against evasion: invisible characters dropped, digits of every
 * script and full-width forms folded to ASCII, exotic blanks to ' ', dashes to '-'. All else stays.
 */
#ifndef CONTENT_NORMAL_H
#define CONTENT_NORMAL_H

#include "base/buf.h"

/* In place: the view is never longer than the text. Returns its length. */
size_t text_normalise(char *text, size_t n);
/* Simple case fold of one code point: ASCII, Latin-1, Latin Extended-A, Greek, Cyrillic. */
uint32_t cp_fold(uint32_t cp);

#endif
