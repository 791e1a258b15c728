/*
 * One TCP connection of the `smtp` process: fd, optional TLS, output waiting, one deadline. It
 * moves bytes and knows no SMTP. Its owner pumps: after each event it reads, feeds its machine,
 * writes, and calls conn_settle once, which flushes and says to the loop what to wait for.
 *
 * Back-pressure: while more than CONN_OUT_HIGH bytes wait for the peer nothing is read.
 */
#ifndef ROLE_SMTP_CONN_H
#define ROLE_SMTP_CONN_H

#include "base/buf.h"
#include "crypto/tls.h"
#include "net/loop.h"

#define CONN_OUT_HIGH (64u * 1024)
#define CONN_OUT_MAX  (1024u * 1024)

struct conn_handler {
    void (*ready)(void *ctx);    /* something can move: pump */
    void (*deadline)(void *ctx); /* conn->deadline_ms has passed */
};

struct conn {
    struct loop *loop;
    const struct conn_handler *handler;
    void *ctx;
    int fd;
    struct watch *watch;
    struct timer *timer;
    struct tls *tls; /* NULL = clear */
    struct buf out;
    size_t sent;     /* of out */
    bool want_write; /* connecting, or TLS must write before it can go on */
    bool want_read;  /* TLS must read before it can write */
    bool hold;       /* output waits for the tarpit */
    bool dry;        /* in clear: the last read took all there was; cleared when readable */
    int events;      /* what the watch waits for now */
    int wanted;      /* what it should: reading is given up only when it would wake us in vain */
    int64_t deadline_ms; /* monotonic; 0 = none */
    int64_t armed_ms;    /* when the timer fires; 0 = not armed. Never later than deadline_ms */
};

/* Takes the fd. The watch starts idle: conn_settle begins. */
NODISCARD enum err conn_open(struct conn *c, struct loop *loop, int fd,
                             const struct conn_handler *handler, void *ctx);
/* Sends close_notify when TLS runs, closes, frees. Safe inside the handler's functions as long as
 * the handler returns at once afterwards. Idempotent. */
void conn_close(struct conn *c);

/* Latest time for the next step of the peer. Cheap: the timer is moved only to an earlier time. */
void conn_deadline(struct conn *c, int64_t at_ms);

/* Queues bytes. ERR_LIMIT past CONN_OUT_MAX. */
NODISCARD enum err conn_write(struct conn *c, struct sv bytes);
size_t conn_waiting(const struct conn *c);
/* Sends what the socket takes. TLS_IO_OK: nothing waits. */
enum tls_io conn_flush(struct conn *c);
enum tls_io conn_read(struct conn *c, char *p, size_t n, size_t *out_n);
/* Moves a TLS handshake on (conn->tls is set). */
enum tls_io conn_handshake(struct conn *c);
/* Flushes, then waits for output room and, when `reading`, for input. false: the connection broke.
 */
bool conn_settle(struct conn *c, bool reading);

#endif
