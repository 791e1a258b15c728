/*
 * Structure of a message by GMime: own recursion, into nested messages, too.
 *
 * SECURITY: GMime parses the hostile structure from a stream over the caller's bytes; contents are
 * taken as spans of those bytes, checked against their length. Depth and number of parts are
 * bounded by settings; GMime's own recursion by GMime.
 */
#include "content/scan_int.h"

struct walk {
    struct job *j;
    struct sv message;
    bool in_message, encrypted;
};

static void walk_object(struct walk *w, GMimeObject *o, struct sv path, uint32_t depth);

static struct sv lower_copy(struct arena *a, struct sv v)
{
    char *p = arena_cstr(a, v);
    for (size_t i = 0; p && i < v.n; i++)
        p[i] = p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] + 32) : p[i];
    return p ? sv_of(p, v.n) : SV_NULL;
}

static struct sv object_type(struct arena *a, GMimeObject *o)
{
    GMimeContentType *type = g_mime_object_get_content_type(o);
    char *text = type ? g_mime_content_type_get_mime_type(type) : NULL;
    struct sv lower = lower_copy(a, sv_take(sv_str(text), 128));
    g_free(text);
    return lower;
}

static struct sv object_param(struct arena *a, GMimeObject *o, const char *name)
{
    GMimeContentType *type = g_mime_object_get_content_type(o);
    const char *value = type ? g_mime_content_type_get_parameter(type, name) : NULL;
    return value ? arena_sv(a, sv_take(sv_str(value), 128)) : SV("");
}

static struct sv child_path(struct arena *a, struct sv path, int index)
{
    if (path.n == 0)
        return arena_printf(a, "%d", index);
    return arena_printf(a, "%.*s.%d", SV_ARG(path), index);
}

static unsigned header_count(GMimeObject *o, const char *name)
{
    GMimeHeaderList *list = g_mime_object_get_header_list(o);
    unsigned n = 0;
    for (int i = 0; i < g_mime_header_list_get_count(list) && i < 1000; i++) {
        GMimeHeader *h = g_mime_header_list_get_header_at(list, i);
        n += g_ascii_strcasecmp(g_mime_header_get_name(h), name) == 0;
    }
    return n;
}

/* Raw bytes of a leaf's content within the message. */
static struct sv part_span(const struct walk *w, GMimePart *part)
{
    GMimeDataWrapper *content = g_mime_part_get_content(part);
    GMimeStream *stream = content ? g_mime_data_wrapper_get_stream(content) : NULL;
    if (!stream || !GMIME_IS_STREAM_MEM(stream))
        return SV("");
    gint64 start = stream->bound_start, end = stream->bound_end;
    gint64 size = (gint64)w->message.n;
    if (end < 0 || end > size)
        end = size;
    if (start < 0 || start > end)
        return SV("");
    return sv_of(w->message.p + start, (size_t)(end - start));
}

static enum cte object_cte(GMimeObject *o)
{
    const char *value = g_mime_object_get_header(o, "Content-Transfer-Encoding");
    return value ? cte_parse(sv_str(value)) : CTE_IDENTITY;
}

static enum disposition object_disposition(GMimeObject *o)
{
    const char *d = g_mime_object_get_disposition(o);
    if (!d || !*d)
        return DISPOSITION_NONE;
    /* RFC 2183 2.8: unknown ones are attachments */
    return g_ascii_strcasecmp(d, "inline") == 0 ? DISPOSITION_INLINE : DISPOSITION_ATTACHMENT;
}

static struct sv object_name(struct arena *a, GMimeObject *o)
{
    const char *name = NULL;
    if (GMIME_IS_PART(o)) {
        name = g_mime_part_get_filename(GMIME_PART(o));
    } else {
        name = g_mime_object_get_content_disposition_parameter(o, "filename");
        if (!name)
            name = g_mime_object_get_content_type_parameter(o, "name");
    }
    return name ? arena_sv(a, sv_take(sv_str(name), 8192)) : SV("");
}

static struct leaf object_leaf(const struct walk *w, GMimeObject *o, struct sv path, uint32_t depth)
{
    struct arena *a = w->j->a;
    struct leaf leaf = {.path = path,
                        .type = object_type(a, o),
                        .name = object_name(a, o),
                        .charset = object_param(a, o, "charset"),
                        .smime = object_param(a, o, "smime-type"),
                        .raw = SV(""),
                        .cte = object_cte(o),
                        .disposition = object_disposition(o),
                        .has_id = g_mime_object_get_content_id(o) != NULL,
                        .in_message = w->in_message,
                        .encrypted = w->encrypted,
                        .depth = depth};
    leaf.conflict =
        header_count(o, "Content-Type") > 1 || header_count(o, "Content-Transfer-Encoding") > 1;
    return leaf;
}

static void walk_part(struct walk *w, GMimeObject *o, struct sv path, uint32_t depth)
{
    struct leaf leaf = object_leaf(w, o, path, depth);
    leaf.raw = part_span(w, GMIME_PART(o));
    leaf_scan(w->j, &leaf);
}

/* Entry for a container that is a fact by itself: a nested message, or an encrypted multipart. */
static void container_part(struct walk *w, GMimeObject *o, struct sv path, uint32_t depth,
                           uint32_t flags)
{
    struct leaf leaf = object_leaf(w, o, path, depth);
    struct part part = {.path = path,
                        .declared_type = leaf.type,
                        .name = sv_take(leaf.name, SCAN_NAME_MAX),
                        .place = PLACE_ATTACHMENT,
                        .flags = flags};
    if (leaf.disposition == DISPOSITION_ATTACHMENT || leaf.name.n > 0)
        part.flags |= PART_ATTACHMENT;
    w->j->f->attachments += (part.flags & PART_ATTACHMENT) != 0;
    (void)job_part(w->j, &part);
    text_scan(w->j, leaf.name);
}

/* Text before the first and behind the last part: no reader shows it, but it travels. */
static void outside_scan(struct job *j, const char *text)
{
    if (!text || !*text)
        return;
    tally_part(&j->t, 0);
    j->t.only_new = true;
    text_scan(j, sv_str(text));
}

/* The walk is as deep as the parts are nested: walk_object stops at content.max_depth.
 * NOLINTBEGIN(misc-no-recursion) */

static void walk_multipart(struct walk *w, GMimeMultipart *m, struct sv path, uint32_t depth)
{
    struct walk inner = *w;
    if (GMIME_IS_MULTIPART_ENCRYPTED(m)) {
        container_part(w, GMIME_OBJECT(m), path.n ? path : SV("0"), depth, PART_ENCRYPTED);
        inner.encrypted = true;
    }
    outside_scan(w->j, g_mime_multipart_get_prologue(m));
    int n = g_mime_multipart_get_count(m);
    for (int i = 0; i < n && !w->j->a->overflow; i++)
        walk_object(&inner, g_mime_multipart_get_part(m, i), child_path(w->j->a, path, i + 1),
                    depth + 1);
    outside_scan(w->j, g_mime_multipart_get_epilogue(m));
}

/* Headers of a nested message belong to its part. */
static void nested_headers(struct job *j, GMimeMessage *message)
{
    GMimeHeaderList *list = g_mime_object_get_header_list(GMIME_OBJECT(message));
    struct buf *out = &j->sc->header;
    buf_reset(out);
    for (int i = 0; i < g_mime_header_list_get_count(list) && i < 1000; i++) {
        GMimeHeader *h = g_mime_header_list_get_header_at(list, i);
        struct sv name = sv_str(g_mime_header_get_name(h));
        if (!header_is_scanned(name) && !sv_eq_nocase(name, SV("Subject")))
            continue;
        (void)decode_header(j->sc->cs, sv_str(g_mime_header_get_raw_value(h)), out);
        (void)buf_append_byte(out, '\n');
    }
    text_scan(j, buf_sv(out));
}

/* Root of a message: "1" for a single part, its children's numbers for a multipart. */
static void walk_root(struct walk *w, GMimeMessage *message, struct sv path, uint32_t depth)
{
    GMimeObject *root = g_mime_message_get_mime_part(message);
    if (!root)
        return;
    bool many = GMIME_IS_MULTIPART(root);
    walk_object(w, root, many ? path : child_path(w->j->a, path, 1), depth);
}

static void walk_nested(struct walk *w, GMimeMessagePart *part, struct sv path, uint32_t depth)
{
    GMimeMessage *message = g_mime_message_part_get_message(part);
    container_part(w, GMIME_OBJECT(part), path, depth, 0);
    if (!message)
        return;
    nested_headers(w->j, message);
    struct walk inner = *w;
    inner.in_message = true;
    walk_root(&inner, message, path, depth + 1);
}

static void walk_object(struct walk *w, GMimeObject *o, struct sv path, uint32_t depth)
{
    struct job *j = w->j;
    if (!o)
        return;
    if (depth > j->sc->s->content_max_depth) {
        job_limit(j, "MIME parts are nested more deeply than content.max_depth");
        j->recover = true;
        return;
    }
    if (j->mime_parts >= j->sc->s->content_max_parts) {
        job_limit(j, "more MIME parts than content.max_parts");
        j->recover = true;
        return;
    }
    j->mime_parts++;
    if (GMIME_IS_MULTIPART(o))
        walk_multipart(w, GMIME_MULTIPART(o), path, depth);
    else if (GMIME_IS_MESSAGE_PART(o))
        walk_nested(w, GMIME_MESSAGE_PART(o), path, depth);
    else if (GMIME_IS_PART(o))
        walk_part(w, o, path, depth);
}

/* NOLINTEND(misc-no-recursion) */

static GMimeMessage *parse(struct job *j, GMimeStream *stream)
{
    GMimeParser *parser = g_mime_parser_new_with_stream(stream);
    g_mime_parser_set_persist_stream(parser, TRUE);
    j->sc->warn = j;
    GMimeMessage *message = g_mime_parser_construct_message(parser, j->sc->options);
    j->sc->warn = NULL;
    g_object_unref(parser);
    return message;
}

void walk_message(struct job *j, struct sv message, struct sv path, uint32_t depth, bool nested)
{
    struct walk w = {.j = j, .message = message, .in_message = nested};
    /* A view over the caller's bytes: GMime reads from the array and never owns it. */
    GByteArray bytes = {.data = (guint8 *)(uintptr_t)message.p, .len = (guint)message.n};
    if (message.n > G_MAXINT32) {
        job_limit(j, "the message is too large");
        return;
    }
    GMimeStream *stream = g_mime_stream_mem_new_with_byte_array(&bytes);
    g_mime_stream_mem_set_owner(GMIME_STREAM_MEM(stream), FALSE);
    GMimeMessage *m = parse(j, stream);
    if (m) {
        if (nested)
            nested_headers(j, m);
        walk_root(&w, m, path, depth);
        g_object_unref(m);
    } else {
        j->structure |= PART_MALFORMED;
        j->recover = true;
    }
    g_object_unref(stream);
}
