/* A message to another process whose loss the sender can do nothing about: a peer that is too slow
 * to take it is logged, and its own deadlines decide what follows. Takes the fd. */
#ifndef ROLE_TELL_H
#define ROLE_TELL_H

#include "net/ipc.h"

void role_tell(struct ipc *ch, enum message m, const void *body, int fd);

#endif
