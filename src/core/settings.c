/* Compiles a tree into a snapshot and exports a snapshot as its canonical tree. */
#include "core/compile.h"

#define EXPORT_NAME_MAX (SETTINGS_TREE_MAX / 2)

/* ---- compile ---- */

#define FILE_TITLE(name, doc) #name ".conf",
static const char *const file_names[] = {
    SETTINGS_FILES(FILE_TITLE) "phrases.conf",
    "routes.conf",
    "submitters.conf",
    "groups/domain/NAME.txt",
    "groups/ip/NAME.txt",
    "policies/NAME.conf",
};

static bool file_known(struct sv name)
{
    return scalar_file_known(tree_name_inner(name, SV(""), SV(".conf"))) ||
           sv_eq(name, SV("phrases.conf")) || sv_eq(name, SV("routes.conf")) ||
           sv_eq(name, SV("submitters.conf")) ||
           tree_name_inner(name, SV("groups/domain/"), SV(".txt")).n ||
           tree_name_inner(name, SV("groups/ip/"), SV(".txt")).n ||
           tree_name_inner(name, SV("policies/"), SV(".conf")).n;
}

static void check_files(struct compile *c, const struct tree_file *files, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        c->file = files[i].name;
        if (!file_known(files[i].name))
            compile_error(c, 0, SV_NULL, "unknown file%s",
                          compile_hint(c, files[i].name, file_names, ARRAY_LEN(file_names)));
        if (i && sv_cmp(files[i - 1].name, files[i].name) >= 0)
            compile_error(c, 0, SV_NULL, "file stands twice or out of order in the tree");
    }
}

/* Text of a file, NULL when it is missing; sets c->file. */
static struct sv file_text(struct compile *c, const struct tree_file *files, uint32_t n,
                           struct sv name)
{
    c->file = name;
    for (uint32_t i = 0; i < n; i++)
        if (sv_eq(files[i].name, name))
            return files[i].text.p ? files[i].text : SV("");
    return SV_NULL;
}

static void compile_files(struct compile *c, const struct tree_file *files, uint32_t n)
{
    check_files(c, files, n);
    compile_groups(c, files, n);
    for (uint32_t i = 0; i < n; i++) {
        struct sv section = tree_name_inner(files[i].name, SV(""), SV(".conf"));
        c->file = files[i].name;
        if (scalar_file_known(section))
            compile_scalars(c, section, files[i].text);
    }
    compile_routes(c, file_text(c, files, n, SV("routes.conf")));
    compile_submitters(c, file_text(c, files, n, SV("submitters.conf")));
    compile_phrases(c, file_text(c, files, n, SV("phrases.conf")));
    compile_policies(c, files, n);
    compile_scalar_checks(c);
}

enum err settings_compile(struct sv tree, uint64_t revision, struct arena *a,
                          struct settings **out_settings, struct settings_errors *errors)
{
    struct compile c = {.a = a, .errors = errors, .s = ARENA_NEW(a, struct settings)};
    struct sv own = arena_sv(a, tree);
    struct tree_file *files = NULL;
    uint32_t n = 0;

    errors->n = errors->total = 0;
    if (!c.s || (tree.n && !own.p) || tree_parse(own, a, &files, &n) != ERR_OK) {
        compile_error(&c, 0, SV_NULL,
                      a->overflow ? "the settings are too large" : "the tree is malformed");
        return a->overflow ? ERR_LIMIT : ERR_SYNTAX;
    }
    compile_scalar_defaults(c.s);
    c.s->revision = revision;
    compile_files(&c, files, n);
    if (a->overflow) {
        c.file = SV_NULL;
        compile_error(&c, 0, SV_NULL, "the settings are too large");
        return ERR_LIMIT;
    }
    if (errors->total)
        return ERR_SYNTAX;
    *out_settings = c.s;
    return ERR_OK;
}

/* ---- export ---- */

/* Files under construction: all texts stand in one buffer, so views are set when it is complete. */
struct export_job {
    struct arena *a;
    struct buf text;
    struct tree_file *files;
    size_t *starts;
    uint32_t n;
};

/* Begins a file; the caller appends its text to e->text. */
static void export_begin(struct export_job *e, const char *prefix, struct sv name,
                         const char *suffix)
{
    e->starts[e->n] = e->text.n;
    e->files[e->n++].name = arena_printf(e->a, "%s%.*s%s", prefix, SV_ARG(name), suffix);
}

static void export_all(struct export_job *e, const struct settings *s)
{
#define EXPORT_FILE(file, doc)                                                                     \
    export_begin(e, #file, SV_NULL, ".conf");                                                      \
    export_scalars(s, #file, doc, &e->text);
    SETTINGS_FILES(EXPORT_FILE)
#undef EXPORT_FILE
    for (uint32_t i = 0; i < s->n_domain_groups; i++) {
        export_begin(e, "groups/domain/", s->domain_groups[i].name, ".txt");
        export_domain_group(&s->domain_groups[i], &e->text);
    }
    for (uint32_t i = 0; i < s->n_ip_groups; i++) {
        export_begin(e, "groups/ip/", s->ip_groups[i].name, ".txt");
        export_ip_group(&s->ip_groups[i], &e->text);
    }
    for (uint32_t i = 0; i < s->n_policies; i++) {
        export_begin(e, "policies/", s->policies[i].name, ".conf");
        export_policy(&s->policies[i], &e->text);
    }
    export_begin(e, "phrases", SV_NULL, ".conf");
    export_phrases(s, &e->text);
    export_begin(e, "routes", SV_NULL, ".conf");
    export_routes(s, &e->text);
    export_begin(e, "submitters", SV_NULL, ".conf");
    export_submitters(s, &e->text);
}

static enum err export_join(struct export_job *e, struct buf *out_tree)
{
    for (uint32_t i = 0; i < e->n; i++) {
        size_t end = i + 1 < e->n ? e->starts[i + 1] : e->text.n;
        e->files[i].text = sv_of(e->text.p + e->starts[i], end - e->starts[i]);
    }
    if (e->a->overflow || e->text.overflow)
        return ERR_LIMIT;
    return tree_join(e->files, e->n, out_tree);
}

enum err settings_export(const struct settings *s, struct buf *out_tree)
{
    struct arena a;
    struct export_job e = {.a = &a};
    size_t n = ARRAY_LEN(file_names) + s->n_domain_groups + s->n_ip_groups + s->n_policies;
    enum err err = ERR_LIMIT;

    arena_init(&a, EXPORT_NAME_MAX);
    buf_init(&e.text, SETTINGS_TREE_MAX);
    e.files = ARENA_ARRAY(&a, struct tree_file, n);
    e.starts = ARENA_ARRAY(&a, size_t, n);
    if (e.files && e.starts) {
        export_all(&e, s);
        err = export_join(&e, out_tree);
    }
    buf_done(&e.text);
    arena_done(&a);
    return err;
}
