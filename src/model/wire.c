/*
 * SECURITY: the decoders read bytes of less trusted processes. Every length is compared with the
 * bytes that are left before it is used or allocated; the first error sticks.
 */
#include "model/messages.h"
#include "model/queue_state.h"

#include <inttypes.h>

static void put_u(struct buf *out, uint64_t v, size_t n)
{
    char b[8];

    for (size_t i = 0; i < n; i++)
        b[i] = (char)(uint8_t)(v >> (8 * i));
    (void)buf_append(out, b, n);
}

static uint64_t get_u(struct wire_in *in, size_t n)
{
    uint64_t v = 0;

    if (in->err || in->left.n < n) {
        in->err = in->err ? in->err : ERR_SYNTAX;
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)(uint8_t)in->left.p[i] << (8 * i);
    in->left = sv_skip(in->left, n);
    return v;
}

static void put_str(struct buf *out, struct sv v)
{
    put_u(out, v.n, 4);
    (void)buf_append(out, v.p, v.n);
}

static struct sv get_str(struct wire_in *in)
{
    uint64_t n = get_u(in, 4);

    if (in->err || n > in->left.n) {
        in->err = in->err ? in->err : ERR_SYNTAX;
        return SV_NULL;
    }
    struct sv v = sv_take(in->left, (size_t)n);
    in->left = sv_skip(in->left, (size_t)n);
    return v;
}

static bool get_bool(struct wire_in *in)
{
    uint64_t v = get_u(in, 1);

    if (v > 1)
        in->err = in->err ? in->err : ERR_SYNTAX;
    return v == 1;
}

static struct ip get_ip(struct wire_in *in)
{
    struct ip ip = {{0}};

    if (in->err || in->left.n < sizeof(ip.b)) {
        in->err = in->err ? in->err : ERR_SYNTAX;
        return ip;
    }
    memcpy(ip.b, in->left.p, sizeof(ip.b));
    in->left = sv_skip(in->left, sizeof(ip.b));
    return ip;
}

/* An item takes at least one byte on the wire, so a count beyond the bytes left is a lie. */
static uint32_t get_count(struct wire_in *in)
{
    uint64_t n = get_u(in, 4);

    if (n > in->left.n) {
        in->err = in->err ? in->err : ERR_SYNTAX;
        return 0;
    }
    return (uint32_t)n;
}

static void *get_items(struct wire_in *in, uint32_t n, size_t size)
{
    void *p = n ? arena_calloc(in->arena, n, size) : NULL;

    if (n && !p)
        in->err = in->err ? in->err : ERR_LIMIT;
    return p;
}

static void print_str(struct buf *out, const char *name, struct sv v)
{
    (void)buf_printf(out, "%s=\"", name);
    for (size_t i = 0; i < v.n && i < 200; i++) {
        char c = v.p[i];
        if (c >= ' ' && c < 127 && c != '"' && c != '\\')
            (void)buf_append_byte(out, c);
        else
            (void)buf_printf(out, "\\x%02x", (unsigned)(uint8_t)c);
    }
    (void)buf_printf(out, "%s\" ", v.n > 200 ? "..." : "");
}

static void print_ip(struct buf *out, const char *name, const struct ip *ip)
{
    char text[IP_TEXT_MAX];

    ip_format(ip, text);
    (void)buf_printf(out, "%s=%s ", name, text);
}

#define PUT_U8(x)     put_u(out, (x), 1)
#define PUT_U16(x)    put_u(out, (x), 2)
#define PUT_U32(x)    put_u(out, (x), 4)
#define PUT_U64(x)    put_u(out, (x), 8)
#define PUT_I64(x)    put_u(out, (uint64_t)(x), 8)
#define PUT_BOOL(x)   put_u(out, (x) ? 1 : 0, 1)
#define PUT_STR(x)    put_str(out, (x))
#define PUT_IP(x)     (void)buf_append(out, (x).b, sizeof((x).b))
#define GET_U8        (uint8_t) get_u(in, 1)
#define GET_U16       (uint16_t) get_u(in, 2)
#define GET_U32       (uint32_t) get_u(in, 4)
#define GET_U64       get_u(in, 8)
#define GET_I64       (int64_t) get_u(in, 8)
#define GET_BOOL      get_bool(in)
#define GET_STR       get_str(in)
#define GET_IP        get_ip(in)
#define PRINT_U8(n)   (void)buf_printf(out, #n "=%u ", v->n)
#define PRINT_U16(n)  (void)buf_printf(out, #n "=%u ", v->n)
#define PRINT_U32(n)  (void)buf_printf(out, #n "=%" PRIu32 " ", v->n)
#define PRINT_U64(n)  (void)buf_printf(out, #n "=%" PRIu64 " ", v->n)
#define PRINT_I64(n)  (void)buf_printf(out, #n "=%" PRId64 " ", v->n)
#define PRINT_BOOL(n) (void)buf_printf(out, #n "=%s ", v->n ? "yes" : "no")
#define PRINT_STR(n)  print_str(out, #n, v->n)
#define PRINT_IP(n)   print_ip(out, #n, &v->n)

#define PUT_F(kind, n) PUT_##kind(v->n);
#define PUT_S(type, n) type##_put(out, &v->n);
#define PUT_L(type, n)                                                                             \
    put_u(out, v->n_##n, 4);                                                                       \
    for (uint32_t i = 0; i < v->n_##n; i++)                                                        \
        type##_put(out, &v->n[i]);
#define GET_F(kind, n) out_v->n = GET_##kind;
#define GET_S(type, n) type##_get(in, &out_v->n);
#define GET_L(type, n)                                                                             \
    out_v->n_##n = get_count(in);                                                                  \
    out_v->n = (struct type *)get_items(in, out_v->n_##n, sizeof(struct type));                    \
    for (uint32_t i = 0; !in->err && i < out_v->n_##n; i++)                                        \
        type##_get(in, &out_v->n[i]);
#define PRINT_F(kind, n) PRINT_##kind(n);
#define PRINT_S(type, n)                                                                           \
    (void)buf_printf(out, #n "={ ");                                                               \
    type##_print(out, &v->n);                                                                      \
    (void)buf_printf(out, "} ");
#define PRINT_L(type, n)                                                                           \
    for (uint32_t i = 0; i < v->n_##n; i++) {                                                      \
        (void)buf_printf(out, #n "[%" PRIu32 "]={ ", i);                                           \
        type##_print(out, &v->n[i]);                                                               \
        (void)buf_printf(out, "} ");                                                               \
    }

#define DEFINE(type, TABLE)                                                                        \
    void type##_put(struct buf *out, const struct type *v)                                         \
    {                                                                                              \
        TABLE(PUT_F, PUT_S, PUT_L)                                                                 \
    }                                                                                              \
    void type##_get(struct wire_in *in, struct type *out_v)                                        \
    {                                                                                              \
        TABLE(GET_F, GET_S, GET_L)                                                                 \
    }                                                                                              \
    void type##_print(struct buf *out, const struct type *v)                                       \
    {                                                                                              \
        TABLE(PRINT_F, PRINT_S, PRINT_L)                                                           \
    }                                                                                              \
    enum err type##_decode(struct sv bytes, struct arena *a, struct type *out_v)                   \
    {                                                                                              \
        struct wire_in in = {.left = bytes, .arena = a};                                           \
        struct type v;                                                                             \
                                                                                                   \
        memset(&v, 0, sizeof(v));                                                                  \
        type##_get(&in, &v);                                                                       \
        if (!in.err && in.left.n)                                                                  \
            in.err = ERR_SYNTAX;                                                                   \
        if (!in.err)                                                                               \
            *out_v = v;                                                                            \
        return in.err;                                                                             \
    }

DEFINE(tls_facts, TLS_FACTS_FIELDS)
DEFINE(rcpt, RCPT_FIELDS)
DEFINE(peer, PEER_FIELDS)
DEFINE(envelope, ENVELOPE_FIELDS)
DEFINE(part, PART_FIELDS)
DEFINE(hit, HIT_FIELDS)
DEFINE(total, TOTAL_FIELDS)
DEFINE(facts, FACTS_FIELDS)
DEFINE(fired, FIRED_FIELDS)
DEFINE(decision, DECISION_FIELDS)
DEFINE(tls_req, TLS_REQ_FIELDS)
DEFINE(host, HOST_FIELDS)
DEFINE(hop, HOP_FIELDS)
DEFINE(rcpt_outcome, RCPT_OUTCOME_FIELDS)
DEFINE(delivery, DELIVERY_FIELDS)
DEFINE(outcome, OUTCOME_FIELDS)
DEFINE(event, EVENT_FIELDS)
DEFINE(queue_rcpt, QUEUE_RCPT_FIELDS)
DEFINE(queue_state, QUEUE_STATE_FIELDS)
DEFINE(hello, HELLO_FIELDS)
DEFINE(channel, CHANNEL_FIELDS)
DEFINE(listener, LISTENER_FIELDS)
DEFINE(bytes, BYTES_FIELDS)
DEFINE(ready, READY_FIELDS)
DEFINE(kill, KILL_FIELDS)
DEFINE(level, LEVEL_FIELDS)
DEFINE(settings_msg, SETTINGS_MSG_FIELDS)
DEFINE(settings_ack, SETTINGS_ACK_FIELDS)
DEFINE(lease, LEASE_FIELDS)
DEFINE(intake, INTAKE_FIELDS)
DEFINE(received, RECEIVED_FIELDS)
DEFINE(committed, COMMITTED_FIELDS)
DEFINE(file_ask, FILE_ASK_FIELDS)
DEFINE(file_give, FILE_GIVE_FIELDS)
DEFINE(file_drop, FILE_DROP_FIELDS)
DEFINE(attempt_ack, ATTEMPT_ACK_FIELDS)
DEFINE(stats, STATS_FIELDS)
DEFINE(dsn_rcpt, DSN_RCPT_FIELDS)
DEFINE(job, JOB_FIELDS)
DEFINE(job_done, JOB_DONE_FIELDS)
DEFINE(ask, ASK_FIELDS)
DEFINE(answer_msg, ANSWER_FIELDS)
DEFINE(key_req, KEY_REQ_FIELDS)
DEFINE(key_reply, KEY_REPLY_FIELDS)
DEFINE(events_at, EVENTS_AT_FIELDS)
DEFINE(ctl_req, CTL_REQ_FIELDS)
DEFINE(ctl_reply, CTL_REPLY_FIELDS)

const char *event_name(uint8_t kind)
{
    static const char *const names[] = {
#define EVENT_NAME(id, name, doc) name,
        EVENTS(EVENT_NAME)
#undef EVENT_NAME
    };
    return kind < EVENT_KINDS ? names[kind] : "unknown";
}
