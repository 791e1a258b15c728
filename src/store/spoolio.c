/* See spoolio.h. Returns -errno everywhere; no state but the directory and the waiting callbacks.
 */
#include "store/spoolio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct waiting {
    void (*cb)(void *arg, int result);
    void *arg;
    int result;
};
struct spool_fs {
    int dir;
    spool_sync_fn *sync;
    void *sync_ctx;
    struct waiting *w;
    size_t n, cap;
};

static bool name_ok(const char *name)
{
    return *name && *name != '.' && !strchr(name, '/');
}

static int fs_open(void *ctx, const char *name, int flags)
{
    const struct spool_fs *fs = ctx;

    if (!name_ok(name))
        return -EINVAL;
    int fd = openat(fs->dir, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? -errno : fd;
}

static int64_t fs_pwrite(void *ctx, int fd, const void *p, size_t n, int64_t at)
{
    (void)ctx;
    ssize_t r = pwrite(fd, p, n, at);
    return r < 0 ? -errno : r;
}

static int64_t fs_pread(void *ctx, int fd, void *p, size_t n, int64_t at)
{
    (void)ctx;
    ssize_t r = pread(fd, p, n, at);
    return r < 0 ? -errno : r;
}

/* Growing takes the blocks at once (where the file system can). */
static int fs_truncate(void *ctx, int fd, int64_t size)
{
    struct stat st;

    (void)ctx;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size > size)
        return ftruncate(fd, size) < 0 ? -errno : 0;
    if (st.st_size == size)
        return 0;
    if (fallocate(fd, 0, st.st_size, size - st.st_size) == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return -errno;
    return ftruncate(fd, size) < 0 ? -errno : 0;
}

static int fs_unlink(void *ctx, const char *name)
{
    const struct spool_fs *fs = ctx;
    if (!name_ok(name))
        return -EINVAL;
    return unlinkat(fs->dir, name, 0) < 0 ? -errno : 0;
}

static int fs_rename(void *ctx, const char *from, const char *to)
{
    const struct spool_fs *fs = ctx;
    if (!name_ok(from) || !name_ok(to))
        return -EINVAL;
    return renameat(fs->dir, from, fs->dir, to) < 0 ? -errno : 0;
}

static int fs_sync_dir(void *ctx)
{
    const struct spool_fs *fs = ctx;
    return fsync(fs->dir) < 0 ? -errno : 0;
}

static int fs_sync(void *ctx, int fd)
{
    (void)ctx;
    return fdatasync(fd) < 0 ? -errno : 0;
}

static int fs_sync_async(void *ctx, int fd, void (*cb)(void *arg, int result), void *arg)
{
    struct spool_fs *fs = ctx;

    if (fs->sync)
        return fs->sync(fs->sync_ctx, fd, cb, arg);
    if (fs->n == fs->cap) {
        size_t cap = fs->cap ? fs->cap * 2 : 8;
        struct waiting *w = reallocarray(fs->w, cap, sizeof(*w));
        if (!w)
            return -ENOMEM;
        fs->w = w;
        fs->cap = cap;
    }
    fs->w[fs->n++] = (struct waiting){cb, arg, fs_sync(ctx, fd)};
    return 0;
}

static int fs_list(void *ctx, void (*each)(void *arg, const char *name), void *arg)
{
    const struct spool_fs *fs = ctx;
    int fd = openat(fs->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);

    if (!d) {
        int sys = errno;
        if (fd >= 0)
            close(fd);
        return -sys;
    }
    errno = 0;
    for (const struct dirent *e; (e = readdir(d)) != NULL; errno = 0) {
        if (name_ok(e->d_name))
            each(arg, e->d_name);
    }
    int sys = errno;
    closedir(d);
    return -sys;
}

static uint64_t fs_free_bytes(void *ctx)
{
    const struct spool_fs *fs = ctx;
    struct statvfs v;

    if (fstatvfs(fs->dir, &v) < 0)
        return 0;
    return (uint64_t)v.f_bavail * v.f_frsize;
}

static void fs_close(void *ctx, int fd)
{
    (void)ctx;
    close(fd);
}

enum err spool_fs_new(int dir_fd, spool_sync_fn *sync, void *sync_ctx, struct spool_fs **out_fs,
                      struct spool_io *out_io, struct errinfo *info)
{
    struct spool_fs *fs = calloc(1, sizeof(*fs));

    if (!fs)
        return err_set(info, ERR_LIMIT, "out of memory");
    fs->dir = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
    if (fs->dir < 0) {
        int sys = errno;
        free(fs);
        return err_set_sys(info, ERR_IO, sys, "the spool directory cannot be used");
    }
    fs->sync = sync;
    fs->sync_ctx = sync_ctx;
    *out_io = (struct spool_io){.ctx = fs,
                                .open = fs_open,
                                .pwrite = fs_pwrite,
                                .pread = fs_pread,
                                .truncate = fs_truncate,
                                .unlink = fs_unlink,
                                .rename = fs_rename,
                                .sync_dir = fs_sync_dir,
                                .sync = fs_sync,
                                .sync_async = fs_sync_async,
                                .list = fs_list,
                                .free_bytes = fs_free_bytes,
                                .close = fs_close};
    *out_fs = fs;
    return ERR_OK;
}

void spool_fs_free(struct spool_fs *fs)
{
    if (!fs)
        return;
    close(fs->dir);
    free(fs->w);
    free(fs);
}

unsigned spool_fs_run(struct spool_fs *fs)
{
    unsigned ran = 0;

    while (fs->n) {
        struct waiting w = fs->w[0];
        fs->n--;
        memmove(fs->w, fs->w + 1, fs->n * sizeof(*fs->w));
        w.cb(w.arg, w.result);
        ran++;
    }
    return ran;
}
