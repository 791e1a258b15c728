/*
 * Identifiers made of digits: card numbers and US social security numbers. One pass finds runs of
 * digits and their separators; validators and context decide.
 */
#ifndef CONTENT_IDENT_H
#define CONTENT_IDENT_H

#include "base/sv.h"

enum ident { IDENT_CREDIT_CARD, IDENT_US_SSN };
#define IDENTS 2
const char *ident_name(enum ident kind);

/* digits: canonical value, only digits. */
typedef void ident_fn(void *ctx, enum ident kind, struct sv digits);
/* text: normalised UTF-8, or any bytes. Linear time. */
void ident_scan(struct sv text, ident_fn *fn, void *ctx);

/* Validators on plain digits. */
enum card_fit { CARD_NO, CARD_WEAK /* unusual length or brand: needs a label */, CARD_YES };
enum card_fit card_check(struct sv digits);
bool ssn_check(struct sv digits);

#endif
