/*
 * DNS answers (RFC 1035 4.1): bytes -> the few records we ask for. Pure.
 */
#ifndef NET_DNS_MSG_H
#define NET_DNS_MSG_H

#include "base/err.h"
#include "base/ip.h"

enum dns_type { DNS_A = 1, DNS_SOA = 6, DNS_PTR = 12, DNS_MX = 15, DNS_AAAA = 28 };

#define DNS_NAME_MAX    254 /* text with NUL */
#define DNS_RECORDS_MAX 32  /* further ones are dropped */
#define DNS_TTL_MAX     3600
#define DNS_TTL_NEG_MAX 300
#define DNS_TTL_NEG     30 /* negative answer without SOA */

struct dns_record {
    uint16_t preference;     /* MX */
    struct ip ip;            /* A, AAAA */
    char name[DNS_NAME_MAX]; /* MX, PTR: lower case, without final dot; "" = the root */
};
enum dns_status { DNS_S_DATA, DNS_S_NODATA, DNS_S_NXDOMAIN, DNS_S_FAILED };
struct dns_answer {
    enum dns_status status;
    bool ad;      /* the resolver says it validated */
    uint32_t ttl; /* of the whole answer, within the limits above */
    uint32_t n;
    struct dns_record records[DNS_RECORDS_MAX];
};

/* ERR_SYNTAX for a message that is no answer or is malformed. */
NODISCARD enum err dns_answer_parse(struct sv msg, enum dns_type type, struct dns_answer *out_a);
/* Lower case, no final dot, letters digits hyphen underscore; false when it can be no DNS name. */
NODISCARD bool dns_name_clean(struct sv name, char out_name[DNS_NAME_MAX]);

#endif
