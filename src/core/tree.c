/*
 * The tree: files in one byte string.
 *
 * SECURITY: trees come from administrators and from other processes. Names are checked against a
 * closed alphabet, so that a name never leaves the folder it is written into.
 */
#include "core/compile.h"
#include "core/sort.h"

#define TREE_NAME_MAX  100
#define TREE_FILES_MAX 20000u

static bool name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' ||
           c == '/';
}

/* Lower case letters, digits, '-', '_', '.', '/'; no part is empty or begins with a dot. */
static bool tree_name_valid(struct sv name)
{
    char before = '/';

    if (!name.n || name.n > TREE_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!name_byte(c) || (before == '/' && (c == '.' || c == '/')))
            return false;
        before = c;
    }
    return before != '/';
}

static int file_cmp(const void *x, const void *y)
{
    const struct tree_file *a = x, *b = y;

    return sv_cmp(a->name, b->name);
}

/* Cuts one file off *rest. */
static bool take_file(struct sv *rest, struct tree_file *out_file)
{
    size_t end = sv_find_byte(*rest, '\n');
    uint64_t n;

    if (end == SIZE_MAX || !sv_starts(*rest, SV("== ")))
        return false;
    struct sv head = sv_skip(sv_take(*rest, end), 3);
    size_t space = sv_find_byte(head, ' ');
    if (space == SIZE_MAX)
        return false;
    struct sv name = sv_take(head, space), body = sv_skip(*rest, end + 1);
    if (!tree_name_valid(name) || !sv_to_u64(sv_skip(head, space + 1), 0, body.n, &n))
        return false;
    *out_file = (struct tree_file){name, sv_take(body, (size_t)n)};
    *rest = sv_skip(body, (size_t)n);
    return true;
}

enum err tree_parse(struct sv tree, struct arena *a, struct tree_file **out_files, uint32_t *out_n)
{
    struct sv rest = tree;
    struct tree_file file, *files;
    uint32_t n = 0;

    if (tree.n > SETTINGS_TREE_MAX)
        return ERR_LIMIT;
    for (; rest.n; n++)
        if (n == TREE_FILES_MAX || !take_file(&rest, &file))
            return n == TREE_FILES_MAX ? ERR_LIMIT : ERR_SYNTAX;
    files = ARENA_ARRAY(a, struct tree_file, n ? n : 1);
    if (!files)
        return ERR_LIMIT;
    rest = tree;
    for (uint32_t i = 0; i < n; i++)
        (void)take_file(&rest, &files[i]);
    *out_files = files;
    *out_n = n;
    return ERR_OK;
}

enum err tree_join(struct tree_file *files, uint32_t n, struct buf *out_tree)
{
    for (uint32_t i = 0; i < n; i++)
        if (!tree_name_valid(files[i].name))
            return ERR_SYNTAX;
    sort_items(files, n, sizeof(*files), file_cmp);
    for (uint32_t i = 1; i < n; i++)
        if (sv_eq(files[i - 1].name, files[i].name))
            return ERR_CONFLICT;
    for (uint32_t i = 0; i < n; i++) {
        (void)buf_printf(out_tree, "== %.*s %zu\n", SV_ARG(files[i].name), files[i].text.n);
        (void)buf_append_sv(out_tree, files[i].text);
    }
    return out_tree->overflow ? ERR_LIMIT : ERR_OK;
}

struct sv tree_name_inner(struct sv name, struct sv prefix, struct sv suffix)
{
    if (name.n <= prefix.n + suffix.n || !sv_starts(name, prefix) ||
        !sv_eq(sv_skip(name, name.n - suffix.n), suffix))
        return SV_NULL;
    return sv_take(sv_skip(name, prefix.n), name.n - prefix.n - suffix.n);
}
