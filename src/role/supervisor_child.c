/*
 * Children: start, channels between them, death and restart.
 *
 * Every start of a child makes new socketpairs to all its living peers and tells both ends, so the
 * first start (all children, then all links, then "end" to each) and a restart (one child, its
 * links) are the same steps.
 *
 * SECURITY: a child may have been taken over. What it can ask of us is READY, KILL of a worker
 * (queue only), LEVEL, and to keep a key file (keys only; names are checked). Garbage kills it.
 */
#include "role/role.h"
#include "role/supervisor_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

static const struct {
    enum role a, b;
} links[] = {
    {ROLE_QUEUE, ROLE_SMTP},  {ROLE_QUEUE, ROLE_CONTENT}, {ROLE_QUEUE, ROLE_STORE},
    {ROLE_QUEUE, ROLE_KEYS},  {ROLE_QUEUE, ROLE_LOOKUP},  {ROLE_SMTP, ROLE_KEYS},
    {ROLE_SMTP, ROLE_LOOKUP}, {ROLE_WEB, ROLE_KEYS},      {ROLE_WEB, ROLE_QUEUE},
    {ROLE_WEB, ROLE_STORE},   {ROLE_WEB, ROLE_LOOKUP},
};

static void title_of(const struct child *c, char *out, size_t n)
{
    if (c->role == ROLE_SMTP || c->role == ROLE_CONTENT)
        (void)snprintf(out, n, "%s%u", role_name(c->role), c->index);
    else
        (void)snprintf(out, n, "%s", role_name(c->role));
}

static void plan_one(struct sup *s, enum role role, uint8_t index)
{
    struct child *c = &s->children[s->n_children++];

    *c = (struct child){.sup = s, .role = role, .index = index, .backoff_ms = SUP_BACKOFF_MIN_MS};
}

void sup_children_plan(struct sup *s)
{
    static const enum role single[] = {ROLE_KEYS, ROLE_LOOKUP, ROLE_STORE, ROLE_QUEUE};

    for (size_t i = 0; i < ARRAY_LEN(single); i++)
        plan_one(s, single[i], 0);
    for (uint8_t i = 0; i < s->workers; i++)
        plan_one(s, ROLE_CONTENT, i);
    for (uint8_t i = 0; i < s->workers; i++)
        plan_one(s, ROLE_SMTP, i);
    plan_one(s, ROLE_WEB, 0);
}

/* ---- the new process ---- */

enum { CHILD_ENV_MAX = 12 };

/* A clean environment: what the role needs and what sanitizers read. */
static void child_env(char *env[CHILD_ENV_MAX])
{
    static char fixed[][40] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
                               "UV_THREADPOOL_SIZE=2"};
    static const char *const passed[] = {"TZ", "JOURNAL_STREAM", "ASAN_OPTIONS", "UBSAN_OPTIONS"};
    static char copies[ARRAY_LEN(passed)][256];
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        env[n++] = fixed[i];
    for (size_t i = 0; i < ARRAY_LEN(passed); i++) {
        const char *v = getenv(passed[i]);
        int len = v ? snprintf(copies[i], sizeof(copies[i]), "%s=%s", passed[i], v) : -1;
        if (len > 0 && (size_t)len < sizeof(copies[i]))
            env[n++] = copies[i];
    }
    env[n] = NULL;
}

/* After fork: control channel to fd 3, nothing else above 2, own image again (fresh ASLR layout).
 */
static NORETURN void become_child(const struct child *c, int control, pid_t parent)
{
    char *env[CHILD_ENV_MAX];
    char name[] = "postseald", option[] = "--role", role[16], index[8];
    char *argv[] = {name, option, role, index, NULL};
    sigset_t none;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EX_UNAVAILABLE);
    if (control == ROLE_CONTROL_FD) {
        (void)fcntl(control, F_SETFD, 0);
    } else if (dup2(control, ROLE_CONTROL_FD) < 0) {
        _exit(EX_OSERR);
    }
    (void)close_range(ROLE_CONTROL_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)snprintf(role, sizeof(role), "%s", role_name(c->role));
    (void)snprintf(index, sizeof(index), "%u", c->index);
    child_env(env);
    (void)execve("/proc/self/exe", argv, env);
    _exit(EX_OSERR);
}

static void on_message(void *ctx, struct ipc *ch, enum message m, const union message_body *body,
                       int fd);
static void on_closed(void *ctx, struct ipc *ch, const char *why);

static enum err child_fork(struct child *c)
{
    const struct ipc_handler h = {c, on_message, on_closed};
    int fds[2];
    pid_t parent = getpid();
    enum err err = ipc_pair(fds);

    if (err)
        return err;
    log_flush();
    pid_t pid = fork();
    if (pid == 0)
        become_child(c, fds[1], parent);
    (void)close(fds[1]);
    if (pid < 0) {
        (void)close(fds[0]);
        return ERR_IO;
    }
    c->pid = pid;
    c->state = CHILD_STARTING;
    c->started_ms = loop_clock(c->sup->loop).mono_ms;
    return ipc_new(c->sup->loop, fds[0], ROLE_SUPERVISOR, c->role, c->index, &h, &c->control);
}

/* ---- what it is told ---- */

static void tell(struct child *c, enum message m, const void *body, int fd)
{
    char title[24];

    if (!c->control) {
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    enum err err = ipc_send(c->control, m, body, fd);
    if (err) {
        title_of(c, title, sizeof(title));
        log_msg(LOG_ERROR, "child", "cannot send %s to %s: %s", message_name(m), title,
                err_name(err));
    }
}

static void tell_hello(struct child *c)
{
    const struct bootstrap *b = &c->sup->boot;
    const struct hello hello = {.role = (uint8_t)c->role,
                                .index = c->index,
                                .workers = c->sup->workers,
                                .hostname = sv_str(b->hostname),
                                .data_dir = sv_str(b->data_dir),
                                .sandbox_require = b->sandbox_require,
                                .log_level = (uint8_t)b->log_level,
                                .log_format = (uint8_t)b->log_format,
                                .database = sv_str(b->database)};

    tell(c, MSG_HELLO, &hello, -1);
}

static void tell_listeners(struct child *c)
{
    const struct sup *s = c->sup;

    for (size_t i = 0; i < s->n_sockets; i++) {
        const struct listen_socket *ls = &s->sockets[i];
        if (ls->role != c->role || ls->index != c->index)
            continue;
        const struct listener l = {.kind = sv_str(ls->kind), .address = sv_str(ls->address)};
        int fd = fcntl(ls->fd, F_DUPFD_CLOEXEC, 4);
        if (fd >= 0)
            tell(c, MSG_LISTENER, &l, fd);
    }
}

static void tell_end(struct child *c)
{
    const struct bytes end = {.name = SV(ROLE_BYTES_END), .data = SV("")};

    tell(c, MSG_BYTES, &end, -1);
}

static bool linked(enum role a, enum role b)
{
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        if ((links[i].a == a && links[i].b == b) || (links[i].a == b && links[i].b == a))
            return true;
    return false;
}

static void link_pair(struct child *a, struct child *b)
{
    const struct channel to_a = {.role = (uint8_t)b->role, .index = b->index};
    const struct channel to_b = {.role = (uint8_t)a->role, .index = a->index};
    int fds[2];

    if (!a->control || !b->control || !linked(a->role, b->role))
        return;
    if (ipc_pair(fds) != ERR_OK) {
        log_msg(LOG_ERROR, "child", "no socketpair: %s", strerror(errno));
        return;
    }
    tell(a, MSG_CHANNEL, &to_a, fds[0]);
    tell(b, MSG_CHANNEL, &to_b, fds[1]);
}

static enum err child_begin(struct child *c)
{
    enum err err = child_fork(c);

    if (err)
        return err;
    tell_hello(c);
    sup_push_files(c->sup, c);
    tell_listeners(c);
    return ERR_OK;
}

enum err sup_children_start(struct sup *s)
{
    enum err err = ERR_OK;

    for (size_t i = 0; !err && i < s->n_children; i++)
        err = child_begin(&s->children[i]);
    for (size_t i = 0; !err && i < s->n_children; i++)
        for (size_t j = 0; j < i; j++)
            link_pair(&s->children[i], &s->children[j]);
    for (size_t i = 0; !err && i < s->n_children; i++)
        tell_end(&s->children[i]);
    return err;
}

/* ---- death and restart ---- */

static void plan_retry(struct child *c);

static void on_retry(void *ctx)
{
    struct child *c = ctx;
    struct sup *s = c->sup;

    timer_free(c->retry);
    c->retry = NULL;
    if (s->stopping)
        return;
    if (child_begin(c) != ERR_OK) {
        log_msg(LOG_ERROR, "child", "cannot start %s: %s", role_name(c->role), strerror(errno));
        if (!c->pid)
            plan_retry(c);
        return;
    }
    for (size_t i = 0; i < s->n_children; i++)
        if (&s->children[i] != c)
            link_pair(c, &s->children[i]);
    tell_end(c);
}

static void plan_retry(struct child *c)
{
    struct sup *s = c->sup;

    if (s->stopping || timer_new(s->loop, on_retry, c, &c->retry) != ERR_OK)
        return;
    timer_set(c->retry, c->backoff_ms);
    c->backoff_ms = c->backoff_ms * 2 > SUP_BACKOFF_MAX_MS ? SUP_BACKOFF_MAX_MS : c->backoff_ms * 2;
}

static void log_death(const struct child *c, int status, int64_t up_ms)
{
    char title[24], why[64];
    bool expected = c->sup->stopping;

    title_of(c, title, sizeof(title));
    if (WIFSIGNALED(status))
        (void)snprintf(why, sizeof(why), "killed by signal %d (SIG%s)%s", WTERMSIG(status),
                       sigabbrev_np(WTERMSIG(status)),
                       WTERMSIG(status) == SIGSYS ? ", a system call its cage forbids" : "");
    else
        (void)snprintf(why, sizeof(why), "exit status %d", WEXITSTATUS(status));
    if (expected)
        log_msg(LOG_DEBUG, "child", "%s[%d] ended: %s", title, c->pid, why);
    else
        log_msg(LOG_ERROR, "child.died", "%s[%d] died after %lld ms: %s; next start in %u ms",
                title, c->pid, (long long)up_ms, why, c->backoff_ms);
}

static void child_died(struct child *c, int status)
{
    struct sup *s = c->sup;
    int64_t up_ms = loop_clock(s->loop).mono_ms - c->started_ms;
    bool misconfigured = WIFEXITED(status) && WEXITSTATUS(status) == EX_CONFIG;

    if (up_ms >= SUP_BACKOFF_RESET_MS)
        c->backoff_ms = SUP_BACKOFF_MIN_MS;
    log_death(c, status, up_ms);
    ipc_free(c->control);
    c->control = NULL;
    c->state = CHILD_DOWN;
    c->pid = 0;
    /* At the first start a restart would meet the same configuration again. */
    if (misconfigured && !s->was_ready)
        sup_stop(s, EX_CONFIG);
    plan_retry(c);
    sup_child_gone(s);
}

static struct child *child_of_pid(struct sup *s, pid_t pid)
{
    for (size_t i = 0; i < s->n_children; i++)
        if (s->children[i].pid == pid)
            return &s->children[i];
    return NULL;
}

void sup_children_reap(struct sup *s)
{
    for (;;) {
        int status = 0;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid <= 0)
            return;
        struct child *c = child_of_pid(s, pid);
        if (c)
            child_died(c, status);
    }
}

void sup_children_tick(struct sup *s)
{
    int64_t now = loop_clock(s->loop).mono_ms;

    for (size_t i = 0; i < s->n_children; i++) {
        struct child *c = &s->children[i];
        if (c->pid > 0 && c->state == CHILD_STARTING && now - c->started_ms > SUP_READY_MS) {
            log_msg(LOG_ERROR, "child", "%s[%d] is not ready after %d s: killed",
                    role_name(c->role), c->pid, SUP_READY_MS / 1000);
            (void)kill(c->pid, SIGKILL);
        }
    }
}

size_t sup_children_signal(struct sup *s, unsigned role_bits, int signo)
{
    size_t n = 0;

    for (size_t i = 0; i < s->n_children; i++) {
        struct child *c = &s->children[i];
        if (c->pid <= 0 || !(role_bits & (1u << c->role)))
            continue;
        n++;
        if (signo)
            (void)kill(c->pid, signo);
    }
    return n;
}

bool sup_children_ready(const struct sup *s)
{
    for (size_t i = 0; i < s->n_children; i++)
        if (s->children[i].state != CHILD_READY)
            return false;
    return true;
}

/* ---- what children say ---- */

static void on_ready(struct child *c, const struct ready *ready)
{
    struct sup *s = c->sup;
    char title[24];

    title_of(c, title, sizeof(title));
    c->state = CHILD_READY;
    if (!ready->landlock || !ready->seccomp)
        log_msg(LOG_WARN, "sandbox", "%s runs without %s%s%s", title,
                ready->landlock ? "" : "Landlock", ready->landlock || ready->seccomp ? "" : " and ",
                ready->seccomp ? "" : "seccomp");
    if (s->was_ready || !sup_children_ready(s)) {
        log_msg(s->was_ready ? LOG_INFO : LOG_DEBUG, "child.ready", "%s[%d] is ready", title,
                c->pid);
        return;
    }
    s->was_ready = true;
    log_msg(LOG_INFO, "ready", "postseald " POSTSEAL_VERSION " is ready: %zu processes",
            s->n_children);
    sup_notify("READY=1\nSTATUS=Accepting mail\n");
}

/* `queue` has a worker killed that overran its time: that is its normal end, without back-off. */
static void on_kill(struct sup *s, const struct kill *k)
{
    for (size_t i = 0; i < s->n_children; i++) {
        struct child *c = &s->children[i];
        if ((unsigned)c->role != k->role || c->index != k->index || c->pid <= 0 ||
            (c->role != ROLE_CONTENT && c->role != ROLE_LOOKUP))
            continue;
        log_msg(LOG_WARN, "child.kill", "%s%u[%d] killed for queue: %.*s", role_name(c->role),
                c->index, c->pid, SV_ARG(k->why));
        c->backoff_ms = SUP_BACKOFF_MIN_MS;
        (void)kill(c->pid, SIGKILL);
    }
}

static void on_level(struct sup *s, const struct level *l)
{
    if (l->level > LOG_DEBUG)
        return;
    log_set_level((enum log_level)l->level);
    s->boot.log_level = (enum log_level)l->level; /* for children that start later */
    for (size_t i = 0; i < s->n_children; i++)
        tell(&s->children[i], MSG_LEVEL, l, -1);
}

static void on_message(void *ctx, struct ipc *ch, enum message m, const union message_body *body,
                       int fd)
{
    struct child *c = ctx;

    (void)ch;
    if (fd >= 0)
        (void)close(fd); /* nobody sends us one */
    if (m == MSG_READY && c->state == CHILD_STARTING)
        on_ready(c, &body->READY);
    else if (m == MSG_KILL)
        on_kill(c->sup, &body->KILL);
    else if (m == MSG_LEVEL)
        on_level(c->sup, &body->LEVEL);
    else if (m == MSG_BYTES)
        sup_keep_file(c->sup, body->BYTES.name, body->BYTES.data);
}

static void on_closed(void *ctx, struct ipc *ch, const char *why)
{
    struct child *c = ctx;
    char title[24];

    (void)ch;
    c->control = NULL;
    if (c->pid <= 0 || c->sup->stopping)
        return;
    title_of(c, title, sizeof(title));
    if (strcmp(why, "peer closed the channel") != 0)
        log_msg(LOG_ERROR, "child.garbage", "%s[%d] killed: %s", title, c->pid, why);
    (void)kill(c->pid, SIGKILL);
}
