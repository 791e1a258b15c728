/* The `smtp` process from outside, mail in: see smtp_harness.h. */
#include "role/smtp_harness.h"

#include "crypto/cert.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char submitters[512];
static struct piece pieces[] = {
    {"groups/domain/protected.txt", "inside.example\n"},
    {"conn.conf", "tarpit_ms = 0\nper_ip = 4\n"},
    {"msg.conf", "max_hops = 5\n"},
    {"submitters.conf", submitters},
    {NULL, NULL},
};

static int setup(void **state)
{
    char hash[crypto_pwhash_STRBYTES];

    assert_true(sodium_init() >= 0);
    assert_int_equal(crypto_pwhash_str(hash, "sesame", 6, crypto_pwhash_OPSLIMIT_MIN,
                                       crypto_pwhash_MEMLIMIT_MIN),
                     0);
    (void)snprintf(submitters, sizeof(submitters), "[submitter joe]\nhash = %s\n", hash);
    *state = bench_start(pieces);
    return 0;
}

static int teardown(void **state)
{
    bench_stop(*state);
    return 0;
}

static struct talk greeted(uint16_t port)
{
    struct talk t = talk_to(port);

    assert_string_equal(talk_reply(&t, 220), "220 " BENCH_HOST " ESMTP Postseal");
    (void)talk_cmd(&t, "EHLO client.example", 250);
    return t;
}

static void quit(struct talk *t)
{
    (void)talk_cmd(t, "QUIT", 221);
    assert_null(talk_line(t));
    talk_close(t);
}

static void envelope_in(struct talk *t)
{
    (void)talk_cmd(t, "MAIL FROM:<ann@outside.example>", 250);
    (void)talk_cmd(t, "RCPT TO:<bob@inside.example>", 250);
    (void)talk_cmd(t, "DATA", 354);
}

static bool has(struct sv text, const char *part)
{
    return sv_find(text, sv_str(part)) != SIZE_MAX;
}

static void mail_by_starttls_waits_for_its_commit(void **state)
{
    struct bench *b = *state;
    struct talk t = greeted(b->port_mx);
    uint8_t digest[32];

    (void)talk_cmd(&t, "STARTTLS", 220);
    talk_tls_client(b, &t);
    (void)talk_cmd(&t, "EHLO client.example", 250);
    envelope_in(&t);
    talk_say(&t, "Subject: hello\r\nMessage-ID: <1@x>\r\nBcc: secret@x\r\n\r\n..dot\r\n.\r\n");
    const struct received *r = &bench_expect(b, MSG_RECEIVED)->RECEIVED;
    assert_true(r->env.id >= LEASE_FIRST);
    assert_int_equal(r->env.n_rcpts, 1);
    assert_true(sv_eq(r->env.sender, SV("ann@outside.example")));
    assert_true(sv_eq(r->env.message_id, SV("<1@x>")));
    assert_true(sv_eq(r->env.subject, SV("hello")));
    assert_true(r->env.peer.tls.version >= 0x0303);
    assert_true(sv_eq(r->env.peer.helo, SV("client.example")));
    assert_int_equal(r->env.size, r->body.n);
    assert_true(sv_starts(r->body, SV("Received: ")));
    assert_true(has(r->body, "with ESMTPS") && has(r->body, "X-Postseal-Trace:"));
    assert_true(has(r->body, "\r\n\r\n.dot\r\n") && !has(r->body, "secret@x"));
    sha256_once(r->body, digest);
    assert_memory_equal(digest, r->env.sha256.p, 32);
    bench_commit(b, 250);
    assert_true(has(sv_str(talk_reply(&t, 250)), "2.0.0 Ok: queued as "));
    quit(&t);
}

static void refusals_of_the_queue_are_passed_on(void **state)
{
    static const struct {
        uint16_t code;
        int expected;
    } rows[] = {{452, 452}, {451, 451}, {554, 554}, {0, 451}, {220, 451}};
    struct bench *b = *state;
    struct talk t = greeted(b->port_mx);

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        envelope_in(&t);
        talk_say(&t, "Subject: x\r\n\r\nx\r\n.\r\n");
        (void)bench_expect(b, MSG_RECEIVED);
        bench_commit(b, rows[i].code);
        (void)talk_reply(&t, rows[i].expected);
    }
    quit(&t);
}

static void closed_intake_refuses_mail(void **state)
{
    struct bench *b = *state;
    struct talk t = greeted(b->port_mx);
    struct intake in = {.code = 452, .status = SV("4.3.1"), .text = SV("Disk is full")};

    bench_send(b, MSG_INTAKE, &in, -1);
    bench_settings(b, pieces); /* its answer says that INTAKE was seen */
    bench_settings_acked(b);
    assert_string_equal(talk_cmd(&t, "MAIL FROM:<>", 452), "452 4.3.1 Disk is full");
    in.open = true;
    bench_send(b, MSG_INTAKE, &in, -1);
    bench_settings(b, pieces);
    bench_settings_acked(b);
    (void)talk_cmd(&t, "MAIL FROM:<>", 250);
    quit(&t);
}

static void strangers_may_not_relay(void **state)
{
    struct bench *b = *state;
    struct talk t = greeted(b->port_mx);

    (void)talk_cmd(&t, "MAIL FROM:<ann@inside.example>", 250);
    (void)talk_cmd(&t, "RCPT TO:<x@elsewhere.example>", 550);
    (void)talk_cmd(&t, "RCPT TO:<x%elsewhere.example@inside.example>", 550);
    (void)talk_cmd(&t, "DATA", 554);
    quit(&t);
}

static void a_fresh_queue_answers_451_to_the_old_ones_mail(void **state)
{
    struct bench *b = *state;
    struct talk t = greeted(b->port_mx);

    envelope_in(&t);
    talk_say(&t, "Subject: x\r\n\r\nx\r\n.\r\n");
    (void)bench_expect(b, MSG_RECEIVED);
    (void)close(b->queue);
    b->queue = -1;
    assert_true(has(sv_str(talk_reply(&t, 451)), "451 4.3.0 "));
    (void)talk_cmd(&t, "MAIL FROM:<>", 451); /* nobody there */
    bench_queue_channel(b);
    bench_queue(b, pieces);
    envelope_in(&t);
    talk_say(&t, "Subject: x\r\n\r\nx\r\n.\r\n");
    (void)bench_expect(b, MSG_RECEIVED);
    bench_commit(b, 250);
    (void)talk_reply(&t, 250);
    quit(&t);
}

/* More than 64 KiB go to a file of the queue, encrypted under its key. */
static void a_large_body_goes_to_a_file(void **state)
{
    enum { LINES = 4000 };
    struct bench *b = *state;
    struct talk t = greeted(b->port_mx);
    struct file_give give = {.file = 9, .key = SV("0123456789abcdef0123456789abcdef")};
    char path[] = "/tmp/smtp-role-XXXXXX";
    int fd = mkstemp(path);
    uint8_t digest[32];

    assert_true(fd >= 0 && unlink(path) == 0);
    envelope_in(&t);
    talk_say(&t, "Subject: big\r\n\r\n");
    for (int i = 0; i < 2000; i++)
        talk_say(&t, "0123456789012345678901234567890123456789\r\n");
    give.tag = bench_expect(b, MSG_FILE_ASK)->FILE_ASK.tag;
    bench_send(b, MSG_FILE_GIVE, &give, dup(fd));
    for (int i = 2000; i < LINES; i++)
        talk_say(&t, "0123456789012345678901234567890123456789\r\n");
    talk_say(&t, ".\r\n");
    const struct received *r = &bench_expect(b, MSG_RECEIVED)->RECEIVED;
    assert_int_equal(r->file, 9);
    assert_int_equal(r->body.n, 0);
    assert_true(r->env.size > (uint64_t)LINES * 42);
    char *body = malloc(r->env.size + 1);
    assert_int_equal(pread(fd, body, r->env.size + 1, 0), (ssize_t)r->env.size);
    body_crypt((const uint8_t *)give.key.p, 0, 0, body, r->env.size);
    assert_memory_equal(body, "Received: ", 10);
    sha256_once(sv_of(body, r->env.size), digest);
    assert_memory_equal(digest, r->env.sha256.p, 32);
    free(body);
    bench_commit(b, 250);
    (void)talk_reply(&t, 250);
    (void)close(fd);
    quit(&t);
}

static void no_file_means_452(void **state)
{
    struct bench *b = *state;
    struct talk t = greeted(b->port_mx);
    struct file_give give = {.code = 452, .text = SV("full")};

    envelope_in(&t);
    for (int i = 0; i < 2000; i++)
        talk_say(&t, "0123456789012345678901234567890123456789\r\n");
    give.tag = bench_expect(b, MSG_FILE_ASK)->FILE_ASK.tag;
    bench_send(b, MSG_FILE_GIVE, &give, -1);
    talk_say(&t, ".\r\n");
    (void)talk_reply(&t, 452);
    (void)talk_cmd(&t, "NOOP", 250);
    quit(&t);
}

static void loops_are_cut(void **state)
{
    struct bench *b = *state;
    struct talk t = greeted(b->port_mx);

    envelope_in(&t);
    for (int i = 0; i < 6; i++)
        talk_say(&t, "Received: from a by b; x\r\n");
    talk_say(&t, "\r\nx\r\n.\r\n");
    assert_true(has(sv_str(talk_reply(&t, 554)), "554 5.4.6 "));
    quit(&t);
}

static void header_limits(void **state)
{
    static const struct piece small[] = {{"groups/domain/protected.txt", "inside.example\n"},
                                         {"conn.conf", "tarpit_ms = 0\n"},
                                         {"msg.conf", "max_header_kb = 16\n"},
                                         {NULL, NULL}};
    struct bench *b = *state;
    struct talk t = greeted(b->port_mx);
    char piece[1001];

    memset(piece, 'x', sizeof(piece));
    piece[1000] = '\0';
    envelope_in(&t);
    talk_say(&t, "Subject: ");
    for (int i = 0; i < 66; i++)
        talk_say(&t, piece);
    talk_say(&t, "\r\n\r\nx\r\n.\r\n");
    assert_true(has(sv_str(talk_reply(&t, 550)), "550 5.6.0 "));
    envelope_in(&t);
    for (int i = 0; i < 2001; i++)
        talk_say(&t, "A: b\r\n");
    talk_say(&t, "\r\nx\r\n.\r\n");
    assert_true(has(sv_str(talk_reply(&t, 550)), "550 5.6.0 "));
    quit(&t);
    bench_settings(b, small);
    bench_settings_acked(b);
    t = greeted(b->port_mx);
    envelope_in(&t);
    for (int i = 0; i < 17; i++) {
        talk_say(&t, "A: ");
        talk_say(&t, piece);
        talk_say(&t, "\r\n");
    }
    talk_say(&t, "\r\nx\r\n.\r\n");
    assert_true(has(sv_str(talk_reply(&t, 552)), "552 5.3.4 "));
    quit(&t);
    bench_settings(b, pieces);
    bench_settings_acked(b);
}

static void submission_asks_lookup_for_passwords(void **state)
{
    static const struct {
        const char *line;
        enum answer answer;
        int code;
    } rows[] = {
        {"AUTH PLAIN AGpvZQB3cm9uZw==", ANSWER_NO, 535},      /* joe wrong */
        {"AUTH PLAIN AGphY2sAc2VzYW1l", ANSWER_YES, 535},     /* jack: unknown, whatever is said */
        {"AUTH PLAIN AGpvZQBzZXNhbWU=", ANSWER_UNKNOWN, 454}, /* joe sesame */
        {"AUTH PLAIN AGpvZQBzZXNhbWU=", ANSWER_YES, 235},
    };
    struct bench *b = *state;
    struct talk t = greeted(b->port_submission);

    (void)talk_cmd(&t, "MAIL FROM:<joe@inside.example>", 530);
    (void)talk_cmd(&t, "STARTTLS", 220);
    talk_tls_client(b, &t);
    (void)talk_cmd(&t, "EHLO client.example", 250);
    (void)talk_cmd(&t, "MAIL FROM:<joe@inside.example>", 530);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        enum message m = MSG_NONE;
        union message_body body;
        int fd = -1;
        talk_say(&t, rows[i].line);
        talk_say(&t, "\r\n");
        arena_reset(&b->mem);
        assert_int_equal(
            ipc_recv_fd(b->lookup, ROLE_LOOKUP, ROLE_SMTP, BENCH_WAIT_MS, &b->mem, &m, &body, &fd),
            ERR_OK);
        assert_int_equal(m, MSG_ASK);
        assert_true(sv_starts(body.ASK.c, SV("$argon2id$")));
        struct answer_msg a = {.tag = body.ASK.tag, .answer = (uint8_t)rows[i].answer};
        assert_int_equal(ipc_send_fd(b->lookup, MSG_ANSWER, &a, -1), ERR_OK);
        (void)talk_reply(&t, rows[i].code);
    }
    (void)talk_cmd(&t, "MAIL FROM:<joe@inside.example>", 250);
    (void)talk_cmd(&t, "RCPT TO:<x@elsewhere.example>", 250); /* may relay now */
    quit(&t);
}

static void implicit_tls_shakes_hands_first(void **state)
{
    struct bench *b = *state;
    struct talk t = talk_to(b->port_submissions);

    talk_tls_client(b, &t);
    (void)talk_reply(&t, 220);
    (void)talk_cmd(&t, "EHLO client.example", 250);
    quit(&t);
}

static void bytes_behind_starttls_end_the_session(void **state)
{
    struct bench *b = *state;
    struct talk t = greeted(b->port_mx);

    talk_say(&t, "STARTTLS\r\nMAIL FROM:<x@y.example>\r\n");
    const char *line;
    while ((line = talk_line(&t)) != NULL)
        assert_true(strncmp(line, "250", 3) != 0);
    talk_close(&t);
}

static void http_is_hung_up_on(void **state)
{
    struct bench *b = *state;
    struct talk t = talk_to(b->port_mx);

    (void)talk_reply(&t, 220);
    talk_say(&t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    while (talk_line(&t) != NULL)
        ;
    talk_close(&t);
}

static void one_address_has_few_connections(void **state)
{
    struct bench *b = *state;
    static struct talk t[5];

    for (int i = 0; i < 4; i++) {
        t[i] = talk_to(b->port_mx);
        (void)talk_reply(&t[i], 220);
    }
    t[4] = talk_to(b->port_mx);
    (void)talk_reply(&t[4], 421);
    assert_null(talk_line(&t[4]));
    for (int i = 0; i < 5; i++)
        talk_close(&t[i]);
}

/* New sessions use new settings, old ones keep theirs; what does not compile changes nothing. */
static void settings_are_for_new_sessions(void **state)
{
    static const struct piece broken[] = {{"conn.conf", "per_ip = lots\n"}, {NULL, NULL}};
    static const struct piece small[] = {
        {"conn.conf", "tarpit_ms = 0\nper_ip = 4\n"},
        {"general.conf", "fqdn = other.test\n"},
        {"groups/domain/protected.txt", "elsewhere.example\n"},
        {NULL, NULL},
    };
    struct bench *b = *state;
    struct talk old = greeted(b->port_mx);

    bench_settings(b, broken);
    assert_true(bench_expect(b, MSG_SETTINGS_ACK)->SETTINGS_ACK.error.n > 0);
    bench_settings(b, small);
    bench_settings_acked(b);
    struct talk t = talk_to(b->port_mx);
    assert_true(has(sv_str(talk_reply(&t, 220)), "220 other.test "));
    (void)talk_cmd(&t, "EHLO x", 250);
    (void)talk_cmd(&t, "MAIL FROM:<>", 250);
    (void)talk_cmd(&t, "RCPT TO:<x@elsewhere.example>", 250);
    (void)talk_cmd(&t, "RCPT TO:<bob@inside.example>", 550);
    (void)talk_cmd(&old, "MAIL FROM:<>", 250);
    (void)talk_cmd(&old, "RCPT TO:<x@elsewhere.example>", 550);
    (void)talk_cmd(&old, "RCPT TO:<bob@inside.example>", 250);
    quit(&t);
    quit(&old);
    bench_settings(b, pieces);
    bench_settings_acked(b);
}

/* Each ends by the gateway's own clock: a second at most. */
static void slow_clients_are_cut_off(void **state)
{
    static const struct piece quick[] = {
        {"conn.conf", "timeout_s = 1\nfirst_mail_s = 1\nhandshake_timeout_s = 1\ntarpit_ms = 0\n"},
        {NULL, NULL},
    };
    struct bench *b = *state;

    bench_settings(b, quick);
    bench_settings_acked(b);
    struct talk idle = greeted(b->port_mx), stalled = greeted(b->port_mx);
    struct talk silent = talk_to(b->port_submissions);
    (void)talk_cmd(&stalled, "STARTTLS", 220);
    assert_true(has(sv_str(talk_reply(&idle, 421)), "4.4.2"));
    assert_null(talk_line(&idle));
    assert_null(talk_line(&stalled));
    assert_null(talk_line(&silent));
    talk_close(&idle);
    talk_close(&stalled);
    talk_close(&silent);
    bench_settings(b, pieces);
    bench_settings_acked(b);
}

/* Garbage and impossible answers of the peers change nothing for others. */
static void nonsense_from_the_queue_is_passed_over(void **state)
{
    struct bench *b = *state;
    struct talk t = greeted(b->port_mx);
    struct committed lie = {.tag = 12345, .id = 1, .code = 250};
    struct file_give file = {.tag = 99, .file = 4, .key = SV("short")};
    struct attempt_ack ack = {4711};
    struct lease lease = {.first = UINT64_MAX, .count = 10};

    envelope_in(&t);
    talk_say(&t, "Subject: x\r\n\r\nx\r\n.\r\n");
    (void)bench_expect(b, MSG_RECEIVED);
    struct committed wrong_id = {.tag = b->msg.RECEIVED.tag, .id = 1, .code = 250};
    uint64_t tag = b->msg.RECEIVED.tag, id = b->msg.RECEIVED.env.id;
    bench_send(b, MSG_COMMITTED, &lie, -1);
    bench_send(b, MSG_COMMITTED, &wrong_id, -1);
    bench_send(b, MSG_FILE_GIVE, &file, dup(b->queue));
    bench_send(b, MSG_ATTEMPT_ACK, &ack, -1);
    bench_send(b, MSG_LEASE, &lease, -1);
    assert_int_equal(bench_expect(b, MSG_FILE_DROP)->FILE_DROP.file, 4);
    struct committed right = {.tag = tag, .id = id, .code = 451};
    bench_send(b, MSG_COMMITTED, &right, -1);
    (void)talk_reply(&t, 451); /* no 250 before */
    quit(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_by_starttls_waits_for_its_commit),
        cmocka_unit_test(refusals_of_the_queue_are_passed_on),
        cmocka_unit_test(closed_intake_refuses_mail),
        cmocka_unit_test(strangers_may_not_relay),
        cmocka_unit_test(a_fresh_queue_answers_451_to_the_old_ones_mail),
        cmocka_unit_test(a_large_body_goes_to_a_file),
        cmocka_unit_test(no_file_means_452),
        cmocka_unit_test(loops_are_cut),
        cmocka_unit_test(header_limits),
        cmocka_unit_test(submission_asks_lookup_for_passwords),
        cmocka_unit_test(implicit_tls_shakes_hands_first),
        cmocka_unit_test(bytes_behind_starttls_end_the_session),
        cmocka_unit_test(http_is_hung_up_on),
        cmocka_unit_test(one_address_has_few_connections),
        cmocka_unit_test(settings_are_for_new_sessions),
        cmocka_unit_test(slow_clients_are_cut_off),
        cmocka_unit_test(nonsense_from_the_queue_is_passed_over),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
