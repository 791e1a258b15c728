#include "core/names.h"
#include "core/policy.h"

#define TABLE(what, rows)                                                                          \
    {                                                                                              \
        what, rows, ARRAY_LEN(rows)                                                                \
    }

static const struct name_row method_rows[] = {
    {"tls", METHOD_TLS, true},
    {"service", METHOD_SERVICE, false},
    {"thirdparty", METHOD_THIRDPARTY, false},
    {"portal", METHOD_PORTAL, false},
};
static const struct name_row backup_rows[] = {
    {"none", METHOD_NONE, true},
    {"service", METHOD_SERVICE, false},
    {"thirdparty", METHOD_THIRDPARTY, false},
    {"portal", METHOD_PORTAL, false},
};
/* Only levels that demand TLS: opportunistic would betray a message marked Encrypt. */
static const struct name_row tls_level_rows[] = {
    {"encrypt", TLS_LEVEL_ENCRYPT, true},
    {"encrypt_cn", TLS_LEVEL_ENCRYPT_CN, true},
    {"verify", TLS_LEVEL_VERIFY, true},
    {"verify_cn", TLS_LEVEL_VERIFY_CN, true},
};
static const struct name_row tls_strength_rows[] = {
    {"medium", TLS_STRENGTH_MEDIUM, true},
    {"high", TLS_STRENGTH_HIGH, true},
};
static const struct name_row tls_version_rows[] = {
    {"tls1.2", 0x0303, true},
    {"tls1.3", 0x0304, true},
};
static const struct name_row relay_rows[] = {
    {"trusted", RELAY_TRUSTED, true},
    {"all_internal", RELAY_ALL_INTERNAL, false},
};
static const struct name_row dlp_mode_rows[] = {
    {"monitor", DLP_MONITOR, true},
    {"enforce", DLP_ENFORCE, true},
};
static const struct name_row exception_action_rows[] = {
    {"hold", EXCEPTION_HOLD, true},
    {"encrypt", EXCEPTION_ENCRYPT, true},
};
static const struct name_row action_rows[] = {
    {"permit", ACTION_PERMIT, true},
    {"encrypt", ACTION_ENCRYPT, true},
    {"drop_attachments", ACTION_DROP_ATTACHMENTS, false},
    {"quarantine", ACTION_QUARANTINE, true},
};
static const struct name_row severity_rows[] = {
    {"low", SEVERITY_LOW, true},
    {"medium", SEVERITY_MEDIUM, true},
    {"high", SEVERITY_HIGH, true},
};
static const struct name_row direction_rows[] = {
    {"inbound", DIRECTION_INBOUND, true},
    {"outbound", DIRECTION_OUTBOUND, true},
    {"internal", DIRECTION_INTERNAL, true},
    {"relay", DIRECTION_RELAY, false},
};

const struct name_table names_method = TABLE("method", method_rows);
const struct name_table names_backup = TABLE("backup", backup_rows);
const struct name_table names_tls_level = TABLE("level", tls_level_rows);
const struct name_table names_tls_strength = TABLE("strength", tls_strength_rows);
const struct name_table names_tls_version = TABLE("version", tls_version_rows);
const struct name_table names_relay = TABLE("mode", relay_rows);
const struct name_table names_dlp_mode = TABLE("mode", dlp_mode_rows);
const struct name_table names_exception_action = TABLE("action", exception_action_rows);
const struct name_table names_action = TABLE("action", action_rows);
const struct name_table names_severity = TABLE("severity", severity_rows);
const struct name_table names_direction = TABLE("direction", direction_rows);

const struct name_row *name_row_of(const struct name_table *t, struct sv name)
{
    for (size_t i = 0; i < t->n; i++)
        if (sv_eq(sv_str(t->rows[i].name), name))
            return &t->rows[i];
    return NULL;
}

const char *name_of_value(const struct name_table *t, uint32_t value)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->rows[i].value == value)
            return t->rows[i].name;
    return "unknown";
}

size_t name_available(const struct name_table *t, const char **out_names)
{
    size_t n = 0;

    for (size_t i = 0; i < t->n; i++)
        if (t->rows[i].available)
            out_names[n++] = t->rows[i].name;
    return n;
}

const char *action_name(uint8_t a)
{
    return name_of_value(&names_action, a);
}

const char *severity_name(uint8_t s)
{
    return name_of_value(&names_severity, s);
}

const char *method_name(uint8_t m)
{
    return m == METHOD_NONE ? "none" : name_of_value(&names_method, m);
}

const char *direction_name(uint8_t d)
{
    return name_of_value(&names_direction, d);
}

const char *tls_level_name(uint8_t l)
{
    if (l == TLS_LEVEL_OFF)
        return "off";
    if (l == TLS_LEVEL_OPPORTUNISTIC)
        return "opportunistic";
    return name_of_value(&names_tls_level, l);
}

const char *hold_queue_name(uint8_t q)
{
    static const char *const names[] = {
        [HOLD_NONE] = "none",
        [HOLD_EXCEPTION] = "exception",
        [HOLD_DATA_SECURITY] = "data-security",
        [HOLD_ENCRYPTION_FAIL] = "encryption-fail",
        [HOLD_ADMIN] = "admin",
    };

    return q < ARRAY_LEN(names) ? names[q] : "unknown";
}

const char *failure_name(uint8_t f)
{
    static const char *const names[] = {
        [FAILURE_NONE] = "none",
        [FAILURE_DNS_TEMP] = "dns_temporary",
        [FAILURE_DNS_PERM] = "dns_permanent",
        [FAILURE_CONNECT] = "connect",
        [FAILURE_TLS_NOT_OFFERED] = "tls_not_offered",
        [FAILURE_TLS_REFUSED] = "tls_refused",
        [FAILURE_TLS_HANDSHAKE] = "tls_handshake",
        [FAILURE_TLS_WEAK] = "tls_weak",
        [FAILURE_TLS_CERT] = "tls_certificate",
        [FAILURE_SMTP_TEMP] = "smtp_temporary",
        [FAILURE_SMTP_PERM] = "smtp_permanent",
        [FAILURE_PROTOCOL] = "protocol",
        [FAILURE_TIMEOUT] = "timeout",
        [FAILURE_SIZE] = "size",
        [FAILURE_8BIT] = "eight_bit",
        [FAILURE_AUTH] = "auth",
        [FAILURE_CORRUPT] = "corrupt",
        [FAILURE_INTERNAL] = "internal",
    };

    return f < ARRAY_LEN(names) ? names[f] : "unknown";
}
