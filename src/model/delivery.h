/* A delivery job (queue -> smtp) and its outcome (smtp -> queue). */
#ifndef MODEL_DELIVERY_H
#define MODEL_DELIVERY_H

#include "model/decision.h"
#include "model/envelope.h"

#define HOST_FIELDS(F, S, L)                                                                       \
    F(STR, name) /* host name or address literal text */                                           \
    F(U16, port)                                                                                   \
    F(U16, preference)                                                                             \
    F(BOOL, mx) /* look up MX of the name */
WIRE_DECLARE(host, HOST_FIELDS)

/* Chosen route: by MX of `domain` when hosts is empty, else the hosts in order of preference. */
#define HOP_FIELDS(F, S, L)                                                                        \
    F(STR, route)       /* name of the route */                                                    \
    F(STR, domain)      /* recipient domain, lower case A-label */                                 \
    F(STR, key)         /* destination key: equal keys share limits and connections */             \
    F(STR, auth_user)   /* "" = no AUTH */                                                         \
    F(STR, auth_secret) /* name of the secret that `keys` holds */                                 \
    L(host, hosts)                                                                                 \
    S(tls_req, tls)
WIRE_DECLARE(hop, HOP_FIELDS)

enum rcpt_result { RCPT_PENDING, RCPT_DELIVERED, RCPT_DEFERRED, RCPT_FAILED };

/* Why an attempt did not deliver: decides between backup, delayed queue and bounce (spec A7). */
enum failure {
    FAILURE_NONE,
    FAILURE_DNS_TEMP,
    FAILURE_DNS_PERM, /* no such domain, null MX (5.1.10) */
    FAILURE_CONNECT,  /* no TCP connection or no greeting */
    FAILURE_TLS_NOT_OFFERED,
    FAILURE_TLS_REFUSED, /* 454 or 5xx to STARTTLS */
    FAILURE_TLS_HANDSHAKE,
    FAILURE_TLS_WEAK,  /* below the required strength */
    FAILURE_TLS_CERT,  /* name or chain */
    FAILURE_SMTP_TEMP, /* 4xx */
    FAILURE_SMTP_PERM, /* 5xx */
    FAILURE_PROTOCOL,  /* nonsense, or the connection broke */
    FAILURE_TIMEOUT,
    FAILURE_SIZE, /* peer's SIZE is smaller */
    FAILURE_8BIT, /* peer lacks 8BITMIME for an 8-bit body */
    FAILURE_AUTH,
    FAILURE_CORRUPT, /* the body did not match its hash: never sent */
    FAILURE_INTERNAL
};

#define RCPT_OUTCOME_FIELDS(F, S, L)                                                               \
    F(U32, index)  /* rcpt.index of the job's recipient */                                         \
    F(U8, result)  /* enum rcpt_result */                                                          \
    F(U16, code)   /* SMTP code of the reply, 0 = none */                                          \
    F(STR, status) /* enhanced status "5.1.1" */                                                   \
    F(STR, reply)  /* reply or reason text, at most 512 bytes, printable */
WIRE_DECLARE(rcpt_outcome, RCPT_OUTCOME_FIELDS)

#define DELIVERY_FIELDS(F, S, L)                                                                   \
    F(U64, attempt) /* unique id of this attempt */                                                \
    F(U64, id)      /* queue id */                                                                 \
    F(STR, sender)                                                                                 \
    F(STR, envid)                                                                                  \
    F(U8, ret)                                                                                     \
    F(U8, body_type)                                                                               \
    F(U64, size)                                                                                   \
    F(STR, sha256)                                                                                 \
    F(I64, received_ms)                                                                            \
    F(BOOL, encrypt) /* may never leave in clear */                                                \
    F(STR, helo)                                                                                   \
    S(hop, hop)                                                                                    \
    L(rcpt, rcpts)                                                                                 \
    F(STR, body_key) /* key of a large body's file, "" = inline */                                 \
    F(STR, body)     /* inline body, or "" with an fd */
WIRE_DECLARE(delivery, DELIVERY_FIELDS)

#define OUTCOME_FIELDS(F, S, L)                                                                    \
    F(U64, attempt)                                                                                \
    F(U64, id)                                                                                     \
    F(U8, failure)      /* enum failure of the attempt as a whole */                               \
    F(STR, remote_name) /* host name tried last */                                                 \
    F(IP, remote_ip)                                                                               \
    F(U16, remote_port)                                                                            \
    F(BOOL, reused)      /* connection from the pool */                                            \
    F(BOOL, dsn_offered) /* the peer took the DSN parameters (RFC 3461) */                         \
    F(U32, queue_us)     /* delays: before DNS+connect, connecting, transmission */                \
    F(U32, connect_us)                                                                             \
    F(U32, send_us)                                                                                \
    F(STR, transcript) /* last lines of the dialogue, secrets masked, at most 4 KiB */             \
    S(tls_facts, tls)                                                                              \
    L(rcpt_outcome, rcpts)
WIRE_DECLARE(outcome, OUTCOME_FIELDS)

#endif
