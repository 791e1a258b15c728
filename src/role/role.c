/* Child start-up: see role.h. Talks to the supervisor only. */
#include "role/role.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    HELLO_ARENA_MAX = 64 << 10,
    START_ARENA_MAX = 48 << 20, /* one BYTES message */
    START_TIMEOUT_MS = 30000    /* the supervisor sends without waiting for anybody */
};

static void set_title(enum role role, uint8_t index)
{
    char title[16];

    if (role == ROLE_SMTP || role == ROLE_CONTENT)
        (void)snprintf(title, sizeof(title), "ps-%s%u", role_name(role), index);
    else
        (void)snprintf(title, sizeof(title), "ps-%s", role_name(role));
    (void)prctl(PR_SET_NAME, title);
}

static void on_term(void *ctx, int signo)
{
    struct role_ctx *r = ctx;

    (void)signo;
    if (r->events.stop)
        r->events.stop(r->events.ctx);
    else
        role_stop(r);
}

static enum err read_hello(struct role_ctx *r, enum role role)
{
    enum message m;
    union message_body body;
    int fd = -1;
    enum err err = ipc_recv_fd(ROLE_CONTROL_FD, role, ROLE_SUPERVISOR, START_TIMEOUT_MS, &r->arena,
                               &m, &body, &fd);

    if (err)
        return err;
    if (fd >= 0)
        (void)close(fd);
    if (m != MSG_HELLO || body.HELLO.role != role)
        return ERR_SYNTAX;
    r->hello = body.HELLO;
    return ERR_OK;
}

static enum err role_of(const char *name, enum role *out_role)
{
    for (unsigned i = ROLE_SMTP; i <= ROLE_KEYS; i++) {
        if (strcmp(name, role_name((enum role)i)) == 0) {
            *out_role = (enum role)i;
            return ERR_OK;
        }
    }
    return ERR_NOTFOUND;
}

static void start_log(const struct role_ctx *r)
{
    char host[256];

    (void)snprintf(host, sizeof(host), "%.*s", SV_ARG(r->hello.hostname));
    log_init(r->hello.log_format <= LOG_JOURNAL ? (enum log_format)r->hello.log_format : LOG_TEXT,
             role_name(r->role), host);
    log_set_level(r->hello.log_level <= LOG_DEBUG ? (enum log_level)r->hello.log_level : LOG_INFO);
}

static void flush_log(void *ctx)
{
    (void)ctx;
    log_flush();
}

enum err role_start(struct role_ctx *r, const char *name, struct errinfo *info)
{
    enum role role;

    if (role_of(name, &role) != ERR_OK)
        return err_set(info, ERR_NOTFOUND, "no role \"%s\"", name);
    *r = (struct role_ctx){.role = role, .control_fd = ROLE_CONTROL_FD};
    arena_init(&r->arena, HELLO_ARENA_MAX);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* Terminal signals go to the whole group; the supervisor alone decides what they mean. */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    enum err err = read_hello(r, role);
    if (err)
        return err_set(info, err, "no HELLO on fd 3 (this mode is started by the supervisor)");
    set_title(role, r->hello.index);
    start_log(r);
    err = loop_new(&r->loop);
    if (!err)
        err = loop_signal(r->loop, SIGTERM, on_term, r);
    if (err)
        return err_set(info, err, "event loop");
    loop_on_turn(r->loop, flush_log, NULL);
    return ERR_OK;
}

/* Hands one message to the role; false for a message that does not belong here. */
static bool dispatch(struct role_ctx *r, enum message m, const union message_body *body, int fd)
{
    const struct role_events *ev = &r->events;

    if (m == MSG_BYTES && fd < 0) {
        if (ev->bytes)
            ev->bytes(ev->ctx, body->BYTES.name, body->BYTES.data);
    } else if (m == MSG_LISTENER && fd >= 0 && ev->listener) {
        ev->listener(ev->ctx, body->LISTENER.kind, body->LISTENER.address, fd);
        fd = -1;
    } else if (m == MSG_CHANNEL && fd >= 0 && body->CHANNEL.role < ROLES && ev->channel) {
        ev->channel(ev->ctx, (enum role)body->CHANNEL.role, body->CHANNEL.index, fd);
        fd = -1;
    } else if (m == MSG_LEVEL && body->LEVEL.level <= LOG_DEBUG) {
        log_set_level((enum log_level)body->LEVEL.level);
    } else if (m != MSG_LISTENER && m != MSG_CHANNEL) {
        return false;
    }
    if (fd >= 0)
        (void)close(fd);
    return true;
}

static bool is_end(enum message m, const union message_body *body)
{
    return m == MSG_BYTES && sv_eq(body->BYTES.name, SV(ROLE_BYTES_END));
}

enum err role_begin(struct role_ctx *r, const struct role_events *events)
{
    struct arena a;
    enum err err = ERR_OK;

    r->events = *events;
    arena_init(&a, START_ARENA_MAX);
    while (!err) {
        enum message m;
        union message_body body;
        int fd = -1;
        arena_reset(&a);
        err = ipc_recv_fd(r->control_fd, r->role, ROLE_SUPERVISOR, START_TIMEOUT_MS, &a, &m, &body,
                          &fd);
        if (err)
            break;
        bool last = is_end(m, &body);
        if (!dispatch(r, m, &body, fd)) {
            if (fd >= 0)
                (void)close(fd);
            err = ERR_SYNTAX;
        }
        if (last)
            break;
    }
    arena_done(&a);
    if (err)
        log_msg(LOG_ERROR, "start", "no initial messages from the supervisor: %s", err_name(err));
    return err;
}

/* ---- after the start ---- */

static void on_control(void *ctx, struct ipc *ch, enum message m, const union message_body *body,
                       int fd)
{
    struct role_ctx *r = ctx;

    (void)ch;
    if (!dispatch(r, m, body, fd)) {
        if (fd >= 0)
            (void)close(fd);
        log_msg(LOG_WARN, "control", "ignored %s from the supervisor", message_name(m));
    }
}

static void on_control_closed(void *ctx, struct ipc *ch, const char *why)
{
    struct role_ctx *r = ctx;

    (void)ch;
    log_msg(LOG_ERROR, "control", "supervisor gone: %s", why);
    r->control = NULL;
    role_stop(r);
}

enum err role_lock(struct role_ctx *r, const struct sandbox_path *paths, size_t n_paths)
{
    struct sandbox_result cage = {false, false};
    struct errinfo info = {0};
    const struct ipc_handler h = {r, on_control, on_control_closed};

    enum err err = sandbox_enter(r->role, paths, n_paths, r->hello.sandbox_require, &cage, &info);
    if (err) {
        log_msg(LOG_ERROR, "sandbox", "%s", info.text);
        return err;
    }
    r->locked = true;
    struct ready ready = {.landlock = cage.landlock, .seccomp = cage.seccomp};
    err = ipc_send_fd(r->control_fd, MSG_READY, &ready, -1);
    if (!err)
        err = ipc_new(r->loop, r->control_fd, r->role, ROLE_SUPERVISOR, 0, &h, &r->control);
    if (err)
        log_msg(LOG_ERROR, "start", "cannot tell the supervisor: %s", err_name(err));
    return err;
}

int role_loop(struct role_ctx *r)
{
    loop_run(r->loop);
    log_flush();
    return EX_OK;
}

void role_stop(struct role_ctx *r)
{
    loop_stop(r->loop);
}
