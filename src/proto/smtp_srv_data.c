/*
 * DATA and the message behind it (RFC 5321 4.1.1.4).
 *
 * SECURITY: the end of the message is found by smtp_body.c alone. A message with a bare CR, bare LF
 * or NUL is read to its real end and refused as a whole: it is never repaired, so no other server
 * can see two messages where we saw one.
 */
#include "proto/smtp_srv_impl.h"

void srv_data(struct smtp_srv *s, struct sv arg UNUSED)
{
    s->ask = ASK_DATA;
}

void srv_data_answered(struct smtp_srv *s, const struct smtp_reply *answer, struct sv text)
{
    s->flush = true;
    srv_reply(s, answer->code, answer->status, text);
    if (answer->code != 354)
        return;
    s->state = ST_BODY;
    s->txn.scan = (struct body_scan){.bol = true};
}

static void refuse(struct smtp_srv *s, enum srv_refusal why)
{
    if (s->txn.refusal != REFUSE_NONE)
        return;
    s->txn.refusal = why;
    s->abort_body = true;
}

/* A run is far shorter than the longest line, so only its first and its last line can cross runs.
 * Lines are never broken on the way (that would break signatures); some must be too long. */
static void measure_lines(struct srv_txn *t, struct sv run)
{
    const size_t first = sv_find_byte(run, '\n');
    size_t tail = 0;

    t->line_n += first == SIZE_MAX ? run.n : first + 1;
    t->long_line |= t->line_n > SMTP_SRV_BODY_LINE_MAX;
    if (first == SIZE_MAX)
        return;
    while (run.p[run.n - 1 - tail] != '\n')
        tail++;
    t->line_n = tail;
}

static enum srv_refusal judge(struct smtp_srv *s, size_t more)
{
    const struct smtp_srv_config *c = &s->config;
    s->txn.seen += more;
    s->session_bytes += more;
    if (s->txn.scan.bad)
        return REFUSE_BARE;
    if (s->txn.long_line)
        return REFUSE_LINE;
    if (c->max_size && s->txn.seen > c->max_size)
        return REFUSE_SIZE;
    if (c->max_session && s->session_bytes > c->max_session)
        return s->txn.seen > c->max_session ? REFUSE_SIZE : REFUSE_SESSION_SIZE;
    return REFUSE_NONE;
}

static void end_refused(struct smtp_srv *s)
{
    /* Judged again over the whole message: the reply does not depend on how the input was cut. */
    const enum srv_refusal why = judge(s, 0);
    srv_txn_reset(s);
    s->state = ST_READY;
    s->messages++;
    s->junk = 0;
    s->flush = true;
    switch (why) {
    case REFUSE_NONE:
    case REFUSE_BARE:
        SRV_REPLY(s, 550, "5.6.11", "Message contains bare CR, bare LF or NUL");
        break;
    case REFUSE_LINE:
        SRV_REPLY(s, 550, "5.6.0", "Message has a line longer than 1048576 bytes");
        break;
    case REFUSE_SIZE:
        SRV_REPLY(s, 552, "5.3.4", "Message size exceeds the limit");
        break;
    case REFUSE_SESSION_SIZE:
        SRV_REPLY(s, 421, "4.7.0", "Too much data in one session");
        srv_shut(s);
        break;
    }
}

static void end_of_data(struct smtp_srv *s)
{
    if (s->txn.refusal != REFUSE_NONE)
        end_refused(s);
    else
        s->ask = ASK_END;
}

bool srv_body(struct smtp_srv *s, struct smtp_srv_step *out_step)
{
    struct sv run;
    const enum body_stop stop = body_scan_next(&s->txn.scan, buf_sv(&s->in), &s->in_pos, &run);
    measure_lines(&s->txn, run);
    const enum srv_refusal why = judge(s, run.n);
    if (why != REFUSE_NONE)
        refuse(s, why);
    const bool refused = s->txn.refusal != REFUSE_NONE;
    if (stop == BODY_END)
        end_of_data(s); /* a refused transaction is gone behind here, maybe its input too */
    if (refused || run.n == 0)
        return false;
    *out_step = (struct smtp_srv_step){.kind = SRV_BODY, .bytes = run};
    return true;
}

void srv_end_answered(struct smtp_srv *s, const struct smtp_reply *answer, struct sv text)
{
    s->flush = true;
    s->messages++;
    s->junk = 0;
    s->state = ST_READY;
    srv_reply(s, answer->code, answer->status, text); /* the text may quote the envelope */
    srv_txn_reset(s);
}
