/*
 * Keys on disk, read and written by the supervisor only: it makes them at the first start, reads
 * them before `keys` is locked, and keeps what `keys` makes later.
 *
 *   DATA/keys/ID.key    0600  private key, PEM       -> BYTES "key/ID"
 *   DATA/keys/ID.crt    0644  certificate chain, PEM -> BYTES "cert/ID"
 *   DATA/keys/master.key 0600 32 random bytes        -> BYTES "master"
 *   DATA/secrets/NAME   0600  password of a smart host, one line -> BYTES "secret/NAME"
 */
#ifndef ROLE_KEYS_FILES_H
#define ROLE_KEYS_FILES_H

#include "base/buf.h"

/* Makes what is missing: directory (0700), master key, and, when there is no identity at all,
 * self-signed "default-ec" and "default-rsa" for hostname. Files are complete and synced before
 * they have their name. Run as root it gives them to the owner of data_dir. */
NODISCARD enum err keys_first_start(struct sv data_dir, struct sv hostname, struct errinfo *info);

/* One BYTES message to push to `keys`; data is wiped after the call. */
typedef enum err keys_push_fn(void *ctx, struct sv name, struct sv data);
/* Pushes every file in order of its name. A private file that others may read, or that cannot be
 * read at all, is an error (info.file names it). */
NODISCARD enum err keys_load_files(struct sv data_dir, keys_push_fn *push, void *ctx,
                                   struct errinfo *info);
/* Keeps BYTES that came from `keys` ("key/ID", "cert/ID"); the former file stays as NAME.old. */
NODISCARD enum err keys_keep_file(struct sv data_dir, struct sv name, struct sv data,
                                  struct errinfo *info);

#endif
