/* Arguments and replies of control verbs. */
#include "role/ctl_verb.h"

#include "role/json.h"
#include "role/tell.h"

void ctl_reply(struct ipc *ch, uint64_t tag, bool more, uint8_t exit, const struct buf *json)
{
    struct ctl_reply r = {.tag = tag, .more = more, .exit = exit, .json = buf_sv(json)};

    role_tell(ch, MSG_CTL_REPLY, &r, -1);
}

void ctl_fail(struct ipc *ch, uint64_t tag, uint8_t exit, const char *text)
{
    struct buf b;

    buf_init(&b, 8192);
    jw_open(&b, NULL);
    jw_str(&b, "error", text);
    jw_close(&b);
    ctl_reply(ch, tag, false, exit, &b);
    buf_done(&b);
}

struct sv ctl_arg(const json_t *args, const char *key)
{
    const json_t *v = json_object_get(args, key);

    return json_is_string(v) ? sv_of(json_string_value(v), json_string_length(v)) : SV("");
}

uint64_t ctl_arg_u64(const json_t *args, const char *key, uint64_t otherwise)
{
    const json_t *v = json_object_get(args, key);

    return json_is_integer(v) && json_integer_value(v) >= 0 ? (uint64_t)json_integer_value(v)
                                                            : otherwise;
}
