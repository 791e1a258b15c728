/*
 * See keys_wire.h.
 *
 * SECURITY: both sides parse what a less (server) or differently (client) trusted process wrote;
 * every length is checked against what is left.
 */
#include "role/keys_wire.h"

#define R(x) (1u << ROLE_##x)

/* Least privilege: only those who terminate TLS sign, only the owner of the spool unwraps its keys,
 * only the sender of mail learns passwords, and new keys come from the console or the CLI. */
bool keys_op_allowed(enum key_op op, enum role asker)
{
    unsigned allowed = 0;
    switch (op) {
    case KEY_OP_CERTS:
        allowed = R(SMTP) | R(WEB) | R(QUEUE) | R(CTL);
        break;
    case KEY_OP_SIGN:
    case KEY_OP_TICKET:
        allowed = R(SMTP) | R(WEB);
        break;
    case KEY_OP_WRAP:
    case KEY_OP_UNWRAP:
        allowed = R(QUEUE);
        break;
    case KEY_OP_SECRET:
        allowed = R(SMTP);
        break;
    case KEY_OP_GENERATE:
    case KEY_OP_IMPORT:
        allowed = R(WEB) | R(CTL);
        break;
    }
    return asker < ROLES && (allowed & (1u << asker)) != 0;
}

bool keys_id_valid(struct sv id)
{
    if (id.n == 0 || id.n > KEYS_ID_MAX || id.p[0] == '.' || id.p[0] == '-')
        return false;
    for (size_t i = 0; i < id.n; i++) {
        char c = id.p[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-')
            return false;
    }
    return true;
}

static void put_u32(struct buf *out, size_t n)
{
    for (int i = 0; i < 4; i++)
        (void)buf_append_byte(out, (char)(uint8_t)(n >> (8 * i)));
}

static void put_str(struct buf *out, struct sv v)
{
    put_u32(out, v.n);
    (void)buf_append_sv(out, v);
}

static bool take_str(struct sv *left, struct sv *out_v)
{
    size_t n = 0;
    if (left->n < 4)
        return false;
    for (int i = 0; i < 4; i++)
        n |= (size_t)(uint8_t)left->p[i] << (8 * i);
    struct sv rest = sv_skip(*left, 4);
    if (n > rest.n)
        return false;
    *out_v = sv_take(rest, n);
    *left = sv_skip(rest, n);
    return true;
}

void key_certs_put(struct buf *out, struct sv id, struct sv chain_pem)
{
    put_str(out, id);
    put_str(out, chain_pem);
}

enum err key_certs_get(struct sv data, struct arena *a, struct tls_identity **out_ids,
                       size_t *out_n)
{
    struct tls_identity *ids = ARENA_ARRAY(a, struct tls_identity, KEYS_IDENTITIES);
    size_t n = 0;
    if (!ids)
        return ERR_LIMIT;
    while (data.n) {
        if (n == KEYS_IDENTITIES || !take_str(&data, &ids[n].key_id) ||
            !take_str(&data, &ids[n].chain_pem))
            return ERR_SYNTAX;
        n++;
    }
    *out_ids = ids;
    *out_n = n;
    return ERR_OK;
}

void key_import_put(struct buf *out, struct sv password, struct sv blob)
{
    put_str(out, password);
    (void)buf_append_sv(out, blob);
}

enum err key_import_get(struct sv data, struct sv *out_password, struct sv *out_blob)
{
    struct sv password;
    if (!take_str(&data, &password))
        return ERR_SYNTAX;
    *out_password = password;
    *out_blob = data;
    return ERR_OK;
}

enum err keys_error_of(struct sv text)
{
    if (sv_empty(text))
        return ERR_OK;
    for (int code = ERR_LIMIT; code <= ERR_BUG; code++)
        if (sv_eq(text, sv_str(err_name((enum err)code))))
            return (enum err)code;
    return ERR_BUG;
}
