/*
 * Plays the dialogue files of a folder against the server machine in memory: whole, and with the
 * input one byte at a time. The language is described in tests/dialogue/README.md.
 *
 *   dialogue_test FOLDER | FILE...
 */
#include "proto/testkit.h"
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

struct player {
    const char *file;
    uint32_t line;
    size_t piece;
    bool started, whole, policy, failed;
    struct smtp_srv_config config;
    bool relay;
    struct kit kit;
    struct buf input; /* what the client sends at the next turn */
    struct buf reply; /* the reply read last */
};

static void complain(struct player *p, const char *what, struct sv detail)
{
    (void)fprintf(stderr, "%s:%u: %s: %.*s (piece %zu)\n", p->file, p->line, what, SV_ARG(detail),
                  p->piece);
    p->failed = true;
}

static void start(struct player *p)
{
    if (p->started)
        return;
    p->started = true;
    kit_init(&p->kit, &p->config);
    p->kit.relay = p->relay;
}

static void flush(struct player *p)
{
    start(p);
    const size_t n = kit_input(&p->kit, buf_sv(&p->input), p->piece);
    if (n < p->input.n && !p->kit.closed)
        complain(p, "the server takes no more input", SV(""));
    buf_reset(&p->input);
}

/* -- directives ------------------------------------------------------------------------------ */

static bool set_flag(struct player *p, struct sv key, bool on)
{
    const struct {
        struct sv key;
        bool *where;
    } flags[] = {{SV("relay"), &p->relay},
                 {SV("tls"), &p->config.tls_offer},
                 {SV("require-tls"), &p->config.require_tls},
                 {SV("auth"), &p->config.auth_offer},
                 {SV("require-auth"), &p->config.require_auth},
                 {SV("implicit-tls"), &p->config.tls_on},
                 {SV("policy"), &p->policy},
                 {SV("whole"), &p->whole}};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (sv_eq(key, flags[i].key)) {
            *flags[i].where = on;
            return true;
        }
    return false;
}

static bool set_number(struct player *p, struct sv key, uint64_t v)
{
    const struct {
        struct sv key;
        uint32_t *where;
    } numbers[] = {{SV("max-rcpts"), &p->config.max_rcpts},
                   {SV("max-messages"), &p->config.max_messages},
                   {SV("max-errors"), &p->config.max_errors},
                   {SV("max-auth-failures"), &p->config.max_auth_failures}};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (sv_eq(key, numbers[i].key)) {
            *numbers[i].where = (uint32_t)v;
            return true;
        }
    if (sv_eq(key, SV("max-size")))
        p->config.max_size = v;
    else if (sv_eq(key, SV("max-session")))
        p->config.max_session = v;
    else
        return false;
    return true;
}

static void directive(struct player *p, struct sv line)
{
    struct sv value = sv_skip(line, 1);
    const struct sv key = sv_cut(&value, ' ');
    uint64_t number;
    value = sv_trim(value);
    bool ok = sv_eq(key, SV("skip"));
    if (sv_eq(value, SV("yes")) || sv_eq(value, SV("no")))
        ok = set_flag(p, key, sv_eq(value, SV("yes")));
    else if (sv_to_u64(value, 0, UINT32_MAX, &number))
        ok = set_number(p, key, number);
    if (!ok || p->started)
        complain(p, "bad directive", line);
}

/* -- client lines ---------------------------------------------------------------------------- */

static int hex(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = strchr(digits, c);
    return c && at ? (int)(at - digits) : -1;
}

/* \(COUNT CHAR): returns bytes read, 0 = malformed. */
static size_t repeat(struct player *p, struct sv v)
{
    const size_t blank = sv_find_byte(v, ' ');
    uint64_t count;
    if (blank == SIZE_MAX || blank + 2 >= v.n || v.p[blank + 2] != ')' ||
        !sv_to_u64(sv_take(v, blank), 1, 1 << 20, &count))
        return 0;
    for (uint64_t i = 0; i < count; i++)
        (void)buf_append_byte(&p->input, v.p[blank + 1]);
    return blank + 3;
}

/* One escape behind the backslash: returns bytes read, 0 = malformed. */
static size_t escape(struct player *p, struct sv v)
{
    static const char names[] = "rnt0\\", values[] = "\r\n\t\0\\";
    if (v.n == 0)
        return 0;
    const char *at = v.p[0] ? strchr(names, v.p[0]) : NULL;
    if (at) {
        (void)buf_append_byte(&p->input, values[at - names]);
        return 1;
    }
    if (v.p[0] == 'x' && v.n >= 3 && hex(v.p[1]) >= 0 && hex(v.p[2]) >= 0) {
        (void)buf_append_byte(&p->input, (char)(hex(v.p[1]) * 16 + hex(v.p[2])));
        return 3;
    }
    const size_t n = v.p[0] == '(' ? repeat(p, sv_skip(v, 1)) : 0;
    return n ? n + 1 : 0;
}

static void raw(struct player *p, struct sv v)
{
    while (v.n) {
        if (v.p[0] != '\\') {
            (void)buf_append_byte(&p->input, v.p[0]);
            v = sv_skip(v, 1);
            continue;
        }
        const size_t n = escape(p, sv_skip(v, 1));
        if (n == 0) {
            complain(p, "bad escape", v);
            return;
        }
        v = sv_skip(v, n + 1);
    }
}

/* -- server lines ---------------------------------------------------------------------------- */

static void expect_reply(struct player *p, struct sv want)
{
    flush(p);
    buf_reset(&p->reply);
    if (!kit_reply(&p->kit, &p->reply)) {
        complain(p, "no reply, wanted", want);
        return;
    }
    const struct sv got = buf_sv(&p->reply);
    const struct sv code = sv_take(want, 3), text = sv_skip(want, 4);
    if (got.n < 4 || !sv_eq(sv_take(got, 3), code) || !sv_starts(sv_skip(got, 4), text))
        complain(p, "got", got);
}

static bool reply_has(const struct player *p, struct sv prefix)
{
    struct sv rest = buf_sv(&p->reply);
    while (rest.p && rest.n) {
        const struct sv line = sv_cut(&rest, '\n');
        if (line.n > 4 && sv_starts_nocase(sv_skip(line, 4), prefix))
            return true;
    }
    return false;
}

static void expect_hangup(struct player *p)
{
    flush(p);
    if (p->kit.out.n)
        complain(p, "a reply instead of the end", buf_sv(&p->kit.out));
    if (!p->kit.closed)
        complain(p, "not closed", SV(""));
}

static void do_tls(struct player *p)
{
    flush(p);
    if (p->kit.tls_due)
        kit_tls(&p->kit);
    else
        complain(p, "no handshake is due", SV(""));
}

static void expect_messages(struct player *p, struct sv arg)
{
    uint64_t n;
    flush(p);
    if (!sv_to_u64(arg, 0, 1000, &n) || n != p->kit.messages)
        complain(p, "another number of messages, not", arg);
}

static bool cut_prefix(struct sv *line, struct sv prefix)
{
    if (!sv_starts(*line, prefix))
        return false;
    *line = sv_skip(*line, prefix.n);
    return true;
}

static void play_line(struct player *p, struct sv line)
{
    if (line.n == 0 || line.p[0] == '#' || sv_starts(line, SV("S/")))
        return;
    if (line.p[0] == '@') {
        directive(p, line);
        return;
    }
    start(p);
    if (cut_prefix(&line, SV("C: ")) || cut_prefix(&line, SV("C:"))) {
        (void)buf_append_sv(&p->input, line);
        (void)buf_append_sv(&p->input, SV("\r\n"));
    } else if (cut_prefix(&line, SV("R: "))) {
        raw(p, line);
    } else if (cut_prefix(&line, SV("S: "))) {
        expect_reply(p, line);
    } else if (cut_prefix(&line, SV("S has: "))) {
        if (!reply_has(p, line))
            complain(p, "the reply lacks", line);
    } else if (cut_prefix(&line, SV("S lacks: "))) {
        if (reply_has(p, line))
            complain(p, "the reply has", line);
    } else if (cut_prefix(&line, SV("messages "))) {
        expect_messages(p, line);
    } else if (sv_eq(line, SV("tls"))) {
        do_tls(p);
    } else if (sv_eq(line, SV("hangup"))) {
        expect_hangup(p);
    } else {
        complain(p, "what is this", line);
    }
}

static bool play(const char *file, struct sv text, size_t piece)
{
    struct player p = {.file = file, .piece = piece, .config = kit_config()};
    buf_init(&p.input, 1 << 22);
    buf_init(&p.reply, 1 << 16);
    while (text.p && !p.failed && !(piece && p.whole)) {
        p.line++;
        play_line(&p, sv_cut(&text, '\n'));
    }
    if (!p.failed && !(piece && p.whole)) {
        flush(&p);
        if (p.kit.out.n)
            complain(&p, "left over", buf_sv(&p.kit.out));
    }
    if (p.started)
        kit_done(&p.kit);
    buf_done(&p.input);
    buf_done(&p.reply);
    return !p.failed;
}

static bool play_file(const char *file)
{
    static char text[1 << 18];
    FILE *f = fopen(file, "r");
    const size_t n = f ? fread(text, 1, sizeof text, f) : 0;
    if (f)
        (void)fclose(f);
    if (n == 0 || n == sizeof text) {
        (void)fprintf(stderr, "%s: cannot be read\n", file);
        return false;
    }
    const bool whole = play(file, sv_of(text, n), 0);
    return play(file, sv_of(text, n), 1) && whole;
}

int main(int argc, char **argv)
{
    unsigned bad = 0, all = 0;
    for (int i = 1; i < argc; i++) {
        char pattern[4096];
        glob_t found;
        (void)snprintf(pattern, sizeof pattern, "%s%s", argv[i],
                       sv_ends_nocase(sv_str(argv[i]), SV(".smtp")) ? "" : "/*.smtp");
        if (glob(pattern, 0, NULL, &found) != 0)
            continue;
        for (size_t j = 0; j < found.gl_pathc; j++, all++)
            bad += !play_file(found.gl_pathv[j]);
        globfree(&found);
    }
    (void)printf("%u dialogues, %u failed\n", all, bad);
    return bad || !all;
}
