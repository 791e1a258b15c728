/*
 * Facts about content, produced by a `content` worker from one message. The decision core sees
 * counts and names, never bytes. A scan that failed is scan != SCAN_OK: never "clean".
 */
#ifndef MODEL_FACTS_H
#define MODEL_FACTS_H

#include "model/wire.h"

enum scan_state { SCAN_OK, SCAN_FAILED, SCAN_TIMEOUT, SCAN_KILLED, SCAN_LIMIT };

/* Places a hit was found in. */
enum part_place { PLACE_SUBJECT, PLACE_HEADER, PLACE_BODY, PLACE_ATTACHMENT, PLACE_NAME };

/* Property bits of a part. */
enum {
    PART_ATTACHMENT = 1 << 0, /* has a file name or disposition attachment, and is not inline */
    PART_OPAQUE = 1 << 1,     /* nothing to read by nature: image, media, unknown binary */
    PART_ENCRYPTED = 1 << 2,  /* encrypted archive, document, S/MIME or PGP */
    PART_MALFORMED = 1 << 3,  /* MIME or charset damage */
    PART_TYPE_MISMATCH = 1 << 4,
    PART_TRUNCATED = 1 << 5 /* a limit was reached inside it */
};

#define PART_FIELDS(F, S, L)                                                                       \
    F(STR, path)          /* "1.2.1" as in IMAP */                                                 \
    F(STR, declared_type) /* lower case media type */                                              \
    F(STR, true_type)     /* by content, "" = unknown */                                           \
    F(STR, name)          /* decoded file name, UTF-8, "" = none */                                \
    F(STR, charset)                                                                                \
    F(U8, place) /* enum part_place */                                                             \
    F(U32, flags)                                                                                  \
    F(U64, size) /* decoded bytes */
WIRE_DECLARE(part, PART_FIELDS)

#define HIT_FIELDS(F, S, L)                                                                        \
    F(STR, classifier) /* "CREDIT_CARD", "US_SSN" or a key phrase id of the settings */            \
    F(U32, part)       /* index into parts */                                                      \
    F(U32, count)      /* all matches in this part */                                              \
    F(U32, unique)     /* distinct values in this part */                                          \
    F(STR, masked)     /* one example with all but the last 4 digits masked; never the value */
WIRE_DECLARE(hit, HIT_FIELDS)

/* Distinct matches over the whole message, per classifier (unique over parts, not their sum). */
#define TOTAL_FIELDS(F, S, L)                                                                      \
    F(STR, classifier)                                                                             \
    F(U32, count)                                                                                  \
    F(U32, unique)
WIRE_DECLARE(total, TOTAL_FIELDS)

#define FACTS_FIELDS(F, S, L)                                                                      \
    F(U8, scan)        /* enum scan_state */                                                       \
    F(STR, scan_error) /* for humans, "" when SCAN_OK */                                           \
    F(U64, size)                                                                                   \
    F(U32, attachments)                                                                            \
    F(U32, micros)  /* time of the scan */                                                         \
    F(STR, subject) /* decoded, UTF-8, at most 1024 bytes */                                       \
    L(part, parts)                                                                                 \
    L(hit, hits)                                                                                   \
    L(total, totals)
WIRE_DECLARE(facts, FACTS_FIELDS)

#endif
