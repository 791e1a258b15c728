/* Settings trees: never a crash; what compiles exports to a tree that compiles to the same bytes.
 */
#include "fuzz.h"

#include "core/settings.h"

static void check_round_trip(const struct settings *s, struct arena *arena,
                             struct settings_errors *errors)
{
    struct buf once, again;
    struct settings *second = NULL;

    buf_init(&once, SETTINGS_TREE_MAX);
    buf_init(&again, SETTINGS_TREE_MAX);
    if (settings_export(s, &once) || settings_compile(buf_sv(&once), 2, arena, &second, errors) ||
        settings_export(second, &again) || !sv_eq(buf_sv(&once), buf_sv(&again)))
        abort();
    buf_done(&again);
    buf_done(&once);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct settings_errors errors;
    struct sv tree = sv_of((const char *)data, size);
    struct settings *s = NULL;
    struct arena arena;
    struct buf line;

    arena_init(&arena, 64U << 20);
    buf_init(&line, 4096);
    enum err err = settings_compile(tree, 1, &arena, &s, &errors);
    if ((err == ERR_OK) != (s != NULL) || (err != ERR_OK && !errors.total))
        abort();
    if (err == ERR_OK)
        check_round_trip(s, &arena, &errors);
    for (uint32_t i = 0; i < errors.n; i++) {
        buf_reset(&line);
        settings_error_format(&errors.list[i], &line);
        if (line.overflow || sv_find_byte(buf_sv(&line), '\n') != SIZE_MAX)
            abort();
    }
    buf_done(&line);
    arena_done(&arena);
    return 0;
}
