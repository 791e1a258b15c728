/*
 * Reads replies (RFC 5321 4.2): lines, multi-line replies, enhanced codes (RFC 2034).
 *
 * SECURITY: hostile servers. Of a line CLI_LINE_MAX bytes are read, of a reply CLI_REPLY_MAX; no
 * digits, a code that changes from line to line, or an endless reply end the session. Text that is
 * kept is printable ASCII.
 */
#include "proto/smtp_cli_impl.h"

void cli_reply_reset(struct smtp_cli *c)
{
    c->reply = (struct cli_reply){0};
}

static void add_text(struct cli_reply *r, struct sv text)
{
    if (r->text_n && r->text_n < sizeof r->text - 1)
        r->text[r->text_n++] = ' ';
    for (size_t i = 0; i < text.n && r->text_n < sizeof r->text - 1; i++) {
        const char ch = text.p[i];
        r->text[r->text_n++] = ch >= ' ' && ch < 0x7f ? ch : '?';
    }
}

static void add_line(struct cli_reply *r, const struct smtp_reply_line *l)
{
    struct sv text = l->text;
    if (r->lines == 0) {
        const char code[3] = {(char)('0' + l->code / 100), (char)('0' + l->code / 10 % 10),
                              (char)('0' + l->code % 10)};
        r->code = l->code;
        add_text(r, sv_of(code, sizeof code));
        if (l->status.n < sizeof r->status && l->status.n)
            memcpy(r->status, l->status.p, l->status.n);
    } else if (l->status.n && sv_eq(l->status, sv_str(r->status))) {
        text = sv_trim(sv_skip(text, l->status.n)); /* repeated on each line: once is enough */
    }
    add_text(r, text);
    r->lines++;
}

/* true = this line was the last one of its reply. */
static bool take(struct smtp_cli *c, struct sv line)
{
    struct smtp_reply_line l;
    cli_log(c, 'S', line);
    if (!smtp_parse_reply(line, &l) || l.code < 200 || l.code > 599 ||
        (c->reply.lines && l.code != c->reply.code)) {
        cli_fail(c, FAILURE_PROTOCOL, "the server sent a malformed reply");
        return false;
    }
    if (c->reply.lines && l.code == 250 && cli_due(c) == OP_EHLO)
        cli_cap_line(c, l.text);
    add_line(&c->reply, &l);
    return l.last;
}

/* Takes one line out of the input, or the kept part of an overlong one. false = none. */
static bool cut_line(struct smtp_cli *c, struct sv *out_line)
{
    const struct sv left = sv_skip(buf_sv(&c->in), c->in_pos);
    const size_t lf = sv_find_byte(left, '\n');
    const bool whole = lf != SIZE_MAX;
    const bool skip = c->skip_line;
    if (!whole && !skip && left.n < CLI_LINE_MAX)
        return false;
    const size_t used = whole ? lf + 1 : left.n;
    c->in_pos += used;
    c->reply.bytes += used;
    c->skip_line = !whole;
    if (skip)
        return false; /* the rest of a line that was read already */
    *out_line = sv_take(left, whole ? lf : left.n);
    if (out_line->n && out_line->p[out_line->n - 1] == '\r')
        out_line->n--;
    *out_line = sv_take(*out_line, CLI_LINE_MAX);
    return true;
}

bool cli_reply_read(struct smtp_cli *c)
{
    while (c->in_pos < c->in.n) {
        const size_t before = c->in_pos;
        struct sv line;
        const bool got = cut_line(c, &line);
        if (c->reply.bytes > CLI_REPLY_MAX) {
            cli_fail(c, FAILURE_PROTOCOL, "the server sent an endless reply");
            return false;
        }
        if (got && take(c, line))
            return true;
        if (c->in_pos == before)
            return false;
    }
    return false;
}

void cli_reply_to(const struct cli_reply *r, struct smtp_cli_rcpt *out_rcpt)
{
    out_rcpt->code = r->code;
    memcpy(out_rcpt->status, r->status, sizeof out_rcpt->status);
    memcpy(out_rcpt->reply, r->text, sizeof out_rcpt->reply);
}
