/*
 * Packets of a channel, shared by ipc.c (loop) and ipc_fd.c (blocking forms).
 *
 * A packet is a frame of model/messages.h, or, for frames above IPC_INLINE_MAX, the escape
 * {u8 0, u32 length little-endian} with a sealed memfd as its first fd. An fd that the message
 * itself carries comes last.
 */
#ifndef NET_IPC_INT_H
#define NET_IPC_INT_H

#include "net/ipc.h"
#include <sys/socket.h>
#include <sys/uio.h>

enum {
    PACKET_FDS = 2,
    PACKET_ESCAPE = 5, /* bytes of the escape */
    PACKET_MAX = IPC_INLINE_MAX + 64
};

/* Aligned room for the fds of one packet. */
union packet_control {
    char b[CMSG_SPACE(sizeof(int) * PACKET_FDS)];
    struct cmsghdr align;
};

/* A frame on its way out: owns bytes and fds. */
struct packet {
    char *bytes; /* malloc'd: the frame or the escape */
    size_t n;
    size_t weight; /* bytes of the frame, wherever they are */
    bool secret;   /* may hold key material: wiped */
    int fds[PACKET_FDS];
    int n_fds;
};
/* Takes fd in every case. */
NODISCARD enum err packet_make(enum message m, const void *body, int fd, struct packet *out_p);
void packet_done(struct packet *p);
void packet_msghdr(const struct packet *p, struct iovec *iov, union packet_control *control,
                   struct msghdr *out_msg);

/* A packet that came in: closes and unmaps what it holds. */
struct packet_in {
    struct sv bytes;
    int fds[PACKET_FDS];
    int n_fds;
    void *map;
    size_t map_size;
};
/* Fds out of a received msghdr; ERR_SYNTAX when control data were cut or strange. */
NODISCARD enum err packet_in_of(struct msghdr *msg, size_t n, struct packet_in *out_in);
/* The frame (view of bytes or of the mapped memfd) and the message's own fd (-1 = none), which
 * leaves the packet. */
NODISCARD enum err packet_in_frame(struct packet_in *in, struct sv *out_frame, int *out_fd);
void packet_in_done(struct packet_in *in);

#endif
