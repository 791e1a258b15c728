/*
 * What the load generator and the sink share: a non-blocking socket with or without TLS. Plain
 * OpenSSL and epoll, so that neither shares code with what it measures.
 */
#ifndef BENCH_SMTP_IO_H
#define BENCH_SMTP_IO_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io {
    int fd;
    SSL *ssl; /* NULL: in clear */
    bool want_write;
};

enum io_result { IO_OK, IO_WAIT, IO_END };

/* out_n: bytes moved when IO_OK. */
enum io_result io_read(struct io *io, char *p, size_t n, size_t *out_n);
enum io_result io_write(struct io *io, const char *p, size_t n, size_t *out_n);
enum io_result io_handshake(struct io *io);
void io_close(struct io *io);

double now_s(void);
/* Ends the program with a message. */
_Noreturn void die(const char *text);
/* The value of an option as a number in a range; ends the program when it is none. */
long number(const char *text, long low, long high);
/* "ADDRESS:PORT" of IPv4. */
struct sockaddr_in address(const char *text);

#endif
