/*
 * NAME         store: the database: tracking, settings revisions, audit
 * TALKS TO     queue (cursor of tracking events, settings), web, postsealctl over a local socket
 * ON FAILURE   mail flows on: events wait in files, nodes run on their snapshot of settings
 */
#include "role/store_priv.h"

#include "base/enc.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#define BATCH_EVENTS   4096 /* a commit writes each page of an index once, however many rows */
#define AUDIT_ACTS_MAX 200
#define RETRY_MS       5000 /* after a failure, such as a full disk */
#define BATCH_DELAY_MS 200  /* gathers; an event is visible well within a second */
#define PURGE_EVERY_MS 60000
#define PURGE_SLICE    2000
#define ARENA_BYTES    (64u * 1024 * 1024)
#define BATCH_BYTES    (8u * 1024 * 1024)

/* ---- tracking ---- */

/* What an administrator did to a message stands in the audit log too (spec F12); of a great many in
 * one batch (each is a durable write) the rest is in the tracking only. */
static bool audit_act(struct store *s, const struct event *e)
{
    char id[ID_TEXT_LEN + 1], element[ID_TEXT_LEN + 16];
    struct errinfo info;

    if (e->kind != EVENT_RELEASED && e->kind != EVENT_DROPPED && e->kind != EVENT_HELD &&
        e->kind != EVENT_BOUNCED)
        return false;
    json_t *d = json_loadb(e->detail.p ? e->detail.p : "", e->detail.n, 0, NULL);
    const char *by = json_string_value(json_object_get(d, "by"));
    const char *action = json_string_value(json_object_get(d, "action"));
    bool acted = by && action;
    if (acted) {
        id_format(e->id, id);
        snprintf(element, sizeof(element), "message %s", id);
        struct audit a = {.at_ms = e->at_ms,
                          .user = sv_str(by),
                          .action = sv_str(action),
                          .element = sv_str(element),
                          .detail = json_is_true(json_object_get(d, "in_clear")) ? SV("in clear")
                                                                                 : SV("")};
        if (db_audit_add(s->db, &a, &info))
            log_msg(LOG_ERROR, "audit", "%s", info.text);
    }
    json_decref(d);
    return acted;
}

/* One batch of events into the database; true when there may be more. */
static bool store_batch(struct store *s)
{
    struct arena a;
    struct event *list;
    uint32_t n = 0;
    struct errinfo info;

    arena_init(&a, ARENA_BYTES);
    list = ARENA_ARRAY(&a, struct event, BATCH_EVENTS);
    while (list && n < BATCH_EVENTS && a.used < BATCH_BYTES &&
           eventlog_next(s->events, &a, &list[n]) == ERR_OK)
        n++;
    if (n && db_events_add(s->db, list, n, &info)) {
        log_msg(LOG_ERROR, "store", "%s", info.text);
        store_reopen_events(s); /* reads them again from the cursor */
        store_nudge(s, RETRY_MS);
        n = 0;
    }
    for (uint32_t i = 0, acts = 0; i < n && acts < AUDIT_ACTS_MAX; i++)
        acts += audit_act(s, &list[i]);
    if (n && s->queue) {
        struct events_at at = {.seq = list[n - 1].seq};
        role_tell(s->queue, MSG_EVENTS_AT, &at, -1);
    }
    bool full = n == BATCH_EVENTS || a.used >= BATCH_BYTES;
    arena_done(&a);
    return full;
}

static void gather(void *ctx)
{
    struct store *s = ctx;

    s->gathering = false;
    if (store_batch(s))
        store_nudge(s, 0);
}

void store_nudge(struct store *s, uint64_t ms)
{
    if (s->gathering)
        return;
    s->gathering = true;
    timer_set(s->gather, ms);
}

void store_reopen_events(struct store *s)
{
    struct errinfo info;
    uint64_t seq = 0;

    eventlog_close(s->events);
    s->events = NULL;
    if (db_events_cursor(s->db, &seq, &info) ||
        eventlog_open_reader(s->events_dir, seq, &s->events, &info)) {
        log_msg(LOG_ERROR, "store", "%s", info.text);
        log_flush();
        _exit(EX_IOERR); /* started again by the supervisor; nothing is lost */
    }
}

static void purge(void *ctx)
{
    struct store *s = ctx;
    int64_t now = loop_clock(s->role->loop).wall_ms;
    bool more = db_events_purge(s->db, now - (int64_t)s->keep_days * 86400000,
                                (uint64_t)s->keep_mb * 1024 * 1024, PURGE_SLICE);

    timer_set(s->purge, more ? 50 : PURGE_EVERY_MS);
}

/* ---- channels ---- */

static void queue_message(void *ctx, struct ipc *ch, enum message m, const union message_body *b,
                          int fd)
{
    struct store *s = ctx;

    (void)ch;
    if (fd >= 0)
        close(fd);
    if (m == MSG_EVENTS_AT)
        store_nudge(s, BATCH_DELAY_MS);
    else if (m == MSG_SETTINGS)
        store_settings_of_queue(s, &b->SETTINGS);
    else if (m == MSG_SETTINGS_ACK)
        store_settings_ack(s, &b->SETTINGS_ACK);
}

static void queue_closed(void *ctx, struct ipc *ch, const char *why)
{
    struct store *s = ctx;

    (void)ch;
    log_msg(LOG_WARN, "peer-gone", "channel to queue ended: %s", why);
    s->queue = NULL;
    store_deploy_failed(s, "the queue is not running; the revision becomes active when it is back");
}

static void web_message(void *ctx, struct ipc *ch, enum message m, const union message_body *b,
                        int fd)
{
    if (fd >= 0)
        close(fd);
    if (m == MSG_CTL_REQ)
        store_request(ctx, ch, &b->CTL_REQ);
}

static void web_closed(void *ctx, struct ipc *ch, const char *why)
{
    struct store *s = ctx;

    (void)why;
    if (s->deploy_ch == ch)
        s->deploy_ch = NULL;
    s->web = NULL;
}

/* What is stored already, for a queue that may not have been told. */
static void tell_cursor(struct store *s)
{
    struct events_at at = {0};
    struct errinfo info;

    if (s->queue && db_events_cursor(s->db, &at.seq, &info) == ERR_OK && at.seq)
        role_tell(s->queue, MSG_EVENTS_AT, &at, -1);
}

static void on_channel(void *ctx, enum role peer, uint8_t index, int fd)
{
    struct store *s = ctx;
    bool queue = peer == ROLE_QUEUE;
    struct ipc **slot = queue ? &s->queue : &s->web;
    struct ipc_handler h = {.ctx = s,
                            .message = queue ? queue_message : web_message,
                            .closed = queue ? queue_closed : web_closed};

    if (!queue && peer != ROLE_WEB) {
        close(fd);
        return;
    }
    ipc_free(*slot);
    *slot = NULL;
    if (ipc_new(s->role->loop, fd, ROLE_STORE, peer, index, &h, slot))
        close(fd);
    else if (queue && s->db)
        tell_cursor(s);
}

/* ---- control clients ---- */

struct store_client {
    struct store *s;
    struct ipc *ch;
};

static void client_message(void *ctx, struct ipc *ch, enum message m, const union message_body *b,
                           int fd)
{
    struct store_client *c = ctx;

    if (fd >= 0)
        close(fd);
    if (m == MSG_CTL_REQ)
        store_request(c->s, ch, &b->CTL_REQ);
}

static void client_closed(void *ctx, struct ipc *ch, const char *why)
{
    struct store_client *c = ctx;

    (void)why;
    if (c->s->deploy_ch == ch)
        c->s->deploy_ch = NULL;
    free(c);
}

static void on_accept(void *ctx, int events)
{
    struct store *s = ctx;
    int fd = accept4(s->ctl_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct store_client *c = fd >= 0 ? calloc(1, sizeof(*c)) : NULL;

    (void)events;
    if (!c) {
        if (fd >= 0)
            close(fd);
        return;
    }
    c->s = s;
    struct ipc_handler h = {.ctx = c, .message = client_message, .closed = client_closed};
    if (ipc_new(s->role->loop, fd, ROLE_STORE, ROLE_CTL, 0, &h, &c->ch)) {
        close(fd);
        free(c);
    }
}

static void on_listener(void *ctx, struct sv kind, struct sv address, int fd)
{
    struct store *s = ctx;

    (void)address;
    if (sv_eq(kind, SV("ctl")) && s->ctl_fd < 0)
        s->ctl_fd = fd;
    else
        close(fd);
}

/* ---- start ---- */

static void on_turn(void *ctx)
{
    (void)ctx;
    log_flush();
}

static enum err open_all(struct store *s, struct errinfo *info)
{
    char url[4200];

    snprintf(s->data_dir, sizeof(s->data_dir), "%.*s", SV_ARG(s->role->hello.data_dir));
    snprintf(s->events_dir, sizeof(s->events_dir), "%s/events", s->data_dir);
    if (s->role->hello.database.n)
        snprintf(url, sizeof(url), "%.*s", SV_ARG(s->role->hello.database));
    else
        snprintf(url, sizeof(url), "sqlite:%s/db/postseal.db", s->data_dir);
    (void)umask(077); /* SQLite makes its files by it: they name senders, recipients, subjects */
    enum err err = db_open(url, &s->db, info);
    snprintf(s->db_dir, sizeof(s->db_dir), "%s",
             sv_starts(sv_str(url), SV("sqlite:")) ? url + 7 : url);
    char *slash = strrchr(s->db_dir, '/');
    if (slash)
        *slash = 0;
    return err;
}

static enum err start(struct store *s)
{
    struct watch *w;
    enum err err = timer_new(s->role->loop, gather, s, &s->gather);

    if (!err)
        err = timer_new(s->role->loop, purge, s, &s->purge);
    if (!err && s->ctl_fd >= 0) {
        err = watch_new(s->role->loop, s->ctl_fd, on_accept, s, &w);
        if (!err)
            watch_set(w, WATCH_READ);
    }
    if (err)
        return err;
    loop_on_turn(s->role->loop, on_turn, s);
    tell_cursor(s);
    store_nudge(s, 0);
    timer_set(s->purge, 1000);
    return ERR_OK;
}

int store_run(struct role_ctx *r)
{
    static struct store the;
    struct store *s = &the;
    struct role_events events = {.ctx = s, .channel = on_channel, .listener = on_listener};
    struct errinfo info = {0};

    s->role = r;
    s->ctl_fd = -1;
    s->keep_days = 30;
    s->keep_mb = 2048;
    if (role_begin(r, &events))
        return EX_UNAVAILABLE;
    if (open_all(s, &info)) {
        log_msg(LOG_ERROR, "start", "store cannot start: %s", info.text);
        log_flush();
        return EX_OSERR;
    }
    store_reopen_events(s);
    struct sandbox_path paths[] = {{s->db_dir, true}, {s->events_dir, false}};
    if (role_lock(r, paths, ARRAY_LEN(paths)) || start(s))
        return EX_OSERR;
    return role_loop(r);
}
