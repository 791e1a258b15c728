/*
 * Jobs for `content` workers: scans of messages and building of reports. Each worker works on one
 * job at a time; up to CONTENT_PIPE are sent ahead. A worker that dies or overruns is the fault of
 * the job it was working on, the first of its pipe; the others go to another worker.
 */
#include "role/queue_priv.h"

#include <string.h>
#include <unistd.h>

#define KILLS_MAX      2    /* a message that ends two workers is parked */
#define WATCH_SLACK_MS 5000 /* the worker's own limit comes first */

void scan_enqueue(struct queue *q, struct hot *h)
{
    h->phase = HOT_SCAN;
    if (!list_linked(&h->node))
        list_push_back(&q->scan_queue, &h->node);
}

static struct worker *least_busy(struct queue *q, uint8_t *out_index)
{
    struct worker *best = NULL;

    for (uint8_t i = 0; i < q->n_content; i++) {
        struct worker *w = &q->content[i];
        if (!w->ch || w->killing || w->n_jobs >= CONTENT_PIPE)
            continue;
        if (!best || w->n_jobs < best->n_jobs) {
            best = w;
            *out_index = i;
        }
    }
    return best;
}

/* ERR_CLOSED, ERR_LIMIT: the fault of the channel, not of the message. */
static enum err send_scan(struct queue *q, struct worker *w, struct hot *h)
{
    /* A message begins with the settings of the moment its scan is sent: a worker that was started
     * since knows no older ones. */
    snapshot_unref(h->snap);
    h->snap = snapshot_ref(q->snap);
    struct job job = {.job = ++q->next_job,
                      .kind = JOB_SCAN,
                      .id = h->env.id,
                      .revision = h->snap->s->revision,
                      .env = h->env};
    int fd = -1;

    if (h->fd >= 0 || h->env.file.n) {
        fd = hot_body_fd(q, h);
        job.body_key = h->env.body_key;
        if (fd < 0)
            return ERR_IO;
    } else if (hot_body(q, h)) {
        return ERR_IO;
    } else {
        job.body = buf_sv(&h->body);
    }
    enum err err = ipc_send(w->ch, MSG_JOB, &job, fd);
    if (err)
        return err;
    w->jobs[w->n_jobs++] =
        (struct job_slot){.job = job.job, .hot = h, .sent_ms = loop_clock(q->loop).mono_ms};
    if (q->hot_bytes > HOT_BODY_BYTES / 2)
        hot_forget_body(q, h);
    return ERR_OK;
}

static void failed(struct queue *q, struct hot *h, enum scan_state state, const char *why)
{
    struct facts f = {.scan = (uint8_t)state, .scan_error = sv_str(why)};

    q->counters[COUNT_SCAN_FAILED]++;
    if (h->ctl)
        ctl_facts(q, h, &f);
    else
        decide_message(q, h, &f);
}

void scan_dispatch(struct queue *q)
{
    uint8_t index = 0;
    struct worker *w;

    while (report_pending(q) && (w = least_busy(q, &index)) != NULL)
        report_dispatch(q, w, index);
    while (!list_empty(&q->scan_queue) && (w = least_busy(q, &index)) != NULL) {
        struct hot *h = LIST_ENTRY(q->scan_queue.next, struct hot, node);
        list_remove(&h->node);
        enum err err = send_scan(q, w, h);
        if (err == ERR_CLOSED || (err == ERR_LIMIT && w->n_jobs)) {
            scan_enqueue(q, h); /* its end is known in a moment */
            return;
        }
        if (err)
            failed(q, h, SCAN_FAILED, "the message could not be read from the spool");
    }
}

/* Takes the first job out of the pipe. */
static struct job_slot pop(struct worker *w, int64_t now)
{
    struct job_slot s = w->jobs[0];

    w->n_jobs--;
    memmove(&w->jobs[0], &w->jobs[1], w->n_jobs * sizeof(w->jobs[0]));
    for (uint32_t i = 0; i < w->n_jobs; i++)
        w->jobs[i].sent_ms = now; /* their time begins when the worker comes to them */
    return s;
}

void scan_done(struct queue *q, uint8_t worker, const struct job_done *d)
{
    struct worker *w = &q->content[worker];

    if (!w->n_jobs || w->jobs[0].job != d->job) {
        track_alarm(q, "garbage", "content worker %u answered a job it does not have", worker);
        return;
    }
    struct job_slot s = pop(w, loop_clock(q->loop).mono_ms);

    if (s.report) {
        if (d->error.n || !d->body.n)
            report_failed(q, s.report);
        else
            report_built(q, s.report, d->body);
        return;
    }
    if (d->facts.scan == SCAN_OK)
        q->counters[COUNT_SCANNED]++;
    else
        q->counters[COUNT_SCAN_FAILED]++;
    if (d->facts.scan == SCAN_KILLED && ++s.hot->st.kills < KILLS_MAX) {
        scan_enqueue(q, s.hot);
        return;
    }
    if (s.hot->ctl)
        ctl_facts(q, s.hot, &d->facts);
    else
        decide_message(q, s.hot, &d->facts);
}

void scan_worker_gone(struct queue *q, uint8_t worker)
{
    struct worker *w = &q->content[worker];
    bool overran = w->killing;
    uint32_t n = w->n_jobs;
    struct job_slot jobs[CONTENT_PIPE];

    memcpy(jobs, w->jobs, sizeof(jobs));
    w->n_jobs = 0;
    w->killing = false;
    w->ch = NULL;
    for (uint32_t i = 0; i < n; i++) {
        struct hot *h = jobs[i].hot;
        if (jobs[i].report) {
            if (i == 0)
                report_failed(q, jobs[i].report);
            else
                list_push_back(&q->report_queue, &jobs[i].report->in_queue);
        } else if (i > 0) {
            scan_enqueue(q, h);
        } else if (overran) {
            failed(q, h, SCAN_TIMEOUT, "the scan took too long");
        } else if (++h->st.kills >= KILLS_MAX) {
            failed(q, h, SCAN_KILLED, "the message ended the scanning process twice");
        } else {
            scan_enqueue(q, h);
        }
    }
    if (n) {
        q->counters[COUNT_CONTENT_KILLED]++;
        log_msg(LOG_WARN, "content-died", "content worker %u ended over a job", worker);
    }
}

void scan_watch(struct queue *q)
{
    int64_t now = loop_clock(q->loop).mono_ms;
    int64_t limit = (int64_t)q->snap->s->content_scan_timeout_s * 1000 + WATCH_SLACK_MS;

    for (uint8_t i = 0; i < q->n_content; i++) {
        struct worker *w = &q->content[i];
        if (!w->ch || !w->n_jobs || w->killing || now - w->jobs[0].sent_ms < limit)
            continue;
        struct kill k = {.role = ROLE_CONTENT, .index = i, .why = SV("scan took too long")};
        w->killing = true;
        role_tell(q->control, MSG_KILL, &k, -1);
    }
}
