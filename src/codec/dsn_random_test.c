/*
 * Reports on random, hostile input: whatever remote servers, senders and originals say, a report is
 * well formed, says of each recipient what the plan said, and gives nothing of a sealed message
 * away.
 */
#include "base/rng.h"
#include "base/utf8.h"
#include "codec/dsn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define NOW      ((int64_t)1795498560000)
#define TOKEN    "S3CRET-4111"
#define BOUNDARY "=_b0undary"
enum { ROUNDS = 3000, REPORT_RCPTS = 4, REPORT_MAX = 1 << 20 };

struct world {
    struct rng rng;
    struct arena mem;
    struct envelope env;
    struct dsn_rcpt rcpts[REPORT_RCPTS];
    struct dsn_in in;
    struct buf out;
};

static uint32_t pick(struct world *w, uint32_t n)
{
    return (uint32_t)(rng_u64(&w->rng) % n);
}

/* What servers and senders would write into a report if they could. */
static const struct sv pieces[] = {
    SV("\r\n"),       SV("\n"),
    SV("\r"),         SV("\0"),
    SV(" "),          SV("\t"),
    SV("550 5.1.1 "), SV("\r\nAction: delivered\r\n"),
    SV("Status: 2"),  SV("\r\nFinal-Recipient: rfc822; x@y.example\r\n"),
    SV("\xff\xfe"),   SV("Gr\xc3\xbc\xc3\x9f"),
    SV("rfc822;"),    SV("<a@b.example>"),
    SV("\r\n\r\n"),   SV("\r\n--" BOUNDARY "--\r\n"),
    SV("=?utf-8?q?"), SV("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
    SV(":"),          SV(";"),
};

static struct sv hostile(struct world *w, uint32_t most)
{
    struct buf b;

    buf_init(&b, 16384);
    for (uint32_t n = pick(w, most + 1); n; n--)
        (void)buf_append_sv(&b, pieces[pick(w, ARRAY_LEN(pieces))]);
    struct sv text = arena_sv(&w->mem, buf_sv(&b));
    buf_done(&b);
    return text;
}

/* An original in which every field that must not come back, and the body, holds the token. */
static struct sv original(struct world *w)
{
    static const char *const fields[] = {
        "From: Alice <alice@example.com>\r\n",
        "To: bob@example.net\r\n",
        "Subject: " TOKEN "\r\n",
        "subject : \r\n " TOKEN "\r\n",
        "Received: from " TOKEN "\r\n",
        "X-Note: a\r\n\t" TOKEN "\r\n",
        "Date: Mon, 23 Nov 2026 10:00:00 +0100\r\n",
        "Cc: " TOKEN "@example.org\r\n",
        "Message-ID: <m1@example.com>\r\n",
        "X-From: " TOKEN "\r\n",
        "Fromage: " TOKEN "\r\n",
        "X: \xc3\xbc" TOKEN "\r\n",
    };
    struct buf b;

    buf_init(&b, 16384);
    for (uint32_t n = pick(w, 14); n; n--)
        (void)buf_append_sv(&b, sv_str(fields[pick(w, ARRAY_LEN(fields))]));
    if (pick(w, 6))
        (void)buf_append_sv(&b, SV("\r\n" TOKEN "\r\nFrom: " TOKEN "\r\n"));
    struct sv text = arena_sv(&w->mem, buf_sv(&b));
    buf_done(&b);
    return text;
}

static void random_report(struct world *w, bool sealed)
{
    static const struct sv status[] = {SV("5.1.1"), SV("4.7.5"), SV(""), SV("5.7.1\r\nX: y")};

    arena_reset(&w->mem);
    w->env = (struct envelope){.id = 1 + pick(w, 1000),
                               .received_ms = NOW,
                               .sender = SV("alice@example.com"),
                               .envid = hostile(w, 3),
                               .message_id = hostile(w, 3),
                               .ret = (uint8_t)pick(w, RET_HDRS + 1)};
    w->in = (struct dsn_in){.env = &w->env,
                            .rcpts = w->rcpts,
                            .n_rcpts = 1 + pick(w, REPORT_RCPTS),
                            .reporting_mta = SV("gw.example"),
                            .from = SV("mailer-daemon@gw.example"),
                            .original = original(w),
                            .sealed = sealed,
                            .headers_only = pick(w, 2),
                            .message_id = SV("<r1@gw.example>"),
                            .boundary = SV(BOUNDARY),
                            .now_ms = NOW};
    for (uint32_t i = 0; i < w->in.n_rcpts; i++) {
        struct sv said = sealed && pick(w, 2) ? SV("550 5.7.1 " TOKEN "\r\n") : hostile(w, 5);
        w->rcpts[i] =
            (struct dsn_rcpt){.rcpt = {.addr = SV("bob@example.net"), .orcpt = hostile(w, 3)},
                              .action = (uint8_t)pick(w, DSN_DELIVERED + 1),
                              .status = status[pick(w, ARRAY_LEN(status))],
                              .remote_mta = hostile(w, 2),
                              .diagnostic = said,
                              .last_attempt_ms = pick(w, 2) ? NOW : 0,
                              .will_retry_until_ms = pick(w, 2) ? NOW + 1000 : 0};
    }
    buf_reset(&w->out);
    assert_int_equal(dsn_build(&w->in, &w->out), ERR_OK);
}

static int setup(void **state)
{
    static struct world w;

    w = (struct world){.rng = rng_seeded(20261124)};
    arena_init(&w.mem, 1 << 20);
    buf_init(&w.out, REPORT_MAX);
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    arena_done(&w->mem);
    buf_done(&w->out);
    return 0;
}

static uint32_t count_lines(struct sv text, struct sv begin)
{
    uint32_t n = 0;

    while (text.n)
        n += sv_starts(sv_cut(&text, '\n'), begin);
    return n;
}

/* The machine-readable part, between its type and the next boundary. */
static struct sv status_part(struct sv report)
{
    size_t at = sv_find(report, SV("Content-Type: message/delivery-status\r\n"));

    assert_true(at != SIZE_MAX);
    struct sv part = sv_skip(report, at);
    return sv_take(part, sv_find(part, SV("\r\n--" BOUNDARY)));
}

static void check_form(const struct world *w)
{
    struct sv report = buf_sv(&w->out), rest = report, part = status_part(report);

    while (rest.n) {
        struct sv line = sv_cut(&rest, '\n');
        assert_true(line.n && line.n <= 999 && line.p[line.n - 1] == '\r');
        assert_true(sv_find_byte(line, '\0') == SIZE_MAX);
    }
    assert_true(sv_ends_nocase(report, SV("\r\n--" BOUNDARY "--\r\n")));
    assert_int_equal(count_lines(report, SV("--" BOUNDARY "--")), 1);
    assert_int_equal(count_lines(part, SV("Final-Recipient:")), w->in.n_rcpts);
    assert_int_equal(count_lines(part, SV("Status:")), w->in.n_rcpts);
    assert_int_equal(count_lines(part, SV("Action:")), w->in.n_rcpts);
}

/* The actions in the report are those asked for, in their order. */
static void check_actions(const struct world *w)
{
    static const char *const names[] = {"failed", "delayed", "relayed", "delivered"};
    struct sv rest = status_part(buf_sv(&w->out));
    uint32_t i = 0;

    while (rest.n) {
        struct sv line = sv_cut(&rest, '\n'); /* a fold would begin with a space */
        if (sv_starts(line, SV("Action: ")))
            if (!sv_eq(sv_trim(sv_skip(line, 8)), sv_str(names[w->rcpts[i++].action])))
                fail_msg("recipient %u of %.*s", i, SV_ARG(buf_sv(&w->out)));
    }
    assert_int_equal(i, w->in.n_rcpts);
}

static void reports_are_well_formed(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < ROUNDS; i++) {
        random_report(w, false);
        check_form(w);
        check_actions(w);
    }
}

static void sealed_reports_give_nothing_away(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < ROUNDS; i++) {
        random_report(w, true);
        check_form(w);
        check_actions(w);
        if (sv_find(buf_sv(&w->out), SV("S3CRET")) != SIZE_MAX)
            fail_msg("round %d: %.*s", i, SV_ARG(buf_sv(&w->out)));
        assert_true(sv_is_ascii(buf_sv(&w->out)));
    }
}

/* A full buffer is ERR_LIMIT wherever it ends, never half a report taken for a whole one. */
static void full_buffers_are_errors(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < 12; i++) {
        random_report(w, i % 2);
        for (size_t max = 0; max < w->out.n; max += 1 + max / 64) {
            struct buf small;
            buf_init(&small, max);
            assert_int_equal(dsn_build(&w->in, &small), ERR_LIMIT);
            buf_done(&small);
        }
    }
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(reports_are_well_formed),
        TEST(sealed_reports_give_nothing_away),
        TEST(full_buffers_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
