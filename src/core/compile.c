/*
 * Shared parts of the settings compiler: collected errors, suggestions, the line reader.
 *
 * SECURITY: reads text that administrators wrote. Lines are bounded, control bytes and damaged
 * UTF-8 are refused before any value is looked at.
 */
#include "core/compile.h"
#include "base/near.h"
#include "base/utf8.h"
#include "core/names.h"

#include <stdarg.h>
#include <stdio.h>

static void copy_text(char *out, size_t size, struct sv v)
{
    size_t n = v.n < size ? v.n : size - 1;

    for (size_t i = 0; i < n; i++)
        out[i] = (v.p[i] >= ' ' && v.p[i] != 127) || (uint8_t)v.p[i] >= 128 ? v.p[i] : '?';
    out[n] = '\0';
}

void compile_error(struct compile *c, uint32_t line, struct sv key, const char *fmt, ...)
{
    struct settings_errors *errors = c->errors;
    va_list ap;

    errors->total++;
    if (errors->n == SETTINGS_ERRORS_MAX)
        return;
    struct errinfo *e = &errors->list[errors->n++];
    memset(e, 0, sizeof(*e));
    e->code = ERR_SYNTAX;
    e->line = line;
    copy_text(e->file, sizeof(e->file), c->file);
    copy_text(e->key, sizeof(e->key), key);
    va_start(ap, fmt);
    (void)vsnprintf(e->text, sizeof(e->text), fmt, ap);
    va_end(ap);
    copy_text(e->text, sizeof(e->text), sv_str(e->text));
}

void settings_error_format(const struct errinfo *e, struct buf *out)
{
    if (e->file[0])
        (void)buf_printf(out, "%s:", e->file);
    if (e->line)
        (void)buf_printf(out, "%u:", (unsigned)e->line);
    if (e->file[0] || e->line)
        (void)buf_append_byte(out, ' ');
    if (e->key[0])
        (void)buf_printf(out, "%s: ", e->key);
    (void)buf_append_sv(out, sv_str(e->text));
}

const char *compile_hint(struct compile *c, struct sv word, const char *const *names, size_t n)
{
    const char *name = near_word(word, names, n);

    if (!name)
        return "";
    struct sv text = arena_printf(c->a, "; did you mean \"%s\"?", name);
    return text.p ? text.p : "";
}

void *compile_array(struct compile *c, size_t n, size_t size)
{
    return arena_calloc(c->a, n ? n : 1, size);
}

static bool line_clean(struct sv line)
{
    for (size_t i = 0; i < line.n; i++)
        if (((uint8_t)line.p[i] < ' ' && line.p[i] != '\t') || line.p[i] == 127)
            return false;
    return utf8_valid(line);
}

bool conf_next_line(struct conf *r, struct sv *out_line)
{
    while (r->left.n) {
        struct sv raw = sv_cut(&r->left, '\n');
        struct sv line = sv_trim(raw);
        r->line++;
        if (!line.n || line.p[0] == '#')
            continue;
        if (raw.n > CONF_LINE_MAX) {
            compile_error(r->c, r->line, SV_NULL, "line is longer than %d bytes", CONF_LINE_MAX);
            continue;
        }
        if (!line_clean(line)) {
            compile_error(r->c, r->line, SV_NULL, "control character or damaged UTF-8 in the line");
            continue;
        }
        *out_line = line;
        return true;
    }
    return false;
}

static bool parse_section(struct conf *r, struct sv line, struct conf_item *out_item)
{
    if (line.p[line.n - 1] != ']' || line.n < 3) {
        compile_error(r->c, r->line, SV_NULL, "section header lacks its closing bracket");
        return false;
    }
    struct sv name = sv_trim(sv_take(sv_skip(line, 1), line.n - 2));
    struct sv kind = value_word(&name);
    *out_item = (struct conf_item){r->line, true, kind, name};
    return true;
}

bool conf_next(struct conf *r, struct conf_item *out_item)
{
    struct sv line;

    while (conf_next_line(r, &line)) {
        if (line.p[0] == '[') {
            if (parse_section(r, line, out_item))
                return true;
            continue;
        }
        size_t eq = sv_find_byte(line, '=');
        struct sv key = sv_trim(sv_take(line, eq == SIZE_MAX ? line.n : eq));
        if (eq == SIZE_MAX || !key.n) {
            compile_error(r->c, r->line, key, "expected \"key = value\"");
            continue;
        }
        *out_item = (struct conf_item){r->line, false, key, sv_trim(sv_skip(line, eq + 1))};
        return true;
    }
    return false;
}

uint32_t conf_count_sections(struct sv text)
{
    uint32_t n = 0;

    while (text.n) {
        struct sv line = sv_trim(sv_cut(&text, '\n'));
        n += line.n && line.p[0] == '[';
    }
    return n;
}

void block_set(struct compile *c, const struct block_key *keys, size_t n, uint32_t *seen,
               void *block, const struct conf_item *item)
{
    const char *names[32];

    for (size_t i = 0; i < n && i < ARRAY_LEN(names); i++) {
        names[i] = keys[i].key;
        if (!sv_eq(item->key, sv_str(keys[i].key)))
            continue;
        if (!keys[i].repeat && (*seen & 1u << i))
            compile_error(c, item->line, item->key, "stands twice");
        else
            keys[i].set(c, block, item);
        *seen |= 1u << i;
        return;
    }
    compile_error(c, item->line, item->key, "unknown key \"%.*s\"%s", SV_ARG(item->key),
                  compile_hint(c, item->key, names, n));
}

void blocks_compile(struct compile *c, struct sv text, const struct block_kind *kind, void *ctx)
{
    struct conf r = {.c = c, .left = text};
    struct conf_item item;
    void *block = NULL;
    bool outside = true;
    uint32_t seen = 0;

    while (conf_next(&r, &item)) {
        if (item.section) {
            block = NULL;
            if (sv_eq(item.key, sv_str(kind->word)))
                block = kind->begin(c, ctx, &item);
            else
                compile_error(c, item.line, SV_NULL, "expected [%s NAME]", kind->word);
            outside = false;
            seen = 0;
        } else if (block) {
            block_set(c, kind->keys, kind->n_keys, &seen, block, &item);
        } else if (outside) {
            compile_error(c, item.line, item.key, "stands outside a [%s NAME] block", kind->word);
        }
    }
}

bool value_bool(struct compile *c, const struct conf_item *item, bool *out_value)
{
    bool yes = sv_eq(item->value, SV("yes"));

    if (!yes && !sv_eq(item->value, SV("no"))) {
        compile_error(c, item->line, item->key, "\"%.*s\" is neither yes nor no",
                      SV_ARG(item->value));
        return false;
    }
    *out_value = yes;
    return true;
}

bool value_choice(struct compile *c, uint32_t line, struct sv key, const struct name_table *t,
                  struct sv text, uint32_t *out_value)
{
    const struct name_row *row = name_row_of(t, text);
    const char *names[16];

    if (row && row->available) {
        *out_value = row->value;
        return true;
    }
    if (row) {
        compile_error(c, line, key, "%s %s is not available in this version", t->what, row->name);
        return false;
    }
    size_t n = name_available(t, names);
    struct buf list;
    buf_init(&list, 200);
    for (size_t i = 0; i < n; i++)
        (void)buf_printf(&list, "%s%s", i ? ", " : "", names[i]);
    compile_error(c, line, key, "unknown %s \"%.*s\"; one of: %.*s%s", t->what, SV_ARG(text),
                  SV_ARG(buf_sv(&list)), compile_hint(c, text, names, n));
    buf_done(&list);
    return false;
}

struct sv value_word(struct sv *rest)
{
    struct sv v = sv_trim(*rest);
    size_t n = 0;

    while (n < v.n && v.p[n] != ' ' && v.p[n] != '\t')
        n++;
    *rest = sv_trim(sv_skip(v, n));
    return sv_take(v, n);
}

bool name_valid(struct sv name, size_t min, size_t max)
{
    if (name.n < min || name.n > max)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return true;
}
