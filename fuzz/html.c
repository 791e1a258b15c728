/* Fuzz: HTML to text, charsets and the normalised view. First byte chooses a charset. */
#include "fuzz.h"

#include "base/utf8.h"
#include "content/charset.h"
#include "content/html.h"
#include "content/normal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct charsets *cs;
    struct buf utf8, text, extra;
    size_t n = 0;

    if (!cs && charsets_new(&cs, NULL))
        abort();
    if (size == 0)
        return 0;
    while (charsets_names()[n])
        n++;
    buf_init(&utf8, 8u << 20);
    buf_init(&text, 8u << 20);
    buf_init(&extra, 8u << 20);
    (void)charset_to_utf8(cs, sv_str(charsets_names()[data[0] % n]),
                          sv_of((const char *)data + 1, size - 1), &utf8);
    if (!utf8_valid(buf_sv(&utf8)))
        abort(); /* the contract of charset_to_utf8 */
    html_to_text(buf_sv(&utf8), &text, &extra);
    (void)html_meta_charset(buf_sv(&utf8));
    size_t len = text_normalise(text.p, text.n);
    if (len > text.n)
        abort();
    buf_done(&utf8);
    buf_done(&text);
    buf_done(&extra);
    return 0;
}
