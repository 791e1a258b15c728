/* Inside of the content role: one job -> one answer, in this process or in a child of its own. */
#ifndef ROLE_CONTENT_PRIV_H
#define ROLE_CONTENT_PRIV_H

#include "content/scan.h"
#include "model/messages.h"

#define CONTENT_ARENA_MAX    (256u * 1024 * 1024) /* facts and working memory of one job */
#define CONTENT_FRAME_MAX    (4u * 1024 * 1024)   /* JOB_DONE, see model/messages.h */
#define CONTENT_DSN_MAX      (60u * 1024)         /* a DSN above returns headers only */
#define CONTENT_REPORT_MAX   (3u * 1024 * 1024)   /* of an original that a DSN may return */
#define CONTENT_WARM_MAX     (2u * 1024 * 1024) /* of a body that is loaded to see if it is simple */
#define CONTENT_CHILD_MEMORY (1024ull * 1024 * 1024)

/* Body of the job, at most max bytes of it, from the job or decrypted from its file; *out_owned is
 * freed by the caller. false: it could not be read. */
bool content_load(const struct job *job, int fd, size_t max, struct sv *out_body, char **out_owned);
/* Does the job in this process. fd (or -1) is read, not closed. Facts and body of *out_done live in
 * the arena or in *body. Never fails: what goes wrong is in out_done. */
void content_job(struct scanner *sc, const struct job *job, int fd, struct arena *a,
                 struct buf *body, struct job_done *out_done);
/* Answer of a job that could not be done. */
void content_failed(const struct job *job, enum scan_state state, const char *why,
                    struct job_done *out_done);

struct content_limits {
    int64_t deadline_ms; /* wall time of the child */
    uint64_t memory;     /* RLIMIT_AS of the child, 0 = none */
};
/* Does the job in a fresh child under limits; blocks until it is done or its time is over. The
 * answer is decoded into the arena. */
void content_fork(struct scanner *sc, const struct job *job, int fd,
                  const struct content_limits *limits, struct arena *a, struct job_done *out_done);
/* Simple enough for the warm process? */
bool content_is_warm(const struct job *job, int fd);

#endif
