/* Verbs of settings: show, export, apply, diff, deploy, rollback, history. */
#include "core/settings.h"
#include "role/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* Fetches a tree: the draft, revision N, or (0) the active one. */
static int fetch(struct ctl *c, long long revision, bool draft, struct buf *out, long long *out_rev)
{
    json_t *v = NULL, *args = json_object();

    if (draft)
        json_object_set_new(args, "draft", json_true());
    else if (revision)
        json_object_set_new(args, "revision", json_integer(revision));
    int exit = ctl_ask(c, "store", "settings.tree", args, -1, NULL, NULL, &v);
    if (!exit) {
        const json_t *t = json_object_get(v, "tree");
        (void)buf_append(out, json_string_value(t), json_string_length(t));
        *out_rev = ctl_n(v, "revision");
    }
    json_decref(v);
    return exit;
}

static int fail(const struct errinfo *info)
{
    fprintf(stderr, "postsealctl: %s\n", info->text);
    return EX_NOINPUT;
}

static int show(struct ctl *c)
{
    struct buf tree;
    struct arena a;
    struct tree_file *files;
    uint32_t n = 0;
    long long revision = 0;
    bool found = false;
    const char *want = c->argc > 1 ? c->argv[1] : NULL;

    buf_init(&tree, SETTINGS_TREE_MAX);
    int exit = fetch(c, 0, false, &tree, &revision);
    arena_init(&a, SETTINGS_TREE_MAX);
    if (!exit && tree_parse(buf_sv(&tree), &a, &files, &n) == ERR_OK) {
        for (uint32_t i = 0; i < n; i++) {
            if (want && !sv_eq(files[i].name, sv_str(want)))
                continue;
            found = true;
            if (!want)
                printf("==> %.*s\n", SV_ARG(files[i].name));
            fwrite(files[i].text.p, 1, files[i].text.n, stdout);
        }
    }
    if (!exit && !found) {
        fprintf(stderr, "postsealctl: there is no settings file \"%s\"\n", want ? want : "");
        exit = EX_NOINPUT;
    }
    arena_done(&a);
    buf_done(&tree);
    return exit;
}

static int export(struct ctl *c)
{
    const char *number = ctl_option(c, "--revision");
    struct errinfo info = {0};
    struct buf tree;
    long long revision = 0, wanted = 0;

    if (c->argc != 2)
        return ctl_usage("settings export DIR [--revision N]");
    if (number && !ctl_number("--revision", number, &wanted))
        return EX_USAGE;
    buf_init(&tree, SETTINGS_TREE_MAX);
    int exit = fetch(c, wanted, false, &tree, &revision);
    if (!exit && ctl_tree_write(c->argv[1], buf_sv(&tree), &info))
        exit = fail(&info);
    if (!exit && !c->json)
        printf("revision %lld written to %s\n", revision, c->argv[1]);
    buf_done(&tree);
    return exit;
}

/* Sends a folder to be checked, or kept as the draft; *out_tree is its canonical form. */
static int send_dir(struct ctl *c, const char *dir, const char *verb, struct buf *out_tree)
{
    struct errinfo info = {0};
    struct buf tree;
    json_t *v = NULL;
    int exit = EX_OK;

    buf_init(&tree, SETTINGS_TREE_MAX);
    if (ctl_tree_read(dir, &tree, &info)) {
        buf_done(&tree);
        return fail(&info);
    }
    json_t *args = json_object();
    json_t *text = json_stringn(tree.n ? tree.p : "", tree.n);
    if (!text) {
        fprintf(stderr, "postsealctl: %s: a file is not valid UTF-8\n", dir);
        json_decref(args);
        buf_done(&tree);
        return EX_DATAERR;
    }
    json_object_set_new(args, "tree", text);
    exit = ctl_ask(c, "store", verb, args, -1, NULL, NULL, &v);
    const json_t *canonical = json_object_get(v, "tree");
    if (!exit && json_is_string(canonical))
        (void)buf_append(out_tree, json_string_value(canonical), json_string_length(canonical));
    json_decref(v);
    buf_done(&tree);
    return exit;
}

/* What would change against the active revision. */
static int compare(struct ctl *c, const char *dir, const char *verb)
{
    struct buf active, wanted;
    long long revision = 0;

    buf_init(&active, SETTINGS_TREE_MAX);
    buf_init(&wanted, SETTINGS_TREE_MAX);
    int exit = fetch(c, 0, false, &active, &revision);
    if (!exit && dir)
        exit = send_dir(c, dir, verb, &wanted);
    else if (!exit)
        exit = fetch(c, 0, true, &wanted, &revision);
    if (!exit && !wanted.n)
        printf("there is no draft\n");
    else if (!exit && !ctl_tree_diff(buf_sv(&active), buf_sv(&wanted)))
        printf("no difference from the active revision\n");
    buf_done(&active);
    buf_done(&wanted);
    return exit;
}

static int apply(struct ctl *c)
{
    bool plan = ctl_flag(c, "--plan");

    if (c->argc != 2)
        return ctl_usage("settings apply DIR [--plan]");
    int exit = compare(c, c->argv[1], plan ? "settings.check" : "settings.apply");
    if (!exit && !plan)
        printf("kept as the draft; \"postsealctl settings deploy\" makes it active\n");
    return exit;
}

static int done(struct ctl *c, const char *verb, json_t *args)
{
    json_t *v = NULL;
    int exit = ctl_ask(c, "store", verb, args, -1, NULL, NULL, &v);

    if (!exit && c->json)
        ctl_print_json(v);
    else if (!exit)
        printf("revision %lld is active\n", ctl_n(v, "revision"));
    json_decref(v);
    return exit;
}

static int rollback(struct ctl *c)
{
    long long n = 0;

    if (c->argc != 2)
        return ctl_usage("settings rollback N");
    if (!ctl_number("rollback", c->argv[1], &n))
        return EX_USAGE;
    return done(c, "settings.rollback", json_pack("{s:I}", "revision", (json_int_t)n));
}

static int deploy(struct ctl *c)
{
    const char *comment = ctl_option(c, "--comment");

    if (c->argc != 1)
        return ctl_usage("settings deploy [--comment TEXT]");
    return done(c, "settings.deploy", json_pack("{s:s}", "comment", comment ? comment : ""));
}

static int history(struct ctl *c)
{
    json_t *v = NULL;
    const json_t *r;
    size_t i;
    int exit = ctl_ask(c, "store", "settings.history", json_object(), -1, NULL, NULL, &v);

    if (!exit && c->json) {
        ctl_print_json(v);
    } else if (!exit) {
        json_array_foreach(json_object_get(v, "revisions"), i, r)
            printf("%c %4lld %.19s %s %s\n", ctl_b(r, "active") ? '*' : ' ', ctl_n(r, "revision"),
                   ctl_s(r, "at"), ctl_s(r, "author"), ctl_s(r, "comment"));
    }
    json_decref(v);
    return exit;
}

int ctl_settings(struct ctl *c)
{
    const char *verb = c->argc ? c->argv[0] : "show";

    if (strcmp(verb, "show") == 0)
        return show(c);
    if (strcmp(verb, "export") == 0)
        return export(c);
    if (strcmp(verb, "apply") == 0)
        return apply(c);
    if (strcmp(verb, "diff") == 0)
        return compare(c, c->argc > 1 ? c->argv[1] : NULL, "settings.check");
    if (strcmp(verb, "deploy") == 0)
        return deploy(c);
    if (strcmp(verb, "rollback") == 0)
        return rollback(c);
    if (strcmp(verb, "history") == 0)
        return history(c);
    return ctl_usage("settings show | export | apply | diff | deploy | rollback | history");
}
