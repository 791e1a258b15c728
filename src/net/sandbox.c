/*
 * Entering the cage: see sandbox.h. Order matters: no_new_privs first (both mechanisms demand it
 * for ordinary users), then paths, limits, and the system call filter last, since it forbids the
 * rest.
 */
#include "net/sandbox_int.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define NO_LIMIT UINT64_MAX
#define MIB64(n) ((uint64_t)(n) << 20)

/* AddressSanitizer reserves terabytes of address space for its shadow. */
#ifndef __has_feature /* clang's way to ask; gcc defines a macro instead */
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define ADDRESS_SPACE(n) NO_LIMIT
#else
#define ADDRESS_SPACE(n) (n)
#endif

static const struct {
    enum role role;
    bool tcp;           /* may bind and connect */
    uint64_t files;     /* RLIMIT_NOFILE, at most what the supervisor had */
    uint64_t memory;    /* RLIMIT_AS */
    uint64_t file_size; /* RLIMIT_FSIZE; memfds count */
} rows[] = {
    {ROLE_SMTP, true, 131072, NO_LIMIT, NO_LIMIT},
    {ROLE_QUEUE, false, 65536, NO_LIMIT, NO_LIMIT},
    {ROLE_CONTENT, false, 256, ADDRESS_SPACE(MIB64(2048)), MIB64(256)},
    {ROLE_LOOKUP, true, 1024, ADDRESS_SPACE(MIB64(4096)), MIB64(64)},
    {ROLE_STORE, false, 4096, NO_LIMIT, NO_LIMIT},
    {ROLE_WEB, false, 16384, NO_LIMIT, NO_LIMIT},
    {ROLE_KEYS, false, 1024, ADDRESS_SPACE(MIB64(1024)), MIB64(64)},
};

static enum err set_limit(int which, uint64_t value, struct errinfo *info)
{
    struct rlimit now;

    if (getrlimit((__rlimit_resource_t)which, &now) != 0)
        return err_set_sys(info, ERR_IO, errno, "getrlimit");
    if (value == NO_LIMIT || value > now.rlim_max)
        value = now.rlim_max;
    const struct rlimit limit = {value, value};
    if (setrlimit((__rlimit_resource_t)which, &limit) != 0)
        return err_set_sys(info, ERR_IO, errno, "setrlimit");
    return ERR_OK;
}

static enum err set_limits(size_t row, struct errinfo *info)
{
    enum err err = set_limit(RLIMIT_CORE, 0, info);

    if (!err)
        err = set_limit(RLIMIT_NOFILE, rows[row].files, info);
    if (!err)
        err = set_limit(RLIMIT_AS, rows[row].memory, info);
    if (!err)
        err = set_limit(RLIMIT_FSIZE, rows[row].file_size, info);
    return err;
}

enum err sandbox_probe(struct errinfo *info)
{
    if (landlock_abi() == 0)
        return err_set(info, ERR_DENIED,
                       "the kernel lacks Landlock (needs Linux 5.13 with lsm=landlock)");
    if (!seccomp_available())
        return err_set(info, ERR_DENIED, "the kernel lacks seccomp (CONFIG_SECCOMP_FILTER)");
    return ERR_OK;
}

static size_t row_of(enum role role)
{
    size_t i = 0;

    while (i < ARRAY_LEN(rows) && rows[i].role != role)
        i++;
    return i;
}

enum err sandbox_enter(enum role role, const struct sandbox_path *paths, size_t n_paths,
                       bool require, struct sandbox_result *out_result, struct errinfo *info)
{
    struct sandbox_result r;
    size_t row = row_of(role);
    enum err err;

    if (row == ARRAY_LEN(rows))
        return err_set(info, ERR_BUG, "no cage for role %s", role_name(role));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return err_set_sys(info, ERR_DENIED, errno, "prctl");
    err = landlock_enter(paths, n_paths, rows[row].tcp, info);
    r.landlock = err == ERR_OK;
    if (err && (require || err != ERR_DENIED))
        return err;
    err = set_limits(row, info);
    if (err)
        return err;
    err = seccomp_enter(role, info);
    r.seccomp = err == ERR_OK;
    if (err && (require || err != ERR_DENIED))
        return err;
    *out_result = r;
    return ERR_OK;
}
