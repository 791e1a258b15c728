/*
 * See keys_child.h.
 *
 * SECURITY: an import is the only file of a stranger's making that `keys` looks at. It is parsed in
 * the child, which has closed every channel and wiped every key before, with limits on size, KDF
 * iterations (crypto/cert.h) and CPU time. The parent trusts only the form of the answer, and loads
 * what it holds through the same checks as at start.
 */
#include "role/keys_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SELF_SIGNED_DAYS 3650
#define CPU_SECONDS      50
#define FD_LAST          1023 /* RLIMIT_NOFILE of this role is 1024 */

static void put_part(struct buf *out, struct sv v)
{
    uint32_t n = (uint32_t)v.n;
    (void)buf_append(out, &n, sizeof(n));
    (void)buf_append_sv(out, v);
}

static bool take_part(struct sv *left, struct sv *out_v)
{
    uint32_t n;
    if (left->n < sizeof(n))
        return false;
    memcpy(&n, left->p, sizeof(n));
    struct sv rest = sv_skip(*left, sizeof(n));
    if (n > rest.n)
        return false;
    *out_v = sv_take(rest, n);
    *left = sv_skip(rest, n);
    return true;
}

static enum err work_run(const struct keys_work *w, struct buf *key, struct buf *chain,
                         struct errinfo *info)
{
    struct sv password, blob;
    if (w->op == KEY_OP_GENERATE) {
        if (w->alg > KEY_RSA_4096)
            return err_set(info, ERR_SYNTAX, "unknown kind of key");
        return cert_self_signed((enum key_kind)w->alg, w->data, SELF_SIGNED_DAYS, key, chain, info);
    }
    enum err err = key_import_get(w->data, &password, &blob);
    if (err)
        return err_set(info, err, "malformed import request");
    return cert_import(w->legacy, blob, password, key, chain, info);
}

void keys_child_work(const struct keys_work *w, struct buf *out)
{
    struct buf key, chain;
    struct errinfo info = {0};
    buf_init(&key, KEYS_PEM_MAX);
    buf_init(&chain, KEYS_PEM_MAX);
    uint8_t err = (uint8_t)work_run(w, &key, &chain, &info);
    (void)buf_append_byte(out, (char)err);
    put_part(out, sv_str(err ? info.text : ""));
    put_part(out, err ? SV_NULL : buf_sv(&key));
    put_part(out, err ? SV_NULL : buf_sv(&chain));
    buf_wipe(&key);
    buf_done(&chain);
}

enum err keys_child_answer(struct sv bytes, struct keys_made *out_made)
{
    struct keys_made made = {0};
    struct sv left = sv_skip(bytes, 1);
    if (bytes.n < 1 || (uint8_t)bytes.p[0] > ERR_BUG)
        return ERR_SYNTAX;
    made.err = (enum err)(uint8_t)bytes.p[0];
    if (!take_part(&left, &made.text) || !take_part(&left, &made.key_pem) ||
        !take_part(&left, &made.chain_pem) || left.n)
        return ERR_SYNTAX;
    *out_made = made;
    return ERR_OK;
}

NORETURN static void child_main(struct keys_vault *v, const struct keys_work *w, int fd)
{
    struct buf out;
    keys_vault_forget(v);
    for (int i = 3; i <= FD_LAST; i++)
        if (i != fd)
            (void)close(i);
    const struct rlimit cpu = {CPU_SECONDS, CPU_SECONDS};
    (void)setrlimit(RLIMIT_CPU, &cpu);
    (void)setpriority(PRIO_PROCESS, 0, 10); /* refused in the cage; then equal priority it is */
    buf_init(&out, 3 * KEYS_PEM_MAX);
    keys_child_work(w, &out);
    struct sv left = buf_sv(&out);
    while (left.n) {
        ssize_t n = write(fd, left.p, left.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        left = sv_skip(left, (size_t)n);
    }
    _exit(0);
}

enum err keys_child_start(struct keys_vault *v, const struct keys_work *w, pid_t *out_pid,
                          int *out_fd)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return ERR_IO;
    pid_t pid = fork();
    if (pid == 0)
        child_main(v, w, fds[1]);
    (void)close(fds[1]);
    if (pid < 0) {
        (void)close(fds[0]);
        return ERR_IO;
    }
    (void)fcntl(fds[0], F_SETFL, O_NONBLOCK);
    *out_pid = pid;
    *out_fd = fds[0];
    return ERR_OK;
}

void keys_child_end(pid_t pid)
{
    (void)kill(pid, SIGKILL); /* it has said everything, or took too long */
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}
