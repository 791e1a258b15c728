/*
 * SECURITY: everything quoted here was chosen by strangers: addresses, remote replies, the original
 * header section. Text is cut to printable ASCII before it becomes a header or body line; returned
 * headers that are not plain are quoted-printable; the boundary must not occur in the original. Of
 * a sealed message nothing but four header fields is ever returned.
 */
#include "codec/dsn.h"
#include "base/clock.h"
#include "base/enc.h"
#include "base/utf8.h"
#include "codec/header.h"
#include "codec/smtp_syntax.h"

#define LINE_WRAP  72U
#define TEXT_MAX   ((size_t)512)
#define LINE_LIMIT ((size_t)998) /* RFC 5321 4.5.3.1.6 without CRLF */

static void put(struct buf *out, const char *text)
{
    (void)buf_append_sv(out, sv_str(text));
}

/* Printable ASCII; anything else is a '?'. No line ends. */
static void put_safe(struct buf *out, struct sv v, size_t max)
{
    for (size_t i = 0; i < v.n && i < max; i++)
        (void)buf_append_byte(out, v.p[i] >= ' ' && v.p[i] <= '~' ? v.p[i] : '?');
}

static void put_date(struct buf *out, const char *name, int64_t ms)
{
    char date[CLOCK_RFC5322_MAX];

    clock_rfc5322(ms, date);
    (void)buf_printf(out, "%s: %s\r\n", name, date);
}

/* Words of text, broken at LINE_WRAP, each line behind indent; column is where the caller stands.
 */
static void put_words(struct buf *out, struct sv text, const char *indent, size_t column)
{
    struct sv rest = sv_take(text, TEXT_MAX);
    bool first = true;

    while (rest.p) {
        struct sv word = sv_trim(sv_cut(&rest, ' '));

        if (word.n == 0)
            continue;
        if (!first && column + 1 + word.n > LINE_WRAP) {
            put(out, "\r\n");
            put(out, indent);
            column = strlen(indent);
        } else if (!first) {
            put(out, " ");
            column++;
        }
        put_safe(out, word, TEXT_MAX);
        column += word.n;
        first = false;
    }
    put(out, "\r\n");
}

static void put_paragraph(struct buf *out, struct sv text, const char *indent)
{
    put(out, indent);
    put_words(out, text, indent, strlen(indent));
}

/* ---- status ---- */

static bool status_valid(struct sv s)
{
    struct sv rest = s, subject, detail;
    uint64_t n;

    if (s.n < 5 || (s.p[0] != '2' && s.p[0] != '4' && s.p[0] != '5') || s.p[1] != '.')
        return false;
    (void)sv_cut(&rest, '.');
    subject = sv_cut(&rest, '.');
    detail = rest;
    return subject.n <= 3 && detail.n <= 3 && sv_to_u64(subject, 0, 999, &n) &&
           sv_to_u64(detail, 0, 999, &n);
}

static struct sv status_of(const struct dsn_rcpt *r)
{
    if (status_valid(r->status))
        return r->status;
    switch ((enum dsn_action)r->action) {
    case DSN_FAILED:
        return SV("5.0.0");
    case DSN_DELAYED:
        return SV("4.0.0");
    case DSN_RELAYED:
    case DSN_DELIVERED:
        return SV("2.0.0");
    }
    return SV("5.0.0");
}

bool dsn_status_is_tls(struct sv status)
{
    static const char *const details[] = {".7.4",  ".7.5",  ".7.6", ".7.7",
                                          ".7.10", ".7.11", ".7.30"};

    for (size_t i = 0; i < ARRAY_LEN(details); i++)
        if (status_valid(status) && sv_eq(sv_skip(status, 1), sv_str(details[i])))
            return true;
    return false;
}

/* Words for a status when nobody gave better ones (RFC 3463, RFC 7505, RFC 7504). */
static struct sv status_words(struct sv status)
{
    static const struct {
        const char *tail, *words;
    } rows[] = {
        {".1.1", "There is no mailbox of that name at the recipient's domain."},
        {".1.2", "The recipient's domain does not exist."},
        {".1.3", "The recipient's address is not written correctly."},
        {".1.8", "The receiving server does not accept your address as a sender."},
        {".1.10", "The recipient's domain accepts no mail at all."},
        {".2.1", "The recipient's mailbox is disabled."},
        {".2.2", "The recipient's mailbox is full."},
        {".2.3", "The message is larger than the recipient's mailbox permits."},
        {".3.4", "The message is larger than the receiving server permits."},
        {".4.1", "The receiving server did not answer."},
        {".4.2", "The connection to the receiving server broke."},
        {".4.3", "The name service could not be asked for the recipient's domain."},
        {".4.4", "No mail server could be found for the recipient's domain."},
        {".4.7", "The message could not be delivered within the time set for it."},
        {".6.1", "The receiving server cannot take the characters of this message."},
        {".6.3", "The receiving server cannot take the characters of this message."},
        {".7.0", "The receiving server refused the message for reasons of security or policy."},
        {".7.1", "The receiving server refused the message for reasons of security or policy."},
        {".7.4", "The receiving server does not offer the protection that is required."},
        {".7.5", "The encrypted connection could not be made or is not trustworthy."},
        {".7.10", "The receiving server does not offer an encrypted connection."},
        {".7.30", "The receiving server cannot promise that the message stays encrypted."},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (sv_eq(sv_skip(status, 1), sv_str(rows[i].tail)))
            return sv_str(rows[i].words);
    return SV("No further reason is known.");
}

/* ---- the words a person reads ---- */

static const enum dsn_action actions[] = {DSN_FAILED, DSN_DELAYED, DSN_RELAYED, DSN_DELIVERED};

static uint32_t count_action(const struct dsn_in *in, enum dsn_action action)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < in->n_rcpts; i++)
        n += in->rcpts[i].action == action;
    return n;
}

struct action_words {
    const char *name, *subject, *intro;
};

static struct action_words action_words(enum dsn_action action)
{
    switch (action) {
    case DSN_FAILED:
        return (struct action_words){"failed", "Mail could not be delivered",
                                     "Your message could not be delivered to the recipients "
                                     "below. It will not be tried again."};
    case DSN_DELAYED:
        return (struct action_words){"delayed", "Mail is delayed (still being tried)",
                                     "Your message has not been delivered yet to the recipients "
                                     "below. This is only a warning: delivery is still being "
                                     "tried, and you need not send the message again."};
    case DSN_RELAYED:
        return (struct action_words){"relayed", "Mail was passed on",
                                     "Your message was handed to the next mail server for the "
                                     "recipients below. That server does not confirm delivery, "
                                     "so you will hear no more unless delivery fails."};
    case DSN_DELIVERED:
        return (struct action_words){"delivered", "Mail was delivered",
                                     "Your message was delivered to the recipients below."};
    }
    return (struct action_words){"failed", "", ""};
}

/* The remote reply as far as it may be shown: whole, or of a sealed message its codes. "" =
 * nothing. */
static struct sv reply_shown(const struct dsn_in *in, const struct dsn_rcpt *r, bool *out_smtp)
{
    struct smtp_reply_line line;
    struct sv d = sv_trim(r->diagnostic);

    *out_smtp = smtp_parse_reply(d, &line);
    if (!in->sealed)
        return sv_take(d, TEXT_MAX);
    return *out_smtp ? sv_take(d, line.status.n ? 4 + line.status.n : 3) : SV("");
}

static void put_tls_words(struct buf *out, const struct dsn_rcpt *r)
{
    put_paragraph(out,
                  SV("This message must travel over an encrypted connection (TLS), and such "
                     "a connection to the next mail server could not be had. It was not sent "
                     "without encryption. What failed:"),
                  "    ");
    put_paragraph(out, r->human.n ? r->human : status_words(r->status), "    ");
}

static void put_reason(const struct dsn_in *in, const struct dsn_rcpt *r, struct buf *out)
{
    bool smtp;
    struct sv reply = reply_shown(in, r, &smtp);

    if (dsn_status_is_tls(r->status))
        put_tls_words(out, r);
    else
        put_paragraph(out, r->human.n ? r->human : status_words(status_of(r)), "    ");
    if (r->action == DSN_DELAYED && r->will_retry_until_ms) {
        put(out, "    ");
        put_date(out, "It will be tried until", r->will_retry_until_ms);
    }
    if (!reply.n || !smtp)
        return;
    put(out, "    The server ");
    put_safe(out, r->remote_mta.n ? r->remote_mta : SV("there"), 255);
    put(out, " answered:\r\n");
    put_paragraph(out, reply, "      ");
}

static void put_recipients(const struct dsn_in *in, enum dsn_action action, struct buf *out)
{
    if (count_action(in, action) == 0)
        return;
    put_paragraph(out, sv_str(action_words(action).intro), "");
    for (uint32_t i = 0; i < in->n_rcpts; i++) {
        const struct dsn_rcpt *r = &in->rcpts[i];

        if (r->action != action)
            continue;
        put(out, "\r\n  <");
        put_safe(out, r->rcpt.addr, 255);
        put(out, ">\r\n");
        if (action == DSN_FAILED || action == DSN_DELAYED)
            put_reason(in, r, out);
    }
    put(out, "\r\n");
}

static void put_text_part(const struct dsn_in *in, struct buf *out)
{
    put(out, "Content-Type: text/plain; charset=us-ascii\r\n\r\nThis is the mail system at ");
    put_safe(out, in->reporting_mta, 255);
    put(out, ".\r\n\r\n");
    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        put_recipients(in, actions[i], out);
    /* Indented, so that no line of it can be taken for a boundary. */
    for (struct sv rest = in->notice; rest.n;)
        put_paragraph(out, sv_trim(sv_cut(&rest, '\n')), "  ");
    if (in->notice.n)
        put(out, "\r\n");
    if (in->sealed)
        put_paragraph(out,
                      SV("Because the message was to be encrypted, its content is not "
                         "returned here."),
                      "");
}

/* ---- message/delivery-status (RFC 3464 2) ---- */

static void put_field(struct buf *out, const char *name, struct sv value)
{
    if (!value.n)
        return;
    put(out, name);
    put_safe(out, value, TEXT_MAX);
    put(out, "\r\n");
}

static void put_status_rcpt(const struct dsn_in *in, const struct dsn_rcpt *r, struct buf *out)
{
    bool smtp;
    struct sv reply = reply_shown(in, r, &smtp);

    put(out, "\r\n");
    put_field(out, "Original-Recipient: ", r->rcpt.orcpt);
    put_field(out, "Final-Recipient: rfc822; ", r->rcpt.addr);
    (void)buf_printf(out, "Action: %s\r\n", action_words((enum dsn_action)r->action).name);
    put_field(out, "Status: ", status_of(r));
    put_field(out, "Remote-MTA: dns; ", r->remote_mta);
    if (reply.n) {
        const char *type = smtp ? "Diagnostic-Code: smtp; " : "Diagnostic-Code: X-Postseal; ";

        put(out, type);
        put_words(out, reply, " ", strlen(type));
    }
    if (r->last_attempt_ms)
        put_date(out, "Last-Attempt-Date", r->last_attempt_ms);
    if (r->action == DSN_DELAYED && r->will_retry_until_ms)
        put_date(out, "Will-Retry-Until", r->will_retry_until_ms);
}

static void put_status_part(const struct dsn_in *in, struct buf *out)
{
    char id[ID_TEXT_LEN + 1];

    id_format(in->env->id, id);
    put(out, "Content-Type: message/delivery-status\r\n\r\n");
    put_field(out, "Reporting-MTA: dns; ", in->reporting_mta);
    put_field(out, "Original-Envelope-Id: ", in->env->envid);
    put_field(out, "X-Postseal-Queue-Id: ", sv_str(id));
    put_date(out, "Arrival-Date", in->env->received_ms);
    for (uint32_t i = 0; i < in->n_rcpts; i++)
        put_status_rcpt(in, &in->rcpts[i], out);
}

/* ---- what is returned of the original ---- */

/* Only CRLF line ends, lines within LINE_LIMIT, no NUL: may be sent as 7bit or 8bit. */
static bool lines_fit(struct sv v)
{
    size_t column = 0;

    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] == '\r' && i + 1 < v.n && v.p[i + 1] == '\n') {
            i++;
            column = 0;
        } else if (v.p[i] == '\r' || v.p[i] == '\n' || v.p[i] == '\0' || ++column > LINE_LIMIT) {
            return false;
        }
    }
    return true;
}

/* Quoted-printable of lines (RFC 2045 6.7); bare CR and LF are encoded as bytes. */
static void put_qp(struct buf *out, struct sv v)
{
    size_t column = 0;

    for (size_t i = 0; i < v.n; i++) {
        char c = v.p[i];
        bool crlf = c == '\r' && i + 1 < v.n && v.p[i + 1] == '\n';
        bool eol_next = i + 1 == v.n || v.p[i + 1] == '\r';
        bool plain = (c > ' ' && c <= '~' && c != '=') || ((c == ' ' || c == '\t') && !eol_next);

        if (crlf) {
            put(out, "\r\n");
            column = 0;
            i++;
            continue;
        }
        if (column > 72) {
            put(out, "=\r\n");
            column = 0;
        }
        if (plain)
            (void)buf_append_byte(out, c);
        else
            (void)buf_printf(out, "=%02X", (unsigned)(uint8_t)c);
        column += plain ? 1 : 3;
    }
}

/* The header section, without the empty line. */
static struct sv section_of(struct sv message)
{
    struct sv rest = message;
    struct header_field f;

    while (header_next(&rest, &f))
        continue;
    return sv_take(message, message.n - rest.n);
}

static void put_headers(struct buf *out, struct sv headers)
{
    bool plain = sv_is_ascii(headers) && lines_fit(headers);

    put(out, "Content-Type: text/rfc822-headers\r\n");
    if (!plain)
        put(out, "Content-Transfer-Encoding: quoted-printable\r\n");
    put(out, "\r\n");
    if (plain)
        (void)buf_append_sv(out, headers);
    else
        put_qp(out, headers);
    if (out->n && out->p[out->n - 1] != '\n')
        put(out, "\r\n");
}

static enum err put_sealed_headers(const struct dsn_in *in, struct buf *out)
{
    static const char *const names[] = {"From", "To", "Date", "Message-ID"};
    struct buf kept;
    struct header_field f;

    buf_init(&kept, in->original.n + 128);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (header_find(in->original, sv_str(names[i]), &f)) {
            (void)buf_append_sv(&kept, f.raw);
            if (!sv_ends_nocase(f.raw, SV("\n")))
                put(&kept, "\r\n");
        }
    put(&kept, "Subject: (removed: the message was to be encrypted)\r\n");
    bool fits = !kept.overflow;
    if (fits)
        put_headers(out, buf_sv(&kept));
    buf_done(&kept);
    return fits ? ERR_OK : ERR_LIMIT;
}

static bool returns_whole(const struct dsn_in *in)
{
    return !in->sealed && !in->headers_only && in->env->ret != RET_HDRS &&
           count_action(in, DSN_FAILED) && section_of(in->original).n < in->original.n &&
           lines_fit(in->original);
}

static void put_whole(const struct dsn_in *in, struct buf *out)
{
    put(out, "Content-Type: message/rfc822\r\n");
    if (!sv_is_ascii(in->original))
        put(out, "Content-Transfer-Encoding: 8bit\r\n");
    put(out, "\r\n");
    (void)buf_append_sv(out, in->original);
    if (!sv_ends_nocase(in->original, SV("\r\n")))
        put(out, "\r\n");
}

static void put_boundary(const struct dsn_in *in, const char *tail, struct buf *out)
{
    put(out, "\r\n--"); /* the line end belongs to the boundary: the part keeps its own */
    (void)buf_append_sv(out, in->boundary);
    put(out, tail);
}

static enum err put_original(const struct dsn_in *in, struct buf *out)
{
    struct sv headers = section_of(in->original);

    if (!headers.n)
        return ERR_OK;
    put_boundary(in, "\r\n", out);
    if (in->sealed)
        return put_sealed_headers(in, out);
    if (returns_whole(in))
        put_whole(in, out);
    else
        put_headers(out, headers);
    return ERR_OK;
}

/* ---- the whole ---- */

static const char *subject_of(const struct dsn_in *in)
{
    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        if (count_action(in, actions[i]))
            return action_words(actions[i]).subject;
    return "Delivery report";
}

/* For threading; only a Message-ID that cannot break the line. */
static void put_in_reply_to(struct buf *out, struct sv id)
{
    if (id.n < 3 || id.n > 250 || id.p[0] != '<' || id.p[id.n - 1] != '>')
        return;
    for (size_t i = 0; i < id.n; i++)
        if (id.p[i] <= ' ' || id.p[i] > '~')
            return;
    put_field(out, "In-Reply-To: ", id);
}

static void put_head(const struct dsn_in *in, struct buf *out)
{
    put_date(out, "Date", in->now_ms);
    put(out, "From: Mail Delivery System <");
    put_safe(out, in->from, 255);
    put(out, ">\r\nTo: <");
    put_safe(out, in->env->sender, 255);
    (void)buf_printf(out, ">\r\nSubject: %s\r\n", subject_of(in));
    put_field(out, "Message-ID: ", in->message_id);
    put_in_reply_to(out, in->env->message_id);
    put(out, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n" /* RFC 3834 */
             "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"");
    (void)buf_append_sv(out, in->boundary);
    put(out, "\"\r\n");
    if (returns_whole(in) && !sv_is_ascii(in->original))
        put(out, "Content-Transfer-Encoding: 8bit\r\n");
    put(out, "\r\nThis is a delivery report in MIME format (RFC 3464).\r\n");
}

static bool boundary_valid(struct sv b)
{
    for (size_t i = 0; i < b.n; i++) {
        char c = b.p[i];

        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
              c == '-' || c == '_' || c == '=' || c == '.'))
            return false;
    }
    return b.n >= 1 && b.n <= 70; /* RFC 2046 5.1.1 */
}

enum err dsn_build(const struct dsn_in *in, struct buf *out_message)
{
    if (!in->env->sender.n)
        return ERR_DENIED;
    if (!boundary_valid(in->boundary) || in->n_rcpts == 0)
        return ERR_BUG;
    if (sv_find(in->original, in->boundary) != SIZE_MAX)
        return ERR_CONFLICT;
    put_head(in, out_message);
    put_boundary(in, "\r\n", out_message);
    put_text_part(in, out_message);
    put_boundary(in, "\r\n", out_message);
    put_status_part(in, out_message);
    enum err e = put_original(in, out_message);
    put_boundary(in, "--\r\n", out_message);
    return e ? e : out_message->overflow ? ERR_LIMIT : ERR_OK;
}
