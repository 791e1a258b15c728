/* The pool: what makes two sessions interchangeable, and the order of use. */
#include "role/smtp_pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct variant {
    const char *key, *user, *secret;
    uint8_t level;
    uint16_t strength;
    const char *servers[2];
    bool mx;
};

static void key_of(const struct variant *v, struct buf *out)
{
    struct host hosts[2] = {{.name = sv_str(v->servers[0]), .port = 25, .mx = v->mx},
                            {.name = sv_str(v->servers[1]), .port = 25, .mx = v->mx}};
    struct hop hop = {.key = sv_str(v->key),
                      .auth_user = sv_str(v->user),
                      .auth_secret = sv_str(v->secret),
                      .hosts = hosts,
                      .n_hosts = v->servers[0] ? 2 : 0};
    struct tls_req req = {.level = v->level, .strength = v->strength};

    buf_init(out, 4096);
    assert_int_equal(smtp_pool_key(&hop, &req, out), ERR_OK);
}

/* Each row differs from every other in one respect only, or moves a border between names. */
static void keys_differ_in_everything_that_matters(void **state)
{
    static const struct variant rows[] = {
        {"example.com", "", "", TLS_LEVEL_OPPORTUNISTIC, 128, {NULL, NULL}, false},
        {"example.com", "", "", TLS_LEVEL_OFF, 128, {NULL, NULL}, false},
        {"example.com", "", "", TLS_LEVEL_ENCRYPT, 128, {NULL, NULL}, false},
        {"example.com", "", "", TLS_LEVEL_ENCRYPT, 256, {NULL, NULL}, false},
        {"example.com", "", "", TLS_LEVEL_ENCRYPT_CN, 128, {NULL, NULL}, false},
        {"example.com", "", "", TLS_LEVEL_VERIFY, 128, {NULL, NULL}, false},
        {"example.com", "", "", TLS_LEVEL_VERIFY_CN, 128, {NULL, NULL}, false},
        {"example.com", "u", "", TLS_LEVEL_ENCRYPT, 128, {NULL, NULL}, false},
        {"example.com", "", "u", TLS_LEVEL_ENCRYPT, 128, {NULL, NULL}, false},
        {"example.comu", "", "", TLS_LEVEL_ENCRYPT, 128, {NULL, NULL}, false},
        {"example.org", "", "", TLS_LEVEL_ENCRYPT, 128, {NULL, NULL}, false},
        {"", "", "", TLS_LEVEL_ENCRYPT, 128, {NULL, NULL}, false},
        {"0:0:2/128", "", "", TLS_LEVEL_ENCRYPT, 128, {NULL, NULL}, false},
        {"example.com", "", "", TLS_LEVEL_ENCRYPT, 128, {"a.test", "b.test"}, false},
        {"example.com", "", "", TLS_LEVEL_ENCRYPT, 128, {"a.test", "b.test"}, true},
        {"example.com", "", "", TLS_LEVEL_ENCRYPT, 128, {"b.test", "a.test"}, false},
        {"example.com", "", "", TLS_LEVEL_ENCRYPT, 128, {"a.testb", ".test"}, false},
    };
    struct buf keys[ARRAY_LEN(rows)];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        key_of(&rows[i], &keys[i]);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t j = 0; j < ARRAY_LEN(rows); j++)
            assert_int_equal(sv_eq(buf_sv(&keys[i]), buf_sv(&keys[j])), i == j);
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        buf_done(&keys[i]);
}

static void newest_of_a_key_comes_first(void **state)
{
    struct smtp_pool p;
    struct pool_node a1 = {.key = SV("a")}, a2 = {.key = SV("a")}, b = {.key = SV("b")};

    (void)state;
    smtp_pool_init(&p);
    smtp_pool_put(&p, &a1);
    smtp_pool_put(&p, &b);
    smtp_pool_put(&p, &a2);
    assert_int_equal(p.n, 3);
    assert_ptr_equal(smtp_pool_oldest(&p), &a1);
    assert_ptr_equal(smtp_pool_take(&p, SV("a")), &a2);
    assert_ptr_equal(smtp_pool_take(&p, SV("a")), &a1);
    assert_null(smtp_pool_take(&p, SV("a")));
    assert_null(smtp_pool_take(&p, SV("")));
    assert_ptr_equal(smtp_pool_oldest(&p), &b);
    smtp_pool_remove(&p, &b);
    smtp_pool_remove(&p, &b); /* twice is once */
    assert_int_equal(p.n, 0);
    assert_null(smtp_pool_oldest(&p));
}

static void many_keys_share_buckets(void **state)
{
    enum { N = 2000 };
    static struct pool_node nodes[N];
    static char names[N][16];
    struct smtp_pool p;

    (void)state;
    smtp_pool_init(&p);
    for (int i = 0; i < N; i++) {
        int n = snprintf(names[i], sizeof(names[i]), "k%d", i);
        nodes[i] = (struct pool_node){.key = sv_of(names[i], (size_t)n)};
        smtp_pool_put(&p, &nodes[i]);
    }
    for (int i = N; i-- > 0;)
        assert_ptr_equal(smtp_pool_take(&p, nodes[i].key), &nodes[i]);
    assert_int_equal(p.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_differ_in_everything_that_matters),
        cmocka_unit_test(newest_of_a_key_comes_first),
        cmocka_unit_test(many_keys_share_buckets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
