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
enum err dsn_build(const struct dsn_in *in, struct buf *out_message);

#endif
