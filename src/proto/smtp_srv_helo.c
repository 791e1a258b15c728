/*
 * EHLO and HELO (RFC 5321 4.1.1.1). Either ends an open transaction.
 *
 * SECURITY: the name is unchecked text of the client, kept only when it is a syntactically valid
 * domain or literal.
 */
#include "proto/smtp_srv_impl.h"

bool srv_helo_check(struct smtp_srv *s, struct sv arg)
{
    arg = sv_trim(arg);
    if (arg.n > 0 && arg.n <= SRV_NAME_MAX && smtp_helo_valid(arg))
        return true;
    SRV_REPLY(s, 501, "5.5.4", "Domain name or address literal required");
    return false;
}

static void hello(struct smtp_srv *s, struct sv arg, bool esmtp)
{
    arg = sv_trim(arg);
    srv_txn_reset(s);
    memcpy(s->helo, arg.p, arg.n);
    s->helo_n = arg.n;
    s->esmtp = esmtp;
    s->state = ST_CONNECTED;
    s->ask = ASK_HELO;
}

void srv_helo(struct smtp_srv *s, struct sv arg)
{
    hello(s, arg, false);
}

void srv_ehlo(struct smtp_srv *s, struct sv arg)
{
    hello(s, arg, true);
}

static void put_size(struct smtp_srv *s)
{
    char text[32] = "SIZE ";
    size_t n = sizeof text;
    for (uint64_t v = s->config.max_size; v; v /= 10)
        text[--n] = (char)('0' + v % 10);
    const size_t digits = sizeof text - n;
    memmove(text + 5, text + n, digits);
    srv_reply_part(s, 250, false, sv_of(text, digits ? 5 + digits : 4));
}

/* STARTTLS is offered before TLS only, AUTH under TLS only (RFC 3207 4.2, RFC 4954 4). */
static void offer(struct smtp_srv *s)
{
    srv_reply_part(s, 250, false, s->config.hostname);
    srv_reply_part(s, 250, false, SV("PIPELINING"));
    put_size(s);
    if (s->config.tls_offer && !s->tls)
        srv_reply_part(s, 250, false, SV("STARTTLS"));
    if (s->config.auth_offer && s->tls)
        srv_reply_part(s, 250, false, SV("AUTH PLAIN LOGIN"));
    srv_reply_part(s, 250, false, SV("ENHANCEDSTATUSCODES"));
    srv_reply_part(s, 250, false, SV("8BITMIME"));
    srv_reply_part(s, 250, true, SV("DSN"));
}

void srv_helo_answered(struct smtp_srv *s, const struct smtp_reply *answer, struct sv text)
{
    s->flush = true;
    if (answer->code != 250) {
        srv_reply(s, answer->code, answer->status, text);
        s->helo_n = 0;
        s->esmtp = false;
        return;
    }
    s->state = ST_READY;
    if (s->esmtp)
        offer(s);
    else
        srv_reply_part(s, 250, true, s->config.hostname);
}
