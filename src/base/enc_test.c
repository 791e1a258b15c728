#include "base/enc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_base64(void **state)
{
    static const struct {
        const char *raw, *text;
    } cases[] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xff\xfe", "//4="},
    };
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_reset(&b);
        assert_int_equal(b64_encode(sv_str(cases[i].raw), &b), ERR_OK);
        assert_true(sv_eq(buf_sv(&b), sv_str(cases[i].text)));
        buf_reset(&b);
        assert_int_equal(b64_decode(sv_str(cases[i].text), &b), ERR_OK);
        assert_true(sv_eq(buf_sv(&b), sv_str(cases[i].raw)));
    }
    buf_done(&b);
}

static void test_base64_strict(void **state)
{
    static const char *const bad[] = {
        "Z",        "Zg",   "Zg=",  "Zg===",  "Zh==", "Zm9=", "Zm 9", "Zm9v ",
        "Zg==Zg==", "Z===", "====", "Zm9v\n", "Zm-_", "=m9v", "Zg=a", "Zm9vZg=v"};
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    (void)buf_append_sv(&b, SV("keep"));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (b64_decode(sv_str(bad[i]), &b) != ERR_SYNTAX || !sv_eq(buf_sv(&b), SV("keep")))
            fail_msg("case %zu: %s", i, bad[i]);
    assert_int_equal(b64_decode(SV("Zm\0v"), &b), ERR_SYNTAX);
    buf_done(&b);
    buf_init(&b, 2);
    assert_int_equal(b64_decode(SV("Zm9v"), &b), ERR_LIMIT);
    assert_int_equal(b64_encode(SV("foo"), &b), ERR_LIMIT);
    assert_int_equal(b.n, 0);
    buf_done(&b);
}

static void test_hex(void **state)
{
    uint8_t out[3] = {9, 9, 9};
    struct buf b;

    (void)state;
    buf_init(&b, 6);
    assert_int_equal(hex_encode(SV("\x00\xab\xff"), &b), ERR_OK);
    assert_true(sv_eq(buf_sv(&b), SV("00abff")));
    assert_int_equal(hex_encode(SV("x"), &b), ERR_LIMIT);
    assert_false(hex_decode(SV("00abf"), out, 3));
    assert_false(hex_decode(SV("00abfg"), out, 3));
    assert_false(hex_decode(SV("00abff"), out, 2));
    assert_int_equal(out[0], 9); /* untouched on failure */
    assert_true(hex_decode(SV("00aBFf"), out, 3));
    assert_memory_equal(out, "\x00\xab\xff", 3);
    buf_done(&b);
}

static void test_ids(void **state)
{
    static const struct {
        uint64_t id;
        const char *text;
    } cases[] = {
        {0, "0000000000000"},          {31, "000000000000Z"},
        {32, "0000000000010"},         {0x123456789abcdef, "028T5CY4TQKFF"},
        {UINT64_MAX, "FZZZZZZZZZZZZ"},
    };
    static const char *const bad[] = {"",
                                      "000000000000",
                                      "00000000000000",
                                      "000000000000U",
                                      "000000000000I",
                                      "G000000000000",
                                      "00000000000 0"};
    char text[ID_TEXT_LEN + 1], last[ID_TEXT_LEN + 1] = "";
    uint64_t id = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        id_format(cases[i].id, text);
        assert_string_equal(text, cases[i].text);
        assert_true(strcmp(last, text) < 0); /* text sorts like the number */
        memcpy(last, text, sizeof(last));
        assert_true(id_parse(sv_str(text), &id));
        assert_true(id == cases[i].id);
    }
    assert_true(id_parse(SV("028t5cy4tqkff"), &id));
    assert_true(id == 0x123456789abcdef);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (id_parse(sv_str(bad[i]), &id))
            fail_msg("case %zu: %s", i, bad[i]);
    assert_false(id_parse(SV("000000000000\0"), &id));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_base64_strict),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
