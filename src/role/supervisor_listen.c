/*
 * Listening sockets. Every smtp worker gets a socket of its own at each address (SO_REUSEPORT), so
 * that the kernel spreads connections; the supervisor keeps them all, so that a worker's death
 * loses no waiting connection. Under systemd the sockets come from outside (LISTEN_FDS) and are
 * shared.
 */
#include "role/supervisor_int.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 4096, SYSTEMD_FIRST_FD = 3, SYSTEMD_FDS_MAX = 64 };

static socklen_t address_of(const struct bootstrap_listener *l, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (ip_is_v4(&l->ip)) {
        struct sockaddr_in *a = (struct sockaddr_in *)out;
        a->sin_family = AF_INET;
        a->sin_port = htons(l->port);
        memcpy(&a->sin_addr, l->ip.b + 12, 4);
        return sizeof(*a);
    }
    struct sockaddr_in6 *a = (struct sockaddr_in6 *)out;
    a->sin6_family = AF_INET6;
    a->sin6_port = htons(l->port);
    memcpy(&a->sin6_addr, l->ip.b, 16);
    return sizeof(*a);
}

static int bind_one(const struct bootstrap_listener *l, bool reuse_port)
{
    struct sockaddr_storage a;
    socklen_t n = address_of(l, &a);
    const int on = 1;
    int fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (reuse_port)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (a.ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&a, n) != 0 || (reuse_port && listen(fd, BACKLOG) != 0)) {
        int sys = errno;
        (void)close(fd);
        return -sys;
    }
    return fd;
}

static enum err add_socket(struct sup *s, enum role role, uint8_t index, const char *kind,
                           const char *address, int fd)
{
    if (s->n_sockets == SUP_SOCKETS_MAX) {
        (void)close(fd);
        return ERR_LIMIT;
    }
    struct listen_socket *ls = &s->sockets[s->n_sockets++];
    *ls = (struct listen_socket){.role = role, .index = index, .kind = kind, .fd = fd};
    (void)snprintf(ls->address, sizeof(ls->address), "%s", address);
    return ERR_OK;
}

static enum role role_of_kind(enum listen_kind kind)
{
    return kind == LISTEN_HTTPS ? ROLE_WEB : ROLE_SMTP;
}

static enum err fail(const struct bootstrap_listener *l, int sys, struct errinfo *info)
{
    const char *hint = sys == EACCES          ? " (ports below 1024 need root or systemd)"
                       : sys == EADDRINUSE    ? " (another program listens there)"
                       : sys == EADDRNOTAVAIL ? " (no interface of this machine has it)"
                                              : "";

    (void)err_set_sys(info, ERR_IO, sys, "cannot listen on %s%s", l->address, hint);
    if (info) {
        info->line = l->line;
        (void)snprintf(info->key, sizeof(info->key), "%s", listen_kind_name(l->kind));
    }
    return ERR_IO;
}

static enum err listen_at(struct sup *s, const struct bootstrap_listener *l, struct errinfo *info)
{
    enum role role = role_of_kind(l->kind);
    uint8_t n = role == ROLE_SMTP ? s->workers : 1;

    /* SO_REUSEPORT would share an address with another daemon of the same user without a word. */
    int probe = bind_one(l, false);
    if (probe < 0)
        return fail(l, -probe, info);
    (void)close(probe);
    for (uint8_t i = 0; i < n; i++) {
        int fd = bind_one(l, true);
        if (fd < 0)
            return fail(l, -fd, info);
        if (add_socket(s, role, i, listen_kind_name(l->kind), l->address, fd) != ERR_OK)
            return err_set(info, ERR_LIMIT, "too many listening sockets");
    }
    return ERR_OK;
}

/* ---- socket activation ---- */

static int systemd_fds(void)
{
    const char *pid = getenv("LISTEN_PID");
    const char *fds = getenv("LISTEN_FDS");
    uint64_t p = 0, n = 0;

    if (!pid || !fds || !sv_to_u64(sv_str(pid), 1, INT32_MAX, &p) || p != (uint64_t)getpid() ||
        !sv_to_u64(sv_str(fds), 1, SYSTEMD_FDS_MAX, &n))
        return 0;
    return (int)n;
}

static bool socket_is_at(int fd, const struct bootstrap_listener *l)
{
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof(a);

    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0)
        return false;
    if (a.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a;
        return ip_is_v4(&l->ip) && ntohs(v4->sin_port) == l->port &&
               memcmp(&v4->sin_addr, l->ip.b + 12, 4) == 0;
    }
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a;
    return a.ss_family == AF_INET6 && ntohs(v6->sin6_port) == l->port &&
           memcmp(&v6->sin6_addr, l->ip.b, 16) == 0;
}

/* The fd that systemd opened for this address, duplicated for every worker; false = none. */
static enum err take_from_systemd(struct sup *s, const struct bootstrap_listener *l, int n_fds,
                                  bool *out_found)
{
    enum role role = role_of_kind(l->kind);
    uint8_t n = role == ROLE_SMTP ? s->workers : 1;

    *out_found = false;
    for (int fd = SYSTEMD_FIRST_FD; fd < SYSTEMD_FIRST_FD + n_fds && !*out_found; fd++) {
        if (!socket_is_at(fd, l))
            continue;
        *out_found = true;
        for (uint8_t i = 0; i < n; i++) {
            int copy = fcntl(fd, F_DUPFD_CLOEXEC, SYSTEMD_FIRST_FD + n_fds);
            if (copy < 0)
                return ERR_IO;
            (void)fcntl(copy, F_SETFL, fcntl(copy, F_GETFL) | O_NONBLOCK);
            enum err err = add_socket(s, role, i, listen_kind_name(l->kind), l->address, copy);
            if (err)
                return err;
        }
    }
    return ERR_OK;
}

enum err sup_listen(struct sup *s, struct errinfo *info)
{
    int n_fds = systemd_fds();
    enum err err = ERR_OK;

    s->sockets = calloc(SUP_SOCKETS_MAX, sizeof(*s->sockets));
    if (!s->sockets)
        return err_set(info, ERR_IO, "out of memory");
    for (int fd = SYSTEMD_FIRST_FD; fd < SYSTEMD_FIRST_FD + n_fds; fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    for (size_t i = 0; !err && i < s->boot.n_listeners; i++) {
        const struct bootstrap_listener *l = &s->boot.listeners[i];
        bool found = false;
        err = take_from_systemd(s, l, n_fds, &found);
        if (err)
            (void)err_set(info, err, "cannot take the socket of %s from systemd", l->address);
        else if (!found)
            err = listen_at(s, l, info);
    }
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    return err;
}

/* ---- local control sockets ---- */

static enum err listen_ctl(struct sup *s, enum role role, struct errinfo *info)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int n = snprintf(a.sun_path, sizeof(a.sun_path), "%s/run/%s.sock", s->boot.data_dir,
                     role_name(role));

    if (n < 0 || (size_t)n >= sizeof(a.sun_path))
        return err_set(info, ERR_LIMIT, "data_dir is too long for a socket beneath it");
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)unlink(a.sun_path);
    mode_t mask = umask(0177);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 64) == 0;
    int sys = errno;
    (void)umask(mask);
    if (!ok) {
        if (fd >= 0)
            (void)close(fd);
        return err_set_sys(info, ERR_IO, sys, "%s", a.sun_path);
    }
    return add_socket(s, role, 0, "ctl", a.sun_path, fd);
}

enum err sup_listen_ctl(struct sup *s, struct errinfo *info)
{
    enum err err = listen_ctl(s, ROLE_QUEUE, info);

    return err ? err : listen_ctl(s, ROLE_STORE, info);
}

void sup_unlisten(struct sup *s)
{
    for (size_t i = 0; i < s->n_sockets; i++) {
        (void)close(s->sockets[i].fd);
        if (strcmp(s->sockets[i].kind, "ctl") == 0)
            (void)unlink(s->sockets[i].address);
    }
    free(s->sockets);
    s->sockets = NULL;
    s->n_sockets = 0;
}
