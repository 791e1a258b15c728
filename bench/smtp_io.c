/* See smtp_io.h. */
#include "smtp_io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static enum io_result ssl_result(struct io *io, int r)
{
    int e = SSL_get_error(io->ssl, r);

    io->want_write = e == SSL_ERROR_WANT_WRITE;
    if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
        return IO_WAIT;
    ERR_clear_error();
    return IO_END;
}

static enum io_result plain_result(struct io *io, ssize_t r, bool writing, size_t *out_n)
{
    if (r > 0) {
        *out_n = (size_t)r;
        return IO_OK;
    }
    if (r < 0 && (errno == EAGAIN || errno == EINTR)) {
        io->want_write = writing;
        return IO_WAIT;
    }
    return IO_END;
}

enum io_result io_read(struct io *io, char *p, size_t n, size_t *out_n)
{
    io->want_write = false;
    if (!io->ssl)
        return plain_result(io, recv(io->fd, p, n, 0), false, out_n);
    int r = SSL_read_ex(io->ssl, p, n, out_n);
    return r == 1 ? IO_OK : ssl_result(io, r);
}

enum io_result io_write(struct io *io, const char *p, size_t n, size_t *out_n)
{
    io->want_write = false;
    if (!io->ssl)
        return plain_result(io, send(io->fd, p, n, MSG_NOSIGNAL), true, out_n);
    int r = SSL_write_ex(io->ssl, p, n, out_n);
    return r == 1 ? IO_OK : ssl_result(io, r);
}

enum io_result io_handshake(struct io *io)
{
    io->want_write = false;
    int r = SSL_do_handshake(io->ssl);
    return r == 1 ? IO_OK : ssl_result(io, r);
}

void io_close(struct io *io)
{
    if (io->ssl) {
        (void)SSL_shutdown(io->ssl);
        ERR_clear_error();
        SSL_free(io->ssl);
    }
    if (io->fd >= 0)
        (void)close(io->fd);
    *io = (struct io){.fd = -1};
}

double now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

_Noreturn void die(const char *text)
{
    (void)fprintf(stderr, "%s: %s\n", text, errno ? strerror(errno) : "failed");
    ERR_print_errors_fp(stderr);
    exit(1);
}

long number(const char *text, long low, long high)
{
    char *end;
    long n = strtol(text, &end, 10);

    if (*end || end == text || n < low || n > high)
        die(text);
    return n;
}

struct sockaddr_in address(const char *text)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    char ip[64];
    const char *colon = strrchr(text, ':');

    if (!colon || (size_t)(colon - text) >= sizeof(ip))
        die(text);
    memcpy(ip, text, (size_t)(colon - text));
    ip[colon - text] = 0;
    if (inet_pton(AF_INET, ip, &sa.sin_addr) != 1)
        die(text);
    sa.sin_port = htons((uint16_t)number(colon + 1, 1, 65535));
    return sa;
}
