/*
 * See keys.h.
 *
 * SECURITY: everything read from a channel was written by a process that talks to strangers. A
 * packet must be one whole KEY_REQ of the message table; anything else closes that channel, and
 * nothing else happens. Fds that come along are dropped by the kernel (no control buffer).
 */
#include "role/keys.h"

#include "role/keys_child.h"
#include "role/role.h"
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHANNELS_MAX 128
#define ANSWER_ROOM  (3 * KEYS_PEM_MAX + 256)

struct line {
    struct keys *keys;
    enum role peer;
    uint8_t index;
    int fd;
    uint64_t serial; /* so that a child's answer never reaches a successor */
    struct watch *watch;
};

struct child {
    struct keys *keys;
    pid_t pid; /* 0 = free */
    int fd;
    struct watch *watch;
    struct timer *timer;
    struct buf answer;
    char id[KEYS_ID_MAX + 1];
    uint64_t asker; /* serial of the channel */
    uint64_t tag;
    enum key_op op;
};

struct keys {
    struct loop *loop;
    struct keys_handler handler;
    struct keys_vault *vault;
    OSSL_LIB_CTX *legacy; /* loaded before the cage closes, used by children only */
    struct line *channels[CHANNELS_MAX];
    uint64_t serial;
    struct child children[KEYS_CHILD_MAX];
    struct arena arena;
    struct buf data, frame;
    char in[KIB(64) + 1];
};

/* ---- channels ---- */

static void channel_free(struct line *ch)
{
    watch_free(ch->watch);
    (void)close(ch->fd);
    free(ch);
}

static void channel_drop(struct line *ch, const char *why)
{
    struct keys *k = ch->keys;
    if (why)
        log_msg(LOG_ERROR, "keys.garbage", "channel of %s[%u] closed: %s", role_name(ch->peer),
                ch->index, why);
    for (size_t i = 0; i < CHANNELS_MAX; i++)
        if (k->channels[i] == ch)
            k->channels[i] = NULL;
    channel_free(ch);
}

static void send_reply(struct line *ch, const struct key_reply *reply)
{
    struct keys *k = ch->keys;
    buf_reset(&k->frame);
    enum err err = message_encode(MSG_KEY_REPLY, reply, &k->frame);
    ssize_t n = -1;
    if (!err && k->frame.n <= IPC_INLINE_MAX)
        n = send(ch->fd, k->frame.p, k->frame.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (k->frame.p)
        OPENSSL_cleanse(k->frame.p, k->frame.n);
    if (n < 0) /* a client has one request under way: its socket cannot be full of answers */
        channel_drop(ch, "answer not taken");
}

static void answer(struct line *ch, uint64_t tag, enum key_op op, enum err err, struct sv data)
{
    const struct key_reply reply = {.tag = tag,
                                    .op = (uint8_t)op,
                                    .error = err ? sv_str(err_name(err)) : SV_NULL,
                                    .data = err ? SV_NULL : data};
    send_reply(ch, &reply);
}

/* ---- children ---- */

static struct line *channel_of(struct keys *k, uint64_t serial)
{
    for (size_t i = 0; i < CHANNELS_MAX; i++)
        if (k->channels[i] && k->channels[i]->serial == serial)
            return k->channels[i];
    return NULL;
}

static void keep(struct keys *k, const char *kind, const char *id, struct sv data)
{
    char name[KEYS_ID_MAX + 8];
    (void)snprintf(name, sizeof(name), "%s/%s", kind, id);
    k->handler.keep(k->handler.ctx, sv_str(name), data);
}

static enum err install(struct keys *k, const char *id, const struct keys_made *made)
{
    struct errinfo info = {0};
    char name[KEYS_ID_MAX + 8];
    (void)snprintf(name, sizeof(name), "key/%s", id);
    enum err err = keys_vault_put(k->vault, sv_str(name), made->key_pem, &info);
    (void)snprintf(name, sizeof(name), "cert/%s", id);
    if (!err)
        err = keys_vault_put(k->vault, sv_str(name), made->chain_pem, &info);
    if (err) {
        log_msg(LOG_ERROR, "keys.new", "key %s is not usable: %s", id, info.text);
        return err;
    }
    keep(k, "key", id, made->key_pem);
    keep(k, "cert", id, made->chain_pem);
    log_msg(LOG_INFO, "keys.new", "key %s is in place", id);
    return ERR_OK;
}

static void child_clear(struct child *c)
{
    keys_child_end(c->pid);
    watch_free(c->watch);
    timer_free(c->timer);
    (void)close(c->fd);
    buf_wipe(&c->answer);
    *c = (struct child){.keys = c->keys};
}

/* err: why there is no answer of the child's, else ERR_OK. */
static void child_finish(struct child *c, enum err err)
{
    struct keys *k = c->keys;
    struct keys_made made = {0};
    if (!err)
        err = keys_child_answer(buf_sv(&c->answer), &made);
    if (!err && made.err) {
        log_msg(LOG_WARN, "keys.new", "key %s refused: %.*s", c->id, SV_ARG(made.text));
        err = made.err;
    } else if (!err) {
        err = install(k, c->id, &made);
    } else {
        log_msg(LOG_ERROR, "keys.new", "key %s: child failed (%s)", c->id, err_name(err));
    }
    struct line *ch = channel_of(k, c->asker);
    if (ch && made.err)
        send_reply(ch, &(struct key_reply){.tag = c->tag,
                                           .op = (uint8_t)c->op,
                                           .error = sv_str(err_name(err)),
                                           .data = made.text});
    else if (ch)
        answer(ch, c->tag, c->op, err, made.chain_pem);
    child_clear(c);
}

static void on_child(void *ctx, int events)
{
    struct child *c = ctx;
    char part[4096];
    (void)events;
    ssize_t n = read(c->fd, part, sizeof(part));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    enum err err = n > 0 ? buf_append(&c->answer, part, (size_t)n) : ERR_OK;
    OPENSSL_cleanse(part, sizeof(part));
    if (n <= 0 || err)
        child_finish(c, n < 0 ? ERR_IO : err);
}

static void on_child_late(void *ctx)
{
    child_finish(ctx, ERR_TIMEOUT);
}

static enum err child_begin(struct line *ch, const struct key_req *req)
{
    struct keys *k = ch->keys;
    struct child *c = NULL;
    for (size_t i = 0; i < KEYS_CHILD_MAX && !c; i++)
        if (k->children[i].pid == 0)
            c = &k->children[i];
    if (!keys_id_valid(req->name))
        return ERR_SYNTAX;
    if (!c)
        return ERR_AGAIN; /* as many under way as may be */
    struct keys_work w = {(enum key_op)req->op, req->alg, req->data, k->legacy};
    enum err err = keys_child_start(k->vault, &w, &c->pid, &c->fd);
    if (err)
        return err;
    buf_init(&c->answer, ANSWER_ROOM);
    memcpy(c->id, req->name.p, req->name.n);
    c->asker = ch->serial;
    c->tag = req->tag;
    c->op = w.op;
    err = watch_new(k->loop, c->fd, on_child, c, &c->watch);
    if (!err)
        err = timer_new(k->loop, on_child_late, c, &c->timer);
    if (err) {
        child_clear(c);
        return err;
    }
    watch_set(c->watch, WATCH_READ);
    timer_set(c->timer, KEYS_CHILD_MS);
    return ERR_OK;
}

/* ---- requests ---- */

static void request(struct line *ch, const struct key_req *req)
{
    struct keys *k = ch->keys;
    enum key_op op = (enum key_op)req->op;
    if (!keys_op_allowed(op, ch->peer)) {
        log_msg(LOG_ERROR, "keys.denied", "%s[%u] asked for operation %u", role_name(ch->peer),
                ch->index, req->op);
        answer(ch, req->tag, op, ERR_DENIED, SV_NULL);
        return;
    }
    if (op == KEY_OP_GENERATE || op == KEY_OP_IMPORT) {
        enum err err = child_begin(ch, req);
        if (err)
            answer(ch, req->tag, op, err, SV_NULL);
        return;
    }
    buf_reset(&k->data);
    enum err err =
        keys_vault_answer(k->vault, req, ch->peer, loop_clock(k->loop).mono_ms, &k->data);
    answer(ch, req->tag, op, err, buf_sv(&k->data));
    if (k->data.p)
        OPENSSL_cleanse(k->data.p, k->data.n);
}

/* One packet a turn: a client has one request under way, and nobody starves the others. */
static void on_channel(void *ctx, int events)
{
    struct line *ch = ctx;
    struct keys *k = ch->keys;
    (void)events;
    ssize_t n = recv(ch->fd, k->in, sizeof(k->in), MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        channel_drop(ch, NULL); /* the peer ended */
        return;
    }
    enum message m = MSG_NONE;
    union message_body body;
    enum err err = (size_t)n > sizeof(k->in) ? ERR_LIMIT : ERR_OK;
    arena_reset(&k->arena);
    if (!err)
        err = message_decode(sv_of(k->in, (size_t)n), &k->arena, &m, &body);
    if (!err && m != MSG_KEY_REQ)
        err = ERR_DENIED;
    if (err)
        channel_drop(ch, err_name(err));
    else
        request(ch, &body.KEY_REQ);
    OPENSSL_cleanse(k->in, (size_t)n < sizeof(k->in) ? (size_t)n : sizeof(k->in));
}

void keys_channel(struct keys *k, enum role peer, uint8_t index, int fd)
{
    struct line **slot = NULL;
    for (size_t i = 0; i < CHANNELS_MAX; i++) {
        struct line *old = k->channels[i];
        if (old && old->peer == peer && old->index == index)
            channel_drop(old, NULL);
        if (!slot && !k->channels[i])
            slot = &k->channels[i];
    }
    struct line *ch = slot ? calloc(1, sizeof(*ch)) : NULL;
    if (ch)
        *ch = (struct line){k, peer, index, fd, ++k->serial, NULL};
    if (!ch || watch_new(k->loop, fd, on_channel, ch, &ch->watch)) {
        log_msg(LOG_ERROR, "keys.channel", "no room for a channel to %s[%u]", role_name(peer),
                index);
        (void)close(fd);
        free(ch);
        return;
    }
    *slot = ch;
    watch_set(ch->watch, WATCH_READ);
}

void keys_bytes(struct keys *k, struct sv name, struct sv data)
{
    struct errinfo info = {0};
    enum err err = keys_vault_put(k->vault, name, data, &info);
    if (err && err != ERR_NOTFOUND)
        log_msg(LOG_ERROR, "keys.bytes", "%.*s: %s", SV_ARG(name), info.text);
}

/* ---- life ---- */

enum err keys_new(struct loop *loop, const struct keys_handler *h, struct keys **out_k)
{
    struct keys *k = calloc(1, sizeof(*k));
    bool locked = false;
    if (!k || keys_vault_new(&k->vault, &locked)) {
        free(k);
        return ERR_LIMIT;
    }
    if (!locked)
        log_msg(LOG_WARN, "keys.memory", "keys are not locked into memory: raise LimitMEMLOCK");
    k->legacy = cert_legacy_ctx();
    k->loop = loop;
    k->handler = *h;
    for (size_t i = 0; i < KEYS_CHILD_MAX; i++)
        k->children[i].keys = k;
    arena_init(&k->arena, 4096);
    buf_init(&k->data, message_max(MSG_KEY_REPLY));
    buf_init(&k->frame, message_max(MSG_KEY_REPLY));
    *out_k = k;
    return ERR_OK;
}

void keys_free(struct keys *k)
{
    if (!k)
        return;
    for (size_t i = 0; i < KEYS_CHILD_MAX; i++)
        if (k->children[i].pid)
            child_clear(&k->children[i]);
    for (size_t i = 0; i < CHANNELS_MAX; i++)
        if (k->channels[i])
            channel_free(k->channels[i]);
    keys_vault_free(k->vault);
    cert_legacy_free(k->legacy);
    arena_done(&k->arena);
    buf_done(&k->data);
    buf_done(&k->frame);
    free(k);
}
