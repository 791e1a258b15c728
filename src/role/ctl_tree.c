/* Text trees of settings on disk: read into one canonical byte string, written out, compared. */
#include "core/settings.h"
#include "role/ctl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX  100000
#define FILE_MAX   (10u * 1024 * 1024 + 4096)
#define PATH_BYTES 4096

struct reading {
    struct arena arena;
    struct tree_file *files;
    uint32_t n, cap;
    struct errinfo *info;
};

static enum err read_whole(const char *path, struct arena *a, struct sv *out, struct errinfo *info)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st)) {
        int sys = errno;
        if (fd >= 0)
            close(fd);
        return err_set_sys(info, ERR_IO, sys, "%s cannot be read", path);
    }
    enum err err =
        st.st_size > FILE_MAX ? err_set(info, ERR_LIMIT, "%s is larger than 10 MB", path) : ERR_OK;
    char *p = err ? NULL : arena_alloc(a, (size_t)st.st_size + 1);
    size_t n = 0;
    while (p && n < (size_t)st.st_size) {
        ssize_t got = read(fd, p + n, (size_t)st.st_size - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    if (!err && (!p || n != (size_t)st.st_size))
        err = err_set(info, ERR_IO, "%s changed while it was read", path);
    if (!err)
        *out = sv_of(p, n);
    return err;
}

static enum err add_file(struct reading *r, const char *dir, const char *name)
{
    char path[PATH_BYTES];
    struct tree_file f = {.name = arena_sv(&r->arena, sv_str(name))};

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    enum err err = read_whole(path, &r->arena, &f.text, r->info);
    if (err)
        return err;
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 64;
        struct tree_file *more = realloc(r->files, r->cap * sizeof(*more));
        if (!more)
            abort();
        r->files = more;
    }
    r->files[r->n++] = f;
    return r->n > FILES_MAX ? err_set(r->info, ERR_LIMIT, "too many files") : ERR_OK;
}

/* Reads DIR/sub, one level deep at a time; hidden files (a .git folder) are left out.
 * NOLINTNEXTLINE(misc-no-recursion): at most four levels */
static enum err read_dir(struct reading *r, const char *dir, const char *sub, int depth)
{
    char path[PATH_BYTES], name[PATH_BYTES];
    struct stat st;
    enum err err = ERR_OK;

    snprintf(path, sizeof(path), "%s%s%s", dir, *sub ? "/" : "", sub);
    DIR *d = opendir(path);
    if (!d)
        return err_set_sys(r->info, ERR_IO, errno, "%s cannot be opened", path);
    for (struct dirent *e; !err && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s%s%s", sub, *sub ? "/" : "", e->d_name);
        if (fstatat(dirfd(d), e->d_name, &st, 0))
            err = err_set_sys(r->info, ERR_IO, errno, "%s/%s", dir, name);
        else if (S_ISDIR(st.st_mode) && depth < 3)
            err = read_dir(r, dir, name, depth + 1);
        else if (S_ISREG(st.st_mode))
            err = add_file(r, dir, name);
    }
    closedir(d);
    return err;
}

enum err ctl_tree_read(const char *dir, struct buf *out_tree, struct errinfo *info)
{
    struct reading r = {.info = info};

    arena_init(&r.arena, SETTINGS_TREE_MAX);
    enum err err = read_dir(&r, dir, "", 0);
    if (!err)
        err = tree_join(r.files, r.n, out_tree);
    if (err == ERR_LIMIT)
        (void)err_set(info, err, "the settings are larger than %u MiB",
                      SETTINGS_TREE_MAX / 1024 / 1024);
    arena_done(&r.arena);
    free(r.files);
    return err;
}

/* ---- writing ---- */

static enum err write_whole(int dir, const char *name, struct sv text, struct errinfo *info)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0)
        return err_set_sys(info, ERR_IO, errno, "%s cannot be written", name);
    while (text.n) {
        ssize_t n = write(fd, text.p, text.n);
        if (n <= 0) {
            int sys = errno;
            close(fd);
            return err_set_sys(info, ERR_IO, sys, "%s cannot be written", name);
        }
        text = sv_skip(text, (size_t)n);
    }
    return close(fd) ? err_set_sys(info, ERR_IO, errno, "%s", name) : ERR_OK;
}

static enum err make_parents(int dir, const char *name, struct errinfo *info)
{
    char part[PATH_BYTES];

    for (const char *p = strchr(name, '/'); p; p = strchr(p + 1, '/')) {
        snprintf(part, sizeof(part), "%.*s", (int)(p - name), name);
        if (mkdirat(dir, part, 0755) && errno != EEXIST)
            return err_set_sys(info, ERR_IO, errno, "%s cannot be made", part);
    }
    return ERR_OK;
}

enum err ctl_tree_write(const char *dir, struct sv tree, struct errinfo *info)
{
    struct arena a;
    struct tree_file *files;
    uint32_t n = 0;
    char name[PATH_BYTES];

    if (mkdir(dir, 0755) && errno != EEXIST)
        return err_set_sys(info, ERR_IO, errno, "%s cannot be made", dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set_sys(info, ERR_IO, errno, "%s cannot be opened", dir);
    arena_init(&a, SETTINGS_TREE_MAX);
    enum err err = tree_parse(tree, &a, &files, &n);
    for (uint32_t i = 0; !err && i < n; i++) {
        snprintf(name, sizeof(name), "%.*s", SV_ARG(files[i].name));
        err = make_parents(fd, name, info);
        if (!err)
            err = write_whole(fd, name, files[i].text, info);
    }
    arena_done(&a);
    close(fd);
    return err;
}

/* ---- comparing: longest common subsequence per file, bounded; beyond, whole files ---- */

#define LCS_CELLS (4u * 1024 * 1024)

struct lines {
    struct sv *list;
    uint32_t n;
};

static struct lines split(struct sv text, struct arena *a)
{
    struct lines l = {0};
    uint32_t cap = 1;

    for (size_t i = 0; i < text.n; i++)
        cap += text.p[i] == '\n';
    l.list = ARENA_ARRAY(a, struct sv, cap);
    while (l.list && text.p && text.n)
        l.list[l.n++] = sv_cut(&text, '\n');
    return l;
}

static void mark(char sign, struct sv line)
{
    printf("%c %.*s\n", sign, SV_ARG(line));
}

static void diff_lines(struct lines x, struct lines y, struct arena *a)
{
    size_t w = (size_t)y.n + 1;
    uint32_t *len =
        (size_t)x.n * w < LCS_CELLS ? ARENA_ARRAY(a, uint32_t, ((size_t)x.n + 1) * w) : NULL;
    uint32_t i = 0, j = 0;

    for (uint32_t p = x.n; len && p-- > 0;) {
        for (uint32_t q = y.n; q-- > 0;) {
            uint32_t down = len[(p + 1) * w + q], right = len[p * w + q + 1];
            len[p * w + q] = sv_eq(x.list[p], y.list[q]) ? len[(p + 1) * w + q + 1] + 1
                             : down > right              ? down
                                                         : right;
        }
    }
    while (i < x.n || j < y.n) {
        if (i < x.n && j < y.n && sv_eq(x.list[i], y.list[j])) {
            i++;
            j++;
        } else if (j >= y.n || (i < x.n && (!len || len[(i + 1) * w + j] >= len[i * w + j + 1]))) {
            mark('-', x.list[i++]);
        } else {
            mark('+', y.list[j++]);
        }
    }
}

static bool diff_file(struct sv name, struct sv from, struct sv to)
{
    struct arena a;

    if (sv_eq(from, to))
        return false;
    printf("%.*s\n", SV_ARG(name));
    arena_init(&a, 256u * 1024 * 1024);
    diff_lines(split(from, &a), split(to, &a), &a);
    arena_done(&a);
    return true;
}

bool ctl_tree_diff(struct sv from, struct sv to)
{
    struct arena a;
    struct tree_file *x = NULL, *y = NULL;
    uint32_t nx = 0, ny = 0, i = 0, j = 0;
    bool any = false;

    arena_init(&a, SETTINGS_TREE_MAX);
    if (tree_parse(from, &a, &x, &nx) || tree_parse(to, &a, &y, &ny))
        nx = ny = 0;
    while (i < nx || j < ny) {
        int c = i >= nx ? 1 : j >= ny ? -1 : sv_cmp(x[i].name, y[j].name);
        any |= diff_file(c <= 0 ? x[i].name : y[j].name, c <= 0 ? x[i].text : SV(""),
                         c >= 0 ? y[j].text : SV(""));
        i += c <= 0;
        j += c >= 0;
    }
    arena_done(&a);
    return any;
}
