/*
 * `scan` and `simulate`: the very code of the mail path on a message file that is not queued. The
 * file goes through a content worker like mail; decision and route come from the same functions.
 */
#include "role/queue_ctl.h"

#include "core/relay.h"
#include "crypto/cert.h"
#include "role/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#define SIMULATE_MAX (100u * 1024 * 1024)

static bool hash_file(int fd, uint64_t *out_size, uint8_t out_digest[32])
{
    char chunk[32768];
    struct stat st;
    struct sha256 *h;
    off_t at = 0;

    if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size <= 0 ||
        st.st_size > SIMULATE_MAX || (h = sha256_new()) == NULL)
        return false;
    while (at < st.st_size) {
        ssize_t n = pread(fd, chunk, sizeof(chunk), at);
        if (n <= 0)
            break;
        sha256_add(h, sv_of(chunk, (size_t)n));
        at += n;
    }
    sha256_final(h, out_digest);
    sha256_free(h);
    *out_size = (uint64_t)st.st_size;
    return at == st.st_size;
}

static bool fill_rcpts(struct hot *h, const json_t *args)
{
    const json_t *list = json_object_get(args, "rcpts");
    size_t n = json_array_size(list);

    if (!n || n > RCPTS_MAX)
        return false;
    h->env.rcpts = ARENA_ARRAY(&h->arena, struct rcpt, n);
    for (size_t i = 0; h->env.rcpts && i < n; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_string(v) || !json_string_length(v))
            return false;
        h->env.rcpts[i].addr =
            arena_sv(&h->arena, sv_of(json_string_value(v), json_string_length(v)));
    }
    h->env.n_rcpts = (uint32_t)n;
    return h->env.rcpts != NULL;
}

static bool fill(struct queue *q, struct hot *h, const json_t *args, bool decide)
{
    struct sv client = ctl_arg(args, "client");
    uint8_t *digest = arena_alloc(&h->arena, 32);

    if (!digest || !hash_file(h->fd, &h->env.size, digest))
        return false;
    h->env.sha256 = sv_of((const char *)digest, 32);
    h->env.kind = MESSAGE_SMTP;
    h->env.sender = arena_sv(&h->arena, ctl_arg(args, "from"));
    h->env.received_ms = loop_clock(q->loop).wall_ms;
    h->env.peer.auth_user = arena_sv(&h->arena, ctl_arg(args, "user"));
    if (!ip_parse(client.n ? client : SV("127.0.0.1"), &h->env.peer.ip))
        return false;
    peer_classify(q->snap->s, &h->env.peer);
    return !decide || fill_rcpts(h, args);
}

void ctl_simulate(struct queue *q, struct ipc *ch, uint64_t tag, bool decide, const json_t *args,
                  int fd)
{
    struct hot *h = hot_new(q, NULL);

    h->fd = fd >= 0 ? dup(fd) : -1;
    if (h->fd < 0 || !fill(q, h, args, decide)) {
        hot_free(q, h);
        ctl_fail(ch, tag, EX_DATAERR,
                 "a message file (1 byte to 100 MiB), client address and, to simulate, 1 to 1000 "
                 "recipients are needed");
        return;
    }
    h->ctl = ARENA_NEW(&h->arena, struct ctl_wait);
    if (!h->ctl)
        abort();
    *h->ctl = (struct ctl_wait){.ch = ch, .tag = tag, .decide = decide};
    hot_fresh_state(h);
    scan_enqueue(q, h);
}

static void jw_facts(struct buf *b, const struct facts *f)
{
    static const char *const states[] = {"ok", "failed", "timeout", "killed", "limit"};

    jw_open(b, "facts");
    jw_str(b, "scan", f->scan < ARRAY_LEN(states) ? states[f->scan] : "?");
    jw_sv(b, "error", f->scan_error);
    jw_u64(b, "size", f->size);
    jw_u64(b, "attachments", f->attachments);
    jw_u64(b, "micros", f->micros);
    jw_sv(b, "subject", f->subject);
    jw_array(b, "parts");
    for (uint32_t i = 0; i < f->n_parts; i++) {
        const struct part *p = &f->parts[i];
        jw_open(b, NULL);
        jw_sv(b, "path", p->path);
        jw_sv(b, "type", p->declared_type);
        jw_sv(b, "true_type", p->true_type);
        jw_sv(b, "name", p->name);
        jw_sv(b, "charset", p->charset);
        jw_u64(b, "size", p->size);
        jw_bool(b, "attachment", (p->flags & PART_ATTACHMENT) != 0);
        jw_bool(b, "opaque", (p->flags & PART_OPAQUE) != 0);
        jw_bool(b, "encrypted", (p->flags & PART_ENCRYPTED) != 0);
        jw_bool(b, "malformed", (p->flags & PART_MALFORMED) != 0);
        jw_bool(b, "type_mismatch", (p->flags & PART_TYPE_MISMATCH) != 0);
        jw_close(b);
    }
    jw_array_end(b);
    jw_array(b, "hits");
    for (uint32_t i = 0; i < f->n_hits; i++) {
        const struct hit *hit = &f->hits[i];
        jw_open(b, NULL);
        jw_sv(b, "classifier", hit->classifier);
        jw_sv(b, "part", hit->part < f->n_parts ? f->parts[hit->part].path : SV("?"));
        jw_u64(b, "count", hit->count);
        jw_u64(b, "unique", hit->unique);
        jw_sv(b, "example", hit->masked);
        jw_close(b);
    }
    jw_array_end(b);
    jw_open(b, "totals");
    for (uint32_t i = 0; i < f->n_totals; i++) {
        char name[128];
        snprintf(name, sizeof(name), "%.*s", SV_ARG(f->totals[i].classifier));
        jw_u64(b, name, f->totals[i].unique);
    }
    jw_close(b);
    jw_close(b);
}

static void jw_plan(struct queue *q, struct buf *b, struct hot *h, const struct facts *f,
                    uint32_t i)
{
    struct decision d = {0};
    struct hop hop = {0};

    policy_decide(h->snap->s, &h->env, f, i, &h->arena, &d);
    jw_open(b, NULL);
    jw_sv(b, "address", h->env.rcpts[i].addr);
    struct smtp_verdict v =
        relay_check(h->snap->s, &h->env.peer, h->env.sender, h->env.rcpts[i].addr);
    jw_bool(b, "accepted", v.ok);
    if (!v.ok) {
        jw_u64(b, "code", v.code);
        jw_str(b, "status", v.status);
        jw_str(b, "text", v.text);
    }
    jw_decision(b, &d);
    jw_open(b, "hop");
    if (deliver_route(q, h->snap->s, &d, h->env.rcpts[i].addr, &h->arena, &hop) == ERR_OK)
        jw_hop(b, &hop);
    jw_close(b);
    jw_close(b);
}

void ctl_facts(struct queue *q, struct hot *h, const struct facts *f)
{
    struct buf b;

    buf_init(&b, 32u * 1024 * 1024);
    jw_open(&b, NULL);
    jw_u64(&b, "revision", h->snap->s->revision);
    jw_facts(&b, f);
    if (h->ctl->decide) {
        jw_array(&b, "recipients");
        for (uint32_t i = 0; i < h->env.n_rcpts; i++)
            jw_plan(q, &b, h, f, i);
        jw_array_end(&b);
    }
    jw_close(&b);
    if (h->ctl->ch)
        ctl_reply(h->ctl->ch, h->ctl->tag, false, EX_OK, &b);
    buf_done(&b);
    hot_free(q, h);
}

static void forget(struct hot *h, const struct ipc *ch)
{
    if (h && h->ctl && h->ctl->ch == ch)
        h->ctl->ch = NULL;
}

void ctl_waits_gone(struct queue *q, const struct ipc *ch)
{
    LIST_FOREACH (n, &q->scan_queue)
        forget(LIST_ENTRY(n, struct hot, node), ch);
    for (uint8_t i = 0; i < q->n_content; i++) {
        for (uint32_t j = 0; j < q->content[i].n_jobs; j++)
            forget(q->content[i].jobs[j].hot, ch);
    }
}
