#include "core/test_util.h"

static struct settings_errors errors;

static enum err compile_tree(struct sv tree, struct arena *a, struct settings **out_s)
{
    return settings_compile(tree, 7, a, out_s, &errors);
}

/* ---- round trips ---- */

static void default_tree_is_canonical(void **state)
{
    struct arena a;
    struct settings *s;
    struct buf out;

    (void)state;
    arena_init(&a, TEST_ARENA_MAX);
    buf_init(&out, SETTINGS_TREE_MAX);
    enum err err = compile_tree(settings_default_tree(), &a, &s);
    test_print_errors(&errors);
    assert_int_equal(err, ERR_OK);
    assert_int_equal(settings_export(s, &out), ERR_OK);
    if (!sv_eq(buf_sv(&out), settings_default_tree()))
        fail_msg("share/settings is not canonical: run tools/regen-default-settings");
    buf_done(&out);
    arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_tree_is_canonical),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
