#include "store/spool_disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

struct disk *disk_new(uint64_t seed)
{
    struct disk *d = calloc(1, sizeof(*d));

    assert(d);
    d->cap_dirs = 4;
    d->dirs = calloc(d->cap_dirs, sizeof(*d->dirs));
    assert(d->dirs);
    d->n_dirs = 1;
    d->rng = rng_seeded(seed);
    d->capacity = UINT64_MAX / 8;
    return d;
}

static void file_free(struct disk_file *f)
{
    free(f->now);
    free(f->durable);
    free(f->dirty);
    *f = (struct disk_file){0};
}

void disk_free(struct disk *d)
{
    disk_kill(d);
    for (int i = 0; i < DISK_FILES; i++)
        file_free(&d->f[i]);
    free(d->dirs);
    free(d);
}

static struct disk_dir *now(struct disk *d)
{
    return &d->dirs[d->n_dirs - 1];
}

/* Files that no directory state knows and nobody holds open are dropped lazily, at cuts. */
static struct disk_dir *dir_op(struct disk *d)
{
    if (d->n_dirs == d->cap_dirs) {
        d->cap_dirs *= 2;
        d->dirs = realloc(d->dirs, d->cap_dirs * sizeof(*d->dirs));
        assert(d->dirs);
    }
    d->dirs[d->n_dirs] = d->dirs[d->n_dirs - 1];
    d->n_dirs++;
    return now(d);
}

static struct disk_name *lookup(struct disk_dir *dir, const char *name)
{
    for (uint32_t i = 0; i < dir->count; i++) {
        if (strcmp(dir->n[i].name, name) == 0)
            return &dir->n[i];
    }
    return NULL;
}

struct disk_file *disk_find(struct disk *d, const char *name)
{
    struct disk_name *n = lookup(now(d), name);
    return n ? &d->f[n->file] : NULL;
}

static int fault(struct disk *d)
{
    d->ops++;
    if (d->fail_at && (d->ops == d->fail_at || (d->fail_sticky && d->ops > d->fail_at)))
        return -d->fail_errno;
    return 0;
}

static void collect(struct disk *d)
{
    bool seen[DISK_FILES] = {false};

    for (uint32_t k = 0; k < d->n_dirs; k++) {
        for (uint32_t i = 0; i < d->dirs[k].count; i++)
            seen[d->dirs[k].n[i].file] = true;
    }
    for (int i = 0; i < DISK_FILES; i++) {
        if (d->f[i].used && !seen[i] && !d->f[i].names)
            file_free(&d->f[i]);
    }
}

static int dk_open(void *ctx, const char *name, int flags)
{
    struct disk *d = ctx;
    struct disk_name *n = lookup(now(d), name);
    int sys = flags & O_CREAT ? fault(d) : 0;

    if (sys)
        return sys;
    if (!n && !(flags & O_CREAT))
        return -ENOENT;
    if (n && flags & O_TRUNC && d->f[n->file].cap) {
        memset(d->f[n->file].now, 0, d->f[n->file].cap);
        memset(d->f[n->file].dirty, 1, d->f[n->file].cap / DISK_SECTOR);
        d->f[n->file].size = 0;
    }
    if (!n) {
        int i = 0;
        collect(d);
        while (i < DISK_FILES && d->f[i].used)
            i++;
        assert(i < DISK_FILES);
        d->f[i].used = true;
        struct disk_dir *dir = dir_op(d);
        n = &dir->n[dir->count++];
        (void)snprintf(n->name, sizeof(n->name), "%s", name);
        n->file = i;
    }
    d->f[n->file].names++;
    return n->file + 100;
}

static void ensure(struct disk_file *f, size_t n)
{
    size_t cap = (n + DISK_SECTOR - 1) / DISK_SECTOR * DISK_SECTOR;

    if (cap <= f->cap)
        return;
    if (cap < f->cap * 2)
        cap = f->cap * 2;
    f->now = realloc(f->now, cap);
    f->durable = realloc(f->durable, cap);
    f->dirty = realloc(f->dirty, cap / DISK_SECTOR);
    assert(f->now && f->durable && f->dirty);
    memset(f->now + f->cap, 0, cap - f->cap);
    memset(f->durable + f->cap, 0, cap - f->cap);
    memset(f->dirty + f->cap / DISK_SECTOR, 0, (cap - f->cap) / DISK_SECTOR);
    f->cap = cap;
}

static uint64_t disk_used(struct disk *d)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < now(d)->count; i++)
        n += d->f[now(d)->n[i].file].size;
    return n;
}

static uint64_t dk_free_bytes(void *ctx)
{
    struct disk *d = ctx;
    uint64_t used = disk_used(d);
    return used < d->capacity ? d->capacity - used : 0;
}

static int64_t dk_pwrite(void *ctx, int fd, const void *p, size_t n, int64_t at)
{
    struct disk *d = ctx;
    struct disk_file *f = &d->f[fd - 100];
    size_t end = (size_t)at + n;
    int sys = fault(d);

    if (sys && !(d->fail_short && n > 1))
        return sys;
    if (sys) {
        n /= 2;
        end = (size_t)at + n;
    }
    if (end > f->size && end - f->size > dk_free_bytes(d))
        return -ENOSPC;
    ensure(f, end);
    memcpy(f->now + at, p, n);
    for (size_t s = (size_t)at / DISK_SECTOR; s * DISK_SECTOR < end; s++)
        f->dirty[s] = 1;
    if (end > f->size)
        f->size = end;
    return (int64_t)n;
}

static int64_t dk_pread(void *ctx, int fd, void *p, size_t n, int64_t at)
{
    struct disk *d = ctx;
    struct disk_file *f = &d->f[fd - 100];

    if ((size_t)at >= f->size)
        return 0;
    if (n > f->size - (size_t)at)
        n = f->size - (size_t)at;
    memcpy(p, f->now + at, n);
    return (int64_t)n;
}

static int dk_truncate(void *ctx, int fd, int64_t size)
{
    struct disk *d = ctx;
    struct disk_file *f = &d->f[fd - 100];
    int sys = fault(d);

    if (sys)
        return sys;
    if ((size_t)size > f->size && (size_t)size - f->size > dk_free_bytes(d))
        return -ENOSPC;
    ensure(f, (size_t)size);
    f->size = (size_t)size;
    return 0;
}

static int dk_unlink(void *ctx, const char *name)
{
    struct disk *d = ctx;
    int sys = fault(d);

    if (sys)
        return sys;
    if (!lookup(now(d), name))
        return -ENOENT;
    struct disk_dir *dir = dir_op(d);
    struct disk_name *n = lookup(dir, name);
    if (n)
        *n = dir->n[--dir->count];
    return 0;
}

static int dk_rename(void *ctx, const char *from, const char *to)
{
    struct disk *d = ctx;
    int sys = fault(d);

    if (sys)
        return sys;
    struct disk_dir *dir = dir_op(d);
    struct disk_name *old = lookup(dir, to);
    if (old)
        *old = dir->n[--dir->count];
    struct disk_name *n = lookup(dir, from);
    assert(n);
    (void)snprintf(n->name, sizeof(n->name), "%s", to);
    return 0;
}

static int dk_sync_dir(void *ctx)
{
    struct disk *d = ctx;
    int sys = fault(d);

    if (sys)
        return sys;
    d->dirs[0] = *now(d);
    d->n_dirs = 1;
    collect(d);
    return 0;
}

static void settle(struct disk *d, struct disk_file *f, bool lossy)
{
    for (size_t s = 0; s < f->cap / DISK_SECTOR; s++) {
        if (f->dirty[s] && (!lossy || rng_u64(&d->rng) & 1))
            memcpy(f->durable + s * DISK_SECTOR, f->now + s * DISK_SECTOR, DISK_SECTOR);
        f->dirty[s] = 0;
    }
    if (!lossy || rng_u64(&d->rng) & 1)
        f->durable_size = f->size;
}

static int dk_sync(void *ctx, int fd)
{
    struct disk *d = ctx;
    int sys = fault(d);

    settle(d, &d->f[fd - 100], sys != 0);
    return sys;
}

static int dk_sync_async(void *ctx, int fd, void (*cb)(void *arg, int result), void *arg)
{
    struct disk *d = ctx;

    assert(d->n_pending < ARRAY_LEN(d->pending));
    d->f[fd - 100].names++;
    d->pending[d->n_pending++] = (struct disk_pending){fd, cb, arg};
    return 0;
}

static int dk_list(void *ctx, void (*each)(void *arg, const char *name), void *arg)
{
    struct disk *d = ctx;
    for (uint32_t i = 0; i < now(d)->count; i++)
        each(arg, now(d)->n[i].name);
    return 0;
}

static void dk_close(void *ctx, int fd)
{
    struct disk *d = ctx;
    assert(d->f[fd - 100].names);
    d->f[fd - 100].names--;
}

struct spool_io disk_io(struct disk *d)
{
    return (struct spool_io){.ctx = d,
                             .open = dk_open,
                             .pwrite = dk_pwrite,
                             .pread = dk_pread,
                             .truncate = dk_truncate,
                             .unlink = dk_unlink,
                             .rename = dk_rename,
                             .sync_dir = dk_sync_dir,
                             .sync = dk_sync,
                             .sync_async = dk_sync_async,
                             .list = dk_list,
                             .free_bytes = dk_free_bytes,
                             .close = dk_close};
}

static struct disk_pending take(struct disk *d)
{
    struct disk_pending p = d->pending[0];

    d->n_pending--;
    memmove(d->pending, d->pending + 1, d->n_pending * sizeof(p));
    return p;
}

bool disk_run_one(struct disk *d)
{
    if (!d->n_pending)
        return false;
    struct disk_pending p = take(d);
    int sys = dk_sync(d, p.file);
    dk_close(d, p.file);
    p.cb(p.arg, sys);
    return true;
}

void disk_run(struct disk *d)
{
    while (disk_run_one(d))
        ;
}

void disk_kill(struct disk *d)
{
    while (d->n_pending) {
        struct disk_pending p = take(d);
        dk_close(d, p.file);
        p.cb(p.arg, -EIO); /* its spool is gone: frees its memory, no more */
    }
    for (int i = 0; i < DISK_FILES; i++)
        d->f[i].names = 0;
}

void disk_cut(struct disk *d)
{
    disk_kill(d);
    d->dirs[0] = d->dirs[rng_u64(&d->rng) % d->n_dirs];
    d->n_dirs = 1;
    for (int i = 0; i < DISK_FILES; i++) {
        struct disk_file *f = &d->f[i];
        if (!f->used)
            continue;
        settle(d, f, true);
        if (f->cap)
            memcpy(f->now, f->durable, f->cap);
        f->size = f->durable_size;
        if (f->cap > f->size) { /* what lies beyond the end is gone for good */
            memset(f->now + f->size, 0, f->cap - f->size);
            memset(f->durable + f->size, 0, f->cap - f->size);
        }
    }
    collect(d);
}

void disk_copy(struct disk *to, const struct disk *from)
{
    to->dirs[0] = from->dirs[from->n_dirs - 1];
    to->n_dirs = 1;
    for (int i = 0; i < DISK_FILES; i++) {
        const struct disk_file *f = &from->f[i];
        struct disk_file *t = &to->f[i];
        if (!f->used) {
            file_free(t);
            continue;
        }
        ensure(t, f->cap);
        memset(t->now, 0, t->cap);
        memcpy(t->now, f->now, f->cap);
        memcpy(t->durable, t->now, t->cap);
        memset(t->dirty, 0, t->cap / DISK_SECTOR);
        t->size = t->durable_size = f->size;
        t->used = true;
        t->names = 0;
    }
}
