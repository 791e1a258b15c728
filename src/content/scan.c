/*
 * Scan of one message: see content/scan.h. Order: headers, then the structure (fast path or GMime),
 * then totals.
 *
 * SECURITY: parses hostile bytes; whatever goes wrong ends as a flag or a state, never as "clean".
 */
#include "base/utf8.h"
#include "codec/header.h"
#include "content/filetype.h"
#include "content/normal.h"
#include "content/scan_int.h"
#include <stdlib.h>

const char *const *scan_charsets(void)
{
    return charsets_names();
}

/* ---- set-up ---- */

struct self_test {
    const char *text;
    unsigned cards, ssns;
};
static const struct self_test self_tests[] = {
    {"card 4111 1111 1111 1111 ok", 1, 0},
    {"ssn 123-45-6789", 0, 1},
    {"4111 1111 1111 1112 and 000-12-3456", 0, 0},
};

static void self_test_hit(void *ctx, enum ident kind, struct sv digits)
{
    unsigned *counts = ctx;
    (void)digits;
    counts[kind]++;
}

static enum err self_test(struct errinfo *info)
{
    for (size_t i = 0; i < ARRAY_LEN(self_tests); i++) {
        unsigned counts[IDENTS] = {0, 0};
        ident_scan(sv_str(self_tests[i].text), self_test_hit, counts);
        if (counts[IDENT_CREDIT_CARD] != self_tests[i].cards ||
            counts[IDENT_US_SSN] != self_tests[i].ssns)
            return err_set(info, ERR_BUG, "self-test %zu of the identifiers failed", i);
    }
    return ERR_OK;
}

static void on_warning(gint64 offset, GMimeParserWarning code, const gchar *item, gpointer ctx);

enum err scan_new(struct scanner **out_sc, struct errinfo *info)
{
    enum err err = self_test(info);
    if (err)
        return err;
    struct scanner *sc = calloc(1, sizeof *sc);
    if (!sc)
        return err_set(info, ERR_LIMIT, "out of memory");
    err = charsets_new(&sc->cs, info);
    if (err) {
        free(sc);
        return err;
    }
    g_mime_init();
    sc->options = g_mime_parser_options_new();
    g_mime_parser_options_set_warning_callback(sc->options, on_warning, sc);
    buf_init(&sc->decoded, SCAN_BYTES_MAX);
    buf_init(&sc->utf8, SCAN_BYTES_MAX);
    buf_init(&sc->text, SCAN_BYTES_MAX);
    buf_init(&sc->extra, SCAN_BYTES_MAX);
    buf_init(&sc->view, SCAN_BYTES_MAX);
    buf_init(&sc->header, SCAN_HEADER_MAX);
    *out_sc = sc;
    return ERR_OK;
}

void scan_free(struct scanner *sc)
{
    if (!sc)
        return;
    struct buf *bufs[] = {&sc->decoded, &sc->utf8, &sc->text, &sc->extra, &sc->view, &sc->header};
    for (size_t i = 0; i < ARRAY_LEN(bufs); i++)
        buf_done(bufs[i]);
    g_mime_parser_options_free(sc->options);
    phrases_free(sc->ph);
    charsets_free(sc->cs);
    free(sc);
}

enum err scan_use(struct scanner *sc, const struct settings *s, struct errinfo *info)
{
    struct phrases *ph = NULL;
    if (s->n_phrases > 0) {
        enum err err = phrases_new(s->phrases, s->n_phrases, &ph, info);
        if (err)
            return err;
    }
    phrases_free(sc->ph);
    sc->ph = ph;
    sc->s = s;
    return ERR_OK;
}

/* ---- parts, limits ---- */

void job_limit(struct job *j, const char *what)
{
    if (!j->limit)
        j->limit = what;
}

uint32_t job_part(struct job *j, const struct part *part)
{
    struct facts *f = j->f;
    if (f->n_parts == j->cap_parts) {
        uint32_t cap = j->cap_parts ? j->cap_parts * 2 : 8;
        struct part *parts = ARENA_ARRAY(j->a, struct part, cap);
        if (!parts) {
            job_limit(j, "too many parts for the memory of a scan");
            return UINT32_MAX;
        }
        if (f->n_parts)
            memcpy(parts, f->parts, f->n_parts * sizeof *parts);
        f->parts = parts;
        j->cap_parts = cap;
    }
    f->parts[f->n_parts] = *part;
    tally_part(&j->t, f->n_parts);
    return f->n_parts++;
}

/* ---- classifiers ---- */

static void on_ident(void *ctx, enum ident kind, struct sv digits)
{
    struct job *j = ctx;
    char masked[20];
    size_t n = digits.n < sizeof masked ? digits.n : sizeof masked;
    for (size_t i = 0; i < n; i++)
        masked[i] = i + 4 < n ? '*' : digits.p[i];
    tally_add(&j->t, (uint32_t)kind, digits, sv_of(masked, n));
}

static void on_phrase(void *ctx, uint32_t index, struct sv as_written)
{
    struct job *j = ctx;
    tally_add(&j->t, IDENTS + index, as_written, SV(""));
}

void bytes_scan(struct job *j, struct sv bytes)
{
    ident_scan(bytes, on_ident, j);
    phrases_scan(j->sc->ph, bytes, on_phrase, j);
}

void text_scan(struct job *j, struct sv text)
{
    if (sv_is_ascii(text)) {
        bytes_scan(j, text);
        return;
    }
    struct buf *view = &j->sc->view;
    buf_reset(view);
    if (buf_append_sv(view, text)) {
        job_limit(j, "a part is too large");
        return;
    }
    view->n = text_normalise(view->p, view->n);
    bytes_scan(j, buf_sv(view));
}

/* ---- headers of the message itself ---- */

bool header_is_scanned(struct sv name)
{
    static const char *const names[] = {"From",         "To",          "Cc",        "Bcc",
                                        "Reply-To",     "Sender",      "Comments",  "Keywords",
                                        "Organization", "Resent-From", "Resent-To", NULL};
    for (const char *const *n = names; *n; n++) {
        if (sv_eq_nocase(name, sv_str(*n)))
            return true;
    }
    return false;
}

static bool is_single(struct sv name, uint32_t *seen)
{
    static const char *const once[] = {
        "Content-Type", "Content-Transfer-Encoding", "Subject", "From",
        "MIME-Version", "Content-Disposition",       NULL};
    for (uint32_t i = 0; once[i]; i++) {
        if (!sv_eq_nocase(name, sv_str(once[i])))
            continue;
        bool first = !(*seen & (1u << i));
        *seen |= 1u << i;
        return first;
    }
    return true;
}

static void subject_part(struct job *j, struct sv value, bool first)
{
    struct buf *out = &j->sc->header;
    buf_reset(out);
    struct part part = {.path = SV("SUBJECT"), .place = PLACE_SUBJECT};
    if (!decode_header(j->sc->cs, value, out))
        part.flags |= PART_MALFORMED;
    struct sv text = buf_sv(out);
    part.size = text.n;
    if (job_part(j, &part) == UINT32_MAX)
        return;
    text_scan(j, text);
    if (!first)
        return;
    size_t n = text.n < SCAN_SUBJECT_MAX ? text.n : SCAN_SUBJECT_MAX;
    while (n > 0 && n < text.n && ((uint8_t)text.p[n] & 0xc0) == 0x80)
        n--; /* not within a character */
    j->f->subject = arena_sv(j->a, sv_take(text, n));
}

/* Fields other than the subject, decoded, one a line. */
static uint32_t header_text(struct job *j, struct sv message)
{
    struct buf *out = &j->sc->header;
    struct sv rest = message;
    struct header_field field;
    uint32_t flags = 0, seen = 0;
    buf_reset(out);
    while (header_next(&rest, &field)) {
        if (field.name.n == 0 || !is_single(field.name, &seen)) {
            flags |= PART_MALFORMED;
            j->recover |= field.name.n != 0;
        }
        if (!header_is_scanned(field.name))
            continue;
        if (!decode_header(j->sc->cs, field.value, out))
            flags |= PART_MALFORMED;
        (void)buf_append_byte(out, '\n');
    }
    if (out->overflow)
        job_limit(j, "the header section is too large");
    return flags;
}

void headers_scan(struct job *j, struct sv message)
{
    j->structure |= header_text(j, message);
    struct part part = {.path = SV("HEADER"), .place = PLACE_HEADER, .size = j->sc->header.n};
    if (job_part(j, &part) == UINT32_MAX)
        return;
    text_scan(j, buf_sv(&j->sc->header));
    struct sv rest = message;
    struct header_field field;
    bool first = true;
    for (uint32_t n = 0; n < 8 && header_next(&rest, &field);) {
        if (!sv_eq_nocase(field.name, SV("Subject")))
            continue;
        subject_part(j, field.value, first);
        first = false;
        n++;
    }
}

/* ---- structure ---- */

static void on_warning(gint64 offset, GMimeParserWarning code, const gchar *item, gpointer ctx)
{
    struct scanner *sc = ctx;
    struct job *j = sc->warn;
    (void)offset;
    (void)item;
    if (!j)
        return;
    switch (code) {
    case GMIME_WARN_UNENCODED_8BIT_HEADER:
    case GMIME_WARN_INVALID_ADDRESS_LIST:
    case GMIME_WARN_INVALID_RFC2047_HEADER_VALUE:
    case GMIME_WARN_DUPLICATED_HEADER:
    case GMIME_WARN_DUPLICATED_PARAMETER:
    case GMIME_WARN_PART_WITHOUT_CONTENT:
        return; /* common, and everybody reads them in one way */
    case GMIME_CRIT_NESTING_OVERFLOW:
        job_limit(j, "MIME parts are nested too deeply");
        break;
    case GMIME_WARN_INVALID_CONTENT_TYPE:
    case GMIME_WARN_INVALID_PARAMETER:
    case GMIME_WARN_MALFORMED_MULTIPART:
    case GMIME_WARN_TRUNCATED_MESSAGE:
    case GMIME_WARN_MALFORMED_MESSAGE:
    case GMIME_CRIT_INVALID_HEADER_NAME:
    case GMIME_CRIT_CONFLICTING_HEADER:
    case GMIME_CRIT_CONFLICTING_PARAMETER:
    case GMIME_CRIT_MULTIPART_WITHOUT_BOUNDARY:
    case GMIME_CRIT_PART_WITHOUT_HEADERS_OR_CONTENT:
        break;
    }
    j->structure |= PART_MALFORMED;
    j->recover = true;
}

/* Readers disagree about damaged structures: what any of them could show is looked at. */
static void recover_scan(struct job *j, struct sv message)
{
    struct buf *out = &j->sc->decoded;
    tally_part(&j->t, 0);
    j->t.only_new = true;
    text_scan(j, message);
    buf_reset(out);
    (void)decode_qp(message, false, out);
    text_scan(j, buf_sv(out));
}

static void finish(struct job *j)
{
    struct facts *f = j->f;
    if (f->n_parts > 0)
        f->parts[0].flags |= j->structure;
    tally_finish(&j->t, f);
    if (j->t.overflow)
        job_limit(j, "too many matches");
    if (j->a->overflow)
        job_limit(j, "too little memory for the result");
    f->scan = j->limit ? SCAN_LIMIT : SCAN_OK;
    f->scan_error = j->limit ? sv_str(j->limit) : SV("");
    if (j->limit && f->n_parts > 0)
        f->parts[0].flags |= PART_TRUNCATED;
}

void scan_message(struct scanner *sc, struct sv message, struct arena *a, struct facts *out_facts)
{
    struct facts f = {.size = message.n};
    struct job j = {.sc = sc, .a = a, .f = &f};
    j.text_left = (uint64_t)sc->s->content_max_text_kb * 1024;
    tally_init(&j.t, a, IDENTS + sc->s->n_phrases);
    for (uint32_t i = 0; i < j.t.n_classes; i++)
        j.t.classes[i].total.classifier = j.t.classes[i].name =
            i < IDENTS ? sv_str(ident_name((enum ident)i)) : sc->s->phrases[i - IDENTS].name;
    headers_scan(&j, message);
    struct leaf leaf;
    if (!sc->no_fast && fast_leaf(&j, message, &leaf))
        leaf_scan(&j, &leaf);
    else
        walk_message(&j, message, SV(""), 0, false);
    if (j.recover)
        recover_scan(&j, message);
    finish(&j);
    *out_facts = f;
}

/* ---- simple? ---- */

#define SIMPLE_MAX   (2u * 1024 * 1024)
#define SIMPLE_LINES 64 /* lines that could be boundaries */

/* Declared type of a raw Content-Type value, up to its parameters. */
static struct sv type_of(struct sv value)
{
    struct sv v = sv_trim(value);
    size_t i = 0;
    while (i < v.n && v.p[i] != ';' && v.p[i] != ' ' && v.p[i] != '\r' && v.p[i] != '\n')
        i++;
    return sv_take(v, i);
}

static bool parts_are_simple(struct sv body)
{
    uint32_t boundaries = 0;
    while (body.p && body.n > 0) {
        struct sv line = sv_cut(&body, '\n');
        if (line.n > 2 && line.p[0] == '-' && line.p[1] == '-' && ++boundaries > SIMPLE_LINES)
            return false;
        if (line.n > 13 && (line.p[0] == 'C' || line.p[0] == 'c') &&
            sv_starts_nocase(line, SV("content-type:")) &&
            filetype_is_container(type_of(sv_skip(line, 13))))
            return false;
    }
    return true;
}

bool scan_is_simple(struct sv message)
{
    struct header_field field;
    if (message.n > SIMPLE_MAX)
        return false;
    if (!header_find(message, SV("Content-Type"), &field))
        return true;
    struct sv type = type_of(field.value);
    if (sv_starts_nocase(type, SV("text/")))
        return true;
    return sv_starts_nocase(type, SV("multipart/")) && parts_are_simple(message);
}
