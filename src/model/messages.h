/*
 * The one table of messages between processes. From it come enum, encode, decode, printer, size
 * limit, who may send what to whom, and the fuzz harness. Garbage closes the peer; it never ends
 * the receiver.
 */
#ifndef MODEL_MESSAGES_H
#define MODEL_MESSAGES_H

#include "model/delivery.h"
#include "model/envelope.h"
#include "model/events.h"
#include "model/facts.h"

/* The tables are aligned by hand. */
/* clang-format off */
enum role {
    ROLE_SUPERVISOR, ROLE_SMTP, ROLE_QUEUE, ROLE_CONTENT, ROLE_LOOKUP, ROLE_STORE, ROLE_WEB,
    ROLE_KEYS, ROLE_CTL /* postsealctl over the local socket */, ROLES
};
const char *role_name(enum role r);
#define R(x) (1u << ROLE_##x)

/* ---- supervisor <-> child ---- */
#define HELLO_FIELDS(F, S, L)                                                                      \
    F(U8, role) F(U8, index)    /* which worker of its kind */                                     \
    F(U8, workers)              /* how many smtp workers there are */                              \
    F(STR, hostname)            /* from the bootstrap file */                                      \
    F(STR, data_dir)                                                                               \
    F(BOOL, sandbox_require)                                                                       \
    F(U8, log_level) F(U8, log_format)                                                             \
    F(STR, database)            /* "sqlite:PATH" */
WIRE_DECLARE(hello, HELLO_FIELDS)
/* fd = one end of a socketpair to that peer (a new one replaces the old after a restart) */
#define CHANNEL_FIELDS(F, S, L) F(U8, role) F(U8, index)
WIRE_DECLARE(channel, CHANNEL_FIELDS)
/* fd = listening socket */
#define LISTENER_FIELDS(F, S, L) F(STR, kind) /* smtp submission submissions internal https ctl */ \
    F(STR, address)
WIRE_DECLARE(listener, LISTENER_FIELDS)
/* a file read by the supervisor: "ca-bundle", "resolv.conf", "secret/NAME", "key/NAME" ... */
#define BYTES_FIELDS(F, S, L) F(STR, name) F(STR, data)
WIRE_DECLARE(bytes, BYTES_FIELDS)
#define READY_FIELDS(F, S, L) F(BOOL, landlock) F(BOOL, seccomp)
WIRE_DECLARE(ready, READY_FIELDS)
#define KILL_FIELDS(F, S, L) F(U8, role) F(U8, index) F(STR, why)
WIRE_DECLARE(kill, KILL_FIELDS)
#define LEVEL_FIELDS(F, S, L) F(U8, level)
WIRE_DECLARE(level, LEVEL_FIELDS)

/* ---- settings ---- */
/* tree = canonical text tree (model/settings.h); reply: SETTINGS_ACK */
#define SETTINGS_MSG_FIELDS(F, S, L) F(U64, revision) F(STR, tree)
WIRE_DECLARE(settings_msg, SETTINGS_MSG_FIELDS)
#define SETTINGS_ACK_FIELDS(F, S, L) F(U64, revision) F(STR, error) /* "" = active */
WIRE_DECLARE(settings_ack, SETTINGS_ACK_FIELDS)

/* ---- smtp <-> queue ---- */
/* queue -> smtp: ids first .. first+count-1 are this worker's to give; `open` false = refuse MAIL
 * with 452 4.3.1 (disk) or 451 4.3.0 */
#define LEASE_FIELDS(F, S, L) F(U64, first) F(U32, count)
WIRE_DECLARE(lease, LEASE_FIELDS)
#define INTAKE_FIELDS(F, S, L) F(BOOL, open) F(U16, code) F(STR, status) F(STR, text)
WIRE_DECLARE(intake, INTAKE_FIELDS)
/* body inline, or "" and `file` names what FILE_GIVE handed out */
#define RECEIVED_FIELDS(F, S, L) F(U64, tag) S(envelope, env) F(U64, file) F(STR, body)
WIRE_DECLARE(received, RECEIVED_FIELDS)
/* code 250 after the commit is durable, else 4xx/5xx with status and text */
#define COMMITTED_FIELDS(F, S, L) F(U64, tag) F(U64, id) F(U16, code) F(STR, status) F(STR, text)
WIRE_DECLARE(committed, COMMITTED_FIELDS)
#define FILE_ASK_FIELDS(F, S, L) F(U64, tag) F(U64, declared_size)
WIRE_DECLARE(file_ask, FILE_ASK_FIELDS)
/* fd = new file on the spool's file system, key = 32 bytes for AES-256-CTR (crypto/bodycrypt.h);
 * code 0 with the fd, else refusal as in COMMITTED */
#define FILE_GIVE_FIELDS(F, S, L) F(U64, tag) F(U64, file) F(STR, key) F(U16, code) F(STR, text)
WIRE_DECLARE(file_give, FILE_GIVE_FIELDS)
#define FILE_DROP_FIELDS(F, S, L) F(U64, file)
WIRE_DECLARE(file_drop, FILE_DROP_FIELDS)
/* DELIVER carries struct delivery (fd = large body), ATTEMPT_DONE struct outcome */
#define ATTEMPT_ACK_FIELDS(F, S, L) F(U64, attempt)
WIRE_DECLARE(attempt_ack, ATTEMPT_ACK_FIELDS)
/* text = "name{labels} value" lines of counters that grew, sent once a second when changed */
#define STATS_FIELDS(F, S, L) F(STR, text)
WIRE_DECLARE(stats, STATS_FIELDS)

/* ---- queue <-> content ---- */
enum job_kind { JOB_SCAN, JOB_DSN, JOB_NOTICE };
#define DSN_RCPT_FIELDS(F, S, L)                                                                   \
    S(rcpt, rcpt) F(U8, action) /* enum dsn_action of codec/dsn.h */                               \
    F(STR, status) F(STR, remote_mta) F(STR, diagnostic) F(STR, human) F(I64, last_attempt_ms)    \
    F(I64, will_retry_until_ms)
WIRE_DECLARE(dsn_rcpt, DSN_RCPT_FIELDS)
#define JOB_FIELDS(F, S, L)                                                                        \
    F(U64, job) F(U8, kind) F(U64, id) F(U64, revision)                                            \
    S(envelope, env)                                                                               \
    F(BOOL, sealed)           /* Encrypt-marked: a DSN leaks nothing: four headers only */      \
    F(STR, reporting_mta) F(STR, from) /* of a DSN */                                              \
    F(STR, to)                /* who gets it: the original's sender, or the administrator */       \
    F(STR, notice)            /* words for a human, of a DSN or notice */                          \
    L(dsn_rcpt, dsn_rcpts)                                                                         \
    F(STR, body_key)                                                                               \
    F(STR, body)              /* inline, or "" with an fd */
WIRE_DECLARE(job, JOB_FIELDS)
#define JOB_DONE_FIELDS(F, S, L)                                                                   \
    F(U64, job) F(STR, error) /* "" = worked */                                                    \
    S(facts, facts)           /* of JOB_SCAN */                                                    \
    F(STR, body)              /* of JOB_DSN and JOB_NOTICE: a complete message */
WIRE_DECLARE(job_done, JOB_DONE_FIELDS)

/* ---- lookup ---- */
enum ask_kind { ASK_PASSWORD };
#define ASK_FIELDS(F, S, L) F(U64, tag) F(U8, kind) F(STR, a) F(STR, b) F(STR, c)
WIRE_DECLARE(ask, ASK_FIELDS)
enum answer { ANSWER_UNKNOWN, ANSWER_YES, ANSWER_NO };
#define ANSWER_FIELDS(F, S, L) F(U64, tag) F(U8, answer) F(STR, text)
WIRE_DECLARE(answer_msg, ANSWER_FIELDS)

/* ---- keys ---- */
enum key_op {
    KEY_OP_CERTS,    /* -> data: certificate list, struct key_certs */
    KEY_OP_SIGN,     /* name = key id, alg, data = digest or TBS -> signature */
    KEY_OP_WRAP,     /* data = key of a segment life -> sealed blob */
    KEY_OP_UNWRAP,   /* -> key */
    KEY_OP_SECRET,   /* name -> password for AUTH at a smart host */
    KEY_OP_TICKET,   /* -> 80 bytes of current + previous ticket key */
    KEY_OP_GENERATE, /* runs in a child; answered when done */
    KEY_OP_IMPORT
};
#define KEY_REQ_FIELDS(F, S, L) F(U64, tag) F(U8, op) F(STR, name) F(U32, alg) F(STR, data)
WIRE_DECLARE(key_req, KEY_REQ_FIELDS)
#define KEY_REPLY_FIELDS(F, S, L) F(U64, tag) F(U8, op) F(STR, error) F(STR, data)
WIRE_DECLARE(key_reply, KEY_REPLY_FIELDS)

/* ---- queue <-> store: event files (store/eventlog.h) ---- */
#define EVENTS_AT_FIELDS(F, S, L) F(U64, seq) /* queue -> store: written up to; store -> queue: stored */
WIRE_DECLARE(events_at, EVENTS_AT_FIELDS)

/* ---- postsealctl and web -> queue, store ---- */
/* verb "queue.list", args = JSON object; fd = optional message file. Replies: n with more = true,
 * then one with more = false; json = one document; exit = sysexits code for the CLI. */
#define CTL_REQ_FIELDS(F, S, L) F(U64, tag) F(STR, verb) F(STR, args) F(STR, user)
WIRE_DECLARE(ctl_req, CTL_REQ_FIELDS)
#define CTL_REPLY_FIELDS(F, S, L) F(U64, tag) F(BOOL, more) F(U8, exit) F(STR, json)
WIRE_DECLARE(ctl_reply, CTL_REPLY_FIELDS)

#define KIB(n) ((n)*1024u)
#define MIB(n) ((n)*1024u * 1024u)

/*      enum          struct        max bytes  senders                           receivers */
#define MESSAGES(X)                                                                                \
    X(HELLO,        hello,        KIB(16),  R(SUPERVISOR),                       ~R(SUPERVISOR))   \
    X(CHANNEL,      channel,      64,       R(SUPERVISOR),                       ~R(SUPERVISOR))   \
    X(LISTENER,     listener,     KIB(1),   R(SUPERVISOR),                       ~R(SUPERVISOR))   \
    X(BYTES,        bytes,        MIB(8),   R(SUPERVISOR) | R(KEYS),             ~0u)              \
    X(READY,        ready,        64,       ~R(SUPERVISOR),                      R(SUPERVISOR))    \
    X(KILL,         kill,         KIB(1),   R(QUEUE),                            R(SUPERVISOR))    \
    X(LEVEL,        level,        64,       R(QUEUE) | R(SUPERVISOR),            ~0u)              \
    X(SETTINGS,     settings_msg, MIB(64),  R(STORE) | R(QUEUE),                 ~R(SUPERVISOR))   \
    X(SETTINGS_ACK, settings_ack, KIB(4),   ~R(SUPERVISOR),                      R(QUEUE) | R(STORE)) \
    X(LEASE,        lease,        64,       R(QUEUE),                            R(SMTP))          \
    X(INTAKE,       intake,       KIB(1),   R(QUEUE),                            R(SMTP))          \
    X(RECEIVED,     received,     MIB(2),   R(SMTP),                             R(QUEUE))         \
    X(COMMITTED,    committed,    KIB(2),   R(QUEUE),                            R(SMTP))          \
    X(FILE_ASK,     file_ask,     64,       R(SMTP),                             R(QUEUE))         \
    X(FILE_GIVE,    file_give,    KIB(2),   R(QUEUE),                            R(SMTP))          \
    X(FILE_DROP,    file_drop,    64,       R(SMTP),                             R(QUEUE))         \
    X(DELIVER,      delivery,     MIB(2),   R(QUEUE),                            R(SMTP))          \
    X(ATTEMPT_DONE, outcome,      MIB(2),   R(SMTP),                             R(QUEUE))         \
    X(ATTEMPT_ACK,  attempt_ack,  64,       R(QUEUE),                            R(SMTP))          \
    X(STATS,        stats,        KIB(64),  ~R(CTL),                             R(QUEUE))         \
    X(EVENT,        event,        KIB(16),  R(SMTP),                             R(QUEUE))         \
    X(JOB,          job,          MIB(4),   R(QUEUE),                            R(CONTENT))       \
    X(JOB_DONE,     job_done,     MIB(4),   R(CONTENT),                          R(QUEUE))         \
    X(ASK,          ask,          KIB(8),   R(SMTP) | R(QUEUE) | R(WEB),         R(LOOKUP))        \
    X(ANSWER,       answer_msg,   KIB(8),   R(LOOKUP),                           R(SMTP) | R(QUEUE) | R(WEB)) \
    X(KEY_REQ,      key_req,      KIB(64),  R(SMTP) | R(QUEUE) | R(WEB) | R(CTL), R(KEYS))         \
    X(KEY_REPLY,    key_reply,    KIB(256), R(KEYS),                             ~R(SUPERVISOR))   \
    X(EVENTS_AT,    events_at,    64,       R(QUEUE) | R(STORE),                 R(QUEUE) | R(STORE)) \
    X(CTL_REQ,      ctl_req,      MIB(64),  R(CTL) | R(WEB) | R(STORE) | R(QUEUE), R(QUEUE) | R(STORE) | R(KEYS)) \
    X(CTL_REPLY,    ctl_reply,    MIB(64),  R(QUEUE) | R(STORE) | R(KEYS),       ~R(SUPERVISOR))

/* clang-format on */
enum message {
    MSG_NONE,
#define MESSAGE_ENUM(id, type, max, from, to) MSG_##id,
    MESSAGES(MESSAGE_ENUM)
#undef MESSAGE_ENUM
        MSG_COUNT
};

/* Any message, decoded. */
union message_body {
#define MESSAGE_MEMBER(id, type, max, from, to) struct type id;
    MESSAGES(MESSAGE_MEMBER)
#undef MESSAGE_MEMBER
};

const char *message_name(enum message m);
uint32_t message_max(enum message m);
bool message_allowed(enum message m, enum role from, enum role to);
/* Frame = u8 kind + struct. body points to the struct of that kind. */
NODISCARD enum err message_encode(enum message m, const void *body, struct buf *out);
NODISCARD enum err message_decode(struct sv frame, struct arena *a, enum message *out_m,
                                  union message_body *out_body);
void message_print(enum message m, const union message_body *body, struct buf *out);

#endif
