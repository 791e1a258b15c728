/*
 * The plan, exhaustively: method x backup x failure x outcome x age x ... against the golden table
 * tests/golden/plan.txt (reviewed like code; POSTSEAL_GOLDEN_WRITE=1 writes it anew), the
 * invariants I1 to I4 on every case, the schedule of retries, and the question of reports.
 */
#include "base/hash.h"
#include "base/rng.h"
#include "core/names.h"
#include "core/plan.h"
#include "core/test_util.h"

#define MINUTE 60000ll
#define T0     1700000000000ll

static struct arena arena, settings_arena;
static struct settings *base;

static int set_up(void **state)
{
    static const struct piece pieces[] = {
        {"groups/domain/protected.txt", "inside.example\n"},
        {"policies/p.conf", "[policy]\n[rule r]\ncondition = CREDIT_CARD at least 1\n"
                            "action = encrypt\n"},
        {NULL, NULL},
    };

    (void)state;
    arena_init(&arena, TEST_ARENA_MAX);
    arena_init(&settings_arena, TEST_ARENA_MAX);
    base = test_compile(pieces, &settings_arena);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_done(&arena);
    arena_done(&settings_arena);
    return 0;
}

/* ---- one chain: decide, route, attempt, next ---- */

/* What the attempt over the planned hop met. */
enum meeting { MEET_DELIVERED, MEET_CONNECT, MEET_NO_TLS, MEET_BROKEN_TLS, MEET_4XX, MEET_5XX };
enum backup_result { BACKUP_NOT_TRIED, BACKUP_FAILED };
enum age { AGE_YOUNG, AGE_OLD };

struct chain {
    enum method method, backup;
    enum meeting meeting;
    enum backup_result backup_result;
    enum age age;
    enum direction direction;
    enum dlp_mode mode;
    bool hit;          /* the rule matches */
    bool auth;         /* the route sends credentials */
    bool from_gateway; /* peer in the Encryption Gateway group */
};

struct end {
    struct decision d;
    struct hop hop;
    struct step step;
    bool clear; /* a copy left in clear text */
};

static struct envelope envelope_of(const struct chain *c)
{
    static const struct {
        const char *sender, *rcpt;
    } ends[] = {
        [DIRECTION_INBOUND] = {"a@outside.example", "b@inside.example"},
        [DIRECTION_OUTBOUND] = {"a@inside.example", "b@outside.example"},
        [DIRECTION_INTERNAL] = {"a@inside.example", "b@inside.example"},
        [DIRECTION_RELAY] = {"a@outside.example", "b@outside.example"},
    };
    static struct rcpt rcpt;
    struct envelope env = {.sender = sv_str(ends[c->direction].sender),
                           .rcpts = &rcpt,
                           .n_rcpts = 1,
                           .received_ms = T0};

    rcpt = (struct rcpt){.addr = sv_str(ends[c->direction].rcpt)};
    env.peer.gateway = c->from_gateway;
    return env;
}

static enum failure failure_of(const struct chain *c, const struct tls_req *req, bool *out_clear)
{
    enum failure f = c->meeting == MEET_NO_TLS ? FAILURE_TLS_NOT_OFFERED : FAILURE_TLS_HANDSHAKE;

    *out_clear = req->level == TLS_LEVEL_OFF;
    switch (c->meeting) {
    case MEET_DELIVERED:
        return FAILURE_NONE;
    case MEET_CONNECT:
        *out_clear = false;
        return FAILURE_CONNECT;
    case MEET_4XX:
        return FAILURE_SMTP_TEMP;
    case MEET_5XX:
        return FAILURE_SMTP_PERM;
    case MEET_NO_TLS:
    case MEET_BROKEN_TLS:
        break;
    }
    *out_clear = tls_may_fall_back(req, f, c->auth);
    return *out_clear ? FAILURE_NONE : f;
}

static struct end run_chain(const struct chain *c)
{
    struct settings s = *base;
    struct route route = *base->routes;
    struct envelope env = envelope_of(c);
    struct total total = {.classifier = SV("CREDIT_CARD"), .count = 1, .unique = 1};
    struct facts facts = {.totals = &total, .n_totals = c->hit};
    struct rcpt_outcome outcome = {.result = RCPT_DEFERRED};
    struct end e = {0};

    s.encryption_method = c->method;
    s.encryption_backup = c->backup;
    s.dlp_inbound = s.dlp_outbound = s.dlp_internal = c->mode;
    route.auth_user = c->auth ? SV("me") : SV("");
    s.routes = &route;
    policy_decide(&s, &env, &facts, 0, &arena, &e.d);
    assert_int_equal(plan_route(&s, &e.d, env.rcpts[0].addr, 0, &arena, &e.hop), ERR_OK);
    struct plan_in in = {.s = &s, .d = &e.d, .received_ms = T0, .attempts = 1};
    in.now_ms = T0 + (c->age == AGE_OLD ? 1440 : 0) * MINUTE;
    in.failure = failure_of(c, &e.hop.tls, &e.clear);
    in.backup_failed = c->backup_result == BACKUP_FAILED;
    if (in.failure == FAILURE_NONE)
        outcome.result = RCPT_DELIVERED;
    if (in.failure == FAILURE_SMTP_PERM)
        outcome.result = RCPT_FAILED;
    in.outcome = &outcome;
    e.step = plan_next(&in, &arena);
    return e;
}

static bool tls_trouble(const struct chain *c)
{
    return c->meeting == MEET_NO_TLS || c->meeting == MEET_BROKEN_TLS;
}

static void check_invariants(const struct chain *c, const struct end *e)
{
    bool wants = c->hit && c->mode == DLP_ENFORCE;
    bool outbound_only = c->method == METHOD_SERVICE || c->method == METHOD_PORTAL;
    bool leaves = c->direction == DIRECTION_OUTBOUND || c->direction == DIRECTION_RELAY;

    /* I1: Encrypt never travels in clear, whatever happens. */
    assert_false(e->d.encrypt && e->clear);
    assert_true(!e->d.encrypt || e->hop.tls.level >= TLS_LEVEL_ENCRYPT);
    /* Encrypt is taken when it is wanted, but for A13. */
    assert_int_equal(e->d.encrypt, wants && !(outbound_only && !leaves));
    assert_int_equal(e->d.wanted, c->hit ? ACTION_ENCRYPT : ACTION_PERMIT);
    /* I2: service and portal serve outbound mail only. */
    if (!leaves) {
        assert_int_not_equal(e->d.method, METHOD_SERVICE);
        assert_int_not_equal(e->d.method, METHOD_PORTAL);
        assert_int_not_equal(e->d.backup, METHOD_SERVICE);
        assert_int_not_equal(e->d.backup, METHOD_PORTAL);
    }
    /* I3: what came from the encryption server never goes there again. */
    if (c->from_gateway) {
        assert_int_not_equal(e->d.method, METHOD_THIRDPARTY);
        assert_int_not_equal(e->d.backup, METHOD_THIRDPARTY);
    }
    /* A4: only TLS has a backup. */
    assert_true(e->d.method == METHOD_TLS || e->d.backup == METHOD_NONE);
    assert_int_equal(e->d.encrypt, e->d.method != METHOD_NONE);
}

/* I4: both failed -> delayed within the schedule; expiry -> one bounce. */
static void check_step(const struct chain *c, const struct end *e)
{
    const struct step *s = &e->step;

    switch (s->kind) {
    case STEP_DONE:
        assert_true(c->meeting == MEET_DELIVERED || e->clear);
        break;
    case STEP_RETRY:
        assert_int_equal(c->age, AGE_YOUNG);
        assert_true(s->at_ms > T0 && s->at_ms <= T0 + 1440 * MINUTE);
        assert_true(s->status.p[0] == '4' && s->human.n);
        break;
    case STEP_BACKUP:
        assert_true(tls_trouble(c) && e->d.encrypt && e->d.backup != METHOD_NONE);
        assert_int_not_equal(c->backup_result, BACKUP_FAILED);
        break;
    case STEP_BOUNCE:
        assert_true(s->expired ? c->age == AGE_OLD : c->meeting == MEET_5XX);
        assert_true(s->human.n && s->status.n);
        break;
    case STEP_HOLD:
        fail();
    }
    if (tls_trouble(c) && e->d.encrypt && e->d.backup != METHOD_NONE &&
        c->backup_result != BACKUP_FAILED)
        assert_int_equal(s->kind, STEP_BACKUP);
    if (c->meeting == MEET_CONNECT) /* Z11: no reason for the backup */
        assert_int_equal(s->kind, c->age == AGE_OLD ? STEP_BOUNCE : STEP_RETRY);
}

/* ---- the golden table ---- */

#define SEEN_MAX 8192u

/* Lines of one section, each once, in order of first appearance. */
struct section {
    struct buf text;
    uint64_t seen[SEEN_MAX];
};

static void add_line(struct section *s, struct sv line)
{
    static const uint8_t key[16];
    uint64_t h = siphash24(key, line.p, line.n) | 1;
    uint32_t i = (uint32_t)(h % SEEN_MAX);

    while (s->seen[i] && s->seen[i] != h)
        i = (i + 1) % SEEN_MAX;
    if (!s->seen[i]) {
        (void)buf_append_sv(&s->text, sv_trim(line));
        (void)buf_append_byte(&s->text, '\n');
    }
    s->seen[i] = h;
}

static void print_decision(struct section *out, const struct chain *c, const struct end *e)
{
    struct sv line = arena_printf(
        &arena, "%-10s %-10s %-8s %-7s %-3s %-7s | %-7s %-7s %-10s %-10s\n",
        method_name((uint8_t)c->method), c->backup ? method_name((uint8_t)c->backup) : "none",
        direction_name((uint8_t)c->direction), name_of_value(&names_dlp_mode, c->mode),
        c->hit ? "hit" : "-", c->from_gateway ? "gateway" : "-", action_name(e->d.wanted),
        action_name(e->d.action), method_name(e->d.method), method_name(e->d.backup));

    add_line(out, line);
}

static void print_plan(struct section *out, const struct chain *c, const struct end *e)
{
    static const char *const meetings[] = {"delivered",  "connect", "no-tls",
                                           "broken-tls", "4xx",     "5xx"};
    static const char *const steps[] = {"done", "retry", "backup", "bounce", "hold"};
    const char *clear = e->clear && e->step.kind == STEP_DONE ? "in clear" : "";
    struct sv line =
        arena_printf(&arena, "%-10s %-10s %-13s %-4s %-10s %-13s %-5s | %-6s %-7s %s\n",
                     method_name(e->d.method), method_name(e->d.backup),
                     tls_level_name(e->hop.tls.level), c->auth ? "auth" : "-", meetings[c->meeting],
                     c->backup_result == BACKUP_FAILED ? "backup-failed" : "-",
                     c->age == AGE_OLD ? "old" : "young", steps[e->step.kind],
                     e->step.status.n ? e->step.status.p : "-", clear);

    add_line(out, line);
}

static unsigned run_combinations(struct chain c, struct section *decisions, struct section *plans)
{
    unsigned n = 0;

    for (unsigned bits = 0; bits < 64; bits++)
        for (int meeting = MEET_DELIVERED; meeting <= MEET_5XX; meeting++) {
            c.hit = bits & 1;
            c.auth = bits & 2;
            c.from_gateway = bits & 4;
            c.age = bits & 8 ? AGE_OLD : AGE_YOUNG;
            c.backup_result = bits & 16 ? BACKUP_FAILED : BACKUP_NOT_TRIED;
            c.mode = bits & 32 ? DLP_MONITOR : DLP_ENFORCE;
            c.meeting = (enum meeting)meeting;
            if (c.direction == DIRECTION_RELAY && c.from_gateway)
                continue; /* what a member sends outside is outbound */
            arena_reset(&arena);
            struct end e = run_chain(&c);
            check_invariants(&c, &e);
            check_step(&c, &e);
            print_decision(decisions, &c, &e);
            print_plan(plans, &c, &e);
            n++;
        }
    return n;
}

/* Every failure x the recipient's own result x backup, as plan_next sees them. */
static void print_failures(struct section *out)
{
    static const char *const results[] = {"pending", "delivered", "deferred", "failed",
                                          "unreached"};
    static const char *const steps[] = {"done", "retry", "backup", "bounce", "hold"};

    for (int f = 0; f <= FAILURE_INTERNAL; f++)
        for (int result = 0; result < 5; result++)
            for (int old = 0; old < 2; old++)
                for (int sealed = 0; sealed < 2; sealed++) {
                    arena_reset(&arena);
                    struct decision d = {.encrypt = sealed,
                                         .method = sealed ? METHOD_TLS : METHOD_NONE};
                    struct rcpt_outcome o = {.result = (uint8_t)result};
                    struct plan_in in = {.s = base,
                                         .d = &d,
                                         .received_ms = T0,
                                         .now_ms = T0 + old * 1440 * MINUTE,
                                         .attempts = 1,
                                         .failure = (enum failure)f,
                                         .outcome = result < 4 ? &o : NULL};
                    struct step s = plan_next(&in, &arena);
                    add_line(out, arena_printf(&arena, "%-15s %-9s %-5s %-7s | %-6s %-7s %.*s\n",
                                               failure_name((uint8_t)f), results[result],
                                               old ? "old" : "young", sealed ? "encrypt" : "-",
                                               steps[s.kind], s.status.n ? s.status.p : "-",
                                               SV_ARG(s.human)));
                    assert_true(s.kind == STEP_DONE || s.human.n);
                    assert_int_equal(s.kind == STEP_HOLD, s.hold == HOLD_EXCEPTION);
                }
}

static const char head_decisions[] =
    "# Golden table of core/plan_test.c: every combination is run, each distinct line stands "
    "once.\n"
    "# 1. decisions: method backup direction mode rule origin | wanted taken method backup\n";
static const char head_plans[] =
    "\n# 2. plans: method backup demanded-TLS credentials meets backup age | step status\n";
static const char head_failures[] =
    "\n# 3. failures: failure recipient age mark | step status words\n";

static void compare_golden(struct sv got)
{
    const char *path = getenv("POSTSEAL_GOLDEN");
    FILE *f =
        fopen(path ? path : "tests/golden/plan.txt", getenv("POSTSEAL_GOLDEN_WRITE") ? "w+" : "r");
    char *want = calloc(1, got.n + 2);

    assert_non_null(want);
    if (!f)
        fail_msg("tests/golden/plan.txt cannot be read");
    if (getenv("POSTSEAL_GOLDEN_WRITE")) {
        assert_int_equal(fwrite(got.p, 1, got.n, f), got.n);
        rewind(f);
    }
    size_t n = fread(want, 1, got.n + 1, f);
    fclose(f);
    size_t line = 1;
    for (size_t i = 0; i < got.n && i < n; i++) {
        if (want[i] != got.p[i])
            fail_msg("tests/golden/plan.txt:%zu differs; review, then write it anew", line);
        line += want[i] == '\n';
    }
    assert_int_equal(n, got.n);
    free(want);
}

static void every_chain_keeps_the_invariants(void **state)
{
    static struct section decisions, plans, failures;
    struct buf all;
    unsigned n = 0;

    (void)state;
    buf_init(&all, 4u << 20);
    buf_init(&decisions.text, 1u << 20);
    buf_init(&plans.text, 1u << 20);
    buf_init(&failures.text, 1u << 20);
    for (int method = METHOD_TLS; method <= METHOD_PORTAL; method++)
        for (int backup = METHOD_NONE; backup <= METHOD_PORTAL; backup++)
            for (int direction = 0; direction <= DIRECTION_RELAY; direction++)
                n += run_combinations((struct chain){.method = (enum method)method,
                                                     .backup = (enum method)backup,
                                                     .direction = (enum direction)direction},
                                      &decisions, &plans);
    print_failures(&failures);
    assert_true(n >= 13824);
    (void)buf_printf(&all, "%s", head_decisions);
    (void)buf_append_sv(&all, buf_sv(&decisions.text));
    (void)buf_printf(&all, "%s", head_plans);
    (void)buf_append_sv(&all, buf_sv(&plans.text));
    (void)buf_printf(&all, "%s", head_failures);
    (void)buf_append_sv(&all, buf_sv(&failures.text));
    compare_golden(buf_sv(&all));
    buf_done(&all);
    buf_done(&decisions.text);
    buf_done(&plans.text);
    buf_done(&failures.text);
}

/* ---- I1 over sequences: a message marked Encrypt through random histories ---- */

static void no_sequence_ends_in_clear(void **state)
{
    struct rng rng = rng_seeded(7);

    (void)state;
    for (int round = 0; round < 2000; round++) {
        struct chain c = {.method = METHOD_TLS,
                          .hit = true,
                          .direction = DIRECTION_OUTBOUND,
                          .mode = DLP_ENFORCE};
        unsigned bounces = 0;
        c.backup = (enum method)(rng_u64(&rng) % 5);
        for (int i = 0; i < 40 && !bounces; i++) {
            arena_reset(&arena);
            c.meeting = (enum meeting)(rng_u64(&rng) % 6);
            c.auth = rng_u64(&rng) % 2;
            c.age = i == 39 ? AGE_OLD : AGE_YOUNG;
            c.backup_result = rng_u64(&rng) % 2 ? BACKUP_FAILED : BACKUP_NOT_TRIED;
            struct end e = run_chain(&c);
            assert_false(e.clear);
            if (e.step.kind == STEP_DONE)
                break;
            bounces += e.step.kind == STEP_BOUNCE;
        }
        assert_true(bounces <= 1);
    }
}

/* ---- words and states of single steps ---- */

static struct step next_of(struct plan_in in)
{
    arena_reset(&arena);
    in.s = base;
    in.received_ms = T0;
    in.now_ms = in.now_ms ? in.now_ms : T0;
    return plan_next(&in, &arena);
}

static void words_say_what_failed(void **state)
{
    struct decision sealed = {.encrypt = true, .method = METHOD_TLS};
    struct decision plain = {0};

    (void)state;
    struct step s = next_of((struct plan_in){.d = &sealed, .failure = FAILURE_TLS_NOT_OFFERED});
    assert_sv(s.human, "TLS is required for this message and failed: the server does not offer "
                       "STARTTLS");
    s = next_of((struct plan_in){.d = &plain, .failure = FAILURE_TLS_CERT});
    assert_sv(s.human,
              "TLS is required for this route and failed: the certificate of the server did "
              "not pass the check");
    sealed.backup = METHOD_PORTAL;
    s = next_of((struct plan_in){.d = &sealed, .failure = FAILURE_TLS_WEAK, .backup_failed = true});
    assert_sv(s.human,
              "TLS is required for this message and failed: the session is weaker than the "
              "required strength; the backup method failed as well");
    s = next_of((struct plan_in){.d = &sealed,
                                 .failure = FAILURE_TLS_REFUSED,
                                 .backup_failed = true,
                                 .now_ms = T0 + 1440 * MINUTE});
    assert_sv(s.human, "TLS is required for this message and failed: the server refused STARTTLS; "
                       "the backup method failed as well; the retry period has ended");
    assert_true(s.expired);
    assert_sv(s.status, "5.7.10");
}

/* The server's own status is kept when its class agrees; a TLS failure keeps ours. */
static void status_of_the_server_is_kept(void **state)
{
    static const struct {
        enum failure failure;
        enum rcpt_result result;
        const char *theirs, *kept;
        enum step_kind kind;
    } rows[] = {
        {FAILURE_NONE, RCPT_FAILED, "5.1.1", "5.1.1", STEP_BOUNCE},
        {FAILURE_SMTP_PERM, RCPT_FAILED, "5.2.2", "5.2.2", STEP_BOUNCE},
        {FAILURE_SMTP_PERM, RCPT_FAILED, "4.2.2", "5.0.0", STEP_BOUNCE},
        {FAILURE_SMTP_PERM, RCPT_DEFERRED, "4.2.1", "4.2.1", STEP_RETRY},
        {FAILURE_SMTP_TEMP, RCPT_FAILED, "5.1.1", "5.1.1", STEP_BOUNCE},
        {FAILURE_SMTP_TEMP, RCPT_DEFERRED, "4.2.1", "4.2.1", STEP_RETRY},
        {FAILURE_SMTP_TEMP, RCPT_DEFERRED, "5.2.1", "4.0.0", STEP_RETRY},
        {FAILURE_SMTP_TEMP, RCPT_DEFERRED, "", "4.0.0", STEP_RETRY},
        {FAILURE_DNS_PERM, RCPT_FAILED, "5.1.10", "5.1.10", STEP_BOUNCE},
        {FAILURE_TLS_REFUSED, RCPT_FAILED, "5.5.1", "4.7.10", STEP_RETRY},
        {FAILURE_TLS_REFUSED, RCPT_DEFERRED, "4.7.0", "4.7.10", STEP_RETRY},
        {FAILURE_CORRUPT, RCPT_DEFERRED, "4.2.1", "4.3.0", STEP_HOLD},
        {FAILURE_CORRUPT, RCPT_FAILED, "5.2.1", "4.3.0", STEP_HOLD},
        {FAILURE_TIMEOUT, RCPT_PENDING, "", "4.4.2", STEP_RETRY},
        {FAILURE_TIMEOUT, RCPT_DELIVERED, "", "", STEP_DONE},
    };
    struct decision d = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rcpt_outcome o = {.result = (uint8_t)rows[i].result,
                                 .status = sv_str(rows[i].theirs)};
        struct step s = next_of(
            (struct plan_in){.d = &d, .failure = rows[i].failure, .outcome = &o, .attempts = 1});
        assert_int_equal(s.kind, rows[i].kind);
        assert_sv(s.status, rows[i].kept);
    }
}

/* Only a message marked Encrypt by TLS has a backup. */
static void backup_needs_the_mark(void **state)
{
    struct decision d = {.method = METHOD_TLS, .backup = METHOD_PORTAL};

    (void)state;
    struct plan_in in = {.d = &d, .failure = FAILURE_TLS_HANDSHAKE};
    assert_int_equal(next_of(in).kind, STEP_RETRY);
    d.encrypt = true;
    assert_int_equal(next_of(in).kind, STEP_BACKUP);
    assert_true(next_of(in).at_ms == T0);
    in.now_ms = T0 + 5000 * MINUTE; /* at once, also after the deadline: it may still work */
    assert_int_equal(next_of(in).kind, STEP_BACKUP);
    in.backup_failed = true;
    assert_int_equal(next_of(in).kind, STEP_BOUNCE);
    in.backup_failed = false;
    d.method = METHOD_SERVICE;
    assert_int_equal(next_of(in).kind, STEP_BOUNCE);
}

/* ---- F2: gaps double, the last attempt is made at the deadline ---- */

static void retries_follow_the_schedule(void **state)
{
    static const int64_t minutes[] = {15, 45, 105, 225, 465, 945, 1440};
    int64_t now = T0;

    (void)state;
    for (uint32_t i = 0; i < ARRAY_LEN(minutes); i++) {
        now = retry_next(15, 1440, T0, now, i + 1);
        assert_true(now == T0 + minutes[i] * MINUTE);
    }
    assert_true(retry_next(15, 1440, T0, now, 8) == 0);
    assert_true(retry_next(15, 1440, T0, now + 1, 8) == 0);
    /* received by a clock that was years ahead */
    assert_true(retry_next(15, 1440, T0 + 1000LL * 86400000, T0, 20) == T0 + 1440LL * MINUTE);
}

static void retry_bounds(void **state)
{
    static const struct {
        uint32_t interval, max;
        int64_t now_min;
        uint32_t attempts;
        int64_t next_min; /* 0 = none */
    } rows[] = {
        {15, 1440, 0, 0, 15},
        {15, 1440, 0, 1, 15},
        {15, 1440, 0, 2, 30},
        {15, 1440, 1439, 1, 1440},
        {15, 1440, 1424, 1, 1439},
        {15, 1440, 1425, 1, 1440},
        {15, 15, 0, 1, 15},
        {15, 15, 15, 2, 0},
        {1440, 43200, 0, 6, 43200},
        {1440, 43200, 0, 5, 23040},
        {1, 43200, 0, UINT32_MAX, 43200},
        {1440, 43200, 0, 21, 43200},
        {1440, 43200, 0, 22, 43200},
        {15, 1440, 2000, 1, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t next = retry_next(rows[i].interval, rows[i].max, T0, T0 + rows[i].now_min * MINUTE,
                                  rows[i].attempts);
        int64_t want = rows[i].next_min ? T0 + rows[i].next_min * MINUTE : 0;
        if (next != want)
            fail_msg("row %zu: %lld", i, (long long)((next - T0) / MINUTE));
    }
}

/* Whatever the clock does, the next attempt lies in the future and not behind the deadline. */
static void retry_is_bounded(void **state)
{
    struct rng rng = rng_seeded(3);

    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint32_t interval = 1 + (uint32_t)(rng_u64(&rng) % 1440);
        uint32_t max = interval + (uint32_t)(rng_u64(&rng) % (43201 - interval));
        int64_t now = T0 + (int64_t)(rng_u64(&rng) % (50000ull * 60000));
        int64_t next = retry_next(interval, max, T0, now, (uint32_t)(rng_u64(&rng) % 40));
        if (next)
            assert_true(next > now && next <= T0 + max * MINUTE);
        else
            assert_true(now >= T0 + max * MINUTE);
    }
}

/* ---- RFC 3461 ---- */

static void reports_honour_notify(void **state)
{
    static const uint8_t masks[] = {[REPORT_FAILED] = NOTIFY_FAILURE,
                                    [REPORT_DELAYED] = NOTIFY_DELAY,
                                    [REPORT_RELAYED] = NOTIFY_SUCCESS,
                                    [REPORT_DELIVERED] = NOTIFY_SUCCESS};

    (void)state;
    for (int kind = MESSAGE_SMTP; kind <= MESSAGE_NOTICE; kind++)
        for (int null = 0; null < 2; null++)
            for (unsigned notify = 0; notify < 16; notify++)
                for (int report = REPORT_FAILED; report <= REPORT_DELIVERED; report++) {
                    struct envelope env = {.kind = (uint8_t)kind,
                                           .sender = null ? SV("") : SV("a@b.example")};
                    struct rcpt r = {.notify = (uint8_t)notify};
                    bool want = kind == MESSAGE_SMTP && !null && !(notify & NOTIFY_NEVER);
                    want = want && (notify ? (notify & masks[report]) != 0
                                           : report == REPORT_FAILED || report == REPORT_DELAYED);
                    assert_int_equal(report_due(&env, &r, (enum report)report), want);
                }
}

static void names_are_distinct(void **state)
{
    (void)state;
    for (uint8_t i = 0; i <= FAILURE_INTERNAL; i++)
        for (uint8_t j = 0; j < i; j++)
            assert_string_not_equal(failure_name(i), failure_name(j));
    assert_string_equal(failure_name(FAILURE_INTERNAL + 1), "unknown");
    assert_string_equal(failure_name(FAILURE_TLS_CERT), "tls_certificate");
    assert_string_equal(hold_queue_name(HOLD_EXCEPTION), "exception");
    assert_string_equal(hold_queue_name(HOLD_ADMIN + 1), "unknown");
    assert_string_equal(method_name(METHOD_NONE), "none");
    assert_string_equal(method_name(METHOD_PORTAL), "portal");
    assert_string_equal(method_name(METHOD_PORTAL + 1), "unknown");
    assert_string_equal(action_name(ACTION_DROP_ATTACHMENTS), "drop_attachments");
    assert_string_equal(severity_name(SEVERITY_HIGH), "high");
    assert_string_equal(direction_name(DIRECTION_RELAY), "relay");
    assert_string_equal(tls_level_name(TLS_LEVEL_OFF), "off");
    assert_string_equal(tls_level_name(TLS_LEVEL_OPPORTUNISTIC), "opportunistic");
    assert_string_equal(tls_level_name(TLS_LEVEL_VERIFY_CN), "verify_cn");
    assert_string_equal(tls_level_name(99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_chain_keeps_the_invariants),
        cmocka_unit_test(no_sequence_ends_in_clear),
        cmocka_unit_test(words_say_what_failed),
        cmocka_unit_test(status_of_the_server_is_kept),
        cmocka_unit_test(backup_needs_the_mark),
        cmocka_unit_test(retries_follow_the_schedule),
        cmocka_unit_test(retry_bounds),
        cmocka_unit_test(retry_is_bounded),
        cmocka_unit_test(reports_honour_notify),
        cmocka_unit_test(names_are_distinct),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
