/* Scalar settings: everything here is driven by the table SETTINGS of model/settings.h. */
#include "base/utf8.h"
#include "codec/mailaddr.h"
#include "core/compile.h"
#include "core/names.h"

#define ROW_U(file, key, min, max, def, doc)                                                       \
    {#file, #key, doc,  SETTING_NUMBER, min,                                                       \
     max,   def,  NULL, NULL,           offsetof(struct settings, file##_##key)},
#define ROW_B(file, key, def, doc)                                                                 \
    {#file, #key, doc,  SETTING_BOOL, 0,                                                           \
     1,     def,  NULL, NULL,         offsetof(struct settings, file##_##key)},
#define ROW_T(file, key, maxlen, def, doc)                                                         \
    {#file,  #key, doc, SETTING_TEXT, 0,                                                           \
     maxlen, 0,    def, NULL,         offsetof(struct settings, file##_##key)},
#define ROW_E(file, key, table, def, doc)                                                          \
    {#file, #key, doc,  SETTING_CHOICE, 0,                                                         \
     0,     def,  NULL, &names_##table, offsetof(struct settings, file##_##key)},

const struct setting settings_table[] = {SETTINGS(ROW_U, ROW_B, ROW_T, ROW_E)};
const size_t settings_table_n = ARRAY_LEN(settings_table);

static uint32_t get_u32(const struct setting *row, const struct settings *s)
{
    uint32_t v;

    memcpy(&v, (const char *)s + row->offset, sizeof(v));
    return v;
}

static bool get_bool(const struct setting *row, const struct settings *s)
{
    bool v;

    memcpy(&v, (const char *)s + row->offset, sizeof(v));
    return v;
}

static struct sv get_text(const struct setting *row, const struct settings *s)
{
    struct sv v;

    memcpy(&v, (const char *)s + row->offset, sizeof(v));
    return v;
}

static void put(const struct setting *row, struct settings *s, const void *value, size_t n)
{
    memcpy((char *)s + row->offset, value, n);
}

void compile_scalar_defaults(struct settings *s)
{
    for (size_t i = 0; i < settings_table_n; i++) {
        const struct setting *row = &settings_table[i];
        struct sv text = sv_str(row->def_text);
        bool on = row->def != 0;
        switch (row->kind) {
        case SETTING_NUMBER:
        case SETTING_CHOICE:
            put(row, s, &row->def, sizeof(row->def));
            break;
        case SETTING_BOOL:
            put(row, s, &on, sizeof(on));
            break;
        case SETTING_TEXT:
            put(row, s, &text, sizeof(text));
            break;
        }
    }
}

static void set_number(struct compile *c, const struct setting *row, const struct conf_item *item)
{
    uint64_t v;

    if (!sv_to_u64(item->value, row->min, row->max, &v)) {
        compile_error(c, item->line, item->key, "\"%.*s\" is not a number from %u to %u",
                      SV_ARG(item->value), (unsigned)row->min, (unsigned)row->max);
        return;
    }
    uint32_t n = (uint32_t)v;
    put(row, c->s, &n, sizeof(n));
}

static void set_text(struct compile *c, const struct setting *row, const struct conf_item *item)
{
    if (item->value.n > row->max) {
        compile_error(c, item->line, item->key, "text is longer than %u bytes", (unsigned)row->max);
        return;
    }
    put(row, c->s, &item->value, sizeof(item->value));
}

static void set_scalar(struct compile *c, const struct setting *row, const struct conf_item *item)
{
    uint32_t choice;
    bool on;

    switch (row->kind) {
    case SETTING_NUMBER:
        set_number(c, row, item);
        break;
    case SETTING_BOOL:
        if (value_bool(c, item, &on))
            put(row, c->s, &on, sizeof(on));
        break;
    case SETTING_TEXT:
        set_text(c, row, item);
        break;
    case SETTING_CHOICE:
        if (value_choice(c, item->line, item->key, row->choices, item->value, &choice))
            put(row, c->s, &choice, sizeof(choice));
        break;
    }
}

static const struct setting *find_row(struct sv file, struct sv key)
{
    for (size_t i = 0; i < settings_table_n; i++)
        if (sv_eq(sv_str(settings_table[i].file), file) &&
            sv_eq(sv_str(settings_table[i].key), key))
            return &settings_table[i];
    return NULL;
}

const struct setting *setting_find(struct sv dotted)
{
    struct sv file = sv_cut(&dotted, '.');

    return find_row(file, dotted);
}

bool scalar_file_known(struct sv section)
{
#define FILE_IS(name, doc) || sv_eq(section, SV(#name))
    return false SETTINGS_FILES(FILE_IS);
#undef FILE_IS
}

static void unknown_key(struct compile *c, struct sv section, const struct conf_item *item)
{
    const char *names[64];
    size_t n = 0;

    for (size_t i = 0; i < settings_table_n && n < ARRAY_LEN(names); i++)
        if (sv_eq(sv_str(settings_table[i].file), section))
            names[n++] = settings_table[i].key;
    const char *hint = compile_hint(c, item->key, names, n);
    for (size_t i = 0; !*hint && i < settings_table_n; i++)
        if (sv_eq(sv_str(settings_table[i].key), item->key))
            hint = arena_printf(c->a, "; it belongs into %s.conf", settings_table[i].file).p;
    compile_error(c, item->line, item->key, "unknown key \"%.*s\"%s", SV_ARG(item->key),
                  hint ? hint : "");
}

void compile_scalars(struct compile *c, struct sv section, struct sv text)
{
    struct conf r = {.c = c, .left = text};
    struct conf_item item;
    bool *seen = compile_array(c, settings_table_n, sizeof(bool));

    if (!c->lines)
        c->lines = compile_array(c, settings_table_n, sizeof(*c->lines));
    while (seen && c->lines && conf_next(&r, &item)) {
        const struct setting *row = item.section ? NULL : find_row(section, item.key);
        if (item.section) {
            compile_error(c, item.line, SV_NULL, "this file has no sections, only keys");
        } else if (!row) {
            unknown_key(c, section, &item);
        } else if (seen[row - settings_table]) {
            compile_error(c, item.line, item.key, "stands twice");
        } else {
            seen[row - settings_table] = true;
            c->lines[row - settings_table] = item.line;
            set_scalar(c, row, &item);
        }
    }
}

/* ---- checks that one row cannot express ---- */

static uint32_t line_of(const struct compile *c, const char *dotted)
{
    const struct setting *row = setting_find(sv_str(dotted));

    return c->lines && row ? c->lines[row - settings_table] : 0;
}

/* Of two keys that do not fit, the one that stands there is to blame. */
static uint32_t line_of_pair(const struct compile *c, const char *key, const char *other)
{
    uint32_t line = line_of(c, key);

    return line ? line : line_of(c, other);
}

static void check_address(struct compile *c, const char *dotted)
{
    const struct setting *row = setting_find(sv_str(dotted));
    struct sv v = get_text(row, c->s);

    if (!v.n || (mailaddr_valid(v) && mailaddr_domain(v, (char[256]){0}).n))
        return;
    c->file = arena_printf(c->a, "%s.conf", row->file);
    compile_error(c, line_of(c, dotted), sv_str(row->key), "\"%.*s\" is not a mail address",
                  SV_ARG(v));
}

/* "IP", "IP:port" or "[IPv6]:port" */
static bool server_valid(struct sv text)
{
    struct ip ip;
    uint64_t port;
    size_t colon = sv_rfind_byte(text, ':');

    if (ip_parse(text, &ip))
        return true;
    if (colon == SIZE_MAX || !sv_to_u64(sv_skip(text, colon + 1), 1, 65535, &port))
        return false;
    struct sv host = sv_take(text, colon);
    if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        return ip_parse(sv_take(sv_skip(host, 1), host.n - 2), &ip) && !ip_is_v4(&ip);
    return ip_parse(host, &ip) && ip_is_v4(&ip);
}

static void check_dns(struct compile *c)
{
    struct sv rest = c->s->dns_servers;

    c->file = SV("dns.conf");
    while (rest.n) {
        struct sv one = sv_trim(sv_cut(&rest, ','));
        if (!server_valid(one))
            compile_error(c, line_of(c, "dns.servers"), SV("servers"),
                          "\"%.*s\" is not an address with port", SV_ARG(one));
    }
}

void compile_scalar_checks(struct compile *c)
{
    const struct settings *s = c->s;

    check_address(c, "general.administrator_address");
    check_address(c, "general.sender_address");
    check_address(c, "delivery.ndr_failure_address");
    check_dns(c);
    c->file = SV("general.conf");
    if (s->general_fqdn.n && !domain_valid(s->general_fqdn))
        compile_error(c, line_of(c, "general.fqdn"), SV("fqdn"), "\"%.*s\" is not a host name",
                      SV_ARG(s->general_fqdn));
    c->file = SV("delivery.conf");
    if (s->delivery_max_retry_min < s->delivery_retry_interval_min)
        compile_error(c, line_of_pair(c, "delivery.max_retry_min", "delivery.retry_interval_min"),
                      SV("max_retry_min"), "must not be less than retry_interval_min (%u)",
                      (unsigned)s->delivery_retry_interval_min);
    c->file = SV("msg.conf");
    if (s->msg_max_session_kb < s->msg_max_kb)
        compile_error(c, line_of_pair(c, "msg.max_session_kb", "msg.max_kb"), SV("max_session_kb"),
                      "must not be less than max_kb (%u)", (unsigned)s->msg_max_kb);
}

/* ---- canonical text ---- */

void setting_format(const struct setting *row, const struct settings *s, struct buf *out)
{
    switch (row->kind) {
    case SETTING_NUMBER:
        (void)buf_printf(out, "%u", (unsigned)get_u32(row, s));
        break;
    case SETTING_BOOL:
        (void)buf_printf(out, "%s", get_bool(row, s) ? "yes" : "no");
        break;
    case SETTING_TEXT:
        (void)buf_append_sv(out, get_text(row, s));
        break;
    case SETTING_CHOICE:
        (void)buf_printf(out, "%s", name_of_value(row->choices, get_u32(row, s)));
        break;
    }
}

void setting_range_format(const struct setting *row, struct buf *out)
{
    const char *names[16];
    size_t n;

    switch (row->kind) {
    case SETTING_NUMBER:
        (void)buf_printf(out, "%u-%u; default %u", (unsigned)row->min, (unsigned)row->max,
                         (unsigned)row->def);
        break;
    case SETTING_BOOL:
        (void)buf_printf(out, "yes or no; default %s", row->def ? "yes" : "no");
        break;
    case SETTING_TEXT:
        (void)buf_printf(out, "text of at most %u bytes; default %s", (unsigned)row->max,
                         *row->def_text ? row->def_text : "empty");
        break;
    case SETTING_CHOICE:
        n = name_available(row->choices, names);
        for (size_t i = 0; i < n; i++)
            (void)buf_printf(out, "%s%s", i ? ", " : "", names[i]);
        (void)buf_printf(out, "; default %s", name_of_value(row->choices, row->def));
        break;
    }
}

void export_scalars(const struct settings *s, const char *section, const char *heading,
                    struct buf *out)
{
    (void)buf_printf(out, "# %s\n", heading);
    for (size_t i = 0; i < settings_table_n; i++) {
        const struct setting *row = &settings_table[i];
        if (!sv_eq(sv_str(row->file), sv_str(section)))
            continue;
        (void)buf_printf(out, "\n# %s (", row->doc);
        setting_range_format(row, out);
        (void)buf_printf(out, ")\n%s =", row->key);
        size_t before = out->n;
        (void)buf_append_byte(out, ' ');
        setting_format(row, s, out);
        if (out->n == before + 1)
            out->n = before; /* no space behind "key =" of an empty text */
        (void)buf_append_byte(out, '\n');
    }
}
