/*
 * The `store` process from outside: it runs in a child on a real temporary folder; the test plays
 * the supervisor, `queue` (event files and settings) and postsealctl.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "base/enc.h"
#include "core/settings.h"
#include "role/role.h"
#include "store/eventlog.h"

#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 10000

struct bench {
    pid_t store;
    int control, queue, ctl, listener;
    char dir[64];
    struct eventlog *events;
    struct arena mem;
    union message_body msg;
    uint64_t tag;
};

/* ---- the process ---- */

static void give(int sock, enum message m, const void *body, int fd)
{
    assert_int_equal(ipc_send_fd(sock, m, body, fd), ERR_OK);
}

static void start(struct bench *b)
{
    struct hello h = {.role = ROLE_STORE,
                      .hostname = SV("gateway.test"),
                      .data_dir = sv_str(b->dir),
                      .log_level = LOG_ERROR};
    struct listener l = {SV("ctl"), SV("store.sock")};
    struct bytes end = {SV(ROLE_BYTES_END), SV("")};
    enum message m = MSG_NONE;
    int pair[2], fd;

    assert_int_equal(ipc_pair(pair), ERR_OK);
    (void)fflush(NULL);
    b->store = fork();
    assert_true(b->store >= 0);
    if (b->store == 0) {
        struct role_ctx r;
        struct errinfo info = {0};
        if (dup2(pair[1], ROLE_CONTROL_FD) < 0)
            _exit(70);
        for (fd = ROLE_CONTROL_FD + 1; fd < 256; fd++)
            (void)close(fd);
        if (role_start(&r, "store", &info))
            _exit(70);
        _exit(store_run(&r));
    }
    (void)close(pair[1]);
    b->control = pair[0];
    give(b->control, MSG_HELLO, &h, -1);
    give(b->control, MSG_LISTENER, &l, fcntl(b->listener, F_DUPFD_CLOEXEC, 3));
    give(b->control, MSG_BYTES, &end, -1);
    assert_int_equal(
        ipc_recv_fd(b->control, ROLE_SUPERVISOR, ROLE_STORE, WAIT_MS, &b->mem, &m, &b->msg, &fd),
        ERR_OK);
    assert_int_equal(m, MSG_READY);
}

static void queue_channel(struct bench *b)
{
    struct channel c = {ROLE_QUEUE, 0};
    int pair[2];

    if (b->queue >= 0)
        (void)close(b->queue);
    assert_int_equal(ipc_pair(pair), ERR_OK);
    give(b->control, MSG_CHANNEL, &c, pair[1]);
    b->queue = pair[0];
}

static void end(struct bench *b)
{
    (void)kill(b->store, SIGKILL);
    (void)waitpid(b->store, NULL, 0);
    (void)close(b->control);
    if (b->queue >= 0)
        (void)close(b->queue);
    b->queue = -1;
}

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof(*b));
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char path[128];

    (void)signal(SIGPIPE, SIG_IGN);
    arena_init(&b->mem, 256u * 1024 * 1024);
    (void)snprintf(b->dir, sizeof(b->dir), "/tmp/ps-store-test-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    (void)snprintf(path, sizeof(path), "%s/db", b->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/events", b->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(eventlog_open_writer(path, 1ull << 40, &b->events, NULL), ERR_OK);
    b->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s/store.sock", b->dir);
    assert_int_equal(bind(b->listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(b->listener, 8), 0);
    b->queue = b->ctl = -1;
    start(b);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    char command[128];

    end(b);
    if (b->ctl >= 0)
        (void)close(b->ctl);
    (void)close(b->listener);
    eventlog_close(b->events);
    (void)snprintf(command, sizeof(command), "rm -rf %s", b->dir);
    (void)!system(command);
    arena_done(&b->mem);
    free(b);
    return 0;
}

/* ---- talking ---- */

static const union message_body *expect(struct bench *b, enum message m)
{
    enum message got = MSG_NONE;
    enum err err = ERR_OK;
    int fd = -1;

    do { /* acknowledgements of what the queue told are passed over */
        arena_reset(&b->mem);
        err = ipc_recv_fd(b->queue, ROLE_QUEUE, ROLE_STORE, WAIT_MS, &b->mem, &got, &b->msg, &fd);
    } while (!err && got == MSG_SETTINGS_ACK && m != got);
    if (err || got != m)
        fail_msg("%s (%s) instead of %s", message_name(got), err_name(err), message_name(m));
    return &b->msg;
}

static void ask(struct bench *b, const char *verb, json_t *args)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char *text = json_dumps(args, 0);
    struct ctl_req r = {
        .tag = ++b->tag, .verb = sv_str(verb), .args = sv_str(text), .user = SV("ann")};

    if (b->ctl < 0) {
        b->ctl = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s/store.sock", b->dir);
        assert_int_equal(connect(b->ctl, (struct sockaddr *)&a, sizeof(a)), 0);
    }
    give(b->ctl, MSG_CTL_REQ, &r, -1);
    free(text);
    json_decref(args);
}

/* All answers as one array. */
static json_t *answers(struct bench *b, uint8_t *out_exit)
{
    json_t *all = json_array();

    for (;;) {
        enum message m = MSG_NONE;
        int fd = -1;
        arena_reset(&b->mem);
        assert_int_equal(
            ipc_recv_fd(b->ctl, ROLE_CTL, ROLE_STORE, WAIT_MS, &b->mem, &m, &b->msg, &fd), ERR_OK);
        assert_int_equal(m, MSG_CTL_REPLY);
        const struct ctl_reply *r = &b->msg.CTL_REPLY;
        assert_int_equal(r->tag, b->tag);
        json_t *v = json_loadb(r->json.p, r->json.n, 0, NULL);
        assert_non_null(v);
        (void)json_array_append_new(all, v);
        *out_exit = r->exit;
        if (!r->more)
            return all;
    }
}

static json_t *answer(struct bench *b, uint8_t *out_exit)
{
    json_t *all = answers(b, out_exit);
    json_t *last = json_incref(json_array_get(all, json_array_size(all) - 1));

    json_decref(all);
    return last;
}

static void tree_of(struct buf *out, uint32_t minutes)
{
    char text[64];
    struct tree_file f = {SV("delivery.conf"), SV("")};

    (void)snprintf(text, sizeof(text), "retry_interval_min = %u\n", minutes);
    f.text = sv_str(text);
    buf_init(out, SETTINGS_TREE_MAX);
    assert_int_equal(tree_join(&f, 1, out), ERR_OK);
}

static void apply(struct bench *b, uint32_t minutes, uint8_t expected)
{
    struct buf tree;
    uint8_t exit = 99;

    tree_of(&tree, minutes);
    ask(b, "settings.apply", json_pack("{s:s%}", "tree", tree.p, tree.n));
    json_decref(answer(b, &exit));
    assert_int_equal(exit, expected);
    buf_done(&tree);
}

/* The queue's side of a deploy: takes the revision, answers. */
static uint64_t take(struct bench *b, const char *error)
{
    const struct settings_msg *m = &expect(b, MSG_SETTINGS)->SETTINGS;
    struct settings_ack ack = {.revision = m->revision, .error = sv_str(error)};
    static struct settings_errors errors;
    struct arena a;
    struct settings *s = NULL;

    arena_init(&a, 256u * 1024 * 1024);
    assert_int_equal(settings_compile(m->tree, m->revision, &a, &s, &errors), ERR_OK);
    arena_done(&a);
    give(b->queue, MSG_SETTINGS_ACK, &ack, -1);
    return ack.revision;
}

static void has_exit(struct bench *b, uint8_t expected)
{
    uint8_t exit = 99;
    json_t *v = answer(b, &exit);

    if (exit != expected)
        fail_msg("exit %u: %s", exit, json_dumps(v, 0));
    json_decref(v);
}

static void deploy(struct bench *b, uint64_t number)
{
    ask(b, "settings.deploy", json_pack("{s:s}", "comment", "why"));
    assert_int_equal(take(b, ""), number);
    has_exit(b, 0);
}

static uint64_t active(struct bench *b, size_t *out_n)
{
    uint8_t exit = 99;
    uint64_t number = 0;
    json_t *v, *r;
    size_t i;

    ask(b, "settings.history", json_object());
    v = answer(b, &exit);
    json_array_foreach(json_object_get(v, "revisions"), i, r)
    {
        if (json_is_true(json_object_get(r, "active"))) {
            assert_int_equal(number, 0); /* one only */
            number = (uint64_t)json_integer_value(json_object_get(r, "revision"));
        }
    }
    *out_n = i;
    json_decref(v);
    return number;
}

/* A queue that runs on the default, as at the very first start. */
static void first_queue(struct bench *b)
{
    struct settings_msg m = {.revision = 1, .tree = settings_default_tree()};

    queue_channel(b);
    give(b->queue, MSG_SETTINGS, &m, -1);
}

/* ---- settings ---- */

static void settings_go_round(void **state)
{
    struct bench *b = *state;
    uint8_t exit = 99;
    size_t n;

    first_queue(b);
    assert_int_equal(active(b, &n), 1);
    ask(b, "settings.deploy", json_object());
    has_exit(b, 66); /* no draft */
    apply(b, 0, 78); /* out of range: every error is named */
    ask(b, "settings.deploy", json_object());
    has_exit(b, 66);
    apply(b, 33, 0);
    assert_int_equal(active(b, &n), 1); /* a draft is no more than that */
    deploy(b, 2);
    assert_int_equal(active(b, &n), 2);
    ask(b, "settings.deploy", json_object());
    has_exit(b, 66); /* the draft is used up */
    apply(b, 44, 0);
    deploy(b, 3);
    ask(b, "settings.rollback", json_pack("{s:i}", "revision", 2));
    assert_int_equal(take(b, ""), 4);
    has_exit(b, 0);
    assert_int_equal(active(b, &n), 4);
    assert_int_equal(n, 4);
    ask(b, "settings.tree", json_object());
    json_t *v = answer(b, &exit);
    assert_non_null(strstr(json_string_value(json_object_get(v, "tree")), "= 33\n"));
    json_decref(v);
    ask(b, "settings.rollback", json_pack("{s:i}", "revision", 17));
    has_exit(b, 66);
    ask(b, "settings.rollback", json_object());
    has_exit(b, 64);
    ask(b, "audit.list", json_object());
    v = answers(b, &exit);
    assert_int_equal(json_array_size(v), 2 + 3 + 1); /* applies, deploys and rollback, the end */
    json_decref(v);
}

static void what_was_exported_is_applied_unchanged(void **state)
{
    struct bench *b = *state;
    uint8_t exit = 99;

    first_queue(b);
    apply(b, 33, 0);
    deploy(b, 2);
    ask(b, "settings.tree", json_object());
    json_t *one = answer(b, &exit);
    ask(b, "settings.apply", json_pack("{s:O}", "tree", json_object_get(one, "tree")));
    json_t *two = answer(b, &exit);
    assert_int_equal(exit, 0);
    assert_true(json_equal(json_object_get(one, "tree"), json_object_get(two, "tree")));
    json_decref(one);
    json_decref(two);
}

static void a_refusal_of_the_queue_is_told(void **state)
{
    struct bench *b = *state;

    first_queue(b);
    apply(b, 33, 0);
    ask(b, "settings.deploy", json_object());
    assert_int_equal(take(b, "disk"), 2);
    has_exit(b, 70);
    apply(b, 34, 0);
    deploy(b, 3); /* and the next one goes through */
}

static void deploys_do_not_mix(void **state)
{
    struct bench *b = *state;
    uint8_t exit = 99;
    int first;

    first_queue(b);
    apply(b, 33, 0);
    ask(b, "settings.deploy", json_object());
    (void)expect(b, MSG_SETTINGS);
    first = b->ctl;
    b->ctl = -1;
    apply(b, 44, 0);
    ask(b, "settings.deploy", json_object());
    has_exit(b, 75); /* under way */
    (void)close(b->ctl);
    b->ctl = first;
    b->tag = 2;
    struct settings_ack other = {.revision = 99}, ack = {.revision = 2};
    give(b->queue, MSG_SETTINGS_ACK, &other, -1); /* of something else */
    give(b->queue, MSG_SETTINGS_ACK, &ack, -1);
    json_t *v = answer(b, &exit);
    assert_int_equal(exit, 0);
    assert_int_equal(json_integer_value(json_object_get(v, "revision")), 2);
    json_decref(v);
    deploy(b, 3); /* the refused draft is still there */
}

static void a_queue_that_dies_does_not_block_deploys(void **state)
{
    struct bench *b = *state;
    struct buf tree;

    first_queue(b);
    apply(b, 33, 0);
    ask(b, "settings.deploy", json_object());
    (void)expect(b, MSG_SETTINGS);
    (void)close(b->queue);
    b->queue = -1;
    has_exit(b, 75);
    first_queue(b); /* back with what it had: it is told */
    assert_int_equal(take(b, ""), 2);
    apply(b, 44, 0);
    ask(b, "settings.deploy", json_object());
    buf_init(&tree, SETTINGS_TREE_MAX);
    assert_int_equal(buf_append_sv(&tree, expect(b, MSG_SETTINGS)->SETTINGS.tree), ERR_OK);
    queue_channel(b); /* the new channel comes before the old one is seen to end, and the new */
    struct settings_msg m = {.revision = 3, .tree = buf_sv(&tree)};
    give(b->queue, MSG_SETTINGS, &m, -1); /* queue has what was deployed */
    uint8_t exit = 99;
    json_decref(answer(b, &exit));
    assert_true(exit == 0 || exit == 75);
    apply(b, 55, 0);
    deploy(b, 4);
    buf_done(&tree);
}

static void without_a_queue_a_deploy_waits(void **state)
{
    struct bench *b = *state;
    size_t n;

    apply(b, 33, 0);
    ask(b, "settings.deploy", json_object());
    has_exit(b, 75);
    assert_int_equal(active(b, &n), 1);
    end(b);
    (void)close(b->ctl);
    b->ctl = -1;
    start(b);
    assert_int_equal(active(b, &n), 1);
}

static void the_newer_side_teaches(void **state)
{
    struct bench *b = *state;
    struct settings_msg m = {.revision = 9};
    struct buf tree;
    size_t n;

    tree_of(&tree, 33);
    m.tree = buf_sv(&tree);
    queue_channel(b);
    give(b->queue, MSG_SETTINGS, &m, -1); /* the database was lost */
    assert_int_equal(active(b, &n), 9);
    apply(b, 44, 0);
    deploy(b, 10); /* numbers ascend */
    queue_channel(b);
    give(b->queue, MSG_SETTINGS, &m, -1); /* the snapshot on disk is an older one */
    assert_int_equal(take(b, ""), 10);
    buf_done(&tree);
}

/* ---- tracking ---- */

static void add_events(struct bench *b, uint32_t n, uint64_t id)
{
    struct event e = {
        .kind = EVENT_RECEIVED, .id = id, .sender = SV("ann@x"), .detail = SV("{\"a\":1}")};

    for (uint32_t i = 0; i < n; i++) {
        eventlog_add(b->events, &e);
        e.kind = EVENT_ATTEMPT;
        e.detail = SV("cut {");
    }
    struct events_at at = {eventlog_flush(b->events)};
    if (b->queue >= 0)
        give(b->queue, MSG_EVENTS_AT, &at, -1);
}

static size_t traced(struct bench *b, uint64_t id)
{
    char text[ID_TEXT_LEN + 1];
    uint8_t exit = 99;

    id_format(id, text);
    ask(b, "message.trace", json_pack("{s:s}", "id", text));
    json_t *all = answers(b, &exit);
    size_t n = json_array_size(all);
    json_decref(all);
    return exit ? 0 : n - 1;
}

static void events_are_stored_once_and_acknowledged(void **state)
{
    struct bench *b = *state;
    uint64_t at = 0;

    queue_channel(b);
    add_events(b, 1500, 7);
    while (at < 1500)
        at = expect(b, MSG_EVENTS_AT)->EVENTS_AT.seq;
    assert_int_equal(at, 1500);
    assert_int_equal(traced(b, 7), 1500);
    end(b);
    add_events(b, 10, 8); /* while it is away */
    (void)close(b->ctl);
    b->ctl = -1;
    start(b);
    queue_channel(b);
    assert_true(expect(b, MSG_EVENTS_AT)->EVENTS_AT.seq >= 1500);
    for (int i = 0; i < 200 && traced(b, 8) < 10; i++)
        (void)poll(NULL, 0, 20);
    assert_int_equal(traced(b, 8), 10);
    assert_int_equal(traced(b, 7), 1500);
    assert_int_equal(traced(b, 9), 0);
}

static void nonsense_is_answered(void **state)
{
    static const struct {
        const char *verb, *args;
        uint8_t exit;
    } rows[] = {{"no.such", "{}", 64},
                {"settings.none", "{}", 64},
                {"message.trace", "{}", 64},
                {"message.trace", "{\"id\":\"x\"}", 64},
                {"settings.apply", "{}", 78},
                {"settings.apply", "{\"tree\":7}", 78},
                {"message.find", "{\"limit\":-5,\"text\":3}", 0},
                {"settings.tree", "{}", 66},
                {"settings.tree", "{\"revision\":-1}", 66}};
    struct bench *b = *state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        ask(b, rows[i].verb, json_loads(rows[i].args, 0, NULL));
        uint8_t exit = 99;
        json_decref(answer(b, &exit));
        if (exit != rows[i].exit && !(exit == 0 && strcmp(rows[i].verb, "settings.apply") == 0))
            fail_msg("%s %s: %u", rows[i].verb, rows[i].args, exit);
    }
    struct ctl_req r = {.tag = ++b->tag, .verb = SV("audit.list"), .args = SV("[1")};
    give(b->ctl, MSG_CTL_REQ, &r, -1);
    has_exit(b, 65);
    (void)!write(b->ctl, "\x01garbage", 8);
    (void)close(b->ctl);
    b->ctl = -1;
    size_t n;
    (void)active(b, &n);
}

int main(int argc, char **argv)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(settings_go_round),
        T(what_was_exported_is_applied_unchanged),
        T(a_refusal_of_the_queue_is_told),
        T(deploys_do_not_mix),
        T(a_queue_that_dies_does_not_block_deploys),
        T(without_a_queue_a_deploy_waits),
        T(the_newer_side_teaches),
        T(events_are_stored_once_and_acknowledged),
        T(nonsense_is_answered),
    };

    if (argc > 1) /* one of them, by name */
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
