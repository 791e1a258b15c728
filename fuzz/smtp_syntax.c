/* One line, read as a command of a client and as a reply of a server. */
#include "fuzz.h"

#include "codec/mailaddr.h"
#include "codec/smtp_syntax.h"

static void require(bool ok)
{
    if (!ok)
        abort();
}

/* What is accepted may be written into commands, headers and logs. */
static void require_clean(struct sv v)
{
    for (size_t i = 0; i < v.n; i++)
        require(v.p[i] >= ' ' && v.p[i] <= '~');
}

static void try_mail(struct sv arg, struct arena *a)
{
    struct smtp_mail_args args;
    struct smtp_reply error = {0, NULL, NULL};

    if (smtp_parse_mail(arg, a, &args, &error)) {
        require(args.path.n == 0 || mailaddr_valid(args.path));
        require_clean(args.path);
        require_clean(args.envid);
        require_clean(args.auth);
    } else {
        require(error.code >= 400 && error.text && error.status);
    }
}

static void try_rcpt(struct sv arg, struct arena *a)
{
    struct smtp_rcpt_args args;
    struct smtp_reply error = {0, NULL, NULL};

    if (smtp_parse_rcpt(arg, a, &args, &error)) {
        require(args.path.n > 0);
        require_clean(args.path);
        require_clean(args.orcpt);
        require(!(args.notify & NOTIFY_NEVER) || args.notify == NOTIFY_NEVER);
    } else {
        require(error.code >= 400 && error.text && error.status);
    }
}

static void try_xtext(struct sv v)
{
    struct buf raw, text, back;

    buf_init(&raw, 1U << 20);
    buf_init(&text, 4U << 20);
    buf_init(&back, 1U << 20);
    if (xtext_decode(v, &raw) == ERR_OK) {
        require(xtext_encode(buf_sv(&raw), &text) == ERR_OK);
        require(xtext_decode(buf_sv(&text), &back) == ERR_OK);
        require(sv_eq(buf_sv(&raw), buf_sv(&back)));
    }
    buf_done(&back);
    buf_done(&text);
    buf_done(&raw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sv line = sv_of((const char *)data, size), arg;
    struct smtp_reply_line reply;
    struct arena a;

    arena_init(&a, 1U << 16);
    (void)smtp_verb(line, &arg);
    try_mail(arg, &a);
    try_rcpt(arg, &a);
    try_xtext(arg);
    if (smtp_helo_valid(arg))
        require_clean(arg);
    if (smtp_parse_reply(line, &reply)) {
        require(reply.code >= 200 && reply.code < 600);
        require(reply.status.n == 0 || sv_starts(reply.text, reply.status));
    }
    arena_done(&a);
    return 0;
}
