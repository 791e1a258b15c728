/*
 * What `queue` keeps about a message besides envelope and body: the STATE record of the spool. It
 * is written when something worth surviving a restart is known (a decision that was acted on, a
 * failed attempt, a hold); a message without STATE is scanned and decided anew.
 */
#ifndef MODEL_QUEUE_STATE_H
#define MODEL_QUEUE_STATE_H

#include "model/delivery.h"

enum stage {
    STAGE_NEW,   /* to be scanned and decided */
    STAGE_READY, /* decided: recipients are delivered when due */
    STAGE_HELD   /* waits for an administrator in a named queue */
};
enum rcpt_stage {
    RCPT_STAGE_WAITING, /* attempt due at next_ms */
    RCPT_STAGE_DONE,    /* delivered */
    RCPT_STAGE_REPORT,  /* failed for good; the report is still to be made */
    RCPT_STAGE_BOUNCED, /* failed for good, report made or not due */
    RCPT_STAGE_DROPPED  /* removed by an administrator */
};

#define QUEUE_RCPT_FIELDS(F, S, L)                                                                 \
    F(U8, stage)     /* enum rcpt_stage */                                                         \
    F(U16, attempts) /* finished attempts */                                                       \
    F(I64, next_ms)                                                                                \
    F(I64, last_ms) /* end of the last attempt, 0 = none */                                        \
    F(U8, failure)  /* enum failure of the last attempt */                                         \
    F(U16, code)                                                                                   \
    F(STR, status)                                                                                 \
    F(STR, reply)                                                                                  \
    F(STR, human)   /* our words for what happened; never remote text */                           \
    F(STR, remote)  /* "host[ip]:port" of the last attempt */                                      \
    F(BOOL, warned) /* delay warning sent */                                                       \
    F(BOOL, backup_failed)
WIRE_DECLARE(queue_rcpt, QUEUE_RCPT_FIELDS)

#define QUEUE_STATE_FIELDS(F, S, L)                                                                \
    F(U8, stage) /* enum stage */                                                                  \
    F(U8, hold)  /* enum hold_queue when held */                                                   \
    F(STR, hold_reason)                                                                            \
    F(U8, kills)        /* content workers that died over this message */                          \
    F(BOOL, expedite)   /* released: rules are not asked again */                                  \
    F(U64, last_report) /* highest id of a report made about this message */                       \
    S(decision, decision)                                                                          \
    L(queue_rcpt, rcpts)
WIRE_DECLARE(queue_state, QUEUE_STATE_FIELDS)

#endif
