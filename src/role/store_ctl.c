/*
 * Verbs of `store`: message.find, message.trace, audit.list and settings.*.
 *
 * SECURITY: the socket is mode 0600 in a directory of mode 0700; arguments are checked here.
 */
#include "base/enc.h"
#include "role/json.h"
#include "role/store_priv.h"

#include <stdio.h>
#include <sysexits.h>

struct listing {
    struct ipc *ch;
    uint64_t tag, n;
};

static void event_out(void *ctx, const struct event *e)
{
    struct listing *l = ctx;
    struct buf b;

    l->n++;
    buf_init(&b, 64 * 1024);
    jw_open(&b, NULL);
    jw_u64(&b, "seq", e->seq);
    jw_time(&b, "at", e->at_ms);
    jw_str(&b, "event", event_name(e->kind));
    jw_id(&b, "id", e->id);
    jw_id(&b, "parent", e->parent);
    jw_u64(&b, "revision", e->revision);
    jw_sv(&b, "sender", e->sender);
    jw_sv(&b, "recipient", e->rcpt);
    jw_sv(&b, "subject", e->subject);
    jw_sv(&b, "message_id", e->message_id);
    /* written by our own writer, but a tail may have been cut */
    json_t *detail = json_loadb(e->detail.p ? e->detail.p : "", e->detail.n, 0, NULL);
    if (detail)
        jw_raw(&b, "detail", e->detail);
    else
        jw_sv(&b, "detail_text", e->detail);
    json_decref(detail);
    jw_close(&b);
    ctl_reply(l->ch, l->tag, true, EX_OK, &b);
    buf_done(&b);
}

static void finish(struct listing *l, uint8_t exit)
{
    struct buf b;

    buf_init(&b, 128);
    jw_open(&b, NULL);
    jw_u64(&b, "shown", l->n);
    jw_close(&b);
    ctl_reply(l->ch, l->tag, false, exit, &b);
    buf_done(&b);
}

static void trace(struct store *s, struct ipc *ch, uint64_t tag, const json_t *args)
{
    struct listing l = {ch, tag, 0};
    struct errinfo info;
    uint64_t id = 0;

    if (!id_parse(ctl_arg(args, "id"), &id)) {
        ctl_fail(ch, tag, EX_USAGE, "id: a queue id of 13 characters is needed");
        return;
    }
    /* id 0: events of the gateway itself, of no message */
    if (id && db_events_of(s->db, id, event_out, &l, &info))
        ctl_fail(ch, tag, EX_IOERR, info.text);
    else if (!l.n)
        ctl_fail(ch, tag, EX_NOINPUT, "no message with this id is in the tracking database");
    else
        finish(&l, EX_OK);
}

static void find(struct store *s, struct ipc *ch, uint64_t tag, const json_t *args)
{
    struct listing l = {ch, tag, 0};
    struct event_query q = {.text = ctl_arg(args, "text")};
    uint64_t limit = ctl_arg_u64(args, "limit", 0);
    struct errinfo info;

    q.limit = limit > 0 && limit <= UINT32_MAX ? (uint32_t)limit : 50;
    if (db_messages_find(s->db, &q, event_out, &l, &info))
        ctl_fail(ch, tag, EX_IOERR, info.text);
    else
        finish(&l, EX_OK);
}

static void audit_out(void *ctx, const struct audit *a)
{
    struct listing *l = ctx;
    struct buf b;

    l->n++;
    buf_init(&b, 64 * 1024);
    jw_open(&b, NULL);
    jw_time(&b, "at", a->at_ms);
    jw_sv(&b, "user", a->user);
    jw_sv(&b, "action", a->action);
    jw_sv(&b, "element", a->element);
    jw_sv(&b, "detail", a->detail);
    jw_close(&b);
    ctl_reply(l->ch, l->tag, true, EX_OK, &b);
    buf_done(&b);
}

static void audit_list(struct store *s, struct ipc *ch, uint64_t tag)
{
    struct listing l = {ch, tag, 0};
    struct errinfo info;

    if (db_audit_list(s->db, 1000, audit_out, &l, &info))
        ctl_fail(ch, tag, EX_IOERR, info.text);
    else
        finish(&l, EX_OK);
}

static void run(struct store *s, struct ipc *ch, const struct ctl_req *r, const json_t *args)
{
    char verb[40];

    snprintf(verb, sizeof(verb), "%.*s", SV_ARG(r->verb));
    if (strcmp(verb, "message.trace") == 0)
        trace(s, ch, r->tag, args);
    else if (strcmp(verb, "message.find") == 0)
        find(s, ch, r->tag, args);
    else if (strcmp(verb, "audit.list") == 0)
        audit_list(s, ch, r->tag);
    else if (strncmp(verb, "settings.", 9) == 0)
        store_settings(s, ch, r, verb + 9, args);
    else
        ctl_fail(ch, r->tag, EX_USAGE, "unknown verb");
}

void store_request(struct store *s, struct ipc *ch, const struct ctl_req *r)
{
    json_t *args = r->args.n ? json_loadb(r->args.p, r->args.n, 0, NULL) : json_object();

    if (!args || !json_is_object(args))
        ctl_fail(ch, r->tag, EX_DATAERR, "arguments are not a JSON object");
    else
        run(s, ch, r, args);
    json_decref(args);
}
