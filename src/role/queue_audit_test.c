/* Promises of `queue` under failure: nothing acknowledged is lost or stuck, a mark once given
 * stays. See queue_harness.h. */
#include "role/queue_harness.h"

#include "base/clock.h"
#include "store/spoolio.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int setup(void **state)
{
    (void)signal(SIGXFSZ, SIG_IGN); /* inherited: a write beyond the limit fails with EFBIG */
    struct qb *b = qb_new();

    qb_up(b);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    qb_free(*state);
    return 0;
}

static const struct qb_mail out1 = {.rcpts = {"bob@outside.test"}};

static const struct delivery *deliver(struct qb *b)
{
    return &qb_expect(b, QB_SMTP, MSG_DELIVER)->DELIVER;
}

/* Another revision, by which nothing is marked. */
static void lax_tree(struct buf *out)
{
    buf_init(out, 1024 * 1024);
    qb_settings_tree(out, NULL);
    size_t at = sv_find(buf_sv(out), SV("action = encrypt\n"));
    assert_true(at != SIZE_MAX);
    memcpy(out->p + at, "action = permit \n", 17);
}

static void deploy_while_down(struct qb *b)
{
    char path[128];
    struct buf tree;

    lax_tree(&tree);
    (void)snprintf(path, sizeof(path), "%s/settings/current", b->dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fprintf(f, "revision 6\n") > 0);
    assert_int_equal(fwrite(tree.p, 1, tree.n, f), tree.n);
    assert_int_equal(fclose(f), 0);
    buf_done(&tree);
}

static void deploy(struct qb *b)
{
    struct buf tree;
    struct settings_msg s = {.revision = 6};

    lax_tree(&tree);
    s.tree = buf_sv(&tree);
    qb_send(b, QB_STORE, MSG_SETTINGS, &s, -1);
    assert_int_equal(qb_expect(b, QB_STORE, MSG_SETTINGS_ACK)->SETTINGS_ACK.error.n, 0);
    buf_done(&tree);
}

/* From now on the disk takes no byte of the queue's, or all again. */
static void disk(const struct qb *b, bool works)
{
    struct rlimit l = {works ? RLIM_INFINITY : 0, RLIM_INFINITY};

    assert_int_equal(prlimit(b->queue, RLIMIT_FSIZE, &l, NULL), 0);
}

static void shows_soon(struct qb *b, uint64_t id, const char *member, const char *value)
{
    char text[256];

    for (int i = 0; i < 500; i++) {
        qb_show(b, id, member, text);
        if (strcmp(text, value) == 0)
            return;
        (void)poll(NULL, 0, 20);
    }
    fail_msg("%s is \"%s\", not \"%s\"", member, text, value);
}

/* Waits until mail is accepted again. */
static void accepting(struct qb *b)
{
    for (int i = 0; i < 300; i++) {
        uint8_t exit = 0;
        json_t *all = qb_ctl(b, "status", "{}", &exit);
        const json_t *spool = json_object_get(json_array_get(all, 0), "spool");
        bool refusing = json_is_true(json_object_get(spool, "refusing"));
        json_decref(all);
        if (!refusing)
            return;
        (void)poll(NULL, 0, 100);
    }
    fail_msg("the spool refuses for good");
}

/* Does a delivery come within so long? Gates may open and close meanwhile. */
static bool delivery_comes(struct qb *b, int ms)
{
    int64_t until = clock_now().mono_ms + ms;

    for (int64_t left = ms; left > 0; left = until - clock_now().mono_ms) {
        enum message m = MSG_NONE;
        arena_reset(&b->mem);
        enum err err = ipc_recv_fd(b->ends[QB_SMTP], ROLE_SMTP, ROLE_QUEUE, (int)left, &b->mem, &m,
                                   &b->msg, &b->fd);
        if (!err && m == MSG_DELIVER)
            return true;
        assert_true(!err || err == ERR_TIMEOUT);
    }
    return false;
}

/* ---- the mark ---- */

static void a_mark_outlives_the_settings_that_gave_it(void **state)
{
    struct qb *b = *state;
    uint64_t id = qb_accept(b, &out1);

    qb_scan(b, 1);
    assert_true(deliver(b)->encrypt); /* no result of it is known when the queue dies */
    qb_kill(b);
    deploy_while_down(b);
    qb_up(b);
    const struct delivery *d = deliver(b);
    assert_int_equal(d->id, id);
    assert_true(d->encrypt);
    assert_int_equal(d->hop.tls.level, TLS_LEVEL_ENCRYPT);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
    assert_true(qb_silent(b, QB_CONTENT, 50)); /* decided is decided */
}

static void a_mark_of_a_copy_outlives_them_too(void **state)
{
    struct qb *b = *state;
    struct qb_mail m = {.rcpts = {"in@inside.test", "bob@outside.test"}};

    qb_drop_end(b, QB_SMTP2);
    (void)qb_accept(b, &m);
    qb_scan(b, 1);
    (void)deliver(b);
    (void)deliver(b);
    qb_kill(b);
    deploy_while_down(b);
    qb_up(b);
    qb_drop_end(b, QB_SMTP2);
    uint64_t attempts[2] = {0}, ids[2] = {0};
    uint32_t encrypted = 0;
    for (int i = 0; i < 2; i++) {
        if (i == 1)
            qb_scan(b, 1); /* the copy without a mark */
        const struct delivery *d = deliver(b);
        attempts[i] = d->attempt;
        ids[i] = d->id;
        encrypted += d->encrypt;
        assert_true(d->encrypt == sv_eq(d->rcpts[0].addr, SV("bob@outside.test")));
    }
    assert_int_equal(encrypted, 1);
    for (int i = 0; i < 2; i++) {
        qb_done_raw(b, attempts[i], ids[i], 1, QB_DELIVERED);
        (void)qb_expect(b, QB_SMTP, MSG_ATTEMPT_ACK);
    }
    qb_new_end(b, QB_SMTP2);
    qb_empty(b);
}

/* The result of an attempt of the former queue comes to one that has other settings. */
static void a_report_after_a_restart_is_sealed(void **state)
{
    struct qb *b = *state;
    uint64_t id = qb_accept(b, &out1);

    qb_scan(b, 1);
    uint64_t attempt = deliver(b)->attempt;
    qb_kill(b);
    deploy_while_down(b);
    qb_up(b);
    qb_done_raw(b, attempt, id, 1, QB_FAILED);
    for (;;) { /* it may have been given out again before */
        arena_reset(&b->mem);
        enum message m = MSG_NONE;
        assert_int_equal(ipc_recv_fd(b->ends[QB_SMTP], ROLE_SMTP, ROLE_QUEUE, QB_WAIT_MS, &b->mem,
                                     &m, &b->msg, &b->fd),
                         ERR_OK);
        if (m == MSG_DELIVER) {
            assert_true(b->msg.DELIVER.encrypt);
            qb_done_raw(b, b->msg.DELIVER.attempt, id, 1, QB_FAILED);
        } else if (m == MSG_ATTEMPT_ACK) {
            break;
        }
    }
    (void)qb_job(b, JOB_DSN);
    assert_true(b->msg.JOB.sealed);
}

static void attempts_are_never_numbered_alike(void **state)
{
    struct qb *b = *state;

    (void)qb_accept(b, &out1);
    qb_scan(b, 0);
    uint64_t attempt = deliver(b)->attempt;
    qb_kill(b);
    qb_up(b);
    qb_scan(b, 0);
    assert_true(deliver(b)->attempt > attempt);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

static void what_was_not_read_is_not_sent_back(void **state)
{
    struct qb *b = *state;

    deploy(b);
    uint64_t id = qb_accept(b, &out1);
    struct job_done done = {.job = qb_job(b, JOB_SCAN), .facts = {.scan = SCAN_FAILED}};
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
    shows_soon(b, id, "queue", "exception");
    assert_int_equal(qb_matched(b, "queue.bounce", "{\"queue\":\"exception\"}"), 1);
    (void)qb_job(b, JOB_DSN);
    assert_true(b->msg.JOB.sealed);
    (void)poll(NULL, 0, 200);
    qb_kill(b); /* nor after a restart */
    qb_up(b);
    (void)qb_job(b, JOB_DSN);
    assert_true(b->msg.JOB.sealed);
    struct job_done made = {.job = b->msg.JOB.job, .body = SV("Subject: r\r\n\r\nno\r\n")};
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &made, -1);
    assert_true(deliver(b)->encrypt);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

static void damage_lifts_no_mark(void **state)
{
    const struct qb_result corrupt = {RCPT_DEFERRED, 0, "4.3.0", "hash", FAILURE_CORRUPT};
    struct qb *b = *state;
    uint64_t id = qb_accept(b, &out1);

    qb_scan(b, 1);
    (void)deliver(b);
    qb_done(b, corrupt);
    shows_soon(b, id, "queue", "exception");
    assert_int_equal(qb_matched(b, "queue.release", "{\"queue\":\"exception\",\"in_clear\":true}"),
                     1);
    assert_true(deliver(b)->encrypt);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

/* ---- reports ---- */

static void a_large_report_is_sent(void **state)
{
    struct qb *b = *state;
    size_t n = 300000;
    char *body = malloc(n);

    assert_non_null(body);
    memset(body, 'x', n);
    (void)qb_accept(b, &out1);
    qb_scan(b, 0);
    (void)deliver(b);
    qb_done(b, QB_FAILED);
    struct job_done done = {.job = qb_job(b, JOB_DSN), .body = sv_of(body, n)};
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
    const struct delivery *d = deliver(b);
    assert_int_equal(d->sender.n, 0);
    assert_int_equal(d->size, n);
    assert_int_equal(d->body_key.n, 32);
    assert_true(b->fd >= 0);
    assert_int_equal(lseek(b->fd, 0, SEEK_END), (off_t)n);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
    free(body);
}

static void a_report_lost_with_its_batch_is_made_again(void **state)
{
    struct qb *b = *state;
    uint64_t id = qb_accept(b, &out1);

    qb_scan(b, 0);
    (void)deliver(b);
    qb_done(b, QB_FAILED);
    struct job_done done = {.job = qb_job(b, JOB_DSN), .body = SV("Subject: r\r\n\r\nno\r\n")};
    disk(b, false);
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
    shows_soon(b, id, "state", "report");
    (void)poll(NULL, 0, 300);
    shows_soon(b, id, "state", "report");
    disk(b, true);
    accepting(b);
    for (int i = 0; i < 20 && qb_silent(b, QB_CONTENT, 500); i++)
        (void)qb_matched(b, "queue.retry", "{\"queue\":\"delayed\"}");
    assert_int_equal(b->msg.JOB.kind, JOB_DSN);
    done.job = b->msg.JOB.job;
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
    assert_true(delivery_comes(b, QB_WAIT_MS));
    assert_int_equal(b->msg.DELIVER.sender.n, 0);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

/* ---- states ---- */

static void a_hold_that_could_not_be_recorded_holds(void **state)
{
    struct qb *b = *state;
    uint64_t id = qb_accept(b, &out1);

    qb_scan(b, 0);
    (void)deliver(b);
    qb_done(b, QB_DEFERRED);
    disk(b, false);
    assert_int_equal(qb_matched(b, "queue.hold", "{\"queue\":\"delayed\"}"), 1);
    (void)poll(NULL, 0, 300);
    shows_soon(b, id, "queue", "admin");
    disk(b, true);
    accepting(b);
    (void)poll(NULL, 0, 11000); /* it is written by itself */
    qb_kill(b);
    qb_up(b);
    shows_soon(b, id, "queue", "admin");
    assert_false(delivery_comes(b, 100));
    assert_int_equal(qb_matched(b, "queue.release", "{\"queue\":\"admin\"}"), 1);
    (void)deliver(b);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

static void nothing_is_sent_while_results_cannot_be_recorded(void **state)
{
    struct qb *b = *state;
    uint64_t id = qb_accept(b, &out1);

    qb_scan(b, 0);
    (void)deliver(b);
    qb_done(b, QB_DEFERRED);
    disk(b, false);
    for (int i = 0; i < 3; i++) { /* the first failures tell the spool that its disk is broken */
        (void)qb_matched(b, "queue.retry", "{\"queue\":\"delayed\"}");
        (void)poll(NULL, 0, 200);
    }
    while (delivery_comes(b, 100)) /* what was begun before it knew */
        ;
    (void)qb_matched(b, "queue.retry", "{\"queue\":\"delayed\"}");
    assert_false(delivery_comes(b, 1500));
    disk(b, true);
    accepting(b);
    shows_soon(b, id, "queue", "delayed");
    assert_int_equal(qb_matched(b, "queue.count", "{}"), 1);
}

static void spoil_state(void *ctx, const struct spool_record *r)
{
    const struct qb *b = ctx;
    char path[128], byte = 0;

    if (strcmp(r->kind, "state") != 0)
        return;
    (void)snprintf(path, sizeof(path), "%s/spool/%s", b->dir, r->segment);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    off_t at = (off_t)(r->offset + r->length / 2 + 40);
    assert_true(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    (void)close(fd);
}

static void spoil_states(struct qb *b)
{
    struct spool_fs *fs = NULL;
    struct spool_io io;
    struct errinfo info;
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/spool", b->dir);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(spool_fs_new(dir, NULL, NULL, &fs, &io, &info), ERR_OK);
    assert_int_equal(spool_scan(&io, NULL, spoil_state, b, &info), ERR_OK);
    spool_fs_free(fs);
    (void)close(dir);
}

/* Held by an administrator, written to a checkpoint, damaged: nobody may take it for new mail. */
static void a_damaged_state_is_no_fresh_start(void **state)
{
    struct qb *b = *state;
    uint64_t id = qb_accept(b, &out1);

    qb_scan(b, 1);
    (void)deliver(b);
    qb_done(b, QB_DEFERRED);
    qb_stop(b); /* with a checkpoint, which knows where the state is */
    spoil_states(b);
    for (int i = 0; i < 2; i++) {
        qb_up(b);
        shows_soon(b, id, "queue", "exception");
        assert_true(qb_silent(b, QB_SMTP, 100));
        assert_true(qb_silent(b, QB_CONTENT, 50));
        (void)poll(NULL, 0, 200);
        qb_kill(b);
    }
    qb_up(b);
    assert_int_equal(qb_matched(b, "queue.release", "{\"queue\":\"exception\"}"), 1);
    qb_scan(b, 1); /* decided anew, at an administrator's word */
    assert_true(deliver(b)->encrypt);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

/* ---- routes ---- */

static void postmaster_without_a_domain_is_ours(void **state)
{
    struct qb *b = *state;
    struct qb_mail m = {.rcpts = {"Postmaster"}};

    (void)qb_accept(b, &m);
    qb_scan(b, 0);
    const struct delivery *d = deliver(b);
    assert_true(sv_eq(d->hop.domain, SV(QB_HOST)));
    assert_true(sv_eq(d->rcpts[0].addr, SV("Postmaster")));
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_mark_outlives_the_settings_that_gave_it),
        T(a_mark_of_a_copy_outlives_them_too),
        T(a_report_after_a_restart_is_sealed),
        T(attempts_are_never_numbered_alike),
        T(what_was_not_read_is_not_sent_back),
        T(damage_lifts_no_mark),
        T(a_large_report_is_sent),
        T(a_report_lost_with_its_batch_is_made_again),
        T(a_hold_that_could_not_be_recorded_holds),
        T(nothing_is_sent_while_results_cannot_be_recorded),
        T(a_damaged_state_is_no_fresh_start),
        T(postmaster_without_a_domain_is_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
