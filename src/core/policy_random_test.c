/* Invariants I1, I5, I6 and the agreement of marks, on random rule sets, facts and envelopes. */
#include "base/rng.h"
#include "core/policy.h"
#include "core/test_util.h"

static struct arena arena, scratch;

/* ---- random rule sets and facts ---- */

static uint32_t pick(struct rng *rng, uint32_t n)
{
    return (uint32_t)(rng_u64(rng) % n);
}

static struct sv pick_name(struct rng *rng)
{
    static const struct sv names[] = {SV("CREDIT_CARD"), SV("US_SSN"), SV("project-x"), SV("none")};

    return names[pick(rng, 4)];
}

static struct condition random_condition(struct rng *rng)
{
    static const struct sv patterns[] = {SV("*"), SV("*.docx"), SV("image/*"), SV("x?z")};
    struct condition c = {.kind = (enum cond_kind)pick(rng, COND_ALL + 1),
                          .threshold = (enum threshold)pick(rng, THRESHOLD_NONE + 1),
                          .low = 1 + pick(rng, 5),
                          .unique = pick(rng, 2),
                          .negate = pick(rng, 4) == 0,
                          .flag = 1u << pick(rng, 6)};

    c.high = c.low + pick(rng, 5);
    c.name = c.kind == COND_CLASSIFIER ? pick_name(rng) : patterns[pick(rng, 4)];
    return c;
}

static struct policy random_policy(struct rng *rng, struct sv name)
{
    static const enum action actions[] = {ACTION_PERMIT, ACTION_ENCRYPT, ACTION_QUARANTINE,
                                          ACTION_DROP_ATTACHMENTS};
    struct policy p = {.name = name, .enabled = pick(rng, 8) > 0, .n_rules = pick(rng, 4)};

    p.directions = (uint8_t)pick(rng, 8);
    p.rules = ARENA_ARRAY(&scratch, struct rule, 4);
    for (uint32_t i = 0; i < p.n_rules; i++) {
        struct rule *r = &p.rules[i];
        *r = (struct rule){.name = SV("r"),
                           .enabled = pick(rng, 8) > 0,
                           .any = pick(rng, 2),
                           .each_part = pick(rng, 2),
                           .n_conditions = pick(rng, 4),
                           .n_lines = 1 + pick(rng, 3)};
        r->conditions = ARENA_ARRAY(&scratch, struct condition, 4);
        for (uint32_t k = 0; k < r->n_conditions; k++)
            r->conditions[k] = random_condition(rng);
        for (uint32_t k = 0; k < r->n_lines; k++)
            r->lines[k] = (struct severity_line){.matches = 1 + 3 * k,
                                                 .severity = (enum severity)pick(rng, 3),
                                                 .action = actions[pick(rng, 4)],
                                                 .encrypt_on_release = pick(rng, 6) == 0};
    }
    return p;
}

static struct facts random_facts(struct rng *rng)
{
    static const struct sv files[] = {SV(""), SV("a.docx"), SV("xyz"), SV("b.png")};
    static const struct sv types[] = {SV("text/plain"), SV("image/png"), SV("")};
    struct facts f = {.scan = (uint8_t)(pick(rng, 4) ? SCAN_OK : pick(rng, 5)),
                      .size = pick(rng, 9000),
                      .attachments = pick(rng, 6),
                      .n_parts = pick(rng, 4),
                      .n_hits = pick(rng, 5),
                      .n_totals = pick(rng, 4)};

    f.parts = ARENA_ARRAY(&scratch, struct part, 8);
    f.hits = ARENA_ARRAY(&scratch, struct hit, 8);
    f.totals = ARENA_ARRAY(&scratch, struct total, 8);
    for (uint32_t i = 0; i < f.n_parts; i++)
        f.parts[i] = (struct part){.name = files[pick(rng, 4)],
                                   .declared_type = types[pick(rng, 3)],
                                   .true_type = types[pick(rng, 3)],
                                   .flags = pick(rng, 3) ? 0 : pick(rng, 64)};
    for (uint32_t i = 0; i < f.n_hits; i++)
        f.hits[i] = (struct hit){.classifier = pick_name(rng),
                                 .part = pick(rng, 5),
                                 .count = pick(rng, 9),
                                 .unique = pick(rng, 5)};
    for (uint32_t i = 0; i < f.n_totals; i++)
        f.totals[i] = (struct total){
            .classifier = pick_name(rng), .count = pick(rng, 9), .unique = pick(rng, 5)};
    return f;
}

static struct envelope random_envelope(struct rng *rng)
{
    static const struct sv addresses[] = {SV("a@inside.example"), SV("b@outside.example"),
                                          SV("c@partner.example"), SV("")};
    struct envelope env = {
        .sender = addresses[pick(rng, 4)], .n_rcpts = 1 + pick(rng, 3), .size = pick(rng, 9000)};

    env.rcpts = ARENA_ARRAY(&scratch, struct rcpt, 3);
    for (uint32_t i = 0; i < env.n_rcpts; i++)
        env.rcpts[i].addr = addresses[pick(rng, 3)];
    env.peer.trusted = pick(rng, 2);
    env.peer.gateway = pick(rng, 4) == 0;
    env.kind = (uint8_t)(pick(rng, 8) ? MESSAGE_SMTP : MESSAGE_DSN);
    return env;
}

static struct settings random_settings(struct rng *rng, const struct settings *base)
{
    static const struct sv names[] = {SV("p0"), SV("p1"), SV("p2"), SV("p3")};
    struct settings s = *base;

    s.n_policies = pick(rng, 4);
    s.policies = ARENA_ARRAY(&scratch, struct policy, 4);
    for (uint32_t i = 0; i < s.n_policies; i++)
        s.policies[i] = random_policy(rng, names[i]);
    s.encryption_method = pick(rng, METHOD_PORTAL + 1);
    s.encryption_backup = pick(rng, METHOD_PORTAL + 1);
    s.dlp_inbound = pick(rng, 2);
    s.dlp_outbound = pick(rng, 2);
    s.dlp_internal = pick(rng, 2);
    s.exceptions_on_scan_failure = pick(rng, 2);
    s.relay_trusted_bypass_analysis = pick(rng, 8) == 0;
    return s;
}

/* The marks of a decision agree with one another. */
static void check_consistent(const struct settings *s, const struct facts *f,
                             const struct decision *d)
{
    assert_int_equal(d->hold != HOLD_NONE, d->action == ACTION_QUARANTINE);
    assert_true(!d->encrypt || d->method != METHOD_NONE);
    assert_true(d->encrypt || (d->method == METHOD_NONE && d->backup == METHOD_NONE));
    assert_int_equal(d->encrypt_on_release, d->encrypt && d->action == ACTION_QUARANTINE);
    assert_true(d->action != ACTION_ENCRYPT || d->encrypt);
    assert_true(d->action != ACTION_DROP_ATTACHMENTS);
    assert_true(d->action == ACTION_PERMIT || !d->monitor);
    assert_true(d->reason.n > 0);
    for (uint32_t i = 0; i < d->n_fired; i++)
        assert_true(d->fired[i].action <= d->wanted);
    /* never clean: enforced, a failed scan holds or seals */
    if (f->scan != SCAN_OK && d->analysed && !d->monitor) {
        bool held = d->action == ACTION_QUARANTINE;
        bool served =
            s->encryption_method != METHOD_SERVICE && s->encryption_method != METHOD_PORTAL;
        assert_true(held || d->encrypt || !served);
    }
}

/* I5: one more rule never weakens the decision. */
static void check_monotone(struct rng *rng, const struct settings *s, const struct envelope *env,
                           const struct facts *f, const struct decision *before)
{
    struct settings more = *s;
    struct decision d;

    more.policies = ARENA_ARRAY(&scratch, struct policy, s->n_policies + 1u);
    if (s->n_policies)
        memcpy(more.policies, s->policies, s->n_policies * sizeof(struct policy));
    more.policies[more.n_policies++] = random_policy(rng, SV("more"));
    policy_decide(&more, env, f, 0, &scratch, &d);
    assert_true(d.action >= before->action && d.wanted >= before->wanted);
    assert_true(d.encrypt >= before->encrypt && d.severity >= before->severity);
    assert_true(d.n_fired >= before->n_fired);
}

/* I6: facts and envelope mean the same after a trip over the wire. */
static void check_wire(const struct settings *s, const struct envelope *env, const struct facts *f,
                       const struct decision *before)
{
    struct buf b, x, y;
    struct facts f2;
    struct envelope env2;
    struct decision d, d2;

    buf_init(&b, 1u << 20);
    buf_init(&x, 1u << 20);
    buf_init(&y, 1u << 20);
    facts_put(&b, f);
    assert_int_equal(facts_decode(arena_sv(&scratch, buf_sv(&b)), &scratch, &f2), ERR_OK);
    buf_reset(&b);
    envelope_put(&b, env);
    assert_int_equal(envelope_decode(arena_sv(&scratch, buf_sv(&b)), &scratch, &env2), ERR_OK);
    policy_decide(s, &env2, &f2, 0, &scratch, &d);
    decision_put(&x, before);
    decision_put(&y, &d);
    assert_true(sv_eq(buf_sv(&x), buf_sv(&y)));
    assert_int_equal(decision_decode(buf_sv(&x), &scratch, &d2), ERR_OK);
    assert_true(decision_same_plan(before, &d2));
    buf_done(&y);
    buf_done(&x);
    buf_done(&b);
}

static void random_rules_keep_the_invariants(void **state)
{
    const struct piece pieces[] = {{"groups/domain/protected.txt", "inside.example\n"},
                                   {NULL, NULL}};
    struct rng rng = rng_seeded(2026);

    (void)state;
    arena_init(&arena, TEST_ARENA_MAX);
    arena_init(&scratch, TEST_ARENA_MAX);
    struct settings *base = test_compile(pieces, &arena);
    for (int round = 0; round < 20000; round++) {
        arena_reset(&scratch);
        struct settings s = random_settings(&rng, base);
        struct facts f = random_facts(&rng);
        struct envelope env = random_envelope(&rng);
        struct decision d;
        policy_decide(&s, &env, &f, 0, &scratch, &d);
        check_consistent(&s, &f, &d);
        check_monotone(&rng, &s, &env, &f, &d);
        check_wire(&s, &env, &f, &d);
    }
    arena_done(&scratch);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_rules_keep_the_invariants),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
