/*
 * Channels on the loop: see ipc.h. Output gathers during a turn and leaves in one sendmmsg at its
 * end; input is taken in batches by recvmmsg into the loop's scratch memory, and messages are
 * decoded in place (views point into it until the callback returns).
 *
 * SECURITY: the peer may be a process that was taken over. Whatever it sends, the worst it gets is
 * that its own channel closes.
 */
#include "net/ipc_int.h"
#include "net/loop_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SEND_BATCH = 32,
    RECV_BATCH = 8,
    RECV_ROUNDS = 4,              /* then the other fds of the loop have their turn */
    DECODE_ARENA_MAX = 32u << 20, /* lists of one decoded message */
};

struct out {
    struct list node;
    struct packet packet;
};

struct ipc {
    struct loop *loop;
    struct watch *watch;
    int fd;
    enum role self, peer;
    uint8_t peer_index;
    struct ipc_handler handler;
    struct list queue; /* struct out */
    size_t waiting;    /* bytes in queue */
    struct loop_defer flush;
    struct arena arena;
    int busy;  /* callbacks on the stack */
    bool deaf; /* the peer reads no more: closed() follows when its last words are read */
    bool dead;
};

/* Receive buffers: one set per loop, since callbacks never nest receiving. */
struct ring {
    struct mmsghdr msgs[RECV_BATCH];
    struct iovec iov[RECV_BATCH];
    union packet_control control[RECV_BATCH];
    char data[RECV_BATCH][PACKET_MAX];
};

/* Drops the first of the queue. */
static void out_pop(struct ipc *ch)
{
    struct out *o = LIST_ENTRY(list_pop(&ch->queue), struct out, node);

    ch->waiting -= o->packet.weight;
    packet_done(&o->packet);
    free(o);
}

static void queue_drop(struct ipc *ch)
{
    while (!list_empty(&ch->queue))
        out_pop(ch);
}

/* Ends everything but the memory, which goes when no callback is on the stack. */
static void channel_end(struct ipc *ch)
{
    if (ch->dead)
        return;
    ch->dead = true;
    loop_defer_cancel(&ch->flush);
    watch_free(ch->watch);
    (void)close(ch->fd);
    queue_drop(ch);
}

static void channel_release(struct ipc *ch)
{
    if (!ch->dead || ch->busy)
        return;
    arena_done(&ch->arena);
    free(ch);
}

static void channel_fail(struct ipc *ch, const char *why)
{
    if (ch->dead)
        return;
    channel_end(ch);
    ch->busy++;
    if (ch->handler.closed)
        ch->handler.closed(ch->handler.ctx, ch, why);
    ch->busy--;
}

/* ---- out ---- */

static size_t batch_fill(struct ipc *ch, struct mmsghdr *msgs, struct iovec *iov,
                         union packet_control *control)
{
    size_t n = 0;

    LIST_FOREACH (it, &ch->queue) {
        if (n == SEND_BATCH)
            break;
        struct out *o = LIST_ENTRY(it, struct out, node);
        packet_msghdr(&o->packet, &iov[n], &control[n], &msgs[n].msg_hdr);
        n++;
    }
    return n;
}

/* False when the channel died or the socket is full. */
static bool send_batch(struct ipc *ch)
{
    struct mmsghdr msgs[SEND_BATCH];
    struct iovec iov[SEND_BATCH];
    union packet_control control[SEND_BATCH];
    size_t n = batch_fill(ch, msgs, iov, control);
    int sent = sendmmsg(ch->fd, msgs, (unsigned)n, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (sent < 0 && errno == EINTR)
        return true;
    /* Too many fds in flight, or no kernel memory: the peer will take some, then it goes on. */
    if (sent < 0 &&
        (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS)) {
        watch_set(ch->watch, WATCH_READ | WATCH_WRITE);
        return false;
    }
    if (sent < 0) { /* the peer is gone; what it sent before is still to be read */
        queue_drop(ch);
        ch->deaf = true;
        return false;
    }
    for (int i = 0; i < sent; i++)
        out_pop(ch);
    return true;
}

static void channel_flush(struct ipc *ch)
{
    while (!list_empty(&ch->queue))
        if (!send_batch(ch))
            return;
    watch_set(ch->watch, WATCH_READ);
}

static void on_flush(struct loop_defer *d)
{
    struct ipc *ch = LIST_ENTRY(d, struct ipc, flush);

    ch->busy++;
    channel_flush(ch);
    ch->busy--;
    channel_release(ch);
}

enum err ipc_send(struct ipc *ch, enum message m, const void *body, int fd)
{
    struct packet p;

    bool gone = ch->dead || ch->deaf;
    if (gone || !message_allowed(m, ch->self, ch->peer)) {
        if (fd >= 0)
            (void)close(fd);
        return gone ? ERR_CLOSED : ERR_BUG;
    }
    enum err err = packet_make(m, body, fd, &p);
    if (err)
        return err;
    struct out *o = calloc(1, sizeof(*o));
    if (!o || (ch->waiting && ch->waiting + p.weight > IPC_QUEUE_MAX)) {
        packet_done(&p);
        free(o);
        return ERR_LIMIT;
    }
    o->packet = p;
    ch->waiting += p.weight;
    list_push_back(&ch->queue, &o->node);
    loop_defer_add(ch->loop, &ch->flush);
    return ERR_OK;
}

/* ---- in ---- */

static void deliver(struct ipc *ch, struct packet_in *in)
{
    union message_body body;
    struct sv frame;
    enum message m = MSG_NONE;
    int fd = -1;
    char why[96];

    arena_reset(&ch->arena);
    enum err err = packet_in_frame(in, &frame, &fd);
    if (!err)
        err = message_decode(frame, &ch->arena, &m, &body);
    if (err) {
        (void)snprintf(why, sizeof(why), "garbage from peer (%s)", err_name(err));
    } else if (!message_allowed(m, ch->peer, ch->self)) {
        (void)snprintf(why, sizeof(why), "%s may not send %s", role_name(ch->peer),
                       message_name(m));
        err = ERR_DENIED;
    }
    if (err) {
        if (fd >= 0)
            (void)close(fd);
        channel_fail(ch, why);
        return;
    }
    ch->handler.message(ch->handler.ctx, ch, m, &body, fd);
}

static void ring_prepare(struct ring *r)
{
    for (size_t i = 0; i < RECV_BATCH; i++) {
        r->iov[i] = (struct iovec){r->data[i], PACKET_MAX};
        r->msgs[i].msg_hdr = (struct msghdr){.msg_iov = &r->iov[i],
                                             .msg_iovlen = 1,
                                             .msg_control = r->control[i].b,
                                             .msg_controllen = sizeof(r->control[i].b)};
    }
}

static void take_one(struct ipc *ch, struct mmsghdr *msg)
{
    struct packet_in in;
    enum err err = packet_in_of(&msg->msg_hdr, msg->msg_len, &in);

    if (err) {
        channel_fail(ch, "garbage from peer (ancillary data)");
        return;
    }
    if (!ch->dead) { /* else only its fds are to be closed */
        if (msg->msg_len == 0)
            channel_fail(ch, "peer closed the channel");
        else
            deliver(ch, &in);
    }
    packet_in_done(&in);
}

/* False when there is nothing more to read now. */
static bool receive_round(struct ipc *ch, struct ring *r)
{
    ring_prepare(r);
    int n = recvmmsg(ch->fd, r->msgs, RECV_BATCH, MSG_CMSG_CLOEXEC | MSG_DONTWAIT, NULL);

    /* ECONNRESET says once that the peer closed with our messages unread; its own are still here.
     */
    if (n < 0 && errno == ECONNRESET)
        return true;
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            channel_fail(ch, "peer went away");
        return false;
    }
    for (int i = 0; i < n; i++)
        take_one(ch, &r->msgs[i]);
    return n == RECV_BATCH;
}

static void on_ready(void *ctx, int events)
{
    struct ipc *ch = ctx;
    struct ring *r = loop_scratch(ch->loop, sizeof(*r));

    ch->busy++;
    if (!r)
        channel_fail(ch, "out of memory");
    if (events & WATCH_READ)
        for (int i = 0; r && !ch->dead && i < RECV_ROUNDS; i++)
            if (!receive_round(ch, r))
                break;
    if ((events & WATCH_WRITE) && !ch->dead)
        channel_flush(ch);
    ch->busy--;
    channel_release(ch);
}

/* ---- life ---- */

enum err ipc_new(struct loop *loop, int fd, enum role self, enum role peer, uint8_t peer_index,
                 const struct ipc_handler *h, struct ipc **out_ch)
{
    struct ipc *ch = calloc(1, sizeof(*ch));

    if (!ch || watch_new(loop, fd, on_ready, ch, &ch->watch) != ERR_OK) {
        free(ch);
        (void)close(fd);
        return ERR_IO;
    }
    ch->loop = loop;
    ch->fd = fd;
    ch->self = self;
    ch->peer = peer;
    ch->peer_index = peer_index;
    ch->handler = *h;
    ch->flush.fn = on_flush;
    list_init(&ch->queue);
    arena_init(&ch->arena, DECODE_ARENA_MAX);
    watch_set(ch->watch, WATCH_READ);
    *out_ch = ch;
    return ERR_OK;
}

void ipc_free(struct ipc *ch)
{
    if (!ch)
        return;
    channel_end(ch);
    channel_release(ch);
}

uint8_t ipc_peer_index(const struct ipc *ch)
{
    return ch->peer_index;
}

enum role ipc_peer(const struct ipc *ch)
{
    return ch->peer;
}

size_t ipc_waiting(const struct ipc *ch)
{
    return ch->waiting;
}
