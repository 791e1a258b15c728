/*
 * RSET, NOOP, VRFY, EXPN, HELP, QUIT, and what is not ours (RFC 5321 4.1.1).
 *
 * SECURITY: VRFY and EXPN tell nothing about users. The verbs of HTTP mean that a browser was made
 * to speak to this port (cross-protocol attack): the session ends without a word.
 */
#include "proto/smtp_srv_impl.h"

void srv_rset(struct smtp_srv *s, struct sv arg UNUSED)
{
    srv_txn_reset(s);
    if (s->state != ST_CONNECTED)
        s->state = ST_READY;
    SRV_REPLY(s, 250, "2.0.0", "Ok");
}

void srv_noop(struct smtp_srv *s, struct sv arg UNUSED)
{
    SRV_REPLY(s, 250, "2.0.0", "Ok");
}

void srv_vrfy(struct smtp_srv *s, struct sv arg)
{
    if (sv_empty(sv_trim(arg)))
        SRV_REPLY(s, 501, "5.5.4", "Address required");
    else
        SRV_REPLY(s, 252, "2.0.0", "Cannot verify; send the message and see");
}

void srv_expn(struct smtp_srv *s, struct sv arg UNUSED)
{
    SRV_REPLY(s, 502, "5.5.1", "EXPN is not available");
}

void srv_help(struct smtp_srv *s, struct sv arg UNUSED)
{
    SRV_REPLY(s, 214, "2.0.0", "See RFC 5321");
}

void srv_quit(struct smtp_srv *s, struct sv arg UNUSED)
{
    SRV_REPLY(s, 221, "2.0.0", "Bye");
    srv_shut(s);
}

void srv_http(struct smtp_srv *s, struct sv arg UNUSED)
{
    srv_shut(s);
}

void srv_not_implemented(struct smtp_srv *s, struct sv arg UNUSED)
{
    SRV_REPLY(s, 502, "5.5.1", "Command not implemented");
}

void srv_unknown(struct smtp_srv *s, struct sv arg UNUSED)
{
    SRV_REPLY(s, 500, "5.5.2", "Command not recognized");
}
