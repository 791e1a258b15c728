/*
 * Settings revisions: draft -> validate -> deploy -> rollback. The database holds the history; the
 * queue holds the active snapshot and pushes it to everybody. Revision numbers only ascend; a
 * rollback is a new revision with an old tree.
 */
#include "base/enc.h"
#include "role/json.h"
#include "role/store_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#define COMPILE_BYTES (512u * 1024 * 1024)

/* ---- canonical trees ---- */

struct checked {
    struct arena arena;
    struct settings *s;
    struct buf tree; /* canonical */
    struct settings_errors errors;
};

static struct checked *check(struct sv tree)
{
    struct checked *c = calloc(1, sizeof(*c));

    if (!c)
        abort();
    arena_init(&c->arena, COMPILE_BYTES);
    buf_init(&c->tree, SETTINGS_TREE_MAX);
    if (settings_compile(tree, 0, &c->arena, &c->s, &c->errors) == ERR_OK &&
        settings_export(c->s, &c->tree))
        c->s = NULL;
    return c;
}

static void check_free(struct checked *c)
{
    arena_done(&c->arena);
    buf_done(&c->tree);
    free(c);
}

static void reply_errors(struct ipc *ch, uint64_t tag, const struct checked *c)
{
    struct buf b;

    buf_init(&b, 256 * 1024);
    jw_open(&b, NULL);
    jw_str(&b, "error", "the settings are not valid");
    jw_u64(&b, "errors_total", c->errors.total);
    jw_array(&b, "errors");
    for (uint32_t i = 0; i < c->errors.n; i++) {
        const struct errinfo *e = &c->errors.list[i];
        jw_open(&b, NULL);
        jw_str(&b, "file", e->file);
        jw_u64(&b, "line", e->line);
        jw_str(&b, "key", e->key);
        jw_str(&b, "text", e->text);
        jw_close(&b);
    }
    jw_array_end(&b);
    jw_close(&b);
    ctl_reply(ch, tag, false, EX_CONFIG, &b);
    buf_done(&b);
}

static void apply_retention(struct store *s, struct sv tree)
{
    struct checked *c = check(tree);

    if (c->s) {
        s->keep_days = c->s->tracking_keep_days;
        s->keep_mb = c->s->tracking_keep_mb;
    }
    check_free(c);
}

static void audit(struct store *s, struct sv user, const char *action, const char *element,
                  struct sv detail)
{
    struct audit a = {.at_ms = loop_clock(s->role->loop).wall_ms,
                      .user = user,
                      .action = sv_str(action),
                      .element = sv_str(element),
                      .detail = detail};
    struct errinfo info;

    if (db_audit_add(s->db, &a, &info))
        log_msg(LOG_ERROR, "audit", "%s", info.text);
    log_msg(LOG_INFO, "audit", "%.*s %s %s", SV_ARG(user), action, element);
}

/* ---- with the queue ---- */

static void push(struct store *s, uint64_t revision, struct sv tree)
{
    struct settings_msg m = {.revision = revision, .tree = tree};

    if (s->queue)
        role_tell(s->queue, MSG_SETTINGS, &m, -1);
}

static void deploy_answer(struct store *s, uint8_t exit, const char *problem)
{
    struct buf b;

    if (!s->deploy_ch)
        return;
    buf_init(&b, 4096);
    jw_open(&b, NULL);
    jw_u64(&b, "revision", s->deploy_revision);
    jw_bool(&b, "active", problem == NULL);
    if (problem)
        jw_str(&b, "error", problem);
    jw_close(&b);
    ctl_reply(s->deploy_ch, s->deploy_tag, false, exit, &b);
    buf_done(&b);
    s->deploy_ch = NULL;
}

/* The revision in use there is the active one. */
static void confirm(struct store *s, uint64_t revision)
{
    struct settings_ack a = {.revision = revision};

    if (s->queue)
        role_tell(s->queue, MSG_SETTINGS_ACK, &a, -1);
}

/* The queue says what is active there. An empty or older database learns it; a newer one teaches.
 */
void store_settings_of_queue(struct store *s, const struct settings_msg *m)
{
    struct errinfo info;
    struct buf tree;
    uint64_t active = 0;
    enum err err = db_revision_active(s->db, &active, &info);

    if (err && err != ERR_NOTFOUND) {
        log_msg(LOG_ERROR, "store", "%s", info.text);
        return;
    }
    buf_init(&tree, SETTINGS_TREE_MAX);
    if (m->revision > active) {
        struct revision r = {.number = m->revision,
                             .at_ms = loop_clock(s->role->loop).wall_ms,
                             .author = SV("system"),
                             .comment =
                                 active ? SV("snapshot of the queue") : SV("embedded default")};
        if (db_revision_add(s->db, &r, m->tree, &info))
            log_msg(LOG_ERROR, "store", "%s", info.text);
        (void)buf_append_sv(&tree, m->tree);
        confirm(s, m->revision);
    } else if (db_revision_tree(s->db, active, &tree, &info)) {
        log_msg(LOG_ERROR, "store", "%s", info.text);
    } else if (active > m->revision || !sv_eq(buf_sv(&tree), m->tree)) {
        push(s, active, buf_sv(&tree));
    } else {
        confirm(s, active);
    }
    apply_retention(s, buf_sv(&tree));
    buf_done(&tree);
    if (m->revision == s->deploy_revision) /* the one before it died between deed and word */
        deploy_answer(s, EX_OK, NULL);
}

void store_settings_ack(struct store *s, const struct settings_ack *a)
{
    char text[1024];

    if (a->revision != s->deploy_revision)
        return;
    snprintf(text, sizeof(text), "%.*s", SV_ARG(a->error));
    deploy_answer(s, a->error.n ? EX_SOFTWARE : EX_OK, a->error.n ? text : NULL);
}

void store_deploy_failed(struct store *s, const char *why)
{
    deploy_answer(s, EX_TEMPFAIL, why);
}

/* ---- verbs ---- */

/* True once the revision is in the history; the answer follows when the queue has it. */
static bool deploy_tree(struct store *s, struct ipc *ch, const struct ctl_req *req, struct sv tree,
                        struct sv comment, const char *action)
{
    struct errinfo info;
    uint64_t active = 0;
    char number[32];
    enum err err = db_revision_active(s->db, &active, &info);
    struct revision r = {.number = active + 1,
                         .at_ms = loop_clock(s->role->loop).wall_ms,
                         .author = req->user.n ? req->user : SV("local"),
                         .comment = comment};

    if (s->deploy_ch) {
        ctl_fail(ch, req->tag, EX_TEMPFAIL, "another deploy is under way");
        return false;
    }
    if ((err && err != ERR_NOTFOUND) || db_revision_add(s->db, &r, tree, &info)) {
        ctl_fail(ch, req->tag, EX_IOERR, info.text);
        return false;
    }
    snprintf(number, sizeof(number), "revision %llu", (unsigned long long)r.number);
    audit(s, r.author, action, number, comment);
    apply_retention(s, tree);
    s->deploy_ch = ch;
    s->deploy_tag = req->tag;
    s->deploy_revision = r.number;
    if (s->queue)
        push(s, r.number, tree);
    else
        store_deploy_failed(s, "the queue is not running; the revision becomes active when it is "
                               "back");
    return true;
}

static void deploy(struct store *s, struct ipc *ch, const struct ctl_req *req, const json_t *args)
{
    struct errinfo info;
    struct buf draft;

    buf_init(&draft, SETTINGS_TREE_MAX);
    if (db_draft_get(s->db, &draft, &info)) {
        ctl_fail(ch, req->tag, EX_IOERR, info.text);
    } else if (!draft.n) {
        ctl_fail(ch, req->tag, EX_NOINPUT, "there is no draft; apply settings first");
    } else {
        struct checked *c = check(buf_sv(&draft));
        if (!c->s) {
            reply_errors(ch, req->tag, c);
        } else if (deploy_tree(s, ch, req, buf_sv(&c->tree), ctl_arg(args, "comment"), "deploy") &&
                   db_draft_set(s->db, SV(""), &info)) {
            log_msg(LOG_ERROR, "store", "%s", info.text);
        }
        check_free(c);
    }
    buf_done(&draft);
}

static bool revision_arg(const json_t *args, uint64_t *out)
{
    const json_t *v = json_object_get(args, "revision");

    if (!json_is_integer(v) || json_integer_value(v) < 1)
        return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

static void rollback(struct store *s, struct ipc *ch, const struct ctl_req *req, const json_t *args)
{
    struct errinfo info;
    struct buf tree;
    char comment[64];
    uint64_t number = 0;

    if (!revision_arg(args, &number)) {
        ctl_fail(ch, req->tag, EX_USAGE, "revision: the number of an earlier revision is needed");
        return;
    }
    buf_init(&tree, SETTINGS_TREE_MAX);
    snprintf(comment, sizeof(comment), "rollback to %llu", (unsigned long long)number);
    if (db_revision_tree(s->db, number, &tree, &info)) {
        ctl_fail(ch, req->tag, EX_NOINPUT, info.text);
    } else {
        struct checked *c = check(buf_sv(&tree)); /* an older format may hold what is refused now */
        if (c->s)
            (void)deploy_tree(s, ch, req, buf_sv(&c->tree), sv_str(comment), "rollback");
        else
            reply_errors(ch, req->tag, c);
        check_free(c);
    }
    buf_done(&tree);
}

static void apply(struct store *s, struct ipc *ch, const struct ctl_req *req, const json_t *args,
                  bool keep)
{
    struct checked *c = check(ctl_arg(args, "tree"));
    struct errinfo info;
    struct buf b;

    if (!c->s) {
        reply_errors(ch, req->tag, c);
    } else if (keep && db_draft_set(s->db, buf_sv(&c->tree), &info)) {
        ctl_fail(ch, req->tag, EX_IOERR, info.text);
    } else {
        buf_init(&b, SETTINGS_TREE_MAX);
        jw_open(&b, NULL);
        jw_bool(&b, "draft", keep);
        jw_sv(&b, "tree", buf_sv(&c->tree));
        jw_close(&b);
        ctl_reply(ch, req->tag, false, EX_OK, &b);
        buf_done(&b);
        if (keep)
            audit(s, req->user.n ? req->user : SV("local"), "apply", "draft", SV(""));
    }
    check_free(c);
}

static void tree_out(struct store *s, struct ipc *ch, uint64_t tag, const json_t *args)
{
    struct errinfo info;
    struct buf tree, b;
    uint64_t number = 0;
    bool draft = json_is_true(json_object_get(args, "draft"));
    enum err err = ERR_OK;

    buf_init(&tree, SETTINGS_TREE_MAX);
    if (draft)
        err = db_draft_get(s->db, &tree, &info);
    else if (!revision_arg(args, &number))
        err = db_revision_active(s->db, &number, &info);
    if (!err && !draft)
        err = db_revision_tree(s->db, number, &tree, &info);
    if (err) {
        ctl_fail(ch, tag, EX_NOINPUT, info.text);
    } else {
        buf_init(&b, SETTINGS_TREE_MAX);
        jw_open(&b, NULL);
        jw_u64(&b, "revision", number);
        jw_sv(&b, "tree", buf_sv(&tree));
        jw_close(&b);
        ctl_reply(ch, tag, false, EX_OK, &b);
        buf_done(&b);
    }
    buf_done(&tree);
}

static void revision_out(void *ctx, const struct revision *r)
{
    struct buf *b = ctx;

    jw_open(b, NULL);
    jw_u64(b, "revision", r->number);
    jw_time(b, "at", r->at_ms);
    jw_sv(b, "author", r->author);
    jw_sv(b, "comment", r->comment);
    jw_bool(b, "active", r->active);
    jw_close(b);
}

static void history(struct store *s, struct ipc *ch, uint64_t tag)
{
    struct errinfo info;
    struct buf b;

    buf_init(&b, 16 * 1024 * 1024);
    jw_open(&b, NULL);
    jw_array(&b, "revisions");
    if (db_revision_list(s->db, revision_out, &b, &info)) {
        ctl_fail(ch, tag, EX_IOERR, info.text);
    } else {
        jw_array_end(&b);
        jw_close(&b);
        ctl_reply(ch, tag, false, EX_OK, &b);
    }
    buf_done(&b);
}

void store_settings(struct store *s, struct ipc *ch, const struct ctl_req *r, const char *verb,
                    const json_t *args)
{
    if (strcmp(verb, "tree") == 0)
        tree_out(s, ch, r->tag, args);
    else if (strcmp(verb, "history") == 0)
        history(s, ch, r->tag);
    else if (strcmp(verb, "check") == 0)
        apply(s, ch, r, args, false);
    else if (strcmp(verb, "apply") == 0)
        apply(s, ch, r, args, true);
    else if (strcmp(verb, "deploy") == 0)
        deploy(s, ch, r, args);
    else if (strcmp(verb, "rollback") == 0)
        rollback(s, ch, r, args);
    else
        ctl_fail(ch, r->tag, EX_USAGE, "unknown verb");
}
