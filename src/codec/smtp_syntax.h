/*
 * One SMTP command line -> a tagged struct, or the reply that says what is wrong. RFC 5321 4.1.2,
 * RFC 3461 4, RFC 1870, RFC 6152, RFC 4954. Pure.
 */
#ifndef CODEC_SMTP_SYNTAX_H
#define CODEC_SMTP_SYNTAX_H

#include "model/envelope.h"

enum smtp_verb {
    VERB_UNKNOWN,
    VERB_HELO,
    VERB_EHLO,
    VERB_MAIL,
    VERB_RCPT,
    VERB_DATA,
    VERB_RSET,
    VERB_NOOP,
    VERB_VRFY,
    VERB_EXPN,
    VERB_HELP,
    VERB_QUIT,
    VERB_STARTTLS,
    VERB_AUTH,
    VERB_BDAT,
    VERB_ETRN,
    VERB_HTTP /* GET, POST, CONNECT, ... : cross-protocol attack */
};
struct smtp_reply {
    uint16_t code;
    const char *status; /* "5.5.4" or "" */
    const char *text;
};

/* Verb and argument of a line without its CRLF. */
enum smtp_verb smtp_verb(struct sv line, struct sv *out_arg);

struct smtp_mail_args {
    struct sv path; /* "" = null sender; source route removed */
    uint64_t size;  /* 0 = absent */
    enum body_type body;
    enum ret ret;
    struct sv envid; /* decoded */
    struct sv auth;  /* AUTH= value, ignored by us */
};
struct smtp_rcpt_args {
    struct sv path;
    uint8_t notify;
    struct sv orcpt; /* decoded "type;addr" */
};
/* false: *out_error is the reply to send. Views point into arg or the arena. */
NODISCARD bool smtp_parse_mail(struct sv arg, struct arena *a, struct smtp_mail_args *out_args,
                               struct smtp_reply *out_error);
NODISCARD bool smtp_parse_rcpt(struct sv arg, struct arena *a, struct smtp_rcpt_args *out_args,
                               struct smtp_reply *out_error);
/* EHLO/HELO argument: domain or address literal. */
bool smtp_helo_valid(struct sv arg);

/* xtext of RFC 3461 4. */
NODISCARD enum err xtext_decode(struct sv text, struct buf *out);
enum err xtext_encode(struct sv bytes, struct buf *out);

/* One reply line of a server: code, separator, optional enhanced code, text. */
struct smtp_reply_line {
    uint16_t code;
    bool last;
    struct sv status; /* "" = none */
    struct sv text;   /* behind code and separator, status included */
};
NODISCARD bool smtp_parse_reply(struct sv line, struct smtp_reply_line *out_line);

#endif
