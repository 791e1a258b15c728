/* Text trees of settings on disk: written, read back, compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "core/settings.h"
#include "role/ctl.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
    char dir[64], sub[80];
    struct buf tree, back;
};

static int setup(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    (void)snprintf(p->dir, sizeof(p->dir), "/tmp/ps-tree-test-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    (void)snprintf(p->sub, sizeof(p->sub), "%s/tree", p->dir);
    buf_init(&p->tree, SETTINGS_TREE_MAX);
    buf_init(&p->back, SETTINGS_TREE_MAX);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -rf %s", p->dir);
    (void)!system(command);
    buf_done(&p->tree);
    buf_done(&p->back);
    free(p);
    return 0;
}

static void put(const struct place *p, const char *name, const char *text)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", p->sub, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fputs(text, f) >= 0, 1);
    assert_int_equal(fclose(f), 0);
}

static void join(struct buf *out, const char *a, const char *text_a, const char *b,
                 const char *text_b)
{
    struct tree_file files[] = {{sv_str(a), sv_str(text_a)}, {sv_str(b), sv_str(text_b)}};

    buf_reset(out);
    assert_int_equal(tree_join(files, b ? 2 : 1, out), ERR_OK);
}

static void what_is_written_is_read_back(void **state)
{
    struct place *p = *state;
    struct errinfo info;

    assert_int_equal(ctl_tree_write(p->sub, settings_default_tree(), &info), ERR_OK);
    assert_int_equal(ctl_tree_read(p->sub, &p->back, &info), ERR_OK);
    assert_true(sv_eq(buf_sv(&p->back), settings_default_tree()));
    /* over what is there: files are replaced, not appended to */
    join(&p->tree, "delivery.conf", "x\n", "groups/domain/a.txt", "");
    assert_int_equal(ctl_tree_write(p->sub, buf_sv(&p->tree), &info), ERR_OK);
    buf_reset(&p->back);
    assert_int_equal(ctl_tree_read(p->sub, &p->back, &info), ERR_OK);
    assert_true(sv_find(buf_sv(&p->back), SV("== delivery.conf 2\nx\n")) != SIZE_MAX);
    assert_true(sv_find(buf_sv(&p->back), SV("== groups/domain/a.txt 0\n")) != SIZE_MAX);
}

static void hidden_files_and_deep_folders_are_left_out(void **state)
{
    struct place *p = *state;
    struct errinfo info;
    char path[128];

    join(&p->tree, "general.conf", "fqdn = a.b\n", NULL, NULL);
    assert_int_equal(ctl_tree_write(p->sub, buf_sv(&p->tree), &info), ERR_OK);
    put(p, ".hidden", "x");
    (void)snprintf(path, sizeof(path), "%s/.git", p->sub);
    assert_int_equal(mkdir(path, 0700), 0);
    put(p, ".git/config", "x");
    assert_int_equal(ctl_tree_read(p->sub, &p->back, &info), ERR_OK);
    assert_true(sv_eq(buf_sv(&p->back), buf_sv(&p->tree)));
}

static void nothing_is_written_outside(void **state)
{
    static const char *const names[] = {"../out", "a/../../out", "/tmp/postseal-out", "a/./b",
                                        "",       "a//b"};
    struct place *p = *state;
    struct errinfo info;
    char path[128];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        buf_reset(&p->tree);
        (void)buf_printf(&p->tree, "== %s 4\nevil", names[i]);
        assert_int_not_equal(ctl_tree_write(p->sub, buf_sv(&p->tree), &info), ERR_OK);
        (void)snprintf(path, sizeof(path), "%s/out", p->dir);
        assert_int_not_equal(access(path, F_OK), 0);
        assert_int_not_equal(access("/tmp/postseal-out", F_OK), 0);
    }
}

static void what_cannot_be_read_is_named(void **state)
{
    struct place *p = *state;
    struct errinfo info;
    char path[128];

    assert_int_equal(ctl_tree_read(p->sub, &p->back, &info), ERR_IO);
    assert_non_null(strstr(info.text, p->sub));
    join(&p->tree, "general.conf", "", NULL, NULL);
    assert_int_equal(ctl_tree_write(p->sub, buf_sv(&p->tree), &info), ERR_OK);
    (void)snprintf(path, sizeof(path), "%s/huge.conf", p->sub);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, 20 << 20), 0);
    (void)close(fd);
    assert_int_equal(ctl_tree_read(p->sub, &p->back, &info), ERR_LIMIT);
    (void)unlink(path);
    assert_int_equal(symlink("/nonexistent", path), 0);
    assert_int_equal(ctl_tree_read(p->sub, &p->back, &info), ERR_IO);
    (void)unlink(path);
    put(p, "file", "x"); /* a file where a folder is to be */
    join(&p->tree, "file/a.txt", "x", NULL, NULL);
    assert_int_equal(ctl_tree_write(p->sub, buf_sv(&p->tree), &info), ERR_IO);
}

/* ---- diff: standard output goes to a file meanwhile ---- */

static bool diff(struct place *p, char out[4096])
{
    char path[128];
    int old = dup(STDOUT_FILENO);

    (void)fflush(stdout);
    (void)snprintf(path, sizeof(path), "%s/out.txt", p->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(dup2(fd, STDOUT_FILENO) >= 0);
    bool any = ctl_tree_diff(buf_sv(&p->tree), buf_sv(&p->back));
    (void)fflush(stdout);
    assert_true(dup2(old, STDOUT_FILENO) >= 0);
    (void)close(old);
    ssize_t n = pread(fd, out, 4095, 0);
    out[n > 0 ? n : 0] = 0;
    (void)close(fd);
    return any;
}

static void differences_are_shown_line_by_line(void **state)
{
    static const struct {
        const char *from, *to, *shown;
    } rows[] = {
        {"a\nb\nc\n", "a\nb\nc\n", ""},
        {"a\nb\nc\n", "a\nx\nc\n", "f.conf\n- b\n+ x\n"},
        {"a\nb\n", "a\nb\nc\n", "f.conf\n+ c\n"},
        {"a\nb\nc\n", "c\n", "f.conf\n- a\n- b\n"},
        {"", "a\n", "f.conf\n+ a\n"},
        {"a\n\n\nb", "a\n\nb", "f.conf\n- \n"},
    };
    struct place *p = *state;
    char out[4096];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        join(&p->tree, "f.conf", rows[i].from, "same", "x");
        join(&p->back, "f.conf", rows[i].to, "same", "x");
        assert_true(diff(p, out) == (rows[i].shown[0] != 0));
        assert_string_equal(out, rows[i].shown);
    }
    join(&p->tree, "a", "1\n", "b", "2\n");
    join(&p->back, "b", "2\n", "c", "3\n");
    assert_true(diff(p, out));
    assert_string_equal(out, "a\n- 1\nc\n+ 3\n");
}

static void long_files_are_compared_as_a_whole(void **state)
{
    struct place *p = *state;
    struct buf x, y;
    char *out = calloc(1, 4096);

    buf_init(&x, 1024 * 1024);
    buf_init(&y, 1024 * 1024);
    for (int i = 0; i < 5000; i++) {
        (void)buf_printf(&x, "line %d\n", i);
        (void)buf_printf(&y, "line %d\n", i == 2500 ? 0 : i);
    }
    (void)buf_append_byte(&x, 0);
    (void)buf_append_byte(&y, 0);
    join(&p->tree, "f", x.p, NULL, NULL);
    join(&p->back, "f", y.p, NULL, NULL);
    assert_true(diff(p, out));
    buf_done(&x);
    buf_done(&y);
    free(out);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(what_is_written_is_read_back),       T(hidden_files_and_deep_folders_are_left_out),
        T(nothing_is_written_outside),         T(what_cannot_be_read_is_named),
        T(differences_are_shown_line_by_line), T(long_files_are_compared_as_a_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
