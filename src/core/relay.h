/* Connection, relay and message control: pure verdicts over the settings snapshot (spec E). */
#ifndef CORE_RELAY_H
#define CORE_RELAY_H

#include "model/settings.h"

struct smtp_verdict {
    bool ok;
    uint16_t code;      /* when !ok */
    const char *status; /* "5.7.1" */
    const char *text;
};

/* May this peer address a mail to rcpt? Relaying only from Trusted IP, Encryption Gateway or AUTH,
 * or to a protected domain; everything else 550 5.7.1. Percent hack, source route, quoted at, bang
 * path and literals of our own address never make a foreign domain look protected. */
struct smtp_verdict relay_check(const struct settings *s, const struct peer *peer, struct sv sender,
                                struct sv rcpt);
/* Fills peer->trusted and peer->gateway from the groups. */
void peer_classify(const struct settings *s, struct peer *peer);

#endif
