/*
 * STARTTLS (RFC 3207).
 *
 * SECURITY: command injection (CVE-2011-0411): whatever stands behind the command in the same input
 * was sent in clear and must not be run under TLS. A client that does so is broken or attacked:
 * nothing more is answered, the session ends without a handshake.
 */
#include "proto/smtp_srv_impl.h"

bool srv_starttls_check(struct smtp_srv *s, struct sv arg UNUSED)
{
    if (s->tls) {
        SRV_REPLY(s, 503, "5.5.1", "TLS is active already");
        return false;
    }
    if (!s->config.tls_offer) {
        SRV_REPLY(s, 502, "5.5.1", "STARTTLS is not available");
        return false;
    }
    return true;
}

void srv_starttls(struct smtp_srv *s, struct sv arg UNUSED)
{
    if (s->in_pos < s->in.n) {
        srv_shut(s);
        return;
    }
    if (s->tls_hold) {
        s->tls_held = true;
        srv_reply(s, 421, "4.7.0", sv_str(s->tls_hold));
        srv_shut(s);
        return;
    }
    SRV_REPLY(s, 220, "2.0.0", "Ready to start TLS");
    s->state = ST_TLS;
}
