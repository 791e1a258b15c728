/*
 * Replies of the server machine (RFC 5321 4.2, RFC 2034). Counts errors for the tarpit and the
 * error limit.
 *
 * SECURITY: reply texts may quote what a client said; control bytes and non-ASCII bytes leave as
 * '?', so that no text can forge a second reply line.
 */
#include "proto/smtp_srv_impl.h"

static void put_code(struct smtp_srv *s, uint16_t code, char sep)
{
    const char head[4] = {(char)('0' + code / 100 % 10), (char)('0' + code / 10 % 10),
                          (char)('0' + code % 10), sep};
    (void)buf_append(&s->out, head, sizeof head);
}

static void put_text(struct smtp_srv *s, struct sv text)
{
    text = sv_take(text, SRV_TEXT_MAX);
    if (buf_reserve(&s->out, text.n) != ERR_OK)
        return;
    for (size_t i = 0; i < text.n; i++) {
        const char c = text.p[i];
        s->out.p[s->out.n++] = c >= ' ' && c < 0x7f ? c : '?';
    }
}

void srv_reply_part(struct smtp_srv *s, uint16_t code, bool last, struct sv text)
{
    put_code(s, code, last ? ' ' : '-');
    put_text(s, text);
    (void)buf_append(&s->out, "\r\n", 2);
}

void srv_reply_excused(struct smtp_srv *s, uint16_t code, const char *status, struct sv text)
{
    put_code(s, code, ' ');
    if (status && *status) {
        put_text(s, sv_str(status));
        (void)buf_append_byte(&s->out, ' ');
    }
    put_text(s, text);
    (void)buf_append(&s->out, "\r\n", 2);
    if (s->out.n > SRV_OUT_FLUSH)
        s->flush = true;
}

void srv_count_error(struct smtp_srv *s)
{
    s->errors++;
    s->delay = s->errors;
    s->flush = true;
    if (s->config.max_errors && s->errors >= s->config.max_errors)
        s->exhausted = true;
}

void srv_reply(struct smtp_srv *s, uint16_t code, const char *status, struct sv text)
{
    srv_reply_excused(s, code, status, text);
    if (code >= 500)
        srv_count_error(s);
}

void srv_reply_lit(struct smtp_srv *s, const struct smtp_reply *reply)
{
    srv_reply(s, reply->code, reply->status, sv_str(reply->text));
}
