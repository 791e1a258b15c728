/* Random fields become a report whose lines are safe and of which a sealed form leaks nothing. The
 * input is cut at 0xff bytes: flags, then texts in the order of use below. */
#include "fuzz.h"

#include "codec/dsn.h"

#define BOUNDARY "=_fuzz-b0undary"
#define SECRET   "SECRET"

static void require(bool ok)
{
    if (!ok)
        abort();
}

static size_t count(struct sv hay, struct sv needle)
{
    size_t n = 0;

    for (size_t at; (at = sv_find(hay, needle)) != SIZE_MAX; n++)
        hay = sv_skip(hay, at + needle.n);
    return n;
}

static void check(const struct dsn_in *in, struct sv out)
{
    require(count(out, SV("\r\n--" BOUNDARY "--\r\n")) == 1);
    require(count(out, SV("\r\n--" BOUNDARY "\r\n")) <= 3);
    while (out.n) {
        struct sv line = sv_cut(&out, '\n');

        require(line.n && line.p[line.n - 1] == '\r' && line.n <= 1500);
        require(sv_find_byte(sv_take(line, line.n - 1), '\r') == SIZE_MAX);
        /* Of a sealed message's remote reply only the codes are shown; of its body, nothing. */
        require(!in->sealed || sv_find(line, SV(SECRET)) == SIZE_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sv rest = sv_of((const char *)data, size);
    struct sv flags = sv_cut(&rest, '\xff');
    uint8_t bits = flags.n ? (uint8_t)flags.p[0] : 0;
    struct dsn_rcpt r = {.rcpt = {.addr = sv_cut(&rest, '\xff'), .orcpt = sv_cut(&rest, '\xff')},
                         .action = bits & 3,
                         .status = sv_cut(&rest, '\xff'),
                         .remote_mta = sv_cut(&rest, '\xff'),
                         .human = sv_cut(&rest, '\xff'),
                         .last_attempt_ms = bits & 4 ? 1 : 0,
                         .will_retry_until_ms = bits & 8 ? INT64_MAX : INT64_MIN};
    struct envelope env = {.sender = SV("a@example.com"),
                           .ret = bits >> 6,
                           .envid = sv_cut(&rest, '\xff'),
                           .message_id = sv_cut(&rest, '\xff')};
    struct dsn_in in = {.env = &env,
                        .rcpts = &r,
                        .n_rcpts = 1,
                        .reporting_mta = SV("gw.example"),
                        .from = SV("mailer-daemon@gw.example"),
                        .notice = sv_cut(&rest, '\xff'),
                        .message_id = SV("<1@gw.example>"),
                        .boundary = SV(BOUNDARY),
                        .sealed = (bits & 16) != 0,
                        .headers_only = (bits & 32) != 0};
    struct buf out, body;

    buf_init(&out, 4U << 20);
    buf_init(&body, 2U << 20);
    r.diagnostic = SV("550 5.1.1 " SECRET);
    (void)buf_append_sv(&body, SV("Subject: " SECRET "\r\nCc: " SECRET "\r\n"));
    if (sv_find(sv_of((const char *)data, size), SV(SECRET)) == SIZE_MAX)
        (void)buf_append_sv(&body, rest);
    (void)buf_append_sv(&body, SV("\r\n\r\n" SECRET "\r\n"));
    in.original = buf_sv(&body);
    bool clean = sv_find(sv_of((const char *)data, size), SV(SECRET)) == SIZE_MAX;
    enum err e = clean ? dsn_build(&in, &out) : ERR_CONFLICT;
    require(e == ERR_OK || e == ERR_CONFLICT);
    if (e == ERR_OK)
        check(&in, buf_sv(&out));
    buf_done(&body);
    buf_done(&out);
    return 0;
}
