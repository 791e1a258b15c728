/* Which way a recipient's copy takes, and what TLS that way must have (spec D, A8, A10). */
#include "codec/mailaddr.h"
#include "core/plan.h"
#include "core/settings.h"

#include <limits.h>

#define PORT_SMTP 25

/* Domain that decides the route: that of the recipient; <Postmaster> goes where the administrator's
 * mail goes. Copied into the arena. */
static struct sv route_domain(const struct settings *s, struct sv rcpt, struct arena *a)
{
    char text[256];
    struct sv domain = mailaddr_domain(rcpt, text);

    if (!domain.n)
        domain = mailaddr_domain(s->general_administrator_address, text);
    return domain.n ? arena_sv(a, domain) : s->general_fqdn;
}

static const struct route *find_route(const struct settings *s, struct sv domain)
{
    for (uint32_t i = 0; i < s->n_routes; i++)
        if (!s->routes[i].group || domain_group_has(s->routes[i].group, domain))
            return &s->routes[i];
    return NULL;
}

/* Hosts in order of preference; equals keep their order, rotated by turn (D6). */
static void order_hosts(const struct route *r, uint64_t turn, struct host *out_hosts)
{
    uint32_t done = 0;

    while (done < r->n_hosts) {
        int best = INT_MAX, above = done ? out_hosts[done - 1].preference : -1;
        uint32_t n = 0, first;
        for (uint32_t i = 0; i < r->n_hosts; i++)
            if (r->hosts[i].preference > above && r->hosts[i].preference < best)
                best = r->hosts[i].preference;
        for (uint32_t i = 0; i < r->n_hosts; i++)
            n += r->hosts[i].preference == best;
        first = (uint32_t)(turn % n);
        for (uint32_t i = 0, k = 0; i < r->n_hosts; i++)
            if (r->hosts[i].preference == best)
                out_hosts[done + (k++ + n - first) % n] = r->hosts[i];
        done += n;
    }
}

/* The stricter of route and decision. Credentials are never sent in clear. */
static struct tls_req requirement(const struct settings *s, const struct decision *d,
                                  const struct route *r, struct arena *a)
{
    struct tls_req req = {.level = r->tls ? TLS_LEVEL_OPPORTUNISTIC : TLS_LEVEL_OFF,
                          .strength = TLS_STRENGTH_MEDIUM};

    if (d && d->encrypt) {
        req.level = (uint8_t)s->encryption_level;
        if (req.level < TLS_LEVEL_ENCRYPT || req.level > TLS_LEVEL_VERIFY_CN)
            req.level = TLS_LEVEL_ENCRYPT; /* never less */
        req.strength =
            s->encryption_strength == TLS_STRENGTH_HIGH ? TLS_STRENGTH_HIGH : TLS_STRENGTH_MEDIUM;
        req.why = SV("message marked Encrypt");
    } else if (r->auth_user.n) {
        req.level = TLS_LEVEL_ENCRYPT;
        req.why = arena_printf(a, "route %.*s sends credentials", SV_ARG(r->name));
    } else {
        req.why = arena_printf(a, "route %.*s", SV_ARG(r->name));
    }
    return req;
}

static struct sv destination_key(const struct route *r, struct sv domain, struct arena *a)
{
    if (r->n_hosts)
        return arena_printf(a, "route/%.*s", SV_ARG(r->name));
    return arena_printf(a, "mx/%.*s:%u", SV_ARG(domain), (unsigned)r->port);
}

static void add_hosts(const struct route *r, struct sv domain, uint64_t turn, struct arena *a,
                      struct hop *hop)
{
    bool literal = domain.p[0] == '[';
    uint32_t n = r->n_hosts ? r->n_hosts : r->port != PORT_SMTP && !literal;

    if (!n)
        return; /* MX of the domain */
    hop->hosts = ARENA_ARRAY(a, struct host, n);
    hop->n_hosts = n;
    if (!hop->hosts)
        return;
    if (r->n_hosts)
        order_hosts(r, turn, hop->hosts);
    else /* MX of the domain, on a port of its own */
        hop->hosts[0] = (struct host){.name = domain, .port = r->port, .preference = 1, .mx = true};
}

enum err plan_route(const struct settings *s, const struct decision *d, struct sv rcpt,
                    uint64_t turn, struct arena *a, struct hop *out_hop)
{
    struct sv domain = route_domain(s, rcpt, a);
    const struct route *r = domain.n ? find_route(s, domain) : NULL;
    struct hop hop = {.domain = domain};

    if (!r)
        return a->overflow ? ERR_LIMIT : ERR_NOTFOUND;
    hop.route = r->name;
    hop.auth_user = r->auth_user;
    hop.auth_secret = r->auth_secret;
    hop.tls = requirement(s, d, r, a);
    hop.key = destination_key(r, domain, a);
    add_hosts(r, domain, turn, a, &hop);
    if (a->overflow)
        return ERR_LIMIT;
    *out_hop = hop;
    return ERR_OK;
}
