/* Whole reads and writes on file descriptors that block (files, pipes, memfds). */
#ifndef NET_FD_H
#define NET_FD_H

#include "base/sv.h"

/* false: errno says why; what was written until then stays. */
NODISCARD bool fd_write_all(int fd, struct sv bytes);
/* Exactly n bytes at offset; false when the file is shorter or cannot be read. */
NODISCARD bool fd_read_at(int fd, char *out, size_t n, uint64_t offset);
/* For CLEANUP: closes what is open. */
void fd_close(int *fd);

#endif
