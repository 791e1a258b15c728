/*
 * MAIL (RFC 5321 4.1.1.2, RFC 1870, RFC 6152, RFC 3461).
 *
 * SECURITY: nothing is allocated from the size that a client declares.
 */
#include "proto/smtp_srv_impl.h"

bool srv_mail_check(struct smtp_srv *s, struct sv arg UNUSED)
{
    if (s->config.max_messages && s->messages >= s->config.max_messages) {
        SRV_REPLY(s, 421, "4.7.0", "Too many messages in one session");
        srv_shut(s);
        return false;
    }
    return true;
}

/* RFC 1870 6.1. */
static bool size_ok(struct smtp_srv *s, uint64_t size)
{
    if (s->config.max_size && size > s->config.max_size) {
        SRV_REPLY(s, 552, "5.3.4", "Message size exceeds the limit");
        return false;
    }
    if (s->config.max_session && size > s->config.max_session) {
        SRV_REPLY(s, 552, "5.3.4", "Message size exceeds the limit of a session");
        return false;
    }
    if (s->config.max_session && s->session_bytes + size > s->config.max_session) {
        SRV_REPLY(s, 421, "4.7.0", "Too much data in one session");
        srv_shut(s);
        return false;
    }
    return true;
}

static void fill(struct smtp_srv *s, const struct smtp_mail_args *args)
{
    struct envelope *e = &s->txn.env;
    e->sender = arena_sv(&s->txn.mem, args->path);
    e->envid = arena_sv(&s->txn.mem, args->envid);
    e->ret = (uint8_t)args->ret;
    e->body_type = (uint8_t)args->body;
    e->peer.helo = smtp_srv_helo(s);
    e->peer.auth_user = smtp_srv_auth_user(s);
    e->peer.esmtp = s->esmtp;
    e->peer.listener = (uint8_t)s->config.listener;
    s->txn.declared = args->size;
}

void srv_mail(struct smtp_srv *s, struct sv arg)
{
    struct smtp_mail_args args = {0};
    struct smtp_reply refused = {0};

    srv_txn_reset(s);
    if (!smtp_parse_mail(arg, &s->txn.mem, &args, &refused)) {
        srv_reply_lit(s, &refused);
        return;
    }
    if (!size_ok(s, args.size))
        return;
    fill(s, &args);
    if (s->txn.mem.overflow) {
        SRV_REPLY(s, 452, "4.3.1", "Out of memory");
        return;
    }
    s->ask = ASK_MAIL;
}

void srv_mail_answered(struct smtp_srv *s, const struct smtp_reply *answer, struct sv text)
{
    srv_reply(s, answer->code, answer->status, text);
    if (answer->code < 300)
        s->state = ST_MAIL;
    else
        srv_txn_reset(s);
}
