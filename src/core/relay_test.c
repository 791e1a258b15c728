#include "core/policy.h"
#include "core/relay.h"
#include "core/test_util.h"

static const struct piece pieces[] = {
    {"groups/domain/protected.txt", "inside.example\n*.branch.example\n"},
    {"groups/ip/trusted.txt", "10.0.0.0/8\n2001:db8::/32\n"},
    {"groups/ip/gateway.txt", "192.0.2.7\n"},
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

/* Recipients as a stranger names them: 0 = accepted, else the code. */
struct row {
    const char *rcpt;
    uint16_t code;
};
static const struct row stranger_table[] = {
    {"user@inside.example", 0},
    {"user@INSIDE.Example", 0},
    {"\"odd user\"@inside.example", 0},
    {"user@a.branch.example", 0},
    {"user@a.b.branch.example", 0},
    {"postmaster", 0},
    {"Postmaster", 0},
    {"postmaster@inside.example", 0},
    {"user+tag@inside.example", 0},
    /* outside */
    {"user@outside.example", 550},
    {"user@branch.example", 550},
    {"user@inside.example.evil.example", 550},
    {"user@xinside.example", 550},
    {"user@example", 550},
    {"postmaster@outside.example", 550},
    /* percent hack, bang path, second at: with and without quotes */
    {"victim%outside.example@inside.example", 550},
    {"victim%outside.example@outside.example", 550},
    {"outside.example!victim@inside.example", 550},
    {"\"victim@outside.example\"@inside.example", 550},
    {"\"victim%outside.example\"@inside.example", 550},
    {"\"outside.example!victim\"@inside.example", 550},
    {"victim@outside.example@inside.example", 553},
    {"\"user@inside.example\"@outside.example", 550},
    {"user@inside.example@outside.example", 553},
    /* source routes (the parser strips the legal form) */
    {"@inside.example:victim@outside.example", 553},
    {"@inside.example,@outside.example:victim@inside.example", 553},
    /* literals: ours, theirs, mapped */
    {"user@[127.0.0.1]", 550},
    {"user@[10.0.0.1]", 550},
    {"user@[192.0.2.7]", 550},
    {"user@[IPv6:2001:db8::1]", 550},
    {"user@[inside.example]", 553},
    {"user@10.0.0.1", 553},
    /* dots, blanks, bytes */
    {"user@inside.example.", 553},
    {"user@outside.example.", 553},
    {"user@.inside.example", 553},
    {"user@inside..example", 553},
    {"user@ inside.example", 553},
    {"user @inside.example", 553},
    {"user@inside.example ", 553},
    {"user@inside.example\r\nRCPT TO:<victim@outside.example>", 553},
    {"user@*.branch.example", 553},
    {"user", 553},
    {"user@", 553},
    {"@inside.example", 553},
    {"", 553},
    {"@", 553},
    {"postmaster@", 553},
    {"us\xc3\xa9r@inside.example", 553},
    {"user@insid\xc3\xa9.example", 553},
};

static void strangers_reach_protected_domains_only(void **state)
{
    struct peer peer = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stranger_table); i++) {
        const struct row *row = &stranger_table[i];
        struct smtp_verdict v =
            relay_check(settings, &peer, SV("boss@inside.example"), sv_str(row->rcpt));
        if (v.ok != !row->code || (!v.ok && v.code != row->code))
            fail_msg("%s: %u", row->rcpt, v.code);
        if (v.code == 550)
            assert_string_equal(v.status, "5.7.1");
        if (!v.ok)
            assert_true(v.text && *v.text);
    }
}

static void members_may_relay(void **state)
{
    struct peer peers[] = {{.trusted = true}, {.gateway = true}, {.auth_user = SV("me")}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
        assert_true(relay_check(settings, &peers[i], SV(""), SV("a@outside.example")).ok);
        assert_true(relay_check(settings, &peers[i], SV(""), SV("a@inside.example")).ok);
        assert_true(relay_check(settings, &peers[i], SV("x@y.example"), SV("a@[192.0.2.1]")).ok);
        assert_false(relay_check(settings, &peers[i], SV(""), SV("a")).ok);
        assert_false(relay_check(settings, &peers[i], SV(""), SV("@b.example:a@c.example")).ok);
    }
}

/* The sender never opens the door: it is forged at will. */
static void sender_never_matters(void **state)
{
    static const char *const senders[] = {"", "a@inside.example", "a@outside.example",
                                          "postmaster"};
    struct peer stranger = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(senders); i++) {
        struct sv sender = sv_str(senders[i]);
        assert_false(relay_check(settings, &stranger, sender, SV("a@outside.example")).ok);
        assert_true(relay_check(settings, &stranger, sender, SV("a@inside.example")).ok);
    }
}

static void peers_are_classified(void **state)
{
    static const struct {
        const char *ip;
        bool trusted, gateway;
    } rows[] = {
        {"10.255.0.1", true, false}, {"11.0.0.1", false, false},   {"192.0.2.7", false, true},
        {"192.0.2.8", false, false}, {"2001:db8::1", true, false}, {"2001:db9::1", false, false},
        {"127.0.0.1", false, false}, {"::1", false, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct peer peer = {.trusted = true, .gateway = true}; /* stale values are overwritten */
        assert_true(ip_parse(sv_str(rows[i].ip), &peer.ip));
        peer_classify(settings, &peer);
        assert_int_equal(peer.trusted, rows[i].trusted);
        assert_int_equal(peer.gateway, rows[i].gateway);
    }
}

/* spec 0.1, E5: sender inside or not x recipient inside or not x origin. */
static void direction_table(void **state)
{
    static const struct {
        const char *sender, *rcpt;
        enum direction stranger, member, ours;
    } rows[] = {
        {"a@inside.example", "b@inside.example", DIRECTION_INTERNAL, DIRECTION_INTERNAL,
         DIRECTION_INTERNAL},
        {"a@inside.example", "b@outside.example", DIRECTION_OUTBOUND, DIRECTION_OUTBOUND,
         DIRECTION_OUTBOUND},
        {"a@outside.example", "b@inside.example", DIRECTION_INBOUND, DIRECTION_INBOUND,
         DIRECTION_INTERNAL},
        {"a@outside.example", "b@outside.example", DIRECTION_RELAY, DIRECTION_OUTBOUND,
         DIRECTION_OUTBOUND},
        {"", "b@inside.example", DIRECTION_INBOUND, DIRECTION_INBOUND, DIRECTION_INTERNAL},
        {"", "b@outside.example", DIRECTION_RELAY, DIRECTION_OUTBOUND, DIRECTION_OUTBOUND},
        {"", "Postmaster", DIRECTION_INBOUND, DIRECTION_INBOUND, DIRECTION_INTERNAL},
        {"a@inside.example", "postmaster", DIRECTION_INTERNAL, DIRECTION_INTERNAL,
         DIRECTION_INTERNAL},
        {"a@INSIDE.example", "b@x.Branch.example", DIRECTION_INTERNAL, DIRECTION_INTERNAL,
         DIRECTION_INTERNAL},
        {"a%inside.example@outside.example", "b@[10.0.0.1]", DIRECTION_RELAY, DIRECTION_OUTBOUND,
         DIRECTION_OUTBOUND},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sv rcpt = sv_str(rows[i].rcpt);
        struct envelope env = {.sender = sv_str(rows[i].sender)};
        assert_int_equal(direction_of(settings, &env, rcpt), rows[i].stranger);
        env.peer.trusted = true;
        assert_int_equal(direction_of(settings, &env, rcpt), rows[i].member);
        env.peer = (struct peer){.gateway = true};
        assert_int_equal(direction_of(settings, &env, rcpt), rows[i].member);
        env.peer = (struct peer){.auth_user = SV("u")};
        assert_int_equal(direction_of(settings, &env, rcpt), rows[i].member);
        env.peer = (struct peer){0};
        env.kind = MESSAGE_DSN;
        assert_int_equal(direction_of(settings, &env, rcpt), rows[i].ours);
        env.kind = MESSAGE_NOTICE;
        assert_int_equal(direction_of(settings, &env, rcpt), rows[i].ours);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strangers_reach_protected_domains_only),
        cmocka_unit_test(members_may_relay),
        cmocka_unit_test(sender_never_matters),
        cmocka_unit_test(peers_are_classified),
        cmocka_unit_test(direction_table),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
