/*
 * One job in a child of its own: limits on memory, CPU and wall time, its answer through a pipe.
 *
 * SECURITY: the child parses what an attacker wrote and may be taken over by it. Its answer is
 * bounded, decoded strictly and must be for this job; whatever else happens to it is a fact that
 * holds the message, never "clean".
 */
#include "role/content_priv.h"

#include "base/clock.h"
#include "net/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void lower_limit(__rlimit_resource_t which, rlim_t value)
{
    struct rlimit l;
    if (getrlimit(which, &l) != 0)
        return;
    if (l.rlim_max == RLIM_INFINITY || l.rlim_max > value)
        l.rlim_max = value;
    l.rlim_cur = l.rlim_max;
    (void)setrlimit(which, &l);
}

/* Never returns. Exit status 0 = a whole frame was written. */
NORETURN static void child(struct scanner *sc, const struct job *job, int fd, int out,
                           const struct content_limits *limits)
{
    struct arena a;
    struct buf body, frame;
    struct job_done done;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    lower_limit(RLIMIT_CPU, (rlim_t)(limits->deadline_ms / 1000 + 1));
    lower_limit(RLIMIT_CORE, 0);
    lower_limit(RLIMIT_FSIZE, 0);
    if (limits->memory)
        lower_limit(RLIMIT_AS, limits->memory);
    arena_init(&a, CONTENT_ARENA_MAX);
    buf_init(&body, CONTENT_FRAME_MAX - 65536);
    buf_init(&frame, CONTENT_FRAME_MAX);
    content_job(sc, job, fd, &a, &body, &done);
    if (message_encode(MSG_JOB_DONE, &done, &frame)) {
        buf_reset(&frame);
        content_failed(job, SCAN_LIMIT, "the result is too large", &done);
        if (message_encode(MSG_JOB_DONE, &done, &frame))
            _exit(2);
    }
    _exit(fd_write_all(out, buf_sv(&frame)) ? 0 : 1);
}

enum gathered { GATHERED_ALL, GATHERED_TIMEOUT, GATHERED_TOO_MUCH };

/* Reads until the child closes its end. */
static enum gathered gather(int fd, int64_t until_ms, struct buf *out)
{
    for (;;) {
        int64_t left = until_ms - clock_now().mono_ms;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (left <= 0)
            return GATHERED_TIMEOUT;
        if (poll(&p, 1, left > 1000000 ? 1000000 : (int)left) <= 0)
            continue;
        if (buf_reserve(out, 65536) && buf_reserve(out, 1))
            return GATHERED_TOO_MUCH;
        size_t room = out->cap - out->n < out->max - out->n ? out->cap - out->n : out->max - out->n;
        ssize_t n = read(fd, out->p + out->n, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return GATHERED_ALL;
        out->n += (size_t)n;
    }
}

/* Ends and reaps the child; its wait status. */
static int reap(pid_t pid, bool over)
{
    int status = 0;
    if (over)
        (void)kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

/* The answer as the child wrote it, when it is one. */
static bool decode(struct sv frame, const struct job *job, struct arena *a,
                   struct job_done *out_done)
{
    enum message m;
    union message_body body;
    struct sv own = arena_sv(a, frame);
    if (own.n != frame.n || message_decode(own, a, &m, &body) != ERR_OK || m != MSG_JOB_DONE)
        return false;
    if (body.JOB_DONE.job != job->job || body.JOB_DONE.facts.scan > SCAN_LIMIT)
        return false;
    *out_done = body.JOB_DONE;
    return true;
}

static void conclude(const struct job *job, enum gathered got, int status, struct sv frame,
                     struct arena *a, struct job_done *out_done)
{
    bool signalled = WIFSIGNALED(status);
    if (got == GATHERED_TIMEOUT || (signalled && WTERMSIG(status) == SIGXCPU))
        content_failed(job, SCAN_TIMEOUT, "the scan took too long", out_done);
    else if (got == GATHERED_TOO_MUCH)
        content_failed(job, SCAN_KILLED, "the scanning process answered nonsense", out_done);
    else if (signalled || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        content_failed(job, SCAN_KILLED, "the scanning process died", out_done);
    else if (!decode(frame, job, a, out_done))
        content_failed(job, SCAN_KILLED, "the scanning process answered nonsense", out_done);
}

void content_fork(struct scanner *sc, const struct job *job, int fd,
                  const struct content_limits *limits, struct arena *a, struct job_done *out_done)
{
    int ends[2];
    int64_t until = clock_now().mono_ms + limits->deadline_ms;

    if (pipe2(ends, O_CLOEXEC) != 0) {
        content_failed(job, SCAN_FAILED, "no pipe for a scanning process", out_done);
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(ends[0]);
        child(sc, job, fd, ends[1], limits);
    }
    (void)close(ends[1]);
    if (pid < 0) {
        (void)close(ends[0]);
        content_failed(job, SCAN_FAILED, "no scanning process could be made", out_done);
        return;
    }
    struct buf frame;
    buf_init(&frame, CONTENT_FRAME_MAX + 1);
    enum gathered got = gather(ends[0], until, &frame);
    (void)close(ends[0]);
    int status = reap(pid, got != GATHERED_ALL);
    conclude(job, got, status, buf_sv(&frame), a, out_done);
    buf_done(&frame);
}
