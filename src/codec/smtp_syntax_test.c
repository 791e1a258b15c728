#include "codec/smtp_syntax.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static bool same(struct sv v, const char *text)
{
    return sv_eq(v, sv_str(text));
}

static void test_verbs(void **state)
{
    static const struct {
        const char *line;
        enum smtp_verb verb;
        const char *arg;
    } cases[] = {
        {"EHLO mx.example", VERB_EHLO, "mx.example"},
        {"helo  x ", VERB_HELO, "x"},
        {"MaIl FROM:<a@b.example> SIZE=1", VERB_MAIL, "FROM:<a@b.example> SIZE=1"},
        {"RCPT TO:<x>", VERB_RCPT, "TO:<x>"},
        {"DATA", VERB_DATA, ""},
        {"DATA ", VERB_DATA, ""},
        {"DATA\t", VERB_DATA, ""},
        {"DATA x", VERB_DATA, "x"},
        {"RSET", VERB_RSET, ""},
        {"NOOP hello", VERB_NOOP, "hello"},
        {"VRFY x", VERB_VRFY, "x"},
        {"EXPN x", VERB_EXPN, "x"},
        {"HELP", VERB_HELP, ""},
        {"quit", VERB_QUIT, ""},
        {"STARTTLS", VERB_STARTTLS, ""},
        {"AUTH PLAIN AAA=", VERB_AUTH, "PLAIN AAA="},
        {"BDAT 1 LAST", VERB_BDAT, "1 LAST"},
        {"ETRN x", VERB_ETRN, "x"},
        {"GET / HTTP/1.1", VERB_HTTP, "/ HTTP/1.1"},
        {"POST /x HTTP/1.0", VERB_HTTP, "/x HTTP/1.0"},
        {"CONNECT mx:25 HTTP/1.1", VERB_HTTP, "mx:25 HTTP/1.1"},
        {"", VERB_UNKNOWN, ""},
        {" MAIL", VERB_UNKNOWN, "MAIL"},
        {"DATAX", VERB_UNKNOWN, ""},
        {"MAILFROM:<>", VERB_UNKNOWN, ""},
        {"\x16\x03\x01", VERB_UNKNOWN, ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sv arg;

        if (smtp_verb(sv_str(cases[i].line), &arg) != cases[i].verb || !same(arg, cases[i].arg))
            fail_msg("case %zu: %s -> %.*s", i, cases[i].line, SV_ARG(arg));
    }
}

/* code 0 = accepted */
static const struct {
    const char *arg;
    uint16_t code;
    const char *status, *path;
    struct smtp_mail_args want;
} mails[] = {
    {"FROM:<>", 0, "", "", {.size = 0}},
    {"FROM:<a@b.example>", 0, "", "a@b.example", {.size = 0}},
    {"from: <a@b.example>", 0, "", "a@b.example", {.size = 0}},
    {"FROM:<\"a\\\">b\"@b.example>", 0, "", "\"a\\\">b\"@b.example", {.size = 0}},
    {"FROM:<> ENVID=a+2bb", 0, "", "", {.envid = SV("a+b")}}, /* lower case: seen in the wild */
    {"FROM:<> ENVID=a+2Gb", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<@x.example,@y.example:a@b.example>", 0, "", "a@b.example", {.size = 0}},
    {"FROM:<@[192.0.2.9]:a@b.example>", 0, "", "a@b.example", {.size = 0}},
    {"FROM:<\"a>b\"@b.example>", 0, "", "\"a>b\"@b.example", {.size = 0}},
    {"FROM:<a@b.example> SIZE=1000 BODY=8BITMIME",
     0,
     "",
     "a@b.example",
     {.size = 1000, .body = BODY_8BITMIME}},
    {"FROM:<a@b.example> body=7bit  size=0", 0, "", "a@b.example", {.size = 0}},
    {"FROM:<a@b.example> SIZE=99999999999999999999", 0, "", "a@b.example", {.size = UINT64_MAX}},
    {"FROM:<> RET=HDRS ENVID=QQ+20x+2B1", 0, "", "", {.ret = RET_HDRS, .envid = SV("QQ x+1")}},
    {"FROM:<> RET=full", 0, "", "", {.ret = RET_FULL}},
    {"FROM:<> AUTH=<>", 0, "", "", {.size = 0}},
    {"FROM:<> AUTH=e+3Dmc2@example.com", 0, "", "", {.auth = SV("e=mc2@example.com")}},
    {"", 501, "5.5.4", "", {.size = 0}},
    {"FROM", 501, "5.5.4", "", {.size = 0}},
    {"FROM:", 501, "5.5.4", "", {.size = 0}},
    {"FROM:a@b.example", 501, "5.5.4", "", {.size = 0}},
    {"TO:<a@b.example>", 501, "5.5.4", "", {.size = 0}},
    {"FROM <a@b.example>", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<a@b.example", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<a@b.example>SIZE=1", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<a@b.example>>", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<a b@b.example>", 501, "5.1.7", "", {.size = 0}},
    {"FROM:<a@b@c.example>", 501, "5.1.7", "", {.size = 0}},
    {"FROM:<@:a@b.example>", 501, "5.1.7", "", {.size = 0}},
    {"FROM:<@x.example>", 501, "5.1.7", "", {.size = 0}},
    {"FROM:<<a@b.example>>", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<m\xc3\xbcller@b.example>", 553, "5.6.7", "", {.size = 0}},
    {"FROM:<> SMTPUTF8", 555, "5.5.4", "", {.size = 0}},
    {"FROM:<> REQUIRETLS", 555, "5.5.4", "", {.size = 0}},
    {"FROM:<> NOTIFY=NEVER", 555, "5.5.4", "", {.size = 0}},
    {"FROM:<> X=1", 555, "5.5.4", "", {.size = 0}},
    {"FROM:<> SIZE", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> SIZE=", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> SIZE=-1", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> SIZE=1k", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> SIZE=111111111111111111111", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> SIZE=1 SIZE=1", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> BODY=BINARYMIME", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> BODY=8", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> RET=BOTH", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> ENVID=a+0D+0Ab", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> ENVID=a+0", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> ENVID=a=b", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> =1", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> -A=1", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> SI\x01ZE=1", 501, "5.5.4", "", {.size = 0}},
    {"FROM:<> ENVID=12345678901234567890123456789012345678901234567890"
     "123456789012345678901234567890123456789012345678901",
     501,
     "5.5.4",
     "",
     {.size = 0}},
};

static void test_mail(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(mails); i++) {
        const struct smtp_mail_args *w = &mails[i].want;
        struct smtp_mail_args got;
        struct smtp_reply error = {0};
        struct arena a;

        arena_init(&a, 4096);
        bool ok = smtp_parse_mail(sv_str(mails[i].arg), &a, &got, &error);
        if (ok != (mails[i].code == 0))
            fail_msg("case %zu: %s: %u %s", i, mails[i].arg, error.code, error.text);
        if (!ok && (error.code != mails[i].code || strcmp(error.status, mails[i].status) != 0))
            fail_msg("case %zu: %s: %u %s", i, mails[i].arg, error.code, error.status);
        if (ok && (!same(got.path, mails[i].path) || got.size != w->size || got.body != w->body ||
                   got.ret != w->ret || !sv_eq(got.envid, w->envid) || !sv_eq(got.auth, w->auth)))
            fail_msg("case %zu: %s", i, mails[i].arg);
        arena_done(&a);
    }
}

static const struct {
    const char *arg;
    uint16_t code;
    const char *status, *path;
    uint8_t notify;
    const char *orcpt;
} rcpts[] = {
    {"TO:<a@b.example>", 0, "", "a@b.example", 0, ""},
    {"to:  <a@b.example>", 0, "", "a@b.example", 0, ""},
    {"TO:<Postmaster>", 0, "", "Postmaster", 0, ""},
    {"TO:<@r.example:a@b.example>", 0, "", "a@b.example", 0, ""},
    {"TO:<a%c@b.example>", 0, "", "a%c@b.example", 0, ""},
    {"TO:<a@b.example> NOTIFY=NEVER", 0, "", "a@b.example", NOTIFY_NEVER, ""},
    {"TO:<a@b.example> NOTIFY=success,DELAY,FAILURE ORCPT=rfc822;x+2By@b.example", 0, "",
     "a@b.example", NOTIFY_SUCCESS | NOTIFY_DELAY | NOTIFY_FAILURE, "rfc822;x+y@b.example"},
    {"TO:<>", 501, "5.1.3", "", 0, ""},
    {"TO:<root>", 501, "5.1.3", "", 0, ""},
    {"TO:<a@b.example", 501, "5.5.4", "", 0, ""},
    {"FROM:<a@b.example>", 501, "5.5.4", "", 0, ""},
    {"TO:<a@m\xc3\xbc.example>", 553, "5.6.7", "", 0, ""},
    {"TO:<a@b.example> SIZE=1", 555, "5.5.4", "", 0, ""},
    {"TO:<a@b.example> NOTIFY=", 501, "5.5.4", "", 0, ""},
    {"TO:<a@b.example> NOTIFY=NEVER,DELAY", 501, "5.5.4", "", 0, ""},
    {"TO:<a@b.example> NOTIFY=DELAY,DELAY", 501, "5.5.4", "", 0, ""},
    {"TO:<a@b.example> NOTIFY=DELAY,", 501, "5.5.4", "", 0, ""},
    {"TO:<a@b.example> NOTIFY=ALWAYS", 501, "5.5.4", "", 0, ""},
    {"TO:<a@b.example> ORCPT=rfc822", 501, "5.5.4", "", 0, ""},
    {"TO:<a@b.example> ORCPT=;x", 501, "5.5.4", "", 0, ""},
    {"TO:<a@b.example> ORCPT=rfc822;", 501, "5.5.4", "", 0, ""},
    {"TO:<a@b.example> ORCPT=rfc822;a+0D+0ASubject:x", 501, "5.5.4", "", 0, ""},
    {"TO:<a@b.example> ORCPT=r+20;x", 501, "5.5.4", "", 0, ""},
};

static void test_rcpt(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rcpts); i++) {
        struct smtp_rcpt_args got;
        struct smtp_reply error = {0};
        struct arena a;

        arena_init(&a, 4096);
        bool ok = smtp_parse_rcpt(sv_str(rcpts[i].arg), &a, &got, &error);
        if (ok != (rcpts[i].code == 0))
            fail_msg("case %zu: %s: %u %s", i, rcpts[i].arg, error.code, error.text);
        if (!ok && (error.code != rcpts[i].code || strcmp(error.status, rcpts[i].status) != 0))
            fail_msg("case %zu: %s: %u %s", i, rcpts[i].arg, error.code, error.status);
        if (ok && (!same(got.path, rcpts[i].path) || got.notify != rcpts[i].notify ||
                   !same(got.orcpt, rcpts[i].orcpt)))
            fail_msg("case %zu: %s: %.*s", i, rcpts[i].arg, SV_ARG(got.orcpt));
        arena_done(&a);
    }
}

static void test_memory_ends(void **state)
{
    struct smtp_mail_args got = {.size = 77};
    struct smtp_reply error = {0};
    struct arena a;

    (void)state;
    arena_init(&a, 4);
    assert_false(smtp_parse_mail(SV("FROM:<> ENVID=abcdefgh"), &a, &got, &error));
    assert_int_equal(got.size, 77); /* outputs untouched on failure */
    arena_done(&a);
    /* too little at each step of ORCPT: decoding, joining; then enough */
    for (size_t room = 0; room <= 512; room += 16) {
        struct smtp_rcpt_args rcpt = {.notify = 77};
        arena_init(&a, room);
        if (!smtp_parse_rcpt(SV("TO:<a@b.example> ORCPT=rfc822;abcdefgh@example.org"), &a, &rcpt,
                             &error))
            assert_true(rcpt.notify == 77 && error.code == 452); /* not the client's fault */
        else
            assert_true(same(rcpt.orcpt, "rfc822;abcdefgh@example.org"));
        arena_done(&a);
    }
}

static void test_helo(void **state)
{
    static const struct {
        const char *arg;
        bool valid;
    } cases[] = {
        {"mx.example.com", true}, {"localhost", true},  {"my_pc", true}, {"192.0.2.1", true},
        {"[192.0.2.1]", true},    {"[IPv6:::1]", true}, {"[x]", false},  {"", false},
        {"a b", false},           {"a<b", false},       {"a(b)", false}, {"a\x07", false},
        {"\xc3\xa4", false},      {"[", false},         {"a\"b", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (smtp_helo_valid(sv_str(cases[i].arg)) != cases[i].valid)
            fail_msg("case %zu: %s", i, cases[i].arg);
}

static void test_xtext(void **state)
{
    char all[256];
    struct buf text, back;

    (void)state;
    for (size_t i = 0; i < sizeof(all); i++)
        all[i] = (char)i;
    buf_init(&text, 1024);
    buf_init(&back, 1024);
    assert_int_equal(xtext_encode(sv_of(all, sizeof(all)), &text), ERR_OK);
    assert_int_equal(xtext_decode(buf_sv(&text), &back), ERR_OK);
    assert_true(sv_eq(buf_sv(&back), sv_of(all, sizeof(all))));
    assert_int_equal(xtext_decode(SV("ab+4"), &back), ERR_SYNTAX);
    assert_int_equal(xtext_decode(SV("a b"), &back), ERR_SYNTAX);
    assert_int_equal(back.n, sizeof(all)); /* untouched on failure */
    buf_done(&back);
    buf_done(&text);
}

static void test_replies(void **state)
{
    static const struct {
        const char *line;
        bool ok, last;
        uint16_t code;
        const char *status, *text;
    } cases[] = {
        {"250 2.1.5 Ok", true, true, 250, "2.1.5", "2.1.5 Ok"},
        {"250-PIPELINING", true, false, 250, "", "PIPELINING"},
        {"250", true, true, 250, "", ""},
        {"250 ", true, true, 250, "", ""},
        {"354-", true, false, 354, "", ""},
        {"550 5.7.1", true, true, 550, "5.7.1", "5.7.1"},
        {"550 5.700.100 x", true, true, 550, "5.700.100", "5.700.100 x"},
        {"550 4.7.1 class differs", true, true, 550, "", "4.7.1 class differs"},
        {"450 4.7.1x", true, true, 450, "", "4.7.1x"},
        {"450 4.7", true, true, 450, "", "4.7"},
        {"450 4.7.", true, true, 450, "", "4.7."},
        {"450 4.1234.1 x", true, true, 450, "", "4.1234.1 x"},
        {"", false, false, 0, "", ""},
        {"25", false, false, 0, "", ""},
        {"250x", false, false, 0, "", ""},
        {"2500", false, false, 0, "", ""},
        {"199 x", false, false, 0, "", ""},
        {"600 x", false, false, 0, "", ""},
        {"-50 x", false, false, 0, "", ""},
        {" 250 x", false, false, 0, "", ""},
        {"HTTP/1.1 400", false, false, 0, "", ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct smtp_reply_line l = {0};
        bool ok = smtp_parse_reply(sv_str(cases[i].line), &l);

        if (ok != cases[i].ok || l.code != cases[i].code || l.last != cases[i].last)
            fail_msg("case %zu: %s", i, cases[i].line);
        if (ok && (!same(l.status, cases[i].status) || !same(l.text, cases[i].text)))
            fail_msg("case %zu: %s: %.*s", i, cases[i].line, SV_ARG(l.status));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verbs),   cmocka_unit_test(test_mail),
        cmocka_unit_test(test_rcpt),    cmocka_unit_test(test_memory_ends),
        cmocka_unit_test(test_helo),    cmocka_unit_test(test_xtext),
        cmocka_unit_test(test_replies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
