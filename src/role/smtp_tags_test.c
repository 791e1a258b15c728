/* Tags of questions: late and forged answers find nobody. */
#include "role/smtp_priv.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void a_tag_is_good_once(void **state)
{
    struct smtp_tags t;
    int x = 0, y = 0;

    (void)state;
    smtp_tags_init(&t);
    uint64_t a = smtp_tag_new(&t, &x), b = smtp_tag_new(&t, &y);
    assert_true(a != 0 && b != 0 && a != b);
    assert_ptr_equal(smtp_tag_peek(&t, a), &x);
    assert_ptr_equal(smtp_tag_take(&t, a), &x);
    assert_null(smtp_tag_take(&t, a));
    uint64_t c = smtp_tag_new(&t, &x); /* the slot again, another generation */
    assert_true(c != a);
    assert_null(smtp_tag_peek(&t, a));
    assert_ptr_equal(smtp_tag_take(&t, c), &x);
    assert_ptr_equal(smtp_tag_take(&t, b), &y);
    smtp_tags_done(&t);
}

static void forged_tags_find_nobody(void **state)
{
    static const uint64_t rows[] = {0, 1, 2, UINT64_MAX, 1ull << 32, 0xffffffffull};
    struct smtp_tags t;

    (void)state;
    smtp_tags_init(&t);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_null(smtp_tag_take(&t, rows[i]));
    (void)smtp_tag_new(&t, &t);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_null(smtp_tag_take(&t, rows[i]));
    smtp_tags_done(&t);
}

static void slots_are_used_again(void **state)
{
    struct smtp_tags t;

    (void)state;
    smtp_tags_init(&t);
    for (int i = 0; i < 10000; i++)
        assert_ptr_equal(smtp_tag_take(&t, smtp_tag_new(&t, &t)), &t);
    assert_int_equal(t.n, 1);
    smtp_tags_done(&t);
}

static void stats_are_told_once(void **state)
{
    struct smtp_stats s = {0};
    struct buf b;

    (void)state;
    buf_init(&b, 65536);
    assert_false(smtp_stats_format(&s, &b));
    smtp_stats_add(&s, COUNT_IN_CONNECTIONS, 2);
    assert_true(smtp_stats_format(&s, &b));
    assert_true(sv_eq(buf_sv(&b), SV("postseal_smtp_in_connections_total 2\n")));
    assert_false(smtp_stats_format(&s, &b));
    smtp_stats_forget(&s);
    assert_true(smtp_stats_format(&s, &b));
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tag_is_good_once),
        cmocka_unit_test(forged_tags_find_nobody),
        cmocka_unit_test(slots_are_used_again),
        cmocka_unit_test(stats_are_told_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
