/*
 * The cage, from inside: for every role a child enters it and tries something; the table says
 * whether that works, is refused with an errno, or kills the child (SIGSYS).
 */
#include "net/ipc.h"
#include "net/loop.h"
#include "net/resolver.h"
#include "net/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* What a child may touch: made before it enters. */
struct world {
    char dir[64];     /* only parent of the others */
    char inside[80];  /* granted, writable for roles that write */
    char outside[80]; /* not granted */
    int listener;     /* TCP on loopback */
    uint16_t port;
    int file;          /* open for writing */
    struct loop *loop; /* made before the cage, as roles do */
    struct resolver *resolver;
};

typedef int action_fn(const struct world *w); /* 0 or -errno */

static int result(long rc)
{
    return rc < 0 ? -errno : 0;
}

static int open_at(const char *dir, const char *name, int flags)
{
    char path[160];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return result(open(path, flags | O_CLOEXEC, 0600));
}

static int do_passwd(const struct world *w)
{
    (void)w;
    return open_at("/etc", "passwd", O_RDONLY);
}
static int do_read_inside(const struct world *w)
{
    return open_at(w->inside, "file", O_RDONLY);
}
static int do_read_outside(const struct world *w)
{
    return open_at(w->outside, "file", O_RDONLY);
}
static int do_dotdot(const struct world *w)
{
    return open_at(w->inside, "../out/file", O_RDONLY);
}
static int do_symlink(const struct world *w)
{
    return open_at(w->inside, "link", O_RDONLY); /* leads outside */
}
static int do_create_inside(const struct world *w)
{
    return open_at(w->inside, "new", O_RDWR | O_CREAT);
}
static int do_create_outside(const struct world *w)
{
    return open_at(w->outside, "new", O_RDWR | O_CREAT);
}
static int do_rename_inside(const struct world *w)
{
    char a[128], b[128];

    (void)snprintf(a, sizeof(a), "%s/sub/moved", w->inside);
    (void)snprintf(b, sizeof(b), "%s/moved", w->inside);
    int rc = result(rename(a, b));
    return rc ? rc : result(rename(b, a));
}
static int do_unlink_outside(const struct world *w)
{
    char a[128];

    (void)snprintf(a, sizeof(a), "%s/file", w->outside);
    return result(unlink(a));
}
static int do_inet(const struct world *w)
{
    (void)w;
    return result(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
}
static int do_unix(const struct world *w)
{
    (void)w;
    return result(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}
static int do_netlink(const struct world *w)
{
    (void)w;
    return result(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0));
}
static int do_connect(const struct world *w)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(w->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return fd < 0 ? -errno : result(connect(fd, (struct sockaddr *)&a, sizeof(a)));
}
static int do_accept(const struct world *w)
{
    int rc = result(accept4(w->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));

    return rc == -EAGAIN ? 0 : rc;
}
static int do_exec(const struct world *w)
{
    char *argv[] = {(char[]){"true"}, NULL};

    (void)w;
    return result(execve("/bin/true", argv, NULL));
}
static int do_ptrace(const struct world *w)
{
    (void)w;
    return result(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}
static int do_unshare(const struct world *w)
{
    (void)w;
    return result(unshare(CLONE_NEWUSER));
}
static int do_map_code(const struct world *w)
{
    (void)w;
    void *p =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? -errno : 0;
}
static int do_make_code(const struct world *w)
{
    (void)w;
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? -errno : result(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}
static int do_uring(const struct world *w)
{
    (void)w;
    return result(syscall(SYS_io_uring_setup, 4, NULL));
}
static int do_kill_parent(const struct world *w)
{
    (void)w;
    return result(kill(getppid(), SIGCONT));
}
static int do_raise_limit(const struct world *w)
{
    struct rlimit core = {0, 0};

    (void)w;
    return result(setrlimit(RLIMIT_CORE, &core));
}
static int do_fork(const struct world *w)
{
    pid_t pid = fork();
    int status = 0;

    (void)w;
    if (pid == 0)
        for (;;)
            (void)poll(NULL, 0, -1);
    if (pid < 0)
        return -errno;
    if (kill(pid, SIGKILL) != 0 || waitpid(pid, &status, 0) != pid)
        return -errno;
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 0 : -EPROTO;
}
static void *nothing(void *arg)
{
    return arg;
}
static int do_thread(const struct world *w)
{
    pthread_t t;

    (void)w;
    int rc = pthread_create(&t, NULL, nothing, NULL);
    return rc ? -rc : -pthread_join(t, NULL);
}
static void synced(void *arg, int rc)
{
    *(int *)arg = rc;
}
/* libuv's pool starts inside the cage. */
static int do_pool(const struct world *w)
{
    int rc = 1;

    int begun = loop_fdatasync(w->loop, w->file, synced, &rc);
    if (begun != 0)
        return begun;
    loop_run(w->loop);
    return rc;
}
static void resolved(void *ctx, enum dns_result result, const struct dns_addr *addrs, size_t n)
{
    const struct world *w = ctx;

    (void)addrs;
    (void)n;
    if (result == DNS_TEMP)
        loop_stop(w->loop);
}
/* Nobody answers there, but c-ares has to make its sockets and give up in peace. */
static int do_resolve(const struct world *w)
{
    resolver_mx(w->resolver, SV("x.example"), resolved, (void *)(uintptr_t)w);
    loop_run(w->loop);
    return 0;
}
static int do_fd_io(const struct world *w)
{
    char c = 'x';

    if (pwrite(w->file, &c, 1, 5) != 1 || pread(w->file, &c, 1, 5) != 1)
        return -errno;
    return result(fsync(w->file));
}
/* What every process needs: memory, time, randomness, threads' locks, a memfd, formatted output. */
static int do_ordinary(const struct world *w)
{
    int fds[2];
    int fd = -1;
    char text[64];
    time_t now = time(NULL);
    struct tm tm;
    char *big = malloc(8u << 20);
    struct stats st = {.text = SV("x")};

    (void)w;
    if (!big)
        return -ENOMEM;
    memset(big, 1, 8u << 20);
    free(big);
    if (!gmtime_r(&now, &tm) || strftime(text, sizeof(text), "%F", &tm) == 0)
        return -EPROTO;
    if (memfd_of(SV("hello"), &fd) != ERR_OK || close(fd) != 0)
        return -errno;
    if (snprintf(text, sizeof(text), "%d %.3f", getpid(), 1.5) < 0 || fflush(stdout) != 0)
        return -EPROTO;
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return -errno;
    return ipc_send_fd(-1, MSG_STATS, &st, -1) == ERR_IO ? 0 : -EPROTO;
}
static int do_abort_is_mine(const struct world *w)
{
    (void)w;
    return result(syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), 0));
}

#define ALL_ROLES                                                                                  \
    (1u << ROLE_SMTP | 1u << ROLE_QUEUE | 1u << ROLE_CONTENT | 1u << ROLE_LOOKUP |                 \
     1u << ROLE_STORE | 1u << ROLE_WEB | 1u << ROLE_KEYS)
#define R1(a)       (1u << ROLE_##a)
#define R2(a, b)    (R1(a) | R1(b))
#define R3(a, b, c) (R2(a, b) | R1(c))

static const struct {
    const char *name;
    action_fn *fn;
    unsigned works; /* roles for which it works */
    unsigned kills; /* roles it kills; all others are refused */
} actions[] = {
    {"ordinary things", do_ordinary, ALL_ROLES, 0},
    {"signal to oneself", do_abort_is_mine, ALL_ROLES, 0},
    {"open /etc/passwd", do_passwd, 0, 0},
    {"read inside", do_read_inside, ALL_ROLES & ~R2(SMTP, KEYS), 0},
    {"read outside", do_read_outside, 0, 0},
    {"read by ..", do_dotdot, 0, 0},
    {"read by symlink", do_symlink, 0, 0},
    {"create inside", do_create_inside, R2(QUEUE, STORE), 0},
    {"create outside", do_create_outside, 0, 0},
    {"rename inside", do_rename_inside, R2(QUEUE, STORE), ALL_ROLES & ~R2(QUEUE, STORE)},
    {"unlink outside", do_unlink_outside, 0, ALL_ROLES & ~R2(QUEUE, STORE)},
    {"internet socket", do_inet, R2(SMTP, LOOKUP), ALL_ROLES & ~R2(SMTP, LOOKUP)},
    {"unix socket", do_unix, R1(LOOKUP), ALL_ROLES & ~R2(SMTP, LOOKUP)},
    {"netlink socket", do_netlink, 0, ALL_ROLES & ~R2(SMTP, LOOKUP)},
    {"connect", do_connect, R2(SMTP, LOOKUP), ALL_ROLES & ~R2(SMTP, LOOKUP)},
    {"DNS look-up", do_resolve, R2(SMTP, LOOKUP), ALL_ROLES & ~R2(SMTP, LOOKUP)},
    {"accept", do_accept, R3(SMTP, QUEUE, STORE) | R1(WEB), R3(CONTENT, LOOKUP, KEYS)},
    {"execve", do_exec, 0, ALL_ROLES},
    {"ptrace", do_ptrace, 0, ALL_ROLES},
    {"unshare", do_unshare, 0, ALL_ROLES},
    {"map code", do_map_code, 0, 0},
    {"make memory code", do_make_code, 0, 0},
    {"io_uring", do_uring, 0, 0},
    {"signal to the parent", do_kill_parent, 0, 0},
    {"set limits", do_raise_limit, R2(CONTENT, KEYS), 0},
    {"fork, kill, wait", do_fork, R2(CONTENT, KEYS), R3(SMTP, STORE, WEB)},
    {"thread", do_thread, R2(QUEUE, LOOKUP), R3(SMTP, STORE, WEB)},
    {"fdatasync in the pool", do_pool, R1(QUEUE), ALL_ROLES & ~R1(QUEUE)},
    {"file I/O on a given fd", do_fd_io, ALL_ROLES & ~R2(LOOKUP, KEYS), R2(LOOKUP, KEYS)},
};

enum { EXIT_WORKS = 10, EXIT_REFUSED, EXIT_OTHER, EXIT_NO_CAGE };

static int child(enum role role, action_fn *fn, const struct world *w)
{
    const bool writes = role == ROLE_QUEUE || role == ROLE_STORE;
    const struct sandbox_path paths[] = {{w->inside, writes}, {"/no/such/path", false}};
    struct sandbox_result r;
    struct errinfo info = {0};

    if (sandbox_enter(role, paths, 2, true, &r, &info) != ERR_OK || !r.landlock || !r.seccomp) {
        (void)fprintf(stderr, "%s: %s (errno %d)\n", role_name(role), info.text, info.sys);
        return EXIT_NO_CAGE;
    }
    int rc = fn(w);
    if (rc == 0)
        return EXIT_WORKS;
    if (rc == -EPERM || rc == -EACCES || rc == -ENOSYS || rc == -EAFNOSUPPORT || rc == -EAGAIN)
        return EXIT_REFUSED;
    return EXIT_OTHER;
}

/* loop_new in the child: libuv's pool does not survive a fork. */
static int run(enum role role, action_fn *fn, struct world *w)
{
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)alarm(20);
        if (loop_new(&w->loop) != ERR_OK ||
            resolver_new(w->loop, SV("127.0.0.1:1"), SV(""), 30, 1, &w->resolver, NULL) != ERR_OK)
            _exit(EXIT_NO_CAGE);
        _exit(child(role, fn, w));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static const char *outcome(int status)
{
    /* libuv aborts when its pool cannot start */
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGSYS || WTERMSIG(status) == SIGABRT ? "killed"
                                                                         : "other signal";
    switch (WEXITSTATUS(status)) {
    case EXIT_WORKS:
        return "works";
    case EXIT_REFUSED:
        return "refused";
    case EXIT_NO_CAGE:
        return "no cage";
    default:
        return "other error";
    }
}

static void test_actions(void **state)
{
    struct world *w = *state;
    int wrong = 0;

    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        for (unsigned role = ROLE_SMTP; role <= ROLE_KEYS; role++) {
            const char *want = actions[i].works & (1u << role)   ? "works"
                               : actions[i].kills & (1u << role) ? "killed"
                                                                 : "refused";
            const char *got = outcome(run((enum role)role, actions[i].fn, w));
            if (strcmp(want, got) != 0) {
                print_error("%s, %s: %s, expected %s\n", role_name((enum role)role),
                            actions[i].name, got, want);
                wrong++;
            }
        }
    }
    assert_int_equal(wrong, 0);
}

static void test_probe(void **state)
{
    struct errinfo info = {0};

    (void)state;
    assert_int_equal(sandbox_probe(&info), ERR_OK);
}

static void make_file(const char *dir, const char *name)
{
    char path[160];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
}

static int setup(void **state)
{
    static struct world w;
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof(a);
    char path[160];

    (void)snprintf(w.dir, sizeof(w.dir), "/tmp/postseal-cage-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    (void)snprintf(w.inside, sizeof(w.inside), "%s/in", w.dir);
    (void)snprintf(w.outside, sizeof(w.outside), "%s/out", w.dir);
    assert_int_equal(mkdir(w.inside, 0700), 0);
    assert_int_equal(mkdir(w.outside, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/sub", w.inside);
    assert_int_equal(mkdir(path, 0700), 0);
    make_file(path, "moved");
    make_file(w.inside, "file");
    make_file(w.outside, "file");
    (void)snprintf(path, sizeof(path), "%s/link", w.inside);
    assert_int_equal(symlink("../out/file", path), 0);
    (void)snprintf(path, sizeof(path), "%s/data", w.dir);
    w.file = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_true(w.file >= 0);
    w.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(w.listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(w.listener, 64), 0);
    assert_int_equal(getsockname(w.listener, (struct sockaddr *)&a, &n), 0);
    w.port = ntohs(a.sin_port);
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    const struct world *w = *state;
    const char *const files[] = {"in/sub/moved", "in/link", "in/file", "in/new",
                                 "out/file",     "out/new", "data"};
    const char *const dirs[] = {"in/sub", "in", "out", "."};
    char path[160];

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", w->dir, files[i]);
        (void)unlink(path);
    }
    for (size_t i = 0; i + 1 < ARRAY_LEN(dirs); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", w->dir, dirs[i]);
        (void)rmdir(path);
    }
    return rmdir(w->dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_probe),
                                       cmocka_unit_test(test_actions)};

    return cmocka_run_group_tests(tests, setup, teardown);
}
