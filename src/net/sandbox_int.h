/* The two halves of the cage. */
#ifndef NET_SANDBOX_INT_H
#define NET_SANDBOX_INT_H

#include "net/sandbox.h"

int landlock_abi(void); /* 0 = the kernel has none */
/* Denies every path but these, TCP unless `tcp`, and signals out of the process tree as far as
 * the kernel's ABI knows them. */
NODISCARD enum err landlock_enter(const struct sandbox_path *paths, size_t n_paths, bool tcp,
                                  struct errinfo *info);

bool seccomp_available(void);
NODISCARD enum err seccomp_enter(enum role role, struct errinfo *info);

#endif
