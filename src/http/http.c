#include "http/http.h"

#include <libwebsockets.h>
#include <stdlib.h>

#define PATH_BYTES_MAX  256
#define IDLE_S          15
#define CONNECTIONS_MAX 512
#define BODY_MAX        (4u * 1024 * 1024)

/* Lives as libwebsockets' per-session memory points to it: freed when both sides are through. */
struct http_request {
    struct lws *wsi; /* NULL = the client went away */
    char path[PATH_BYTES_MAX];
    unsigned status;
    const char *type;
    unsigned char *body; /* LWS_PRE bytes in front */
    size_t n;
    bool head;     /* the method is HEAD */
    bool told;     /* http_answer was called */
    bool answered; /* ... with something that can be sent */
    bool headers_sent;
};

struct session {
    struct http_request *request;
};

struct http_server {
    struct http_config config;
    struct lws_context *context;
    struct lws_vhost *vhost;
};

static void request_free(struct http_request *r)
{
    if (!r)
        return;
    free(r->body);
    free(r);
}

static int method_of(struct lws *wsi)
{
    char *uri = NULL;
    int n = 0;

    return lws_http_get_uri_and_method(wsi, &uri, &n);
}

static int begin(struct lws *wsi, struct session *s, const char *path)
{
    const struct http_server *server = lws_context_user(lws_get_context(wsi));
    struct http_request *r = calloc(1, sizeof(*r));

    if (!r || strlen(path) >= sizeof(r->path)) {
        free(r);
        return lws_return_http_status(wsi, HTTP_STATUS_REQ_URI_TOO_LONG, NULL);
    }
    r->wsi = wsi;
    memcpy(r->path, path, strlen(path) + 1);
    s->request = r;
    int method = method_of(wsi);
    r->head = method == LWSHUMETH_HEAD;
    if (method != LWSHUMETH_GET && method != LWSHUMETH_HEAD) {
        http_answer(r, HTTP_STATUS_METHOD_NOT_ALLOWED, "text/plain", SV(""));
        return 0;
    }
    server->config.request(server->config.ctx, r, sv_str(r->path));
    return 0;
}

static int send_headers(struct lws *wsi, struct http_request *r)
{
    unsigned char head[LWS_PRE + 1024], *p = head + LWS_PRE, *end = head + sizeof(head);
    static const char csp[] = "default-src 'none'; frame-ancestors 'none'";

    if (lws_add_http_common_headers(wsi, r->status, r->type, r->n, &p, end) ||
        lws_add_http_header_by_name(wsi, (const unsigned char *)"content-security-policy:",
                                    (const unsigned char *)csp, (int)sizeof(csp) - 1, &p, end) ||
        lws_add_http_header_by_name(wsi, (const unsigned char *)"x-content-type-options:",
                                    (const unsigned char *)"nosniff", 7, &p, end) ||
        lws_add_http_header_by_name(wsi, (const unsigned char *)"cache-control:",
                                    (const unsigned char *)"no-store", 8, &p, end) ||
        (r->status == HTTP_STATUS_METHOD_NOT_ALLOWED && /* RFC 9110 15.5.6 */
         lws_add_http_header_by_name(wsi, (const unsigned char *)"allow:",
                                     (const unsigned char *)"GET, HEAD", 9, &p, end)) ||
        lws_finalize_write_http_header(wsi, head + LWS_PRE, &p, end))
        return 1;
    r->headers_sent = true;
    lws_callback_on_writable(wsi);
    return 0;
}

static int send_some(struct lws *wsi, struct http_request *r)
{
    if (!r || !r->answered)
        return 0;
    if (!r->headers_sent)
        return send_headers(wsi, r);
    if (!r->head && lws_write(wsi, r->body + LWS_PRE, r->n, LWS_WRITE_HTTP_FINAL) < (int)r->n)
        return 1;
    if (r->status == HTTP_STATUS_METHOD_NOT_ALLOWED)
        return -1; /* its content is not read: nothing behind it can be understood */
    return lws_http_transaction_completed(wsi) ? -1 : 0;
}

static void end(struct session *s)
{
    struct http_request *r = s ? s->request : NULL;

    if (!r)
        return;
    s->request = NULL;
    r->wsi = NULL;
    if (r->told)
        request_free(r);
}

static int load_keys(const struct http_server *server, SSL_CTX *ssl)
{
    return server->config.keys(server->config.ctx, ssl) ? 0 : 1;
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
    struct session *s = user;

    (void)len;
    if (reason == LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS)
        return load_keys(lws_context_user(lws_get_context(wsi)), user);
    if (reason == LWS_CALLBACK_HTTP) {
        end(s); /* a kept connection: the former request is over */
        return begin(wsi, s, in);
    }
    if (reason == LWS_CALLBACK_HTTP_WRITEABLE)
        return send_some(wsi, s ? s->request : NULL);
    if (reason == LWS_CALLBACK_CLOSED_HTTP || reason == LWS_CALLBACK_HTTP_DROP_PROTOCOL)
        end(s);
    return 0;
}

static const struct lws_protocols protocols[] = {
    {.name = "http", .callback = callback, .per_session_data_size = sizeof(struct session)},
    {.name = NULL},
};

enum err http_server_new(const struct http_config *c, struct http_server **out_s,
                         struct errinfo *info)
{
    struct http_server *s = calloc(1, sizeof(*s));
    void *loops[1] = {c->uv_loop};
    struct lws_context_creation_info i = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = protocols,
        .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_CREATE_VHOST_SSL_CTX |
                   LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS,
        .foreign_loops = loops,
        .keepalive_timeout = IDLE_S,
        .timeout_secs = IDLE_S,
        .fd_limit_per_thread = CONNECTIONS_MAX,
        .vhost_name = "web",
        .server_string = "postseal",
        .ssl_options_set = SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION};

    if (!s)
        return err_set(info, ERR_LIMIT, "out of memory");
    lws_set_log_level(0, NULL);
    s->config = *c;
    i.user = s;
    s->context = lws_create_context(&i);
    if (s->context)
        s->vhost = lws_create_vhost(s->context, &i);
    if (!s->vhost) {
        http_server_free(s);
        return err_set(info, ERR_IO,
                       "the HTTPS server could not be made (is the libuv plug-in of "
                       "libwebsockets there, and a certificate?)");
    }
    *out_s = s;
    return ERR_OK;
}

void http_server_free(struct http_server *s)
{
    if (s && s->context)
        lws_context_destroy(s->context);
    free(s);
}

void http_adopt(struct http_server *s, int fd)
{
    (void)lws_adopt_socket_vhost(s->vhost, fd); /* closes the fd itself when it fails */
}

void http_answer(struct http_request *r, unsigned status, const char *type, struct sv body)
{
    r->told = true;
    if (!r->wsi || body.n > BODY_MAX || (r->body = malloc(LWS_PRE + body.n + 1)) == NULL) {
        if (r->wsi)
            lws_set_timeout(r->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
        else
            request_free(r);
        return;
    }
    if (body.n)
        memcpy(r->body + LWS_PRE, body.p, body.n);
    r->n = body.n;
    r->status = status;
    r->type = type;
    r->answered = true;
    lws_callback_on_writable(r->wsi);
}
