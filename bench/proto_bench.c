/*
 * What the SMTP machines cost without sockets: one message's whole dialogue (MAIL, RCPT, DATA,
 * body, end), through the server machine alone, and through client and server machine back to back.
 *
 *   proto_bench [BYTES [ROUNDS]]
 */
#include "base/clock.h"
#include "proto/smtp_cli.h"
#include "proto/smtp_srv.h"
#include <stdio.h>
#include <stdlib.h>

static uint64_t body_bytes;

static bool srv_step(struct smtp_srv *s, struct buf *back)
{
    const struct smtp_srv_step step = smtp_srv_next(s);
    switch (step.kind) {
    case SRV_SEND:
        if (back)
            (void)buf_append_sv(back, step.bytes);
        return true;
    case SRV_ASK_HELO:
    case SRV_ASK_MAIL:
    case SRV_ASK_RCPT:
    case SRV_END_OF_BODY:
        smtp_srv_answer(s, 250, "2.0.0", SV("Ok"));
        return true;
    case SRV_ASK_DATA:
        smtp_srv_answer(s, 354, "", SV("End data with <CR><LF>.<CR><LF>"));
        return true;
    case SRV_BODY:
        body_bytes += step.bytes.n;
        return true;
    case SRV_ABORT_BODY:
        return true;
    case SRV_NEED_INPUT:
    case SRV_START_TLS:
    case SRV_ASK_AUTH:
    case SRV_CLOSE:
        break;
    }
    return false;
}

static void srv_input(struct smtp_srv *s, struct sv in, struct buf *back)
{
    while (in.n) {
        const size_t n = smtp_srv_feed(s, in);
        if (n == 0)
            abort();
        in = sv_skip(in, n);
        while (srv_step(s, back))
            ;
    }
}

static void server_alone(struct smtp_srv *s, struct sv message, uint64_t rounds)
{
    smtp_srv_greet(s);
    while (srv_step(s, NULL))
        ;
    srv_input(s, SV("EHLO client.example\r\n"), NULL);
    for (uint64_t i = 0; i < rounds; i++) {
        srv_input(s, SV("MAIL FROM:<a@example.org> SIZE=40\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"),
                  NULL);
        srv_input(s, message, NULL);
        srv_input(s, SV(".\r\n"), NULL);
    }
}

static void back_to_back(struct smtp_srv *s, struct smtp_cli *c, struct sv message, uint64_t rounds)
{
    struct rcpt rcpt = {.addr = SV("b@example.com")};
    const struct delivery job = {
        .sender = SV("a@example.org"), .size = message.n, .rcpts = &rcpt, .n_rcpts = 1};
    struct buf back;
    buf_init(&back, 1 << 20);
    smtp_srv_greet(s);
    while (srv_step(s, &back))
        ;
    for (uint64_t done = 0; done < rounds;) {
        const struct smtp_cli_step step = smtp_cli_next(c);
        if (step.kind == CLI_SEND) {
            srv_input(s, step.bytes, &back);
        } else if (step.kind == CLI_NEED_INPUT && back.n) {
            buf_consume(&back, smtp_cli_feed(c, buf_sv(&back)));
        } else if (step.kind == CLI_READY) {
            smtp_cli_begin(c, &job);
        } else if (step.kind == CLI_NEED_BODY) {
            smtp_cli_body(c, message, true);
        } else if (step.kind == CLI_DONE) {
            done++;
        } else {
            abort();
        }
    }
    buf_done(&back);
}

static void report(const char *name, int64_t ms, uint64_t rounds, struct sv message)
{
    (void)printf("%-14s %8.3f us a message, %8.1f MB/s\n", name, (double)ms * 1e3 / (double)rounds,
                 (double)(rounds * message.n) / 1e3 / (double)(ms ? ms : 1));
}

static void fill(char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        text[i] = i % 72 == 70 ? '\r' : i % 72 == 71 ? '\n' : 'a';
    text[n - 2] = '\r';
    text[n - 1] = '\n';
    if (text[n - 3] == '\r')
        text[n - 3] = 'a';
}

int main(int argc, char **argv)
{
    uint64_t bytes = 4096, rounds = 200000;
    struct smtp_srv *s = NULL, *s2 = NULL;
    struct smtp_cli *c = NULL;
    const struct smtp_srv_config sc = {.hostname = SV("mx.example.com"), .max_size = 1ULL << 40};
    const struct smtp_cli_config cc = {.helo = SV("gw.example.org")};
    if ((argc > 1 && !sv_to_u64(sv_str(argv[1]), 3, 1 << 30, &bytes)) ||
        (argc > 2 && !sv_to_u64(sv_str(argv[2]), 1, 1 << 30, &rounds)))
        return 64;
    char *text = malloc(bytes);
    if (!text || smtp_srv_new(&sc, &s) || smtp_srv_new(&sc, &s2) || smtp_cli_new(&cc, &c))
        return 70;
    fill(text, bytes);
    const struct sv message = sv_of(text, bytes);
    int64_t start = clock_now().mono_ms;
    server_alone(s, message, rounds);
    report("server", clock_now().mono_ms - start, rounds, message);
    start = clock_now().mono_ms;
    back_to_back(s2, c, message, rounds);
    report("client+server", clock_now().mono_ms - start, rounds, message);
    smtp_srv_free(s);
    smtp_srv_free(s2);
    smtp_cli_free(c);
    free(text);
    return body_bytes == 2 * rounds * bytes ? 0 : 1;
}
