/*
 * spool verify | export: reads the segments of a spool record by record, also while the gateway is
 * stopped or damaged. Bodies are readable only to those who can read the master key.
 */
#include "base/enc.h"
#include "crypto/cert.h"
#include "model/envelope.h"
#include "role/ctl.h"
#include "store/spool.h"
#include "store/spoolio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

struct job {
    struct ctl *c;
    uint64_t good, bad, messages;
    uint64_t only; /* export one message, 0 = all */
    int out_dir;   /* -1 = verify */
    int spool_dir;
    uint8_t master[32];
    bool have_master;
    struct buf body; /* fragments of the message being read */
    uint64_t body_id;
};

/* ---- keys ---- */

static bool read_master(struct job *j)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/keys/master.key", j->c->data_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && read(fd, j->master, sizeof(j->master)) == (ssize_t)sizeof(j->master);
    if (fd >= 0)
        close(fd);
    return ok;
}

static enum err unwrap(void *ctx, struct sv wrapped, uint8_t out_key[32])
{
    struct job *j = ctx;
    struct buf plain;

    buf_init(&plain, 256);
    enum err err = seal_unwrap(j->master, wrapped, &plain);
    if (!err && plain.n != 32)
        err = ERR_CORRUPT;
    if (!err)
        memcpy(out_key, plain.p, 32);
    buf_wipe(&plain);
    return err;
}

static void crypt_record(const uint8_t key[32], uint64_t lsn, char *p, size_t n)
{
    body_crypt(key, lsn, 0, p, n);
}

/* ---- export ---- */

static void write_file(const struct job *j, const char *name, struct sv bytes)
{
    int fd = openat(j->out_dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    while (fd >= 0 && bytes.n) {
        ssize_t n = write(fd, bytes.p, bytes.n);
        if (n <= 0)
            break;
        bytes = sv_skip(bytes, (size_t)n);
    }
    if (fd < 0 || bytes.n || close(fd))
        fprintf(stderr, "postsealctl: %s: %s\n", name, strerror(errno));
}

static void write_large(const struct job *j, const char *name, const struct envelope *env)
{
    char from[256], chunk[32768];
    uint8_t key[32];
    off_t at = 0;

    snprintf(from, sizeof(from), "%.*s", SV_ARG(env->file));
    int in = openat(j->spool_dir, from, O_RDONLY | O_CLOEXEC);
    int out = openat(j->out_dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    memcpy(key, env->body_key.p, sizeof(key));
    while (in >= 0 && out >= 0) {
        ssize_t n = pread(in, chunk, sizeof(chunk), at);
        if (n <= 0)
            break;
        body_crypt(key, 0, (uint64_t)at, chunk, (size_t)n);
        if (write(out, chunk, (size_t)n) != n)
            break;
        at += n;
    }
    if ((uint64_t)at != env->size)
        fprintf(stderr, "postsealctl: %s: the large body is missing or short\n", name);
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
}

static void envelope_text(const struct envelope *e, struct buf *b)
{
    (void)buf_printf(b, "sender %.*s\n", SV_ARG(e->sender));
    for (uint32_t i = 0; i < e->n_rcpts; i++)
        (void)buf_printf(b, "recipient %.*s\n", SV_ARG(e->rcpts[i].addr));
    (void)buf_printf(b, "size %llu\nencrypt-report %s\n", (unsigned long long)e->size,
                     e->sealed ? "yes" : "no");
}

static void export_message(struct job *j, const struct spool_record *r)
{
    struct arena a;
    struct envelope env;
    struct buf text;
    char id[ID_TEXT_LEN + 1], name[64];

    arena_init(&a, 16u * 1024 * 1024);
    id_format(r->id, id);
    if ((!j->only || j->only == r->id) && envelope_decode(r->payload, &a, &env) == ERR_OK) {
        buf_init(&text, 4u * 1024 * 1024);
        envelope_text(&env, &text);
        snprintf(name, sizeof(name), "%s.envelope", id);
        write_file(j, name, buf_sv(&text));
        snprintf(name, sizeof(name), "%s.eml", id);
        if (env.file.n && env.body_key.n == 32)
            write_large(j, name, &env);
        else if (j->body_id == r->id)
            write_file(j, name, buf_sv(&j->body));
        buf_done(&text);
        j->messages++;
    }
    arena_done(&a);
}

static void one(void *ctx, const struct spool_record *r)
{
    struct job *j = ctx;
    char id[ID_TEXT_LEN + 1];

    id_format(r->id, id);
    j->good += r->good;
    j->bad += !r->good;
    if (!r->good || (j->out_dir < 0 && j->c->json))
        printf("%s %s:%llu %s %s %u bytes%s%s\n", r->good ? "good" : "BAD", r->segment,
               (unsigned long long)r->offset, r->kind ? r->kind : "?", id, r->length,
               r->problem ? ": " : "", r->problem ? r->problem : "");
    if (j->out_dir < 0 || !r->good || !r->kind)
        return;
    if (strcmp(r->kind, "body") == 0) {
        if (j->body_id != r->id)
            buf_reset(&j->body);
        j->body_id = r->id;
        (void)buf_append_sv(&j->body, r->payload);
    } else if (strcmp(r->kind, "envelope") == 0) {
        export_message(j, r);
    }
}

static int scan(struct job *j)
{
    char path[4096];
    struct spool_fs *fs = NULL;
    struct spool_io io;
    struct errinfo info = {0};
    struct spool_crypto crypto = {.ctx = j, .unwrap = unwrap, .crypt = crypt_record};

    snprintf(path, sizeof(path), "%s/spool", j->c->data_dir);
    j->spool_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->spool_dir < 0) {
        fprintf(stderr, "postsealctl: %s: %s\n", path, strerror(errno));
        return EX_NOINPUT;
    }
    j->have_master = read_master(j);
    enum err err = spool_fs_new(j->spool_dir, NULL, NULL, &fs, &io, &info);
    if (!err)
        err = spool_scan(&io, j->have_master ? &crypto : NULL, one, j, &info);
    if (err)
        fprintf(stderr, "postsealctl: %s\n", info.text);
    spool_fs_free(fs);
    close(j->spool_dir);
    return err ? EX_IOERR : EX_OK;
}

int ctl_spool(struct ctl *c)
{
    struct job j = {.c = c, .out_dir = -1};
    const char *id = ctl_option(c, "--id");
    bool verify = c->argc == 1 && strcmp(c->argv[0], "verify") == 0;
    bool export = c->argc == 2 && strcmp(c->argv[0], "export") == 0;

    if ((!verify && !export) || (id && !id_parse(sv_str(id), &j.only)))
        return ctl_usage("spool verify | export DIR [--id ID]");
    if (export && ((mkdir(c->argv[1], 0700) && errno != EEXIST) ||
                   (j.out_dir = open(c->argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)) {
        fprintf(stderr, "postsealctl: %s: %s\n", c->argv[1], strerror(errno));
        return EX_CANTCREAT;
    }
    buf_init(&j.body, 1024 * 1024);
    int exit = scan(&j);
    buf_done(&j.body);
    if (exit)
        return exit;
    printf("%llu good records, %llu damaged", (unsigned long long)j.good,
           (unsigned long long)j.bad);
    if (export)
        printf(", %llu messages exported", (unsigned long long)j.messages);
    putchar(0x0a);
    if (export && !j.have_master) {
        fprintf(stderr, "postsealctl: the master key cannot be read: nothing could be exported\n");
        return EX_NOINPUT;
    }
    return j.bad ? EX_DATAERR : EX_OK;
}
