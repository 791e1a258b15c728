/*
 * The spool against a model, over random lives: puts, states, ends, commits that are answered late,
 * housekeeping, clean restarts, kills, power cuts, failing writes and syncs, a full disk. Seeds are
 * fixed; a failure prints its seed. What is asserted after each restart: what was acknowledged is
 * there, bytes and all; what was acknowledged as ended is not; nothing else is there but what was
 * appended and never answered with an error; no state is older than an acknowledged one; no alarm
 * speaks of damage.
 */
#include "store/spool_disk.h"
#include "store/spool_int.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define IDS     200
#define COMMITS 400

enum op { OP_NONE, OP_PENDING, OP_ACKED, OP_FAILED };
struct item {
    enum op put, done;
    uint32_t body, env;
    uint32_t states;                        /* versions appended: 1..states */
    enum op state[16];                      /* by version */
    uint64_t put_at, done_at, state_at[16]; /* commit number that answers it */
    bool found;
    uint32_t found_state;
    bool big;
};
struct model {
    uint64_t seed;
    struct rng rng;
    struct disk *d;
    struct spool *sp;
    struct spool_config c;
    struct item it[IDS];
    uint32_t next;
    uint64_t commits, damage, acked_commits, lives;
    int64_t ms;
    bool faults;
};
struct ticket {
    struct model *m;
    uint64_t number;
};

static uint32_t pick(struct model *m, uint32_t n)
{
    return (uint32_t)(rng_u64(&m->rng) % n);
}

#define CHECK(m, x)                                                                                \
    do {                                                                                           \
        if (!(x))                                                                                  \
            fail_msg("seed %llu: %s", (unsigned long long)(m)->seed, #x);                          \
    } while (0)

/* Bytes of a message are a function of its id. Some bodies imitate records. */
static void fill(char *p, uint32_t n, uint64_t id, uint32_t salt)
{
    uint64_t x = id * 0x9e3779b97f4a7c15u + salt;

    for (uint32_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = (char)x;
    }
    for (uint32_t i = 0; id % 3 == 0 && i + REC_HEADER <= n; i += REC_HEADER) {
        struct rec r = {.kind = REC_DONE, .id = id - 1};
        rec_begin(p + i, &r);
    }
}

static void crypt_xor(const uint8_t key[32], uint64_t lsn, char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (char)(p[i] ^ key[(i + lsn) % 32]);
}

static enum err new_key(void *ctx, uint8_t out_key[32], struct buf *out_wrapped)
{
    struct model *m = ctx;
    for (int i = 0; i < 32; i++)
        out_key[i] = (uint8_t)rng_u64(&m->rng);
    return buf_append(out_wrapped, out_key, 32);
}

static enum err unwrap(void *ctx, struct sv wrapped, uint8_t out_key[32])
{
    (void)ctx;
    if (wrapped.n != 32)
        return ERR_CORRUPT;
    memcpy(out_key, wrapped.p, 32);
    return ERR_OK;
}

static void on_alarm(void *ctx, const struct errinfo *what)
{
    struct model *m = ctx;
    if (what->code == ERR_CORRUPT) {
        m->damage++;
        printf("seed %llu: %s\n", (unsigned long long)m->seed, what->text);
    }
}

static uint32_t answer(enum op *op, uint64_t at, uint64_t number, enum err err)
{
    if (*op != OP_PENDING || at >= number)
        return 0;
    *op = err ? OP_FAILED : OP_ACKED;
    return 1;
}

/* A later successful commit makes failed records void for good. */
static void seal(struct item *it)
{
    if (it->put == OP_FAILED)
        *it = (struct item){0};
    if (it->done == OP_FAILED)
        it->done = OP_NONE;
    for (uint32_t v = 1; v <= it->states; v++) {
        if (it->state[v] == OP_FAILED)
            it->state[v] = OP_NONE;
    }
}

static void on_commit(void *arg, enum err err)
{
    struct ticket *t = arg;
    struct model *m = t->m;
    uint32_t n = 0;

    for (uint32_t i = 0; i < IDS; i++) {
        struct item *it = &m->it[i];
        n += answer(&it->put, it->put_at, t->number, err);
        n += answer(&it->done, it->done_at, t->number, err);
        for (uint32_t v = 1; v <= it->states; v++)
            n += answer(&it->state[v], it->state_at[v], t->number, err);
    }
    for (uint32_t i = 0; i < IDS && !err && n; i++)
        seal(&m->it[i]);
    m->acked_commits += !err;
    if (err)
        CHECK(m, m->faults);
    free(t);
}

static void check_bytes(struct model *m, uint32_t id, struct sv v, uint32_t n, uint32_t salt)
{
    static char want[SPOOL_INLINE_MAX];

    CHECK(m, v.n == n);
    fill(want, n, id, salt);
    CHECK(m, n == 0 || memcmp(v.p, want, n) == 0);
}

static void on_found(void *ctx, const struct spool_found *f)
{
    struct model *m = ctx;

    CHECK(m, f->id >= 1 && f->id < IDS);
    struct item *it = &m->it[f->id];
    CHECK(m, it->put != OP_NONE && !it->found);
    it->found = true;
    check_bytes(m, (uint32_t)f->id, f->envelope, it->env, 1);
    CHECK(m, (f->file.n > 0) == it->big);
    it->found_state = 0;
    if (f->state.n) {
        CHECK(m, f->state.n >= 4);
        it->found_state = le32_get(f->state.p);
        CHECK(m, it->found_state >= 1 && it->found_state <= it->states);
        CHECK(m, f->state.n == 4 + (it->found_state * 37) % 300);
    }
}

static void check_item(struct model *m, uint32_t id)
{
    struct item *it = &m->it[id];
    uint32_t least = 0;
    bool must = it->put == OP_ACKED && it->done != OP_PENDING && it->done != OP_ACKED;

    if (it->done == OP_FAILED)
        must = false; /* a failed end may have reached the disk until the next life */
    CHECK(m, !must || it->found);
    CHECK(m, !it->found || it->done != OP_ACKED);
    if (!it->found) {
        *it = (struct item){0};
        return;
    }
    for (uint32_t v = 1; v <= it->states; v++) {
        if (it->state[v] == OP_ACKED)
            least = v;
    }
    CHECK(m, it->found_state >= least);
    CHECK(m, it->found_state == 0 || it->state[it->found_state] != OP_NONE);
    it->put = OP_ACKED;
    it->done = OP_NONE;
    it->states = it->found_state;
    for (uint32_t v = 1; v <= it->states; v++)
        it->state[v] = OP_NONE;
    if (it->states)
        it->state[it->states] = OP_ACKED;
    it->found = false;
}

static void check_body(struct model *m, uint32_t id)
{
    struct item *it = &m->it[id];
    struct buf b;

    if (it->put != OP_ACKED || it->done == OP_PENDING || it->done == OP_ACKED)
        return;
    buf_init(&b, SPOOL_INLINE_MAX);
    enum err err = spool_read(m->sp, id, &b);
    if (it->big) {
        CHECK(m, err == ERR_NOTFOUND);
    } else {
        CHECK(m, err == ERR_OK);
        check_bytes(m, id, buf_sv(&b), it->body, 2);
    }
    buf_done(&b);
}

static void start(struct model *m)
{
    struct errinfo info;
    enum err err = spool_open(&m->c, on_found, m, &m->sp, &info);

    CHECK(m, err == ERR_OK);
    m->commits = m->acked_commits = 0;
    m->lives++;
    for (uint32_t i = 1; i < IDS; i++) {
        check_item(m, i);
        check_body(m, i);
    }
    CHECK(m, m->damage == 0);
}

static void op_put(struct model *m)
{
    static char env[2000], body[SPOOL_INLINE_MAX];
    char name[32] = "";
    uint32_t id = m->next;

    if (id >= IDS)
        return;
    struct item it = {.put = OP_PENDING, .put_at = m->commits, .env = 1 + pick(m, 400)};
    it.body = pick(m, 12) == 0 ? pick(m, 9000) : pick(m, 700);
    it.big = pick(m, 10) == 0;
    if (it.big) {
        it.body = 0;
        (void)snprintf(name, sizeof(name), SPOOL_FILE_PREFIX "%u", id);
        int fd = m->c.io.open(m->d, name, 0100 | 02);
        if (fd < 0)
            return;
        m->c.io.close(m->d, fd);
        if (m->c.io.sync_dir(m->d))
            return;
    }
    fill(env, it.env, id, 1);
    fill(body, it.body, id, 2);
    enum err err = spool_put(m->sp, id, sv_of(env, it.env), sv_of(body, it.body), sv_str(name));
    if (err) {
        CHECK(m, m->faults && (err == ERR_IO || err == ERR_NOSPACE));
        return;
    }
    m->it[id] = it;
    m->next++;
}

static void op_state(struct model *m, uint32_t id)
{
    struct item *it = &m->it[id];
    char p[512] = {0};

    if (it->put == OP_NONE || it->states >= 15)
        return;
    uint32_t v = it->states + 1;
    le32_put(p, v);
    enum err err = spool_state(m->sp, id, sv_of(p, 4 + (v * 37) % 300));
    if (err == ERR_NOTFOUND) {
        CHECK(m, it->put != OP_ACKED || it->done == OP_PENDING || it->done == OP_ACKED);
        return;
    }
    if (err) {
        CHECK(m, m->faults);
        return;
    }
    it->states = v;
    it->state[v] = OP_PENDING;
    it->state_at[v] = m->commits;
}

static void op_done(struct model *m, uint32_t id)
{
    struct item *it = &m->it[id];

    if (it->put == OP_NONE)
        return;
    enum err err = spool_done(m->sp, id);
    if (err == ERR_NOTFOUND) {
        CHECK(m, it->put != OP_ACKED || it->done == OP_PENDING || it->done == OP_ACKED);
        return;
    }
    if (err) {
        CHECK(m, m->faults);
        return;
    }
    it->done = OP_PENDING;
    it->done_at = m->commits;
}

static void op_commit(struct model *m)
{
    struct ticket *t = malloc(sizeof(*t));

    assert_non_null(t);
    *t = (struct ticket){m, ++m->commits};
    spool_commit(m->sp, on_commit, t);
}

static void op_tend(struct model *m)
{
    struct clock now = {.mono_ms = m->ms += pick(m, 3) ? 10 : 6000};
    (void)spool_tend(m->sp, now);
}

/* Tickets of a killed spool are never answered; its waiters die with it. */
static void forget_tickets(struct model *m)
{
    for (size_t i = 0; i < m->sp->cur.waiters.n; i++) {
        if (m->sp->cur.waiters.p[i].done == on_commit)
            free(m->sp->cur.waiters.p[i].arg);
    }
    for (size_t i = 0; i < m->sp->wr.waiters.n; i++) {
        if (m->sp->wr.waiters.p[i].done == on_commit)
            free(m->sp->wr.waiters.p[i].arg);
    }
    for (size_t i = 0; i < m->sp->late.n; i++) {
        if (m->sp->late.p[i].done == on_commit)
            free(m->sp->late.p[i].arg);
    }
}

static void op_restart(struct model *m, uint32_t how)
{
    m->d->fail_at = 0; /* the new life finds a disk that works */
    m->d->capacity = UINT64_MAX / 8;
    if (how == 0) {
        spool_close(m->sp);
        disk_kill(m->d);
    } else {
        forget_tickets(m);
        spool_abandon(m->sp);
        if (how == 1)
            disk_kill(m->d);
        else
            disk_cut(m->d);
    }
    start(m);
}

static void op_fault(struct model *m)
{
    static const int kinds[] = {EIO, ENOSPC, EIO};

    m->d->fail_errno = kinds[pick(m, 3)];
    m->d->fail_at = m->d->ops + 1 + pick(m, 12);
    m->d->fail_sticky = pick(m, 4) == 0;
    m->d->fail_short = pick(m, 2) == 0;
    if (m->d->fail_errno == ENOSPC && pick(m, 2)) {
        m->d->fail_at = 0;
        m->d->capacity = pick(m, 400000);
    }
}

static void step(struct model *m)
{
    uint32_t id = 1 + pick(m, IDS - 1), what = pick(m, 100);

    if (what < 30)
        op_put(m);
    else if (what < 45)
        op_state(m, id);
    else if (what < 65)
        op_done(m, id);
    else if (what < 76)
        op_commit(m);
    else if (what < 85)
        (void)disk_run_one(m->d);
    else if (what < 95)
        op_tend(m);
    else if (what < 96)
        check_body(m, id);
    else if (what < 97 && m->faults)
        op_fault(m);
    else if (what < 98 && m->faults) {
        m->d->fail_at = 0;
        m->d->capacity = UINT64_MAX / 8;
    } else if (what >= 98)
        op_restart(m, pick(m, 4));
}

static uint64_t run_seed(uint64_t seed, bool faults, uint32_t steps)
{
    struct model *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    m->seed = seed;
    m->rng = rng_seeded(seed * 7919 + 1);
    m->d = disk_new(seed);
    m->faults = faults;
    m->next = 1;
    m->ms = 1000;
    m->c = (struct spool_config){.segment_size = 24 * 1024 + 8 * pick(m, 1024),
                                 .reserve = 30000,
                                 .io = disk_io(m->d),
                                 .rng = rng_seeded(seed + 99),
                                 .alarm = on_alarm,
                                 .alarm_ctx = m};
    if (seed & 1)
        m->c.crypto = (struct spool_crypto){m, new_key, unwrap, crypt_xor};
    start(m);
    for (uint32_t i = 0; i < steps; i++)
        step(m);
    op_restart(m, 0);
    uint64_t lives = m->lives;
    spool_close(m->sp);
    disk_free(m->d);
    free(m);
    return lives;
}

static uint32_t seeds(uint32_t n)
{
    const char *more = getenv("SPOOL_MODEL_TIMES"); /* for long runs by hand */
    uint64_t times = 1;
    (void)(more && sv_to_u64(sv_str(more), 1, 100000, &times));
    return n * (uint32_t)times;
}

static void test_power(void **state)
{
    (void)state;
    uint64_t lives = 0;
    for (uint64_t seed = 1; seed <= seeds(250); seed++)
        lives += run_seed(seed, false, 600);
    assert_true(lives > 1000);
}

static void test_faults(void **state)
{
    (void)state;
    for (uint64_t seed = 100001; seed <= 100000 + seeds(250); seed++)
        (void)run_seed(seed, true, 600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_power), cmocka_unit_test(test_faults)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
