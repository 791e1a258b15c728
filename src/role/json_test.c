/* The JSON writer: what it writes, jansson reads back as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "base/rng.h"
#include "base/utf8.h"
#include "role/json.h"

#include <jansson.h>

static struct buf b;

static int setup(void **state)
{
    (void)state;
    buf_init(&b, 1024 * 1024);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_done(&b);
    return 0;
}

static void is(const char *text)
{
    if (!sv_eq(buf_sv(&b), sv_str(text)))
        fail_msg("%.*s instead of %s", SV_ARG(buf_sv(&b)), text);
}

static void commas_are_its_business(void **state)
{
    (void)state;
    jw_open(&b, NULL);
    jw_u64(&b, "a", UINT64_MAX);
    jw_i64(&b, "b", INT64_MIN);
    jw_bool(&b, "c", true);
    jw_array(&b, "d");
    jw_str(&b, NULL, "x");
    jw_str(&b, NULL, "");
    jw_open(&b, NULL);
    jw_close(&b);
    jw_open(&b, NULL);
    jw_raw(&b, "e", SV("null"));
    jw_close(&b);
    jw_array_end(&b);
    jw_array(&b, "f");
    jw_array_end(&b);
    jw_bool(&b, "g", false);
    jw_close(&b);
    is("{\"a\":18446744073709551615,\"b\":-9223372036854775808,\"c\":true,\"d\":[\"x\",\"\",{},"
       "{\"e\":null}],\"f\":[],\"g\":false}");
}

static void documents_on_lines_of_their_own(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        jw_open(&b, NULL);
        jw_close(&b);
        (void)buf_append_byte(&b, '\n');
    }
    is("{}\n{}\n");
}

static void strings_are_escaped(void **state)
{
    static const struct {
        struct sv in;
        const char *out;
    } rows[] = {
        {SV("plain"), "\"plain\""},
        {SV("\"\\/"), "\"\\\"\\\\/\""},
        {SV("a\nb\rc\td"), "\"a\\nb\\u000dc\\u0009d\""},
        {SV("\0\x1f\x7f"), "\"\\u0000\\u001f\\u007f\""},
        {SV("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {SV("\xe9\xff"), "\"\\u00e9\\u00ff\""},            /* Latin-1 */
        {SV("\xc3"), "\"\\u00c3\""},                       /* cut in the middle */
        {SV("\xed\xa0\x80"), "\"\\u00ed\\u00a0\\u0080\""}, /* a surrogate */
        {SV("\xc0\xaf"), "\"\\u00c0\\u00af\""},            /* overlong */
        {SV("}{][,:"), "\"}{][,:\""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        buf_reset(&b);
        jw_sv(&b, NULL, rows[i].in);
        is(rows[i].out);
    }
    buf_reset(&b);
    jw_open(&b, NULL);
    jw_str(&b, "k\"ey", "{"); /* keys too; a value that ends like an opening */
    jw_str(&b, "x", "[");
    jw_str(&b, "y", "\n");
    jw_close(&b);
    is("{\"k\\\"ey\":\"{\",\"x\":\"[\",\"y\":\"\\n\"}");
}

static void times_and_ids(void **state)
{
    (void)state;
    jw_open(&b, NULL);
    jw_time(&b, "none", 0);
    jw_time(&b, "t", 1795498560123);
    jw_id(&b, "no", 0);
    jw_id(&b, "id", 1);
    jw_close(&b);
    is("{\"none\":null,\"t\":\"2026-11-24T05:36:00.123Z\",\"no\":null,"
       "\"id\":\"0000000000001\"}");
}

static void any_bytes_are_read_back(void **state)
{
    struct rng rng = rng_seeded(3);

    (void)state;
    for (int i = 0; i < 3000; i++) {
        char bytes[40], key[8];
        size_t n = rng_u64(&rng) % sizeof(bytes);
        rng_bytes(&rng, bytes, n);
        rng_bytes(&rng, key, sizeof(key));
        key[7] = 0;
        buf_reset(&b);
        jw_open(&b, NULL);
        jw_sv(&b, "v", sv_of(bytes, n));
        jw_str(&b, key, "second");
        jw_array(&b, "list");
        jw_sv(&b, NULL, sv_of(bytes, n));
        jw_sv(&b, NULL, sv_of(bytes, n));
        jw_array_end(&b);
        jw_close(&b);
        json_t *v = json_loadb(b.p, b.n, JSON_ALLOW_NUL, NULL);
        assert_non_null(v);
        assert_int_equal(json_array_size(json_object_get(v, "list")), 2);
        const json_t *s = json_object_get(v, "v");
        if (utf8_valid(sv_of(bytes, n)))
            assert_true(sv_eq(sv_of(json_string_value(s), json_string_length(s)), sv_of(bytes, n)));
        json_decref(v);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(commas_are_its_business), T(documents_on_lines_of_their_own), T(strings_are_escaped),
        T(times_and_ids),           T(any_bytes_are_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
