/*
 * Delivery attempts: from DELIVER over the addresses of the next hop to ATTEMPT_DONE.
 *
 * Talks to: `queue` (jobs and results), DNS, next hops. On failure: each address gets its turn, in
 * order of preference; what failed most tellingly is reported. Results are kept until `queue` says
 * they are durable, and are told again to a new `queue` before anything else.
 *
 * Opportunistic TLS (reference mta 2.3): refused or not offered -> clear text on the same
 * connection; handshake failed -> one new connection in clear to the same address. Never when TLS
 * is demanded: smtp_out_opportunistic is the only place that says so.
 */
#include "role/smtp_out.h"

#include <stdlib.h>

#define OUT_MEM_MAX (4u * 1024 * 1024)
#define OUT_RAW_MAX (3u * 1024 * 1024)

/* ---- what holds ---- */

/* An Encrypt-marked message and AUTH demand TLS even when the route does not. */
static struct tls_req req_of(const struct delivery *job)
{
    struct tls_req req = job->hop.tls;

    if (req.level < TLS_LEVEL_ENCRYPT && (job->encrypt || job->hop.auth_user.n)) {
        req.level = TLS_LEVEL_ENCRYPT;
        if (!req.why.n)
            req.why = job->encrypt ? SV("message is marked Encrypt") : SV("AUTH");
    }
    if (req.strength == 0)
        req.strength = TLS_STRENGTH_MEDIUM;
    return req;
}

bool smtp_out_opportunistic(const struct attempt *a)
{
    return a->req.level < TLS_LEVEL_ENCRYPT && !a->job.encrypt && !a->job.hop.auth_user.n &&
           tls_may_fall_back(&a->req, FAILURE_TLS_HANDSHAKE, a->job.hop.auth_user.n > 0);
}

/* ---- memory of broken TLS: short, never stored, opportunistic only ---- */

static bool broken_tls(const struct smtp *m, const struct ip *ip)
{
    int64_t now = smtp_now(m);

    for (uint32_t i = 0; i < SMTP_BROKEN_TLS; i++) {
        if (m->broken[i].until_ms > now && ip_eq(&m->broken[i].ip, ip))
            return true;
    }
    return false;
}

static void remember_broken(struct smtp *m, const struct ip *ip)
{
    m->broken[m->broken_at++ % SMTP_BROKEN_TLS] =
        (struct smtp_broken){*ip, smtp_now(m) + SMTP_BROKEN_MS};
}

void smtp_out_tls_worked(struct smtp *m, const struct ip *ip)
{
    for (uint32_t i = 0; i < SMTP_BROKEN_TLS; i++) {
        if (m->broken[i].until_ms && ip_eq(&m->broken[i].ip, ip))
            m->broken[i].until_ms = 0;
    }
}

/* ---- addresses ---- */

static void on_addrs(void *ctx, enum dns_result result, const struct dns_addr *addrs, size_t n);

static void resolve(struct attempt *a)
{
    struct smtp *m = a->m;
    const struct host *h = &a->hosts[a->next_host++];

    a->host = h;
    a->n_addrs = a->next_addr = 0;
    a->resolving = true;
    if (h->mx)
        resolver_mx(m->resolver, h->name, on_addrs, a);
    else
        resolver_host(m->resolver, h->name, on_addrs, a);
}

/* Only the recipient's own domain can say for good that there is no such place; a host that an
 * administrator named may be a slip of his. */
static bool own_domain(const struct attempt *a)
{
    return a->host->mx && sv_eq_nocase(a->host->name, a->job.hop.domain);
}

static void note_dns(struct attempt *a, enum dns_result result)
{
    switch (result) {
    case DNS_OK:
        return;
    case DNS_NULL_MX:
        smtp_out_note(a, own_domain(a) ? FAILURE_DNS_PERM : FAILURE_DNS_TEMP, 0,
                      own_domain(a) ? "5.1.10" : "4.4.3",
                      "Domain %.*s does not accept mail (nullMX)", SV_ARG(a->host->name));
        return;
    case DNS_NONE:
        smtp_out_note(a, own_domain(a) ? FAILURE_DNS_PERM : FAILURE_DNS_TEMP, 0,
                      own_domain(a) ? "5.4.4" : "4.4.3", "Host or domain name not found: %.*s",
                      SV_ARG(a->host->name));
        return;
    case DNS_TEMP:
        smtp_out_note(a, FAILURE_DNS_TEMP, 0, "4.4.3",
                      "Host or domain name look-up failed, try again: %.*s", SV_ARG(a->host->name));
        return;
    }
}

/* The first addresses of the first hosts: a domain with a hundred MX hosts that are all dead costs
 * one attempt no more than this. */
static size_t worth_trying(const struct dns_addr *addrs, size_t n)
{
    size_t hosts = 0;

    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(addrs[i].host, addrs[i - 1].host) != 0)
            hosts++;
        if (hosts > OUT_HOSTS_MAX || i == OUT_ADDRS_MAX)
            return i;
    }
    return n;
}

static void on_addrs(void *ctx, enum dns_result result, const struct dns_addr *addrs, size_t n)
{
    struct attempt *a = ctx;

    a->resolving = false;
    if (a->dropped) {
        smtp_out_free(a);
        return;
    }
    if (result == DNS_OK && n > 0) {
        n = worth_trying(addrs, n);
        a->addrs = ARENA_ARRAY(&a->mem, struct dns_addr, n);
        if (a->addrs)
            memcpy(a->addrs, addrs, n * sizeof(*addrs));
        a->n_addrs = a->addrs ? (uint32_t)n : 0;
    } else {
        note_dns(a, result == DNS_OK ? DNS_NONE : result);
    }
    smtp_out_next(a);
}

static uint16_t port_of(const struct attempt *a)
{
    return a->host->port ? a->host->port : 25;
}

bool smtp_out_late(struct attempt *a)
{
    if (smtp_now(a->m) < a->until_ms)
        return false;
    smtp_out_note(a, FAILURE_TIMEOUT, 0, "4.4.2", "the attempt took too long in all");
    return true;
}

void smtp_out_next(struct attempt *a)
{
    for (;;) {
        if (smtp_out_late(a)) {
            smtp_out_finish(a);
            return;
        }
        if (a->next_addr < a->n_addrs) {
            const struct dns_addr *addr = &a->addrs[a->next_addr++];
            a->fell_back = smtp_out_opportunistic(a) && broken_tls(a->m, &addr->ip);
            if (smtp_out_connect(a, addr, port_of(a), a->fell_back))
                return;
        } else if (a->next_host < a->n_hosts && a->m->resolver) {
            resolve(a); /* goes on in on_addrs */
            return;
        } else {
            smtp_out_finish(a);
            return;
        }
    }
}

void smtp_out_again_in_clear(struct attempt *a, const struct out_conn *c)
{
    struct dns_addr same = {.ip = c->ip};

    memcpy(same.host, c->host.p, c->host.n < 255 ? c->host.n : 255);
    remember_broken(a->m, &c->ip);
    a->fell_back = true;
    smtp_stats_add(&a->m->stats, COUNT_OUT_FALLBACK, 1);
    if (!smtp_out_connect(a, &same, c->port, true))
        smtp_out_next(a);
}

/* ---- the attempt ---- */

/* The recipients that are still open become those of the next transaction. */
void smtp_out_txn_prepare(struct attempt *a)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < a->job.n_rcpts; i++) {
        if (a->results[i].result == RCPT_DELIVERED || a->results[i].result == RCPT_FAILED)
            continue;
        a->txn.rcpts[n] = a->job.rcpts[i];
        a->txn_map[n++] = i;
    }
    a->txn.n_rcpts = n;
    a->offset = 0;
}

static void restart(struct attempt *a)
{
    a->no_pool = true;
    a->next_host = a->n_addrs = a->next_addr = 0;
    smtp_out_next(a);
}

/* 421 or silence to the first command of a kept connection means that it was dead already. */
static bool dead_on_reuse(const struct attempt *a)
{
    for (uint32_t i = 0; i < a->job.n_rcpts; i++) {
        const struct rcpt_outcome *r = &a->results[i];
        if (r->result == RCPT_DELIVERED || r->result == RCPT_FAILED ||
            (r->code != 0 && r->code != 421))
            return false;
    }
    return true;
}

void smtp_out_after_txn(struct attempt *a, bool reused, bool dot_given)
{
    bool corrupt = a->out.failure == FAILURE_CORRUPT;

    if (smtp_out_open(a) == 0 || corrupt)
        smtp_out_finish(a);
    else if (reused && !dot_given && !a->no_pool && dead_on_reuse(a))
        restart(a);
    else if (dot_given && dead_on_reuse(a))
        smtp_out_finish(a); /* lost behind the final dot: it may have arrived; no second try now */
    else if (++a->sessions >= OUT_SESSIONS_MAX || !a->hosts || reused)
        smtp_out_finish(a);
    else
        smtp_out_next(a);
}

static void start(struct attempt *a)
{
    struct smtp *m = a->m;

    list_push_back(&m->attempts, &a->node);
    a->start_ms = smtp_now(m);
    a->until_ms = a->start_ms + ((int64_t)a->snap->s->delivery_attempt_max_s +
                                 (int64_t)(a->job.size / OUT_MIN_RATE)) *
                                    1000;
    smtp_stats_add(&m->stats, COUNT_OUT_ATTEMPTS, 1);
    if (!smtp_out_body_intact(a)) {
        smtp_stats_add(&m->stats, COUNT_OUT_CORRUPT, 1);
        smtp_out_note(a, FAILURE_CORRUPT, 0, "4.3.0", "The stored body does not match its hash");
        smtp_out_finish(a);
        return;
    }
    if (!smtp_out_reuse(a))
        smtp_out_next(a);
}

static bool full(struct smtp *m)
{
    if (m->n_out < SMTP_OUT_MAX)
        return false;
    struct pool_node *idle = smtp_pool_oldest(&m->pool);
    if (idle)
        smtp_out_conn_free((struct out_conn *)(void *)idle);
    return m->n_out >= SMTP_OUT_MAX;
}

void smtp_out_room(struct smtp *m)
{
    if (m->in_room)
        return; /* the outer loop looks again: no recursion over what fails at once */
    m->in_room = true;
    while (!list_empty(&m->waiting) && m->n_out < SMTP_OUT_MAX) {
        struct attempt *a = LIST_ENTRY(m->waiting.next, struct attempt, node);
        list_remove(&a->node);
        start(a);
    }
    m->in_room = false;
}

static enum err take_job(struct attempt *a, const struct delivery *d)
{
    struct buf key;

    arena_init(&a->mem, OUT_MEM_MAX);
    buf_init(&a->raw, OUT_RAW_MAX);
    enum err err = buf_reserve(&a->raw, d->body.n + 2048);
    if (err)
        return err;
    delivery_put(&a->raw, d);
    if (a->raw.overflow)
        return ERR_LIMIT;
    err = delivery_decode(buf_sv(&a->raw), &a->mem, &a->job);
    if (err || a->job.n_rcpts == 0)
        return err ? err : ERR_SYNTAX;
    a->req = req_of(&a->job);
    buf_init(&key, 8192);
    err = smtp_pool_key(&a->job.hop, &a->req, &key);
    a->pool_key = arena_sv(&a->mem, buf_sv(&key));
    buf_done(&key);
    a->results = ARENA_ARRAY(&a->mem, struct rcpt_outcome, a->job.n_rcpts);
    a->txn_map = ARENA_ARRAY(&a->mem, uint32_t, a->job.n_rcpts);
    a->txn = a->job;
    a->txn.rcpts = ARENA_ARRAY(&a->mem, struct rcpt, a->job.n_rcpts);
    return err ? err : a->mem.overflow ? ERR_LIMIT : ERR_OK;
}

static void take_hosts(struct attempt *a)
{
    a->own_host = (struct host){.name = a->job.hop.domain, .port = 25, .mx = true};
    a->hosts = a->job.hop.n_hosts ? a->job.hop.hosts : &a->own_host;
    a->n_hosts = a->job.hop.n_hosts ? a->job.hop.n_hosts : 1;
    for (uint32_t i = 0; i < a->job.n_rcpts; i++)
        a->results[i].index = a->job.rcpts[i].index;
}

void smtp_out_deliver(struct smtp *m, const struct delivery *d, int fd)
{
    struct attempt *a = calloc(1, sizeof(*a));

    if (!a)
        abort(); /* without memory nothing can be promised; the supervisor starts a new worker */
    a->m = m;
    a->fd = fd;
    a->snap = smtp_snap_ref(m->snap);
    a->start_wall_ms = smtp_wall(m);
    if (take_job(a, d)) {
        const struct outcome no = {.attempt = d->attempt, .id = d->id, .failure = FAILURE_INTERNAL};
        log_msg(LOG_ERROR, "attempt", "a delivery job could not be taken");
        smtp_out_free(a);
        if (m->queue) /* which would wait for it for ever */
            smtp_tell(m->queue, MSG_ATTEMPT_DONE, &no);
        return;
    }
    take_hosts(a);
    if (full(m))
        list_push_back(&m->waiting, &a->node);
    else
        start(a);
}

/* ---- queue ---- */

void smtp_out_ack(struct smtp *m, uint64_t attempt)
{
    LIST_FOREACH (it, &m->unacked) {
        struct attempt *a = LIST_ENTRY(it, struct attempt, node);
        if (a->out.attempt == attempt) {
            smtp_out_free(a);
            return;
        }
    }
}

static void drop(struct attempt *a)
{
    list_remove(&a->node);
    if (a->conn) {
        a->conn->job = NULL;
        smtp_out_conn_free(a->conn);
        a->conn = NULL;
    }
    a->dropped = true;
    if (!a->resolving)
        smtp_out_free(a); /* else on_addrs does */
}

/* A new `queue` knows nothing of attempts that the old one gave: those whose message cannot have
 * arrived yet are dropped, so that it may plan them anew; the others are finished and reported. */
void smtp_out_queue_gone(struct smtp *m)
{
    struct list *next;

    for (struct list *it = m->waiting.next; it != &m->waiting; it = next) {
        next = it->next;
        drop(LIST_ENTRY(it, struct attempt, node));
    }
    for (struct list *it = m->attempts.next; it != &m->attempts; it = next) {
        struct attempt *a = LIST_ENTRY(it, struct attempt, node);
        next = it->next;
        if (!a->conn || !a->conn->dot_given) {
            drop(a);
        } else if (!a->orphan) {
            a->orphan = true;
            m->orphans++;
        }
    }
}

void smtp_out_queue_back(struct smtp *m)
{
    LIST_FOREACH (it, &m->unacked) {
        struct attempt *a = LIST_ENTRY(it, struct attempt, node);
        if (ipc_send(m->queue, MSG_ATTEMPT_DONE, &a->out, -1))
            log_msg(LOG_ERROR, "attempt", "a result could not be told again");
    }
}

void smtp_out_close_all(struct smtp *m)
{
    struct pool_node *idle;

    while ((idle = smtp_pool_oldest(&m->pool)) != NULL)
        smtp_out_conn_free((struct out_conn *)(void *)idle);
    smtp_out_queue_gone(m);
}

void smtp_out_forget(struct smtp *m)
{
    if (!list_empty(&m->unacked))
        smtp_out_free(LIST_ENTRY(m->unacked.next, struct attempt, node));
}
