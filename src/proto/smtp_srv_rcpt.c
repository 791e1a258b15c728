/*
 * RCPT (RFC 5321 4.1.1.3, RFC 3461). The recipient stands in the envelope while the driver is asked
 * and is taken out again when it is refused.
 *
 * SECURITY: the list is bounded by max_rcpts, memory by the arena of the transaction.
 */
#include "proto/smtp_srv_impl.h"

bool srv_rcpt_check(struct smtp_srv *s, struct sv arg UNUSED)
{
    const uint32_t max = s->config.max_rcpts ? s->config.max_rcpts : RCPTS_MAX;
    if (s->txn.env.n_rcpts < max)
        return true;
    SRV_REPLY(s, 452, "4.5.3", "Too many recipients"); /* RFC 5321 4.5.3.1.10 */
    return false;
}

static struct rcpt *slot(struct srv_txn *t)
{
    if (t->env.n_rcpts == t->rcpts_cap) {
        const uint32_t cap = t->rcpts_cap ? t->rcpts_cap * 2 : 4;
        struct rcpt *list = ARENA_ARRAY(&t->mem, struct rcpt, cap);
        if (!list)
            return NULL;
        if (t->env.n_rcpts)
            memcpy(list, t->env.rcpts, t->env.n_rcpts * sizeof *list);
        t->env.rcpts = list;
        t->rcpts_cap = cap;
    }
    return &t->env.rcpts[t->env.n_rcpts];
}

/* A trusted relay passes on what its users wrote: their mistakes are not its own. */
static void refuse(struct smtp_srv *s, const struct smtp_reply *r, struct sv text)
{
    s->txn.rcpts_refused++;
    if (s->config.trusted)
        srv_reply_excused(s, r->code, r->status, text);
    else
        srv_reply(s, r->code, r->status, text);
}

void srv_rcpt(struct smtp_srv *s, struct sv arg)
{
    struct srv_txn *t = &s->txn;
    struct smtp_rcpt_args args = {0};
    struct smtp_reply refused = {0};

    if (!smtp_parse_rcpt(arg, &t->mem, &args, &refused)) {
        refuse(s, &refused, sv_str(refused.text));
        return;
    }
    struct rcpt *r = slot(t);
    if (r)
        *r = (struct rcpt){.addr = arena_sv(&t->mem, args.path),
                           .orcpt = arena_sv(&t->mem, args.orcpt),
                           .notify = args.notify};
    if (!r || t->mem.overflow) {
        SRV_REPLY(s, 452, "4.5.3", "Too many recipients");
        return;
    }
    t->env.n_rcpts++;
    s->ask = ASK_RCPT;
}

void srv_rcpt_answered(struct smtp_srv *s, const struct smtp_reply *answer, struct sv text)
{
    if (answer->code < 300) {
        s->state = ST_RCPT;
        srv_reply(s, answer->code, answer->status, text);
        return;
    }
    refuse(s, answer, text); /* the text may quote the recipient */
    s->txn.env.n_rcpts--;
}
