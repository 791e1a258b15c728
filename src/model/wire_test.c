/* Round trips of every struct of the wire with random values made from the same tables. */
#include "base/rng.h"
#include "model/messages.h"
#include "model/queue_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct maker {
    struct rng rng;
    struct arena arena;
};

static struct sv make_str(struct maker *m)
{
    size_t n = rng_u64(&m->rng) % 24;
    char *p = arena_alloc(&m->arena, n);

    rng_bytes(&m->rng, p, n);
    return sv_of(p, n);
}

static struct ip make_ip(struct maker *m)
{
    struct ip ip;

    rng_bytes(&m->rng, ip.b, sizeof(ip.b));
    return ip;
}

#define MAKE_U8   (uint8_t) rng_u64(&m->rng)
#define MAKE_U16  (uint16_t) rng_u64(&m->rng)
#define MAKE_U32  (uint32_t) rng_u64(&m->rng)
#define MAKE_U64  rng_u64(&m->rng)
#define MAKE_I64  (int64_t) rng_u64(&m->rng)
#define MAKE_BOOL (rng_u64(&m->rng) & 1) != 0
#define MAKE_STR  make_str(m)
#define MAKE_IP   make_ip(m)

#define MAKE_F(kind, n) v->n = MAKE_##kind;
#define MAKE_S(type, n) type##_make(m, &v->n);
#define MAKE_L(type, n)                                                                            \
    v->n_##n = (uint32_t)(rng_u64(&m->rng) % 4);                                                   \
    v->n = ARENA_ARRAY(&m->arena, struct type, v->n_##n);                                          \
    for (uint32_t i = 0; i < v->n_##n; i++)                                                        \
        type##_make(m, &v->n[i]);

static bool same_bytes(const struct buf *a, const struct buf *b)
{
    return !a->overflow && !b->overflow && sv_eq(buf_sv(a), buf_sv(b));
}

/* A random value survives, any shorter or longer input is refused, and the printer keeps to one
 * line of printable text. */
#define DEFINE_TEST(type, TABLE)                                                                   \
    static void type##_make(struct maker *m, struct type *v)                                       \
    {                                                                                              \
        TABLE(MAKE_F, MAKE_S, MAKE_L)                                                              \
    }                                                                                              \
    static void type##_check(struct maker *m, struct arena *a, struct buf *one, struct buf *two)   \
    {                                                                                              \
        struct type v, back;                                                                       \
                                                                                                   \
        memset(&v, 0, sizeof(v));                                                                  \
        type##_make(m, &v);                                                                        \
        type##_put(one, &v);                                                                       \
        assert_int_equal(type##_decode(buf_sv(one), a, &back), ERR_OK);                            \
        type##_put(two, &back);                                                                    \
        assert_true(same_bytes(one, two));                                                         \
        memset(&back, 0x55, sizeof(back));                                                         \
        v = back;                                                                                  \
        for (size_t n = 0; n < one->n; n++)                                                        \
            assert_int_not_equal(type##_decode(sv_take(buf_sv(one), n), a, &back), ERR_OK);        \
        (void)buf_append_byte(one, 'x');                                                           \
        assert_int_not_equal(type##_decode(buf_sv(one), a, &back), ERR_OK);                        \
        assert_memory_equal(&v, &back, sizeof(v)); /* untouched on failure */                      \
        buf_reset(two);                                                                            \
        one->n--;                                                                                  \
        assert_int_equal(type##_decode(buf_sv(one), a, &back), ERR_OK);                            \
        type##_print(two, &back);                                                                  \
        for (size_t i = 0; i < two->n; i++)                                                        \
            assert_true(two->p[i] >= ' ' && two->p[i] <= '~');                                     \
    }                                                                                              \
    static void test_##type(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        run(type##_check);                                                                         \
    }

static void run(void (*check)(struct maker *, struct arena *, struct buf *, struct buf *))
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct maker m = {.rng = rng_seeded(seed)};
        struct arena a;
        struct buf one, two;

        arena_init(&m.arena, 1U << 20);
        arena_init(&a, 256U << 20);
        buf_init(&one, 1U << 20);
        buf_init(&two, 1U << 20);
        check(&m, &a, &one, &two);
        buf_done(&two);
        buf_done(&one);
        arena_done(&a);
        arena_done(&m.arena);
    }
}

/* In order of use, as in wire.c. */
#define TYPES(X)                                                                                   \
    X(tls_facts, TLS_FACTS_FIELDS)                                                                 \
    X(rcpt, RCPT_FIELDS)                                                                           \
    X(peer, PEER_FIELDS)                                                                           \
    X(envelope, ENVELOPE_FIELDS)                                                                   \
    X(part, PART_FIELDS)                                                                           \
    X(hit, HIT_FIELDS)                                                                             \
    X(total, TOTAL_FIELDS)                                                                         \
    X(facts, FACTS_FIELDS)                                                                         \
    X(fired, FIRED_FIELDS)                                                                         \
    X(decision, DECISION_FIELDS)                                                                   \
    X(tls_req, TLS_REQ_FIELDS)                                                                     \
    X(host, HOST_FIELDS)                                                                           \
    X(hop, HOP_FIELDS)                                                                             \
    X(rcpt_outcome, RCPT_OUTCOME_FIELDS)                                                           \
    X(delivery, DELIVERY_FIELDS)                                                                   \
    X(outcome, OUTCOME_FIELDS)                                                                     \
    X(event, EVENT_FIELDS)                                                                         \
    X(queue_rcpt, QUEUE_RCPT_FIELDS)                                                               \
    X(queue_state, QUEUE_STATE_FIELDS)                                                             \
    X(hello, HELLO_FIELDS)                                                                         \
    X(channel, CHANNEL_FIELDS)                                                                     \
    X(listener, LISTENER_FIELDS)                                                                   \
    X(bytes, BYTES_FIELDS)                                                                         \
    X(ready, READY_FIELDS)                                                                         \
    X(kill, KILL_FIELDS)                                                                           \
    X(level, LEVEL_FIELDS)                                                                         \
    X(settings_msg, SETTINGS_MSG_FIELDS)                                                           \
    X(settings_ack, SETTINGS_ACK_FIELDS)                                                           \
    X(lease, LEASE_FIELDS)                                                                         \
    X(intake, INTAKE_FIELDS)                                                                       \
    X(received, RECEIVED_FIELDS)                                                                   \
    X(committed, COMMITTED_FIELDS)                                                                 \
    X(file_ask, FILE_ASK_FIELDS)                                                                   \
    X(file_give, FILE_GIVE_FIELDS)                                                                 \
    X(file_drop, FILE_DROP_FIELDS)                                                                 \
    X(attempt_ack, ATTEMPT_ACK_FIELDS)                                                             \
    X(stats, STATS_FIELDS)                                                                         \
    X(dsn_rcpt, DSN_RCPT_FIELDS)                                                                   \
    X(job, JOB_FIELDS)                                                                             \
    X(job_done, JOB_DONE_FIELDS)                                                                   \
    X(ask, ASK_FIELDS)                                                                             \
    X(answer_msg, ANSWER_FIELDS)                                                                   \
    X(key_req, KEY_REQ_FIELDS)                                                                     \
    X(key_reply, KEY_REPLY_FIELDS)                                                                 \
    X(events_at, EVENTS_AT_FIELDS)                                                                 \
    X(ctl_req, CTL_REQ_FIELDS)                                                                     \
    X(ctl_reply, CTL_REPLY_FIELDS)

TYPES(DEFINE_TEST)

/* A count of items that cannot be there fails before anything is allocated for it. */
static void test_counts_that_lie(void **state)
{
    static const uint32_t lies[] = {1, 2, 1000, 0x7fffffff, 0xffffffff};
    struct envelope env, back;
    struct buf b;

    (void)state;
    memset(&env, 0, sizeof(env));
    buf_init(&b, 4096);
    envelope_put(&b, &env);
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        struct arena a;

        arena_init(&a, 1U << 20);
        memcpy(b.p + b.n - 4, &lies[i], 4); /* n_rcpts is last */
        assert_int_not_equal(envelope_decode(buf_sv(&b), &a, &back), ERR_OK);
        assert_int_equal(a.used, 0);
        arena_done(&a);
    }
    buf_done(&b);
}

/* Whatever number is put wherever: refused, or what was read is written the same. */
static void test_numbers_that_lie(void **state)
{
    struct maker m = {.rng = rng_seeded(7)};
    struct received v, back;
    struct buf b, again;

    (void)state;
    arena_init(&m.arena, 1U << 20);
    buf_init(&b, 1U << 16);
    buf_init(&again, 1U << 20);
    memset(&v, 0, sizeof(v));
    received_make(&m, &v);
    received_put(&b, &v);
    for (size_t at = 0; at + 4 <= b.n; at++) {
        for (uint32_t lie = 0; lie < 40; lie++) {
            uint32_t x = lie < 20 ? lie : UINT32_MAX - lie;
            char saved[4];
            struct arena a;

            arena_init(&a, 1U << 20);
            memcpy(saved, b.p + at, 4);
            memcpy(b.p + at, &x, 4);
            buf_reset(&again);
            if (received_decode(buf_sv(&b), &a, &back) == ERR_OK) {
                received_put(&again, &back);
                assert_true(same_bytes(&b, &again));
            }
            memcpy(b.p + at, saved, 4);
            arena_done(&a);
        }
    }
    buf_done(&again);
    buf_done(&b);
    arena_done(&m.arena);
}

static void test_memory_limit(void **state)
{
    struct rcpt rcpts[8];
    struct envelope env, back;
    struct arena a;
    struct buf b;

    (void)state;
    memset(&env, 0, sizeof(env));
    memset(rcpts, 0, sizeof(rcpts));
    env.rcpts = rcpts;
    env.n_rcpts = ARRAY_LEN(rcpts);
    buf_init(&b, 4096);
    envelope_put(&b, &env);
    arena_init(&a, 64);
    assert_int_equal(envelope_decode(buf_sv(&b), &a, &back), ERR_LIMIT);
    arena_done(&a);
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define ROW(type, TABLE) cmocka_unit_test(test_##type),
        TYPES(ROW)
#undef ROW
            cmocka_unit_test(test_counts_that_lie),
        cmocka_unit_test(test_numbers_that_lie),
        cmocka_unit_test(test_memory_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
