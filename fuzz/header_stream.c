/* The first byte chooses the chunking; the rest is a message. Whatever the chunking, the result is
 * that of one piece, and without Bcc nothing is changed. */
#include "fuzz.h"

#include "codec/header.h"

#define SECTION_MAX 4096

static void require(bool ok)
{
    if (!ok)
        abort();
}

static enum err stream(struct sv in, size_t step, struct header_stream *h, struct buf *out)
{
    enum err e = ERR_OK;

    header_stream_init(h, SECTION_MAX, SV("me"));
    buf_init(out, 4U << 20);
    for (; in.n && !e; in = sv_skip(in, step))
        e = header_stream_feed(h, sv_take(in, step), out);
    return e ? e : header_stream_end(h, out);
}

static bool has_bcc(struct sv in)
{
    for (; in.n >= 3; in = sv_skip(in, 1))
        if (sv_starts_nocase(in, SV("bcc")))
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sv in = sv_of((const char *)data, size), rest;
    size_t step = in.n ? (size_t)(data[0] % 17) + 1 : 1;
    struct header_stream one, many;
    struct header_field f;
    struct buf a, b;

    in = sv_skip(in, 1);
    enum err ea = stream(in, SIZE_MAX, &one, &a), eb = stream(in, step, &many, &b);
    require(ea == eb && one.received == many.received && one.own_trace == many.own_trace &&
            one.too_large == many.too_large);
    if (ea == ERR_OK) {
        require(sv_eq(buf_sv(&a), buf_sv(&b)) && one.done == many.done);
        require(strcmp(one.subject, many.subject) == 0);
        require(strcmp(one.message_id, many.message_id) == 0);
        require(has_bcc(in) || sv_eq(buf_sv(&a), in));
    }
    header_stream_done(&one);
    header_stream_done(&many);
    buf_done(&a);
    buf_done(&b);
    for (rest = in; header_next(&rest, &f);)
        require(f.raw.n > 0);
    return 0;
}
