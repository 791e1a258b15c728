/*
 * The server machine's outside: life of a session, input by lines, the order of steps.
 *
 * SECURITY: reads the internet. Input is bounded (SRV_IN_MAX, line limits), a command line ends at
 * CR LF only, and nothing is taken any more once a TLS handshake or the end is due.
 */
#include "proto/smtp_srv_impl.h"

static size_t txn_cap(const struct smtp_srv_config *c)
{
    const uint32_t rcpts = c->max_rcpts ? c->max_rcpts : RCPTS_MAX;
    return 65536 + (size_t)rcpts * SRV_RCPT_BYTES;
}

enum err smtp_srv_new(const struct smtp_srv_config *config, struct smtp_srv **out_srv)
{
    struct arena mem;
    arena_init(&mem, sizeof(struct smtp_srv) + 4096);
    struct smtp_srv *s = ARENA_NEW(&mem, struct smtp_srv);
    if (!s)
        return ERR_LIMIT;
    s->config = *config;
    s->config.hostname = arena_sv(&mem, sv_take(config->hostname, SRV_NAME_MAX));
    s->tls = config->tls_on;
    s->mem = mem;
    buf_init(&s->in, SRV_IN_MAX);
    buf_init(&s->out, SRV_OUT_MAX);
    buf_init(&s->secret, SRV_SECRET_MAX);
    arena_init(&s->txn.mem, txn_cap(config));
    *out_srv = s;
    return ERR_OK;
}

void smtp_srv_free(struct smtp_srv *s)
{
    if (!s)
        return;
    buf_wipe(&s->in);
    buf_wipe(&s->secret);
    buf_done(&s->out);
    arena_done(&s->txn.mem);
    struct arena mem = s->mem;
    arena_done(&mem);
}

void srv_txn_reset(struct smtp_srv *s)
{
    struct arena mem = s->txn.mem;
    arena_reset(&mem);
    s->txn = (struct srv_txn){.mem = mem};
}

void srv_shut(struct smtp_srv *s)
{
    s->state = ST_CLOSED;
    s->ask = ASK_NONE;
    buf_release(&s->in);
    s->in_pos = 0;
}

static bool takes_input(const struct smtp_srv *s)
{
    return s->state != ST_TLS && s->state != ST_CLOSED;
}

size_t smtp_srv_feed(struct smtp_srv *s, struct sv bytes)
{
    if (!takes_input(s))
        return 0;
    buf_consume(&s->in, s->in_pos);
    s->in_pos = 0;
    const size_t n = bytes.n < SRV_IN_MAX - s->in.n ? bytes.n : SRV_IN_MAX - s->in.n;
    return buf_append(&s->in, bytes.p, n) == ERR_OK ? n : 0;
}

/* An idle session holds little memory: what was read is dropped, a large buffer goes back. */
static void input_idle(struct smtp_srv *s)
{
    if (s->in_pos < s->in.n)
        return;
    if (s->in.cap > SRV_IN_KEEP && s->state != ST_BODY)
        buf_release(&s->in);
    else
        buf_reset(&s->in);
    s->in_pos = 0;
}

enum line { LINE_NONE, LINE_OK, LINE_LONG, LINE_BARE };

/* RFC 5321 2.3.8: lines end with CR LF. A lone LF also ends what is refused, so that the sender of
 * a bare LF gets one error for each such line. */
static enum line take_line(struct smtp_srv *s, struct sv *out_line)
{
    const struct sv left = sv_skip(buf_sv(&s->in), s->in_pos);
    const bool auth = s->state == ST_AUTH || sv_starts_nocase(left, SV("AUTH "));
    const size_t limit = auth ? SRV_AUTH_LINE_MAX : SRV_LINE_MAX;
    const size_t lf = sv_find_byte(left, '\n');
    if (lf == SIZE_MAX) {
        s->skip_line |= left.n >= limit;
        if (s->skip_line)
            s->in_pos = s->in.n;
        return LINE_NONE;
    }
    s->in_pos += lf + 1;
    if (s->skip_line || lf + 1 > limit) {
        s->skip_line = false;
        return LINE_LONG;
    }
    const struct sv line = sv_take(left, lf);
    if (lf == 0 || sv_find_byte(line, '\r') != lf - 1 || sv_find_byte(line, '\0') != SIZE_MAX)
        return LINE_BARE;
    *out_line = sv_take(line, lf - 1);
    return LINE_OK;
}

/* A line that is no command at all counts as an error like any other. */
static void refuse_line(struct smtp_srv *s, enum line kind)
{
    if (s->exhausted)
        srv_command_line(s, SV("?"));
    else if (kind == LINE_LONG && s->state == ST_AUTH)
        srv_auth_too_long(s);
    else if (kind == LINE_LONG)
        SRV_REPLY(s, 500, "5.5.2", "Line too long");
    else
        SRV_REPLY(s, 500, "5.5.2", "Bare CR, bare LF or NUL in a command");
}

/* Handles one line; false = there is none. */
static bool advance_line(struct smtp_srv *s)
{
    struct sv line = SV_NULL;
    const enum line kind = take_line(s, &line);
    if (kind == LINE_NONE)
        return false;
    const bool secret = s->state == ST_AUTH || sv_starts_nocase(line, SV("AUTH"));
    const size_t end = s->in_pos;
    if (kind != LINE_OK)
        refuse_line(s, kind);
    else if (s->state == ST_AUTH)
        srv_auth_line(s, line);
    else
        srv_command_line(s, line);
    if (secret && s->in.n >= end && line.n)
        explicit_bzero(s->in.p + end - 2 - line.n, line.n);
    return true;
}

static struct smtp_srv_step step_of(enum smtp_srv_step_kind kind)
{
    return (struct smtp_srv_step){.kind = kind};
}

static struct smtp_srv_step step_send(struct smtp_srv *s)
{
    s->out_given = true;
    return (struct smtp_srv_step){
        .kind = SRV_SEND, .bytes = buf_sv(&s->out), .error_delay = s->delay};
}

static struct smtp_srv_step step_ask(struct smtp_srv *s)
{
    switch (s->ask) {
    case ASK_NONE:
        break;
    case ASK_HELO:
        return step_of(SRV_ASK_HELO);
    case ASK_MAIL:
        return step_of(SRV_ASK_MAIL);
    case ASK_RCPT:
        return step_of(SRV_ASK_RCPT);
    case ASK_DATA:
        return step_of(SRV_ASK_DATA);
    case ASK_END:
        return step_of(SRV_END_OF_BODY);
    case ASK_AUTH:
        return (struct smtp_srv_step){.kind = SRV_ASK_AUTH,
                                      .user = sv_of(s->secret.p + s->secret_user, s->secret_user_n),
                                      .password = sv_skip(buf_sv(&s->secret), s->secret_password)};
    }
    return step_of(SRV_NEED_INPUT);
}

static void output_done(struct smtp_srv *s)
{
    if (!s->out_given)
        return;
    s->out_given = false;
    s->flush = false;
    s->delay = 0;
    buf_reset(&s->out);
}

/* Does what can be done without the driver; false = more input is needed. */
static bool advance(struct smtp_srv *s)
{
    return s->state != ST_START && s->state != ST_BODY && s->in_pos < s->in.n && advance_line(s);
}

struct smtp_srv_step smtp_srv_next(struct smtp_srv *s)
{
    struct smtp_srv_step step;
    output_done(s);
    for (;;) {
        const bool last = s->state == ST_CLOSED || s->state == ST_TLS;
        if (s->abort_body) {
            s->abort_body = false;
            return step_of(SRV_ABORT_BODY);
        }
        if (s->out.n && (s->flush || last))
            return step_send(s);
        if (last)
            return step_of(s->state == ST_TLS ? SRV_START_TLS : SRV_CLOSE);
        if (s->ask != ASK_NONE)
            return step_ask(s);
        if (s->state == ST_BODY && s->in_pos < s->in.n) {
            const size_t before = s->in_pos;
            if (srv_body(s, &step))
                return step;
            if (s->in_pos != before)
                continue;
        } else if (advance(s)) {
            continue;
        }
        if (s->out.n)
            return step_send(s);
        input_idle(s);
        return step_of(SRV_NEED_INPUT);
    }
}

void smtp_srv_answer(struct smtp_srv *s, uint16_t code, const char *status, struct sv text)
{
    const struct smtp_reply answer = {.code = code, .status = status};
    const enum srv_ask asked = s->ask;
    s->ask = ASK_NONE;
    switch (asked) {
    case ASK_NONE:
        return;
    case ASK_HELO:
        srv_helo_answered(s, &answer, text);
        break;
    case ASK_AUTH:
        srv_auth_answered(s, &answer, text);
        break;
    case ASK_MAIL:
        srv_mail_answered(s, &answer, text);
        break;
    case ASK_RCPT:
        srv_rcpt_answered(s, &answer, text);
        break;
    case ASK_DATA:
        srv_data_answered(s, &answer, text);
        break;
    case ASK_END:
        srv_end_answered(s, &answer, text);
        break;
    }
    if (code == 421)
        srv_shut(s);
}

void smtp_srv_tls_done(struct smtp_srv *s, const struct tls_facts *facts UNUSED)
{
    if (s->state != ST_TLS)
        return;
    srv_txn_reset(s);
    buf_release(&s->in);
    s->in_pos = 0;
    s->tls = true;
    s->esmtp = false;
    s->helo_n = s->user_n = 0;
    s->state = ST_CONNECTED;
}

void smtp_srv_hold_tls(struct smtp_srv *s, const char *text)
{
    s->tls_hold = text;
}

bool smtp_srv_tls_held(const struct smtp_srv *s)
{
    return s->tls_held;
}

void smtp_srv_close(struct smtp_srv *s, uint16_t code, const char *status, struct sv text)
{
    if (s->state == ST_CLOSED)
        return;
    /* A body that is complete but unanswered is dropped too: nobody was told that it is ours. */
    s->abort_body |= smtp_srv_in_data(s) && s->txn.refusal == REFUSE_NONE;
    srv_reply(s, code, status, text);
    srv_shut(s);
}

void smtp_srv_greet(struct smtp_srv *s)
{
    char text[SRV_NAME_MAX + 32];
    struct sv name = s->config.hostname;
    if (s->state != ST_START)
        return;
    memcpy(text, name.p, name.n);
    memcpy(text + name.n, " ESMTP Postseal", 15);
    srv_reply_part(s, 220, true, sv_of(text, name.n + 15));
    s->flush = true;
    s->state = ST_CONNECTED;
}

struct envelope *smtp_srv_envelope(struct smtp_srv *s)
{
    return &s->txn.env;
}

uint64_t smtp_srv_declared_size(const struct smtp_srv *s)
{
    return s->txn.declared;
}

struct sv smtp_srv_helo(const struct smtp_srv *s)
{
    return sv_of(s->helo, s->helo_n);
}

bool smtp_srv_is_esmtp(const struct smtp_srv *s)
{
    return s->esmtp;
}

struct sv smtp_srv_auth_user(const struct smtp_srv *s)
{
    return sv_of(s->user, s->user_n);
}

bool smtp_srv_in_data(const struct smtp_srv *s)
{
    return s->state == ST_BODY;
}
