/* The message table: who may send what to whom, limits, and frames that are garbage. */
#include "model/messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* Bits of the messages that `from` may send to `to`. */
static uint64_t allowed(enum role from, enum role to)
{
    uint64_t bits = 0;

    for (unsigned m = 0; m < MSG_COUNT; m++)
        bits |= message_allowed((enum message)m, from, to) ? 1ULL << m : 0;
    return bits;
}

#define B(m) (1ULL << MSG_##m)

/* What the least trusted processes may say, spelled out: a wider table must be meant. */
static void test_hostile_processes(void **state)
{
    (void)state;
    assert_int_equal(allowed(ROLE_CONTENT, ROLE_SUPERVISOR), B(READY));
    assert_int_equal(allowed(ROLE_CONTENT, ROLE_QUEUE), B(SETTINGS_ACK) | B(STATS) | B(JOB_DONE));
    assert_int_equal(allowed(ROLE_CONTENT, ROLE_KEYS), 0);
    assert_int_equal(allowed(ROLE_CONTENT, ROLE_SMTP), 0);
    assert_int_equal(allowed(ROLE_SMTP, ROLE_SUPERVISOR), B(READY));
    assert_int_equal(allowed(ROLE_SMTP, ROLE_QUEUE), B(SETTINGS_ACK) | B(RECEIVED) | B(FILE_ASK) |
                                                         B(FILE_DROP) | B(ATTEMPT_DONE) | B(STATS) |
                                                         B(EVENT));
    assert_int_equal(allowed(ROLE_SMTP, ROLE_KEYS), B(KEY_REQ));
    assert_int_equal(allowed(ROLE_SMTP, ROLE_LOOKUP), B(ASK));
    assert_int_equal(allowed(ROLE_SMTP, ROLE_CONTENT), 0);
    assert_int_equal(allowed(ROLE_CTL, ROLE_SMTP), 0);
    assert_int_equal(allowed(ROLE_CTL, ROLE_CONTENT), 0);
    assert_int_equal(allowed(ROLE_LOOKUP, ROLE_KEYS), 0);
    assert_int_equal(allowed(ROLE_WEB, ROLE_SUPERVISOR), B(READY));
}

static void test_table(void **state)
{
    (void)state;
    for (unsigned i = 1; i < MSG_COUNT; i++) {
        enum message m = (enum message)i;
        bool used = false;

        assert_true(message_max(m) > 0 && message_max(m) <= 64U << 20);
        assert_string_not_equal(message_name(m), "unknown");
        for (unsigned from = 0; from < ROLES; from++)
            for (unsigned to = 0; to < ROLES; to++)
                used = used || message_allowed(m, (enum role)from, (enum role)to);
        if (!used)
            fail_msg("%s: nobody may send it", message_name(m));
    }
    assert_int_equal(message_max(MSG_NONE), 0);
    assert_int_equal(message_max(MSG_COUNT), 0);
    assert_string_equal(message_name((enum message)200), "unknown");
    assert_false(message_allowed(MSG_NONE, ROLE_QUEUE, ROLE_SMTP));
    assert_false(message_allowed(MSG_COUNT, ROLE_QUEUE, ROLE_SMTP));
    assert_false(message_allowed(MSG_LEASE, ROLES, ROLE_SMTP));
    assert_false(message_allowed(MSG_LEASE, (enum role)200, (enum role)200));
    for (unsigned r = 0; r < ROLES; r++)
        assert_string_not_equal(role_name((enum role)r), "unknown");
    assert_string_equal(role_name(ROLES), "unknown");
}

static void test_frames(void **state)
{
    struct lease lease = {.first = 5, .count = 6};
    union message_body body;
    enum message m = MSG_NONE;
    struct arena a;
    struct buf b, text;

    (void)state;
    arena_init(&a, 4096);
    buf_init(&b, 4096);
    buf_init(&text, 4096);
    assert_int_equal(message_encode(MSG_LEASE, &lease, &b), ERR_OK);
    assert_int_equal(message_decode(buf_sv(&b), &a, &m, &body), ERR_OK);
    assert_int_equal(m, MSG_LEASE);
    assert_int_equal(body.LEASE.first, 5);
    assert_int_equal(body.LEASE.count, 6);
    message_print(m, &body, &text);
    assert_true(sv_eq(buf_sv(&text), SV("LEASE first=5 count=6 ")));

    m = MSG_NONE;
    assert_int_equal(message_decode(SV(""), &a, &m, &body), ERR_SYNTAX);
    assert_int_equal(message_decode(SV("\0"), &a, &m, &body), ERR_SYNTAX);
    assert_int_equal(message_decode(SV("\xff"), &a, &m, &body), ERR_SYNTAX);
    b.p[0] = (char)MSG_COUNT;
    assert_int_equal(message_decode(buf_sv(&b), &a, &m, &body), ERR_SYNTAX);
    assert_int_equal(m, MSG_NONE);
    assert_int_equal(message_encode(MSG_NONE, &lease, &b), ERR_BUG);
    buf_done(&text);
    buf_done(&b);
    arena_done(&a);
}

/* Both directions keep to the limit of the table. */
static void test_limit(void **state)
{
    struct stats stats;
    union message_body body;
    enum message m;
    struct arena a;
    struct buf big, b;
    uint32_t max = message_max(MSG_STATS);

    (void)state;
    arena_init(&a, 4096);
    buf_init(&big, 1U << 20);
    buf_init(&b, 1U << 20);
    assert_int_equal(buf_reserve(&big, max), ERR_OK);
    memset(big.p, 'x', max);
    stats.text = sv_of(big.p, max - 5); /* kind and length take five bytes */
    assert_int_equal(message_encode(MSG_STATS, &stats, &b), ERR_OK);
    assert_int_equal(message_decode(buf_sv(&b), &a, &m, &body), ERR_OK);
    (void)buf_append_byte(&b, 'x');
    assert_int_equal(message_decode(buf_sv(&b), &a, &m, &body), ERR_LIMIT);
    buf_reset(&b);
    stats.text = sv_of(big.p, max - 4);
    assert_int_equal(message_encode(MSG_STATS, &stats, &b), ERR_LIMIT);
    buf_done(&b);
    buf_done(&big);
    arena_done(&a);
}

static void test_event_names(void **state)
{
    (void)state;
    assert_string_equal(event_name(EVENT_RECEIVED), "received");
    assert_string_equal(event_name(EVENT_ALARM), "alarm");
    assert_string_equal(event_name(EVENT_KINDS), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_processes),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_event_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
