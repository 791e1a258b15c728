/* What callers see of the spool; recovery of what is whole; full and failing disks. */
#include "store/spool_rig.h"
#include "store/spoolio.h"

#include <fcntl.h>
#include <unistd.h>

#define SEG (64u * 1024)

static void test_life(void **state)
{
    (void)state;
    struct rig r;
    struct buf env, st;

    rig_new(&r, SEG);
    buf_init(&env, 1000);
    buf_init(&st, 1000);
    assert_int_equal(rig_put(&r, 5, 3000), ERR_OK);
    assert_int_equal(rig_put(&r, 5, 10), ERR_CONFLICT);
    assert_int_equal(rig_read(&r, 5, 3000), ERR_AGAIN);
    assert_int_equal(spool_state(r.sp, 9, SV("x")), ERR_NOTFOUND);
    assert_int_equal(rig_commit(&r), ERR_OK);
    assert_int_equal(rig_read(&r, 5, 3000), ERR_OK);
    assert_int_equal(spool_load(r.sp, 5, &env, &st), ERR_OK);
    assert_int_equal(env.n, 100);
    assert_int_equal(st.n, 0);
    assert_int_equal(spool_state(r.sp, 5, SV("one")), ERR_OK);
    assert_int_equal(spool_state(r.sp, 5, SV("two")), ERR_OK);
    assert_int_equal(rig_commit(&r), ERR_OK);
    assert_int_equal(spool_load(r.sp, 5, &env, &st), ERR_OK);
    assert_true(sv_eq(buf_sv(&st), SV("two")));
    assert_int_equal(rig_put(&r, 4, 0), ERR_OK);
    spool_close(r.sp); /* commits what was appended */
    rig_open(&r);
    assert_int_equal(r.n_found, 2);
    assert_int_equal(r.found[0], 4);
    assert_string_equal(r.state[1], "two");
    assert_int_equal(spool_done(r.sp, 5), ERR_OK);
    assert_int_equal(spool_done(r.sp, 5), ERR_NOTFOUND);
    assert_int_equal(spool_state(r.sp, 5, SV("late")), ERR_NOTFOUND);
    assert_int_equal(rig_commit(&r), ERR_OK);
    assert_int_equal(rig_read(&r, 5, 3000), ERR_NOTFOUND);
    rig_kill(&r);
    rig_open(&r);
    assert_int_equal(r.n_found, 1);
    assert_int_equal(r.damage, 0);
    buf_done(&env);
    buf_done(&st);
    rig_free(&r);
}

static void test_limits(void **state)
{
    (void)state;
    struct rig r;
    static char big[SPOOL_RECORD_MAX + 1];
    struct sv env = SV("e"), none = SV_NULL;

    rig_new(&r, SEG);
    assert_int_equal(spool_put(r.sp, 1, sv_of(big, sizeof(big)), none, none), ERR_LIMIT);
    assert_int_equal(spool_put(r.sp, 1, env, sv_of(big, SPOOL_INLINE_MAX + 1), none), ERR_LIMIT);
    assert_int_equal(spool_put(r.sp, 1, sv_of(big, SEG), none, none), ERR_LIMIT);
    assert_int_equal(spool_put(r.sp, 1, env, none, SV("other")), ERR_SYNTAX);
    assert_int_equal(spool_put(r.sp, 1, env, none, SV("big-/etc")), ERR_SYNTAX);
    assert_int_equal(spool_put(r.sp, 1, env, SV("b"), SV("big-1")), ERR_SYNTAX);
    assert_int_equal(r.sp->ix.count, 0);
    assert_int_equal(rig_commit(&r), ERR_OK); /* nothing to do is fine too */
    rig_free(&r);
}

static void test_coalesce(void **state)
{
    (void)state;
    struct rig r;
    struct spool_stats st;

    rig_new(&r, SEG);
    for (uint64_t id = 1; id <= 10; id++) {
        assert_int_equal(rig_put(&r, id, 50), ERR_OK);
        spool_commit(r.sp, rig_answer, &r);
    }
    disk_run(r.d);
    assert_int_equal(r.answers, 10);
    spool_stats(r.sp, &st);
    assert_int_equal(st.commits, 2); /* the first at once, nine together */
    assert_int_equal(st.messages, 10);
    rig_free(&r);
}

static void make_file(struct rig *r, const char *name)
{
    int fd = r->c.io.open(r->d, name, O_CREAT | O_RDWR);
    assert_true(fd >= 0);
    r->c.io.close(r->d, fd);
    assert_int_equal(r->c.io.sync_dir(r->d), 0);
}

static void test_files(void **state)
{
    (void)state;
    struct rig r;
    char env[256];

    rig_new(&r, SEG);
    make_file(&r, "big-a");
    make_file(&r, "big-b");
    make_file(&r, "big-orphan");
    make_file(&r, "ids");
    for (uint64_t id = 1; id <= 2; id++) {
        struct sv name = id == 1 ? SV("big-a") : SV("big-b");
        assert_int_equal(spool_put(r.sp, id, rig_text(id, "envelope", 100, env), SV_NULL, name),
                         ERR_OK);
    }
    assert_int_equal(rig_commit(&r), ERR_OK);
    assert_int_equal(rig_read(&r, 1, 0), ERR_NOTFOUND);
    assert_int_equal(spool_done(r.sp, 1), ERR_OK);
    assert_non_null(disk_find(r.d, "big-a"));
    assert_int_equal(rig_commit(&r), ERR_OK);
    assert_null(disk_find(r.d, "big-a"));
    rig_kill(&r);
    rig_open(&r);
    assert_int_equal(r.n_found, 1);
    assert_non_null(disk_find(r.d, "big-b"));
    assert_null(disk_find(r.d, "big-orphan"));
    assert_non_null(disk_find(r.d, "ids"));
    rig_free(&r);
}

/* Rules 3 and 4: DONE records vanish with their segment while older records of the same messages
 * still lie in another one. */
static void test_done_stays_done(void **state)
{
    (void)state;
    struct rig r;
    uint64_t id = 1;

    rig_new(&r, SEG);
    for (; id <= 20; id++) /* one segment, most of it stays alive */
        assert_int_equal(rig_put(&r, id, 2000), ERR_OK);
    assert_int_equal(rig_commit(&r), ERR_OK);
    for (int round = 0; round < 30; round++) { /* the ends, and traffic that comes and goes */
        for (uint64_t k = 0; k < 8; k++)
            assert_int_equal(rig_put(&r, id + k, 2500), ERR_OK);
        if (round < 3)
            assert_int_equal(spool_done(r.sp, 5 + (uint64_t)round), ERR_OK);
        assert_int_equal(spool_state(r.sp, 10, round < 5 ? SV("old") : SV("new")), ERR_OK);
        assert_int_equal(rig_commit(&r), ERR_OK);
        for (uint64_t k = 0; k < 8; k++)
            assert_int_equal(spool_done(r.sp, id + k), ERR_OK);
        assert_int_equal(rig_commit(&r), ERR_OK);
        id += 8;
        rig_tend(&r);
    }
    struct spool_stats st;
    spool_stats(r.sp, &st);
    assert_true(st.checkpoints > 3);
    assert_true(st.segments < 14); /* they are used again */
    spool_abandon(r.sp);
    disk_cut(r.d);
    rig_open(&r);
    assert_int_equal(r.n_found, 17);
    assert_false(rig_has(&r, 5) || rig_has(&r, 6) || rig_has(&r, 7));
    for (uint32_t i = 0; i < r.n_found; i++)
        assert_string_equal(r.state[i], r.found[i] == 10 ? "new" : "");
    assert_int_equal(r.damage, 0);
    rig_free(&r);
}

static void test_copy_forward(void **state)
{
    (void)state;
    struct rig r;
    struct spool_stats st;

    rig_new(&r, SEG);
    for (uint64_t id = 1; id <= 400; id++) { /* one in twenty stays */
        assert_int_equal(rig_put(&r, id, 2500), ERR_OK);
        if (id % 20 == 0)
            assert_int_equal(spool_state(r.sp, id, SV("kept")), ERR_OK);
        assert_int_equal(rig_commit(&r), ERR_OK);
        if (id % 20)
            assert_int_equal(spool_done(r.sp, id), ERR_OK);
        if (id % 10 == 0)
            rig_tend(&r);
    }
    assert_int_equal(rig_commit(&r), ERR_OK);
    rig_tend(&r);
    rig_tend(&r);
    spool_stats(r.sp, &st);
    assert_true(st.copied > 0);
    assert_true(st.disk_bytes < 14ull * SEG);
    for (int k = 0; k < 2; k++) {
        spool_abandon(r.sp);
        disk_cut(r.d);
        rig_open(&r);
        assert_int_equal(r.n_found, 20);
        for (uint64_t id = 20; id <= 400; id += 20)
            assert_int_equal(rig_read(&r, id, 2500), ERR_OK);
        assert_string_equal(r.state[0], "kept");
        assert_int_equal(r.damage, 0);
    }
    rig_free(&r);
}

static void test_stale_lives(void **state)
{
    (void)state;
    struct rig r;
    uint64_t id = 1;

    rig_new(&r, SEG);
    for (int life = 0; life < 12; life++) { /* records of equal size: every alignment is shared */
        for (int k = 0; k < 25; k++, id++) {
            assert_int_equal(rig_put(&r, id, 1500), ERR_OK);
            assert_int_equal(rig_commit(&r), ERR_OK);
            assert_int_equal(spool_done(r.sp, id), ERR_OK);
        }
        assert_int_equal(rig_commit(&r), ERR_OK);
        rig_tend(&r);
        assert_int_equal(rig_put(&r, id, 1500), ERR_OK);
        assert_int_equal(rig_commit(&r), ERR_OK);
        if (life & 1)
            rig_kill(&r);
        else {
            spool_abandon(r.sp);
            disk_cut(r.d);
        }
        rig_open(&r);
        assert_int_equal(r.n_found, 1);
        assert_int_equal(r.found[0], id);
        assert_int_equal(r.damage, 0);
        assert_int_equal(spool_done(r.sp, id++), ERR_OK);
    }
    rig_free(&r);
}

static void test_full(void **state)
{
    (void)state;
    struct rig r;
    uint64_t id = 1;

    rig_new(&r, SEG);
    rig_tend(&r);
    r.d->capacity = 12ull * SEG;
    while (rig_put(&r, id, 2000) == ERR_OK) {
        assert_int_equal(rig_commit(&r), ERR_OK);
        (void)spool_tend(r.sp, (struct clock){.mono_ms = r.ms});
        assert_true(++id < 1000);
    }
    assert_true(id > 100);
    assert_int_equal(rig_put(&r, id, 2000), ERR_NOSPACE);
    assert_int_equal(spool_room(r.sp, 2000), ERR_NOSPACE);
    r.d->capacity = 0; /* others took the rest */
    for (uint64_t k = 1; k < id; k++) {
        assert_int_equal(spool_state(r.sp, k, SV("tried")), ERR_OK);
        assert_int_equal(rig_commit(&r), ERR_OK);
    }
    for (uint64_t k = 1; k < id - 1; k++) {
        assert_int_equal(spool_done(r.sp, k), ERR_OK);
        assert_int_equal(rig_commit(&r), ERR_OK);
    }
    r.d->capacity = 100ull * SEG; /* a file of a few bytes fits again: the checkpoint */
    r.ms += 11000;
    rig_tend(&r);
    r.d->capacity = 12ull * SEG;
    assert_int_equal(spool_room(r.sp, 2000), ERR_OK);
    assert_int_equal(rig_put(&r, id, 2000), ERR_OK);
    assert_int_equal(rig_commit(&r), ERR_OK);
    rig_kill(&r);
    rig_open(&r);
    assert_int_equal(r.n_found, 2);
    rig_free(&r);
}

static void test_refusal(void **state)
{
    (void)state;
    struct rig r;

    rig_new(&r, SEG);
    assert_int_equal(rig_put(&r, 1, 100), ERR_OK);
    assert_int_equal(rig_commit(&r), ERR_OK);
    r.d->fail_errno = EIO;
    r.d->fail_at = r.d->ops + 2; /* the sync, once */
    assert_int_equal(rig_put(&r, 2, 100), ERR_OK);
    assert_int_equal(spool_state(r.sp, 1, SV("lost")), ERR_OK);
    assert_int_equal(rig_commit(&r), ERR_IO);
    assert_int_equal(spool_room(r.sp, 10), ERR_OK); /* a new segment serves */
    assert_int_equal(rig_put(&r, 3, 100), ERR_OK);
    assert_int_equal(rig_commit(&r), ERR_OK);
    r.d->fail_at = r.d->ops + 2;
    r.d->fail_sticky = true;
    assert_int_equal(rig_put(&r, 4, 100), ERR_OK);
    assert_int_equal(rig_commit(&r), ERR_IO);
    assert_int_equal(spool_room(r.sp, 10), ERR_IO);
    assert_int_equal(rig_put(&r, 5, 100), ERR_IO);
    assert_int_equal(spool_done(r.sp, 1), ERR_IO);
    assert_int_equal(rig_read(&r, 1, 100), ERR_OK);
    rig_tend(&r);
    r.d->fail_at = 0;
    assert_int_equal(spool_room(r.sp, 10), ERR_IO);
    r.ms += SPOOL_RETRY_MS;
    rig_tend(&r);
    assert_int_equal(spool_room(r.sp, 10), ERR_OK);
    assert_int_equal(rig_put(&r, 6, 100), ERR_OK);
    assert_int_equal(rig_commit(&r), ERR_OK);
    spool_abandon(r.sp);
    disk_cut(r.d);
    rig_open(&r);
    assert_int_equal(r.n_found, 3);
    assert_false(rig_has(&r, 2) || rig_has(&r, 4));
    assert_string_equal(r.state[0], "");
    assert_int_equal(r.damage, 0);
    rig_free(&r);
}

/* The header of a new life whose sync failed is found after the power cut all the same (its file's
 * removal was not durable): it must not make void what was acknowledged after the failure. */
static void test_ghost_life(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct rig r;
        rig_new(&r, SEG);
        r.d->rng = rng_seeded(seed);
        for (uint64_t id = 1; id <= 6; id++) {
            assert_int_equal(rig_put(&r, id, 9000), ERR_OK);
            assert_int_equal(rig_commit(&r), ERR_OK);
        }
        r.d->fail_errno = ENOSPC;
        r.d->fail_at = r.d->ops + 6; /* open, truncate, sync_dir, truncate, pwrite, sync */
        assert_int_equal(rig_put(&r, 7, 9000), ERR_OK);
        assert_int_equal(rig_commit(&r), ERR_NOSPACE);
        assert_int_equal(rig_put(&r, 8, 100), ERR_OK); /* would fit into the old segment */
        assert_int_equal(rig_commit(&r), ERR_OK);
        spool_abandon(r.sp);
        disk_cut(r.d);
        rig_open(&r);
        assert_int_equal(r.n_found, 7);
        assert_true(rig_has(&r, 8));
        assert_int_equal(r.damage, 0);
        rig_free(&r);
    }
}

/* A batch larger than a segment is in flight: the segment it has left behind looks empty, but is
 * not. */
static void test_large_batch(void **state)
{
    (void)state;
    struct rig r;

    rig_new(&r, 24 * 1024);
    assert_int_equal(rig_put(&r, 1, 100), ERR_OK);
    assert_int_equal(spool_done(r.sp, 1), ERR_OK);
    assert_int_equal(rig_commit(&r), ERR_OK);
    for (uint64_t id = 2; id <= 20; id++)
        assert_int_equal(rig_put(&r, id, 2000), ERR_OK);
    spool_commit(r.sp, rig_answer, &r);
    uint32_t first = r.sp->active;
    while (r.sp->active == first)
        assert_true(disk_run_one(r.d));
    assert_int_equal(r.sp->segs[first]->state, SEG_CLOSED);
    assert_int_equal(r.sp->segs[first]->live, 0);
    checkpoint_write(r.sp);
    rig_tend(&r);
    assert_int_equal(r.last, ERR_OK);
    spool_abandon(r.sp);
    disk_cut(r.d);
    rig_open(&r);
    assert_int_equal(r.n_found, 19);
    for (uint64_t id = 2; id <= 20; id++)
        assert_int_equal(rig_read(&r, id, 2000), ERR_OK);
    assert_int_equal(r.damage, 0);
    rig_free(&r);
}

/* Bar R4: each operation of a busy hour fails in turn, once with EIO and once with ENOSPC. */
static void site(uint64_t n, int how, uint64_t *out_ops)
{
    struct rig r;
    uint64_t acked[40], n_acked = 0;

    rig_new(&r, 20 * 1024);
    r.d->fail_at = r.d->ops + n;
    r.d->fail_errno = how ? ENOSPC : EIO;
    uint64_t before = r.d->ops;
    for (uint64_t id = 1; id <= 40; id++) {
        if (rig_put(&r, id, 1200) == ERR_OK && rig_commit(&r) == ERR_OK)
            acked[n_acked++] = id;
        if (id % 3 == 0 && spool_state(r.sp, id, SV("s")) == ERR_OK)
            (void)rig_commit(&r);
        r.ms += 4000;
        (void)spool_tend(r.sp, (struct clock){.mono_ms = r.ms});
        disk_run(r.d);
    }
    *out_ops = r.d->ops - before;
    r.d->fail_at = 0;
    r.ms += SPOOL_RETRY_MS;
    rig_tend(&r);
    assert_int_equal(rig_put(&r, 50, 10), ERR_OK); /* recovered by itself */
    assert_int_equal(rig_commit(&r), ERR_OK);
    spool_abandon(r.sp);
    disk_cut(r.d);
    rig_open(&r);
    assert_int_equal(r.n_found, n_acked + 1);
    for (uint64_t i = 0; i < n_acked; i++)
        assert_true(rig_has(&r, acked[i]));
    assert_int_equal(r.damage, 0);
    rig_free(&r);
}

static void test_fault_sites(void **state)
{
    (void)state;
    uint64_t ops = 1;
    for (int how = 0; how < 2; how++) {
        for (uint64_t n = 1; n <= ops; n++)
            site(n, how, &ops);
    }
    assert_true(ops > 100);
}

static void count_only(void *ctx, const struct spool_found *m)
{
    (void)m;
    ++*(uint64_t *)ctx;
}

static void test_many(void **state)
{
    (void)state;
    struct rig r;
    const uint64_t n = 100000;
    uint64_t found = 0;

    rig_new(&r, 8u * 1024 * 1024);
    for (uint64_t id = 1; id <= n; id++) {
        assert_int_equal(rig_put(&r, id, 60), ERR_OK);
        if (id % 1000 == 0)
            assert_int_equal(rig_commit(&r), ERR_OK);
        if (id == n / 2)
            rig_tend(&r);
    }
    assert_int_equal(sizeof(struct msg), 56);
    assert_true(r.sp->ix.n_chunks * (uint64_t)SPOOL_CHUNK < n + SPOOL_CHUNK);
    assert_true(r.sp->ix.mask < 4 * n);
    for (int how = 0; how < 2; how++) {
        if (how)
            spool_close(r.sp);
        else
            rig_kill(&r);
        found = 0;
        assert_int_equal(spool_open(&r.c, count_only, &found, &r.sp, NULL), ERR_OK);
        assert_int_equal(found, n);
    }
    assert_int_equal(rig_read(&r, n / 3, 60), ERR_OK);
    rig_free(&r);
}

static void on_err(void *arg, enum err err)
{
    *(enum err *)arg = err;
}

static void test_directory(void **state)
{
    (void)state;
    char dir[] = "/tmp/spool-test-XXXXXX";
    struct spool_fs *fs = NULL;
    struct spool *sp = NULL;
    struct spool_config c = {.segment_size = 1u << 20, .rng = rng_seeded(1)};
    uint64_t found = 0;
    enum err got = ERR_BUG;

    assert_non_null(mkdtemp(dir));
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_true(fd >= 0);
    assert_int_equal(spool_fs_new(fd, NULL, NULL, &fs, &c.io, NULL), ERR_OK);
    assert_int_equal(c.io.open(c.io.ctx, "../x", O_CREAT | O_RDWR), -EINVAL);
    assert_int_equal(spool_open(&c, count_only, &found, &sp, NULL), ERR_OK);
    assert_int_equal(spool_put(sp, 1, SV("env"), SV("body"), SV_NULL), ERR_OK);
    spool_commit(sp, on_err, &got);
    assert_int_equal(got, ERR_BUG);
    assert_true(spool_fs_run(fs) > 0);
    assert_int_equal(got, ERR_OK);
    while (spool_tend(sp, (struct clock){.mono_ms = 1}) || spool_fs_run(fs))
        ;
    spool_close(sp);
    assert_int_equal(spool_open(&c, count_only, &found, &sp, NULL), ERR_OK);
    assert_int_equal(found, 1);
    spool_close(sp);
    for (uint32_t i = 0; i < 8; i++) {
        char name[SEG_NAME_MAX];
        seg_name(i, name);
        (void)unlinkat(fd, name, 0);
    }
    assert_int_equal(unlinkat(fd, CHECKPOINT_NAME, 0), 0);
    assert_int_equal(rmdir(dir), 0);
    spool_fs_free(fs);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_life),
                                       cmocka_unit_test(test_limits),
                                       cmocka_unit_test(test_coalesce),
                                       cmocka_unit_test(test_files),
                                       cmocka_unit_test(test_done_stays_done),
                                       cmocka_unit_test(test_copy_forward),
                                       cmocka_unit_test(test_stale_lives),
                                       cmocka_unit_test(test_full),
                                       cmocka_unit_test(test_refusal),
                                       cmocka_unit_test(test_large_batch),
                                       cmocka_unit_test(test_ghost_life),
                                       cmocka_unit_test(test_fault_sites),
                                       cmocka_unit_test(test_many),
                                       cmocka_unit_test(test_directory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
