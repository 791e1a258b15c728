/*
 * SECURITY: the files are written by `queue` only, but a crash may tear a record: length and CRC
 * are checked, and a damaged record ends its file.
 */
#include "store/eventlog.h"

#include "base/hash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES (8u * 1024 * 1024)
#define RECORD_MAX (64u * 1024)
#define GATHER_MAX (4u * 1024 * 1024)
#define HEAD       8u /* u32 length, u32 CRC32C */
#define NAME_LEN   24

struct eventlog {
    int dir, fd;
    uint64_t first;    /* seq of the first event in the open file */
    uint64_t next_seq; /* writer: to give; reader: wanted */
    uint64_t file_bytes, total_bytes, max_bytes, dropped;
    struct buf out;    /* writer: gathered */
    uint64_t gathered; /* events in out */
    struct buf in;     /* reader: unread bytes of the open file */
    uint64_t in_at;    /* offset behind in */
};

static void file_name(uint64_t seq, char out[NAME_LEN])
{
    snprintf(out, NAME_LEN, "%016" PRIx64 ".log", seq);
}

static bool name_seq(const char *name, uint64_t *out_seq)
{
    char *end;
    unsigned long long v = strtoull(name, &end, 16);

    if (end != name + 16 || strcmp(end, ".log") != 0)
        return false;
    *out_seq = v;
    return true;
}

/* Calls fn for each file; the directory is read through a descriptor of its own. */
static void each_file(const struct eventlog *l, void (*fn)(void *ctx, uint64_t seq), void *ctx)
{
    int fd = openat(l->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    uint64_t seq;

    if (!d) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (name_seq(e->d_name, &seq))
            fn(ctx, seq);
    }
    closedir(d);
}

struct pick {
    uint64_t limit, best, least;
    bool found;
};

/* Greatest file that begins at or below the limit; the least of all besides. */
static void pick_below(void *ctx, uint64_t seq)
{
    struct pick *p = ctx;

    if (seq <= p->limit && (!p->found || seq > p->best)) {
        p->best = seq;
        p->found = true;
    }
    if (seq < p->least)
        p->least = seq;
}

static void pick_above(void *ctx, uint64_t seq)
{
    struct pick *p = ctx;

    if (seq > p->limit && (!p->found || seq < p->best)) {
        p->best = seq;
        p->found = true;
    }
}

static enum err open_dir(const char *dir, struct eventlog **out_log, struct errinfo *info)
{
    struct eventlog *l = calloc(1, sizeof(*l));

    if (!l) {
        (void)err_set(info, ERR_LIMIT, "out of memory");
        return ERR_LIMIT;
    }
    l->fd = -1;
    l->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    buf_init(&l->out, GATHER_MAX);
    buf_init(&l->in, RECORD_MAX * 4);
    if (l->dir < 0) {
        int sys = errno;
        free(l);
        (void)err_set_sys(info, ERR_IO, sys, "%s cannot be opened", dir);
        return ERR_IO;
    }
    *out_log = l;
    return ERR_OK;
}

void eventlog_close(struct eventlog *l)
{
    if (!l)
        return;
    if (l->fd >= 0)
        close(l->fd);
    close(l->dir);
    buf_done(&l->out);
    buf_done(&l->in);
    free(l);
}

/* ---- reader ---- */

static bool open_at(struct eventlog *l, uint64_t seq)
{
    char name[NAME_LEN];
    int fd;

    file_name(seq, name);
    fd = openat(l->dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    if (l->fd >= 0)
        close(l->fd);
    l->fd = fd;
    l->first = seq;
    l->in_at = 0;
    buf_reset(&l->in);
    return true;
}

enum err eventlog_open_reader(const char *dir, uint64_t after_seq, struct eventlog **out_log,
                              struct errinfo *info)
{
    struct eventlog *l;
    enum err err = open_dir(dir, &l, info);

    if (err)
        return err;
    l->next_seq = after_seq + 1;
    *out_log = l;
    return ERR_OK;
}

/* The file that holds the wanted event, or the next that exists. */
static bool find_file(struct eventlog *l)
{
    struct pick p = {.limit = l->next_seq, .least = UINT64_MAX};

    each_file(l, pick_below, &p);
    if (p.found)
        return open_at(l, p.best);
    if (p.least == UINT64_MAX)
        return false;
    return open_at(l, p.least);
}

static bool later_file(const struct eventlog *l, uint64_t *out_seq)
{
    struct pick p = {.limit = l->first};

    each_file(l, pick_above, &p);
    *out_seq = p.best;
    return p.found;
}

static uint32_t u32_at(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;

    return (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

static bool fill(struct eventlog *l)
{
    if (buf_reserve(&l->in, RECORD_MAX))
        return false;
    ssize_t n = pread(l->fd, l->in.p + l->in.n, RECORD_MAX, (off_t)l->in_at);
    if (n <= 0)
        return false;
    l->in.n += (size_t)n;
    l->in_at += (uint64_t)n;
    return true;
}

/* A whole good record at the front of in? ERR_AGAIN: more bytes are needed. */
static enum err peek(const struct eventlog *l, struct sv *out_payload)
{
    if (l->in.n < HEAD)
        return ERR_AGAIN;
    uint32_t n = u32_at(l->in.p);
    if (n > RECORD_MAX - HEAD)
        return ERR_CORRUPT;
    if (l->in.n < HEAD + n)
        return ERR_AGAIN;
    if (crc32c(0, l->in.p + HEAD, n) != u32_at(l->in.p + 4))
        return ERR_CORRUPT;
    *out_payload = sv_of(l->in.p + HEAD, n);
    return ERR_OK;
}

enum err eventlog_next(struct eventlog *l, struct arena *a, struct event *out_event)
{
    struct sv payload;

    if (l->fd < 0 && !find_file(l))
        return ERR_AGAIN;
    for (;;) {
        enum err err = peek(l, &payload);
        uint64_t later;
        if (err == ERR_AGAIN && fill(l))
            continue;
        if (err) { /* end of this file, or damage that ends it: go on only if a later one exists */
            if (!later_file(l, &later))
                return ERR_AGAIN;
            if (err == ERR_AGAIN && fill(l))
                continue; /* written after our last look, before the later file was begun */
            if (!open_at(l, later))
                return ERR_AGAIN;
            continue;
        }
        struct sv copy = arena_sv(a, payload);
        buf_consume(&l->in, HEAD + payload.n);
        if (event_decode(copy, a, out_event) || a->overflow)
            continue;
        if (out_event->seq < l->next_seq)
            continue;
        l->next_seq = out_event->seq + 1;
        return ERR_OK;
    }
}

/* ---- writer ---- */

static void add_size(void *ctx, uint64_t seq)
{
    struct eventlog *l = ctx;
    char name[NAME_LEN];
    struct stat st;

    file_name(seq, name);
    if (fstatat(l->dir, name, &st, 0) == 0)
        l->total_bytes += (uint64_t)st.st_size;
}

/* Last seq in the directory, found by reading the newest file to its end. */
static uint64_t last_seq(const char *dir)
{
    struct eventlog *r;
    struct pick p = {.limit = UINT64_MAX, .least = UINT64_MAX};
    struct arena a;
    struct event e;
    uint64_t last = 0;

    if (eventlog_open_reader(dir, 0, &r, NULL))
        return 0;
    each_file(r, pick_below, &p);
    if (p.found && open_at(r, p.best)) {
        last = p.best ? p.best - 1 : 0;
        arena_init(&a, RECORD_MAX * 4);
        while (eventlog_next(r, &a, &e) == ERR_OK) {
            last = e.seq;
            arena_reset(&a);
        }
        arena_done(&a);
    }
    eventlog_close(r);
    return last;
}

enum err eventlog_open_writer(const char *dir, uint64_t max_bytes, struct eventlog **out_log,
                              struct errinfo *info)
{
    struct eventlog *l;
    enum err err = open_dir(dir, &l, info);

    if (err)
        return err;
    l->max_bytes = max_bytes;
    l->next_seq = last_seq(dir) + 1;
    each_file(l, add_size, l);
    *out_log = l;
    return ERR_OK;
}

static void put_u32(char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (char)(uint8_t)(v >> (8 * i));
}

void eventlog_add(struct eventlog *l, struct event *e)
{
    size_t at = l->out.n;
    static const char head[HEAD] = {0};

    e->seq = l->next_seq;
    if (buf_append(&l->out, head, HEAD)) {
        l->dropped++;
        return;
    }
    event_put(&l->out, e);
    size_t n = l->out.n - at - HEAD;
    if (l->out.overflow || n > RECORD_MAX - HEAD) {
        l->out.n = at;
        l->out.overflow = false;
        l->dropped++;
        return;
    }
    put_u32(l->out.p + at, (uint32_t)n);
    put_u32(l->out.p + at + 4, crc32c(0, l->out.p + at + HEAD, n));
    l->next_seq++;
    l->gathered++;
}

static bool drop_oldest(struct eventlog *l)
{
    struct pick p = {.limit = 0, .least = UINT64_MAX};
    char name[NAME_LEN];
    struct stat st;

    each_file(l, pick_below, &p);
    if (p.least == UINT64_MAX || p.least == l->first)
        return false;
    file_name(p.least, name);
    if (fstatat(l->dir, name, &st, 0) == 0)
        l->total_bytes -=
            (uint64_t)st.st_size < l->total_bytes ? (uint64_t)st.st_size : l->total_bytes;
    l->dropped++;
    return unlinkat(l->dir, name, 0) == 0;
}

static bool writable(struct eventlog *l)
{
    char name[NAME_LEN];

    if (l->fd >= 0 && l->file_bytes < FILE_BYTES)
        return true;
    if (l->fd >= 0)
        close(l->fd);
    l->first = l->next_seq - l->gathered;
    l->file_bytes = 0;
    file_name(l->first, name);
    /* A file of this name holds no good record, else the number would be another: what is there
     * is torn, and what is written behind it would never be read. */
    l->fd = openat(l->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    while (l->total_bytes > l->max_bytes && drop_oldest(l))
        ;
    return l->fd >= 0;
}

uint64_t eventlog_flush(struct eventlog *l)
{
    if (!l->out.n)
        return 0;
    if (!writable(l) || write(l->fd, l->out.p, l->out.n) != (ssize_t)l->out.n) {
        /* a torn record ends this file; what follows goes to a new one */
        l->dropped += l->gathered;
        if (l->fd >= 0)
            close(l->fd);
        l->fd = -1;
    } else {
        l->file_bytes += l->out.n;
        l->total_bytes += l->out.n;
    }
    buf_reset(&l->out);
    l->gathered = 0;
    return l->next_seq - 1;
}

struct below {
    struct eventlog *l;
    uint64_t keep; /* first seq of the file that holds the acknowledged event */
};

static void remove_below(void *ctx, uint64_t seq)
{
    struct below *b = ctx;
    char name[NAME_LEN];
    struct stat st;

    if (seq >= b->keep || seq == b->l->first)
        return;
    file_name(seq, name);
    if (fstatat(b->l->dir, name, &st, 0) == 0 && (uint64_t)st.st_size <= b->l->total_bytes)
        b->l->total_bytes -= (uint64_t)st.st_size;
    (void)unlinkat(b->l->dir, name, 0);
}

void eventlog_stored(struct eventlog *l, uint64_t seq)
{
    struct pick p = {.limit = seq, .least = UINT64_MAX};
    struct below b = {.l = l};

    each_file(l, pick_below, &p);
    if (!p.found || p.best == p.least)
        return;
    b.keep = p.best;
    each_file(l, remove_below, &b);
}

uint64_t eventlog_dropped(const struct eventlog *l)
{
    return l->dropped;
}
