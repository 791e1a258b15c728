#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_formats(void **state)
{
    static const struct {
        int64_t ms;
        const char *rfc, *iso;
    } cases[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 +0000", "1970-01-01T00:00:00.000Z"},
        {951782400123, "Tue, 29 Feb 2000 00:00:00 +0000", "2000-02-29T00:00:00.123Z"},
        {951868799999, "Tue, 29 Feb 2000 23:59:59 +0000", "2000-02-29T23:59:59.999Z"},
        {1709251199000, "Thu, 29 Feb 2024 23:59:59 +0000", "2024-02-29T23:59:59.000Z"},
        {1795498560123, "Tue, 24 Nov 2026 05:36:00 +0000", "2026-11-24T05:36:00.123Z"},
        {4102444800000, "Fri, 01 Jan 2100 00:00:00 +0000", "2100-01-01T00:00:00.000Z"},
        {4107542400000, "Mon, 01 Mar 2100 00:00:00 +0000", "2100-03-01T00:00:00.000Z"},
        {253402300799999, "Fri, 31 Dec 9999 23:59:59 +0000", "9999-12-31T23:59:59.999Z"},
        {INT64_MAX, "Fri, 31 Dec 9999 23:59:59 +0000", "9999-12-31T23:59:59.999Z"},
        {-1, "Thu, 01 Jan 1970 00:00:00 +0000", "1970-01-01T00:00:00.000Z"},
        {INT64_MIN, "Thu, 01 Jan 1970 00:00:00 +0000", "1970-01-01T00:00:00.000Z"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char rfc[CLOCK_RFC5322_MAX], iso[CLOCK_ISO_MAX];

        assert_int_equal(clock_rfc5322(cases[i].ms, rfc), 31);
        assert_string_equal(rfc, cases[i].rfc);
        assert_int_equal(clock_iso(cases[i].ms, iso), 24);
        assert_string_equal(iso, cases[i].iso);
    }
}

static void test_now(void **state)
{
    struct clock a = clock_now(), b = clock_now();

    (void)state;
    assert_true(a.mono_ms > 0 && b.mono_ms >= a.mono_ms);
    assert_true(a.wall_ms > 1700000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
