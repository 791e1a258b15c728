/* Rates in a sliding minute, waits after failed log-ins, and a table under attack; injected time.
 */
#include "role/smtp_rates.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define T0 (1000LL * 60000) /* the beginning of a minute */

static const uint8_t secret[16] = "0123456789abcde";

static struct rates table(size_t n)
{
    struct rates t;

    assert_int_equal(rates_init(&t, n, secret), ERR_OK);
    return t;
}

static struct rate_key key_of(const char *text)
{
    struct ip ip;

    assert_true(ip_parse(sv_str(text), &ip));
    return rates_key_ip(&ip);
}

static uint32_t take_all(struct rates *t, const struct rate_key *key, uint32_t limit, int64_t now)
{
    uint32_t n = 0;

    while (n < 10000 && rates_take(t, key, RATE_CONNECT, limit, now))
        n++;
    return n;
}

/* Limit 60, all taken at T0 + at1; how many more at T0 + at2? */
static void the_minute_slides(void **state)
{
    static const struct {
        int64_t at1, at2;
        uint32_t more;
    } rows[] = {
        {0, 0, 0},           {0, 59999, 0},    {0, 60000, 0},       {0, 61000, 1},
        {0, 90000, 30},      {0, 119000, 59},  {0, 120000, 60},     {59000, 60000, 0},
        {59000, 119000, 59}, {0, 3600000, 60}, {30000, 121000, 60},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rates t = table(8);
        struct rate_key k = key_of("192.0.2.1");
        assert_int_equal(take_all(&t, &k, 60, T0 + rows[i].at1), 60);
        assert_true(rates_full(&t, &k, RATE_CONNECT, 60, T0 + rows[i].at1));
        assert_int_equal(rates_full(&t, &k, RATE_CONNECT, 60, T0 + rows[i].at2), rows[i].more == 0);
        assert_int_equal(take_all(&t, &k, 60, T0 + rows[i].at2), rows[i].more);
        rates_done(&t);
    }
}

/* Who tries all the time gets through at the limit: refusals do not count. */
static void a_steady_flood_gets_the_limit(void **state)
{
    struct rates t = table(8);
    struct rate_key k = key_of("192.0.2.1");
    uint32_t n = 0;

    (void)state;
    for (int64_t ms = 0; ms < 10 * 60000; ms += 50)
        n += rates_take(&t, &k, RATE_MESSAGE, 30, T0 + ms);
    assert_in_range(n, 280, 340);
    rates_done(&t);
}

static void kinds_addresses_and_limits_are_apart(void **state)
{
    struct rates t = table(1024);
    struct rate_key a = key_of("2001:db8:1:2::1"), same = key_of("2001:db8:1:2:ffff::9"),
                    c = key_of("2001:db8:1:3::1");

    (void)state;
    assert_true(rates_take(&t, &a, RATE_CONNECT, 1, T0));
    assert_false(rates_take(&t, &same, RATE_CONNECT, 1, T0)); /* one /64 is one address */
    assert_true(rates_take(&t, &c, RATE_CONNECT, 1, T0));
    assert_true(rates_take(&t, &a, RATE_HANDSHAKE, 1, T0));
    assert_true(rates_take(&t, &a, RATE_CONNECT, 0, T0)); /* 0 = no limit */
    assert_false(rates_full(&t, &a, RATE_CONNECT, 0, T0));
    rates_give_back(&t, &a, RATE_HANDSHAKE, T0);
    assert_true(rates_take(&t, &a, RATE_HANDSHAKE, 1, T0));
    rates_give_back(&t, &a, RATE_HANDSHAKE, T0 + 60000); /* over the edge of a minute */
    assert_true(rates_take(&t, &a, RATE_HANDSHAKE, 1, T0 + 60000));
    rates_give_back(&t, &a, RATE_RCPT, T0 + 60000); /* never below nothing */
    assert_true(rates_take(&t, &a, RATE_RCPT, 1, T0 + 60000));
    rates_done(&t);
}

/* A flood of other addresses neither frees who is at his limit nor shuts out a newcomer. */
static void a_flood_changes_nothing_for_others(void **state)
{
    struct rates t = table(256);
    struct rate_key bad = key_of("192.0.2.66"), calm = key_of("192.0.2.7");
    struct rng rng = rng_seeded(3);

    (void)state;
    assert_int_equal(take_all(&t, &bad, 20, T0), 20);
    for (int i = 0; i < 20000; i++) {
        struct ip ip;
        rng_bytes(&rng, ip.b, sizeof(ip.b));
        ip.b[0] = 0x20;
        struct rate_key k = rates_key_ip(&ip);
        assert_true(rates_take(&t, &k, RATE_CONNECT, 20, T0 + i));
        if (i % 1000 == 0)
            assert_true(rates_take(&t, &calm, RATE_CONNECT, 1000, T0 + i));
    }
    assert_false(rates_take(&t, &bad, RATE_CONNECT, 10, T0 + 20000));
    assert_true(rates_take(&t, &calm, RATE_CONNECT, 1000, T0 + 20000));
    rates_done(&t);
}

/* Full of addresses at their limit: a newcomer is still let in. */
static void a_full_table_lets_newcomers_in(void **state)
{
    struct rates t = table(8);
    char text[32];

    (void)state;
    for (int i = 0; i < 300; i++) {
        (void)snprintf(text, sizeof(text), "10.0.%d.%d", i / 250, i % 250);
        struct rate_key k = key_of(text);
        assert_int_equal(take_all(&t, &k, 5, T0), 5);
    }
    struct rate_key late = key_of("192.0.2.1");
    assert_true(rates_take(&t, &late, RATE_CONNECT, 5, T0));
    rates_done(&t);
}

static void failed_log_ins_wait_longer_each_time(void **state)
{
    static const int64_t expected[] = {0, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
    struct rates t = table(8);
    struct rate_key k = key_of("192.0.2.1");
    int64_t now = T0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        assert_int_equal(rates_auth_begin(&t, &k, now += 60000), expected[i]);
    now += RATES_AUTH_QUIET_MS - 1;
    assert_int_equal(rates_auth_begin(&t, &k, now), 60000);
    now += RATES_AUTH_QUIET_MS;
    assert_int_equal(rates_auth_begin(&t, &k, now), 0); /* quiet for a quarter of an hour */
    assert_int_equal(rates_auth_begin(&t, &k, now), 1000);
    rates_done(&t);
}

/* A right password takes back its own charge and no more: it buys nobody fresh guesses. */
static void success_takes_back_its_own_charge(void **state)
{
    struct rates t = table(8);
    struct rate_key k = key_of("192.0.2.1");

    (void)state;
    assert_int_equal(rates_auth_begin(&t, &k, T0), 0);
    assert_int_equal(rates_auth_begin(&t, &k, T0), 1000);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(rates_auth_begin(&t, &k, T0), 2000);
        rates_auth_undo(&t, &k, T0);
    }
    rates_auth_undo(&t, &k, T0 + RATES_AUTH_QUIET_MS * 2);
    struct rate_key nobody = key_of("192.0.2.2");
    rates_auth_undo(&t, &nobody, T0);
    assert_int_equal(rates_auth_begin(&t, &nobody, T0), 0);
    rates_done(&t);
}

static void an_account_knows_where_it_was_used(void **state)
{
    struct rates t = table(64);
    struct rate_key joe = rates_key_user(&t, SV("joe")), ann = rates_key_user(&t, SV("ann"));
    struct rate_key home = key_of("192.0.2.1"), away = key_of("192.0.2.2");

    (void)state;
    assert_false(rates_auth_known(&t, &joe, &home));
    rates_auth_good(&t, &joe, &home, T0);
    assert_true(rates_auth_known(&t, &joe, &home));
    assert_false(rates_auth_known(&t, &joe, &away));
    assert_false(rates_auth_known(&t, &ann, &home));
    rates_done(&t);
}

/* Without memory for the table everything is allowed. */
static void no_table_allows_all(void **state)
{
    struct rates t = {.n = 0};
    struct rate_key k = key_of("192.0.2.1");

    (void)state;
    assert_true(rates_take(&t, &k, RATE_CONNECT, 1, T0));
    assert_false(rates_full(&t, &k, RATE_CONNECT, 1, T0));
    assert_int_equal(rates_auth_begin(&t, &k, T0), 0);
    rates_auth_good(&t, &k, &k, T0);
    assert_false(rates_auth_known(&t, &k, &k));
    rates_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_minute_slides),
        cmocka_unit_test(a_steady_flood_gets_the_limit),
        cmocka_unit_test(kinds_addresses_and_limits_are_apart),
        cmocka_unit_test(a_flood_changes_nothing_for_others),
        cmocka_unit_test(a_full_table_lets_newcomers_in),
        cmocka_unit_test(failed_log_ins_wait_longer_each_time),
        cmocka_unit_test(success_takes_back_its_own_charge),
        cmocka_unit_test(an_account_knows_where_it_was_used),
        cmocka_unit_test(no_table_allows_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
