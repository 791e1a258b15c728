/*
 * Administration of the queue over the local control socket: requests of postsealctl (and of `web`)
 * as CTL_REQ {verb, JSON arguments}, answered with CTL_REPLY. Every verb that changes something is
 * tracked with the user who asked.
 *
 * SECURITY: the socket is mode 0600 in a directory of mode 0700; arguments are parsed by jansson
 * and checked here; messages of `web` come over its own channel and obey the same checks.
 */
#include "role/queue_ctl.h"

#include "role/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

/* ---- status, metrics ---- */

static void stage_counts(const struct queue *q, struct buf *b)
{
    uint64_t n[4] = {0}, hot = 0, encrypt = 0;

    for (uint32_t i = 0; i < q->msgs_cap; i++) {
        for (const struct qmsg *m = q->msgs[i]; m; m = m->next) {
            n[m->stage < 3 ? m->stage : 3]++;
            hot += m->hot != NULL;
            encrypt += m->encrypt;
        }
    }
    jw_u64(b, "messages", q->msgs_n);
    jw_u64(b, "new", n[STAGE_NEW]);
    jw_u64(b, "delivering_or_delayed", n[STAGE_READY]);
    jw_u64(b, "held", n[STAGE_HELD]);
    jw_u64(b, "active", hot);
    jw_u64(b, "encrypt", encrypt);
}

static void workers(const struct queue *q, struct buf *b)
{
    uint32_t smtp = 0, content = 0;

    for (uint8_t i = 0; i < q->n_smtp; i++)
        smtp += q->smtp[i].ch != NULL;
    for (uint8_t i = 0; i < q->n_content; i++)
        content += q->content[i].ch != NULL;
    jw_open(b, "workers");
    jw_u64(b, "smtp", smtp);
    jw_u64(b, "content", content);
    jw_bool(b, "store", q->store != NULL);
    jw_bool(b, "lookup", q->lookup != NULL);
    jw_bool(b, "web", q->web != NULL);
    jw_close(b);
}

static void status(struct queue *q, struct buf *b)
{
    struct spool_stats s;

    spool_stats(q->spool, &s);
    jw_open(b, NULL);
    jw_str(b, "version", POSTSEAL_VERSION);
    jw_sv(b, "host", q->hostname);
    jw_u64(b, "revision", q->snap->s->revision);
    jw_bool(b, "accepting", q->intake_open);
    jw_open(b, "queue");
    stage_counts(q, b);
    jw_close(b);
    jw_open(b, "spool");
    jw_u64(b, "live_bytes", s.live_bytes);
    jw_u64(b, "disk_bytes", s.disk_bytes);
    jw_u64(b, "segments", s.segments);
    jw_u64(b, "free_segments", s.free_segments);
    jw_u64(b, "failed_syncs", s.failed_syncs);
    jw_u64(b, "damaged", s.damaged);
    jw_bool(b, "refusing", s.refusing);
    jw_close(b);
    workers(q, b);
    jw_open(b, "since_start");
    for (unsigned c = 0; c < COUNTERS; c++)
        jw_u64(b, queue_counter_name((enum counter)c), q->counters[c]);
    jw_close(b);
    jw_close(b);
}

const char *queue_counter_name(enum counter c)
{
    static const char *const names[COUNTERS] = {[COUNT_RECEIVED] = "received",
                                                [COUNT_RECEIVED_BYTES] = "received_bytes",
                                                [COUNT_DELIVERED] = "delivered",
                                                [COUNT_DEFERRED] = "deferred",
                                                [COUNT_BOUNCED] = "bounced",
                                                [COUNT_HELD] = "held",
                                                [COUNT_DROPPED] = "dropped",
                                                [COUNT_ENCRYPTED] = "encrypt_decisions",
                                                [COUNT_SCANNED] = "scanned",
                                                [COUNT_SCAN_FAILED] = "scan_failed",
                                                [COUNT_CONTENT_KILLED] = "content_killed",
                                                [COUNT_TLS_FAILED] = "tls_failed",
                                                [COUNT_REPORTS] = "reports",
                                                [COUNT_ALARMS] = "alarms",
                                                [COUNT_SPLIT] = "split",
                                                [COUNT_REFUSED] = "refused_at_commit"};
    return names[c];
}

void queue_metrics(struct queue *q, struct buf *out)
{
    struct spool_stats s;

    spool_stats(q->spool, &s);
    (void)buf_printf(out,
                     "# HELP postseal_queue_messages Messages in the queue.\n"
                     "# TYPE postseal_queue_messages gauge\npostseal_queue_messages %u\n"
                     "# TYPE postseal_spool_live_bytes gauge\npostseal_spool_live_bytes %llu\n"
                     "# TYPE postseal_spool_disk_bytes gauge\npostseal_spool_disk_bytes %llu\n"
                     "# TYPE postseal_accepting gauge\npostseal_accepting %d\n"
                     "# TYPE postseal_settings_revision gauge\npostseal_settings_revision %llu\n",
                     q->msgs_n, (unsigned long long)s.live_bytes, (unsigned long long)s.disk_bytes,
                     q->intake_open ? 1 : 0, (unsigned long long)q->snap->s->revision);
    for (unsigned c = 0; c < COUNTERS; c++) {
        const char *name = queue_counter_name((enum counter)c);
        (void)buf_printf(out, "# TYPE postseal_%s_total counter\npostseal_%s_total %llu\n", name,
                         name, (unsigned long long)q->counters[c]);
    }
    queue_worker_metrics(q, out);
}

/* ---- explain route ---- */

static void explain_one(struct queue *q, struct buf *b, struct sv address, bool encrypt)
{
    struct arena a;
    struct hop hop = {0};
    struct decision d = {.encrypt = encrypt,
                         .method =
                             (uint8_t)(encrypt ? q->snap->s->encryption_method : METHOD_NONE)};

    arena_init(&a, 1024 * 1024);
    jw_open(b, NULL);
    jw_sv(b, "address", address);
    if (plan_route(q->snap->s, &d, address, 0, &a, &hop) == ERR_OK)
        jw_hop(b, &hop);
    jw_close(b);
    arena_done(&a);
}

void jw_hop(struct buf *b, const struct hop *hop)
{
    jw_sv(b, "route", hop->route);
    jw_sv(b, "domain", hop->domain);
    /* delivery by MX on another port is one host: the domain itself */
    bool mx = hop->n_hosts == 0 ||
              (hop->n_hosts == 1 && hop->hosts[0].mx && sv_eq(hop->hosts[0].name, hop->domain));
    jw_str(b, "deliver", mx ? "mx" : "servers");
    jw_array(b, "servers");
    for (uint32_t i = 0; i < hop->n_hosts; i++) {
        jw_open(b, NULL);
        jw_sv(b, "name", hop->hosts[i].name);
        jw_u64(b, "port", hop->hosts[i].port);
        jw_u64(b, "preference", hop->hosts[i].preference);
        jw_bool(b, "mx", hop->hosts[i].mx);
        jw_close(b);
    }
    jw_array_end(b);
    jw_str(b, "tls_required", tls_level_name(hop->tls.level));
    jw_u64(b, "tls_bits", hop->tls.strength);
    jw_sv(b, "tls_required_by", hop->tls.why);
    jw_sv(b, "auth_user", hop->auth_user);
}

static void explain_route(struct queue *q, struct ipc *ch, uint64_t tag, const json_t *args)
{
    struct sv address = ctl_arg(args, "address");
    struct buf b;

    if (!address.n || sv_find_byte(address, '@') == SIZE_MAX) {
        ctl_fail(ch, tag, EX_USAGE, "address: an address such as user@example.com is needed");
        return;
    }
    buf_init(&b, 65536);
    explain_one(q, &b, address, json_is_true(json_object_get(args, "encrypt")));
    ctl_reply(ch, tag, false, EX_OK, &b);
    buf_done(&b);
}

static void log_level(struct queue *q, struct ipc *ch, uint64_t tag, const json_t *args)
{
    enum log_level level;
    struct buf b;

    if (!log_level_parse(ctl_arg(args, "level"), &level)) {
        ctl_fail(ch, tag, EX_USAGE, "level: one of error, warn, info, debug");
        return;
    }
    struct level m = {.level = (uint8_t)level};
    role_tell(q->control, MSG_LEVEL, &m, -1);
    log_set_level(level);
    buf_init(&b, 256);
    jw_open(&b, NULL);
    jw_sv(&b, "level", ctl_arg(args, "level"));
    jw_close(&b);
    ctl_reply(ch, tag, false, EX_OK, &b);
    buf_done(&b);
}

static void simple(struct queue *q, struct ipc *ch, uint64_t tag, const char *verb)
{
    struct buf b, text;

    buf_init(&b, 1024 * 1024);
    buf_init(&text, 512 * 1024);
    if (strcmp(verb, "status") == 0) {
        status(q, &b);
    } else if (strcmp(verb, "ready") == 0) {
        jw_open(&b, NULL);
        jw_bool(&b, "ready", q->intake_open && q->n_smtp && q->smtp[0].ch != NULL);
        jw_close(&b);
    } else {
        queue_metrics(q, &text);
        jw_open(&b, NULL);
        jw_sv(&b, "text", buf_sv(&text));
        jw_close(&b);
    }
    ctl_reply(ch, tag, false, EX_OK, &b);
    buf_done(&text);
    buf_done(&b);
}

/* ---- dispatch ---- */

static void run(struct queue *q, struct ipc *ch, const struct ctl_req *r, const json_t *args,
                int fd)
{
    char verb[32];

    snprintf(verb, sizeof(verb), "%.*s", SV_ARG(r->verb));
    if (strcmp(verb, "status") == 0 || strcmp(verb, "ready") == 0 || strcmp(verb, "metrics") == 0)
        simple(q, ch, r->tag, verb);
    else if (strcmp(verb, "explain.route") == 0)
        explain_route(q, ch, r->tag, args);
    else if (strcmp(verb, "log.level") == 0)
        log_level(q, ch, r->tag, args);
    else if (strcmp(verb, "queue.list") == 0 || strcmp(verb, "queue.show") == 0 ||
             strcmp(verb, "queue.count") == 0)
        ctl_list(q, ch, r->tag, verb + 6, args);
    else if (strncmp(verb, "queue.", 6) == 0)
        ctl_act(q, ch, r->tag, verb + 6, args, r->user);
    else if (strcmp(verb, "scan") == 0 || strcmp(verb, "simulate") == 0)
        ctl_simulate(q, ch, r->tag, strcmp(verb, "simulate") == 0, args, fd);
    else
        ctl_fail(ch, r->tag, EX_USAGE, "unknown verb");
}

void ctl_request(struct queue *q, struct ipc *ch, const struct ctl_req *r, int fd)
{
    json_error_t error;
    json_t *args = r->args.n ? json_loadb(r->args.p, r->args.n, 0, &error) : json_object();

    if (!args || !json_is_object(args))
        ctl_fail(ch, r->tag, EX_DATAERR, "arguments are not a JSON object");
    else
        run(q, ch, r, args, fd);
    if (fd >= 0)
        close(fd);
    json_decref(args);
}

/* ---- clients ---- */

struct ctl_client {
    struct list node;
    struct queue *q;
    struct ipc *ch;
};

static void client_message(void *ctx, struct ipc *ch, enum message m,
                           const union message_body *body, int fd)
{
    struct ctl_client *c = ctx;

    if (m == MSG_CTL_REQ)
        ctl_request(c->q, ch, &body->CTL_REQ, fd);
    else if (fd >= 0)
        close(fd);
}

static void client_closed(void *ctx, struct ipc *ch, const char *why)
{
    struct ctl_client *c = ctx;

    (void)why;
    ctl_waits_gone(c->q, ch);
    list_remove(&c->node);
    free(c);
}

void ctl_accept(void *ctx, int events)
{
    struct ctl_listener *l = ctx;
    int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0)
        return;
    struct ctl_client *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    c->q = l->q;
    struct ipc_handler h = {.ctx = c, .message = client_message, .closed = client_closed};
    if (ipc_new(l->q->loop, fd, ROLE_QUEUE, ROLE_CTL, 0, &h, &c->ch)) {
        close(fd);
        free(c);
        return;
    }
    list_push_back(&l->q->ctl_clients, &c->node);
}
