/* Frames between processes: what decodes must encode to the same bytes again. */
#include "fuzz.h"

#include "model/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sv frame = sv_of((const char *)data, size);
    struct arena arena;
    struct buf again, text;
    union message_body body;
    enum message m = MSG_NONE;

    arena_init(&arena, 16U << 20);
    buf_init(&again, 64U << 20);
    buf_init(&text, 8U << 20);
    if (message_decode(frame, &arena, &m, &body) == ERR_OK) {
        if (message_encode(m, &body.HELLO, &again) || !sv_eq(buf_sv(&again), frame))
            abort();
        message_print(m, &body, &text);
    }
    buf_done(&text);
    buf_done(&again);
    arena_done(&arena);
    return 0;
}
