/*
 * The `keys` role: holds every private key and answers over private channels (model/messages.h,
 * KEY_REQ and KEY_REPLY). The parts below keys_run are apart so that tests can put them on a loop
 * of their own.
 *
 * Talks to: supervisor (BYTES of keys and secrets at start; BYTES "key/ID" and "cert/ID" back, to
 * be kept, after a key was made or imported), smtp, web, queue, postsealctl's broker.
 * On failure: garbage closes the channel that sent it and raises an alarm (log line
 * "keys.garbage"); what a role may not ask is answered "denied" and logged.
 */
#ifndef ROLE_KEYS_H
#define ROLE_KEYS_H

#include "net/loop.h"
#include "role/keys_wire.h"

struct keys;

struct keys_handler {
    void *ctx;
    /* A new key or chain that must outlive this process ("key/ID", "cert/ID"). */
    void (*keep)(void *ctx, struct sv name, struct sv data);
};

NODISCARD enum err keys_new(struct loop *loop, const struct keys_handler *h, struct keys **out_k);
void keys_free(struct keys *k);
void keys_bytes(struct keys *k, struct sv name, struct sv data);
/* Takes the fd; replaces the channel of the same peer. */
void keys_channel(struct keys *k, enum role peer, uint8_t index, int fd);

#endif
