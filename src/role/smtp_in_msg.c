/*
 * One message on its way in: DATA, body, commit. 250 is said only after `queue` said COMMITTED.
 *
 * On failure: what cannot be kept (no file, disk full, too large a header) is read to its end and
 * answered with the reason; when `queue` goes away, sessions that wait get 451 4.3.0 and bodies in
 * files of its are refused at their end.
 *
 * SECURITY: the declared size is never allocated; see smtp_body.h.
 */
#include "role/smtp_in.h"

#include "base/enc.h"

#include <unistd.h>

#define TEXT_WRITE "Error: queue file write error"

/* ---- end of a body, in whatever way ---- */

static void tell_file_drop(struct smtp_in *s)
{
    struct file_drop drop = {.file = s->body.file};

    if (s->body.file && s->m->queue)
        smtp_tell(s->m->queue, MSG_FILE_DROP, &drop);
}

void smtp_in_drop_body(struct smtp_in *s)
{
    tell_file_drop(s);
    smtp_body_reset(&s->body);
    s->refusal = (struct in_refusal){0};
}

/* During the body: remembered until its end. While the commit is waited for: answered now. */
void smtp_in_refuse_body(struct smtp_in *s, uint16_t code, const char *status, const char *text)
{
    bool committing = s->state == IN_WAIT_COMMIT;
    struct in_refusal r = {code, status, text};

    smtp_in_drop_body(s);
    if (committing) {
        smtp_stats_add(&s->m->stats, COUNT_IN_MESSAGES_DEFERRED, 1);
        smtp_log_reject(s, "END-OF-MESSAGE", code, status, sv_str(text), SV(""));
        smtp_in_resume(s, code, status, sv_str(text));
        return;
    }
    s->refusal = r;
    if (s->state == IN_WAIT_FILE)
        smtp_in_resume(s, 0, "", SV(""));
}

static void refuse_now(struct smtp_in *s)
{
    struct in_refusal r = s->refusal;
    enum counter c = r.code < 500 ? COUNT_IN_MESSAGES_DEFERRED : COUNT_IN_MESSAGES_REFUSED;

    smtp_stats_add(&s->m->stats, c, 1);
    smtp_log_reject(s, "END-OF-MESSAGE", r.code, r.status, sv_str(r.text), SV(""));
    smtp_in_drop_body(s);
    smtp_srv_answer(s->srv, r.code, r.status, sv_str(r.text));
}

/* ---- DATA ---- */

static enum err body_begin(struct smtp_in *s, struct envelope *env)
{
    struct smtp *m = s->m;

    env->id = s->id;
    env->session = s->session;
    env->received_ms = s->received_ms;
    env->kind = MESSAGE_SMTP;
    env->peer = s->peer;
    buf_reset(&m->scratch);
    enum err err = received_format(env, s->snap->hostname, sv_str(m->trace_id), &m->scratch);
    if (err)
        return err;
    return smtp_body_begin(&s->body, buf_sv(&m->scratch), s->snap->s->msg_max_header_kb * 1024,
                           sv_str(m->trace_id));
}

void smtp_in_ask_data(struct smtp_in *s)
{
    smtp_in_drop_body(s);
    s->id = smtp_id_take(s->m);
    s->received_ms = smtp_wall(s->m);
    s->rate_ms = smtp_now(s->m);
    s->rate_bytes = 0;
    if (!s->id || body_begin(s, smtp_srv_envelope(s->srv))) {
        smtp_in_drop_body(s);
        smtp_log_reject(s, "DATA", 451, "4.3.0", SV(TEXT_WRITE), SV(""));
        smtp_srv_answer(s->srv, 451, "4.3.0", SV(TEXT_WRITE));
        return;
    }
    s->n_data++;
    smtp_srv_answer(s->srv, 354, "", SV("End data with <CR><LF>.<CR><LF>"));
}

/* false: the session waits for the file (or the question could not be put: refused). */
static bool ask_file(struct smtp_in *s)
{
    struct smtp *m = s->m;
    uint64_t tag = smtp_tag_new(&m->tags, s);
    struct file_ask ask = {.tag = tag, .declared_size = smtp_srv_declared_size(s->srv)};

    if (!tag || !m->queue || ipc_send(m->queue, MSG_FILE_ASK, &ask, -1)) {
        (void)smtp_tag_take(&m->tags, tag);
        smtp_in_refuse_body(s, 451, "4.3.0", TEXT_WRITE);
        return true;
    }
    s->tag = tag;
    smtp_in_wait(s, IN_WAIT_FILE, SMTP_FILE_MS);
    return false;
}

static void refuse_for(struct smtp_in *s, enum err err)
{
    if (s->body.head.field_long)
        smtp_in_refuse_body(s, 550, "5.6.0", "Error: a header field is longer than 65536 bytes");
    else if (s->body.head.too_many)
        smtp_in_refuse_body(s, 550, "5.6.0", "Error: message has more than 2000 header fields");
    else if (s->body.head.too_large)
        smtp_in_refuse_body(s, 552, "5.3.4", "Error: message header is too large");
    else if (err == ERR_NOSPACE)
        smtp_in_refuse_body(s, 452, "4.3.1", "Insufficient system storage");
    else
        smtp_in_refuse_body(s, 451, "4.3.0", TEXT_WRITE);
}

bool smtp_in_body(struct smtp_in *s, struct sv bytes)
{
    s->progress_ms = s->activity_ms;
    if (s->refusal.code)
        return true;
    enum err err = smtp_body_add(&s->body, bytes);
    if (err || s->body.head.too_large) {
        refuse_for(s, err);
        return true;
    }
    return smtp_body_wants_file(&s->body) ? ask_file(s) : true;
}

void smtp_in_file(struct smtp *m, const struct file_give *g, int fd)
{
    struct smtp_in *s = smtp_tag_peek(&m->tags, g->tag);

    if (!s || s->tag != g->tag || s->state != IN_WAIT_FILE || g->code) {
        struct file_drop drop = {.file = g->file};
        if (fd >= 0) {
            (void)close(fd);
            if (m->queue)
                smtp_tell(m->queue, MSG_FILE_DROP, &drop);
        }
        if (s && s->tag == g->tag && s->state == IN_WAIT_FILE)
            smtp_in_refuse_body(s, g->code == 452 ? 452 : 451, g->code == 452 ? "4.3.1" : "4.3.0",
                                g->code == 452 ? "Insufficient system storage" : TEXT_WRITE);
        return;
    }
    enum err err = smtp_body_file(&s->body, g->file, fd, g->key);
    if (err) {
        if (s->body.fd < 0 && fd >= 0)
            (void)close(fd);
        smtp_in_refuse_body(s, err == ERR_NOSPACE ? 452 : 451,
                            err == ERR_NOSPACE ? "4.3.1" : "4.3.0", TEXT_WRITE);
        return;
    }
    smtp_in_resume(s, 0, "", SV(""));
}

/* ---- end of data ---- */

/* Mail that goes round in circles (RFC 5321 6.3). */
static bool loops(const struct smtp_in *s)
{
    return s->body.head.received > s->snap->s->msg_max_hops ||
           s->body.head.own_trace > SMTP_TRACE_MAX;
}

static struct sv clean(const char *text)
{
    return sv_str(text);
}

static enum err hand_over(struct smtp_in *s, struct envelope *env)
{
    struct received r = {.tag = s->tag, .file = s->body.file};

    env->size = s->body.size;
    env->sha256 = sv_of((const char *)s->sha256, sizeof(s->sha256));
    if (!s->body.eight_bit) /* any server may have it, 8BITMIME or not (RFC 6152 3) */
        env->body_type = BODY_7BIT;
    env->hops = (uint16_t)(s->body.head.received < 0xffff ? s->body.head.received : 0xffff);
    env->message_id = clean(s->body.head.message_id);
    env->subject = clean(s->body.head.subject);
    r.env = *env;
    r.body = s->body.file ? SV("") : buf_sv(&s->body.mem);
    return ipc_send(s->m->queue, MSG_RECEIVED, &r, -1);
}

static bool commit(struct smtp_in *s)
{
    struct smtp *m = s->m;

    s->tag = smtp_tag_new(&m->tags, s);
    if (!s->tag || !m->queue || hand_over(s, smtp_srv_envelope(s->srv))) {
        (void)smtp_tag_take(&m->tags, s->tag);
        s->tag = 0;
        smtp_in_refuse_body(s, 451, "4.3.0", TEXT_WRITE);
        refuse_now(s);
        return true;
    }
    buf_release(&s->body.mem);
    smtp_in_wait(s, IN_WAIT_COMMIT, SMTP_COMMIT_MS);
    return false;
}

bool smtp_in_end_of_body(struct smtp_in *s)
{
    enum err err = s->refusal.code ? ERR_OK : smtp_body_end(&s->body, s->sha256);

    if (err == ERR_AGAIN)
        return ask_file(s);
    if (!s->refusal.code && (err || s->body.head.too_large))
        refuse_for(s, err);
    else if (!s->refusal.code && loops(s))
        smtp_in_refuse_body(s, 554, "5.4.6", "Error: too many hops");
    if (!s->refusal.code)
        return commit(s);
    refuse_now(s);
    return true;
}

void smtp_in_committed(struct smtp *m, const struct committed *c)
{
    struct smtp_in *s = smtp_tag_peek(&m->tags, c->tag);
    char id[ID_TEXT_LEN + 1], text[64], status[16];

    if (!s || s->tag != c->tag || s->state != IN_WAIT_COMMIT || c->id != s->id)
        return;
    if (c->code == 250) {
        id_format(s->id, id);
        int n = snprintf(text, sizeof(text), "Ok: queued as %s", id);
        s->n_accepted++;
        smtp_stats_add(&m->stats, COUNT_IN_MESSAGES, 1);
        smtp_stats_add(&m->stats, COUNT_IN_BYTES, s->body.size);
        smtp_log_client(s);
        s->body.file = 0; /* it is the queue's now */
        smtp_in_drop_body(s);
        smtp_in_resume(s, 250, "2.0.0", sv_of(text, (size_t)n));
        return;
    }
    bool lies = c->code < 400 || c->code > 599; /* never let a confused peer say yes */
    uint16_t code = lies ? 451 : c->code;
    (void)snprintf(status, sizeof(status), "%.*s", SV_ARG(sv_take(c->status, 15)));
    struct sv why = lies || !c->text.n ? SV(TEXT_WRITE) : c->text;
    smtp_stats_add(&m->stats, code < 500 ? COUNT_IN_MESSAGES_DEFERRED : COUNT_IN_MESSAGES_REFUSED,
                   1);
    smtp_log_reject(s, "END-OF-MESSAGE", code, lies ? "4.3.0" : status, why, SV(""));
    smtp_in_drop_body(s);
    smtp_in_resume(s, code, lies ? "4.3.0" : status, why);
}

/* Its files and promises are gone with it. */
void smtp_in_queue_gone(struct smtp *m)
{
    struct list *next;

    for (struct list *it = m->in.next; it != &m->in; it = next) {
        struct smtp_in *s = LIST_ENTRY(it, struct smtp_in, node);
        next = it->next;
        if (s->state == IN_WAIT_COMMIT || s->state == IN_WAIT_FILE || s->body.file)
            smtp_in_refuse_body(s, 451, "4.3.0", TEXT_WRITE);
    }
}
