/* What `keys` and its clients parse of each other beyond the message table. */
#include "fuzz.h"

#include "role/keys_child.h"
#include "role/keys_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sv in = sv_of((const char *)data, size), password, blob;
    struct tls_identity *ids = NULL;
    struct keys_made made;
    struct arena a;
    size_t n = 0;
    arena_init(&a, 64 * 1024);
    if (key_certs_get(in, &a, &ids, &n) == ERR_OK && n > KEYS_IDENTITIES)
        abort();
    if (key_import_get(in, &password, &blob) == ERR_OK && password.n + blob.n + 4 != size)
        abort();
    if (keys_child_answer(in, &made) == ERR_OK &&
        made.text.n + made.key_pem.n + made.chain_pem.n + 13 != size)
        abort();
    (void)keys_id_valid(in);
    (void)keys_error_of(in);
    arena_done(&a);
    return 0;
}
