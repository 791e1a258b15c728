/* The `smtp` process from outside, deliveries: see smtp_harness.h. */
#include "role/smtp_harness.h"

#include "crypto/cert.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODY "Subject: x\r\n\r\n.dot\r\nend\r\n"

static struct piece pieces[] = {
    {"groups/domain/protected.txt", "inside.example\n"},
    {"delivery.conf", "connection_idle_s = 20\nconnection_reuse = 3\ncommand_timeout_s = 1\n"
                      "greeting_timeout_s = 1\ndata_timeout_s = 5\nend_of_data_timeout_s = 2\n"},
    {NULL, NULL},
};

static int setup(void **state)
{
    *state = bench_start(pieces);
    return 0;
}

static int teardown(void **state)
{
    bench_stop(*state);
    return 0;
}

static uint64_t next_attempt = 100;

/* A job to that port under a destination key of its own, so that no test inherits connections. */
static void give(struct bench *b, uint16_t port, enum tls_level level, const char *key)
{
    struct delivery d = job_for(port, ++next_attempt, level, SV(BODY));

    d.hop.key = sv_str(key);
    bench_send(b, MSG_DELIVER, &d, -1);
}

static const struct outcome *outcome_of(struct bench *b)
{
    const struct outcome *o = &bench_expect(b, MSG_ATTEMPT_DONE)->ATTEMPT_DONE;
    struct attempt_ack ack = {o->attempt};

    assert_int_equal(o->attempt, next_attempt);
    assert_int_equal(o->id, 77);
    assert_int_equal(o->n_rcpts, 1);
    assert_int_equal(o->rcpts[0].index, 3);
    bench_send(b, MSG_ATTEMPT_ACK, &ack, -1);
    return o;
}

static void expect_delivered(struct bench *b)
{
    const struct outcome *o = outcome_of(b);

    if (o->rcpts[0].result != RCPT_DELIVERED)
        fail_msg("not delivered: failure %u, %.*s", o->failure, SV_ARG(o->rcpts[0].reply));
    assert_int_equal(o->failure, FAILURE_NONE);
}

static void expect_deferred(struct bench *b, enum failure f)
{
    const struct outcome *o = outcome_of(b);

    if (o->failure != f)
        fail_msg("failure %u, not %u: %.*s", o->failure, f, SV_ARG(o->rcpts[0].reply));
    assert_int_equal(o->rcpts[0].result, RCPT_DEFERRED);
    assert_true(o->rcpts[0].reply.n > 0);
}

static void greet(struct talk *t, const char *ehlo_reply)
{
    talk_say(t, "220 server ESMTP\r\n");
    talk_expect(t, "EHLO " BENCH_HOST);
    talk_say(t, ehlo_reply);
}

static void take_mail(struct talk *t)
{
    struct buf body;

    talk_expect(t, "MAIL FROM:<ann@inside.example>");
    talk_say(t, "250 2.1.0 ok\r\n");
    talk_expect(t, "RCPT TO:<joe@outside.example>");
    talk_say(t, "250 2.1.5 ok\r\n");
    talk_expect(t, "DATA");
    talk_say(t, "354 go\r\n");
    buf_init(&body, 65536);
    talk_read_data(t, &body);
    assert_true(sv_eq(buf_sv(&body), SV(BODY)));
    buf_done(&body);
    talk_say(t, "250 2.0.0 stored\r\n");
}

/* Everything up to the end of the connection; MAIL must not be in it. */
static void expect_no_mail(struct talk *t)
{
    const char *line;

    while ((line = talk_line(t)) != NULL) {
        assert_true(strncmp(line, "MAIL", 4) != 0);
        if (strncmp(line, "QUIT", 4) == 0)
            talk_say(t, "221 bye\r\n");
        else
            talk_say(t, "250 ok\r\n");
    }
    talk_close(t);
}

#define PLAIN_EHLO "250-server\r\n250 PIPELINING\r\n"
#define TLS_EHLO   "250-server\r\n250-PIPELINING\r\n250 STARTTLS\r\n"

static void delivery_in_clear(void **state)
{
    struct bench *b = *state;
    uint16_t port;
    int l = listen_any(&port);

    give(b, port, TLS_LEVEL_OPPORTUNISTIC, "clear");
    struct talk t = talk_accept(l);
    greet(&t, PLAIN_EHLO);
    take_mail(&t);
    expect_delivered(b);
    assert_int_equal(b->msg.ATTEMPT_DONE.tls.version, 0);
    talk_close(&t);
    (void)close(l);
}

static struct talk tls_session(struct bench *b, int l)
{
    struct talk t = talk_accept(l);

    greet(&t, TLS_EHLO);
    talk_expect(&t, "STARTTLS");
    talk_say(&t, "220 go\r\n");
    talk_tls_server(b, &t);
    talk_expect(&t, "EHLO");
    talk_say(&t, PLAIN_EHLO);
    return t;
}

static void delivery_by_mandatory_tls(void **state)
{
    struct bench *b = *state;
    uint16_t port;
    int l = listen_any(&port);

    give(b, port, TLS_LEVEL_ENCRYPT, "tls");
    struct talk t = tls_session(b, l);
    take_mail(&t);
    expect_delivered(b);
    assert_true(b->msg.ATTEMPT_DONE.tls.version >= 0x0303);
    assert_true(b->msg.ATTEMPT_DONE.tls.bits >= 128);
    talk_close(&t);
    (void)close(l);
}

static void mandatory_tls_and_no_starttls(void **state)
{
    static const struct {
        const char *ehlo, *starttls;
        enum failure failure;
    } rows[] = {
        {PLAIN_EHLO, "502 5.5.1 no\r\n", FAILURE_TLS_NOT_OFFERED},
        {TLS_EHLO, "454 4.7.0 not now\r\n", FAILURE_TLS_REFUSED},
        {TLS_EHLO, "502 5.5.1 no\r\n", FAILURE_TLS_REFUSED},
    };
    struct bench *b = *state;
    uint16_t port;
    int l = listen_any(&port);

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        give(b, port, TLS_LEVEL_ENCRYPT, "mandatory");
        struct talk t = talk_accept(l);
        greet(&t, rows[i].ehlo);
        talk_expect(&t, "STARTTLS"); /* asked for even when it is not offered */
        talk_say(&t, rows[i].starttls);
        expect_no_mail(&t);
        expect_deferred(b, rows[i].failure);
        assert_false(talk_pending(l, 50));
    }
    (void)close(l);
}

static void a_self_signed_peer_fails_verify(void **state)
{
    struct bench *b = *state;
    uint16_t port;
    int l = listen_any(&port);

    give(b, port, TLS_LEVEL_VERIFY_CN, "verify");
    struct talk t = tls_session(b, l);
    expect_no_mail(&t);
    expect_deferred(b, FAILURE_TLS_CERT);
    (void)close(l);
}

/* The first handshake is answered with nonsense. Opportunistic: a second connection in clear,
 * without STARTTLS. Mandatory: none. */
static void broken_handshake(struct bench *b, int l, uint16_t port, enum tls_level level,
                             const char *key)
{
    char first;

    give(b, port, level, key);
    struct talk t = talk_accept(l);
    greet(&t, TLS_EHLO);
    talk_expect(&t, "STARTTLS");
    talk_say(&t, "220 go\r\n");
    assert_int_equal(recv(t.fd, &first, 1, 0), 1); /* of the client's hello */
    talk_say(&t, "this is no TLS record at all, whatever you think\r\n");
    while (talk_line(&t) != NULL)
        ;
    talk_close(&t);
}

static void a_broken_handshake_falls_back_once(void **state)
{
    struct bench *b = *state;
    uint16_t port;
    int l = listen_any(&port);

    broken_handshake(b, l, port, TLS_LEVEL_ENCRYPT, "broken-mandatory");
    expect_deferred(b, FAILURE_TLS_HANDSHAKE);
    assert_false(talk_pending(l, 50));
    broken_handshake(b, l, port, TLS_LEVEL_OPPORTUNISTIC, "broken");
    struct talk t = talk_accept(l);
    greet(&t, TLS_EHLO);
    take_mail(&t); /* no STARTTLS before MAIL */
    expect_delivered(b);
    talk_close(&t);
    /* remembered for a while: the next one does not try at this address, a mandatory one does */
    give(b, port, TLS_LEVEL_OPPORTUNISTIC, "broken-2");
    t = talk_accept(l);
    greet(&t, TLS_EHLO);
    take_mail(&t);
    expect_delivered(b);
    talk_close(&t);
    give(b, port, TLS_LEVEL_ENCRYPT, "broken-3");
    t = tls_session(b, l);
    take_mail(&t);
    expect_delivered(b);
    talk_close(&t);
    (void)close(l);
}

static void a_silent_handshake_is_no_reason_for_clear_text(void **state)
{
    struct bench *b = *state;
    uint16_t port;
    int l = listen_any(&port);

    give(b, port, TLS_LEVEL_OPPORTUNISTIC, "post-tls");
    struct talk t = tls_session(b, l); /* success is forgotten again below */
    take_mail(&t);
    expect_delivered(b);
    talk_close(&t);
    give(b, port, TLS_LEVEL_OPPORTUNISTIC, "greeting");
    t = talk_accept(l); /* says nothing: greeting_timeout_s = 1 */
    assert_null(talk_line(&t));
    talk_close(&t);
    expect_deferred(b, FAILURE_TIMEOUT);
    assert_false(talk_pending(l, 50));
    (void)close(l);
}

static void connections_are_used_again(void **state)
{
    struct bench *b = *state;
    uint16_t port;
    int l = listen_any(&port);

    give(b, port, TLS_LEVEL_ENCRYPT, "reuse");
    struct talk t = tls_session(b, l);
    take_mail(&t);
    expect_delivered(b);
    assert_false(b->msg.ATTEMPT_DONE.reused);
    give(b, port, TLS_LEVEL_ENCRYPT, "reuse");
    take_mail(&t);
    expect_delivered(b);
    assert_true(b->msg.ATTEMPT_DONE.reused);
    /* a stronger promise does not ride on it */
    give(b, port, TLS_LEVEL_VERIFY, "reuse");
    struct talk other = tls_session(b, l);
    expect_no_mail(&other);
    expect_deferred(b, FAILURE_TLS_CERT);
    give(b, port, TLS_LEVEL_ENCRYPT, "reuse");
    take_mail(&t);
    expect_delivered(b);
    talk_expect(&t, "QUIT"); /* connection_reuse = 3 */
    talk_close(&t);
    (void)close(l);
}

static void a_dead_kept_connection_costs_nothing(void **state)
{
    struct bench *b = *state;
    uint16_t port;
    int l = listen_any(&port);

    give(b, port, TLS_LEVEL_OPPORTUNISTIC, "dead");
    struct talk t = talk_accept(l);
    greet(&t, PLAIN_EHLO);
    take_mail(&t);
    expect_delivered(b);
    give(b, port, TLS_LEVEL_OPPORTUNISTIC, "dead");
    talk_expect(&t, "MAIL");
    talk_say(&t, "421 4.4.2 idle for too long\r\n");
    talk_close(&t);
    t = talk_accept(l);
    greet(&t, PLAIN_EHLO);
    take_mail(&t);
    expect_delivered(b);
    talk_close(&t);
    (void)close(l);
}

static void replies_decide_the_result(void **state)
{
    static const struct {
        const char *reply;
        uint8_t result;
        enum failure failure;
        const char *status;
    } rows[] = {
        {"550 5.1.1 unknown\r\n", RCPT_FAILED, FAILURE_SMTP_PERM, "5.1.1"},
        {"451 4.7.1 later\r\n", RCPT_DEFERRED, FAILURE_SMTP_TEMP, "4.7.1"},
    };
    struct bench *b = *state;
    uint16_t port;
    int l = listen_any(&port);

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        give(b, port, TLS_LEVEL_OPPORTUNISTIC, i ? "replies" : "replies-2");
        struct talk t = talk_accept(l);
        greet(&t, PLAIN_EHLO);
        talk_expect(&t, "MAIL");
        talk_say(&t, "250 ok\r\n");
        talk_expect(&t, "RCPT");
        talk_say(&t, rows[i].reply);
        talk_expect(&t, "DATA");
        talk_say(&t, "503 no\r\n");
        const struct outcome *o = outcome_of(b);
        assert_int_equal(o->rcpts[0].result, rows[i].result);
        assert_int_equal(o->failure, rows[i].failure);
        assert_true(sv_eq(o->rcpts[0].status, sv_str(rows[i].status)));
        talk_close(&t);
    }
    (void)close(l);
}

static void lost_behind_the_dot_is_deferred_and_not_repeated(void **state)
{
    struct bench *b = *state;
    uint16_t port;
    int l = listen_any(&port);
    struct buf body;

    give(b, port, TLS_LEVEL_OPPORTUNISTIC, "dot");
    struct talk t = talk_accept(l);
    greet(&t, PLAIN_EHLO);
    talk_expect(&t, "MAIL");
    talk_say(&t, "250 ok\r\n");
    talk_expect(&t, "RCPT");
    talk_say(&t, "250 ok\r\n");
    talk_expect(&t, "DATA");
    talk_say(&t, "354 go\r\n");
    buf_init(&body, 65536);
    talk_read_data(&t, &body);
    buf_done(&body);
    talk_close(&t);
    (void)outcome_of(b);
    assert_int_equal(b->msg.ATTEMPT_DONE.rcpts[0].result, RCPT_DEFERRED);
    assert_false(talk_pending(l, 50));
    (void)close(l);
}

static void the_next_host_has_its_turn(void **state)
{
    struct bench *b = *state;
    uint16_t dead, port;
    int gone = listen_any(&dead), l = listen_any(&port);
    struct host hosts[2] = {{.name = SV("127.0.0.1"), .port = dead},
                            {.name = SV("127.0.0.1"), .port = port, .preference = 5}};
    struct delivery d = job_for(port, ++next_attempt, TLS_LEVEL_OPPORTUNISTIC, SV(BODY));

    (void)close(gone);
    d.hop.key = SV("two");
    d.hop.hosts = hosts;
    d.hop.n_hosts = 2;
    bench_send(b, MSG_DELIVER, &d, -1);
    struct talk t = talk_accept(l);
    greet(&t, PLAIN_EHLO);
    take_mail(&t);
    expect_delivered(b);
    talk_close(&t);
    (void)close(l);
}

/* 4xx at one server: the next has its turn, for the recipients that are open. 5xx is final. */
static void a_temporary_refusal_goes_to_the_next_host(void **state)
{
    struct bench *b = *state;
    uint16_t p1, p2;
    int l1 = listen_any(&p1), l2 = listen_any(&p2);
    struct host hosts[2] = {{.name = SV("127.0.0.1"), .port = p1},
                            {.name = SV("127.0.0.1"), .port = p2, .preference = 5}};
    struct rcpt rcpts[2] = {{.addr = SV("no@outside.example"), .index = 8},
                            {.addr = SV("joe@outside.example"), .index = 9}};
    struct delivery d = job_for(p1, ++next_attempt, TLS_LEVEL_OPPORTUNISTIC, SV(BODY));

    d.hop.key = SV("next");
    d.hop.hosts = hosts;
    d.hop.n_hosts = 2;
    d.rcpts = rcpts;
    d.n_rcpts = 2;
    bench_send(b, MSG_DELIVER, &d, -1);
    struct talk t = talk_accept(l1);
    greet(&t, PLAIN_EHLO);
    talk_expect(&t, "MAIL");
    talk_say(&t, "250 ok\r\n");
    talk_expect(&t, "RCPT TO:<no@outside.example>");
    talk_say(&t, "550 5.1.1 unknown\r\n");
    talk_expect(&t, "RCPT TO:<joe@outside.example>");
    talk_say(&t, "452 4.2.2 full\r\n");
    talk_expect(&t, "DATA");
    talk_say(&t, "503 no\r\n");
    struct talk t2 = talk_accept(l2);
    greet(&t2, PLAIN_EHLO);
    take_mail(&t2); /* joe alone */
    const struct outcome *o = &bench_expect(b, MSG_ATTEMPT_DONE)->ATTEMPT_DONE;
    struct attempt_ack ack = {o->attempt};
    assert_int_equal(o->n_rcpts, 2);
    assert_int_equal(o->rcpts[0].index, 8);
    assert_int_equal(o->rcpts[0].result, RCPT_FAILED);
    assert_int_equal(o->rcpts[0].code, 550);
    assert_int_equal(o->rcpts[1].index, 9);
    assert_int_equal(o->rcpts[1].result, RCPT_DELIVERED);
    bench_send(b, MSG_ATTEMPT_ACK, &ack, -1);
    talk_close(&t);
    talk_close(&t2);
    (void)close(l1);
    (void)close(l2);
}

/* The first server fails TLS, the second satisfies it: mandatory TLS goes on over all addresses. */
static void mandatory_tls_tries_every_host(void **state)
{
    struct bench *b = *state;
    uint16_t p1, p2;
    int l1 = listen_any(&p1), l2 = listen_any(&p2);
    struct host hosts[2] = {{.name = SV("127.0.0.1"), .port = p1},
                            {.name = SV("127.0.0.1"), .port = p2, .preference = 5}};
    struct delivery d = job_for(p1, ++next_attempt, TLS_LEVEL_ENCRYPT, SV(BODY));

    d.hop.key = SV("every");
    d.hop.hosts = hosts;
    d.hop.n_hosts = 2;
    bench_send(b, MSG_DELIVER, &d, -1);
    struct talk t = talk_accept(l1);
    greet(&t, TLS_EHLO);
    talk_expect(&t, "STARTTLS");
    talk_say(&t, "454 4.7.0 not now\r\n");
    expect_no_mail(&t);
    t = tls_session(b, l2);
    take_mail(&t);
    expect_delivered(b);
    talk_close(&t);
    (void)close(l1);
    (void)close(l2);
}

/* Each line comes in time, the whole never ends: attempt_max_s does, and the next host is not
 * asked.
 */
static void an_endless_peer_is_a_timeout(void **state)
{
    static const struct piece quick[] = {
        {"delivery.conf", "attempt_max_s = 1\ncommand_timeout_s = 60\ndata_timeout_s = 60\n"},
        {NULL, NULL}};
    struct bench *b = *state;
    uint16_t port = 0;
    int l = listen_any(&port);

    bench_settings(b, quick);
    bench_settings_acked(b);
    give(b, port, TLS_LEVEL_OPPORTUNISTIC, "endless");
    struct talk t = talk_accept(l);
    talk_say(&t, "220 server ESMTP\r\n");
    talk_expect(&t, "EHLO " BENCH_HOST);
    int lines = 0;
    while (!talk_pending(t.fd, 100) && lines++ < 60)
        talk_say(&t, "250-and so on\r\n");
    assert_in_range(lines, 5, 30);
    expect_deferred(b, FAILURE_TIMEOUT);
    talk_close(&t);
    (void)close(l);
    bench_settings(b, pieces);
    bench_settings_acked(b);
}

static void a_wrong_body_is_never_sent(void **state)
{
    struct bench *b = *state;
    uint16_t port;
    int l = listen_any(&port);
    struct delivery d = job_for(port, ++next_attempt, TLS_LEVEL_OPPORTUNISTIC, SV(BODY));

    d.body = SV("Subject: y\r\n\r\n.dot\r\nend\r\n");
    bench_send(b, MSG_DELIVER, &d, -1);
    expect_deferred(b, FAILURE_CORRUPT);
    assert_false(talk_pending(l, 50));
    (void)close(l);
}

/* 300 KiB from a file; `damage` flips one byte of it. */
static void from_file(struct bench *b, bool damage)
{
    enum { N = 300 * 1024 };
    static char text[N];
    static const char key[] = "0123456789abcdef0123456789abcdef";
    char path[] = "/tmp/smtp-role-XXXXXX";
    uint16_t port;
    int l = listen_any(&port), fd = mkstemp(path);
    struct buf body;

    assert_true(fd >= 0 && unlink(path) == 0);
    for (int i = 0; i < N; i++)
        text[i] = (char)(i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : 'a' + i % 26);
    struct delivery d = job_for(port, ++next_attempt, TLS_LEVEL_ENCRYPT, sv_of(text, N));
    d.hop.key = damage ? SV("file-damaged") : SV("file");
    d.body = SV("");
    d.body_key = sv_of(key, 32);
    body_crypt((const uint8_t *)key, 0, 0, text, N);
    if (damage)
        text[200000] = (char)(text[200000] ^ 1);
    assert_int_equal(pwrite(fd, text, N, 0), N);
    bench_send(b, MSG_DELIVER, &d, fd);
    struct talk t = tls_session(b, l);
    talk_expect(&t, "MAIL");
    talk_say(&t, "250 ok\r\n");
    talk_expect(&t, "RCPT");
    talk_say(&t, "250 ok\r\n");
    talk_expect(&t, "DATA");
    talk_say(&t, "354 go\r\n");
    buf_init(&body, 1024 * 1024);
    if (damage) {
        const char *line;
        while ((line = talk_line(&t)) != NULL)
            assert_true(strcmp(line, ".") != 0);
        expect_deferred(b, FAILURE_CORRUPT);
    } else {
        talk_read_data(&t, &body);
        assert_int_equal(body.n, N);
        talk_say(&t, "250 ok\r\n");
        expect_delivered(b);
    }
    buf_done(&body);
    talk_close(&t);
    (void)close(l);
}

static void a_large_body_comes_from_its_file(void **state)
{
    from_file(*state, false);
    from_file(*state, true);
}

/* A result that nobody acknowledged is told to the next queue before anything else. */
static void results_are_told_again(void **state)
{
    struct bench *b = *state;
    uint16_t port;
    int l = listen_any(&port);

    give(b, port, TLS_LEVEL_OPPORTUNISTIC, "replay");
    struct talk t = talk_accept(l);
    greet(&t, PLAIN_EHLO);
    take_mail(&t);
    (void)bench_expect(b, MSG_ATTEMPT_DONE); /* no acknowledgement */
    bench_queue_channel(b);
    expect_delivered(b); /* acknowledged now */
    bench_queue(b, pieces);
    bench_queue_channel(b);
    bench_queue(b, pieces); /* SETTINGS_ACK comes first: nothing is told a third time */
    talk_close(&t);
    (void)close(l);
}

/* An attempt whose final dot is out when the queue dies is finished; the acknowledgement of
 * settings waits for it. One that had not got so far is dropped. */
static void orphans_are_finished_or_dropped(void **state)
{
    struct bench *b = *state;
    uint16_t port, port2;
    int l = listen_any(&port), l2 = listen_any(&port2);
    struct buf body;

    give(b, port2, TLS_LEVEL_OPPORTUNISTIC, "orphan-early");
    struct talk early = talk_accept(l2);
    greet(&early, PLAIN_EHLO);
    give(b, port, TLS_LEVEL_OPPORTUNISTIC, "orphan-late");
    struct talk t = talk_accept(l);
    greet(&t, PLAIN_EHLO);
    talk_expect(&t, "MAIL");
    talk_say(&t, "250 ok\r\n");
    talk_expect(&t, "RCPT");
    talk_say(&t, "250 ok\r\n");
    talk_expect(&t, "DATA");
    talk_say(&t, "354 go\r\n");
    buf_init(&body, 65536);
    talk_read_data(&t, &body);
    buf_done(&body);
    bench_queue_channel(b);
    while (talk_line(&early) != NULL) /* cut before the message was begun */
        ;
    bench_settings(b, pieces);
    talk_say(&t, "250 stored\r\n");
    expect_delivered(b); /* before SETTINGS_ACK */
    bench_settings_acked(b);
    bench_queue(b, pieces);
    talk_close(&t);
    talk_close(&early);
    (void)close(l);
    (void)close(l2);
}

/* Every job has an answer: the queue would wait for it for ever. */
static void a_job_that_cannot_be_taken_is_answered(void **state)
{
    struct bench *b = *state;
    struct delivery d = job_for(9, ++next_attempt, TLS_LEVEL_ENCRYPT, SV(BODY));

    d.n_rcpts = 0;
    bench_send(b, MSG_DELIVER, &d, -1);
    const struct outcome *o = &bench_expect(b, MSG_ATTEMPT_DONE)->ATTEMPT_DONE;
    assert_int_equal(o->attempt, next_attempt);
    assert_int_equal(o->id, d.id);
    assert_int_equal(o->failure, FAILURE_INTERNAL);
    assert_int_equal(o->n_rcpts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delivery_in_clear),
        cmocka_unit_test(delivery_by_mandatory_tls),
        cmocka_unit_test(mandatory_tls_and_no_starttls),
        cmocka_unit_test(a_self_signed_peer_fails_verify),
        cmocka_unit_test(a_broken_handshake_falls_back_once),
        cmocka_unit_test(a_silent_handshake_is_no_reason_for_clear_text),
        cmocka_unit_test(connections_are_used_again),
        cmocka_unit_test(a_dead_kept_connection_costs_nothing),
        cmocka_unit_test(replies_decide_the_result),
        cmocka_unit_test(lost_behind_the_dot_is_deferred_and_not_repeated),
        cmocka_unit_test(the_next_host_has_its_turn),
        cmocka_unit_test(a_temporary_refusal_goes_to_the_next_host),
        cmocka_unit_test(mandatory_tls_tries_every_host),
        cmocka_unit_test(an_endless_peer_is_a_timeout),
        cmocka_unit_test(a_wrong_body_is_never_sent),
        cmocka_unit_test(a_large_body_comes_from_its_file),
        cmocka_unit_test(a_job_that_cannot_be_taken_is_answered),
        cmocka_unit_test(results_are_told_again),
        cmocka_unit_test(orphans_are_finished_or_dropped),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
