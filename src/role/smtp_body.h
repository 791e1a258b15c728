/*
 * The body of one message on its way in. While it is at most SMTP_BODY_INLINE bytes it stays in
 * memory; above, body_wants_file says so, the session asks `queue` for a file, and from then on
 * bytes are encrypted (AES-256-CTR, own key of the file, nonce 0) and appended there. Memory stays
 * bounded whatever the message size.
 */
#ifndef ROLE_SMTP_BODY_H
#define ROLE_SMTP_BODY_H

#include "base/buf.h"
#include "codec/header.h"
#include "crypto/cert.h"

struct smtp_body {
    struct header_stream head;
    bool head_open;     /* header_stream_init was called */
    bool head_ended;    /* header_stream_end was called */
    struct buf mem;     /* what is not yet in the file */
    struct sha256 *sha; /* only with a file; small bodies are hashed at once */
    uint64_t file;      /* id of the file, 0 = none */
    int fd;
    uint8_t key[32];
    uint64_t written;
    uint64_t size;  /* bytes of the stored body so far */
    bool eight_bit; /* a byte above 127 was seen: what the sender declares is often not so */
};

void smtp_body_init(struct smtp_body *b);
/* Begins with these bytes (trace fields). */
NODISCARD enum err smtp_body_begin(struct smtp_body *b, struct sv front, uint32_t max_header,
                                   struct sv trace_id);
NODISCARD enum err smtp_body_add(struct smtp_body *b, struct sv chunk);
/* More than SMTP_BODY_INLINE in memory and no file: nothing may be added before one came. */
bool smtp_body_wants_file(const struct smtp_body *b);
NODISCARD enum err smtp_body_file(struct smtp_body *b, uint64_t file, int fd, struct sv key);
/* All bytes are in: header section closed, file written, digest taken. ERR_AGAIN: a file is wanted
 * first; call again when it came. */
NODISCARD enum err smtp_body_end(struct smtp_body *b, uint8_t out_sha256[32]);
/* Forgets everything; the file itself is dropped by the caller (file id in b->file before). */
void smtp_body_reset(struct smtp_body *b);

#endif
