/*
 * What follows an attempt (spec A6, A7, A9, F1-F3, Z11).
 *
 * The order of the questions: delivered? damaged? TLS-specific failure (backup at once, else the
 * delayed queue; never a bounce before the deadline)? refused for good? else the delayed queue
 * until the period ends.
 */
#include "core/plan.h"

#define MINUTE_MS     60000
#define DOUBLINGS_MAX 20

/* How a failure is treated, and how a report says it. */
enum nature { NATURE_TEMPORARY, NATURE_PERMANENT, NATURE_TLS, NATURE_DAMAGE };
struct failure_row {
    enum nature nature;
    const char *status; /* of the delay; a TLS row: class 5 when it ends in a bounce */
    const char *status_end;
    const char *words;
};

static struct failure_row row_of(enum failure f)
{
    switch (f) {
    case FAILURE_NONE:
        return (struct failure_row){NATURE_TEMPORARY, "4.0.0", "4.4.7", "no result was recorded"};
    case FAILURE_DNS_TEMP:
        return (struct failure_row){NATURE_TEMPORARY, "4.4.3", "4.4.7",
                                    "the name service did not answer"};
    case FAILURE_DNS_PERM:
        return (struct failure_row){NATURE_PERMANENT, "5.1.2", "5.1.2",
                                    "the domain does not exist or takes no mail"};
    case FAILURE_CONNECT:
        return (struct failure_row){NATURE_TEMPORARY, "4.4.1", "4.4.7",
                                    "no server of the destination answered"};
    case FAILURE_TLS_NOT_OFFERED:
        return (struct failure_row){NATURE_TLS, "4.7.10", "5.7.10",
                                    "the server does not offer STARTTLS"};
    case FAILURE_TLS_REFUSED:
        return (struct failure_row){NATURE_TLS, "4.7.10", "5.7.10", "the server refused STARTTLS"};
    case FAILURE_TLS_HANDSHAKE:
        return (struct failure_row){NATURE_TLS, "4.7.5", "5.7.5", "the TLS handshake failed"};
    case FAILURE_TLS_WEAK:
        return (struct failure_row){NATURE_TLS, "4.7.5", "5.7.5",
                                    "the session is weaker than the required strength"};
    case FAILURE_TLS_CERT:
        return (struct failure_row){NATURE_TLS, "4.7.5", "5.7.5",
                                    "the certificate of the server did not pass the check"};
    case FAILURE_SMTP_TEMP:
        return (struct failure_row){NATURE_TEMPORARY, "4.0.0", "4.4.7",
                                    "the server put the message off"};
    case FAILURE_SMTP_PERM:
        return (struct failure_row){NATURE_PERMANENT, "5.0.0", "5.0.0",
                                    "the server refused the message"};
    case FAILURE_PROTOCOL:
        return (struct failure_row){NATURE_TEMPORARY, "4.5.0", "4.4.7",
                                    "the connection broke or the server answered nonsense"};
    case FAILURE_TIMEOUT:
        return (struct failure_row){NATURE_TEMPORARY, "4.4.2", "4.4.7",
                                    "the server took too long to answer"};
    case FAILURE_SIZE:
        return (struct failure_row){NATURE_PERMANENT, "5.3.4", "5.3.4",
                                    "the message is too large for the server"};
    case FAILURE_8BIT:
        return (struct failure_row){NATURE_PERMANENT, "5.6.3", "5.6.3",
                                    "the server does not take 8-bit content"};
    case FAILURE_AUTH:
        return (struct failure_row){NATURE_TEMPORARY, "4.7.8", "4.4.7",
                                    "the server did not accept our credentials"};
    case FAILURE_CORRUPT:
        return (struct failure_row){NATURE_DAMAGE, "4.3.0", "4.3.0",
                                    "the stored message is damaged and was not sent"};
    case FAILURE_INTERNAL:
        break;
    }
    return (struct failure_row){NATURE_TEMPORARY, "4.3.0", "4.4.7", "internal error"};
}

int64_t retry_next(uint32_t interval_min, uint32_t max_min, int64_t received_ms, int64_t now_ms,
                   uint32_t attempts)
{
    int64_t deadline = received_ms + (int64_t)max_min * MINUTE_MS;
    uint32_t doublings = attempts > 1 ? attempts - 1 : 0;

    if (received_ms > now_ms) /* the clock was set back: no attempt is put off by the difference */
        deadline = now_ms + (int64_t)max_min * MINUTE_MS;
    if (now_ms >= deadline)
        return 0;
    if (doublings > DOUBLINGS_MAX)
        doublings = DOUBLINGS_MAX;
    int64_t gap = ((int64_t)interval_min * MINUTE_MS) << doublings;
    return gap < deadline - now_ms ? now_ms + gap : deadline;
}

static struct sv words_of(const struct plan_in *in, const struct failure_row *row, bool expired,
                          struct arena *a)
{
    const char *end = expired ? "; the retry period has ended" : "";

    if (row->nature != NATURE_TLS)
        return arena_printf(a, "%s%s", row->words, end);
    return arena_printf(a, "TLS is required for this %s and failed: %s%s%s",
                        in->d->encrypt ? "message" : "route", row->words,
                        in->backup_failed ? "; the backup method failed as well" : "", end);
}

static enum nature nature_of(const struct plan_in *in, const struct failure_row *row)
{
    if (row->nature == NATURE_TLS || row->nature == NATURE_DAMAGE || !in->outcome)
        return row->nature;
    switch ((enum rcpt_result)in->outcome->result) { /* the recipient's own reply counts */
    case RCPT_FAILED:
        return NATURE_PERMANENT;
    case RCPT_DEFERRED:
        return NATURE_TEMPORARY;
    case RCPT_PENDING:
    case RCPT_DELIVERED:
        break;
    }
    return row->nature;
}

/* The remote server's own enhanced status is more exact than ours, when its class agrees. */
static struct sv status_of(const struct plan_in *in, enum nature nature, const char *ours)
{
    bool theirs =
        in->outcome && in->outcome->status.n && nature != NATURE_TLS && nature != NATURE_DAMAGE;

    return theirs && in->outcome->status.p[0] == ours[0] ? in->outcome->status : sv_str(ours);
}

static bool backup_is_due(const struct plan_in *in, enum nature nature)
{
    return nature == NATURE_TLS && in->d->encrypt && in->d->method == METHOD_TLS &&
           in->d->backup != METHOD_NONE && !in->backup_failed;
}

static struct step later(const struct plan_in *in, enum nature nature,
                         const struct failure_row *row, struct arena *a)
{
    struct step step = {.kind = STEP_RETRY};

    step.at_ms = retry_next(in->s->delivery_retry_interval_min, in->s->delivery_max_retry_min,
                            in->received_ms, in->now_ms, in->attempts);
    step.status = status_of(in, nature, row->status);
    if (!step.at_ms) {
        step.kind = STEP_BOUNCE;
        step.expired = true;
        step.status = sv_str(row->status_end);
    }
    step.human = words_of(in, row, step.expired, a);
    return step;
}

static struct step bounce(const struct plan_in *in, const struct failure_row *row, struct arena *a)
{
    const char *ours = row->nature == NATURE_PERMANENT ? row->status : "5.0.0";

    return (struct step){.kind = STEP_BOUNCE,
                         .status = status_of(in, NATURE_PERMANENT, ours),
                         .human = words_of(in, row, false, a)};
}

struct step plan_next(const struct plan_in *in, struct arena *a)
{
    struct failure_row row = row_of(in->failure);
    enum nature nature = nature_of(in, &row);

    if (in->outcome && in->outcome->result == RCPT_DELIVERED)
        return (struct step){.kind = STEP_DONE};
    if (nature == NATURE_PERMANENT && row.nature != NATURE_PERMANENT)
        row = row_of(FAILURE_SMTP_PERM);
    if (nature == NATURE_TEMPORARY && row.nature != NATURE_TEMPORARY)
        row = row_of(FAILURE_SMTP_TEMP);
    if (backup_is_due(in, nature))
        return (struct step){.kind = STEP_BACKUP,
                             .at_ms = in->now_ms,
                             .status = sv_str(row.status),
                             .human = words_of(in, &row, false, a)};
    switch (nature) {
    case NATURE_DAMAGE:
        return (struct step){.kind = STEP_HOLD,
                             .hold = HOLD_EXCEPTION,
                             .status = sv_str(row.status),
                             .human = words_of(in, &row, false, a)};
    case NATURE_PERMANENT:
        return bounce(in, &row, a);
    case NATURE_TEMPORARY:
    case NATURE_TLS:
        break;
    }
    return later(in, nature, &row, a);
}

bool report_due(const struct envelope *env, const struct rcpt *r, enum report kind)
{
    if (env->sender.n == 0 || env->kind != MESSAGE_SMTP || (r->notify & NOTIFY_NEVER))
        return false; /* RFC 3461 4.1: never a report about a report */
    switch (kind) {
    case REPORT_FAILED:
        return !r->notify || (r->notify & NOTIFY_FAILURE);
    case REPORT_DELAYED:
        return !r->notify || (r->notify & NOTIFY_DELAY);
    case REPORT_RELAYED:
    case REPORT_DELIVERED:
        break;
    }
    return (r->notify & NOTIFY_SUCCESS) != 0;
}
