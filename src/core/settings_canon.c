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

int main(void)
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
