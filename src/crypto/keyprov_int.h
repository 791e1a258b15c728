/* Shared by keyprov.c (keys) and keyprov_sign.c (signatures). */
#ifndef CRYPTO_KEYPROV_INT_H
#define CRYPTO_KEYPROV_INT_H

#include "crypto/keyprov.h"
#include <openssl/core.h>

#define KEYPROV_ID_MAX 64

struct keyprov {
    keyprov_sign_fn *sign;
    void *ctx;
    OSSL_PROVIDER *base, *own; /* loaded */
};
struct keyprov_key {
    int refs; /* key objects never leave their process's only thread */
    const char *type;
    EVP_PKEY *public_key;
    char id[KEYPROV_ID_MAX]; /* "" = public half only */
};

const struct keyprov *keyprov_remote(void);
void keyprov_key_free(void *keydata);
extern const OSSL_DISPATCH keyprov_ecdsa_functions[];
extern const OSSL_DISPATCH keyprov_rsa_functions[];

#endif
