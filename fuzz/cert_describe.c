/* Describing a certificate and matching names against it: PEM, or DER when it does not look so. */
#include "fuzz.h"

#include "crypto/cert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    struct cert_info about;
    const uint8_t *p = data;
    arena_init(&a, 64 * 1024);
    if (cert_describe(sv_of((const char *)data, size), &a, &about, NULL) == ERR_OK) {
        (void)sv_eq(about.subject, about.issuer);
        (void)sv_find_byte(about.sans, ',');
    }
    X509 *x = d2i_X509(NULL, &p, (long)size);
    if (x) {
        (void)cert_covers(x, SV("mx.example.org"));
        (void)cert_covers(x, SV("."));
    }
    X509_free(x);
    arena_done(&a);
    return 0;
}
