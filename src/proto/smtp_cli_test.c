/* Scripts of what the client must say and what the server answers; each also with the server's
 * bytes one at a time. Below: the gallery of misbehaving servers, and client against server. */
#include "proto/smtp_cli_scripts.h"
#include "proto/testkit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

struct play {
    const struct script *script;
    struct smtp_cli *cli;
    struct delivery job;
    struct rcpt rcpts[8];
    struct buf sent;
    char results[8];
    enum failure txn_failure;
    size_t turn;
    bool began, done, closed, ended;
};

static void play_open(struct play *p, const struct script *s)
{
    struct sv list = sv_str(s->rcpts);
    static char addrs[8][64];
    *p = (struct play){.script = s};
    buf_init(&p->sent, 1 << 20);
    while (list.p) {
        const struct sv local = sv_cut(&list, ',');
        const uint32_t i = p->job.n_rcpts++;
        (void)snprintf(addrs[i], sizeof addrs[i], "%.*s@example.net", SV_ARG(local));
        p->rcpts[i] =
            (struct rcpt){.addr = sv_str(addrs[i]), .orcpt = sv_str(s->orcpt), .notify = s->notify};
    }
    p->job.rcpts = p->rcpts;
    p->job.sender = SV("s@example.com");
    p->job.envid = sv_str(s->envid);
    p->job.ret = s->envid ? RET_HDRS : RET_NONE;
    p->job.body_type = s->body_type;
    p->job.size = s->size;
    assert_int_equal(smtp_cli_new(&s->config, &p->cli), ERR_OK);
}

static void take_results(struct play *p)
{
    uint32_t n;
    const struct smtp_cli_rcpt *r = smtp_cli_results(p->cli, &n);
    for (uint32_t i = 0; i < n && i < sizeof p->results - 1; i++) {
        assert_int_not_equal(r[i].result, RCPT_PENDING);
        p->results[i] = "?DTF"[r[i].result];
        assert_true(r[i].reply[0]);
    }
    p->txn_failure = smtp_cli_failure(p->cli);
    p->done = true;
}

/* false = the server must speak, or the end is reached. */
static bool play_step(struct play *p, bool bytes_left)
{
    const struct smtp_cli_step s = smtp_cli_next(p->cli);
    switch (s.kind) {
    case CLI_NEED_INPUT:
        return false;
    case CLI_SEND:
        (void)buf_append_sv(&p->sent, s.bytes);
        return true;
    case CLI_START_TLS:
        if (p->script->tls_fails || bytes_left)
            smtp_cli_tls_failed(p->cli);
        else
            smtp_cli_tls_done(p->cli);
        return true;
    case CLI_READY:
        if (p->began || bytes_left)
            return false;
        p->began = true;
        smtp_cli_begin(p->cli, &p->job);
        return true;
    case CLI_NEED_BODY:
        if (bytes_left)
            return false;
        smtp_cli_body(p->cli, sv_str(p->script->body), true);
        return true;
    case CLI_DONE:
        take_results(p);
        return true;
    case CLI_CLOSE:
        p->closed = true;
        return false;
    }
    return false;
}

static void play_run(struct play *p, bool bytes_left)
{
    while (play_step(p, bytes_left))
        ;
}

static void play_reply(struct play *p, struct sv reply, size_t piece)
{
    const bool hangup = sv_ends_nocase(reply, SV(HANGUP));
    const bool timeout = sv_ends_nocase(reply, SV(TIMEOUT));
    if (hangup || timeout)
        reply = sv_take(reply, reply.n - (hangup ? strlen(HANGUP) : strlen(TIMEOUT)));
    while (reply.n && !p->closed) {
        const size_t n = smtp_cli_feed(p->cli, piece ? sv_take(reply, piece) : reply);
        reply = sv_skip(reply, n);
        play_run(p, reply.n > 0);
        if (n == 0)
            break;
    }
    if (hangup || timeout) {
        smtp_cli_lost(p->cli, timeout ? FAILURE_TIMEOUT : FAILURE_NONE);
        play_run(p, false);
    }
}

static void play_script(const struct script *s, size_t piece)
{
    struct play p;
    play_open(&p, s);
    play_run(&p, false);
    for (size_t i = 0; i < MAX_TURNS && s->turns[i].sent; i++) {
        if (!sv_eq(buf_sv(&p.sent), sv_str(s->turns[i].sent)))
            fail_msg("%s turn %zu: sent \"%.*s\"", s->name, i, SV_ARG(buf_sv(&p.sent)));
        buf_reset(&p.sent);
        if (s->turns[i].reply)
            play_reply(&p, sv_str(s->turns[i].reply), piece);
    }
    if (p.sent.n || strcmp(p.results, s->results) != 0 || p.closed == s->open)
        fail_msg("%s: results \"%s\" closed %d, sent \"%.*s\"", s->name, p.results, p.closed,
                 SV_ARG(buf_sv(&p.sent)));
    const enum failure got = p.done ? p.txn_failure : smtp_cli_failure(p.cli);
    if (got != s->failure)
        fail_msg("%s: failure %d, wanted %d", s->name, (int)got, (int)s->failure);
    buf_done(&p.sent);
    smtp_cli_free(p.cli);
}

static void whole(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++)
        play_script(&scripts[i], 0);
}

static void bytewise(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++)
        if (!scripts[i].ahead)
            play_script(&scripts[i], 1);
}

/* -- single cases ---------------------------------------------------------------------------- */

static void play_begin(struct play *p, const struct script *s, const char *ehlo)
{
    play_open(p, s);
    play_run(p, false);
    play_reply(p, SV("220 mx\r\n"), 0);
    play_reply(p, sv_str(ehlo), 0);
}

static void play_close(struct play *p)
{
    buf_done(&p->sent);
    smtp_cli_free(p->cli);
}

/* RFC 3207: bytes behind the 220 never become replies under TLS. */
static void starttls_injection(void **state UNUSED)
{
    static const struct script s = {"injection", MUST, "a", "", .results = ""};
    struct play p;
    play_begin(&p, &s, "250-mx\r\n250 STARTTLS\r\n");
    play_reply(&p, SV("220 go\r\n250 injected\r\n"), 0);
    assert_true(p.closed);
    assert_int_equal(smtp_cli_failure(p.cli), FAILURE_TLS_HANDSHAKE);
    play_close(&p);

    play_begin(&p, &s, "250-mx\r\n250 STARTTLS\r\n");
    play_reply(&p, SV("220 go\r\n2"), 0); /* half a line is too much as well */
    assert_true(p.closed);
    assert_int_equal(smtp_cli_failure(p.cli), FAILURE_TLS_HANDSHAKE);
    play_close(&p);
}

static void endless_reply(void **state UNUSED)
{
    static const struct script s = {"endless", CLEAR, "a", "", .results = ""};
    for (size_t kind = 0; kind < 2; kind++) {
        struct play p;
        size_t fed = 0;
        play_open(&p, &s);
        play_run(&p, false);
        while (!p.closed && fed < 1000000) {
            play_reply(&p, kind ? SV("220-and so on\r\n") : SV("2200000000000000000000000"), 0);
            fed += 15;
        }
        assert_true(p.closed && fed < 100000);
        assert_int_equal(smtp_cli_failure(p.cli), FAILURE_PROTOCOL);
        play_close(&p);
    }
}

/* A long line is cut, not fatal. */
static void long_line(void **state UNUSED)
{
    static const struct script s = {"long", CLEAR, "a", "", .results = ""};
    static char text[20000] = "220 ";
    for (size_t piece = 0; piece < 2; piece++) {
        struct play p;
        memset(text + 4, 'x', sizeof text - 6);
        memcpy(text + sizeof text - 2, "\r\n", 2);
        play_open(&p, &s);
        play_run(&p, false);
        play_reply(&p, sv_of(text, sizeof text), piece);
        assert_true(sv_eq(buf_sv(&p.sent), SV(E)));
        play_close(&p);
    }
}

/* Credentials that do not fit into a line of AUTH (RFC 4954 4) go alone, or not at all. */
static void long_credentials(void **state UNUSED)
{
    static char password[4000];
    struct script s = {"long credentials", AUTH, "a", "", .results = ""};
    struct play p;
    memset(password, 'x', sizeof password);

    s.config.auth_password = sv_of(password, 1000);
    play_begin(&p, &s, "250-mx\r\n250 AUTH PLAIN\r\n");
    assert_true(sv_eq(buf_sv(&p.sent), SV(E "AUTH PLAIN\r\n")));
    buf_reset(&p.sent);
    play_reply(&p, SV("334 \r\n"), 0);
    assert_true(sv_starts(buf_sv(&p.sent), SV("AHUAeHh4")));
    assert_int_equal(p.sent.n, (1000 + 3 + 2) / 3 * 4 + 2);
    play_reply(&p, SV("235 ok\r\n"), 0);
    assert_false(p.closed);
    play_close(&p);

    s.config.auth_password = sv_of(password, sizeof password);
    s.config.auth_user = sv_of(password, 200);
    play_begin(&p, &s, "250-mx\r\n250 AUTH PLAIN\r\n");
    play_reply(&p, SV("334 \r\n"), 0);
    assert_true(p.closed);
    assert_int_equal(smtp_cli_failure(p.cli), FAILURE_AUTH);
    play_close(&p);
}

/* A server that refuses RSET has lost the thread: nothing more is sent in that session. */
static void rset_refused(void **state UNUSED)
{
    static const struct script s = {"rset", CLEAR, "a", "hi\r\n", .results = ""};
    struct play p;
    play_begin(&p, &s, PIPE);
    play_reply(&p, SV(OK "550 no\r\n503 no\r\n"), 0);
    p.began = false;
    play_run(&p, false);
    play_reply(&p, SV("500 what?\r\n"), 0);
    assert_true(p.closed);
    assert_string_equal(p.results, "T");
    assert_int_equal(smtp_cli_failure(p.cli), FAILURE_PROTOCOL);
    play_close(&p);
}

/* The transcript keeps whole lines, the last ones. */
static void transcript_is_bounded(void **state UNUSED)
{
    static const struct script s = {"talk", CLEAR, "a", "", .results = ""};
    struct play p;
    play_open(&p, &s);
    play_run(&p, false);
    for (int i = 0; i < 90; i++)
        play_reply(&p, SV("220-0123456789012345678901234567890123456789012345678901234567\r\n"), 0);
    play_reply(&p, SV("220 the last\r\n"), 0);
    const struct sv log = smtp_cli_transcript(p.cli);
    assert_true(log.n > 1000 && log.n <= 4096);
    assert_true(log.p[1] == ':' && log.p[log.n - 1] == '\n');
    assert_true(sv_find(log, SV("220 the last\n")) != SIZE_MAX);
    play_close(&p);
}

/* Many transactions in one session; RSET only after one that left something behind. */
static void many_transactions(void **state UNUSED)
{
    static const struct script s = {"many", CLEAR, "a", "hi\r\n", .results = ""};
    struct play p;
    play_begin(&p, &s, PIPE);
    play_reply(&p, SV(OK OK "354 go\r\n"), 0);
    play_reply(&p, SV(OK), 0);
    assert_string_equal(p.results, "D");
    buf_reset(&p.sent);
    p.began = false;
    play_run(&p, false);
    assert_true(sv_eq(buf_sv(&p.sent), SV(M "\r\n" R("a") "DATA\r\n")));
    play_reply(&p, SV(OK "550 no\r\n503 no\r\n"), 0);
    assert_string_equal(p.results, "F");
    buf_reset(&p.sent);
    p.began = false;
    play_run(&p, false);
    assert_true(sv_eq(buf_sv(&p.sent), SV("RSET\r\n" M "\r\n" R("a") "DATA\r\n")));
    play_reply(&p, SV(OK OK OK "354 go\r\n"), 0);
    play_reply(&p, SV(OK), 0);
    assert_string_equal(p.results, "D");
    buf_reset(&p.sent);
    smtp_cli_quit(p.cli);
    play_run(&p, false);
    assert_true(sv_eq(buf_sv(&p.sent), SV("QUIT\r\n")));
    play_reply(&p, SV("221 bye\r\n"), 0);
    assert_true(p.closed);
    assert_int_equal(smtp_cli_failure(p.cli), FAILURE_NONE);
    play_close(&p);
}

static void hostile_addresses(void **state UNUSED)
{
    static const struct script s = {"addresses", CLEAR, "a,b", "hi\r\n", .results = ""};
    struct play p;
    play_open(&p, &s);
    p.rcpts[0].addr = SV("x@example.net>\r\nRCPT TO:<y");
    play_run(&p, false);
    play_reply(&p, SV("220 mx\r\n"), 0);
    buf_reset(&p.sent);
    play_reply(&p, SV(PIPE), 0);
    assert_true(sv_eq(buf_sv(&p.sent), SV(M "\r\n" R("b") "DATA\r\n")));
    play_reply(&p, SV(OK OK "354 go\r\n"), 0);
    play_reply(&p, SV(OK), 0);
    assert_string_equal(p.results, "FD");
    play_close(&p);

    play_open(&p, &s);
    p.job.sender = SV("x\xc3\xa4@example.net");
    play_run(&p, false);
    play_reply(&p, SV("220 mx\r\n"), 0);
    play_reply(&p, SV(PIPE), 0);
    assert_string_equal(p.results, "FF");
    play_close(&p);
}

static void secrets_masked(void **state UNUSED)
{
    static const struct script s = {"mask", AUTH, "a", "", .results = ""};
    struct play p;
    play_begin(&p, &s, "250-mx\r\n250 AUTH PLAIN\r\n");
    const struct sv log = smtp_cli_transcript(p.cli);
    assert_int_not_equal(sv_find(log, SV("C: AUTH PLAIN ****\n")), SIZE_MAX);
    assert_int_equal(sv_find(log, SV("AHUAcA")), SIZE_MAX);
    play_close(&p);
}

/* Credentials never leave in clear, whatever is offered. */
static void no_auth_in_clear(void **state UNUSED)
{
    static const struct script s = {
        "clear",
        {.helo = {"gw", 2}, .auth_user = {"u", 1}, .auth_password = {"p", 1}},
        "a",
        "",
        .results = ""};
    struct play p;
    play_begin(&p, &s, "250-mx\r\n250 AUTH PLAIN LOGIN\r\n");
    assert_true(p.closed);
    assert_int_equal(smtp_cli_failure(p.cli), FAILURE_AUTH);
    assert_int_equal(sv_find(buf_sv(&p.sent), SV("AUTH")), SIZE_MAX);
    play_close(&p);
}

static void abort_body(void **state UNUSED)
{
    static const struct script s = {"abort", CLEAR, "a", "", .results = ""};
    struct play p;
    play_begin(&p, &s, PIPE);
    (void)smtp_cli_feed(p.cli, SV(OK OK "354 go\r\n"));
    while (smtp_cli_next(p.cli).kind != CLI_NEED_BODY)
        ;
    buf_reset(&p.sent);
    smtp_cli_body(p.cli, SV("half a line"), false);
    while (smtp_cli_next(p.cli).kind != CLI_NEED_BODY)
        ;
    smtp_cli_abort_body(p.cli);
    play_run(&p, false);
    assert_true(p.closed);
    assert_int_equal(p.sent.n, 0);
    assert_string_equal(p.results, "T");
    assert_int_equal(p.txn_failure, FAILURE_CORRUPT);
    play_close(&p);
}

/* -- the body writer ------------------------------------------------------------------------- */

/* Sends body in pieces; *out is what went over the wire. true = delivered. */
static bool write_body(struct sv body, size_t piece, struct buf *out)
{
    static const struct script s = {"writer", CLEAR, "a", "", .results = ""};
    struct play p;
    play_begin(&p, &s, PIPE);
    (void)smtp_cli_feed(p.cli, SV(OK OK "354 go\r\n"));
    buf_reset(&p.sent);
    for (;;) {
        const struct smtp_cli_step st = smtp_cli_next(p.cli);
        if (st.kind == CLI_SEND) {
            (void)buf_append_sv(out, st.bytes);
        } else if (st.kind == CLI_NEED_BODY) {
            const struct sv part = sv_take(body, piece ? piece : body.n);
            body = sv_skip(body, part.n);
            smtp_cli_body(p.cli, part, body.n == 0);
        } else {
            break;
        }
    }
    play_reply(&p, SV(OK), 0);
    const bool delivered = strcmp(p.results, "D") == 0;
    assert_true(delivered || strcmp(p.results, "F") == 0 || p.closed);
    play_close(&p);
    return delivered;
}

static size_t count_ends(struct sv v)
{
    size_t n = 0;
    if (sv_starts(v, SV(".\r\n")))
        n++;
    for (size_t i; (i = sv_find(v, SV("\r\n.\r\n"))) != SIZE_MAX; v = sv_skip(v, i + 2))
        n++;
    return n;
}

static const struct sv bodies[] = {
    SV(""),
    SV("."),
    SV("\r\n"),
    SV(".\r\n"),
    SV("..\r\n"),
    SV("a\r\n.\r\nb"),
    SV("a\r\n.\r\n"),
    SV("a\r\n..\r\n"),
    SV("a\n.\n"),
    SV("a\n.\r\n"),
    SV("a\r.\r"),
    SV("a\r.\r\n"),
    SV("a\r\n.\n"),
    SV("a\r\n.\r"),
    SV("\r"),
    SV("\n"),
    SV("\r\r\n.\r\n"),
    SV("\n\r\n.\r\n"),
    SV("a\r\n.\r\n.\r\n"),
    SV("a\0\r\n.\r\n"),
    SV("a\r\n\0.\r\n"),
    SV("a\r\n.\0\r\n"),
    SV("\r\n.\r\nMAIL FROM:<x@y>\r\n"),
    SV("a\r\n.\r\r\n"),
    SV("x\r\n.\r\n\r\n.\r\n"),
};

/* At every alignment and split: one end of data at most, at the very end, and what the server
 * machine reads back is what was given. */
static void writer_cannot_end(void **state UNUSED)
{
    static const size_t pieces[] = {0, 1, 2, 3, 64, 65};
    static const size_t pads[] = {0, 1, 61, 62, 63, 64, 65, 126, 127, 128};
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        for (size_t q = 0; q < ARRAY_LEN(pads) * ARRAY_LEN(pieces); q++) {
            const size_t pad = pads[q / ARRAY_LEN(pieces)];
            struct buf body, wire;
            buf_init(&body, 4096);
            buf_init(&wire, 8192);
            for (size_t j = 0; j < pad; j++)
                (void)buf_append_byte(&body, 'x');
            (void)buf_append_sv(&body, bodies[i]);
            if (write_body(buf_sv(&body), pieces[q % ARRAY_LEN(pieces)], &wire)) {
                assert_int_equal(count_ends(buf_sv(&wire)), 1);
                assert_true(sv_ends_nocase(buf_sv(&wire), SV(".\r\n")));
            } else {
                assert_int_equal(count_ends(buf_sv(&wire)), 0);
            }
            buf_done(&body);
            buf_done(&wire);
        }
    }
}

/* -- client against server ------------------------------------------------------------------- */

struct pair {
    struct smtp_cli *cli;
    struct kit kit;
    size_t piece;
};

/* Moves bytes both ways until the client is ready or closed; false = closed. */
static bool pair_run(struct pair *p, struct sv body)
{
    for (;;) {
        const struct smtp_cli_step s = smtp_cli_next(p->cli);
        switch (s.kind) {
        case CLI_SEND:
            (void)kit_input(&p->kit, s.bytes, p->piece);
            break;
        case CLI_NEED_INPUT: {
            if (!p->kit.out.n)
                fail_msg("both wait: %.*s", SV_ARG(smtp_cli_transcript(p->cli)));
            struct sv in = buf_sv(&p->kit.out);
            const size_t n = smtp_cli_feed(p->cli, p->piece ? sv_take(in, p->piece) : in);
            assert_true(n > 0);
            buf_consume(&p->kit.out, n);
            break;
        }
        case CLI_START_TLS:
            assert_true(p->kit.tls_due);
            kit_tls(&p->kit);
            smtp_cli_tls_done(p->cli);
            break;
        case CLI_NEED_BODY:
            smtp_cli_body(p->cli, body, true);
            break;
        case CLI_DONE:
            break;
        case CLI_READY:
            return true;
        case CLI_CLOSE:
            return false;
        }
    }
}

static void pair_mail(size_t piece, bool tls, struct sv body)
{
    struct pair p = {.piece = piece};
    struct smtp_srv_config sc = kit_config();
    const struct smtp_cli_config cc = {.helo = SV("gw.example.com"),
                                       .want_tls = tls,
                                       .require_tls = tls,
                                       .auth_user = tls ? SV("alice") : SV(""),
                                       .auth_password = tls ? SV("secret") : SV("")};
    struct rcpt rcpts[] = {{.addr = SV("a@example.com")},
                           {.addr = SV("unknown@example.com")},
                           {.addr = SV("later@example.com")},
                           {.addr = SV("\"b c\"@example.com")}};
    struct delivery job = {.sender = SV("s@example.org"),
                           .size = body.n,
                           .envid = SV("an id=+"),
                           .ret = RET_FULL,
                           .rcpts = rcpts,
                           .n_rcpts = ARRAY_LEN(rcpts)};
    kit_init(&p.kit, &sc);
    assert_int_equal(smtp_cli_new(&cc, &p.cli), ERR_OK);
    assert_true(pair_run(&p, body));
    for (uint32_t round = 1; round < 4; round++) {
        uint32_t n;
        smtp_cli_begin(p.cli, &job);
        assert_true(pair_run(&p, body));
        const struct smtp_cli_rcpt *r = smtp_cli_results(p.cli, &n);
        assert_int_equal(n, 4);
        assert_int_equal(r[0].result, RCPT_DELIVERED);
        assert_int_equal(r[1].result, RCPT_FAILED);
        assert_string_equal(r[1].status, "5.1.1");
        assert_string_equal(r[1].reply, "550 5.1.1 No such user");
        assert_int_equal(r[2].result, RCPT_DEFERRED);
        assert_int_equal(r[3].result, RCPT_DELIVERED);
        assert_int_equal(p.kit.messages, round);
        assert_true(sv_eq(buf_sv(&p.kit.body), body));
    }
    smtp_cli_quit(p.cli);
    assert_false(pair_run(&p, body));
    smtp_cli_free(p.cli);
    kit_done(&p.kit);
}

static void back_to_back(void **state UNUSED)
{
    static char big[200000];
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = i % 71 == 69 ? '\r' : i % 71 == 70 ? '\n' : i % 71 == 0 && i % 3 ? '.' : 'a';
    memcpy(big + sizeof big - 2, "\r\n", 2);
    big[sizeof big - 3] = 'a';
    pair_mail(0, false, SV("Subject: x\r\n\r\n.\r\n..\r\nend\r\n"));
    pair_mail(1, false, SV("Subject: x\r\n\r\n.\r\n..\r\nend\r\n"));
    pair_mail(0, true, sv_of(big, sizeof big));
    pair_mail(1, true, sv_of(big, sizeof big));
    pair_mail(1000, true, sv_of(big, sizeof big));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole),
        cmocka_unit_test(bytewise),
        cmocka_unit_test(starttls_injection),
        cmocka_unit_test(endless_reply),
        cmocka_unit_test(long_line),
        cmocka_unit_test(long_credentials),
        cmocka_unit_test(rset_refused),
        cmocka_unit_test(transcript_is_bounded),
        cmocka_unit_test(many_transactions),
        cmocka_unit_test(hostile_addresses),
        cmocka_unit_test(secrets_masked),
        cmocka_unit_test(no_auth_in_clear),
        cmocka_unit_test(abort_body),
        cmocka_unit_test(writer_cannot_end),
        cmocka_unit_test(back_to_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
