/*
 * Relay control (spec E5, E7).
 *
 * SECURITY: recipient addresses come from strangers. What counts is the domain behind the last "@",
 * and a local part that carries a route of its own is refused from strangers, because the server
 * behind us might follow it.
 */
#include "core/relay.h"
#include "codec/mailaddr.h"
#include "core/settings.h"

static const struct smtp_verdict accepted = {.ok = true};

static struct smtp_verdict refused(uint16_t code, const char *status, const char *text)
{
    return (struct smtp_verdict){.code = code, .status = status, .text = text};
}

static bool may_relay(const struct peer *peer)
{
    return peer->trusted || peer->gateway || peer->auth_user.n > 0;
}

struct smtp_verdict relay_check(const struct settings *s, const struct peer *peer, struct sv sender,
                                struct sv rcpt)
{
    char text[256];
    struct sv domain = mailaddr_domain(rcpt, text);

    (void)sender; /* never a reason to relay: it is forged at will */
    if (sv_eq_nocase(rcpt, SV("postmaster")))
        return accepted; /* RFC 5321 4.5.1 */
    if (!domain.n || !mailaddr_valid(rcpt) || rcpt.p[0] == '@')
        return refused(553, "5.1.3", "Recipient address is not valid");
    if (may_relay(peer))
        return accepted;
    if (!domain_group_has(s->protected_domains, domain))
        return refused(550, "5.7.1", "Relaying denied");
    if (mailaddr_is_routed(rcpt))
        return refused(550, "5.7.1", "Relaying denied: recipient carries a route");
    return accepted;
}

void peer_classify(const struct settings *s, struct peer *peer)
{
    peer->trusted = ip_group_has(s->trusted_ips, &peer->ip);
    peer->gateway = ip_group_has(s->gateway_ips, &peer->ip);
}
