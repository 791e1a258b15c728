/* The bootstrap file: never a crash; what is refused has a sentence, what is taken has an address.
 */
#include "fuzz.h"

#include "role/bootstrap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bootstrap b;
    struct errinfo info = {0};
    enum err err = bootstrap_parse(sv_of((const char *)data, size), "fuzz", &b, &info);

    if (err != ERR_OK && !info.text[0])
        abort();
    if (err == ERR_OK && (b.n_listeners == 0 || !b.hostname[0] || b.data_dir[0] != '/'))
        abort();
    return 0;
}
