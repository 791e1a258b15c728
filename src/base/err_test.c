#include "base/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_set(void **state)
{
    struct errinfo info = {.line = 7, .file = "x.conf"};

    (void)state;
    assert_int_equal(err_set(&info, ERR_SYNTAX, "bad\nvalue %d", 5), ERR_SYNTAX);
    assert_int_equal(info.code, ERR_SYNTAX);
    assert_string_equal(info.text, "bad value 5");
    assert_int_equal(info.line, 7); /* the place is the caller's */
    assert_int_equal(err_set_sys(&info, ERR_IO, ENOENT, "open %s", "f"), ERR_IO);
    assert_int_equal(info.sys, ENOENT);
    assert_string_equal(info.text, "open f: No such file or directory");
    assert_int_equal(err_set(NULL, ERR_BUG, "x"), ERR_BUG);
    assert_int_equal(err_set_sys(NULL, ERR_IO, 1, "x"), ERR_IO);
}

static void test_long_text(void **state)
{
    struct errinfo info;
    char text[600];

    (void)state;
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        text[i] = 'x';
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(err_set_sys(&info, ERR_IO, EIO, "%s", text), ERR_IO);
    assert_int_equal(info.text[sizeof(info.text) - 1], '\0');
}

static void test_names(void **state)
{
    (void)state;
    for (int e = ERR_OK; e <= ERR_BUG; e++)
        assert_string_not_equal(err_name((enum err)e), "unknown");
    assert_string_equal(err_name((enum err)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
