/*
 * Test kit (not part of the library): a driver for the server machine in memory, with a policy that
 * the dialogue files rely on (tests/dialogue/README.md).
 */
#ifndef PROTO_TESTKIT_H
#define PROTO_TESTKIT_H

#include "proto/smtp_srv.h"

struct kit {
    struct smtp_srv *srv;
    bool relay;       /* recipients outside example.com are taken */
    struct buf out;   /* what the server said and the test did not read yet */
    struct buf body;  /* body of the message under way, then of the last message */
    struct buf trace; /* sender and recipients of accepted messages, one line each */
    uint32_t messages, aborts;
    uint32_t delay_max; /* highest error_delay seen */
    bool aborted;       /* the body under way was: no more of it may come */
    bool tls_due, closed;
    uint16_t end_code; /* answer to END_OF_BODY, 250 by default */
};

struct smtp_srv_config kit_config(void);
void kit_init(struct kit *k, const struct smtp_srv_config *config); /* greeted */
void kit_done(struct kit *k);
/* Feeds all bytes in pieces of at most `piece` (0 = as large as taken); returns how many were
 * taken. */
size_t kit_input(struct kit *k, struct sv bytes, size_t piece);
void kit_run(struct kit *k); /* takes steps until input is needed */
void kit_tls(struct kit *k);
/* Cuts one whole reply (all its lines) out of k->out; "" when there is none. *out_reply is appended
 * to. */
bool kit_reply(struct kit *k, struct buf *out_reply);

#endif
