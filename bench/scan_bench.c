/*
 * Speed of the content scan (bar P8): text in MB/s, and microseconds of CPU for typical mails.
 * Prints one JSON line. Usage: scan_bench [rounds]
 */
#include "content/ident.h"
#include "content/scan.h"
#include "crypto/cert.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double cpu_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Prose with the numbers that mail holds: dates, prices, phone and order numbers. */
static void put_prose(struct buf *b, size_t n)
{
    static const char *const lines[] = {
        "Dear all, please find below the minutes of our meeting of 24 November 2026.\r\n",
        "We agreed on a budget of 12,500.00 EUR for the first quarter (order no. 20261124-17).\r\n",
        "Call me at +49 30 901820 or +1 (555) 010-9999 should anything be unclear to you.\r\n",
        "The parcel 1Z999AA10123456784 was handed over on 2026-11-20 at 09:15, see the link.\r\n",
        "https://www.example.com/news/2026/11/24/article?id=8812376&ref=newsletter\r\n",
        "Kind regards from the whole team, and thank you for your patience with us.\r\n\r\n"};
    size_t start = b->n;
    for (size_t i = 0; b->n - start < n; i++)
        (void)buf_append(b, lines[i % ARRAY_LEN(lines)], strlen(lines[i % ARRAY_LEN(lines)]));
}

#define HEAD                                                                                       \
    "Received: from a.example (a.example [192.0.2.1]) by mx.example.com; Tue, 24 Nov 2026 "        \
    "05:36:00 +0000\r\nDate: Tue, 24 Nov 2026 05:36:00 +0000\r\nFrom: Alice <alice@example.com>"   \
    "\r\nTo: Bob <bob@example.org>\r\nSubject: Minutes of our meeting\r\nMessage-ID: "             \
    "<1@example.com>\r\nMIME-Version: 1.0\r\n"
#define MIXED                                                                                      \
    HEAD "Content-Type: multipart/mixed; boundary=\"=_b\"\r\n\r\n--=_b\r\nContent-Type: "          \
         "text/plain; charset=utf-8\r\n\r\n"
#define ATTACHMENT                                                                                 \
    "--=_b\r\nContent-Type: application/octet-stream; name=data.bin\r\nContent-Disposition: "      \
    "attachment; filename=data.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n"

static void put(struct buf *b, const char *text)
{
    (void)buf_append(b, text, strlen(text));
}

/* Opaque attachment: random bytes as base64. */
static void put_opaque(struct buf *b, size_t n)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t x = 88172645463325252u;
    put(b, ATTACHMENT);
    for (size_t i = 1; i <= n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (void)buf_append_byte(b, alphabet[x & 63]);
        if (i % 76 == 0)
            put(b, "\r\n");
    }
    put(b, "\r\n--=_b--\r\n");
}

/* CPU microseconds of one scan, hash check of the role included. */
static double scan_us(struct scanner *sc, struct sv mail, int rounds)
{
    struct arena a;
    uint8_t digest[32];
    struct facts f;
    double start;
    arena_init(&a, 256u << 20);
    scan_message(sc, mail, &a, &f);
    start = cpu_now();
    for (int i = 0; i < rounds; i++) {
        arena_reset(&a);
        sha256_once(mail, digest);
        scan_message(sc, mail, &a, &f);
    }
    double us = (cpu_now() - start) * 1e6 / rounds;
    arena_done(&a);
    return us;
}

static void count(void *ctx, enum ident kind, struct sv digits)
{
    (void)kind;
    (void)digits;
    ++*(unsigned *)ctx;
}

int main(int argc, char **argv)
{
    static const struct settings settings = {
        .content_max_depth = 50, .content_max_parts = 5000, .content_max_text_kb = 65536};
    uint64_t rounds = 200;
    struct scanner *sc = NULL;
    struct errinfo info = {0};
    struct buf m[6];
    unsigned hits = 0;

    if (argc > 1 && !sv_to_u64(sv_str(argv[1]), 1, 1000000, &rounds))
        return 64;
    if (scan_new(&sc, &info) || scan_use(sc, &settings, &info)) {
        (void)fprintf(stderr, "%s\n", info.text);
        return 1;
    }
    for (size_t i = 0; i < ARRAY_LEN(m); i++)
        buf_init(&m[i], 64u << 20);
    put(&m[0], HEAD "\r\n");
    put_prose(&m[0], 3600);
    put(&m[1], MIXED);
    put_prose(&m[1], 8192);
    put_opaque(&m[1], 22000);
    put(&m[2], MIXED);
    put_prose(&m[2], 8192);
    put_opaque(&m[2], 1000000);
    put(&m[3], HEAD "\r\n");
    put_prose(&m[3], 4u << 20);
    put(&m[4], HEAD "Content-Type: text/html; charset=utf-8\r\n\r\n<p>\xc3\xa9</p>");
    put_prose(&m[4], 1u << 20);
    put_prose(&m[5], 16u << 20);
    int n = (int)rounds;
    double us4 = scan_us(sc, buf_sv(&m[0]), n * 50), us32 = scan_us(sc, buf_sv(&m[1]), n * 5);
    double us1m = scan_us(sc, buf_sv(&m[2]), n / 10 + 1),
           us4m = scan_us(sc, buf_sv(&m[3]), n / 20 + 1);
    double html = scan_us(sc, buf_sv(&m[4]), n / 20 + 1);
    double start = cpu_now();
    ident_scan(buf_sv(&m[5]), count, &hits);
    double ident = cpu_now() - start;
    (void)printf("{\"bench\":\"scan\",\"us_4k_text\":%.1f,\"us_32k_mixed\":%.1f,"
                 "\"us_1m_mixed\":%.0f,\"text_mb_s\":%.0f,\"html_mb_s\":%.0f,\"ident_mb_s\":%.0f,"
                 "\"false_hits\":%u}\n",
                 us4, us32, us1m, (double)m[3].n / us4m, (double)m[4].n / html,
                 (double)m[5].n / ident / 1e6, hits);
    for (size_t i = 0; i < ARRAY_LEN(m); i++)
        buf_done(&m[i]);
    scan_free(sc);
    return 0;
}
