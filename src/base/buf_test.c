#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_append(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 10);
    assert_int_equal(buf_append(&b, "12345", 5), ERR_OK);
    assert_int_equal(buf_append(&b, NULL, 0), ERR_OK);
    assert_int_equal(buf_append_sv(&b, SV("678901")), ERR_LIMIT);
    assert_true(b.overflow);
    assert_true(sv_eq(buf_sv(&b), SV("12345"))); /* nothing changed */
    assert_int_equal(buf_append_sv(&b, SV("67890")), ERR_OK);
    assert_int_equal(buf_append_byte(&b, 'x'), ERR_LIMIT);
    assert_int_equal(buf_append(&b, "x", SIZE_MAX), ERR_LIMIT);
    assert_int_equal(b.n, 10);
    buf_reset(&b);
    assert_false(b.overflow);
    assert_int_equal(buf_append_byte(&b, 'x'), ERR_OK);
    buf_release(&b);
    assert_int_equal(b.max, 10);
    assert_null(b.p);
    assert_int_equal(buf_append_byte(&b, 'x'), ERR_OK);
    buf_done(&b);
}

static void test_growth(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 100000);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(buf_append_byte(&b, (char)i), ERR_OK);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(b.p[i], (char)i);
    assert_int_equal(buf_append_byte(&b, 'x'), ERR_LIMIT);
    assert_true(b.cap <= b.max);
    buf_done(&b);
}

static void test_printf(void **state)
{
    char long_text[2000];
    struct buf b;

    (void)state;
    memset(long_text, 'a', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    buf_init(&b, 1999);
    assert_int_equal(buf_printf(&b, "%s", long_text), ERR_OK); /* fills it to the brim */
    assert_int_equal(b.n, 1999);
    buf_reset(&b);
    assert_int_equal(buf_printf(&b, "%s!", long_text), ERR_LIMIT);
    assert_int_equal(b.n, 0);
    assert_int_equal(buf_printf(&b, "%s-%d", "x", 5), ERR_OK);
    assert_true(sv_eq(buf_sv(&b), SV("x-5")));
    buf_done(&b);
}

static void test_consume(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    (void)buf_append_sv(&b, SV("abcdef"));
    buf_consume(&b, 0);
    buf_consume(&b, 2);
    assert_true(sv_eq(buf_sv(&b), SV("cdef")));
    buf_consume(&b, 99);
    assert_int_equal(b.n, 0);
    assert_int_equal(buf_reserve(&b, 101), ERR_LIMIT);
    assert_int_equal(buf_reserve(&b, 100), ERR_OK);
    assert_true(b.cap >= 100);
    buf_done(&b);
}

static void test_wipe(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    buf_wipe(&b); /* never used: nothing to wipe */
    buf_init(&b, 100);
    (void)buf_append_sv(&b, SV("secret"));
    buf_wipe(&b);
    assert_null(b.p);
    assert_int_equal(b.n + b.cap + b.max, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append), cmocka_unit_test(test_growth),
        cmocka_unit_test(test_printf), cmocka_unit_test(test_consume),
        cmocka_unit_test(test_wipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
