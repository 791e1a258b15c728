/* One small predicate per condition kind, in three values. Private to core/policy. */
#ifndef CORE_CONDITIONS_H
#define CORE_CONDITIONS_H

#include "core/policy.h"

enum truth { TRUTH_NO, TRUTH_UNKNOWN, TRUTH_YES }; /* in this order: min = and, max = or */

struct case_facts { /* everything a condition may look at */
    const struct settings *s;
    const struct envelope *env;
    const struct facts *facts;
    bool incomplete;       /* the scan did not see all: counts are lower bounds */
    uint32_t destinations; /* distinct recipient domains, counted once */
};
struct case_facts case_of(const struct settings *s, const struct envelope *env,
                          const struct facts *facts);

/* Does the condition hold? *out_matches counts what was seen (0 of a negated condition). */
enum truth condition_holds(const struct case_facts *c, const struct condition *cond, bool each_part,
                           uint32_t *out_matches);
/* "CREDIT_CARD 3 at least 1 in whole message" */
struct sv condition_words(const struct condition *cond, enum truth truth, uint32_t matches,
                          bool each_part, struct arena *a);
/* "*" any run, "?" one byte; ASCII case is ignored. */
bool wildcard_match(struct sv pattern, struct sv text);

#endif
