/*
 * Event loop over libuv. A turn is: socket events, timers, then the turn hooks, then deferred work
 * (channels send their batches), then sleep. libuv's prepare phase is exactly that last place.
 * A handle may be freed inside its own callback: libuv's close callback frees the memory later in
 * the same turn, so that flags remain readable until then.
 */
#include "net/loop_int.h"

#include <errno.h>
#include <stdlib.h>
#include <uv.h>

enum { TURN_HOOKS_MAX = 8 };

struct turn_hook {
    void (*fn)(void *ctx);
    void *ctx;
};

/* Lives outside struct loop so that loop_clock can take a const loop. */
struct clock_cache {
    struct clock now;
    uint64_t uv_ms; /* libuv time of the sample */
    bool running, valid;
};

struct loop {
    uv_loop_t uv;
    uv_prepare_t prepare;
    struct clock_cache *clock;
    struct turn_hook hooks[TURN_HOOKS_MAX];
    size_t n_hooks;
    struct list deferred;
    void *scratch;
    size_t scratch_size;
};

struct watch {
    uv_poll_t poll;
    void (*fn)(void *ctx, int events);
    void *ctx;
    int events;
    bool freed;
};

struct timer {
    uv_timer_t timer;
    struct loop *loop;
    void (*fn)(void *ctx);
    void *ctx;
};

struct signal_watch {
    uv_signal_t signal;
    void (*fn)(void *ctx, int signo);
    void *ctx;
};

struct sync_job {
    uv_fs_t fs;
    void (*cb)(void *arg, int result);
    void *arg;
};

static void run_deferred(struct loop *l)
{
    while (!list_empty(&l->deferred)) {
        struct loop_defer *d = LIST_ENTRY(list_pop(&l->deferred), struct loop_defer, node);
        d->fn(d);
    }
}

static void on_prepare(uv_prepare_t *handle)
{
    struct loop *l = handle->data;

    for (size_t i = 0; i < l->n_hooks; i++)
        l->hooks[i].fn(l->hooks[i].ctx);
    run_deferred(l);
}

enum err loop_new(struct loop **out_loop)
{
    struct loop *l = calloc(1, sizeof(*l));
    struct clock_cache *cache = calloc(1, sizeof(*cache));

    if (!l || !cache || uv_loop_init(&l->uv) != 0) {
        free(l);
        free(cache);
        return ERR_IO;
    }
    l->clock = cache;
    list_init(&l->deferred);
    (void)uv_prepare_init(&l->uv, &l->prepare);
    l->prepare.data = l;
    (void)uv_prepare_start(&l->prepare, on_prepare);
    uv_unref((uv_handle_t *)&l->prepare);
    *out_loop = l;
    return ERR_OK;
}

static void on_closed_free(uv_handle_t *handle)
{
    free(handle->data);
}

static void close_any(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (uv_is_closing(handle))
        return;
    /* Every handle but the prepare one begins its own allocation, see the structs above. */
    uv_close(handle, handle->type == UV_PREPARE ? NULL : on_closed_free);
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    uv_walk(&l->uv, close_any, NULL);
    while (uv_run(&l->uv, UV_RUN_DEFAULT) != 0)
        ;
    (void)uv_loop_close(&l->uv);
    free(l->clock);
    free(l->scratch);
    free(l);
}

void loop_run(struct loop *l)
{
    l->clock->running = true;
    /* Deferred work keeps no handle alive: flush what was sent before the loop began. */
    run_deferred(l);
    (void)uv_run(&l->uv, UV_RUN_DEFAULT);
    run_deferred(l);
    l->clock->running = false;
}

void loop_stop(struct loop *l)
{
    uv_stop(&l->uv);
}

void *loop_uv(struct loop *l)
{
    return &l->uv;
}

struct clock loop_clock(const struct loop *l)
{
    struct clock_cache *c = l->clock;
    uint64_t uv_ms = uv_now(&l->uv);

    if (!c->running || !c->valid || c->uv_ms != uv_ms) {
        c->now = clock_now();
        c->uv_ms = uv_ms;
        c->valid = c->running;
    }
    return c->now;
}

void loop_on_turn(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    if (l->n_hooks < TURN_HOOKS_MAX)
        l->hooks[l->n_hooks++] = (struct turn_hook){fn, ctx};
}

void loop_defer_add(struct loop *l, struct loop_defer *d)
{
    if (!list_linked(&d->node))
        list_push_back(&l->deferred, &d->node);
}

void *loop_scratch(struct loop *l, size_t size)
{
    if (!l->scratch) {
        l->scratch = malloc(size);
        l->scratch_size = size;
    }
    return size <= l->scratch_size ? l->scratch : NULL;
}

/* ---- watches ---- */

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct watch *w = handle->data;
    int ev = 0;

    if (events & (UV_READABLE | UV_DISCONNECT))
        ev |= WATCH_READ;
    if (events & UV_WRITABLE)
        ev |= WATCH_WRITE;
    /* An error of the socket: libuv has stopped the handle. The owner finds the error by reading
     * or writing; when it still wants the fd afterwards (UDP), watching goes on. */
    if (status < 0)
        ev = w->events;
    w->fn(w->ctx, ev);
    if (status < 0 && !w->freed && w->events)
        (void)uv_poll_start(&w->poll, w->events, on_poll);
}

enum err watch_new(struct loop *l, int fd, void (*fn)(void *ctx, int events), void *ctx,
                   struct watch **out_watch)
{
    struct watch *w = calloc(1, sizeof(*w));

    if (!w)
        return ERR_IO;
    if (uv_poll_init(&l->uv, &w->poll, fd) != 0) {
        free(w);
        return ERR_IO;
    }
    w->fn = fn;
    w->ctx = ctx;
    w->poll.data = w;
    *out_watch = w;
    return ERR_OK;
}

void watch_set(struct watch *w, int events)
{
    _Static_assert((int)UV_READABLE == WATCH_READ && (int)UV_WRITABLE == WATCH_WRITE, "same bits");
    if (w->events == events || w->freed)
        return;
    w->events = events;
    if (events)
        (void)uv_poll_start(&w->poll, events, on_poll);
    else
        (void)uv_poll_stop(&w->poll);
}

void watch_free(struct watch *w)
{
    if (!w || w->freed)
        return;
    w->freed = true;
    w->events = 0;
    (void)uv_poll_stop(&w->poll);
    uv_close((uv_handle_t *)&w->poll, on_closed_free);
}

/* ---- timers ---- */

static void on_timer(uv_timer_t *handle)
{
    struct timer *t = handle->data;

    t->fn(t->ctx);
}

enum err timer_new(struct loop *l, void (*fn)(void *ctx), void *ctx, struct timer **out_timer)
{
    struct timer *t = calloc(1, sizeof(*t));

    if (!t)
        return ERR_IO;
    (void)uv_timer_init(&l->uv, &t->timer);
    t->loop = l;
    t->fn = fn;
    t->ctx = ctx;
    t->timer.data = t;
    *out_timer = t;
    return ERR_OK;
}

/* Due by loop_clock, not by libuv's slightly older time: a callback that compares its deadline with
 * loop_clock never finds itself too early. */
void timer_set(struct timer *t, uint64_t ms)
{
    uint64_t now = (uint64_t)loop_clock(t->loop).mono_ms;
    uint64_t uv_ms = uv_now(&t->loop->uv);
    uint64_t due = ms > UINT64_MAX - now ? UINT64_MAX : now + ms;

    (void)uv_timer_start(&t->timer, on_timer, due > uv_ms ? due - uv_ms : 0, 0);
}

void timer_stop(struct timer *t)
{
    (void)uv_timer_stop(&t->timer);
}

void timer_free(struct timer *t)
{
    if (!t || uv_is_closing((uv_handle_t *)&t->timer))
        return;
    uv_close((uv_handle_t *)&t->timer, on_closed_free);
}

/* ---- signals and the sync pool ---- */

static void on_signal(uv_signal_t *handle, int signo)
{
    struct signal_watch *s = handle->data;

    s->fn(s->ctx, signo);
}

enum err loop_signal(struct loop *l, int signo, void (*fn)(void *ctx, int signo), void *ctx)
{
    struct signal_watch *s = calloc(1, sizeof(*s));

    if (!s)
        return ERR_IO;
    (void)uv_signal_init(&l->uv, &s->signal);
    s->fn = fn;
    s->ctx = ctx;
    s->signal.data = s;
    if (uv_signal_start(&s->signal, on_signal, signo) != 0) {
        uv_close((uv_handle_t *)&s->signal, on_closed_free);
        return ERR_IO;
    }
    /* Waiting for a signal alone does not keep a loop running. */
    uv_unref((uv_handle_t *)&s->signal);
    return ERR_OK;
}

static void on_synced(uv_fs_t *fs)
{
    struct sync_job *j = fs->data;
    void (*cb)(void *arg, int result) = j->cb;
    void *arg = j->arg;
    int result = (int)fs->result;

    uv_fs_req_cleanup(fs);
    free(j);
    cb(arg, result);
}

int loop_fdatasync(struct loop *l, int fd, void (*cb)(void *arg, int result), void *arg)
{
    struct sync_job *j = calloc(1, sizeof(*j));

    if (!j)
        return -ENOMEM;
    j->cb = cb;
    j->arg = arg;
    j->fs.data = j;
    int rc = uv_fs_fdatasync(&l->uv, &j->fs, fd, on_synced);
    if (rc != 0)
        free(j);
    return rc;
}
