/*
 * The bootstrap file: see bootstrap.h. bootstrap_scan.c has checked the structure before libConfuse
 * reads the values; each value is then checked here, so that every mistake has file, line, key and
 * where possible the word that was meant.
 */
#include "role/bootstrap_int.h"

#include "base/near.h"

#include <confuse.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum key_index {
    K_HOSTNAME,
    K_DATA_DIR,
    K_USER,
    K_DATABASE,
    K_WORKERS,
    K_SANDBOX,
    K_LOG_FORMAT,
    K_LOG_LEVEL,
    K_LISTEN, /* first of LISTEN_KINDS */
    K_COUNT = K_LISTEN + LISTEN_KINDS
};

const struct bootstrap_key bootstrap_keys[] = {
    [K_HOSTNAME] = {"", "hostname", false},
    [K_DATA_DIR] = {"", "data_dir", false},
    [K_USER] = {"", "user", false},
    [K_DATABASE] = {"", "database", false},
    [K_WORKERS] = {"", "workers", false},
    [K_SANDBOX] = {"", "sandbox", false},
    [K_LOG_FORMAT] = {"log", "format", false},
    [K_LOG_LEVEL] = {"log", "level", false},
    [K_LISTEN + LISTEN_SMTP] = {"listen", "smtp", true},
    [K_LISTEN + LISTEN_SUBMISSION] = {"listen", "submission", true},
    [K_LISTEN + LISTEN_SUBMISSIONS] = {"listen", "submissions", true},
    [K_LISTEN + LISTEN_INTERNAL] = {"listen", "internal", true},
    [K_LISTEN + LISTEN_HTTPS] = {"listen", "https", true},
};
const size_t bootstrap_n_keys = ARRAY_LEN(bootstrap_keys);
_Static_assert(ARRAY_LEN(bootstrap_keys) == K_COUNT, "every key has a row");
_Static_assert(K_COUNT <= BOOTSTRAP_ENTRIES_MAX, "lines fit");

const char *listen_kind_name(enum listen_kind kind)
{
    return bootstrap_keys[K_LISTEN + kind].name;
}

/* What the value checks share. */
struct reading {
    const char *file;
    struct bootstrap_lines lines;
    struct bootstrap *b;
    struct errinfo *info;
};

static enum err bad(const struct reading *r, int key, const char *text)
{
    return bootstrap_fail(r->info, r->file, r->lines.line[key], bootstrap_keys[key].name, "%s",
                          text);
}

/* One of a few words; *out_index untouched when the key is not set. */
static enum err choose(const struct reading *r, int key, const char *value,
                       const char *const *words, size_t n, size_t *out_index)
{
    if (!value)
        return ERR_OK;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(value, words[i]) == 0) {
            *out_index = i;
            return ERR_OK;
        }
    }
    const char *near = near_word(sv_str(value), words, n);
    char all[96] = "";
    size_t used = 0;
    for (size_t i = 0; i < n && used < sizeof(all); i++)
        used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i ? ", " : "", words[i]);
    return bootstrap_fail(r->info, r->file, r->lines.line[key], bootstrap_keys[key].name,
                          near ? "\"%.40s\" is not one of %s; did you mean \"%s\"?"
                               : "\"%.40s\" is not one of %s",
                          value, all, near ? near : "");
}

/* ---- values ---- */

static bool is_label_byte(char c, bool edge)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c == '-' && !edge);
}

/* RFC 1123 2.1: letters, digits, hyphens; labels of 1 to 63; at most 253; not an address. */
static bool is_hostname(struct sv name)
{
    bool letter = false;

    if (name.n == 0 || name.n > 253)
        return false;
    for (struct sv rest = name; rest.p;) {
        struct sv label = sv_cut(&rest, '.');
        if (label.n == 0 || label.n > 63)
            return false;
        for (size_t i = 0; i < label.n; i++) {
            if (!is_label_byte(label.p[i], i == 0 || i + 1 == label.n))
                return false;
            letter = letter || label.p[i] > '9';
        }
    }
    return letter;
}

static enum err check_hostname(const struct reading *r, const char *v)
{
    if (!v)
        return bad(r, K_HOSTNAME, "is missing: the full host name of this gateway");
    if (!is_hostname(sv_str(v)))
        return bad(r, K_HOSTNAME, "is not a host name, such as \"mx1.example.org\"");
    (void)snprintf(r->b->hostname, sizeof(r->b->hostname), "%s", v);
    return ERR_OK;
}

static enum err check_data_dir(const struct reading *r, const char *v)
{
    struct sv dir = sv_str(v);

    if (!v)
        return bad(r, K_DATA_DIR, "is missing: the directory of mail queue, settings and keys");
    while (dir.n > 1 && dir.p[dir.n - 1] == '/')
        dir.n--;
    if (dir.n < 2 || dir.p[0] != '/')
        return bad(r, K_DATA_DIR, "must be an absolute path, such as \"/var/lib/postseal\"");
    /* control sockets live beneath, and sun_path holds 107 bytes */
    if (dir.n > 90)
        return bad(r, K_DATA_DIR, "is too long (90 bytes at most)");
    if (sv_find(dir, SV("/..")) != SIZE_MAX)
        return bad(r, K_DATA_DIR, "must not contain \"..\"");
    (void)snprintf(r->b->data_dir, sizeof(r->b->data_dir), "%.*s", (int)dir.n, dir.p);
    return ERR_OK;
}

static enum err check_database(const struct reading *r, const char *v)
{
    struct sv url = sv_str(v);

    if (!v) {
        (void)snprintf(r->b->database, sizeof(r->b->database), "sqlite:%s/db/postseal.db",
                       r->b->data_dir);
        return ERR_OK;
    }
    if (!sv_starts(url, SV("sqlite:/")) || url.n < 9)
        return bad(r, K_DATABASE, "must be \"sqlite:/ABSOLUTE/PATH\"");
    if (url.n > 300)
        return bad(r, K_DATABASE, "is too long (300 bytes at most)");
    (void)snprintf(r->b->database, sizeof(r->b->database), "%s", v);
    return ERR_OK;
}

static enum err check_user(const struct reading *r, const char *v)
{
    struct sv user = sv_str(v ? v : "postseal");

    if (user.n == 0 || user.n > 32)
        return bad(r, K_USER, "is not a user name");
    for (size_t i = 0; i < user.n; i++)
        if (!is_label_byte(user.p[i], i == 0) && user.p[i] != '_' && user.p[i] != '.')
            return bad(r, K_USER, "is not a user name");
    (void)snprintf(r->b->user, sizeof(r->b->user), "%s", user.p);
    return ERR_OK;
}

static enum err check_workers(const struct reading *r, const char *v)
{
    uint64_t n = 0;

    if (v && !sv_to_u64(sv_str(v), 1, 64, &n))
        return bad(r, K_WORKERS, "must be a number from 1 to 64");
    r->b->workers = (uint8_t)n;
    return ERR_OK;
}

static enum err check_words(const struct reading *r, cfg_t *cfg)
{
    static const char *const sandbox[] = {"require", "best-effort"};
    static const char *const formats[] = {"text", "json", "journal"};
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    cfg_t *log = cfg_getsec(cfg, "log");
    size_t cage = 0, format = LOG_TEXT, level = LOG_INFO;

    enum err err =
        choose(r, K_SANDBOX, cfg_getstr(cfg, "sandbox"), sandbox, ARRAY_LEN(sandbox), &cage);
    if (!err)
        err = choose(r, K_LOG_FORMAT, log ? cfg_getstr(log, "format") : NULL, formats,
                     ARRAY_LEN(formats), &format);
    if (!err)
        err = choose(r, K_LOG_LEVEL, log ? cfg_getstr(log, "level") : NULL, levels,
                     ARRAY_LEN(levels), &level);
    r->b->sandbox_require = cage == 0;
    r->b->log_format = (enum log_format)format;
    r->b->log_level = (enum log_level)level;
    return err;
}

/* ---- listeners ---- */

static enum err add_listener(const struct reading *r, enum listen_kind kind, struct sv host,
                             uint16_t port)
{
    struct bootstrap *b = r->b;
    struct bootstrap_listener l = {
        .kind = kind, .port = port, .line = r->lines.line[K_LISTEN + kind]};
    char ip[IP_TEXT_MAX];

    if (b->n_listeners == BOOTSTRAP_LISTENERS_MAX)
        return bad(r, (int)(K_LISTEN + kind), "more than 32 addresses in all");
    if (!ip_parse(host, &l.ip))
        return ERR_NOTFOUND;
    (void)ip_format(&l.ip, ip);
    (void)snprintf(l.address, sizeof(l.address), ip_is_v4(&l.ip) ? "%s:%u" : "[%s]:%u", ip, port);
    for (size_t i = 0; i < b->n_listeners; i++)
        if (strcmp(b->listeners[i].address, l.address) == 0)
            return bootstrap_fail(r->info, r->file, l.line, listen_kind_name(kind),
                                  "address \"%s\" is in use by %s in line %u already", l.address,
                                  listen_kind_name(b->listeners[i].kind), b->listeners[i].line);
    b->listeners[b->n_listeners++] = l;
    return ERR_OK;
}

/* "1.2.3.4:25", "[::1]:25", "*:25" */
static enum err check_address(const struct reading *r, enum listen_kind kind, const char *v)
{
    struct sv text = sv_str(v);
    size_t colon = sv_rfind_byte(text, ':');
    struct sv host = sv_take(text, colon == SIZE_MAX ? 0 : colon);
    uint64_t port = 0;
    enum err err = ERR_NOTFOUND;

    if (colon == SIZE_MAX || !sv_to_u64(sv_skip(text, colon + 1), 1, 65535, &port))
        return bootstrap_fail(r->info, r->file, r->lines.line[K_LISTEN + kind],
                              listen_kind_name(kind), "\"%.60s\" lacks a port from 1 to 65535", v);
    if (sv_eq(host, SV("*"))) {
        err = add_listener(r, kind, SV("0.0.0.0"), (uint16_t)port);
        if (!err)
            err = add_listener(r, kind, SV("::"), (uint16_t)port);
    } else if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']') {
        host = sv_of(host.p + 1, host.n - 2);
        if (sv_find_byte(host, ':') != SIZE_MAX)
            err = add_listener(r, kind, host, (uint16_t)port);
    } else if (sv_find_byte(host, ':') == SIZE_MAX) {
        err = add_listener(r, kind, host, (uint16_t)port);
    }
    if (err == ERR_NOTFOUND)
        return bootstrap_fail(r->info, r->file, r->lines.line[K_LISTEN + kind],
                              listen_kind_name(kind),
                              "\"%.60s\" is not an address such as \"192.0.2.1:25\", "
                              "\"[2001:db8::1]:25\" or \"*:25\"",
                              v);
    return err;
}

static enum err check_listeners(const struct reading *r, cfg_t *cfg)
{
    cfg_t *listen = cfg_getsec(cfg, "listen");
    enum err err = ERR_OK;

    for (unsigned kind = 0; listen && kind < LISTEN_KINDS; kind++) {
        const char *name = listen_kind_name((enum listen_kind)kind);
        unsigned n = cfg_size(listen, name);
        for (unsigned i = 0; !err && i < n; i++)
            err = check_address(r, (enum listen_kind)kind, cfg_getnstr(listen, name, i));
    }
    if (!err && r->b->n_listeners == 0)
        return bootstrap_fail(r->info, r->file, 0, "listen",
                              "no address to listen on, such as listen { smtp = {\"*:25\"} }");
    return err;
}

static enum err check_values(const struct reading *r, cfg_t *cfg)
{
    enum err err = check_hostname(r, cfg_getstr(cfg, "hostname"));

    if (!err)
        err = check_data_dir(r, cfg_getstr(cfg, "data_dir"));
    if (!err)
        err = check_user(r, cfg_getstr(cfg, "user"));
    if (!err)
        err = check_database(r, cfg_getstr(cfg, "database"));
    if (!err)
        err = check_workers(r, cfg_getstr(cfg, "workers"));
    if (!err)
        err = check_words(r, cfg);
    return err ? err : check_listeners(r, cfg);
}

/* ---- libConfuse ---- */

/* The structure has been checked, so this is rare; the words are libConfuse's. Its callback has no
 * argument of ours: the cfg_t's own line is read after the failure. */
static void quiet(cfg_t *cfg, const char *fmt, va_list ap)
{
    (void)cfg;
    (void)fmt;
    (void)ap;
}

static enum err read_values(struct reading *r, const char *text)
{
    cfg_opt_t log_opts[] = {CFG_STR("format", NULL, CFGF_NONE), CFG_STR("level", NULL, CFGF_NONE),
                            CFG_END()};
    cfg_opt_t listen_opts[] = {
        CFG_STR_LIST("smtp", NULL, CFGF_NONE),        CFG_STR_LIST("submission", NULL, CFGF_NONE),
        CFG_STR_LIST("submissions", NULL, CFGF_NONE), CFG_STR_LIST("internal", NULL, CFGF_NONE),
        CFG_STR_LIST("https", NULL, CFGF_NONE),       CFG_END()};
    cfg_opt_t opts[] = {CFG_STR("hostname", NULL, CFGF_NONE),
                        CFG_STR("data_dir", NULL, CFGF_NONE),
                        CFG_STR("user", NULL, CFGF_NONE),
                        CFG_STR("database", NULL, CFGF_NONE),
                        CFG_STR("workers", NULL, CFGF_NONE),
                        CFG_STR("sandbox", NULL, CFGF_NONE),
                        CFG_SEC("log", log_opts, CFGF_NODEFAULT),
                        CFG_SEC("listen", listen_opts, CFGF_NODEFAULT),
                        CFG_END()};
    cfg_t *cfg = cfg_init(opts, CFGF_NONE);

    if (!cfg)
        return err_set(r->info, ERR_IO, "out of memory");
    (void)cfg_set_error_function(cfg, quiet);
    enum err err = ERR_OK;
    if (cfg_parse_buf(cfg, text) != CFG_SUCCESS)
        err = bootstrap_fail(r->info, r->file, (uint32_t)cfg->line, "", "cannot be read here");
    else
        err = check_values(r, cfg);
    (void)cfg_free(cfg);
    return err;
}

enum err bootstrap_parse(struct sv text, const char *file, struct bootstrap *out_b,
                         struct errinfo *info)
{
    struct bootstrap b = {0};
    struct reading r = {.file = file, .b = &b, .info = info};
    char *copy;

    if (text.n > BOOTSTRAP_FILE_MAX)
        return bootstrap_fail(info, file, 0, "", "the file is larger than 64 KiB");
    enum err err = bootstrap_scan(text, file, &r.lines, info);
    if (err)
        return err;
    copy = malloc(text.n + 2);
    if (!copy)
        return err_set(info, ERR_IO, "out of memory");
    if (text.n)
        memcpy(copy, text.p, text.n);
    copy[text.n] = '\n';
    copy[text.n + 1] = '\0';
    err = read_values(&r, copy);
    free(copy);
    if (!err)
        *out_b = b;
    return err;
}

static enum err read_file(const char *file, struct buf *out, struct errinfo *info)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = -1;

    if (fd >= 0) {
        do {
            n = buf_reserve(out, 4096) == ERR_OK ? read(fd, out->p + out->n, 4096) : 0;
            out->n += n > 0 ? (size_t)n : 0;
        } while (n > 0 || (n < 0 && errno == EINTR));
    }
    int sys = errno;
    if (fd >= 0)
        (void)close(fd);
    if (n >= 0)
        return ERR_OK;
    (void)err_set_sys(info, ERR_IO, sys, "cannot be read");
    if (info)
        (void)snprintf(info->file, sizeof(info->file), "%s", file);
    return ERR_IO;
}

enum err bootstrap_load(const char *file, struct bootstrap *out_b, struct errinfo *info)
{
    struct buf text;

    buf_init(&text, BOOTSTRAP_FILE_MAX + 8192);
    enum err err = read_file(file, &text, info);
    if (!err)
        err = bootstrap_parse(buf_sv(&text), file, out_b, info);
    buf_done(&text);
    return err;
}

void bootstrap_explain(const struct errinfo *info, char *out_text, size_t n)
{
    char line[16] = "";

    if (info->line)
        (void)snprintf(line, sizeof(line), ":%u", info->line);
    (void)snprintf(out_text, n, "%s%s%s%s%s%s", info->file, line, info->file[0] ? ": " : "",
                   info->key, info->key[0] ? ": " : "", info->text);
}
