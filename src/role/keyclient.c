/*
 * See keyclient.h. Two system calls a signature: send and a receive that blocks with a time limit.
 *
 * SECURITY: answers come from `keys`, which is trusted more than the caller; they are still decoded
 * strictly, and anything but the expected answer is an error.
 */
#include "role/keyclient.h"

#include "base/clock.h"
#include "net/ipc.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define STALE_MAX 64 /* late answers passed over in one request */

struct keyclient {
    int fd;
    bool timed; /* the socket has its own time limit */
    uint64_t tag;
    struct buf out;
    struct arena arena;
    size_t in_size;
    char *in;
};

enum err keyclient_new(int fd, struct keyclient **out_k)
{
    struct keyclient *k = calloc(1, sizeof(*k));
    if (k)
        k->in = malloc(k->in_size = IPC_INLINE_MAX);
    if (!k || !k->in) {
        free(k);
        (void)close(fd);
        return ERR_LIMIT;
    }
    k->fd = -1;
    buf_init(&k->out, message_max(MSG_KEY_REQ));
    arena_init(&k->arena, 4096);
    keyclient_replace(k, fd);
    *out_k = k;
    return ERR_OK;
}

void keyclient_replace(struct keyclient *k, int fd)
{
    if (k->fd >= 0)
        (void)close(k->fd);
    k->fd = fd;
    /* this end blocks, up to the deadline of each request */
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    struct timeval limit = {.tv_usec = KEYPROV_DEADLINE_MS * 1000};
    k->timed = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

void keyclient_free(struct keyclient *k)
{
    if (!k)
        return;
    if (k->fd >= 0)
        (void)close(k->fd);
    OPENSSL_cleanse(k->in, k->in_size);
    free(k->in);
    buf_done(&k->out);
    arena_done(&k->arena);
    free(k);
}

static void broken(struct keyclient *k)
{
    if (k->fd >= 0)
        (void)close(k->fd);
    k->fd = -1;
}

static enum err send_request(struct keyclient *k, const struct key_req *req)
{
    ssize_t n;
    buf_reset(&k->out);
    enum err err = message_encode(MSG_KEY_REQ, req, &k->out);
    if (err)
        return err;
    do
        n = send(k->fd, k->out.p, k->out.n, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    OPENSSL_cleanse(k->out.p, k->out.n); /* it may hold a key or a password */
    if (n >= 0)
        return ERR_OK;
    if (errno == EAGAIN)
        return ERR_TIMEOUT;
    broken(k);
    return ERR_CLOSED;
}

/* One packet before the deadline. The socket's own time limit serves the common case with one
 * system call; poll is needed only when something came in between, or for a longer wait. */
static enum err receive(struct keyclient *k, int64_t deadline, size_t *out_n)
{
    for (;;) {
        int64_t left = deadline - clock_now().mono_ms;
        if (left <= 0)
            return ERR_TIMEOUT;
        int flags = MSG_TRUNC;
        if (!k->timed || left < KEYPROV_DEADLINE_MS - 1) {
            struct pollfd p = {.fd = k->fd, .events = POLLIN};
            if (poll(&p, 1, (int)left) <= 0)
                continue;
            flags |= MSG_DONTWAIT;
        }
        ssize_t n = recv(k->fd, k->in, k->in_size, flags);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0 || (size_t)n > k->in_size) {
            broken(k);
            return ERR_CLOSED;
        }
        *out_n = (size_t)n;
        return ERR_OK;
    }
}

static enum err take_reply(struct keyclient *k, size_t n, const struct key_req *req,
                           struct buf *out_data)
{
    enum message m = MSG_NONE;
    union message_body body;
    arena_reset(&k->arena);
    enum err err = message_decode(sv_of(k->in, n), &k->arena, &m, &body);
    if (err || m != MSG_KEY_REPLY) {
        broken(k);
        return ERR_SYNTAX;
    }
    if (body.KEY_REPLY.tag != req->tag || body.KEY_REPLY.op != req->op)
        return ERR_AGAIN; /* answer to a request given up earlier */
    err = keys_error_of(body.KEY_REPLY.error);
    return err ? err : buf_append_sv(out_data, body.KEY_REPLY.data);
}

enum err keyclient_ask(struct keyclient *k, const struct key_req *req, int deadline_ms,
                       struct buf *out_data)
{
    int64_t deadline = clock_now().mono_ms + deadline_ms;
    struct key_req r = *req;
    if (!k || k->fd < 0)
        return ERR_CLOSED;
    r.tag = ++k->tag;
    enum err err = send_request(k, &r);
    for (int i = 0; !err && i < STALE_MAX; i++) {
        size_t n = 0;
        err = receive(k, deadline, &n);
        if (err)
            return err;
        err = take_reply(k, n, &r, out_data);
        OPENSSL_cleanse(k->in, n);
        if (err != ERR_AGAIN)
            return err;
        err = ERR_OK;
    }
    return err ? err : ERR_TIMEOUT;
}

enum err keyclient_sign(void *ctx, struct sv key_id, enum key_alg alg, struct sv digest,
                        struct buf *out_signature)
{
    struct key_req req = {.op = KEY_OP_SIGN, .name = key_id, .alg = alg, .data = digest};
    return keyclient_ask(ctx, &req, KEYPROV_DEADLINE_MS, out_signature);
}

static enum err ask_simple(struct keyclient *k, enum key_op op, struct sv name, struct sv data,
                           struct buf *out)
{
    struct key_req req = {.op = (uint8_t)op, .name = name, .data = data};
    return keyclient_ask(k, &req, KEYCLIENT_DEADLINE_MS, out);
}

enum err keyclient_certs(struct keyclient *k, struct arena *a, struct tls_identity **out_ids,
                         size_t *out_n)
{
    struct buf data;
    buf_init(&data, message_max(MSG_KEY_REPLY));
    enum err err = ask_simple(k, KEY_OP_CERTS, SV_NULL, SV_NULL, &data);
    struct sv kept = err ? SV_NULL : arena_sv(a, buf_sv(&data));
    buf_done(&data);
    if (err)
        return err;
    return a->overflow ? ERR_LIMIT : key_certs_get(kept, a, out_ids, out_n);
}

enum err keyclient_ticket(struct keyclient *k, uint8_t out_keys[KEYS_TICKET_SIZE])
{
    struct buf data;
    buf_init(&data, KEYS_TICKET_SIZE);
    enum err err = ask_simple(k, KEY_OP_TICKET, SV_NULL, SV_NULL, &data);
    if (!err && data.n != KEYS_TICKET_SIZE)
        err = ERR_SYNTAX;
    if (!err)
        memcpy(out_keys, data.p, KEYS_TICKET_SIZE);
    if (data.p)
        OPENSSL_cleanse(data.p, data.n);
    buf_done(&data);
    return err;
}

enum err keyclient_wrap(struct keyclient *k, struct sv plain, struct buf *out_sealed)
{
    return ask_simple(k, KEY_OP_WRAP, SV_NULL, plain, out_sealed);
}

enum err keyclient_unwrap(struct keyclient *k, struct sv sealed, struct buf *out_plain)
{
    return ask_simple(k, KEY_OP_UNWRAP, SV_NULL, sealed, out_plain);
}

enum err keyclient_secret(struct keyclient *k, struct sv name, struct buf *out_secret)
{
    return ask_simple(k, KEY_OP_SECRET, name, SV_NULL, out_secret);
}
