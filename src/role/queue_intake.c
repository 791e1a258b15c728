/*
 * Reception: what `smtp` workers hand over becomes durable here, and only then is 250 said.
 *
 * SECURITY: workers are exposed to the internet. Ids must come from the worker's own lease, lists
 * and sizes are checked; a lie is refused and raises an alarm.
 */
#include "role/queue_priv.h"

#include "base/enc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ID_BLOCK       (1ull << 40)
#define SIZE_ASKED_MAX (1ull << 40)
#define TEXT_DISK      "Insufficient system storage"
#define TEXT_SPOOL     "Temporary local problem; please try later"

/* ---- ids: the high-water mark is kept in a file, so that a clock that jumps back repeats none
 * ---- */

static bool ids_store(struct queue *q, uint64_t limit)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%020llu\n", (unsigned long long)limit);
    int fd = openat(q->spool_dir, "ids", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && pwrite(fd, text, (size_t)n, 0) == n && fdatasync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return ok;
}

bool queue_ids_open(struct queue *q)
{
    char text[32];
    uint64_t stored = 0;
    int fd = openat(q->spool_dir, "ids", O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        ssize_t n = pread(fd, text, sizeof(text), 0);
        close(fd);
        if (n > 0 && !sv_to_u64(sv_trim(sv_of(text, (size_t)n)), 0, UINT64_MAX, &stored))
            return false;
    }
    uint64_t now = (uint64_t)loop_clock(q->loop).wall_ms << 20;
    q->next_id = (now > stored ? now : stored) + 1;
    q->id_limit = q->next_id + ID_BLOCK;
    return ids_store(q, q->id_limit);
}

static uint64_t take_ids(struct queue *q, uint32_t n)
{
    if (q->next_id + n >= q->id_limit) {
        q->id_limit += ID_BLOCK;
        if (!ids_store(q, q->id_limit))
            track_alarm(q, "spool", "the file of ids could not be written");
    }
    uint64_t first = q->next_id;
    q->next_id += n;
    return first;
}

uint64_t queue_new_id(struct queue *q)
{
    return take_ids(q, 1);
}

void intake_lease(struct queue *q, uint8_t worker)
{
    struct worker *w = &q->smtp[worker];
    struct lease lease = {.first = take_ids(q, LEASE_IDS), .count = LEASE_IDS};

    w->lease_before = w->lease_first;
    w->lease_first = lease.first;
    if (w->ch)
        role_tell(w->ch, MSG_LEASE, &lease, -1);
}

/* ---- the gate ---- */

static void send_gate(struct queue *q, const struct intake *in)
{
    for (uint8_t i = 0; i < q->n_smtp; i++) {
        if (q->smtp[i].ch)
            role_tell(q->smtp[i].ch, MSG_INTAKE, in, -1);
    }
}

/* Room for a whole message: that of a part of one would be found out only after its last line. */
enum err intake_room(const struct queue *q)
{
    return q->unsettled ? ERR_IO : spool_room(q->spool, SPOOL_INLINE_MAX);
}

struct intake intake_state(enum err room)
{
    bool disk = room == ERR_NOSPACE;

    if (room == ERR_OK)
        return (struct intake){.open = true};
    return (struct intake){.code = disk ? 452 : 451,
                           .status = disk ? SV("4.3.1") : SV("4.3.0"),
                           .text = disk ? SV(TEXT_DISK) : SV(TEXT_SPOOL)};
}

void intake_gate(struct queue *q)
{
    enum err err = intake_room(q);
    struct intake in = intake_state(err);

    if (in.open == q->intake_open)
        return;
    q->intake_open = in.open;
    if (!in.open) {
        track_alarm(q, "intake-closed", "mail is refused for now: %s", err_name(err));
    } else {
        log_msg(LOG_WARN, "intake-open", "mail is accepted again");
    }
    send_gate(q, &in);
}

/* ---- messages ---- */

static void refuse(struct queue *q, uint8_t worker, const struct received *r, enum err err)
{
    struct committed c = {
        .tag = r->tag, .id = r->env.id, .code = 451, .status = SV("4.3.0"), .text = SV(TEXT_SPOOL)};

    if (err == ERR_NOSPACE) {
        c.code = 452;
        c.status = SV("4.3.1");
        c.text = SV(TEXT_DISK);
    }
    q->counters[COUNT_REFUSED]++;
    role_tell(q->smtp[worker].ch, MSG_COMMITTED, &c, -1);
}

static void tell(struct queue *q, const struct completion *c, enum err err)
{
    struct worker *w = &q->smtp[c->worker];
    struct committed done = {.tag = c->tag, .id = c->id, .code = 250, .status = SV("2.0.0")};

    if (err) {
        done.code = err == ERR_NOSPACE ? 452 : 451;
        done.status = err == ERR_NOSPACE ? SV("4.3.1") : SV("4.3.0");
        done.text = err == ERR_NOSPACE ? SV(TEXT_DISK) : SV(TEXT_SPOOL);
    }
    if (w->ch && w->generation == c->generation)
        role_tell(w->ch, MSG_COMMITTED, &done, -1);
}

static void durable(struct queue *q, const struct completion *c, enum err err)
{
    struct qmsg *m = msg_find(q, c->id);

    tell(q, c, err);
    if (!m || !m->hot)
        return;
    if (err) {
        q->counters[COUNT_REFUSED]++;
        hot_unlink_body(q, m->hot);
        hot_free(q, m->hot);
        msg_remove(q, m);
        return;
    }
    q->counters[COUNT_RECEIVED]++;
    q->counters[COUNT_RECEIVED_BYTES] += m->hot->env.size;
    track(q, EVENT_RECEIVED, m->hot, SV(""), SV(""));
    scan_enqueue(q, m->hot);
}

/* Appends to the batch; the message is hot from here on. `to` is who waits for the commit: the
 * channel it came over, never one that has taken its place since (tags begin anew there). */
static enum err append(struct queue *q, const struct completion *to, const struct envelope *env,
                       struct sv body)
{
    buf_reset(&q->scratch);
    envelope_put(&q->scratch, env);
    if (q->scratch.overflow)
        return ERR_LIMIT;
    enum err err = spool_put(q->spool, env->id, buf_sv(&q->scratch), body, env->file);
    if (err)
        return err;
    struct qmsg *m = msg_add(q, env->id);
    struct hot *h = hot_new(q, m);
    h->phase = HOT_COMMITTING;
    err = envelope_decode(arena_sv(&h->arena, buf_sv(&q->scratch)), &h->arena, &h->env);
    if (!err)
        hot_fresh_state(h);
    if (err || h->arena.overflow)
        return ERR_BUG; /* what was just encoded decodes; memory is bounded by the message table */
    m->kind = env->kind;
    m->n_rcpts = env->n_rcpts;
    if (body.n && q->hot_bytes + body.n <= HOT_BODY_BYTES && !buf_append_sv(&h->body, body))
        q->hot_bytes += body.n;
    msg_due(q, m, loop_clock(q->loop).wall_ms + TASK_DEADLINE_MS);
    on_commit(q, durable, *to);
    return ERR_OK;
}

/* ---- large bodies: files made ahead, one directory sync for several ---- */

static bool files_make(struct queue *q)
{
    struct rng rng = rng_system();
    uint32_t made = 0;

    for (uint32_t i = 0; i < q->n_files; i++)
        made += q->files[i].fd >= 0 && !q->files[i].used;
    if (made)
        return true;
    for (uint32_t i = 0; i < FILES_AHEAD; i++) {
        struct file_slot f = {.file = queue_new_id(q)};
        char name[64];
        snprintf(name, sizeof(name), "big-%016llx", (unsigned long long)f.file);
        f.fd = openat(q->spool_dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (f.fd < 0)
            break;
        rng_bytes(&rng, f.key, sizeof(f.key));
        struct file_slot *more = realloc(q->files, (q->n_files + 1) * sizeof(*more));
        if (!more)
            abort();
        q->files = more;
        q->files[q->n_files++] = f;
        made++;
    }
    return made && fsync(q->spool_dir) == 0;
}

static struct file_slot *file_find(struct queue *q, uint64_t file)
{
    for (uint32_t i = 0; i < q->n_files; i++) {
        if (q->files[i].file == file)
            return &q->files[i];
    }
    return NULL;
}

static void file_forget(struct queue *q, struct file_slot *f, bool remove)
{
    char name[64];

    snprintf(name, sizeof(name), "big-%016llx", (unsigned long long)f->file);
    close(f->fd);
    if (remove)
        (void)unlinkat(q->spool_dir, name, 0);
    *f = q->files[--q->n_files];
}

void intake_file_ask(struct queue *q, uint8_t worker, const struct file_ask *a)
{
    struct worker *w = &q->smtp[worker];
    struct file_give give = {.tag = a->tag, .code = 452, .text = SV(TEXT_DISK)};
    struct file_slot *f = NULL;
    int fd = -1;

    if (a->declared_size <= SIZE_ASKED_MAX &&
        spool_room(q->spool, a->declared_size * 2) == ERR_OK && files_make(q)) {
        for (uint32_t i = 0; i < q->n_files && !f; i++)
            f = q->files[i].used ? NULL : &q->files[i];
    }
    if (f && (fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 3)) >= 0) {
        f->used = true;
        f->worker = worker;
        f->generation = w->generation;
        give.code = 0;
        give.file = f->file;
        give.key = sv_of((const char *)f->key, sizeof(f->key));
    }
    role_tell(w->ch, MSG_FILE_GIVE, &give, fd);
}

void intake_file_drop(struct queue *q, uint8_t worker, uint64_t file)
{
    struct file_slot *f = file_find(q, file);

    if (f && f->used && f->worker == worker)
        file_forget(q, f, true);
}

void intake_worker_gone(struct queue *q, uint8_t worker)
{
    for (uint32_t i = q->n_files; i-- > 0;) {
        if (q->files[i].used && q->files[i].worker == worker)
            file_forget(q, &q->files[i], true);
    }
}

/* A large body waits for its own sync; then it goes the way of the others. */
struct big {
    struct queue *q;
    struct arena arena;
    struct envelope env;
    uint64_t tag, file;
    uint32_t generation;
    uint8_t worker;
};

static void big_synced(void *arg, int result)
{
    struct big *b = arg;
    struct queue *q = b->q;
    struct file_slot *f = file_find(q, b->file);
    struct completion c = {
        .id = b->env.id, .tag = b->tag, .worker = b->worker, .generation = b->generation};
    enum err err = result || !f ? ERR_IO : append(q, &c, &b->env, SV(""));

    if (err) {
        tell(q, &c, err);
        q->counters[COUNT_REFUSED]++;
    }
    if (f)
        file_forget(q, f, err != ERR_OK);
    arena_done(&b->arena);
    free(b);
}

static enum err big_start(struct queue *q, uint8_t worker, const struct received *r)
{
    struct file_slot *f = file_find(q, r->file);
    struct big *b;

    if (!f || !f->used || f->worker != worker || f->generation != q->smtp[worker].generation)
        return ERR_SYNTAX;
    b = calloc(1, sizeof(*b));
    if (!b)
        abort();
    *b = (struct big){.q = q,
                      .tag = r->tag,
                      .file = r->file,
                      .worker = worker,
                      .generation = q->smtp[worker].generation};
    arena_init(&b->arena, 4u * 1024 * 1024);
    struct envelope env = r->env;
    env.file = arena_printf(&b->arena, "big-%016llx", (unsigned long long)r->file);
    env.body_key = sv_of((const char *)f->key, sizeof(f->key));
    buf_reset(&q->scratch);
    envelope_put(&q->scratch, &env);
    enum err err = envelope_decode(arena_sv(&b->arena, buf_sv(&q->scratch)), &b->arena, &b->env);
    f->worker = WORKERS_MAX; /* its worker may go away now */
    if (err || loop_fdatasync(q->loop, f->fd, big_synced, b)) {
        arena_done(&b->arena);
        free(b);
        file_forget(q, f, true);
        return ERR_IO;
    }
    return ERR_OK;
}

/* The lease before the present one may still be in use. */
static bool leased(const struct worker *w, uint64_t id)
{
    bool now = id >= w->lease_first && id - w->lease_first < LEASE_IDS;
    bool before = w->lease_before && id >= w->lease_before && id - w->lease_before < LEASE_IDS;

    return now || before;
}

static bool plausible(const struct queue *q, uint8_t worker, const struct received *r)
{
    const struct worker *w = &q->smtp[worker];
    const struct envelope *e = &r->env;

    return leased(w, e->id) && e->n_rcpts >= 1 && e->n_rcpts <= RCPTS_MAX && e->sha256.n == 32 &&
           e->kind == MESSAGE_SMTP && !e->sealed && !e->parent && !e->file.n && !e->body_key.n &&
           (r->file ? r->body.n == 0 : r->body.n == e->size && e->size);
}

void intake_received(struct queue *q, uint8_t worker, const struct received *r)
{
    struct worker *w = &q->smtp[worker];
    struct completion to = {
        .id = r->env.id, .tag = r->tag, .worker = worker, .generation = w->generation};
    enum err err;

    if (!plausible(q, worker, r)) {
        track_alarm(q, "garbage", "smtp worker %u sent an impossible message", worker);
        refuse(q, worker, r, ERR_SYNTAX);
        return;
    }
    if (msg_find(q, r->env.id))
        err = ERR_CONFLICT;
    else if (r->file)
        err = big_start(q, worker, r);
    else
        err = append(q, &to, &r->env, r->body);
    if (err)
        refuse(q, worker, r, err);
    else if (r->env.id >= w->lease_first + LEASE_IDS / 2)
        intake_lease(q, worker);
}
