/*
 * Beginning a connection out: socket, client machine, what it needs to know. See smtp_out.h.
 */
#include "role/smtp_out.h"

#include "role/smtp_secret.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define LEFT_MAX (64u * 1024)
#define CONN_MEM (32u * 1024)

static int open_socket(const struct ip *ip, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool v4 = ip_is_v4(ip);
    int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    memcpy(&in.sin_addr, ip->b + 12, 4);
    memcpy(&in6.sin6_addr, ip->b, 16);
    int r = v4 ? connect(fd, (const struct sockaddr *)&in, sizeof(in))
               : connect(fd, (const struct sockaddr *)&in6, sizeof(in6));
    if (r == 0 || errno == EINPROGRESS)
        return fd;
    int keep = errno;
    (void)close(fd);
    errno = keep;
    return -1;
}

static enum err cli_start(struct out_conn *c, struct attempt *a, bool clear)
{
    struct buf password;
    bool need = !smtp_out_opportunistic(a) && a->req.level != TLS_LEVEL_OFF;

    buf_init(&password, 1024);
    enum err err = ERR_OK;
    if (a->job.hop.auth_user.n)
        err = smtp_secret(c->m, a->job.hop.auth_secret, &password);
    struct smtp_cli_config config = {
        .helo = a->job.helo.n ? a->job.helo : a->snap->hostname,
        .want_tls = !clear && a->req.level != TLS_LEVEL_OFF,
        .require_tls = need,
        .auth_user = a->job.hop.auth_user,
        .auth_password = buf_sv(&password),
    };
    if (!err)
        err = smtp_cli_new(&config, &c->cli);
    buf_wipe(&password);
    return err;
}

static struct out_conn *conn_new(struct attempt *a, const struct dns_addr *addr, uint16_t port)
{
    struct out_conn *c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    c->m = a->m;
    c->snap = smtp_snap_ref(a->snap);
    c->conn.fd = -1;
    arena_init(&c->mem, CONN_MEM);
    buf_init(&c->left, LEFT_MAX);
    c->host = arena_sv(&c->mem, sv_str(addr->host));
    c->pool.key = arena_sv(&c->mem, a->pool_key);
    c->ip = addr->ip;
    c->port = port;
    c->m->n_out++;
    return c;
}

bool smtp_out_connect(struct attempt *a, const struct dns_addr *addr, uint16_t port, bool clear)
{
    struct out_conn *c = conn_new(a, addr, port);

    if (!c)
        return false;
    c->job = a;
    a->conn = c;
    if (!a->connect_ms)
        a->connect_ms = smtp_now(a->m);
    if (cli_start(c, a, clear)) {
        smtp_out_note(a, FAILURE_AUTH, 0, "4.7.0", "the secret for AUTH is not available");
        smtp_out_detach(c);
        smtp_out_conn_free(c);
        return false;
    }
    int fd = open_socket(&addr->ip, port);
    if (fd < 0 || conn_open(&c->conn, a->m->loop, fd, &smtp_out_handler, c)) {
        smtp_out_note_connect(a, c, strerror(errno));
        smtp_out_detach(c);
        smtp_out_conn_free(c);
        return false;
    }
    smtp_stats_add(&a->m->stats, COUNT_OUT_CONNECTIONS, 1);
    c->conn.want_write = true;
    conn_deadline(&c->conn,
                  smtp_now(a->m) + (int64_t)a->snap->s->delivery_connect_timeout_s * 1000);
    (void)conn_settle(&c->conn, false);
    return true;
}
