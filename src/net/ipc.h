/*
 * Channel between processes: SOCK_SEQPACKET socketpair, one frame of model/messages.h a packet.
 * Frames above IPC_INLINE_MAX travel as a sealed memfd. Besides, a message may carry one fd. Output
 * that the socket does not take is queued (bounded); several frames waiting are sent in one
 * sendmmsg. Garbage, a message the peer's role may not send, or an overflow closes the channel and
 * calls closed() with the reason; it never ends the receiver.
 */
#ifndef NET_IPC_H
#define NET_IPC_H

#include "model/messages.h"
#include "net/loop.h"

#define IPC_INLINE_MAX (128u * 1024)
#define IPC_QUEUE_MAX  (64u * 1024 * 1024) /* bytes waiting for a slow peer */

struct ipc;
struct ipc_handler {
    void *ctx;
    /* One message. Views live until return. fd (or -1) belongs to the callee. */
    void (*message)(void *ctx, struct ipc *ch, enum message m, const union message_body *body,
                    int fd);
    void (*closed)(void *ctx, struct ipc *ch, const char *why); /* ch is dead after return */
};

/* self, peer: roles for the who-may-send check. Takes the fd. */
NODISCARD enum err ipc_new(struct loop *loop, int fd, enum role self, enum role peer,
                           uint8_t peer_index, const struct ipc_handler *h, struct ipc **out_ch);
void ipc_free(struct ipc *ch); /* safe inside a callback; no closed() */
/* fd >= 0 is passed and closed here, also on failure. ERR_LIMIT when the peer's queue is full
 * (channel stays), ERR_CLOSED when the peer is gone. Never calls back; leaves at the turn's end. */
NODISCARD enum err ipc_send(struct ipc *ch, enum message m, const void *body, int fd);
uint8_t ipc_peer_index(const struct ipc *ch);
enum role ipc_peer(const struct ipc *ch);
size_t ipc_waiting(const struct ipc *ch); /* bytes queued */

/* Blocking forms over a plain fd: for `keys` clients (deadline), postsealctl and tests. Sending
 * takes fd in every case; receiving: timeout_ms < 0 = for ever, views live in the arena. */
NODISCARD enum err ipc_send_fd(int sock, enum message m, const void *body, int fd);
NODISCARD enum err ipc_recv_fd(int sock, enum role self, enum role peer, int timeout_ms,
                               struct arena *a, enum message *out_m, union message_body *out_body,
                               int *out_fd);
/* A socketpair made for ipc (SEQPACKET, CLOEXEC, buffers sized). */
NODISCARD enum err ipc_pair(int out_fds[2]);
/* A sealed memfd with these bytes. */
NODISCARD enum err memfd_of(struct sv bytes, int *out_fd);

#endif
