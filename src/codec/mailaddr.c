/*
 * SECURITY: reads addresses as strangers write them. Strict grammar of RFC 5321 4.1.2 without the
 * obsolete forms; 8-bit and control bytes are never part of an address. A local part may be longer
 * than 64 bytes (RFC 5321 4.5.3.1 asks not to limit; VERP and SRS need it), the whole may not
 * exceed MAILADDR_MAX.
 */
#include "codec/mailaddr.h"
#include "base/ip.h"

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_atext(char c)
{
    return is_alnum(c) || (c && memchr("!#$%&'*+-/=?^_`{|}~", c, 19));
}

static bool dot_string_valid(struct sv v)
{
    bool dot = true; /* a dot, or nothing yet */

    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] == '.' ? dot : !is_atext(v.p[i]))
            return false;
        dot = v.p[i] == '.';
    }
    return !dot;
}

/* Length of the quoted string at the start of v, or 0. */
static size_t quoted_len(struct sv v)
{
    if (v.n < 2 || v.p[0] != '"')
        return 0;
    for (size_t i = 1; i < v.n; i++) {
        if (v.p[i] == '"')
            return i + 1;
        if (v.p[i] == '\\')
            i++;
        if (i >= v.n || v.p[i] < ' ' || v.p[i] > '~')
            return 0;
    }
    return 0;
}

static bool label_valid(struct sv l)
{
    if (l.n < 1 || l.n > 63 || l.p[0] == '-' || l.p[l.n - 1] == '-')
        return false;
    for (size_t i = 0; i < l.n; i++)
        if (!is_alnum(l.p[i]) && l.p[i] != '-')
            return false;
    return true;
}

static bool all_digits(struct sv v)
{
    for (size_t i = 0; i < v.n; i++)
        if (v.p[i] < '0' || v.p[i] > '9')
            return false;
    return true;
}

bool domain_valid(struct sv domain)
{
    struct sv rest = domain, last = SV_NULL;

    if (domain.n < 1 || domain.n > 253)
        return false;
    while (rest.p) {
        last = sv_cut(&rest, '.');
        if (!label_valid(last))
            return false;
    }
    return !all_digits(last); /* a bare IPv4 address is no domain */
}

bool mailaddr_literal_valid(struct sv v)
{
    struct ip ip;

    if (v.n < 3 || v.p[0] != '[' || v.p[v.n - 1] != ']')
        return false;
    struct sv in = sv_of(v.p + 1, v.n - 2);
    if (sv_starts_nocase(in, SV("IPv6:")))
        return sv_find_byte(sv_skip(in, 5), ':') != SIZE_MAX && ip_parse(sv_skip(in, 5), &ip);
    return sv_find_byte(in, ':') == SIZE_MAX && ip_parse(in, &ip);
}

bool mailaddr_valid(struct sv addr)
{
    if (addr.n > MAILADDR_MAX || addr.n < 3)
        return false;
    size_t quoted = quoted_len(addr);
    size_t at = quoted ? quoted : sv_find_byte(addr, '@');

    if (at >= addr.n || addr.p[at] != '@')
        return false;
    struct sv domain = sv_skip(addr, at + 1);
    if (!quoted && !dot_string_valid(sv_take(addr, at)))
        return false;
    return domain_valid(domain) || mailaddr_literal_valid(domain);
}

/* The last '@' that is not inside a quoted local part, or SIZE_MAX. */
static size_t at_sign(struct sv addr)
{
    size_t at = sv_rfind_byte(addr, '@');

    if (at == SIZE_MAX || sv_find_byte(sv_skip(addr, at), '"') != SIZE_MAX)
        return SIZE_MAX;
    return at;
}

struct sv mailaddr_domain(struct sv addr, char out_domain[256])
{
    size_t at = at_sign(addr);
    struct sv d = at == SIZE_MAX ? SV("") : sv_skip(addr, at + 1);

    if (d.n && d.p[d.n - 1] == '.')
        d.n--;
    if (d.n > 255)
        d = SV("");
    for (size_t i = 0; i < d.n; i++)
        out_domain[i] = d.p[i] >= 'A' && d.p[i] <= 'Z' ? (char)(d.p[i] - 'A' + 'a') : d.p[i];
    out_domain[d.n] = '\0';
    return sv_of(out_domain, d.n);
}

struct sv mailaddr_local(struct sv addr)
{
    size_t at = at_sign(addr);

    return at == SIZE_MAX ? addr : sv_take(addr, at);
}

bool mailaddr_is_routed(struct sv addr)
{
    struct sv local = mailaddr_local(addr);

    return sv_find_byte(local, '%') != SIZE_MAX || sv_find_byte(local, '!') != SIZE_MAX ||
           sv_find_byte(local, '@') != SIZE_MAX;
}
