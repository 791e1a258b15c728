/* The `queue` process from outside: see queue_harness.h. */
#include "role/queue_harness.h"

#include "base/enc.h"
#include "base/rng.h"
#include "crypto/cert.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int setup(void **state)
{
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

static uint64_t scanned(struct qb *b, const struct qb_mail *m, uint32_t cards)
{
    uint64_t id = qb_accept(b, m);

    qb_scan(b, cards);
    return id;
}

static void restart(struct qb *b)
{
    qb_kill(b);
    qb_up(b);
}

static void shows(struct qb *b, uint64_t id, const char *member, const char *value)
{
    char text[256];

    qb_show(b, id, member, text);
    if (strcmp(text, value) != 0)
        fail_msg("%s is \"%s\", not \"%s\"", member, text, value);
}

/* ---- the straight way ---- */

static void from_commit_to_delivery(void **state)
{
    struct qb *b = *state;
    uint64_t id = qb_accept(b, &out1);
    const struct job *j;

    (void)qb_job(b, JOB_SCAN);
    j = &b->msg.JOB;
    assert_int_equal(j->id, id);
    assert_int_equal(j->revision, 5);
    assert_true(sv_eq(j->body, SV("Subject: test\r\n\r\nhello\r\n")));
    struct job_done done = {.job = j->job, .facts = {.scan = SCAN_OK}};
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
    const struct delivery *d = deliver(b);
    assert_int_equal(d->id, id);
    assert_false(d->encrypt);
    assert_true(sv_eq(d->hop.domain, SV("outside.test")));
    assert_int_equal(d->hop.n_hosts, 0);
    assert_int_equal(d->hop.tls.level, TLS_LEVEL_OPPORTUNISTIC);
    assert_true(sv_eq(d->body, SV("Subject: test\r\n\r\nhello\r\n")));
    assert_true(sv_eq(d->helo, SV(QB_HOST)));
    assert_int_equal(d->n_rcpts, 1);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

static void a_card_demands_tls(void **state)
{
    struct qb *b = *state;

    (void)scanned(b, &out1, 1);
    const struct delivery *d = deliver(b);
    assert_true(d->encrypt);
    assert_int_equal(d->hop.tls.level, TLS_LEVEL_ENCRYPT);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

static void many_in_flight(void **state)
{
    struct qb *b = *state;
    uint64_t seen = 0;

    for (int i = 0; i < 200; i++)
        (void)qb_receive(b, &out1);
    for (int i = 0; i < 200; i++)
        assert_int_equal(qb_expect(b, QB_SMTP, MSG_COMMITTED)->COMMITTED.code, 250);
    /* two smtp workers share the deliveries; only the first answers here */
    qb_drop_end(b, QB_SMTP2);
    for (int i = 0; i < 200; i++)
        qb_scan(b, 0);
    while (seen < 200) {
        enum message m = MSG_NONE;
        arena_reset(&b->mem);
        assert_int_equal(ipc_recv_fd(b->ends[QB_SMTP], ROLE_SMTP, ROLE_QUEUE, QB_WAIT_MS, &b->mem,
                                     &m, &b->msg, &b->fd),
                         ERR_OK);
        if (m == MSG_DELIVER)
            qb_done_raw(b, b->msg.DELIVER.attempt, b->msg.DELIVER.id, 1, QB_DELIVERED);
        else if (m == MSG_ATTEMPT_ACK)
            seen++;
    }
    qb_new_end(b, QB_SMTP2);
    qb_empty(b);
}

/* ---- retries and restarts ---- */

static double minutes_until(struct qb *b, uint64_t id)
{
    char text[256];
    struct tm tm = {0};

    qb_show(b, id, "next", text);
    assert_non_null(strptime(text, "%Y-%m-%dT%H:%M:%S", &tm));
    return difftime(timegm(&tm), time(NULL)) / 60;
}

static void defer_survives_a_restart_with_its_mark(void **state)
{
    struct qb *b = *state;
    uint64_t id = scanned(b, &out1, 1);

    (void)deliver(b);
    qb_done(b, QB_DEFERRED);
    for (int i = 0; i < 2; i++) {
        shows(b, id, "queue", "delayed");
        shows(b, id, "encrypt", "true");
        shows(b, id, "attempts", "1");
        shows(b, id, "reason", "come back");
        assert_true(minutes_until(b, id) > 13.9 && minutes_until(b, id) < 15.1);
        restart(b);
    }
    assert_true(qb_silent(b, QB_SMTP, 300));
    assert_int_equal(qb_matched(b, "queue.retry", "{\"queue\":\"delayed\"}"), 1);
    assert_true(deliver(b)->encrypt);
    assert_true(qb_silent(b, QB_CONTENT, 50)); /* decided is decided */
    qb_done(b, QB_DEFERRED);
    shows(b, id, "attempts", "2");
    assert_true(minutes_until(b, id) > 28.9 && minutes_until(b, id) < 30.1);
    assert_int_equal(qb_matched(b, "queue.drop", "{\"queue\":\"delayed\"}"), 1);
    qb_empty(b);
    restart(b);
    qb_empty(b);
}

static void an_undecided_message_is_scanned_after_a_restart(void **state)
{
    struct qb *b = *state;
    uint64_t id = qb_accept(b, &out1);

    restart(b);
    (void)qb_job(b, JOB_SCAN);
    assert_int_equal(b->msg.JOB.id, id);
    struct job_done done = {.job = b->msg.JOB.job, .facts = {.scan = SCAN_OK}};
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
    (void)deliver(b);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

/* A worker that was not told that its result is durable tells it again to the next queue. */
static void a_replayed_result_is_applied_once(void **state)
{
    struct qb *b = *state;
    uint64_t id = scanned(b, &out1, 0);
    uint64_t attempt = deliver(b)->attempt;

    qb_done(b, QB_DEFERRED);
    restart(b);
    qb_done_raw(b, attempt, id, 1, QB_DELIVERED); /* the queue before us was told "deferred" */
    assert_int_equal(qb_expect(b, QB_SMTP, MSG_ATTEMPT_ACK)->ATTEMPT_ACK.attempt, attempt);
    qb_empty(b);
    qb_done_raw(b, attempt, id, 1, QB_DELIVERED);
    assert_int_equal(qb_expect(b, QB_SMTP, MSG_ATTEMPT_ACK)->ATTEMPT_ACK.attempt, attempt);
    qb_alive(b);
    restart(b);
    qb_empty(b);
}

static void an_old_message_waits_for_what_workers_know(void **state)
{
    struct qb *b = *state;
    uint64_t id = scanned(b, &out1, 0);
    uint64_t attempt = deliver(b)->attempt;

    qb_done(b, QB_DEFERRED);
    assert_int_equal(qb_matched(b, "queue.retry", "{\"queue\":\"delayed\"}"), 1);
    attempt = deliver(b)->attempt; /* in flight when the queue dies */
    restart(b);
    qb_done_raw(b, attempt, id, 1, QB_DELIVERED);
    assert_int_equal(qb_expect(b, QB_SMTP, MSG_ATTEMPT_ACK)->ATTEMPT_ACK.attempt, attempt);
    qb_empty(b);
    assert_true(qb_silent(b, QB_SMTP, 100)); /* never sent again */
}

static void a_dead_worker_s_attempt_is_made_again(void **state)
{
    struct qb *b = *state;
    uint64_t id = scanned(b, &out1, 1);

    assert_int_equal(deliver(b)->id, id);
    qb_drop_end(b, QB_SMTP);
    const struct delivery *d = &qb_expect(b, QB_SMTP2, MSG_DELIVER)->DELIVER;
    assert_int_equal(d->id, id);
    assert_true(d->encrypt);
    qb_drop_end(b, QB_SMTP2);
    qb_new_end(b, QB_SMTP);
    qb_new_end(b, QB_SMTP2);
    assert_int_equal(deliver(b)->id, id);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

/* ---- reports ---- */

static void a_failure_is_reported(void **state)
{
    struct qb *b = *state;
    uint64_t id = scanned(b, &out1, 0);

    (void)deliver(b);
    qb_done(b, QB_FAILED);
    (void)qb_job(b, JOB_DSN);
    const struct job *j = &b->msg.JOB;
    assert_int_equal(j->id, id);
    assert_false(j->sealed);
    assert_int_equal(j->n_dsn_rcpts, 1);
    assert_true(sv_eq(j->dsn_rcpts[0].status, SV("5.1.1")));
    assert_true(sv_eq(j->dsn_rcpts[0].diagnostic, SV("nobody of that name")));
    assert_true(sv_eq(j->reporting_mta, SV(QB_HOST)));
    assert_true(sv_eq(j->to, SV("ann@inside.test")));
    struct job_done done = {.job = j->job, .body = SV("Subject: report\r\n\r\nno\r\n")};
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
    const struct delivery *d = deliver(b);
    assert_int_not_equal(d->id, id);
    assert_int_equal(d->sender.n, 0);
    assert_true(sv_eq(d->rcpts[0].addr, SV("ann@inside.test")));
    assert_int_equal(d->hop.tls.level, TLS_LEVEL_OPPORTUNISTIC);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

static void a_report_about_encrypted_mail_is_sealed(void **state)
{
    struct qb *b = *state;

    (void)scanned(b, &out1, 1);
    (void)deliver(b);
    qb_done(b, QB_FAILED);
    (void)qb_job(b, JOB_DSN);
    assert_true(b->msg.JOB.sealed);
    struct job_done done = {.job = b->msg.JOB.job, .body = SV("Subject: report\r\n\r\nno\r\n")};
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
    const struct delivery *d = deliver(b);
    uint64_t report = d->id;
    assert_true(d->encrypt);
    assert_int_equal(d->hop.tls.level, TLS_LEVEL_ENCRYPT);
    qb_done(b, QB_DEFERRED);
    restart(b);
    shows(b, report, "encrypt", "true");
    assert_int_equal(qb_matched(b, "queue.retry", "{\"queue\":\"delayed\"}"), 1);
    assert_true(deliver(b)->encrypt);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

static void a_report_is_made_after_a_restart(void **state)
{
    struct qb *b = *state;
    uint64_t id = scanned(b, &out1, 0);

    (void)deliver(b);
    qb_done(b, QB_FAILED);
    (void)qb_job(b, JOB_DSN);
    restart(b); /* the worker was about to build it */
    shows(b, id, "state", "report");
    qb_report(b);
    assert_int_equal(deliver(b)->sender.n, 0);
    restart(b); /* now it is durable: exactly one */
    assert_int_equal(deliver(b)->sender.n, 0);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

static void a_report_that_cannot_be_built_is_bare(void **state)
{
    struct qb *b = *state;

    (void)scanned(b, &out1, 0);
    (void)deliver(b);
    qb_done(b, QB_FAILED);
    struct job_done no = {.job = qb_job(b, JOB_DSN), .error = SV("no")};
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &no, -1);
    (void)qb_job(b, JOB_DSN);
    qb_drop_end(b, QB_CONTENT); /* the second time it dies */
    const struct delivery *d = deliver(b);
    assert_true(sv_eq(d->rcpts[0].addr, SV("ann@inside.test")));
    assert_true(sv_find(d->body, SV("nobody of that name")) != SIZE_MAX);
    assert_true(sv_find(d->body, SV("\r\nMessage-ID: <")) != SIZE_MAX);
    assert_true(sv_find(d->body, SV("hello")) == SIZE_MAX);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
    qb_new_end(b, QB_CONTENT);
}

static void an_undeliverable_report_becomes_a_notice(void **state)
{
    struct qb *b = *state;

    (void)scanned(b, &out1, 0);
    (void)deliver(b);
    qb_done(b, QB_FAILED);
    qb_report(b);
    (void)deliver(b);
    qb_done(b, QB_FAILED);
    (void)qb_job(b, JOB_NOTICE);
    assert_true(sv_eq(b->msg.JOB.to, SV("postmaster@" QB_HOST)));
    struct job_done done = {.job = b->msg.JOB.job, .body = SV("Subject: notice\r\n\r\nno\r\n")};
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
    assert_true(sv_eq(deliver(b)->rcpts[0].addr, SV("postmaster@" QB_HOST)));
    qb_done(b, QB_FAILED); /* and that is the end of it */
    qb_empty(b);
}

static void the_null_sender_is_told_nothing(void **state)
{
    struct qb *b = *state;
    struct qb_mail m = out1;

    m.sender = "";
    (void)scanned(b, &m, 0);
    (void)deliver(b);
    qb_done(b, QB_FAILED);
    qb_empty(b);
    assert_true(qb_silent(b, QB_CONTENT, 50));
}

/* ---- copies ---- */

/* Two deliveries over the first worker, answered when both have come. */
static void deliver_two(struct qb *b, uint64_t ids[2])
{
    uint64_t attempts[2];

    for (int i = 0; i < 2; i++) {
        attempts[i] = deliver(b)->attempt;
        ids[i] = b->msg.DELIVER.id;
        assert_true(b->msg.DELIVER.body.n || b->fd >= 0);
    }
    for (int i = 0; i < 2; i++)
        qb_done_raw(b, attempts[i], ids[i], 2, QB_DELIVERED);
    for (int i = 0; i < 2; i++)
        (void)qb_expect(b, QB_SMTP, MSG_ATTEMPT_ACK);
}

static void recipients_with_other_plans_get_copies(void **state)
{
    struct qb *b = *state;
    struct qb_mail m = {.rcpts = {"in@inside.test", "bob@outside.test", "eve@outside.test"}};
    uint64_t parent = scanned(b, &m, 1);
    uint32_t rcpts = 0, encrypted = 0;
    uint64_t ids[2];

    for (int i = 0; i < 2; i++) { /* one for each worker */
        const struct delivery *d = &qb_expect(b, i ? QB_SMTP2 : QB_SMTP, MSG_DELIVER)->DELIVER;
        assert_int_not_equal(d->id, parent);
        rcpts += d->n_rcpts;
        if (d->encrypt) {
            encrypted++;
            assert_int_equal(d->n_rcpts, 2);
            assert_true(sv_eq(d->hop.domain, SV("outside.test")));
        }
        ids[i] = d->id;
    }
    assert_int_equal(rcpts, 3);
    assert_int_equal(encrypted, 1);
    assert_int_equal(qb_matched(b, "queue.count", "{}"), 2);
    restart(b); /* the copies live, the parent does not */
    assert_int_equal(qb_matched(b, "queue.count", "{}"), 2);
    for (int i = 0; i < 2; i++) {
        char text[256], id[ID_TEXT_LEN + 1];
        qb_show(b, ids[i], "parent", text);
        id_format(parent, id);
        assert_string_equal(text, id);
    }
    qb_drop_end(b, QB_SMTP2);
    qb_scan(b, 1); /* the other one's mark is recorded */
    deliver_two(b, ids);
    qb_empty(b);
}

/* ---- content workers ---- */

static void a_message_that_ends_two_workers_is_held(void **state)
{
    struct qb *b = *state;
    uint64_t bad = qb_accept(b, &out1);
    uint64_t good = qb_accept(b, &out1);

    (void)qb_job(b, JOB_SCAN);
    assert_int_equal(b->msg.JOB.id, bad);
    (void)qb_job(b, JOB_SCAN);
    qb_drop_end(b, QB_CONTENT);
    qb_new_end(b, QB_CONTENT);
    uint64_t first = (qb_job(b, JOB_SCAN), b->msg.JOB.id); /* the innocent one is not blamed */
    uint64_t job = b->msg.JOB.job;
    if (first == good) {
        struct job_done done = {.job = job, .facts = {.scan = SCAN_OK}};
        qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
        (void)qb_job(b, JOB_SCAN);
    }
    qb_drop_end(b, QB_CONTENT);
    qb_new_end(b, QB_CONTENT);
    if (first != good)
        qb_scan(b, 0);
    assert_int_equal(deliver(b)->id, good);
    qb_done(b, QB_DELIVERED);
    for (int i = 0; i < 2; i++) {
        shows(b, bad, "queue", "exception");
        restart(b);
    }
    assert_true(qb_silent(b, QB_CONTENT, 50));
    assert_int_equal(qb_matched(b, "queue.release", "{\"queue\":\"exception\"}"), 1);
    assert_true(deliver(b)->encrypt); /* never scanned: never in clear */
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

static void a_scan_that_failed_is_never_clean(void **state)
{
    static const enum scan_state states[] = {SCAN_FAILED, SCAN_TIMEOUT, SCAN_LIMIT, 99};
    struct qb *b = *state;

    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        uint64_t id = qb_accept(b, &out1);
        struct job_done done = {.job = qb_job(b, JOB_SCAN),
                                .facts = {.scan = (uint8_t)states[i], .scan_error = SV("x")}};
        qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
        for (int t = 0; t < 200 && qb_matched(b, "queue.count", "{\"queue\":\"exception\"}") <= i;
             t++)
            (void)poll(NULL, 0, 5);
        shows(b, id, "queue", "exception");
    }
    assert_true(qb_silent(b, QB_SMTP, 50));
    assert_int_equal(qb_matched(b, "queue.bounce", "{\"queue\":\"held\"}"), 4);
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        (void)qb_job(b, JOB_DSN);
        assert_true(b->msg.JOB.sealed); /* what was not read is not sent back in clear */
        struct job_done done = {.job = b->msg.JOB.job, .body = SV("Subject: r\r\n\r\nno\r\n")};
        qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
        assert_true(deliver(b)->encrypt);
        qb_done(b, QB_DELIVERED);
    }
    qb_empty(b);
}

static void a_new_worker_scans_with_the_settings_of_now(void **state)
{
    struct qb *b = *state;
    struct buf tree;
    struct settings_msg s = {.revision = 6};

    uint64_t id = qb_accept(b, &out1);
    (void)qb_job(b, JOB_SCAN);
    assert_int_equal(b->msg.JOB.revision, 5);
    buf_init(&tree, 1024 * 1024);
    qb_settings_tree(&tree, "delivery.conf", "retry_interval_min = 3\n", NULL);
    s.tree = buf_sv(&tree);
    qb_send(b, QB_STORE, MSG_SETTINGS, &s, -1);
    const struct settings_ack *ack = &qb_expect(b, QB_STORE, MSG_SETTINGS_ACK)->SETTINGS_ACK;
    assert_int_equal(ack->revision, 6);
    assert_int_equal(ack->error.n, 0);
    qb_drop_end(b, QB_CONTENT);
    qb_new_end(b, QB_CONTENT);
    (void)qb_job(b, JOB_SCAN);
    assert_int_equal(b->msg.JOB.id, id);
    assert_int_equal(b->msg.JOB.revision, 6);
    struct job_done done = {.job = b->msg.JOB.job, .facts = {.scan = SCAN_OK}};
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
    (void)deliver(b);
    qb_done(b, QB_DELIVERED);
    buf_done(&tree);
    qb_empty(b);
}

/* ---- settings ---- */

static void bad_settings_are_refused(void **state)
{
    static const char *const texts[] = {"retry_interval_min = 0\n", "nonsense = 1\n", "\x01\x02"};
    struct qb *b = *state;
    struct buf tree;

    buf_init(&tree, 1024 * 1024);
    for (size_t i = 0; i <= ARRAY_LEN(texts); i++) {
        struct settings_msg s = {.revision = 50 + i};
        buf_reset(&tree);
        if (i < ARRAY_LEN(texts))
            qb_settings_tree(&tree, "delivery.conf", texts[i], NULL);
        else
            (void)buf_append_sv(&tree, SV("== general.conf 99\nshort"));
        s.tree = buf_sv(&tree);
        qb_send(b, QB_STORE, MSG_SETTINGS, &s, -1);
        const struct settings_ack *ack = &qb_expect(b, QB_STORE, MSG_SETTINGS_ACK)->SETTINGS_ACK;
        assert_int_equal(ack->revision, 50 + i);
        assert_true(ack->error.n > 0);
    }
    buf_done(&tree);
    uint64_t id = qb_accept(b, &out1);
    (void)qb_job(b, JOB_SCAN);
    assert_int_equal(b->msg.JOB.id, id);
    assert_true(b->msg.JOB.revision < 50);
    restart(b); /* the snapshot on disk is the good one */
    qb_scan(b, 0);
    (void)deliver(b);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
}

static void settings_go_to_every_process_and_survive(void **state)
{
    struct qb *b = *state;
    struct buf tree;
    struct settings_msg s = {.revision = 9};

    buf_init(&tree, 1024 * 1024);
    qb_settings_tree(&tree, "delivery.conf", "retry_interval_min = 60\n", NULL);
    s.tree = buf_sv(&tree);
    qb_send(b, QB_STORE, MSG_SETTINGS, &s, -1);
    assert_int_equal(qb_expect(b, QB_STORE, MSG_SETTINGS_ACK)->SETTINGS_ACK.error.n, 0);
    for (enum qb_end e = QB_SMTP; e <= QB_CONTENT; e++) {
        const struct settings_msg *got = &qb_expect(b, e, MSG_SETTINGS)->SETTINGS;
        assert_int_equal(got->revision, 9);
        assert_true(sv_eq(got->tree, s.tree));
    }
    restart(b);
    uint64_t id = scanned(b, &out1, 0);
    (void)deliver(b);
    qb_done(b, QB_DEFERRED);
    assert_true(minutes_until(b, id) > 58.9 && minutes_until(b, id) < 60.1);
    assert_int_equal(qb_matched(b, "queue.drop", "{\"queue\":\"delayed\"}"), 1);
    buf_done(&tree);
}

/* ---- hostile workers ---- */

static void refused(struct qb *b, const struct received *r)
{
    qb_send(b, QB_SMTP, MSG_RECEIVED, r, -1);
    const struct committed *c = &qb_expect(b, QB_SMTP, MSG_COMMITTED)->COMMITTED;
    assert_int_equal(c->tag, r->tag);
    assert_true(c->code >= 400);
}

static void lies_of_smtp_are_refused(void **state)
{
    struct qb *b = *state;
    uint8_t digest[32];
    struct sv body = SV("x\r\n");
    struct rcpt rcpt = {.addr = SV("bob@outside.test")};

    sha256_once(body, digest);
    struct received good = {.tag = 100,
                            .env = {.id = b->next_id[0]++,
                                    .sender = SV("ann@inside.test"),
                                    .size = 3,
                                    .sha256 = sv_of((const char *)digest, 32),
                                    .rcpts = &rcpt,
                                    .n_rcpts = 1},
                            .body = body};
    struct received bad[13];
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        bad[i] = good;
        bad[i].tag = 101 + i;
    }
    bad[0].env.id = 0;
    bad[1].env.id = UINT64_MAX;
    bad[2].env.id = 7;             /* nobody's */
    bad[3].env.id = b->next_id[1]; /* of the other worker */
    bad[4].env.n_rcpts = 0;
    bad[5].env.sha256.n = 31;
    bad[6].env.kind = MESSAGE_DSN;
    bad[7].env.sealed = true;
    bad[8].env.parent = good.env.id;
    bad[9].env.file = SV("ids");
    bad[10].env.size = 4;
    bad[11].file = 12345;
    bad[11].body = SV("");
    bad[12].env.body_key = SV("12345678901234567890123456789012");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        refused(b, &bad[i]);
    qb_send(b, QB_SMTP, MSG_RECEIVED, &good, -1);
    assert_int_equal(qb_expect(b, QB_SMTP, MSG_COMMITTED)->COMMITTED.code, 250);
    refused(b, &good);                                    /* the same id again */
    qb_done_raw(b, 999999, good.env.id, 1, QB_DELIVERED); /* an attempt that was never made */
    (void)qb_expect(b, QB_SMTP, MSG_ATTEMPT_ACK);
    qb_scan(b, 0);
    const struct delivery *d = deliver(b);
    assert_int_equal(d->id, good.env.id);
    qb_done_raw(b, d->attempt, good.env.id + 1, 1, QB_DELIVERED); /* of another message */
    qb_alive(b);
    assert_int_equal(qb_matched(b, "queue.count", "{}"), 1);
    qb_done_raw(b, d->attempt, good.env.id, 1, QB_DELIVERED);
    (void)qb_expect(b, QB_SMTP, MSG_ATTEMPT_ACK);
    qb_empty(b);
}

static void garbage_closes_the_channel_only(void **state)
{
    struct qb *b = *state;
    struct rng rng = rng_seeded(7);
    char bytes[300];

    for (enum qb_end e = QB_SMTP; e < QB_ENDS; e++) {
        rng_bytes(&rng, bytes, sizeof(bytes));
        bytes[0] = (char)MSG_RECEIVED;
        (void)!write(b->ends[e], bytes, sizeof(bytes));
        qb_drop_end(b, e);
        qb_alive(b);
    }
    for (enum qb_end e = QB_SMTP; e < QB_ENDS; e++)
        qb_new_end(b, e);
    struct job_done done = {.job = 4711, .facts = {.scan = SCAN_OK}};
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
    uint8_t exit = 0;
    json_decref(qb_ctl(b, "queue.list", "[1,2", &exit));
    assert_true(exit != 0);
    json_decref(qb_ctl(b, "queue.drop", "{}", &exit)); /* never all by accident */
    assert_true(exit != 0);
    json_decref(qb_ctl(b, "no.such", "{}", &exit));
    assert_true(exit != 0);
    json_decref(qb_ctl(b, "simulate", "{\"from\":\"a@b\"}", &exit));
    assert_true(exit != 0);
    qb_alive(b);
}

/* ---- large bodies ---- */

static unsigned big_files(struct qb *b)
{
    char path[128];
    unsigned n = 0;

    (void)snprintf(path, sizeof(path), "%s/spool", b->dir);
    DIR *d = opendir(path);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct stat st;
        if (strncmp(e->d_name, "big-", 4) == 0 && fstatat(dirfd(d), e->d_name, &st, 0) == 0 &&
            st.st_size > 0)
            n++;
    }
    (void)closedir(d);
    return n;
}

static void no_big_files(struct qb *b)
{
    for (int i = 0; i < 500 && big_files(b); i++)
        (void)poll(NULL, 0, 20);
    assert_int_equal(big_files(b), 0);
}

#define BIG 200000u

static uint64_t ask_file(struct qb *b, char key[32])
{
    struct file_ask ask = {.tag = 5, .declared_size = BIG};
    char *body = malloc(BIG);

    assert_non_null(body);
    qb_send(b, QB_SMTP, MSG_FILE_ASK, &ask, -1);
    const struct file_give *g = &qb_expect(b, QB_SMTP, MSG_FILE_GIVE)->FILE_GIVE;
    assert_int_equal(g->code, 0);
    assert_int_equal(g->key.n, 32);
    assert_true(b->fd >= 0);
    memcpy(key, g->key.p, 32);
    memset(body, 'x', BIG);
    body_crypt((const uint8_t *)key, 0, 0, body, BIG);
    assert_int_equal(pwrite(b->fd, body, BIG, 0), BIG);
    free(body);
    return g->file;
}

static uint64_t receive_file(struct qb *b, uint64_t file, const char *second_rcpt)
{
    struct rcpt rcpts[2] = {{.addr = SV("bob@outside.test")}, {.addr = sv_str(second_rcpt)}};
    uint8_t digest[32] = {1};
    struct received r = {.tag = ++b->tag,
                         .file = file,
                         .env = {.id = b->next_id[0]++,
                                 .received_ms = clock_now().wall_ms,
                                 .sender = SV("ann@inside.test"),
                                 .peer = {.trusted = true},
                                 .size = BIG,
                                 .sha256 = sv_of((const char *)digest, 32),
                                 .rcpts = rcpts,
                                 .n_rcpts = second_rcpt ? 2 : 1}};

    qb_send(b, QB_SMTP, MSG_RECEIVED, &r, -1);
    return r.env.id;
}

static void a_large_body_has_a_file_of_its_own(void **state)
{
    struct qb *b = *state;
    char key[32];
    uint64_t file = ask_file(b, key);
    uint64_t id = receive_file(b, file, NULL);

    assert_int_equal(qb_expect(b, QB_SMTP, MSG_COMMITTED)->COMMITTED.code, 250);
    assert_int_equal(big_files(b), 1);
    restart(b);
    (void)qb_job(b, JOB_SCAN);
    assert_int_equal(b->msg.JOB.id, id);
    assert_true(b->fd >= 0);
    assert_int_equal(b->msg.JOB.body.n, 0);
    assert_memory_equal(b->msg.JOB.body_key.p, key, 32);
    char start[8];
    assert_int_equal(pread(b->fd, start, 8, 0), 8);
    body_crypt((const uint8_t *)key, 0, 0, start, 8);
    assert_memory_equal(start, "xxxxxxxx", 8);
    struct job_done done = {.job = b->msg.JOB.job, .facts = {.scan = SCAN_OK}};
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
    const struct delivery *d = deliver(b);
    assert_int_equal(d->size, BIG);
    assert_true(b->fd >= 0);
    assert_memory_equal(d->body_key.p, key, 32);
    qb_done(b, QB_DELIVERED);
    qb_empty(b);
    no_big_files(b);
}

static void files_that_are_not_used_go_away(void **state)
{
    struct qb *b = *state;
    char key[32];
    struct file_drop drop = {.file = ask_file(b, key)};

    qb_send(b, QB_SMTP2, MSG_FILE_DROP, &drop, -1); /* not its file */
    qb_alive(b);
    assert_int_equal(big_files(b), 1);
    qb_send(b, QB_SMTP, MSG_FILE_DROP, &drop, -1);
    no_big_files(b);
    (void)ask_file(b, key);
    (void)ask_file(b, key);
    assert_int_equal(big_files(b), 2);
    qb_drop_end(b, QB_SMTP);
    no_big_files(b);
    qb_new_end(b, QB_SMTP);
    (void)ask_file(b, key);
    restart(b);
    no_big_files(b);
    struct file_ask ask = {.tag = 6, .declared_size = UINT64_MAX / 2 + 2};
    qb_send(b, QB_SMTP, MSG_FILE_ASK, &ask, -1);
    assert_int_equal(qb_expect(b, QB_SMTP, MSG_FILE_GIVE)->FILE_GIVE.code, 452);
}

static void copies_share_a_large_body(void **state)
{
    struct qb *b = *state;
    char key[32];
    uint64_t id = receive_file(b, ask_file(b, key), "in@inside.test");

    assert_int_equal(qb_expect(b, QB_SMTP, MSG_COMMITTED)->COMMITTED.code, 250);
    qb_drop_end(b, QB_SMTP2);
    qb_scan(b, 1);
    uint64_t ids[2];
    deliver_two(b, ids);
    assert_true(ids[0] != id && ids[1] != id);
    qb_new_end(b, QB_SMTP2);
    qb_empty(b);
    no_big_files(b);
}

static void a_lost_body_is_never_sent(void **state)
{
    struct qb *b = *state;
    char key[32], path[128], text[256];
    uint64_t file = ask_file(b, key);
    uint64_t id = receive_file(b, file, NULL);

    assert_int_equal(qb_expect(b, QB_SMTP, MSG_COMMITTED)->COMMITTED.code, 250);
    uint64_t job = qb_job(b, JOB_SCAN);
    (void)snprintf(path, sizeof(path), "%s/spool/big-%016llx", b->dir, (unsigned long long)file);
    assert_int_equal(unlink(path), 0);
    struct job_done done = {.job = job, .facts = {.scan = SCAN_OK}};
    qb_send(b, QB_CONTENT, MSG_JOB_DONE, &done, -1);
    for (int i = 0; i < 200 && (qb_show(b, id, "queue", text), strcmp(text, "exception")); i++)
        (void)poll(NULL, 0, 10);
    shows(b, id, "queue", "exception");
    assert_true(qb_silent(b, QB_SMTP, 50));
    assert_int_equal(qb_matched(b, "queue.drop", "{\"queue\":\"exception\"}"), 1);
}

/* ---- administration ---- */

static void filters_select(void **state)
{
    static const struct {
        const char *args;
        uint64_t n;
    } rows[] = {
        {"{}", 3},
        {"{\"sender\":\"ANN@\"}", 2},
        {"{\"recipient\":\"bob\"}", 2},
        {"{\"domain\":\"outside.test\"}", 2},
        {"{\"domain\":\"side.test\"}", 0},
        {"{\"reason\":\"come\"}", 3},
        {"{\"reason\":\"gone\"}", 0},
        {"{\"queue\":\"delayed\"}", 3},
        {"{\"queue\":\"held\"}", 0},
        {"{\"older_min\":1}", 0},
        {"{\"sender\":\"joe\",\"recipient\":\"bob\"}", 0},
        {"{\"sender\":\"ann\",\"recipient\":\"bob\"}", 2},
        {"{\"id\":\"nonsense\"}", 0},
    };
    struct qb *b = *state;
    struct qb_mail m[] = {{.sender = "ann@inside.test", .rcpts = {"bob@outside.test"}},
                          {.sender = "ann@inside.test", .rcpts = {"bob@other.test"}},
                          {.sender = "joe@inside.test", .rcpts = {"eve@outside.test"}}};

    for (size_t i = 0; i < ARRAY_LEN(m); i++) {
        (void)scanned(b, &m[i], 0);
        (void)deliver(b);
        qb_done(b, QB_DEFERRED);
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t n = qb_matched(b, "queue.count", rows[i].args);
        if (n != rows[i].n || qb_matched(b, "queue.list", rows[i].args) != n)
            fail_msg("%s: %llu", rows[i].args, (unsigned long long)n);
    }
    assert_int_equal(qb_matched(b, "queue.hold", "{\"sender\":\"joe\"}"), 1);
    assert_int_equal(qb_matched(b, "queue.count", "{\"queue\":\"held\"}"), 1);
    restart(b);
    assert_int_equal(qb_matched(b, "queue.count", "{\"queue\":\"admin\"}"), 1);
    assert_int_equal(qb_matched(b, "queue.release", "{\"queue\":\"held\"}"), 1);
    assert_true(sv_eq(deliver(b)->rcpts[0].addr, SV("eve@outside.test")));
    qb_done(b, QB_DELIVERED);
    assert_int_equal(qb_matched(b, "queue.bounce", "{\"domain\":\"other.test\"}"), 1);
    qb_report(b);
    assert_int_equal(deliver(b)->sender.n, 0);
    qb_done(b, QB_DELIVERED);
    assert_int_equal(qb_matched(b, "queue.drop", "{\"sender\":\"ann\"}"), 1);
    qb_empty(b);
}

/* ---- torn batches ---- */

static void what_was_acknowledged_is_found(void **state)
{
    struct qb *b = *state;
    struct rng rng = rng_seeded(20261124);
    struct qb_mail m = {.rcpts = {"in@inside.test", "bob@outside.test"}};
    uint64_t acked[4096], n_acked = 0;

    for (int round = 0; round < 6; round++) {
        int burst = 20 + (int)(rng_u64(&rng) % 60);
        for (int i = 0; i < burst; i++)
            (void)qb_receive(b, &m);
        int wait = (int)(rng_u64(&rng) % (uint64_t)burst);
        for (int i = 0; i < wait; i++) {
            const struct committed *c = &qb_expect(b, QB_SMTP, MSG_COMMITTED)->COMMITTED;
            assert_int_equal(c->code, 250);
            acked[n_acked++] = c->id;
        }
        for (uint64_t i = 0; i < rng_u64(&rng) % 4; i++)
            qb_scan(b, 1); /* splits are under way */
        restart(b);
    }
    uint64_t found = 0, gone = 0;
    for (uint64_t i = 0; i < n_acked; i++) {
        char text[256];
        qb_show(b, acked[i], "queue", text);
        found += text[0] != 0;
        gone += text[0] == 0;
    }
    /* a message that is gone was split: its copies are there, two for each; none is there twice */
    uint8_t exit = 0;
    json_t *all = qb_ctl(b, "queue.list", "{\"limit\":100000}", &exit), *v;
    size_t i, copies = 0;
    json_array_foreach(all, i, v)
    {
        const json_t *parent = json_object_get(v, "parent");
        uint64_t id = 0;
        char text[256];
        if (!json_is_string(parent))
            continue;
        copies++;
        assert_true(id_parse(sv_str(json_string_value(parent)), &id));
        qb_show(b, id, "queue", text);
        assert_string_equal(text, ""); /* never beside a live parent */
    }
    json_decref(all);
    assert_int_equal(copies % 2, 0);
    assert_true(gone <= copies / 2);
    assert_true(found + gone == n_acked && found > 0);
}

int main(int argc, char **argv)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(from_commit_to_delivery),
        T(a_card_demands_tls),
        T(many_in_flight),
        T(defer_survives_a_restart_with_its_mark),
        T(an_undecided_message_is_scanned_after_a_restart),
        T(a_replayed_result_is_applied_once),
        T(an_old_message_waits_for_what_workers_know),
        T(a_dead_worker_s_attempt_is_made_again),
        T(a_failure_is_reported),
        T(a_report_about_encrypted_mail_is_sealed),
        T(a_report_is_made_after_a_restart),
        T(a_report_that_cannot_be_built_is_bare),
        T(an_undeliverable_report_becomes_a_notice),
        T(the_null_sender_is_told_nothing),
        T(recipients_with_other_plans_get_copies),
        T(a_message_that_ends_two_workers_is_held),
        T(a_scan_that_failed_is_never_clean),
        T(a_new_worker_scans_with_the_settings_of_now),
        T(bad_settings_are_refused),
        T(settings_go_to_every_process_and_survive),
        T(lies_of_smtp_are_refused),
        T(garbage_closes_the_channel_only),
        T(a_large_body_has_a_file_of_its_own),
        T(files_that_are_not_used_go_away),
        T(copies_share_a_large_body),
        T(a_lost_body_is_never_sent),
        T(filters_select),
        T(what_was_acknowledged_is_found),
    };

    if (argc > 1) /* one of them, by name */
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
