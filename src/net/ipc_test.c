/* Channels: round trip of every path a frame can take, and everything a hostile peer can try. */
#include "net/ipc_int.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* One end: what arrived there. */
struct end {
    struct loop *loop;
    struct ipc *ch;
    int messages, fds;
    size_t bytes;
    char last[64], why[128];
    bool free_on_message, free_on_closed;
    int stop_after;
};

static void on_message(void *ctx, struct ipc *ch, enum message m, const union message_body *body,
                       int fd)
{
    struct end *e = ctx;

    e->messages++;
    if (m == MSG_STATS) {
        e->bytes += body->STATS.text.n;
        (void)snprintf(e->last, sizeof(e->last), "%.*s",
                       body->STATS.text.n > 60 ? 60 : (int)body->STATS.text.n, body->STATS.text.p);
    } else if (m == MSG_SETTINGS) {
        e->bytes += body->SETTINGS.tree.n;
    }
    if (fd >= 0) {
        char c = 0;
        e->fds++;
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(pread(fd, &c, 1, 0), 1);
        assert_int_equal(c, 'f');
        (void)close(fd);
    }
    if (e->free_on_message)
        ipc_free(ch);
    if (e->free_on_message || (e->stop_after && e->messages >= e->stop_after))
        loop_stop(e->loop);
}

static void on_closed(void *ctx, struct ipc *ch, const char *why)
{
    struct end *e = ctx;

    (void)snprintf(e->why, sizeof(e->why), "%s", why);
    e->ch = NULL;
    if (e->free_on_closed)
        ipc_free(ch);
    loop_stop(e->loop);
}

static void end_new(struct end *e, struct loop *l, int fd, enum role self, enum role peer)
{
    struct ipc_handler h = {e, on_message, on_closed};

    *e = (struct end){.loop = l};
    assert_int_equal(ipc_new(l, fd, self, peer, 3, &h, &e->ch), ERR_OK);
}

struct fixture {
    struct loop *loop;
    int fds[2];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    assert_int_equal(loop_new(&f->loop), ERR_OK);
    assert_int_equal(ipc_pair(f->fds), ERR_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    loop_free(f->loop);
    free(f);
    return 0;
}

static int file_with_f(void)
{
    int fd = -1;

    assert_int_equal(memfd_of(SV("f"), &fd), ERR_OK);
    return fd;
}

static struct sv filled(size_t n)
{
    char *p = malloc(n);

    assert_non_null(p);
    memset(p, 'x', n);
    return sv_of(p, n);
}

static int open_fds(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void test_round_trip(void **state)
{
    struct fixture *f = *state;
    struct end q, s;
    int before = open_fds();

    end_new(&s, f->loop, f->fds[0], ROLE_SMTP, ROLE_QUEUE);
    end_new(&q, f->loop, f->fds[1], ROLE_QUEUE, ROLE_SMTP);
    assert_int_equal(ipc_peer(q.ch), ROLE_SMTP);
    assert_int_equal(ipc_peer_index(q.ch), 3);
    for (int i = 0; i < 100; i++) {
        char text[16];
        int n = snprintf(text, sizeof(text), "m%d", i);
        struct stats st = {.text = sv_of(text, (size_t)n)};
        assert_int_equal(ipc_send(s.ch, MSG_STATS, &st, i % 10 == 0 ? file_with_f() : -1), ERR_OK);
    }
    assert_true(ipc_waiting(s.ch) > 0);
    q.stop_after = 100;
    loop_run(f->loop);
    assert_int_equal(q.messages, 100);
    assert_int_equal(q.fds, 10);
    assert_string_equal(q.last, "m99");
    assert_int_equal(ipc_waiting(s.ch), 0);
    assert_int_equal(open_fds(), before);
    ipc_free(s.ch);
    ipc_free(q.ch);
}

/* Sizes around the border between packet and memfd, with and without an fd of the message. */
static void test_sizes(void **state)
{
    struct fixture *f = *state;
    struct end to, from;
    const size_t sizes[] = {0,
                            1,
                            4096,
                            IPC_INLINE_MAX - 32,
                            IPC_INLINE_MAX - 13,
                            IPC_INLINE_MAX - 12,
                            IPC_INLINE_MAX,
                            3u << 20,
                            MIB(64) - 64};
    int before = open_fds();

    end_new(&from, f->loop, f->fds[0], ROLE_STORE, ROLE_QUEUE);
    end_new(&to, f->loop, f->fds[1], ROLE_QUEUE, ROLE_STORE);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct settings_msg msg = {.revision = i, .tree = filled(sizes[i] + 1)};
        msg.tree.n = sizes[i];
        to.bytes = 0;
        to.messages = 0;
        to.fds = 0;
        to.stop_after = 1;
        assert_int_equal(ipc_send(from.ch, MSG_SETTINGS, &msg, i % 2 ? file_with_f() : -1), ERR_OK);
        loop_run(f->loop);
        assert_int_equal(to.messages, 1);
        assert_int_equal(to.bytes, sizes[i]);
        assert_int_equal(to.fds, i % 2);
        free((void *)(uintptr_t)msg.tree.p);
    }
    assert_int_equal(open_fds(), before);
    ipc_free(from.ch);
    ipc_free(to.ch);
}

static void test_role_check_on_send(void **state)
{
    struct fixture *f = *state;
    struct end s;
    struct lease lease = {1, 2};
    int before;

    end_new(&s, f->loop, f->fds[0], ROLE_SMTP, ROLE_QUEUE);
    before = open_fds();
    assert_int_equal(ipc_send(s.ch, MSG_LEASE, &lease, file_with_f()), ERR_BUG);
    assert_int_equal(open_fds(), before); /* the fd is taken in every case */
    ipc_free(s.ch);
    (void)close(f->fds[1]);
}

static void test_too_large(void **state)
{
    struct fixture *f = *state;
    struct end s;
    struct sv big = filled(KIB(64) + 1);
    struct stats st = {.text = big};

    end_new(&s, f->loop, f->fds[0], ROLE_SMTP, ROLE_QUEUE);
    assert_int_equal(ipc_send(s.ch, MSG_STATS, &st, -1), ERR_LIMIT);
    ipc_free(s.ch);
    (void)close(f->fds[1]);
    free((void *)(uintptr_t)big.p);
}

/* Raw packets from a hostile smtp process to queue: each closes the channel, none does more. */
struct hostile {
    const char *name;
    const char *bytes;
    size_t n;
    int fds;        /* extra fds to pass */
    int memfd_size; /* > 0: first fd is a memfd of this size */
    bool memfd_sealed;
    const char *why; /* must occur in the reason */
};

static int hostile_memfd(const struct hostile *h)
{
    struct sv v = filled((size_t)h->memfd_size);
    int fd = -1;

    memset((void *)(uintptr_t)v.p, MSG_STATS, 1);
    if (h->memfd_sealed) {
        assert_int_equal(memfd_of(v, &fd), ERR_OK);
    } else {
        fd = memfd_create("bad", MFD_CLOEXEC);
        assert_int_equal(write(fd, v.p, v.n), (ssize_t)v.n);
    }
    free((void *)(uintptr_t)v.p);
    return fd;
}

static void send_raw(int sock, const struct hostile *h)
{
    char control[CMSG_SPACE(sizeof(int) * 8)] __attribute__((aligned(8))) = {0};
    struct iovec iov = {(void *)(uintptr_t)h->bytes, h->n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    int fds[8];
    int n = 0;

    if (h->memfd_size)
        fds[n++] = hostile_memfd(h);
    for (int i = 0; i < h->fds; i++)
        fds[n++] = file_with_f();
    if (n) {
        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)n);
        struct cmsghdr *c = (struct cmsghdr *)(void *)control;
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)n);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)n);
    }
    assert_int_equal(sendmsg(sock, &msg, 0), (ssize_t)h->n);
    for (int i = 0; i < n; i++)
        (void)close(fds[i]);
}

#define B(lit)      (lit), sizeof(lit) - 1
#define SIZE_200000 "\x40\x0d\x03\x00"

/* Kinds are written as numbers where the enum has them: 14 bytes of frame never decode by luck. */
static const struct hostile hostile_cases[] = {
    {"unknown kind", B("\xff\x01\x02"), 0, 0, false, "garbage"},
    {"kind without body", B("\x14"), 0, 0, false, "garbage"},
    {"string longer than packet", B("\x14\xff\xff\xff\x7f"), 0, 0, false, "garbage"},
    {"trailing bytes", B("\x14\x01\x00\x00\x00xyz"), 0, 0, false, "garbage"},
    {"escape without memfd", B("\x00" SIZE_200000), 0, 0, false, "garbage"},
    {"escape too short", B("\x00\x40"), 0, 200000, true, "garbage"},
    {"memfd not sealed", B("\x00" SIZE_200000), 0, 200000, false, "garbage"},
    {"memfd shorter than announced", B("\x00" SIZE_200000), 0, 199999, true, "garbage"},
    {"memfd for a small frame", B("\x00\x04\x00\x00\x00"), 0, 4, true, "garbage"},
    {"announced size absurd", B("\x00\xff\xff\xff\xff"), 0, 200000, true, "garbage"},
    {"memfd frame over its limit", B("\x00" SIZE_200000), 0, 200000, true, "garbage"},
    {"two fds with a plain frame", B("\x14\x01\x00\x00\x00x"), 2, 0, false, "garbage"},
    {"five fds", B("\x14\x01\x00\x00\x00x"), 5, 0, false, "ancillary"},
};

static void test_hostile(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(MSG_STATS, 0x14);
    (void)close(f->fds[0]);
    (void)close(f->fds[1]);
    for (size_t i = 0; i < ARRAY_LEN(hostile_cases); i++) {
        const struct hostile *h = &hostile_cases[i];
        struct end q;
        int fds[2];
        int before = open_fds();

        assert_int_equal(ipc_pair(fds), ERR_OK);
        end_new(&q, f->loop, fds[1], ROLE_QUEUE, ROLE_SMTP);
        q.free_on_closed = i % 2; /* harmless there */
        send_raw(fds[0], h);
        loop_run(f->loop);
        if (!strstr(q.why, h->why) || q.messages)
            fail_msg("%s: why \"%s\", %d messages", h->name, q.why, q.messages);
        (void)close(fds[0]);
        if (open_fds() != before)
            fail_msg("%s: leaks an fd", h->name);
    }
}

static void test_wrong_role(void **state)
{
    struct fixture *f = *state;
    struct end s;
    struct attempt_ack ack = {7};

    /* queue may send that; content, at the other end of this channel, may not */
    end_new(&s, f->loop, f->fds[1], ROLE_QUEUE, ROLE_CONTENT);
    assert_int_equal(ipc_send_fd(f->fds[0], MSG_ATTEMPT_ACK, &ack, file_with_f()), ERR_OK);
    loop_run(f->loop);
    assert_string_equal(s.why, "content may not send ATTEMPT_ACK");
    (void)close(f->fds[0]);
}

/* A peer that does not read: the queue fills to its limit, the channel stays, and all that was
 * taken arrives once it reads again. */
static void test_slow_peer(void **state)
{
    struct fixture *f = *state;
    struct end from, to;
    struct settings_msg msg = {.revision = 1, .tree = filled(100000)};
    int sent = 0;
    enum err err;

    end_new(&from, f->loop, f->fds[0], ROLE_STORE, ROLE_QUEUE);
    while ((err = ipc_send(from.ch, MSG_SETTINGS, &msg, -1)) == ERR_OK)
        sent++;
    assert_int_equal(err, ERR_LIMIT);
    assert_int_equal(sent, IPC_QUEUE_MAX / (100000 + 13));
    end_new(&to, f->loop, f->fds[1], ROLE_QUEUE, ROLE_STORE);
    to.stop_after = sent;
    loop_run(f->loop);
    assert_int_equal(to.messages, sent);
    assert_string_equal(from.why, "");
    ipc_free(from.ch);
    ipc_free(to.ch);
    free((void *)(uintptr_t)msg.tree.p);
}

/* What a peer said before it died is read although sending to it fails. */
static void test_last_words(void **state)
{
    struct fixture *f = *state;
    struct end q;
    struct stats st = {.text = SV("last")};
    struct attempt_ack ack = {7};

    end_new(&q, f->loop, f->fds[1], ROLE_QUEUE, ROLE_SMTP);
    assert_int_equal(ipc_send(q.ch, MSG_ATTEMPT_ACK, &ack, -1), ERR_OK);
    assert_int_equal(ipc_send_fd(f->fds[0], MSG_STATS, &st, -1), ERR_OK);
    (void)close(f->fds[0]);
    loop_run(f->loop);
    assert_string_equal(q.last, "last");
    assert_string_equal(q.why, "peer closed the channel");
}

static void test_free_in_callback(void **state)
{
    struct fixture *f = *state;
    struct end q;
    struct stats st = {.text = SV("x")};
    int before = open_fds();

    end_new(&q, f->loop, f->fds[1], ROLE_QUEUE, ROLE_SMTP);
    q.free_on_message = true;
    for (int i = 0; i < 5; i++)
        assert_int_equal(ipc_send_fd(f->fds[0], MSG_STATS, &st, file_with_f()), ERR_OK);
    loop_run(f->loop);
    assert_int_equal(q.messages, 1);
    assert_string_equal(q.why, "");
    assert_int_equal(open_fds(), before - 1); /* fds of the packets behind are closed too */
    (void)close(f->fds[0]);
}

static void test_blocking(void **state)
{
    struct fixture *f = *state;
    struct arena a;
    enum message m;
    union message_body body;
    int fd = -1;
    struct bytes big = {.name = SV("ca-bundle"), .data = filled(400000)};
    struct stats st = {.text = SV("x")};

    arena_init(&a, 1 << 20);
    assert_int_equal(ipc_recv_fd(f->fds[1], ROLE_SMTP, ROLE_SUPERVISOR, 0, &a, &m, &body, &fd),
                     ERR_TIMEOUT);
    assert_int_equal(ipc_send_fd(f->fds[0], MSG_BYTES, &big, file_with_f()), ERR_OK);
    assert_int_equal(ipc_recv_fd(f->fds[1], ROLE_SMTP, ROLE_SUPERVISOR, 100, &a, &m, &body, &fd),
                     ERR_OK);
    assert_int_equal(m, MSG_BYTES);
    assert_int_equal(body.BYTES.data.n, 400000);
    assert_memory_equal(body.BYTES.data.p, big.data.p, 400000);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(ipc_send_fd(f->fds[0], MSG_STATS, &st, -1), ERR_OK);
    assert_int_equal(ipc_recv_fd(f->fds[1], ROLE_SMTP, ROLE_SUPERVISOR, 100, &a, &m, &body, &fd),
                     ERR_DENIED); /* the supervisor's end may send it, but not to smtp */
    assert_int_equal(write(f->fds[0], "\xff", 1), 1);
    assert_int_equal(ipc_recv_fd(f->fds[1], ROLE_SMTP, ROLE_SUPERVISOR, 100, &a, &m, &body, &fd),
                     ERR_SYNTAX);
    (void)close(f->fds[0]);
    assert_int_equal(ipc_recv_fd(f->fds[1], ROLE_SMTP, ROLE_SUPERVISOR, 100, &a, &m, &body, &fd),
                     ERR_CLOSED);
    assert_int_equal(ipc_send_fd(f->fds[1], MSG_STATS, &st, -1), ERR_CLOSED);
    (void)close(f->fds[1]);
    arena_done(&a);
    free((void *)(uintptr_t)big.data.p);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_round_trip), CASE(test_sizes),      CASE(test_role_check_on_send),
        CASE(test_too_large),  CASE(test_hostile),    CASE(test_wrong_role),
        CASE(test_slow_peer),  CASE(test_last_words), CASE(test_free_in_callback),
        CASE(test_blocking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
