/*
 * The client machine against a hostile server: bytes 0 and 1 are the configuration, the rest is
 * what the server sends, fed piece by piece. Checks that each transaction ends with a result for
 * every recipient, that "delivered" comes with a 2xx reply to an end of data that was sent, that
 * nothing of the message leaves without TLS where it is required, and that secrets stay out of the
 * transcript.
 */
#include "fuzz.h"

#include "proto/smtp_cli.h"

struct run {
    struct smtp_cli *cli;
    struct buf sent;
    struct delivery job;
    unsigned begun;
    bool tls, required, ended, waits;
};

static void check_results(const struct run *r)
{
    uint32_t n;
    const struct smtp_cli_rcpt *rcpt = smtp_cli_results(r->cli, &n);
    CHECK(n == r->job.n_rcpts);
    for (uint32_t i = 0; i < n; i++) {
        CHECK(rcpt[i].result != RCPT_PENDING && memchr(rcpt[i].reply, 0, sizeof rcpt[i].reply));
        if (rcpt[i].result != RCPT_DELIVERED)
            continue;
        CHECK(rcpt[i].code >= 200 && rcpt[i].code < 300);
        CHECK(sv_ends_nocase(buf_sv(&r->sent), SV("\r\n.\r\n")));
    }
}

static void sent(struct run *r, struct sv bytes)
{
    CHECK(bytes.n > 0);
    (void)buf_append_sv(&r->sent, bytes);
    if (r->required && !r->tls)
        CHECK(sv_find(bytes, SV("MAIL")) == SIZE_MAX && sv_find(bytes, SV("AUTH")) == SIZE_MAX);
}

static bool step(struct run *r)
{
    const struct smtp_cli_step s = smtp_cli_next(r->cli);
    r->waits = s.kind == CLI_NEED_INPUT;
    switch (s.kind) {
    case CLI_NEED_INPUT:
        return false;
    case CLI_SEND:
        sent(r, s.bytes);
        return true;
    case CLI_START_TLS:
        r->tls = true;
        smtp_cli_tls_done(r->cli);
        return true;
    case CLI_READY:
        if (r->begun++ < 4) {
            buf_reset(&r->sent);
            smtp_cli_begin(r->cli, &r->job);
        } else {
            smtp_cli_quit(r->cli);
        }
        return true;
    case CLI_NEED_BODY:
        smtp_cli_body(r->cli, SV("Subject: x\r\n\r\n.dot\r\n"), true);
        return true;
    case CLI_DONE:
        check_results(r);
        return true;
    case CLI_CLOSE:
        r->ended = true;
        return false;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rcpt rcpts[] = {{.addr = {"a@example.net", 13}, .orcpt = {"rfc822;a+b@x", 12}},
                                  {.addr = {"b@example.net", 13}, .notify = NOTIFY_NEVER},
                                  {.addr = {"c>\r\n@example.net", 16}}};
    if (size < 2)
        return 0;
    const uint8_t flags = data[0];
    struct run r = {.required = flags & 2, .tls = flags & 4};
    const struct smtp_cli_config config = {.helo = SV("gw.example.com"),
                                           .want_tls = flags & 1,
                                           .require_tls = flags & 2,
                                           .tls_on = flags & 4,
                                           .auth_user = flags & 8 ? SV("user") : SV(""),
                                           .auth_password = SV("password")};
    r.job = (struct delivery){.sender = SV("s@example.com"),
                              .size = flags & 16 ? 2000 : 0,
                              .body_type = flags & 32 ? BODY_8BITMIME : BODY_7BIT,
                              .envid = SV("e=+"),
                              .ret = RET_FULL,
                              .rcpts = rcpts,
                              .n_rcpts = 1 + (flags >> 6)};
    if (r.job.n_rcpts > ARRAY_LEN(rcpts))
        r.job.n_rcpts = ARRAY_LEN(rcpts);
    buf_init(&r.sent, 1 << 22);
    CHECK(smtp_cli_new(&config, &r.cli) == ERR_OK);
    while (step(&r))
        ;
    struct sv in = sv_of((const char *)data + 2, size - 2);
    while (in.n && !r.ended) {
        const size_t n = smtp_cli_feed(r.cli, sv_take(in, 1 + data[1]));
        CHECK(n > 0);
        in = sv_skip(in, n);
        while (step(&r))
            ;
    }
    smtp_cli_lost(r.cli, FAILURE_NONE);
    while (step(&r))
        ;
    CHECK(r.ended);
    static const struct sv secret = {"AHVzZXIAcGFzc3dvcmQ", 19};
    if (sv_find(sv_of((const char *)data, size), secret) == SIZE_MAX) /* else the server said it */
        CHECK(sv_find(smtp_cli_transcript(r.cli), secret) == SIZE_MAX);
    CHECK(smtp_cli_transcript(r.cli).n <= 4096);
    smtp_cli_free(r.cli);
    buf_done(&r.sent);
    return 0;
}
