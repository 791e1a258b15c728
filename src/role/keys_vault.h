/*
 * Everything that `keys` must not lose: private keys, master key, passwords, ticket keys. Kept in
 * memory that is locked, left out of core dumps and empty in forked children (what OpenSSL holds
 * itself lies in its locked secure heap).
 */
#ifndef ROLE_KEYS_VAULT_H
#define ROLE_KEYS_VAULT_H

#include "crypto/cert.h"
#include "role/keys_wire.h"

#define KEYS_SECRETS    64
#define KEYS_SECRET_MAX 512
#define KEYS_PEM_MAX    (32u * 1024) /* one key or one chain */

struct keys_vault;

/* out_locked: whether all of it could be locked into memory (RLIMIT_MEMLOCK). */
NODISCARD enum err keys_vault_new(struct keys_vault **out_v, bool *out_locked);
void keys_vault_free(struct keys_vault *v); /* wipes */

/* "key/ID" (PEM), "cert/ID" (PEM chain), "master" (32 bytes), "secret/NAME". A later value of the
 * same name replaces the former. ERR_NOTFOUND: a name that does not belong here. */
NODISCARD enum err keys_vault_put(struct keys_vault *v, struct sv name, struct sv data,
                                  struct errinfo *info);
/* Everything but GENERATE and IMPORT. asker was checked. now_ms: monotonic, for ticket rotation. */
NODISCARD enum err keys_vault_answer(struct keys_vault *v, const struct key_req *req,
                                     enum role asker, int64_t now_ms, struct buf *out_data);
/* For a child that needs none of it: private keys of OpenSSL are wiped too. */
void keys_vault_forget(struct keys_vault *v);

#endif
