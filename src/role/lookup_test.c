/* The `lookup` process from outside: the test plays the supervisor and an smtp worker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "base/clock.h"
#include "role/role.h"

#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 10000

struct bench {
    pid_t pid;
    int control, smtp;
    struct arena mem;
    union message_body msg;
    char hash[crypto_pwhash_STRBYTES];
};

static void give(int sock, enum message m, const void *body, int fd)
{
    assert_int_equal(ipc_send_fd(sock, m, body, fd), ERR_OK);
}

static void smtp_channel(struct bench *b)
{
    struct channel c = {ROLE_SMTP, 0};
    int pair[2];

    assert_int_equal(ipc_pair(pair), ERR_OK);
    give(b->control, MSG_CHANNEL, &c, pair[1]);
    b->smtp = pair[0];
}

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof(*b));
    struct hello h = {.role = ROLE_LOOKUP, .hostname = SV("gateway.test"), .log_level = LOG_ERROR};
    struct bytes end = {SV(ROLE_BYTES_END), SV("")};
    enum message m = MSG_NONE;
    int pair[2], fd = -1;

    (void)signal(SIGPIPE, SIG_IGN);
    assert_true(sodium_init() >= 0);
    assert_int_equal(crypto_pwhash_str(b->hash, "sesame", 6, crypto_pwhash_OPSLIMIT_MIN,
                                       crypto_pwhash_MEMLIMIT_MIN),
                     0);
    arena_init(&b->mem, 1024 * 1024);
    assert_int_equal(ipc_pair(pair), ERR_OK);
    (void)fflush(NULL);
    b->pid = fork();
    if (b->pid == 0) {
        struct role_ctx r;
        struct errinfo info = {0};
        if (dup2(pair[1], ROLE_CONTROL_FD) < 0)
            _exit(70);
        for (fd = ROLE_CONTROL_FD + 1; fd < 64; fd++)
            (void)close(fd);
        _exit(role_start(&r, "lookup", &info) ? 70 : lookup_run(&r));
    }
    (void)close(pair[1]);
    b->control = pair[0];
    give(b->control, MSG_HELLO, &h, -1);
    smtp_channel(b);
    give(b->control, MSG_BYTES, &end, -1);
    assert_int_equal(
        ipc_recv_fd(b->control, ROLE_SUPERVISOR, ROLE_LOOKUP, WAIT_MS, &b->mem, &m, &b->msg, &fd),
        ERR_OK);
    assert_int_equal(m, MSG_READY);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    int status = -1;

    (void)kill(b->pid, SIGTERM);
    assert_int_equal(waitpid(b->pid, &status, 0), b->pid);
    (void)close(b->control);
    (void)close(b->smtp);
    arena_done(&b->mem);
    free(b);
    assert_int_equal(status, 0);
    return 0;
}

static enum answer ask(struct bench *b, uint8_t kind, struct sv password, struct sv hash)
{
    static uint64_t tag;
    struct ask q = {.tag = ++tag, .kind = kind, .a = SV("joe"), .b = password, .c = hash};
    enum message m = MSG_NONE;
    int fd = -1;

    give(b->smtp, MSG_ASK, &q, -1);
    arena_reset(&b->mem);
    assert_int_equal(
        ipc_recv_fd(b->smtp, ROLE_SMTP, ROLE_LOOKUP, WAIT_MS, &b->mem, &m, &b->msg, &fd), ERR_OK);
    assert_int_equal(m, MSG_ANSWER);
    assert_int_equal(b->msg.ANSWER.tag, q.tag);
    return (enum answer)b->msg.ANSWER.answer;
}

static void only_the_password_opens(void **state)
{
    static const struct sv wrong[] = {SV(""),      SV("Sesame"),    SV("sesame "),
                                      SV("sesam"), SV("sesame\0x"), SV("\xff\xfe")};
    struct bench *b = *state;

    assert_int_equal(ask(b, ASK_PASSWORD, SV("sesame"), sv_str(b->hash)), ANSWER_YES);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(ask(b, ASK_PASSWORD, wrong[i], sv_str(b->hash)), ANSWER_NO);
    char *huge = calloc(1, 600);
    memset(huge, 'x', 600);
    assert_int_equal(ask(b, ASK_PASSWORD, sv_of(huge, 600), sv_str(b->hash)), ANSWER_NO);
    free(huge);
    assert_int_equal(ask(b, 77, SV("sesame"), sv_str(b->hash)), ANSWER_UNKNOWN);
}

static void hashes_that_are_none_or_cost_too_much(void **state)
{
#define TAIL "$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
    static const struct sv hashes[] = {
        SV(""),
        SV("x"),
        SV("$$$$$$$"),
        SV("$argon2id$v=19$m=,t=1,p=1" TAIL),
        SV("$argon2id$v=19$m=8,t=1,p=1"),
        SV("$argon2id$v=19$m=4194304,t=1,p=1" TAIL),    /* 4 GiB */
        SV("$argon2id$v=19$m=262145,t=1,p=1" TAIL),     /* just over */
        SV("$argon2id$v=19$m=65536,t=100000,p=1" TAIL), /* hours */
        SV("$argon2id$v=19$m=18446744073709551617,t=1,p=1" TAIL),
        SV("$argon2i$v=19$m=65536,t=9999,p=1" TAIL),
        SV("$6$salt$hash"),
    };
    struct bench *b = *state;
    int64_t before = clock_now().mono_ms;

    for (size_t i = 0; i < ARRAY_LEN(hashes); i++)
        assert_int_equal(ask(b, ASK_PASSWORD, SV("sesame"), hashes[i]), ANSWER_NO);
    assert_true(clock_now().mono_ms - before < 5000);
    assert_int_equal(ask(b, ASK_PASSWORD, SV("sesame"), sv_str(b->hash)), ANSWER_YES);
}

static void garbage_closes_the_channel_only(void **state)
{
    struct bench *b = *state;

    assert_int_equal(write(b->smtp, "\x01\x02garbage", 9), 9);
    (void)close(b->smtp);
    smtp_channel(b);
    assert_int_equal(ask(b, ASK_PASSWORD, SV("sesame"), sv_str(b->hash)), ANSWER_YES);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(only_the_password_opens),
        T(hashes_that_are_none_or_cost_too_much),
        T(garbage_closes_the_channel_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
