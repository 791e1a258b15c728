/*
 * AUTH PLAIN, else LOGIN (RFC 4954).
 *
 * SECURITY: credentials leave over TLS only, whatever the server offers; they never reach the
 * transcript, and what was sent is wiped from the output buffer.
 */
#include "base/enc.h"
#include "proto/smtp_cli_impl.h"

enum { LINE_WITH_INITIAL = 500 }; /* longer: after 334 (RFC 4954 4: 512 with the CRLF) */

static void expect(struct smtp_cli *c, enum cli_op op)
{
    c->state = CLI_ST_SESSION;
    c->session_op = op;
}

/* Sends head + base64 of what is in *secret, which is wiped. */
static void send_secret(struct smtp_cli *c, struct sv head, struct buf *secret, const char *masked)
{
    struct buf line;
    buf_init(&line, 8192);
    (void)buf_reserve(&line, head.n + (secret->n + 2) / 3 * 4);
    (void)buf_append_sv(&line, head);
    (void)b64_encode(buf_sv(secret), &line);
    if (line.overflow || secret->overflow)
        cli_fail(c, FAILURE_AUTH, "the credentials are too long");
    else
        cli_secret(c, buf_sv(&line), masked);
    buf_wipe(&line);
    buf_wipe(secret);
}

static void send_plain(struct smtp_cli *c, struct sv head)
{
    struct buf secret;
    buf_init(&secret, 4096);
    (void)buf_reserve(&secret, 2 + c->config.auth_user.n + c->config.auth_password.n);
    (void)buf_append_byte(&secret, '\0');
    (void)buf_append_sv(&secret, c->config.auth_user);
    (void)buf_append_byte(&secret, '\0');
    (void)buf_append_sv(&secret, c->config.auth_password);
    c->auth_told = true;
    send_secret(c, head, &secret, head.n ? "AUTH PLAIN ****" : "****");
}

static void send_one(struct smtp_cli *c, struct sv text)
{
    struct buf secret;
    buf_init(&secret, 4096);
    (void)buf_reserve(&secret, text.n);
    (void)buf_append_sv(&secret, text);
    send_secret(c, SV(""), &secret, "****");
}

static void login_perform(struct smtp_cli *c)
{
    expect(c, OP_AUTH_LOGIN);
    cli_command(c, SV("AUTH LOGIN"));
}

void cli_auth_perform(struct smtp_cli *c)
{
    const size_t secret_n = 2 + c->config.auth_user.n + c->config.auth_password.n;
    if (!c->tls) {
        cli_fail(c, FAILURE_AUTH, "credentials are sent over TLS only");
    } else if (c->caps & CAP_AUTH_PLAIN) {
        expect(c, OP_AUTH_PLAIN);
        if ((secret_n + 2) / 3 * 4 + 11 <= LINE_WITH_INITIAL)
            send_plain(c, SV("AUTH PLAIN "));
        else
            cli_command(c, SV("AUTH PLAIN"));
    } else if (c->caps & CAP_AUTH_LOGIN) {
        login_perform(c);
    } else {
        cli_fail(c, FAILURE_AUTH, "the server offers neither AUTH PLAIN nor AUTH LOGIN");
    }
}

/* The end of an exchange, whatever the mechanism. */
static void verdict(struct smtp_cli *c, const struct cli_reply *r)
{
    if (r->code == 235) {
        c->authed = true;
        cli_ready(c);
    } else if (r->code < 400) {
        cli_fail_reply(c, FAILURE_PROTOCOL);
    } else {
        cli_fail_reply(c, r->code >= 500 ? FAILURE_AUTH : FAILURE_SMTP_TEMP);
    }
}

void cli_auth_plain_response(struct smtp_cli *c, const struct cli_reply *r)
{
    if (r->code == 334 && !c->auth_told)
        send_plain(c, SV(""));
    else if (r->code == 504 && (c->caps & CAP_AUTH_LOGIN))
        login_perform(c); /* offered, but not supported after all */
    else
        verdict(c, r);
}

void cli_auth_login_response(struct smtp_cli *c, const struct cli_reply *r)
{
    if (r->code != 334) {
        verdict(c, r);
        return;
    }
    expect(c, OP_AUTH_LOGIN_USER);
    send_one(c, c->config.auth_user);
}

void cli_auth_user_response(struct smtp_cli *c, const struct cli_reply *r)
{
    if (r->code != 334) {
        verdict(c, r);
        return;
    }
    expect(c, OP_AUTH_LOGIN_PASSWORD);
    send_one(c, c->config.auth_password);
}

void cli_auth_password_response(struct smtp_cli *c, const struct cli_reply *r)
{
    verdict(c, r);
}
