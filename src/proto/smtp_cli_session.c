/*
 * The beginning of a session: greeting, EHLO or HELO, and what the server offers.
 *
 * SECURITY: an offer of a hostile server decides nothing here but which commands are sent; what
 * must not go on in clear is decided by require_tls alone.
 */
#include "proto/smtp_cli_impl.h"

static void hello(struct smtp_cli *c, enum cli_op op, struct sv verb)
{
    char line[300];
    const struct sv name = sv_take(c->config.helo, 255);
    memcpy(line, verb.p, verb.n);
    memcpy(line + verb.n, name.p, name.n);
    c->state = CLI_ST_SESSION;
    c->session_op = op;
    c->caps = 0;
    c->size_limit = 0;
    cli_command(c, sv_of(line, verb.n + name.n));
}

void cli_ehlo_perform(struct smtp_cli *c)
{
    hello(c, OP_EHLO, SV("EHLO "));
}

void cli_greeting_response(struct smtp_cli *c, const struct cli_reply *r)
{
    if (r->code == 220)
        cli_ehlo_perform(c);
    else
        cli_fail_reply(c, r->code >= 500 ? FAILURE_SMTP_PERM : FAILURE_SMTP_TEMP);
}

static void cap_auth(struct smtp_cli *c, struct sv args)
{
    while (args.p) {
        const struct sv word = sv_cut(&args, ' ');
        if (sv_eq_nocase(word, SV("PLAIN")))
            c->caps |= CAP_AUTH_PLAIN;
        else if (sv_eq_nocase(word, SV("LOGIN")))
            c->caps |= CAP_AUTH_LOGIN;
    }
}

void cli_cap_line(struct smtp_cli *c, struct sv text)
{
    static const struct {
        struct sv name;
        uint32_t cap;
    } plain[] = {{{"PIPELINING", 10}, CAP_PIPELINING},
                 {{"8BITMIME", 8}, CAP_8BITMIME},
                 {{"DSN", 3}, CAP_DSN},
                 {{"STARTTLS", 8}, CAP_STARTTLS}};
    struct sv args = sv_trim(text);
    const struct sv word = sv_cut(&args, ' ');

    for (size_t i = 0; i < ARRAY_LEN(plain); i++)
        if (sv_eq_nocase(word, plain[i].name))
            c->caps |= plain[i].cap;
    if (sv_eq_nocase(word, SV("SIZE"))) {
        c->caps |= CAP_SIZE;
        if (!sv_to_u64(sv_trim(args), 1, UINT64_MAX, &c->size_limit))
            c->size_limit = 0;
    } else if (sv_eq_nocase(word, SV("AUTH"))) {
        cap_auth(c, args);
    }
}

void cli_ehlo_response(struct smtp_cli *c, const struct cli_reply *r)
{
    if (r->code == 250) {
        c->esmtp = true;
        cli_ready(c);
    } else if (r->code < 500) {
        cli_fail_reply(c, r->code >= 400 ? FAILURE_SMTP_TEMP : FAILURE_PROTOCOL);
    } else if (c->config.require_tls && !c->tls) {
        cli_fail_reply(c, FAILURE_TLS_NOT_OFFERED); /* HELO cannot lead to TLS */
    } else if (c->config.auth_user.n) {
        cli_fail_reply(c, FAILURE_AUTH);
    } else {
        hello(c, OP_HELO, SV("HELO ")); /* RFC 5321 3.2 */
    }
}

void cli_helo_response(struct smtp_cli *c, const struct cli_reply *r)
{
    if (r->code == 250)
        cli_ready(c);
    else
        cli_fail_reply(c, r->code >= 500 ? FAILURE_SMTP_PERM : FAILURE_SMTP_TEMP);
}

void cli_ready(struct smtp_cli *c)
{
    if (cli_tls_wanted(c))
        cli_starttls_perform(c);
    else if (c->config.auth_user.n && !c->authed)
        cli_auth_perform(c);
    else
        c->state = CLI_ST_READY;
}
