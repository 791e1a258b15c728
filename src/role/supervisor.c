/*
 * Life of the supervisor: start (files, sockets, privileges, children), signals, orderly end.
 * Order of the end: first what lets work in (smtp finishes its sessions), then the workers and
 * queue (which writes its checkpoint), then what they all need.
 */
#include "net/sandbox.h"
#include "role/supervisor_int.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

static const struct {
    unsigned roles;
    uint32_t ms; /* then SIGKILL */
} stop_phases[] = {
    {1u << ROLE_SMTP | 1u << ROLE_WEB, 6000},
    {1u << ROLE_CONTENT | 1u << ROLE_QUEUE, 2500},
    {1u << ROLE_LOOKUP | 1u << ROLE_STORE | 1u << ROLE_KEYS, 1500},
};

/* ---- end ---- */

static void stop_enter(struct sup *s);

static void stop_next(struct sup *s)
{
    while (s->stop_phase < ARRAY_LEN(stop_phases) &&
           sup_children_signal(s, stop_phases[s->stop_phase].roles, 0) == 0)
        s->stop_phase++;
    if (s->stop_phase == ARRAY_LEN(stop_phases))
        loop_stop(s->loop);
    else
        stop_enter(s);
}

static void on_stop_timer(void *ctx)
{
    struct sup *s = ctx;
    size_t n = sup_children_signal(s, stop_phases[s->stop_phase].roles, SIGKILL);

    log_msg(LOG_WARN, "stop", "%zu processes did not end in time and were killed", n);
}

static void stop_enter(struct sup *s)
{
    (void)sup_children_signal(s, stop_phases[s->stop_phase].roles, SIGTERM);
    timer_set(s->stop_timer, stop_phases[s->stop_phase].ms);
}

void sup_child_gone(struct sup *s)
{
    if (s->stopping && s->stop_phase < ARRAY_LEN(stop_phases) &&
        sup_children_signal(s, stop_phases[s->stop_phase].roles, 0) == 0)
        stop_next(s);
}

void sup_stop(struct sup *s, int status)
{
    if (s->stopping)
        return;
    s->stopping = true;
    s->status = status;
    log_msg(LOG_INFO, "stop", "stopping");
    sup_notify("STOPPING=1\n");
    stop_next(s);
}

/* ---- signals and time ---- */

static void on_term(void *ctx, int signo)
{
    (void)signo;
    sup_stop(ctx, EX_OK);
}

static void on_child(void *ctx, int signo)
{
    (void)signo;
    sup_children_reap(ctx);
}

/* Certificates, CAs and secrets are read again and handed round. */
static void on_hup(void *ctx, int signo)
{
    struct sup *s = ctx;
    const struct bytes end = {.name = SV("end"), .data = SV("")};

    (void)signo;
    log_msg(LOG_INFO, "reload", "reading certificates and secrets again");
    for (size_t i = 0; i < s->n_children; i++) {
        struct child *c = &s->children[i];
        if (!c->control)
            continue;
        sup_push_files(s, c);
        if (ipc_send(c->control, MSG_BYTES, &end, -1) != ERR_OK)
            log_msg(LOG_ERROR, "reload", "cannot reach %s", role_name(c->role));
    }
}

static void on_tick(void *ctx)
{
    struct sup *s = ctx;
    uint64_t watchdog = sup_watchdog_ms();

    sup_children_tick(s);
    if (watchdog)
        sup_notify("WATCHDOG=1\n");
    timer_set(s->tick, watchdog && watchdog < 1000 ? watchdog : 1000);
}

static void on_turn(void *ctx)
{
    (void)ctx;
    log_flush();
}

static enum err start_loop(struct sup *s)
{
    enum err err = loop_new(&s->loop);

    if (!err)
        err = loop_signal(s->loop, SIGTERM, on_term, s);
    if (!err)
        err = loop_signal(s->loop, SIGINT, on_term, s);
    if (!err)
        err = loop_signal(s->loop, SIGHUP, on_hup, s);
    if (!err)
        err = loop_signal(s->loop, SIGCHLD, on_child, s);
    if (!err)
        err = timer_new(s->loop, on_tick, s, &s->tick);
    if (!err)
        err = timer_new(s->loop, on_stop_timer, s, &s->stop_timer);
    if (!err) {
        loop_on_turn(s->loop, on_turn, NULL);
        timer_set(s->tick, 1000);
    }
    return err;
}

/* ---- start ---- */

static int complain(const struct errinfo *info, int status)
{
    char text[768];

    bootstrap_explain(info, text, sizeof(text));
    (void)fprintf(stderr, "postseald: %s\n", text);
    return status;
}

static uint8_t worker_count(const struct bootstrap *b)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (b->workers)
        return b->workers;
    return cpus < 1 ? 1 : cpus > SUP_WORKERS_MAX ? SUP_WORKERS_MAX : (uint8_t)cpus;
}

/* Children inherit the hard limit; smtp wants many fds, and in-flight fds count against the soft.
 */
static void raise_limits(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
    const struct rlimit no_core = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &no_core);
}

/* Everything that may fail for reasons an administrator has to know. */
static enum err prepare(struct sup *s, struct errinfo *info)
{
    enum err err = s->boot.sandbox_require ? sandbox_probe(info) : ERR_OK;

    if (!err)
        err = sup_data_dir(s, info);
    if (!err)
        err = sup_listen(s, info);
    if (!err)
        err = sup_drop_privileges(s, info);
    if (!err)
        err = sup_first_keys(s, info);
    if (!err)
        err = sup_listen_ctl(s, info);
    return err;
}

static int run(struct sup *s, const char *config_file)
{
    struct errinfo info = {0};

    if (bootstrap_load(config_file, &s->boot, &info) != ERR_OK)
        return complain(&info, EX_CONFIG);
    s->workers = worker_count(&s->boot);
    log_init(s->boot.log_format, "supervisor", s->boot.hostname);
    log_set_level(s->boot.log_level);
    raise_limits();
    if (prepare(s, &info) != ERR_OK) {
        if (!info.file[0])
            (void)snprintf(info.file, sizeof(info.file), "%s", config_file);
        return complain(&info, info.code == ERR_CONFLICT ? EX_TEMPFAIL : EX_CONFIG);
    }
    if (start_loop(s) != ERR_OK) {
        (void)err_set(&info, ERR_IO, "no event loop");
        return complain(&info, EX_OSERR);
    }
    sup_children_plan(s);
    if (sup_children_start(s) != ERR_OK)
        sup_stop(s, EX_OSERR);
    loop_run(s->loop);
    log_msg(LOG_INFO, "stop", "stopped");
    log_flush();
    return s->status;
}

int supervisor_run(const char *config_file)
{
    struct sup *s = calloc(1, sizeof(*s));

    if (!s)
        return EX_OSERR;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_NAME, "postseald");
    s->lock_fd = -1;
    int status = run(s, config_file);
    sup_unlisten(s);
    loop_free(s->loop);
    if (s->lock_fd >= 0)
        (void)close(s->lock_fd);
    free(s);
    return status;
}

int supervisor_check(const char *config_file)
{
    struct bootstrap b;
    struct errinfo info = {0};

    if (bootstrap_load(config_file, &b, &info) != ERR_OK)
        return complain(&info, EX_CONFIG);
    (void)printf("%s: good: %zu addresses, data in %s\n", config_file, b.n_listeners, b.data_dir);
    return EX_OK;
}
