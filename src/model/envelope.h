/*
 * What is known about a message besides its body: SMTP envelope (RFC 5321, RFC 3461), the peer it
 * came from and the TLS session it came over. Encoded into the spool's commit record.
 */
#ifndef MODEL_ENVELOPE_H
#define MODEL_ENVELOPE_H

#include "model/wire.h"

/* NOTIFY bits of RFC 3461; 0 = parameter absent (treated as FAILURE|DELAY by us). */
enum { NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4, NOTIFY_DELAY = 8 };
enum ret { RET_NONE, RET_FULL, RET_HDRS };
enum body_type { BODY_7BIT, BODY_8BITMIME };
enum direction { DIRECTION_INBOUND, DIRECTION_OUTBOUND, DIRECTION_INTERNAL, DIRECTION_RELAY };
enum listener_kind { LISTENER_MX, LISTENER_SUBMISSION, LISTENER_SUBMISSIONS, LISTENER_INTERNAL };

/* TLS facts of one session, either direction. version 0 = no TLS; else 0x0303, 0x0304. */
#define TLS_FACTS_FIELDS(F, S, L)                                                                  \
    F(U16, version)                                                                                \
    F(STR, cipher) /* IANA or OpenSSL name, "" without TLS */                                      \
    F(U16, bits)   /* symmetric strength negotiated */                                             \
    F(BOOL, resumed)                                                                               \
    F(BOOL, peer_cert)   /* the peer presented a certificate */                                    \
    F(BOOL, chain_ok)    /* chains to a trusted CA, in its validity period */                      \
    F(BOOL, name_ok)     /* SAN dNSName (CN as fallback) matches the reference name */             \
    F(STR, peer_subject) /* one-line subject of the peer certificate */                            \
    F(STR, peer_issuer)                                                                            \
    F(STR, peer_sha256) /* hex */                                                                  \
    F(I64, peer_not_after_ms)                                                                      \
    F(STR, verify_error) /* OpenSSL reason when chain_ok is false */
WIRE_DECLARE(tls_facts, TLS_FACTS_FIELDS)

#define RCPT_FIELDS(F, S, L)                                                                       \
    F(STR, addr)  /* as given, without <>; "" never occurs */                                      \
    F(STR, orcpt) /* decoded "type;address", "" = absent */                                        \
    F(U8, notify) /* NOTIFY_* bits */                                                              \
    F(U32, index) /* position in the envelope of the message, kept in delivery jobs */
WIRE_DECLARE(rcpt, RCPT_FIELDS)

#define PEER_FIELDS(F, S, L)                                                                       \
    F(IP, ip)                                                                                      \
    F(U16, port)                                                                                   \
    F(STR, helo)      /* as the client said it */                                                  \
    F(STR, rdns)      /* verified reverse name or "" */                                            \
    F(STR, auth_user) /* "" = not authenticated */                                                 \
    F(U8, listener)   /* enum listener_kind */                                                     \
    F(BOOL, esmtp)                                                                                 \
    F(BOOL, trusted) /* in the Trusted IP group */                                                 \
    F(BOOL, gateway) /* in the Encryption Gateway group */                                         \
    S(tls_facts, tls)
WIRE_DECLARE(peer, PEER_FIELDS)

#define ENVELOPE_FIELDS(F, S, L)                                                                   \
    F(U64, id)          /* queue id; base/enc.h id_format */                                       \
    F(U64, parent)      /* id of the message this copy was split from, else 0 */                   \
    F(U64, session)     /* id of the SMTP session, for logs */                                     \
    F(I64, received_ms) /* wall clock */                                                           \
    F(STR, sender)      /* without <>; "" = null sender */                                         \
    F(STR, envid)       /* decoded, "" = absent */                                                 \
    F(U8, ret)          /* enum ret */                                                             \
    F(U8, body_type)    /* enum body_type */                                                       \
    F(U64, size)        /* bytes of the stored body, trace headers included */                     \
    F(STR, sha256)      /* 32 raw bytes over the stored body */                                    \
    F(U16, hops)        /* Received fields counted at reception */                                 \
    F(STR, message_id)  /* Message-ID header, for logs; "" = absent */                             \
    F(STR, subject)     /* raw Subject value, at most 512 bytes, for the queue view */             \
    F(U8, kind)         /* enum message_kind */                                                    \
    F(BOOL, sealed)     /* report or notice about Encrypt-marked mail: as protected as that */     \
    F(STR, file)        /* name of a large body's file in the spool, "" = inline */                \
    F(STR, body_key)    /* 32 bytes: AES-256-CTR key of that file */                               \
    S(peer, peer)                                                                                  \
    L(rcpt, rcpts)
WIRE_DECLARE(envelope, ENVELOPE_FIELDS)

/* Where a message came from: SMTP, or made by us. */
enum message_kind { MESSAGE_SMTP, MESSAGE_DSN, MESSAGE_NOTICE };

#define RCPTS_MAX 1000

#endif
