/* Tests of the content role: jobs, their children under limits, and all of it inside the cage. */
#include "content/charset.h"
#include "crypto/cert.h"
#include "net/ipc.h"
#include "net/sandbox.h"
#include "role/content_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct settings settings = {.content_max_depth = 50,
                                         .content_max_parts = 5000,
                                         .content_max_text_kb = 65536,
                                         .content_scan_timeout_s = 60};
static struct scanner *sc;
static struct arena arena;
static struct buf body;

#define MAIL                                                                                       \
    "From: a@example.com\r\nSubject: hello\r\n\r\npay with card 4111 1111 1111 1111, "             \
    "ssn 123-45-6789\r\n"

static int set_up(void **state)
{
    (void)state;
    struct errinfo info;
    arena_init(&arena, CONTENT_ARENA_MAX);
    buf_init(&body, CONTENT_FRAME_MAX);
    return scan_new(&sc, &info) || scan_use(sc, &settings, &info);
}
static int tear_down(void **state)
{
    (void)state;
    scan_free(sc);
    arena_done(&arena);
    buf_done(&body);
    return 0;
}

static struct job scan_job(struct sv mail, char digest[32])
{
    sha256_once(mail, (uint8_t *)digest);
    return (struct job){.job = 7,
                        .kind = JOB_SCAN,
                        .env = {.size = mail.n, .sha256 = sv_of(digest, 32)},
                        .body = mail};
}

static void assert_found(const struct job_done *d)
{
    assert_int_equal(d->job, 7);
    assert_int_equal(d->facts.scan, SCAN_OK);
    assert_int_equal(d->facts.n_totals, 2);
    assert_true(sv_eq(d->facts.totals[0].classifier, SV("CREDIT_CARD")));
    assert_int_equal(d->facts.totals[0].unique, 1);
    assert_true(sv_eq(d->facts.subject, SV("hello")));
}

static void test_warm(void **state)
{
    (void)state;
    char digest[32];
    struct job job = scan_job(SV(MAIL), digest);
    struct job_done done;
    assert_true(content_is_warm(&job, -1));
    assert_false(content_is_warm(&job, 1));
    content_job(sc, &job, -1, &arena, &body, &done);
    assert_found(&done);
}

static const struct content_limits roomy = {.deadline_ms = 20000, .memory = 0};

static void test_fork(void **state)
{
    (void)state;
    char digest[32];
    struct job job = scan_job(SV(MAIL), digest);
    struct job_done done;
    content_fork(sc, &job, -1, &roomy, &arena, &done);
    assert_found(&done);
}

static void test_file(void **state)
{
    (void)state;
    char digest[32], text[] = MAIL;
    static const char key[33] = "0123456789abcdef0123456789abcdef";
    struct job job = scan_job(SV(MAIL), digest);
    struct job_done done;
    int fd = -1;
    body_crypt((const uint8_t *)key, 0, 0, text, sizeof text - 1);
    assert_int_equal(memfd_of(sv_of(text, sizeof text - 1), &fd), ERR_OK);
    job.body = SV("");
    job.body_key = sv_of(key, 32);
    content_fork(sc, &job, fd, &roomy, &arena, &done);
    assert_found(&done);
    job.env.size += 1; /* longer than the file */
    content_fork(sc, &job, fd, &roomy, &arena, &done);
    assert_int_equal(done.facts.scan, SCAN_FAILED);
    (void)close(fd);
}

static void test_wrong_hash(void **state)
{
    (void)state;
    char digest[32];
    struct job job = scan_job(SV(MAIL), digest);
    struct job_done done;
    digest[5] = (char)(digest[5] ^ 1);
    content_job(sc, &job, -1, &arena, &body, &done);
    assert_int_equal(done.facts.scan, SCAN_FAILED);
    assert_true(sv_eq(done.facts.scan_error, SV("body does not match its hash")));
    assert_int_equal(done.facts.n_totals, 0);
}

static void test_deadline(void **state)
{
    (void)state;
    char digest[32];
    struct job job = scan_job(SV(MAIL), digest);
    struct job_done done;
    struct content_limits none = {.deadline_ms = 0, .memory = 0};
    content_fork(sc, &job, -1, &none, &arena, &done);
    assert_int_equal(done.facts.scan, SCAN_TIMEOUT);
}

/* The child has no room for what it needs: whatever happens to it, the message is not clean. */
static void test_no_memory(void **state)
{
    (void)state;
    char digest[32];
    struct buf big;
    struct job_done done;
    struct content_limits tight = {.deadline_ms = 20000, .memory = 1 << 20};
    buf_init(&big, 32 << 20);
    for (int i = 0; i < 400000; i++)
        (void)buf_append(&big, "Content-Type: multipart/mixed; ", 31);
    struct job job = scan_job(buf_sv(&big), digest);
    content_fork(sc, &job, -1, &tight, &arena, &done);
    assert_int_not_equal(done.facts.scan, SCAN_OK);
    buf_done(&big);
}

static struct dsn_rcpt failed_rcpt = {.rcpt = {.addr = SV("to@example.org")},
                                      .action = 0,
                                      .status = SV("5.7.10"),
                                      .human = SV("TLS was required"),
                                      .diagnostic = SV("smtp; 550 5.7.10 no")};

static struct job dsn_job(void)
{
    return (struct job){.job = 9,
                        .kind = JOB_DSN,
                        .env = {.sender = SV("from@example.com"), .size = strlen(MAIL)},
                        .reporting_mta = SV("gw.example"),
                        .from = SV("mailer-daemon@gw.example"),
                        .dsn_rcpts = &failed_rcpt,
                        .n_dsn_rcpts = 1,
                        .body = SV(MAIL)};
}

static void test_dsn(void **state)
{
    (void)state;
    struct job job = dsn_job();
    struct job_done done;
    content_job(sc, &job, -1, &arena, &body, &done);
    assert_int_equal(done.error.n, 0);
    assert_true(sv_find(done.body, SV("multipart/report")) != SIZE_MAX);
    assert_true(sv_find(done.body, SV("pay with card")) != SIZE_MAX);
    job.env.ret = RET_HDRS;
    content_job(sc, &job, -1, &arena, &body, &done);
    assert_true(sv_find(done.body, SV("pay with card")) == SIZE_MAX);
    assert_true(sv_find(done.body, SV("Subject: hello")) != SIZE_MAX);
    job.env.ret = RET_NONE;
    job.sealed = true;
    content_job(sc, &job, -1, &arena, &body, &done);
    assert_true(done.body.n > 0);
    assert_true(sv_find(done.body, SV("pay with card")) == SIZE_MAX);
    assert_true(sv_find(done.body, SV("Subject: hello")) == SIZE_MAX);
    content_fork(sc, &job, -1, &roomy, &arena, &done);
    assert_true(done.body.n > 0);
    job.env.sender = SV("");
    content_job(sc, &job, -1, &arena, &body, &done);
    assert_true(done.error.n > 0); /* never bounce a bounce */
}

/* What would not fit a report returns its headers only. */
static void test_dsn_of_large_mail(void **state)
{
    (void)state;
    struct job job = dsn_job();
    struct job_done done;
    size_t n = 100 * 1000;
    char *mail = malloc(n);
    assert_non_null(mail);
    memset(mail, 'y', n);
    memcpy(mail, "Subject: big\r\n\r\n", 16);
    for (size_t i = 80; i + 1 < n; i += 80)
        memcpy(mail + i, "\r\n", 2);
    job.body = sv_of(mail, n);
    job.env.size = n;
    content_job(sc, &job, -1, &arena, &body, &done);
    assert_int_equal(done.error.n, 0);
    assert_true(done.body.n > 0 && done.body.n < CONTENT_DSN_MAX);
    assert_true(sv_find(done.body, SV("Subject: big")) != SIZE_MAX);
    assert_true(sv_find(done.body, SV("yyyy")) == SIZE_MAX);
    free(mail);
}

static void test_notice(void **state)
{
    (void)state;
    struct job job = {.job = 9,
                      .kind = JOB_NOTICE,
                      .from = SV("gw@example\r\nBcc: x"),
                      .notice = SV("first\nsecond\r\nthird")};
    struct job_done done;
    content_job(sc, &job, -1, &arena, &body, &done);
    assert_int_equal(done.error.n, 0);
    assert_true(sv_find(done.body, SV("\r\n\r\nfirst\r\nsecond\r\nthird\r\n")) != SIZE_MAX);
    assert_true(sv_find(done.body, SV("\r\nBcc:")) == SIZE_MAX);
    job.kind = 99;
    content_job(sc, &job, -1, &arena, &body, &done);
    assert_true(done.error.n > 0);
}

/* ---- inside the cage ---- */

static int scan_with_charset(const char *name)
{
    struct facts f;
    struct sv mail = arena_printf(&arena,
                                  "Content-Type: text/plain; charset=%s\r\n\r\n4111 1111 1111 "
                                  "1111 \x81\x40\xe9\r\n",
                                  name);
    scan_message(sc, mail, &arena, &f);
    return f.scan == SCAN_OK && f.n_totals == 1 ? 0 : 1;
}

static int caged(void)
{
    struct sandbox_result r;
    struct errinfo info;
    char digest[32];
    struct job_done done;
    if (sandbox_enter(ROLE_CONTENT, NULL, 0, false, &r, &info))
        return 10;
    for (const char *const *name = scan_charsets(); *name; name++) {
        if (scan_with_charset(*name))
            return 11;
    }
    struct job job = scan_job(SV(MAIL), digest);
    content_fork(sc, &job, -1, &roomy, &arena, &done);
    if (done.facts.scan != SCAN_OK || done.facts.n_totals != 2)
        return 12;
    struct content_limits none = {.deadline_ms = 0, .memory = 0};
    content_fork(sc, &job, -1, &none, &arena, &done);
    if (done.facts.scan != SCAN_TIMEOUT)
        return 13;
    job = dsn_job();
    content_job(sc, &job, -1, &arena, &body, &done);
    return done.error.n ? 14 : 0;
}

static void test_caged(void **state)
{
    (void)state;
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(caged());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_warm),     cmocka_unit_test(test_fork),
        cmocka_unit_test(test_file),     cmocka_unit_test(test_wrong_hash),
        cmocka_unit_test(test_deadline), cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_dsn),      cmocka_unit_test(test_notice),
        cmocka_unit_test(test_caged),    cmocka_unit_test(test_dsn_of_large_mail),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
