/*
 * Reading DNS answers.
 *
 * SECURITY: the bytes come from the network, and records in them from whoever owns the zone asked
 * about. Every offset is compared with the message length; compression pointers only go backwards,
 * so that decoding ends; names are accepted only if they are plain host names. Records of the
 * answer section are taken by type whatever their owner: the resolver was asked one question, and
 * CNAMEs lead elsewhere (RFC 1034 3.6.2).
 */
#include "net/dns_msg.h"

enum {
    HEADER = 12,
    FLAG_QR = 0x80,
    FLAG_AD = 0x20,
    RCODE = 0x0f,
    RCODE_NXDOMAIN = 3,
    IN_CLASS = 1
};

struct reader {
    struct sv msg;
    size_t at;
    bool bad;
};

static uint32_t take_u(struct reader *r, size_t n)
{
    uint32_t v = 0;

    if (r->bad || r->at > r->msg.n || r->msg.n - r->at < n) {
        r->bad = true;
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        v = v << 8 | (uint8_t)r->msg.p[r->at + i];
    r->at += n;
    return v;
}

static bool name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '/';
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* Appends one label; false when it does not fit or is no host name label. */
static bool put_label(struct sv label, char *out, size_t *n)
{
    if (*n + label.n + 2 > DNS_NAME_MAX)
        return false;
    if (*n)
        out[(*n)++] = '.';
    for (size_t i = 0; i < label.n; i++) {
        char c = lower(label.p[i]);
        if (!name_byte(c))
            return false;
        out[(*n)++] = c;
    }
    return true;
}

/* RFC 1035 4.1.4. With out == NULL the name is only skipped; *out_plain false: no host name. */
static void take_name(struct reader *r, char *out, bool *out_plain)
{
    size_t at = r->at, n = 0;
    size_t lowest = at; /* pointers must lead below */
    bool jumped = false, plain = true;

    while (!r->bad) {
        uint8_t len = at < r->msg.n ? (uint8_t)r->msg.p[at] : 0xff;
        if (len >= 0xc0 && at + 1 < r->msg.n && len != 0xff) {
            size_t to = (size_t)(len & 0x3f) << 8 | (uint8_t)r->msg.p[at + 1];
            if (!jumped)
                r->at = at + 2;
            jumped = true;
            r->bad = to >= lowest;
            at = lowest = to;
            continue;
        }
        if (len > 63 || at + 1 + len > r->msg.n) {
            r->bad = true;
            break;
        }
        at += 1;
        if (len == 0)
            break;
        plain = plain && out && put_label(sv_of(r->msg.p + at, len), out, &n);
        at += len;
    }
    if (!jumped && !r->bad)
        r->at = at;
    if (out)
        out[plain && !r->bad ? n : 0] = '\0';
    if (out_plain)
        *out_plain = plain && !r->bad;
}

struct rr {
    uint32_t type, class, ttl;
    size_t data, length;
};

static struct rr take_rr(struct reader *r)
{
    struct rr rr = {0};

    take_name(r, NULL, NULL);
    rr.type = take_u(r, 2);
    rr.class = take_u(r, 2);
    rr.ttl = take_u(r, 4);
    rr.length = take_u(r, 2);
    rr.data = r->at;
    if (r->bad || r->msg.n - r->at < rr.length)
        r->bad = true;
    else
        r->at += rr.length;
    if (rr.ttl > INT32_MAX) /* RFC 2181 8 */
        rr.ttl = 0;
    return rr;
}

static void put_address(struct sv msg, const struct rr *rr, struct dns_answer *a)
{
    struct dns_record *rec = &a->records[a->n];
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (rr->length == 4 && rr->type == DNS_A) {
        memcpy(rec->ip.b, mapped, sizeof(mapped));
        memcpy(rec->ip.b + 12, msg.p + rr->data, 4);
    } else if (rr->length == 16 && rr->type == DNS_AAAA) {
        memcpy(rec->ip.b, msg.p + rr->data, 16);
    } else {
        return;
    }
    a->n++;
}

static void put_named(struct sv msg, const struct rr *rr, struct dns_answer *a)
{
    struct reader r = {.msg = sv_take(msg, rr->data + rr->length), .at = rr->data};
    struct dns_record *rec = &a->records[a->n];
    bool plain = false;

    rec->preference = rr->type == DNS_MX ? (uint16_t)take_u(&r, 2) : 0;
    take_name(&r, rec->name, &plain);
    if (plain)
        a->n++;
}

static void put_record(struct sv msg, const struct rr *rr, struct dns_answer *a)
{
    if (a->n == DNS_RECORDS_MAX)
        return;
    if (rr->type == DNS_A || rr->type == DNS_AAAA)
        put_address(msg, rr, a);
    else
        put_named(msg, rr, a);
}

/* RFC 2308 5: a negative answer lives for min(SOA TTL, SOA minimum). */
static uint32_t negative_ttl(struct reader *r, uint32_t authority)
{
    uint32_t ttl = DNS_TTL_NEG;

    for (uint32_t i = 0; i < authority && !r->bad; i++) {
        struct rr rr = take_rr(r);
        if (r->bad || rr.type != DNS_SOA || rr.length < 4)
            continue;
        struct reader soa = {.msg = r->msg, .at = rr.data + rr.length - 4};
        uint32_t minimum = take_u(&soa, 4);
        ttl = minimum < rr.ttl ? minimum : rr.ttl;
    }
    return ttl < DNS_TTL_NEG_MAX ? ttl : DNS_TTL_NEG_MAX;
}

static void skip_questions(struct reader *r, uint32_t n)
{
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        take_name(r, NULL, NULL);
        (void)take_u(r, 4);
    }
}

enum err dns_answer_parse(struct sv msg, enum dns_type type, struct dns_answer *out_a)
{
    struct dns_answer a = {.status = DNS_S_NODATA, .ttl = DNS_TTL_MAX};
    struct reader r = {.msg = msg, .at = 2};
    if (msg.n < HEADER)
        return ERR_SYNTAX;
    uint32_t flags = take_u(&r, 1), codes = take_u(&r, 1);
    uint32_t questions = take_u(&r, 2), answers = take_u(&r, 2), authority = take_u(&r, 2);

    if (!(flags & FLAG_QR))
        return ERR_SYNTAX;
    r.at = HEADER;
    a.ad = (codes & FLAG_AD) != 0;
    skip_questions(&r, questions);
    for (uint32_t i = 0; i < answers && !r.bad; i++) {
        struct rr rr = take_rr(&r);
        if (r.bad || rr.class != IN_CLASS)
            continue;
        if (rr.type == (uint32_t)type)
            put_record(msg, &rr, &a);
        a.ttl = rr.ttl < a.ttl ? rr.ttl : a.ttl;
    }
    if (r.bad)
        return ERR_SYNTAX;
    if ((codes & RCODE) == RCODE_NXDOMAIN)
        a.status = DNS_S_NXDOMAIN;
    else if ((codes & RCODE) != 0)
        a.status = DNS_S_FAILED;
    else if (a.n)
        a.status = DNS_S_DATA;
    if (a.status != DNS_S_DATA)
        a.n = 0;
    if (a.status == DNS_S_NODATA || a.status == DNS_S_NXDOMAIN)
        a.ttl = negative_ttl(&r, authority);
    *out_a = a;
    return ERR_OK;
}

bool dns_name_clean(struct sv name, char out_name[DNS_NAME_MAX])
{
    char text[DNS_NAME_MAX];
    size_t n = 0;

    if (name.n && name.p[name.n - 1] == '.')
        name.n--;
    if (name.n == 0)
        return false;
    for (struct sv rest = name; rest.p;) {
        struct sv label = sv_cut(&rest, '.');
        if (label.n == 0 || label.n > 63 || !put_label(label, text, &n))
            return false;
    }
    text[n] = '\0';
    memcpy(out_name, text, n + 1);
    return true;
}
