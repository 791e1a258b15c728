/*
 * How many durable messages a second the spool takes on a real directory: batches of 100 new
 * messages, each followed by the ends of the batch before, one commit for all of it.
 * Usage: spool-bench DIR [SECONDS]   (DIR must be on a real disk; its files are removed)
 * Prints one JSON line.
 */
#include "base/clock.h"
#include "store/spoolio.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define BATCH 100

struct run {
    uint64_t messages, batches;
    double seconds, cpu;
};

static void remember(void *arg, enum err err)
{
    *(enum err *)arg = err;
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void empty_dir(int fd)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);

    if (!d)
        return;
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        if (strncmp(e->d_name, "seg-", 4) == 0 || strncmp(e->d_name, "checkpoint", 10) == 0)
            (void)unlinkat(fd, e->d_name, 0);
    }
    closedir(d);
}

static bool one_batch(struct spool *sp, struct spool_fs *fs, uint64_t first, struct sv body)
{
    static char env[300];
    enum err got = ERR_BUG;

    for (uint64_t i = 0; i < BATCH; i++) {
        if (spool_put(sp, first + i, sv_of(env, sizeof(env)), body, SV_NULL))
            return false;
        if (first > BATCH && spool_done(sp, first + i - BATCH))
            return false;
    }
    spool_commit(sp, remember, &got);
    (void)spool_fs_run(fs);
    return got == ERR_OK;
}

static bool measure(int dir, size_t size, double limit, struct run *out_run)
{
    struct spool_fs *fs = NULL;
    struct spool *sp = NULL;
    struct spool_config c = {.segment_size = SPOOL_SEGMENT_DEFAULT, .rng = rng_system()};
    struct run run = {0};
    static char body[SPOOL_INLINE_MAX];
    uint64_t id = 1;

    empty_dir(dir);
    if (spool_fs_new(dir, NULL, NULL, &fs, &c.io, NULL) || spool_open(&c, NULL, NULL, &sp, NULL))
        return false;
    struct clock now = clock_now();
    while (spool_tend(sp, now) || spool_fs_run(fs)) /* segments made ahead, as in an idle hour */
        ;
    int64_t begin = clock_now().mono_ms, end = begin + (int64_t)(limit * 1000);
    double cpu = cpu_seconds();
    bool good = true;
    for (now = clock_now(); good && now.mono_ms < end; now = clock_now(), id += BATCH) {
        good = one_batch(sp, fs, id, sv_of(body, size));
        run.batches++;
        (void)spool_tend(sp, now);
        (void)spool_fs_run(fs);
    }
    run.messages = id - 1;
    run.seconds = (double)(clock_now().mono_ms - begin) / 1000;
    run.cpu = cpu_seconds() - cpu;
    spool_close(sp);
    spool_fs_free(fs);
    empty_dir(dir);
    *out_run = run;
    return good;
}

static void print(const char *name, const struct run *r)
{
    printf("\"%s\":{\"messages_per_s\":%.0f,\"cpu_us_per_message\":%.2f,\"batch_ms\":%.2f}", name,
           (double)r->messages / r->seconds, r->cpu * 1e6 / (double)r->messages,
           r->seconds * 1000 / (double)r->batches);
}

int main(int argc, char **argv)
{
    struct run small, large;
    uint64_t seconds = 2;

    if (argc < 2 || (argc > 2 && !sv_to_u64(sv_str(argv[2]), 1, 600, &seconds))) {
        fprintf(stderr, "usage: spool-bench DIR [SECONDS]\n");
        return 64;
    }
    int dir = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        perror(argv[1]);
        return 66;
    }
    if (!measure(dir, 4096, (double)seconds, &small) ||
        !measure(dir, 32768, (double)seconds, &large)) {
        fprintf(stderr, "spool-bench: the spool failed\n");
        return 74;
    }
    printf("{\"bench\":\"spool\",\"batch\":%d,", BATCH);
    print("4KiB", &small);
    printf(",");
    print("32KiB", &large);
    printf("}\n");
    close(dir);
    return 0;
}
