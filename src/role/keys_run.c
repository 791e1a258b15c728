/* `keys` as a process: start, cage, loop (role/keys.h). */
#include "role/keys.h"

#include "role/role.h"
#include <openssl/crypto.h>
#include <sys/prctl.h>
#include <sysexits.h>

struct run {
    struct role_ctx *role;
    struct keys *keys;
};

/* The supervisor's message is wiped where it lies: views into our own arena (small messages are
 * never mapped read-only). */
static void on_bytes(void *ctx, struct sv name, struct sv data)
{
    struct run *run = ctx;
    keys_bytes(run->keys, name, data);
    if (data.n && data.n <= IPC_INLINE_MAX / 2)
        OPENSSL_cleanse((void *)(uintptr_t)data.p, data.n);
}

static void on_new_channel(void *ctx, enum role peer, uint8_t index, int fd)
{
    struct run *run = ctx;
    keys_channel(run->keys, peer, index, fd);
}

static void on_keep(void *ctx, struct sv name, struct sv data)
{
    struct run *run = ctx;
    const struct bytes bytes = {.name = name, .data = data};
    enum err err =
        run->role->control ? ipc_send(run->role->control, MSG_BYTES, &bytes, -1) : ERR_CLOSED;
    if (err)
        log_msg(LOG_ERROR, "keys.keep", "%.*s cannot be kept on disk: %s", SV_ARG(name),
                err_name(err));
}

int keys_run(struct role_ctx *r)
{
    struct run run = {.role = r};
    const struct keys_handler handler = {&run, on_keep};
    const struct role_events events = {.ctx = &run, .bytes = on_bytes, .channel = on_new_channel};
    (void)prctl(PR_SET_DUMPABLE, 0); /* neither core nor ptrace by the same user */
    if (keys_new(r->loop, &handler, &run.keys))
        return EX_OSERR;
    int status = EX_UNAVAILABLE;
    if (!role_begin(r, &events) && !role_lock(r, NULL, 0))
        status = role_loop(r);
    keys_free(run.keys);
    return status;
}
