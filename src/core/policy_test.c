/* Conditions, rules and the choice among them. */
#include "core/conditions.h"
#include "core/names.h"
#include "core/test_util.h"

static struct arena arena, scratch;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, TEST_ARENA_MAX);
    arena_init(&scratch, TEST_ARENA_MAX);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_done(&scratch);
    arena_done(&arena);
    return 0;
}

/* Settings with one policy file (its text) and the groups and phrases that tests use. */
static struct settings *with_policy(const char *text)
{
    const struct piece pieces[] = {
        {"groups/domain/protected.txt", "inside.example\n"},
        {"groups/domain/partners.txt", "partner.example\n"},
        {"phrases.conf", "[phrase project-x]\ntext = Project X\n"},
        {"policies/p.conf", text},
        {NULL, NULL},
    };

    return test_compile(pieces, &arena);
}

/* One rule with these conditions, outbound. */
static struct settings *with_rule(const char *body, const char *actions)
{
    char text[2048];

    (void)snprintf(text, sizeof(text), "[policy]\ndirection = outbound\n[rule r]\n%s\n%s\n", body,
                   actions);
    return with_policy(text);
}

static struct rcpt outside_rcpt = {.addr = SV("b@outside.example")};

static struct envelope outbound(void)
{
    return (struct envelope){
        .sender = SV("a@inside.example"), .rcpts = &outside_rcpt, .n_rcpts = 1, .size = 5000};
}

static struct decision decide(const struct settings *s, const struct facts *f)
{
    struct envelope env = outbound();
    struct decision d = {0};

    policy_decide(s, &env, f, 0, &scratch, &d);
    return d;
}

/* ---- facts used by the condition table ---- */

static struct part parts[] = {
    {.path = SV("1"),
     .declared_type = SV("text/plain"),
     .true_type = SV("text/plain"),
     .place = PLACE_BODY},
    {.path = SV("2"),
     .declared_type = SV("application/octet-stream"),
     .true_type = SV("application/pdf"),
     .name = SV("Plan.DOCX"),
     .flags = PART_ATTACHMENT | PART_TYPE_MISMATCH,
     .place = PLACE_ATTACHMENT},
    {.path = SV("3"),
     .declared_type = SV("image/png"),
     .true_type = SV(""),
     .name = SV("p.png"),
     .flags = PART_OPAQUE,
     .place = PLACE_ATTACHMENT},
};
static struct hit hits[] = {
    {.classifier = SV("CREDIT_CARD"), .part = 0, .count = 2, .unique = 1},
    {.classifier = SV("CREDIT_CARD"), .part = 1, .count = 1, .unique = 1},
    {.classifier = SV("project-x"), .part = 1, .count = 4, .unique = 1},
};
static struct total totals[] = {
    {.classifier = SV("CREDIT_CARD"), .count = 3, .unique = 2},
    {.classifier = SV("project-x"), .count = 4, .unique = 1},
};

static struct facts full_facts(void)
{
    return (struct facts){.size = 5000,
                          .attachments = 2,
                          .parts = parts,
                          .n_parts = ARRAY_LEN(parts),
                          .hits = hits,
                          .n_hits = ARRAY_LEN(hits),
                          .totals = totals,
                          .n_totals = ARRAY_LEN(totals)};
}

/* ---- conditions ---- */

enum when { NO, UNKNOWN, YES };
struct cond_row {
    const char *condition;
    bool each_part;
    enum when complete, incomplete; /* a whole scan; a scan that did not see all */
};
static const struct cond_row cond_table[] = {
    {"everything", false, YES, YES},
    {"CREDIT_CARD at least 3", false, YES, YES},
    {"CREDIT_CARD at least 4", false, NO, UNKNOWN},
    {"CREDIT_CARD at least 2 unique", false, YES, YES},
    {"CREDIT_CARD at least 3 unique", false, NO, UNKNOWN},
    {"CREDIT_CARD between 1 and 3", false, YES, UNKNOWN},
    {"CREDIT_CARD between 3 and 3", false, YES, UNKNOWN},
    {"CREDIT_CARD between 1 and 2", false, NO, NO},
    {"CREDIT_CARD between 4 and 9", false, NO, UNKNOWN},
    {"CREDIT_CARD none", false, NO, NO},
    {"US_SSN none", false, YES, UNKNOWN},
    {"US_SSN at least 1", false, NO, UNKNOWN},
    {"US_SSN at least 1 unique", false, NO, UNKNOWN},
    {"phrase:project-x at least 4", false, YES, YES},
    {"phrase:project-x at least 5", false, NO, UNKNOWN},
    /* K7: inside one part */
    {"CREDIT_CARD at least 2", true, YES, YES},
    {"CREDIT_CARD at least 3", true, NO, UNKNOWN},
    {"CREDIT_CARD at least 2 unique", true, NO, UNKNOWN},
    {"CREDIT_CARD between 1 and 1", true, YES, UNKNOWN},
    {"CREDIT_CARD none", true, NO, NO},
    {"US_SSN none", true, YES, UNKNOWN},
    {"phrase:project-x at least 4", true, YES, YES},
    {"phrase:project-x at least 5", true, NO, UNKNOWN},
    {"phrase:project-x none", true, NO, NO},
    {"US_SSN at least 1", true, NO, UNKNOWN},
    /* counts of the message */
    {"attachments at least 2", false, YES, YES},
    {"attachments at least 3", false, NO, UNKNOWN},
    {"attachments none", false, NO, NO},
    {"attachments between 1 and 2", false, YES, UNKNOWN},
    {"destinations at least 1", false, YES, YES},
    {"destinations at least 2", false, NO, NO},
    {"size at least 4 kb", false, YES, YES},
    {"size at least 5 kb", false, NO, NO},
    {"size between 1 and 4 kb", false, YES, YES},
    {"size between 5 and 9 kb", false, NO, NO},
    /* parts */
    {"file-name *.docx", false, YES, YES},
    {"file-name plan.???X", false, YES, YES},
    {"file-name *.doc", false, NO, UNKNOWN},
    {"file-name *", false, YES, YES},
    {"file-type application/pdf", false, YES, YES},
    {"file-type image/*", false, YES, YES},
    {"file-type audio/*", false, NO, UNKNOWN},
    {"property opaque", false, YES, YES},
    {"property type-mismatch", false, YES, YES},
    {"property encrypted", false, NO, UNKNOWN},
    {"property malformed", false, NO, UNKNOWN},
    /* negation */
    {"not everything", false, NO, NO},
    {"not CREDIT_CARD at least 3", false, NO, NO},
    {"not CREDIT_CARD at least 4", false, YES, UNKNOWN},
    {"not file-name *.doc", false, YES, UNKNOWN},
    {"not size at least 5 kb", false, YES, YES},
};

static enum truth truth_of(const struct cond_row *row, const struct facts *f)
{
    char body[256];
    uint32_t n;
    struct envelope env = outbound();

    (void)snprintf(body, sizeof(body), "%scondition = %s",
                   row->each_part ? "count = each-part\n" : "", row->condition);
    struct settings *s = with_rule(body, "action = encrypt");
    const struct rule *r = &s->policies[0].rules[0];
    struct case_facts c = case_of(s, &env, f);
    return condition_holds(&c, &r->conditions[0], r->each_part, &n);
}

static void conditions_have_three_values(void **state)
{
    static const enum truth values[] = {TRUTH_NO, TRUTH_UNKNOWN, TRUTH_YES};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cond_table); i++) {
        const struct cond_row *row = &cond_table[i];
        struct facts f = full_facts();
        if (truth_of(row, &f) != values[row->complete])
            fail_msg("complete: %s", row->condition);
        f.scan = SCAN_TIMEOUT;
        if (truth_of(row, &f) != values[row->incomplete])
            fail_msg("incomplete: %s", row->condition);
        f.scan = SCAN_OK;
        parts[1].flags |= PART_TRUNCATED; /* a limit inside a part is the same */
        if (truth_of(row, &f) != values[row->incomplete])
            fail_msg("truncated: %s", row->condition);
        parts[1].flags &= ~(uint32_t)PART_TRUNCATED;
    }
}

static void wildcards_match(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool match;
    } rows[] = {
        {"", "", true},
        {"", "a", false},
        {"*", "", true},
        {"*", "anything", true},
        {"a*", "abc", true},
        {"a*", "bac", false},
        {"*c", "abc", true},
        {"*c", "abcd", false},
        {"a?c", "abc", true},
        {"a?c", "ac", false},
        {"?", "", false},
        {"*.docx", "a.DOCX", true},
        {"*a*b*", "xxaxxbxx", true},
        {"*a*b*", "xxbxxaxx", false},
        {"***", "x", true},
        {"a**b", "ab", true},
        {"image/*", "image/png", true},
        {"image/*", "ximage/png", false},
        {"*ab", "aab", true},
        {"*aab", "aaab", true},
        {"a*a", "a", false},
        {"x*y*z", "xyyzzyz", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (wildcard_match(sv_str(rows[i].pattern), sv_str(rows[i].text)) != rows[i].match)
            fail_msg("%s ~ %s", rows[i].pattern, rows[i].text);
}

/* Q25 and the sources of a count: totals, hits, the greater where they differ. */
static void counts_are_robust(void **state)
{
    struct cond_row three = {"CREDIT_CARD at least 3", false, NO, NO};
    struct cond_row three_unique = {"CREDIT_CARD at least 3 unique", false, NO, NO};
    struct hit one[] = {{.classifier = SV("CREDIT_CARD"), .part = 0, .count = 2, .unique = 2},
                        {.classifier = SV("CREDIT_CARD"), .part = 9999, .count = 1, .unique = 1}};
    struct hit huge[] = {{.classifier = SV("CREDIT_CARD"), .count = UINT32_MAX, .unique = 3},
                         {.classifier = SV("CREDIT_CARD"), .count = UINT32_MAX, .unique = 1}};
    struct total total = {.classifier = SV("CREDIT_CARD"), .count = 2, .unique = 3};
    struct facts f = {.hits = one, .n_hits = 2};

    (void)state;
    assert_int_equal(truth_of(&three, &f), TRUTH_YES); /* totals missing: the sum of the parts */
    assert_int_equal(truth_of(&three_unique, &f), TRUTH_NO);
    f.totals = &total;
    f.n_totals = 1;
    assert_int_equal(truth_of(&three_unique, &f), TRUTH_YES);
    f = (struct facts){.hits = huge, .n_hits = 2};
    assert_int_equal(truth_of(&three, &f), TRUTH_YES); /* no wrap to a small number */
}

static void destinations_are_domains(void **state)
{
    struct rcpt rcpts[] = {{.addr = SV("a@one.example")},
                           {.addr = SV("b@ONE.example")},
                           {.addr = SV("c@two.example")},
                           {.addr = SV("d@three.example")}};
    struct settings *s = with_rule("condition = destinations at least 3", "action = quarantine");
    struct envelope env = {.sender = SV("a@inside.example"), .rcpts = rcpts, .n_rcpts = 4};
    struct facts f = {0};
    struct decision d;

    (void)state;
    policy_decide(s, &env, &f, 0, &scratch, &d);
    assert_int_equal(d.action, ACTION_QUARANTINE);
    assert_int_equal(d.fired[0].matches, 3);
    env.n_rcpts = 3;
    policy_decide(s, &env, &f, 0, &scratch, &d);
    assert_int_equal(d.action, ACTION_PERMIT);
    /* an index beyond the recipients is answered, not followed */
    policy_decide(s, &env, &f, 99, &scratch, &d);
    assert_int_equal(d.action, ACTION_PERMIT);
    rcpts[3].addr = SV("d@inside.example"); /* stands behind the three recipients */
    policy_decide(s, &env, &f, 3, &scratch, &d);
    assert_int_equal(d.direction, DIRECTION_OUTBOUND);
}

/* 1,000 domains with every domain twice are 1,000; counting is not quadratic in recipients. */
static void many_destinations_are_counted(void **state)
{
    static char text[2100][32];
    static struct rcpt rcpts[2100];
    struct settings *s =
        with_rule("condition = destinations between 1 and 999", "action = encrypt");

    (void)state;
    for (uint32_t n = 998; n <= 1050; n++) {
        for (uint32_t i = 0; i < 2 * n; i++) {
            (void)snprintf(text[i], sizeof(text[i]), "a@d%u.example", (unsigned)(i % n));
            rcpts[i].addr = sv_str(text[i]);
        }
        struct envelope env = {.sender = SV("a@inside.example"), .rcpts = rcpts, .n_rcpts = 2 * n};
        struct facts f = {0};
        struct decision d;
        policy_decide(s, &env, &f, 0, &scratch, &d);
        assert_int_equal(d.encrypt, n <= 999);
    }
}

/* ---- rules ---- */

struct rule_row {
    const char *body;
    bool fires;
    uint32_t matches;
};
static const struct rule_row rule_table[] = {
    {"condition = CREDIT_CARD at least 1\ncondition = attachments at least 1", true, 3},
    {"condition = CREDIT_CARD at least 1\ncondition = attachments at least 9", false, 0},
    {"match = any\ncondition = CREDIT_CARD at least 9\ncondition = attachments at least 1", true,
     2},
    {"match = any\ncondition = CREDIT_CARD at least 9\ncondition = attachments at least 9", false,
     0},
    {"match = any\ncondition = US_SSN at least 1\ncondition = file-name *", true, 2},
    {"condition = not US_SSN at least 1", true, 1},
    {"condition = everything", true, 1},
    {"enabled = no\ncondition = everything", false, 0},
    {"condition = US_SSN none", true, 1},
    {"condition = size at least 1 kb\ncondition = phrase:project-x at least 1", true, 4},
};

static void rules_combine_conditions(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rule_table); i++) {
        struct facts f = full_facts();
        struct decision d = decide(with_rule(rule_table[i].body, "action = encrypt"), &f);
        if ((d.n_fired == 1) != rule_table[i].fires)
            fail_msg("%s", rule_table[i].body);
        assert_int_equal(d.action, rule_table[i].fires ? ACTION_ENCRYPT : ACTION_PERMIT);
        if (d.n_fired)
            assert_int_equal(d.fired[0].matches, rule_table[i].matches);
    }
}

/* Q27, K24: 1, 10, 50 matches choose line 1, 2, 3. */
static void lines_follow_the_count(void **state)
{
    static const struct {
        uint32_t count;
        enum action action;
        enum severity severity;
    } rows[] = {
        {0, ACTION_PERMIT, SEVERITY_LOW},
        {1, ACTION_PERMIT, SEVERITY_LOW},
        {9, ACTION_PERMIT, SEVERITY_LOW},
        {10, ACTION_ENCRYPT, SEVERITY_MEDIUM},
        {49, ACTION_ENCRYPT, SEVERITY_MEDIUM},
        {50, ACTION_QUARANTINE, SEVERITY_HIGH},
        {UINT32_MAX, ACTION_QUARANTINE, SEVERITY_HIGH},
    };
    struct settings *s = with_rule("condition = CREDIT_CARD at least 1",
                                   "action = permit severity=low\n"
                                   "action = encrypt severity=medium from=10\n"
                                   "action = quarantine severity=high from=50");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct total t = {.classifier = SV("CREDIT_CARD"), .count = rows[i].count};
        struct facts f = {.totals = &t, .n_totals = 1};
        struct decision d = decide(s, &f);
        assert_int_equal(d.action, rows[i].action);
        assert_int_equal(d.severity, rows[i].severity);
        assert_int_equal(d.n_fired, rows[i].count ? 1 : 0);
    }
}

/* A protective rule that cannot be judged takes its most restrictive line. */
static void unknown_fails_closed(void **state)
{
    struct facts f = {.parts = parts, .n_parts = 1};
    struct part cut = {.flags = PART_TRUNCATED};
    struct settings *s = with_rule("condition = CREDIT_CARD at least 1",
                                   "action = encrypt severity=low\n"
                                   "action = quarantine severity=high from=50");

    (void)state;
    f.parts = &cut;
    struct decision d = decide(s, &f);
    assert_int_equal(d.action, ACTION_QUARANTINE);
    assert_int_equal(d.hold, HOLD_DATA_SECURITY);
    assert_int_equal(d.severity, SEVERITY_HIGH);
    assert_sv(d.fired[0].why, "CREDIT_CARD at least 1: unknown, content was not fully read");
    d = decide(with_rule("condition = CREDIT_CARD at least 1", "action = permit severity=high"),
               &f);
    assert_int_equal(d.n_fired, 0);
    assert_int_equal(d.action, ACTION_PERMIT);
    /* the second line of equal restriction gives the severity */
    d = decide(with_rule("condition = US_SSN at least 1",
                         "action = encrypt severity=low\naction = encrypt severity=high from=10"),
               &f);
    assert_int_equal(d.severity, SEVERITY_HIGH);
}

/* ---- which policies look ---- */

static void senders_and_destinations(void **state)
{
    static const struct {
        const char *sender, *user, *rcpt;
        bool fires;
    } rows[] = {
        {"boss@inside.example", "", "b@partner.example", true},
        {"BOSS@Inside.example", "", "b@PARTNER.example", true},
        {"x@dept.inside.example", "", "b@partner.example", true},
        {"x@inside.example", "", "b@partner.example", false},
        {"x@xdept.inside.example", "", "b@partner.example", false},
        {"boss@inside.example", "", "b@outside.example", false},
        {"boss@inside.example", "", "b@sub.partner.example", false},
        {"", "boss@inside.example", "b@partner.example", true},
        {"", "", "b@partner.example", false},
    };
    struct settings *s = with_policy("[policy]\ndirection = outbound, internal\n"
                                     "senders = boss@inside.example, @dept.inside.example\n"
                                     "destinations = partners\n"
                                     "[rule r]\ncondition = everything\naction = encrypt\n");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rcpt rcpt = {.addr = sv_str(rows[i].rcpt)};
        struct envelope env = {.sender = sv_str(rows[i].sender), .rcpts = &rcpt, .n_rcpts = 1};
        struct facts f = {0};
        struct decision d;
        env.peer.auth_user = sv_str(rows[i].user);
        env.peer.trusted = true;
        policy_decide(s, &env, &f, 0, &scratch, &d);
        assert_int_equal(d.encrypt, rows[i].fires);
    }
}

static void directions_select_policies(void **state)
{
    static const char *const ends[][2] = {
        [DIRECTION_INBOUND] = {"a@outside.example", "b@inside.example"},
        [DIRECTION_OUTBOUND] = {"a@inside.example", "b@outside.example"},
        [DIRECTION_INTERNAL] = {"a@inside.example", "b@inside.example"},
        [DIRECTION_RELAY] = {"a@outside.example", "b@outside.example"},
    };
    char text[256];

    (void)state;
    for (unsigned wanted = DIRECTION_INBOUND; wanted <= DIRECTION_INTERNAL; wanted++)
        for (unsigned actual = DIRECTION_INBOUND; actual <= DIRECTION_RELAY; actual++)
            for (unsigned mode = DLP_MONITOR; mode <= DLP_ENFORCE; mode++) {
                (void)snprintf(text, sizeof(text),
                               "[policy]\ndirection = %s\n[rule r]\ncondition = everything\n"
                               "action = encrypt\n",
                               direction_name((uint8_t)wanted));
                struct settings *s = with_policy(text);
                /* only the mode of this very direction counts; relay leaves like outbound */
                unsigned as = actual == DIRECTION_RELAY ? DIRECTION_OUTBOUND : actual;
                s->dlp_inbound = s->dlp_outbound = s->dlp_internal = !mode;
                *(as == DIRECTION_INBOUND    ? &s->dlp_inbound
                  : as == DIRECTION_OUTBOUND ? &s->dlp_outbound
                                             : &s->dlp_internal) = mode;
                struct rcpt rcpt = {.addr = sv_str(ends[actual][1])};
                struct envelope env = {
                    .sender = sv_str(ends[actual][0]), .rcpts = &rcpt, .n_rcpts = 1};
                struct facts f = {0};
                struct decision d;
                policy_decide(s, &env, &f, 0, &scratch, &d);
                assert_int_equal(d.direction, actual);
                assert_int_equal(d.monitor, mode == DLP_MONITOR);
                assert_int_equal(d.n_fired, as == wanted);
                assert_int_equal(d.wanted, as == wanted ? ACTION_ENCRYPT : ACTION_PERMIT);
                assert_int_equal(d.encrypt, as == wanted && mode == DLP_ENFORCE);
            }
}

static void disabled_policies_rest(void **state)
{
    struct facts f = full_facts();
    struct decision d = decide(with_policy("[policy]\nenabled = no\n[rule r]\n"
                                           "condition = everything\naction = quarantine\n"),
                               &f);

    (void)state;
    assert_int_equal(d.n_fired, 0);
    assert_int_equal(d.action, ACTION_PERMIT);
    assert_sv(d.reason, "no rule matched");
    assert_true(d.analysed);
}

/* ---- several rules (K33) ---- */

static const char two_rules[] = "[policy]\n[rule seal]\ncondition = CREDIT_CARD at least 1\n"
                                "action = encrypt severity=high\n"
                                "[rule hold]\ncondition = phrase:project-x at least 1\n"
                                "action = quarantine severity=low\n"
                                "[rule note]\ncondition = everything\naction = permit\n";

static void most_restrictive_wins(void **state)
{
    struct facts f = full_facts();
    struct decision d = decide(with_policy(two_rules), &f);

    (void)state;
    assert_int_equal(d.n_fired, 3); /* all are recorded */
    assert_int_equal(d.action, ACTION_QUARANTINE);
    assert_int_equal(d.hold, HOLD_DATA_SECURITY);
    assert_int_equal(d.severity, SEVERITY_HIGH);
    assert_sv(d.reason, "quarantine by policy p, rule hold");
    /* the other rule's mark stays: released, it must still travel encrypted */
    assert_true(d.encrypt && d.encrypt_on_release);
    assert_int_equal(d.method, METHOD_TLS);
    assert_sv(d.fired[0].why, "CREDIT_CARD 3, at least 1 in whole message");
    assert_sv(d.fired[1].why, "project-x 4, at least 1 in whole message");
    assert_sv(d.fired[2].why, "everything");
    assert_int_equal(d.fired[0].action, ACTION_ENCRYPT);
}

static void words_of_conditions(void **state)
{
    static const struct {
        const char *body, *why;
    } rows[] = {
        {"condition = CREDIT_CARD at least 2 unique",
         "CREDIT_CARD 2 unique, at least 2 in whole message"},
        {"count = each-part\ncondition = CREDIT_CARD between 1 and 5",
         "CREDIT_CARD 2, between 1 and 5 in one part"},
        {"condition = not US_SSN at least 1", "not US_SSN 0, at least 1 in whole message"},
        {"condition = US_SSN none", "US_SSN 0, none in whole message"},
        {"condition = attachments at least 1", "attachments at least 1"},
        {"condition = size at least 1 kb", "size in kb at least 1"},
        {"condition = destinations at least 1", "destinations at least 1"},
        {"condition = file-name *.png", "file name *.png"},
        {"condition = file-type image/*", "file type image/*"},
        {"condition = property opaque", "property opaque"},
        {"match = any\ncondition = US_SSN at least 1\ncondition = everything\ncondition = property "
         "opaque",
         "everything; property opaque"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct facts f = full_facts();
        struct decision d = decide(with_rule(rows[i].body, "action = encrypt"), &f);
        assert_int_equal(d.n_fired, 1);
        assert_sv(d.fired[0].why, rows[i].why);
    }
}

static void monitor_logs_only(void **state)
{
    struct facts f = full_facts();
    struct settings *s = with_policy(two_rules);
    s->dlp_outbound = DLP_MONITOR;
    struct decision d = decide(s, &f);

    (void)state;
    assert_true(d.monitor);
    assert_int_equal(d.wanted, ACTION_QUARANTINE);
    assert_int_equal(d.action, ACTION_PERMIT);
    assert_int_equal(d.hold, HOLD_NONE);
    assert_false(d.encrypt || d.encrypt_on_release);
    assert_int_equal(d.method, METHOD_NONE);
    assert_int_equal(d.n_fired, 3);
    assert_sv(d.reason, "quarantine by policy p, rule hold (monitor mode: logged only)");
}

/* A rule that rests or does not match never stops those behind it. */
static void later_rules_are_visited(void **state)
{
    struct facts f = full_facts();
    struct decision d = decide(with_policy("[policy]\n"
                                           "[rule a]\ncondition = US_SSN at least 1\n"
                                           "action = encrypt\n"
                                           "[rule b]\nenabled = no\ncondition = everything\n"
                                           "action = encrypt\n"
                                           "[rule c]\ncondition = CREDIT_CARD at least 1\n"
                                           "action = encrypt\n"),
                               &f);

    (void)state;
    assert_int_equal(d.n_fired, 1);
    assert_sv(d.fired[0].rule, "c");
    assert_true(d.encrypt);
}

/* K30 */
static void encrypt_on_release_is_a_mark(void **state)
{
    struct facts f = full_facts();
    struct decision d =
        decide(with_rule("condition = everything", "action = quarantine encrypt-on-release"), &f);

    (void)state;
    assert_int_equal(d.action, ACTION_QUARANTINE);
    assert_true(d.encrypt && d.encrypt_on_release);
    d = decide(with_rule("condition = everything", "action = quarantine"), &f);
    assert_false(d.encrypt || d.encrypt_on_release);
    assert_int_equal(d.method, METHOD_NONE);
}

/* K29: what cannot be dropped is held. */
static void drop_attachments_holds(void **state)
{
    struct facts f = full_facts();
    struct settings *s = with_rule("condition = everything", "action = quarantine");

    (void)state;
    s->policies[0].rules[0].lines[0].action = ACTION_DROP_ATTACHMENTS;
    struct decision d = decide(s, &f);
    assert_int_equal(d.wanted, ACTION_DROP_ATTACHMENTS);
    assert_int_equal(d.action, ACTION_QUARANTINE);
    assert_int_equal(d.hold, HOLD_DATA_SECURITY);
}

/* ---- scans that failed ---- */

static void failed_scans_are_never_clean(void **state)
{
    static const char *const words[] = {[SCAN_FAILED] = "content could not be scanned",
                                        [SCAN_TIMEOUT] = "the scan took too long",
                                        [SCAN_KILLED] = "the scan was killed",
                                        [SCAN_LIMIT] = "content exceeds a scan limit",
                                        [SCAN_LIMIT + 1] = "content could not be scanned"};
    struct settings *plain = with_policy("[policy]\n");
    struct settings *sealing =
        with_rule("condition = CREDIT_CARD at least 1", "action = encrypt severity=high");

    (void)state;
    for (uint8_t scan = SCAN_FAILED; scan <= SCAN_LIMIT + 1; scan++) {
        struct facts f = {.scan = scan};
        plain->exceptions_on_scan_failure = sealing->exceptions_on_scan_failure = EXCEPTION_HOLD;
        struct decision d = decide(plain, &f);
        assert_int_equal(d.action, ACTION_QUARANTINE);
        assert_int_equal(d.hold, HOLD_EXCEPTION);
        assert_false(d.encrypt);
        assert_sv(d.reason, words[scan]);
        /* a rule that might have sealed it: held, and sealed on release */
        d = decide(sealing, &f);
        assert_int_equal(d.action, ACTION_QUARANTINE);
        assert_int_equal(d.hold, HOLD_EXCEPTION);
        assert_true(d.encrypt && d.encrypt_on_release);
        plain->exceptions_on_scan_failure = EXCEPTION_ENCRYPT;
        d = decide(plain, &f);
        assert_int_equal(d.action, ACTION_ENCRYPT);
        assert_true(d.encrypt && !d.encrypt_on_release);
        assert_int_equal(d.method, METHOD_TLS);
        plain->dlp_outbound = DLP_MONITOR;
        d = decide(plain, &f);
        assert_int_equal(d.wanted, ACTION_ENCRYPT);
        assert_int_equal(d.action, ACTION_PERMIT);
        assert_int_equal(d.hold, HOLD_NONE);
        plain->dlp_outbound = DLP_ENFORCE;
    }
}

/* With encrypt as the answer to a failed scan, a holding rule still holds. */
static void failed_scan_and_holding_rule(void **state)
{
    struct settings *s = with_rule("condition = property encrypted", "action = quarantine");
    struct facts f = {.scan = SCAN_KILLED};

    (void)state;
    s->exceptions_on_scan_failure = EXCEPTION_ENCRYPT;
    struct decision d = decide(s, &f);
    assert_int_equal(d.action, ACTION_QUARANTINE);
    assert_int_equal(d.hold, HOLD_DATA_SECURITY);
    assert_true(d.encrypt && d.encrypt_on_release);
}

/* ---- bypass ---- */

static void bypass_is_explicit_and_narrow(void **state)
{
    static const struct {
        const char *sender, *rcpt;
        bool trusted, on;
        uint8_t kind;
        bool analysed;
    } rows[] = {
        {"a@x.example", "b@y.example", true, true, MESSAGE_SMTP, false},
        {"a@x.example", "b@y.example", true, false, MESSAGE_SMTP, true},
        {"a@x.example", "b@y.example", false, true, MESSAGE_SMTP, true},
        {"", "b@y.example", true, true, MESSAGE_SMTP, true},
        {"a@inside.example", "b@y.example", true, true, MESSAGE_SMTP, true},
        {"a@x.example", "b@inside.example", true, true, MESSAGE_SMTP, true},
        {"a@x.example", "postmaster", true, true, MESSAGE_SMTP, true},
        {"a@x.example", "b@y.example", true, true, MESSAGE_NOTICE, true},
    };
    struct settings *s = with_rule("condition = everything", "action = encrypt");

    (void)state;
    assert_false(s->relay_trusted_bypass_analysis);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rcpt rcpt = {.addr = sv_str(rows[i].rcpt)};
        struct envelope env = {
            .sender = sv_str(rows[i].sender), .rcpts = &rcpt, .n_rcpts = 1, .kind = rows[i].kind};
        struct facts f = {.scan = SCAN_OK};
        struct decision d;
        env.peer.trusted = rows[i].trusted;
        s->relay_trusted_bypass_analysis = rows[i].on;
        policy_decide(s, &env, &f, 0, &scratch, &d);
        assert_int_equal(d.analysed, rows[i].analysed);
        if (!d.analysed) {
            assert_int_equal(d.action, ACTION_PERMIT);
            assert_sv(d.reason, "not analysed: relay.trusted_bypass_analysis");
        }
    }
}

/* ---- our own messages, equal plans ---- */

static void own_messages_inherit_the_mark(void **state)
{
    struct settings *s = with_policy("[policy]\n");
    struct decision d;

    (void)state;
    policy_decide_own(s, true, &d);
    assert_true(d.encrypt && d.action == ACTION_ENCRYPT && d.method == METHOD_TLS && d.analysed);
    assert_int_equal(d.revision, 1);
    s->encryption_method = METHOD_PORTAL;
    s->encryption_backup = METHOD_SERVICE;
    policy_decide_own(s, true, &d);
    assert_int_equal(d.method, METHOD_TLS);
    assert_int_equal(d.backup, METHOD_NONE);
    policy_decide_own(s, false, &d);
    assert_false(d.encrypt);
    assert_int_equal(d.action, ACTION_PERMIT);
}

static void not_served_is_said(void **state)
{
    struct settings *s = with_policy(two_rules);
    struct rcpt rcpt = {.addr = SV("b@inside.example")};
    struct envelope env = {.sender = SV("a@inside.example"), .rcpts = &rcpt, .n_rcpts = 1};
    struct hit hit = {.classifier = SV("CREDIT_CARD"), .count = 1};
    struct facts f = {.hits = &hit, .n_hits = 1};
    struct decision d;

    (void)state;
    s->encryption_method = METHOD_SERVICE;
    policy_decide(s, &env, &f, 0, &scratch, &d);
    assert_int_equal(d.wanted, ACTION_ENCRYPT);
    assert_int_equal(d.action, ACTION_PERMIT);
    assert_false(d.encrypt);
    assert_sv(d.reason, "encrypt by policy p, rule seal (not encrypted: the method serves outbound "
                        "mail only)");
    s->encryption_method = METHOD_NONE; /* settings that cannot be: still mandatory TLS */
    policy_decide(s, &env, &f, 0, &scratch, &d);
    assert_true(d.encrypt);
    assert_int_equal(d.method, METHOD_TLS);
}

static void same_plan_compares_what_acts(void **state)
{
    struct decision x = {.revision = 1, .reason = SV("x"), .severity = 1, .direction = 1};
    struct decision y = {.revision = 1, .reason = SV("y"), .severity = 2, .direction = 2};

    (void)state;
    assert_true(decision_same_plan(&x, &y));
#define DIFFERS(field, value)                                                                      \
    do {                                                                                           \
        struct decision z = x;                                                                     \
        z.field = value;                                                                           \
        assert_false(decision_same_plan(&x, &z));                                                  \
    } while (0)
    DIFFERS(action, ACTION_ENCRYPT);
    DIFFERS(hold, HOLD_ADMIN);
    DIFFERS(encrypt, true);
    DIFFERS(encrypt_on_release, true);
    DIFFERS(method, METHOD_TLS);
    DIFFERS(backup, METHOD_PORTAL);
    DIFFERS(revision, 2);
#undef DIFFERS
}

/* The decision does not depend on room for its explanation. */
static void full_arena_decides_the_same(void **state)
{
    struct settings *s = with_policy(two_rules);
    struct facts f = full_facts();
    struct envelope env = outbound();

    (void)state;
    for (size_t cap = 0; cap < 4000; cap += 64) {
        struct arena small;
        struct decision d;
        arena_init(&small, cap);
        policy_decide(s, &env, &f, 0, &small, &d);
        assert_int_equal(d.action, ACTION_QUARANTINE);
        assert_true(d.encrypt && d.encrypt_on_release);
        arena_done(&small);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conditions_have_three_values),
        cmocka_unit_test(wildcards_match),
        cmocka_unit_test(counts_are_robust),
        cmocka_unit_test(destinations_are_domains),
        cmocka_unit_test(many_destinations_are_counted),
        cmocka_unit_test(rules_combine_conditions),
        cmocka_unit_test(lines_follow_the_count),
        cmocka_unit_test(unknown_fails_closed),
        cmocka_unit_test(senders_and_destinations),
        cmocka_unit_test(directions_select_policies),
        cmocka_unit_test(disabled_policies_rest),
        cmocka_unit_test(most_restrictive_wins),
        cmocka_unit_test(words_of_conditions),
        cmocka_unit_test(monitor_logs_only),
        cmocka_unit_test(later_rules_are_visited),
        cmocka_unit_test(encrypt_on_release_is_a_mark),
        cmocka_unit_test(drop_attachments_holds),
        cmocka_unit_test(failed_scans_are_never_clean),
        cmocka_unit_test(failed_scan_and_holding_rule),
        cmocka_unit_test(bypass_is_explicit_and_narrow),
        cmocka_unit_test(own_messages_inherit_the_mark),
        cmocka_unit_test(not_served_is_said),
        cmocka_unit_test(same_plan_compares_what_acts),
        cmocka_unit_test(full_arena_decides_the_same),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
