/*
 * SECURITY: reads addresses as peers, DNS and settings write them. A view with an embedded NUL or
 * beyond IP_TEXT_MAX is refused before libc sees it.
 */
#include "base/ip.h"

#include <arpa/inet.h>
#include <stdio.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool ip_parse(struct sv text, struct ip *out_ip)
{
    char z[IP_TEXT_MAX];
    struct ip ip;

    if (text.n == 0 || text.n >= sizeof(z) || sv_find_byte(text, '\0') != SIZE_MAX)
        return false;
    memcpy(z, text.p, text.n);
    z[text.n] = '\0';
    if (sv_find_byte(text, ':') != SIZE_MAX) {
        if (inet_pton(AF_INET6, z, ip.b) != 1)
            return false;
    } else {
        memcpy(ip.b, mapped, sizeof(mapped));
        if (inet_pton(AF_INET, z, ip.b + 12) != 1)
            return false;
    }
    *out_ip = ip;
    return true;
}

static bool host_bits_zero(const struct cidr *c)
{
    for (unsigned i = c->bits; i < 128; i++)
        if (c->net.b[i / 8] & (0x80U >> (i % 8)))
            return false;
    return true;
}

bool cidr_parse(struct sv text, struct cidr *out_cidr)
{
    struct sv rest = text;
    struct sv addr = sv_cut(&rest, '/');
    bool v4 = sv_find_byte(addr, ':') == SIZE_MAX;
    uint64_t bits = v4 ? 32 : 128;
    struct cidr c;

    if (!ip_parse(addr, &c.net))
        return false;
    if (rest.p && (rest.n > 3 || !sv_to_u64(rest, 0, bits, &bits)))
        return false;
    c.bits = (uint8_t)(v4 ? bits + 96 : bits);
    if (!host_bits_zero(&c))
        return false;
    *out_cidr = c;
    return true;
}

static bool cidr_is_v4(const struct cidr *c)
{
    return c->bits >= 96 && ip_is_v4(&c->net);
}

/* "::/0" means every IPv6 address; it does not reach into the mapped IPv4 space. */
bool cidr_has(const struct cidr *c, const struct ip *ip)
{
    size_t whole = c->bits / 8;
    unsigned rest = c->bits % 8;

    if (cidr_is_v4(c) != ip_is_v4(ip) || memcmp(c->net.b, ip->b, whole) != 0)
        return false;
    return rest == 0 || ((c->net.b[whole] ^ ip->b[whole]) & (0xff00U >> rest) & 0xffU) == 0;
}

bool ip_is_v4(const struct ip *ip)
{
    return memcmp(ip->b, mapped, sizeof(mapped)) == 0;
}

bool ip_is_loopback(const struct ip *ip)
{
    static const uint8_t one[16] = {[15] = 1};

    return ip_is_v4(ip) ? ip->b[12] == 127 : memcmp(ip->b, one, sizeof(one)) == 0;
}

bool ip_eq(const struct ip *a, const struct ip *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

size_t ip_format(const struct ip *ip, char out_text[IP_TEXT_MAX])
{
    bool v4 = ip_is_v4(ip);

    if (!inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? ip->b + 12 : ip->b, out_text, IP_TEXT_MAX))
        out_text[0] = '\0';
    return strlen(out_text);
}

/* A single address is written without "/32" or "/128". */
size_t cidr_format(const struct cidr *c, char out_text[IP_TEXT_MAX])
{
    size_t n = ip_format(&c->net, out_text);

    if (c->bits >= 128)
        return n;
    unsigned bits = cidr_is_v4(c) ? c->bits - 96U : c->bits;
    int m = snprintf(out_text + n, IP_TEXT_MAX - n, "/%u", bits);
    return m > 0 ? n + (size_t)m : n;
}
