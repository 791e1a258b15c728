/*
 * Connection control: who may come in, what a session counts against the limits a minute of its
 * address, and what a log-in has to wait.
 *
 * Exempt from rates and from the greeting delay: trusted addresses, and loopback (nothing of the
 * internet comes from there). Waits of log-ins: failures of an address count unless it is exempt (a
 * web mailer logs in for many); failures of an account count from everywhere but from where it was
 * used last, so that nobody is shut out of his account by others' guesses.
 *
 * SECURITY: the wait does not depend on whether the user exists. Each log-in is counted as failed
 * when it begins, so a hundred connections at once gain nothing.
 */
#include "role/smtp_in.h"

#include <sys/socket.h>
#include <unistd.h>

bool smtp_in_exempt(const struct peer *peer)
{
    return peer->trusted || ip_is_loopback(&peer->ip);
}

/* ---- connections ---- */

static const struct {
    const char *status, *text;
    enum counter counter;
} away[] = {
    [REFUSE_PER_IP] = {"4.7.0", "Error: too many connections from your address",
                       COUNT_IN_REFUSED_IP},
    [REFUSE_TOTAL] = {"4.3.2", "Error: too many connections", COUNT_IN_REFUSED_TOTAL},
    [REFUSE_RATE] = {"4.7.0", "Error: too many connections from your address in one minute",
                     COUNT_IN_REFUSED_RATE},
};

/* Says why in one write and hangs up: no session is made. */
static void turn_away(struct smtp *m, int fd, const struct peer *peer, enum admission a)
{
    char text[512], ip[IP_TEXT_MAX];
    bool clear = peer->listener != LISTENER_SUBMISSIONS; /* there nobody listens to clear text */

    ip_format(&peer->ip, ip);
    int n = snprintf(text, sizeof(text), "421 %s %.*s %s, try again later\r\n", away[a].status,
                     SV_ARG(m->snap->hostname), away[a].text);
    if (clear && n > 0 && (size_t)n < sizeof(text))
        (void)send(fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)close(fd);
    smtp_stats_add(&m->stats, away[a].counter, 1);
    smtp_log_turned_away(m, ip, away[a].status, away[a].text);
}

static enum admission admit(struct smtp *m, const struct peer *peer)
{
    const struct settings *set = m->snap->s;
    struct rate_key key = rates_key_ip(&peer->ip);
    enum admission a = conn_limits_enter(&m->limits, &peer->ip, peer->trusted, set->conn_per_ip,
                                         set->conn_max_total);

    if (a == ADMIT && !smtp_in_exempt(peer) &&
        !rates_take(&m->rates, &key, RATE_CONNECT, set->conn_rate_per_min, smtp_now(m))) {
        conn_limits_leave(&m->limits, &peer->ip, peer->trusted);
        a = REFUSE_RATE;
    }
    return a;
}

bool smtp_in_admit(struct smtp *m, int fd, const struct peer *peer)
{
    enum admission a = admit(m, peer);

    if (a != ADMIT)
        turn_away(m, fd, peer, a);
    return a == ADMIT;
}

/* ---- what a session counts ---- */

static bool take(struct smtp_in *s, enum rate kind, uint32_t limit)
{
    return smtp_in_exempt(&s->peer) ||
           rates_take(&s->m->rates, &s->rate_key, kind, limit, smtp_now(s->m));
}

bool smtp_in_rate_handshake(struct smtp_in *s)
{
    bool ok = take(s, RATE_HANDSHAKE, s->snap->s->conn_handshakes_per_min);

    smtp_stats_add(&s->m->stats, COUNT_IN_LIMITED, ok ? 0 : 1);
    return ok;
}

void smtp_in_rate_resumed(struct smtp_in *s)
{
    if (!smtp_in_exempt(&s->peer))
        rates_give_back(&s->m->rates, &s->rate_key, RATE_HANDSHAKE, smtp_now(s->m));
}

bool smtp_in_rate_mail(struct smtp_in *s)
{
    return take(s, RATE_MESSAGE, s->snap->s->conn_messages_per_min);
}

bool smtp_in_rate_rcpt(struct smtp_in *s)
{
    return take(s, RATE_RCPT, s->snap->s->conn_recipients_per_min);
}

void smtp_in_rate_starttls(struct smtp_in *s)
{
    bool full = !smtp_in_exempt(&s->peer) && s->peer.tls.version == 0 &&
                rates_full(&s->m->rates, &s->rate_key, RATE_HANDSHAKE,
                           s->snap->s->conn_handshakes_per_min, smtp_now(s->m));

    smtp_srv_hold_tls(s->srv, full ? SMTP_TEXT_HANDSHAKES : NULL);
}

/* ---- log-ins ---- */

int64_t smtp_in_auth_wait(struct smtp_in *s, struct sv user)
{
    struct smtp *m = s->m;
    int64_t now = smtp_now(m), by_address = 0;

    s->auth_charged = true;
    s->account = rates_key_user(&m->accounts, user);
    bool known = rates_auth_known(&m->accounts, &s->account, &s->rate_key);
    int64_t by_account = rates_auth_begin(&m->accounts, &s->account, now);
    if (!smtp_in_exempt(&s->peer))
        by_address = rates_auth_begin(&m->rates, &s->rate_key, now);
    if (known)
        by_account = 0;
    return by_account > by_address ? by_account : by_address;
}

void smtp_in_auth_ended(struct smtp_in *s, enum answer answer)
{
    struct smtp *m = s->m;
    int64_t now = smtp_now(m);

    if (!s->auth_charged)
        return;
    s->auth_charged = false;
    if (answer == ANSWER_NO)
        return;
    rates_auth_undo(&m->accounts, &s->account, now);
    if (!smtp_in_exempt(&s->peer))
        rates_auth_undo(&m->rates, &s->rate_key, now);
    if (answer == ANSWER_YES)
        rates_auth_good(&m->accounts, &s->account, &s->rate_key, now);
}
