/*
 * Event loop: libuv behind a small face. fds are watched, never owned. One loop per process.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include "base/clock.h"
#include "base/err.h"
#include <stdbool.h>

struct loop;
struct watch;
struct timer;

NODISCARD enum err loop_new(struct loop **out_loop);
void loop_free(struct loop *l);
void loop_run(struct loop *l); /* until loop_stop */
void loop_stop(struct loop *l);
void *loop_uv(struct loop *l); /* uv_loop_t, for libraries that bring a libuv face of their own */
struct clock loop_clock(const struct loop *l); /* sampled once per turn */
/* Called once at the end of every turn, after all events: flush logs, send batches. */
void loop_on_turn(struct loop *l, void (*fn)(void *ctx), void *ctx);

enum { WATCH_READ = 1, WATCH_WRITE = 2 };
NODISCARD enum err watch_new(struct loop *l, int fd, void (*fn)(void *ctx, int events), void *ctx,
                             struct watch **out_watch);
void watch_set(struct watch *w, int events); /* 0 = pause */
void watch_free(struct watch *w);            /* safe inside its own callback */

NODISCARD enum err timer_new(struct loop *l, void (*fn)(void *ctx), void *ctx,
                             struct timer **out_timer);
void timer_set(struct timer *t, uint64_t ms); /* one shot; replaces the former time */
void timer_stop(struct timer *t);
void timer_free(struct timer *t); /* safe inside its own callback */

NODISCARD enum err loop_signal(struct loop *l, int signo, void (*fn)(void *ctx, int signo),
                               void *ctx);
/* fdatasync in libuv's pool (the only use of threads). */
int loop_fdatasync(struct loop *l, int fd, void (*cb)(void *arg, int result), void *arg);

#endif
