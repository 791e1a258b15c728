/* Event files: order and content, torn tails, damage, roll-over, restarts, bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "base/rng.h"
#include "store/eventlog.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANY_BYTES (1ull << 40)
#define FILES_MAX  64

struct place {
    char dir[64];
    struct eventlog *w;
    struct arena a;
    char files[FILES_MAX][32]; /* as listed last, sorted */
    uint32_t n_files;
};

static int setup(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    (void)snprintf(p->dir, sizeof(p->dir), "/tmp/ps-events-test-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    arena_init(&p->a, 64u * 1024 * 1024);
    assert_int_equal(eventlog_open_writer(p->dir, MANY_BYTES, &p->w, NULL), ERR_OK);
    *state = p;
    return 0;
}

static int by_name(const void *x, const void *y)
{
    return strcmp(x, y);
}

static void list(struct place *p)
{
    DIR *d = opendir(p->dir);

    p->n_files = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] != '.' && p->n_files < FILES_MAX)
            (void)snprintf(p->files[p->n_files++], sizeof(p->files[0]), "%.31s", e->d_name);
    }
    (void)closedir(d);
    qsort(p->files, p->n_files, sizeof(p->files[0]), by_name);
}

static int open_file(struct place *p, uint32_t i, int flags)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", p->dir, p->files[i]);
    int fd = open(path, flags | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static int teardown(void **state)
{
    struct place *p = *state;
    char path[128];

    eventlog_close(p->w);
    list(p);
    for (uint32_t i = 0; i < p->n_files; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", p->dir, p->files[i]);
        (void)unlink(path);
    }
    (void)rmdir(p->dir);
    arena_done(&p->a);
    free(p);
    return 0;
}

static void add(struct place *p, uint32_t n, size_t detail)
{
    char *text = calloc(1, detail + 1);

    memset(text, 'd', detail);
    for (uint32_t i = 0; i < n; i++) {
        struct event e = {.at_ms = 1000 + i,
                          .kind = EVENT_DELIVERED,
                          .id = 77,
                          .sender = SV("ann@inside.test"),
                          .subject = SV("h\xc3\xa9"),
                          .detail = sv_of(text, detail)};
        eventlog_add(p->w, &e);
    }
    (void)eventlog_flush(p->w);
    free(text);
}

static void reopen(struct place *p)
{
    eventlog_close(p->w);
    assert_int_equal(eventlog_open_writer(p->dir, MANY_BYTES, &p->w, NULL), ERR_OK);
}

static struct eventlog *reader(const struct place *p, uint64_t after)
{
    struct eventlog *r = NULL;

    assert_int_equal(eventlog_open_reader(p->dir, after, &r, NULL), ERR_OK);
    return r;
}

/* Reads to the end: ascending from `first`, returns the last number seen and counts. */
static uint64_t drain(struct place *p, struct eventlog *r, uint32_t *out_n)
{
    struct event e;
    uint64_t last = 0;

    *out_n = 0;
    while (arena_reset(&p->a), eventlog_next(r, &p->a, &e) == ERR_OK) {
        assert_true(e.seq > last);
        assert_int_equal(e.id, 77);
        last = e.seq;
        ++*out_n;
    }
    return last;
}

static void read_all(struct place *p, uint64_t after, uint64_t last, uint32_t n)
{
    struct eventlog *r = reader(p, after);
    uint32_t got = 0;

    assert_int_equal(drain(p, r, &got), last);
    assert_int_equal(got, n);
    eventlog_close(r);
}

static void events_come_back_as_they_were(void **state)
{
    struct place *p = *state;
    struct event e = {.at_ms = -5,
                      .kind = EVENT_ALARM,
                      .id = UINT64_MAX,
                      .parent = 3,
                      .revision = 4,
                      .sender = SV(""),
                      .rcpt = SV("\0x\xff"),
                      .detail = SV("{}")};
    struct event got;

    assert_int_equal(eventlog_flush(p->w), 0);
    eventlog_add(p->w, &e);
    assert_int_equal(e.seq, 1);
    struct eventlog *r = reader(p, 0);
    assert_int_equal(eventlog_next(r, &p->a, &got), ERR_AGAIN); /* gathered, not written */
    assert_int_equal(eventlog_flush(p->w), 1);
    assert_int_equal(eventlog_flush(p->w), 0);
    assert_int_equal(eventlog_next(r, &p->a, &got), ERR_OK);
    assert_true(got.at_ms == -5 && got.id == UINT64_MAX && got.parent == 3 && got.revision == 4);
    assert_true(sv_eq(got.rcpt, SV("\0x\xff")) && sv_eq(got.detail, SV("{}")));
    assert_int_equal(eventlog_next(r, &p->a, &got), ERR_AGAIN);
    add(p, 2, 10);
    assert_int_equal(eventlog_next(r, &p->a, &got), ERR_OK);
    assert_int_equal(got.seq, 2);
    eventlog_close(r);
    read_all(p, 2, 3, 1);
    read_all(p, 3, 0, 0);
    read_all(p, 99, 0, 0);
}

static void too_large_an_event_is_counted(void **state)
{
    struct place *p = *state;

    add(p, 1, 70000);
    assert_int_equal(eventlog_dropped(p->w), 1);
    add(p, 1, 60000);
    read_all(p, 0, 1, 1);
}

static void the_writer_goes_on_after_a_restart(void **state)
{
    struct place *p = *state;

    for (uint32_t i = 1; i <= 5; i++) {
        add(p, 3, 100);
        reopen(p);
        read_all(p, 0, 3ull * i, 3 * i);
    }
    reopen(p); /* without a new event */
    add(p, 1, 100);
    read_all(p, 0, 16, 16);
}

static void a_torn_tail_ends_its_file(void **state)
{
    struct place *p = *state;

    for (off_t cut = 1; cut < 180; cut += 7) {
        add(p, 3, 100);
        list(p);
        int fd = open_file(p, p->n_files - 1, O_RDWR);
        struct stat st;
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(ftruncate(fd, st.st_size > cut ? st.st_size - cut : 0), 0);
        (void)close(fd);
        reopen(p);
        struct eventlog *r = reader(p, 0);
        uint32_t before = 0, after = 0;
        uint64_t last = drain(p, r, &before);
        add(p, 2, 100);
        assert_int_equal(drain(p, r, &after), last + 2); /* no number twice, none left out */
        assert_int_equal(after, 2);
        eventlog_close(r);
        reopen(p);
    }
}

/* The first record of a file is torn: its number is given again, and is read. */
static void a_torn_first_record_hides_nothing(void **state)
{
    struct place *p = *state;

    add(p, 1, 1000);
    list(p);
    int fd = open_file(p, 0, O_RDWR);
    assert_int_equal(ftruncate(fd, 500), 0);
    (void)close(fd);
    reopen(p);
    add(p, 4, 100);
    read_all(p, 0, 4, 4);
}

static void a_flipped_byte_ends_its_file_only(void **state)
{
    struct rng rng = rng_seeded(5);
    struct place *p = *state;

    add(p, 20, 100);
    reopen(p);
    add(p, 20, 100);
    list(p);
    assert_int_equal(p->n_files, 2);
    for (int i = 0; i < 200; i++) {
        struct stat st;
        char byte, bad;
        int fd = open_file(p, 0, O_RDWR);
        assert_int_equal(fstat(fd, &st), 0);
        off_t at = (off_t)(rng_u64(&rng) % (uint64_t)st.st_size);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        bad = (char)(byte ^ (1 << (rng_u64(&rng) % 8)));
        assert_int_equal(pwrite(fd, &bad, 1, at), 1);
        struct eventlog *r = reader(p, 0);
        uint32_t n = 0;
        assert_int_equal(drain(p, r, &n), 40);
        assert_true(n >= 20 && n < 40);
        eventlog_close(r);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        (void)close(fd);
    }
    read_all(p, 0, 40, 40);
}

static void other_names_are_left_alone(void **state)
{
    static const char *const names[] = {"notes", "0000000000000001.bak", "xyz.log", "1.log"};
    struct place *p = *state;
    char path[128];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", p->dir, names[i]);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(write(fd, "junk", 4), 4);
        (void)close(fd);
    }
    reopen(p);
    add(p, 5, 100);
    read_all(p, 0, 5, 5);
    eventlog_stored(p->w, 5);
    list(p);
    assert_int_equal(p->n_files, ARRAY_LEN(names) + 1);
}

static void files_roll_over_and_acknowledged_ones_go(void **state)
{
    struct place *p = *state;
    struct eventlog *r = reader(p, 0);
    uint64_t last = 0;
    uint32_t total = 0, n;

    for (int i = 0; i < 12; i++) { /* 12 times 2.5 MB in files of 8 MB */
        add(p, 50, 50000);
        last = drain(p, r, &n);
        total += n;
    }
    assert_int_equal(total, 600);
    assert_int_equal(last, 600);
    eventlog_close(r);
    list(p);
    assert_int_equal(p->n_files, 3);
    read_all(p, 0, 600, 600);
    read_all(p, 590, 600, 10);
    eventlog_stored(p->w, 100); /* within the first file */
    list(p);
    assert_int_equal(p->n_files, 3);
    eventlog_stored(p->w, 300);
    list(p);
    assert_int_equal(p->n_files, 2);
    eventlog_stored(p->w, 600);
    list(p);
    assert_int_equal(p->n_files, 1);
    add(p, 1, 10);
    read_all(p, 600, 601, 1);
    reopen(p);
    add(p, 1, 10);
    read_all(p, 600, 602, 2);
    eventlog_stored(p->w, UINT64_MAX);
    add(p, 1, 10);
    read_all(p, 601, 603, 2);
}

static void a_reader_that_stays_misses_nothing(void **state)
{
    struct rng rng = rng_seeded(9);
    struct place *p = *state;
    struct eventlog *r = reader(p, 0);
    uint64_t wrote = 0, seen = 0;
    uint32_t n;

    for (int i = 0; i < 300; i++) {
        uint32_t some = (uint32_t)(rng_u64(&rng) % 4) + 1;
        add(p, some, rng_u64(&rng) % 60000);
        wrote += some;
        if (rng_u64(&rng) % 8 == 0)
            reopen(p);
        if (rng_u64(&rng) % 3 == 0) {
            (void)drain(p, r, &n);
            seen += n;
            assert_int_equal(seen, wrote);
            eventlog_stored(p->w, wrote);
        }
    }
    (void)drain(p, r, &n);
    assert_int_equal(seen + n, wrote);
    eventlog_close(r);
}

static void beyond_the_limit_the_oldest_goes(void **state)
{
    struct place *p = *state;
    uint32_t n = 0;

    eventlog_close(p->w);
    assert_int_equal(eventlog_open_writer(p->dir, 20u * 1024 * 1024, &p->w, NULL), ERR_OK);
    for (int i = 0; i < 24; i++)
        add(p, 50, 50000); /* 60 MB */
    list(p);
    assert_in_range(p->n_files, 2, 4);
    assert_true(eventlog_dropped(p->w) >= 3);
    struct eventlog *r = reader(p, 0);
    assert_int_equal(drain(p, r, &n), 1200);
    assert_in_range(n, 300, 700);
    eventlog_close(r);
    eventlog_close(p->w); /* a smaller limit than before */
    assert_int_equal(eventlog_open_writer(p->dir, 1024 * 1024, &p->w, NULL), ERR_OK);
    add(p, 1, 10);
    list(p);
    assert_int_equal(p->n_files, 1);
    read_all(p, 0, 1201, 1);
}

static void a_missing_folder_is_an_error(void **state)
{
    struct eventlog *l = NULL;
    struct errinfo info = {0};

    (void)state;
    assert_int_equal(eventlog_open_writer("/nonexistent/x", 1, &l, &info), ERR_IO);
    assert_int_equal(eventlog_open_reader("/nonexistent/x", 1, &l, &info), ERR_IO);
    assert_null(l);
    assert_true(strstr(info.text, "/nonexistent/x") != NULL);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(events_come_back_as_they_were),      T(too_large_an_event_is_counted),
        T(the_writer_goes_on_after_a_restart), T(a_torn_tail_ends_its_file),
        T(a_torn_first_record_hides_nothing),  T(a_flipped_byte_ends_its_file_only),
        T(other_names_are_left_alone),         T(files_roll_over_and_acknowledged_ones_go),
        T(a_reader_that_stays_misses_nothing), T(beyond_the_limit_the_oldest_goes),
        T(a_missing_folder_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
