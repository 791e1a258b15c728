/*
 * SMTP server session as an object (sans-I/O). Feed it bytes, take out steps, answer its questions.
 * No fd, no clock, no callbacks, no memory outside its own. RFC 5321, 3207, 4954, 1870, 6152, 2034,
 * 2920, 3461. One transaction struct, one reset function; commands are rows of a table.
 *
 * SECURITY: reads the internet. Only CRLF.CRLF ends data; bare CR or LF is refused (550 5.6.11
 * after the end of data, 500 5.5.2 in commands); bytes behind STARTTLS in the same segment are
 * never interpreted (the session ends).
 */
#ifndef PROTO_SMTP_SRV_H
#define PROTO_SMTP_SRV_H

#include "base/buf.h"
#include "model/envelope.h"

struct smtp_srv;

#define SMTP_SRV_BODY_LINE_MAX (1024u * 1024) /* bytes of one body line: 550 5.6.0 beyond */

struct smtp_srv_config {
    struct sv hostname; /* greeting and EHLO */
    enum listener_kind listener;
    bool tls_offer;             /* STARTTLS is available */
    bool tls_on;                /* implicit TLS, already established */
    bool require_tls;           /* MAIL needs TLS: 530 5.7.0 */
    bool auth_offer;            /* AUTH PLAIN LOGIN, over TLS only */
    bool require_auth;          /* submission: MAIL needs AUTH 530 5.7.0 */
    uint64_t max_size;          /* bytes of one message */
    uint64_t max_session;       /* bytes of all messages, 0 = no limit */
    uint32_t max_rcpts;         /* of one message: 452 4.5.3 beyond; 0 = RCPTS_MAX */
    uint32_t max_messages;      /* of one session: 421 4.7.0 beyond; 0 = no limit */
    uint32_t max_errors;        /* 5xx replies, then 421 4.7.0; 0 = no limit */
    uint32_t max_auth_failures; /* then 421 4.7.0; 0 = no limit */
    uint32_t max_junk;          /* NOOP, RSET, VRFY, HELP, EHLO, HELO between two messages; each
                                   further one counts as an error; 0 = no limit */
    bool trusted;               /* refused recipients are no errors: a relay passes on lists */
    uint32_t max_header;        /* bytes; counted by the driver */
    uint32_t max_hops;          /* counted by the driver */
};

enum smtp_srv_step_kind {
    SRV_NEED_INPUT,  /* feed more bytes */
    SRV_SEND,        /* send step.bytes; valid until the next call */
    SRV_START_TLS,   /* flush output, run the handshake, then smtp_srv_tls_done */
    SRV_ASK_HELO,    /* may refuse: smtp_srv_answer */
    SRV_ASK_AUTH,    /* step.user, step.password -> answer 235 or 535 */
    SRV_ASK_MAIL,    /* envelope so far in smtp_srv_envelope */
    SRV_ASK_RCPT,    /* the recipient is the last of the envelope */
    SRV_ASK_DATA,    /* 354 may go out? answer code 354 or refusal */
    SRV_BODY,        /* step.bytes: dot-unstuffed body bytes, CRLF lines only; a view that is valid
                        until the next call of smtp_srv_next or smtp_srv_feed */
    SRV_END_OF_BODY, /* body complete: answer 250 or a refusal. Never comes for a body that the
                        machine refuses by itself: */
    SRV_ABORT_BODY,  /* this message will not be accepted (bare CR, LF or NUL, too large, closed,
                        a line above SMTP_SRV_BODY_LINE_MAX):
                        drop what BODY gave. The rest is read and dropped by the machine, which
                        sends its own refusal at the real end of the data */
    SRV_CLOSE        /* send what was given, then close */
};
struct smtp_srv_step {
    enum smtp_srv_step_kind kind;
    struct sv bytes;
    struct sv user, password; /* SRV_ASK_AUTH */
    uint32_t error_delay; /* SRV_SEND: number of errors (5xx) so far when this ends with an error
                             reply (the driver tarpits), else 0 */
};

NODISCARD enum err smtp_srv_new(const struct smtp_srv_config *config, struct smtp_srv **out_srv);
void smtp_srv_free(struct smtp_srv *srv);

/* Takes bytes; keeps at most one command line plus pipelined input (64 KiB): returns how many were
 * taken. Call when the last step was SRV_NEED_INPUT. Takes nothing once SRV_START_TLS or SRV_CLOSE
 * is due: what is left over belongs to the TLS handshake, or to nobody. */
size_t smtp_srv_feed(struct smtp_srv *srv, struct sv bytes);
/* The next thing to do. After an ASK or END_OF_BODY the same step is returned until answered. */
struct smtp_srv_step smtp_srv_next(struct smtp_srv *srv);
/* Reply to an ASK or END_OF_BODY. status "2.1.5" or "" (no enhanced code), text one line. Code 421
 * closes after sending. */
void smtp_srv_answer(struct smtp_srv *srv, uint16_t code, const char *status, struct sv text);
/* After START_TLS: forgets all state (RFC 3207 4.2). The machine keeps no facts (NULL is allowed):
 * envelope.peer.tls is the driver's. */
void smtp_srv_tls_done(struct smtp_srv *srv, const struct tls_facts *facts);
/* The next STARTTLS is answered with 421 and this text (no copy is made; NULL = none), because the
 * client's address had too many handshakes. tls_held: was it? */
void smtp_srv_hold_tls(struct smtp_srv *srv, const char *text);
bool smtp_srv_tls_held(const struct smtp_srv *srv);
/* The driver's own reasons to end: time-out, shutdown, connection limits. Emits the reply (421) and
 * CLOSE, after ABORT_BODY when a body was on its way. */
void smtp_srv_close(struct smtp_srv *srv, uint16_t code, const char *status, struct sv text);

/* The current transaction: sender, envid, ret, body_type, rcpts; also peer.helo, auth_user, esmtp,
 * listener. All else (id, the rest of peer, sha256, ...) is the driver's. Valid until the reply to
 * END_OF_BODY or another end of the transaction. */
struct envelope *smtp_srv_envelope(struct smtp_srv *srv);
uint64_t smtp_srv_declared_size(const struct smtp_srv *srv); /* SIZE= of MAIL, 0 = absent */
struct sv smtp_srv_helo(const struct smtp_srv *srv);
bool smtp_srv_is_esmtp(const struct smtp_srv *srv);
struct sv smtp_srv_auth_user(const struct smtp_srv *srv); /* "" = none */
bool smtp_srv_in_data(const struct smtp_srv *srv);
/* After greeting was deferred (pregreet): call first; emits 220. */
void smtp_srv_greet(struct smtp_srv *srv);

#endif
