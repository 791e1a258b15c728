/*
 * See smtp_body.h.
 *
 * SECURITY: bytes of strangers pass here; none is interpreted except the header section, by
 * codec/header. The key of a file is wiped when the body is forgotten.
 */
#include "role/smtp_body.h"

#include "base/utf8.h"
#include "role/smtp_priv.h"

#include <errno.h>
#include <unistd.h>

/* What one feed may add above the inline limit: a header field that was gathered, and one read. */
#define MEM_FIRST (6u * 1024) /* most messages fit without growing */
#define MEM_SLACK (2u * SMTP_READ_SIZE + 64u * 1024)

void smtp_body_init(struct smtp_body *b)
{
    memset(b, 0, sizeof(*b));
    b->fd = -1;
}

enum err smtp_body_begin(struct smtp_body *b, struct sv front, uint32_t max_header,
                         struct sv trace_id)
{
    buf_init(&b->mem, SMTP_BODY_INLINE + MEM_SLACK + max_header);
    header_stream_init(&b->head, max_header, trace_id);
    b->head_open = true;
    b->size = front.n;
    enum err err = buf_reserve(&b->mem, front.n + MEM_FIRST);
    if (err)
        return err;
    return buf_append_sv(&b->mem, front);
}

/* Moves what is in memory to the file. */
static enum err spill(struct smtp_body *b)
{
    char *p = b->mem.p;
    size_t left = b->mem.n;

    if (left == 0)
        return ERR_OK;
    sha256_add(b->sha, buf_sv(&b->mem));
    body_crypt(b->key, 0, b->written, p, left);
    while (left > 0) {
        ssize_t n = pwrite(b->fd, p, left, (off_t)b->written);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && (errno == ENOSPC || errno == EDQUOT) ? ERR_NOSPACE : ERR_IO;
        b->written += (uint64_t)n;
        p += n;
        left -= (size_t)n;
    }
    buf_reset(&b->mem);
    return ERR_OK;
}

static enum err settle(struct smtp_body *b)
{
    return b->file && b->mem.n >= SMTP_BODY_INLINE ? spill(b) : ERR_OK;
}

enum err smtp_body_add(struct smtp_body *b, struct sv chunk)
{
    size_t before = b->mem.n;
    enum err err =
        b->head.done ? buf_append_sv(&b->mem, chunk) : header_stream_feed(&b->head, chunk, &b->mem);

    if (err)
        return err;
    b->size += b->mem.n - before;
    b->eight_bit = b->eight_bit || !sv_is_ascii(chunk);
    return settle(b);
}

bool smtp_body_wants_file(const struct smtp_body *b)
{
    return b->file == 0 && b->mem.n > SMTP_BODY_INLINE;
}

enum err smtp_body_file(struct smtp_body *b, uint64_t file, int fd, struct sv key)
{
    if (fd < 0 || file == 0 || key.n != sizeof(b->key) || b->file)
        return ERR_SYNTAX;
    b->sha = sha256_new();
    if (!b->sha)
        return ERR_LIMIT;
    b->file = file;
    b->fd = fd;
    memcpy(b->key, key.p, sizeof(b->key));
    return spill(b);
}

enum err smtp_body_end(struct smtp_body *b, uint8_t out_sha256[32])
{
    size_t before = b->mem.n;
    enum err err = b->head_ended ? ERR_OK : header_stream_end(&b->head, &b->mem);

    if (err)
        return err;
    b->head_ended = true;
    b->size += b->mem.n - before;
    if (smtp_body_wants_file(b))
        return ERR_AGAIN;
    if (!b->file) {
        sha256_once(buf_sv(&b->mem), out_sha256);
        return ERR_OK;
    }
    err = spill(b);
    if (!err)
        sha256_final(b->sha, out_sha256);
    return err;
}

void smtp_body_reset(struct smtp_body *b)
{
    if (b->head_open)
        header_stream_done(&b->head);
    if (b->mem.max)
        buf_done(&b->mem);
    if (b->sha)
        sha256_free(b->sha);
    if (b->fd >= 0)
        (void)close(b->fd);
    explicit_bzero(b->key, sizeof(b->key));
    smtp_body_init(b);
}
