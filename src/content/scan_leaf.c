/*
 * One leaf of a message: transfer encoding, charset, markup, flags, classifiers.
 *
 * SECURITY: hostile bytes. Decoded sizes are bounded by the input and by named limits; nested
 * encoded messages by depth.
 */
#include "base/utf8.h"
#include "content/filetype.h"
#include "content/html.h"
#include "content/scan_int.h"

/* Decodes the transfer encoding; identity copies nothing. */
static struct sv leaf_decode(struct buf *out, const struct leaf *leaf, bool *out_clean)
{
    struct uu_block block;
    buf_reset(out);
    *out_clean = true;
    switch (leaf->cte) {
    case CTE_IDENTITY:
        return leaf->raw;
    case CTE_QP:
        *out_clean = decode_qp(leaf->raw, false, out);
        return buf_sv(out);
    case CTE_BASE64:
        *out_clean = decode_base64(leaf->raw, out);
        return buf_sv(out);
    case CTE_UUENCODE:
        *out_clean = uu_find(leaf->raw, &block) && decode_uu_lines(block.lines, out);
        return out->n > 0 ? buf_sv(out) : leaf->raw;
    case CTE_UNKNOWN:
        break;
    }
    *out_clean = false;
    return leaf->raw;
}

/* Runs of UTF-16 text in binary data, without their NULs, one a line. */
static void utf16_runs(struct sv b, struct buf *out)
{
    size_t i = 0;
    while (i + 1 < b.n) {
        const char *zero = memchr(b.p + i + 1, 0, b.n - i - 1);
        if (!zero)
            return;
        size_t start = (size_t)(zero - b.p) - 1, k = start;
        while (k + 1 < b.n && b.p[k + 1] == 0 && b.p[k] >= ' ' && b.p[k] <= '~')
            k += 2;
        if (k - start >= 12) {
            for (size_t c = start; c < k; c += 2)
                (void)buf_append_byte(out, b.p[c]);
            (void)buf_append_byte(out, '\n');
        }
        i = k > start ? k : start + 1;
    }
}

static void binary_scan(struct job *j, struct sv bytes)
{
    bytes_scan(j, bytes);
    struct buf *out = &j->sc->text;
    buf_reset(out);
    utf16_runs(bytes, out);
    bytes_scan(j, buf_sv(out));
}

/* vCard and iCalendar fold anywhere (RFC 5545 3.1): CRLF and one blank are nothing. */
static bool is_folded(struct sv type)
{
    return sv_eq_nocase(type, SV("text/calendar")) || sv_eq_nocase(type, SV("text/vcard")) ||
           sv_eq_nocase(type, SV("text/x-vcard")) || sv_eq_nocase(type, SV("text/directory"));
}

static struct sv unfold(struct sv text, struct buf *out)
{
    buf_reset(out);
    while (text.n > 0) {
        size_t at = sv_find_byte(text, '\n');
        if (at == SIZE_MAX || at + 1 >= text.n ||
            (text.p[at + 1] != ' ' && text.p[at + 1] != '\t')) {
            (void)buf_append_sv(out, sv_take(text, at == SIZE_MAX ? at : at + 1));
            text = at == SIZE_MAX ? SV_NULL : sv_skip(text, at + 1);
            continue;
        }
        size_t keep = at > 0 && text.p[at - 1] == '\r' ? at - 1 : at;
        (void)buf_append_sv(out, sv_take(text, keep));
        text = sv_skip(text, at + 2);
    }
    return buf_sv(out);
}

static bool is_markup(struct sv type, struct sv true_type)
{
    return sv_eq_nocase(type, SV("text/html")) || sv_eq(true_type, SV("text/html")) ||
           sv_eq_nocase(type, SV("application/xhtml+xml")) ||
           sv_eq_nocase(type, SV("image/svg+xml"));
}

/* Decoded text within the budget of the message. */
static struct sv budget(struct job *j, struct part *part, struct sv text)
{
    if (text.n > j->text_left) {
        text.n = (size_t)j->text_left;
        part->flags |= PART_TRUNCATED;
        job_limit(j, "more text than content.max_text_kb");
    }
    j->text_left -= text.n;
    return text;
}

static void markup_scan(struct job *j, struct sv text, bool only_new)
{
    struct scanner *sc = j->sc;
    buf_reset(&sc->text);
    buf_reset(&sc->extra);
    html_to_text(text, &sc->text, &sc->extra);
    j->t.only_new = only_new;
    text_scan(j, buf_sv(&sc->text));
    j->t.only_new = true;
    text_scan(j, buf_sv(&sc->extra));
    if (sc->text.overflow || sc->extra.overflow)
        job_limit(j, "a part is too large");
}

/* uuencoded files within a text (spec K29: they count as body). */
static void inline_uu_scan(struct job *j, struct sv text)
{
    struct uu_block block;
    for (int i = 0; i < 100 && uu_find(text, &block); i++) {
        buf_reset(&j->sc->text);
        (void)decode_uu_lines(block.lines, &j->sc->text);
        j->t.only_new = true;
        binary_scan(j, arena_sv(j->a, buf_sv(&j->sc->text)));
        text = block.rest;
    }
}

static void text_leaf_scan(struct job *j, struct part *part, const struct leaf *leaf,
                           struct sv bytes)
{
    struct scanner *sc = j->sc;
    bool markup = is_markup(leaf->type, part->true_type);
    struct sv label = leaf->charset, text = bytes;
    if (markup && label.n == 0)
        label = html_meta_charset(bytes);
    bool again = leaf->conflict;
    if (charset_is_plain(label, bytes)) {
        part->charset = label.n ? leaf->charset : SV("us-ascii");
    } else {
        buf_reset(&sc->utf8);
        struct charset_result r = charset_to_utf8(sc->cs, label, bytes, &sc->utf8);
        text = buf_sv(&sc->utf8);
        part->charset = sv_str(r.used);
        part->flags |= r.clean ? 0 : PART_MALFORMED;
        again |= !r.clean || !r.ascii_like;
        if (sc->utf8.overflow)
            job_limit(j, "a part is too large");
    }
    text = budget(j, part, text);
    if (is_folded(leaf->type))
        text = unfold(text, &sc->extra);
    if (markup)
        markup_scan(j, text, false);
    else
        text_scan(j, text);
    if (!markup && text.n > 60)
        inline_uu_scan(j, text);
    if (!again)
        return;
    j->t.only_new = true;
    text_scan(j, bytes);
    if (markup)
        text_scan(j, text);
}

/* Other transfer encodings that a reader might believe in. */
static void conflict_scan(struct job *j, const struct leaf *leaf)
{
    struct buf *out = &j->sc->decoded;
    j->t.only_new = true;
    text_scan(j, leaf->raw);
    buf_reset(out);
    (void)decode_qp(leaf->raw, false, out);
    text_scan(j, buf_sv(out));
    buf_reset(out);
    (void)decode_base64(leaf->raw, out);
    text_scan(j, buf_sv(out));
}

static bool is_smime(struct sv type)
{
    return sv_eq_nocase(type, SV("application/pkcs7-mime")) ||
           sv_eq_nocase(type, SV("application/x-pkcs7-mime"));
}

/* RFC 8551: enveloped-data and authEnveloped-data hide; signed-data does not. */
static bool smime_encrypted(const struct leaf *leaf, struct sv bytes)
{
    if (leaf->smime.n > 0)
        return !sv_starts_nocase(leaf->smime, SV("signed")) &&
               !sv_starts_nocase(leaf->smime, SV("certs"));
    struct sv signed_oid = SV("\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02");
    return sv_find(sv_take(bytes, 64), signed_oid) == SIZE_MAX;
}

static bool is_signature(struct sv type)
{
    return sv_eq_nocase(type, SV("application/pkcs7-signature")) ||
           sv_eq_nocase(type, SV("application/x-pkcs7-signature")) ||
           sv_eq_nocase(type, SV("application/pgp-signature"));
}

static bool is_attachment(const struct leaf *leaf)
{
    bool image = sv_starts_nocase(leaf->type, SV("image/"));
    if (leaf->disposition == DISPOSITION_ATTACHMENT)
        return true;
    if (image && (leaf->disposition == DISPOSITION_INLINE || leaf->has_id))
        return false;
    return leaf->name.n > 0;
}

/* Does the content count as text? The bytes decide; a text label alone does not make text. */
static bool is_text(const struct leaf *leaf, struct sv true_type, struct sv bytes)
{
    bool readable = sv_starts(true_type, SV("text/"));
    if (bytes.n == 0 || readable)
        return true;
    return filetype_is_text(leaf->type) && true_type.n == 0;
}

static void part_flags(struct part *part, const struct leaf *leaf, struct sv bytes, bool text)
{
    if (is_attachment(leaf))
        part->flags |= PART_ATTACHMENT;
    if (leaf->encrypted || filetype_encrypted(part->true_type, bytes) ||
        (is_smime(leaf->type) && smime_encrypted(leaf, bytes)))
        part->flags |= PART_ENCRYPTED;
    if (bytes.n > 0 && filetype_mismatch(part->true_type, leaf->type, leaf->name))
        part->flags |= PART_TYPE_MISMATCH;
    if (!text && !is_signature(leaf->type))
        part->flags |= PART_OPAQUE;
    bool body = !(part->flags & PART_ATTACHMENT) && text && !leaf->in_message;
    part->place = (uint8_t)(body ? PLACE_BODY : PLACE_ATTACHMENT);
}

static void name_part(struct job *j, const struct leaf *leaf)
{
    if (leaf->name.n == 0)
        return;
    struct part part = {.path = leaf->path, .place = PLACE_NAME, .size = leaf->name.n};
    if (job_part(j, &part) != UINT32_MAX)
        text_scan(j, leaf->name);
}

/* An encoded message is a message once decoded; GMime leaves it to us. */
static void nested_scan(struct job *j, const struct leaf *leaf, struct sv bytes)
{
    if (j->nested >= SCAN_NESTED_MAX) {
        job_limit(j, "encoded messages are nested too deeply");
        return;
    }
    struct sv copy = arena_sv(j->a, bytes);
    if (copy.n != bytes.n) {
        job_limit(j, "too little memory for a nested message");
        return;
    }
    j->nested++;
    walk_message(j, copy, leaf->path, leaf->depth + 1, true);
    j->nested--;
}

static bool is_message(struct sv type)
{
    return sv_eq_nocase(type, SV("message/rfc822")) || sv_eq_nocase(type, SV("message/global")) ||
           sv_eq_nocase(type, SV("message/news"));
}

void leaf_scan(struct job *j, const struct leaf *leaf)
{
    bool clean = true;
    struct sv bytes = leaf_decode(&j->sc->decoded, leaf, &clean);
    struct part part = {.path = leaf->path,
                        .declared_type = leaf->type,
                        .true_type = filetype_of(bytes),
                        .name = sv_take(leaf->name, SCAN_NAME_MAX),
                        .charset = leaf->charset,
                        .size = bytes.n,
                        .flags = clean && !leaf->conflict ? 0 : PART_MALFORMED};
    bool text = is_text(leaf, part.true_type, bytes) && !is_smime(leaf->type);
    part_flags(&part, leaf, bytes, text);
    j->f->attachments += (part.flags & PART_ATTACHMENT) != 0;
    uint32_t index = job_part(j, &part);
    if (index == UINT32_MAX)
        return;
    if (text && bytes.n > 0)
        text_leaf_scan(j, &part, leaf, bytes);
    else
        binary_scan(j, bytes);
    if (!clean || leaf->conflict)
        conflict_scan(j, leaf);
    j->f->parts[index] = part;
    name_part(j, leaf);
    if (is_message(leaf->type))
        nested_scan(j, leaf, leaf_decode(&j->sc->decoded, leaf, &clean));
}
