/* Shared by the unit tests of core: trees from pieces, compiled settings, seeded inputs. */
#ifndef CORE_TEST_UTIL_H
#define CORE_TEST_UTIL_H

#include "core/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEST_ARENA_MAX (256u * 1024 * 1024)

struct piece {
    const char *name, *text;
};

/* Joins pieces (ended by a NULL name) into a tree. */
static inline void test_tree(const struct piece *pieces, struct buf *out)
{
    struct tree_file files[64];
    uint32_t n = 0;

    for (; pieces[n].name; n++) {
        assert_true(n < ARRAY_LEN(files));
        files[n] = (struct tree_file){sv_str(pieces[n].name), sv_str(pieces[n].text)};
    }
    assert_int_equal(tree_join(files, n, out), ERR_OK);
}

static inline void test_print_errors(const struct settings_errors *errors)
{
    struct buf b;

    buf_init(&b, 65536);
    for (uint32_t i = 0; i < errors->n; i++) {
        settings_error_format(&errors->list[i], &b);
        (void)buf_append_byte(&b, '\n');
    }
    print_message("%.*s", SV_ARG(buf_sv(&b)));
    buf_done(&b);
}

/* Compiles pieces that are right. */
static inline struct settings *test_compile(const struct piece *pieces, struct arena *a)
{
    struct settings_errors *errors = calloc(1, sizeof(*errors));
    struct settings *s = NULL;
    struct buf tree;

    assert_non_null(errors);
    buf_init(&tree, SETTINGS_TREE_MAX);
    test_tree(pieces, &tree);
    enum err err = settings_compile(buf_sv(&tree), 1, a, &s, errors);
    if (err)
        test_print_errors(errors);
    assert_int_equal(err, ERR_OK);
    buf_done(&tree);
    free(errors);
    return s;
}

#define assert_sv(v, text) test_assert_sv((v), (text), __FILE__, __LINE__)
static inline void test_assert_sv(struct sv v, const char *text, const char *file, int line)
{
    if (!sv_eq(v, sv_str(text))) {
        print_message("\"%.*s\" is not \"%s\"\n", SV_ARG(v), text);
        _fail(file, line);
    }
}

#endif
