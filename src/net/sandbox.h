/*
 * The cage of a process: no_new_privs, Landlock, seccomp, rlimits, no core dumps. Entered after
 * every file was opened. Each role has one row: paths it may read or write beneath, system calls it
 * may make (SCMP kill-process for the rest; EPERM/ENOSYS for a named few that libraries probe).
 */
#ifndef NET_SANDBOX_H
#define NET_SANDBOX_H

#include "base/err.h"
#include "model/messages.h"

struct sandbox_path {
    const char *path; /* absolute; skipped when it does not exist */
    bool write;       /* else read only */
};
struct sandbox_result {
    bool landlock, seccomp;
};
/* require: ERR_DENIED naming what the kernel lacks; else best effort. */
NODISCARD enum err sandbox_enter(enum role role, const struct sandbox_path *paths, size_t n_paths,
                                 bool require, struct sandbox_result *out_result,
                                 struct errinfo *info);

/* Whether this kernel can do what `require` demands; changes nothing. ERR_DENIED names the lack. */
NODISCARD enum err sandbox_probe(struct errinfo *info);

#endif
