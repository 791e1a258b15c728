/*
 * Look-ups made of single questions: addresses of a host (A and AAAA side by side), of a domain's
 * mail hosts (RFC 5321 5.1), and the confirmed name of an address.
 *
 * An operation counts its open questions; the last answer finishes it. One extra count is held
 * while questions are being put, since answers may come at once.
 */
#include "net/resolver_int.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    MX_HOSTS_MAX = 16,   /* further, less preferred hosts are ignored */
    HOST_ADDRS_MAX = 16, /* of one host */
    PTR_NAMES_MAX = 5,   /* names of one address that are tried */
};

/* Addresses of one host, being gathered. */
struct host_op {
    struct resolver *r;
    unsigned open;
    bool failed; /* some question had no answer */
    struct ip v4[HOST_ADDRS_MAX], v6[HOST_ADDRS_MAX];
    size_t n_v4, n_v6;
    char host[DNS_NAME_MAX];
    uint16_t preference;
    dns_addrs_fn *fn;
    void *ctx;
};

static void host_take(struct host_op *op, const struct rrset *set, struct ip *out, size_t *n)
{
    const struct dns_answer *a = &set->answer;

    if (a->status == DNS_S_FAILED)
        op->failed = true;
    for (uint32_t i = 0; i < a->n && *n < HOST_ADDRS_MAX; i++)
        out[(*n)++] = a->records[i].ip;
}

static void host_put(const struct host_op *op, const struct ip *ip, struct dns_addr *out, size_t *n)
{
    out[*n] = (struct dns_addr){.ip = *ip, .preference = op->preference};
    (void)snprintf(out[*n].host, sizeof(out[*n].host), "%s", op->host);
    (*n)++;
}

/* IPv6 and IPv4 in turn, so that a dead family costs one attempt, not all. */
static void host_close(struct host_op *op)
{
    struct dns_addr *addrs = calloc(2 * HOST_ADDRS_MAX, sizeof(*addrs));
    size_t n = 0;

    if (--op->open) {
        free(addrs);
        return;
    }
    for (size_t i = 0; addrs && i < HOST_ADDRS_MAX; i++) {
        if (i < op->n_v6)
            host_put(op, &op->v6[i], addrs, &n);
        if (i < op->n_v4)
            host_put(op, &op->v4[i], addrs, &n);
    }
    enum dns_result result = n ? DNS_OK : op->failed || !addrs ? DNS_TEMP : DNS_NONE;
    op->fn(op->ctx, result, addrs, n);
    free(addrs);
    free(op);
}

static void on_host_v4(void *ctx, const struct rrset *set)
{
    struct host_op *op = ctx;

    host_take(op, set, op->v4, &op->n_v4);
    host_close(op);
}

static void on_host_v6(void *ctx, const struct rrset *set)
{
    struct host_op *op = ctx;

    host_take(op, set, op->v6, &op->n_v6);
    host_close(op);
}

/* host is clean */
static void host_begin(struct resolver *r, const char *host, uint16_t preference, dns_addrs_fn *fn,
                       void *ctx)
{
    struct host_op *op = calloc(1, sizeof(*op));

    if (!op) {
        fn(ctx, DNS_TEMP, NULL, 0);
        return;
    }
    *op = (struct host_op){.r = r, .open = 3, .preference = preference, .fn = fn, .ctx = ctx};
    (void)snprintf(op->host, sizeof(op->host), "%s", host);
    rr_ask(r, DNS_AAAA, op->host, on_host_v6, op);
    rr_ask(r, DNS_A, op->host, on_host_v4, op);
    host_close(op);
}

/* "192.0.2.1", "[192.0.2.1]", "[IPv6:2001:db8::1]", "2001:db8::1" (RFC 5321 4.1.3) */
static bool address_literal(struct sv host, struct ip *out_ip)
{
    if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']') {
        host = sv_of(host.p + 1, host.n - 2);
        if (sv_starts_nocase(host, SV("IPv6:")))
            host = sv_skip(host, 5);
    }
    return ip_parse(host, out_ip);
}

static bool answer_literal(struct sv host, dns_addrs_fn *fn, void *ctx)
{
    struct dns_addr addr = {.preference = 0};

    if (!address_literal(host, &addr.ip))
        return false;
    (void)snprintf(addr.host, sizeof(addr.host), "%.*s", host.n > 250 ? 250 : (int)host.n, host.p);
    fn(ctx, DNS_OK, &addr, 1);
    return true;
}

void resolver_host(struct resolver *r, struct sv host, dns_addrs_fn *fn, void *ctx)
{
    char name[DNS_NAME_MAX];

    if (answer_literal(host, fn, ctx))
        return;
    if (!dns_name_clean(host, name))
        fn(ctx, DNS_NONE, NULL, 0);
    else
        host_begin(r, name, 0, fn, ctx);
}

/* ---- mail hosts of a domain ---- */

struct mx_op {
    struct resolver *r;
    char domain[DNS_NAME_MAX];
    unsigned open;
    bool failed;
    struct dns_record hosts[MX_HOSTS_MAX];
    size_t n_hosts;
    struct dns_addr addrs[DNS_ADDRS_MAX];
    size_t n_addrs;
    dns_addrs_fn *fn;
    void *ctx;
};

static void mx_finish(struct mx_op *op, enum dns_result result)
{
    op->fn(op->ctx, result, result == DNS_OK ? op->addrs : NULL,
           result == DNS_OK ? op->n_addrs : 0);
    free(op);
}

/* Addresses arrive in any order; hosts[] has the order that counts. Stable, so that addresses of
 * one host keep theirs. */
static size_t host_rank(const struct mx_op *op, const struct dns_addr *a)
{
    size_t i = 0;

    while (i < op->n_hosts && strcmp(op->hosts[i].name, a->host) != 0)
        i++;
    return i;
}

static void mx_sort_addrs(struct mx_op *op)
{
    for (size_t i = 1; i < op->n_addrs; i++) {
        struct dns_addr a = op->addrs[i];
        size_t j = i;
        for (; j > 0 && host_rank(op, &op->addrs[j - 1]) > host_rank(op, &a); j--)
            op->addrs[j] = op->addrs[j - 1];
        op->addrs[j] = a;
    }
}

static void mx_close(struct mx_op *op)
{
    if (--op->open)
        return;
    mx_sort_addrs(op);
    mx_finish(op, op->n_addrs ? DNS_OK : op->failed ? DNS_TEMP : DNS_NONE);
}

static void on_mx_host(void *ctx, enum dns_result result, const struct dns_addr *addrs, size_t n)
{
    struct mx_op *op = ctx;

    if (result == DNS_TEMP)
        op->failed = true;
    for (size_t i = 0; i < n && op->n_addrs < DNS_ADDRS_MAX; i++)
        op->addrs[op->n_addrs++] = addrs[i];
    mx_close(op);
}

/* By preference; equal ones in random order (RFC 5321 5.1 spreads the load so). */
static void mx_order(struct mx_op *op)
{
    struct rng *rng = resolver_rng(op->r);

    for (size_t i = op->n_hosts; i > 1; i--) {
        size_t j = (size_t)(rng_u64(rng) % i);
        struct dns_record swap = op->hosts[i - 1];
        op->hosts[i - 1] = op->hosts[j];
        op->hosts[j] = swap;
    }
    for (size_t i = 1; i < op->n_hosts; i++) {
        struct dns_record h = op->hosts[i];
        size_t j = i;
        for (; j > 0 && op->hosts[j - 1].preference > h.preference; j--)
            op->hosts[j] = op->hosts[j - 1];
        op->hosts[j] = h;
    }
}

static bool mx_has(const struct mx_op *op, const char *name)
{
    for (size_t i = 0; i < op->n_hosts; i++)
        if (strcmp(op->hosts[i].name, name) == 0)
            return true;
    return false;
}

/* The best MX_HOSTS_MAX names, each once. A host named "." beside others is no host. */
static void mx_take_hosts(struct mx_op *op, const struct dns_answer *a)
{
    struct dns_record all[DNS_RECORDS_MAX];
    size_t n = 0;

    memcpy(all, a->records, a->n * sizeof(all[0]));
    for (uint32_t pass = 0; pass < a->n && op->n_hosts < MX_HOSTS_MAX; pass++) {
        size_t best = n;
        for (size_t i = n; i < a->n; i++)
            if (all[i].preference < all[best].preference)
                best = i;
        struct dns_record h = all[best];
        all[best] = all[n];
        all[n++] = h;
        if (h.name[0] && !mx_has(op, h.name))
            op->hosts[op->n_hosts++] = h;
    }
}

static void on_mx(void *ctx, const struct rrset *set)
{
    struct mx_op *op = ctx;
    const struct dns_answer *a = &set->answer;

    switch (a->status) {
    case DNS_S_FAILED:
        mx_finish(op, DNS_TEMP);
        return;
    case DNS_S_NXDOMAIN:
        mx_finish(op, DNS_NONE);
        return;
    case DNS_S_NODATA: /* RFC 5321 5.1: the domain itself is its mail host */
        op->open = 1;
        (void)snprintf(op->hosts[0].name, sizeof(op->hosts[0].name), "%s", op->domain);
        op->n_hosts = 1;
        host_begin(op->r, op->domain, 0, on_mx_host, op);
        return;
    case DNS_S_DATA:
        break;
    }
    mx_take_hosts(op, a);
    if (op->n_hosts == 0) { /* RFC 7505: "." alone */
        mx_finish(op, DNS_NULL_MX);
        return;
    }
    mx_order(op);
    op->open = (unsigned)op->n_hosts + 1; /* the extra one keeps op until mx_close below */
    for (size_t i = 0, n = op->n_hosts; i < n; i++)
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): see there */
        host_begin(op->r, op->hosts[i].name, op->hosts[i].preference, on_mx_host, op);
    mx_close(op); /* NOLINT(clang-analyzer-unix.Malloc) */
}

void resolver_mx(struct resolver *r, struct sv domain, dns_addrs_fn *fn, void *ctx)
{
    char name[DNS_NAME_MAX];

    if (answer_literal(domain, fn, ctx))
        return;
    if (!dns_name_clean(domain, name)) {
        fn(ctx, DNS_NONE, NULL, 0);
        return;
    }
    struct mx_op *op = calloc(1, sizeof(*op));
    if (!op) {
        fn(ctx, DNS_TEMP, NULL, 0);
        return;
    }
    op->r = r;
    op->fn = fn;
    op->ctx = ctx;
    memcpy(op->domain, name, strlen(name) + 1);
    rr_ask(r, DNS_MX, op->domain, on_mx, op);
}

/* ---- name of an address ---- */

struct ptr_op {
    struct resolver *r;
    struct ip ip;
    char names[PTR_NAMES_MAX][DNS_NAME_MAX];
    size_t n, next;
    bool failed;
    dns_name_fn *fn;
    void *ctx;
};

static void ptr_finish(struct ptr_op *op, enum dns_result result, struct sv name)
{
    op->fn(op->ctx, result, name);
    free(op);
}

static void ptr_try_next(struct ptr_op *op);

/* The name counts only when it leads back to the address: anybody may claim any name in a PTR. */
static void on_ptr_host(void *ctx, enum dns_result result, const struct dns_addr *addrs, size_t n)
{
    struct ptr_op *op = ctx;

    if (result == DNS_TEMP)
        op->failed = true;
    for (size_t i = 0; i < n; i++) {
        if (ip_eq(&addrs[i].ip, &op->ip)) {
            ptr_finish(op, DNS_OK, sv_str(op->names[op->next - 1]));
            return;
        }
    }
    ptr_try_next(op);
}

static void ptr_try_next(struct ptr_op *op)
{
    if (op->next == op->n)
        ptr_finish(op, op->failed ? DNS_TEMP : DNS_NONE, SV_NULL);
    else
        host_begin(op->r, op->names[op->next++], 0, on_ptr_host, op);
}

static void on_ptr(void *ctx, const struct rrset *set)
{
    struct ptr_op *op = ctx;
    const struct dns_answer *a = &set->answer;

    op->failed = a->status == DNS_S_FAILED;
    for (uint32_t i = 0; i < a->n && op->n < PTR_NAMES_MAX; i++)
        if (a->records[i].name[0])
            memcpy(op->names[op->n++], a->records[i].name, DNS_NAME_MAX);
    ptr_try_next(op);
}

/* RFC 1035 3.5, RFC 3596 2.5 */
static void reverse_name(const struct ip *ip, char out[DNS_NAME_MAX])
{
    static const char digits[] = "0123456789abcdef";
    size_t n = 0;

    if (ip_is_v4(ip)) {
        (void)snprintf(out, DNS_NAME_MAX, "%u.%u.%u.%u.in-addr.arpa", ip->b[15], ip->b[14],
                       ip->b[13], ip->b[12]);
        return;
    }
    for (size_t i = 16; i-- > 0;) {
        out[n++] = digits[ip->b[i] & 0x0f];
        out[n++] = '.';
        out[n++] = digits[ip->b[i] >> 4];
        out[n++] = '.';
    }
    (void)snprintf(out + n, DNS_NAME_MAX - n, "ip6.arpa");
}

void resolver_ptr(struct resolver *r, const struct ip *ip, dns_name_fn *fn, void *ctx)
{
    struct ptr_op *op = calloc(1, sizeof(*op));
    char name[DNS_NAME_MAX];

    if (!op) {
        fn(ctx, DNS_TEMP, SV_NULL);
        return;
    }
    *op = (struct ptr_op){.r = r, .ip = *ip, .fn = fn, .ctx = ctx};
    reverse_name(ip, name);
    rr_ask(r, DNS_PTR, name, on_ptr, op);
}
