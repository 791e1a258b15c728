/* Every level x strength x fact of a session, against the definition of spec B3 and B7. */
#include "core/plan.h"
#include "core/test_util.h"

static const uint16_t versions[] = {0, 0x0301, 0x0302, 0x0303, 0x0304};
static const uint16_t bits[] = {0, 56, 112, 127, 128, 192, 255, 256};
static const uint16_t strengths[] = {0, 128, 129, 256, 512};

/* The table of B3, written the other way round: what each level forgives. */
static bool expected(const struct tls_req *req, const struct tls_facts *f,
                     enum failure *out_failure)
{
    bool certificate = true;

    *out_failure = FAILURE_NONE;
    if (req->level < TLS_LEVEL_ENCRYPT)
        return true;
    if (f->version == 0) {
        *out_failure = FAILURE_TLS_NOT_OFFERED;
        return false;
    }
    if (f->version == 0x0301 || f->version == 0x0302 || f->bits < 128 ||
        (req->strength > 128 && f->bits < 256)) {
        *out_failure = FAILURE_TLS_WEAK;
        return false;
    }
    if (req->level == TLS_LEVEL_ENCRYPT_CN)
        certificate = f->peer_cert && f->name_ok;
    if (req->level == TLS_LEVEL_VERIFY)
        certificate = f->peer_cert && f->chain_ok;
    if (req->level >= TLS_LEVEL_VERIFY_CN) /* a level that does not exist demands everything */
        certificate = f->peer_cert && f->chain_ok && f->name_ok;
    *out_failure = certificate ? FAILURE_NONE : FAILURE_TLS_CERT;
    return certificate;
}

static void check_case(uint8_t level, uint16_t strength, uint16_t version, uint16_t n,
                       unsigned cert)
{
    struct tls_req req = {.level = level, .strength = strength};
    struct tls_facts facts = {.version = version,
                              .bits = n,
                              .peer_cert = cert & 1,
                              .chain_ok = cert & 2,
                              .name_ok = cert & 4};
    enum failure got = FAILURE_INTERNAL, want = FAILURE_INTERNAL;
    bool ok = tls_verdict(&req, &facts, &got);

    assert_int_equal(ok, expected(&req, &facts, &want));
    assert_int_equal(got, want);
}

static void every_session_is_judged(void **state)
{
    unsigned n = 0;

    (void)state;
    for (uint8_t level = 0; level <= TLS_LEVEL_VERIFY_CN + 2; level++)
        for (size_t s = 0; s < ARRAY_LEN(strengths); s++)
            for (size_t v = 0; v < ARRAY_LEN(versions); v++)
                for (size_t b = 0; b < ARRAY_LEN(bits); b++)
                    for (unsigned cert = 0; cert < 8; cert++, n++)
                        check_case(level, strengths[s], versions[v], bits[b], cert);
    assert_int_equal(n, 8 * 5 * 5 * 8 * 8);
}

/* Q7: four peers against four levels. */
static void four_peers_against_four_levels(void **state)
{
    static const bool table[4][4] = {
        /* Encrypt, Encrypt+CN, Verify, Verify+CN */
        {true, false, false, false}, /* self-signed, wrong name */
        {true, true, false, false},  /* self-signed, right name */
        {true, false, true, false},  /* trusted, wrong name */
        {true, true, true, true},    /* trusted, right name */
    };

    (void)state;
    for (int peer = 0; peer < 4; peer++)
        for (int level = 0; level < 4; level++) {
            struct tls_req req = {.level = (uint8_t)(TLS_LEVEL_ENCRYPT + level), .strength = 128};
            struct tls_facts facts = {.version = 0x0304,
                                      .bits = 128,
                                      .peer_cert = true,
                                      .chain_ok = peer >= 2,
                                      .name_ok = peer % 2 == 1};
            enum failure f;
            assert_int_equal(tls_verdict(&req, &facts, &f), table[peer][level]);
        }
}

static bool tls_failure(int f)
{
    return f >= FAILURE_TLS_NOT_OFFERED && f <= FAILURE_TLS_CERT;
}

/* Clear text follows a TLS failure, at levels below Encrypt, without credentials; never else. */
static void fall_back_table(void **state)
{
    (void)state;
    for (int level = 0; level <= TLS_LEVEL_VERIFY_CN + 2; level++)
        for (int f = 0; f <= FAILURE_INTERNAL + 1; f++)
            for (int auth = 0; auth < 2; auth++) {
                struct tls_req req = {.level = (uint8_t)level, .strength = 128};
                bool want = level < TLS_LEVEL_ENCRYPT && !auth && tls_failure(f);
                assert_int_equal(tls_may_fall_back(&req, (enum failure)f, auth), want);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_session_is_judged),
        cmocka_unit_test(four_peers_against_four_levels),
        cmocka_unit_test(fall_back_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
