/* Torn tails, damage, look-alikes, and reading what is left. */
#include "store/spool_rig.h"

#define SEG (24u * 1024)

/* Five messages in three batches; the process is killed. */
static void build(struct rig *r)
{
    rig_new(r, SEG);
    for (uint64_t id = 1; id <= 5; id++) {
        assert_int_equal(rig_put(r, id, 200 + id), ERR_OK);
        if (id == 1 || id == 3 || id == 5)
            assert_int_equal(rig_commit(r), ERR_OK);
    }
    rig_kill(r);
}

static uint32_t unit_size(uint64_t id)
{
    return rec_size((uint32_t)(200 + id)) + rec_size(104);
}

static void test_torn(void **state)
{
    (void)state;
    struct rig r, t;
    uint32_t tail = SPOOL_HEAD + unit_size(1) + unit_size(2) + unit_size(3);
    uint32_t end = tail + unit_size(4) + unit_size(5);

    build(&r);
    rig_new(&t, SEG);
    rig_kill(&t);
    for (int garbage = 0; garbage < 2; garbage++) {
        for (uint32_t cut = tail; cut < end; cut++) {
            disk_copy(t.d, r.d);
            struct disk_file *f = disk_find(t.d, "seg-00000000");
            assert_non_null(f);
            memset(f->now + cut, garbage ? 0xa5 : 0, f->size - cut);
            rig_open(&t);
            assert_int_equal(t.damage, 0);
            assert_int_equal(t.n_found, cut >= tail + unit_size(4) ? 4 : 3);
            for (uint64_t id = 1; id <= t.n_found; id++)
                assert_int_equal(rig_read(&t, id, 200 + id), ERR_OK);
            rig_kill(&t);
        }
    }
    rig_free(&t);
    rig_free(&r);
}

/* Every sector pattern of a torn last batch of four sectors. */
static void test_torn_sectors(void **state)
{
    (void)state;
    struct rig r, t;
    uint32_t tail = SPOOL_HEAD + unit_size(1) + unit_size(2) + unit_size(3);
    uint32_t end = tail + unit_size(4) + unit_size(5);
    uint32_t first = tail / DISK_SECTOR, n = (end - 1) / DISK_SECTOR - first + 1;

    build(&r);
    rig_new(&t, SEG);
    rig_kill(&t);
    assert_true(n >= 2 && n < 10);
    for (uint32_t mask = 0; mask < 1u << n; mask++) {
        disk_copy(t.d, r.d);
        struct disk_file *f = disk_find(t.d, "seg-00000000");
        assert_non_null(f);
        for (uint32_t s = 0; s < n; s++) {
            uint32_t from = (first + s) * DISK_SECTOR, to = from + DISK_SECTOR;
            from = from < tail ? tail : from;
            if (!(mask & 1u << s))
                memset(f->now + from, 0, to - from);
        }
        rig_open(&t);
        assert_int_equal(t.damage, 0);
        assert_true(t.n_found >= 3 && t.n_found <= 5);
        for (uint64_t id = 1; id <= t.n_found; id++)
            assert_int_equal(rig_read(&t, id, 200 + id), ERR_OK);
        assert_true(mask != (1u << n) - 1 || t.n_found == 5);
        rig_kill(&t);
    }
    rig_free(&t);
    rig_free(&r);
}

static void test_flip(void **state)
{
    (void)state;
    struct rig r, t;
    uint32_t end = SPOOL_HEAD, last = 0;

    build(&r);
    for (uint64_t id = 1; id <= 5; id++) {
        if (id == 4)
            last = end;
        end += unit_size(id);
    }
    rig_new(&t, SEG);
    rig_kill(&t);
    for (uint32_t at = 0; at < end; at += at < SPOOL_HEAD - 8 ? 7 : 1) {
        disk_copy(t.d, r.d);
        struct disk_file *f = disk_find(t.d, "seg-00000000");
        assert_non_null(f);
        f->now[at] ^= (uint8_t)(1u << at % 8);
        rig_open(&t); /* compares envelopes */
        for (uint32_t i = 0; i < t.n_found; i++) {
            enum err err = rig_read(&t, t.found[i], 200 + t.found[i]);
            assert_int_equal(err, ERR_OK);
        }
        if (at < SPOOL_HEAD)
            assert_true(t.n_found == 5 && t.damage == 0);
        else if (at < last) /* synced before a later batch: at most that message, never silently */
            assert_true(t.n_found == 5 || (t.n_found == 4 && t.damage > 0));
        else /* the last batch looks torn */
            assert_true(t.n_found >= 3);
        rig_kill(&t);
    }
    rig_free(&t);
    rig_free(&r);
}

/* After a checkpoint nothing is scanned: damage shows when a record is read. */
static void test_flip_later(void **state)
{
    (void)state;
    struct rig r;

    build(&r);
    rig_open(&r);
    spool_close(r.sp);
    struct disk_file *f = disk_find(r.d, "seg-00000000");
    assert_non_null(f);
    f->now[SPOOL_HEAD + REC_HEADER + 10] ^= 1;                  /* body of 1 */
    f->now[SPOOL_HEAD + unit_size(1) + unit_size(2) - 20] ^= 1; /* envelope of 2 */
    rig_open(&r);
    assert_int_equal(r.n_found, 4);
    assert_int_equal(r.damage, 1);
    assert_int_equal(rig_read(&r, 1, 201), ERR_CORRUPT);
    assert_int_equal(rig_read(&r, 3, 203), ERR_OK);
    rig_free(&r);
}

static void test_lookalikes(void **state)
{
    (void)state;
    struct rig r;
    char env[256], body[4096];
    struct rec rec = {.kind = REC_DONE, .id = 1};
    struct life other;

    rig_new(&r, SEG);
    assert_int_equal(rig_put(&r, 1, 100), ERR_OK);
    assert_int_equal(rig_commit(&r), ERR_OK);
    /* perfect but for the salt, and (second half) of this very life but too early */
    other = r.sp->segs[r.sp->active]->life;
    other.salt[3] ^= 1;
    for (uint32_t i = 0; i < 40; i++) {
        rec_begin(body + i * REC_HEADER, &rec);
        rec_seal(i < 20 ? &other : &r.sp->segs[r.sp->active]->life, body + i * REC_HEADER,
                 i < 20 ? 3 + i : 2, i < 20 ? 2 : 0);
    }
    assert_int_equal(spool_put(r.sp, 2, rig_text(2, "envelope", 100, env),
                               sv_of(body, 40 * REC_HEADER), SV_NULL),
                     ERR_OK);
    assert_int_equal(rig_commit(&r), ERR_OK);
    rig_kill(&r);
    struct disk_file *f = disk_find(r.d, "seg-00000000");
    assert_non_null(f);
    f->now[SPOOL_HEAD + rec_size(100) + rec_size(104)] ^= 1; /* the record around the look-alikes */
    rig_open(&r);
    assert_int_equal(r.n_found, 1);
    assert_int_equal(r.damage, 0); /* none of them was proof of anything */
    rig_free(&r);
}

static void test_checkpoint_damage(void **state)
{
    (void)state;
    struct rig r;

    build(&r);
    rig_open(&r);
    spool_close(r.sp);
    struct disk_file *f = disk_find(r.d, CHECKPOINT_NAME);
    assert_non_null(f);
    for (size_t at = 0; at < f->size; at += 13) {
        f->now[at] ^= 4;
        rig_open(&r);
        assert_int_equal(r.n_found, 5);
        assert_true(r.damage > 0);
        rig_kill(&r);
        f->now[at] ^= 4;
    }
    rig_open(&r);
    assert_int_equal(r.damage, 0);
    rig_kill(&r);
    assert_int_equal(r.c.io.unlink(r.d, CHECKPOINT_NAME), 0);
    rig_open(&r);
    assert_int_equal(r.n_found, 5);
    rig_free(&r);
}

/* Rule 5: a snapshot may know a newer state than the records that are replayed over it. When the
 * newest record is damaged, the older one must not take its place. */
static void test_no_older_state(void **state)
{
    (void)state;
    struct rig r;

    rig_new(&r, SEG);
    assert_int_equal(rig_put(&r, 1, 100), ERR_OK);
    assert_int_equal(rig_commit(&r), ERR_OK);
    assert_true(checkpoint_begin(r.sp));
    assert_int_equal(spool_state(r.sp, 1, SV("old")), ERR_OK);
    assert_int_equal(rig_commit(&r), ERR_OK);
    assert_int_equal(spool_state(r.sp, 1, SV("new")), ERR_OK);
    assert_int_equal(rig_commit(&r), ERR_OK);
    while (checkpoint_step(r.sp))
        ;
    disk_run(r.d);
    uint32_t at = index_at(&r.sp->ix, index_find(&r.sp->ix, 1))->state_off;
    rig_kill(&r);
    rig_open(&r);
    assert_string_equal(r.state[0], "new");
    rig_kill(&r);
    struct disk_file *f = disk_find(r.d, "seg-00000000");
    assert_non_null(f);
    f->now[at + REC_HEADER] ^= 1;
    rig_open(&r);
    assert_int_equal(r.n_found, 1);
    assert_string_equal(r.state[0], "");
    assert_true(index_at(&r.sp->ix, index_find(&r.sp->ix, 1))->flags & MSG_STATE_LOST);
    assert_true(r.damage > 0);
    rig_free(&r);
}

/* The header of a life is lost altogether: the checkpoint still knows salt and key. */
static void test_header_lost(void **state)
{
    (void)state;
    struct rig r;

    build(&r);
    rig_open(&r);
    spool_close(r.sp);
    struct disk_file *f = disk_find(r.d, "seg-00000000");
    assert_non_null(f);
    memset(f->now, 0xff, SPOOL_HEAD);
    rig_open(&r);
    assert_int_equal(r.n_found, 5);
    assert_int_equal(rig_read(&r, 4, 204), ERR_OK);
    rig_free(&r);
}

struct rows {
    uint32_t good, bad, done, checkpoint;
};

static void on_row(void *ctx, const struct spool_record *rec)
{
    struct rows *n = ctx;
    n->good += rec->good;
    n->bad += !rec->good;
    n->done += strcmp(rec->kind, "done") == 0;
    n->checkpoint += strcmp(rec->kind, "checkpoint") == 0;
    if (strcmp(rec->kind, "envelope") == 0)
        assert_int_equal(rec->payload.n, 100);
    assert_true(rec->good == (rec->problem == NULL));
}

static void test_scan(void **state)
{
    (void)state;
    struct rig r;
    struct rows n = {0};
    const struct spool_crypto none = {0};

    build(&r);
    rig_open(&r);
    assert_int_equal(spool_done(r.sp, 2), ERR_OK);
    spool_close(r.sp);
    assert_int_equal(spool_scan(&r.c.io, &none, on_row, &n, NULL), ERR_OK);
    assert_int_equal(n.good, 5 * 2 + 1 + 1);
    assert_int_equal(n.bad, 0);
    assert_int_equal(n.done, 1);
    assert_int_equal(n.checkpoint, 1);
    struct disk_file *f = disk_find(r.d, "seg-00000000");
    assert_non_null(f);
    f->now[SPOOL_HEAD + unit_size(1) + 3] ^= 1;
    n = (struct rows){0};
    assert_int_equal(spool_scan(&r.c.io, &none, on_row, &n, NULL), ERR_OK);
    assert_int_equal(n.good, 5 * 2 + 1 + 1 - 1);
    assert_int_equal(n.bad, 1);
    r.sp = NULL;
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torn),        cmocka_unit_test(test_torn_sectors),
        cmocka_unit_test(test_flip),        cmocka_unit_test(test_flip_later),
        cmocka_unit_test(test_lookalikes),  cmocka_unit_test(test_checkpoint_damage),
        cmocka_unit_test(test_header_lost), cmocka_unit_test(test_no_older_state),
        cmocka_unit_test(test_scan)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
