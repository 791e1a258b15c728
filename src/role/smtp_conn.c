/* See smtp_conn.h. */
#include "role/smtp_conn.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONN_OUT_KEEP (16u * 1024) /* output memory an idle connection may keep */

static void on_watch(void *ctx, int events)
{
    struct conn *c = ctx;

    if (events && !(events & c->wanted)) {
        c->events = c->wanted;
        watch_set(c->watch, c->wanted);
        return;
    }
    if (events & WATCH_READ) {
        c->dry = false;
        if (c->tls)
            tls_readable(c->tls);
    }
    c->handler->ready(c->ctx);
}

static void arm(struct conn *c, int64_t now_ms)
{
    int64_t left = c->deadline_ms - now_ms;

    timer_set(c->timer, left > 0 ? (uint64_t)left : 0);
    c->armed_ms = c->deadline_ms;
}

static void on_timer(void *ctx)
{
    struct conn *c = ctx;
    int64_t now_ms = loop_clock(c->loop).mono_ms;

    c->armed_ms = 0;
    if (c->deadline_ms == 0)
        return;
    if (now_ms < c->deadline_ms) {
        arm(c, now_ms);
        return;
    }
    c->deadline_ms = 0;
    c->handler->deadline(c->ctx);
}

enum err conn_open(struct conn *c, struct loop *loop, int fd, const struct conn_handler *handler,
                   void *ctx)
{
    memset(c, 0, sizeof(*c));
    c->loop = loop;
    c->handler = handler;
    c->ctx = ctx;
    c->fd = fd;
    buf_init(&c->out, CONN_OUT_MAX);
    enum err err = watch_new(loop, fd, on_watch, c, &c->watch);
    if (!err)
        err = timer_new(loop, on_timer, c, &c->timer);
    if (err)
        conn_close(c);
    return err;
}

void conn_close(struct conn *c)
{
    if (c->tls) {
        tls_close_notify(c->tls);
        tls_free(c->tls);
        c->tls = NULL;
    }
    if (c->watch)
        watch_free(c->watch);
    if (c->timer)
        timer_free(c->timer);
    c->watch = NULL;
    c->timer = NULL;
    if (c->fd >= 0)
        (void)close(c->fd);
    c->fd = -1;
    buf_done(&c->out);
    c->sent = 0;
}

void conn_deadline(struct conn *c, int64_t at_ms)
{
    c->deadline_ms = at_ms;
    if (at_ms != 0 && (c->armed_ms == 0 || at_ms < c->armed_ms))
        arm(c, loop_clock(c->loop).mono_ms);
}

enum err conn_write(struct conn *c, struct sv bytes)
{
    return buf_append_sv(&c->out, bytes);
}

size_t conn_waiting(const struct conn *c)
{
    return c->out.n - c->sent;
}

static enum tls_io plain_write(struct conn *c, const char *p, size_t n, size_t *out_n)
{
    for (;;) {
        ssize_t r = send(c->fd, p, n, MSG_NOSIGNAL);
        if (r >= 0) {
            *out_n = (size_t)r;
            return TLS_IO_OK;
        }
        if (errno == EAGAIN)
            return TLS_IO_WANT_WRITE;
        if (errno != EINTR)
            return TLS_IO_CLOSED;
    }
}

enum tls_io conn_flush(struct conn *c)
{
    c->want_write = c->want_read = false;
    while (c->sent < c->out.n) {
        size_t n = 0;
        const char *p = c->out.p + c->sent;
        enum tls_io io = c->tls ? tls_write(c->tls, p, c->out.n - c->sent, &n)
                                : plain_write(c, p, c->out.n - c->sent, &n);
        if (io != TLS_IO_OK) {
            c->want_write = io == TLS_IO_WANT_WRITE;
            c->want_read = io == TLS_IO_WANT_READ;
            return io;
        }
        c->sent += n;
    }
    c->sent = 0;
    if (c->out.cap > CONN_OUT_KEEP)
        buf_release(&c->out);
    else
        buf_reset(&c->out);
    return TLS_IO_OK;
}

static enum tls_io plain_read(struct conn *c, char *p, size_t n, size_t *out_n)
{
    if (c->dry)
        return TLS_IO_WANT_READ;
    for (;;) {
        ssize_t r = recv(c->fd, p, n, 0);
        if (r > 0) {
            c->dry = (size_t)r < n;
            *out_n = (size_t)r;
            return TLS_IO_OK;
        }
        if (r == 0)
            return TLS_IO_CLOSED;
        if (errno == EAGAIN)
            return TLS_IO_WANT_READ;
        if (errno != EINTR)
            return TLS_IO_CLOSED;
    }
}

enum tls_io conn_read(struct conn *c, char *p, size_t n, size_t *out_n)
{
    if (conn_waiting(c) == 0)
        c->want_write = c->want_read = false;
    if (!c->tls)
        return plain_read(c, p, n, out_n);
    enum tls_io io = tls_read(c->tls, p, n, out_n);
    if (io == TLS_IO_WANT_WRITE)
        c->want_write = true;
    return io;
}

enum tls_io conn_handshake(struct conn *c)
{
    enum tls_io io = tls_handshake(c->tls);

    c->want_read = io == TLS_IO_WANT_READ;
    c->want_write = io == TLS_IO_WANT_WRITE;
    return io;
}

/* A session that pauses for a moment stays registered: most clients say nothing meanwhile, and two
 * system calls a pause are saved. on_watch ends it when one does. */
static void await(struct conn *c, int events)
{
    c->wanted = events;
    if ((c->events & ~WATCH_READ) == (events & ~WATCH_READ) && (c->events & events) == events)
        return;
    watch_set(c->watch, events);
    c->events = events;
}

bool conn_settle(struct conn *c, bool reading)
{
    if (conn_waiting(c) > 0 && !c->hold) {
        enum tls_io io = conn_flush(c);
        if (io == TLS_IO_CLOSED || io == TLS_IO_FAILED)
            return false;
    }
    int events = 0;
    if ((reading && conn_waiting(c) <= CONN_OUT_HIGH) || c->want_read)
        events |= WATCH_READ;
    if (c->want_write)
        events |= WATCH_WRITE;
    await(c, events);
    return true;
}
