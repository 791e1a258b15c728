#include "base/utf8.h"
#include "codec/dsn.h"
#include "codec/header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define NOW ((int64_t)1795498560000) /* Tue, 24 Nov 2026 05:36:00 +0000 */

static const char original[] = "Received: from x by y\r\n"
                               "From: Alice <alice@example.com>\r\n"
                               "To: bob@example.net,\r\n\tcarol@example.net\r\n"
                               "Cc: hidden-from-reports@example.org\r\n"
                               "Subject: card 4111111111111111\r\n"
                               "Date: Mon, 23 Nov 2026 10:00:00 +0100\r\n"
                               "Message-ID: <m1@example.com>\r\n"
                               "\r\n"
                               "SECRET BODY 4111 1111 1111 1111\r\n";

struct fixture {
    struct envelope env;
    struct dsn_rcpt rcpts[3];
    struct dsn_in in;
    struct buf out;
};

static int setup(void **state)
{
    static struct fixture f;

    memset(&f, 0, sizeof(f));
    f.env = (struct envelope){.id = 1,
                              .received_ms = NOW - 1000,
                              .sender = SV("alice@example.com"),
                              .envid = SV("env 1"),
                              .message_id = SV("<m1@example.com>")};
    f.rcpts[0] = (struct dsn_rcpt){
        .rcpt = {.addr = SV("bob@example.net"), .orcpt = SV("rfc822;robert@example.org")},
        .action = DSN_FAILED,
        .status = SV("5.1.1"),
        .remote_mta = SV("mx.example.net"),
        .diagnostic = SV("550 5.1.1 <bob@example.net>: no 4111111111111111 here"),
        .last_attempt_ms = NOW};
    f.in = (struct dsn_in){.env = &f.env,
                           .rcpts = f.rcpts,
                           .n_rcpts = 1,
                           .reporting_mta = SV("gw.example"),
                           .from = SV("mailer-daemon@gw.example"),
                           .original = SV(original),
                           .message_id = SV("<r1@gw.example>"),
                           .boundary = SV("=_b0undary"),
                           .now_ms = NOW};
    buf_init(&f.out, 1U << 20);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    buf_done(&f->out);
    return 0;
}

static bool has(const struct fixture *f, const char *text)
{
    return sv_find(buf_sv(&f->out), sv_str(text)) != SIZE_MAX;
}

/* Every line ends in CRLF, is ASCII unless 8-bit is expected, and fits. */
static void check_lines(const struct fixture *f)
{
    struct sv rest = buf_sv(&f->out);

    assert_true(sv_ends_nocase(rest, SV("\r\n--=_b0undary--\r\n")));
    while (rest.n) {
        struct sv line = sv_cut(&rest, '\n');

        assert_true(line.n && line.n <= 999 && line.p[line.n - 1] == '\r');
        assert_true(sv_find_byte(sv_take(line, line.n - 1), '\r') == SIZE_MAX);
        assert_true(sv_find_byte(line, '\0') == SIZE_MAX);
    }
}

static void build(struct fixture *f)
{
    buf_reset(&f->out);
    assert_int_equal(dsn_build(&f->in, &f->out), ERR_OK);
    check_lines(f);
}

static void test_failed(void **state)
{
    static const char *const want[] = {
        "Date: Tue, 24 Nov 2026 05:36:00 +0000\r\n",
        "From: Mail Delivery System <mailer-daemon@gw.example>\r\nTo: <alice@example.com>\r\n",
        "Subject: Mail could not be delivered\r\nMessage-ID: <r1@gw.example>\r\n",
        "In-Reply-To: <m1@example.com>\r\nAuto-Submitted: auto-replied\r\n",
        "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"=_b0undary\"",
        "There is no mailbox of that name",
        "The server mx.example.net answered:\r\n      550 5.1.1 <bob@example.net>: no",
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; gw.example\r\n"
        "Original-Envelope-Id: env 1\r\nX-Postseal-Queue-Id: 0000000000001\r\n"
        "Arrival-Date: Tue, 24 Nov 2026 05:35:59 +0000\r\n\r\n"
        "Original-Recipient: rfc822;robert@example.org\r\n"
        "Final-Recipient: rfc822; bob@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        "Remote-MTA: dns; mx.example.net\r\n"
        "Diagnostic-Code: smtp; 550 5.1.1 <bob@example.net>: no 4111111111111111\r\n here\r\n"
        "Last-Attempt-Date: Tue, 24 Nov 2026 05:36:00 +0000\r\n\r\n--=_b0undary\r\n",
        "Content-Type: message/rfc822\r\n\r\nReceived: from x",
        "SECRET BODY",
    };
    struct fixture *f = *state;

    build(f);
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        if (!has(f, want[i]))
            fail_msg("missing: %s\nin: %.*s", want[i], SV_ARG(buf_sv(&f->out)));
    assert_true(sv_is_ascii(buf_sv(&f->out)));
    assert_false(has(f, "8bit"));
}

static void test_sealed_leaks_nothing(void **state)
{
    static const char *const never[] = {"4111", "SECRET", "hidden-from-reports", "Received: from x",
                                        "rfc822\r\n"};
    struct fixture *f = *state;

    f->in.sealed = true;
    f->env.ret = RET_FULL;
    for (unsigned action = DSN_FAILED; action <= DSN_DELIVERED; action++) {
        f->rcpts[0].action = (uint8_t)action;
        build(f);
        for (size_t i = 0; i < ARRAY_LEN(never); i++)
            if (has(f, never[i]))
                fail_msg("leaks: %s\nin: %.*s", never[i], SV_ARG(buf_sv(&f->out)));
        assert_true(has(f, "Diagnostic-Code: smtp; 550 5.1.1\r\n"));
        assert_true(has(f, "Content-Type: text/rfc822-headers\r\n\r\n"
                           "From: Alice <alice@example.com>\r\n"
                           "To: bob@example.net,\r\n\tcarol@example.net\r\n"
                           "Date: Mon, 23 Nov 2026 10:00:00 +0100\r\n"
                           "Message-ID: <m1@example.com>\r\n"
                           "Subject: (removed: the message was to be encrypted)\r\n"));
    }
    /* A reply without codes is not shown at all. */
    f->rcpts[0].diagnostic = SV("go away 4111111111111111");
    build(f);
    assert_false(has(f, "4111"));
    assert_false(has(f, "Diagnostic-Code"));
}

static void test_tls_words(void **state)
{
    static const struct {
        const char *status;
        bool tls;
    } cases[] = {
        {"4.7.5", true},  {"5.7.5", true},  {"5.7.10", true},  {"4.7.4", true},
        {"5.7.30", true}, {"5.7.1", false}, {"5.1.1", false},  {"5.7.26", false},
        {"", false},      {"x.7.5", false}, {"5.7.50", false},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        f->rcpts[0].status = sv_str(cases[i].status);
        f->rcpts[0].human = SV("mx.example.net: certificate has expired");
        assert_int_equal(dsn_status_is_tls(f->rcpts[0].status), cases[i].tls);
        build(f);
        assert_int_equal(has(f, "must travel over an encrypted connection (TLS)"), cases[i].tls);
        assert_true(has(f, "    mx.example.net: certificate has expired\r\n"));
    }
}

static void test_delayed(void **state)
{
    struct fixture *f = *state;

    f->rcpts[0].action = DSN_DELAYED;
    f->rcpts[0].status = SV("4.7.5");
    f->rcpts[0].diagnostic = SV("TLS handshake failed");
    f->rcpts[0].will_retry_until_ms = NOW + 3600000;
    f->env.ret = RET_FULL;
    build(f);
    assert_true(has(f, "Subject: Mail is delayed (still being tried)\r\n"));
    assert_true(has(f, "a warning: "));
    assert_true(has(f, "Action: delayed\r\nStatus: 4.7.5\r\n"));
    assert_true(has(f, "Will-Retry-Until: Tue, 24 Nov 2026 06:36:00 +0000\r\n"));
    assert_true(has(f, "Diagnostic-Code: X-Postseal; TLS handshake failed\r\n"));
    assert_true(has(f, "Content-Type: text/rfc822-headers\r\n\r\nReceived: "));
    assert_false(has(f, "SECRET")); /* RFC 3461 6.2: only a failure returns the body */
    assert_false(has(f, "answered"));
}

static void test_what_is_returned(void **state)
{
    struct fixture *f = *state;

    f->env.ret = RET_HDRS;
    build(f);
    assert_false(has(f, "SECRET"));
    assert_true(has(f, "card 4111"));
    f->env.ret = RET_FULL;
    f->in.headers_only = true;
    build(f);
    assert_false(has(f, "SECRET"));
    f->in.headers_only = false;
    f->in.original = SV("Subject: only a section\r\n");
    build(f);
    assert_true(has(f, "text/rfc822-headers\r\n\r\nSubject: only a section\r\n\r\n--=_b0und"));
    f->in.original = SV("");
    build(f);
    assert_false(has(f, "rfc822-headers"));
}

static void test_transfer_encoding(void **state)
{
    struct fixture *f = *state;
    struct buf m;

    f->in.original = SV("Subject: x\r\n\r\nGr\xc3\xbc\xc3\x9f"
                        "e\r\n");
    build(f);
    assert_true(has(f, "message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: x"));
    assert_true(has(f, "\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"));
    assert_false(sv_is_ascii(buf_sv(&f->out)));

    f->in.headers_only = true;
    f->in.original = SV("Subject: Gr\xc3\xbc= \r\n x\r\n\r\n");
    build(f);
    assert_true(sv_is_ascii(buf_sv(&f->out)));
    assert_true(has(f, "headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
                       "Subject: Gr=C3=BC=3D=20\r\n x\r\n"));

    /* A body line too long for SMTP: headers only; a header line too long: quoted-printable. */
    f->in.headers_only = false;
    buf_init(&m, 8192);
    (void)buf_append_sv(&m, SV("Subject: a\r\nX-Long: "));
    for (int i = 0; i < 2000; i++)
        (void)buf_append_byte(&m, 'y');
    (void)buf_append_sv(&m, SV("\r\n\r\nbody\r\n"));
    f->in.original = buf_sv(&m);
    build(f);
    assert_true(has(f, "quoted-printable\r\n\r\nSubject: a\r\nX-Long: yyy"));
    assert_true(has(f, "y=\r\ny"));
    assert_false(has(f, "\r\nbody\r\n"));
    buf_done(&m);
}

static void test_hostile_text(void **state)
{
    struct fixture *f = *state;

    f->rcpts[0].diagnostic = SV("550 5.1.1 x\r\nStatus: 2.0.0\r\n\r\n--=_b0undary\r\n\xff");
    f->rcpts[0].remote_mta = SV("mx\r\nAction: delivered");
    f->rcpts[0].status = SV("2.0.0\r\nX: y");
    f->rcpts[0].rcpt.orcpt = SV("rfc822;a\nb");
    f->env.envid = SV("a\r\nb");
    f->env.message_id = SV("<a\r\nB: c>");
    build(f);
    assert_false(has(f, "\nStatus: 2"));
    assert_false(has(f, "\nAction: delivered"));
    assert_true(has(f, "Status: 5.0.0\r\n"));
    assert_true(has(f, "Original-Envelope-Id: a??b\r\n"));
    assert_false(has(f, "In-Reply-To"));
}

static void test_several_recipients(void **state)
{
    struct fixture *f = *state;

    f->rcpts[1] =
        (struct dsn_rcpt){.rcpt = {.addr = SV("carol@example.net")}, .action = DSN_RELAYED};
    f->rcpts[2] =
        (struct dsn_rcpt){.rcpt = {.addr = SV("dave@example.net")}, .action = DSN_DELIVERED};
    f->in.n_rcpts = 3;
    f->in.notice = SV("Ask the help desk.");
    build(f);
    assert_true(has(f, "Action: relayed\r\nStatus: 2.0.0\r\n"));
    assert_true(has(f, "Action: delivered\r\nStatus: 2.0.0\r\n"));
    assert_true(has(f, "does not confirm delivery"));
    assert_true(has(f, "\r\n  Ask the help desk.\r\n"));
}

static void test_refusals(void **state)
{
    struct fixture *f = *state;
    struct buf small;

    f->in.boundary = SV("SECRET");
    assert_int_equal(dsn_build(&f->in, &f->out), ERR_CONFLICT);
    f->in.boundary = SV("a\"b");
    assert_int_equal(dsn_build(&f->in, &f->out), ERR_BUG);
    f->in.boundary = SV("ok");
    f->in.n_rcpts = 0;
    assert_int_equal(dsn_build(&f->in, &f->out), ERR_BUG);
    f->in.n_rcpts = 1;
    buf_init(&small, 500);
    assert_int_equal(dsn_build(&f->in, &small), ERR_LIMIT);
    buf_done(&small);
    f->env.sender = SV("");
    assert_int_equal(dsn_build(&f->in, &f->out), ERR_DENIED);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_failed),       TEST(test_sealed_leaks_nothing), TEST(test_tls_words),
        TEST(test_delayed),      TEST(test_what_is_returned),     TEST(test_transfer_encoding),
        TEST(test_hostile_text), TEST(test_several_recipients),   TEST(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
