/*
 * A disk that can be hurt, for tests: files in memory with what is durable kept apart from what was
 * only written, in sectors of 512 bytes. A power cut keeps a random part of the unsynced sectors
 * and a prefix of the unsynced directory operations. A failed sync does what Linux does: an unknown
 * part reached the disk, and nothing of it is dirty any more.
 */
#ifndef STORE_SPOOL_DISK_H
#define STORE_SPOOL_DISK_H

#include "store/spool.h"

#define DISK_FILES  256
#define DISK_SECTOR 512u

struct disk_file {
    bool used;
    uint32_t names; /* current names + open handles + names in the durable directory */
    uint8_t *now, *durable, *dirty;
    size_t size, durable_size, cap;
};
struct disk_name {
    char name[64];
    int file; /* -1 = removed */
};
struct disk_dir {
    struct disk_name n[DISK_FILES];
    uint32_t count;
};
struct disk_pending {
    int file;
    void (*cb)(void *arg, int result);
    void *arg;
};
struct disk {
    struct disk_file f[DISK_FILES];
    struct disk_dir *dirs; /* [0] durable, then one state after each operation */
    uint32_t n_dirs, cap_dirs;
    struct disk_pending pending[64];
    uint32_t n_pending;
    struct rng rng;
    uint64_t capacity;
    /* faults: operation number fail_at (counted from 1) and, when sticky, all that follow */
    uint64_t ops, fail_at;
    int fail_errno;
    bool fail_sticky, fail_short;
    uint64_t sites; /* operations seen, for loops over all of them */
};

struct disk *disk_new(uint64_t seed);
void disk_free(struct disk *d);
struct spool_io disk_io(struct disk *d);
bool disk_run_one(struct disk *d); /* the oldest asynchronous sync; false = none */
void disk_run(struct disk *d);     /* all */
void disk_kill(struct disk *d);    /* the process dies: asynchronous syncs are forgotten */
void disk_cut(struct disk *d);     /* the power goes */
/* Direct access to a file's bytes (durable too). NULL = no such file. */
struct disk_file *disk_find(struct disk *d, const char *name);
void disk_copy(struct disk *to, const struct disk *from); /* files and names, all durable */

#endif
