/*
 * Test bench of the `queue` process: it runs in a child on a real temporary folder, with a real
 * `keys` beside it; the test plays the supervisor, smtp and content workers, store and postsealctl,
 * all blocking with time limits. The queue can be killed and started again on its folder.
 */
#ifndef ROLE_QUEUE_HARNESS_H
#define ROLE_QUEUE_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "core/settings.h"
#include "model/messages.h"
#include "net/ipc.h"

#include <jansson.h>
#include <sys/types.h>

#define QB_WAIT_MS 10000
#define QB_HOST    "gateway.test"

/* Ends that the test holds. */
enum qb_end { QB_SMTP, QB_SMTP2, QB_CONTENT, QB_STORE, QB_ENDS };

struct qb {
    pid_t queue, keys;
    int control, keys_control, ctl_listener;
    int ends[QB_ENDS];
    char dir[64];
    uint64_t next_id[2], tag; /* per smtp worker: ids of its lease */
    struct arena mem;         /* of the last message */
    union message_body msg;
    int fd; /* of the last message */
};

/* The usual settings: protected inside.test, CREDIT_CARD is encrypted outbound, and more pieces
 * (name, text, ..., NULL). */
void qb_settings_tree(struct buf *out, const char *name, ...);
struct qb *qb_new(void); /* folder, keys; the queue is not yet running */
void qb_up(struct qb *b);
void qb_kill(struct qb *b); /* SIGKILL; our ends are closed */
void qb_stop(struct qb *b); /* SIGTERM; asserts a good end */
void qb_free(struct qb *b); /* stops what runs, removes the folder */
/* Asserts that the queue lives and answers. */
void qb_alive(struct qb *b);

void qb_drop_end(struct qb *b, enum qb_end e); /* the worker dies */
void qb_new_end(struct qb *b, enum qb_end e);  /* and is back (an smtp worker acknowledges) */
void qb_send(struct qb *b, enum qb_end e, enum message m, const void *body, int fd);
/* The next message of that kind at this end; leases and event positions are passed over. */
const union message_body *qb_expect(struct qb *b, enum qb_end e, enum message m);
bool qb_silent(struct qb *b, enum qb_end e, int ms); /* nothing but those for so long */

/* ---- the usual dialogues ---- */
struct qb_mail {
    const char *sender;
    const char *rcpts[4];
    uint8_t notify;
    const char *body; /* NULL = a short one */
};
/* RECEIVED, without waiting for its commit; returns the queue id. */
uint64_t qb_receive(struct qb *b, const struct qb_mail *m);
uint64_t qb_accept(struct qb *b, const struct qb_mail *m); /* and COMMITTED 250 */
/* Expects a JOB of this kind, returns its number; the job stays in b->msg. */
uint64_t qb_job(struct qb *b, enum job_kind kind);
/* Expects a scan job and answers: cards = distinct card numbers found. */
void qb_scan(struct qb *b, uint32_t cards);
void qb_report(struct qb *b); /* expects a DSN or NOTICE job and answers with a message */
struct qb_result {
    enum rcpt_result result;
    uint16_t code;
    const char *status, *reply;
    enum failure failure;
};
#define QB_DELIVERED                                                                               \
    (struct qb_result)                                                                             \
    {                                                                                              \
        RCPT_DELIVERED, 250, "2.0.0", "ok", FAILURE_NONE                                           \
    }
#define QB_DEFERRED                                                                                \
    (struct qb_result)                                                                             \
    {                                                                                              \
        RCPT_DEFERRED, 451, "4.3.0", "come back", FAILURE_SMTP_TEMP                                \
    }
#define QB_FAILED                                                                                  \
    (struct qb_result)                                                                             \
    {                                                                                              \
        RCPT_FAILED, 550, "5.1.1", "nobody of that name", FAILURE_SMTP_PERM                        \
    }
/* Sends ATTEMPT_DONE for all recipients of the DELIVER in b->msg (or of copies of its numbers) and
 * waits for the acknowledgement. */
void qb_done(struct qb *b, struct qb_result r);
void qb_done_raw(struct qb *b, uint64_t attempt, uint64_t id, uint32_t n_rcpts, struct qb_result r);

/* One request of postsealctl: the answers as a JSON array, the last of them last; owned by the
 * caller. *out_exit = exit status. */
json_t *qb_ctl(struct qb *b, const char *verb, const char *args, uint8_t *out_exit);
uint64_t qb_matched(struct qb *b, const char *verb, const char *args); /* "matched" of the last */
/* A member of the only message in the queue that has this id, as text ("" = none). */
void qb_show(struct qb *b, uint64_t id, const char *member, char out[256]);
void qb_empty(struct qb *b); /* waits until no message is in the queue */

#endif
