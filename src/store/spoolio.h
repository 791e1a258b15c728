/*
 * The spool's I/O on a real directory (struct spool_io over openat and friends).
 *
 * Every path is a plain name inside the directory; names with '/' are refused. Growing a file with
 * truncate() allocates its blocks, so that a full disk shows there and not in a later write.
 * sync_async goes to the caller's function (`queue` passes loop_fdatasync). Without one the
 * blocking variant is used: the sync runs at once and its callback waits for spool_fs_run(), so
 * that a program without an event loop keeps the order "call first, answer later".
 */
#ifndef STORE_SPOOLIO_H
#define STORE_SPOOLIO_H

#include "store/spool.h"

struct spool_fs;
/* Same shape as loop_fdatasync: 0 or -errno at once, cb(arg, 0 or -errno) later from the loop. */
typedef int spool_sync_fn(void *ctx, int fd, void (*cb)(void *arg, int result), void *arg);

/* dir_fd is duplicated. Fills *out_io, which stays valid until spool_fs_free. */
NODISCARD enum err spool_fs_new(int dir_fd, spool_sync_fn *sync, void *sync_ctx,
                                struct spool_fs **out_fs, struct spool_io *out_io,
                                struct errinfo *info);
void spool_fs_free(struct spool_fs *fs);
/* Blocking variant only: runs the callbacks that wait (and those they add), returns how many. */
unsigned spool_fs_run(struct spool_fs *fs);

#endif
