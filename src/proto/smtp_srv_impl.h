/*
 * Inside of the SMTP server machine, shared by the smtp_srv_*.c files only. State moves in three
 * places: a command's proceed function, the answer to a question, the end of the data.
 */
#ifndef PROTO_SMTP_SRV_IMPL_H
#define PROTO_SMTP_SRV_IMPL_H

#include "base/arena.h"
#include "codec/smtp_syntax.h"
#include "proto/smtp_body.h"
#include "proto/smtp_srv.h"

enum {
    SRV_LINE_MAX = 4096,       /* command line with its CRLF */
    SRV_AUTH_LINE_MAX = 12288, /* RFC 4954 4 */
    SRV_IN_MAX = 65536,        /* one feed: pipelined commands or body */
    SRV_IN_KEEP = 8192,        /* an idle session keeps no larger input buffer */
    SRV_OUT_MAX = 16384,       /* replies that wait to be sent */
    SRV_OUT_FLUSH = 4096,      /* replies are sent when there are more bytes than this */
    SRV_TEXT_MAX = 480,        /* reply text; the line stays below 512 (RFC 5321 4.5.3.1.5) */
    SRV_SECRET_MAX = 9216,     /* decoded AUTH data: an AUTH line never holds more */
    SRV_NAME_MAX = 255,        /* HELO name, AUTH user */
    SRV_RCPT_BYTES = 1600      /* arena bytes one recipient may need (address, ORCPT, list slot) */
};

enum srv_state {
    ST_START,     /* greeting not sent */
    ST_CONNECTED, /* greeted, no EHLO yet */
    ST_READY,     /* no transaction */
    ST_MAIL,      /* sender known */
    ST_RCPT,      /* at least one recipient */
    ST_BODY,      /* reading message data */
    ST_AUTH,      /* reading an answer to 334 */
    ST_TLS,       /* 220 to STARTTLS given, handshake due */
    ST_CLOSED
};
#define IN_STATE(s) (1u << (s))

enum srv_ask { ASK_NONE, ASK_HELO, ASK_AUTH, ASK_MAIL, ASK_RCPT, ASK_DATA, ASK_END };
enum srv_auth_step { AUTH_PLAIN, AUTH_LOGIN_USER, AUTH_LOGIN_PASSWORD };
/* Why a body is refused by the machine itself. */
enum srv_refusal { REFUSE_NONE, REFUSE_BARE, REFUSE_LINE, REFUSE_SIZE, REFUSE_SESSION_SIZE };

/* Everything that belongs to one mail transaction; srv_txn_reset is its only end. */
struct srv_txn {
    struct arena mem;
    struct envelope env;
    uint32_t rcpts_cap;
    uint32_t rcpts_refused;
    uint64_t declared; /* SIZE= */
    uint64_t seen;     /* body bytes so far */
    size_t line_n;     /* bytes of the body line so far */
    bool long_line;
    struct body_scan scan;
    enum srv_refusal refusal;
};

struct smtp_srv {
    struct arena mem; /* holds this object and the strings of config */
    struct smtp_srv_config config;
    enum srv_state state;
    enum srv_state auth_return; /* state to go back to after AUTH */
    enum srv_ask ask;
    enum srv_auth_step auth_step;
    bool tls, esmtp;
    bool skip_line;  /* the rest of an overlong line is dropped */
    bool flush;      /* replies must go out before more input is read */
    bool out_given;  /* the last step was SRV_SEND */
    bool abort_body; /* SRV_ABORT_BODY is due */
    bool exhausted;  /* too many errors: the next command is answered with 421 */
    uint32_t errors, auth_failures, messages, junk;
    const char *tls_hold; /* STARTTLS is answered with 421 and this */
    bool tls_held;
    uint32_t delay;
    uint64_t session_bytes;
    struct buf in;
    size_t in_pos;
    struct buf out;
    struct buf secret;  /* decoded AUTH data, wiped after use */
    size_t secret_user; /* where the user stands in it */
    size_t secret_user_n;
    size_t secret_password;
    size_t helo_n, user_n;
    char helo[SRV_NAME_MAX + 1];
    char user[SRV_NAME_MAX + 1];
    struct srv_txn txn;
};

/* A row of the command table. check returns true or has written the refusal; arg is what stands
 * behind the verb. */
struct srv_command {
    enum smtp_verb verb;
    uint32_t states; /* IN_STATE bits in which it is allowed */
    uint32_t flags;
    bool (*check)(struct smtp_srv *s, struct sv arg);
    void (*proceed)(struct smtp_srv *s, struct sv arg);
};
enum {
    CMD_NO_ARG = 1,    /* 501 when an argument is given */
    CMD_NEEDS_TLS = 2, /* 530 when TLS is required and missing (RFC 3207 4) */
    CMD_NEEDS_AUTH = 4,
    CMD_FLUSH = 8, /* last of a pipelined group (RFC 2920 3.1): replies go out at once */
    CMD_JUNK = 16  /* does nothing for a message: counted up to max_junk */
};

/* smtp_srv_table.c */
const struct srv_command *srv_command_find(enum smtp_verb verb);
void srv_command_line(struct smtp_srv *s, struct sv line);

/* smtp_srv_reply.c */
void srv_reply(struct smtp_srv *s, uint16_t code, const char *status, struct sv text);
void srv_reply_lit(struct smtp_srv *s, const struct smtp_reply *reply);
/* A refusal that is no fault of the client. */
void srv_reply_excused(struct smtp_srv *s, uint16_t code, const char *status, struct sv text);
void srv_count_error(struct smtp_srv *s);
/* A line of a multi-line reply without status: "250-TEXT" or "250 TEXT". */
void srv_reply_part(struct smtp_srv *s, uint16_t code, bool last, struct sv text);
#define SRV_REPLY(s, c, st, lit)                                                                   \
    srv_reply_lit((s), &(const struct smtp_reply){.code = (c), .status = (st), .text = (lit)})

/* smtp_srv.c */
void srv_txn_reset(struct smtp_srv *s);
void srv_shut(struct smtp_srv *s); /* drops input, state CLOSED */

/* Commands: proceed functions and what follows the driver's answer. */
void srv_helo(struct smtp_srv *s, struct sv arg);
void srv_ehlo(struct smtp_srv *s, struct sv arg);
bool srv_helo_check(struct smtp_srv *s, struct sv arg);
void srv_helo_answered(struct smtp_srv *s, const struct smtp_reply *answer, struct sv text);
bool srv_starttls_check(struct smtp_srv *s, struct sv arg);
void srv_starttls(struct smtp_srv *s, struct sv arg);
bool srv_auth_check(struct smtp_srv *s, struct sv arg);
void srv_auth(struct smtp_srv *s, struct sv arg);
void srv_auth_line(struct smtp_srv *s, struct sv line);
void srv_auth_too_long(struct smtp_srv *s);
void srv_auth_answered(struct smtp_srv *s, const struct smtp_reply *answer, struct sv text);
bool srv_mail_check(struct smtp_srv *s, struct sv arg);
void srv_mail(struct smtp_srv *s, struct sv arg);
void srv_mail_answered(struct smtp_srv *s, const struct smtp_reply *answer, struct sv text);
bool srv_rcpt_check(struct smtp_srv *s, struct sv arg);
void srv_rcpt(struct smtp_srv *s, struct sv arg);
void srv_rcpt_answered(struct smtp_srv *s, const struct smtp_reply *answer, struct sv text);
void srv_data(struct smtp_srv *s, struct sv arg);
void srv_data_answered(struct smtp_srv *s, const struct smtp_reply *answer, struct sv text);
void srv_end_answered(struct smtp_srv *s, const struct smtp_reply *answer, struct sv text);
/* Moves the body on by one piece: true = *out_step is to be given out, false = nothing to give
 * (in_pos moved, state changed, or more input is needed). */
bool srv_body(struct smtp_srv *s, struct smtp_srv_step *out_step);
void srv_rset(struct smtp_srv *s, struct sv arg);
void srv_noop(struct smtp_srv *s, struct sv arg);
void srv_vrfy(struct smtp_srv *s, struct sv arg);
void srv_expn(struct smtp_srv *s, struct sv arg);
void srv_help(struct smtp_srv *s, struct sv arg);
void srv_quit(struct smtp_srv *s, struct sv arg);
void srv_http(struct smtp_srv *s, struct sv arg);
void srv_not_implemented(struct smtp_srv *s, struct sv arg);
void srv_unknown(struct smtp_srv *s, struct sv arg);

#endif
