/*
 * Does a TLS session satisfy a requirement (spec B3, B7, B8), and may clear text follow a failure
 * (reference: opportunistic TLS)?
 *
 * SECURITY: a level or strength that is not in the table demands everything; nothing unknown
 * passes.
 */
#include "core/plan.h"

#define TLS_1_2 0x0303

static bool fails(enum failure why, enum failure *out_failure)
{
    *out_failure = why;
    return false;
}

/* The four levels as a table of demands (B3). */
struct demand {
    bool cert, name, chain;
};

static struct demand level_demand(uint8_t level)
{
    switch ((enum tls_level)level) {
    case TLS_LEVEL_OFF:
    case TLS_LEVEL_OPPORTUNISTIC:
    case TLS_LEVEL_ENCRYPT:
        return (struct demand){false, false, false};
    case TLS_LEVEL_ENCRYPT_CN:
        return (struct demand){true, true, false};
    case TLS_LEVEL_VERIFY:
        return (struct demand){true, false, true};
    case TLS_LEVEL_VERIFY_CN:
        break;
    }
    return (struct demand){true, true, true};
}

static bool mandatory(uint8_t level)
{
    return level != TLS_LEVEL_OFF && level != TLS_LEVEL_OPPORTUNISTIC;
}

bool tls_verdict(const struct tls_req *req, const struct tls_facts *facts,
                 enum failure *out_failure)
{
    struct demand d = level_demand(req->level);
    uint16_t floor = req->strength > TLS_STRENGTH_MEDIUM ? TLS_STRENGTH_HIGH : TLS_STRENGTH_MEDIUM;

    *out_failure = FAILURE_NONE;
    if (!mandatory(req->level))
        return true;
    if (!facts->version)
        return fails(FAILURE_TLS_NOT_OFFERED, out_failure);
    if (facts->version < TLS_1_2 || facts->bits < floor)
        return fails(FAILURE_TLS_WEAK, out_failure);
    if ((d.cert && !facts->peer_cert) || (d.name && !facts->name_ok) ||
        (d.chain && !facts->chain_ok))
        return fails(FAILURE_TLS_CERT, out_failure);
    return true;
}

bool tls_may_fall_back(const struct tls_req *req, enum failure f, bool has_auth)
{
    if (has_auth || mandatory(req->level))
        return false;
    switch (f) {
    case FAILURE_TLS_NOT_OFFERED:
    case FAILURE_TLS_REFUSED:
    case FAILURE_TLS_HANDSHAKE:
    case FAILURE_TLS_WEAK:
    case FAILURE_TLS_CERT:
        return true;
    case FAILURE_NONE:
    case FAILURE_DNS_TEMP:
    case FAILURE_DNS_PERM:
    case FAILURE_CONNECT:
    case FAILURE_SMTP_TEMP:
    case FAILURE_SMTP_PERM:
    case FAILURE_PROTOCOL:
    case FAILURE_TIMEOUT: /* silence is no answer: next host, later retry */
    case FAILURE_SIZE:
    case FAILURE_8BIT:
    case FAILURE_AUTH:
    case FAILURE_CORRUPT:
    case FAILURE_INTERNAL:
        break;
    }
    return false;
}
