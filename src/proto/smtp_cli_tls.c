/*
 * STARTTLS (RFC 3207).
 *
 * SECURITY: response injection: bytes that stand behind the 220 were sent in clear and would be
 * read as replies under TLS. They end the session. With require_tls nothing but a handshake leads
 * on; STARTTLS is asked for even when it is not offered, since an attacker may have cut the offer
 * out.
 */
#include "proto/smtp_cli_impl.h"

bool cli_tls_wanted(const struct smtp_cli *c)
{
    if (c->tls || c->tls_refused)
        return false;
    return c->config.require_tls || (c->config.want_tls && (c->caps & CAP_STARTTLS));
}

void cli_starttls_perform(struct smtp_cli *c)
{
    c->state = CLI_ST_SESSION;
    c->session_op = OP_STARTTLS;
    cli_command(c, SV("STARTTLS"));
}

void cli_starttls_response(struct smtp_cli *c, const struct cli_reply *r)
{
    if (r->code == 220) {
        if (c->in_pos < c->in.n)
            cli_fail(c, FAILURE_TLS_HANDSHAKE, "the server sent data behind its reply to STARTTLS");
        else
            c->state = CLI_ST_TLS;
    } else if (r->code < 400) {
        cli_fail_reply(c, FAILURE_PROTOCOL);
    } else if (c->config.require_tls) {
        cli_fail_reply(c, c->caps & CAP_STARTTLS ? FAILURE_TLS_REFUSED : FAILURE_TLS_NOT_OFFERED);
    } else {
        c->tls_refused = true;
        cli_ready(c);
    }
}

void smtp_cli_tls_done(struct smtp_cli *c)
{
    if (c->state != CLI_ST_TLS)
        return;
    c->tls = true;
    cli_ehlo_perform(c); /* RFC 3207 4.2: what was learned before is forgotten */
}

void smtp_cli_tls_failed(struct smtp_cli *c)
{
    if (c->state == CLI_ST_TLS)
        cli_fail(c, FAILURE_TLS_HANDSHAKE, "the TLS handshake failed");
}
