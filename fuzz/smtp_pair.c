/*
 * A message through the client's body writer into the server's body scanner: byte 0 and 1 are the
 * sizes of the pieces, the rest is the message. It arrives as it was (with a final CRLF), or, when
 * it holds a bare CR, bare LF or NUL, not at all; and nothing of it is ever taken as a command.
 */
#include "fuzz.h"

#include "proto/smtp_cli.h"
#include "proto/smtp_srv.h"

struct pair {
    struct smtp_srv *srv;
    struct smtp_cli *cli;
    struct buf back, body;
    struct sv message;
    size_t give, feed;
    unsigned messages, mails, begun;
    bool aborted, closed;
};

static bool srv_step(struct pair *p)
{
    const struct smtp_srv_step s = smtp_srv_next(p->srv);
    switch (s.kind) {
    case SRV_SEND:
        (void)buf_append_sv(&p->back, s.bytes);
        return true;
    case SRV_ASK_MAIL:
        p->mails++;
        smtp_srv_answer(p->srv, 250, "", SV("ok"));
        return true;
    case SRV_ASK_HELO:
    case SRV_ASK_RCPT:
        smtp_srv_answer(p->srv, 250, "", SV("ok"));
        return true;
    case SRV_ASK_DATA:
        smtp_srv_answer(p->srv, 354, "", SV("go"));
        return true;
    case SRV_BODY:
        (void)buf_append_sv(&p->body, s.bytes);
        return true;
    case SRV_ABORT_BODY:
        p->aborted = true;
        return true;
    case SRV_END_OF_BODY:
        p->messages++;
        smtp_srv_answer(p->srv, 250, "", SV("queued"));
        return true;
    case SRV_NEED_INPUT:
    case SRV_START_TLS:
    case SRV_ASK_AUTH:
    case SRV_CLOSE:
        break;
    }
    return false;
}

static void to_server(struct pair *p, struct sv bytes)
{
    while (bytes.n) {
        const size_t n = smtp_srv_feed(p->srv, sv_take(bytes, p->feed));
        CHECK(n > 0);
        bytes = sv_skip(bytes, n);
        while (srv_step(p))
            ;
    }
}

static bool cli_step(struct pair *p, const struct delivery *job)
{
    const struct smtp_cli_step s = smtp_cli_next(p->cli);
    switch (s.kind) {
    case CLI_SEND:
        to_server(p, s.bytes);
        return true;
    case CLI_NEED_INPUT:
        CHECK(p->back.n > 0);
        buf_consume(&p->back, smtp_cli_feed(p->cli, buf_sv(&p->back)));
        return true;
    case CLI_READY:
        if (p->begun++)
            return false;
        smtp_cli_begin(p->cli, job);
        return true;
    case CLI_NEED_BODY: {
        const struct sv part = sv_take(p->message, p->give);
        p->message = sv_skip(p->message, part.n);
        smtp_cli_body(p->cli, part, p->message.n == 0);
        return true;
    }
    case CLI_DONE:
        return true;
    case CLI_CLOSE:
        p->closed = true;
        return false;
    case CLI_START_TLS:
        break;
    }
    return false;
}

static void check(const struct pair *p, struct sv message)
{
    bool bare = false, nul = sv_find_byte(message, '\0') != SIZE_MAX;
    for (size_t i = 0; i < message.n; i++) {
        bare |= message.p[i] == '\r' && (i + 1 == message.n || message.p[i + 1] != '\n');
        bare |= message.p[i] == '\n' && (i == 0 || message.p[i - 1] != '\r');
    }
    CHECK(p->mails == 1);
    CHECK(p->messages == (bare || nul ? 0 : 1));
    CHECK(p->closed == bare);
    CHECK(p->aborted == (nul && !bare) || bare);
    if (bare || nul)
        return;
    const struct sv got = buf_sv(&p->body);
    CHECK(got.n == message.n || got.n == message.n + 2);
    CHECK(sv_eq(sv_take(got, message.n), message));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct rcpt rcpt = {.addr = SV("b@example.com")};
    const struct delivery job = {.sender = SV("a@example.org"), .rcpts = &rcpt, .n_rcpts = 1};
    const struct smtp_srv_config sc = {.hostname = SV("mx"), .max_size = 1 << 24};
    const struct smtp_cli_config cc = {.helo = SV("gw.example.org")};
    const struct sv message = sv_of((const char *)data + 2, size - 2);
    struct pair p = {.message = message,
                     .give = data[0] ? data[0] : SIZE_MAX,
                     .feed = data[1] ? data[1] : SIZE_MAX};
    buf_init(&p.back, 1 << 16);
    buf_init(&p.body, 1 << 24);
    CHECK(smtp_srv_new(&sc, &p.srv) == ERR_OK && smtp_cli_new(&cc, &p.cli) == ERR_OK);
    smtp_srv_greet(p.srv);
    while (srv_step(&p))
        ;
    while (cli_step(&p, &job))
        ;
    check(&p, message);
    smtp_srv_free(p.srv);
    smtp_cli_free(p.cli);
    buf_done(&p.back);
    buf_done(&p.body);
    return 0;
}
