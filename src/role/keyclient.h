/*
 * Client side of `keys`, for smtp, web and queue: one private channel, one request at a time,
 * synchronous. Signing has a deadline of KEYPROV_DEADLINE_MS; the others are asked at start or
 * seldom. An answer that comes after its deadline is thrown away by its tag.
 */
#ifndef ROLE_KEYCLIENT_H
#define ROLE_KEYCLIENT_H

#include "role/keys_wire.h"

#define KEYCLIENT_DEADLINE_MS 2000 /* of everything but signing */

struct keyclient;

NODISCARD enum err keyclient_new(int fd, struct keyclient **out_k); /* takes the fd */
void keyclient_free(struct keyclient *k);
/* `keys` was restarted: a new channel takes the place of the old one. */
void keyclient_replace(struct keyclient *k, int fd);

/* For keyprov_init(keyclient_sign, k, info). */
enum err keyclient_sign(void *ctx, struct sv key_id, enum key_alg alg, struct sv digest,
                        struct buf *out_signature);
/* Identities in order of preference, for struct tls_server_config; they live in the arena. */
NODISCARD enum err keyclient_certs(struct keyclient *k, struct arena *a,
                                   struct tls_identity **out_ids, size_t *out_n);
/* Ask at start and every minute or so: the keys rotate hourly, and a worker that knows the new one
 * late only costs others a full handshake. */
NODISCARD enum err keyclient_ticket(struct keyclient *k, uint8_t out_keys[KEYS_TICKET_SIZE]);
NODISCARD enum err keyclient_wrap(struct keyclient *k, struct sv plain, struct buf *out_sealed);
NODISCARD enum err keyclient_unwrap(struct keyclient *k, struct sv sealed, struct buf *out_plain);
NODISCARD enum err keyclient_secret(struct keyclient *k, struct sv name, struct buf *out_secret);
/* Any operation: name, alg and data as in struct key_req; data of the answer is appended. */
NODISCARD enum err keyclient_ask(struct keyclient *k, const struct key_req *req, int deadline_ms,
                                 struct buf *out_data);

#endif
