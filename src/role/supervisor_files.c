/*
 * Files: the data directory and its lock, privileges, and what children get to read as bytes.
 *
 * SECURITY: runs with root's rights until sup_drop_privileges.
 */
#include "role/keys_files.h"
#include "role/supervisor_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CA_BUNDLE_MAX = 4 << 20, RESOLV_MAX = 64 << 10, KEY_FILE_MAX = 1 << 20 };

static const char *const subdirs[] = {"spool",   "events", "settings", "keys",
                                      "secrets", "run",    "db",       "ca"};

static enum err fail(struct errinfo *info, const char *path)
{
    int sys = errno;

    return err_set_sys(info, ERR_IO, sys, "%s", path);
}

/* ---- the user ---- */

static bool wants_drop(const struct sup *s)
{
    return geteuid() == 0 && strcmp(s->boot.user, "root") != 0;
}

static enum err user_of(const struct sup *s, uid_t *out_uid, gid_t *out_gid, struct errinfo *info)
{
    struct passwd pw, *found = NULL;
    char space[4096];

    *out_uid = geteuid();
    *out_gid = getegid();
    if (!wants_drop(s))
        return ERR_OK;
    if (getpwnam_r(s->boot.user, &pw, space, sizeof(space), &found) != 0 || !found)
        return err_set(info, ERR_NOTFOUND,
                       "user: there is no user \"%s\" to run as; create it, name another, or set "
                       "user = \"root\"",
                       s->boot.user);
    *out_uid = pw.pw_uid;
    *out_gid = pw.pw_gid;
    return ERR_OK;
}

enum err sup_drop_privileges(struct sup *s, struct errinfo *info)
{
    uid_t uid;
    gid_t gid;
    enum err err = user_of(s, &uid, &gid, info);

    /* What systemd gave us to bind ports with; children inherit none of it. */
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* keys pass through our memory */
    if (err || !wants_drop(s))
        return err;
    if (setgroups(1, &gid) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
        return err_set_sys(info, ERR_DENIED, errno, "cannot become user %s", s->boot.user);
    if (uid != 0 && setuid(0) == 0)
        return err_set(info, ERR_BUG, "root's rights came back");
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* changing the user has reset it */
    return ERR_OK;
}

/* ---- data directory ---- */

/* Directory of our own, 0700, owned by the user we are going to be. */
static enum err own_dir(int at, const char *name, const char *shown, uid_t uid, gid_t gid,
                        struct errinfo *info)
{
    struct stat st;

    if (mkdirat(at, name, 0700) != 0 && errno != EEXIST)
        return fail(info, shown);
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return fail(info, shown);
    enum err err = ERR_OK;
    if (fstat(fd, &st) != 0)
        err = fail(info, shown);
    else if (geteuid() != 0 && st.st_uid != geteuid())
        err = err_set(info, ERR_DENIED, "%s belongs to another user", shown);
    else if (st.st_uid != uid && fchown(fd, uid, gid) != 0)
        err = fail(info, shown);
    else if ((st.st_mode & 0077) != 0 && fchmod(fd, 0700) != 0)
        err = fail(info, shown);
    (void)close(fd);
    return err;
}

/* Two supervisors on one spool would destroy it. */
static enum err lock_dir(struct sup *s, uid_t uid, gid_t gid, struct errinfo *info)
{
    char path[320], pid[24];

    (void)snprintf(path, sizeof(path), "%s/run/postseald.pid", s->boot.data_dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail(info, path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        enum err err = errno == EWOULDBLOCK
                           ? err_set(info, ERR_CONFLICT, "data_dir: another postseald runs on %s",
                                     s->boot.data_dir)
                           : fail(info, path);
        (void)close(fd);
        return err;
    }
    int n = snprintf(pid, sizeof(pid), "%d\n", getpid());
    if (ftruncate(fd, 0) != 0 || (wants_drop(s) && fchown(fd, uid, gid) != 0) ||
        pwrite(fd, pid, (size_t)n, 0) != n) {
        enum err err = fail(info, path);
        (void)close(fd);
        return err;
    }
    s->lock_fd = fd;
    return ERR_OK;
}

enum err sup_data_dir(struct sup *s, struct errinfo *info)
{
    uid_t uid;
    gid_t gid;
    enum err err = user_of(s, &uid, &gid, info);

    if (!err)
        err = own_dir(AT_FDCWD, s->boot.data_dir, s->boot.data_dir, uid, gid, info);
    if (err)
        return err;
    int dir = open(s->boot.data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return fail(info, s->boot.data_dir);
    for (size_t i = 0; !err && i < ARRAY_LEN(subdirs); i++) {
        char shown[320];
        (void)snprintf(shown, sizeof(shown), "%s/%s", s->boot.data_dir, subdirs[i]);
        err = own_dir(dir, subdirs[i], shown, uid, gid, info);
    }
    (void)close(dir);
    return err ? err : lock_dir(s, uid, gid, info);
}

/* ---- bytes for children ---- */

static enum err read_into(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    ssize_t n = 0;

    if (fd < 0)
        return ERR_NOTFOUND;
    do {
        n = buf_reserve(out, 16384) == ERR_OK ? read(fd, out->p + out->n, 16384) : -1;
        out->n += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    (void)close(fd);
    return n == 0 ? ERR_OK : ERR_IO;
}

static void send_bytes(struct child *c, const char *name, const struct buf *data)
{
    const struct bytes b = {.name = sv_str(name), .data = buf_sv(data)};

    if (c->control && ipc_send(c->control, MSG_BYTES, &b, -1) != ERR_OK)
        log_msg(LOG_ERROR, "files", "cannot send %s to %s", name, role_name(c->role));
}

/* Calls each() for the regular files of data_dir/SUB with this ending, in no order. */
static void each_file(const struct sup *s, const char *sub, const char *ending,
                      void (*each)(void *ctx, const char *name, const char *path), void *ctx)
{
    char dir[300], path[600];

    (void)snprintf(dir, sizeof(dir), "%s/%s", s->boot.data_dir, sub);
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (e->d_name[0] == '.' || !sv_ends_nocase(sv_str(e->d_name), sv_str(ending)))
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        each(ctx, e->d_name, path);
    }
    (void)closedir(d);
}

static void add_ca(void *ctx, const char *name, const char *path)
{
    struct buf *bundle = ctx;

    (void)name;
    if (read_into(path, bundle) != ERR_OK)
        log_msg(LOG_ERROR, "files", "cannot read %s", path);
    (void)buf_append_byte(bundle, '\n');
}

static void push_ca(struct sup *s, struct child *c)
{
    struct buf bundle;

    buf_init(&bundle, CA_BUNDLE_MAX);
    if (read_into("/etc/ssl/certs/ca-certificates.crt", &bundle) != ERR_OK)
        log_msg(LOG_WARN, "files", "no system CA bundle (package ca-certificates)");
    (void)buf_append_byte(&bundle, '\n');
    each_file(s, "ca", ".pem", add_ca, &bundle);
    send_bytes(c, "ca-bundle", &bundle);
    buf_done(&bundle);
}

static void push_resolv(struct child *c)
{
    struct buf text;

    buf_init(&text, RESOLV_MAX);
    if (read_into("/etc/resolv.conf", &text) != ERR_OK)
        log_msg(LOG_WARN, "files", "no /etc/resolv.conf");
    send_bytes(c, "resolv.conf", &text);
    buf_done(&text);
}

static enum err push_key(void *ctx, struct sv name, struct sv data)
{
    struct child *c = ctx;
    const struct bytes b = {.name = name, .data = data};

    return c->control ? ipc_send(c->control, MSG_BYTES, &b, -1) : ERR_CLOSED;
}

void sup_push_files(struct sup *s, struct child *c)
{
    struct errinfo info = {0};

    if (c->role == ROLE_SMTP) {
        push_ca(s, c);
        push_resolv(c);
    } else if (c->role == ROLE_KEYS) {
        if (keys_load_files(sv_str(s->boot.data_dir), push_key, c, &info) != ERR_OK)
            log_msg(LOG_ERROR, "files", "keys are incomplete: %s", info.text);
    }
}

void sup_keep_file(struct sup *s, struct sv name, struct sv data)
{
    struct errinfo info = {0};

    if (keys_keep_file(sv_str(s->boot.data_dir), name, data, &info) != ERR_OK)
        log_msg(LOG_ERROR, "files", "cannot keep %.*s: %s", SV_ARG(name), info.text);
    else
        log_msg(LOG_INFO, "files", "%.*s kept", SV_ARG(name));
}

static enum err push_nowhere(void *ctx, struct sv name, struct sv data)
{
    (void)ctx;
    (void)name;
    (void)data;
    return ERR_OK;
}

enum err sup_first_keys(struct sup *s, struct errinfo *info)
{
    struct sv dir = sv_str(s->boot.data_dir);
    enum err err = keys_first_start(dir, sv_str(s->boot.hostname), info);

    return err ? err : keys_load_files(dir, push_nowhere, NULL, info);
}
