/* See queue_harness.h. */
#include "role/queue_harness.h"

#include "base/enc.h"
#include "base/rng.h"
#include "crypto/cert.h"
#include "role/role.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIECES_MAX 24

/* ---- processes ---- */

static pid_t start_role(const char *name, int (*run)(struct role_ctx *), int *out_control)
{
    int pair[2];

    assert_int_equal(ipc_pair(pair), ERR_OK);
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct role_ctx r;
        struct errinfo info = {0};
        (void)close(pair[0]);
        if (dup2(pair[1], ROLE_CONTROL_FD) < 0)
            _exit(70);
        for (int fd = ROLE_CONTROL_FD + 1; fd < 256; fd++)
            (void)close(fd); /* nothing of the test's keeps a channel open */
        if (role_start(&r, name, &info))
            _exit(70);
        _exit(run(&r));
    }
    (void)close(pair[1]);
    *out_control = pair[0];
    return pid;
}

static void give(int sock, enum message m, const void *body, int fd)
{
    assert_int_equal(ipc_send_fd(sock, m, body, fd), ERR_OK);
}

static void give_bytes(int sock, const char *name, struct sv data)
{
    struct bytes b = {sv_str(name), data};

    give(sock, MSG_BYTES, &b, -1);
}

static void give_hello(const struct qb *b, int sock, enum role role)
{
    struct hello h = {.role = (uint8_t)role,
                      .workers = 2,
                      .hostname = SV(QB_HOST),
                      .data_dir = sv_str(b->dir),
                      .log_level = getenv("BENCH_LOG") ? LOG_DEBUG : LOG_ERROR,
                      .log_format = LOG_TEXT};

    give(sock, MSG_HELLO, &h, -1);
}

static void give_channel(int sock, enum role peer, uint8_t index, int fd)
{
    struct channel c = {(uint8_t)peer, index};

    give(sock, MSG_CHANNEL, &c, fd);
}

static void expect_ready(struct qb *b, int sock, enum role role)
{
    enum message m = MSG_NONE;
    int fd = -1;

    arena_reset(&b->mem);
    assert_int_equal(
        ipc_recv_fd(sock, ROLE_SUPERVISOR, role, 3 * QB_WAIT_MS, &b->mem, &m, &b->msg, &fd),
        ERR_OK);
    assert_int_equal(m, MSG_READY);
}

static void start_keys(struct qb *b)
{
    struct rng rng = rng_system();
    char master[32];

    rng_bytes(&rng, master, sizeof(master));
    b->keys = start_role("keys", keys_run, &b->keys_control);
    give_hello(b, b->keys_control, ROLE_KEYS);
    give_bytes(b->keys_control, "master", sv_of(master, sizeof(master)));
    give_bytes(b->keys_control, ROLE_BYTES_END, SV(""));
    expect_ready(b, b->keys_control, ROLE_KEYS);
}

static void make_folder(struct qb *b, const char *name)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", b->dir, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void write_settings(struct qb *b)
{
    char path[128];
    struct buf tree;

    buf_init(&tree, 1024 * 1024);
    qb_settings_tree(&tree, NULL);
    (void)snprintf(path, sizeof(path), "%s/settings/current", b->dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fprintf(f, "revision 5\n") > 0);
    assert_int_equal(fwrite(tree.p, 1, tree.n, f), tree.n);
    assert_int_equal(fclose(f), 0);
    buf_done(&tree);
}

static int listen_ctl(struct qb *b)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s/queue.sock", b->dir);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 16), 0);
    return fd;
}

void qb_settings_tree(struct buf *out, const char *name, ...)
{
    struct tree_file files[PIECES_MAX] = {
        {SV("groups/domain/protected.txt"), SV("inside.test\n")},
        {SV("policies/cards.conf"), SV("[policy]\ndirection = outbound\n[rule cards]\n"
                                       "condition = CREDIT_CARD at least 1\naction = encrypt\n")}};
    uint32_t n = 2;
    va_list ap;

    va_start(ap, name);
    for (; name; name = va_arg(ap, const char *)) {
        assert_true(n < PIECES_MAX);
        files[n++] = (struct tree_file){sv_str(name), sv_str(va_arg(ap, const char *))};
    }
    va_end(ap);
    assert_int_equal(tree_join(files, n, out), ERR_OK);
}

struct qb *qb_new(void)
{
    struct qb *b = calloc(1, sizeof(*b));

    assert_non_null(b);
    (void)signal(SIGPIPE, SIG_IGN);
    arena_init(&b->mem, 64u * 1024 * 1024);
    b->fd = b->control = -1;
    for (int e = 0; e < QB_ENDS; e++)
        b->ends[e] = -1;
    (void)snprintf(b->dir, sizeof(b->dir), "/tmp/ps-queue-test-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    make_folder(b, "spool");
    make_folder(b, "settings");
    make_folder(b, "events");
    write_settings(b);
    b->ctl_listener = listen_ctl(b);
    start_keys(b);
    return b;
}

/* ---- ends ---- */

static enum role role_of(enum qb_end e)
{
    switch (e) {
    case QB_SMTP:
    case QB_SMTP2:
        return ROLE_SMTP;
    case QB_CONTENT:
        return ROLE_CONTENT;
    case QB_STORE:
        return ROLE_STORE;
    case QB_ENDS:
        break;
    }
    return ROLE_SUPERVISOR;
}

static void channel_of(struct qb *b, enum qb_end e)
{
    int pair[2];

    assert_int_equal(ipc_pair(pair), ERR_OK);
    give_channel(b->control, role_of(e), e == QB_SMTP2, pair[1]);
    b->ends[e] = pair[0];
}

/* Lease, settings (acknowledged) and intake, as a worker takes them. */
static void worker_begins(struct qb *b, enum qb_end e)
{
    if (e == QB_SMTP || e == QB_SMTP2) {
        b->next_id[e] = qb_expect(b, e, MSG_LEASE)->LEASE.first;
        struct settings_ack ack = {.revision = qb_expect(b, e, MSG_SETTINGS)->SETTINGS.revision};
        (void)qb_expect(b, e, MSG_INTAKE);
        qb_send(b, e, MSG_SETTINGS_ACK, &ack, -1);
    } else {
        struct settings_ack ack = {.revision = qb_expect(b, e, MSG_SETTINGS)->SETTINGS.revision};
        if (e == QB_STORE)
            qb_send(b, e, MSG_SETTINGS_ACK, &ack, -1);
    }
}

void qb_up(struct qb *b)
{
    struct listener l = {SV("ctl"), SV("queue.sock")};
    int pair[2];

    b->queue = start_role("queue", queue_run, &b->control);
    give_hello(b, b->control, ROLE_QUEUE);
    give(b->control, MSG_LISTENER, &l, fcntl(b->ctl_listener, F_DUPFD_CLOEXEC, 3));
    assert_int_equal(ipc_pair(pair), ERR_OK);
    give_channel(b->keys_control, ROLE_QUEUE, 0, pair[0]);
    give_channel(b->control, ROLE_KEYS, 0, pair[1]);
    for (enum qb_end e = 0; e < QB_ENDS; e++)
        channel_of(b, e);
    give_bytes(b->control, ROLE_BYTES_END, SV(""));
    expect_ready(b, b->control, ROLE_QUEUE);
    for (enum qb_end e = 0; e < QB_ENDS; e++)
        worker_begins(b, e);
}

void qb_drop_end(struct qb *b, enum qb_end e)
{
    (void)close(b->ends[e]);
    b->ends[e] = -1;
}

void qb_new_end(struct qb *b, enum qb_end e)
{
    channel_of(b, e);
    worker_begins(b, e);
}

static void close_ends(struct qb *b)
{
    for (enum qb_end e = 0; e < QB_ENDS; e++) {
        if (b->ends[e] >= 0)
            qb_drop_end(b, e);
    }
    (void)close(b->control);
    b->control = -1;
    b->queue = 0;
}

static int end_of(pid_t pid)
{
    int status = 0;

    for (int i = 0; i < QB_WAIT_MS / 20; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return status;
        (void)poll(NULL, 0, 20);
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    return -1;
}

void qb_kill(struct qb *b)
{
    (void)kill(b->queue, SIGKILL);
    (void)waitpid(b->queue, NULL, 0);
    close_ends(b);
}

void qb_stop(struct qb *b)
{
    int status = 0;

    if (waitpid(b->queue, &status, WNOHANG) != 0)
        fail_msg("queue ended by itself: status %x", (unsigned)status);
    (void)kill(b->queue, SIGTERM);
    status = end_of(b->queue);
    close_ends(b);
    assert_int_equal(status, 0);
}

static void remove_tree(const char *dir)
{
    DIR *d = opendir(dir);
    char path[512];

    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (e->d_type == DT_DIR)
            remove_tree(path);
        else
            (void)unlink(path);
    }
    if (d)
        (void)closedir(d);
    (void)rmdir(dir);
}

void qb_free(struct qb *b)
{
    if (b->queue)
        qb_stop(b);
    (void)kill(b->keys, SIGTERM);
    (void)end_of(b->keys);
    (void)close(b->keys_control);
    (void)close(b->ctl_listener);
    if (!getenv("BENCH_KEEP"))
        remove_tree(b->dir);
    arena_done(&b->mem);
    free(b);
}

/* ---- messages ---- */

void qb_send(struct qb *b, enum qb_end e, enum message m, const void *body, int fd)
{
    give(b->ends[e], m, body, fd);
}

static bool passed_over(enum message got, enum message wanted)
{
    return got != wanted && (got == MSG_LEASE || got == MSG_EVENTS_AT ||
                             (got == MSG_SETTINGS && wanted != MSG_LEASE && wanted != MSG_INTAKE));
}

static enum err take(struct qb *b, enum qb_end e, int ms, enum message *out_m)
{
    if (b->fd >= 0)
        (void)close(b->fd);
    b->fd = -1;
    arena_reset(&b->mem);
    return ipc_recv_fd(b->ends[e], role_of(e), ROLE_QUEUE, ms, &b->mem, out_m, &b->msg, &b->fd);
}

const union message_body *qb_expect(struct qb *b, enum qb_end e, enum message m)
{
    for (;;) {
        enum message got = MSG_NONE;
        enum err err = take(b, e, QB_WAIT_MS, &got);
        if (err)
            fail_msg("no %s: %s", message_name(m), err_name(err));
        if (got == m)
            return &b->msg;
        if (!passed_over(got, m))
            fail_msg("%s instead of %s", message_name(got), message_name(m));
    }
}

bool qb_silent(struct qb *b, enum qb_end e, int ms)
{
    for (;;) {
        enum message got = MSG_NONE;
        enum err err = take(b, e, ms, &got);
        if (err == ERR_TIMEOUT)
            return true;
        if (err || !passed_over(got, MSG_NONE))
            return false;
    }
}

void qb_alive(struct qb *b)
{
    uint8_t exit = 99;

    json_decref(qb_ctl(b, "status", "{}", &exit));
    assert_int_equal(exit, 0);
    assert_int_equal(waitpid(b->queue, NULL, WNOHANG), 0);
}

/* ---- dialogues ---- */

uint64_t qb_receive(struct qb *b, const struct qb_mail *m)
{
    struct sv body = sv_str(m->body ? m->body : "Subject: test\r\n\r\nhello\r\n");
    struct rcpt rcpts[4] = {0};
    uint8_t digest[32];
    uint32_t n = 0;

    sha256_once(body, digest);
    for (; n < 4 && m->rcpts[n]; n++)
        rcpts[n] = (struct rcpt){.addr = sv_str(m->rcpts[n]), .notify = m->notify, .index = n};
    struct received r = {.tag = ++b->tag,
                         .env = {.id = b->next_id[0]++,
                                 .received_ms = clock_now().wall_ms,
                                 .sender = sv_str(m->sender ? m->sender : "ann@inside.test"),
                                 .size = body.n,
                                 .sha256 = sv_of((const char *)digest, sizeof(digest)),
                                 .subject = SV("test"),
                                 .message_id = SV("<1@inside.test>"),
                                 .peer = {.trusted = true, .helo = SV("client.test")},
                                 .rcpts = rcpts,
                                 .n_rcpts = n},
                         .body = body};
    qb_send(b, QB_SMTP, MSG_RECEIVED, &r, -1);
    return r.env.id;
}

uint64_t qb_accept(struct qb *b, const struct qb_mail *m)
{
    uint64_t id = qb_receive(b, m);
    const struct committed *c = &qb_expect(b, QB_SMTP, MSG_COMMITTED)->COMMITTED;

    assert_int_equal(c->code, 250);
    assert_int_equal(c->id, id);
    assert_int_equal(c->tag, b->tag);
    return id;
}

uint64_t qb_job(struct qb *b, enum job_kind kind)
{
    const struct job *j = &qb_expect(b, QB_CONTENT, MSG_JOB)->JOB;

    assert_int_equal(j->kind, kind);
    return j->job;
}

void qb_scan(struct qb *b, uint32_t cards)
{
    struct total total = {.classifier = SV("CREDIT_CARD"), .count = cards, .unique = cards};
    struct part part = {.path = SV("1"), .declared_type = SV("text/plain"), .place = PLACE_BODY};
    struct hit hit = {.classifier = SV("CREDIT_CARD"), .count = cards, .unique = cards};
    struct job_done done = {.job = qb_job(b, JOB_SCAN),
                            .facts = {.scan = SCAN_OK,
                                      .parts = &part,
                                      .n_parts = 1,
                                      .hits = &hit,
                                      .n_hits = cards ? 1 : 0,
                                      .totals = &total,
                                      .n_totals = cards ? 1 : 0}};

    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
}

void qb_report(struct qb *b)
{
    const struct job *j = &qb_expect(b, QB_CONTENT, MSG_JOB)->JOB;
    struct job_done done = {.job = j->job, .body = SV("Subject: report\r\n\r\nit failed\r\n")};

    assert_true(j->kind == JOB_DSN || j->kind == JOB_NOTICE);
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
}

void qb_done_raw(struct qb *b, uint64_t attempt, uint64_t id, uint32_t n_rcpts, struct qb_result r)
{
    struct rcpt_outcome rcpts[4];
    struct outcome o = {.attempt = attempt,
                        .id = id,
                        .failure = (uint8_t)r.failure,
                        .remote_name = SV("mx.test"),
                        .remote_port = 25,
                        .dsn_offered = true,
                        .rcpts = rcpts,
                        .n_rcpts = n_rcpts};

    assert_true(n_rcpts <= 4);
    for (uint32_t i = 0; i < n_rcpts; i++)
        rcpts[i] = (struct rcpt_outcome){.index = i,
                                         .result = (uint8_t)r.result,
                                         .code = r.code,
                                         .status = sv_str(r.status),
                                         .reply = sv_str(r.reply)};
    qb_send(b, QB_SMTP, MSG_ATTEMPT_DONE, &o, -1);
}

void qb_done(struct qb *b, struct qb_result r)
{
    const struct delivery *d = &b->msg.DELIVER;
    uint64_t attempt = d->attempt;

    qb_done_raw(b, attempt, d->id, d->n_rcpts, r);
    assert_int_equal(qb_expect(b, QB_SMTP, MSG_ATTEMPT_ACK)->ATTEMPT_ACK.attempt, attempt);
}

/* ---- postsealctl ---- */

static int dial(const struct qb *b)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s/queue.sock", b->dir);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

json_t *qb_ctl(struct qb *b, const char *verb, const char *args, uint8_t *out_exit)
{
    struct ctl_req r = {.tag = 9, .verb = sv_str(verb), .args = sv_str(args), .user = SV("test")};
    json_t *all = json_array();
    struct arena a;
    int sock = dial(b);
    bool more = true;

    give(sock, MSG_CTL_REQ, &r, -1);
    arena_init(&a, 64u * 1024 * 1024);
    while (more) {
        enum message m = MSG_NONE;
        union message_body body;
        int fd = -1;
        assert_int_equal(ipc_recv_fd(sock, ROLE_CTL, ROLE_QUEUE, QB_WAIT_MS, &a, &m, &body, &fd),
                         ERR_OK);
        assert_int_equal(m, MSG_CTL_REPLY);
        assert_int_equal(body.CTL_REPLY.tag, 9);
        json_t *v = json_loadb(body.CTL_REPLY.json.p, body.CTL_REPLY.json.n, 0, NULL);
        assert_non_null(v);
        (void)json_array_append_new(all, v);
        more = body.CTL_REPLY.more;
        *out_exit = body.CTL_REPLY.exit;
        arena_reset(&a);
    }
    arena_done(&a);
    (void)close(sock);
    return all;
}

static json_t *last_of(json_t *all)
{
    return json_array_get(all, json_array_size(all) - 1);
}

uint64_t qb_matched(struct qb *b, const char *verb, const char *args)
{
    uint8_t exit = 0;
    json_t *all = qb_ctl(b, verb, args, &exit);
    uint64_t n = (uint64_t)json_integer_value(json_object_get(last_of(all), "matched"));

    json_decref(all);
    return n;
}

void qb_show(struct qb *b, uint64_t id, const char *member, char out[256])
{
    char text[ID_TEXT_LEN + 1], args[64];
    uint8_t exit = 0;

    id_format(id, text);
    (void)snprintf(args, sizeof(args), "{\"id\":\"%s\"}", text);
    json_t *all = qb_ctl(b, "queue.show", args, &exit);
    const json_t *m = exit == 0 ? json_array_get(all, 0) : NULL;
    const json_t *v = json_object_get(m, member);
    if (!v && m)
        v = json_object_get(json_array_get(json_object_get(m, "recipients"), 0), member);
    out[0] = 0;
    if (json_is_string(v))
        (void)snprintf(out, 256, "%s", json_string_value(v));
    else if (json_is_integer(v))
        (void)snprintf(out, 256, "%lld", (long long)json_integer_value(v));
    else if (json_is_boolean(v))
        (void)snprintf(out, 256, "%s", json_is_true(v) ? "true" : "false");
    json_decref(all);
}

void qb_empty(struct qb *b)
{
    for (int i = 0; i < QB_WAIT_MS / 20; i++) {
        if (qb_matched(b, "queue.count", "{}") == 0)
            return;
        (void)poll(NULL, 0, 20);
    }
    fail_msg("the queue does not become empty");
}
