/*
 * NAME         web: HTTPS: /livez, /readyz, /metrics
 * TALKS TO     queue (state and counters), keys (signatures of handshakes)
 * ON FAILURE   its end costs its connections only; without a queue /readyz says 503
 *
 * SECURITY: reads the internet through libwebsockets; holds no key; what it answers holds no data
 * of messages.
 */
#include "crypto/keyprov.h"
#include "http/http.h"
#include "role/keyclient.h"
#include "role/role.h"
#include "role/tell.h"

#include <jansson.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#define LISTENERS_MAX 8
#define WAITING_MAX   64
#define CERTS_BYTES   (1024u * 1024)
#define WAIT_MS       3000

struct waiting {
    struct http_request *r; /* NULL = free */
    uint64_t tag;
    int64_t until_ms;
    bool metrics; /* else readiness */
};

struct web {
    struct role_ctx *role;
    struct ipc *queue;
    struct keyclient *keys;
    struct http_server *http;
    int listeners[LISTENERS_MAX];
    size_t n_listeners;
    struct waiting waiting[WAITING_MAX];
    uint64_t next_tag;
    struct timer *tick;
};

/* ---- requests ---- */

static void text(struct http_request *r, unsigned status, struct sv body)
{
    http_answer(r, status, "text/plain; charset=utf-8", body);
}

static void ask_queue(struct web *w, struct http_request *r, bool metrics)
{
    struct waiting *free_slot = NULL;

    for (size_t i = 0; i < WAITING_MAX && !free_slot; i++)
        free_slot = w->waiting[i].r ? NULL : &w->waiting[i];
    if (!w->queue || !free_slot) {
        text(r, 503, SV("not ready: the queue is not running\n"));
        return;
    }
    *free_slot = (struct waiting){.r = r,
                                  .tag = ++w->next_tag,
                                  .metrics = metrics,
                                  .until_ms = loop_clock(w->role->loop).mono_ms + WAIT_MS};
    struct ctl_req req = {
        .tag = free_slot->tag, .user = SV("web"), .verb = metrics ? SV("metrics") : SV("ready")};
    role_tell(w->queue, MSG_CTL_REQ, &req, -1);
}

static void on_request(void *ctx, struct http_request *r, struct sv path)
{
    if (sv_eq(path, SV("/livez")))
        text(r, 200, SV("ok\n"));
    else if (sv_eq(path, SV("/readyz")))
        ask_queue(ctx, r, false);
    else if (sv_eq(path, SV("/metrics")))
        ask_queue(ctx, r, true);
    else
        text(r, 404, SV("not found\n"));
}

static void answered(struct web *w, const struct ctl_reply *reply)
{
    for (size_t i = 0; i < WAITING_MAX; i++) {
        struct waiting *a = &w->waiting[i];
        if (!a->r || a->tag != reply->tag)
            continue;
        json_t *v = json_loadb(reply->json.p, reply->json.n, 0, NULL);
        const json_t *t = json_object_get(v, "text");
        bool ready = json_is_true(json_object_get(v, "ready"));
        if (a->metrics)
            http_answer(a->r, 200, "text/plain; version=0.0.4; charset=utf-8",
                        sv_of(json_string_value(t), json_string_length(t)));
        else
            text(a->r, ready ? 200 : 503, ready ? SV("ready\n") : SV("not ready\n"));
        a->r = NULL;
        json_decref(v);
    }
}

static void give_up(struct web *w, int64_t before_ms)
{
    for (size_t i = 0; i < WAITING_MAX; i++) {
        struct waiting *a = &w->waiting[i];
        if (a->r && a->until_ms <= before_ms) {
            text(a->r, 503, SV("not ready: the queue does not answer\n"));
            a->r = NULL;
        }
    }
}

static void on_tick(void *ctx)
{
    struct web *w = ctx;

    give_up(w, loop_clock(w->role->loop).mono_ms);
    timer_set(w->tick, 1000);
}

/* ---- channels ---- */

static void queue_message(void *ctx, struct ipc *ch, enum message m, const union message_body *b,
                          int fd)
{
    (void)ch;
    if (fd >= 0)
        close(fd);
    if (m == MSG_CTL_REPLY)
        answered(ctx, &b->CTL_REPLY);
}

static void queue_closed(void *ctx, struct ipc *ch, const char *why)
{
    struct web *w = ctx;

    (void)ch, (void)why;
    w->queue = NULL;
    give_up(w, INT64_MAX);
}

static void on_channel(void *ctx, enum role peer, uint8_t index, int fd)
{
    struct web *w = ctx;
    struct ipc_handler h = {.ctx = w, .message = queue_message, .closed = queue_closed};

    if (peer == ROLE_KEYS) {
        if (w->keys)
            keyclient_replace(w->keys, fd);
        else if (keyclient_new(fd, &w->keys))
            log_msg(LOG_ERROR, "channel", "no channel to keys");
    } else if (peer == ROLE_QUEUE) {
        ipc_free(w->queue);
        w->queue = NULL;
        if (ipc_new(w->role->loop, fd, ROLE_WEB, peer, index, &h, &w->queue))
            close(fd);
    } else {
        close(fd); /* store and lookup have no business here yet */
    }
}

static void on_listener(void *ctx, struct sv kind, struct sv address, int fd)
{
    struct web *w = ctx;

    (void)address;
    if (sv_eq(kind, SV("https")) && w->n_listeners < LISTENERS_MAX)
        w->listeners[w->n_listeners++] = fd;
    else
        close(fd);
}

/* ---- TLS ---- */

static bool use_identity(SSL_CTX *ssl, const struct tls_identity *id)
{
    BIO *bio = BIO_new_mem_buf(id->chain_pem.p, (int)id->chain_pem.n);
    X509 *leaf = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = NULL;
    struct errinfo info;
    bool ok = leaf && keyprov_key(leaf, id->key_id, &key, &info) == ERR_OK &&
              SSL_CTX_use_certificate(ssl, leaf) == 1 && SSL_CTX_use_PrivateKey(ssl, key) == 1;

    for (X509 *ca; ok && (ca = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL;)
        ok = SSL_CTX_add0_chain_cert(ssl, ca) == 1;
    EVP_PKEY_free(key);
    X509_free(leaf);
    BIO_free(bio);
    return ok;
}

static bool on_keys(void *ctx, SSL_CTX *ssl)
{
    struct web *w = ctx;
    struct arena a;
    struct tls_identity *ids = NULL;
    size_t n = 0, used = 0;

    arena_init(&a, CERTS_BYTES);
    if (keyclient_certs(w->keys, &a, &ids, &n) == ERR_OK) {
        for (size_t i = 0; i < n; i++)
            used += use_identity(ssl, &ids[i]);
    }
    arena_done(&a);
    (void)SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
    return used > 0;
}

static void on_accept(void *ctx, int events)
{
    struct web *w = ctx;

    (void)events;
    for (size_t i = 0; i < w->n_listeners; i++) {
        int fd = accept4(w->listeners[i], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            http_adopt(w->http, fd);
    }
}

static void on_turn(void *ctx)
{
    (void)ctx;
    log_flush();
}

static enum err serve(struct web *w, struct errinfo *info)
{
    struct http_config c = {
        .uv_loop = loop_uv(w->role->loop), .keys = on_keys, .request = on_request, .ctx = w};
    struct watch *watch;
    enum err err = timer_new(w->role->loop, on_tick, w, &w->tick);

    if (!err && w->n_listeners) {
        err = w->keys ? keyprov_init(keyclient_sign, w->keys, info) : ERR_NOTFOUND;
        if (!err)
            err = http_server_new(&c, &w->http, info);
    }
    for (size_t i = 0; !err && i < w->n_listeners; i++) {
        err = watch_new(w->role->loop, w->listeners[i], on_accept, w, &watch);
        if (!err)
            watch_set(watch, WATCH_READ);
    }
    if (!err)
        timer_set(w->tick, 1000);
    return err;
}

int web_run(struct role_ctx *r)
{
    static struct web w;
    struct role_events events = {.ctx = &w, .channel = on_channel, .listener = on_listener};
    struct errinfo info = {0};

    w.role = r;
    if (role_begin(r, &events))
        return EX_UNAVAILABLE;
    if (serve(&w, &info)) {
        log_msg(LOG_ERROR, "start", "web cannot start: %s", info.text);
        log_flush();
        return EX_OSERR;
    }
    if (role_lock(r, NULL, 0))
        return EX_OSERR;
    loop_on_turn(r->loop, on_turn, &w);
    return role_loop(r);
}
