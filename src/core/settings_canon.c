/* Reads a tree from standard input and writes its canonical form: build tool of the default tree.
 */
#include "core/settings.h"

#include <stdio.h>

static bool read_all(FILE *f, struct buf *out)
{
    char room[4096];
    size_t n;

    while ((n = fread(room, 1, sizeof(room), f)) > 0)
        (void)buf_append(out, room, n);
    return !ferror(f) && !out->overflow;
}

static void put_row(const struct setting *row, struct buf *out)
{
    (void)buf_printf(out, "| `%s` | ", row->key);
    setting_range_format(row, out);
    (void)buf_printf(out, " | %s |\n", row->doc);
}

static void put_file(const char *name, const char *heading, struct buf *out)
{
    (void)buf_printf(out, "\n### %s.conf\n%s.\n\n| key | range | meaning |\n|---|---|---|\n", name,
                     heading);
    for (size_t i = 0; i < settings_table_n; i++)
        if (sv_eq(sv_str(settings_table[i].file), sv_str(name)))
            put_row(&settings_table[i], out);
}

static int print_table(void)
{
    struct buf out;

    buf_init(&out, 1u << 20);
#define PUT_FILE(name, heading) put_file(#name, heading, &out);
    SETTINGS_FILES(PUT_FILE)
#undef PUT_FILE
    size_t n = fwrite(out.p, 1, out.n, stdout);
    int rc = n == out.n && !out.overflow ? 0 : 1;
    buf_done(&out);
    return rc;
}

static int print_canonical(void)
{
    static struct settings_errors errors;
    struct arena arena;
    struct settings *s;
    struct buf in, out;
    int rc = 1;

    arena_init(&arena, 8 * SETTINGS_TREE_MAX);
    buf_init(&in, SETTINGS_TREE_MAX);
    buf_init(&out, SETTINGS_TREE_MAX);
    if (read_all(stdin, &in) && settings_compile(buf_sv(&in), 1, &arena, &s, &errors) == ERR_OK &&
        settings_export(s, &out) == ERR_OK)
        rc = fwrite(out.p, 1, out.n, stdout) == out.n ? 0 : 1;
    buf_reset(&in);
    for (uint32_t i = 0; i < errors.n; i++) {
        buf_reset(&in);
        settings_error_format(&errors.list[i], &in);
        fprintf(stderr, "%.*s\n", SV_ARG(buf_sv(&in)));
    }
    buf_done(&in);
    buf_done(&out);
    arena_done(&arena);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc == 2 && sv_eq(sv_str(argv[1]), SV("--table")))
        return print_table();
    return print_canonical();
}
