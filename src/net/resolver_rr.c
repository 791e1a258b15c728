/*
 * Questions over c-ares: channel and watches, questions in flight (capped, equal ones joined),
 * cache by TTL (bounded, oldest out first). Everything that opens a file happens in resolver_new,
 * before the sandbox; look-ups never read /etc/hosts.
 *
 * SECURITY: see dns_msg.c. Who can make us ask (a sender domain, a recipient domain) can fill queue
 * and cache only up to their limits.
 */
#include "base/hash.h"
#include "net/loop_int.h"
#include "net/resolver_int.h"

#include <ares.h>
#include <arpa/nameser.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

enum {
    IN_FLIGHT_MAX = 64,  /* more than that loses packets in bursts */
    WAITING_MAX = 10000, /* questions behind those; then DNS_TEMP at once */
    CACHE_SETS_MAX = 4096,
    CACHE_RECORDS_MAX = 16384,
    BUCKETS = 1024,
    SOCKETS_MAX = 64,
    SERVERS_MAX = 8,
    EDNS_SIZE = 1232,
};

struct waiter {
    struct list node;
    rr_fn *fn;
    void *ctx;
};

/* A question in flight or waiting for its turn, or an answer in the cache. */
struct entry {
    struct list bucket; /* by hash of type and name */
    struct list order;  /* waiting, or cached in order of arrival */
    struct resolver *r;
    enum dns_type type;
    char name[DNS_NAME_MAX];
    struct list waiters;
    bool asked;        /* in flight */
    struct rrset *set; /* cached */
    int64_t until_ms;
};

struct socket_watch {
    struct resolver *r;
    ares_socket_t fd;
    struct watch *watch; /* NULL = free slot */
};

struct resolver {
    struct loop *loop;
    ares_channel channel;
    struct timer *timer;
    struct socket_watch sockets[SOCKETS_MAX];
    struct list buckets[BUCKETS];
    struct list waiting, cached;
    size_t in_flight, n_waiting, n_cached, n_records;
    uint8_t hash_key[16];
    struct rng rng;
    bool closing;
};

struct rng *resolver_rng(struct resolver *r)
{
    return &r->rng;
}

/* ---- c-ares and the loop ---- */

static void arm_timer(struct resolver *r)
{
    struct timeval tv, *t = ares_timeout(r->channel, NULL, &tv);

    if (t)
        timer_set(r->timer, (uint64_t)t->tv_sec * 1000 + (uint64_t)t->tv_usec / 1000 + 1);
    else
        timer_stop(r->timer);
}

static void ask_waiting(struct resolver *r);

static void on_timer(void *ctx)
{
    struct resolver *r = ctx;

    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    ask_waiting(r);
    arm_timer(r);
}

static void on_socket(void *ctx, int events)
{
    struct socket_watch *sw = ctx;
    struct resolver *r = sw->r;
    ares_socket_t fd = sw->fd;

    ares_process_fd(r->channel, events & WATCH_READ ? fd : ARES_SOCKET_BAD,
                    events & WATCH_WRITE ? fd : ARES_SOCKET_BAD);
    ask_waiting(r);
    arm_timer(r);
}

static struct socket_watch *socket_slot(struct resolver *r, ares_socket_t fd)
{
    struct socket_watch *empty = NULL;

    for (size_t i = 0; i < SOCKETS_MAX; i++) {
        if (r->sockets[i].watch && r->sockets[i].fd == fd)
            return &r->sockets[i];
        if (!r->sockets[i].watch && !empty)
            empty = &r->sockets[i];
    }
    return empty;
}

/* c-ares says what it wants of a socket; neither = it is about to be closed. Without a slot the
 * question simply times out. */
static void on_socket_state(void *ctx, ares_socket_t fd, int readable, int writable)
{
    struct resolver *r = ctx;
    struct socket_watch *sw = socket_slot(r, fd);

    if (!sw)
        return;
    if (!readable && !writable) {
        watch_free(sw->watch);
        sw->watch = NULL;
        return;
    }
    if (!sw->watch) {
        sw->r = r;
        sw->fd = fd;
        if (watch_new(r->loop, fd, on_socket, sw, &sw->watch) != ERR_OK) {
            sw->watch = NULL;
            return;
        }
    }
    watch_set(sw->watch, (readable ? WATCH_READ : 0) | (writable ? WATCH_WRITE : 0));
}

/* ---- entries ---- */

static size_t hash_of(const struct resolver *r, enum dns_type type, const char *name)
{
    uint8_t text[DNS_NAME_MAX + 1];
    size_t n = strlen(name);

    text[0] = (uint8_t)type;
    memcpy(text + 1, name, n);
    return siphash24(r->hash_key, text, n + 1) % BUCKETS;
}

static struct entry *entry_find(struct resolver *r, enum dns_type type, const char *name)
{
    struct list *bucket = &r->buckets[hash_of(r, type, name)];

    LIST_FOREACH (it, bucket) {
        struct entry *e = LIST_ENTRY(it, struct entry, bucket);
        if (e->type == type && strcmp(e->name, name) == 0)
            return e;
    }
    return NULL;
}

static struct entry *entry_new(struct resolver *r, enum dns_type type, const char *name)
{
    struct entry *e = calloc(1, sizeof(*e));

    if (!e)
        return NULL;
    e->r = r;
    e->type = type;
    (void)snprintf(e->name, sizeof(e->name), "%s", name);
    list_init(&e->waiters);
    list_push_back(&r->buckets[hash_of(r, type, name)], &e->bucket);
    return e;
}

static void rrset_unref(struct rrset *set)
{
    if (set && --set->refs == 0)
        free(set);
}

static void entry_free(struct entry *e)
{
    struct resolver *r = e->r;

    if (e->set) {
        r->n_cached--;
        r->n_records -= e->set->answer.n;
        rrset_unref(e->set);
    }
    list_remove(&e->bucket);
    list_remove(&e->order);
    free(e);
}

static struct rrset *rrset_of(const struct dns_answer *a)
{
    /* only the records that are there */
    size_t size = offsetof(struct rrset, answer.records) + a->n * sizeof(a->records[0]);
    struct rrset *set = calloc(1, size);

    if (!set)
        return NULL;
    set->refs = 1;
    memcpy(&set->answer, a, offsetof(struct dns_answer, records) + a->n * sizeof(a->records[0]));
    return set;
}

/* ---- cache ---- */

static void cache_put(struct resolver *r, struct entry *e, struct rrset *set)
{
    e->set = set;
    set->refs++;
    e->until_ms = loop_clock(r->loop).mono_ms + (int64_t)set->answer.ttl * 1000;
    list_push_back(&r->cached, &e->order);
    r->n_cached++;
    r->n_records += set->answer.n;
    while (r->n_cached > CACHE_SETS_MAX || r->n_records > CACHE_RECORDS_MAX)
        entry_free(LIST_ENTRY(list_pop(&r->cached), struct entry, order));
}

/* Tells everybody who asked, then keeps or forgets. Callbacks may ask again. */
static void entry_answer(struct entry *e, const struct dns_answer *answer)
{
    static const struct rrset failed = {.refs = 1, .answer = {.status = DNS_S_FAILED}};
    struct resolver *r = e->r;
    struct list waiters;
    struct rrset *set = answer ? rrset_of(answer) : NULL;

    list_init(&waiters);
    while (!list_empty(&e->waiters)) {
        list_push_back(&waiters, list_pop(&e->waiters));
    }
    if (set && answer->status != DNS_S_FAILED && answer->ttl > 0 && !r->closing)
        cache_put(r, e, set);
    else
        entry_free(e);
    while (!list_empty(&waiters)) {
        struct waiter *w = LIST_ENTRY(list_pop(&waiters), struct waiter, node);
        w->fn(w->ctx, set ? set : &failed);
        free(w);
    }
    rrset_unref(set);
}

/* ---- asking ---- */

static void on_answer(void *ctx, int status, int timeouts, unsigned char *bytes, int n)
{
    struct entry *e = ctx;
    struct dns_answer answer;

    (void)timeouts;
    e->r->in_flight--;
    bool good = status == ARES_SUCCESS && bytes && n > 0 &&
                dns_answer_parse(sv_of((const char *)bytes, (size_t)n), e->type, &answer) == ERR_OK;
    entry_answer(e, good ? &answer : NULL);
}

static void entry_ask(struct entry *e)
{
    struct resolver *r = e->r;
    unsigned char *query = NULL;
    int n = 0;
    int status = ares_create_query(e->name, ns_c_in, (int)e->type, 0, 1, &query, &n, EDNS_SIZE);

    r->in_flight++;
    e->asked = true;
    if (status != ARES_SUCCESS) {
        on_answer(e, status, 0, NULL, 0);
        return;
    }
    query[3] |= 0x20; /* AD: tell us whether it validated (RFC 6840 5.7) */
    ares_send(r->channel, query, n, on_answer, e); /* may answer at once */
    ares_free_string(query);
}

static void ask_waiting(struct resolver *r)
{
    while (!r->closing && r->in_flight < IN_FLIGHT_MAX && !list_empty(&r->waiting)) {
        struct entry *e = LIST_ENTRY(list_pop(&r->waiting), struct entry, order);
        r->n_waiting--;
        entry_ask(e);
    }
}

static void fail_now(rr_fn *fn, void *ctx)
{
    static const struct rrset failed = {.refs = 1, .answer = {.status = DNS_S_FAILED}};

    fn(ctx, &failed);
}

static struct entry *entry_fresh(struct resolver *r, enum dns_type type, const char *name)
{
    struct entry *e = entry_find(r, type, name);

    if (e && e->set && e->until_ms <= loop_clock(r->loop).mono_ms) {
        entry_free(e);
        return NULL;
    }
    return e;
}

void rr_ask(struct resolver *r, enum dns_type type, const char *name, rr_fn *fn, void *ctx)
{
    struct entry *e = r->closing ? NULL : entry_fresh(r, type, name);

    if (e && e->set) {
        struct rrset *set = e->set;
        set->refs++;
        fn(ctx, set);
        rrset_unref(set);
        return;
    }
    struct waiter *w =
        r->closing || (!e && r->n_waiting >= WAITING_MAX) ? NULL : calloc(1, sizeof(*w));
    bool fresh = !e;
    if (w && fresh)
        e = entry_new(r, type, name);
    if (!w || !e) {
        free(w);
        fail_now(fn, ctx);
        return;
    }
    *w = (struct waiter){.fn = fn, .ctx = ctx};
    list_push_back(&e->waiters, &w->node);
    if (!fresh)
        return;
    list_push_back(&r->waiting, &e->order);
    r->n_waiting++;
    ask_waiting(r);
    arm_timer(r);
}

/* ---- servers ---- */

/* "192.0.2.1", "192.0.2.1:5353", "[2001:db8::1]:53", "2001:db8::1" */
static bool parse_server(struct sv text, struct ares_addr_port_node *out)
{
    struct ip ip;
    uint64_t port = 53;
    size_t colon = sv_rfind_byte(text, ':');
    struct sv host = text;

    if (text.n && text.p[0] == '[') {
        size_t end = sv_find_byte(text, ']');
        if (end == SIZE_MAX)
            return false;
        host = sv_of(text.p + 1, end - 1);
        struct sv tail = sv_skip(text, end + 1);
        if (tail.n && (tail.p[0] != ':' || !sv_to_u64(sv_skip(tail, 1), 1, 65535, &port)))
            return false;
    } else if (colon != SIZE_MAX && sv_find_byte(text, ':') == colon) {
        host = sv_take(text, colon);
        if (!sv_to_u64(sv_skip(text, colon + 1), 1, 65535, &port))
            return false;
    }
    if (!ip_parse(host, &ip))
        return false;
    *out = (struct ares_addr_port_node){.udp_port = (int)port, .tcp_port = (int)port};
    out->family = ip_is_v4(&ip) ? AF_INET : AF_INET6;
    memcpy(&out->addr, ip.b + (ip_is_v4(&ip) ? 12 : 0), ip_is_v4(&ip) ? 4 : 16);
    return true;
}

static enum err servers_from_list(struct sv list, struct ares_addr_port_node *nodes, size_t *n,
                                  struct errinfo *info)
{
    for (struct sv rest = list; rest.p;) {
        struct sv one = sv_trim(sv_cut(&rest, ','));
        if (one.n == 0)
            continue;
        if (*n == SERVERS_MAX)
            return err_set(info, ERR_LIMIT, "more than %d DNS servers", SERVERS_MAX);
        if (!parse_server(one, &nodes[*n]))
            return err_set(info, ERR_SYNTAX, "\"%.*s\" is not a DNS server such as 192.0.2.1:53",
                           SV_ARG(one));
        (*n)++;
    }
    return ERR_OK;
}

/* resolv.conf(5): only nameserver lines matter here; what we cannot read is skipped. */
static void servers_from_resolv_conf(struct sv text, struct ares_addr_port_node *nodes, size_t *n)
{
    for (struct sv rest = text; rest.p && *n < SERVERS_MAX;) {
        struct sv line = sv_trim(sv_cut(&rest, '\n'));
        if (!sv_starts(line, SV("nameserver")))
            continue;
        struct sv value = sv_trim(sv_skip(line, 10));
        if (parse_server(value, &nodes[*n]))
            (*n)++;
    }
}

static enum err set_servers(struct resolver *r, struct sv servers, struct sv resolv_conf,
                            struct errinfo *info)
{
    struct ares_addr_port_node nodes[SERVERS_MAX];
    size_t n = 0;
    enum err err = servers_from_list(servers, nodes, &n, info);

    if (err)
        return err;
    if (n == 0)
        servers_from_resolv_conf(resolv_conf, nodes, &n);
    if (n == 0 && parse_server(SV("127.0.0.1"), &nodes[0]))
        n = 1;
    for (size_t i = 0; i < n; i++)
        nodes[i].next = i + 1 < n ? &nodes[i + 1] : NULL;
    if (ares_set_servers_ports(r->channel, nodes) != ARES_SUCCESS)
        return err_set(info, ERR_IO, "c-ares refuses the servers");
    return ERR_OK;
}

/* ---- life ---- */

static enum err open_channel(struct resolver *r, uint32_t timeout_ms, uint32_t tries,
                             struct errinfo *info)
{
    struct ares_options o = {.flags = ARES_FLAG_NOCHECKRESP | ARES_FLAG_NOSEARCH |
                                      ARES_FLAG_NOALIASES | ARES_FLAG_EDNS | ARES_FLAG_STAYOPEN,
                             .timeout = (int)timeout_ms,
                             .tries = (int)tries,
                             .lookups = (char[]){"b"},
                             .ednspsz = EDNS_SIZE,
                             .sock_state_cb = on_socket_state,
                             .sock_state_cb_data = r};
    const int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
                     ARES_OPT_EDNSPSZ | ARES_OPT_SOCK_STATE_CB | ARES_OPT_DOMAINS |
                     ARES_OPT_NOROTATE;

    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
        return err_set(info, ERR_IO, "c-ares cannot start");
    int status = ares_init_options(&r->channel, &o, mask);
    if (status != ARES_SUCCESS) {
        ares_library_cleanup();
        return err_set(info, ERR_IO, "c-ares: %s", ares_strerror(status));
    }
    return ERR_OK;
}

enum err resolver_new(struct loop *l, struct sv servers, struct sv resolv_conf, uint32_t timeout_ms,
                      uint32_t tries, struct resolver **out_r, struct errinfo *info)
{
    struct resolver *r = calloc(1, sizeof(*r));

    if (!r)
        return err_set(info, ERR_IO, "out of memory");
    r->loop = l;
    r->rng = rng_system();
    rng_bytes(&r->rng, r->hash_key, sizeof(r->hash_key));
    list_init(&r->waiting);
    list_init(&r->cached);
    for (size_t i = 0; i < BUCKETS; i++)
        list_init(&r->buckets[i]);
    enum err err = open_channel(r, timeout_ms, tries, info);
    if (!err) {
        err = set_servers(r, servers, resolv_conf, info);
        if (!err && timer_new(l, on_timer, r, &r->timer) != ERR_OK)
            err = err_set(info, ERR_IO, "out of memory");
        if (err) {
            ares_destroy(r->channel);
            ares_library_cleanup();
        }
    }
    if (err) {
        free(r);
        return err;
    }
    *out_r = r;
    return ERR_OK;
}

void resolver_free(struct resolver *r)
{
    if (!r)
        return;
    r->closing = true;
    ares_destroy(r->channel); /* answers what is in flight; closes its sockets */
    while (!list_empty(&r->waiting))
        entry_answer(LIST_ENTRY(list_pop(&r->waiting), struct entry, order), NULL);
    while (!list_empty(&r->cached))
        entry_free(LIST_ENTRY(list_pop(&r->cached), struct entry, order));
    timer_free(r->timer);
    ares_library_cleanup();
    free(r);
}
