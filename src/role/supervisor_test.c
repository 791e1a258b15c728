/*
 * The real supervisor with roles of straw: it runs /proc/self/exe, which is this program, so that
 * the children here use the real start-up (role.h) and report on stderr what they were given.
 */
#include "role/role.h"
#include "role/supervisor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a role of straw ---- */

static void say(const struct role_ctx *r, const char *what, struct sv name, unsigned index)
{
    (void)dprintf(2, "<%s%u %s %.*s%u>\n", role_name(r->role), r->hello.index, what, SV_ARG(name),
                  index);
}

static void straw_bytes(void *ctx, struct sv name, struct sv data)
{
    (void)data;
    say(ctx, "bytes", name, 0);
}
static void straw_listener(void *ctx, struct sv kind, struct sv address, int fd)
{
    int on = 0;
    socklen_t n = sizeof(on);

    (void)address;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &n) == 0 && on)
        say(ctx, "listens", kind, 0);
    (void)close(fd);
}
static void straw_channel(void *ctx, enum role peer, uint8_t index, int fd)
{
    say(ctx, "channel", sv_str(role_name(peer)), index);
    (void)close(fd);
}

/* Does DATA/NAME exist? It does so only once: a trigger. */
static bool trigger(const struct role_ctx *r, const char *name)
{
    char path[400];

    (void)snprintf(path, sizeof(path), "%.*s/%s", SV_ARG(r->hello.data_dir), name);
    return unlink(path) == 0;
}

static int straw_run(const char *name)
{
    static struct role_ctx r;
    const struct role_events events = {&r, straw_bytes, straw_listener, straw_channel, NULL};
    const struct kill kill_content = {.role = ROLE_CONTENT, .index = 1, .why = SV("test")};
    const struct kill kill_store = {.role = ROLE_STORE, .index = 0, .why = SV("test")};
    struct errinfo info = {0};
    char own[64];

    if (role_start(&r, name, &info) != ERR_OK || role_begin(&r, &events) != ERR_OK)
        return 1;
    (void)snprintf(own, sizeof(own), "misconfigured-%s", name);
    if (trigger(&r, own))
        return 78;
    (void)snprintf(own, sizeof(own), "garbage-%s", name);
    bool garbage = trigger(&r, own);
    (void)snprintf(own, sizeof(own), "kill-by-%s", name);
    bool kills = trigger(&r, own);
    if (role_lock(&r, NULL, 0) != ERR_OK)
        return 78;
    (void)dprintf(2, "<%s%u pid %d>\n", name, r.hello.index, getpid());
    if (garbage && write(ROLE_CONTROL_FD, "\xff\xff", 2) != 2)
        return 1;
    /* not ipc_send, which would refuse what the role may not say */
    if (kills && (ipc_send_fd(ROLE_CONTROL_FD, MSG_KILL, &kill_store, -1) != ERR_OK ||
                  ipc_send_fd(ROLE_CONTROL_FD, MSG_KILL, &kill_content, -1) != ERR_OK))
        return 1;
    return role_loop(&r);
}

/* ---- the test's side ---- */

struct fixture {
    char dir[64], config[96], data[96];
    uint16_t port;
    pid_t pid;
    int out;
    char text[256 * 1024];
    size_t n;
};

static uint16_t free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    (void)close(fd);
    return ntohs(a.sin_port);
}

static void put_file(const char *dir, const char *name, const char *text)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char text[512];

    assert_non_null(f);
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/postseal-sup-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->data, sizeof(f->data), "%s/data", f->dir);
    (void)snprintf(f->config, sizeof(f->config), "%s/p.conf", f->dir);
    assert_int_equal(mkdir(f->data, 0755), 0);
    f->port = free_port();
    (void)snprintf(text, sizeof(text),
                   "hostname = gw.example\ndata_dir = \"%s\"\nuser = root\nworkers = 2\n"
                   "listen { smtp = {\"127.0.0.1:%u\"} https = {\"[::1]:%u\"} }\n",
                   f->data, f->port, free_port());
    put_file(f->dir, "p.conf", text);
    f->out = -1;
    *state = f;
    return 0;
}

static pid_t start(const struct fixture *f, int *out_fd)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid < 0)
        fail_msg("no fork");
    if (pid == 0) {
        (void)dup2(fds[1], 2);
        _exit(supervisor_run(f->config));
    }
    (void)close(fds[1]);
    *out_fd = fds[0];
    return pid;
}

static int finish(pid_t pid)
{
    int status = 0;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void read_more(struct fixture *f, const char *wanted)
{
    struct pollfd p = {.fd = f->out, .events = POLLIN};

    if (poll(&p, 1, 15000) <= 0)
        fail_msg("no \"%s\" in time; so far:\n%s", wanted, f->text);
    ssize_t n = read(f->out, f->text + f->n, sizeof(f->text) - f->n - 1);
    if (n <= 0)
        fail_msg("ended without \"%s\":\n%s", wanted, f->text);
    f->n += (size_t)n;
    f->text[f->n] = '\0';
}

/* Waits until the line has come `times` times in all. */
static void expect(struct fixture *f, const char *line, int times)
{
    for (;;) {
        int n = 0;
        for (const char *p = f->text; (p = strstr(p, line)) != NULL; p++)
            n++;
        if (n >= times)
            return;
        read_more(f, line);
    }
}

static pid_t parent_of(pid_t pid)
{
    char path[64], text[2048] = "";

    (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0) {
        const char *p = strstr(text, "\nPPid:");
        (void)close(fd);
        return p ? (pid_t)strtol(p + 6, NULL, 10) : 0;
    }
    return 0;
}

/* Latest pid that a child reported. It is going to be signalled, so it must be a whole number and a
 * child of our supervisor: 0 and -1 would mean whole groups, a wrong number somebody else. */
static pid_t pid_of(struct fixture *f, const char *child)
{
    char mark[32];
    pid_t pid = 0;

    (void)snprintf(mark, sizeof(mark), "<%s pid ", child);
    expect(f, mark, 1);
    for (const char *p = f->text; (p = strstr(p, mark)) != NULL; p++) {
        char *end = NULL;
        long n = strtol(p + strlen(mark), &end, 10);
        if (*end == '>' && n > 1)
            pid = (pid_t)n;
    }
    if (pid <= 1 || parent_of(pid) != f->pid)
        fail_msg("no living %s, pid %d", child, pid);
    return pid;
}

static int teardown(void **state)
{
    static const char *const made[] = {"data/run/postseald.pid",
                                       "data/run/queue.sock",
                                       "data/run/store.sock",
                                       "data/run",
                                       "data/spool",
                                       "data/events",
                                       "data/settings",
                                       "data/secrets",
                                       "data/db",
                                       "data/ca",
                                       "data/keys/master.key",
                                       "data/keys/default-ec.key",
                                       "data/keys/default-ec.crt",
                                       "data/keys/default-rsa.key",
                                       "data/keys/default-rsa.crt",
                                       "data/keys",
                                       "data",
                                       "p.conf"};
    struct fixture *f = *state;
    char path[256];

    if (f->pid > 0) {
        (void)kill(f->pid, SIGKILL);
        (void)waitpid(f->pid, NULL, 0);
    }
    if (f->out >= 0)
        (void)close(f->out);
    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", f->dir, made[i]);
        if (unlink(path) != 0)
            (void)rmdir(path);
    }
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

static void stop(struct fixture *f, int status)
{
    (void)kill(f->pid, SIGTERM);
    assert_int_equal(finish(f->pid), status);
    f->pid = 0;
}

static const char *const first_start[] = {
    "<smtp0 bytes ca-bundle0>",
    "<smtp1 bytes resolv.conf0>",
    "<smtp0 bytes end0>",
    "<smtp0 listens smtp0>",
    "<smtp1 listens smtp0>",
    "<web0 listens https0>",
    "<queue0 listens ctl0>",
    "<store0 listens ctl0>",
    "<keys0 bytes master0>",
    "<keys0 bytes key/default-ec0>",
    "<keys0 bytes cert/default-rsa0>",
    "<queue0 channel smtp0>",
    "<queue0 channel smtp1>",
    "<queue0 channel content1>",
    "<queue0 channel store0>",
    "<queue0 channel keys0>",
    "<queue0 channel lookup0>",
    "<queue0 channel web0>",
    "<smtp1 channel queue0>",
    "<smtp1 channel keys0>",
    "<smtp1 channel lookup0>",
    "<web0 channel keys0>",
    "<web0 channel queue0>",
    "<web0 channel store0>",
    "<web0 channel lookup0>",
    "<content0 channel queue0>",
    "<store0 channel queue0>",
    "postseald " POSTSEAL_VERSION " is ready: 9 processes",
};
/* No role is told what is not its own. */
static const char *const never[] = {
    "<smtp0 bytes key",       "<smtp0 bytes master",  "<queue0 bytes key",  "<content0 listens",
    "<content0 channel keys", "<smtp0 channel store", "<smtp0 channel smtp"};

static void test_life(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    int again_fd = -1;

    f->pid = start(f, &f->out);
    for (size_t i = 0; i < ARRAY_LEN(first_start); i++)
        expect(f, first_start[i], 1);
    for (size_t i = 0; i < ARRAY_LEN(never); i++)
        assert_null(strstr(f->text, never[i]));
    assert_int_equal(stat(f->data, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700); /* tightened */

    /* a second one on the same data directory */
    assert_int_equal(finish(start(f, &again_fd)), 75);
    (void)close(again_fd);

    /* death of a worker: new channels at both ends */
    pid_t old = pid_of(f, "smtp1");
    assert_int_equal(kill(old, SIGKILL), 0);
    expect(f, "<smtp1 pid ", 2);
    assert_int_not_equal(pid_of(f, "smtp1"), old);
    expect(f, "<smtp1 channel queue0>", 2);
    expect(f, "<smtp1 listens smtp0>", 2);
    expect(f, "<queue0 channel smtp1>", 2);
    expect(f, "<keys0 channel smtp1>", 2);

    /* death of the hub */
    assert_int_equal(kill(pid_of(f, "queue0"), SIGKILL), 0);
    expect(f, "<queue0 pid ", 2);
    expect(f, "<queue0 listens ctl0>", 2);
    expect(f, "<web0 channel queue0>", 2);

    assert_int_equal(kill(f->pid, SIGHUP), 0);
    expect(f, "<smtp0 bytes ca-bundle0>", 2);
    expect(f, "<keys0 bytes master0>", 2);

    pid_t some = pid_of(f, "content0");
    stop(f, 0);
    assert_int_equal(kill(some, 0), -1);
    assert_int_equal(errno, ESRCH);
}

static void test_misconfigured_child(void **state)
{
    struct fixture *f = *state;

    put_file(f->data, "misconfigured-store", "");
    f->pid = start(f, &f->out);
    assert_int_equal(finish(f->pid), 78);
    f->pid = 0;
}

static void test_garbage_and_kill(void **state)
{
    struct fixture *f = *state;

    put_file(f->data, "garbage-lookup", "");
    put_file(f->data, "kill-by-queue", "");
    put_file(f->data, "kill-by-web", ""); /* web may not: that is garbage too */
    f->pid = start(f, &f->out);
    expect(f, "<lookup0 pid ", 2);
    expect(f, "killed: garbage from peer", 1);
    expect(f, "killed for queue: test", 1);
    expect(f, "died after", 3);
    expect(f, "<content1 pid ", 1); /* it may have been killed before it could say so once */
    expect(f, "<web0 pid ", 2);
    expect(f, "web may not send KILL", 1);
    assert_null(strstr(f->text, "store[")); /* queue may have workers killed, not the store */
    stop(f, 0);
}

static void test_children_die_with_it(void **state)
{
    struct fixture *f = *state;

    f->pid = start(f, &f->out);
    expect(f, "is ready: 9 processes", 1);
    assert_int_equal(kill(f->pid, SIGKILL), 0);
    assert_int_equal(finish(f->pid), -SIGKILL);
    f->pid = 0;
    /* the pipe ends when the last child has gone */
    for (;;) {
        struct pollfd p = {.fd = f->out, .events = POLLIN};
        assert_true(poll(&p, 1, 10000) > 0);
        if (read(f->out, f->text, sizeof(f->text)) == 0)
            break;
    }
}

static void test_port_in_use(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(f->port)};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 1), 0);
    f->pid = start(f, &f->out);
    assert_int_equal(finish(f->pid), 78);
    f->pid = 0;
    expect(f, ":5: smtp: cannot listen on 127.0.0.1:", 1);
    (void)close(fd);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {CASE(test_life), CASE(test_misconfigured_child),
                                       CASE(test_garbage_and_kill), CASE(test_children_die_with_it),
                                       CASE(test_port_in_use)};

    if (argc > 2 && strcmp(argv[1], "--role") == 0)
        return straw_run(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
