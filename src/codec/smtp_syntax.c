/*
 * SECURITY: reads command lines of strangers and reply lines of servers. Nothing decoded from them
 * may hold a control byte: decoded values end up in headers, commands and delivery reports.
 */
#include "codec/smtp_syntax.h"
#include "codec/mailaddr.h"

#define XTEXT_MAX 1024 /* longer than any limit below */
#define ENVID_MAX 100  /* RFC 3461 4.4, encoded */
#define ORCPT_MAX 500  /* RFC 3461 4.2, encoded */

static const struct {
    const char *name;
    enum smtp_verb verb;
} verbs[] = {
    {"HELO", VERB_HELO},    {"EHLO", VERB_EHLO},    {"MAIL", VERB_MAIL},
    {"RCPT", VERB_RCPT},    {"DATA", VERB_DATA},    {"RSET", VERB_RSET},
    {"NOOP", VERB_NOOP},    {"VRFY", VERB_VRFY},    {"EXPN", VERB_EXPN},
    {"HELP", VERB_HELP},    {"QUIT", VERB_QUIT},    {"AUTH", VERB_AUTH},
    {"BDAT", VERB_BDAT},    {"ETRN", VERB_ETRN},    {"STARTTLS", VERB_STARTTLS},
    {"GET", VERB_HTTP},     {"POST", VERB_HTTP},    {"PUT", VERB_HTTP},
    {"HEAD", VERB_HTTP},    {"PRI", VERB_HTTP},     {"DELETE", VERB_HTTP},
    {"OPTIONS", VERB_HTTP}, {"CONNECT", VERB_HTTP}, {"TRACE", VERB_HTTP},
    {"PATCH", VERB_HTTP},
};

enum smtp_verb smtp_verb(struct sv line, struct sv *out_arg)
{
    struct sv rest = line;
    struct sv word = sv_trim(sv_cut(&rest, ' '));

    *out_arg = rest.p ? sv_trim(rest) : SV("");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (sv_eq_nocase(word, sv_str(verbs[i].name)))
            return verbs[i].verb;
    return VERB_UNKNOWN;
}

static bool refuse(struct smtp_reply *out, uint16_t code, const char *status, const char *text)
{
    *out = (struct smtp_reply){code, status, text};
    return false;
}

/* ---- xtext (RFC 3461 4) ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; /* lower case: seen in the wild */
}

/* One character at v -> *out; bytes taken, 0 = malformed. */
static size_t xtext_char(struct sv v, char *out)
{
    if (v.p[0] < '!' || v.p[0] > '~' || v.p[0] == '=')
        return 0;
    if (v.p[0] != '+') {
        *out = v.p[0];
        return 1;
    }
    int hi = v.n >= 3 ? hex_digit(v.p[1]) : -1, lo = v.n >= 3 ? hex_digit(v.p[2]) : -1;
    if (hi < 0 || lo < 0)
        return 0;
    *out = (char)(uint8_t)(hi << 4 | lo);
    return 3;
}

enum err xtext_decode(struct sv text, struct buf *out)
{
    size_t before = out->n;

    while (text.n) {
        char c = '\0';
        size_t n = xtext_char(text, &c);
        enum err e = n ? buf_append_byte(out, c) : ERR_SYNTAX;

        if (e) {
            out->n = before;
            return e;
        }
        text = sv_skip(text, n);
    }
    return ERR_OK;
}

enum err xtext_encode(struct sv bytes, struct buf *out)
{
    for (size_t i = 0; i < bytes.n; i++) {
        char c = bytes.p[i];
        bool plain = c >= '!' && c <= '~' && c != '+' && c != '=';
        enum err e =
            plain ? buf_append_byte(out, c) : buf_printf(out, "+%02X", (unsigned)(uint8_t)c);

        if (e)
            return e;
    }
    return ERR_OK;
}

static bool printable(struct sv v)
{
    for (size_t i = 0; i < v.n; i++)
        if (v.p[i] < ' ' || v.p[i] > '~')
            return false;
    return true;
}

/* Decoded printable copy in the arena. */
static bool xtext_arena(struct sv text, struct arena *a, struct sv *out)
{
    struct buf b;

    buf_init(&b, XTEXT_MAX);
    bool ok = xtext_decode(text, &b) == ERR_OK && printable(buf_sv(&b));
    struct sv copy = ok ? arena_sv(a, buf_sv(&b)) : SV_NULL;
    buf_done(&b);
    if (!copy.p)
        return false;
    *out = copy;
    return true;
}

/* ---- paths (RFC 5321 4.1.2) ---- */

/* Bytes up to the '>' that closes the path at v, quoted strings respected; SIZE_MAX = none. */
static size_t path_end(struct sv v)
{
    bool quoted = false;

    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] == '\\' && quoted)
            i++;
        else if (v.p[i] == '"')
            quoted = !quoted;
        else if (v.p[i] == '>' && !quoted)
            return i;
    }
    return SIZE_MAX;
}

/* "@a,@b:user@c" -> "user@c": source routes are read and ignored (RFC 5321 appendix C). A malformed
 * one stays, and fails as an address. */
static struct sv without_route(struct sv path)
{
    size_t colon = path.n && path.p[0] == '@' ? sv_find_byte(path, ':') : SIZE_MAX;

    if (colon == SIZE_MAX)
        return path;
    struct sv route = sv_take(path, colon);
    while (route.p) {
        struct sv hop = sv_cut(&route, ',');

        if (hop.n < 2 || hop.p[0] != '@' ||
            !(domain_valid(sv_skip(hop, 1)) || mailaddr_literal_valid(sv_skip(hop, 1))))
            return path;
    }
    return sv_skip(path, colon + 1);
}

/* "FROM:<path> params" -> path and params. Spaces behind the colon are tolerated. */
static bool cut_path(struct sv arg, struct sv keyword, struct sv *out_path, struct sv *out_params)
{
    if (!sv_starts_nocase(arg, keyword))
        return false;
    struct sv v = sv_skip(arg, keyword.n);
    while (v.n && v.p[0] == ' ')
        v = sv_skip(v, 1);
    if (v.n < 2 || v.p[0] != '<')
        return false;
    v = sv_skip(v, 1);
    size_t end = path_end(v);
    if (end == SIZE_MAX || (end + 1 < v.n && v.p[end + 1] != ' '))
        return false;
    *out_path = without_route(sv_take(v, end));
    *out_params = sv_skip(v, end + 1);
    return true;
}

static bool path_refuse(struct sv path, const char *status, const char *text,
                        struct smtp_reply *out)
{
    for (size_t i = 0; i < path.n; i++)
        if ((uint8_t)path.p[i] >= 0x80) /* RFC 6531 3.5 */
            return refuse(out, 553, "5.6.7", "Non-ASCII addresses are not supported");
    return refuse(out, path.n > MAILADDR_MAX ? 553 : 501, status, text);
}

/* ---- parameters (RFC 5321 4.1.2 esmtp-param) ---- */

struct param {
    struct sv key, value;
    bool has_value;
};

static bool param_key_char(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c == '-' && !first);
}

/* Takes the next parameter off *rest: 1 = taken, 0 = none left, -1 = malformed. */
static int param_next(struct sv *rest, struct param *out)
{
    struct sv word = SV("");

    while (rest->p && word.n == 0)
        word = sv_cut(rest, ' ');
    if (word.n == 0)
        return 0;
    size_t eq = sv_find_byte(word, '=');
    *out = (struct param){sv_take(word, eq), eq == SIZE_MAX ? SV("") : sv_skip(word, eq + 1),
                          eq != SIZE_MAX};
    if (out->key.n == 0 || (out->has_value && out->value.n == 0))
        return -1;
    for (size_t i = 0; i < out->key.n; i++)
        if (!param_key_char(out->key.p[i], i == 0))
            return -1;
    for (size_t i = 0; i < out->value.n; i++)
        if (out->value.p[i] < '!' || out->value.p[i] > '~' || out->value.p[i] == '=')
            return -1;
    return 1;
}

enum mail_param { MAIL_SIZE, MAIL_BODY, MAIL_RET, MAIL_ENVID, MAIL_AUTH, RCPT_NOTIFY, RCPT_ORCPT };

static const struct {
    const char *key;
    enum mail_param param;
    bool rcpt;
} params[] = {
    {"SIZE", MAIL_SIZE, false},   {"BODY", MAIL_BODY, false}, {"RET", MAIL_RET, false},
    {"ENVID", MAIL_ENVID, false}, {"AUTH", MAIL_AUTH, false}, {"NOTIFY", RCPT_NOTIFY, true},
    {"ORCPT", RCPT_ORCPT, true},
};

static bool size_param(struct sv v, struct smtp_mail_args *out)
{
    if (v.n > 20) /* RFC 1870 4 */
        return false;
    /* More than 64 bits say "larger than anything". */
    if (sv_to_u64(v, 0, UINT64_MAX, &out->size))
        return true;
    for (size_t i = 0; i < v.n; i++)
        if (v.p[i] < '0' || v.p[i] > '9')
            return false;
    out->size = UINT64_MAX;
    return v.n > 0;
}

static bool body_param(struct sv v, struct smtp_mail_args *out)
{
    if (!sv_eq_nocase(v, SV("7BIT")) && !sv_eq_nocase(v, SV("8BITMIME")))
        return false;
    out->body = v.p[0] == '7' ? BODY_7BIT : BODY_8BITMIME;
    return true;
}

static bool ret_param(struct sv v, struct smtp_mail_args *out)
{
    if (!sv_eq_nocase(v, SV("FULL")) && !sv_eq_nocase(v, SV("HDRS")))
        return false;
    out->ret = sv_eq_nocase(v, SV("FULL")) ? RET_FULL : RET_HDRS;
    return true;
}

static bool notify_param(struct sv v, struct smtp_rcpt_args *out)
{
    uint8_t bits = 0;

    while (v.p) {
        struct sv word = sv_cut(&v, ',');
        uint8_t bit = sv_eq_nocase(word, SV("NEVER"))     ? NOTIFY_NEVER
                      : sv_eq_nocase(word, SV("SUCCESS")) ? NOTIFY_SUCCESS
                      : sv_eq_nocase(word, SV("FAILURE")) ? NOTIFY_FAILURE
                      : sv_eq_nocase(word, SV("DELAY"))   ? NOTIFY_DELAY
                                                          : 0;

        if (!bit || (bits & bit))
            return false;
        bits |= bit;
    }
    if ((bits & NOTIFY_NEVER) && bits != NOTIFY_NEVER) /* RFC 3461 4.1: NEVER stands alone */
        return false;
    out->notify = bits;
    return true;
}

static bool atom_valid(struct sv v)
{
    for (size_t i = 0; i < v.n; i++)
        if (!param_key_char(v.p[i], i == 0))
            return false;
    return v.n > 0;
}

static bool orcpt_param(struct sv v, struct arena *a, struct smtp_rcpt_args *out)
{
    size_t semi = sv_find_byte(v, ';');
    struct sv addr;

    if (v.n > ORCPT_MAX || semi == SIZE_MAX || !atom_valid(sv_take(v, semi)) ||
        !xtext_arena(sv_skip(v, semi + 1), a, &addr) || addr.n == 0)
        return false;
    struct sv whole = arena_printf(a, "%.*s;%.*s", SV_ARG(sv_take(v, semi)), SV_ARG(addr));
    if (!whole.p)
        return false;
    out->orcpt = whole;
    return true;
}

static bool auth_param(struct sv v, struct arena *a, struct smtp_mail_args *out)
{
    if (sv_eq(v, SV("<>"))) {
        out->auth = SV("");
        return true;
    }
    return xtext_arena(v, a, &out->auth);
}

struct args {
    struct smtp_mail_args mail;
    struct smtp_rcpt_args rcpt;
};

static bool apply(enum mail_param param, struct sv v, struct arena *a, struct args *out)
{
    switch (param) {
    case MAIL_SIZE:
        return size_param(v, &out->mail);
    case MAIL_BODY:
        return body_param(v, &out->mail);
    case MAIL_RET:
        return ret_param(v, &out->mail);
    case MAIL_ENVID:
        return v.n <= ENVID_MAX && xtext_arena(v, a, &out->mail.envid);
    case MAIL_AUTH:
        return auth_param(v, a, &out->mail);
    case RCPT_NOTIFY:
        return notify_param(v, &out->rcpt);
    case RCPT_ORCPT:
        return orcpt_param(v, a, &out->rcpt);
    }
    return false;
}

/* Index into params, or SIZE_MAX. */
static size_t param_find(struct sv key, bool rcpt)
{
    for (size_t i = 0; i < ARRAY_LEN(params); i++)
        if (params[i].rcpt == rcpt && sv_eq_nocase(key, sv_str(params[i].key)))
            return i;
    return SIZE_MAX;
}

static bool apply_all(struct sv rest, bool rcpt, struct arena *a, struct args *out,
                      struct smtp_reply *out_error)
{
    struct param p;
    unsigned seen = 0;
    int more;

    while ((more = param_next(&rest, &p)) > 0) {
        size_t i = param_find(p.key, rcpt);

        if (i == SIZE_MAX)
            return refuse(out_error, 555, "5.5.4", "Unsupported parameter");
        if (seen & (1U << i))
            return refuse(out_error, 501, "5.5.4", "Parameter given twice");
        seen |= 1U << i;
        if ((!p.has_value || !apply(params[i].param, p.value, a, out)) && !a->overflow)
            return refuse(out_error, 501, "5.5.4", "Bad parameter value");
    }
    if (a->overflow)
        return refuse(out_error, 452, "4.3.1", "Out of memory");
    return more == 0 || refuse(out_error, 501, "5.5.4", "Bad parameter syntax");
}

bool smtp_parse_mail(struct sv arg, struct arena *a, struct smtp_mail_args *out_args,
                     struct smtp_reply *out_error)
{
    struct args args = {.mail = {.envid = SV(""), .auth = SV("")}};
    struct sv rest;

    if (!cut_path(arg, SV("FROM:"), &args.mail.path, &rest))
        return refuse(out_error, 501, "5.5.4", "Syntax: MAIL FROM:<address>");
    if (args.mail.path.n && !mailaddr_valid(args.mail.path))
        return path_refuse(args.mail.path, "5.1.7", "Bad sender address syntax", out_error);
    if (!apply_all(rest, false, a, &args, out_error))
        return false;
    *out_args = args.mail;
    return true;
}

bool smtp_parse_rcpt(struct sv arg, struct arena *a, struct smtp_rcpt_args *out_args,
                     struct smtp_reply *out_error)
{
    struct args args = {.rcpt = {.orcpt = SV("")}};
    struct sv rest;

    if (!cut_path(arg, SV("TO:"), &args.rcpt.path, &rest))
        return refuse(out_error, 501, "5.5.4", "Syntax: RCPT TO:<address>");
    /* RFC 5321 4.1.1.3: <Postmaster> without a domain */
    if (!mailaddr_valid(args.rcpt.path) && !sv_eq_nocase(args.rcpt.path, SV("postmaster")))
        return path_refuse(args.rcpt.path, "5.1.3", "Bad recipient address syntax", out_error);
    if (!apply_all(rest, true, a, &args, out_error))
        return false;
    *out_args = args.rcpt;
    return true;
}

/* Besides the RFC's forms: names with '_' and bare addresses, which real clients say. The name is
 * only ever written into the Received field and logs. */
bool smtp_helo_valid(struct sv arg)
{
    if (arg.n < 1 || arg.n > 255)
        return false;
    if (arg.p[0] == '[')
        return mailaddr_literal_valid(arg);
    for (size_t i = 0; i < arg.n; i++) {
        char c = arg.p[i];

        if (!param_key_char(c, false) && c != '.' && c != '_' && c != ':')
            return false;
    }
    return true;
}

/* ---- replies ---- */

static size_t digits(struct sv v)
{
    size_t n = 0;

    while (n < v.n && v.p[n] >= '0' && v.p[n] <= '9')
        n++;
    return n;
}

/* RFC 2034 4: class "." subject "." detail, class equal to the first digit of the code. */
static struct sv status_of(struct sv text, char class)
{
    struct sv v = text;

    if (v.n < 5 || v.p[0] != class || v.p[1] != '.')
        return SV("");
    v = sv_skip(v, 2);
    size_t subject = digits(v);
    if (subject < 1 || subject > 3 || subject >= v.n || v.p[subject] != '.')
        return SV("");
    v = sv_skip(v, subject + 1);
    size_t detail = digits(v);
    if (detail < 1 || detail > 3 || (detail < v.n && v.p[detail] != ' '))
        return SV("");
    return sv_take(text, 2 + subject + 1 + detail);
}

bool smtp_parse_reply(struct sv line, struct smtp_reply_line *out_line)
{
    uint64_t code;

    if (line.n < 3 || !sv_to_u64(sv_take(line, 3), 200, 599, &code))
        return false;
    if (line.n > 3 && line.p[3] != ' ' && line.p[3] != '-')
        return false;
    struct sv text = sv_skip(line, 4);
    *out_line = (struct smtp_reply_line){.code = (uint16_t)code,
                                         .last = line.n == 3 || line.p[3] == ' ',
                                         .status = status_of(text, line.p[0]),
                                         .text = text};
    return true;
}
