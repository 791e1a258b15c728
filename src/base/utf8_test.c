#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_sequences(void **state)
{
    static const struct {
        const char *bytes;
        size_t len; /* 0 = invalid */
        uint32_t cp;
    } cases[] = {
        {"A", 1, 'A'},
        {"\xc2\x80", 2, 0x80},
        {"\xdf\xbf", 2, 0x7ff},
        {"\xe0\xa0\x80", 3, 0x800},
        {"\xed\x9f\xbf", 3, 0xd7ff},
        {"\xee\x80\x80", 3, 0xe000},
        {"\xf0\x90\x80\x80", 4, 0x10000},
        {"\xf4\x8f\xbf\xbf", 4, 0x10ffff},
        {"\xf4\x90\x80\x80", 0, 0}, /* past the end */
        {"\xed\xa0\x80", 0, 0},     /* surrogate */
        {"\xc0\x80", 0, 0},         /* overlong */
        {"\xc1\xbf", 0, 0},
        {"\xe0\x9f\xbf", 0, 0},
        {"\xf0\x8f\xbf\xbf", 0, 0},
        {"\x80", 0, 0}, /* continuation alone */
        {"\xc2", 0, 0}, /* cut */
        {"\xe0\xa0", 0, 0},
        {"\xc2"
         "A",
         0, 0},
        {"\xff", 0, 0},
        {"", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint32_t cp = 0;
        char back[4];

        if (utf8_next(sv_str(cases[i].bytes), &cp) != cases[i].len || cp != cases[i].cp)
            fail_msg("case %zu", i);
        if (cases[i].len == 0)
            continue;
        assert_int_equal(utf8_put(cp, back), cases[i].len);
        assert_memory_equal(back, cases[i].bytes, cases[i].len);
    }
}

static void test_text(void **state)
{
    char out[4];

    (void)state;
    assert_true(utf8_valid(SV("gr\xc3\xbc\xc3\x9f\xe2\x82\xac")));
    assert_true(utf8_valid(SV("")));
    assert_false(utf8_valid(SV("a\xc3")));
    assert_true(sv_is_ascii(SV("abc\x7f")));
    assert_false(sv_is_ascii(SV("abc\x80")));
    assert_int_equal(utf8_put(0xd800, out), 3); /* becomes U+FFFD */
    assert_memory_equal(out, "\xef\xbf\xbd", 3);
    assert_int_equal(utf8_put(0x110000, out), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
