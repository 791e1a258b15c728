/*
 * A mail transaction: RSET when needed, MAIL, RCPT, DATA, pipelined when the server offers it
 * (RFC 2920), and the result of each recipient.
 *
 * SECURITY: addresses come from other hosts; one that is not plain printable ASCII is never
 * written. A reply counts only for a command that was sent.
 */
#include "codec/mailaddr.h"
#include "proto/smtp_cli_impl.h"

enum rcpt_result cli_result_of(uint16_t code)
{
    return code < 300 ? RCPT_DELIVERED : code < 500 ? RCPT_DEFERRED : RCPT_FAILED;
}

void cli_txn_settle(struct smtp_cli *c, enum rcpt_result result, const struct smtp_cli_rcpt *why)
{
    for (uint32_t i = 0; i < c->txn.n_rcpts; i++) {
        struct smtp_cli_rcpt *r = &c->txn.rcpts[i];
        if (r->result != RCPT_PENDING)
            continue;
        *r = *why;
        r->result = result;
    }
}

static enum failure failure_of_results(const struct cli_txn *t)
{
    bool failed = false;
    for (uint32_t i = 0; i < t->n_rcpts; i++) {
        if (t->rcpts[i].result == RCPT_DEFERRED)
            return FAILURE_SMTP_TEMP;
        failed |= t->rcpts[i].result == RCPT_FAILED;
    }
    return failed ? FAILURE_SMTP_PERM : FAILURE_NONE;
}

void cli_txn_done(struct smtp_cli *c)
{
    struct cli_txn *t = &c->txn;
    c->failure = t->failure != FAILURE_NONE ? t->failure : failure_of_results(t);
    c->state = CLI_ST_DONE;
    t->job = NULL;
    t->body = SV_NULL;
    t->body_given = false;
}

/* -- begin ---------------------------------------------------------------------------------- */

/* What may stand between < and >. Quoted local parts may hold blanks and brackets: those must be
 * valid addresses as a whole. */
static bool speakable(struct sv addr)
{
    bool odd = addr.n > 1000;
    for (size_t i = 0; i < addr.n; i++) {
        if (addr.p[i] < ' ' || addr.p[i] > '~')
            return false;
        odd |= addr.p[i] == ' ' || addr.p[i] == '<' || addr.p[i] == '>';
    }
    return !odd || mailaddr_valid(addr);
}

static struct smtp_cli_rcpt local_reason(const char *status, const char *text)
{
    struct smtp_cli_rcpt r = {0};
    const size_t n = strlen(text);
    memcpy(r.status, status, strlen(status));
    memcpy(r.reply, text, n < sizeof r.reply ? n : sizeof r.reply - 1);
    return r;
}

static void refuse_all(struct smtp_cli *c, enum failure why, const char *status, const char *text)
{
    const struct smtp_cli_rcpt reason = local_reason(status, text);
    cli_txn_settle(c, RCPT_FAILED, &reason);
    c->txn.failure = why;
    cli_txn_done(c);
}

static bool start(struct smtp_cli *c, const struct delivery *job)
{
    struct arena mem = c->txn.mem;
    arena_reset(&mem);
    c->failure = FAILURE_NONE;
    c->txn = (struct cli_txn){.mem = mem, .job = job, .bol = true};
    c->txn.rcpts = ARENA_ARRAY(&c->txn.mem, struct smtp_cli_rcpt, job->n_rcpts);
    if (!c->txn.rcpts)
        return false;
    c->txn.n_rcpts = job->n_rcpts;
    c->txn.sent = c->txn.due = c->need_rset ? CMD_RSET : CMD_MAIL;
    c->txn.limit = CMD_RCPT + job->n_rcpts + 1;
    return true;
}

static void weed_rcpts(struct smtp_cli *c)
{
    for (uint32_t i = 0; i < c->txn.n_rcpts; i++) {
        const struct sv addr = c->txn.job->rcpts[i].addr;
        if (addr.n && speakable(addr))
            continue;
        c->txn.rcpts[i] = local_reason("5.1.3", "the address cannot be used in SMTP");
        c->txn.rcpts[i].result = RCPT_FAILED;
    }
}

void smtp_cli_begin(struct smtp_cli *c, const struct delivery *job)
{
    if (c->state != CLI_ST_READY)
        return;
    if (!start(c, job)) {
        cli_fail(c, FAILURE_INTERNAL, "out of memory");
        return;
    }
    weed_rcpts(c);
    c->state = CLI_ST_COMMANDS;
    if (!speakable(job->sender))
        refuse_all(c, FAILURE_SMTP_PERM, "5.1.7", "the sender address cannot be used in SMTP");
    else if (c->size_limit && job->size > c->size_limit) /* RFC 1870 5 */
        refuse_all(c, FAILURE_SIZE, "5.3.4", "the message is larger than the server's limit");
    else if (job->body_type == BODY_8BITMIME && !(c->caps & CAP_8BITMIME)) /* RFC 6152 3 */
        refuse_all(c, FAILURE_8BIT, "5.6.3", "the server does not take 8-bit messages");
    else if (failure_of_results(&c->txn) != FAILURE_NONE || job->n_rcpts == 0) {
        bool open = false;
        for (uint32_t i = 0; i < c->txn.n_rcpts; i++)
            open |= c->txn.rcpts[i].result == RCPT_PENDING;
        if (!open)
            cli_txn_done(c);
    }
}

/* -- perform -------------------------------------------------------------------------------- */

static void put(struct buf *line, struct sv text)
{
    (void)buf_append_sv(line, text);
}

static void put_u64(struct buf *line, uint64_t v)
{
    char text[20];
    size_t n = sizeof text;
    do {
        text[--n] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    (void)buf_append(line, text + n, sizeof text - n);
}

static void mail_perform(struct smtp_cli *c, struct buf *line)
{
    const struct delivery *job = c->txn.job;
    put(line, SV("MAIL FROM:<"));
    put(line, job->sender);
    put(line, SV(">"));
    if ((c->caps & CAP_SIZE) && job->size) {
        put(line, SV(" SIZE="));
        put_u64(line, job->size);
    }
    if (job->body_type == BODY_8BITMIME)
        put(line, SV(" BODY=8BITMIME"));
    if (!(c->caps & CAP_DSN))
        return;
    if (job->ret != RET_NONE)
        put(line, job->ret == RET_HDRS ? SV(" RET=HDRS") : SV(" RET=FULL"));
    if (job->envid.n) {
        put(line, SV(" ENVID="));
        (void)xtext_encode(job->envid, line);
    }
}

static void put_notify(struct buf *line, uint8_t notify)
{
    static const struct {
        uint8_t bit;
        struct sv name;
    } names[] = {{NOTIFY_SUCCESS, {"SUCCESS", 7}},
                 {NOTIFY_FAILURE, {"FAILURE", 7}},
                 {NOTIFY_DELAY, {"DELAY", 5}}};
    bool first = true;
    put(line, SV(" NOTIFY="));
    if (notify & NOTIFY_NEVER) {
        put(line, SV("NEVER"));
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (!(notify & names[i].bit))
            continue;
        if (!first)
            (void)buf_append_byte(line, ',');
        first = false;
        put(line, names[i].name);
    }
}

/* RFC 3461 4.2: the type is an atom, the address xtext. */
static bool orcpt_ok(struct sv orcpt)
{
    const size_t semicolon = sv_find_byte(orcpt, ';');
    if (semicolon == SIZE_MAX || semicolon == 0)
        return false;
    for (size_t i = 0; i < semicolon; i++) {
        const char ch = orcpt.p[i];
        const bool letter = (ch | 0x20) >= 'a' && (ch | 0x20) <= 'z';
        if (!letter && ch != '-' && !(ch >= '0' && ch <= '9'))
            return false;
    }
    return true;
}

static void rcpt_perform(struct smtp_cli *c, struct buf *line, uint32_t i)
{
    const struct rcpt *r = &c->txn.job->rcpts[i];
    put(line, SV("RCPT TO:<"));
    put(line, r->addr);
    put(line, SV(">"));
    if (!(c->caps & CAP_DSN))
        return;
    if (r->notify)
        put_notify(line, r->notify);
    if (orcpt_ok(r->orcpt)) {
        const size_t semicolon = sv_find_byte(r->orcpt, ';');
        put(line, SV(" ORCPT="));
        put(line, sv_take(r->orcpt, semicolon + 1));
        (void)xtext_encode(sv_skip(r->orcpt, semicolon + 1), line);
    }
}

/* Commands of recipients that we refused ourselves do not exist. */
static uint32_t skip_weeded(const struct cli_txn *t, uint32_t number)
{
    while (number >= CMD_RCPT && number < CMD_RCPT + t->n_rcpts) {
        const struct smtp_cli_rcpt *r = &t->rcpts[number - CMD_RCPT];
        if (r->result != RCPT_FAILED || r->code != 0)
            break;
        number++;
    }
    return number;
}

static void send_command(struct smtp_cli *c, uint32_t number)
{
    struct buf line;
    buf_init(&line, 8192);
    if (number == CMD_RSET)
        put(&line, SV("RSET"));
    else if (number == CMD_MAIL)
        mail_perform(c, &line);
    else if (number < CMD_RCPT + c->txn.n_rcpts)
        rcpt_perform(c, &line, number - CMD_RCPT);
    else
        put(&line, SV("DATA"));
    if (line.overflow)
        cli_fail(c, FAILURE_INTERNAL, "a command is too long");
    else
        cli_command(c, buf_sv(&line));
    buf_done(&line);
}

void cli_txn_perform(struct smtp_cli *c)
{
    struct cli_txn *t = &c->txn;
    const uint32_t data = CMD_RCPT + t->n_rcpts;
    while (c->state == CLI_ST_COMMANDS && t->sent < t->limit && c->out.n < CLI_OUT_FLUSH) {
        const bool waiting = t->due < t->sent;
        if (waiting && !(c->caps & CAP_PIPELINING))
            return;
        t->sent = skip_weeded(t, t->sent);
        if (!waiting)
            t->due = t->sent;
        if (t->sent == data && !waiting && t->accepted == 0) {
            t->limit = data; /* nobody is left: no DATA */
            break;
        }
        c->need_rset = true;
        send_command(c, t->sent);
        t->sent++;
    }
    if (c->state == CLI_ST_COMMANDS && t->due >= t->limit)
        cli_txn_done(c);
}

/* -- response ------------------------------------------------------------------------------- */

static void answered(struct smtp_cli *c)
{
    c->txn.due = skip_weeded(&c->txn, c->txn.due + 1);
    if (c->txn.due > c->txn.sent)
        c->txn.due = c->txn.sent;
}

void cli_rset_response(struct smtp_cli *c, const struct cli_reply *r)
{
    if (r->code < 300)
        answered(c);
    else
        cli_fail_reply(c, FAILURE_PROTOCOL);
}

void cli_mail_response(struct smtp_cli *c, const struct cli_reply *r)
{
    if (r->code >= 300 && r->code < 400) {
        cli_fail_reply(c, FAILURE_PROTOCOL);
        return;
    }
    if (r->code >= 400) {
        struct smtp_cli_rcpt why = {0};
        cli_reply_to(r, &why);
        cli_txn_settle(c, cli_result_of(r->code), &why);
        c->txn.limit = c->txn.sent;
    }
    answered(c);
}

/* RFC 5321 4.5.3.1.10: 552 behind accepted recipients means "too many": try the rest later. */
static enum rcpt_result rcpt_result_of(const struct cli_txn *t, const struct cli_reply *r)
{
    if (r->code == 552 && t->accepted)
        return RCPT_DEFERRED;
    return cli_result_of(r->code);
}

void cli_rcpt_response(struct smtp_cli *c, const struct cli_reply *r)
{
    struct cli_txn *t = &c->txn;
    struct smtp_cli_rcpt *rcpt = &t->rcpts[t->due - CMD_RCPT];
    if (r->code >= 300 && r->code < 400) {
        cli_fail_reply(c, FAILURE_PROTOCOL);
        return;
    }
    /* Settled already when MAIL was refused: that reply says more. */
    if (rcpt->result == RCPT_PENDING) {
        cli_reply_to(r, rcpt);
        if (r->code < 300)
            t->accepted++;
        else
            rcpt->result = rcpt_result_of(t, r);
    }
    answered(c);
}

void cli_data_response(struct smtp_cli *c, const struct cli_reply *r)
{
    struct cli_txn *t = &c->txn;
    t->due++;
    if (r->code == 354) {
        c->need_rset = false;
        if (t->accepted) {
            c->state = CLI_ST_BODY;
            return;
        }
        /* RFC 2920 3.1: nobody was accepted, yet the server wants data: it gets none. */
        c->state = CLI_ST_END;
        cli_command(c, SV("."));
    } else if (r->code < 400) {
        cli_fail_reply(c, FAILURE_PROTOCOL);
    } else {
        struct smtp_cli_rcpt why = {0};
        cli_reply_to(r, &why);
        cli_txn_settle(c, cli_result_of(r->code), &why);
        cli_txn_done(c);
    }
}
