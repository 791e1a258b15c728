/*
 * NAME         lookup: whatever is slow or may block, away from mail flow
 * TALKS TO     smtp, queue, web: typed questions, one answer each, in order
 * ON FAILURE   a question in flight is lost; the asker's own deadline turns that into "unknown"
 *
 * Password hashes are the only questions so far. The asker names the hash, so that this process
 * needs no settings; it answers YES only for a hash that libsodium verifies.
 *
 * SECURITY: user names and passwords come from the internet. Hash parameters come from settings,
 * and are checked against limits so that a hash cannot ask for all memory.
 */
#include "role/role.h"
#include "role/tell.h"

#include <sodium.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#define PEERS_MAX       (3 * 64)
#define PASSWORD_MAX    512
#define HASH_OPS_MAX    10
#define HASH_MEMORY_MAX (256u * 1024 * 1024)

struct lookup {
    struct role_ctx *role;
    struct ipc *peers[PEERS_MAX];
};

/* "$argon2id$v=19$m=KIB,t=PASSES,p=1$salt$hash": libsodium would do whatever stands there. */
static bool affordable(struct sv hash)
{
    uint64_t kib, passes;

    for (int i = 0; i < 3; i++) /* "", the name, the version */
        (void)sv_cut(&hash, '$');
    struct sv cost = sv_cut(&hash, '$');
    struct sv m = sv_cut(&cost, ','), t = sv_cut(&cost, ',');
    return sv_starts(m, SV("m=")) && sv_starts(t, SV("t=")) &&
           sv_to_u64(sv_skip(m, 2), 1, HASH_MEMORY_MAX / 1024, &kib) &&
           sv_to_u64(sv_skip(t, 2), 1, HASH_OPS_MAX, &passes);
}

static enum answer verify(struct sv password, struct sv hash)
{
    char text[crypto_pwhash_STRBYTES] = {0};

    if (hash.n >= sizeof(text) || password.n > PASSWORD_MAX || !affordable(hash))
        return ANSWER_NO;
    memcpy(text, hash.p, hash.n);
    return crypto_pwhash_str_verify(text, password.p, password.n) == 0 ? ANSWER_YES : ANSWER_NO;
}

static void on_message(void *ctx, struct ipc *ch, enum message m, const union message_body *b,
                       int fd)
{
    (void)ctx;
    if (fd >= 0)
        close(fd);
    if (m != MSG_ASK)
        return; /* SETTINGS: nothing here depends on them */
    struct answer_msg a = {.tag = b->ASK.tag, .answer = ANSWER_UNKNOWN};
    if (b->ASK.kind == ASK_PASSWORD)
        a.answer = (uint8_t)verify(b->ASK.b, b->ASK.c);
    role_tell(ch, MSG_ANSWER, &a, -1);
}

static void on_closed(void *ctx, struct ipc *ch, const char *why)
{
    struct lookup *l = ctx;

    (void)why;
    for (size_t i = 0; i < PEERS_MAX; i++) {
        if (l->peers[i] == ch)
            l->peers[i] = NULL;
    }
}

static void on_channel(void *ctx, enum role peer, uint8_t index, int fd)
{
    struct lookup *l = ctx;
    struct ipc_handler h = {.ctx = l, .message = on_message, .closed = on_closed};
    struct ipc **slot = NULL;

    for (size_t i = 0; i < PEERS_MAX && !slot; i++) {
        if (!l->peers[i])
            slot = &l->peers[i];
    }
    if (!slot || ipc_new(l->role->loop, fd, ROLE_LOOKUP, peer, index, &h, slot))
        close(fd);
}

static void on_turn(void *ctx)
{
    (void)ctx;
    log_flush();
}

int lookup_run(struct role_ctx *r)
{
    static struct lookup l;
    struct role_events events = {.ctx = &l, .channel = on_channel};

    l.role = r;
    if (sodium_init() < 0 || role_begin(r, &events) || role_lock(r, NULL, 0))
        return EX_OSERR;
    loop_on_turn(r->loop, on_turn, &l);
    return role_loop(r);
}
