/*
 * Structure of the bootstrap file, stricter than libConfuse, which accepts an unclosed section at
 * the end, lets the last of two assignments win and stops at the first word it does not know
 * without a suggestion. Values are libConfuse's business (bootstrap.c).
 */
#include "role/bootstrap_int.h"

#include "base/near.h"

#include <stdarg.h>
#include <stdio.h>

enum token_kind { T_END, T_WORD, T_STRING, T_ASSIGN, T_APPEND, T_OPEN, T_CLOSE, T_COMMA, T_BAD };

struct token {
    enum token_kind kind;
    struct sv text;
    uint32_t line;
    const char *bad; /* of T_BAD: what is wrong */
};

struct scan {
    struct sv left;
    uint32_t line;
    const char *file;
    struct errinfo *info;
    struct bootstrap_lines *lines;
    uint32_t section_line[2]; /* of log, listen */
};

static const char *const sections[] = {"log", "listen"};

enum err bootstrap_fail(struct errinfo *info, const char *file, uint32_t line, const char *key,
                        const char *fmt, ...)
{
    char text[sizeof(info->text)];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)err_set(info, ERR_SYNTAX, "%s", text);
    if (info) {
        info->line = line;
        (void)snprintf(info->file, sizeof(info->file), "%s", file);
        (void)snprintf(info->key, sizeof(info->key), "%s", key);
    }
    return ERR_SYNTAX;
}

/* ---- nearest word ---- */

/* ---- tokens ---- */

static void take(struct scan *s, size_t n)
{
    for (size_t i = 0; i < n && i < s->left.n; i++)
        if (s->left.p[i] == '\n')
            s->line++;
    s->left = sv_skip(s->left, n);
}

static size_t comment_length(struct sv v)
{
    size_t end = SIZE_MAX;

    if (sv_starts(v, SV("#")) || sv_starts(v, SV("//"))) {
        end = sv_find_byte(v, '\n');
    } else if (sv_starts(v, SV("/*"))) {
        end = sv_find(sv_skip(v, 2), SV("*/"));
        end = end == SIZE_MAX ? end : end + 4;
    } else {
        return 0;
    }
    return end == SIZE_MAX ? v.n : end;
}

static void skip_blank(struct scan *s)
{
    while (s->left.n) {
        char c = s->left.p[0];
        size_t n = c == ' ' || c == '\t' || c == '\n' || c == '\r' ? 1 : comment_length(s->left);
        if (n == 0)
            return;
        take(s, n);
    }
}

static struct token quoted(struct scan *s)
{
    struct token t = {.kind = T_BAD, .line = s->line, .bad = "text in quotes is not closed"};
    char quote = s->left.p[0];

    for (size_t i = 1; i < s->left.n && s->left.p[i] != '\n'; i++) {
        if (s->left.p[i] == '\\') {
            i++;
        } else if (s->left.p[i] == quote) {
            t.kind = T_STRING;
            t.text = sv_of(s->left.p + 1, i - 1);
            take(s, i + 1);
            break;
        }
    }
    return t;
}

static bool is_word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == ':' || c == '/' || c == '@' || c == '*' || c == '[' ||
           c == ']';
}

static struct token word(struct scan *s)
{
    struct token t = {.kind = T_WORD, .line = s->line};
    size_t n = 0;

    while (n < s->left.n && is_word_byte(s->left.p[n]))
        n++;
    if (n == 0) {
        t.kind = T_BAD;
        t.bad = "unexpected character";
        n = 1;
    }
    t.text = sv_take(s->left, n);
    take(s, n);
    return t;
}

static struct token next_token(struct scan *s)
{
    static const struct {
        const char *text;
        enum token_kind kind;
    } marks[] = {{"+=", T_APPEND}, {"=", T_ASSIGN}, {"{", T_OPEN}, {"}", T_CLOSE}, {",", T_COMMA}};

    skip_blank(s);
    if (s->left.n == 0)
        return (struct token){.kind = T_END, .line = s->line};
    if (s->left.p[0] == '"' || s->left.p[0] == '\'')
        return quoted(s);
    for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
        struct sv mark = sv_str(marks[i].text);
        if (sv_starts(s->left, mark)) {
            struct token t = {.kind = marks[i].kind, .text = mark, .line = s->line};
            take(s, mark.n);
            return t;
        }
    }
    return word(s);
}

/* ---- structure ---- */

static enum err fail(struct scan *s, uint32_t line, struct sv key, const char *text)
{
    char k[64];

    (void)snprintf(k, sizeof(k), "%.*s", key.n > 60 ? 60 : (int)key.n, key.p ? key.p : "");
    return bootstrap_fail(s->info, s->file, line, k, "%s", text);
}

static enum err fail_token(struct scan *s, const struct token *t, struct sv key,
                           const char *expected)
{
    char text[128];

    if (t->kind == T_END)
        (void)snprintf(text, sizeof(text), "the file ends where %s is expected", expected);
    else if (t->kind == T_BAD)
        (void)snprintf(text, sizeof(text), "%s", t->bad);
    else
        (void)snprintf(text, sizeof(text), "%s is expected before \"%.*s\"", expected,
                       t->text.n > 32 ? 32 : (int)t->text.n, t->text.p);
    return fail(s, t->line, key, text);
}

static enum err fail_unknown(struct scan *s, const char *section, const struct token *t)
{
    const char *words[BOOTSTRAP_ENTRIES_MAX] = {"", ""};
    size_t n = 0;
    char text[160];

    for (size_t i = 0; i < bootstrap_n_keys; i++)
        if (strcmp(bootstrap_keys[i].section, section) == 0)
            words[n++] = bootstrap_keys[i].name;
    for (size_t i = 0; section[0] == '\0' && i < ARRAY_LEN(sections); i++)
        words[n++] = sections[i];
    const char *near = near_word(t->text, words, n);
    const char *where = section[0] ? " in section " : "";
    if (near)
        (void)snprintf(text, sizeof(text), "unknown key%s%s; did you mean \"%s\"?", where, section,
                       near);
    else
        (void)snprintf(text, sizeof(text), "unknown key%s%s; it has: %s, %s, %s, ...", where,
                       section, words[0], words[1], n > 2 ? words[2] : "");
    return fail(s, t->line, t->text, text);
}

/* The items of {...}: an empty list is fine, a trailing comma is not. */
static enum err scan_list(struct scan *s, struct sv key, uint32_t line)
{
    struct token t = next_token(s);
    char text[96];

    if (t.kind == T_CLOSE)
        return ERR_OK;
    for (;;) {
        if (t.kind == T_END) {
            (void)snprintf(text, sizeof(text), "the list opened in line %u is not closed", line);
            return fail(s, line, key, text);
        }
        if (t.kind != T_STRING && t.kind != T_WORD)
            return fail_token(s, &t, key, "a value");
        t = next_token(s);
        if (t.kind == T_CLOSE)
            return ERR_OK;
        if (t.kind != T_COMMA && t.kind != T_END)
            return fail_token(s, &t, key, "\",\" or \"}\"");
        if (t.kind == T_COMMA)
            t = next_token(s);
    }
}

static enum err scan_value(struct scan *s, const struct bootstrap_key *key, uint32_t line)
{
    struct token t = next_token(s);
    struct sv name = sv_str(key->name);

    /* else a forgotten value would swallow the next key */
    if (t.line != line && t.kind != T_END)
        return fail(s, line, name, "a value is expected after \"=\", in the same line");
    if (t.kind == T_OPEN)
        return key->list ? scan_list(s, name, t.line)
                         : fail(s, t.line, name, "takes one value, not a list");
    if (t.kind == T_STRING || t.kind == T_WORD)
        return key->list ? fail(s, t.line, name, "takes a list: {\"...\", \"...\"}") : ERR_OK;
    return fail_token(s, &t, name, "a value");
}

static enum err scan_assignment(struct scan *s, const char *section, const struct token *name)
{
    for (size_t i = 0; i < bootstrap_n_keys; i++) {
        const struct bootstrap_key *k = &bootstrap_keys[i];
        char text[64];

        if (strcmp(k->section, section) != 0 || !sv_eq(name->text, sv_str(k->name)))
            continue;
        if (s->lines->line[i]) {
            (void)snprintf(text, sizeof(text), "was set before, in line %u", s->lines->line[i]);
            return fail(s, name->line, name->text, text);
        }
        s->lines->line[i] = name->line;
        return scan_value(s, k, name->line);
    }
    return fail_unknown(s, section, name);
}

static bool known_key(const char *section, struct sv name)
{
    for (size_t i = 0; i < bootstrap_n_keys; i++)
        if (strcmp(bootstrap_keys[i].section, section) == 0 &&
            sv_eq(name, sv_str(bootstrap_keys[i].name)))
            return true;
    return false;
}

static enum err scan_section_body(struct scan *s, const char *section, uint32_t line)
{
    for (;;) {
        struct token t = next_token(s);
        if (t.kind == T_CLOSE)
            return ERR_OK;
        if (t.kind == T_END)
            return fail(s, line, sv_str(section), "this section is not closed: \"}\" is missing");
        if (t.kind != T_WORD)
            return fail_token(s, &t, sv_str(section), "a key");
        if (!known_key(section, t.text))
            return fail_unknown(s, section, &t);
        struct token mark = next_token(s);
        if (mark.kind != T_ASSIGN)
            return fail_token(s, &mark, t.text, "\"=\"");
        enum err err = scan_assignment(s, section, &t);
        if (err)
            return err;
    }
}

static enum err scan_section(struct scan *s, const struct token *name)
{
    for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
        char text[64];
        if (!sv_eq(name->text, sv_str(sections[i])))
            continue;
        if (s->section_line[i]) {
            (void)snprintf(text, sizeof(text), "was opened before, in line %u", s->section_line[i]);
            return fail(s, name->line, name->text, text);
        }
        s->section_line[i] = name->line;
        return scan_section_body(s, sections[i], name->line);
    }
    if (known_key("", name->text))
        return fail(s, name->line, name->text, "is a key with a value, not a section");
    return fail_unknown(s, "", name);
}

static enum err check_bytes(struct scan *s)
{
    uint32_t line = 1;

    for (size_t i = 0; i < s->left.n; i++) {
        uint8_t c = (uint8_t)s->left.p[i];
        if (c == '\n')
            line++;
        else if (c < ' ' && c != '\t' && c != '\r')
            return fail(s, line, SV_NULL, "control character in the file");
    }
    return ERR_OK;
}

enum err bootstrap_scan(struct sv text, const char *file, struct bootstrap_lines *out_lines,
                        struct errinfo *info)
{
    struct bootstrap_lines lines = {{0}};
    struct scan s = {.left = text, .line = 1, .file = file, .info = info, .lines = &lines};
    enum err err = check_bytes(&s);

    while (!err) {
        struct token t = next_token(&s);
        if (t.kind == T_END)
            break;
        if (t.kind == T_CLOSE)
            return fail(&s, t.line, SV_NULL, "\"}\" closes nothing");
        if (t.kind != T_WORD)
            return fail_token(&s, &t, SV_NULL, "a key");
        struct token mark = next_token(&s);
        if (mark.kind == T_OPEN)
            err = scan_section(&s, &t);
        else if (mark.kind != T_ASSIGN)
            err = known_key("", t.text) ? fail_token(&s, &mark, t.text, "\"=\"")
                                        : fail_unknown(&s, "", &t);
        else
            err = scan_assignment(&s, "", &t);
    }
    if (!err)
        *out_lines = lines;
    return err;
}
