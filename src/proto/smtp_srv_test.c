#include "proto/smtp_body.h"
#include "proto/testkit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define EHLO "EHLO client.example\r\n"
#define ENV  "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"

static void expect(struct kit *k, const char *want)
{
    struct buf got;
    buf_init(&got, 1 << 16);
    if (!kit_reply(k, &got))
        fail_msg("no reply, wanted %s", want);
    if (!sv_starts(buf_sv(&got), sv_str(want)))
        fail_msg("got %.*s wanted %s", SV_ARG(buf_sv(&got)), want);
    buf_done(&got);
}

static void silent(struct kit *k)
{
    if (k->out.n)
        fail_msg("unexpected reply %.*s", SV_ARG(buf_sv(&k->out)));
}

static void say(struct kit *k, struct sv bytes)
{
    (void)kit_input(k, bytes, 0);
}

static void open_kit(struct kit *k, bool ehlo)
{
    const struct smtp_srv_config c = kit_config();
    kit_init(k, &c);
    expect(k, "220 mx.example.com ESMTP");
    if (!ehlo)
        return;
    say(k, SV(EHLO));
    expect(k, "250-mx.example.com\r\n250-PIPELINING\r\n250-SIZE 10485760\r\n250-STARTTLS\r\n"
              "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 DSN\r\n");
}

static void one_mail(void **state UNUSED)
{
    struct kit k;
    open_kit(&k, true);
    say(&k, SV(ENV));
    expect(&k, "250 2.1.0");
    expect(&k, "250 2.1.5");
    expect(&k, "354");
    say(&k, SV("Subject: x\r\n\r\n..dot\r\nend\r\n.\r\nQUIT\r\n"));
    expect(&k, "250 2.0.0 Ok: queued");
    expect(&k, "221 2.0.0");
    silent(&k);
    assert_true(k.closed);
    assert_int_equal(k.messages, 1);
    assert_true(sv_eq(buf_sv(&k.body), SV("Subject: x\r\n\r\n.dot\r\nend\r\n")));
    assert_true(sv_eq(buf_sv(&k.trace), SV("a@example.org b@example.com\n")));
    kit_done(&k);
}

static void envelope_holds_parameters(void **state UNUSED)
{
    struct kit k;
    open_kit(&k, true);
    say(&k, SV("MAIL FROM:<a@example.org> SIZE=123 BODY=8BITMIME RET=HDRS ENVID=x+2By\r\n"
               "RCPT TO:<b@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o+2B@example.net\r\n"));
    const struct envelope *e = smtp_srv_envelope(k.srv);
    assert_true(sv_eq(e->sender, SV("a@example.org")));
    assert_true(sv_eq(e->envid, SV("x+y")));
    assert_int_equal(e->ret, RET_HDRS);
    assert_int_equal(e->body_type, BODY_8BITMIME);
    assert_int_equal(smtp_srv_declared_size(k.srv), 123);
    assert_int_equal(e->n_rcpts, 1);
    assert_true(sv_eq(e->rcpts[0].orcpt, SV("rfc822;o+@example.net")));
    assert_int_equal(e->rcpts[0].notify, NOTIFY_SUCCESS | NOTIFY_DELAY);
    assert_true(sv_eq(e->peer.helo, SV("client.example")));
    assert_true(e->peer.esmtp);
    kit_done(&k);
}

/* A refused recipient leaves the envelope; many recipients all stay. */
static void recipients(void **state UNUSED)
{
    struct kit k;
    struct smtp_srv_config c = kit_config();
    c.max_rcpts = 300;
    kit_init(&k, &c);
    say(&k, SV(EHLO "MAIL FROM:<>\r\nRCPT TO:<unknown@example.com>\r\n"));
    assert_int_equal(smtp_srv_envelope(k.srv)->n_rcpts, 0);
    buf_reset(&k.out);
    for (unsigned i = 0; i < 301; i++) {
        char line[64] = "RCPT TO:<u000@example.com>\r\n";
        line[10] = (char)('0' + i / 100);
        line[11] = (char)('0' + i / 10 % 10);
        line[12] = (char)('0' + i % 10);
        say(&k, sv_str(line));
        expect(&k, i < 300 ? "250 2.1.5" : "452 4.5.3");
    }
    const struct envelope *e = smtp_srv_envelope(k.srv);
    assert_int_equal(e->n_rcpts, 300);
    assert_true(sv_eq(e->rcpts[0].addr, SV("u000@example.com")));
    assert_true(sv_eq(e->rcpts[299].addr, SV("u299@example.com")));
    kit_done(&k);
}

/* Imitations of the end of data. None may end the message: each must be seen, by its replies, as
 * one message that is refused (bad) or passed on with the bytes as they are (plain text). */
static const struct {
    struct sv imitation;
    bool bad;
} smuggled[] = {
    {{"\n.\n", 3}, true},
    {{"\n.\r\n", 4}, true},
    {{"\r.\r", 3}, true},
    {{"\r.\r\n", 4}, true},
    {{"\r\n.\n", 4}, true},
    {{"\r\n.\r", 4}, true},
    {{"\n.\r", 3}, true},
    {{"\r.\n", 3}, true},
    {{"\n\n.\r\n", 5}, true},
    {{"\n\n.\n\n", 5}, true},
    {{"\r\r.\r\r", 5}, true},
    {{"\r\n\0.\r\n", 6}, true},
    {{"\r\n.\0\r\n", 6}, true},
    {{"\r\n.\r\0\n", 6}, true},
    {{"\r\n.\r\r\n", 6}, true},
    {{"\r\r\n.\n", 5}, true},
    {{"\n\r\n.\n\r\n", 7}, true},
    {{"\r\n.\n\r\n", 6}, true},
    {{"\0\n.\r\n", 5}, true},
    {{"\r\0\n.\r\n", 6}, true},
    {{"\r\n.\v\r\n", 6}, false},
    {{"\r\n.\x85\r\n", 6}, false},
    {{"\r\n. \r\n", 6}, false},
    {{"\r\n .\r\n", 6}, false},
    {{"\r\n..\r\n", 6}, false},
    {{"\r\n.\t\r\n", 6}, false},
    {{"\r\n.\xe2\x80\xa8\r\n", 8}, false},
    {{"\x85.\x85", 3}, false},
    {{"\f.\f", 3}, false},
    {{"\r\n.=0D=0A\r\n", 11}, false},
    {{"\xe5\x98\x8a\xe5\x98\x8d.\xe5\x98\x8a\xe5\x98\x8d", 13}, false},
};

static void smuggle(size_t i, size_t piece, size_t pad)
{
    struct kit k;
    struct buf in;
    open_kit(&k, true);
    say(&k, SV(ENV));
    buf_reset(&k.out);
    buf_init(&in, 1 << 16);
    for (size_t j = 0; j < pad; j++)
        (void)buf_append_byte(&in, 'x');
    (void)buf_append_sv(&in, smuggled[i].imitation);
    (void)buf_append_sv(&in, SV("MAIL FROM:<evil@example.org>\r\nRCPT TO:<v@example.com>\r\n"
                                "DATA\r\nevil\r\n.\r\n"));
    assert_int_equal(kit_input(&k, buf_sv(&in), piece), in.n);
    /* "\r\n.\r\n" of the imitation's own two-message text is the only end: one reply. */
    expect(&k, smuggled[i].bad ? "550 5.6.11" : "250 2.0.0");
    silent(&k);
    assert_int_equal(k.messages, smuggled[i].bad ? 0 : 1);
    assert_int_equal(k.aborts, smuggled[i].bad ? 1 : 0);
    assert_false(smtp_srv_in_data(k.srv));
    say(&k, SV("NOOP\r\n"));
    expect(&k, "250 2.0.0");
    buf_done(&in);
    kit_done(&k);
}

static void smuggling(void **state UNUSED)
{
    static const size_t pieces[] = {0, 1, 2, 3, 5, 64};
    static const size_t pads[] = {0, 1, 60, 61, 62, 63, 64, 65, 127, 128, 4000};
    for (size_t i = 0; i < ARRAY_LEN(smuggled); i++)
        for (size_t p = 0; p < ARRAY_LEN(pieces); p++)
            for (size_t q = 0; q < ARRAY_LEN(pads); q++)
                smuggle(i, pieces[p], pads[q]);
}

/* Dot lines at every place relative to the 64-byte blocks, whole and bytewise. */
static void dots_everywhere(void **state UNUSED)
{
    for (size_t pad = 0; pad < 200; pad++) {
        for (size_t piece = 0; piece < 3; piece++) {
            struct kit k;
            struct buf in, want;
            open_kit(&k, true);
            say(&k, SV(ENV));
            buf_reset(&k.out);
            buf_init(&in, 4096);
            buf_init(&want, 4096);
            for (size_t j = 0; j < pad; j++)
                (void)buf_append_byte(&in, 'x');
            (void)buf_append_sv(&want, buf_sv(&in));
            (void)buf_append_sv(&in, SV("\r\n..\r\n...a\r\n.b\r\n\r\nlast\r\n.\r\n"));
            (void)buf_append_sv(&want, SV("\r\n.\r\n..a\r\nb\r\n\r\nlast\r\n"));
            (void)kit_input(&k, buf_sv(&in), piece);
            expect(&k, "250 2.0.0");
            assert_true(sv_eq(buf_sv(&k.body), buf_sv(&want)));
            buf_done(&in);
            buf_done(&want);
            kit_done(&k);
        }
    }
}

/* The block test agrees with a byte-by-byte definition. */
static void plain_run_agrees(void **state UNUSED)
{
    static const char alphabet[] = "ab.\r\n";
    char text[300];
    uint32_t x = 1;
    for (size_t round = 0; round < 20000; round++) {
        for (size_t i = 0; i < sizeof text; i++) {
            x = x * 1664525u + 1013904223u;
            const uint32_t pick = x >> 24;
            text[i] = pick < 240 ? 'a' : pick < 250 ? alphabet[pick % 5] : '\r';
            if (i && text[i - 1] == '\r' && pick < 250)
                text[i] = '\n';
        }
        const size_t n = body_plain_run(text, sizeof text);
        assert_true(n % 64 == 0 && n < sizeof text);
        for (size_t i = 0; i < n; i++) {
            assert_true((text[i] == '\r') == (text[i + 1] == '\n'));
            assert_true(text[i] && !(text[i] == '\n' && text[i + 1] == '.'));
        }
    }
}

static void empty_message(void **state UNUSED)
{
    struct kit k;
    open_kit(&k, true);
    say(&k, SV(ENV ".\r\n"));
    expect(&k, "250 2.1.0");
    expect(&k, "250 2.1.5");
    expect(&k, "354");
    expect(&k, "250 2.0.0");
    assert_int_equal(k.body.n, 0);
    kit_done(&k);
}

static void starttls_injection(void **state UNUSED)
{
    struct kit k;
    open_kit(&k, true);
    say(&k, SV("STARTTLS\r\nRSET\r\n"));
    silent(&k); /* no 220: nothing will be said in this session any more */
    assert_true(k.closed && !k.tls_due);
    kit_done(&k);

    /* Split between the commands: the bytes are left to the handshake, whatever they are. */
    open_kit(&k, true);
    assert_int_equal(kit_input(&k, SV("STARTTLS\r\nRSET\r\n"), 1), 10);
    expect(&k, "220 2.0.0");
    silent(&k);
    assert_true(k.tls_due);
    assert_int_equal(smtp_srv_feed(k.srv, SV("RSET\r\n")), 0);
    kit_done(&k);
}

static void tls_forgets(void **state UNUSED)
{
    struct kit k;
    open_kit(&k, true);
    say(&k, SV("MAIL FROM:<a@example.org>\r\n"));
    expect(&k, "250 2.1.0");
    say(&k, SV("STARTTLS\r\n"));
    expect(&k, "220");
    kit_tls(&k);
    assert_int_equal(smtp_srv_helo(k.srv).n, 0);
    assert_int_equal(smtp_srv_envelope(k.srv)->sender.n, 0);
    say(&k, SV("MAIL FROM:<a@example.org>\r\n"));
    expect(&k, "503 5.5.1");
    say(&k, SV(EHLO));
    expect(&k,
           "250-mx.example.com\r\n250-PIPELINING\r\n250-SIZE 10485760\r\n250-AUTH PLAIN LOGIN\r\n"
           "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 DSN\r\n");
    say(&k, SV("STARTTLS\r\n"));
    expect(&k, "503 5.5.1");
    kit_done(&k);
}

static void limits_of_lines(void **state UNUSED)
{
    struct kit k;
    struct buf line;
    buf_init(&line, 1 << 16);
    for (size_t piece = 0; piece < 2; piece++) {
        for (size_t n = 4093; n < 4100; n++) {
            open_kit(&k, true);
            buf_reset(&line);
            (void)buf_append_sv(&line, SV("NOOP "));
            while (line.n < n - 2)
                (void)buf_append_byte(&line, 'a');
            (void)buf_append_sv(&line, SV("\r\nNOOP\r\n"));
            (void)kit_input(&k, buf_sv(&line), piece);
            expect(&k, n <= 4096 ? "250 2.0.0" : "500 5.5.2");
            expect(&k, "250 2.0.0");
            silent(&k);
            kit_done(&k);
        }
    }
    buf_done(&line);
}

/* The tarpit is told of each error, and the limit ends the session. */
static void errors(void **state UNUSED)
{
    struct kit k;
    struct smtp_srv_config c = kit_config();
    c.max_errors = 3;
    kit_init(&k, &c);
    say(&k, SV(EHLO "FOO\r\nBAR\r\n\nNOOP\r\nNOOP\r\n"));
    expect(&k, "220");
    expect(&k, "250");
    expect(&k, "500 5.5.2");
    expect(&k, "500 5.5.2");
    expect(&k, "500 5.5.2");
    expect(&k, "421 4.7.0");
    silent(&k);
    assert_true(k.closed);
    assert_int_equal(k.delay_max, 3);
    kit_done(&k);
}

static void size_limits(void **state UNUSED)
{
    struct kit k;
    struct smtp_srv_config c = kit_config();
    c.max_size = 100;
    c.max_session = 150;
    kit_init(&k, &c);
    say(&k, SV(EHLO "MAIL FROM:<> SIZE=101\r\n"));
    expect(&k, "220");
    expect(&k, "250");
    expect(&k, "552 5.3.4");
    char text[102];
    memset(text, 'x', sizeof text);
    text[98] = '\r';
    text[99] = '\n';
    say(&k, SV("MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"));
    buf_reset(&k.out);
    say(&k, sv_of(text, 100));
    say(&k, SV(".\r\n"));
    expect(&k, "250 2.0.0");
    /* the same again is beyond 150 in one session */
    say(&k, SV("MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"));
    buf_reset(&k.out);
    say(&k, sv_of(text, 100));
    say(&k, SV(".\r\nNOOP\r\n"));
    expect(&k, "421 4.7.0");
    assert_int_equal(k.aborts, 1);
    assert_true(k.closed);
    kit_done(&k);

    kit_init(&k, &c);
    say(&k, SV(EHLO ENV));
    buf_reset(&k.out);
    text[98] = text[99] = 'x';
    text[100] = '\r';
    text[101] = '\n';
    say(&k, sv_of(text, 102));
    silent(&k); /* read to its end first */
    say(&k, SV(".\r\n"));
    expect(&k, "552 5.3.4");
    assert_int_equal(k.messages, 0);
    kit_done(&k);
}

/* Idle chatter is answered, counted as errors past its limit, and forgiven after a message. */
static void junk(void **state UNUSED)
{
    struct kit k;
    struct smtp_srv_config c = kit_config();
    c.max_errors = 2;
    c.max_junk = 5;
    kit_init(&k, &c);
    say(&k, SV(EHLO "NOOP\r\nRSET\r\nVRFY x\r\nHELP\r\n"));
    assert_int_equal(k.delay_max, 0);
    say(&k, SV(ENV "x\r\n.\r\n"));
    assert_int_equal(k.messages, 1);
    say(&k, SV("NOOP\r\nRSET\r\nVRFY x\r\nHELP\r\nNOOP\r\n"));
    assert_int_equal(k.delay_max, 0);
    /* MAIL alone is no message */
    say(&k, SV("MAIL FROM:<>\r\nRSET\r\n"));
    assert_int_equal(k.delay_max, 1);
    buf_reset(&k.out);
    say(&k, SV("EHLO again.example\r\nNOOP\r\nNOOP\r\n"));
    expect(&k, "250-mx.example.com");
    expect(&k, "421 4.7.0");
    silent(&k);
    assert_true(k.closed);
    kit_done(&k);
}

/* What a trusted relay passes on is not held against it; its own mistakes are. */
static void trusted_recipients(void **state UNUSED)
{
    for (int trusted = 0; trusted < 2; trusted++) {
        struct kit k;
        struct smtp_srv_config c = kit_config();
        c.max_errors = 3;
        c.trusted = trusted == 1;
        kit_init(&k, &c);
        say(&k, SV(EHLO "MAIL FROM:<>\r\n"));
        for (int i = 0; i < 10; i++)
            say(&k, SV("RCPT TO:<unknown@example.com>\r\nRCPT TO:<not an address>\r\n"));
        assert_int_equal(k.closed, trusted == 0);
        assert_int_equal(k.delay_max, trusted ? 0 : 3);
        say(&k, SV("FOO\r\nFOO\r\nFOO\r\nFOO\r\n"));
        assert_true(k.closed);
        kit_done(&k);
    }
}

static void tls_on_hold(void **state UNUSED)
{
    struct kit k;
    open_kit(&k, true);
    smtp_srv_hold_tls(k.srv, "Too many handshakes");
    say(&k, SV("NOOP\r\n"));
    expect(&k, "250");
    assert_false(smtp_srv_tls_held(k.srv));
    say(&k, SV("STARTTLS\r\n"));
    expect(&k, "421 4.7.0 Too many handshakes");
    assert_true(smtp_srv_tls_held(k.srv));
    assert_true(k.closed && !k.tls_due);
    kit_done(&k);
}

/* A line of exactly the longest length goes through unchanged, one byte more is refused, however
 * the input is cut; the session goes on. */
static void body_lines(void **state UNUSED)
{
    static const struct {
        size_t before, line, piece;
        bool ok;
    } rows[] = {
        {0, SMTP_SRV_BODY_LINE_MAX, 0, true},       {0, SMTP_SRV_BODY_LINE_MAX + 1, 0, false},
        {100, SMTP_SRV_BODY_LINE_MAX, 0, true},     {100, SMTP_SRV_BODY_LINE_MAX + 1, 0, false},
        {65533, SMTP_SRV_BODY_LINE_MAX, 0, true},   {65533, SMTP_SRV_BODY_LINE_MAX + 1, 0, false},
        {7, SMTP_SRV_BODY_LINE_MAX, 997, true},     {7, SMTP_SRV_BODY_LINE_MAX + 1, 997, false},
        {300000, SMTP_SRV_BODY_LINE_MAX, 64, true}, {2, SMTP_SRV_BODY_LINE_MAX + 1, 64, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct kit k;
        struct buf text;
        open_kit(&k, true);
        say(&k, SV(ENV));
        buf_reset(&k.out);
        buf_init(&text, 1 << 22);
        for (size_t n = 2; n < rows[i].before; n++)
            (void)buf_append_byte(&text, n % 70 == 1 ? '\n' : n % 70 == 0 ? '\r' : 'a');
        while (text.n && text.p[text.n - 1] != 'a')
            text.n--;
        if (rows[i].before)
            (void)buf_append_sv(&text, SV("\r\n"));
        for (size_t n = 2; n < rows[i].line; n++)
            (void)buf_append_byte(&text, 'b');
        (void)buf_append_sv(&text, SV("\r\nshort\r\n"));
        (void)kit_input(&k, buf_sv(&text), rows[i].piece);
        say(&k, SV(".\r\nNOOP\r\n"));
        expect(&k, rows[i].ok ? "250 2.0.0 Ok: queued" : "550 5.6.0");
        expect(&k, "250 2.0.0");
        assert_int_equal(k.aborts, rows[i].ok ? 0 : 1);
        if (rows[i].ok)
            assert_true(sv_eq(buf_sv(&k.body), buf_sv(&text)));
        buf_done(&text);
        kit_done(&k);
    }
}

static void close_by_driver(void **state UNUSED)
{
    struct kit k;
    open_kit(&k, true);
    say(&k, SV(ENV "half a mess"));
    buf_reset(&k.out);
    smtp_srv_close(k.srv, 421, "4.4.2", SV("Time-out"));
    kit_run(&k);
    expect(&k, "421 4.4.2 Time-out");
    assert_int_equal(k.aborts, 1);
    assert_true(k.closed);
    assert_int_equal(smtp_srv_feed(k.srv, SV("x")), 0);
    kit_done(&k);
}

/* Nothing of a refused message is given out behind its refusal. */
static void refused_gives_nothing(void **state UNUSED)
{
    struct kit k;
    open_kit(&k, true);
    say(&k, SV(ENV));
    buf_reset(&k.out);
    say(&k, SV("one\r\ntwo\nthree\r\n.\r\nNOOP\r\n"));
    expect(&k, "550 5.6.11");
    expect(&k, "250 2.0.0");
    assert_int_equal(k.aborts, 1);
    assert_int_equal(k.body.n, 0);
    kit_done(&k);
}

/* The driver's text cannot forge lines. */
static void answers_are_one_line(void **state UNUSED)
{
    struct smtp_srv *s;
    const struct smtp_srv_config c = kit_config();
    assert_int_equal(smtp_srv_new(&c, &s), ERR_OK);
    smtp_srv_greet(s);
    (void)smtp_srv_next(s);
    (void)smtp_srv_feed(s, SV("EHLO x.example\r\n"));
    assert_int_equal(smtp_srv_next(s).kind, SRV_ASK_HELO);
    assert_int_equal(smtp_srv_next(s).kind, SRV_ASK_HELO);
    smtp_srv_answer(s, 550, "5.7.1", SV("no\r\n250 yes\x80"));
    const struct smtp_srv_step step = smtp_srv_next(s);
    assert_int_equal(step.kind, SRV_SEND);
    assert_true(sv_eq(step.bytes, SV("550 5.7.1 no??250 yes?\r\n")));
    assert_int_equal(smtp_srv_next(s).kind, SRV_NEED_INPUT);
    assert_int_equal(smtp_srv_helo(s).n, 0);
    smtp_srv_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_mail),
        cmocka_unit_test(envelope_holds_parameters),
        cmocka_unit_test(recipients),
        cmocka_unit_test(smuggling),
        cmocka_unit_test(dots_everywhere),
        cmocka_unit_test(plain_run_agrees),
        cmocka_unit_test(empty_message),
        cmocka_unit_test(starttls_injection),
        cmocka_unit_test(tls_forgets),
        cmocka_unit_test(limits_of_lines),
        cmocka_unit_test(errors),
        cmocka_unit_test(size_limits),
        cmocka_unit_test(junk),
        cmocka_unit_test(trusted_recipients),
        cmocka_unit_test(tls_on_hold),
        cmocka_unit_test(body_lines),
        cmocka_unit_test(close_by_driver),
        cmocka_unit_test(refused_gives_nothing),
        cmocka_unit_test(answers_are_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
