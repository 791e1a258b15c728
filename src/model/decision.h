/*
 * What the policy core decided for one recipient of one message, and the reason. The plan of
 * delivery follows from it (core/plan.h).
 */
#ifndef MODEL_DECISION_H
#define MODEL_DECISION_H

#include "model/wire.h"

/* In order of restriction: the greatest wins (spec K33). */
enum action { ACTION_PERMIT, ACTION_ENCRYPT, ACTION_DROP_ATTACHMENTS, ACTION_QUARANTINE };
enum severity { SEVERITY_LOW, SEVERITY_MEDIUM, SEVERITY_HIGH };
enum method { METHOD_NONE, METHOD_TLS, METHOD_SERVICE, METHOD_THIRDPARTY, METHOD_PORTAL };
/* Named queues a message may be held in (spec F7). */
enum hold_queue { HOLD_NONE, HOLD_EXCEPTION, HOLD_DATA_SECURITY, HOLD_ENCRYPTION_FAIL, HOLD_ADMIN };

/* TLS demanded of a hop, weakest first. Levels of spec B3. */
enum tls_level {
    TLS_LEVEL_OFF,           /* route switch off: no STARTTLS */
    TLS_LEVEL_OPPORTUNISTIC, /* reference/mta.md 2.3 */
    TLS_LEVEL_ENCRYPT,
    TLS_LEVEL_ENCRYPT_CN,
    TLS_LEVEL_VERIFY,
    TLS_LEVEL_VERIFY_CN
};
enum tls_strength { TLS_STRENGTH_MEDIUM = 128, TLS_STRENGTH_HIGH = 256 };

#define FIRED_FIELDS(F, S, L)                                                                      \
    F(STR, policy)                                                                                 \
    F(STR, rule)                                                                                   \
    F(U8, severity)                                                                                \
    F(U8, action) /* what the rule asks for */                                                     \
    F(U32, matches)                                                                                \
    F(STR, why) /* "CREDIT_CARD 3 >= 1 in whole message" */
WIRE_DECLARE(fired, FIRED_FIELDS)

#define DECISION_FIELDS(F, S, L)                                                                   \
    F(U64, revision)  /* settings revision that decided */                                         \
    F(U8, direction)  /* enum direction */                                                         \
    F(BOOL, analysed) /* false only by an explicit, audited bypass */                              \
    F(BOOL, monitor)  /* mode monitor: actions logged, not taken */                                \
    F(U8, wanted)     /* enum action the rules asked for */                                        \
    F(U8, action)     /* enum action taken */                                                      \
    F(U8, hold)       /* enum hold_queue when action is QUARANTINE */                              \
    F(BOOL, encrypt)  /* must never travel in clear */                                             \
    F(BOOL, encrypt_on_release)                                                                    \
    F(U8, method) /* enum method when encrypt */                                                   \
    F(U8, backup)                                                                                  \
    F(U8, severity)                                                                                \
    F(STR, reason) /* one line */                                                                  \
    L(fired, fired)
WIRE_DECLARE(decision, DECISION_FIELDS)

/* What a delivery attempt must satisfy; a session is reused only under an equal requirement. */
#define TLS_REQ_FIELDS(F, S, L)                                                                    \
    F(U8, level)     /* enum tls_level */                                                          \
    F(U16, strength) /* minimum bits, 128 or 256 */                                                \
    F(STR, why)      /* "encrypt method tls", "route internal", "enforced entry NAME" */
WIRE_DECLARE(tls_req, TLS_REQ_FIELDS)

#endif
