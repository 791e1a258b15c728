/* What the spool's tests share: a spool on a disk that can be hurt, and what was found in it. */
#ifndef STORE_SPOOL_RIG_H
#define STORE_SPOOL_RIG_H

#include "store/spool_disk.h"
#include "store/spool_int.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define RIG_FOUND 64
struct rig {
    struct disk *d;
    struct spool *sp;
    struct spool_config c;
    uint64_t found[RIG_FOUND];
    char state[RIG_FOUND][16];
    uint32_t n_found, alarms, damage;
    uint32_t answers;
    enum err last; /* answer of the last commit */
    int64_t ms;
};

static inline void rig_alarm(void *ctx, const struct errinfo *what)
{
    struct rig *r = ctx;
    r->alarms++;
    r->damage += what->code == ERR_CORRUPT;
}

/* Envelope and body of a message are functions of its id. */
static inline struct sv rig_text(uint64_t id, const char *what, size_t n, char *buf)
{
    size_t len = (size_t)snprintf(buf, 64, "%s of message %llu ", what, (unsigned long long)id);
    for (size_t i = len; i < n; i++)
        buf[i] = (char)('a' + (i + id) % 26);
    return sv_of(buf, n);
}

static inline void rig_found(void *ctx, const struct spool_found *f)
{
    struct rig *r = ctx;
    char want[256];

    struct sv env = rig_text(f->id, "envelope", 100, want);
    assert_true(sv_eq(f->envelope, env));
    assert_true(f->state.n < 16);
    if (r->n_found < RIG_FOUND) {
        r->found[r->n_found] = f->id;
        if (f->state.n)
            memcpy(r->state[r->n_found], f->state.p, f->state.n);
        r->state[r->n_found][f->state.n] = 0;
    }
    r->n_found++;
}

static inline void rig_open(struct rig *r)
{
    struct errinfo info;
    r->n_found = r->damage = 0;
    assert_int_equal(spool_open(&r->c, rig_found, r, &r->sp, &info), ERR_OK);
}

static inline void rig_new(struct rig *r, uint32_t segment_size)
{
    *r = (struct rig){.d = disk_new(7), .ms = 1000};
    r->c = (struct spool_config){.segment_size = segment_size,
                                 .reserve = segment_size,
                                 .io = disk_io(r->d),
                                 .rng = rng_seeded(3),
                                 .alarm = rig_alarm,
                                 .alarm_ctx = r};
    rig_open(r);
}

static inline void rig_kill(struct rig *r)
{
    spool_abandon(r->sp);
    r->sp = NULL;
    disk_kill(r->d);
}

static inline void rig_free(struct rig *r)
{
    if (r->sp)
        rig_kill(r);
    disk_free(r->d);
}

static inline void rig_answer(void *arg, enum err err)
{
    struct rig *r = arg;
    r->answers++;
    r->last = err;
}

static inline enum err rig_commit(struct rig *r)
{
    uint32_t before = r->answers;
    spool_commit(r->sp, rig_answer, r);
    assert_int_equal(r->answers, before); /* never from inside the call */
    disk_run(r->d);
    if (r->answers == before)
        (void)spool_tend(r->sp, (struct clock){.mono_ms = r->ms});
    assert_int_equal(r->answers, before + 1);
    return r->last;
}

static inline enum err rig_put(struct rig *r, uint64_t id, size_t body)
{
    static char env[256], text[SPOOL_INLINE_MAX + 1];
    return spool_put(r->sp, id, rig_text(id, "envelope", 100, env),
                     body ? rig_text(id, "body", body, text) : SV_NULL, SV_NULL);
}

static inline enum err rig_read(struct rig *r, uint64_t id, size_t body)
{
    static char want[SPOOL_INLINE_MAX + 1];
    struct buf b;

    buf_init(&b, SPOOL_INLINE_MAX);
    enum err err = spool_read(r->sp, id, &b);
    if (!err)
        assert_true(sv_eq(buf_sv(&b), rig_text(id, "body", body, want)));
    buf_done(&b);
    return err;
}

static inline bool rig_has(const struct rig *r, uint64_t id)
{
    for (uint32_t i = 0; i < r->n_found && i < RIG_FOUND; i++) {
        if (r->found[i] == id)
            return true;
    }
    return false;
}

/* Housekeeping until there is nothing left to do, as time goes by. */
static inline void rig_tend(struct rig *r)
{
    for (int i = 0; i < 200; i++) {
        r->ms += 10;
        (void)spool_tend(r->sp, (struct clock){.mono_ms = r->ms});
        disk_run(r->d);
    }
}

#endif
