/* Connection limits: per address, in all, the reserve, and a table under random load. */
#include "role/smtp_limits.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct ip ip_of(const char *text)
{
    struct ip ip;

    assert_true(ip_parse(sv_str(text), &ip));
    return ip;
}

static void each_address_has_its_limit(void **state)
{
    struct conn_limits t;
    struct ip a = ip_of("192.0.2.1"), b = ip_of("192.0.2.2");

    (void)state;
    conn_limits_init(&t);
    for (int i = 0; i < 3; i++)
        assert_int_equal(conn_limits_enter(&t, &a, false, 3, 100), ADMIT);
    assert_int_equal(conn_limits_enter(&t, &a, false, 3, 100), REFUSE_PER_IP);
    assert_int_equal(conn_limits_enter(&t, &b, false, 3, 100), ADMIT);
    assert_int_equal(conn_limits_enter(&t, &a, true, 3, 100), ADMIT); /* trusted: exempt */
    conn_limits_leave(&t, &a, true);
    conn_limits_leave(&t, &a, false);
    assert_int_equal(conn_limits_enter(&t, &a, false, 3, 100), ADMIT);
    assert_int_equal(t.total, 4);
    conn_limits_done(&t);
}

static void one_v6_network_is_one_address(void **state)
{
    struct conn_limits t;
    struct ip a = ip_of("2001:db8:1:2::1"), b = ip_of("2001:db8:1:2:ffff::9"),
              c = ip_of("2001:db8:1:3::1");

    (void)state;
    conn_limits_init(&t);
    assert_int_equal(conn_limits_enter(&t, &a, false, 1, 100), ADMIT);
    assert_int_equal(conn_limits_enter(&t, &b, false, 1, 100), REFUSE_PER_IP);
    assert_int_equal(conn_limits_enter(&t, &c, false, 1, 100), ADMIT);
    assert_int_equal(conn_limits_of(&t, &b), 1);
    conn_limits_done(&t);
}

static void a_fifth_is_kept_for_trusted(void **state)
{
    struct conn_limits t;
    char text[32];

    (void)state;
    conn_limits_init(&t);
    for (int i = 0; i < 8; i++) {
        (void)snprintf(text, sizeof(text), "192.0.2.%d", i + 1);
        struct ip ip = ip_of(text);
        assert_int_equal(conn_limits_enter(&t, &ip, false, 10, 10), ADMIT);
    }
    struct ip more = ip_of("192.0.2.99");
    assert_int_equal(conn_limits_enter(&t, &more, false, 10, 10), REFUSE_TOTAL);
    assert_int_equal(conn_limits_enter(&t, &more, true, 10, 10), ADMIT);
    assert_int_equal(conn_limits_enter(&t, &more, true, 10, 10), ADMIT);
    assert_int_equal(conn_limits_enter(&t, &more, true, 10, 10), REFUSE_TOTAL);
    conn_limits_done(&t);
}

/* Against a plain array of counts. */
static void counts_stay_right_under_load(void **state)
{
    enum { ADDRESSES = 300, STEPS = 60000 };
    struct conn_limits t;
    struct rng rng = rng_seeded(7);
    static uint32_t counts[ADDRESSES];
    static struct ip ips[ADDRESSES];
    uint32_t total = 0;

    (void)state;
    conn_limits_init(&t);
    for (int i = 0; i < ADDRESSES; i++) {
        rng_bytes(&rng, ips[i].b, sizeof(ips[i].b));
        ips[i].b[0] = 0x20;
    }
    for (int step = 0; step < STEPS; step++) {
        uint64_t r = rng_u64(&rng);
        size_t i = (size_t)(r >> 8) % ADDRESSES;
        if ((r & 1) != 0 && counts[i] > 0) {
            conn_limits_leave(&t, &ips[i], false);
            counts[i]--;
            total--;
        } else if (conn_limits_enter(&t, &ips[i], false, 5, 100000) == ADMIT) {
            counts[i]++;
            total++;
        } else {
            assert_int_equal(counts[i], 5);
        }
        assert_int_equal(conn_limits_of(&t, &ips[i]), counts[i]);
    }
    assert_int_equal(t.total, total);
    for (int i = 0; i < ADDRESSES; i++) {
        for (; counts[i] > 0; counts[i]--)
            conn_limits_leave(&t, &ips[i], false);
    }
    assert_int_equal(t.used, 0);
    assert_int_equal(t.total, 0);
    conn_limits_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_address_has_its_limit),
        cmocka_unit_test(one_v6_network_is_one_address),
        cmocka_unit_test(a_fifth_is_kept_for_trusted),
        cmocka_unit_test(counts_stay_right_under_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
