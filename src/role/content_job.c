/*
 * The work of a content process: scan a message, build a report or a notice.
 *
 * SECURITY: the message is hostile. Its hash is checked before anything looks at it, so that what
 * was scanned is what `queue` committed and what `smtp` will send.
 */
#include "role/content_priv.h"

#include "base/clock.h"
#include "base/enc.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "codec/dsn.h"
#include "crypto/cert.h"
#include "net/fd.h"

#include <stdlib.h>
#include <time.h>

void content_failed(const struct job *job, enum scan_state state, const char *why,
                    struct job_done *out_done)
{
    *out_done = (struct job_done){.job = job->job};
    if (job->kind == JOB_SCAN) {
        out_done->facts.scan = (uint8_t)state;
        out_done->facts.scan_error = sv_str(why);
        out_done->facts.size = job->env.size;
    } else {
        out_done->error = sv_str(why);
    }
}

bool content_load(const struct job *job, int fd, size_t max, struct sv *out_body, char **out_owned)
{
    *out_owned = NULL;
    if (fd < 0) {
        *out_body = sv_take(job->body, max);
        return true;
    }
    size_t n = job->env.size < max ? (size_t)job->env.size : max;
    char *p = malloc(n ? n : 1);
    if (!p || !fd_read_at(fd, p, n, 0) || (job->body_key.n != 0 && job->body_key.n != 32)) {
        free(p);
        return false;
    }
    if (job->body_key.n == 32) {
        uint8_t key[32];
        memcpy(key, job->body_key.p, sizeof key);
        body_crypt(key, 0, 0, p, n);
        explicit_bzero(key, sizeof key);
    }
    *out_owned = p;
    *out_body = sv_of(p, n);
    return true;
}

static bool hash_matches(const struct job *job, struct sv body)
{
    uint8_t digest[32];
    sha256_once(body, digest);
    return job->env.sha256.n == sizeof digest && body.n == job->env.size &&
           memcmp(digest, job->env.sha256.p, sizeof digest) == 0;
}

static int64_t micros_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void job_scan(struct scanner *sc, const struct job *job, int fd, struct arena *a,
                     struct job_done *out_done)
{
    struct sv body;
    char *owned;
    int64_t start = micros_now();

    if (!content_load(job, fd, SIZE_MAX, &body, &owned)) {
        content_failed(job, SCAN_FAILED, "the body could not be read", out_done);
        return;
    }
    if (!hash_matches(job, body)) {
        content_failed(job, SCAN_FAILED, "body does not match its hash", out_done);
    } else {
        scan_message(sc, body, a, &out_done->facts);
        int64_t spent = micros_now() - start;
        out_done->facts.micros = spent > 0 && spent < UINT32_MAX ? (uint32_t)spent : 0;
    }
    free(owned); /* facts own their text */
}

/* 128 random bits as hex: unique in the world, and not to be guessed by who writes the original. */
static struct sv unique_token(struct arena *a)
{
    struct rng rng = rng_system();
    uint8_t bytes[16];
    struct buf text;
    rng_bytes(&rng, bytes, sizeof bytes);
    buf_init(&text, 64);
    (void)hex_encode(sv_of((const char *)bytes, sizeof bytes), &text);
    struct sv token = arena_sv(a, buf_sv(&text));
    buf_done(&text);
    return token;
}

static struct sv unique_id(const struct job *job, struct arena *a)
{
    struct sv token = unique_token(a);
    struct sv host = job->reporting_mta.n ? job->reporting_mta : SV("localhost");
    return arena_printf(a, "<%.*s@%.*s>", SV_ARG(token), SV_ARG(host));
}

static void job_dsn(const struct job *job, int fd, struct arena *a, struct buf *out_body,
                    struct job_done *out_done)
{
    struct sv original;
    char *owned;
    enum err err = ERR_CONFLICT;
    bool too_large = false;

    if (!content_load(job, fd, CONTENT_REPORT_MAX, &original, &owned)) {
        content_failed(job, SCAN_FAILED, "the body could not be read", out_done);
        return;
    }
    bool cut = original.n < job->env.size;
    for (int i = 0; i < 3 && err == ERR_CONFLICT; i++) {
        struct dsn_in in = {.env = &job->env,
                            .rcpts = job->dsn_rcpts,
                            .n_rcpts = job->n_dsn_rcpts,
                            .reporting_mta = job->reporting_mta,
                            .from = job->from,
                            .notice = job->notice,
                            .original = original,
                            .sealed = job->sealed,
                            .headers_only = cut || too_large || job->env.ret == RET_HDRS,
                            .message_id = unique_id(job, a),
                            .boundary = arena_printf(a, "=_%.*s", SV_ARG(unique_token(a))),
                            .now_ms = clock_now().wall_ms};
        buf_reset(out_body);
        err = dsn_build(&in, out_body);
        if (!err && out_body->n > CONTENT_DSN_MAX && !too_large) {
            too_large = true; /* once more, with the header section only */
            err = ERR_CONFLICT;
        }
    }
    free(owned);
    if (err) {
        content_failed(job, SCAN_FAILED, err_name(err), out_done);
        return;
    }
    out_done->body = buf_sv(out_body);
}

/* Words for a human as body lines: CRLF, no control characters, at most 900 bytes a line. */
static void put_lines(struct sv text, struct buf *out)
{
    size_t line = 0;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '\r')
            continue;
        if (c == '\n' || (line >= 900 && ((uint8_t)c & 0xc0) != 0x80)) {
            (void)buf_append(out, "\r\n", 2);
            line = 0;
        }
        if (c == '\n')
            continue;
        (void)buf_append_byte(out, (uint8_t)c < ' ' && c != '\t' ? ' ' : c);
        line++;
    }
    (void)buf_append(out, "\r\n", 2);
}

/* Header values are ours, yet nothing in them may begin a new field. */
static void put_field(struct buf *out, const char *name, struct sv value)
{
    (void)buf_printf(out, "%s: ", name);
    for (size_t i = 0; i < value.n; i++)
        (void)buf_append_byte(out, (uint8_t)value.p[i] < ' ' ? ' ' : value.p[i]);
    (void)buf_append(out, "\r\n", 2);
}

static void job_notice(const struct job *job, struct arena *a, struct buf *out,
                       struct job_done *out_done)
{
    char date[CLOCK_RFC5322_MAX];
    size_t n = clock_rfc5322(clock_now().wall_ms, date);
    bool text = utf8_valid(job->notice);

    buf_reset(out);
    put_field(out, "Date", sv_of(date, n));
    put_field(out, "From", arena_printf(a, "Postseal <%.*s>", SV_ARG(job->from)));
    put_field(out, "To",
              job->to.n ? arena_printf(a, "<%.*s>", SV_ARG(job->to)) : SV("Administrators:;"));
    put_field(out, "Subject", SV("Notice from the mail gateway"));
    put_field(out, "Message-ID", unique_id(job, a));
    put_field(out, "Auto-Submitted", SV("auto-generated")); /* RFC 3834 5 */
    put_field(out, "MIME-Version", SV("1.0"));
    put_field(out, "Content-Type",
              text ? SV("text/plain; charset=utf-8") : SV("text/plain; charset=iso-8859-1"));
    put_field(out, "Content-Transfer-Encoding", sv_is_ascii(job->notice) ? SV("7bit") : SV("8bit"));
    (void)buf_append(out, "\r\n", 2);
    put_lines(job->notice, out);
    if (out->overflow || a->overflow)
        content_failed(job, SCAN_FAILED, "the notice is too large", out_done);
    else
        out_done->body = buf_sv(out);
}

void content_job(struct scanner *sc, const struct job *job, int fd, struct arena *a,
                 struct buf *body, struct job_done *out_done)
{
    *out_done = (struct job_done){.job = job->job};
    switch ((enum job_kind)job->kind) {
    case JOB_SCAN:
        job_scan(sc, job, fd, a, out_done);
        return;
    case JOB_DSN:
        job_dsn(job, fd, a, body, out_done);
        return;
    case JOB_NOTICE:
        job_notice(job, a, body, out_done);
        return;
    }
    content_failed(job, SCAN_FAILED, "unknown kind of job", out_done);
}

bool content_is_warm(const struct job *job, int fd)
{
    if (fd >= 0)
        return false;
    return job->kind != JOB_SCAN || scan_is_simple(job->body);
}
