#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_alloc(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 1U << 20);
    for (size_t n = 0; n < 300; n++) {
        unsigned char *p = arena_alloc(&a, n);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xaa, n);
    }
    assert_int_equal(a.used, 299 * 300 / 2);
    assert_non_null(arena_alloc(&a, 500000)); /* larger than any usual chunk */
    arena_done(&a);
    assert_int_equal(a.used, 0);
}

static void test_cap(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 100);
    assert_non_null(arena_alloc(&a, 100));
    assert_false(a.overflow);
    assert_null(arena_alloc(&a, 1));
    assert_true(a.overflow);
    assert_null(arena_alloc(&a, SIZE_MAX));
    arena_reset(&a);
    assert_false(a.overflow);
    assert_null(arena_calloc(&a, SIZE_MAX / 2, 3));
    assert_true(a.overflow);
    arena_reset(&a);
    assert_non_null(arena_calloc(&a, 10, 10));
    assert_null(arena_sv(&a, SV("x")).p);
    arena_done(&a);
}

static void test_reset_zeroes(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 1U << 20);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 20; i++) {
            unsigned char *p = arena_alloc(&a, 1000);

            for (int k = 0; k < 1000; k++)
                assert_int_equal(p[k], 0);
            memset(p, 0xff, 1000);
        }
        arena_reset(&a);
        assert_int_equal(a.used, 0);
    }
    assert_non_null(arena_alloc(&a, 200000));
    arena_reset(&a);
    arena_done(&a);
}

static void test_text(void **state)
{
    struct arena a;
    char big[5000];

    (void)state;
    arena_init(&a, 1U << 16);
    struct sv v = arena_sv(&a, SV("a\0b"));
    assert_int_equal(v.n, 3);
    assert_memory_equal(v.p, "a\0b", 4);
    assert_string_equal(arena_cstr(&a, SV("xyz")), "xyz");
    assert_string_equal(arena_cstr(&a, SV_NULL), "");
    assert_non_null(arena_sv(&a, SV_NULL).p);
    assert_true(sv_eq(arena_printf(&a, "%d-%s", 7, "x"), SV("7-x")));
    memset(big, 'b', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    assert_int_equal(arena_printf(&a, "%s", big).n, sizeof(big) - 1);
    arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_cap),
        cmocka_unit_test(test_reset_zeroes),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
