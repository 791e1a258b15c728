/* What `keys` and its clients agree on besides model/messages.h: who may ask what, the certificate
 * list, the form of an import. */
#ifndef ROLE_KEYS_WIRE_H
#define ROLE_KEYS_WIRE_H

#include "crypto/keyprov.h"
#include "crypto/tls.h"
#include "model/messages.h"

#define KEYS_ID_MAX      48 /* [a-z0-9._-] */
#define KEYS_IDENTITIES  16
#define KEYS_TICKET_SIZE 160 /* current and previous, 80 bytes each */

bool keys_op_allowed(enum key_op op, enum role asker);
bool keys_id_valid(struct sv id);

/* Data of the answer to KEY_OP_CERTS: in order of preference (ECDSA first, RSA second). */
void key_certs_put(struct buf *out, struct sv id, struct sv chain_pem);
/* Views into data; the array lives in the arena. */
NODISCARD enum err key_certs_get(struct sv data, struct arena *a, struct tls_identity **out_ids,
                                 size_t *out_n);

/* Data of KEY_OP_IMPORT: u32 length of the password, password, PEM or PKCS#12 bytes. */
void key_import_put(struct buf *out, struct sv password, struct sv blob);
NODISCARD enum err key_import_get(struct sv data, struct sv *out_password, struct sv *out_blob);

/* An error travels as err_name text, "" = ERR_OK; an unknown name is ERR_BUG. */
enum err keys_error_of(struct sv text);

#endif
