/*
 * AUTH PLAIN and LOGIN (RFC 4954, RFC 4616), over TLS only. The machine decodes; the driver judges.
 *
 * SECURITY: decodes secrets of strangers. Decoded and encoded secrets are wiped as soon as they
 * were used; a user name with control bytes or broken UTF-8 never reaches the driver.
 */
#include "base/enc.h"
#include "base/utf8.h"
#include "proto/smtp_srv_impl.h"

static void forget(struct smtp_srv *s)
{
    if (s->secret.p)
        explicit_bzero(s->secret.p, s->secret.n);
    buf_release(&s->secret);
    s->secret_user = s->secret_user_n = s->secret_password = 0;
}

/* The exchange is over without a question to the driver. */
static void give_up(struct smtp_srv *s, const struct smtp_reply *reply)
{
    forget(s);
    s->state = s->auth_return;
    srv_reply_lit(s, reply);
}
#define GIVE_UP(s, c, st, lit)                                                                     \
    give_up((s), &(const struct smtp_reply){.code = (c), .status = (st), .text = (lit)})

/* Failed log-ins are counted, whoever found out. */
static void count_failure(struct smtp_srv *s)
{
    s->auth_failures++;
    if (s->config.max_auth_failures && s->auth_failures >= s->config.max_auth_failures)
        s->exhausted = true;
}

bool srv_auth_check(struct smtp_srv *s, struct sv arg UNUSED)
{
    if (!s->config.auth_offer)
        SRV_REPLY(s, 502, "5.5.1", "AUTH is not available");
    else if (!s->tls)
        SRV_REPLY(s, 538, "5.7.11", "Encryption required for authentication");
    else if (s->user_n)
        SRV_REPLY(s, 503, "5.5.1", "Authenticated already"); /* RFC 4954 4 */
    else
        return true;
    return false;
}

/* Appends the decoded text to s->secret; returns where it stands, SIZE_MAX when malformed. */
static size_t decode(struct smtp_srv *s, struct sv text)
{
    const size_t at = s->secret.n;
    if (b64_decode(text, &s->secret) != ERR_OK)
        return SIZE_MAX;
    return at;
}

static bool user_ok(struct sv user)
{
    if (user.n == 0 || user.n > SRV_NAME_MAX || !utf8_valid(user))
        return false;
    for (size_t i = 0; i < user.n; i++)
        if ((unsigned char)user.p[i] < ' ' || user.p[i] == 0x7f)
            return false;
    return true;
}

static void ask(struct smtp_srv *s)
{
    if (user_ok(sv_of(s->secret.p + s->secret_user, s->secret_user_n))) {
        s->ask = ASK_AUTH;
        return;
    }
    count_failure(s);
    GIVE_UP(s, 535, "5.7.8", "Authentication failed");
}

/* RFC 4616: [authzid] NUL authcid NUL passwd. Acting for another user is not supported. */
static void take_plain(struct smtp_srv *s, struct sv text)
{
    if (decode(s, text) == SIZE_MAX) {
        GIVE_UP(s, 501, "5.5.2", "Malformed authentication data");
        return;
    }
    const struct sv all = buf_sv(&s->secret);
    const size_t first = sv_find_byte(all, '\0');
    const size_t second =
        first == SIZE_MAX ? SIZE_MAX : sv_find_byte(sv_skip(all, first + 1), '\0');
    if (second == SIZE_MAX || sv_find_byte(sv_skip(all, first + second + 2), '\0') != SIZE_MAX) {
        GIVE_UP(s, 501, "5.5.2", "Malformed authentication data");
        return;
    }
    s->secret_user = first + 1;
    s->secret_user_n = second;
    s->secret_password = first + second + 2;
    const struct sv authzid = sv_take(all, first);
    if (!sv_empty(authzid) && !sv_eq(authzid, sv_of(all.p + s->secret_user, second)))
        s->secret_user_n = 0; /* refused as any other bad user */
    ask(s);
}

static void take_login_user(struct smtp_srv *s, struct sv text)
{
    if (decode(s, text) == SIZE_MAX) {
        GIVE_UP(s, 501, "5.5.2", "Malformed authentication data");
        return;
    }
    s->secret_user = 0;
    s->secret_user_n = s->secret.n;
    s->auth_step = AUTH_LOGIN_PASSWORD;
    srv_reply(s, 334, "", SV("UGFzc3dvcmQ6")); /* "Password:" */
}

static void take_login_password(struct smtp_srv *s, struct sv text)
{
    s->secret_password = decode(s, text);
    if (s->secret_password == SIZE_MAX)
        GIVE_UP(s, 501, "5.5.2", "Malformed authentication data");
    else
        ask(s);
}

static void take(struct smtp_srv *s, struct sv text)
{
    switch (s->auth_step) {
    case AUTH_PLAIN:
        take_plain(s, text);
        break;
    case AUTH_LOGIN_USER:
        take_login_user(s, text);
        break;
    case AUTH_LOGIN_PASSWORD:
        take_login_password(s, text);
        break;
    }
}

void srv_auth(struct smtp_srv *s, struct sv arg)
{
    struct sv rest = sv_trim(arg);
    const struct sv mechanism = sv_cut(&rest, ' ');
    const struct sv initial = sv_trim(rest);
    const bool plain = sv_eq_nocase(mechanism, SV("PLAIN"));

    if (!plain && !sv_eq_nocase(mechanism, SV("LOGIN"))) {
        SRV_REPLY(s, 504, "5.5.4", "Mechanism not supported");
        return;
    }
    forget(s);
    /* All at once: growing would leave copies of the secret behind. */
    if (buf_reserve(&s->secret, SRV_SECRET_MAX) != ERR_OK) {
        SRV_REPLY(s, 454, "4.7.0", "Temporary authentication failure");
        return;
    }
    s->auth_return = s->state;
    s->state = ST_AUTH;
    s->auth_step = plain ? AUTH_PLAIN : AUTH_LOGIN_USER;
    if (initial.n == 1 && initial.p[0] == '=')
        take(s, SV("")); /* RFC 4954 4: an empty initial response */
    else if (initial.n)
        take(s, initial);
    else
        srv_reply(s, 334, "", plain ? SV("") : SV("VXNlcm5hbWU6")); /* "Username:" */
}

void srv_auth_line(struct smtp_srv *s, struct sv line)
{
    s->flush = true;
    if (line.n == 1 && line.p[0] == '*')
        GIVE_UP(s, 501, "5.7.0", "Authentication cancelled"); /* RFC 4954 4 */
    else
        take(s, line);
}

void srv_auth_too_long(struct smtp_srv *s)
{
    GIVE_UP(s, 500, "5.5.6", "Authentication exchange line is too long"); /* RFC 4954 4 */
}

void srv_auth_answered(struct smtp_srv *s, const struct smtp_reply *answer, struct sv text)
{
    s->flush = true;
    if (answer->code == 235) {
        memcpy(s->user, s->secret.p + s->secret_user, s->secret_user_n);
        s->user_n = s->secret_user_n;
    } else if (answer->code >= 500) {
        count_failure(s);
    }
    s->state = s->auth_return;
    srv_reply(s, answer->code, answer->status, text); /* the text may quote the user */
    forget(s);
}
