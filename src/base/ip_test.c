#include "base/ip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_addresses(void **state)
{
    static const struct {
        const char *text, *canonical; /* NULL = refused */
        bool v4, loopback;
    } cases[] = {
        {"192.0.2.1", "192.0.2.1", true, false},
        {"127.1.2.3", "127.1.2.3", true, true},
        {"::1", "::1", false, true},
        {"2001:DB8:0:0:0:0:0:1", "2001:db8::1", false, false},
        {"::ffff:192.0.2.1", "192.0.2.1", true, false},
        {"::", "::", false, false},
        {"192.0.2", NULL, false, false},
        {"192.0.2.256", NULL, false, false},
        {"192.0.2.01", NULL, false, false},
        {" 192.0.2.1", NULL, false, false},
        {"192.0.2.1 ", NULL, false, false},
        {"0x7f.1", NULL, false, false},
        {"fe80::1%lo", NULL, false, false},
        {"1:2:3:4:5:6:7", NULL, false, false},
        {"", NULL, false, false},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa", NULL, false, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct ip ip, again;
        char text[IP_TEXT_MAX];

        if (ip_parse(sv_str(cases[i].text), &ip) != (cases[i].canonical != NULL))
            fail_msg("case %zu: %s", i, cases[i].text);
        if (!cases[i].canonical)
            continue;
        assert_int_equal(ip_format(&ip, text), strlen(cases[i].canonical));
        assert_string_equal(text, cases[i].canonical);
        assert_int_equal(ip_is_v4(&ip), cases[i].v4);
        assert_int_equal(ip_is_loopback(&ip), cases[i].loopback);
        assert_true(ip_parse(sv_str(text), &again) && ip_eq(&ip, &again));
    }
    struct ip ip;
    assert_false(ip_parse(SV("192.0.2.1\0x"), &ip));
}

static void test_prefixes(void **state)
{
    static const struct {
        const char *prefix, *canonical; /* NULL = refused */
        const char *in, *out;
    } cases[] = {
        {"10.0.0.0/8", "10.0.0.0/8", "10.255.0.1", "11.0.0.0"},
        {"192.0.2.0/25", "192.0.2.0/25", "192.0.2.127", "192.0.2.128"},
        {"192.0.2.7", "192.0.2.7", "192.0.2.7", "192.0.2.6"},
        {"192.0.2.7/32", "192.0.2.7", "192.0.2.7", "192.0.2.8"},
        {"0.0.0.0/0", "0.0.0.0/0", "203.0.113.9", "2001:db8::1"},
        {"::/0", "::/0", "2001:db8::1", "203.0.113.9"},
        {"2001:db8::/33", "2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"},
        {"2001:db8::1", "2001:db8::1", "2001:db8::1", "2001:db8::2"},
        {"::ffff:10.0.0.0/104", "10.0.0.0/8", "10.1.1.1", "11.0.0.0"},
        {"10.0.0.1/8", NULL, NULL, NULL},
        {"10.0.0.0/33", NULL, NULL, NULL},
        {"10.0.0.0/", NULL, NULL, NULL},
        {"10.0.0.0/-1", NULL, NULL, NULL},
        {"10.0.0.0/0008", NULL, NULL, NULL},
        {"10.0.0.0/8/8", NULL, NULL, NULL},
        {"2001:db8::/129", NULL, NULL, NULL},
        {"/8", NULL, NULL, NULL},
        {"", NULL, NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cidr c;
        struct ip in, out;
        char text[IP_TEXT_MAX];

        if (cidr_parse(sv_str(cases[i].prefix), &c) != (cases[i].canonical != NULL))
            fail_msg("case %zu: %s", i, cases[i].prefix);
        if (!cases[i].canonical)
            continue;
        cidr_format(&c, text);
        assert_string_equal(text, cases[i].canonical);
        assert_true(ip_parse(sv_str(cases[i].in), &in) && ip_parse(sv_str(cases[i].out), &out));
        if (!cidr_has(&c, &in) || cidr_has(&c, &out))
            fail_msg("case %zu: %s", i, cases[i].prefix);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_prefixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
