#include "net/fd.h"

#include <errno.h>
#include <unistd.h>

bool fd_write_all(int fd, struct sv bytes)
{
    while (bytes.n) {
        ssize_t n = write(fd, bytes.p, bytes.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes = sv_skip(bytes, (size_t)n);
    }
    return true;
}

bool fd_read_at(int fd, char *out, size_t n, uint64_t offset)
{
    while (n > 0) {
        ssize_t got = pread(fd, out, n, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        out += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return true;
}

void fd_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}
