/* The message table at work: see model/messages.h and model/wire.c. */
#include "model/messages.h"

#define R(x) (1u << ROLE_##x)

struct message_row {
    const char *name;
    uint32_t max;
    uint32_t from, to; /* bits of enum role */
};

static const struct message_row rows[MSG_COUNT] = {[MSG_NONE] = {"NONE", 0, 0, 0},
#define MESSAGE_ROW(id, type, max, from, to) [MSG_##id] = {#id, (max), (from), (to)},
                                                   MESSAGES(MESSAGE_ROW)
#undef MESSAGE_ROW
};

const char *role_name(enum role r)
{
    static const char *const names[ROLES] = {"supervisor", "smtp", "queue", "content", "lookup",
                                             "store",      "web",  "keys",  "ctl"};
    return r < ROLES ? names[r] : "unknown";
}

const char *message_name(enum message m)
{
    return m < MSG_COUNT ? rows[m].name : "unknown";
}

uint32_t message_max(enum message m)
{
    return m < MSG_COUNT ? rows[m].max : 0;
}

bool message_allowed(enum message m, enum role from, enum role to)
{
    return m > MSG_NONE && m < MSG_COUNT && from < ROLES && to < ROLES &&
           (rows[m].from & (1u << from)) != 0 && (rows[m].to & (1u << to)) != 0;
}

enum err message_encode(enum message m, const void *body, struct buf *out)
{
    (void)buf_append_byte(out, (char)m);
    switch (m) {
#define MESSAGE_PUT(id, type, max, from, to)                                                       \
    case MSG_##id:                                                                                 \
        type##_put(out, (const struct type *)body);                                                \
        break;
        MESSAGES(MESSAGE_PUT)
#undef MESSAGE_PUT
    case MSG_NONE:
    case MSG_COUNT:
        return ERR_BUG;
    }
    if (out->overflow || out->n > message_max(m))
        return ERR_LIMIT;
    return ERR_OK;
}

enum err message_decode(struct sv frame, struct arena *a, enum message *out_m,
                        union message_body *out_body)
{
    if (frame.n < 1)
        return ERR_SYNTAX;
    enum message m = (enum message)(uint8_t)frame.p[0];
    if (m == MSG_NONE || m >= MSG_COUNT)
        return ERR_SYNTAX;
    if (frame.n > message_max(m))
        return ERR_LIMIT;
    struct sv body = sv_skip(frame, 1);
    enum err err = ERR_BUG;
    switch (m) {
#define MESSAGE_GET(id, type, max, from, to)                                                       \
    case MSG_##id:                                                                                 \
        err = type##_decode(body, a, &out_body->id);                                               \
        break;
        MESSAGES(MESSAGE_GET)
#undef MESSAGE_GET
    case MSG_NONE:
    case MSG_COUNT:
        break;
    }
    if (!err)
        *out_m = m;
    return err;
}

void message_print(enum message m, const union message_body *body, struct buf *out)
{
    (void)buf_printf(out, "%s ", message_name(m));
    switch (m) {
#define MESSAGE_PRINT(id, type, max, from, to)                                                     \
    case MSG_##id:                                                                                 \
        type##_print(out, &body->id);                                                              \
        break;
        MESSAGES(MESSAGE_PRINT)
#undef MESSAGE_PRINT
    case MSG_NONE:
    case MSG_COUNT:
        break;
    }
}
