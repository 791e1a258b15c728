/* Tests of content/ident.c, card.c, ssn.c, label.c: positives, evasions, hard negatives. */
#include "content/ident.h"
#include "content/normal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct found {
    unsigned n[IDENTS];
    char last[24];
};
static void on_hit(void *ctx, enum ident kind, struct sv digits)
{
    struct found *f = ctx;
    f->n[kind]++;
    memcpy(f->last, digits.p, digits.n);
    f->last[digits.n] = '\0';
}

static struct found scan(const char *text)
{
    struct found f = {{0, 0}, ""};
    size_t n = strlen(text);
    char *copy = malloc(n + 1);
    memcpy(copy, text, n + 1);
    n = text_normalise(copy, n);
    ident_scan(sv_of(copy, n), on_hit, &f);
    free(copy);
    return f;
}

struct row {
    const char *text;
    unsigned cards, ssns;
};
static const struct row rows[] = {
    /* cards as people write them */
    {"4111111111111111", 1, 0},
    {"4111 1111 1111 1111", 1, 0},
    {"4111-1111-1111-1111", 1, 0},
    {"4111.1111.1111.1111", 1, 0},
    {"Visa: 4111 1111 1111 1111, exp 12/27 cvv 123", 1, 0},
    {"378282246310005", 1, 0},
    {"3782 822463 10005", 1, 0},
    {"3782-822463-10005", 1, 0},
    {"30569309025904", 1, 0},
    {"3056 930902 5904", 1, 0},
    {"5555555555554444 and 5105105105105100", 2, 0},
    {"2223003122003222", 1, 0},
    {"6011111111111117", 1, 0},
    {"3530111333300000", 1, 0},
    {"6200000000000005", 1, 0},
    {"card 4222222222222", 1, 0},
    {"4222222222222", 0, 0}, /* 13 digits bare look like an EAN */
    {"4111 1111 1111 1111 5500 0000 0000 0004", 2, 0},
    {"4111 1111 1111 1111 1227 123", 1, 0},
    {"4111 1111 1111 1111 123", 1, 0},
    {"1. 4111 1111 1111 1111\n2. 5500 0000 0000 0004\n", 2, 0},
    {"\"pan\":\"4111111111111111\"", 1, 0},
    {"4111111111111111;5500000000000004;340000000000009", 3, 0},
    {"4111111111111111|12|2027|123", 1, 0},
    {"(4111111111111111)", 1, 0},
    {"card4111111111111111", 1, 0},
    {"my card number is 4111111111111111.", 1, 0},
    {"https://pay.example/?card=4111111111111111", 1, 0},
    {"Please charge my order to 4111 1111 1111 1111", 1, 0},
    {"The customer paid with 4111 1111 1111 1111", 1, 0},
    {"order 4711: card 4111111111111111", 1, 0},
    {"Kreditkarte: 4111111111111111", 1, 0},
    {"{\"cardNumber\":4111111111111111,\"orderId\":12}", 1, 0},
    {"order 8812 for customer Ann: 4111 1111 1111 1111", 1, 0},
    /* evasions */
    {"4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", 1, 0},
    {"4-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1", 1, 0},
    {"4111  1111  1111  1111", 1, 0},
    {"4111\t1111\t1111\t1111", 1, 0},
    {"4111_1111_1111_1111", 1, 0},
    {"4111 - 1111 - 1111 - 1111", 1, 0},
    {"4111 1111\r\n1111 1111", 1, 0},
    {"> 4111 1111\r\n> 1111 1111", 1, 0},
    {"4111\xe2\x80\x8b"
     "1111\xe2\x80\x8b"
     "11111111",
     1, 0},
    {"\xef\xbc\x94\xef\xbc\x91\xef\xbc\x91\xef\xbc\x91 1111 1111 1111", 1, 0},
    {"4111\xc2\xa0"
     "1111\xe2\x80\xaf"
     "1111\xe3\x80\x80"
     "1111",
     1, 0},
    {"4111\xe2\x80\x93"
     "1111\xe2\x80\x94"
     "1111\xe2\x88\x92"
     "1111",
     1, 0},
    {"\xd9\xa4\xd9\xa1\xd9\xa1\xd9\xa1 1111 1111 1111", 1, 0},
    {"41111111\xc2\xad"
     "11111111",
     1, 0},
    {"card 41 11 11 11 11 11 11 11", 1, 0},
    {"card: 411111 1111 111111", 1, 0},
    /* hard negatives */
    {"4111111111111112", 0, 0},
    {"41111111111111111", 0, 0},
    {"4444444444444444", 0, 0},
    {"0000 0000 0000 0000", 0, 0},
    {"14111111111111111", 0, 0},
    {"4111111111111111111111", 0, 0},
    {"Order no. 4111111111111111", 0, 0},
    {"Order number: 4111 1111 1111 1111", 0, 0},
    {"Tracking number 4111111111111111", 0, 0},
    {"Tracking numbers:\n4111111111111111\n5500000000000004\n", 0, 0},
    {"Invoice #4111111111111111", 0, 0},
    {"IMEI 4111111111111111", 0, 0},
    {"Ticket-ID 4111111111111111", 0, 0},
    {"Sendungsnummer: 4111111111111111", 0, 0},
    {"transaction id 4111111111111111", 0, 0},
    {"phone 4111111111111111", 0, 0},
    {"Loyalty card no. 4111111111111111", 0, 0},
    {"Your FedEx door tag 4111111111111111 is ready", 0, 0},
    {"pid=4111111111111111 tid=5500000000000004", 0, 0},
    {"Meter reading 4111111111111111", 0, 0},
    {"+4111111111111111", 0, 0},
    {"0.4111111111111111", 0, 0},
    {"4111111111111111.25", 0, 0},
    {"ab4111111111111111", 0, 0},
    {"4111111111111111ef", 0, 0},
    {"INV-4111111111111111", 0, 0},
    {"<4111111111111111@mail.example>", 0, 0},
    {"https://x.example/4111111111111111/view", 0, 0},
    {"https://x.example/?q=4111111111111111", 0, 0},
    {"12-4111-1111-1111-1111", 0, 0},
    {"4111-1111-1111-1111-1111", 0, 0},
    {"4111 1111 1111 1111 9999 9999", 0, 0},
    {"4111-1111 1111-1111", 0, 0},
    {"DE89 3704 0044 0532 0130 00", 0, 0},
    {"DE89370400440532013000", 0, 0},
    {"GB29 NWBK 6016 1331 9268 19", 0, 0},
    {"FR14 2004 1010 0505 0001 3M02 606", 0, 0},
    {"550e8400-e29b-41d4-a716-446655440000", 0, 0},
    {"978-3-16-148410-0", 0, 0},
    {"9783161484100", 0, 0},
    {"2026-11-24 05:36:00.123456", 0, 0},
    {"20261124053600", 0, 0},
    {"1763962560000", 0, 0},
    {"1763962560000123", 0, 0},
    {"1Z999AA10123456784", 0, 0},
    {"+1 (555) 010-9999, +49 30 901820", 0, 0},
    {"3631 2025-03-01 12", 0, 0},
    {"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", 0, 0},
    {"d41d8cd98f00b204e9800998ecf8427e", 0, 0},
    {"192.168.100.200 10.0.0.1 255.255.255.255", 0, 0},
    {"4111\n1111\n1111\n1111\n", 0, 0},
    /* tables and populations */
    {"name,card_number,order_id\nAnn,4111111111111111,5500000000000004\n"
     "Bob,5105105105105100,340000000000009\n",
     2, 0},
    {"order;date\n4111111111111111;2026-11-24\n5500000000000004;2026-11-25\n", 0, 0},
    {"| tracking | weight |\n| 4111111111111111 | 12 |\n", 0, 0},
    {"id\tname\tssn\n1\tAnn Archer of Amsterdam\t123456789\n2\tBob Baker of Berlin in "
     "Brandenburg near the lake\t234567890\n3\tCarl Cook of Copenhagen and of other places as "
     "well, it seems\t345678901\n",
     0, 3},
    {"4111111111111111\n4111111111111112\n4111111111111113\n4111111111111114\n4111111111111115\n",
     0, 0},
    {"4111111111111111\n5500000000000004\n5105105105105100\n6011111111111117\n"
     "2223003122003222\n",
     5, 0},
    /* SSNs */
    {"123-45-6789", 0, 1},
    {"SSN: 123-45-6789", 0, 1},
    {"SSN 123456789", 0, 1},
    {"social security number 123 45 6789", 0, 1},
    {"123-45-6789 (SSN)", 0, 1},
    {"My social is 123456789", 0, 1},
    {"ssn\n123456789\n234567890\n", 0, 2},
    {"123\xe2\x80\x91"
     "45\xe2\x80\x91"
     "6789",
     0, 1},
    {"000-12-3456", 0, 0},
    {"666-12-3456", 0, 0},
    {"900-12-3456", 0, 0},
    {"123-00-6789", 0, 0},
    {"123-45-0000", 0, 0},
    {"078-05-1120", 0, 0},
    {"123456789", 0, 0},
    {"123 45 6789", 0, 0},
    {"part no. 123-45-6789", 0, 0},
    {"Phone: 123-45-6789", 0, 0},
    {"1-123-45-6789", 0, 0},
    {"123-45-6789-1", 0, 0},
    {"A123-45-6789", 0, 0},
    {"routing number 123456780", 0, 0},
    {"zip 12345-6789", 0, 0},
};

static void test_table(void **state)
{
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct found f = scan(rows[i].text);
        if (f.n[0] == rows[i].cards && f.n[1] == rows[i].ssns)
            continue;
        print_error("\"%s\": %u cards, %u ssns; want %u, %u\n", rows[i].text, f.n[0], f.n[1],
                    rows[i].cards, rows[i].ssns);
        bad++;
    }
    assert_int_equal(bad, 0);
}

static void test_canonical(void **state)
{
    (void)state;
    assert_string_equal(scan("4111-1111-1111-1111").last, "4111111111111111");
    assert_string_equal(scan("123-45-6789").last, "123456789");
}

/* Sequences longer than the window: everything in them is still found, once. */
static void test_long_sequence(void **state)
{
    (void)state;
    static char text[40000];
    size_t n = 0;
    for (int i = 0; i < 1000; i++) {
        memcpy(text + n, i % 2 ? "4111 1111 1111 1111\n" : "5500 0000 0000 0004\n", 20);
        n += 20;
    }
    struct found f = {{0, 0}, ""};
    ident_scan(sv_of(text, n), on_hit, &f);
    assert_int_equal(f.n[0], 1000);
    f = (struct found){{0, 0}, ""};
    for (size_t i = 0; i < n; i++)
        text[i] = text[i] == '\n' ? ' ' : text[i];
    ident_scan(sv_of(text, n), on_hit, &f);
    assert_int_equal(f.n[0], 1000);
}

/* Every prefix and every single-byte change of hard input stays within bounds (ASan). */
static void test_edges(void **state)
{
    (void)state;
    const char *base = "card 4111 1111-1111.1111_ssn 123-45-6789\r\n> 4 1 1 1";
    size_t n = strlen(base);
    for (size_t k = 0; k <= n; k++) {
        char *exact = malloc(k + 1);
        memcpy(exact, base, k);
        struct found f = {{0, 0}, ""};
        ident_scan(sv_of(exact, k), on_hit, &f);
        for (size_t i = 0; i < k; i++) {
            exact[i] = (char)(i * 37);
            ident_scan(sv_of(exact, k), on_hit, &f);
            exact[i] = base[i];
        }
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_long_sequence),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
