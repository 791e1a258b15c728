#include "proto/testkit.h"
#include <stdlib.h>

struct smtp_srv_config kit_config(void)
{
    return (struct smtp_srv_config){.hostname = SV("mx.example.com"),
                                    .listener = LISTENER_MX,
                                    .tls_offer = true,
                                    .auth_offer = true,
                                    .max_size = 10485760,
                                    .max_rcpts = 1000,
                                    .max_messages = 1000,
                                    .max_errors = 20,
                                    .max_auth_failures = 3};
}

void kit_init(struct kit *k, const struct smtp_srv_config *config)
{
    *k = (struct kit){.end_code = 250};
    buf_init(&k->out, 1 << 22);
    buf_init(&k->body, 1 << 26);
    buf_init(&k->trace, 1 << 20);
    if (smtp_srv_new(config, &k->srv) != ERR_OK)
        abort();
    smtp_srv_greet(k->srv);
    kit_run(k);
}

void kit_done(struct kit *k)
{
    smtp_srv_free(k->srv);
    buf_done(&k->out);
    buf_done(&k->body);
    buf_done(&k->trace);
}

static void answer_mail(struct kit *k)
{
    const struct envelope *e = smtp_srv_envelope(k->srv);
    if (sv_starts(e->sender, SV("blocked@")))
        smtp_srv_answer(k->srv, 550, "5.7.1", SV("Sender refused"));
    else
        smtp_srv_answer(k->srv, 250, "2.1.0", SV("Ok"));
}

static void answer_rcpt(struct kit *k)
{
    const struct envelope *e = smtp_srv_envelope(k->srv);
    const struct sv to = e->rcpts[e->n_rcpts - 1].addr;
    if (sv_starts(to, SV("unknown@")))
        smtp_srv_answer(k->srv, 550, "5.1.1", SV("No such user"));
    else if (sv_starts(to, SV("later@")))
        smtp_srv_answer(k->srv, 451, "4.2.0", SV("Try again later"));
    else if (!k->relay && !sv_ends_nocase(to, SV("@example.com")) &&
             !sv_eq_nocase(to, SV("postmaster")) && !smtp_srv_auth_user(k->srv).n)
        smtp_srv_answer(k->srv, 550, "5.7.1", SV("Relaying denied"));
    else
        smtp_srv_answer(k->srv, 250, "2.1.5", SV("Ok"));
}

static void answer_end(struct kit *k)
{
    const struct envelope *e = smtp_srv_envelope(k->srv);
    if (k->end_code != 250) {
        smtp_srv_answer(k->srv, k->end_code, k->end_code < 500 ? "4.3.0" : "5.7.1", SV("Refused"));
        return;
    }
    k->messages++;
    (void)buf_append_sv(&k->trace, e->sender);
    for (uint32_t i = 0; i < e->n_rcpts; i++) {
        (void)buf_append_byte(&k->trace, ' ');
        (void)buf_append_sv(&k->trace, e->rcpts[i].addr);
    }
    (void)buf_append_byte(&k->trace, '\n');
    smtp_srv_answer(k->srv, 250, "2.0.0", SV("Ok: queued"));
}

static void answer_auth(struct kit *k, const struct smtp_srv_step *step)
{
    if (sv_eq(step->user, SV("alice")) && sv_eq(step->password, SV("secret")))
        smtp_srv_answer(k->srv, 235, "2.7.0", SV("Authentication successful"));
    else
        smtp_srv_answer(k->srv, 535, "5.7.8", SV("Authentication failed"));
}

/* false = input (or TLS, or nothing any more) is needed. */
static bool step(struct kit *k)
{
    const struct smtp_srv_step s = smtp_srv_next(k->srv);
    switch (s.kind) {
    case SRV_NEED_INPUT:
        return false;
    case SRV_SEND:
        if (s.error_delay > k->delay_max)
            k->delay_max = s.error_delay;
        (void)buf_append_sv(&k->out, s.bytes);
        return true;
    case SRV_START_TLS:
        k->tls_due = true;
        return false;
    case SRV_ASK_HELO:
        smtp_srv_answer(k->srv, 250, "", SV(""));
        return true;
    case SRV_ASK_AUTH:
        answer_auth(k, &s);
        return true;
    case SRV_ASK_MAIL:
        answer_mail(k);
        return true;
    case SRV_ASK_RCPT:
        answer_rcpt(k);
        return true;
    case SRV_ASK_DATA:
        buf_reset(&k->body);
        k->aborted = false;
        smtp_srv_answer(k->srv, 354, "", SV("End data with <CR><LF>.<CR><LF>"));
        return true;
    case SRV_BODY:
        if (k->aborted)
            abort();
        (void)buf_append_sv(&k->body, s.bytes);
        return true;
    case SRV_END_OF_BODY:
        answer_end(k);
        return true;
    case SRV_ABORT_BODY:
        k->aborts++;
        k->aborted = true;
        buf_reset(&k->body);
        return true;
    case SRV_CLOSE:
        k->closed = true;
        return false;
    }
    return false;
}

void kit_run(struct kit *k)
{
    while (step(k))
        ;
}

size_t kit_input(struct kit *k, struct sv bytes, size_t piece)
{
    size_t taken = 0;
    while (taken < bytes.n && !k->closed && !k->tls_due) {
        struct sv part = sv_skip(bytes, taken);
        if (piece)
            part = sv_take(part, piece);
        const size_t n = smtp_srv_feed(k->srv, part);
        taken += n;
        kit_run(k);
        if (n == 0)
            break;
    }
    return taken;
}

void kit_tls(struct kit *k)
{
    k->tls_due = false;
    smtp_srv_tls_done(k->srv, NULL);
    kit_run(k);
}

bool kit_reply(struct kit *k, struct buf *out_reply)
{
    struct sv rest = buf_sv(&k->out);
    size_t used = 0;
    for (;;) {
        const size_t lf = sv_find_byte(rest, '\n');
        if (lf == SIZE_MAX)
            return false;
        used += lf + 1;
        const bool last = lf < 4 || rest.p[3] != '-';
        rest = sv_skip(rest, lf + 1);
        if (last)
            break;
    }
    (void)buf_append(out_reply, k->out.p, used);
    buf_consume(&k->out, used);
    return true;
}
