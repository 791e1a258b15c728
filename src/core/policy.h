/*
 * The decision: facts + settings -> one decision per recipient. Pure, total, deterministic.
 * Invariants I1..I6 of reference aesthetics 6 iii are tested exhaustively (policy_test, plan_test).
 */
#ifndef CORE_POLICY_H
#define CORE_POLICY_H

#include "model/facts.h"
#include "model/settings.h"

/* spec 0.1, E5: by protected domains; a trusted or authenticated source with an
 * outside recipient is outbound whatever the sender address, the null sender included. */
enum direction direction_of(const struct settings *s, const struct envelope *env,
                            struct sv rcpt_addr);

/* Decides for recipient `rcpt` (index into env->rcpts). */
void policy_decide(const struct settings *s, const struct envelope *env, const struct facts *facts,
                   uint32_t rcpt, struct arena *a, struct decision *out_decision);

/* Decision for a message made by this gateway (DSN, notice). One about an Encrypt-marked message is
 * itself Encrypt-marked; nothing else is analysed, since we wrote it. */
void policy_decide_own(const struct settings *s, bool about_encrypted,
                       struct decision *out_decision);

/* True when two recipients may share one copy: equal in everything that acts (not in reasons). */
bool decision_same_plan(const struct decision *x, const struct decision *y);

/* Names for logs, JSON and settings text. */
const char *action_name(uint8_t a);
const char *severity_name(uint8_t s);
const char *method_name(uint8_t m);
const char *direction_name(uint8_t d);
const char *tls_level_name(uint8_t l);
const char *hold_queue_name(uint8_t q);
const char *failure_name(uint8_t f);

#endif
