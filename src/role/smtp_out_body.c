/*
 * The body of a delivery: inline bytes at once, a large one piece by piece from its file. The final
 * piece is handed over only when the hash of the whole is right, so what was scanned is what is
 * sent.
 */
#include "role/smtp_out.h"

#include "crypto/cert.h"
#include "net/fd.h"

#include <stdlib.h>

bool smtp_out_body_intact(const struct attempt *a)
{
    uint8_t digest[32];

    if (a->job.sha256.n != sizeof(digest))
        return false;
    if (a->fd >= 0)
        return a->job.body_key.n == 32 && a->job.size > 0; /* the bytes are checked on the way */
    if (a->job.body.n != a->job.size)
        return false;
    sha256_once(a->job.body, digest);
    return memcmp(digest, a->job.sha256.p, sizeof(digest)) == 0;
}

static void corrupt(struct out_conn *c)
{
    smtp_stats_add(&c->m->stats, COUNT_OUT_CORRUPT, 1);
    log_msg(LOG_ERROR, "alarm", "a stored body does not match its hash; it was not sent");
    smtp_cli_abort_body(c->cli);
}

static bool file_piece(struct attempt *a, size_t n)
{
    uint8_t key[32];

    if (!a->chunk)
        a->chunk = malloc(OUT_BODY_CHUNK);
    if (!a->sha)
        a->sha = sha256_new();
    if (!a->chunk || !a->sha || !fd_read_at(a->fd, a->chunk, n, a->offset))
        return false;
    memcpy(key, a->job.body_key.p, sizeof(key));
    body_crypt(key, 0, a->offset, a->chunk, n);
    explicit_bzero(key, sizeof(key));
    sha256_add(a->sha, sv_of(a->chunk, n));
    return true;
}

static void file_step(struct out_conn *c, struct attempt *a)
{
    uint64_t left = a->job.size - a->offset;
    size_t n = left < OUT_BODY_CHUNK ? (size_t)left : OUT_BODY_CHUNK;
    bool final = left == n;
    uint8_t digest[32];

    if (a->offset == 0 && a->sha)
        sha256_final(a->sha, digest); /* a former transaction stopped half-way: begin anew */
    if (!file_piece(a, n)) {
        corrupt(c);
        return;
    }
    if (final) {
        sha256_final(a->sha, digest);
        if (memcmp(digest, a->job.sha256.p, sizeof(digest)) != 0) {
            corrupt(c);
            return;
        }
    }
    a->offset += n;
    c->dot_given = final;
    smtp_cli_body(c->cli, sv_of(a->chunk, n), final);
}

void smtp_out_body_step(struct out_conn *c)
{
    struct attempt *a = c->job;

    if (!a || (a->fd >= 0 && a->offset >= a->job.size)) {
        smtp_cli_abort_body(c->cli); /* cannot happen: the machine wants more than there is */
        return;
    }
    if (a->fd >= 0) {
        file_step(c, a);
        return;
    }
    c->dot_given = true;
    smtp_cli_body(c->cli, a->job.body, true);
}
