/* The bootstrap file: what a good one yields, and what is said about each bad one. */
#include "role/bootstrap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define HEAD "hostname = \"mx.example.org\"\ndata_dir = \"/var/lib/postseal\"\n"
#define TAIL "listen { smtp = {\"127.0.0.1:2525\"} }\n"

static void test_full(void **state)
{
    struct bootstrap b;
    struct errinfo info = {0};
    const struct sv text = SV("# gateway\n"
                              "hostname = mx1.example.org\n"
                              "data_dir = '/srv/postseal/' // slash at the end\n"
                              "user = mail-gw\n"
                              "database = \"sqlite:/srv/db/ps.db\"\n"
                              "workers = 3\n"
                              "sandbox = best-effort\n"
                              "log { format = json level = debug }\n"
                              "listen {\n"
                              "  smtp = {\"*:25\", \"[2001:DB8::1]:26\"} /* a { in a comment */\n"
                              "  submission = {\"192.0.2.1:587\"}\n"
                              "  submissions = {\"192.0.2.1:465\"}\n"
                              "  internal = {}\n"
                              "  https = {\"127.0.0.1:8443\"}\n"
                              "}");

    (void)state;
    if (bootstrap_parse(text, "f", &b, &info) != ERR_OK)
        fail_msg("%u %s: %s", info.line, info.key, info.text);
    assert_string_equal(b.hostname, "mx1.example.org");
    assert_string_equal(b.data_dir, "/srv/postseal");
    assert_string_equal(b.user, "mail-gw");
    assert_string_equal(b.database, "sqlite:/srv/db/ps.db");
    assert_int_equal(b.workers, 3);
    assert_false(b.sandbox_require);
    assert_int_equal(b.log_format, LOG_JSON);
    assert_int_equal(b.log_level, LOG_DEBUG);
    assert_int_equal(b.n_listeners, 6);
    assert_string_equal(b.listeners[0].address, "0.0.0.0:25");
    assert_string_equal(b.listeners[1].address, "[::]:25");
    assert_string_equal(b.listeners[2].address, "[2001:db8::1]:26");
    assert_int_equal(b.listeners[3].kind, LISTEN_SUBMISSION);
    assert_int_equal(b.listeners[5].kind, LISTEN_HTTPS);
    assert_int_equal(b.listeners[5].port, 8443);
    assert_int_equal(b.listeners[5].line, 14);
}

static void test_defaults(void **state)
{
    struct bootstrap b;

    (void)state;
    assert_int_equal(bootstrap_parse(SV(HEAD TAIL), "f", &b, NULL), ERR_OK);
    assert_string_equal(b.user, "postseal");
    assert_string_equal(b.database, "sqlite:/var/lib/postseal/db/postseal.db");
    assert_int_equal(b.workers, 0);
    assert_true(b.sandbox_require);
    assert_int_equal(b.log_format, LOG_TEXT);
    assert_int_equal(b.log_level, LOG_INFO);
}

static const struct {
    const char *text;
    uint32_t line;
    const char *key;
    const char *says; /* part of the sentence */
} bad_files[] = {
    {"", 0, "hostname", "is missing"},
    {"hostname = \"mx.example.org\"\n" TAIL, 0, "data_dir", "is missing"},
    {HEAD, 0, "listen", "no address to listen on"},
    {HEAD "workrs = 2\n" TAIL, 3, "workrs", "did you mean \"workers\"?"},
    {HEAD "Hostname = x\n" TAIL, 3, "Hostname", "did you mean \"hostname\"?"},
    {HEAD "lisen { smtp = {\"127.0.0.1:25\"} }\n", 3, "lisen", "did you mean \"listen\"?"},
    {HEAD "colour = blue\n" TAIL, 3, "colour", "unknown key; it has: hostname, data_dir"},
    {HEAD "log {\n formt = json\n}\n" TAIL, 4, "formt", "in section log; did you mean \"format\"?"},
    {HEAD "log {\n smtp = {\"127.0.0.1:25\"}\n}\n" TAIL, 4, "smtp", "unknown key in section log"},
    {HEAD "listen {\n submision = {\"127.0.0.1:25\"}\n}\n", 4, "submision",
     "did you mean \"submission\"?"},
    {HEAD "listen {\n smtp = {\"127.0.0.1:25\"}\n", 3, "listen", "not closed"},
    {HEAD "listen {\n smtp = {\"127.0.0.1:25\"\n", 4, "smtp",
     "list opened in line 4 is not closed"},
    {HEAD TAIL "}\n", 4, "", "closes nothing"},
    {HEAD "workers = 2\nworkers = 3\n" TAIL, 4, "workers", "was set before, in line 3"},
    {HEAD TAIL "listen { https = {\"127.0.0.1:8443\"} }\n", 4, "listen",
     "opened before, in line 3"},
    {HEAD "workers = many\n" TAIL, 3, "workers", "number from 1 to 64"},
    {HEAD "workers = 0\n" TAIL, 3, "workers", "number from 1 to 64"},
    {HEAD "workers =\n" TAIL, 3, "workers", "a value is expected after"},
    {HEAD TAIL "workers =", 4, "workers", "the file ends where a value"},
    {HEAD "workers 2\n" TAIL, 3, "workers", "\"=\" is expected before \"2\""},
    {HEAD "workers = {1, 2}\n" TAIL, 3, "workers", "one value, not a list"},
    {HEAD "workers { }\n" TAIL, 3, "workers", "not a section"},
    {HEAD "sandbox = requir\n" TAIL, 3, "sandbox", "did you mean \"require\"?"},
    {HEAD "sandbox = off\n" TAIL, 3, "sandbox", "is not one of require, best-effort"},
    {HEAD "log { level = warning }\n" TAIL, 3, "level", "did you mean \"warn\"?"},
    {HEAD "log { format = xml }\n" TAIL, 3, "format", "is not one of text, json, journal"},
    {HEAD "database = \"postgres://x\"\n" TAIL, 3, "database", "sqlite:/ABSOLUTE/PATH"},
    {HEAD "user = \"a b\"\n" TAIL, 3, "user", "not a user name"},
    {HEAD "listen { smtp = {\"127.0.0.1\"} }\n", 3, "smtp", "lacks a port"},
    {HEAD "listen { smtp = {\"127.0.0.1:70000\"} }\n", 3, "smtp", "lacks a port"},
    {HEAD "listen { smtp = {\"::1:25\"} }\n", 3, "smtp", "is not an address"},
    {HEAD "listen { smtp = {\"[127.0.0.1]:25\"} }\n", 3, "smtp", "is not an address"},
    {HEAD "listen { smtp = {\"localhost:25\"} }\n", 3, "smtp", "is not an address"},
    {HEAD "listen { smtp = \"127.0.0.1:25\" }\n", 3, "smtp", "takes a list"},
    {HEAD "listen {\n smtp = {\"*:25\"}\n internal = {\"0.0.0.0:25\"}\n}\n", 5, "internal",
     "in use by smtp in line 4"},
    {HEAD "user = \"unclosed\n" TAIL, 3, "user", "not closed"},
    {HEAD "user ; x\n" TAIL, 3, "user", "unexpected character"},
    {HEAD "x\x01 = 1\n" TAIL, 3, "", "control character"},
    {"hostname = \"-bad.example\"\ndata_dir = \"/x\"\n" TAIL, 1, "hostname", "not a host name"},
    {"hostname = \"192.0.2.1\"\ndata_dir = \"/x\"\n" TAIL, 1, "hostname", "not a host name"},
    {"hostname = a.b\ndata_dir = \"var/lib\"\n" TAIL, 2, "data_dir", "absolute path"},
    {"hostname = a.b\ndata_dir = \"/\"\n" TAIL, 2, "data_dir", "absolute path"},
    {"hostname = a.b\ndata_dir = \"/var/../etc\"\n" TAIL, 2, "data_dir", "\"..\""},
    {"include(\"/etc/passwd\")\n" HEAD TAIL, 1, "include", "unknown key"},
};

static void test_bad(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_files); i++) {
        struct bootstrap b;
        struct errinfo info = {0};
        enum err err = bootstrap_parse(sv_str(bad_files[i].text), "boot.conf", &b, &info);
        if (err != ERR_SYNTAX || info.line != bad_files[i].line ||
            strcmp(info.key, bad_files[i].key) != 0 || !strstr(info.text, bad_files[i].says) ||
            strcmp(info.file, "boot.conf") != 0) {
            print_error("case %zu: %s, line %u, key %s: %s\n    expected line %u, key %s: %s\n", i,
                        err_name(err), info.line, info.key, info.text, bad_files[i].line,
                        bad_files[i].key, bad_files[i].says);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

static void test_explain(void **state)
{
    struct errinfo info = {.line = 7, .file = "a.conf", .key = "user", .text = "is wrong"};
    char text[128];

    (void)state;
    bootstrap_explain(&info, text, sizeof(text));
    assert_string_equal(text, "a.conf:7: user: is wrong");
    info = (struct errinfo){.file = "b.conf", .text = "is wrong"};
    bootstrap_explain(&info, text, sizeof(text));
    assert_string_equal(text, "b.conf: is wrong");
}

static void test_no_file(void **state)
{
    struct bootstrap b;
    struct errinfo info = {0};

    (void)state;
    assert_int_equal(bootstrap_load("/nonexistent/x.conf", &b, &info), ERR_IO);
    assert_string_equal(info.file, "/nonexistent/x.conf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_full), cmocka_unit_test(test_defaults),
                                       cmocka_unit_test(test_bad), cmocka_unit_test(test_explain),
                                       cmocka_unit_test(test_no_file)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
