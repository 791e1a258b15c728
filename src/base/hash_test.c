#include "base/hash.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_crc32c(void **state)
{
    unsigned char data[4096];
    struct rng r = rng_seeded(1);

    (void)state;
    assert_int_equal(crc32c(0, "", 0), 0);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    for (int i = 0; i < 32; i++)
        data[i] = 0;
    assert_int_equal(crc32c(0, data, 32), 0x8a9136aa); /* RFC 3720 B.4 */
    for (int i = 0; i < 32; i++)
        data[i] = 0xff;
    assert_int_equal(crc32c(0, data, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        data[i] = (unsigned char)i;
    assert_int_equal(crc32c(0, data, 32), 0x46dd794e);

    rng_bytes(&r, data, sizeof(data));
    for (size_t n = 0; n < 200; n++)
        for (size_t at = 0; at < 9; at++)
            assert_int_equal(crc32c(0, data + at, n), crc32c_portable(0, data + at, n));
    uint32_t whole = crc32c(0, data, sizeof(data));
    for (size_t cut = 0; cut <= sizeof(data); cut += 97)
        assert_int_equal(crc32c(crc32c(0, data, cut), data + cut, sizeof(data) - cut), whole);
}

static void test_siphash(void **state)
{
    /* First vectors of the SipHash-2-4 paper's reference: key 00..0f, message 00, 01, ... */
    static const uint64_t want[] = {0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a,
                                    0x85676696d7fb7e2d};
    uint8_t key[16], data[16];

    (void)state;
    for (uint8_t i = 0; i < 16; i++)
        key[i] = data[i] = i;
    for (size_t n = 0; n < 4; n++)
        assert_true(siphash24(key, data, n) == want[n]);
    assert_true(siphash24(key, data, 15) == 0xa129ca6149be45e5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c),
        cmocka_unit_test(test_siphash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
