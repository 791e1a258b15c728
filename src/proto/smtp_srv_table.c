/*
 * The commands as a table, and the one path on which a command line goes through it: known? in this
 * state? argument allowed? TLS and AUTH where required? then check, then proceed.
 *
 * SECURITY: what a client may say when is decided here and nowhere else.
 */
#include "proto/smtp_srv_impl.h"

enum {
    S_ANY = IN_STATE(ST_CONNECTED) | IN_STATE(ST_READY) | IN_STATE(ST_MAIL) | IN_STATE(ST_RCPT),
    S_HELLO = IN_STATE(ST_READY) | IN_STATE(ST_MAIL) | IN_STATE(ST_RCPT), /* after EHLO */
    S_TXN = IN_STATE(ST_MAIL) | IN_STATE(ST_RCPT),
    SECURED = CMD_NEEDS_TLS | CMD_NEEDS_AUTH
};

/* clang-format off */
static const struct srv_command commands[] = {
    {VERB_MAIL,     IN_STATE(ST_READY), SECURED,                 srv_mail_check,     srv_mail},
    {VERB_RCPT,     S_TXN,              SECURED,                 srv_rcpt_check,     srv_rcpt},
    {VERB_DATA,     IN_STATE(ST_RCPT),  SECURED | CMD_NO_ARG | CMD_FLUSH, NULL,      srv_data},
    {VERB_EHLO,     S_ANY,              CMD_FLUSH | CMD_JUNK,    srv_helo_check,     srv_ehlo},
    {VERB_HELO,     S_ANY,              CMD_FLUSH | CMD_JUNK,    srv_helo_check,     srv_helo},
    {VERB_STARTTLS, S_HELLO,            CMD_NO_ARG | CMD_FLUSH,  srv_starttls_check, srv_starttls},
    {VERB_AUTH,     IN_STATE(ST_READY), CMD_FLUSH,               srv_auth_check,     srv_auth},
    {VERB_RSET,     S_ANY,              CMD_NO_ARG | CMD_JUNK,   NULL,               srv_rset},
    {VERB_NOOP,     S_ANY,              CMD_FLUSH | CMD_JUNK,    NULL,               srv_noop},
    {VERB_QUIT,     S_ANY,              CMD_NO_ARG | CMD_FLUSH,  NULL,               srv_quit},
    {VERB_VRFY,     S_ANY,              SECURED | CMD_FLUSH | CMD_JUNK, NULL,               srv_vrfy},
    {VERB_EXPN,     S_ANY,              CMD_FLUSH,               NULL,               srv_expn},
    {VERB_HELP,     S_ANY,              CMD_FLUSH | CMD_JUNK,    NULL,               srv_help},
    {VERB_BDAT,     S_ANY,              CMD_FLUSH,               NULL,               srv_not_implemented},
    {VERB_ETRN,     S_ANY,              CMD_FLUSH,               NULL,               srv_not_implemented},
    {VERB_HTTP,     S_ANY,              CMD_FLUSH,               NULL,               srv_http},
    {VERB_UNKNOWN,  S_ANY,              CMD_FLUSH,               NULL,               srv_unknown},
};
/* clang-format on */

const struct srv_command *srv_command_find(enum smtp_verb verb)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (commands[i].verb == verb)
            return &commands[i];
    return &commands[ARRAY_LEN(commands) - 1];
}

/* RFC 5321 4.1.4: bad sequence of commands. */
static void refuse_sequence(struct smtp_srv *s, enum smtp_verb verb)
{
    if (s->state == ST_CONNECTED)
        SRV_REPLY(s, 503, "5.5.1", "Send EHLO first");
    else if (verb == VERB_MAIL)
        SRV_REPLY(s, 503, "5.5.1", "A transaction is open already");
    else if (verb == VERB_AUTH)
        SRV_REPLY(s, 503, "5.5.1", "AUTH not permitted during a transaction");
    else if (s->state == ST_READY)
        SRV_REPLY(s, 503, "5.5.1", "Send MAIL first");
    else if (s->txn.rcpts_refused)
        SRV_REPLY(s, 554, "5.5.1", "No valid recipients");
    else
        SRV_REPLY(s, 503, "5.5.1", "Send RCPT first");
}

static bool security_ok(struct smtp_srv *s, uint32_t flags)
{
    if ((flags & CMD_NEEDS_TLS) && s->config.require_tls && !s->tls) {
        SRV_REPLY(s, 530, "5.7.0", "Must issue a STARTTLS command first");
        return false;
    }
    if ((flags & CMD_NEEDS_AUTH) && s->config.require_auth && s->user_n == 0) {
        SRV_REPLY(s, 530, "5.7.0", "Authentication required");
        return false;
    }
    return true;
}

/* Commands that bring no message on: few are courtesy, many are an attack on patience. */
static void count_junk(struct smtp_srv *s)
{
    if (s->config.max_junk && ++s->junk > s->config.max_junk)
        srv_count_error(s);
}

void srv_command_line(struct smtp_srv *s, struct sv line)
{
    struct sv arg = SV_NULL;
    const enum smtp_verb verb = smtp_verb(line, &arg);
    const struct srv_command *c = srv_command_find(verb);

    if (s->exhausted && verb != VERB_QUIT) {
        SRV_REPLY(s, 421, "4.7.0", "Too many errors");
        srv_shut(s);
        return;
    }
    if (c->flags & CMD_FLUSH)
        s->flush = true;
    if (c->flags & CMD_JUNK)
        count_junk(s);
    if (!(c->states & IN_STATE(s->state)))
        refuse_sequence(s, verb);
    else if ((c->flags & CMD_NO_ARG) && !sv_empty(sv_trim(arg)))
        SRV_REPLY(s, 501, "5.5.4", "No parameters allowed");
    else if (security_ok(s, c->flags) && (!c->check || c->check(s, arg)))
        c->proceed(s, arg);
}
