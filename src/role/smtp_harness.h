/*
 * Test bench of the `smtp` process: it runs in a child with a real `keys` beside it; the test plays
 * the supervisor, `queue`, `lookup`, SMTP clients and SMTP servers on loopback, all blocking with
 * time limits.
 */
#ifndef ROLE_SMTP_HARNESS_H
#define ROLE_SMTP_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "core/settings.h"
#include "model/messages.h"
#include "net/ipc.h"

#include <openssl/ssl.h>
#include <sys/types.h>

#define BENCH_WAIT_MS 8000
#define LEASE_FIRST   5000u
#define BENCH_HOST    "gateway.test"

struct bench {
    pid_t smtp, keys;
    int control, keys_control;
    int keys_end;      /* smtp's end of the channel to keys, not given yet */
    int queue, lookup; /* our ends */
    uint16_t port_mx, port_submission, port_submissions;
    struct arena mem; /* of the last message */
    union message_body msg;
    int fd; /* of the last message */
    SSL_CTX *server, *client;
};

/* One side of a plain or TLS conversation. */
struct talk {
    int fd;
    SSL *ssl;
    char line[4096];
    char in[16384];
    size_t n;
};

struct piece {
    const char *name, *text;
};

/* A network of our own in which 198.51.100.1 to .4 are ours: strangers that are not loopback. Call
 * before bench_start. */
void bench_private_net(void);
struct bench *bench_start(const struct piece *pieces);
/* Only the processes: no settings, no lease, no channel to keys. */
struct bench *bench_start_bare(void);
void bench_keys(struct bench *b); /* gives the channel to keys that bare kept back */
void bench_stop(struct bench *b); /* asserts that smtp lives and ends well */
/* A new `queue` channel: lease, intake open, settings; waits for the acknowledgement. */
void bench_queue(struct bench *b, const struct piece *pieces);
void bench_queue_channel(struct bench *b); /* the channel alone */
void bench_settings(struct bench *b, const struct piece *pieces);
void bench_settings_acked(struct bench *b);
void bench_send(struct bench *b, enum message m, const void *body, int fd);
/* The next message of that kind (STATS and EVENT are passed over). */
const union message_body *bench_expect(struct bench *b, enum message m);
void bench_commit(struct bench *b, uint16_t code); /* answers the RECEIVED in b->msg */

/* Listening socket on 127.0.0.1. */
int listen_any(uint16_t *out_port);
struct talk talk_to(uint16_t port);
struct talk talk_from(const char *source, uint16_t port); /* our own address */
struct talk talk_accept(int listener);
bool talk_pending(int listener, int ms); /* does somebody connect? */
void talk_close(struct talk *t);
void talk_say(struct talk *t, const char *text); /* as it is */
const char *talk_line(struct talk *t);           /* without CRLF; NULL at the end */
/* Reads a reply of one or more lines; its code must be this. Returns the last line. */
const char *talk_reply(struct talk *t, int code);
const char *talk_cmd(struct talk *t, const char *line, int code); /* adds CRLF */
void talk_expect(struct talk *t, const char *start);              /* a command of a client */
void talk_tls_client(struct bench *b, struct talk *t);
void talk_tls_server(struct bench *b, struct talk *t);
/* Reads DATA up to the final dot into out. */
void talk_read_data(struct talk *t, struct buf *out);

/* A job for 127.0.0.1:port. */
struct delivery job_for(uint16_t port, uint64_t attempt, enum tls_level level, struct sv body);

#endif
