#include "codec/header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_next(void **state)
{
    struct sv rest = SV("A: 1\r\nB : 2\r\n\tmore\r\ngarbage\r\nC:3\r\n\r\nD: body\r\n");
    static const struct {
        const char *name, *value;
    } want[] = {{"A", " 1\r\n"}, {"B", " 2\r\n\tmore\r\n"}, {"", "garbage\r\n"}, {"C", "3\r\n"}};
    struct header_field f;
    size_t n = 0;

    (void)state;
    for (; header_next(&rest, &f); n++) {
        assert_true(n < ARRAY_LEN(want));
        assert_true(sv_eq(f.name, sv_str(want[n].name)));
        assert_true(sv_eq(f.value, sv_str(want[n].value)));
    }
    assert_int_equal(n, ARRAY_LEN(want));
    assert_true(sv_eq(rest, SV("\r\nD: body\r\n")));
    rest = SV("");
    assert_false(header_next(&rest, &f));
    rest = SV("X: no line end");
    assert_true(header_next(&rest, &f));
    assert_true(sv_eq(f.value, SV(" no line end")));
    assert_false(header_next(&rest, &f));
}

static void test_find_and_unfold(void **state)
{
    struct sv m =
        SV("To: x\r\nSUBJECT: one\r\n  two\x01three \r\nSubject: second\r\n\r\nFrom: b\r\n");
    struct header_field f;
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    assert_true(header_find(m, SV("subject"), &f));
    assert_int_equal(header_unfold(f.value, 100, &b), ERR_OK);
    assert_true(sv_eq(buf_sv(&b), SV("one  two three")));
    buf_reset(&b);
    assert_int_equal(header_unfold(f.value, 5, &b), ERR_OK);
    assert_true(sv_eq(buf_sv(&b), SV("one  ")));
    assert_false(header_find(m, SV("From"), &f));
    buf_done(&b);
}

struct stream_case {
    const char *in, *out;
    uint32_t received, own_trace;
    bool done;
    const char *message_id, *subject;
};
static const struct stream_case streams[] = {
    {"Received: a\r\n\tb\r\nreceived : c\r\nSubject: hi\r\n  there\r\nMessage-Id: "
     "<1@x>\r\n\r\nBody\r\n",
     "Received: a\r\n\tb\r\nreceived : c\r\nSubject: hi\r\n  there\r\nMessage-Id: "
     "<1@x>\r\n\r\nBody\r\n",
     2, 0, true, "<1@x>", "hi  there"},
    {"To: a\r\nBcc: secret@x\r\n\tfold@x\r\nbcc : s\r\nResent-BCC:\r\n x\r\nCc: b\r\n\r\nBcc: "
     "body\r\n",
     "To: a\r\nCc: b\r\n\r\nBcc: body\r\n", 0, 0, true, "", ""},
    {"Bcc: a\r\n\r\n", "\r\n", 0, 0, true, "", ""},
    {"Bcc: a\r\n", "", 0, 0, false, "", ""},
    {"Bcc: a", "", 0, 0, false, "", ""},
    {"X-Postseal-Trace: me 01\r\nX-Postseal-Trace: other 1\r\nx-postseal-trace:me\r\n"
     "X-Postseal-Trace: me2 1\r\n\r\n",
     "X-Postseal-Trace: me 01\r\nX-Postseal-Trace: other 1\r\nx-postseal-trace:me\r\n"
     "X-Postseal-Trace: me2 1\r\n\r\n",
     0, 2, true, "", ""},
    {"\r\nReceived: body\r\n", "\r\nReceived: body\r\n", 0, 0, true, "", ""},
    {"\r\n", "\r\n", 0, 0, true, "", ""},
    {"", "", 0, 0, false, "", ""},
    {"From a@x Mon\r\nReceived: 1\r\n\r\n", "From a@x Mon\r\nReceived: 1\r\n\r\n", 1, 0, true, "",
     ""},
    {"just text\r\nBcc: quoted\r\n", "just text\r\nBcc: quoted\r\n", 0, 0, true, "", ""},
    {"Subject: 1\r\nSubject: 2\r\n\r\n", "Subject: 1\r\nSubject: 2\r\n\r\n", 0, 0, true, "", "1"},
    {"A: \r\n \r\n\t\r\nReceived: x\r\n\r\n", "A: \r\n \r\n\t\r\nReceived: x\r\n\r\n", 1, 0, true,
     "", ""},
};

static void run_stream(const struct stream_case *c, size_t step, size_t first)
{
    struct sv in = sv_str(c->in);
    struct header_stream h;
    struct buf out;

    header_stream_init(&h, 4096, SV("me"));
    buf_init(&out, 4096);
    assert_int_equal(header_stream_feed(&h, sv_take(in, first), &out), ERR_OK);
    for (in = sv_skip(in, first); in.n; in = sv_skip(in, step))
        assert_int_equal(header_stream_feed(&h, sv_take(in, step), &out), ERR_OK);
    assert_int_equal(header_stream_end(&h, &out), ERR_OK);
    if (!sv_eq(buf_sv(&out), sv_str(c->out)))
        fail_msg("%s\n-> %.*s", c->in, SV_ARG(buf_sv(&out)));
    assert_int_equal(h.received, c->received);
    assert_int_equal(h.own_trace, c->own_trace);
    assert_string_equal(h.message_id, c->message_id);
    assert_string_equal(h.subject, c->subject);
    assert_int_equal(h.done, c->done);
    buf_done(&out);
    header_stream_done(&h);
}

static void test_stream_any_chunking(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        size_t n = strlen(streams[i].in);

        for (size_t first = 0; first <= n; first++)
            run_stream(&streams[i], SIZE_MAX, first); /* two chunks, split at each byte */
        for (size_t step = 1; step < 5; step++)
            run_stream(&streams[i], step, 0);
    }
}

static void test_stream_limits(void **state)
{
    struct header_stream h;
    struct buf out;

    (void)state;
    header_stream_init(&h, 16, SV(""));
    buf_init(&out, 4096);
    assert_int_equal(header_stream_feed(&h, SV("A: 1\r\nB: 2\r\n"), &out), ERR_OK);
    assert_int_equal(header_stream_feed(&h, SV("C: 3\r\n"), &out), ERR_LIMIT);
    assert_true(h.too_large);
    assert_int_equal(header_stream_feed(&h, SV("x"), &out), ERR_LIMIT);
    assert_int_equal(header_stream_end(&h, &out), ERR_LIMIT);
    header_stream_done(&h);

    /* The limit is for the section, not for the body. */
    header_stream_init(&h, 16, SV(""));
    buf_reset(&out);
    assert_int_equal(header_stream_feed(&h, SV("A: 1\r\n\r\n0123456789012345"), &out), ERR_OK);
    assert_int_equal(header_stream_feed(&h, SV("0123456789012345"), &out), ERR_OK);
    assert_int_equal(header_stream_end(&h, &out), ERR_OK);
    assert_int_equal(out.n, 40);
    buf_done(&out);
    header_stream_done(&h);
}

/* Fields "A: x" of given length and number, folded every 1,000 bytes. */
static void test_stream_field_limits(void **state)
{
    static const struct {
        size_t length;
        uint32_t n;
        bool field_long, too_many;
    } rows[] = {
        {HEADER_FIELD_MAX, 3, false, false},
        {HEADER_FIELD_MAX + 1, 1, true, false},
        {100, HEADER_FIELDS_MAX, false, false},
        {100, HEADER_FIELDS_MAX + 1, false, true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct header_stream h;
        struct buf in, out;
        bool bad = rows[i].field_long || rows[i].too_many;
        buf_init(&in, 1 << 20);
        buf_init(&out, 1 << 20);
        header_stream_init(&h, 1 << 20, SV(""));
        for (uint32_t k = 0; k < rows[i].n; k++) {
            (void)buf_append_sv(&in, SV("A:"));
            for (size_t n = 4; n < rows[i].length; n++)
                (void)buf_append_byte(&in, n % 1000 == 1 ? '\n' : n % 1000 == 2 ? ' ' : 'x');
            (void)buf_append_sv(&in, SV("\r\n"));
        }
        (void)buf_append_sv(&in, SV("\r\nbody\r\n"));
        assert_int_equal(header_stream_feed(&h, buf_sv(&in), &out), bad ? ERR_LIMIT : ERR_OK);
        assert_int_equal(h.field_long, rows[i].field_long);
        assert_int_equal(h.too_many, rows[i].too_many);
        assert_int_equal(h.too_large, bad);
        assert_int_equal(header_stream_end(&h, &out), bad ? ERR_LIMIT : ERR_OK);
        if (!bad)
            assert_true(sv_eq(buf_sv(&out), buf_sv(&in)));
        header_stream_done(&h);
        buf_done(&in);
        buf_done(&out);
    }
}

/* A long first line without a name is no field: the body of a message without header section. */
static void test_stream_long_body_line(void **state)
{
    static const size_t pieces[] = {SIZE_MAX, 1000, HEADER_FIELD_MAX, HEADER_FIELD_MAX + 1};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct header_stream h;
        struct buf in, out;
        buf_init(&in, 1 << 20);
        buf_init(&out, 1 << 20);
        header_stream_init(&h, 1 << 18, SV(""));
        while (in.n < 1000000)
            (void)buf_append_byte(&in, in.n == 900000 ? ':' : 'a');
        (void)buf_append_sv(&in, SV("\r\nBcc: this is text\r\n"));
        for (struct sv left = buf_sv(&in); left.n; left = sv_skip(left, pieces[i]))
            assert_int_equal(header_stream_feed(&h, sv_take(left, pieces[i]), &out), ERR_OK);
        assert_int_equal(header_stream_end(&h, &out), ERR_OK);
        assert_true(h.done && sv_eq(buf_sv(&out), buf_sv(&in)));
        header_stream_done(&h);
        buf_done(&in);
        buf_done(&out);
    }
}

static void test_long_values_are_cut(void **state)
{
    struct header_stream h;
    struct buf in, out;

    (void)state;
    buf_init(&in, 8192);
    buf_init(&out, 8192);
    (void)buf_append_sv(&in, SV("Message-ID: "));
    for (int i = 0; i < 2000; i++)
        (void)buf_append_byte(&in, 'x');
    (void)buf_append_sv(&in, SV("\r\n\r\n"));
    header_stream_init(&h, 8192, SV(""));
    assert_int_equal(header_stream_feed(&h, buf_sv(&in), &out), ERR_OK);
    assert_int_equal(strlen(h.message_id), sizeof(h.message_id) - 1);
    assert_true(sv_eq(buf_sv(&in), buf_sv(&out)));
    header_stream_done(&h);
    buf_done(&out);
    buf_done(&in);
}

static struct envelope sample(struct rcpt *rcpts)
{
    struct envelope env = {.id = 0x123456789abcdef, .received_ms = 1795498560000};

    rcpts[0] = (struct rcpt){.addr = SV("b@example.net")};
    env.peer.helo = SV("mx.example.com");
    env.peer.esmtp = true;
    (void)!ip_parse(SV("192.0.2.7"), &env.peer.ip);
    env.rcpts = rcpts;
    env.n_rcpts = 1;
    return env;
}

static void check_received(const struct envelope *env, const char *want)
{
    struct buf out;

    buf_init(&out, 4096);
    assert_int_equal(received_format(env, SV("gw.example"), SV("inst1"), &out), ERR_OK);
    (void)buf_append_byte(&out, '\0');
    assert_string_equal(out.p, want);
    buf_done(&out);
}

#define DATE "\tTue, 24 Nov 2026 05:36:00 +0000\r\nX-Postseal-Trace: inst1 028T5CY4TQKFF\r\n"

static void test_received(void **state)
{
    struct rcpt rcpts[2];
    struct envelope env = sample(rcpts);

    (void)state;
    check_received(&env,
                   "Received: from mx.example.com ([192.0.2.7])\r\n\tby gw.example (Postseal) "
                   "with ESMTP id 028T5CY4TQKFF\r\n\tfor <b@example.net>;\r\n" DATE);
    env.peer.tls =
        (struct tls_facts){.version = 0x0304, .cipher = SV("TLS_AES_256_GCM_SHA384"), .bits = 256};
    env.peer.rdns = SV("mx.example.com");
    env.n_rcpts = 2; /* other recipients are nobody's business */
    check_received(&env, "Received: from mx.example.com (mx.example.com [192.0.2.7])\r\n"
                         "\tby gw.example (Postseal) with ESMTPS id 028T5CY4TQKFF\r\n"
                         "\ttls TLS_AES_256_GCM_SHA384 (TLSv1.3 256 bits);\r\n" DATE);
    env.kind = MESSAGE_DSN;
    check_received(&env, "Received: by gw.example (Postseal) id 028T5CY4TQKFF;\r\n" DATE);
}

static void test_received_protocols(void **state)
{
    static const struct {
        bool esmtp, tls, auth;
        const char *name;
    } cases[] = {
        {false, false, false, "with SMTP id"}, {true, false, false, "with ESMTP id"},
        {true, true, false, "with ESMTPS id"}, {true, false, true, "with ESMTPA id"},
        {true, true, true, "with ESMTPSA id"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rcpt rcpts[1];
        struct envelope env = sample(rcpts);
        struct buf out;

        env.peer.esmtp = cases[i].esmtp;
        env.peer.tls.version = cases[i].tls ? 0x0303 : 0;
        env.peer.auth_user = cases[i].auth ? SV("bob") : SV("");
        env.peer.helo = SV("ev(il)\r\nX: <y>");
        (void)!ip_parse(SV("2001:db8::1"), &env.peer.ip);
        buf_init(&out, 4096);
        assert_int_equal(received_format(&env, SV("gw.example"), SV("i"), &out), ERR_OK);
        assert_true(sv_find(buf_sv(&out), sv_str(cases[i].name)) != SIZE_MAX);
        assert_true(sv_find(buf_sv(&out), SV("from ev?il???X:??y? ([IPv6:2001:db8::1])")) !=
                    SIZE_MAX);
        assert_true(sv_find(buf_sv(&out), SV("bob")) == SIZE_MAX);
        buf_done(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_find_and_unfold),
        cmocka_unit_test(test_stream_any_chunking),
        cmocka_unit_test(test_stream_limits),
        cmocka_unit_test(test_stream_field_limits),
        cmocka_unit_test(test_stream_long_body_line),
        cmocka_unit_test(test_long_values_are_cut),
        cmocka_unit_test(test_received),
        cmocka_unit_test(test_received_protocols),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
