/*
 * The answering side of the control socket, for every process with verbs (`queue`, `store`):
 * reading the JSON arguments of a CTL_REQ and sending CTL_REPLYs.
 */
#ifndef ROLE_CTL_VERB_H
#define ROLE_CTL_VERB_H

#include "base/buf.h"
#include "net/ipc.h"

#include <jansson.h>

/* more: another reply to this request follows. exit: what postsealctl ends with (sysexits.h). */
void ctl_reply(struct ipc *ch, uint64_t tag, bool more, uint8_t exit, const struct buf *json);
void ctl_fail(struct ipc *ch, uint64_t tag, uint8_t exit, const char *text);
struct sv ctl_arg(const json_t *args, const char *key); /* "" when absent or no string */
/* otherwise: when absent, negative or no integer */
uint64_t ctl_arg_u64(const json_t *args, const char *key, uint64_t otherwise);

#endif
