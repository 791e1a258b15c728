/*
 * The server machine: byte 0 is the configuration, the rest is what a client sends. Played whole
 * and in pieces; both must say and take the same. Checks that replies are well formed and that no
 * message with a bare CR, bare LF or NUL is offered as complete.
 */
#include "fuzz.h"

#include "proto/smtp_srv.h"

struct run {
    struct smtp_srv *srv;
    struct buf out, body, accepted;
    bool tls, closed;
};

static void check_reply(struct sv out)
{
    while (out.n) {
        const size_t lf = sv_find_byte(out, '\n');
        CHECK(lf != SIZE_MAX && lf >= 4 && lf < 514 && out.p[lf - 1] == '\r');
        CHECK(out.p[0] >= '2' && out.p[0] <= '5' && (out.p[3] == ' ' || out.p[3] == '-'));
        for (size_t i = 0; i < lf - 1; i++)
            CHECK(out.p[i] >= ' ' && out.p[i] <= '~');
        out = sv_skip(out, lf + 1);
    }
}

static void check_body(struct sv b)
{
    for (size_t i = 0; i < b.n; i++) {
        CHECK(b.p[i] != '\0');
        CHECK(b.p[i] != '\r' || (i + 1 < b.n && b.p[i + 1] == '\n'));
        CHECK(b.p[i] != '\n' || (i && b.p[i - 1] == '\r'));
    }
}

/* Answers depend on what was asked only, so that both runs get the same. */
static void answer_rcpt(struct run *r)
{
    const struct envelope *e = smtp_srv_envelope(r->srv);
    CHECK(e->n_rcpts > 0 && e->rcpts[e->n_rcpts - 1].addr.n > 0);
    switch (e->rcpts[e->n_rcpts - 1].addr.p[0]) {
    case 'u':
        smtp_srv_answer(r->srv, 550, "5.1.1", e->rcpts[e->n_rcpts - 1].addr);
        break;
    case 'l':
        smtp_srv_answer(r->srv, 451, "4.2.0", SV("later"));
        break;
    case 'q':
        smtp_srv_answer(r->srv, 421, "4.3.2", SV("closing"));
        break;
    default:
        smtp_srv_answer(r->srv, 250, "2.1.5", SV("ok"));
    }
}

static void end_of_body(struct run *r)
{
    check_body(buf_sv(&r->body));
    (void)buf_append_sv(&r->accepted, buf_sv(&r->body));
    buf_reset(&r->body);
    smtp_srv_answer(r->srv, 250, "2.0.0", SV("queued"));
}

static bool step(struct run *r)
{
    const struct smtp_srv_step s = smtp_srv_next(r->srv);
    switch (s.kind) {
    case SRV_NEED_INPUT:
        return false;
    case SRV_SEND:
        check_reply(s.bytes);
        (void)buf_append_sv(&r->out, s.bytes);
        return true;
    case SRV_START_TLS:
        r->tls = true;
        return false;
    case SRV_ASK_AUTH:
        CHECK(s.user.n > 0);
        smtp_srv_answer(r->srv, s.password.n > 3 ? 235 : 535, "", s.user);
        return true;
    case SRV_ASK_HELO:
    case SRV_ASK_MAIL:
        smtp_srv_answer(r->srv, 250, "2.1.0", smtp_srv_envelope(r->srv)->sender);
        return true;
    case SRV_ASK_RCPT:
        answer_rcpt(r);
        return true;
    case SRV_ASK_DATA:
        smtp_srv_answer(r->srv, 354, "", SV("go"));
        return true;
    case SRV_BODY:
        (void)buf_append_sv(&r->body, s.bytes);
        return true;
    case SRV_END_OF_BODY:
        end_of_body(r);
        return true;
    case SRV_ABORT_BODY:
        buf_reset(&r->body);
        return true;
    case SRV_CLOSE:
        r->closed = true;
        return false;
    }
    return false;
}

static void play(struct run *r, uint8_t flags, struct sv in, size_t piece)
{
    const struct smtp_srv_config config = {.hostname = SV("mx.example.com"),
                                           .tls_offer = flags & 1,
                                           .tls_on = flags & 2,
                                           .auth_offer = flags & 4,
                                           .require_tls = flags & 8,
                                           .require_auth = flags & 16,
                                           .max_size = flags & 32 ? 100 : 100000,
                                           .max_session = flags & 64 ? 500 : 0,
                                           .max_errors = flags & 128 ? 5 : 0,
                                           .max_junk = flags & 128 ? 4 : 0,
                                           .trusted = (flags & 192) == 192,
                                           .max_rcpts = 10,
                                           .max_messages = 5,
                                           .max_auth_failures = 2};
    buf_init(&r->out, 1 << 22);
    buf_init(&r->body, 1 << 22);
    buf_init(&r->accepted, 1 << 22);
    CHECK(smtp_srv_new(&config, &r->srv) == ERR_OK);
    smtp_srv_greet(r->srv);
    while (step(r))
        ;
    while (in.n && !r->tls && !r->closed) {
        const size_t n = smtp_srv_feed(r->srv, sv_take(in, piece));
        CHECK(n > 0);
        in = sv_skip(in, n);
        while (step(r))
            ;
    }
}

static void done(struct run *r)
{
    smtp_srv_free(r->srv);
    buf_done(&r->out);
    buf_done(&r->body);
    buf_done(&r->accepted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run whole = {0}, pieces = {0};
    if (size < 2 || size > 60000)
        return 0;
    const struct sv in = sv_of((const char *)data + 2, size - 2);
    play(&whole, data[0], in, in.n);
    play(&pieces, data[0], in, 1 + data[1] % 7);
    /* Bytes behind STARTTLS end the session when they come with it (and only then). */
    if (!whole.tls && !pieces.tls) {
        CHECK(sv_eq(buf_sv(&whole.out), buf_sv(&pieces.out)));
        CHECK(sv_eq(buf_sv(&whole.accepted), buf_sv(&pieces.accepted)));
        CHECK(whole.closed == pieces.closed);
    }
    done(&whole);
    done(&pieces);
    return 0;
}
