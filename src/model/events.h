/*
 * Tracking events: the steps of a message's life (spec F10, F11), in the order they happened.
 * Written by `queue` to the event files, read by `store`, shown as the timeline.
 */
#ifndef MODEL_EVENTS_H
#define MODEL_EVENTS_H

#include "model/wire.h"

/*      enum        name          doc */
#define EVENTS(X)                                                                                  \
    X(RECEIVED, "received", "message accepted and durable")                                        \
    X(REFUSED, "refused", "command, recipient or message refused")                                 \
    X(SPLIT, "split", "copy made for recipients with another plan")                                \
    X(SCANNED, "scanned", "content facts gathered")                                                \
    X(SCAN_FAILED, "scan-failed", "content could not be scanned")                                  \
    X(DECIDED, "decided", "policy decision taken")                                                 \
    X(ROUTED, "routed", "route and TLS requirement chosen")                                        \
    X(ATTEMPT, "attempt", "delivery attempt ended")                                                \
    X(DELIVERED, "delivered", "recipient delivered to the next hop")                               \
    X(DELAYED, "delayed", "recipient waits in the delayed queue")                                  \
    X(BOUNCED, "bounced", "recipient failed for good")                                             \
    X(EXPIRED, "expired", "maximum retry period ended")                                            \
    X(DSN, "dsn", "delivery status notification made")                                             \
    X(HELD, "held", "message held in a queue")                                                     \
    X(RELEASED, "released", "held message released by an administrator")                           \
    X(DROPPED, "dropped", "message removed by an administrator")                                   \
    X(DONE, "done", "nothing left to do; removed from the queue")                                  \
    X(TLS_FAILED, "tls-failed", "TLS failed with a peer")                                          \
    X(DEPLOYED, "deployed", "settings revision activated")                                         \
    X(ALARM, "alarm", "something an administrator must know")

enum event_kind {
#define EVENT_ENUM(id, name, doc) EVENT_##id,
    EVENTS(EVENT_ENUM)
#undef EVENT_ENUM
        EVENT_KINDS
};
const char *event_name(uint8_t kind);

#define EVENT_FIELDS(F, S, L)                                                                      \
    F(U64, seq) /* position in the event log, ascending */                                         \
    F(I64, at_ms)                                                                                  \
    F(U8, kind)                                                                                    \
    F(U64, id) /* queue id, 0 = none */                                                            \
    F(U64, parent)                                                                                 \
    F(U64, revision)                                                                               \
    F(STR, sender)                                                                                 \
    F(STR, rcpt)                                                                                   \
    F(STR, subject)                                                                                \
    F(STR, message_id)                                                                             \
    F(STR, detail) /* JSON object with the rest, at most 8 KiB */
WIRE_DECLARE(event, EVENT_FIELDS)

#endif
