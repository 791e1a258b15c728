/*
 * The decision (spec 0, K33-K40, A12-A14, F9). Total: every input has an answer, and the answer
 * does not depend on whether the arena had room for its explanation.
 *
 * SECURITY: fails closed. A failed scan is never clean; a rule that cannot be judged fires when it
 * protects; once a rule demanded encryption the mark stays, whatever else wins.
 */
#include "core/policy.h"
#include "codec/mailaddr.h"
#include "core/conditions.h"
#include "core/settings.h"

static bool inside(const struct settings *s, struct sv addr)
{
    char domain[256];

    return domain_group_has(s->protected_domains, mailaddr_domain(addr, domain));
}

/* RFC 5321 4.5.1: <Postmaster> without a domain is this very host. */
static bool rcpt_inside(const struct settings *s, struct sv addr)
{
    return sv_eq_nocase(addr, SV("postmaster")) || inside(s, addr);
}

enum direction direction_of(const struct settings *s, const struct envelope *env,
                            struct sv rcpt_addr)
{
    bool ours = env->kind != MESSAGE_SMTP;
    bool from_inside = ours || (env->sender.n && inside(s, env->sender));

    if (rcpt_inside(s, rcpt_addr))
        return from_inside ? DIRECTION_INTERNAL : DIRECTION_INBOUND;
    if (from_inside || env->peer.trusted || env->peer.gateway || env->peer.auth_user.n)
        return DIRECTION_OUTBOUND;
    return DIRECTION_RELAY;
}

/* ---- which policies look at this recipient ---- */

static bool sender_is(struct sv entry, struct sv sender)
{
    size_t at = sv_rfind_byte(sender, '@');

    if (entry.n && entry.p[0] == '@')
        return at != SIZE_MAX && sv_eq_nocase(entry, sv_skip(sender, at));
    return sv_eq_nocase(entry, sender);
}

static bool sender_matches(const struct policy *p, const struct envelope *env)
{
    for (uint32_t i = 0; i < p->n_senders; i++)
        if (sender_is(p->senders[i], env->sender) ||
            (env->peer.auth_user.n && sender_is(p->senders[i], env->peer.auth_user)))
            return true;
    return !p->n_senders;
}

/* Relay is watched like outbound: it leaves. */
static bool policy_applies(const struct policy *p, const struct envelope *env,
                           enum direction direction, struct sv domain)
{
    enum direction d = direction == DIRECTION_RELAY ? DIRECTION_OUTBOUND : direction;

    return p->enabled && (p->directions & 1u << d) && sender_matches(p, env) &&
           (!p->destinations || domain_group_has(p->destinations, domain));
}

/* ---- one rule ---- */

static enum truth rule_holds(const struct case_facts *c, const struct rule *r,
                             uint32_t *out_matches)
{
    enum truth result = r->any ? TRUTH_NO : TRUTH_YES;
    uint32_t greatest = 0;

    for (uint32_t i = 0; i < r->n_conditions; i++) {
        uint32_t n = 0;
        enum truth t = condition_holds(c, &r->conditions[i], r->each_part, &n);
        result = r->any == (t > result) ? t : result;
        if (t == TRUTH_YES && n > greatest)
            greatest = n; /* K25: the greatest count picks the line */
    }
    *out_matches = greatest ? greatest : 1;
    return r->n_conditions ? result : TRUTH_NO;
}

/* K24; a rule that is true only perhaps takes its most restrictive line. */
static const struct severity_line *pick_line(const struct rule *r, enum truth truth,
                                             uint32_t matches)
{
    const struct severity_line *line = NULL;

    for (uint32_t i = 0; i < r->n_lines; i++) {
        const struct severity_line *l = &r->lines[i];
        if (truth == TRUTH_UNKNOWN ? !line || l->action >= line->action
                                   : !line || l->matches <= matches)
            line = l;
    }
    if (line && truth == TRUTH_UNKNOWN && line->action == ACTION_PERMIT)
        return NULL; /* nothing to protect */
    return line;
}

static struct sv rule_words(const struct case_facts *c, const struct rule *r, struct arena *a)
{
    struct sv words = SV_NULL;

    for (uint32_t i = 0; i < r->n_conditions; i++) {
        uint32_t n = 0;
        enum truth t = condition_holds(c, &r->conditions[i], r->each_part, &n);
        if (t == TRUTH_NO)
            continue;
        struct sv one = condition_words(&r->conditions[i], t, n, r->each_part, a);
        words = words.n ? arena_printf(a, "%.*s; %.*s", SV_ARG(words), SV_ARG(one)) : one;
    }
    return words;
}

/* ---- all rules ---- */

struct verdict {
    enum action action;     /* most restrictive (K33) */
    enum severity severity; /* greatest among the fired */
    bool encrypt;           /* some rule wants it, now or on release */
    const struct policy *policy;
    const struct rule *rule; /* that gave the action */
};

static void take(struct verdict *v, const struct policy *p, const struct rule *r,
                 const struct severity_line *l)
{
    if (!v->rule || l->action > v->action) {
        v->action = l->action;
        v->policy = p;
        v->rule = r;
    }
    if (l->severity > v->severity)
        v->severity = l->severity;
    v->encrypt |= l->action == ACTION_ENCRYPT || l->encrypt_on_release;
}

static void record(struct decision *d, const struct case_facts *c, const struct policy *p,
                   const struct rule *r, const struct severity_line *l, uint32_t matches,
                   struct arena *a)
{
    if (!d->fired)
        return;
    d->fired[d->n_fired++] = (struct fired){
        .policy = p->name,
        .rule = r->name,
        .severity = (uint8_t)l->severity,
        .action = (uint8_t)l->action,
        .matches = matches,
        .why = rule_words(c, r, a),
    };
}

static uint32_t count_rules(const struct settings *s)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n_policies; i++)
        n += s->policies[i].n_rules;
    return n;
}

static void judge_policy(const struct case_facts *c, const struct policy *p, struct arena *a,
                         struct decision *d, struct verdict *v)
{
    for (uint32_t i = 0; i < p->n_rules; i++) {
        const struct rule *r = &p->rules[i];
        uint32_t matches;
        enum truth t = r->enabled ? rule_holds(c, r, &matches) : TRUTH_NO;
        const struct severity_line *l = t == TRUTH_NO ? NULL : pick_line(r, t, matches);
        if (!l)
            continue;
        take(v, p, r, l);
        record(d, c, p, r, l, matches, a);
    }
}

/* ---- from verdict to decision ---- */

static bool monitored(const struct settings *s, enum direction direction)
{
    switch (direction) {
    case DIRECTION_INBOUND:
        return s->dlp_inbound == DLP_MONITOR;
    case DIRECTION_INTERNAL:
        return s->dlp_internal == DLP_MONITOR;
    case DIRECTION_OUTBOUND:
    case DIRECTION_RELAY:
        break;
    }
    return s->dlp_outbound == DLP_MONITOR;
}

/* May this method carry mail of this direction and origin? Service and portal: outbound only (A13);
 * mail that came from the encryption server never goes there again. */
static bool method_serves(uint8_t method, enum direction direction, bool from_gateway)
{
    switch ((enum method)method) {
    case METHOD_TLS:
        return true;
    case METHOD_SERVICE:
    case METHOD_PORTAL:
        return direction == DIRECTION_OUTBOUND || direction == DIRECTION_RELAY;
    case METHOD_THIRDPARTY:
        return !from_gateway;
    case METHOD_NONE:
        break;
    }
    return false;
}

/* Marks the decision Encrypt and picks the methods. */
static void mark_encrypt(const struct settings *s, bool from_gateway, struct decision *d)
{
    enum direction direction = (enum direction)d->direction;

    d->encrypt = true;
    d->method = (uint8_t)s->encryption_method;
    if (!method_serves(d->method, direction, from_gateway))
        d->method = METHOD_TLS; /* fails closed: mandatory TLS is always possible to demand */
    d->backup = (uint8_t)s->encryption_backup;
    if (d->method != METHOD_TLS || d->backup == METHOD_TLS ||
        !method_serves(d->backup, direction, from_gateway))
        d->backup = METHOD_NONE;
}

/* A13, A14: an encrypting rule on inbound or internal mail, when the method serves outbound only,
 * permits and says so. TLS serves every direction. */
static bool encrypt_not_served(const struct settings *s, const struct decision *d)
{
    enum direction direction = (enum direction)d->direction;

    switch ((enum method)s->encryption_method) {
    case METHOD_SERVICE:
    case METHOD_PORTAL:
        return direction == DIRECTION_INBOUND || direction == DIRECTION_INTERNAL;
    case METHOD_NONE:
    case METHOD_TLS:
    case METHOD_THIRDPARTY:
        break;
    }
    return false;
}

static const char *scan_words(uint8_t scan)
{
    switch ((enum scan_state)scan) {
    case SCAN_OK:
        return "content was read";
    case SCAN_FAILED:
        return "content could not be scanned";
    case SCAN_TIMEOUT:
        return "the scan took too long";
    case SCAN_KILLED:
        return "the scan was killed";
    case SCAN_LIMIT:
        return "content exceeds a scan limit";
    }
    return "content could not be scanned";
}

static void set_reason(struct decision *d, const struct verdict *v, const struct facts *facts,
                       bool not_served, struct arena *a)
{
    const char *tail = d->monitor ? " (monitor mode: logged only)" : "";

    if (not_served)
        tail = " (not encrypted: the method serves outbound mail only)";
    if (facts->scan != SCAN_OK)
        d->reason = arena_printf(a, "%s%s", scan_words(facts->scan), tail);
    else if (v->rule)
        d->reason = arena_printf(a, "%s by policy %.*s, rule %.*s%s", action_name(d->wanted),
                                 SV_ARG(v->policy->name), SV_ARG(v->rule->name), tail);
    else
        d->reason = SV("no rule matched");
}

/* A scan that failed asks for an action of its own, beside the rules. */
static void judge_scan(const struct settings *s, const struct facts *facts, struct verdict *v,
                       struct decision *d)
{
    if (facts->scan == SCAN_OK)
        return;
    if (s->exceptions_on_scan_failure == EXCEPTION_ENCRYPT) {
        v->encrypt = true;
        v->action = v->action > ACTION_ENCRYPT ? v->action : ACTION_ENCRYPT;
    } else {
        v->action = ACTION_QUARANTINE;
        d->hold = HOLD_EXCEPTION;
    }
}

static void act(const struct settings *s, const struct envelope *env, struct verdict *v,
                struct decision *d, bool *out_not_served)
{
    d->wanted = (uint8_t)v->action;
    d->severity = (uint8_t)v->severity;
    *out_not_served = v->encrypt && encrypt_not_served(s, d);
    if (*out_not_served) {
        v->encrypt = false;
        v->action = v->action == ACTION_ENCRYPT ? ACTION_PERMIT : v->action;
    }
    /* K29: attachments that cannot be dropped are quarantined with the message. */
    if (v->action == ACTION_DROP_ATTACHMENTS)
        v->action = ACTION_QUARANTINE;
    if (d->monitor) {
        d->hold = HOLD_NONE;
        return;
    }
    d->action = (uint8_t)v->action;
    if (d->action == ACTION_QUARANTINE && d->hold == HOLD_NONE)
        d->hold = HOLD_DATA_SECURITY;
    if (v->encrypt)
        mark_encrypt(s, env->peer.gateway, d);
    d->encrypt_on_release = d->encrypt && d->action == ACTION_QUARANTINE;
}

/* The one way around analysis: an explicit switch, off by default, for a trusted source that passes
 * mail from one outside domain to another (E5). The null sender is not a domain: it is analysed. */
static bool bypassed(const struct settings *s, const struct envelope *env, struct sv rcpt)
{
    return s->relay_trusted_bypass_analysis && env->peer.trusted && env->kind == MESSAGE_SMTP &&
           env->sender.n && !inside(s, env->sender) && !rcpt_inside(s, rcpt);
}

void policy_decide(const struct settings *s, const struct envelope *env, const struct facts *facts,
                   uint32_t rcpt, struct arena *a, struct decision *out_decision)
{
    struct sv addr = rcpt < env->n_rcpts ? env->rcpts[rcpt].addr : SV_NULL;
    struct decision d = {.revision = s->revision, .analysed = true};
    struct verdict v = {0};
    char domain_text[256];
    struct sv domain = mailaddr_domain(addr, domain_text);
    bool not_served;

    d.direction = (uint8_t)direction_of(s, env, addr);
    if (bypassed(s, env, addr)) {
        d.analysed = false;
        d.reason = SV("not analysed: relay.trusted_bypass_analysis");
        *out_decision = d;
        return;
    }
    d.monitor = monitored(s, (enum direction)d.direction);
    d.fired = ARENA_ARRAY(a, struct fired, count_rules(s) + 1);
    struct case_facts c = case_of(s, env, facts);
    for (uint32_t i = 0; i < s->n_policies; i++)
        if (policy_applies(&s->policies[i], env, (enum direction)d.direction, domain))
            judge_policy(&c, &s->policies[i], a, &d, &v);
    judge_scan(s, facts, &v, &d);
    act(s, env, &v, &d, &not_served);
    set_reason(&d, &v, facts, not_served, a);
    *out_decision = d;
}

void policy_decide_own(const struct settings *s, bool about_encrypted,
                       struct decision *out_decision)
{
    struct decision d = {
        .revision = s->revision, .direction = DIRECTION_OUTBOUND, .analysed = true};

    d.reason = SV("made by this gateway");
    if (about_encrypted) {
        /* Mandatory TLS in every direction: a report is no message for service or portal. */
        d.wanted = d.action = ACTION_ENCRYPT;
        d.encrypt = true;
        d.method = METHOD_TLS;
        d.reason = SV("made by this gateway about a message marked Encrypt");
    }
    *out_decision = d;
}

bool decision_same_plan(const struct decision *x, const struct decision *y)
{
    return x->action == y->action && x->hold == y->hold && x->encrypt == y->encrypt &&
           x->encrypt_on_release == y->encrypt_on_release && x->method == y->method &&
           x->backup == y->backup && x->revision == y->revision;
}
