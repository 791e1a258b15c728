/*
 * TLS over a socket: OpenSSL behind a small face. Non-blocking; fd BIOs (14 KiB an idle session).
 * Server keys are remote: the private half lives in `keys` (crypto/keyprov.h).
 */
#ifndef CRYPTO_TLS_H
#define CRYPTO_TLS_H

#include "base/buf.h"
#include "model/delivery.h"

struct tls_server; /* certificates, versions, tickets, ALPN */
struct tls_client; /* trust store, per-requirement contexts, session cache */
struct tls;        /* one session */

/* One identity: PEM chain and the id of its key in `keys`. ECDSA first, RSA second. */
struct tls_identity {
    struct sv chain_pem;
    struct sv key_id;
};
struct tls_server_config {
    const struct tls_identity *identities;
    size_t n_identities;
    uint16_t min_version; /* 0x0303 or 0x0304 */
    bool prefer_rsa;
    /* strict: NULL-terminated list; a client that offers others is refused with
     * no_application_protocol (ALPACA). NULL = not looked at. */
    const char *const *alpn;
    uint8_t ticket_keys[160]; /* current and previous, from `keys`; all zero = no tickets */
};
NODISCARD enum err tls_server_new(const struct tls_server_config *c, struct tls_server **out_s,
                                  struct errinfo *info);
/* Replaces the ticket keys (they rotate hourly). */
void tls_server_set_tickets(struct tls_server *s, const uint8_t keys[160]);
void tls_server_free(struct tls_server *s); /* sessions in flight keep what they need */

/* ca_pem: system bundle plus trusted CAs. */
NODISCARD enum err tls_client_new(struct sv ca_pem, struct tls_client **out_c,
                                  struct errinfo *info);
void tls_client_free(struct tls_client *c);

NODISCARD enum err tls_accept(struct tls_server *s, int fd, struct tls **out_t);
/* name: SNI and reference identity. cache_key: destination + policy identity; a session is resumed
 * only under an equal key. The requirement limits versions and ciphers; verification results are
 * collected, never enforced here (core/plan.h tls_verdict judges). */
NODISCARD enum err tls_connect(struct tls_client *c, int fd, struct sv name,
                               const struct tls_req *req, struct sv cache_key, struct tls **out_t);
void tls_free(struct tls *t); /* keeps the session for resumption when it ended well */

enum tls_io { TLS_IO_OK, TLS_IO_WANT_READ, TLS_IO_WANT_WRITE, TLS_IO_CLOSED, TLS_IO_FAILED };
enum tls_io tls_handshake(struct tls *t);
enum tls_io tls_read(struct tls *t, char *p, size_t n, size_t *out_n);
enum tls_io tls_write(struct tls *t, const char *p, size_t n, size_t *out_n);
void tls_close_notify(struct tls *t);
bool tls_has_pending(const struct tls *t);
/* For drivers with level-triggered readiness: the fd was reported readable. From the first call on,
 * a read that brought less than it asked for is the last one until the next call: tls_read and
 * tls_handshake then answer WANT_READ without asking the kernel in vain. */
void tls_readable(struct tls *t);
/* After the handshake; strings live in the arena. */
void tls_facts_of(struct tls *t, struct arena *a, struct tls_facts *out_facts);
/* OpenSSL's reason of the last failure, for humans. */
void tls_error(struct tls *t, char *out_text, size_t n);

#endif
