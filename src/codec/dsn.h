/*
 * Delivery status notifications: RFC 3464 in multipart/report (RFC 6522), and the words a person
 * reads first. Pure builder.
 */
#ifndef CODEC_DSN_H
#define CODEC_DSN_H

#include "model/messages.h"

enum dsn_action { DSN_FAILED, DSN_DELAYED, DSN_RELAYED, DSN_DELIVERED };

struct dsn_in {
    const struct envelope *env; /* of the message reported on */
    const struct dsn_rcpt *rcpts;
    uint32_t n_rcpts;
    struct sv reporting_mta, from; /* host name; From address of the report */
    struct sv notice;              /* extra words, "" = none */
    struct sv original;            /* message or its header section; as much as RET asks for */
    bool sealed; /* Encrypt-marked: body never, headers only From To Date Message-ID, Subject
                    replaced, remote replies cut to code and enhanced code */
    bool headers_only;
    struct sv message_id, boundary; /* unique, from outside */
    int64_t now_ms;
};
/*
 * Appends a complete message, ASCII throughout unless it returns a whole 8-bit original: check with
 * sv_is_ascii for the body type of its envelope. The envelope sender of a report is null; a report
 * about a null sender is refused (ERR_DENIED: never bounce a bounce). ERR_CONFLICT: the original
 * holds the boundary, give another. ERR_LIMIT: *out_message is full.
 *
 * The whole original is returned only of a failed message, neither sealed nor headers_only nor with
 * RET=HDRS (RFC 3461 6.2), and only when its lines fit RFC 5321; else its header section.
 * `human` and `notice` are our own words: never put text of a remote reply into them.
 */
NODISCARD enum err dsn_build(const struct dsn_in *in, struct buf *out_message);

/* Does an enhanced status say that protection of the transport failed (x.7.4, 5, 6, 7, 10, 11, 30)?
 */
bool dsn_status_is_tls(struct sv status);

#endif
