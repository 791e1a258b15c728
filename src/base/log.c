/*
 * The one place that writes log lines. Everything it needs (time zone, journal socket) is opened by
 * log_init: the sandbox forbids opening later. State is per process: no threads log.
 *
 * SECURITY: values come from the network. Control bytes, quotes and invalid UTF-8 are escaped here,
 * so that no value can forge a line, a field or a terminal sequence.
 */
#include "base/log.h"
#include "base/clock.h"
#include "base/utf8.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A text line stays below PIPE_BUF, so that lines of several processes on one pipe never mix. */
#define TEXT_MAX    ((size_t)1600)
#define KV_MAX      ((size_t)2000)
#define FIELDS_MAX  ((size_t)4000)
#define VALUE_MAX   ((size_t)512)
#define LINE_MAX_   ((size_t)12000)
#define WRITE_MAX   ((size_t)4096)
#define FLUSH_AT    ((size_t)16 * 1024)
#define PENDING_MAX ((size_t)256 * 1024)

static struct {
    enum log_format format;
    enum log_level level;
    char role[32], host[256];
    int journal; /* connected datagram socket or -1 */
    int fd;
    struct buf pending;
    uint64_t dropped;
    time_t second; /* of stamp */
    char stamp[32];
    int pid;
} state = {.level = LOG_INFO, .journal = -1, .fd = STDERR_FILENO, .role = "?", .host = "?"};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

static int journal_open(void)
{
    static const struct sockaddr_un to = {AF_UNIX, "/run/systemd/journal/socket"};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

void log_init(enum log_format format, const char *role, const char *host)
{
    tzset(); /* reads /etc/localtime now */
    state.pid = (int)getpid();
    state.second = 0;
    state.format = format;
    (void)snprintf(state.role, sizeof(state.role), "%s", role);
    (void)snprintf(state.host, sizeof(state.host), "%s", host);
    if (!state.pending.max)
        buf_init(&state.pending, PENDING_MAX);
    if (format == LOG_JOURNAL && state.journal < 0)
        state.journal = journal_open();
    if (format == LOG_JOURNAL && state.journal < 0)
        state.format = LOG_TEXT;
}

void log_set_fd(int fd)
{
    state.fd = fd;
}

void log_set_journal(int fd)
{
    state.journal = fd;
}

void log_set_level(enum log_level level)
{
    state.level = level;
}

bool log_level_parse(struct sv name, enum log_level *out_level)
{
    for (unsigned i = 0; i < ARRAY_LEN(level_names); i++)
        if (sv_eq_nocase(name, sv_str(level_names[i]))) {
            *out_level = (enum log_level)i;
            return true;
        }
    return false;
}

struct log_line log_begin(enum log_level level, const char *event)
{
    struct log_line l = {.event = event, .level = level, .on = level <= state.level};

    buf_init(&l.text, TEXT_MAX);
    buf_init(&l.kv, KV_MAX);
    buf_init(&l.fields, FIELDS_MAX);
    return l;
}

void log_as(struct log_line *l, const char *program)
{
    l->program = program;
}

static bool plain(uint32_t cp)
{
    return cp >= 0x20 && cp != 0x7f && !(cp >= 0x80 && cp < 0xa0) && cp != 0x2028 && cp != 0x2029 &&
           !(cp >= 0x202a && cp <= 0x202e) && !(cp >= 0x2066 && cp <= 0x2069);
}

/* Bytes at the front that need no look at Unicode: printable ASCII besides quote and backslash. */
static size_t plain_run(struct sv v)
{
    size_t n = 0;

    while (n < v.n && v.p[n] >= ' ' && v.p[n] <= '~' && v.p[n] != '"' && v.p[n] != '\\')
        n++;
    return n;
}

/* Appends v with every byte that is not plain as \xHH; quote: also escapes " and \. */
static void put_text(struct buf *out, struct sv v, bool quote)
{
    while (v.n) {
        uint32_t cp = 0;
        size_t len = plain_run(v);

        (void)buf_append_sv(out, sv_take(v, len));
        v = sv_skip(v, len);
        if (v.n == 0)
            return;
        len = utf8_next(v, &cp);
        if (len == 0 || !plain(cp)) {
            len = len ? len : 1;
            for (size_t i = 0; i < len; i++)
                (void)buf_printf(out, "\\x%02x", (unsigned)(uint8_t)v.p[i]);
        } else {
            if (quote && (cp == '"' || cp == '\\'))
                (void)buf_append_byte(out, '\\');
            (void)buf_append_sv(out, sv_take(v, len));
        }
        v = sv_skip(v, len);
    }
}

static void put_json(struct buf *out, struct sv v)
{
    (void)buf_append_byte(out, '"');
    while (v.n) {
        uint32_t cp = 0;
        size_t run = plain_run(v);

        (void)buf_append_sv(out, sv_take(v, run));
        v = sv_skip(v, run);
        if (v.n == 0)
            break;
        size_t len = utf8_next(v, &cp);
        if (len == 0)
            (void)buf_append_sv(out, SV("\\ufffd"));
        else if (cp == '"' || cp == '\\')
            (void)buf_printf(out, "\\%c", (char)cp);
        else if (!plain(cp))
            (void)buf_printf(out, "\\u%04x", cp);
        else
            (void)buf_append_sv(out, sv_take(v, len));
        v = sv_skip(v, len ? len : 1);
    }
    (void)buf_append_byte(out, '"');
}

static bool needs_quotes(struct sv v)
{
    for (size_t i = 0; i < v.n; i++) {
        uint8_t c = (uint8_t)v.p[i];

        if (c <= ' ' || c == '"' || c == '\\' || c == '=' || c >= 0x7f)
            return true;
    }
    return v.n == 0;
}

/* A pair that does not fit is dropped whole. */
static void unless_full(struct buf *b, size_t before)
{
    if (b->overflow)
        b->n = before;
    b->overflow = false;
}

static void put_journal_field(struct buf *out, const char *key, struct sv value)
{
    (void)buf_append_sv(out, SV("POSTSEAL_"));
    for (const char *k = key; *k; k++) {
        bool word = (*k >= 'a' && *k <= 'z') || (*k >= '0' && *k <= '9');

        (void)buf_append_byte(out, *k >= 'a' && *k <= 'z' ? (char)(*k - 'a' + 'A')
                                   : word                 ? *k
                                                          : '_');
    }
    (void)buf_append_byte(out, '=');
    put_text(out, value, false);
    (void)buf_append_byte(out, '\n');
}

static void put_pair(struct log_line *l, const char *key, struct sv value, bool number)
{
    size_t before = l->kv.n, before_fields = l->fields.n;

    if (!l->on)
        return;
    if (state.format == LOG_JSON) {
        (void)buf_printf(&l->kv, ",\"%s\":", key);
        if (number)
            (void)buf_append_sv(&l->kv, value);
        else
            put_json(&l->kv, value);
    } else {
        bool quote = needs_quotes(value);

        (void)buf_printf(&l->kv, quote ? " %s=\"" : " %s=", key);
        put_text(&l->kv, value, quote);
        if (quote)
            (void)buf_append_byte(&l->kv, '"');
    }
    unless_full(&l->kv, before);
    if (state.format == LOG_JOURNAL)
        put_journal_field(&l->fields, key, value);
    unless_full(&l->fields, before_fields);
}

void log_kv(struct log_line *l, const char *key, struct sv value)
{
    put_pair(l, key, sv_take(value, VALUE_MAX), false);
}

void log_kv_u64(struct log_line *l, const char *key, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    put_pair(l, key, sv_str(text), true);
}

PRINTF(2, 0)
static void text_append(struct log_line *l, const char *fmt, va_list ap)
{
    char room[TEXT_MAX];
    int n = l->on ? vsnprintf(room, sizeof(room), fmt, ap) : 0;
    size_t len = n < 0 ? 0 : (size_t)n < sizeof(room) ? (size_t)n : sizeof(room) - 1;

    (void)buf_append_sv(&l->text, sv_take(sv_of(room, len), TEXT_MAX - l->text.n));
}

void log_text(struct log_line *l, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    text_append(l, fmt, ap);
    va_end(ap);
}

/* "Nov 24 05:36:00 HOST postseal/ROLE[PID]: " as syslog writes it, in local time. The broken-down
 * time is kept for a second: it costs more than the rest of the line. */
static void put_syslog_head(struct buf *out, const char *program, int64_t wall_ms)
{
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t t = (time_t)(wall_ms / 1000);

    if (t != state.second) {
        struct tm tm = {0};

        (void)localtime_r(&t, &tm);
        (void)snprintf(state.stamp, sizeof(state.stamp), "%s %2d %02d:%02d:%02d",
                       months[tm.tm_mon % 12], tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
        state.second = t;
    }
    (void)buf_printf(out, "%s %s postseal/%s[%d]: ", state.stamp, state.host, program, state.pid);
}

static void format_text(const struct log_line *l, const char *program, struct buf *out)
{
    put_syslog_head(out, program, clock_now().wall_ms);
    if (l->level == LOG_ERROR || l->level == LOG_WARN)
        (void)buf_append_sv(out, l->level == LOG_ERROR ? SV("error: ") : SV("warning: "));
    put_text(out, buf_sv(&l->text), false);
    (void)buf_printf(out, "%sevent=%s", l->text.n ? " " : "", l->event);
    (void)buf_append_sv(out, buf_sv(&l->kv));
    (void)buf_append_byte(out, '\n');
}

static void format_json(const struct log_line *l, const char *program, struct buf *out)
{
    char iso[CLOCK_ISO_MAX];

    clock_iso(clock_now().wall_ms, iso);
    (void)buf_printf(out, "{\"time\":\"%s\",\"level\":\"%s\",\"host\":", iso,
                     level_names[l->level]);
    put_json(out, sv_str(state.host));
    (void)buf_printf(out, ",\"program\":\"postseal/%s\",\"pid\":%d,\"event\":\"%s\",\"message\":",
                     program, state.pid, l->event);
    put_json(out, buf_sv(&l->text));
    (void)buf_append_sv(out, buf_sv(&l->kv));
    (void)buf_append_sv(out, SV("}\n"));
}

static void format_journal(const struct log_line *l, const char *program, struct buf *out)
{
    static const int priority[] = {3, 4, 6, 7};

    (void)buf_printf(out, "PRIORITY=%d\nSYSLOG_IDENTIFIER=postseal/%s\nSYSLOG_PID=%d\n",
                     priority[l->level], program, state.pid);
    (void)buf_printf(out, "POSTSEAL_EVENT=%s\nMESSAGE=", l->event);
    put_text(out, buf_sv(&l->text), false);
    (void)buf_append_sv(out, buf_sv(&l->kv));
    (void)buf_append_byte(out, '\n');
    (void)buf_append_sv(out, buf_sv(&l->fields));
}

/* Bytes of whole lines at the front of pending, at most WRITE_MAX (or one long line). */
static size_t piece_len(void)
{
    struct sv v = buf_sv(&state.pending);
    size_t last = sv_rfind_byte(sv_take(v, WRITE_MAX), '\n');

    if (last == SIZE_MAX)
        last = sv_find_byte(v, '\n');
    return last == SIZE_MAX ? v.n : last + 1;
}

/* Never blocks for long: a reader that is stuck for 100 ms loses lines, mail goes on. */
static bool wait_writable(void)
{
    struct pollfd p = {.fd = state.fd, .events = POLLOUT};

    return poll(&p, 1, 100) == 1 && (p.revents & POLLOUT);
}

void log_flush(void)
{
    while (state.pending.n) {
        ssize_t n = write(state.fd, state.pending.p, piece_len());

        if (n > 0)
            buf_consume(&state.pending, (size_t)n);
        else if (errno == EAGAIN ? !wait_writable() : errno != EINTR)
            break;
    }
}

static void emit(struct sv line, bool now)
{
    if (state.format == LOG_JOURNAL && state.journal >= 0) {
        if (send(state.journal, line.p, line.n, MSG_NOSIGNAL) < 0)
            state.dropped++;
        return;
    }
    if (!state.pending.max)
        buf_init(&state.pending, PENDING_MAX);
    if (buf_append_sv(&state.pending, line)) {
        state.pending.overflow = false;
        state.dropped++;
    }
    if (now || state.pending.n >= FLUSH_AT)
        log_flush();
}

uint64_t log_dropped(void)
{
    return state.dropped;
}

void log_end(struct log_line *l)
{
    const char *program = l->program ? l->program : state.role;
    struct buf line;

    buf_init(&line, LINE_MAX_);
    if (l->on) {
        (void)buf_reserve(&line, 512);
        switch (state.format) {
        case LOG_TEXT:
            format_text(l, program, &line);
            break;
        case LOG_JSON:
            format_json(l, program, &line);
            break;
        case LOG_JOURNAL:
            format_journal(l, program, &line);
            break;
        }
        if (!line.overflow)
            emit(buf_sv(&line), l->level == LOG_ERROR);
        else
            state.dropped++;
    }
    buf_done(&line);
    buf_done(&l->text);
    buf_done(&l->kv);
    buf_done(&l->fields);
    l->on = false;
}

void log_msg(enum log_level level, const char *event, const char *fmt, ...)
{
    struct log_line l = log_begin(level, event);
    va_list ap;

    va_start(ap, fmt);
    text_append(&l, fmt, ap);
    va_end(ap);
    log_end(&l);
}
