/*
 * Landlock by raw system calls (Debian 12 has no library, and its header knows ABI 2 only, so the
 * numbers of later ABIs stand here). A kernel is asked only for what its ABI knows.
 */
#include "net/sandbox_int.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* struct landlock_ruleset_attr as of ABI 6; older kernels take its beginning. */
struct ruleset_attr {
    uint64_t fs;     /* ABI 1 */
    uint64_t net;    /* ABI 4 */
    uint64_t scoped; /* ABI 6 */
};

#define FS_TRUNCATE   (UINT64_C(1) << 14) /* ABI 3 */
#define FS_IOCTL_DEV  (UINT64_C(1) << 15) /* ABI 5 */
#define NET_TCP       UINT64_C(3)         /* bind, connect */
#define SCOPE_ALL     UINT64_C(3)         /* abstract unix sockets, signals */
#define FS_FILE_READ  ((uint64_t)LANDLOCK_ACCESS_FS_READ_FILE)
#define FS_FILE_WRITE ((uint64_t)LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE)
#define FS_DIR_READ   ((uint64_t)LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_DIR_WRITE                                                                               \
    ((uint64_t)(LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |                   \
                LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |                        \
                LANDLOCK_ACCESS_FS_REFER))

int landlock_abi(void)
{
    long v = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);

    return v > 0 ? (int)v : 0;
}

/* Every file access the ABI knows. */
static uint64_t fs_all(int abi)
{
    uint64_t all = (UINT64_C(1) << 13) - 1;

    if (abi >= 2)
        all |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3)
        all |= FS_TRUNCATE;
    if (abi >= 5)
        all |= FS_IOCTL_DEV;
    return all;
}

static size_t attr_size(int abi)
{
    if (abi >= 6)
        return sizeof(struct ruleset_attr);
    return abi >= 4 ? offsetof(struct ruleset_attr, scoped) : offsetof(struct ruleset_attr, net);
}

static enum err add_path(int ruleset, const struct sandbox_path *p, uint64_t known,
                         struct errinfo *info)
{
    struct stat st;
    int fd = open(p->path, O_PATH | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT)
        return ERR_OK;
    if (fd < 0 || fstat(fd, &st) != 0) {
        int sys = errno;
        if (fd >= 0)
            (void)close(fd);
        return err_set_sys(info, ERR_IO, sys, "sandbox path %s", p->path);
    }
    uint64_t access = FS_FILE_READ | (p->write ? FS_FILE_WRITE : 0);
    if (S_ISDIR(st.st_mode))
        access |= FS_DIR_READ | (p->write ? FS_DIR_WRITE : 0);
    struct landlock_path_beneath_attr rule = {.allowed_access = access & known, .parent_fd = fd};
    long rc = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0U);
    int sys = errno;
    (void)close(fd);
    if (rc != 0)
        return err_set_sys(info, ERR_IO, sys, "Landlock rule for %s", p->path);
    return ERR_OK;
}

enum err landlock_enter(const struct sandbox_path *paths, size_t n_paths, bool tcp,
                        struct errinfo *info)
{
    int abi = landlock_abi();
    struct ruleset_attr attr = {.fs = fs_all(abi), .net = tcp ? 0 : NET_TCP, .scoped = SCOPE_ALL};

    if (abi == 0)
        return err_set(info, ERR_DENIED,
                       "the kernel lacks Landlock (needs Linux 5.13 with lsm=landlock)");
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, attr_size(abi), 0U);
    if (ruleset < 0)
        return err_set_sys(info, ERR_DENIED, errno, "Landlock refuses a rule set");
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < n_paths; i++)
        err = add_path(ruleset, &paths[i], attr.fs, info);
    if (!err && syscall(SYS_landlock_restrict_self, ruleset, 0U) != 0)
        err = err_set_sys(info, ERR_DENIED, errno, "Landlock cannot be entered");
    (void)close(ruleset);
    return err;
}
