/* Fuzz: a whole message through the scan, by GMime and by the fast path. */
#include "fuzz.h"

#include "content/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct phrase phrases[] = {{SV("p"), SV("confidential")}};
    static const struct settings settings = {.content_max_depth = 20,
                                             .content_max_parts = 100,
                                             .content_max_text_kb = 1024,
                                             .phrases = phrases,
                                             .n_phrases = 1};
    static struct scanner *sc;
    struct arena a;
    struct facts f;

    if (!sc && (scan_new(&sc, NULL) || scan_use(sc, &settings, NULL)))
        abort();
    arena_init(&a, 16u << 20);
    (void)scan_is_simple(sv_of((const char *)data, size));
    scan_message(sc, sv_of((const char *)data, size), &a, &f);
    if (f.scan != SCAN_OK && f.scan != SCAN_LIMIT)
        abort();
    if (f.scan == SCAN_LIMIT && f.scan_error.n == 0)
        abort();
    for (uint32_t i = 0; i < f.n_hits; i++) {
        if (f.hits[i].part >= f.n_parts || f.hits[i].unique > f.hits[i].count)
            abort();
    }
    arena_done(&a);
    return 0;
}
