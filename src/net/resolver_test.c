/* The resolver against a DNS server of its own on loopback, in the same loop. */
#include "net/dns_msg.h"
#include "net/loop.h"
#include "net/resolver.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the server: answers from a table ---- */

struct zone_row {
    const char *name;
    enum dns_type type;
    uint16_t preference;
    const char *data; /* address or name */
};
static const struct zone_row zone[] = {
    {"two.example", DNS_MX, 20, "mx2.two.example"},
    {"two.example", DNS_MX, 10, "MX1.two.example"},
    {"mx1.two.example", DNS_A, 0, "192.0.2.1"},
    {"mx1.two.example", DNS_AAAA, 0, "2001:db8::1"},
    {"mx2.two.example", DNS_A, 0, "192.0.2.2"},
    {"equal.example", DNS_MX, 5, "mx1.two.example"},
    {"equal.example", DNS_MX, 5, "mx2.two.example"},
    {"null.example", DNS_MX, 0, ""},
    {"bare.example", DNS_A, 0, "192.0.2.9"},
    {"v6.example", DNS_AAAA, 0, "2001:db8::9"},
    {"dangling.example", DNS_MX, 0, "nowhere.example"},
    {"nowhere.example", DNS_SOA, 0, ""}, /* the name exists, with no address */
    {"half.example", DNS_MX, 0, "broken.example"},
    {"half.example", DNS_MX, 5, "mx2.two.example"},
    {"onlybroken.example", DNS_MX, 0, "broken.example"},
    {"1.2.0.192.in-addr.arpa", DNS_PTR, 0, "mx1.two.example"},
    {"2.2.0.192.in-addr.arpa", DNS_PTR, 0, "mx1.two.example"}, /* a lie */
    {"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", DNS_PTR, 0,
     "mx1.two.example"},
};

struct server {
    struct loop *loop;
    struct watch *watch;
    int fd;
    char address[32];
    int queries;
};

static size_t put_name(uint8_t *p, const char *name)
{
    size_t n = 0;

    for (struct sv rest = sv_str(name); rest.n;) {
        struct sv label = sv_cut(&rest, '.');
        p[n++] = (uint8_t)label.n;
        memcpy(p + n, label.p, label.n);
        n += label.n;
    }
    p[n++] = 0;
    return n;
}

static size_t put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
    return 2;
}

static size_t put_data(uint8_t *p, const struct zone_row *row)
{
    size_t n = 0;

    if (row->type == DNS_A || row->type == DNS_AAAA) {
        int family = row->type == DNS_A ? AF_INET : AF_INET6;
        assert_int_equal(inet_pton(family, row->data, p), 1);
        return row->type == DNS_A ? 4 : 16;
    }
    if (row->type == DNS_MX)
        n += put16(p, row->preference);
    return n + put_name(p + n, row->data);
}

static size_t put_rr(uint8_t *p, const struct zone_row *row)
{
    size_t n = put16(p, 0xc00c); /* the name of the question */

    n += put16(p + n, row->type);
    n += put16(p + n, 1);
    n += put16(p + n, 0);
    n += put16(p + n, 60);
    size_t len = put_data(p + n + 2, row);
    n += put16(p + n, (unsigned)len);
    return n + len;
}

/* Name and type of the question; returns the length of header and question. */
static size_t question(const uint8_t *p, char *name, enum dns_type *type)
{
    size_t n = 12, out = 0;

    while (p[n]) {
        memcpy(name + out, p + n + 1, p[n]);
        out += p[n];
        name[out++] = '.';
        n += p[n] + 1u;
    }
    name[out ? out - 1 : 0] = '\0';
    *type = (enum dns_type)(p[n + 1] << 8 | p[n + 2]);
    return n + 5;
}

static size_t answer(uint8_t *p, const uint8_t *query)
{
    char name[256];
    enum dns_type type;
    size_t n = question(query, name, &type);
    unsigned count = 0;
    bool exists = false, broken = strstr(name, "broken") != NULL;

    memcpy(p, query, n);
    for (size_t i = 0; i < ARRAY_LEN(zone); i++) {
        if (strcmp(zone[i].name, name) != 0)
            continue;
        exists = true;
        if (zone[i].type == type && type != DNS_SOA) {
            n += put_rr(p + n, &zone[i]);
            count++;
        }
    }
    p[2] = 0x81;
    p[3] = broken ? 0x82 : exists ? 0x80 : 0x83;
    (void)put16(p + 6, count);
    (void)put16(p + 8, 0);
    (void)put16(p + 10, 0);
    return n;
}

static void on_query(void *ctx, int events)
{
    struct server *s = ctx;
    uint8_t query[2048], reply[4096];
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    ssize_t n = recvfrom(s->fd, query, sizeof(query), 0, (struct sockaddr *)&from, &len);

    (void)events;
    if (n < 17)
        return;
    s->queries++;
    if (memmem(query, (size_t)n, "silent", 6))
        return;
    size_t out = answer(reply, query);
    (void)sendto(s->fd, reply, out, 0, (struct sockaddr *)&from, len);
}

/* ---- fixture ---- */

struct fixture {
    struct loop *loop;
    struct server server;
    struct resolver *r;
    int open;     /* answers still expected */
    bool waiting; /* the loop runs */
    enum dns_result result;
    struct dns_addr addrs[DNS_ADDRS_MAX];
    size_t n;
    char name[256];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof(a);
    struct errinfo info = {0};

    assert_non_null(f);
    assert_int_equal(loop_new(&f->loop), ERR_OK);
    f->server.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(f->server.fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(f->server.fd, (struct sockaddr *)&a, &n), 0);
    (void)snprintf(f->server.address, sizeof(f->server.address), "127.0.0.1:%u", ntohs(a.sin_port));
    assert_int_equal(watch_new(f->loop, f->server.fd, on_query, &f->server, &f->server.watch),
                     ERR_OK);
    watch_set(f->server.watch, WATCH_READ);
    assert_int_equal(resolver_new(f->loop, sv_str(f->server.address), SV(""), 40, 2, &f->r, &info),
                     ERR_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    resolver_free(f->r);
    watch_free(f->server.watch);
    (void)close(f->server.fd);
    loop_free(f->loop);
    free(f);
    return 0;
}

static void answered(struct fixture *f)
{
    if (--f->open == 0 && f->waiting)
        loop_stop(f->loop);
}

static void on_addrs(void *ctx, enum dns_result result, const struct dns_addr *addrs, size_t n)
{
    struct fixture *f = ctx;

    f->result = result;
    f->n = n;
    if (n)
        memcpy(f->addrs, addrs, n * sizeof(*addrs));
    answered(f);
}

static void on_name(void *ctx, enum dns_result result, struct sv name)
{
    struct fixture *f = ctx;

    f->result = result;
    (void)snprintf(f->name, sizeof(f->name), "%.*s", SV_ARG(name));
    answered(f);
}

static void wait_all(struct fixture *f)
{
    f->waiting = true;
    if (f->open > 0)
        loop_run(f->loop);
    f->waiting = false;
    assert_int_equal(f->open, 0);
}

/* "host=ip host=ip" in order */
static void text_of(const struct fixture *f, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < f->n; i++) {
        char ip[IP_TEXT_MAX];
        (void)ip_format(&f->addrs[i].ip, ip);
        used += (size_t)snprintf(out + used, size - used, "%s%u %s=%s", i ? ", " : "",
                                 f->addrs[i].preference, f->addrs[i].host, ip);
    }
}

static const struct {
    const char *domain;
    bool mx;
    enum dns_result result;
    const char *addrs;
} cases[] = {
    {"two.example", true, DNS_OK,
     "10 mx1.two.example=2001:db8::1, 10 mx1.two.example=192.0.2.1, 20 mx2.two.example=192.0.2.2"},
    {"TWO.example.", true, DNS_OK,
     "10 mx1.two.example=2001:db8::1, 10 mx1.two.example=192.0.2.1, 20 mx2.two.example=192.0.2.2"},
    {"null.example", true, DNS_NULL_MX, ""},
    {"bare.example", true, DNS_OK, "0 bare.example=192.0.2.9"},
    {"v6.example", true, DNS_OK, "0 v6.example=2001:db8::9"},
    {"absent.example", true, DNS_NONE, ""},
    {"dangling.example", true, DNS_NONE, ""},
    {"half.example", true, DNS_OK, "5 mx2.two.example=192.0.2.2"},
    {"onlybroken.example", true, DNS_TEMP, ""},
    {"broken.example", true, DNS_TEMP, ""},
    {"silent.example", true, DNS_TEMP, ""},
    {"[192.0.2.77]", true, DNS_OK, "0 [192.0.2.77]=192.0.2.77"},
    {"[IPv6:2001:db8::77]", true, DNS_OK, "0 [IPv6:2001:db8::77]=2001:db8::77"},
    {"bad name.example", true, DNS_NONE, ""},
    {"a..example", true, DNS_NONE, ""},
    {"", true, DNS_NONE, ""},
    {"mx1.two.example", false, DNS_OK,
     "0 mx1.two.example=2001:db8::1, 0 mx1.two.example=192.0.2.1"},
    {"two.example", false, DNS_NONE, ""}, /* has MX only */
    {"127.0.0.1", false, DNS_OK, "0 127.0.0.1=127.0.0.1"},
    {"broken.example", false, DNS_TEMP, ""},
};

static void test_cases(void **state)
{
    struct fixture *f = *state;
    char text[512];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        f->open = 1;
        if (cases[i].mx)
            resolver_mx(f->r, sv_str(cases[i].domain), on_addrs, f);
        else
            resolver_host(f->r, sv_str(cases[i].domain), on_addrs, f);
        wait_all(f);
        text_of(f, text, sizeof(text));
        if (f->result != cases[i].result || strcmp(text, cases[i].addrs) != 0)
            fail_msg("%s: result %d, \"%s\"", cases[i].domain, (int)f->result, text);
    }
}

static void test_equal_are_shuffled(void **state)
{
    struct fixture *f = *state;
    int first = 0, second = 0;

    for (int i = 0; i < 100; i++) {
        f->open = 1;
        resolver_mx(f->r, SV("equal.example"), on_addrs, f);
        wait_all(f);
        assert_int_equal(f->n, 3);
        if (strcmp(f->addrs[0].host, "mx1.two.example") == 0)
            first++;
        else
            second++;
    }
    assert_true(first > 10 && second > 10);
}

static void test_cache_and_joining(void **state)
{
    struct fixture *f = *state;

    f->open = 50;
    for (int i = 0; i < 50; i++)
        resolver_mx(f->r, SV("bare.example"), on_addrs, f);
    wait_all(f);
    assert_int_equal(f->server.queries, 3); /* MX, A, AAAA */
    f->open = 1;
    resolver_mx(f->r, SV("bare.example"), on_addrs, f);
    assert_int_equal(f->open, 0); /* at once */
    assert_int_equal(f->server.queries, 3);
}

static void test_failures_are_not_cached(void **state)
{
    struct fixture *f = *state;

    for (int i = 1; i <= 2; i++) {
        f->open = 1;
        resolver_mx(f->r, SV("broken.example"), on_addrs, f);
        wait_all(f);
        assert_int_equal(f->server.queries, i);
    }
}

static void test_many(void **state)
{
    struct fixture *f = *state;
    char name[64];

    f->open = 1000;
    for (int i = 0; i < 1000; i++) {
        int n = snprintf(name, sizeof(name), "d%d.example", i);
        resolver_mx(f->r, sv_of(name, (size_t)n), on_addrs, f);
    }
    wait_all(f);
    assert_int_equal(f->result, DNS_NONE);
    assert_true(f->server.queries >= 1000);
}

static const struct {
    const char *ip;
    enum dns_result result;
    const char *name;
} ptr_cases[] = {
    {"192.0.2.1", DNS_OK, "mx1.two.example"},
    {"2001:db8::1", DNS_OK, "mx1.two.example"},
    {"192.0.2.2", DNS_NONE, ""},
    {"192.0.2.3", DNS_NONE, ""},
};

static void test_ptr(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(ptr_cases); i++) {
        struct ip ip;
        assert_true(ip_parse(sv_str(ptr_cases[i].ip), &ip));
        f->open = 1;
        resolver_ptr(f->r, &ip, on_name, f);
        wait_all(f);
        assert_int_equal(f->result, ptr_cases[i].result);
        assert_string_equal(f->name, ptr_cases[i].name);
    }
}

/* Freed with questions in flight and in the queue: all are answered. */
static void test_free_answers(void **state)
{
    struct fixture *f = *state;
    struct resolver *r = NULL;
    char name[64];

    assert_int_equal(resolver_new(f->loop, sv_str(f->server.address), SV(""), 40, 2, &r, NULL),
                     ERR_OK);
    f->open = 300;
    for (int i = 0; i < 300; i++) {
        int n = snprintf(name, sizeof(name), "x%d.silent.example", i);
        resolver_mx(r, sv_of(name, (size_t)n), on_addrs, f);
    }
    resolver_free(r);
    assert_int_equal(f->open, 0);
    assert_int_equal(f->result, DNS_TEMP);
}

static const struct {
    const char *servers, *resolv_conf;
    enum err err;
} server_cases[] = {
    {"127.0.0.1", "", ERR_OK},
    {" 127.0.0.1:5353 , [::1]:53, ::1, [::1]", "", ERR_OK},
    {"", "search x\nnameserver 192.0.2.1\n# x\nnameserver fe80::1%eth0\nnameserver ::1\n", ERR_OK},
    {"", "", ERR_OK},
    {"localhost", "", ERR_SYNTAX},
    {"127.0.0.1:0", "", ERR_SYNTAX},
    {"[::1", "", ERR_SYNTAX},
    {"[::1]x", "", ERR_SYNTAX},
    {"1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5,1.1.1.6,1.1.1.7,1.1.1.8,1.1.1.9", "", ERR_LIMIT},
};

static void test_servers(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(server_cases); i++) {
        struct resolver *r = NULL;
        enum err err = resolver_new(f->loop, sv_str(server_cases[i].servers),
                                    sv_str(server_cases[i].resolv_conf), 100, 1, &r, NULL);
        assert_int_equal(err, server_cases[i].err);
        resolver_free(r);
    }
}

/* ---- malformed answers ---- */

#define H(flags) "\x12\x34" flags "\x00\x01\x00\x01\x00\x00\x00\x00"
#define Q        "\x01x\x00\x00\x0f\x00\x01"
#define RR       "\xc0\x0c\x00\x0f\x00\x01\x00\x00\x00\x3c"
#define M(lit)                                                                                     \
    {                                                                                              \
        (lit), sizeof(lit) - 1                                                                     \
    }

static const struct {
    struct sv msg;
    enum err err;
    uint32_t n;
} messages[] = {
    {M(H("\x81\x80") Q RR "\x00\x05\x00\x0a\x01m\x00"), ERR_OK, 1},
    {M(H("\x81\x80") Q RR "\x00\x04\x00\x0a\xc0\x0c"), ERR_OK, 1},
    {M(H("\x01\x80") Q RR "\x00\x05\x00\x0a\x01m\x00"), ERR_SYNTAX, 0}, /* a question */
    {M(H("\x81\x80") Q RR "\x00\x06\x00\x0a\x01m\x00"), ERR_SYNTAX, 0}, /* data beyond the end */
    {M(H("\x81\x80") Q RR "\x00\x04\x00\x0a\xc0\x21"), ERR_OK, 0},      /* pointer to itself */
    {M(H("\x81\x80") Q RR "\x00\x04\x00\x0a\xc0\xff"), ERR_OK, 0},      /* pointer forwards */
    {M(H("\x81\x80") Q RR "\x00\x04\x00\x0a\x05m"), ERR_OK, 0},         /* label beyond the data */
    {M(H("\x81\x80") Q RR "\x00\x05\x00\x0a\x01 \x00"), ERR_OK, 0},     /* a space in the name */
    {M(H("\x81\x80") Q RR "\x00\x01\x00"), ERR_OK, 0},                  /* half a preference */
    {M(H("\x81\x80") "\xc0\x0c\x00\x0f\x00\x01"), ERR_SYNTAX, 0},       /* question loops */
    {M(H("\x81\x80") Q), ERR_SYNTAX, 0}, /* promised answer missing */
    {M("\x12\x34\x81\x80"), ERR_SYNTAX, 0},
    {M("\x34"), ERR_SYNTAX, 0},
    {M(""), ERR_SYNTAX, 0},
};

static void test_messages(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        struct dns_answer a = {0};
        /* a copy of exact size, so that a sanitizer sees reading beyond */
        char *copy = malloc(messages[i].msg.n + 1);
        assert_non_null(copy);
        memcpy(copy, messages[i].msg.p, messages[i].msg.n);
        char *exact = realloc(copy, messages[i].msg.n ? messages[i].msg.n : 1);
        enum err err = dns_answer_parse(sv_of(exact, messages[i].msg.n), DNS_MX, &a);
        if (err != messages[i].err || a.n != messages[i].n)
            fail_msg("message %zu: %s, %u records", i, err_name(err), a.n);
        free(exact);
    }
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        CASE(test_cases),
        CASE(test_equal_are_shuffled),
        CASE(test_cache_and_joining),
        CASE(test_failures_are_not_cached),
        CASE(test_many),
        CASE(test_ptr),
        CASE(test_free_answers),
        CASE(test_servers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
