/*
 * The `smtp` process from outside: what strangers may do how often. It runs in a network of its
 * own, because loopback is exempt from most of these limits. Limits are far from each other, so
 * that the sliding minute of the real clock changes no answer.
 */
#include "role/smtp_harness.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define A "198.51.100.1" /* strangers, one for each test that uses a limit up */
#define B "198.51.100.2"
#define C "198.51.100.3"
#define D "198.51.100.4" /* trusted */

static char submitters[512];
#define COMMON                                                                                     \
    {"groups/domain/protected.txt", "inside.example\n"}, {"groups/ip/trusted.txt", D "\n"},        \
        {"submitters.conf", submitters},                                                           \
    {                                                                                              \
        NULL, NULL                                                                                 \
    }
static struct piece quick[] = {
    {"conn.conf", "tarpit_ms = 0\npregreet_ms = 0\nrate_per_min = 0\nhandshakes_per_min = 0\n"},
    COMMON};
static struct piece few[] = {
    {"conn.conf", "tarpit_ms = 0\npregreet_ms = 0\nrate_per_min = 5\nhandshakes_per_min = 2\n"
                  "messages_per_min = 3\nrecipients_per_min = 4\n"},
    COMMON};
static struct piece patient[] = {{"conn.conf", "tarpit_ms = 0\npregreet_ms = 300\n"}, COMMON};

static int setup(void **state)
{
    char hash[crypto_pwhash_STRBYTES];

    assert_true(sodium_init() >= 0);
    assert_int_equal(crypto_pwhash_str(hash, "sesame", 6, crypto_pwhash_OPSLIMIT_MIN,
                                       crypto_pwhash_MEMLIMIT_MIN),
                     0);
    (void)snprintf(submitters, sizeof(submitters), "[submitter joe]\nhash = %s\n", hash);
    bench_private_net();
    *state = bench_start(quick);
    return 0;
}

static int teardown(void **state)
{
    bench_stop(*state);
    return 0;
}

static void use(struct bench *b, const struct piece *pieces)
{
    bench_settings(b, pieces);
    bench_settings_acked(b);
}

static struct talk greeted(const char *source, uint16_t port)
{
    struct talk t = talk_from(source, port);

    (void)talk_reply(&t, 220);
    (void)talk_cmd(&t, "EHLO client.example", 250);
    return t;
}

static bool has(const char *line, const char *part)
{
    return line && sv_find(sv_str(line), sv_str(part)) != SIZE_MAX;
}

/* The next REFUSED event for `queue`. */
static struct sv refused(struct bench *b)
{
    for (;;) {
        enum message got = MSG_NONE;
        arena_reset(&b->mem);
        assert_int_equal(ipc_recv_fd(b->queue, ROLE_QUEUE, ROLE_SMTP, BENCH_WAIT_MS, &b->mem, &got,
                                     &b->msg, &b->fd),
                         ERR_OK);
        if (got == MSG_EVENT && b->msg.EVENT.kind == EVENT_REFUSED)
            return b->msg.EVENT.detail;
    }
}

static void connections_a_minute(void **state)
{
    struct bench *b = *state;
    int n = 0;

    use(b, few);
    for (; n < 20; n++) {
        struct talk t = talk_from(A, b->port_mx);
        const char *line = talk_line(&t);
        bool ok = line && sv_starts(sv_str(line), SV("220 "));
        if (!ok) {
            assert_true(has(line, "421 4.7.0 ") && has(line, "in one minute"));
            assert_null(talk_line(&t));
        }
        talk_close(&t);
        if (!ok)
            break;
    }
    assert_int_equal(n, 5);
    struct sv event = refused(b);
    assert_true(sv_find(event, SV("\"ip\":\"" A "\"")) != SIZE_MAX);
    assert_true(sv_find(event, SV("\"command\":\"CONNECT\"")) != SIZE_MAX);
    /* others are not concerned: another address, a trusted one, loopback */
    static const char *const others[] = {B, D, "127.0.0.1"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct talk t = greeted(others[i], b->port_mx);
        talk_close(&t);
    }
    for (int i = 0; i < 12; i++) {
        struct talk t = greeted(i % 2 ? D : "127.0.0.1", b->port_mx);
        talk_close(&t);
    }
    use(b, quick);
}

static void handshake(struct bench *b, const char *from)
{
    struct talk t = greeted(from, b->port_mx);

    (void)talk_cmd(&t, "STARTTLS", 220);
    talk_tls_client(b, &t);
    (void)talk_cmd(&t, "QUIT", 221);
    talk_close(&t);
}

/* B comes for clear text at the limit, is told at STARTTLS, and its implicit TLS is not begun. */
static void handshakes_a_minute(void **state)
{
    struct bench *b = *state;

    use(b, few);
    for (int i = 0; i < 2; i++)
        handshake(b, B);
    struct talk t = greeted(B, b->port_mx);
    (void)talk_cmd(&t, "NOOP", 250);
    assert_true(has(talk_cmd(&t, "STARTTLS", 421), "421 4.7.0 Error: too many TLS handshakes"));
    assert_null(talk_line(&t));
    talk_close(&t);
    assert_true(sv_find(refused(b), SV("STARTTLS")) != SIZE_MAX);
    struct talk implicit = talk_from(B, b->port_submissions);
    assert_null(talk_line(&implicit));
    talk_close(&implicit);
    for (int i = 0; i < 4; i++)
        handshake(b, D);
    use(b, quick);
}

static void messages_and_recipients_a_minute(void **state)
{
    struct bench *b = *state;

    use(b, few);
    struct talk t = greeted(C, b->port_mx);
    (void)talk_cmd(&t, "MAIL FROM:<>", 250);
    for (int i = 0; i < 4; i++)
        (void)talk_cmd(&t, "RCPT TO:<bob@inside.example>", 250);
    assert_true(has(talk_cmd(&t, "RCPT TO:<bob@inside.example>", 450), "450 4.7.1 "));
    (void)talk_cmd(&t, "RSET", 250);
    (void)talk_cmd(&t, "MAIL FROM:<>", 250);
    (void)talk_cmd(&t, "RSET", 250);
    (void)talk_cmd(&t, "MAIL FROM:<>", 250);
    (void)talk_cmd(&t, "RSET", 250);
    assert_true(has(talk_cmd(&t, "MAIL FROM:<>", 450), "450 4.7.1 Error: too many messages"));
    (void)talk_cmd(&t, "QUIT", 221);
    talk_close(&t);
    use(b, quick);
}

static void who_talks_first_is_refused(void **state)
{
    struct bench *b = *state;

    use(b, patient);
    struct talk rude = talk_from(A, b->port_mx), polite = talk_from(A, b->port_mx);
    talk_say(&rude, "EHLO x\r\n");
    assert_true(has(talk_reply(&rude, 554), "554 5.5.1 "));
    assert_null(talk_line(&rude));
    talk_close(&rude);
    (void)talk_reply(&polite, 220);
    talk_close(&polite);
    /* no delay for those who may talk at once, and none on other ports */
    struct {
        const char *source;
        uint16_t port;
    } rows[] = {{D, b->port_mx}, {"127.0.0.1", b->port_mx}, {A, b->port_submission}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct talk t = talk_from(rows[i].source, rows[i].port);
        talk_say(&t, "EHLO x\r\n");
        (void)talk_reply(&t, 220);
        (void)talk_reply(&t, 250);
        talk_close(&t);
    }
    use(b, quick);
}

static void lookup_says(struct bench *b, enum answer answer)
{
    enum message m = MSG_NONE;
    union message_body body;
    int fd = -1;

    arena_reset(&b->mem);
    assert_int_equal(
        ipc_recv_fd(b->lookup, ROLE_LOOKUP, ROLE_SMTP, BENCH_WAIT_MS, &b->mem, &m, &body, &fd),
        ERR_OK);
    assert_int_equal(m, MSG_ASK);
    struct answer_msg a = {.tag = body.ASK.tag, .answer = (uint8_t)answer};
    assert_int_equal(ipc_send_fd(b->lookup, MSG_ANSWER, &a, -1), ERR_OK);
}

static struct talk secured(struct bench *b, const char *source)
{
    struct talk t = greeted(source, b->port_submission);

    (void)talk_cmd(&t, "STARTTLS", 220);
    talk_tls_client(b, &t);
    (void)talk_cmd(&t, "EHLO client.example", 250);
    return t;
}

/* The password is not even asked for before the wait is over; elsewhere another account logs in
 * meanwhile. */
static void failed_log_ins_wait(void **state)
{
    static const char jack[] = "AUTH PLAIN AGphY2sAc2VzYW1l\r\n",
                      joe[] = "AUTH PLAIN AGpvZQBzZXNhbWU=\r\n";
    struct bench *b = *state;
    struct talk t = secured(b, A), other = secured(b, B);

    talk_say(&t, jack); /* unknown: nothing shows that */
    lookup_says(b, ANSWER_YES);
    (void)talk_reply(&t, 535);
    talk_say(&t, jack);
    assert_false(talk_pending(b->lookup, 300));
    talk_say(&other, joe);
    lookup_says(b, ANSWER_YES);
    (void)talk_reply(&other, 235);
    lookup_says(b, ANSWER_NO);
    (void)talk_reply(&t, 535);
    talk_close(&t);
    talk_close(&other);
}

/* Who comes too early waits in the kernel's queue until there is STARTTLS to offer and an id to
 * give; each of the three may come last. */
static void nobody_is_greeted_too_early(void **state)
{
    enum { SETTINGS, LEASE, KEYS };
    static const int orders[3][3] = {
        {SETTINGS, LEASE, KEYS}, {KEYS, SETTINGS, LEASE}, {LEASE, KEYS, SETTINGS}};
    struct lease lease = {LEASE_FIRST, 1000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
        struct bench *b = bench_start_bare();
        struct talk mx = talk_to(b->port_mx), implicit = talk_to(b->port_submissions);
        for (size_t k = 0; k < 3; k++) {
            assert_false(talk_pending(mx.fd, 100));
            if (orders[i][k] == SETTINGS)
                use(b, quick);
            else if (orders[i][k] == LEASE)
                bench_send(b, MSG_LEASE, &lease, -1);
            else
                bench_keys(b);
        }
        (void)talk_reply(&mx, 220);
        (void)talk_cmd(&mx, "EHLO client.example", 250);
        (void)talk_cmd(&mx, "STARTTLS", 220);
        talk_tls_client(b, &implicit);
        (void)talk_reply(&implicit, 220);
        talk_close(&mx);
        talk_close(&implicit);
        bench_stop(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_a_minute),
        cmocka_unit_test(handshakes_a_minute),
        cmocka_unit_test(messages_and_recipients_a_minute),
        cmocka_unit_test(who_talks_first_is_refused),
        cmocka_unit_test(failed_log_ins_wait),
        cmocka_unit_test(nobody_is_greeted_too_early),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
