/* Tests of the whole scan: messages of every shape, both paths, hostile structures. */
#include "content/scan_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define H    "From: a@example.com\r\nTo: b@example.org\r\nSubject: s\r\nMIME-Version: 1.0\r\n"
#define CARD "4111 1111 1111 1111"

static struct scanner *sc;
static struct phrase phrase_list[] = {
    {SV("falcon"), SV("Project Falcon")},
    {SV("gruen"), SV("stra\xc3\x9f"
                     "e gr\xc3\x9cn")},
};
static struct settings settings = {.content_max_depth = 50,
                                   .content_max_parts = 5000,
                                   .content_max_text_kb = 65536,
                                   .phrases = phrase_list,
                                   .n_phrases = 2};

static int set_up(void **state)
{
    (void)state;
    struct errinfo info = {0};
    if (scan_new(&sc, &info) || scan_use(sc, &settings, &info)) {
        print_error("%s\n", info.text);
        return 1;
    }
    return 0;
}
static int tear_down(void **state)
{
    (void)state;
    scan_free(sc);
    return 0;
}

static struct facts run(struct sv message, struct arena *a)
{
    struct facts f;
    /* exact heap copy: ASan sees a read beyond either end */
    char *copy = malloc(message.n + 1);
    memcpy(copy, message.p, message.n);
    scan_message(sc, sv_of(copy, message.n), a, &f);
    memset(copy, 'x', message.n); /* facts must not point into the message */
    free(copy);
    return f;
}

static uint32_t unique(const struct facts *f, const char *name)
{
    for (uint32_t i = 0; i < f->n_totals; i++) {
        if (sv_eq(f->totals[i].classifier, sv_str(name)))
            return f->totals[i].unique;
    }
    return 0;
}
static uint32_t all_flags(const struct facts *f)
{
    uint32_t flags = 0;
    for (uint32_t i = 0; i < f->n_parts; i++)
        flags |= f->parts[i].flags;
    return flags;
}

struct row {
    const char *name;
    struct sv message;
    uint32_t cards, ssns, attachments;
    uint32_t flags, mask; /* flags & mask of all parts together */
};
#define M(text) SV(text)
#define ANY     0, 0
#define NONE    0, 0x3e
#define MIXED   H "Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n"

static const struct row rows[] = {
    {"plain", M(H "\r\npay with " CARD "\r\n"), 1, 0, 0, NONE},
    {"plain, no headers", M("\r\npay with " CARD "\r\n"), 1, 0, 0, ANY},
    {"clean", M(H "\r\nhello\r\n"), 0, 0, 0, NONE},
    {"empty", M(""), 0, 0, 0, ANY},
    {"subject", M("Subject: my card " CARD "\r\n\r\nx\r\n"), 1, 0, 0, NONE},
    {"subject encoded word, number split",
     M("Subject: =?utf-8?Q?card_4111_1111?= =?utf-8?Q?_1111_1111?=\r\n\r\nx\r\n"), 1, 0, 0, NONE},
    {"subject encoded word base64",
     M("Subject: =?iso-8859-1?B?Y2FyZCA0MTExIDExMTEgMTExMSAxMTEx?=\r\n\r\nx\r\n"), 1, 0, 0, NONE},
    {"subject folded", M("Subject: card 4111 1111\r\n 1111 1111\r\n\r\nx\r\n"), 1, 0, 0, NONE},
    {"display name", M("From: \"card 4111111111111111\" <a@example.com>\r\n\r\nx\r\n"), 1, 0, 0,
     NONE},
    {"qp soft break in number",
     M(H "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable"
         "\r\n\r\ncard 4111 11=\r\n11 1111 1111 =C3=A9\r\n"),
     1, 0, 0, NONE},
    {"qp all encoded",
     M(H "Content-Transfer-Encoding: quoted-printable\r\n\r\n=34=31=31=31=31=31=31=31=31=31=31"
         "=31=31=31=31=31\r\n"),
     1, 0, 0, NONE},
    {"base64 body",
     M(H "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
         "Y2FyZCA0MTExIDEx\r\nMTEgMTExMSAxMTExDQo=\r\n"),
     1, 0, 0, NONE},
    {"base64 with junk",
     M(H "Content-Transfer-Encoding: base64\r\n\r\nY2Fy*ZCA0MTExIDEx\r\n!MTEgMTExMSAxMTExDQo=\r\n"),
     1, 0, 0, PART_MALFORMED, PART_MALFORMED},
    {"unknown encoding", M(H "Content-Transfer-Encoding: x-odd\r\n\r\n" CARD "\r\n"), 1, 0, 0,
     PART_MALFORMED, PART_MALFORMED},
    {"uuencode as encoding",
     M(H "Content-Type: text/plain\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n"
         "begin 644 a.txt\r\n88V%R9\"`T,3$Q(#$Q,3$@,3$Q,2`Q,3$Q\r\n`\r\nend\r\n"),
     1, 0, 0, ANY},
    {"uuencode within text",
     M(H "\r\nsee below\r\nbegin 644 a.txt\r\n88V%R9\"`T,3$Q(#$Q,3$@,3$Q,2`Q,3$Q\r\n`\r\nend\r\n"
         "thanks, and now some more words to read"),
     1, 0, 0, NONE},
    {"html",
     M(H "Content-Type: text/html\r\n\r\n<html><body>card <b>4111</b> 1111<i> 1111 </i>1111"
         "</body></html>\r\n"),
     1, 0, 0, NONE},
    {"html tags inside a number",
     M(H
       "Content-Type: text/html\r\n\r\n<p>41<b>11</b>1111<span>11</span>11<!-- x -->1111</p>\r\n"),
     1, 0, 0, NONE},
    {"html cells are not joined",
     M(H
       "Content-Type: text/html\r\n\r\n<table><tr><td>41111111</td></tr><tr><td>11111111</td></tr>"
       "</table>\r\n"),
     0, 0, 0, NONE},
    {"html entities",
     M(H "Content-Type: text/html\r\n\r\n&#52;&#49;11&nbsp;1111&#x20;1111&ensp;1111 "
         "123&#8209;45&#8209;6789\r\n"),
     1, 1, 0, NONE},
    {"html attribute", M(H "Content-Type: text/html\r\n\r\n<img alt=\"card " CARD "\">\r\n"), 1, 0,
     0, NONE},
    {"html comment", M(H "Content-Type: text/html\r\n\r\n<!-- card " CARD " -->x\r\n"), 1, 0, 0,
     NONE},
    {"html script", M(H "Content-Type: text/html\r\n\r\n<script>var c='" CARD "'</script>\r\n"), 1,
     0, 0, NONE},
    {"html unclosed comment", M(H "Content-Type: text/html\r\n\r\n<!-- x <p>card " CARD "\r\n"), 1,
     0, 0, NONE},
    {"html zero width",
     M(H "Content-Type: text/html; charset=utf-8\r\n\r\n4111&#8203;1111&zwnj;1111"
         "&shy;1111\r\n"),
     1, 0, 0, NONE},
    {"utf-16le with bom",
     M(H "Content-Type: text/plain; charset=utf-16\r\nContent-Transfer-Encoding: base64\r\n\r\n"
         "//5jAGEAcgBkACAANAAxADEAMQAxADEAMQAxADEAMQAxADEAMQAxADEAMQA=\r\n"),
     1, 0, 0, NONE},
    {"utf-16le unlabelled, no bom",
     M(H "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
         "YwBhAHIAZAAgADQAMQAxADEAMQAxADEAMQAxADEAMQAxADEAMQAxADEA\r\n"),
     1, 0, 0, ANY},
    {"utf-7",
     M(H "Content-Type: text/plain; charset=utf-7\r\n\r\n"
         "card +ADQAMQAxADEAMQAxADEAMQAxADEAMQAxADEAMQAxADE-\r\n"),
     1, 0, 0, NONE},
    {"utf-7 label over plain", M(H "Content-Type: text/plain; charset=utf-7\r\n\r\n" CARD "\r\n"),
     1, 0, 0, NONE},
    {"utf-16 label over plain", M(H "Content-Type: text/plain; charset=utf-16\r\n\r\n" CARD "\r\n"),
     1, 0, 0, ANY},
    {"ebcdic",
     M(H "Content-Type: text/plain; charset=ibm037\r\nContent-Transfer-Encoding: base64\r\n"
         "\r\n9PHx8fHx8fHx8fHx8fHx8Q==\r\n"),
     1, 0, 0, NONE},
    {"windows-1252 no-break space",
     M(H "Content-Type: text/plain; charset=windows-1252\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
         "caf\xe9 4111\xa0"
         "1111\xa0"
         "1111\xa0"
         "1111\r\n"),
     1, 0, 0, NONE},
    {"utf-8 label, latin bytes",
     M(H "Content-Type: text/plain; charset=utf-8\r\n\r\ncaf\xe9 " CARD "\r\n"), 1, 0, 0,
     PART_MALFORMED, PART_MALFORMED},
    {"no label, utf-8 bytes", M(H "\r\ncaf\xc3\xa9 " CARD "\r\n"), 1, 0, 0, ANY},
    {"unknown charset", M(H "Content-Type: text/plain; charset=x-klingon\r\n\r\n\xe9 " CARD "\r\n"),
     1, 0, 0, PART_MALFORMED, PART_MALFORMED},
    {"shift_jis",
     M(H "Content-Type: text/plain; charset=shift_jis\r\n\r\n\x82\x53\x82\x50\x82\x50\x82\x50"
         " 1111 1111 1111\r\n"),
     1, 0, 0, NONE},
    {"full-width utf-8",
     M(H "Content-Type: text/plain; charset=utf-8\r\n\r\n\xef\xbc\x94\xef\xbc\x91"
         "\xef\xbc\x91\xef\xbc\x91 1111 1111 1111\r\n"),
     1, 0, 0, NONE},
    {"mixed, card in text attachment",
     M(MIXED "--b\r\n\r\nhi\r\n--b\r\nContent-Type: text/csv; name=a.csv\r\nContent-Disposition: "
             "attachment; filename=a.csv\r\n\r\nname;pan\r\nx;4111111111111111\r\n--b--\r\n"),
     1, 0, 1, PART_ATTACHMENT, 0x3f & ~1u},
    {"alternative",
     M(H "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\n" CARD
         "\r\n--b\r\nContent-Type: text/html\r\n\r\n<b>" CARD "</b>\r\n--b--\r\n"),
     1, 0, 0, NONE},
    {"octet-stream with text",
     M(MIXED "--b\r\nContent-Type: application/octet-stream\r\n\r\ncard " CARD "\r\n--b--\r\n"), 1,
     0, 0, NONE},
    {"image with text inside",
     M(MIXED "--b\r\nContent-Type: image/png; name=x.png\r\n\r\ncard " CARD "\r\n--b--\r\n"), 1, 0,
     1, PART_TYPE_MISMATCH, PART_TYPE_MISMATCH},
    {"zip named jpg",
     M(MIXED
       "--b\r\nContent-Type: image/jpeg\r\nContent-Disposition: attachment; filename=a.jpg\r\n"
       "Content-Transfer-Encoding: base64\r\n\r\nUEsDBBQAAAAIAAAAIQAAAAAAAAAAAAAAAAAFAAAA\r\n"
       "--b--\r\n"),
     0, 0, 1, PART_TYPE_MISMATCH | PART_OPAQUE, PART_TYPE_MISMATCH | PART_OPAQUE | PART_ENCRYPTED},
    {"encrypted zip",
     M(MIXED "--b\r\nContent-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64"
             "\r\n\r\nUEsDBBQAAQAIAAAAIQAAAAAAAAAAAAAAAAAFAAAA\r\n--b--\r\n"),
     0, 0, 1, PART_ENCRYPTED | PART_OPAQUE, PART_ENCRYPTED | PART_OPAQUE | PART_TYPE_MISMATCH},
    {"encrypted pdf",
     M(MIXED "--b\r\nContent-Type: application/pdf\r\n\r\n%PDF-1.4\r\n\x80\x81\r\ntrailer "
             "<< /Encrypt 5 0 R >>\r\n--b--\r\n"),
     0, 0, 0, PART_ENCRYPTED, PART_ENCRYPTED},
    {"smime enveloped",
     M(H "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\n"
         "Content-Transfer-Encoding: base64\r\n\r\nMIIBAgYJKoZIhvcNAQcDoA==\r\n"),
     0, 0, 1, PART_ENCRYPTED, PART_ENCRYPTED},
    {"pgp mime",
     M(H "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; "
         "boundary=b\r\n\r\n--b\r\nContent-Type: application/pgp-encrypted\r\n\r\n"
         "Version: 1\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n"
         "-----BEGIN PGP MESSAGE-----\r\n\r\nabc\r\n-----END PGP MESSAGE-----\r\n--b--\r\n"),
     0, 0, 0, PART_ENCRYPTED, PART_ENCRYPTED},
    {"pgp inline",
     M(H "\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nabc\r\n-----END PGP MESSAGE-----\r\n"), 0, 0, 0,
     PART_ENCRYPTED, PART_ENCRYPTED},
    {"nested message",
     M(MIXED
       "--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: c@example.net\r\nSubject: inner " CARD
       "\r\n\r\nssn 123-45-6789\r\n--b--\r\n"),
     1, 1, 0, NONE},
    {"nested twice",
     M(MIXED
       "--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=c\r\n"
       "\r\n--c\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n" CARD
       "\r\n--c--\r\n--b--\r\n"),
     1, 0, 0, NONE},
    {"nested message in base64",
     M(MIXED "--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
             "U3ViamVjdDogeA0KQ29udGVudC1UcmFuc2Zlci1FbmNvZGluZzogYmFzZTY0DQoNCk5ERXhN\r\n"
             "VEV4TVRFeE1URXhNVEV4TVE9PQ0K\r\n--b--\r\n"),
     1, 0, 0, ANY},
    {"name with card",
     M(MIXED "--b\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment;\r\n"
             " filename*0*=utf-8''card%204111;\r\n filename*1=\"111111111111.bin\"\r\n"
             "Content-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--b--\r\n"),
     1, 0, 1, PART_OPAQUE, PART_OPAQUE},
    {"inline image is no attachment",
     M(H "Content-Type: multipart/related; boundary=b\r\n\r\n--b\r\nContent-Type: "
         "text/html\r\n\r\n<img "
         "src=cid:x>\r\n--b\r\nContent-Type: image/gif; name=l.gif\r\nContent-ID: <x>\r\n"
         "Content-Disposition: inline; filename=l.gif\r\nContent-Transfer-Encoding: base64\r\n\r\n"
         "R0lGODlhAQABAIAAAA==\r\n--b--\r\n"),
     0, 0, 0, PART_OPAQUE, PART_OPAQUE | PART_ATTACHMENT},
    {"calendar, folded",
     M(H "Content-Type: text/calendar\r\n\r\nBEGIN:VCALENDAR\r\nDESCRIPTION:card "
         "41111111\r\n 11111111\r\nEND:VCALENDAR\r\n"),
     1, 0, 0, NONE},
    {"json", M(H "Content-Type: application/json\r\n\r\n{\"pan\":\"4111111111111111\"}\r\n"), 1, 0,
     0, NONE},
    {"utf-16 strings in a binary",
     M(MIXED
       "--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
       "AAH//gCAY2MgADQAMQAxADEAMQAxADEAMQAxADEAMQAxADEAMQAxADEAIAD/////\r\n--b--\r\n"),
     1, 0, 0, PART_OPAQUE, PART_OPAQUE},
    {"missing end boundary", M(MIXED "--b\r\n\r\n" CARD "\r\n"), 1, 0, 0, ANY},
    {"no boundary parameter",
     M(H "Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\n" CARD "\r\n--b--\r\n"), 1, 0, 0,
     PART_MALFORMED, PART_MALFORMED},
    {"boundary never seen", M(MIXED "nothing here but " CARD "\r\n"), 1, 0, 0, PART_MALFORMED,
     PART_MALFORMED},
    {"prologue", M(MIXED "card " CARD "\r\n--b\r\n\r\nx\r\n--b--\r\n"), 1, 0, 0, ANY},
    {"epilogue", M(MIXED "--b\r\n\r\nx\r\n--b--\r\ncard " CARD "\r\n"), 1, 0, 0, ANY},
    {"two content types",
     M(H "Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
         "Content-Transfer-Encoding: base64\r\n\r\nNDExMTExMTExMTExMTExMQ==\r\n--b--\r\n"),
     1, 0, 0, PART_MALFORMED, PART_MALFORMED},
    {"two encodings",
     M(MIXED "--b\r\nContent-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n\r\n"
             "NDExMTExMTExMTExMTExMQ==\r\n--b--\r\n"),
     1, 0, 0, PART_MALFORMED, PART_MALFORMED},
    {"type without slash", M(H "Content-Type: garbage\r\n\r\n" CARD "\r\n"), 1, 0, 0, ANY},
    {"line that is no field", M("From: a@b\r\nthis is no field\r\nSubject: x\r\n\r\n" CARD "\r\n"),
     1, 0, 0, PART_MALFORMED, PART_MALFORMED},
    {"order mail",
     M("Subject: Your order 4111111111111111\r\n\r\nOrder no. 4111111111111111 was shipped, "
       "tracking number 4111111111111111\r\n"),
     0, 0, 0, NONE},
    {"delivery status",
     M(H "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nfailed\r\n--b\r\n"
         "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n"
         "Final-Recipient: rfc822; a@b\r\nAction: failed\r\n--b--\r\n"),
     0, 0, 0, NONE},
};

static void test_table(void **state)
{
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *r = &rows[i];
        struct arena a;
        arena_init(&a, 16 << 20);
        struct facts f = run(r->message, &a);
        uint32_t cards = unique(&f, "CREDIT_CARD"), ssns = unique(&f, "US_SSN");
        uint32_t flags = all_flags(&f);
        if (f.scan != SCAN_OK || cards != r->cards || ssns != r->ssns ||
            f.attachments != r->attachments || ((flags ^ r->flags) & r->mask)) {
            print_error("%s: state %u, %u cards, %u ssns, %u attachments, flags %x\n", r->name,
                        f.scan, cards, ssns, f.attachments, flags);
            bad++;
        }
        arena_done(&a);
    }
    assert_int_equal(bad, 0);
}

/* Both paths say the same. */
static void test_fast_equals_gmime(void **state)
{
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena a;
        arena_init(&a, 16 << 20);
        struct buf one, two;
        buf_init(&one, 1 << 20);
        buf_init(&two, 1 << 20);
        struct facts f = run(rows[i].message, &a);
        facts_put(&one, &f);
        sc->no_fast = true;
        f = run(rows[i].message, &a);
        sc->no_fast = false;
        facts_put(&two, &f);
        if (!sv_eq(buf_sv(&one), buf_sv(&two))) {
            print_error("%s: the paths differ\n", rows[i].name);
            bad++;
        }
        buf_done(&one);
        buf_done(&two);
        arena_done(&a);
    }
    assert_int_equal(bad, 0);
}

static const struct hit *hit_of(const struct facts *f, const char *name, uint8_t place)
{
    for (uint32_t i = 0; i < f->n_hits; i++) {
        if (sv_eq(f->hits[i].classifier, sv_str(name)) && f->parts[f->hits[i].part].place == place)
            return &f->hits[i];
    }
    return NULL;
}

static void test_counts(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 16 << 20);
    struct facts f =
        run(M("Subject: card " CARD "\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
              "--b\r\n\r\n" CARD ", 4111-1111-1111-1111, 5500000000000004\r\n--b\r\n"
              "Content-Disposition: attachment; filename=a.txt\r\n\r\n" CARD
              " project\r\n  FALCON Project Falcon project falcons\r\n--b--\r\n"),
            &a);
    assert_int_equal(f.n_totals, 2);
    assert_int_equal(f.totals[0].count, 5);
    assert_int_equal(f.totals[0].unique, 2);
    const struct hit *body = hit_of(&f, "CREDIT_CARD", PLACE_BODY);
    assert_non_null(body);
    assert_int_equal(body->count, 3);
    assert_int_equal(body->unique, 2);
    assert_true(sv_eq(body->masked, SV("************1111")));
    assert_int_equal(hit_of(&f, "CREDIT_CARD", PLACE_SUBJECT)->count, 1);
    const struct hit *phrase = hit_of(&f, "falcon", PLACE_ATTACHMENT);
    assert_non_null(phrase);
    assert_int_equal(phrase->count, 2);  /* "falcons" is another word */
    assert_int_equal(phrase->unique, 2); /* two ways to write it (spec K11) */
    assert_true(sv_eq(f.subject, SV("card " CARD)));
    assert_int_equal(f.attachments, 1);
    arena_done(&a);
}

static void test_phrase_folding(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 16 << 20);
    struct facts f = run(M("Content-Type: text/html; charset=iso-8859-1\r\n\r\n<p>STRA\xdf"
                           "E "
                           "<b>gr</b>&uuml;n</p>"),
                         &a);
    assert_int_equal(unique(&f, "gruen"), 1);
    arena_done(&a);
}

/* ---- hostile structures ---- */

static void put(struct buf *b, const char *text)
{
    assert_int_equal(buf_append(b, text, strlen(text)), ERR_OK);
}

static void hostile(struct buf *b, uint8_t want)
{
    struct arena a;
    arena_init(&a, 64 << 20);
    struct facts f = run(buf_sv(b), &a);
    assert_int_equal(f.scan, want);
    if (want != SCAN_OK)
        assert_true(f.scan_error.n > 0);
    arena_done(&a);
    buf_done(b);
}

static void test_nested_deep(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 64 << 20);
    for (int i = 0; i < 100000; i++)
        (void)buf_printf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i);
    hostile(&b, SCAN_LIMIT);
}

static void test_nested_messages(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 64 << 20);
    for (int i = 0; i < 100000; i++)
        put(&b, "Content-Type: message/rfc822\r\n\r\n");
    hostile(&b, SCAN_LIMIT);
}

static void test_many_parts(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 64 << 20);
    put(&b, MIXED);
    for (int i = 0; i < 100000; i++)
        put(&b, "--b\r\n\r\nx\r\n");
    put(&b, "--b--\r\n");
    hostile(&b, SCAN_LIMIT);
}

static void test_long_header(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 64 << 20);
    put(&b, "Subject: ");
    for (int i = 0; i < 100000; i++)
        put(&b, "=?utf-8?Q?=C3=A9?=\r\n ");
    put(&b, "\r\n\r\nx\r\n");
    hostile(&b, SCAN_OK);
    buf_init(&b, 64 << 20);
    for (int i = 0; i < 100000; i++)
        put(&b, "From: a\r\n");
    put(&b, "\r\nx\r\n");
    hostile(&b, SCAN_OK);
}

static void test_html_bombs(void **state)
{
    (void)state;
    static const char *const items[] = {"<!--",        "<script>",  "<a href=\"", "<",
                                        "</",          "<![CDATA[", "&",          "&#x",
                                        "<p title='x", "<style>"};
    for (size_t k = 0; k < ARRAY_LEN(items); k++) {
        struct buf b;
        buf_init(&b, 64 << 20);
        put(&b, H "Content-Type: text/html\r\n\r\n");
        for (int i = 0; i < 100000; i++)
            put(&b, items[k]);
        hostile(&b, SCAN_OK);
    }
}

static void test_text_limit(void **state)
{
    (void)state;
    struct settings small = settings;
    small.content_max_text_kb = 64;
    assert_int_equal(scan_use(sc, &small, NULL), ERR_OK);
    struct buf b;
    buf_init(&b, 1 << 20);
    put(&b, H "\r\n");
    for (int i = 0; i < 10000; i++)
        put(&b, "0123456789");
    hostile(&b, SCAN_LIMIT);
    assert_int_equal(scan_use(sc, &settings, NULL), ERR_OK);
}

static void test_small_arena(void **state)
{
    (void)state;
    for (size_t cap = 0; cap < 4000; cap += 50) {
        struct arena a;
        arena_init(&a, cap);
        struct facts f = run(rows[35].message, &a);
        if (f.scan == SCAN_OK)
            assert_false(a.overflow);
        arena_done(&a);
    }
}

/* Every truncation and a sweep of byte changes of every message: no crash (ASan), some state. */
static void test_mutations(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sv m = rows[i].message;
        char *copy = malloc(m.n + 1);
        for (size_t k = 0; k < m.n; k += 7) {
            struct arena a;
            arena_init(&a, 16 << 20);
            struct facts f = run(sv_take(m, k), &a);
            assert_true(f.scan == SCAN_OK || f.scan == SCAN_LIMIT);
            memcpy(copy, m.p, m.n);
            copy[k] = (char)(copy[k] ^ (1 << (k % 8)));
            f = run(sv_of(copy, m.n), &a);
            assert_true(f.scan == SCAN_OK || f.scan == SCAN_LIMIT);
            arena_done(&a);
        }
        free(copy);
    }
}

static void test_simple(void **state)
{
    (void)state;
    assert_true(scan_is_simple(M(H "\r\nx")));
    assert_true(scan_is_simple(M(H "Content-Type: text/html\r\n\r\nx")));
    assert_true(scan_is_simple(M(MIXED "--b\r\n\r\nx\r\n--b--\r\n")));
    assert_false(
        scan_is_simple(M(MIXED "--b\r\nContent-Type: application/pdf\r\n\r\nx\r\n--b--\r\n")));
    assert_false(
        scan_is_simple(M(MIXED "--b\r\nContent-Type: message/rfc822\r\n\r\nx\r\n--b--\r\n")));
    assert_false(scan_is_simple(M(H "Content-Type: application/zip\r\n\r\nx")));
}

/* Every charset that is offered decodes digits. */
static void test_charsets(void **state)
{
    (void)state;
    for (const char *const *name = scan_charsets(); *name; name++) {
        struct buf out;
        buf_init(&out, 1024);
        (void)charset_to_utf8(sc->cs, sv_str(*name), SV("\x81\x40 0123"), &out);
        assert_true(out.n > 0);
        buf_done(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),       cmocka_unit_test(test_fast_equals_gmime),
        cmocka_unit_test(test_counts),      cmocka_unit_test(test_phrase_folding),
        cmocka_unit_test(test_nested_deep), cmocka_unit_test(test_nested_messages),
        cmocka_unit_test(test_many_parts),  cmocka_unit_test(test_long_header),
        cmocka_unit_test(test_html_bombs),  cmocka_unit_test(test_text_limit),
        cmocka_unit_test(test_small_arena), cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_simple),      cmocka_unit_test(test_charsets),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
