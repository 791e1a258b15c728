/* See smtp_secret.h. All requests are synchronous with a deadline (role/keyclient.h): signing is
 * fast, the others are seldom. */
#include "role/smtp_secret.h"

#include "role/keyclient.h"
#include "role/smtp_priv.h"

enum err smtp_secret(struct smtp *m, struct sv name, struct buf *out)
{
    return m->keys ? keyclient_secret(m->keys, name, out) : ERR_NOTFOUND;
}

void smtp_keys_channel(struct smtp *m, int fd)
{
    if (m->keys) {
        keyclient_replace(m->keys, fd);
        m->certs_due = true;
        return;
    }
    if (keyclient_new(fd, &m->keys))
        m->keys = NULL;
    m->certs_due = true;
    struct errinfo info = {0};
    if (m->tls_client && smtp_keys_start(m, &info)) /* it was not there when we started */
        log_msg(LOG_ERROR, "alarm", "no TLS for clients: %s", info.text);
}

enum err smtp_keys_start(struct smtp *m, struct errinfo *info)
{
    return m->keys ? keyprov_init(keyclient_sign, m->keys, info)
                   : err_set(info, ERR_NOTFOUND, "no channel to keys");
}

/* New identities; the old ones stay in use when `keys` does not answer. */
bool smtp_keys_certs(struct smtp *m)
{
    struct arena mem;
    struct tls_identity *ids = NULL;
    size_t n = 0;

    arena_init(&mem, 1024u * 1024);
    if (!m->keys || keyclient_certs(m->keys, &mem, &ids, &n) || n == 0) {
        arena_done(&mem);
        return false;
    }
    arena_done(&m->ids_mem);
    m->ids_mem = mem;
    m->identities = ids;
    m->n_identities = n;
    m->certs_due = false;
    return true;
}

/* True when the ticket keys are new. */
bool smtp_keys_ticket(struct smtp *m)
{
    uint8_t keys[KEYS_TICKET_SIZE];

    _Static_assert(sizeof(keys) == sizeof(m->ticket_keys), "ticket keys");
    if (!m->keys || keyclient_ticket(m->keys, keys))
        return false;
    bool fresh = memcmp(keys, m->ticket_keys, sizeof(keys)) != 0;
    memcpy(m->ticket_keys, keys, sizeof(keys));
    explicit_bzero(keys, sizeof(keys));
    return fresh;
}

void smtp_keys_stop(struct smtp *m)
{
    explicit_bzero(m->ticket_keys, sizeof(m->ticket_keys));
    arena_done(&m->ids_mem);
    if (m->keys)
        keyclient_free(m->keys);
    m->keys = NULL;
}
