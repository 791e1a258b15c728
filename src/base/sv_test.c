#include "base/list.h"
#include "base/sv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_compare(void **state)
{
    (void)state;
    assert_true(sv_eq(SV("a"), SV("a")));
    assert_true(sv_eq(SV_NULL, SV("")));
    assert_false(sv_eq(SV("a"), SV("A")));
    assert_true(sv_eq_nocase(SV("aZ[@`"), SV("Az[@`")));
    assert_false(sv_eq_nocase(SV("["), SV("{")));
    assert_false(sv_eq_nocase(SV("\xc4"), SV("\xe4"))); /* ASCII case only */
    assert_true(sv_cmp(SV("a"), SV("ab")) < 0);
    assert_true(sv_cmp(SV("b"), SV("ab")) > 0);
    assert_true(sv_cmp(SV("a\xff"), SV("aa")) > 0);
    assert_int_equal(sv_cmp(SV_NULL, SV("")), 0);
    assert_true(sv_starts(SV("abc"), SV("ab")));
    assert_false(sv_starts(SV("a"), SV("ab")));
    assert_true(sv_starts_nocase(SV("ABC"), SV("ab")));
    assert_true(sv_ends_nocase(SV("x.COM"), SV(".com")));
    assert_false(sv_ends_nocase(SV("om"), SV(".com")));
    assert_true(sv_starts(SV("a"), SV("")));
}

static void test_parts(void **state)
{
    (void)state;
    assert_true(sv_eq(sv_skip(SV("abc"), 1), SV("bc")));
    assert_int_equal(sv_skip(SV("abc"), 9).n, 0);
    assert_int_equal(sv_skip(SV_NULL, 9).n, 0);
    assert_true(sv_eq(sv_take(SV("abc"), 2), SV("ab")));
    assert_true(sv_eq(sv_take(SV("abc"), SIZE_MAX), SV("abc")));
    assert_true(sv_eq(sv_trim(SV(" \t\r\na b\r\n ")), SV("a b")));
    assert_int_equal(sv_trim(SV(" \n ")).n, 0);
    assert_int_equal(sv_find_byte(SV("abcb"), 'b'), 1);
    assert_int_equal(sv_rfind_byte(SV("abcb"), 'b'), 3);
    assert_true(sv_find_byte(SV("abc"), 'x') == SIZE_MAX);
    assert_true(sv_find_byte(SV_NULL, 'x') == SIZE_MAX);
    assert_true(sv_rfind_byte(SV_NULL, 'x') == SIZE_MAX);
    assert_int_equal(sv_find(SV("aabaac"), SV("aac")), 3);
    assert_int_equal(sv_find(SV("abc"), SV("")), 0);
    assert_true(sv_find(SV("ab"), SV("abc")) == SIZE_MAX);
    assert_true(sv_find(SV_NULL, SV("a")) == SIZE_MAX);
}

static void test_cut(void **state)
{
    static const char *const want[] = {"a", "", "b", ""};
    struct sv rest = SV("a,,b,");
    size_t n = 0;

    (void)state;
    for (; rest.p; n++) {
        struct sv field = sv_cut(&rest, ',');

        assert_true(n < ARRAY_LEN(want));
        assert_true(sv_eq(field, sv_str(want[n])));
    }
    assert_int_equal(n, ARRAY_LEN(want));
    assert_int_equal(sv_cut(&rest, ',').n, 0); /* exhausted stays so */
}

static void test_numbers(void **state)
{
    static const struct {
        const char *text;
        uint64_t min, max;
        bool ok;
        uint64_t value;
    } cases[] = {
        {"0", 0, 9, true, 0},
        {"00012", 0, 12, true, 12},
        {"18446744073709551615", 0, UINT64_MAX, true, UINT64_MAX},
        {"18446744073709551616", 0, UINT64_MAX, false, 0},
        {"99999999999999999999999", 0, UINT64_MAX, false, 0},
        {"5", 6, 9, false, 0},
        {"10", 6, 9, false, 0},
        {"", 0, 9, false, 0},
        {"+1", 0, 9, false, 0},
        {"-1", 0, 9, false, 0},
        {" 1", 0, 9, false, 0},
        {"1 ", 0, 9, false, 0},
        {"0x1", 0, 9, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t v = 77;
        bool ok = sv_to_u64(sv_str(cases[i].text), cases[i].min, cases[i].max, &v);

        if (ok != cases[i].ok || v != (ok ? cases[i].value : 77))
            fail_msg("case %zu: %s", i, cases[i].text);
    }
}

struct item {
    int value;
    struct list node;
};

static void test_list(void **state)
{
    struct list head;
    struct item items[3] = {{1, {0}}, {2, {0}}, {3, {0}}};
    int sum = 0;

    (void)state;
    list_init(&head);
    assert_true(list_empty(&head));
    for (size_t i = 0; i < 3; i++)
        list_push_back(&head, &items[i].node);
    list_remove(&items[1].node);
    list_remove(&items[1].node); /* twice does no harm */
    assert_false(list_linked(&items[1].node));
    LIST_FOREACH (it, &head)
        sum = sum * 10 + LIST_ENTRY(it, struct item, node)->value;
    assert_int_equal(sum, 13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare), cmocka_unit_test(test_parts), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
