/* The data-access layer on SQLite, in a file of its own for each test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "store/db.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY 86400000ll

struct place {
    char dir[64], url[128];
    struct db *db;
    uint64_t seq;
};

static int setup(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    struct errinfo info;

    (void)snprintf(p->dir, sizeof(p->dir), "/tmp/ps-db-test-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    (void)snprintf(p->url, sizeof(p->url), "sqlite:%s/t.db", p->dir);
    assert_int_equal(db_open(p->url, &p->db, &info), ERR_OK);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    static const char *const names[] = {"t.db", "t.db-wal", "t.db-shm"};
    struct place *p = *state;
    char path[128];

    db_close(p->db);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", p->dir, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(p->dir);
    free(p);
    return 0;
}

static void reopen(struct place *p)
{
    struct errinfo info;

    db_close(p->db);
    p->db = NULL;
    assert_int_equal(db_open(p->url, &p->db, &info), ERR_OK);
}

/* ---- events ---- */

static void add(struct place *p, const struct event *e)
{
    struct event copy = *e;
    struct errinfo info;

    copy.seq = ++p->seq;
    assert_int_equal(db_events_add(p->db, &copy, 1, &info), ERR_OK);
}

static void received(struct place *p, uint64_t id, int64_t at, const char *sender,
                     const char *subject)
{
    struct event e = {.kind = EVENT_RECEIVED,
                      .id = id,
                      .at_ms = at,
                      .sender = sv_str(sender),
                      .subject = sv_str(subject),
                      .message_id = SV("<m@x>"),
                      .detail = SV("{}")};

    add(p, &e);
}

static void happened(struct place *p, enum event_kind kind, uint64_t id, uint64_t parent,
                     const char *rcpt)
{
    struct event e = {.kind = (uint8_t)kind, .id = id, .parent = parent, .rcpt = sv_str(rcpt)};

    add(p, &e);
}

struct seen {
    uint64_t seqs[4000], ids[4000];
    uint32_t n;
    struct event last;
    char text[256];
};

static void see(void *ctx, const struct event *e)
{
    struct seen *s = ctx;

    assert_true(s->n < ARRAY_LEN(s->seqs));
    s->seqs[s->n] = e->seq;
    s->ids[s->n++] = e->id;
    s->last = *e;
    (void)snprintf(s->text, sizeof(s->text), "%.*s|%.*s|%.*s|%.*s|%.*s", SV_ARG(e->sender),
                   SV_ARG(e->rcpt), SV_ARG(e->subject), SV_ARG(e->message_id), SV_ARG(e->detail));
}

static struct seen *of(struct place *p, uint64_t id)
{
    static struct seen s;
    struct errinfo info;

    s.n = 0;
    assert_int_equal(db_events_of(p->db, id, see, &s, &info), ERR_OK);
    return &s;
}

static struct seen *find(struct place *p, struct event_query q)
{
    static struct seen s;
    struct errinfo info;

    s.n = 0;
    assert_int_equal(db_messages_find(p->db, &q, see, &s, &info), ERR_OK);
    return &s;
}

static void events_come_back_as_they_were(void **state)
{
    struct place *p = *state;
    struct event e = {.at_ms = 1700000000123,
                      .kind = EVENT_RECEIVED,
                      .id = UINT64_MAX - 1,
                      .revision = 12,
                      .sender = SV("\"o'brien\"@x; DROP TABLE event"),
                      .subject = SV("h\xc3\xa9 \xff"),
                      .detail = SV("{\"a\":1}")};

    add(p, &e);
    reopen(p);
    struct seen *s = of(p, UINT64_MAX - 1);
    assert_int_equal(s->n, 1);
    assert_true(s->last.at_ms == 1700000000123 && s->last.kind == EVENT_RECEIVED &&
                s->last.id == UINT64_MAX - 1 && s->last.revision == 12);
    assert_string_equal(s->text, "\"o'brien\"@x; DROP TABLE event||h\xc3\xa9 \xff||{\"a\":1}");
    assert_int_equal(of(p, 5)->n, 0);
}

static void the_cursor_makes_batches_idempotent(void **state)
{
    struct place *p = *state;
    struct event list[10];
    struct errinfo info;
    uint64_t cursor = 99;

    assert_int_equal(db_events_cursor(p->db, &cursor, &info), ERR_OK);
    assert_int_equal(cursor, 0);
    for (uint32_t i = 0; i < 10; i++)
        list[i] = (struct event){.seq = i + 1, .kind = EVENT_ATTEMPT, .id = 7};
    assert_int_equal(db_events_add(p->db, list, 6, &info), ERR_OK);
    assert_int_equal(db_events_add(p->db, list + 3, 7, &info), ERR_OK); /* three of them again */
    assert_int_equal(db_events_add(p->db, list, 10, &info), ERR_OK);
    assert_int_equal(db_events_add(p->db, list, 0, &info), ERR_OK);
    assert_int_equal(of(p, 7)->n, 10);
    assert_int_equal(db_events_cursor(p->db, &cursor, &info), ERR_OK);
    assert_int_equal(cursor, 10);
    list[0].seq = 1000; /* a gap: files were dropped */
    assert_int_equal(db_events_add(p->db, list, 1, &info), ERR_OK);
    assert_int_equal(of(p, 7)->n, 11);
}

static void a_result_that_is_told_twice_happened_once(void **state)
{
    struct place *p = *state;

    for (int i = 0; i < 2; i++) {
        happened(p, EVENT_ATTEMPT, 1, 0, "bob@y"); /* attempts are many */
        happened(p, EVENT_DELIVERED, 1, 0, "bob@y");
        happened(p, EVENT_DELIVERED, 1, 0, "eve@y");
        happened(p, EVENT_BOUNCED, 1, 0, "joe@y");
        happened(p, EVENT_BOUNCED, 1, 0, ""); /* what an administrator did */
        happened(p, EVENT_EXPIRED, 1, 0, "ann@y");
        happened(p, EVENT_DONE, 1, 0, "");
        happened(p, EVENT_DELIVERED, 2, 1, "bob@y");
    }
    assert_int_equal(of(p, 1)->n, 8 + 2);
}

static void a_family_is_one_timeline(void **state)
{
    struct place *p = *state;
    static const uint64_t members[] = {1, 2, 3, 4, 5};

    received(p, 1, 100, "ann@x", "s");
    received(p, 9, 100, "other@x", "s");
    happened(p, EVENT_SPLIT, 1, 0, "");
    happened(p, EVENT_DECIDED, 2, 1, ""); /* two copies */
    happened(p, EVENT_DECIDED, 3, 1, "");
    happened(p, EVENT_BOUNCED, 2, 1, "bob@y");
    happened(p, EVENT_DECIDED, 4, 2, ""); /* a report about a copy */
    happened(p, EVENT_BOUNCED, 4, 2, "ann@x");
    happened(p, EVENT_DECIDED, 5, 4, ""); /* and a notice about the report */
    happened(p, EVENT_DELIVERED, 5, 4, "root@x");
    happened(p, EVENT_DELIVERED, 3, 1, "eve@y");
    happened(p, EVENT_DELIVERED, 9, 0, "eve@y");
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        struct seen *s = of(p, members[i]);
        assert_int_equal(s->n, 10);
        for (uint32_t k = 1; k < s->n; k++)
            assert_true(s->seqs[k] > s->seqs[k - 1]);
    }
    assert_int_equal(of(p, 9)->n, 2);
    assert_int_equal(find(p, (struct event_query){0})->n, 6); /* each message once */
}

static void search_takes_text_literally(void **state)
{
    static const struct {
        const char *text;
        uint32_t n;
    } rows[] = {
        {"ann", 2},    {"ANN@", 2},   {"100%", 1},  {"%", 1},      {"_", 1},
        {"a_b", 1},    {"\\", 1},     {"c:\\t", 1}, {"bob@y", 1},  {"<m@x>", 4},
        {"nobody", 0}, {"' OR 1", 0}, {"", 4},      {"annual", 0},
    };
    struct place *p = *state;
    char lang[3000];

    received(p, 1, 100, "ann@x", "100% sure");
    received(p, 2, 200, "ann@x", "a_b");
    received(p, 3, 300, "joe@x", "c:\\temp");
    received(p, 4, 400, "joe@x", "axb 1000");
    happened(p, EVENT_DELIVERED, 4, 0, "bob@y");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint32_t n = find(p, (struct event_query){.text = sv_str(rows[i].text)})->n;
        if (n != rows[i].n)
            fail_msg("\"%s\": %u", rows[i].text, n);
    }
    memset(lang, 'a', sizeof(lang));
    assert_int_equal(find(p, (struct event_query){.text = sv_of(lang, sizeof(lang))})->n, 0);
    struct seen *s = find(p, (struct event_query){.limit = 2});
    assert_true(s->n == 2 && s->ids[0] == 4 && s->ids[1] == 3); /* newest first */
    s = find(p, (struct event_query){.from_ms = 200, .to_ms = 400});
    assert_true(s->n == 2 && s->ids[0] == 3 && s->ids[1] == 2);
    s = find(p, (struct event_query){.text = SV("ann"), .from_ms = 200});
    assert_true(s->n == 1 && s->ids[0] == 2);
}

/* ---- purge ---- */

static uint32_t purge(struct place *p, int64_t before, uint64_t bytes, uint32_t slice)
{
    uint32_t calls = 1;

    while (db_events_purge(p->db, before, bytes, slice)) {
        calls++;
        assert_true(calls < 1000);
    }
    return calls;
}

static void fill(struct place *p, uint32_t n, size_t detail)
{
    struct event *list = calloc(n, sizeof(*list));
    char *text = calloc(1, detail + 1);
    struct errinfo info;

    memset(text, 'x', detail);
    for (uint32_t i = 0; i < n; i++)
        list[i] = (struct event){.seq = ++p->seq,
                                 .kind = EVENT_RECEIVED,
                                 .id = p->seq,
                                 .at_ms = (int64_t)p->seq * 1000,
                                 .detail = sv_of(text, detail)};
    assert_int_equal(db_events_add(p->db, list, n, &info), ERR_OK);
    free(list);
    free(text);
}

static void old_events_go_in_slices(void **state)
{
    struct place *p = *state;

    fill(p, 1000, 10);
    assert_int_equal(purge(p, 0, UINT64_MAX, 100), 1);
    assert_int_equal(find(p, (struct event_query){0})->n, 1000);
    assert_true(db_events_purge(p->db, 500 * 1000, UINT64_MAX, 100)); /* a slice, more to come */
    assert_int_equal(find(p, (struct event_query){0})->n, 900);
    assert_true(purge(p, 500 * 1000, UINT64_MAX, 100) <= 6);
    struct seen *s = find(p, (struct event_query){0});
    assert_int_equal(s->n, 501); /* to the event, not to the slice */
    assert_int_equal(s->ids[500], 500);
    assert_int_equal(purge(p, 503 * 1000, UINT64_MAX, 2000), 1); /* fewer than a slice */
    assert_int_equal(find(p, (struct event_query){0})->n, 498);
    (void)purge(p, INT64_MAX, UINT64_MAX, 100);
    assert_int_equal(find(p, (struct event_query){0})->n, 0);
    assert_int_equal(of(p, 900)->n, 0);
}

static void too_large_loses_the_oldest_only(void **state)
{
    struct place *p = *state;
    struct stat before, after;

    for (int i = 0; i < 10; i++)
        fill(p, 200, 4000); /* 8 MB */
    reopen(p);
    assert_int_equal(stat(p->url + 7, &before), 0);
    (void)purge(p, 0, 4u * 1024 * 1024, 50);
    struct seen *s = find(p, (struct event_query){0});
    assert_in_range(s->n, 600, 1100);
    assert_int_equal(s->ids[0], 2000);
    (void)purge(p, 0, 4u * 1024 * 1024, 50); /* and then no more */
    assert_int_equal(find(p, (struct event_query){0})->n, s->n);
    for (int i = 0; i < 100; i++)
        (void)db_events_purge(p->db, 0, 4u * 1024 * 1024, 50);
    reopen(p);
    assert_int_equal(stat(p->url + 7, &after), 0);
    assert_true(after.st_size < before.st_size); /* the file shrinks */
}

/* ---- revisions, draft, audit ---- */

struct history {
    uint64_t numbers[10];
    bool active[10];
    uint32_t n;
};

static void see_revision(void *ctx, const struct revision *r)
{
    struct history *h = ctx;

    h->active[h->n] = r->active;
    h->numbers[h->n++] = r->number;
}

static enum err revision(struct place *p, uint64_t number, const char *tree)
{
    struct revision r = {
        .number = number, .at_ms = 5, .author = SV("ann"), .comment = SV("why \"not\"")};
    struct errinfo info;

    return db_revision_add(p->db, &r, sv_str(tree), &info);
}

static void one_revision_is_active(void **state)
{
    struct place *p = *state;
    struct history h = {0};
    struct errinfo info;
    struct buf tree;
    uint64_t active = 0;

    buf_init(&tree, 1024);
    assert_int_equal(db_revision_active(p->db, &active, &info), ERR_NOTFOUND);
    assert_int_equal(revision(p, 1, "one"), ERR_OK);
    assert_int_equal(revision(p, 2, "two"), ERR_OK);
    assert_int_equal(revision(p, 2, "again"), ERR_IO); /* immutable: nothing changes */
    assert_int_equal(db_revision_active(p->db, &active, &info), ERR_OK);
    assert_int_equal(active, 2);
    assert_int_equal(revision(p, 7, "seven"), ERR_OK);
    reopen(p);
    assert_int_equal(db_revision_active(p->db, &active, &info), ERR_OK);
    assert_int_equal(active, 7);
    assert_int_equal(db_revision_tree(p->db, 2, &tree, &info), ERR_OK);
    assert_true(sv_eq(buf_sv(&tree), SV("two")));
    assert_int_equal(db_revision_tree(p->db, 3, &tree, &info), ERR_NOTFOUND);
    assert_string_equal(info.text, "there is no revision 3");
    assert_int_equal(db_revision_list(p->db, see_revision, &h, &info), ERR_OK);
    assert_int_equal(h.n, 3);
    assert_true(h.numbers[0] == 1 && h.numbers[2] == 7);
    assert_true(!h.active[0] && !h.active[1] && h.active[2]);
    buf_done(&tree);
}

static void the_draft_is_one(void **state)
{
    struct place *p = *state;
    struct errinfo info;
    struct buf tree;

    buf_init(&tree, 1024);
    assert_int_equal(db_draft_get(p->db, &tree, &info), ERR_OK);
    assert_int_equal(tree.n, 0);
    assert_int_equal(db_draft_set(p->db, SV("x\0y"), &info), ERR_OK);
    reopen(p);
    assert_int_equal(db_draft_get(p->db, &tree, &info), ERR_OK);
    assert_true(sv_eq(buf_sv(&tree), SV("x\0y")));
    assert_int_equal(db_draft_set(p->db, SV(""), &info), ERR_OK);
    buf_reset(&tree);
    assert_int_equal(db_draft_get(p->db, &tree, &info), ERR_OK);
    assert_int_equal(tree.n, 0);
    buf_done(&tree);
}

static void see_audit(void *ctx, const struct audit *a)
{
    struct history *h = ctx;

    assert_true(sv_eq(a->user, SV("ann")) && sv_eq(a->detail, SV("d'")));
    h->numbers[h->n++] = (uint64_t)a->at_ms;
}

static void the_audit_trail_lists_the_newest(void **state)
{
    struct place *p = *state;
    struct history h = {0};
    struct errinfo info;

    for (int i = 1; i <= 20; i++) {
        struct audit a = {i, SV("ann"), SV("deploy"), SV("revision"), SV("d'")};
        assert_int_equal(db_audit_add(p->db, &a, &info), ERR_OK);
    }
    reopen(p);
    assert_int_equal(db_audit_list(p->db, 5, see_audit, &h, &info), ERR_OK);
    assert_int_equal(h.n, 5);
    assert_true(h.numbers[0] == 20 && h.numbers[4] == 16);
}

/* ---- opening ---- */

static void a_newer_format_is_refused(void **state)
{
    struct place *p = *state;
    struct db *db = NULL;
    struct errinfo info = {0};
    sqlite3 *h = NULL;

    assert_int_equal(sqlite3_open(p->url + 7, &h), SQLITE_OK);
    assert_int_equal(sqlite3_exec(h, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(h), SQLITE_OK);
    assert_int_equal(db_open(p->url, &db, &info), ERR_CONFLICT);
    assert_null(db);
    assert_true(strstr(info.text, "99") != NULL);
}

static void what_cannot_be_opened_is_an_error(void **state)
{
    static const char *const urls[] = {"sqlite:/nonexistent/x/y.db", "postgresql://x", "", "x.db"};
    struct errinfo info = {0};
    struct db *db = NULL;
    struct place *p = *state;
    char junk[128];

    for (size_t i = 0; i < ARRAY_LEN(urls); i++)
        assert_int_not_equal(db_open(urls[i], &db, &info), ERR_OK);
    (void)snprintf(junk, sizeof(junk), "sqlite:%s/junk", p->dir);
    FILE *f = fopen(junk + 7, "w");
    for (int i = 0; i < 1000; i++)
        (void)fprintf(f, "this is not a database\n");
    (void)fclose(f);
    assert_int_not_equal(db_open(junk, &db, &info), ERR_OK);
    assert_null(db);
    (void)unlink(junk + 7);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(events_come_back_as_they_were),
        T(the_cursor_makes_batches_idempotent),
        T(a_result_that_is_told_twice_happened_once),
        T(a_family_is_one_timeline),
        T(search_takes_text_literally),
        T(old_events_go_in_slices),
        T(too_large_loses_the_oldest_only),
        T(one_revision_is_active),
        T(the_draft_is_one),
        T(the_audit_trail_lists_the_newest),
        T(a_newer_format_is_refused),
        T(what_cannot_be_opened_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
