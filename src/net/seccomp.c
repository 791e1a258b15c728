/*
 * System call filters: one row per role in `roles` names the groups it may use. What stands in no
 * table kills the process (an attack, or a library that needs a look); what libraries are known to
 * probe at run time, and known calls with arguments we do not grant, fail with an errno instead.
 *
 * Two filters do that, because libseccomp cannot give one call both argument rules and a refusal of
 * its own, and the kernel takes the stricter answer of all filters: the first kills whatever is in
 * no table, the second says EPERM to whatever is not granted.
 *
 * SECURITY: a process that reads hostile bytes must not gain more than it was given. No role may
 * execve, ptrace, mount, load code (PROT_EXEC) or make namespaces; only `smtp` and `lookup` may
 * make sockets, only those of the internet (and `lookup` local ones for clamd).
 */
#include "net/sandbox_int.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

enum {
    MAY_BASE = 1 << 0,    /* memory, time, signals, the given fds */
    MAY_ACCEPT = 1 << 1,  /* connections of a listening socket that was given */
    MAY_CONNECT = 1 << 2, /* sockets of its own: AF_INET, AF_INET6 */
    MAY_UNIX = 1 << 3,    /* and AF_UNIX */
    MAY_READ = 1 << 4,    /* open files to read (Landlock says which) */
    MAY_WRITE = 1 << 5,   /* create, change, rename, remove files (Landlock says which) */
    MAY_IO = 1 << 6,      /* positioned I/O and sync on fds */
    MAY_THREAD = 1 << 7,
    MAY_FORK = 1 << 8, /* children that stay in this cage, to be killed and reaped */
    MAY_LOAD = 1 << 9, /* one more filter: only until the second one is loaded, which kills it */
};

static const struct {
    enum role role;
    unsigned may;
} roles[] = {
    {ROLE_SMTP, MAY_BASE | MAY_ACCEPT | MAY_CONNECT | MAY_IO},
    {ROLE_QUEUE, MAY_BASE | MAY_ACCEPT | MAY_READ | MAY_WRITE | MAY_IO | MAY_THREAD},
    {ROLE_CONTENT, MAY_BASE | MAY_READ | MAY_IO | MAY_FORK},
    {ROLE_LOOKUP, MAY_BASE | MAY_CONNECT | MAY_UNIX | MAY_READ | MAY_THREAD},
    {ROLE_STORE, MAY_BASE | MAY_ACCEPT | MAY_READ | MAY_WRITE | MAY_IO},
    {ROLE_WEB, MAY_BASE | MAY_ACCEPT | MAY_READ | MAY_IO},
    {ROLE_KEYS, MAY_BASE | MAY_FORK},
};

static const struct {
    unsigned may;
    const char *calls[64]; /* NULL-terminated */
} groups[] = {
    {MAY_BASE,
     {"read",
      "write",
      "readv",
      "writev",
      "close",
      "fstat",
      "newfstatat",
      "lseek",
      "munmap",
      "mremap",
      "madvise",
      "brk",
      "mlock",
      "mlock2",
      "munlock",
      "rt_sigaction",
      "rt_sigprocmask",
      "rt_sigreturn",
      "sigaltstack",
      "futex",
      "sched_yield",
      "sched_getaffinity",
      "getcpu",
      "getpid",
      "getppid",
      "gettid",
      "tgkill",
      "clock_gettime",
      "clock_getres",
      "clock_nanosleep",
      "nanosleep",
      "gettimeofday",
      "time",
      "getrandom",
      "exit",
      "exit_group",
      "epoll_create1",
      "epoll_ctl",
      "epoll_wait",
      "epoll_pwait",
      "poll",
      "ppoll",
      "eventfd2",
      "pipe2",
      "dup",
      "fcntl",
      "memfd_create",
      "ftruncate",
      "recvmsg",
      "recvmmsg",
      "recvfrom",
      "sendmsg",
      "sendmmsg",
      "sendto",
      "getsockopt",
      "restart_syscall"}},
    {MAY_BASE,
     {"getuid", "geteuid", "getgid", "getegid", "uname", "getrusage", "sysinfo", "rseq",
      "set_robust_list", "set_tid_address", "membarrier", "shutdown", "times", "umask",
      "rt_sigpending", "rt_sigtimedwait", "arch_prctl", "select", "pselect6"}},
    {MAY_ACCEPT, {"accept", "accept4", "getsockname", "getpeername", "setsockopt"}},
    {MAY_CONNECT, {"connect", "bind", "getsockname", "getpeername", "setsockopt"}},
    {MAY_READ,
     {"getdents64", "statx", "stat", "lstat", "access", "faccessat", "faccessat2", "readlink",
      "readlinkat", "getcwd", "statfs", "fstatfs", "pread64", "preadv", "fadvise64"}},
    {MAY_WRITE, {"openat",    "open",      "creat", "unlink",         "unlinkat", "rename",
                 "renameat",  "renameat2", "mkdir", "mkdirat",        "rmdir",    "link",
                 "linkat",    "truncate",  "chmod", "fchmod",         "fchmodat", "fchown",
                 "utimensat", "utimes",    "flock", "copy_file_range"}},
    {MAY_IO,
     {"pread64", "preadv", "pwrite64", "pwritev", "fdatasync", "fsync", "sync_file_range",
      "fallocate", "fstatfs", "sendfile", "copy_file_range"}},
    {MAY_FORK, {"wait4", "waitid", "setsid"}},
    {MAY_LOAD, {"seccomp"}},
};

/* Probed by libc, OpenSSL, GLib or SQLite; they have a way round. */
static const struct {
    const char *call;
    int error;
} refused[] = {
    {"open", EACCES},           {"openat", EACCES},
    {"openat2", ENOSYS},        {"clone3", ENOSYS},
    {"statx", ENOSYS},          {"stat", EACCES},
    {"lstat", EACCES},          {"access", EACCES},
    {"faccessat", EACCES},      {"faccessat2", EACCES},
    {"readlink", EACCES},       {"readlinkat", EACCES},
    {"getcwd", EACCES},         {"statfs", EACCES},
    {"fstatfs", EACCES},        {"getdents64", EACCES},
    {"io_uring_setup", ENOSYS}, {"sched_setaffinity", EPERM},
    {"setpriority", EPERM},     {"getpriority", EPERM},
    {"sched_getparam", EPERM},  {"sched_getscheduler", EPERM},
    {"get_mempolicy", EPERM},   {"ioctl", EPERM},
    {"prctl", EPERM},           {"prlimit64", EPERM},
    {"setrlimit", EPERM},       {"getrlimit", EPERM},
    {"setsockopt", EPERM},      {"kill", EPERM},
    {"socketpair", EPERM},
};

static unsigned may_of(enum role role)
{
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (roles[i].role == role)
            return roles[i].may;
    return 0;
}

/* Calls that this architecture does not have are skipped. */
static int add_rule(scmp_filter_ctx f, uint32_t action, const char *call, unsigned n,
                    const struct scmp_arg_cmp *args)
{
    int nr = seccomp_syscall_resolve_name(call);

    if (nr == __NR_SCMP_ERROR || nr < 0)
        return 0;
    int rc = seccomp_rule_add_array(f, action, nr, n, args);
    return rc == -EEXIST ? 0 : rc;
}

static int add_groups(scmp_filter_ctx f, unsigned may)
{
    int rc = 0;

    for (size_t g = 0; g < ARRAY_LEN(groups); g++)
        for (size_t i = 0; rc == 0 && (may & groups[g].may) && groups[g].calls[i]; i++)
            rc = add_rule(f, SCMP_ACT_ALLOW, groups[g].calls[i], 0, NULL);
    return rc;
}

struct arg_rule {
    unsigned may; /* all of these bits */
    const char *call;
    struct scmp_arg_cmp arg;
};

#define NAMESPACES                                                                                 \
    (CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC |     \
     CLONE_NEWCGROUP)
#define OPEN_CHANGES (O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND)

static const struct arg_rule arg_rules[] = {
    {MAY_BASE, "mmap", {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}},
    {MAY_BASE, "mprotect", {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}},
    {MAY_BASE, "ioctl", {1, SCMP_CMP_EQ, FIONBIO, 0}},
    {MAY_BASE, "ioctl", {1, SCMP_CMP_EQ, FIONREAD, 0}},
    {MAY_BASE, "prctl", {0, SCMP_CMP_EQ, PR_SET_NAME, 0}},
    {MAY_BASE, "prctl", {0, SCMP_CMP_EQ, PR_SET_PDEATHSIG, 0}},
    {MAY_LOAD, "prctl", {0, SCMP_CMP_EQ, PR_SET_NO_NEW_PRIVS, 0}},
    {MAY_LOAD, "prctl", {0, SCMP_CMP_EQ, PR_SET_SECCOMP, 0}},
    {MAY_BASE, "prlimit64", {2, SCMP_CMP_EQ, 0, 0}}, /* read limits */
    {MAY_FORK, "prlimit64", {0, SCMP_CMP_EQ, 0, 0}}, /* a child lowers its own */
    {MAY_FORK, "kill", {1, SCMP_CMP_EQ, SIGKILL, 0}},
    {MAY_FORK, "clone", {0, SCMP_CMP_MASKED_EQ, NAMESPACES | CLONE_VM, 0}},
    {MAY_THREAD, "clone", {0, SCMP_CMP_MASKED_EQ, NAMESPACES | CLONE_THREAD, CLONE_THREAD}},
    {MAY_CONNECT, "socket", {0, SCMP_CMP_EQ, AF_INET, 0}},
    {MAY_CONNECT, "socket", {0, SCMP_CMP_EQ, AF_INET6, 0}},
    {MAY_UNIX, "socket", {0, SCMP_CMP_EQ, AF_UNIX, 0}},
};
static const struct arg_rule open_rules[] = {
    {MAY_READ, "open", {1, SCMP_CMP_MASKED_EQ, OPEN_CHANGES, O_RDONLY}},
    {MAY_READ, "openat", {2, SCMP_CMP_MASKED_EQ, OPEN_CHANGES, O_RDONLY}},
};

static int add_arg_rules(scmp_filter_ctx f, unsigned may, const struct arg_rule *rules, size_t n)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct arg_rule *r = &rules[i];
        if ((may & r->may) == r->may)
            rc = add_rule(f, SCMP_ACT_ALLOW, r->call, 1, &r->arg);
    }
    return rc;
}

static bool group_allows(unsigned may, const char *call)
{
    for (size_t g = 0; g < ARRAY_LEN(groups); g++)
        for (size_t i = 0; (may & groups[g].may) && groups[g].calls[i]; i++)
            if (strcmp(groups[g].calls[i], call) == 0)
                return true;
    return false;
}

static bool has_arg_rule(unsigned may, const char *call, const struct arg_rule *rules, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((may & rules[i].may) == rules[i].may && strcmp(rules[i].call, call) == 0)
            return true;
    return false;
}

/* Rules by argument for this role; without MAY_WRITE opening is for reading only. */
static size_t open_rules_of(unsigned may)
{
    return may & MAY_WRITE ? 0 : ARRAY_LEN(open_rules);
}

static int add_refused(scmp_filter_ctx f, unsigned may)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(refused); i++) {
        const char *call = refused[i].call;
        if (refused[i].error ==
            EPERM) /* the filter's own answer; libseccomp refuses a repetition */
            continue;
        if (!group_allows(may, call) && !has_arg_rule(may, call, arg_rules, ARRAY_LEN(arg_rules)) &&
            !has_arg_rule(may, call, open_rules, open_rules_of(may)))
            rc = add_rule(f, SCMP_ACT_ERRNO((unsigned)refused[i].error), call, 0, NULL);
    }
    return rc;
}

/* First filter: what is in some table passes on. */
static int add_known(scmp_filter_ctx f, unsigned may)
{
    int rc = add_groups(f, may);

    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(arg_rules); i++)
        if ((may & arg_rules[i].may) == arg_rules[i].may)
            rc = add_rule(f, SCMP_ACT_ALLOW, arg_rules[i].call, 0, NULL);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(refused); i++)
        rc = add_rule(f, SCMP_ACT_ALLOW, refused[i].call, 0, NULL);
    return rc;
}

/* Second filter: what is granted. */
static int add_granted(scmp_filter_ctx f, unsigned may)
{
    int rc = add_groups(f, may);

    if (rc == 0)
        rc = add_arg_rules(f, may, arg_rules, ARRAY_LEN(arg_rules));
    if (rc == 0)
        rc = add_arg_rules(f, may, open_rules, open_rules_of(may));
    return rc == 0 ? add_refused(f, may) : rc;
}

static int load(uint32_t action, unsigned may, int (*add)(scmp_filter_ctx f, unsigned may))
{
    scmp_filter_ctx f = seccomp_init(action);
    int rc = -ENOMEM;

    if (f) {
        (void)seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
        (void)seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* binary tree */
        rc = add(f, may);
        if (rc == 0)
            rc = seccomp_load(f);
        seccomp_release(f);
    }
    return rc;
}

enum err seccomp_enter(enum role role, struct errinfo *info)
{
    unsigned may = may_of(role);

    if (!may)
        return err_set(info, ERR_BUG, "no filter for role %s", role_name(role));
    /* The milder one first: loading the second needs calls that the stricter one kills. */
    int rc = load(SCMP_ACT_ERRNO(EPERM), may | MAY_LOAD, add_granted);
    if (rc == 0)
        rc = load(SCMP_ACT_KILL_PROCESS, may, add_known);
    if (rc != 0)
        return err_set_sys(info, ERR_DENIED, -rc, "the kernel refuses a system call filter");
    return ERR_OK;
}

bool seccomp_available(void)
{
    return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}
