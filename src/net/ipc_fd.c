/*
 * Packets of a channel and the blocking forms of send and receive: see ipc_int.h.
 *
 * SECURITY: what comes in was written by a less trusted process. Fds are counted and closed on
 * every path; a memfd is used only when it is sealed against change and exactly as long as
 * announced, so that the sender can neither alter it under our feet nor shrink it into SIGBUS.
 */
#include "net/ipc_int.h"

#include "base/clock.h"
#include "net/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

enum { SECRET_ROOM = 16 << 10 };
enum { SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

static void close_fd(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}

enum err memfd_of(struct sv bytes, int *out_fd)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create("postseal", flags | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL) /* kernels before 6.3 */
        fd = memfd_create("postseal", flags);
    if (fd < 0)
        return ERR_IO;
    if (!fd_write_all(fd, bytes) || fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
        (void)close(fd);
        return ERR_IO;
    }
    *out_fd = fd;
    return ERR_OK;
}

enum err ipc_pair(int out_fds[2])
{
    int fds[2];
    int size = 1 << 20;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
        return ERR_IO;
    /* Best effort: the kernel caps it at net.core.wmem_max; its default holds our largest packet.
     */
    for (int i = 0; i < 2; i++)
        (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    out_fds[0] = fds[0];
    out_fds[1] = fds[1];
    return ERR_OK;
}

/* ---- packets out ---- */

/* Moves a large frame into a memfd, leaving the escape. */
static enum err packet_spill(struct packet *p)
{
    int memfd = -1;
    size_t n = p->n;
    enum err err = memfd_of(sv_of(p->bytes, n), &memfd);

    if (err)
        return err;
    p->bytes[0] = 0;
    for (size_t i = 0; i < 4; i++)
        p->bytes[1 + i] = (char)(uint8_t)(n >> (8 * i));
    p->n = PACKET_ESCAPE;
    char *small = realloc(p->bytes, PACKET_ESCAPE);
    if (small)
        p->bytes = small;
    p->fds[p->n_fds++] = memfd;
    return ERR_OK;
}

enum err packet_make(enum message m, const void *body, int fd, struct packet *out_p)
{
    struct buf b;
    struct packet p = {.secret = m == MSG_BYTES || m == MSG_KEY_REQ || m == MSG_KEY_REPLY ||
                                 m == MSG_FILE_GIVE,
                       .fds = {-1, -1}};

    buf_init(&b, message_max(m));
    if (p.secret) /* growing would leave copies behind */
        (void)buf_reserve(&b, message_max(m) < SECRET_ROOM ? message_max(m) : SECRET_ROOM);
    enum err err = message_encode(m, body, &b);
    if (!err) {
        p.bytes = b.p;
        p.n = p.weight = b.n;
        if (p.n > IPC_INLINE_MAX)
            err = packet_spill(&p);
    }
    if (err) {
        buf_done(&b);
        close_fd(fd);
        return err;
    }
    if (fd >= 0)
        p.fds[p.n_fds++] = fd;
    *out_p = p;
    return ERR_OK;
}

void packet_done(struct packet *p)
{
    for (int i = 0; i < p->n_fds; i++)
        close_fd(p->fds[i]);
    if (p->secret)
        explicit_bzero(p->bytes, p->n);
    free(p->bytes);
    *p = (struct packet){.fds = {-1, -1}};
}

void packet_msghdr(const struct packet *p, struct iovec *iov, union packet_control *control,
                   struct msghdr *out_msg)
{
    *iov = (struct iovec){p->bytes, p->n};
    *out_msg = (struct msghdr){.msg_iov = iov, .msg_iovlen = 1};
    if (!p->n_fds)
        return;
    size_t size = sizeof(int) * (size_t)p->n_fds;
    memset(control, 0, sizeof(*control));
    out_msg->msg_control = control->b;
    out_msg->msg_controllen = CMSG_SPACE(size);
    struct cmsghdr *c = &control->align;
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(c), p->fds, size);
}

/* ---- packets in ---- */

static void take_fds(struct cmsghdr *c, struct packet_in *in, bool *out_strange)
{
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

    for (size_t i = 0; i < n; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
        if (in->n_fds < PACKET_FDS) {
            in->fds[in->n_fds++] = fd;
        } else {
            close_fd(fd);
            *out_strange = true;
        }
    }
}

enum err packet_in_of(struct msghdr *msg, size_t n, struct packet_in *out_in)
{
    struct packet_in in = {.bytes = {msg->msg_iov[0].iov_base, n}, .fds = {-1, -1}};
    bool strange = (msg->msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            take_fds(c, &in, &strange);
        else
            strange = true;
    }
    if (strange) {
        packet_in_done(&in);
        return ERR_SYNTAX;
    }
    *out_in = in;
    return ERR_OK;
}

/* Maps the memfd of an escape, after every check that makes reading it safe. */
static enum err map_memfd(struct packet_in *in)
{
    struct stat st;
    size_t n = 0;

    if (in->bytes.n != PACKET_ESCAPE || in->n_fds < 1)
        return ERR_SYNTAX;
    for (size_t i = 0; i < 4; i++)
        n |= (size_t)(uint8_t)in->bytes.p[1 + i] << (8 * i);
    int seals = fcntl(in->fds[0], F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(in->fds[0], &st) != 0 ||
        !S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size != n ||
        n <= IPC_INLINE_MAX || n > MIB(64))
        return ERR_SYNTAX;
    void *map = mmap(NULL, n, PROT_READ, MAP_PRIVATE, in->fds[0], 0);
    if (map == MAP_FAILED)
        return ERR_IO;
    in->map = map;
    in->map_size = n;
    return ERR_OK;
}

enum err packet_in_frame(struct packet_in *in, struct sv *out_frame, int *out_fd)
{
    int own = 0; /* index of the message's own fd */

    if (in->bytes.n < 1)
        return ERR_SYNTAX;
    if (in->bytes.p[0] == 0) {
        enum err err = map_memfd(in);
        if (err)
            return err;
        *out_frame = sv_of(in->map, in->map_size);
        own = 1;
    } else {
        *out_frame = in->bytes;
    }
    if (in->n_fds > own + 1)
        return ERR_SYNTAX;
    *out_fd = in->n_fds > own ? in->fds[own] : -1;
    if (in->n_fds > own)
        in->n_fds = own;
    return ERR_OK;
}

void packet_in_done(struct packet_in *in)
{
    for (int i = 0; i < in->n_fds; i++)
        close_fd(in->fds[i]);
    if (in->map)
        (void)munmap(in->map, in->map_size);
    *in = (struct packet_in){.fds = {-1, -1}};
}

/* ---- blocking forms ---- */

/* Waits for the event; deadline < 0 = for ever. */
static enum err wait_fd(int sock, short events, int64_t deadline)
{
    for (;;) {
        struct pollfd p = {.fd = sock, .events = events};
        int64_t left = deadline < 0 ? -1 : deadline - clock_now().mono_ms;
        if (deadline >= 0 && left < 0)
            left = 0;
        int n = poll(&p, 1, left > INT_MAX ? INT_MAX : (int)left);
        if (n > 0)
            return ERR_OK;
        if (n == 0)
            return ERR_TIMEOUT;
        if (errno != EINTR)
            return ERR_IO;
    }
}

enum err ipc_send_fd(int sock, enum message m, const void *body, int fd)
{
    struct packet p;
    struct iovec iov;
    union packet_control control;
    struct msghdr msg;
    enum err err = packet_make(m, body, fd, &p);

    if (err)
        return err;
    packet_msghdr(&p, &iov, &control, &msg);
    for (;;) {
        ssize_t n = sendmsg(sock, &msg, MSG_NOSIGNAL);
        if (n >= 0)
            break;
        if (errno == EAGAIN)
            err = wait_fd(sock, POLLOUT, -1);
        else if (errno != EINTR)
            err = errno == EPIPE || errno == ECONNRESET ? ERR_CLOSED : ERR_IO;
        if (err)
            break;
    }
    packet_done(&p);
    return err;
}

/* One packet into the arena. */
static enum err recv_packet(int sock, int64_t deadline, struct arena *a, struct packet_in *out_in)
{
    union packet_control control;
    struct iovec iov;
    ssize_t n;

    enum err err = wait_fd(sock, POLLIN, deadline);
    if (err)
        return err;
    do
        n = recv(sock, NULL, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN || errno == ECONNRESET ? ERR_AGAIN : ERR_IO;
    if (n == 0)
        return ERR_CLOSED;
    if (n > PACKET_MAX)
        return ERR_LIMIT;
    iov = (struct iovec){arena_alloc(a, (size_t)n), (size_t)n};
    if (!iov.iov_base)
        return ERR_LIMIT;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.b,
                         .msg_controllen = sizeof(control.b)};
    ssize_t got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got <= 0)
        return got == 0 ? ERR_CLOSED : errno == EAGAIN || errno == EINTR ? ERR_AGAIN : ERR_IO;
    return packet_in_of(&msg, (size_t)got, out_in);
}

/* Frame -> message; a mapped frame is copied so that views outlive the map. */
static enum err decode_packet(struct packet_in *in, enum role self, enum role peer, struct arena *a,
                              enum message *out_m, union message_body *out_body, int *out_fd)
{
    struct sv frame;
    enum message m = MSG_NONE;
    int fd = -1;
    enum err err = packet_in_frame(in, &frame, &fd);

    if (!err && in->map) {
        frame = arena_sv(a, frame);
        err = frame.p ? ERR_OK : ERR_LIMIT;
    }
    if (!err)
        err = message_decode(frame, a, &m, out_body);
    if (!err && !message_allowed(m, peer, self))
        err = ERR_DENIED;
    if (err) {
        close_fd(fd);
        return err;
    }
    *out_m = m;
    *out_fd = fd;
    return ERR_OK;
}

/* NOLINTNEXTLINE(readability-function-size): eight parameters, and a struct would hide outputs */
enum err ipc_recv_fd(int sock, enum role self, enum role peer, int timeout_ms, struct arena *a,
                     enum message *out_m, union message_body *out_body, int *out_fd)
{
    int64_t deadline = timeout_ms < 0 ? -1 : clock_now().mono_ms + timeout_ms;
    struct packet_in in;
    enum err err;

    do
        err = recv_packet(sock, deadline, a, &in);
    while (err == ERR_AGAIN);
    if (err)
        return err;
    err = decode_packet(&in, self, peer, a, out_m, out_body, out_fd);
    packet_in_done(&in);
    return err;
}
