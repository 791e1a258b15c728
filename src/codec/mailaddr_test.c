#include "codec/mailaddr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define X63  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X61  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define D253 X63 "." X63 "." X63 "." X61

static const struct {
    const char *addr;
    bool valid, routed;
    const char *domain, *local;
} addrs[] = {
    {"a@example.com", true, false, "example.com", "a"},
    {"A.b+c@EXAMPLE.com", true, false, "example.com", "A.b+c"},
    {"o'neil=x@sub.example.co.uk", true, false, "sub.example.co.uk", "o'neil=x"},
    {"root@localhost", true, false, "localhost", "root"},
    {"\"a b\"@example.com", true, false, "example.com", "\"a b\""},
    {"\"a@b\"@example.com", true, true, "example.com", "\"a@b\""},
    {"\"a\\\"b\"@example.com", true, false, "example.com", "\"a\\\"b\""},
    {"\"\"@example.com", true, false, "example.com", "\"\""},
    {"a%b@example.com", true, true, "example.com", "a%b"},
    {"b!a@example.com", true, true, "example.com", "b!a"},
    {"a@b@example.com", false, true, "example.com", "a@b"},
    {"a@[192.0.2.1]", true, false, "[192.0.2.1]", "a"},
    {"a@[IPv6:2001:DB8::1]", true, false, "[ipv6:2001:db8::1]", "a"},
    {"a@[2001:db8::1]", false, false, "[2001:db8::1]", "a"},
    {"a@[IPv6:1.2.3.4]", false, false, "[ipv6:1.2.3.4]", "a"},
    {"a@[300.0.0.1]", false, false, "[300.0.0.1]", "a"},
    {"a@192.0.2.1", false, false, "192.0.2.1", "a"},
    {"a@example.com.", false, false, "example.com", "a"},
    {"a@xn--bcher-kva.example", true, false, "xn--bcher-kva.example", "a"},
    {"", false, false, "", ""},
    {"@", false, false, "", ""},
    {"a@", false, false, "", "a"},
    {"@example.com", false, false, "example.com", ""},
    {"postmaster", false, false, "", "postmaster"},
    {".a@example.com", false, false, "example.com", ".a"},
    {"a.@example.com", false, false, "example.com", "a."},
    {"a..b@example.com", false, false, "example.com", "a..b"},
    {"a b@example.com", false, false, "example.com", "a b"},
    {"a\x01@example.com", false, false, "example.com", "a\x01"},
    {"a@exa mple.com", false, false, "exa mple.com", "a"},
    {"a@-x.com", false, false, "-x.com", "a"},
    {"a@x-.com", false, false, "x-.com", "a"},
    {"a@x..com", false, false, "x..com", "a"},
    {"a@ex_ample.com", false, false, "ex_ample.com", "a"},
    {"m\xc3\xbcller@example.com", false, false, "example.com", "m\xc3\xbcller"},
    {"\"a@example.com", false, false, "example.com", "\"a"},
    {"\"a\"b@example.com", false, false, "example.com", "\"a\"b"},
    {"\"a\\", false, false, "", "\"a\\"},
    {"<a@example.com>", false, false, "example.com>", "<a"},
};

static void test_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(addrs); i++) {
        struct sv a = sv_str(addrs[i].addr);
        char room[256];

        if (mailaddr_valid(a) != addrs[i].valid || mailaddr_is_routed(a) != addrs[i].routed)
            fail_msg("case %zu: %s", i, addrs[i].addr);
        struct sv d = mailaddr_domain(a, room), l = mailaddr_local(a);
        if (!sv_eq(d, sv_str(addrs[i].domain)) || !sv_eq(l, sv_str(addrs[i].local)))
            fail_msg("case %zu: %s: domain %.*s local %.*s", i, addrs[i].addr, SV_ARG(d),
                     SV_ARG(l));
    }
}

static void test_lengths(void **state)
{
    char text[400], room[256];

    (void)state;
    (void)snprintf(text, sizeof(text), "a@%s", D253);
    assert_false(mailaddr_valid(sv_str(text))); /* 255 */
    (void)snprintf(text, sizeof(text), "a@%s", &D253[1]);
    assert_true(mailaddr_valid(sv_str(text)));
    (void)snprintf(text, sizeof(text), "%s%s@example.com", X63, X63);
    assert_true(mailaddr_valid(sv_str(text)));
    (void)snprintf(text, sizeof(text), "a@%s.xx%s", X63, D253);
    assert_int_equal(mailaddr_domain(sv_str(text), room).n, 0);
}

static void test_domains(void **state)
{
    static const struct {
        const char *domain;
        bool valid;
    } cases[] = {
        {"example.com", true}, {"a", true},        {"1a.2b", true},
        {"3com.com", true},    {D253, true},       {D253 ".x", false},
        {X63 "x.com", false},  {"", false},        {".", false},
        {"a.", false},         {".a", false},      {"a..b", false},
        {"1.2.3.4", false},    {"com.123", false}, {"a b", false},
        {"a\tb", false},       {"a/b", false},     {"\xc3\xa4.de", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (domain_valid(sv_str(cases[i].domain)) != cases[i].valid)
            fail_msg("case %zu: %s", i, cases[i].domain);
    assert_false(domain_valid(SV("a\0b.com")));
    assert_false(mailaddr_valid(SV("a\0@b.com")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_domains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
