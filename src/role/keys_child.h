/*
 * Slow or risky work of `keys` in a short-lived child: making RSA keys, parsing imported files. The
 * child holds no secret of its parent's, answers once over a pipe and ends; the parent kills it
 * after KEYS_CHILD_MS.
 */
#ifndef ROLE_KEYS_CHILD_H
#define ROLE_KEYS_CHILD_H

#include "role/keys_vault.h"
#include <sys/types.h>

#define KEYS_CHILD_MS  60000
#define KEYS_CHILD_MAX 2 /* at a time */

struct keys_work {
    enum key_op op;       /* GENERATE or IMPORT */
    uint32_t alg;         /* GENERATE: enum key_kind */
    struct sv data;       /* GENERATE: host; IMPORT: see key_import_put */
    OSSL_LIB_CTX *legacy; /* IMPORT: crypto/cert.h, may be NULL */
};
struct keys_made {
    enum err err;
    struct sv text; /* reason, of an error */
    struct sv key_pem, chain_pem;
};

/* The answer will arrive on *out_fd (read until its end, non-blocking). The child forgets v. */
NODISCARD enum err keys_child_start(struct keys_vault *v, const struct keys_work *w, pid_t *out_pid,
                                    int *out_fd);
/* Kills if need be, and reaps. */
void keys_child_end(pid_t pid);
/* Bytes of the pipe -> answer; views into bytes. */
NODISCARD enum err keys_child_answer(struct sv bytes, struct keys_made *out_made);
/* What the child does, without the process: for tests and fuzzing. Fills *out with its answer. */
void keys_child_work(const struct keys_work *w, struct buf *out);

#endif
