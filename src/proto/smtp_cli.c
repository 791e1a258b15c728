/*
 * The client machine's outside: life of a session, the order of steps, failures.
 *
 * SECURITY: reads hostile servers. Input is bounded, a reply that no command asked for ends the
 * session, and recipients that have no final reply of their own are deferred, never delivered.
 */
#include "proto/smtp_cli_impl.h"

enum err smtp_cli_new(const struct smtp_cli_config *config, struct smtp_cli **out_cli)
{
    struct arena mem;
    arena_init(&mem, sizeof(struct smtp_cli) + 16384);
    struct smtp_cli *c = ARENA_NEW(&mem, struct smtp_cli);
    if (!c)
        return ERR_LIMIT;
    c->config = *config;
    c->config.helo = arena_sv(&mem, config->helo);
    c->config.auth_user = arena_sv(&mem, config->auth_user);
    c->config.auth_password = arena_sv(&mem, config->auth_password);
    if (mem.overflow) {
        arena_done(&mem);
        return ERR_LIMIT;
    }
    c->tls = config->tls_on;
    c->session_op = OP_GREETING;
    c->mem = mem;
    buf_init(&c->in, CLI_IN_MAX);
    buf_init(&c->out, CLI_OUT_MAX);
    buf_init(&c->log, 2 * CLI_LOG_MAX);
    arena_init(&c->txn.mem, RCPTS_MAX * (sizeof(struct smtp_cli_rcpt) + 64));
    *out_cli = c;
    return ERR_OK;
}

void smtp_cli_free(struct smtp_cli *c)
{
    if (!c)
        return;
    if (c->config.auth_password.n)
        explicit_bzero((void *)(uintptr_t)c->config.auth_password.p, c->config.auth_password.n);
    buf_done(&c->in);
    buf_done(&c->out);
    buf_done(&c->log);
    arena_done(&c->txn.mem);
    struct arena mem = c->mem;
    arena_done(&mem);
}

size_t smtp_cli_feed(struct smtp_cli *c, struct sv bytes)
{
    if (c->state == CLI_ST_TLS || c->state == CLI_ST_CLOSED)
        return 0;
    buf_consume(&c->in, c->in_pos);
    c->in_pos = 0;
    const size_t n = bytes.n < CLI_IN_MAX - c->in.n ? bytes.n : CLI_IN_MAX - c->in.n;
    return buf_append(&c->in, bytes.p, n) == ERR_OK ? n : 0;
}

void smtp_cli_lost(struct smtp_cli *c, enum failure why)
{
    if (why == FAILURE_NONE)
        why = c->state == CLI_ST_SESSION && c->session_op == OP_GREETING ? FAILURE_CONNECT
                                                                         : FAILURE_PROTOCOL;
    c->lost = true;
    c->lost_why = why;
}

/* -- commands out --------------------------------------------------------------------------- */

void cli_secret(struct smtp_cli *c, struct sv line, const char *masked)
{
    (void)buf_reserve(&c->out, line.n + 2);
    (void)buf_append_sv(&c->out, line);
    (void)buf_append(&c->out, "\r\n", 2);
    cli_log(c, 'C', sv_str(masked));
}

void cli_command(struct smtp_cli *c, struct sv line)
{
    (void)buf_append_sv(&c->out, line);
    (void)buf_append(&c->out, "\r\n", 2);
    cli_log(c, 'C', line);
}

/* -- failures ------------------------------------------------------------------------------- */

static bool in_txn(const struct smtp_cli *c)
{
    return c->state == CLI_ST_COMMANDS || c->state == CLI_ST_BODY || c->state == CLI_ST_END;
}

static void end_session(struct smtp_cli *c, enum failure why, const struct smtp_cli_rcpt *reason)
{
    c->failure = why;
    c->session_reply = *reason;
    buf_reset(&c->out);
    buf_reset(&c->in);
    c->in_pos = 0;
    if (!in_txn(c)) {
        c->state = CLI_ST_CLOSED;
        return;
    }
    c->txn.failure = why;
    c->close_after = true;
    cli_txn_settle(c, RCPT_DEFERRED, reason);
    cli_txn_done(c);
}

void cli_fail(struct smtp_cli *c, enum failure why, const char *reason)
{
    struct smtp_cli_rcpt r = {0};
    const size_t n = strlen(reason);
    memcpy(r.reply, reason, n < sizeof r.reply ? n : sizeof r.reply - 1);
    end_session(c, why, &r);
}

/* Ends the session because of the reply at hand, with a QUIT that waits for nothing. */
void cli_fail_reply(struct smtp_cli *c, enum failure why)
{
    struct smtp_cli_rcpt r = {0};
    const bool polite = !in_txn(c) && c->reply.code != 421;
    cli_reply_to(&c->reply, &r);
    end_session(c, why, &r);
    if (polite)
        cli_command(c, SV("QUIT"));
}

static const char *lost_reason(enum failure why)
{
    return why == FAILURE_TIMEOUT ? "the server did not answer in time" : "the connection was lost";
}

/* -- replies in ----------------------------------------------------------------------------- */

static void quit_response(struct smtp_cli *c, const struct cli_reply *r UNUSED)
{
    c->state = CLI_ST_CLOSED;
}

static void out_of_turn(struct smtp_cli *c, const struct cli_reply *r UNUSED)
{
    if (c->state == CLI_ST_BODY)
        cli_body_early(c, r);
    else
        cli_fail(c, FAILURE_PROTOCOL, "the server sent a reply that nothing asked for");
}

static void (*const responses[OP_COUNT])(struct smtp_cli *, const struct cli_reply *) = {
    [OP_GREETING] = cli_greeting_response,
    [OP_EHLO] = cli_ehlo_response,
    [OP_HELO] = cli_helo_response,
    [OP_STARTTLS] = cli_starttls_response,
    [OP_AUTH_PLAIN] = cli_auth_plain_response,
    [OP_AUTH_LOGIN] = cli_auth_login_response,
    [OP_AUTH_LOGIN_USER] = cli_auth_user_response,
    [OP_AUTH_LOGIN_PASSWORD] = cli_auth_password_response,
    [OP_RSET] = cli_rset_response,
    [OP_MAIL] = cli_mail_response,
    [OP_RCPT] = cli_rcpt_response,
    [OP_DATA] = cli_data_response,
    [OP_END] = cli_end_response,
    [OP_QUIT] = quit_response,
    [OP_NONE] = out_of_turn,
};

static enum cli_op txn_due(const struct cli_txn *t)
{
    if (t->due >= t->sent)
        return OP_NONE;
    if (t->due == CMD_RSET)
        return OP_RSET;
    if (t->due == CMD_MAIL)
        return OP_MAIL;
    return t->due < CMD_RCPT + t->n_rcpts ? OP_RCPT : OP_DATA;
}

enum cli_op cli_due(const struct smtp_cli *c)
{
    switch (c->state) {
    case CLI_ST_SESSION:
        return c->session_op;
    case CLI_ST_COMMANDS:
        return txn_due(&c->txn);
    case CLI_ST_END:
        return OP_END;
    case CLI_ST_QUIT:
        return OP_QUIT;
    case CLI_ST_TLS:
    case CLI_ST_READY:
    case CLI_ST_BODY:
    case CLI_ST_DONE:
    case CLI_ST_CLOSED:
        break;
    }
    return OP_NONE;
}

static bool takes_replies(const struct smtp_cli *c)
{
    return c->state != CLI_ST_DONE && c->state != CLI_ST_CLOSED && c->state != CLI_ST_TLS;
}

static void take_replies(struct smtp_cli *c)
{
    while (takes_replies(c) && cli_reply_read(c)) {
        const enum cli_op due = cli_due(c);
        /* RFC 5321 3.8: 421 may come at any time. */
        if (c->reply.code == 421 && due != OP_QUIT)
            cli_fail_reply(c, FAILURE_SMTP_TEMP);
        else
            responses[due](c, &c->reply);
        cli_reply_reset(c);
    }
}

/* -- steps ---------------------------------------------------------------------------------- */

static struct smtp_cli_step step_of(enum smtp_cli_step_kind kind)
{
    return (struct smtp_cli_step){.kind = kind};
}

static struct smtp_cli_step step_input(struct smtp_cli *c)
{
    struct smtp_cli_step step = {.kind = CLI_NEED_INPUT, .wait = WAIT_COMMAND};
    const enum cli_op due = cli_due(c);
    if (due == OP_GREETING)
        step.wait = WAIT_GREETING;
    else if (due == OP_DATA)
        step.wait = WAIT_DATA;
    else if (due == OP_END)
        step.wait = WAIT_END_OF_DATA;
    else if (due == OP_QUIT)
        step.wait = WAIT_QUIT;
    return step;
}

static void output_done(struct smtp_cli *c)
{
    if (!c->out_given)
        return;
    c->out_given = false;
    if (c->out.p && c->out.n && c->session_op >= OP_AUTH_PLAIN &&
        c->session_op <= OP_AUTH_LOGIN_PASSWORD)
        explicit_bzero(c->out.p, c->out.n);
    buf_reset(&c->out);
}

/* An idle connection holds little memory. */
static void give_back(struct smtp_cli *c)
{
    if (c->in.cap > CLI_IN_KEEP && c->in_pos == c->in.n) {
        buf_release(&c->in);
        c->in_pos = 0;
    }
    if (c->out.cap > CLI_OUT_FLUSH)
        buf_release(&c->out);
}

static struct smtp_cli_step step_done(struct smtp_cli *c)
{
    c->state = c->close_after ? CLI_ST_CLOSED : CLI_ST_READY;
    give_back(c);
    return step_of(CLI_DONE);
}

/* What the state asks for when all replies so far are read. */
static struct smtp_cli_step step_state(struct smtp_cli *c)
{
    switch (c->state) {
    case CLI_ST_TLS:
        return step_of(CLI_START_TLS);
    case CLI_ST_READY:
        return step_of(CLI_READY);
    case CLI_ST_BODY:
        return step_of(CLI_NEED_BODY);
    case CLI_ST_DONE:
        return step_done(c);
    case CLI_ST_CLOSED:
        return step_of(CLI_CLOSE);
    case CLI_ST_SESSION:
    case CLI_ST_COMMANDS:
    case CLI_ST_END:
    case CLI_ST_QUIT:
        break;
    }
    return step_input(c);
}

/* A line or reply has begun that no command asked for: judge it before anything is sent. */
static bool stray_input(const struct smtp_cli *c)
{
    return takes_replies(c) && cli_due(c) == OP_NONE &&
           (c->in_pos < c->in.n || c->reply.lines || c->skip_line);
}

static void lose(struct smtp_cli *c)
{
    if (c->state == CLI_ST_QUIT)
        c->state = CLI_ST_CLOSED;
    else if (c->state != CLI_ST_DONE && c->state != CLI_ST_CLOSED)
        cli_fail(c, c->lost_why, lost_reason(c->lost_why));
    c->close_after = true;
}

struct smtp_cli_step smtp_cli_next(struct smtp_cli *c)
{
    output_done(c);
    take_replies(c);
    if (c->lost)
        lose(c);
    if (stray_input(c))
        return step_input(c);
    if (c->state == CLI_ST_COMMANDS)
        cli_txn_perform(c);
    else if (c->state == CLI_ST_BODY && c->txn.body_given)
        cli_body_perform(c);
    if (c->out.n && !(c->lost && c->state == CLI_ST_CLOSED)) {
        c->out_given = true;
        return (struct smtp_cli_step){.kind = CLI_SEND, .bytes = buf_sv(&c->out)};
    }
    return step_state(c);
}

void smtp_cli_quit(struct smtp_cli *c)
{
    if (c->state != CLI_ST_READY)
        return;
    c->failure = FAILURE_NONE;
    c->state = CLI_ST_QUIT;
    cli_command(c, SV("QUIT"));
}

enum failure smtp_cli_failure(const struct smtp_cli *c)
{
    return c->failure;
}

bool smtp_cli_dsn_offered(const struct smtp_cli *c)
{
    return c->caps & CAP_DSN;
}

bool smtp_cli_tls_offered(const struct smtp_cli *c)
{
    return c->caps & CAP_STARTTLS;
}

const struct smtp_cli_rcpt *smtp_cli_results(const struct smtp_cli *c, uint32_t *out_n)
{
    *out_n = c->txn.n_rcpts;
    return c->txn.rcpts;
}

struct smtp_cli_rcpt smtp_cli_session_reply(const struct smtp_cli *c)
{
    return c->session_reply;
}
