/*
 * Inside of the SMTP client machine, shared by the smtp_cli_*.c files only. Each command is a pair:
 * perform writes it, response takes its reply; which response is due follows from the state of the
 * session, or, inside a transaction, from the order of its commands (RFC 2920: replies come in the
 * order of the commands).
 */
#ifndef PROTO_SMTP_CLI_IMPL_H
#define PROTO_SMTP_CLI_IMPL_H

#include "base/arena.h"
#include "codec/smtp_syntax.h"
#include "proto/smtp_cli.h"

enum {
    CLI_IN_MAX = 16384,     /* one feed */
    CLI_IN_KEEP = 4096,     /* an idle connection keeps no larger buffer */
    CLI_LINE_MAX = 4096,    /* of a reply line this much is read, the rest dropped */
    CLI_REPLY_MAX = 65536,  /* bytes of one reply; more is a protocol failure */
    CLI_OUT_MAX = 131072,   /* commands or body that wait to be sent */
    CLI_OUT_FLUSH = 16384,  /* pipelined commands leave in pieces of about this size */
    CLI_BODY_SLICE = 32768, /* body bytes stuffed at a time (at most doubled by dots) */
    CLI_LOG_MAX = 4096,     /* transcript */
    CLI_LOG_LINE = 200      /* bytes of a line kept in it */
};

/* What the next reply answers. */
enum cli_op {
    OP_GREETING,
    OP_EHLO,
    OP_HELO,
    OP_STARTTLS,
    OP_AUTH_PLAIN,
    OP_AUTH_LOGIN,
    OP_AUTH_LOGIN_USER,
    OP_AUTH_LOGIN_PASSWORD,
    OP_RSET,
    OP_MAIL,
    OP_RCPT,
    OP_DATA,
    OP_END, /* the final dot, or the lone dot after a DATA that nobody wanted */
    OP_QUIT,
    OP_NONE, /* nothing: a reply now is out of turn */
    OP_COUNT
};
enum cli_state {
    CLI_ST_SESSION, /* greeting, EHLO, STARTTLS, AUTH: session_op is outstanding */
    CLI_ST_TLS,     /* the driver shakes hands */
    CLI_ST_READY,
    CLI_ST_COMMANDS, /* RSET, MAIL, RCPT, DATA under way */
    CLI_ST_BODY,     /* 354 seen: sending the body */
    CLI_ST_END,      /* final dot sent */
    CLI_ST_DONE,     /* results are ready to be taken */
    CLI_ST_QUIT,
    CLI_ST_CLOSED
};
enum cli_cap {
    CAP_PIPELINING = 1,
    CAP_SIZE = 2,
    CAP_8BITMIME = 4,
    CAP_DSN = 8,
    CAP_STARTTLS = 16,
    CAP_AUTH_PLAIN = 32,
    CAP_AUTH_LOGIN = 64
};

/* A reply, put together line by line. */
struct cli_reply {
    uint16_t code;
    char status[16];
    size_t bytes; /* read so far, all lines */
    uint32_t lines;
    size_t text_n;
    char text[512];
};

/* The commands of a transaction are numbered in order: 0 RSET, 1 MAIL, 2.. RCPT, then DATA. The two
 * cursors sent and due over these numbers are the reply queue. */
enum { CMD_RSET, CMD_MAIL, CMD_RCPT };
struct cli_txn {
    struct arena mem;
    const struct delivery *job;
    struct smtp_cli_rcpt
        *rcpts; /* PENDING: not answered, or accepted (code 2xx) and not delivered */
    uint32_t n_rcpts;
    uint32_t sent;     /* next command to send */
    uint32_t due;      /* next command to be answered */
    uint32_t limit;    /* commands from here on are not sent */
    uint32_t accepted; /* recipients with 2xx to RCPT */
    enum failure failure;
    struct sv body; /* given by the driver, not yet sent */
    bool body_given, body_final;
    bool bol, cr; /* where the body writer stands: line begins; CR was the last byte */
};

struct smtp_cli {
    struct arena mem; /* holds this object and the strings of config */
    struct smtp_cli_config config;
    enum cli_state state;
    enum cli_op session_op;
    bool tls;
    bool esmtp;
    bool need_rset; /* the server may still hold a transaction */
    bool skip_line; /* rest of an overlong line is dropped */
    bool lost;      /* no more input will come */
    bool out_given;
    bool close_after; /* close once CLI_DONE was given */
    bool tls_refused; /* go on in clear (opportunistic) */
    bool authed;
    bool auth_told; /* the secret of PLAIN was sent */
    enum failure lost_why, failure;
    uint32_t caps;
    uint64_t size_limit; /* of SIZE, 0 = none told */
    struct buf in;
    size_t in_pos;
    struct buf out;
    struct buf log;
    struct cli_reply reply;
    struct smtp_cli_rcpt session_reply;
    struct cli_txn txn;
};

/* smtp_cli_reply.c: reads lines; true = c->reply is complete. A broken reply fails the session. */
bool cli_reply_read(struct smtp_cli *c);
void cli_reply_reset(struct smtp_cli *c);
void cli_reply_to(const struct cli_reply *r, struct smtp_cli_rcpt *out_rcpt);

/* smtp_cli_log.c */
void cli_log(struct smtp_cli *c, char who, struct sv line);

/* smtp_cli.c */
void cli_command(struct smtp_cli *c, struct sv line);                    /* adds CRLF, logs */
void cli_secret(struct smtp_cli *c, struct sv line, const char *masked); /* logs masked instead */
enum cli_op cli_due(const struct smtp_cli *c);
/* The session is over. With a transaction under way its open recipients are deferred first. */
void cli_fail(struct smtp_cli *c, enum failure why, const char *reason);
void cli_fail_reply(struct smtp_cli *c, enum failure why);

/* smtp_cli_session.c */
void cli_cap_line(struct smtp_cli *c, struct sv text);
void cli_ehlo_perform(struct smtp_cli *c);
void cli_greeting_response(struct smtp_cli *c, const struct cli_reply *r);
void cli_ehlo_response(struct smtp_cli *c, const struct cli_reply *r);
void cli_helo_response(struct smtp_cli *c, const struct cli_reply *r);
void cli_ready(struct smtp_cli *c); /* EHLO done: STARTTLS, AUTH or READY */
/* smtp_cli_tls.c */
bool cli_tls_wanted(const struct smtp_cli *c);
void cli_starttls_perform(struct smtp_cli *c);
void cli_starttls_response(struct smtp_cli *c, const struct cli_reply *r);
/* smtp_cli_auth.c */
void cli_auth_perform(struct smtp_cli *c);
void cli_auth_plain_response(struct smtp_cli *c, const struct cli_reply *r);
void cli_auth_login_response(struct smtp_cli *c, const struct cli_reply *r);
void cli_auth_user_response(struct smtp_cli *c, const struct cli_reply *r);
void cli_auth_password_response(struct smtp_cli *c, const struct cli_reply *r);
/* smtp_cli_txn.c */
void cli_txn_perform(struct smtp_cli *c); /* writes what may be written now */
void cli_rset_response(struct smtp_cli *c, const struct cli_reply *r);
void cli_mail_response(struct smtp_cli *c, const struct cli_reply *r);
void cli_rcpt_response(struct smtp_cli *c, const struct cli_reply *r);
void cli_data_response(struct smtp_cli *c, const struct cli_reply *r);
/* All recipients that are still open get this result and reply. */
void cli_txn_settle(struct smtp_cli *c, enum rcpt_result result, const struct smtp_cli_rcpt *why);
enum rcpt_result cli_result_of(uint16_t code);
void cli_txn_done(struct smtp_cli *c);
/* smtp_cli_body.c */
void cli_body_perform(struct smtp_cli *c);
void cli_end_response(struct smtp_cli *c, const struct cli_reply *r);
void cli_body_early(struct smtp_cli *c, const struct cli_reply *r); /* a reply before the dot */

#endif
