/* What the `smtp` process asks of `keys`: certificates, signatures, AUTH passwords. */
#ifndef ROLE_SMTP_SECRET_H
#define ROLE_SMTP_SECRET_H

#include "base/buf.h"

struct smtp;

/* Password of that name for AUTH at a next hop. */
NODISCARD enum err smtp_secret(struct smtp *m, struct sv name, struct buf *out);
/* A channel to `keys`, the first or a new one. Takes the fd. */
void smtp_keys_channel(struct smtp *m, int fd);
NODISCARD enum err smtp_keys_start(struct smtp *m, struct errinfo *info);
bool smtp_keys_certs(struct smtp *m);  /* true: m->identities are fresh */
bool smtp_keys_ticket(struct smtp *m); /* true: m->ticket_keys are new */
void smtp_keys_stop(struct smtp *m);

#endif
