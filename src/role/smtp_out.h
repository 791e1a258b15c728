/*
 * Delivery, shared by the smtp_out*.c files: smtp_out.c leads an attempt through its addresses,
 * smtp_out_conn.c moves one connection, smtp_out_result.c turns what happened into an outcome.
 */
#ifndef ROLE_SMTP_OUT_H
#define ROLE_SMTP_OUT_H

#include "core/plan.h"
#include "proto/smtp_cli.h"
#include "role/smtp_priv.h"

#define OUT_SESSIONS_MAX 2 /* transactions deferred by the peer until the attempt ends */
#define OUT_BODY_CHUNK   (32u * 1024)
#define OUT_HOSTS_MAX    5  /* hosts tried of one MX set (a route's own list is tried whole) */
#define OUT_ADDRS_MAX    10 /* ... and their addresses */
#define OUT_MIN_RATE     (10u * 1024) /* bytes a second: the time a body gets, see attempt_max_s */

enum out_state {
    OUT_CONNECTING,
    OUT_RUN,
    OUT_HANDSHAKE,
    OUT_IDLE /* in the pool */
};

struct attempt;

/* One connection out. Outlives attempts: between two it stands in the pool. */
struct out_conn {
    struct pool_node pool; /* first member: found through it */
    struct smtp *m;
    struct smtp_snap *snap;
    struct conn conn;
    struct smtp_cli *cli;
    struct attempt *job; /* NULL = nobody's */
    enum out_state state;
    enum smtp_cli_wait wait;
    int64_t since_ms; /* when we last said something; 0 = since now */
    struct arena mem; /* key, host, facts */
    struct sv host;
    struct ip ip;
    uint16_t port;
    struct tls_facts facts;
    bool begun; /* the job's transaction was given to the machine */
    bool ready_once;
    bool tls_tried; /* a handshake was begun */
    bool dot_given; /* the last byte of a body was handed to the machine */
    bool noted;     /* the reason of the failed handshake is in the note */
    bool blocked;   /* body waits for room */
    uint32_t used;  /* transactions done */
    struct buf left;
};

/* Why no transaction took place, most telling first (smtp_out_note). */
struct out_note {
    enum failure failure;
    uint16_t code;
    char status[16];
    char text[512];
};

struct attempt {
    struct list node; /* in smtp.attempts, .waiting or .unacked */
    struct smtp *m;
    struct smtp_snap *snap;
    struct arena mem;
    struct buf raw; /* the encoded job: strings of `job` point into it */
    struct delivery job;
    struct tls_req req; /* what holds: hop.tls, raised by encrypt and AUTH */
    struct sv pool_key;
    int fd; /* of a large body, or -1 */

    struct host own_host; /* when the hop names none: MX of the domain */
    const struct host *hosts;
    uint32_t n_hosts, next_host;
    const struct host *host; /* the one being tried */
    struct dns_addr *addrs;
    uint32_t n_addrs, next_addr;
    bool resolving, dropped;
    bool fell_back; /* clear text was tried at this address */
    bool no_pool;
    bool orphan; /* its `queue` is gone */

    struct out_conn *conn;
    struct delivery txn; /* job with the recipients still open */
    uint32_t *txn_map;
    struct rcpt_outcome *results; /* one per recipient of the job */
    struct out_note note;
    uint32_t sessions;

    char *chunk; /* OUT_BODY_CHUNK bytes for a large body */
    uint64_t offset;
    struct sha256 *sha;

    struct outcome out;
    bool finished;
    int64_t start_ms, connect_ms, ready_ms; /* monotonic; 0 = not yet */
    int64_t until_ms;                       /* end of the whole attempt */
    int64_t start_wall_ms;
};

/* smtp_out.c */
void smtp_out_tls_worked(struct smtp *m, const struct ip *ip);
bool smtp_out_opportunistic(const struct attempt *a);
/* Its time is over (FAILURE_TIMEOUT is noted, unless there is something more telling). */
bool smtp_out_late(struct attempt *a);
/* The connection is no longer the attempt's; what next? */
void smtp_out_after_txn(struct attempt *a, bool reused, bool dot_given);
void smtp_out_next(struct attempt *a); /* the next address, or the end */
void smtp_out_again_in_clear(struct attempt *a, const struct out_conn *c);
void smtp_out_room(struct smtp *m); /* a connection ended: who waited may start */
void smtp_out_txn_prepare(struct attempt *a);

/* smtp_out_conn.c */
extern const struct conn_handler smtp_out_handler;
/* Takes the connection from its attempt. */
struct attempt *smtp_out_detach(struct out_conn *c);
void smtp_out_note_connect(struct attempt *a, const struct out_conn *c, const char *why);
bool smtp_out_reuse(struct attempt *a); /* a kept connection; false: there is none */
void smtp_out_conn_free(struct out_conn *c);
void smtp_out_conn_quit(struct out_conn *c); /* says QUIT, then ends */

/* smtp_out_open.c */
/* false: could not even begin (noted). */
bool smtp_out_connect(struct attempt *a, const struct dns_addr *addr, uint16_t port, bool clear);

/* smtp_out_body.c: one more piece for the machine */
void smtp_out_body_step(struct out_conn *c);
/* A small body is checked before anything is sent. */
bool smtp_out_body_intact(const struct attempt *a);

/* smtp_out_result.c */
void smtp_out_note(struct attempt *a, enum failure f, uint16_t code, const char *status,
                   const char *fmt, ...) PRINTF(5, 6);
void smtp_out_merge(struct attempt *a, const struct out_conn *c);
void smtp_out_remote(struct attempt *a, const struct out_conn *c);
uint32_t smtp_out_open(const struct attempt *a); /* recipients not delivered and not failed */
void smtp_out_finish(struct attempt *a); /* ATTEMPT_DONE; the attempt is kept until acknowledged */
void smtp_out_free(struct attempt *a);

/* smtp_log.c */
void smtp_log_rcpt(const struct attempt *a, uint32_t i);
void smtp_log_fallback(const struct attempt *a);
void smtp_log_out(const struct attempt *a, const char *event, const char *words);

#endif
