/* Inside of the scanner: what its files share. */
#ifndef CONTENT_SCAN_INT_H
#define CONTENT_SCAN_INT_H

#include "content/charset.h"
#include "content/decode.h"
#include "content/ident.h"
#include "content/phrase.h"
#include "content/scan.h"
#include "content/tally.h"
#include <gmime/gmime.h>

#define SCAN_SUBJECT_MAX 1024                 /* facts.subject */
#define SCAN_NAME_MAX    512                  /* file names in facts */
#define SCAN_HEADER_MAX  (4u * 1024 * 1024)   /* decoded headers of one message */
#define SCAN_BYTES_MAX   (256u * 1024 * 1024) /* decoded bytes of one part */
#define SCAN_NESTED_MAX  16                   /* encoded messages within encoded messages */

struct scanner {
    struct charsets *cs;
    struct phrases *ph;
    const struct settings *s;
    GMimeParserOptions *options;
    /* Working memory, kept between messages. */
    struct buf decoded, utf8, text, extra, view, header;
    bool no_fast; /* tests: always by GMime */
    void *warn;   /* struct job of the parse under way, for GMime's warnings */
};

enum disposition { DISPOSITION_NONE, DISPOSITION_INLINE, DISPOSITION_ATTACHMENT };

/* A leaf of the structure, before decoding. */
struct leaf {
    struct sv path;
    struct sv type; /* lower case */
    struct sv name; /* decoded */
    struct sv charset;
    struct sv smime;
    struct sv raw; /* as in the message */
    enum cte cte;
    enum disposition disposition;
    bool has_id;     /* Content-ID */
    bool conflict;   /* two types, encodings: another reader may see another thing */
    bool in_message; /* inside a nested message */
    bool encrypted;  /* inside multipart/encrypted */
    uint32_t depth;
};

struct job {
    struct scanner *sc;
    struct arena *a;
    struct facts *f;
    struct tally t;
    uint32_t cap_parts;
    uint32_t mime_parts;
    uint64_t text_left;
    uint32_t structure; /* flags of part 0 */
    const char *limit;  /* first limit reached */
    bool recover;       /* structure is ambiguous: look at the raw bytes as well */
    uint32_t nested;
};

/* Appends a part; its index, or UINT32_MAX when no more fit (then a limit is noted). */
uint32_t job_part(struct job *j, const struct part *part);
void job_limit(struct job *j, const char *what);

/* Classifiers over UTF-8 text, or over any bytes. Attributes matches to the tally's current part.
 */
void text_scan(struct job *j, struct sv text);
void bytes_scan(struct job *j, struct sv bytes);

/* One leaf: decoded, named, flagged, scanned. */
void leaf_scan(struct job *j, const struct leaf *leaf);
/* Structure by GMime. */
void walk_message(struct job *j, struct sv message, struct sv path, uint32_t depth, bool nested);
/* The whole message when it is a plain text mail of the simplest kind; false = let GMime do it. */
bool fast_leaf(struct job *j, struct sv message, struct leaf *out_leaf);

/* Header section -> subject and header text. Fields by callback of walk or fast path. */
void headers_scan(struct job *j, struct sv message);
bool header_is_scanned(struct sv name);

#endif
