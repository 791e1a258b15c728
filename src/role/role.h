/*
 * Child start-up, shared by all roles. The supervisor runs `postseald --role NAME` with fd 3 as the
 * control channel. Protocol on it (model/messages.h):
 *
 *   supervisor: HELLO, then BYTES, LISTENER and CHANNEL messages in any number and order, then
 *               BYTES with name "end" (data empty)
 *   child:      READY, once it has opened what it needs and is in its cage
 *   later:      CHANNEL (a peer was restarted: the new fd replaces the old channel of that role and
 *               index), BYTES (files were read again; a new set ends with "end" again), LEVEL
 *
 * A role is `int NAME_run(struct role_ctx *r)`:
 *
 *   role_begin(r, &events)       initial messages arrive through the callbacks
 *   ... open files, set up libraries ...
 *   role_lock(r, paths, n)       enters the sandbox, says READY
 *   return role_loop(r)          until SIGTERM and events.stop has finished (role_stop)
 *
 * The supervisor's death or a broken control channel ends the child.
 */
#ifndef ROLE_ROLE_H
#define ROLE_ROLE_H

#include "base/log.h"
#include "net/ipc.h"
#include "net/sandbox.h"

#define ROLE_CONTROL_FD 3
#define ROLE_BYTES_END  "end"

/* Any callback may be NULL: then fds are closed and bytes ignored. Views live until return. */
struct role_events {
    void *ctx;
    void (*bytes)(void *ctx, struct sv name, struct sv data);
    /* fds belong to the callee; listening sockets are non-blocking */
    void (*listener)(void *ctx, struct sv kind, struct sv address, int fd);
    void (*channel)(void *ctx, enum role peer, uint8_t index, int fd);
    /* SIGTERM: end soon (within 10 s, then SIGKILL) by calling role_stop. NULL = at once. */
    void (*stop)(void *ctx);
};

struct role_ctx {
    struct hello hello; /* views live as long as the process */
    enum role role;
    struct loop *loop;
    struct ipc *control; /* to the supervisor, after role_lock: KILL, LEVEL */
    int control_fd;      /* before role_lock */
    struct role_events events;
    struct arena arena;
    bool locked;
};

/* Reads HELLO, makes the loop, sets title, log and signals. For main(). */
NODISCARD enum err role_start(struct role_ctx *r, const char *name, struct errinfo *info);
/* Initial messages, until "end"; ERR_CLOSED when the supervisor went away. */
NODISCARD enum err role_begin(struct role_ctx *r, const struct role_events *events);
/* Cage and READY. Logs and returns an error when the cage is required and the kernel cannot. */
NODISCARD enum err role_lock(struct role_ctx *r, const struct sandbox_path *paths, size_t n_paths);
int role_loop(struct role_ctx *r); /* exit status for main */
void role_stop(struct role_ctx *r);

int smtp_run(struct role_ctx *r);
int queue_run(struct role_ctx *r);
int content_run(struct role_ctx *r);
int lookup_run(struct role_ctx *r);
int store_run(struct role_ctx *r);
int web_run(struct role_ctx *r);
int keys_run(struct role_ctx *r);

#endif
