#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <string.h>

static void test_seeded(void **state)
{
    struct rng a = rng_seeded(1), b = rng_seeded(1), c = rng_seeded(2), z = rng_seeded(0);
    unsigned seen = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        uint64_t x = rng_u64(&a);

        assert_true(x == rng_u64(&b));
        assert_true(x != rng_u64(&c));
        seen |= 1U << (x & 31);
    }
    assert_true(seen == UINT32_MAX || __builtin_popcount(seen) > 24);
    assert_true(z.s[0] || z.s[1]); /* a seeded one is never the system's */
}

static void test_bytes(void **state)
{
    struct rng r = rng_system();
    unsigned char a[40], b[40];

    (void)state;
    rng_bytes(&r, a, sizeof(a));
    rng_bytes(&r, b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    rng_bytes(&r, a, 0);
    memset(a, 7, sizeof(a));
    r = rng_seeded(3);
    rng_bytes(&r, a, 11);
    assert_int_equal(a[11], 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seeded),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
