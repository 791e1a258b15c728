/*
 * NAME         smtp: SMTP sessions in and out, one process per core
 * TALKS TO     clients and next hops (TCP), DNS; queue (messages, deliveries, settings), keys
 *              (signatures, certificates, AUTH secrets), lookup (passwords), the supervisor
 * ON FAILURE   its own end breaks its sessions: what was acknowledged is in the spool, what was not
 *              is sent again by the client; attempts under way are made again by queue. When queue
 *              is away, MAIL is answered 451, results are kept and told to the next one first.
 */
#include "role/keyclient.h"
#include "role/role.h"
#include "role/smtp_priv.h"
#include "role/smtp_secret.h"

#include "base/enc.h"
#include "base/rng.h"
#include "crypto/cert.h"

#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#define TICK_MS      1000
#define STOP_TICK_MS 100
#define STOP_MAX_MS  8000
#define CERTS_EVERY  10 /* ticks between questions while there are no certificates */
#define TICKET_EVERY 60 /* ticks */
#define STATS_MAX    (16u * 1024)
#define SCRATCH_MAX  (64u * 1024)
#define CA_MAX       (8u * 1024 * 1024)

int64_t smtp_now(const struct smtp *m)
{
    return loop_clock(m->loop).mono_ms;
}

int64_t smtp_wall(const struct smtp *m)
{
    return loop_clock(m->loop).wall_ms;
}

void smtp_tell(struct ipc *ch, enum message msg, const void *body)
{
    enum err err = ipc_send(ch, msg, body, -1);

    if (err)
        log_msg(LOG_WARN, "ipc", "%s could not be sent: %s", message_name(msg), err_name(err));
}

/* ---- ids ---- */

uint64_t smtp_id_take(struct smtp *m)
{
    if (m->lease_next >= m->lease_end) {
        m->lease_next = m->lease2_next;
        m->lease_end = m->lease2_end;
        m->lease2_next = m->lease2_end = 0;
    }
    return m->lease_next < m->lease_end ? m->lease_next++ : 0;
}

bool smtp_ids_left(const struct smtp *m)
{
    return m->lease_next < m->lease_end || m->lease2_next < m->lease2_end;
}

static void take_lease(struct smtp *m, const struct lease *l)
{
    if (l->count == 0 || l->first == 0 || l->first > UINT64_MAX - l->count)
        return;
    if (m->lease_next >= m->lease_end) {
        m->lease_next = l->first;
        m->lease_end = l->first + l->count;
    } else {
        m->lease2_next = l->first;
        m->lease2_end = l->first + l->count;
    }
    smtp_listen(m, true);
}

static void take_intake(struct smtp *m, const struct intake *in)
{
    bool bad = in->code < 400 || in->code > 499;

    m->intake_open = in->open;
    m->intake.code = bad ? 451 : in->code;
    (void)snprintf(m->intake.status, sizeof(m->intake.status), "%.*s",
                   SV_ARG(bad ? SV("4.3.0") : sv_take(in->status, 15)));
    (void)snprintf(m->intake.text, sizeof(m->intake.text), "%.*s",
                   SV_ARG(in->text.n ? sv_take(in->text, 200) : SV("Try again later")));
}

/* ---- queue ---- */

static void queue_message(void *ctx, struct ipc *ch, enum message msg, const union message_body *b,
                          int fd)
{
    struct smtp *m = ctx;

    (void)ch;
    if (msg == MSG_DELIVER && m->snap && !m->stopping) {
        smtp_out_deliver(m, &b->DELIVER, fd);
        return; /* the attempt owns the fd */
    }
    if (msg == MSG_FILE_GIVE) {
        smtp_in_file(m, &b->FILE_GIVE, fd);
        return;
    }
    if (fd >= 0)
        (void)close(fd);
    if (msg == MSG_COMMITTED)
        smtp_in_committed(m, &b->COMMITTED);
    else if (msg == MSG_ATTEMPT_ACK)
        smtp_out_ack(m, b->ATTEMPT_ACK.attempt);
    else if (msg == MSG_LEASE)
        take_lease(m, &b->LEASE);
    else if (msg == MSG_INTAKE)
        take_intake(m, &b->INTAKE);
    else if (msg == MSG_SETTINGS)
        smtp_settings_take(m, &b->SETTINGS);
    else if (msg == MSG_LEVEL && b->LEVEL.level <= LOG_DEBUG)
        log_set_level((enum log_level)b->LEVEL.level);
}

static void queue_lost(struct smtp *m)
{
    m->queue = NULL;
    m->ack_held = 0;
    smtp_in_queue_gone(m);
    smtp_out_queue_gone(m);
}

static void queue_closed(void *ctx, struct ipc *ch, const char *why)
{
    (void)ch;
    log_msg(LOG_WARN, "peer-gone", "channel to queue ended: %s", why);
    queue_lost(ctx);
}

static void queue_channel(struct smtp *m, int fd)
{
    struct ipc_handler h = {m, queue_message, queue_closed};
    struct ipc *old = m->queue;

    if (old) {
        queue_lost(m);
        ipc_free(old);
    }
    m->lease_next = m->lease_end = m->lease2_next = m->lease2_end = 0;
    m->intake_open = true; /* ids are the gate until INTAKE says otherwise */
    if (ipc_new(m->loop, fd, ROLE_SMTP, ROLE_QUEUE, 0, &h, &m->queue)) {
        m->queue = NULL;
        return;
    }
    smtp_out_queue_back(m);
    smtp_stats_forget(&m->stats);
}

/* ---- lookup ---- */

static void lookup_message(void *ctx, struct ipc *ch, enum message msg, const union message_body *b,
                           int fd)
{
    (void)ch;
    if (fd >= 0)
        (void)close(fd);
    if (msg == MSG_ANSWER)
        smtp_in_answer(ctx, &b->ANSWER);
}

static void lookup_closed(void *ctx, struct ipc *ch, const char *why)
{
    struct smtp *m = ctx;

    (void)ch;
    log_msg(LOG_WARN, "peer-gone", "channel to lookup ended: %s", why);
    m->lookup = NULL;
    smtp_in_lookup_gone(m);
}

static void lookup_channel(struct smtp *m, int fd)
{
    struct ipc_handler h = {m, lookup_message, lookup_closed};
    struct ipc *old = m->lookup;

    m->lookup = NULL;
    if (old) {
        smtp_in_lookup_gone(m);
        ipc_free(old);
    }
    if (ipc_new(m->loop, fd, ROLE_SMTP, ROLE_LOOKUP, 0, &h, &m->lookup))
        m->lookup = NULL;
}

/* ---- supervisor ---- */

static void on_bytes(void *ctx, struct sv name, struct sv data)
{
    struct smtp *m = ctx;

    if (sv_eq(name, SV("ca-bundle"))) {
        buf_reset(&m->ca_pem); /* the first of a set; trusted CAs of ours follow */
        (void)buf_append_sv(&m->ca_pem, data);
    } else if (sv_starts(name, SV("ca/"))) {
        (void)buf_append_byte(&m->ca_pem, '\n');
        (void)buf_append_sv(&m->ca_pem, data);
    } else if (sv_eq(name, SV("resolv.conf"))) {
        buf_reset(&m->resolv_conf);
        (void)buf_append_sv(&m->resolv_conf, data);
    } else if (sv_eq(name, SV(ROLE_BYTES_END)) && m->tls_client) {
        smtp_tls_client_renew(m); /* files were read again */
        m->certs_due = true;
        if (m->snap)
            smtp_resolver_renew(m);
    }
}

static bool listener_kind_of(struct sv kind, enum listener_kind *out_kind)
{
    static const struct {
        const char *name;
        enum listener_kind kind;
    } rows[] = {{"smtp", LISTENER_MX},
                {"submission", LISTENER_SUBMISSION},
                {"submissions", LISTENER_SUBMISSIONS},
                {"internal", LISTENER_INTERNAL}};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (sv_eq(kind, sv_str(rows[i].name))) {
            *out_kind = rows[i].kind;
            return true;
        }
    }
    return false;
}

static void on_listener(void *ctx, struct sv kind, struct sv address, int fd)
{
    struct smtp *m = ctx;
    enum listener_kind k = LISTENER_MX;

    if (m->n_listeners == SMTP_LISTENERS || !listener_kind_of(kind, &k)) {
        log_msg(LOG_ERROR, "start", "listener %.*s %.*s is not for smtp", SV_ARG(kind),
                SV_ARG(address));
        (void)close(fd);
        return;
    }
    struct smtp_listener *l = &m->listeners[m->n_listeners++];
    *l = (struct smtp_listener){.m = m, .fd = fd, .kind = k};
    if (watch_new(m->loop, fd, smtp_in_accept, l, &l->watch))
        l->watch = NULL;
}

static void on_channel(void *ctx, enum role peer, uint8_t index, int fd)
{
    struct smtp *m = ctx;

    (void)index;
    if (peer == ROLE_QUEUE)
        queue_channel(m, fd);
    else if (peer == ROLE_LOOKUP)
        lookup_channel(m, fd);
    else if (peer == ROLE_KEYS)
        smtp_keys_channel(m, fd);
    else
        (void)close(fd);
}

/* Accepting begins when there are settings, ids and certificates: who comes earlier waits in the
 * kernel's queue and is never greeted without STARTTLS. What is lost later is no reason to stop:
 * there are answers for it. */
void smtp_listen(struct smtp *m, bool on)
{
    m->begun = m->begun || (m->snap && m->snap->tls && smtp_ids_left(m));
    bool want = on && m->begun && !m->stopping;

    if (want == m->accepting)
        return;
    m->accepting = want;
    for (uint32_t i = 0; i < m->n_listeners; i++) {
        if (m->listeners[i].watch)
            watch_set(m->listeners[i].watch, want ? WATCH_READ : 0);
    }
}

/* ---- time ---- */

void smtp_event(struct smtp *m, enum event_kind kind, uint64_t id, struct sv sender, struct sv rcpt,
                struct sv detail)
{
    struct event e = {.at_ms = smtp_wall(m),
                      .kind = (uint8_t)kind,
                      .id = id,
                      .sender = sender,
                      .rcpt = rcpt,
                      .detail = detail,
                      .revision = m->snap ? m->snap->s->revision : 0};

    if (!m->queue || m->events_left == 0)
        return;
    m->events_left--;
    smtp_tell(m->queue, MSG_EVENT, &e);
}

static void tell_stats(struct smtp *m)
{
    struct buf text;

    buf_init(&text, STATS_MAX);
    if (m->queue && smtp_stats_format(&m->stats, &text)) {
        struct stats s = {.text = buf_sv(&text)};
        smtp_tell(m->queue, MSG_STATS, &s);
    }
    buf_done(&text);
}

static void renew_keys(struct smtp *m)
{
    bool fresh = false;

    if (m->certs_due && (!m->begun || m->ticks % CERTS_EVERY == 0))
        fresh = smtp_keys_certs(m);
    if (m->ticks % TICKET_EVERY == 0)
        fresh = smtp_keys_ticket(m) || fresh;
    if (fresh)
        smtp_tls_renew(m);
    if (!m->begun)
        smtp_listen(m, true);
}

/* Sessions that wait for their commit are let finish: their client will not send again. */
static void stop_step(struct smtp *m)
{
    bool told = list_empty(&m->unacked) || !m->queue; /* a lost result is a message sent twice */

    smtp_in_close_all(m, true);
    bool idle = list_empty(&m->in) && m->n_out == 0;
    if ((idle && told) || smtp_now(m) - m->stop_ms > STOP_MAX_MS) {
        role_stop(m->role);
        return;
    }
    timer_set(m->tick, STOP_TICK_MS);
}

static void on_tick(void *ctx)
{
    struct smtp *m = ctx;

    if (m->stopping) {
        stop_step(m);
        return;
    }
    m->ticks++;
    m->events_left = SMTP_EVENTS_A_SEC;
    renew_keys(m);
    tell_stats(m);
    timer_set(m->tick, TICK_MS);
}

static void on_accept_pause(void *ctx)
{
    smtp_listen(ctx, true);
}

static void on_stop(void *ctx)
{
    struct smtp *m = ctx;

    if (m->stopping)
        return;
    m->stopping = true;
    m->stop_ms = smtp_now(m);
    smtp_listen(m, false);
    smtp_out_close_all(m);
    stop_step(m);
}

/* ---- start and end ---- */

static void trace_id_make(struct smtp *m)
{
    uint8_t digest[32];
    struct buf hex;

    sha256_once(m->hostname, digest);
    buf_init(&hex, 64);
    (void)hex_encode(sv_of((const char *)digest, 8), &hex);
    (void)snprintf(m->trace_id, sizeof(m->trace_id), "%.*s", SV_ARG(buf_sv(&hex)));
    buf_done(&hex);
}

/* Without memory for the tables there are no limits: mail matters more. */
static void rates_setup(struct smtp *m)
{
    struct rng rng = rng_system();
    uint8_t secret[16];

    rng_bytes(&rng, secret, sizeof(secret));
    if (rates_init(&m->rates, RATES_ADDRESSES, secret) ||
        rates_init(&m->accounts, RATES_ACCOUNTS, secret))
        log_msg(LOG_ERROR, "start", "no memory for the limits a minute");
}

static void setup(struct smtp *m, struct role_ctx *r)
{
    m->role = r;
    m->loop = r->loop;
    m->hostname = r->hello.hostname;
    m->events_left = SMTP_EVENTS_A_SEC;
    m->session_next = (uint64_t)clock_now().wall_ms << 8;
    list_init(&m->in);
    list_init(&m->attempts);
    list_init(&m->waiting);
    list_init(&m->unacked);
    conn_limits_init(&m->limits);
    rates_setup(m);
    smtp_tags_init(&m->tags);
    smtp_pool_init(&m->pool);
    buf_init(&m->scratch, SCRATCH_MAX);
    buf_init(&m->ca_pem, CA_MAX);
    buf_init(&m->resolv_conf, 64u * 1024);
    arena_init(&m->ids_mem, 1);
    trace_id_make(m);
}

static enum err begin(struct smtp *m)
{
    struct role_events events = {m, on_bytes, on_listener, on_channel, on_stop};
    struct errinfo info = {0};

    enum err err = timer_new(m->loop, on_tick, m, &m->tick);
    if (!err)
        err = timer_new(m->loop, on_accept_pause, m, &m->accept_pause);
    if (!err)
        err = role_begin(m->role, &events);
    if (err)
        return err;
    smtp_tls_client_renew(m);
    if (smtp_keys_start(m, &info))
        log_msg(LOG_ERROR, "alarm", "no TLS for clients: %s", info.text);
    (void)smtp_keys_ticket(m);
    if (!smtp_keys_certs(m))
        log_msg(LOG_WARN, "start", "keys did not give certificates yet; asked again");
    return role_lock(m->role, NULL, 0);
}

static void finish(struct smtp *m)
{
    smtp_in_close_all(m, false);
    smtp_out_close_all(m);
    while (!list_empty(&m->unacked))
        smtp_out_forget(m);
    if (m->resolver)
        resolver_free(m->resolver);
    for (uint32_t i = 0; i < m->n_listeners; i++) {
        if (m->listeners[i].watch)
            watch_free(m->listeners[i].watch);
        (void)close(m->listeners[i].fd);
    }
    if (m->queue)
        ipc_free(m->queue);
    if (m->lookup)
        ipc_free(m->lookup);
    timer_free(m->tick);
    timer_free(m->accept_pause);
    smtp_snap_unref(m->snap);
    tls_client_free(m->tls_client);
    smtp_keys_stop(m);
    smtp_tags_done(&m->tags);
    conn_limits_done(&m->limits);
    rates_done(&m->rates);
    rates_done(&m->accounts);
    buf_done(&m->scratch);
    buf_done(&m->ca_pem);
    buf_done(&m->resolv_conf);
    free(m);
}

int smtp_run(struct role_ctx *r)
{
    struct smtp *m = calloc(1, sizeof(*m));

    if (!m)
        return EX_OSERR;
    setup(m, r);
    enum err err = begin(m);
    if (err)
        return err == ERR_DENIED ? EX_CONFIG : EX_UNAVAILABLE;
    timer_set(m->tick, TICK_MS);
    int status = role_loop(r);
    finish(m);
    return status;
}
