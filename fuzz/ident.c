/* Fuzz: identifier scanner and key phrases over arbitrary bytes. */
#include "fuzz.h"

#include "content/ident.h"
#include "content/phrase.h"

static void on_ident(void *ctx, enum ident kind, struct sv digits)
{
    (void)ctx;
    bool card = kind == IDENT_CREDIT_CARD;
    if (card ? card_check(digits) == CARD_NO : !ssn_check(digits))
        abort(); /* only valid numbers are reported */
}

static void on_phrase(void *ctx, uint32_t index, struct sv as_written)
{
    (void)ctx;
    if (index >= 3 || as_written.n == 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct phrase list[] = {
        {SV("a"), SV("top secret")}, {SV("b"), SV("secret")}, {SV("c"), SV("\xc3\xa9t\xc3\xa9")}};
    static struct phrases *ph;
    struct sv text = sv_of((const char *)data, size);

    if (!ph && phrases_new(list, 3, &ph, NULL))
        abort();
    ident_scan(text, on_ident, NULL);
    phrases_scan(ph, text, on_phrase, NULL);
    return 0;
}
