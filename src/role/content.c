/*
 * NAME         content: reads messages (scan) and writes reports (DSN, notice)
 * TALKS TO     queue: SETTINGS and JOB in, JOB_DONE out, in the order of the jobs
 * ON FAILURE   a job without an answer is `queue`'s to repeat or to park; a child that dies, runs
 *              out of time or answers nonsense is a fact ("could not be scanned"), never "clean"
 *
 * Simple messages are scanned in this process, which ends when idle after CONTENT_JOBS of them;
 * anything else, and every body that comes as a file, in a fresh child. One job at a time: while a
 * child works this process only waits for it, under a deadline.
 *
 * SECURITY: in the cage there is no file, no network and nothing of other messages. Converters of
 * all charsets and the message parser are loaded before.
 */
#include "role/content_priv.h"
#include "role/role.h"

#include "core/settings.h"
#include "crypto/cert.h"

#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#define CONTENT_JOBS     2000
#define CONTENT_IDLE_MS  50
#define SNAPSHOTS        4 /* revisions that messages in flight may still name */
#define SNAPSHOT_MEM_MAX (256u * 1024 * 1024)

struct snapshot {
    uint64_t revision;
    const struct settings *s; /* NULL = free */
    struct arena arena;
};

struct content {
    struct role_ctx *role;
    struct ipc *queue;
    struct scanner *sc;
    struct snapshot snaps[SNAPSHOTS];
    uint32_t next_snap;
    const struct snapshot *used; /* compiled into the scanner */
    uint64_t memory;             /* limit of children */
    uint32_t jobs;
    struct timer *idle;
    struct arena arena; /* of the job at hand */
    struct buf body;
};

/* ---- settings ---- */

static struct snapshot *snapshot_of(struct content *c, uint64_t revision)
{
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        if (c->snaps[i].s && c->snaps[i].revision == revision)
            return &c->snaps[i];
    }
    return NULL;
}

static void snapshot_take(struct content *c, uint64_t revision, const struct settings *s,
                          struct arena arena)
{
    struct snapshot *slot = snapshot_of(c, revision);
    if (!slot) {
        slot = &c->snaps[c->next_snap];
        c->next_snap = (c->next_snap + 1) % SNAPSHOTS;
    }
    if (c->used == slot)
        c->used = NULL;
    if (slot->s)
        arena_done(&slot->arena);
    *slot = (struct snapshot){revision, s, arena};
}

static void on_settings(struct content *c, const struct settings_msg *m)
{
    struct settings_ack ack = {.revision = m->revision, .error = SV("")};
    struct settings_errors *errors = calloc(1, sizeof *errors);
    struct settings *s = NULL;
    struct arena arena;

    arena_init(&arena, SNAPSHOT_MEM_MAX);
    /* A number that is known may name other settings now: of a database that began anew. */
    if (!errors || settings_compile(m->tree, m->revision, &arena, &s, errors)) {
        ack.error = errors && errors->n ? sv_str(errors->list[0].text) : SV("out of memory");
        log_msg(LOG_ERROR, "settings", "revision %llu cannot be used: %.*s",
                (unsigned long long)m->revision, SV_ARG(ack.error));
        arena_done(&arena);
    } else {
        snapshot_take(c, m->revision, s, arena);
    }
    if (ipc_send(c->queue, MSG_SETTINGS_ACK, &ack, -1))
        log_msg(LOG_WARN, "settings", "an acknowledgement could not be sent");
    free(errors);
}

/* Scanner on the settings that the message began with. */
static bool use_revision(struct content *c, uint64_t revision)
{
    struct errinfo info = {0};
    struct snapshot *snap = snapshot_of(c, revision);
    if (!snap)
        return false;
    if (snap == c->used)
        return true;
    if (scan_use(c->sc, snap->s, &info)) {
        log_msg(LOG_ERROR, "settings", "%s", info.text);
        return false;
    }
    c->used = snap;
    return true;
}

/* ---- jobs ---- */

/* Here when the message is simple, else in a child. */
static void run_in(struct content *c, const struct job *job, int fd, bool ready,
                   struct job_done *out_done)
{
    if (content_is_warm(job, fd)) {
        content_job(c->sc, job, fd, &c->arena, &c->body, out_done);
        return;
    }
    uint32_t timeout_s = ready ? c->used->s->content_scan_timeout_s : 60;
    struct content_limits limits = {.deadline_ms = (int64_t)timeout_s * 1000, .memory = c->memory};
    content_fork(c->sc, job, fd, &limits, &c->arena, out_done);
}

static void run_job(struct content *c, const struct job *job, int fd, struct job_done *out_done)
{
    bool ready = use_revision(c, job->revision);
    if (!ready && job->kind == JOB_SCAN) {
        content_failed(job, SCAN_FAILED, "the settings of this message are not known here",
                       out_done);
        return;
    }
    struct job loaded = *job;
    char *owned = NULL;
    if (fd >= 0 && job->kind == JOB_SCAN && job->env.size <= CONTENT_WARM_MAX &&
        content_load(job, fd, SIZE_MAX, &loaded.body, &owned))
        fd = -1; /* a child would inherit it */
    run_in(c, &loaded, fd, ready, out_done);
    free(owned);
}

static void on_job(struct content *c, const struct job *job, int fd)
{
    struct job_done done;

    arena_reset(&c->arena);
    run_job(c, job, fd, &done);
    enum err err = ipc_send(c->queue, MSG_JOB_DONE, &done, -1);
    if (err == ERR_LIMIT && c->queue) { /* too large for a frame: facts with very many parts */
        content_failed(job, SCAN_LIMIT, "the result is too large", &done);
        err = ipc_send(c->queue, MSG_JOB_DONE, &done, -1);
    }
    if (err)
        log_msg(LOG_ERROR, "job", "an answer could not be sent: %s", err_name(err));
    buf_release(&c->body);
    c->jobs++;
    if (c->jobs >= CONTENT_JOBS)
        timer_set(c->idle, CONTENT_IDLE_MS);
}

/* Worn and idle: the supervisor starts a fresh process. */
static void on_idle(void *ctx)
{
    struct content *c = ctx;
    log_msg(LOG_DEBUG, "recycle", "ending after %u jobs", c->jobs);
    role_stop(c->role);
}

static void on_message(void *ctx, struct ipc *ch, enum message m, const union message_body *b,
                       int fd)
{
    struct content *c = ctx;
    (void)ch;
    if (m == MSG_SETTINGS)
        on_settings(c, &b->SETTINGS);
    else if (m == MSG_JOB)
        on_job(c, &b->JOB, fd);
    if (fd >= 0)
        (void)close(fd);
}

static void on_closed(void *ctx, struct ipc *ch, const char *why)
{
    struct content *c = ctx;
    (void)why;
    if (c->queue == ch)
        c->queue = NULL;
}

static void on_channel(void *ctx, enum role peer, uint8_t index, int fd)
{
    struct content *c = ctx;
    struct ipc_handler h = {.ctx = c, .message = on_message, .closed = on_closed};
    struct ipc *fresh = NULL;

    if (peer != ROLE_QUEUE || ipc_new(c->role->loop, fd, ROLE_CONTENT, peer, index, &h, &fresh)) {
        (void)close(fd);
        return;
    }
    if (c->queue)
        ipc_free(c->queue);
    c->queue = fresh;
}

/* ---- start ---- */

/* Address space of this process in bytes; children may have CONTENT_CHILD_MEMORY on top. */
static uint64_t own_memory(void)
{
    char text[128]; /* seven numbers; the first is the size in pages */
    uint64_t pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    struct sv line = sv_str(fgets(text, sizeof text, f));
    (void)fclose(f);
    long size = sysconf(_SC_PAGESIZE);
    return sv_to_u64(sv_cut(&line, ' '), 1, UINT32_MAX, &pages) && size > 0 ? pages * (uint64_t)size
                                                                            : 0;
}

/* Whatever libraries load or register at first use happens before the cage. */
static enum err warm_up(struct content *c, struct errinfo *info)
{
    static const struct settings limits = {
        .content_max_depth = 50, .content_max_parts = 100, .content_max_text_kb = 64};
    uint8_t digest[32];
    struct facts facts;

    enum err err = scan_new(&c->sc, info);
    if (!err)
        err = scan_use(c->sc, &limits, info);
    if (err)
        return err;
    sha256_once(SV(""), digest);
    scan_message(
        c->sc,
        SV("Subject: =?iso-8859-1?Q?x?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
           "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nx\r\n--b\r\n"
           "Content-Disposition: attachment; filename*=utf-8''x\r\n\r\nx\r\n--b--\r\n"),
        &c->arena, &facts);
    arena_reset(&c->arena);
    return ERR_OK;
}

int content_run(struct role_ctx *r)
{
    struct content c = {.role = r};
    const struct role_events events = {.ctx = &c, .channel = on_channel};
    struct errinfo info = {0};

    arena_init(&c.arena, CONTENT_ARENA_MAX);
    buf_init(&c.body, CONTENT_FRAME_MAX - 65536);
    if (warm_up(&c, &info)) {
        log_msg(LOG_ERROR, "start", "%s", info.text);
        return EX_CONFIG;
    }
    if (timer_new(r->loop, on_idle, &c, &c.idle) || role_begin(r, &events))
        return EX_OSERR;
    c.memory = own_memory();
    c.memory += c.memory ? CONTENT_CHILD_MEMORY : 0;
    if (role_lock(r, NULL, 0))
        return EX_CONFIG;
    int status = role_loop(r);
    if (c.queue)
        ipc_free(c.queue);
    timer_free(c.idle);
    for (size_t i = 0; i < SNAPSHOTS; i++)
        arena_done(&c.snaps[i].arena);
    scan_free(c.sc);
    arena_done(&c.arena);
    buf_done(&c.body);
    return status;
}
