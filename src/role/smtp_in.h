/*
 * One SMTP session in, shared by the smtp_in*.c files: smtp_in.c moves it, smtp_in_ask.c answers
 * the machine's questions, smtp_in_msg.c receives messages and waits for other processes.
 */
#ifndef ROLE_SMTP_IN_H
#define ROLE_SMTP_IN_H

#include "proto/smtp_srv.h"
#include "role/smtp_body.h"
#include "role/smtp_priv.h"

enum in_state {
    IN_PREGREET,  /* silent until the greeting is due */
    IN_RUN,       /* the machine has the word */
    IN_TLS_FLUSH, /* 220 to STARTTLS on its way */
    IN_HANDSHAKE,
    IN_TARPIT,      /* an error reply is held back */
    IN_AUTH_DELAY,  /* a log-in waits, because others failed before */
    IN_WAIT_AUTH,   /* asked `lookup` */
    IN_WAIT_FILE,   /* asked `queue` for a file */
    IN_WAIT_COMMIT, /* asked `queue` to make the message durable */
    IN_CLOSING      /* last bytes on their way out */
};

struct in_refusal {
    uint16_t code; /* 0 = none */
    const char *status, *text;
};

struct smtp_in {
    struct list node;
    struct smtp *m;
    struct smtp_snap *snap;
    struct conn conn;
    struct smtp_srv *srv; /* NULL until the machine can start (implicit TLS: after the handshake) */
    enum in_state state;
    uint64_t session;
    uint64_t tag;     /* of the question that is open, else 0 */
    uint64_t ptr_tag; /* of the reverse look-up, else 0 */
    struct arena mem; /* strings of peer */
    struct peer peer;
    char ip_text[IP_TEXT_MAX];

    int64_t start_ms, activity_ms, progress_ms;
    int64_t wait_until_ms; /* of every state but IN_RUN */
    int64_t rate_ms;       /* start of the present window of DATA */
    uint64_t rate_bytes;
    uint32_t reads; /* of this turn */
    bool implicit_tls, mailed, auth_unknown;
    bool auth_charged; /* the log-in under way was counted and has waited */
    struct rate_key rate_key, account;
    uint32_t n_mail, n_rcpt, n_data, n_accepted;

    uint64_t id; /* of the message being received */
    int64_t received_ms;
    uint8_t sha256[32];
    struct smtp_body body;
    struct in_refusal refusal; /* the body is read on, then answered with this */
    struct buf left;           /* input the machine did not take yet */
};

/* smtp_in.c */
void smtp_in_pump(struct smtp_in *s);
void smtp_in_wait(struct smtp_in *s, enum in_state state, int64_t ms);
/* The answer to the machine's question came from outside: goes on. */
void smtp_in_resume(struct smtp_in *s, uint16_t code, const char *status, struct sv text);
/* "name[ip]" parts */
struct sv smtp_in_name(const struct smtp_in *s);

/* smtp_in_ask.c: false = the session waits */
void smtp_in_ask_helo(struct smtp_in *s);
bool smtp_in_ask_auth(struct smtp_in *s, struct sv user, struct sv password);
void smtp_in_ask_mail(struct smtp_in *s);
void smtp_in_ask_rcpt(struct smtp_in *s);
void smtp_in_tls_up(struct smtp_in *s, const struct tls_facts *facts);

#define SMTP_TEXT_HANDSHAKES "Error: too many TLS handshakes from your address in one minute"
/* smtp_in_rate.c: limits a minute (all yes for addresses that are exempt), waits after failures */
bool smtp_in_exempt(const struct peer *peer);
/* Counts the connection; false: it was answered, logged and closed. */
bool smtp_in_admit(struct smtp *m, int fd, const struct peer *peer);
/* Counts a handshake that is about to begin; false: too many. */
bool smtp_in_rate_handshake(struct smtp_in *s);
void smtp_in_rate_resumed(struct smtp_in *s); /* it was no full one */
bool smtp_in_rate_mail(struct smtp_in *s);
bool smtp_in_rate_rcpt(struct smtp_in *s);
/* At EHLO: will STARTTLS be refused? */
void smtp_in_rate_starttls(struct smtp_in *s);
/* Milliseconds this log-in must wait; counted once. */
int64_t smtp_in_auth_wait(struct smtp_in *s, struct sv user);
void smtp_in_auth_ended(struct smtp_in *s, enum answer answer);

/* smtp_in_msg.c */
void smtp_in_ask_data(struct smtp_in *s);
bool smtp_in_body(struct smtp_in *s, struct sv bytes);
bool smtp_in_end_of_body(struct smtp_in *s);
void smtp_in_drop_body(struct smtp_in *s);
void smtp_in_refuse_body(struct smtp_in *s, uint16_t code, const char *status, const char *text);

/* smtp_log.c */
void smtp_log_in(const struct smtp_in *s, const char *event,
                 const char *words); /* "connect from" */
void smtp_log_in_warning(const struct smtp_in *s, const char *event, const char *words);
void smtp_log_reject(const struct smtp_in *s, const char *command, uint16_t code,
                     const char *status, struct sv text, struct sv rcpt);
/* Before there is a session. */
void smtp_log_turned_away(struct smtp *m, const char *ip, const char *status, const char *text);
void smtp_log_client(const struct smtp_in *s);
void smtp_log_kv_tls(struct log_line *l, const struct tls_facts *t);

#endif
