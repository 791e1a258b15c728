/*
 * Header section of a message, on raw bytes (RFC 5322 2.2). Byte-preserving: editing drops or adds
 * whole fields and touches nothing else. Pure.
 */
#ifndef CODEC_HEADER_H
#define CODEC_HEADER_H

#include "base/buf.h"
#include "model/envelope.h"

struct header_field {
    struct sv raw; /* whole field with folds and its final CRLF */
    struct sv name;
    struct sv value; /* raw, behind the colon */
};
/* Iterates; false at the end of the section (*rest is then the empty line and the body). A line
 * that is no field has name "". */
bool header_next(struct sv *rest, struct header_field *out_field);
/* First field of that name; false when absent. */
bool header_find(struct sv message, struct sv name, struct header_field *out_field);
/* Unfolded, trimmed, printable copy of a value, at most max bytes. */
enum err header_unfold(struct sv value, size_t max, struct buf *out);

/* Streaming head of an incoming message: give body chunks until `done`; finds what reception needs,
 * removes fields on the way. Works over any chunking. The first line that is no field begins the
 * body, as in other mail servers (an mbox "From " line at the very start excepted): nothing of a
 * message without header section is taken for one. Past max_total, HEADER_FIELD_MAX or
 * HEADER_FIELDS_MAX feed and end give ERR_LIMIT: refuse it. */
#define HEADER_FIELD_MAX  (64u * 1024) /* bytes of one field with its folds */
#define HEADER_FIELDS_MAX 2000u
struct header_stream {
    struct buf line; /* field being gathered */
    size_t total;    /* bytes of the section so far */
    size_t max_total;
    uint32_t received;         /* Received fields */
    uint32_t own_trace;        /* own trace fields with our installation id */
    bool done;                 /* empty line seen; later bytes go through untouched */
    bool too_large;            /* one of the limits was passed: max_total, unless */
    bool field_long, too_many; /* ... it was one of these */
    uint32_t fields;
    struct sv trace_id;   /* our id in X-Postseal-Trace */
    char message_id[256]; /* trimmed */
    char subject[512];    /* unfolded raw value */
};
void header_stream_init(struct header_stream *h, size_t max_total, struct sv trace_id);
void header_stream_done(struct header_stream *h);
/* Appends what goes on to *out (Bcc and Resent-Bcc fields removed). */
enum err header_stream_feed(struct header_stream *h, struct sv chunk, struct buf *out);
enum err header_stream_end(struct header_stream *h, struct buf *out);

#define TRACE_HEADER "X-Postseal-Trace"

/* Trace fields put in front of a received message: Received (RFC 5321 4.4; RFC 3848 protocol, RFC
 * 8314 tls clause; "for" only with one recipient) and the own trace header. */
enum err received_format(const struct envelope *env, struct sv hostname, struct sv trace_id,
                         struct buf *out);

#endif
