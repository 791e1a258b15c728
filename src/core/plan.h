/*
 * The plan: decision + settings + outcome history -> the next step. Pure. `queue` executes steps;
 * it takes no decision of its own.
 */
#ifndef CORE_PLAN_H
#define CORE_PLAN_H

#include "core/policy.h"
#include "model/delivery.h"

/* Route for a recipient domain (spec D): first route whose group has the domain, else the default.
 * Equal preferences rotate by `turn` (round robin). Fills hop->tls from route and decision: an
 * encrypt decision with method tls gives the mandatory requirement of `encryption`, never less.
 * By MX on a port other than 25 it is one host {domain, port, mx}. Credentials demand Encrypt.
 * ERR_NOTFOUND: <Postmaster> and neither administrator address nor fqdn is set. */
NODISCARD enum err plan_route(const struct settings *s, const struct decision *d, struct sv rcpt,
                              uint64_t turn, struct arena *a, struct hop *out_hop);

enum step_kind {
    STEP_DONE,   /* delivered: nothing more */
    STEP_RETRY,  /* delayed queue until step.at_ms */
    STEP_BACKUP, /* try the backup method at once */
    STEP_BOUNCE, /* failed for good: DSN when NOTIFY and sender allow */
    STEP_HOLD    /* isolate in step.hold */
};
struct step {
    enum step_kind kind;
    int64_t at_ms;
    enum hold_queue hold;
    bool expired;     /* bounce because the period ended */
    struct sv status; /* enhanced status for a DSN: "4.7.5" "5.7.10" ... */
    struct sv human;  /* words: "TLS is required for this message and failed: ..." */
};
struct plan_in {
    const struct settings *s;
    const struct decision *d;
    int64_t received_ms, now_ms;
    uint32_t attempts; /* finished attempts of this recipient, this one included */
    enum failure failure;
    const struct rcpt_outcome *outcome; /* of this recipient; NULL = attempt never reached it */
    bool backup_failed;
};
/* What follows an attempt, for one recipient (spec A6, A7, A9, F1, F2, Z11). */
struct step plan_next(const struct plan_in *in, struct arena *a);

/* Time of the next attempt: gaps double from the interval, capped so that a last attempt is made at
 * the deadline; returns 0 when the deadline has passed (spec F2). */
int64_t retry_next(uint32_t interval_min, uint32_t max_min, int64_t received_ms, int64_t now_ms,
                   uint32_t attempts);

/* Does a session satisfy a requirement (spec B3, B7, B8)? *out_failure says which failure. */
bool tls_verdict(const struct tls_req *req, const struct tls_facts *facts,
                 enum failure *out_failure);
/* Is clear text permitted after this failure (reference mta 2.3)? */
bool tls_may_fall_back(const struct tls_req *req, enum failure f, bool has_auth);

/* DSN question (RFC 3461): is a report of this kind due for this recipient? */
enum report { REPORT_FAILED, REPORT_DELAYED, REPORT_RELAYED, REPORT_DELIVERED };
bool report_due(const struct envelope *env, const struct rcpt *r, enum report kind);

#endif
