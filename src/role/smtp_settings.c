/*
 * Settings snapshots: compiled here from the tree that `queue` pushed; new sessions use the new
 * one, old sessions keep theirs. What depends on settings or keys (server TLS, resolver) is
 * renewed.
 */
#include "role/role.h"
#include "role/smtp_priv.h"

#include <stdlib.h>

#define SNAP_MEM (256u * 1024 * 1024) /* cap of the arena; most snapshots take some KiB */

struct smtp_snap *smtp_snap_ref(struct smtp_snap *s)
{
    s->refs++;
    return s;
}

void smtp_snap_unref(struct smtp_snap *s)
{
    if (!s || --s->refs > 0)
        return;
    tls_server_free(s->tls);
    arena_done(&s->arena);
    free(s);
}

static const char *const ALPN[] = {"smtp", NULL};

static struct tls_server *tls_server_make(const struct smtp *m, const struct settings *s)
{
    struct tls_server_config config = {
        .identities = m->identities,
        .n_identities = m->n_identities,
        .min_version = (uint16_t)s->tls_min_version,
        .prefer_rsa = s->tls_prefer_rsa,
        .alpn = ALPN,
    };
    struct tls_server *server = NULL;
    struct errinfo info = {0};

    if (m->n_identities == 0)
        return NULL;
    memcpy(config.ticket_keys, m->ticket_keys, sizeof(config.ticket_keys));
    if (tls_server_new(&config, &server, &info)) {
        log_msg(LOG_ERROR, "alarm", "TLS is not available to clients: %s", info.text);
        server = NULL;
    }
    explicit_bzero(config.ticket_keys, sizeof(config.ticket_keys));
    return server;
}

/* Sessions of the old server object go on: each holds what it needs. */
void smtp_tls_renew(struct smtp *m)
{
    if (!m->snap)
        return;
    struct tls_server *fresh = tls_server_make(m, m->snap->s);
    if (!fresh)
        return; /* the old pair stays */
    tls_server_free(m->snap->tls);
    m->snap->tls = fresh;
}

void smtp_tls_client_renew(struct smtp *m)
{
    struct tls_client *fresh = NULL;
    struct errinfo info = {0};

    if (tls_client_new(buf_sv(&m->ca_pem), &fresh, &info)) {
        log_msg(LOG_ERROR, "alarm", "trusted CAs cannot be used: %s", info.text);
        if (m->tls_client || tls_client_new(SV(""), &fresh, &info))
            return;
    }
    tls_client_free(m->tls_client);
    m->tls_client = fresh;
}

void smtp_resolver_renew(struct smtp *m)
{
    const struct settings *s = m->snap->s;
    struct resolver *fresh = NULL;
    struct errinfo info = {0};

    if (resolver_new(m->loop, s->dns_servers, buf_sv(&m->resolv_conf), s->dns_timeout_ms,
                     s->dns_tries, &fresh, &info)) {
        log_msg(LOG_ERROR, "alarm", "name servers cannot be used: %s", info.text);
        return;
    }
    struct resolver *old = m->resolver;
    m->resolver = fresh;
    if (old)
        resolver_free(old); /* what it was asked is answered DNS_TEMP now */
}

static bool dns_changed(const struct settings *a, const struct settings *b)
{
    return !sv_eq(a->dns_servers, b->dns_servers) || a->dns_timeout_ms != b->dns_timeout_ms ||
           a->dns_tries != b->dns_tries;
}

static struct smtp_snap *compile(struct smtp *m, const struct settings_msg *msg, struct buf *why)
{
    struct settings_errors *errors = calloc(1, sizeof(*errors));
    struct smtp_snap *snap = calloc(1, sizeof(*snap));

    if (!errors || !snap)
        abort();
    snap->refs = 1;
    arena_init(&snap->arena, SNAP_MEM);
    struct sv tree = arena_sv(&snap->arena, msg->tree);
    if (settings_compile(tree, msg->revision, &snap->arena, &snap->s, errors)) {
        if (errors->n)
            settings_error_format(&errors->list[0], why);
        else
            (void)buf_append_sv(why, SV("settings cannot be compiled"));
        smtp_snap_unref(snap);
        snap = NULL;
    } else {
        snap->hostname = snap->s->general_fqdn.n ? snap->s->general_fqdn : m->hostname;
        snap->tls = tls_server_make(m, snap->s);
    }
    free(errors);
    return snap;
}

static void ack(struct smtp *m, uint64_t revision, struct sv error)
{
    struct settings_ack a = {.revision = revision, .error = sv_take(error, 2000)};

    if (m->queue)
        smtp_tell(m->queue, MSG_SETTINGS_ACK, &a);
}

/* A new `queue` takes the first acknowledgement as the end of old results: it waits for those whose
 * fate is not known yet. */
void smtp_settings_ack(struct smtp *m)
{
    if (!m->ack_held || m->orphans)
        return;
    ack(m, m->ack_held, SV(""));
    m->ack_held = 0;
}

void smtp_settings_take(struct smtp *m, const struct settings_msg *msg)
{
    struct buf why;

    buf_init(&why, 2048);
    struct smtp_snap *fresh = compile(m, msg, &why);
    if (!fresh) {
        log_msg(LOG_ERROR, "alarm", "settings revision cannot be used: %.*s", SV_ARG(buf_sv(&why)));
        ack(m, msg->revision, buf_sv(&why));
        buf_done(&why);
        return;
    }
    buf_done(&why);
    struct smtp_snap *old = m->snap;
    bool dns = !old || !m->resolver || dns_changed(old->s, fresh->s);
    m->snap = fresh;
    if (dns)
        smtp_resolver_renew(m);
    smtp_snap_unref(old);
    m->ack_held = msg->revision;
    smtp_settings_ack(m);
    smtp_listen(m, true);
}
