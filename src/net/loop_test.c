/* The loop: timers in order, deadlines never early, watches, hooks, freeing inside callbacks. */
#include "net/loop_int.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct trace {
    struct loop *loop;
    char text[64];
    size_t n;
};

struct shot {
    struct trace *trace;
    struct timer *timer;
    char name;
    int64_t due;
    bool free_self, stop;
};

static void on_shot(void *ctx)
{
    struct shot *s = ctx;

    assert_true(loop_clock(s->trace->loop).mono_ms >= s->due);
    s->trace->text[s->trace->n++] = s->name;
    if (s->free_self)
        timer_free(s->timer);
    if (s->stop)
        loop_stop(s->trace->loop);
}

static void arm(struct shot *s, struct trace *t, char name, uint64_t ms)
{
    s->trace = t;
    s->name = name;
    assert_int_equal(timer_new(t->loop, on_shot, s, &s->timer), ERR_OK);
    s->due = loop_clock(t->loop).mono_ms + (int64_t)ms;
    timer_set(s->timer, ms);
}

static void test_timers(void **state)
{
    (void)state;
    struct trace t = {0};
    struct shot s[4] = {{.stop = true}, {.free_self = true}, {0}, {0}};

    assert_int_equal(loop_new(&t.loop), ERR_OK);
    arm(&s[0], &t, 'd', 30);
    arm(&s[1], &t, 'a', 0);
    arm(&s[2], &t, 'c', 20);
    arm(&s[3], &t, 'x', 1000000);
    timer_stop(s[3].timer);
    timer_set(s[2].timer, 5);
    s[2].due -= 15;
    loop_run(t.loop);
    assert_string_equal(t.text, "acd");
    loop_free(t.loop);
}

static void on_turn(void *ctx)
{
    struct trace *t = ctx;

    if (t->n && t->text[t->n - 1] != '.')
        t->text[t->n++] = '.';
}

static void on_defer(struct loop_defer *d);
struct deferred {
    struct loop_defer d;
    struct trace *trace;
};
static void on_defer(struct loop_defer *d)
{
    struct trace *t = ((struct deferred *)(void *)d)->trace;

    t->text[t->n++] = 'D';
}

static void test_turn_order(void **state)
{
    (void)state;
    struct trace t = {0};
    struct shot s[3] = {{0}, {0}, {.stop = true}};
    struct deferred d = {.d = {.fn = on_defer}, .trace = &t};
    struct deferred never = {.d = {.fn = on_defer}, .trace = &t};

    assert_int_equal(loop_new(&t.loop), ERR_OK);
    loop_on_turn(t.loop, on_turn, &t);
    arm(&s[0], &t, 'a', 0);
    arm(&s[1], &t, 'b', 0);
    arm(&s[2], &t, 'z', 10);
    loop_defer_add(t.loop, &d.d);
    loop_defer_add(t.loop, &never.d);
    loop_defer_cancel(&never.d);
    loop_run(t.loop);
    /* what was deferred before the run goes first; hooks run once a turn */
    assert_string_equal(t.text, "Dab.z.");
    loop_free(t.loop);
}

struct pipe_case {
    struct loop *loop;
    struct watch *watch;
    int fds[2];
    int events, calls;
};

static void on_pipe(void *ctx, int events)
{
    struct pipe_case *p = ctx;
    char c;

    p->calls++;
    p->events |= events;
    if (read(p->fds[0], &c, 1) == 1)
        return;
    watch_free(p->watch);
    (void)close(p->fds[0]);
    loop_stop(p->loop);
}

static void test_watch(void **state)
{
    (void)state;
    struct pipe_case p = {0};

    assert_int_equal(loop_new(&p.loop), ERR_OK);
    assert_int_equal(pipe2(p.fds, O_CLOEXEC), 0);
    assert_int_equal(watch_new(p.loop, p.fds[0], on_pipe, &p, &p.watch), ERR_OK);
    watch_set(p.watch, WATCH_READ);
    assert_int_equal(write(p.fds[1], "xy", 2), 2);
    (void)close(p.fds[1]);
    loop_run(p.loop);
    assert_int_equal(p.calls, 3); /* two bytes, then the end */
    assert_int_equal(p.events, WATCH_READ);
    loop_free(p.loop);
}

static void on_signal(void *ctx, int signo)
{
    struct trace *t = ctx;

    t->text[t->n++] = signo == SIGUSR1 ? '1' : '?';
    loop_stop(t->loop);
}

static void raise_it(void *ctx)
{
    (void)ctx;
    (void)raise(SIGUSR1);
}

static void test_signal(void **state)
{
    (void)state;
    struct trace t = {0};
    struct timer *timer;

    assert_int_equal(loop_new(&t.loop), ERR_OK);
    assert_int_equal(loop_signal(t.loop, SIGUSR1, on_signal, &t), ERR_OK);
    assert_int_equal(timer_new(t.loop, raise_it, NULL, &timer), ERR_OK);
    timer_set(timer, 0);
    /* signals alone keep no loop alive, so something else has to */
    struct shot s = {.stop = true};
    arm(&s, &t, 'x', 60000);
    loop_run(t.loop);
    assert_string_equal(t.text, "1");
    loop_free(t.loop);
}

static void on_sync(void *arg, int result)
{
    struct trace *t = arg;

    t->text[t->n++] = result == 0 ? 'k' : 'E';
    if (t->n == 2)
        loop_stop(t->loop);
}

static void test_fdatasync(void **state)
{
    (void)state;
    struct trace t = {0};
    char name[] = "/tmp/postseal-loop-XXXXXX";
    int fd = mkstemp(name);
    int fds[2];

    assert_true(fd >= 0);
    (void)unlink(name);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(loop_new(&t.loop), ERR_OK);
    assert_int_equal(loop_fdatasync(t.loop, fd, on_sync, &t), 0);
    assert_int_equal(loop_fdatasync(t.loop, fds[0], on_sync, &t), 0); /* EINVAL on a pipe */
    loop_run(t.loop);
    assert_true(strchr(t.text, 'k') && strchr(t.text, 'E'));
    loop_free(t.loop);
    (void)close(fd);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers),    cmocka_unit_test(test_turn_order),
        cmocka_unit_test(test_watch),     cmocka_unit_test(test_signal),
        cmocka_unit_test(test_fdatasync),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
