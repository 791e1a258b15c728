/*
 * The message behind DATA and the reply to its end (RFC 5321 4.1.1.4, 4.5.2).
 *
 * SECURITY: outbound smuggling. A line that begins with a dot gets a second one, every CR must be
 * followed by LF and every LF preceded by CR, over any split of the input: so CR LF "." CR LF comes
 * from cli_body_perform's end alone, and no other server can read an end of data into the body.
 */
#include "proto/smtp_body.h"
#include "proto/smtp_cli_impl.h"

void smtp_cli_body(struct smtp_cli *c, struct sv bytes, bool final)
{
    if (c->state != CLI_ST_BODY || c->txn.body_final)
        return;
    c->txn.body = bytes;
    c->txn.body_given = true;
    c->txn.body_final = final;
}

void smtp_cli_abort_body(struct smtp_cli *c)
{
    if (c->state == CLI_ST_BODY)
        cli_fail(c, FAILURE_CORRUPT, "the stored message could not be read");
}

/* One byte with its stuffing; room was reserved. false = a bare CR or LF. */
static bool put_byte(struct smtp_cli *c, char ch)
{
    struct cli_txn *t = &c->txn;
    if (t->cr != (ch == '\n'))
        return false;
    if (t->bol && ch == '.')
        c->out.p[c->out.n++] = '.';
    c->out.p[c->out.n++] = ch;
    t->bol = ch == '\n';
    t->cr = ch == '\r';
    return true;
}

/* A run without anything to look at; its first byte is judged by put_byte's rules. */
static size_t put_run(struct smtp_cli *c, struct sv in)
{
    struct cli_txn *t = &c->txn;
    if (t->cr || in.p[0] == '\n' || (t->bol && in.p[0] == '.'))
        return 0;
    const size_t n = body_plain_run(in.p, in.n);
    if (n == 0)
        return 0;
    memcpy(c->out.p + c->out.n, in.p, n);
    c->out.n += n;
    t->bol = in.p[n - 1] == '\n';
    t->cr = in.p[n - 1] == '\r';
    return n;
}

static bool put_slice(struct smtp_cli *c, struct sv in)
{
    size_t slow_until = 0;
    for (size_t i = 0; i < in.n;) {
        if (i >= slow_until) {
            const size_t n = put_run(c, sv_skip(in, i));
            i += n;
            slow_until = n ? i : i + 64;
            if (n)
                continue;
        }
        if (!put_byte(c, in.p[i]))
            return false;
        i++;
    }
    return true;
}

static void refuse_bare(struct smtp_cli *c)
{
    static const struct smtp_cli_rcpt why = {
        .status = "5.6.11", .reply = "the message contains a bare CR or a bare LF"};
    cli_txn_settle(c, RCPT_FAILED, &why);
    cli_fail(c, FAILURE_SMTP_PERM, why.reply);
}

static void finish(struct smtp_cli *c)
{
    struct cli_txn *t = &c->txn;
    if (t->cr) {
        refuse_bare(c);
        return;
    }
    (void)buf_append_sv(&c->out, t->bol ? SV(".\r\n") : SV("\r\n.\r\n"));
    cli_log(c, 'C', SV("(message) ."));
    c->state = CLI_ST_END;
}

void cli_body_perform(struct smtp_cli *c)
{
    struct cli_txn *t = &c->txn;
    const struct sv slice = sv_take(t->body, CLI_BODY_SLICE);
    if (buf_reserve(&c->out, 2 * slice.n + 8) != ERR_OK) {
        cli_fail(c, FAILURE_INTERNAL, "out of memory");
        return;
    }
    if (!put_slice(c, slice)) {
        refuse_bare(c);
        return;
    }
    t->body = sv_skip(t->body, slice.n);
    if (t->body.n)
        return;
    t->body_given = false;
    if (t->body_final)
        finish(c);
}

void cli_end_response(struct smtp_cli *c, const struct cli_reply *r)
{
    struct smtp_cli_rcpt why = {0};
    if (r->code >= 300 && r->code < 400) {
        cli_fail_reply(c, FAILURE_PROTOCOL);
        return;
    }
    /* After the lone dot nobody is pending: the results stand. */
    cli_reply_to(r, &why);
    cli_txn_settle(c, cli_result_of(r->code), &why);
    cli_txn_done(c);
}

void cli_body_early(struct smtp_cli *c, const struct cli_reply *r)
{
    struct smtp_cli_rcpt why = {0};
    if (r->code < 400) {
        cli_fail(c, FAILURE_PROTOCOL, "the server answered before the end of the message");
        return;
    }
    cli_reply_to(r, &why);
    cli_txn_settle(c, cli_result_of(r->code), &why);
    cli_fail_reply(c, r->code >= 500 ? FAILURE_SMTP_PERM : FAILURE_SMTP_TEMP);
}
