/*
 * The active settings snapshot: kept on disk, so that mail flows while the database is down, and
 * pushed to every process. `store` owns the history of revisions and sends what was deployed.
 */
#include "role/queue_priv.h"

#include "net/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SNAPSHOT_FILE      "current"
#define SNAPSHOT_TMP       "current.tmp"
#define SETTINGS_ARENA_MAX (512u * 1024 * 1024)

static enum err compile(struct sv tree, uint64_t revision, struct snapshot **out,
                        struct settings_errors *errors)
{
    struct snapshot *s = calloc(1, sizeof(*s));

    if (!s)
        abort();
    s->refs = 1;
    arena_init(&s->arena, SETTINGS_ARENA_MAX);
    buf_init(&s->tree, SETTINGS_TREE_MAX);
    enum err err = buf_append_sv(&s->tree, tree);
    if (!err)
        err = settings_compile(buf_sv(&s->tree), revision, &s->arena, &s->s, errors);
    if (err)
        snapshot_unref(s);
    else
        *out = s;
    return err;
}

/* File: "revision N\n" and the tree. */
static enum err read_file(struct queue *q, struct buf *text)
{
    int fd = openat(q->settings_dir, SNAPSHOT_FILE, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return errno == ENOENT ? ERR_NOTFOUND : ERR_IO;
    enum err err = fstat(fd, &st) ? ERR_IO : buf_reserve(text, (size_t)st.st_size);
    if (!err && !fd_read_at(fd, text->p + text->n, (size_t)st.st_size, 0))
        err = ERR_IO;
    if (!err)
        text->n += (size_t)st.st_size;
    close(fd);
    return err;
}

static enum err write_file(struct queue *q, uint64_t revision, struct sv tree)
{
    char head[64];
    int n = snprintf(head, sizeof(head), "revision %llu\n", (unsigned long long)revision);
    int fd = openat(q->settings_dir, SNAPSHOT_TMP, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, head, (size_t)n) == n;

    ok = ok && fd_write_all(fd, tree) && fdatasync(fd) == 0;
    if (fd >= 0)
        close(fd);
    ok = ok && renameat(q->settings_dir, SNAPSHOT_TMP, q->settings_dir, SNAPSHOT_FILE) == 0 &&
         fsync(q->settings_dir) == 0;
    return ok ? ERR_OK : ERR_IO;
}

static void report_errors(const struct settings_errors *errors)
{
    struct buf b;

    buf_init(&b, 4096);
    for (uint32_t i = 0; i < errors->n; i++) {
        buf_reset(&b);
        settings_error_format(&errors->list[i], &b);
        log_msg(LOG_ERROR, "settings", "%.*s", SV_ARG(buf_sv(&b)));
    }
    buf_done(&b);
}

/* The snapshot of the file, or why there is none. */
static enum err load_file(struct queue *q, struct settings_errors *errors)
{
    struct buf text;
    uint64_t revision = 1;

    buf_init(&text, SETTINGS_TREE_MAX);
    enum err err = read_file(q, &text);
    struct sv tree = buf_sv(&text);
    struct sv head = sv_cut(&tree, '\n');
    if (!err && (!sv_starts(head, SV("revision ")) ||
                 !sv_to_u64(sv_skip(head, 9), 1, UINT64_MAX, &revision)))
        err = ERR_CORRUPT;
    if (!err)
        err = compile(tree, revision, &q->snap, errors);
    buf_done(&text);
    return err;
}

/* Without a good snapshot the embedded default stands in, but nothing is decided, accepted or sent
 * by it before `store` has said which revision is active: a rule that only the lost one has must
 * not be missed. */
enum err settings_load(struct queue *q, struct errinfo *info)
{
    struct settings_errors *errors = calloc(1, sizeof(*errors));

    if (!errors)
        abort();
    enum err err = load_file(q, errors);
    q->unsettled = err != ERR_OK;
    if (err && err != ERR_NOTFOUND) {
        report_errors(errors);
        log_msg(LOG_ERROR, "alarm",
                "settings: the snapshot on disk cannot be used (%s); waiting for the database",
                err_name(err));
    }
    if (err)
        err = compile(settings_default_tree(), 1, &q->snap, errors);
    if (err)
        err = err_set(info, err, "the embedded settings cannot be used");
    free(errors);
    return err;
}

/* `store` has said that the revision in use is the active one. */
void settings_confirmed(struct queue *q, uint64_t revision)
{
    if (!q->unsettled || revision != q->snap->s->revision)
        return;
    q->unsettled = false;
    if (write_file(q, revision, buf_sv(&q->snap->tree)))
        track_alarm(q, "settings", "the snapshot of the settings cannot be written");
    intake_gate(q);
    queue_run_due(q);
}

void settings_push(struct queue *q, struct ipc *to)
{
    struct settings_msg m = {.revision = q->snap->s->revision, .tree = buf_sv(&q->snap->tree)};

    if (to)
        role_tell(to, MSG_SETTINGS, &m, -1);
}

static void activate(struct queue *q, struct snapshot *s)
{
    snapshot_unref(q->snap);
    q->snap = s;
    for (uint8_t i = 0; i < q->n_smtp; i++)
        settings_push(q, q->smtp[i].ch);
    for (uint8_t i = 0; i < q->n_content; i++)
        settings_push(q, q->content[i].ch);
    settings_push(q, q->lookup);
    settings_push(q, q->web);
    log_msg(LOG_INFO, "deployed", "settings revision %llu is active",
            (unsigned long long)s->s->revision);
    track(q, EVENT_DEPLOYED, NULL, SV(""), SV(""));
}

void settings_receive(struct queue *q, struct ipc *from, const struct settings_msg *m)
{
    struct settings_errors *errors = calloc(1, sizeof(*errors));
    struct settings_ack ack = {.revision = m->revision};
    struct snapshot *s = NULL;

    if (!errors)
        abort();
    if (m->revision == q->snap->s->revision && sv_eq(m->tree, buf_sv(&q->snap->tree))) {
        settings_confirmed(q, m->revision);
        role_tell(from, MSG_SETTINGS_ACK, &ack, -1);
        free(errors);
        return;
    }
    enum err err = compile(m->tree, m->revision, &s, errors);
    if (!err)
        err = write_file(q, m->revision, m->tree);
    if (err) {
        ack.error = errors->n ? sv_str(errors->list[0].text) : sv_str(err_name(err));
        snapshot_unref(s);
    } else {
        activate(q, s);
        settings_confirmed(q, m->revision);
    }
    role_tell(from, MSG_SETTINGS_ACK, &ack, -1);
    free(errors);
}
