#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include <fcntl.h>
#include <jansson.h>
#include <sys/socket.h>
#include <unistd.h>

static int fds[2];
static char text[65536];

/* What was written since the last call, as a string. */
static const char *written(void)
{
    log_flush();
    ssize_t n = read(fds[0], text, sizeof(text) - 1);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static int setup(void **state)
{
    (void)state;
    assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    log_set_fd(fds[1]);
    log_set_level(LOG_INFO);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_set_fd(STDERR_FILENO);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return 0;
}

static void test_text_line(void **state)
{
    char want[200];

    (void)state;
    log_init(LOG_TEXT, "smtp", "gw.example");
    struct log_line l = log_begin(LOG_INFO, "attempt");
    log_as(&l, "smtpd");
    log_text(&l, "%s: to=<%s>", "0A", "a@b");
    log_kv(&l, "tls", SV("TLSv1.3"));
    log_kv(&l, "why", SV("a b"));
    log_kv(&l, "empty", SV(""));
    log_kv_u64(&l, "bits", UINT64_MAX);
    log_end(&l);
    const char *line = written();

    (void)snprintf(want, sizeof(want),
                   " gw.example postseal/smtpd[%d]: 0A: to=<a@b> event=attempt tls=TLSv1.3 "
                   "why=\"a b\" empty=\"\" bits=18446744073709551615\n",
                   (int)getpid());
    assert_true(strlen(line) > 15 && line[3] == ' ' && line[6] == ' ' && line[9] == ':');
    assert_string_equal(line + 15, want); /* behind "Mon DD HH:MM:SS" */
}

static void test_levels(void **state)
{
    enum log_level level;

    (void)state;
    log_init(LOG_TEXT, "queue", "h");
    log_msg(LOG_DEBUG, "x", "not written");
    assert_string_equal(written(), "");
    log_set_level(LOG_DEBUG);
    log_msg(LOG_DEBUG, "x", "written %d", 1);
    assert_non_null(strstr(written(), "]: written 1 event=x\n"));
    log_msg(LOG_ERROR, "x", "at once");
    assert_true(read(fds[0], text, sizeof(text)) > 0); /* without a flush */
    assert_true(log_level_parse(SV("WARN"), &level));
    assert_int_equal(level, LOG_WARN);
    assert_false(log_level_parse(SV("loud"), &level));
}

static const char hostile[] =
    "a\r\nNov 24 00:00:00 h postseal/x: \x1b[31m\"\\\x7f\xff\xc2\x85=\xe2\x80\xae";

static void test_no_forged_lines(void **state)
{
    (void)state;
    for (unsigned f = LOG_TEXT; f <= LOG_JSON; f++) {
        log_init((enum log_format)f, "queue", "h");
        struct log_line l = log_begin(LOG_INFO, "x");
        log_text(&l, "%s", hostile);
        log_kv(&l, "v", SV(hostile));
        log_end(&l);
        const char *line = written();
        size_t n = strlen(line);

        assert_true(n > 2 && line[n - 1] == '\n');
        for (size_t i = 0; i + 1 < n; i++)
            assert_true(line[i] >= ' ' && line[i] <= '~'); /* nothing plain beyond ASCII in it */
    }
}

static void test_json_line(void **state)
{
    json_error_t error;

    (void)state;
    log_init(LOG_JSON, "queue", "gw.example");
    struct log_line l = log_begin(LOG_WARN, "held");
    log_text(&l, "m\xc3\xbc \"q\"");
    log_kv(&l, "v", SV(hostile));
    log_kv_u64(&l, "n", 5);
    log_end(&l);
    json_t *o = json_loads(written(), JSON_REJECT_DUPLICATES, &error);

    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "event")), "held");
    assert_string_equal(json_string_value(json_object_get(o, "level")), "warn");
    assert_string_equal(json_string_value(json_object_get(o, "program")), "postseal/queue");
    assert_string_equal(json_string_value(json_object_get(o, "message")), "m\xc3\xbc \"q\"");
    assert_int_equal(json_integer_value(json_object_get(o, "n")), 5);
    json_decref(o);
}

static void test_long_values(void **state)
{
    char big[5000];

    (void)state;
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    log_init(LOG_TEXT, "queue", "h");
    struct log_line l = log_begin(LOG_INFO, "x");
    log_text(&l, "%s", big);
    log_text(&l, "more");
    for (int i = 0; i < 20; i++)
        log_kv(&l, "k", sv_str(big));
    log_kv(&l, "last", SV("fits"));
    log_end(&l);
    const char *line = written();

    assert_true(strlen(line) < 4096); /* one atomic write to a pipe */
    assert_non_null(strstr(line, " last=fits\n"));
}

/* Nobody reads: lines are dropped and counted, the process goes on. */
static void test_stuck_reader(void **state)
{
    uint64_t before = log_dropped();

    (void)state;
    log_init(LOG_TEXT, "queue", "h");
    log_set_fd(-1);
    for (int i = 0; i < 6000; i++)
        log_msg(LOG_INFO, "x", "a line of some length, again and again and again");
    assert_true(log_dropped() > before);
    log_set_fd(fds[1]);
    while (written()[0])
        continue;
    log_msg(LOG_INFO, "x", "alive");
    assert_non_null(strstr(written(), "alive"));
}

static void test_journal_fields(void **state)
{
    int pair[2];
    char want[300];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
    log_set_journal(pair[0]);
    log_init(LOG_JOURNAL, "queue", "h");
    struct log_line l = log_begin(LOG_WARN, "held");
    log_text(&l, "0A: held");
    log_kv(&l, "rule-id", SV("a\nMESSAGE=x"));
    log_kv_u64(&l, "n", 5);
    log_end(&l);
    ssize_t n = recv(pair[1], text, sizeof(text) - 1, MSG_DONTWAIT);

    text[n > 0 ? n : 0] = '\0';
    (void)snprintf(want, sizeof(want),
                   "PRIORITY=4\nSYSLOG_IDENTIFIER=postseal/queue\nSYSLOG_PID=%d\n"
                   "POSTSEAL_EVENT=held\nMESSAGE=0A: held rule-id=\"a\\x0aMESSAGE=x\" n=5\n"
                   "POSTSEAL_RULE_ID=a\\x0aMESSAGE=x\nPOSTSEAL_N=5\n",
                   (int)getpid());
    assert_string_equal(text, want);
    log_set_journal(-1);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_text_line),      TEST(test_levels),      TEST(test_no_forged_lines),
        TEST(test_json_line),      TEST(test_long_values), TEST(test_stuck_reader),
        TEST(test_journal_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
