/* One request over a local control socket, its answers, and its failures in words. */
#include "model/messages.h"
#include "net/ipc.h"
#include "role/ctl.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#define ANSWER_MS   130000
#define ARENA_BYTES (256u * 1024 * 1024)

static int dial(const struct ctl *c, const char *socket_name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int n = snprintf(a.sun_path, sizeof(a.sun_path), "%s/run/%s.sock", c->data_dir, socket_name);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (n >= (int)sizeof(a.sun_path)) {
        fprintf(stderr, "postsealctl: the path of the data folder is too long for a socket\n");
    } else if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0) {
        return fd;
    } else {
        fprintf(stderr, "postsealctl: %s: %s%s\n", a.sun_path, strerror(errno),
                errno == ENOENT || errno == ECONNREFUSED
                    ? "; is the gateway running, and is --data its data_dir?"
                    : "");
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

static const char *user_name(char *out, size_t n)
{
    const struct passwd *pw = getpwuid(getuid());

    snprintf(out, n, "%s", pw ? pw->pw_name : "unknown");
    return out;
}

static void print_failure(const struct ctl *c, const json_t *answer)
{
    const json_t *errors = json_object_get(answer, "errors");
    const json_t *e;
    size_t i;

    if (c->json) {
        ctl_print_json(answer);
        return;
    }
    json_array_foreach(errors, i, e)
    {
        fprintf(stderr, "%s:%lld: %s%s%s\n", ctl_s(e, "file"), ctl_n(e, "line"), ctl_s(e, "key"),
                *ctl_s(e, "key") ? ": " : "", ctl_s(e, "text"));
    }
    if (json_object_get(answer, "matched"))
        return; /* an action that did nothing: the caller tells the counts */
    fprintf(stderr, "postsealctl: %s\n",
            *ctl_s(answer, "error") ? ctl_s(answer, "error") : "the request failed");
}

static int receive(struct ctl *c, int sock, enum role role, ctl_each *each, void *ctx,
                   json_t **out_last)
{
    for (;;) {
        struct arena a;
        enum message m = MSG_NONE;
        union message_body body;
        int fd = -1;
        arena_init(&a, ARENA_BYTES);
        enum err err = ipc_recv_fd(sock, ROLE_CTL, role, ANSWER_MS, &a, &m, &body, &fd);
        if (fd >= 0)
            close(fd);
        if (err || m != MSG_CTL_REPLY) {
            arena_done(&a);
            fprintf(stderr, "postsealctl: no answer: %s\n", err_name(err ? err : ERR_SYNTAX));
            return EX_TEMPFAIL;
        }
        const struct ctl_reply *r = &body.CTL_REPLY;
        json_t *v = json_loadb(r->json.p, r->json.n, JSON_DECODE_ANY, NULL);
        uint8_t exit = r->exit;
        bool more = r->more;
        arena_done(&a);
        if (more) {
            if (each)
                each(ctx, v);
            json_decref(v);
            continue;
        }
        if (exit != EX_OK)
            print_failure(c, v);
        if (out_last)
            *out_last = v;
        else
            json_decref(v);
        return exit;
    }
}

int ctl_ask(struct ctl *c, const char *socket, const char *verb, json_t *args, int fd,
            ctl_each *each, void *ctx, json_t **out_last)
{
    char user[64];
    char *text = json_dumps(args, JSON_COMPACT);
    struct ctl_req r = {.tag = 1,
                        .verb = sv_str(verb),
                        .args = sv_str(text),
                        .user = sv_str(user_name(user, sizeof(user)))};
    enum role role = strcmp(socket, "queue") == 0 ? ROLE_QUEUE : ROLE_STORE;
    int sock = dial(c, socket);
    int exit = EX_UNAVAILABLE;

    json_decref(args);
    if (sock >= 0 && ipc_send_fd(sock, MSG_CTL_REQ, &r, fd) == ERR_OK) {
        fd = -1; /* sent and closed */
        exit = receive(c, sock, role, each, ctx, out_last);
    }
    if (fd >= 0)
        close(fd);
    if (sock >= 0)
        close(sock);
    free(text);
    return exit;
}
