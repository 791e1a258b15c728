/* IP addresses and prefixes. IPv4 is kept as an IPv4-mapped IPv6 address. */
#ifndef BASE_IP_H
#define BASE_IP_H

#include "base/sv.h"

struct ip {
    uint8_t b[16];
};
struct cidr {
    struct ip net;
    uint8_t bits; /* 0..128 in the mapped space: 10.0.0.0/8 has 104 */
};

#define IP_TEXT_MAX 48

NODISCARD bool ip_parse(struct sv text, struct ip *out_ip); /* "192.0.2.1", "2001:db8::1" */
/* Address, prefix ("10.0.0.0/8") or IPv6 prefix; host bits must be zero. */
NODISCARD bool cidr_parse(struct sv text, struct cidr *out_cidr);
bool cidr_has(const struct cidr *c, const struct ip *ip);
bool ip_is_v4(const struct ip *ip);
bool ip_is_loopback(const struct ip *ip);
bool ip_eq(const struct ip *a, const struct ip *b);
/* Writes canonical text (NUL-terminated) and returns its length. */
size_t ip_format(const struct ip *ip, char out_text[IP_TEXT_MAX]);
size_t cidr_format(const struct cidr *c, char out_text[IP_TEXT_MAX]);

#endif
