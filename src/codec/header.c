/*
 * SECURITY: reads header sections of strangers. Raw bytes are only ever compared, counted and
 * passed on; copies kept for logs are bounded and hold no control byte.
 */
#include "codec/header.h"
#include "base/clock.h"
#include "base/enc.h"

static bool is_wsp(char c)
{
    return c == ' ' || c == '\t';
}

/* Bytes of the first line, its LF included. */
static size_t line_len(struct sv v)
{
    size_t lf = sv_find_byte(v, '\n');

    return lf == SIZE_MAX ? v.n : lf + 1;
}

static bool is_empty_line(struct sv line)
{
    return sv_eq(line, SV("\r\n")) || sv_eq(line, SV("\n"));
}

/* Splits raw at its colon; a raw that is no field gets the name "" and itself as value. White space
 * before the colon is obsolete (RFC 5322 4.5) but common among those who hide fields. */
static struct header_field field_split(struct sv raw)
{
    size_t colon = sv_find_byte(sv_take(raw, line_len(raw)), ':');
    struct header_field none = {raw, SV(""), raw};

    if (colon == SIZE_MAX)
        return none;
    struct sv name = sv_take(raw, colon);
    while (name.n && is_wsp(name.p[name.n - 1]))
        name.n--;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] < '!' || name.p[i] > '~')
            return none;
    return name.n ? (struct header_field){raw, name, sv_skip(raw, colon + 1)} : none;
}

bool header_next(struct sv *rest, struct header_field *out_field)
{
    size_t n = line_len(*rest);

    if (n == 0 || is_empty_line(sv_take(*rest, n)))
        return false;
    while (n < rest->n && is_wsp(rest->p[n]))
        n += line_len(sv_skip(*rest, n));
    *out_field = field_split(sv_take(*rest, n));
    *rest = sv_skip(*rest, n);
    return true;
}

bool header_find(struct sv message, struct sv name, struct header_field *out_field)
{
    struct header_field f;

    while (header_next(&message, &f))
        if (sv_eq_nocase(f.name, name)) {
            *out_field = f;
            return true;
        }
    return false;
}

/* Unfolding drops line ends only (RFC 5322 2.2.3); what is not printable becomes a space. */
enum err header_unfold(struct sv value, size_t max, struct buf *out)
{
    struct sv v = sv_trim(value);
    size_t room = max;

    for (size_t i = 0; i < v.n && room; i++) {
        char c = v.p[i];

        if (c == '\r' || c == '\n')
            continue;
        if ((uint8_t)c < ' ' || c == 0x7f)
            c = ' ';
        enum err e = buf_append_byte(out, c);
        if (e)
            return e;
        room--;
    }
    return ERR_OK;
}

/* ---- stream ---- */

void header_stream_init(struct header_stream *h, size_t max_total, struct sv trace_id)
{
    *h = (struct header_stream){.max_total = max_total, .trace_id = trace_id};
    buf_init(&h->line, max_total);
}

void header_stream_done(struct header_stream *h)
{
    buf_done(&h->line);
}

/* First value wins: what a reader is shown is the first field too. */
static void keep(struct sv value, char *out, size_t size)
{
    struct buf b;

    if (out[0])
        return;
    buf_init(&b, size);
    (void)header_unfold(value, size - 1, &b);
    if (b.n)
        memcpy(out, b.p, b.n);
    out[b.n] = '\0';
    buf_done(&b);
}

static bool is_own_trace(const struct header_stream *h, struct sv value)
{
    struct sv v = sv_trim(value);

    return h->trace_id.n && sv_eq(sv_cut(&v, ' '), h->trace_id);
}

/* Judges the gathered field and passes it on, unless it is one that must go. */
static enum err flush(struct header_stream *h, struct buf *out)
{
    struct header_field f = field_split(buf_sv(&h->line));
    enum err e = ERR_OK;

    if (sv_eq_nocase(f.name, SV("Received")))
        h->received++;
    else if (sv_eq_nocase(f.name, SV(TRACE_HEADER)) && is_own_trace(h, f.value))
        h->own_trace++;
    else if (sv_eq_nocase(f.name, SV("Message-ID")))
        keep(f.value, h->message_id, sizeof(h->message_id));
    else if (sv_eq_nocase(f.name, SV("Subject")))
        keep(f.value, h->subject, sizeof(h->subject));
    /* RFC 5322 3.6.3: blind copies stay blind, whoever forgot to remove the field. */
    if (!sv_eq_nocase(f.name, SV("Bcc")) && !sv_eq_nocase(f.name, SV("Resent-Bcc")))
        e = buf_append_sv(out, f.raw);
    /* A line that is no field begins the body of a message without empty line. The envelope line of
     * an mbox file may stand first. */
    bool mbox =
        h->total == h->line.n && (sv_starts(f.raw, SV("From ")) || sv_starts(f.raw, SV(">From ")));
    if (f.name.n == 0 && !mbox)
        h->done = true;
    buf_reset(&h->line);
    if (f.name.n && ++h->fields > HEADER_FIELDS_MAX) {
        h->too_many = h->too_large = true;
        return ERR_LIMIT;
    }
    return e;
}

static bool line_complete(const struct header_stream *h)
{
    return h->line.n && h->line.p[h->line.n - 1] == '\n';
}

/* The gathered line passes HEADER_FIELD_MAX with this piece: a field that is refused, or, without a
 * name so far, the first line of a body. Judged on the same bytes however the input was cut. */
static enum err overlong(struct header_stream *h, struct sv piece, struct sv *chunk,
                         struct buf *out)
{
    size_t room = HEADER_FIELD_MAX - h->line.n;
    enum err e = buf_append_sv(&h->line, sv_take(piece, room));

    if (e || field_split(buf_sv(&h->line)).name.n) {
        h->field_long = h->too_large = true;
        return ERR_LIMIT;
    }
    *chunk = sv_skip(*chunk, room);
    return flush(h, out);
}

/* Takes at most one line off *chunk. */
static enum err take_line(struct header_stream *h, struct sv *chunk, struct buf *out)
{
    if (line_complete(h) && !is_wsp(chunk->p[0]))
        return flush(h, out);
    struct sv piece = sv_take(*chunk, line_len(*chunk));
    size_t left = h->max_total - (h->total - h->line.n), n = h->line.n + piece.n;

    if (left >= HEADER_FIELD_MAX && n > HEADER_FIELD_MAX)
        return overlong(h, piece, chunk, out);
    if (n > left || buf_append_sv(&h->line, piece)) {
        h->too_large = true;
        return ERR_LIMIT;
    }
    h->total += piece.n;
    *chunk = sv_skip(*chunk, piece.n);
    if (!is_empty_line(buf_sv(&h->line)))
        return ERR_OK;
    h->done = true;
    enum err e = buf_append_sv(out, buf_sv(&h->line));
    buf_reset(&h->line);
    return e;
}

enum err header_stream_feed(struct header_stream *h, struct sv chunk, struct buf *out)
{
    while (chunk.n && !h->done && !h->too_large) {
        enum err e = take_line(h, &chunk, out);

        if (e)
            return e;
    }
    return h->too_large ? ERR_LIMIT : buf_append_sv(out, chunk);
}

enum err header_stream_end(struct header_stream *h, struct buf *out)
{
    if (h->too_large)
        return ERR_LIMIT;
    return h->line.n ? flush(h, out) : ERR_OK;
}

/* ---- trace fields ---- */

/* Peers choose these bytes: anything but a harmless set becomes '?'. */
static void put_word(struct buf *out, struct sv v, size_t max)
{
    for (size_t i = 0; i < v.n && i < max; i++) {
        char c = v.p[i];
        bool ok = c > ' ' && c <= '~' && !memchr("()<>\\;\",", c, 8);

        (void)buf_append_byte(out, ok ? c : '?');
    }
}

/* RFC 3848; HELO sessions are plain SMTP. */
static const char *protocol_name(const struct peer *p)
{
    bool tls = p->tls.version != 0, auth = p->auth_user.n != 0;

    if (tls)
        return auth ? "ESMTPSA" : "ESMTPS";
    if (auth)
        return "ESMTPA";
    return p->esmtp ? "ESMTP" : "SMTP";
}

static void put_from(struct buf *out, const struct peer *p)
{
    char ip[IP_TEXT_MAX];

    ip_format(&p->ip, ip);
    (void)buf_append_sv(out, SV("from "));
    put_word(out, p->helo.n ? p->helo : SV("unknown"), 255);
    (void)buf_append_sv(out, SV(" ("));
    put_word(out, p->rdns, 255);
    (void)buf_printf(out, "%s[%s%s])\r\n\t", p->rdns.n ? " " : "",
                     ip_is_v4(&p->ip) ? "" : "IPv6:", ip);
}

static void put_address(struct buf *out, struct sv addr)
{
    (void)buf_append_sv(out, SV("\r\n\tfor <"));
    for (size_t i = 0; i < addr.n && i < 255; i++)
        (void)buf_append_byte(out, addr.p[i] >= ' ' && addr.p[i] <= '~' ? addr.p[i] : '?');
    (void)buf_append_byte(out, '>');
}

enum err received_format(const struct envelope *env, struct sv hostname, struct sv trace_id,
                         struct buf *out)
{
    bool smtp = env->kind == MESSAGE_SMTP;
    char id[ID_TEXT_LEN + 1], date[CLOCK_RFC5322_MAX];

    id_format(env->id, id);
    clock_rfc5322(env->received_ms, date);
    (void)buf_append_sv(out, SV("Received: "));
    if (smtp)
        put_from(out, &env->peer);
    (void)buf_append_sv(out, SV("by "));
    put_word(out, hostname, 255);
    (void)buf_append_sv(out, SV(" (Postseal)"));
    if (smtp)
        (void)buf_printf(out, " with %s", protocol_name(&env->peer));
    (void)buf_printf(out, " id %s", id);
    if (env->n_rcpts == 1)
        put_address(out, env->rcpts[0].addr);
    if (smtp && env->peer.tls.version) {
        (void)buf_append_sv(out, SV("\r\n\ttls ")); /* RFC 8314 4.3 */
        put_word(out, env->peer.tls.cipher.n ? env->peer.tls.cipher : SV("unknown"), 100);
        (void)buf_printf(out, " (TLSv1.%d %u bits)", env->peer.tls.version - 0x0301,
                         (unsigned)env->peer.tls.bits);
    }
    (void)buf_printf(out, ";\r\n\t%s\r\n" TRACE_HEADER ": ", date);
    put_word(out, trace_id, 128);
    (void)buf_printf(out, " %s\r\n", id);
    return out->overflow ? ERR_LIMIT : ERR_OK;
}
