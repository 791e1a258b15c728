/* Import of a key with its chain: first byte = length of the password, then password, then file. */
#include "fuzz.h"

#include "crypto/cert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sv left = sv_of((const char *)data, size);
    if (size < 1)
        return 0;
    size_t n = data[0] % 101;
    struct sv password = sv_take(sv_skip(left, 1), n);
    struct sv blob = sv_skip(left, 1 + n);
    struct buf key, chain;
    struct errinfo info = {0};
    buf_init(&key, 64 * 1024);
    buf_init(&chain, 64 * 1024);
    enum err err = cert_import(NULL, blob, password, &key, &chain, &info);
    /* what is accepted loads again, what is refused says why and leaves nothing */
    EVP_PKEY *pkey = NULL;
    struct arena a;
    struct cert_info about;
    arena_init(&a, 64 * 1024);
    if (err ? (key.n || chain.n || !info.text[0])
            : (cert_load_key(buf_sv(&key), &pkey, NULL) ||
               cert_describe(buf_sv(&chain), &a, &about, NULL)))
        abort();
    EVP_PKEY_free(pkey);
    arena_done(&a);
    buf_done(&key);
    buf_done(&chain);
    return 0;
}
