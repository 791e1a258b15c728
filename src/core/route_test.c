#include "core/plan.h"
#include "core/test_util.h"

static const struct piece pieces[] = {
    {"general.conf", "administrator_address = admin@inside.example\nfqdn = gw.example.com\n"},
    {"groups/domain/protected.txt", "inside.example\n"},
    {"groups/domain/partners.txt", "partner.example\n*.partner.example\ninside.example\n"},
    {"groups/domain/odd.txt", "odd.example\n"},
    {"groups/domain/clear.txt", "clear.example\n"},
    {"routes.conf",
     "[route internal]\ngroup = protected\ndeliver = servers\n"
     "server = a.example:25 preference=20\nserver = b.example:26 preference=10\n"
     "server = c.example:27 preference=10\nserver = d.example:28 preference=10 mx=yes\n"
     "server = e.example:29 preference=65535\n"
     "[route partners]\ngroup = partners\ndeliver = servers\nserver = p.example\n"
     "auth = me secret:partner\n"
     "[route oddport]\ngroup = odd\nport = 2525\n"
     "[route clear]\ngroup = clear\ntls = off\n"
     "[route default]\n"},
    {NULL, NULL},
};
static struct arena arena;
static struct settings *settings;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, TEST_ARENA_MAX);
    settings = test_compile(pieces, &arena);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_done(&arena);
    return 0;
}

static struct hop route_of(const struct decision *d, const char *rcpt, uint64_t turn)
{
    struct hop hop = {0};

    assert_int_equal(plan_route(settings, d, sv_str(rcpt), turn, &arena, &hop), ERR_OK);
    return hop;
}

/* D1, D4: the first route whose group has the domain. */
static void first_route_wins(void **state)
{
    static const struct {
        const char *rcpt, *route, *domain, *key;
        uint32_t hosts;
    } rows[] = {
        {"a@inside.example", "internal", "inside.example", "route/internal", 5},
        {"a@INSIDE.Example", "internal", "inside.example", "route/internal", 5},
        {"a@partner.example", "partners", "partner.example", "route/partners", 1},
        {"a@x.partner.example", "partners", "x.partner.example", "route/partners", 1},
        {"a@elsewhere.example", "default", "elsewhere.example", "mx/elsewhere.example:25", 0},
        {"a@odd.example", "oddport", "odd.example", "mx/odd.example:2525", 1},
        {"a@[192.0.2.1]", "default", "[192.0.2.1]", "mx/[192.0.2.1]:25", 0},
        {"postmaster", "internal", "inside.example", "route/internal", 5},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct hop hop = route_of(NULL, rows[i].rcpt, 0);
        assert_sv(hop.route, rows[i].route);
        assert_sv(hop.domain, rows[i].domain);
        assert_sv(hop.key, rows[i].key);
        assert_int_equal(hop.n_hosts, rows[i].hosts);
    }
    struct hop odd = route_of(NULL, "a@odd.example", 0);
    assert_sv(odd.hosts[0].name, "odd.example");
    assert_int_equal(odd.hosts[0].port, 2525);
    assert_int_equal(odd.hosts[0].preference, 1);
    assert_true(odd.hosts[0].mx);
}

/* D6: lowest preference first, equals take turns. */
static void equals_rotate(void **state)
{
    static const char *const orders[] = {"bcdae", "cdbae", "dbcae"};

    (void)state;
    for (uint64_t turn = 0; turn < 9; turn++) {
        struct hop hop = route_of(NULL, "a@inside.example", turn);
        for (uint32_t i = 0; i < hop.n_hosts; i++)
            assert_int_equal(hop.hosts[i].name.p[0], orders[turn % 3][i]);
        assert_int_equal(hop.hosts[4].preference, 65535);
    }
    struct hop hop = route_of(NULL, "a@inside.example", UINT64_MAX);
    assert_int_equal(hop.n_hosts, 5);
}

static void requirement_is_the_stricter(void **state)
{
    struct decision plain = {0}, sealed = {.encrypt = true, .method = METHOD_TLS};
    static const struct {
        const char *rcpt;
        uint8_t plain;
        const char *why;
    } rows[] = {
        {"a@elsewhere.example", TLS_LEVEL_OPPORTUNISTIC, "route default"},
        {"a@clear.example", TLS_LEVEL_OFF, "route clear"},
        {"a@partner.example", TLS_LEVEL_ENCRYPT, "route partners sends credentials"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct hop hop = route_of(&plain, rows[i].rcpt, 0);
        assert_int_equal(hop.tls.level, rows[i].plain);
        assert_int_equal(hop.tls.strength, 128);
        assert_sv(hop.tls.why, rows[i].why);
        hop = route_of(NULL, rows[i].rcpt, 0);
        assert_int_equal(hop.tls.level, rows[i].plain);
        hop = route_of(&sealed, rows[i].rcpt, 0);
        assert_int_equal(hop.tls.level, TLS_LEVEL_ENCRYPT);
        assert_sv(hop.tls.why, "message marked Encrypt");
    }
    struct hop hop = route_of(NULL, "a@partner.example", 0);
    assert_sv(hop.auth_user, "me");
    assert_sv(hop.auth_secret, "partner");
}

/* I1: whatever stands in the settings, an encrypt decision never gets less than Encrypt. */
static void encrypt_never_gets_less(void **state)
{
    struct settings s = *settings;
    struct decision d = {.encrypt = true};

    (void)state;
    for (uint32_t level = 0; level < 10; level++)
        for (uint32_t strength = 0; strength < 600; strength += 64)
            for (uint8_t method = METHOD_NONE; method <= METHOD_PORTAL; method++) {
                struct hop hop;
                s.encryption_level = level;
                s.encryption_strength = strength;
                d.method = method;
                assert_int_equal(plan_route(&s, &d, SV("a@clear.example"), 0, &arena, &hop),
                                 ERR_OK);
                assert_in_range(hop.tls.level, TLS_LEVEL_ENCRYPT, TLS_LEVEL_VERIFY_CN);
                if (level >= TLS_LEVEL_ENCRYPT && level <= TLS_LEVEL_VERIFY_CN)
                    assert_int_equal(hop.tls.level, level);
                assert_int_equal(hop.tls.strength, strength == 256 ? 256 : 128);
            }
}

static void no_route_and_no_room(void **state)
{
    struct settings none = *settings;
    struct arena small;
    struct hop hop = {.key = SV("untouched")};

    (void)state;
    none.n_routes = 0;
    assert_int_equal(plan_route(&none, NULL, SV("a@b.example"), 0, &arena, &hop), ERR_NOTFOUND);
    none = *settings;
    none.general_administrator_address = none.general_fqdn = SV("");
    assert_int_equal(plan_route(&none, NULL, SV("postmaster"), 0, &arena, &hop), ERR_NOTFOUND);
    none.general_fqdn = SV("gw.example.com");
    assert_int_equal(plan_route(&none, NULL, SV("postmaster"), 0, &arena, &hop), ERR_OK);
    assert_sv(hop.domain, "gw.example.com");
    hop.key = SV("untouched");
    for (size_t cap = 0; cap < 96; cap += 16) {
        arena_init(&small, cap);
        assert_int_equal(plan_route(settings, NULL, SV("a@inside.example"), 0, &small, &hop),
                         ERR_LIMIT);
        assert_sv(hop.key, "untouched");
        arena_done(&small);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_route_wins),
        cmocka_unit_test(equals_rotate),
        cmocka_unit_test(requirement_is_the_stricter),
        cmocka_unit_test(encrypt_never_gets_less),
        cmocka_unit_test(no_route_and_no_room),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
