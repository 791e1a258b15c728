/*
 * Counters of the `smtp` process. Each stands in COUNTERS once, with name, labels and doc line;
 * once a second, when one grew, all go to `queue` as STATS lines "name{labels} value", value being
 * the total since this process started.
 */
#ifndef ROLE_SMTP_STATS_H
#define ROLE_SMTP_STATS_H

#include "base/buf.h"

/*    id                 name{labels}                                                doc */
#define COUNTERS(X)                                                                                \
    X(IN_CONNECTIONS, "postseal_smtp_in_connections_total", "connections accepted")                \
    X(IN_REFUSED_IP, "postseal_smtp_in_refused_total{reason=\"per_ip\"}", "connection limit")      \
    X(IN_REFUSED_TOTAL, "postseal_smtp_in_refused_total{reason=\"total\"}", "connection limit")    \
    X(IN_REFUSED_RATE, "postseal_smtp_in_refused_total{reason=\"rate\"}", "connections a minute")  \
    X(IN_LIMITED, "postseal_smtp_in_refused_total{reason=\"limited\"}",                            \
      "other rates of an address")                                                                 \
    X(IN_PREGREET, "postseal_smtp_in_refused_total{reason=\"pregreet\"}", "spoke too early")       \
    X(IN_TLS, "postseal_smtp_in_tls_total{result=\"ok\"}", "handshakes in")                        \
    X(IN_TLS_RESUMED, "postseal_smtp_in_tls_resumed_total", "sessions resumed in")                 \
    X(IN_TLS_FAILED, "postseal_smtp_in_tls_total{result=\"failed\"}", "handshakes in")             \
    X(IN_AUTH_OK, "postseal_smtp_in_auth_total{result=\"ok\"}", "AUTH")                            \
    X(IN_AUTH_FAILED, "postseal_smtp_in_auth_total{result=\"failed\"}", "AUTH")                    \
    X(IN_MESSAGES, "postseal_smtp_in_messages_total{result=\"accepted\"}", "messages in")          \
    X(IN_MESSAGES_REFUSED, "postseal_smtp_in_messages_total{result=\"refused\"}", "messages in")   \
    X(IN_MESSAGES_DEFERRED, "postseal_smtp_in_messages_total{result=\"deferred\"}", "messages in") \
    X(IN_RCPTS, "postseal_smtp_in_recipients_total{result=\"accepted\"}", "recipients in")         \
    X(IN_RCPTS_REFUSED, "postseal_smtp_in_recipients_total{result=\"refused\"}", "recipients in")  \
    X(IN_BYTES, "postseal_smtp_in_bytes_total", "bytes of accepted messages")                      \
    X(IN_TIMEOUTS, "postseal_smtp_in_timeouts_total", "sessions ended by a timer")                 \
    X(OUT_ATTEMPTS, "postseal_smtp_out_attempts_total", "delivery attempts")                       \
    X(OUT_CONNECTIONS, "postseal_smtp_out_connections_total", "connections opened")                \
    X(OUT_REUSED, "postseal_smtp_out_reused_total", "transactions over a kept connection")         \
    X(OUT_TLS, "postseal_smtp_out_tls_total{result=\"ok\"}", "handshakes out")                     \
    X(OUT_TLS_RESUMED, "postseal_smtp_out_tls_resumed_total", "sessions resumed out")              \
    X(OUT_TLS_FAILED, "postseal_smtp_out_tls_total{result=\"failed\"}", "handshakes out")          \
    X(OUT_TLS_UNFIT, "postseal_smtp_out_tls_total{result=\"unfit\"}", "below the requirement")     \
    X(OUT_FALLBACK, "postseal_smtp_out_fallback_total", "second connection in clear")              \
    X(OUT_DELIVERED, "postseal_smtp_out_recipients_total{result=\"delivered\"}", "recipients out") \
    X(OUT_DEFERRED, "postseal_smtp_out_recipients_total{result=\"deferred\"}", "recipients out")   \
    X(OUT_FAILED, "postseal_smtp_out_recipients_total{result=\"failed\"}", "recipients out")       \
    X(OUT_CORRUPT, "postseal_smtp_out_corrupt_total", "bodies that did not match their hash")

enum counter {
#define COUNTER_ENUM(id, name, doc) COUNT_##id,
    COUNTERS(COUNTER_ENUM)
#undef COUNTER_ENUM
        COUNTERS_N
};

struct smtp_stats {
    uint64_t now[COUNTERS_N];
    uint64_t told[COUNTERS_N];
};

static inline void smtp_stats_add(struct smtp_stats *s, enum counter c, uint64_t n)
{
    s->now[c] += n;
}
/* Lines of all counters that are not 0; false when none grew since the last call. */
bool smtp_stats_format(struct smtp_stats *s, struct buf *out);
/* After a restart of `queue`: tell everything again. */
void smtp_stats_forget(struct smtp_stats *s);

#endif
