/*
 * What the server machine asks before a message: HELO, AUTH, MAIL, RCPT; and the start of the
 * machine once it is known whether TLS is on.
 *
 * SECURITY: verdicts come from core/relay over the session's settings snapshot. A password goes to
 * `lookup` and nowhere else; an unknown user costs the same time as a known one.
 */
#include "role/smtp_in.h"

#include <stdlib.h>

static struct smtp_srv_config config_of(const struct smtp_in *s, bool tls_on)
{
    const struct settings *set = s->snap->s;
    bool submission =
        s->peer.listener == LISTENER_SUBMISSION || s->peer.listener == LISTENER_SUBMISSIONS;
    bool tls = s->snap->tls != NULL;

    return (struct smtp_srv_config){
        .hostname = s->snap->hostname,
        .listener = (enum listener_kind)s->peer.listener,
        .tls_offer = tls && !tls_on && (s->peer.listener != LISTENER_MX || set->tls_offer),
        .tls_on = tls_on,
        .require_tls = submission && set->submission_require_tls,
        .auth_offer = submission,
        .require_auth = submission && !s->peer.trusted,
        .max_size = (uint64_t)set->msg_max_kb * 1024,
        .max_session = s->peer.trusted ? 0 : (uint64_t)set->msg_max_session_kb * 1024,
        .max_rcpts = set->msg_max_recipients,
        .max_messages = set->conn_messages,
        .max_errors = set->conn_max_errors,
        .max_junk = s->peer.trusted ? 0 : set->conn_max_junk,
        .trusted = s->peer.trusted,
        .max_auth_failures = set->submission_auth_failures,
        .max_header = set->msg_max_header_kb * 1024,
        .max_hops = set->msg_max_hops,
    };
}

/* facts NULL: the session begins in clear. Leaves s->srv NULL when there is no memory. */
void smtp_in_tls_up(struct smtp_in *s, const struct tls_facts *facts)
{
    if (facts)
        s->peer.tls = *facts;
    if (s->srv) {
        smtp_srv_tls_done(s->srv, facts);
        return;
    }
    struct smtp_srv_config config = config_of(s, facts != NULL);
    if (smtp_srv_new(&config, &s->srv))
        s->srv = NULL;
    else if (facts)
        smtp_srv_greet(s->srv);
}

void smtp_in_ask_helo(struct smtp_in *s)
{
    smtp_in_rate_starttls(s);
    smtp_srv_answer(s->srv, 250, "", SV(""));
}

/* ---- AUTH ---- */

static const struct submitter *submitter_of(const struct settings *set, struct sv user)
{
    for (uint32_t i = 0; i < set->n_submitters; i++) {
        if (sv_eq(set->submitters[i].user, user))
            return &set->submitters[i];
    }
    return NULL;
}

static void auth_answer(struct smtp_in *s, enum answer answer)
{
    smtp_in_auth_ended(s, answer);
    switch (answer) {
    case ANSWER_YES:
        smtp_stats_add(&s->m->stats, COUNT_IN_AUTH_OK, 1);
        smtp_in_resume(s, 235, "2.7.0", SV("Authentication successful"));
        return;
    case ANSWER_NO:
        smtp_stats_add(&s->m->stats, COUNT_IN_AUTH_FAILED, 1);
        smtp_log_in_warning(s, "auth-failed", "SASL authentication failed");
        smtp_in_resume(s, 535, "5.7.8", SV("Error: authentication failed"));
        return;
    case ANSWER_UNKNOWN:
        smtp_in_resume(s, 454, "4.7.0", SV("Temporary authentication failure"));
        return;
    }
}

bool smtp_in_ask_auth(struct smtp_in *s, struct sv user, struct sv password)
{
    const struct settings *set = s->snap->s;
    const struct submitter *sub = submitter_of(set, user);

    if (!s->auth_charged) {
        int64_t ms = smtp_in_auth_wait(s, user);
        if (ms) {
            smtp_in_wait(s, IN_AUTH_DELAY, ms);
            return false;
        }
    }
    if (set->n_submitters == 0) {
        smtp_in_auth_ended(s, ANSWER_NO);
        smtp_stats_add(&s->m->stats, COUNT_IN_AUTH_FAILED, 1);
        smtp_srv_answer(s->srv, 535, "5.7.8", SV("Error: authentication failed"));
        return true;
    }
    s->auth_unknown = sub == NULL;
    s->tag = smtp_tag_new(&s->m->tags, s);
    struct ask ask = {.tag = s->tag,
                      .kind = ASK_PASSWORD,
                      .a = user,
                      .b = password,
                      .c = sub ? sub->hash : set->submitters[0].hash};
    if (!s->tag || !s->m->lookup || ipc_send(s->m->lookup, MSG_ASK, &ask, -1)) {
        (void)smtp_tag_take(&s->m->tags, s->tag);
        s->tag = 0;
        smtp_in_auth_ended(s, ANSWER_UNKNOWN);
        smtp_srv_answer(s->srv, 454, "4.7.0", SV("Temporary authentication failure"));
        return true;
    }
    smtp_in_wait(s, IN_WAIT_AUTH, SMTP_AUTH_MS);
    return false;
}

void smtp_in_answer(struct smtp *m, const struct answer_msg *a)
{
    struct smtp_in *s = smtp_tag_peek(&m->tags, a->tag);

    if (!s || s->tag != a->tag || s->state != IN_WAIT_AUTH)
        return;
    if (a->answer == ANSWER_YES)
        auth_answer(s, s->auth_unknown ? ANSWER_NO : ANSWER_YES);
    else
        auth_answer(s, a->answer == ANSWER_NO ? ANSWER_NO : ANSWER_UNKNOWN);
}

void smtp_in_lookup_gone(struct smtp *m)
{
    struct list *next;

    for (struct list *it = m->in.next; it != &m->in; it = next) {
        struct smtp_in *s = LIST_ENTRY(it, struct smtp_in, node);
        next = it->next;
        if (s->state == IN_WAIT_AUTH)
            auth_answer(s, ANSWER_UNKNOWN);
    }
}

/* ---- MAIL, RCPT ---- */

static void refuse(struct smtp_in *s, const char *command, const struct in_refusal *r,
                   struct sv rcpt)
{
    struct sv text = sv_str(r->text);

    smtp_log_reject(s, command, r->code, r->status, text, rcpt);
    smtp_srv_answer(s->srv, r->code, r->status, text);
}

/* The machine's own words about the client, as of now. */
static void refresh_peer(struct smtp_in *s)
{
    s->peer.helo = smtp_srv_helo(s->srv);
    s->peer.esmtp = smtp_srv_is_esmtp(s->srv);
    s->peer.auth_user = smtp_srv_auth_user(s->srv);
}

void smtp_in_ask_mail(struct smtp_in *s)
{
    struct smtp *m = s->m;
    struct in_refusal r = {451, "4.3.0", "Error: queue is not available, try again later"};

    s->mailed = true;
    s->n_mail++;
    refresh_peer(s);
    if (m->stopping) {
        r = (struct in_refusal){421, "4.3.2", "Service shutting down"};
    } else if (m->queue && !m->intake_open) {
        r = (struct in_refusal){m->intake.code, m->intake.status, m->intake.text};
    } else if (!smtp_in_rate_mail(s)) {
        smtp_stats_add(&m->stats, COUNT_IN_LIMITED, 1);
        r = (struct in_refusal){450, "4.7.1",
                                "Error: too many messages from your address in one minute"};
    } else if (m->queue && smtp_ids_left(m)) {
        smtp_srv_answer(s->srv, 250, "2.1.0", SV("Ok"));
        return;
    }
    refuse(s, "MAIL", &r, SV(""));
}

void smtp_in_ask_rcpt(struct smtp_in *s)
{
    const struct envelope *env = smtp_srv_envelope(s->srv);
    struct sv rcpt = env->rcpts[env->n_rcpts - 1].addr;

    s->n_rcpt++;
    refresh_peer(s);
    struct smtp_verdict v = relay_check(s->snap->s, &s->peer, env->sender, rcpt);
    if (v.ok && !smtp_in_rate_rcpt(s)) {
        smtp_stats_add(&s->m->stats, COUNT_IN_LIMITED, 1);
        struct in_refusal many = {450, "4.7.1",
                                  "Error: too many recipients from your address in one minute"};
        refuse(s, "RCPT", &many, rcpt);
        return;
    }
    if (v.ok) {
        smtp_stats_add(&s->m->stats, COUNT_IN_RCPTS, 1);
        smtp_srv_answer(s->srv, 250, "2.1.5", SV("Ok"));
        return;
    }
    smtp_stats_add(&s->m->stats, COUNT_IN_RCPTS_REFUSED, 1);
    struct in_refusal r = {v.code, v.status, v.text};
    refuse(s, "RCPT", &r, rcpt);
}
