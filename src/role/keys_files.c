/*
 * See keys_files.h.
 *
 * SECURITY: runs with the supervisor's rights on files of its own directories. Names are checked
 * against the id alphabet before they become part of a path, directories are opened without
 * following links, and sizes are capped. keys_keep_file is the one function whose input comes from
 * another process (`keys`).
 */
#include "role/keys_files.h"

#include "base/rng.h"
#include "crypto/cert.h"
#include "net/fd.h"
#include "role/keys_vault.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_DAYS 3650
#define PATH_ROOM  4096

static enum err file_error(struct errinfo *info, int sys, const char *what, const char *name)
{
    enum err code = sys == ENOENT                    ? ERR_NOTFOUND
                    : sys == EACCES || sys == EPERM  ? ERR_DENIED
                    : sys == ENOSPC || sys == EDQUOT ? ERR_NOSPACE
                                                     : ERR_IO;
    enum err err = err_set_sys(info, code, sys, "%s %s", what, name);
    if (info)
        (void)snprintf(info->file, sizeof(info->file), "%s", name);
    return err;
}

/* ---- directories ---- */

/* DATA/sub, made with mode 0700 when it is missing and make is set. */
static enum err dir_open(struct sv data_dir, const char *sub, bool make, int *out_fd,
                         struct errinfo *info)
{
    char path[PATH_ROOM];
    struct stat parent;
    if (data_dir.n + strlen(sub) + 2 > sizeof(path))
        return err_set(info, ERR_LIMIT, "path of the data directory is too long");
    (void)snprintf(path, sizeof(path), "%.*s", SV_ARG(data_dir));
    if (stat(path, &parent) != 0)
        return file_error(info, errno, "data directory", path);
    (void)snprintf(path, sizeof(path), "%.*s/%s", SV_ARG(data_dir), sub);
    bool fresh = make && mkdir(path, 0700) == 0;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return file_error(info, errno, "directory", path);
    if (fresh && geteuid() == 0 && fchown(fd, parent.st_uid, parent.st_gid) != 0) {
        int sys = errno;
        (void)close(fd);
        return file_error(info, sys, "owner of", path);
    }
    *out_fd = fd;
    return ERR_OK;
}

/* ---- files ---- */

/* Complete and synced before it has its name; the directory's owner becomes the file's. */
static enum err file_write(int dir, const char *name, mode_t mode, struct sv data,
                           struct errinfo *info)
{
    char tmp[KEYS_ID_MAX + 16];
    struct stat owner;
    (void)snprintf(tmp, sizeof(tmp), ".%s.new", name);
    (void)unlinkat(dir, tmp, 0);
    int fd CLEANUP(fd_close) =
        openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return file_error(info, errno, "create", name);
    bool ok = fd_write_all(fd, data) && fsync(fd) == 0 && fchmod(fd, mode) == 0;
    if (ok && geteuid() == 0)
        ok = fstat(dir, &owner) == 0 && fchown(fd, owner.st_uid, owner.st_gid) == 0;
    if (ok)
        ok = renameat(dir, tmp, dir, name) == 0 && fsync(dir) == 0;
    if (ok)
        return ERR_OK;
    int sys = errno;
    (void)unlinkat(dir, tmp, 0);
    return file_error(info, sys, "write", name);
}

static enum err file_read(int dir, const char *name, bool is_private, struct buf *out,
                          struct errinfo *info)
{
    struct stat st;
    char part[4096];
    int fd CLEANUP(fd_close) = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        return file_error(info, errno, "read", name);
    if (!S_ISREG(st.st_mode))
        return file_error(info, EINVAL, "read", name);
    if (is_private && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        enum err err = file_error(info, EACCES, "private", name);
        return err_set(info, err, "%s may be read by others: chmod 600 it", name);
    }
    for (;;) {
        ssize_t n = read(fd, part, sizeof(part));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return file_error(info, errno, "read", name);
        if (n == 0)
            break;
        if (buf_append(out, part, (size_t)n))
            return file_error(info, EFBIG, "read", name);
    }
    OPENSSL_cleanse(part, sizeof(part));
    return ERR_OK;
}

static bool file_exists(int dir, const char *name)
{
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- first start ---- */

static enum err make_master(int dir, struct errinfo *info)
{
    uint8_t master[32];
    struct rng rng = rng_system();
    if (file_exists(dir, "master.key"))
        return ERR_OK;
    rng_bytes(&rng, master, sizeof(master));
    enum err err =
        file_write(dir, "master.key", 0600, sv_of((const char *)master, sizeof(master)), info);
    OPENSSL_cleanse(master, sizeof(master));
    return err;
}

static enum err make_identity(int dir, const char *id, enum key_kind kind, struct sv hostname,
                              struct errinfo *info)
{
    struct buf key CLEANUP(buf_wipe), crt CLEANUP(buf_wipe);
    char name[KEYS_ID_MAX + 8];
    buf_init(&key, KEYS_PEM_MAX);
    buf_init(&crt, KEYS_PEM_MAX);
    enum err err = cert_self_signed(kind, hostname, FIRST_DAYS, &key, &crt, info);
    (void)snprintf(name, sizeof(name), "%s.crt", id);
    if (!err)
        err = file_write(dir, name, 0644, buf_sv(&crt), info);
    /* the key comes last: an identity exists when its key does */
    (void)snprintf(name, sizeof(name), "%s.key", id);
    if (!err)
        err = file_write(dir, name, 0600, buf_sv(&key), info);
    return err;
}

static int is_name(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

/* Names of a directory in order; free with names_free. */
static enum err names_read(int dir, struct dirent ***out_list, int *out_n, struct errinfo *info)
{
    int n = scandirat(dir, ".", out_list, is_name, alphasort);
    if (n < 0)
        return file_error(info, errno, "list", "directory");
    *out_n = n;
    return ERR_OK;
}

static void names_free(struct dirent **list, int n)
{
    for (int i = 0; i < n; i++)
        free(list[i]);
    free(list);
}

static bool key_name(struct sv name, struct sv *out_id)
{
    if (!sv_ends_nocase(name, SV(".key")) || sv_eq(name, SV("master.key")))
        return false;
    struct sv id = sv_take(name, name.n - 4);
    if (!keys_id_valid(id))
        return false;
    *out_id = id;
    return true;
}

static enum err any_identity(int dir, bool *out_any, struct errinfo *info)
{
    struct dirent **list = NULL;
    int n = 0;
    bool any = false;
    struct sv id;
    enum err err = names_read(dir, &list, &n, info);
    if (err)
        return err;
    for (int i = 0; i < n; i++)
        any = any || key_name(sv_str(list[i]->d_name), &id);
    names_free(list, n);
    *out_any = any;
    return ERR_OK;
}

enum err keys_first_start(struct sv data_dir, struct sv hostname, struct errinfo *info)
{
    int dir CLEANUP(fd_close) = -1;
    bool any = false;
    enum err err = dir_open(data_dir, "keys", true, &dir, info);
    if (!err)
        err = make_master(dir, info);
    if (!err)
        err = any_identity(dir, &any, info);
    if (err || any)
        return err;
    err = make_identity(dir, "default-ec", KEY_EC_P256, hostname, info);
    return err ? err : make_identity(dir, "default-rsa", KEY_RSA_2048, hostname, info);
}

/* ---- loading ---- */

static enum err push_file(int dir, const char *file, bool is_private, const char *as,
                          keys_push_fn *push, void *ctx, struct errinfo *info)
{
    struct buf data CLEANUP(buf_wipe);
    buf_init(&data, KEYS_PEM_MAX);
    enum err err = file_read(dir, file, is_private, &data, info);
    if (!err && push(ctx, sv_str(as), buf_sv(&data)))
        err = err_set(info, ERR_CLOSED, "cannot hand %s to keys", as);
    return err;
}

static enum err push_key_file(int dir, const char *file, keys_push_fn *push, void *ctx,
                              struct errinfo *info)
{
    char as[KEYS_ID_MAX + 8];
    struct sv name = sv_str(file), id;
    if (sv_eq(name, SV("master.key")))
        return push_file(dir, file, true, "master", push, ctx, info);
    if (key_name(name, &id)) {
        (void)snprintf(as, sizeof(as), "key/%.*s", SV_ARG(id));
        return push_file(dir, file, true, as, push, ctx, info);
    }
    if (!sv_ends_nocase(name, SV(".crt")) || !keys_id_valid(sv_take(name, name.n - 4)))
        return ERR_OK; /* NAME.old and strangers */
    (void)snprintf(as, sizeof(as), "cert/%.*s", SV_ARG(sv_take(name, name.n - 4)));
    return push_file(dir, file, false, as, push, ctx, info);
}

static enum err push_secret_file(int dir, const char *file, keys_push_fn *push, void *ctx,
                                 struct errinfo *info)
{
    char as[KEYS_ID_MAX + 8];
    if (!keys_id_valid(sv_str(file)))
        return ERR_OK;
    (void)snprintf(as, sizeof(as), "secret/%s", file);
    return push_file(dir, file, true, as, push, ctx, info);
}

enum err keys_load_files(struct sv data_dir, keys_push_fn *push, void *ctx, struct errinfo *info)
{
    static const struct {
        const char *sub;
        bool needed;
        enum err (*one)(int dir, const char *file, keys_push_fn *push, void *ctx,
                        struct errinfo *info);
    } dirs[] = {{"keys", true, push_key_file}, {"secrets", false, push_secret_file}};
    for (size_t d = 0; d < ARRAY_LEN(dirs); d++) {
        int dir CLEANUP(fd_close) = -1;
        struct dirent **list = NULL;
        int n = 0;
        enum err err = dir_open(data_dir, dirs[d].sub, false, &dir, info);
        if (err == ERR_NOTFOUND && !dirs[d].needed)
            continue;
        if (!err)
            err = names_read(dir, &list, &n, info);
        for (int i = 0; i < n && !err; i++)
            err = dirs[d].one(dir, list[i]->d_name, push, ctx, info);
        names_free(list, n);
        if (err)
            return err;
    }
    return ERR_OK;
}

/* ---- keeping ---- */

enum err keys_keep_file(struct sv data_dir, struct sv name, struct sv data, struct errinfo *info)
{
    struct sv id = name;
    struct sv kind = sv_cut(&id, '/');
    bool key = sv_eq(kind, SV("key"));
    char file[KEYS_ID_MAX + 8], old[KEYS_ID_MAX + 16];
    if ((!key && !sv_eq(kind, SV("cert"))) || !keys_id_valid(id) || sv_eq(id, SV("master")))
        return err_set(info, ERR_DENIED, "not the name of a key or certificate");
    if (data.n > KEYS_PEM_MAX)
        return err_set(info, ERR_LIMIT, "more than %u bytes", KEYS_PEM_MAX);
    int dir CLEANUP(fd_close) = -1;
    enum err err = dir_open(data_dir, "keys", true, &dir, info);
    if (err)
        return err;
    (void)snprintf(file, sizeof(file), "%.*s.%s", SV_ARG(id), key ? "key" : "crt");
    (void)snprintf(old, sizeof(old), "%s.old", file);
    (void)unlinkat(dir, old, 0);
    if (linkat(dir, file, dir, old, 0) != 0 && errno != ENOENT) /* absent the first time */
        return file_error(info, errno, "keep the former", file);
    return file_write(dir, file, key ? 0600 : 0644, data, info);
}
