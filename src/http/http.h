/*
 * HTTPS server: libwebsockets behind a small face. GET and HEAD of short documents so far; answers
 * may come later than the question. Connections are accepted by the caller and adopted here.
 *
 * SECURITY: libwebsockets parses requests of the internet; header memory, time and connections are
 * bounded. Keys stay remote: the caller puts certificates into the SSL_CTX.
 */
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include "base/err.h"
#include "base/sv.h"

#include <openssl/ssl.h>

struct http_server;
struct http_request;

struct http_config {
    void *uv_loop; /* uv_loop_t of the process */
    /* Certificates and keys; false = the server cannot start. */
    bool (*keys)(void *ctx, SSL_CTX *ssl);
    /* One request; answer now or later with http_answer, exactly once. path lives until then. */
    void (*request)(void *ctx, struct http_request *r, struct sv path);
    void *ctx;
};

NODISCARD enum err http_server_new(const struct http_config *c, struct http_server **out_s,
                                   struct errinfo *info);
void http_server_free(struct http_server *s);
void http_adopt(struct http_server *s, int fd); /* takes an accepted socket */
void http_answer(struct http_request *r, unsigned status, const char *type, struct sv body);

#endif
