/*
 * Inside of the `smtp` process: SMTP sessions in and out. One thread, one loop. It owns
 * connections, TLS sessions and DNS look-ups; it decides nothing: verdicts come from core
 * (relay_check, tls_verdict), what is durable and what is sent when is the business of `queue`.
 *
 *   in:  accept -> smtp_srv machine -> body (memory, or a file of `queue`) -> RECEIVED -> COMMITTED
 *        -> 250
 *   out: DELIVER -> kept connection, or DNS -> connect -> smtp_cli machine -> ATTEMPT_DONE
 */
#ifndef ROLE_SMTP_PRIV_H
#define ROLE_SMTP_PRIV_H

#include "base/list.h"
#include "base/log.h"
#include "core/relay.h"
#include "core/settings.h"
#include "model/messages.h"
#include "net/ipc.h"
#include "net/resolver.h"
#include "role/smtp_conn.h"
#include "role/smtp_limits.h"
#include "role/smtp_pool.h"
#include "role/smtp_rates.h"
#include "role/smtp_stats.h"

#define SMTP_READ_SIZE    (64u * 1024) /* one read; above a TLS record, so none stays behind */
#define SMTP_BODY_INLINE  (64u * 1024) /* larger bodies go to a file */
#define SMTP_OUT_MAX      1000         /* connections out of one worker */
#define SMTP_LISTENERS    32
#define SMTP_COMMIT_MS    (300 * 1000) /* wait for `queue` until 451 */
#define SMTP_FILE_MS      (30 * 1000)  /* wait for a file of `queue` until 451 */
#define SMTP_AUTH_MS      (30 * 1000)  /* wait for `lookup` */
#define SMTP_TRACE_MAX    3            /* times our own trace header may be seen */
#define SMTP_EVENTS_A_SEC 50           /* REFUSED events told to `queue` */
#define SMTP_BROKEN_TLS   256          /* hosts remembered */
#define SMTP_BROKEN_MS    (600 * 1000) /* how long (at most 1 h: reference mta 2.3 e) */

struct smtp;
struct role_ctx;

/* A settings revision as sessions use it: each keeps the one it began with. */
struct smtp_snap {
    uint32_t refs;
    struct arena arena;
    struct settings *s;
    struct sv hostname;
    struct tls_server *tls; /* NULL: no certificate */
};
struct smtp_snap *smtp_snap_ref(struct smtp_snap *s);
void smtp_snap_unref(struct smtp_snap *s);

struct smtp_listener {
    struct smtp *m;
    int fd;
    enum listener_kind kind;
    struct watch *watch;
};

/* Questions to other processes carry a tag; the answer finds its asker, if it still lives. */
struct smtp_tag {
    void *who;
    uint32_t generation;
    uint32_t next_free;
};
struct smtp_tags {
    struct smtp_tag *slots;
    uint32_t n, cap, free_head;
};
void smtp_tags_init(struct smtp_tags *t);
void smtp_tags_done(struct smtp_tags *t);
uint64_t smtp_tag_new(struct smtp_tags *t, void *who);  /* 0 = no memory */
void *smtp_tag_take(struct smtp_tags *t, uint64_t tag); /* NULL = unknown; the tag ends */
void *smtp_tag_peek(const struct smtp_tags *t, uint64_t tag);

struct smtp_broken {
    struct ip ip;
    int64_t until_ms;
};

struct smtp {
    struct role_ctx *role;
    struct loop *loop;
    struct ipc *queue, *lookup;
    struct sv hostname; /* of the bootstrap file */
    char trace_id[33];
    struct buf ca_pem, resolv_conf;
    struct keyclient *keys;
    struct arena ids_mem; /* of identities */
    struct tls_identity *identities;
    size_t n_identities;
    uint8_t ticket_keys[160];
    bool certs_due;
    uint64_t ticks;
    struct smtp_snap *snap; /* NULL until the first SETTINGS */
    struct tls_client *tls_client;
    struct resolver *resolver;
    struct smtp_listener listeners[SMTP_LISTENERS];
    uint32_t n_listeners;
    bool begun; /* settings, ids and certificates were there once: clients may come */
    bool accepting, stopping;
    int64_t stop_ms;            /* when SIGTERM came */
    struct timer *accept_pause; /* after EMFILE */

    /* intake */
    bool intake_open;
    struct {
        uint16_t code;
        char status[16], text[256];
    } intake;
    uint64_t lease_next, lease_end;   /* ids to give */
    uint64_t lease2_next, lease2_end; /* the next lease, when it came early */
    uint64_t session_next;
    struct list in; /* struct smtp_in */
    struct conn_limits limits;
    struct rates rates, accounts; /* by address; by submitter */
    struct smtp_tags tags;

    /* delivery */
    struct list attempts; /* struct attempt, being worked on */
    struct list waiting;  /* struct attempt, above SMTP_OUT_MAX */
    struct list unacked;  /* struct smtp_done */
    uint32_t orphans;     /* attempts that a former `queue` gave, not finished */
    uint64_t ack_held;    /* settings revision to acknowledge once there are none; 0 = none */
    uint32_t n_out;       /* connections out, pooled ones included */
    bool in_room;
    struct smtp_pool pool;
    struct smtp_broken broken[SMTP_BROKEN_TLS];
    uint32_t broken_at;

    struct smtp_stats stats;
    struct timer *tick;
    uint32_t events_left; /* of this second */
    struct buf scratch;
    char read[SMTP_READ_SIZE];
};

/* smtp_in.c */
void smtp_in_accept(void *listener, int events);
void smtp_in_committed(struct smtp *m, const struct committed *c);
void smtp_in_file(struct smtp *m, const struct file_give *g, int fd);
void smtp_in_answer(struct smtp *m, const struct answer_msg *a);
void smtp_in_queue_gone(struct smtp *m);
void smtp_in_lookup_gone(struct smtp *m);
/* Ends every session; with keep_committing all but those that wait for their commit. */
void smtp_in_close_all(struct smtp *m, bool keep_committing);

/* smtp_out.c */
void smtp_out_deliver(struct smtp *m, const struct delivery *d, int fd);
void smtp_out_ack(struct smtp *m, uint64_t attempt);
void smtp_out_queue_gone(struct smtp *m);
void smtp_out_queue_back(struct smtp *m);
void smtp_out_close_all(struct smtp *m);
void smtp_out_forget(struct smtp *m); /* the oldest result nobody acknowledged */

/* smtp_settings.c */
void smtp_settings_take(struct smtp *m, const struct settings_msg *msg);
void smtp_settings_ack(struct smtp *m); /* the held one, if nothing hinders it any more */
void smtp_tls_renew(struct smtp *m);    /* identities or ticket keys changed */
void smtp_tls_client_renew(struct smtp *m);
void smtp_resolver_renew(struct smtp *m);

/* smtp.c */
/* Sends where a loss needs no other answer than a line in the log. */
void smtp_tell(struct ipc *ch, enum message msg, const void *body);
void smtp_listen(struct smtp *m, bool on); /* accept, or pause */
uint64_t smtp_id_take(struct smtp *m);     /* 0 = none left */
bool smtp_ids_left(const struct smtp *m);
int64_t smtp_now(const struct smtp *m); /* monotonic */
int64_t smtp_wall(const struct smtp *m);
/* Tells `queue` of something refused or broken; dropped above SMTP_EVENTS_A_SEC. */
void smtp_event(struct smtp *m, enum event_kind kind, uint64_t id, struct sv sender, struct sv rcpt,
                struct sv detail);

#endif
