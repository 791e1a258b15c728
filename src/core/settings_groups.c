/*
 * Domain groups and IP groups (spec E1-E4).
 *
 * SECURITY: group membership decides who may relay and what counts as inside. Entries are compared
 * as wholes, lower case, never by suffix of characters: "*.example.com" is a rule for names with at
 * least one more label, and does not cover example.com itself.
 */
#include "codec/mailaddr.h"
#include "core/compile.h"
#include "core/sort.h"

static int sv_item_cmp(const void *x, const void *y)
{
    return sv_cmp(*(const struct sv *)x, *(const struct sv *)y);
}

static int cidr_cmp(const void *x, const void *y)
{
    const struct cidr *a = x, *b = y;
    int d = memcmp(a->net.b, b->net.b, sizeof(a->net.b));

    return d ? d : (int)a->bits - (int)b->bits;
}

static uint32_t count_lines(struct sv text)
{
    uint32_t n = 0;

    for (size_t i = 0; i < text.n; i++)
        n += text.p[i] == '\n';
    return n + 1;
}

static struct sv lower_copy(struct compile *c, struct sv v)
{
    char *p = arena_alloc(c->a, v.n ? v.n : 1);

    for (size_t i = 0; p && i < v.n; i++)
        p[i] = v.p[i] >= 'A' && v.p[i] <= 'Z' ? (char)(v.p[i] + ('a' - 'A')) : v.p[i];
    return p ? sv_of(p, v.n) : SV_NULL;
}

static bool domain_entry_valid(struct sv e)
{
    return domain_valid(sv_starts(e, SV("*.")) ? sv_skip(e, 2) : e);
}

static void fill_domain_group(struct compile *c, struct domain_group *g, struct sv text)
{
    struct conf r = {.c = c, .left = lower_copy(c, text)};
    struct sv line;
    uint32_t kept = 0;

    g->entries = compile_array(c, count_lines(text), sizeof(struct sv));
    while (g->entries && conf_next_line(&r, &line)) {
        if (line.p[line.n - 1] == '.')
            line.n--;
        if (domain_entry_valid(line))
            g->entries[g->n_entries++] = line;
        else
            compile_error(c, r.line, SV_NULL,
                          "\"%.*s\" is not a domain; one domain a line, *.example.com = subdomains",
                          SV_ARG(sv_take(line, 100)));
    }
    if (!g->entries || !g->n_entries)
        return;
    sort_items(g->entries, g->n_entries, sizeof(struct sv), sv_item_cmp);
    for (uint32_t i = 0; i < g->n_entries; i++)
        if (!kept || !sv_eq(g->entries[kept - 1], g->entries[i]))
            g->entries[kept++] = g->entries[i];
    g->n_entries = kept;
}

static void fill_ip_group(struct compile *c, struct ip_group *g, struct sv text)
{
    struct conf r = {.c = c, .left = text};
    struct sv line;
    uint32_t kept = 0;

    g->entries = compile_array(c, count_lines(text), sizeof(struct cidr));
    while (g->entries && conf_next_line(&r, &line))
        if (cidr_parse(line, &g->entries[g->n_entries]))
            g->n_entries++;
        else
            compile_error(c, r.line, SV_NULL,
                          "\"%.*s\" is not an address or a prefix with its host bits zero",
                          SV_ARG(sv_take(line, 100)));
    if (!g->entries || !g->n_entries)
        return;
    sort_items(g->entries, g->n_entries, sizeof(struct cidr), cidr_cmp);
    for (uint32_t i = 0; i < g->n_entries; i++)
        if (!kept || cidr_cmp(&g->entries[kept - 1], &g->entries[i]) != 0)
            g->entries[kept++] = g->entries[i];
    g->n_entries = kept;
    for (uint32_t i = 0; i < kept; i++)
        g->lengths[g->entries[i].bits / 8] |= (uint8_t)(1u << g->entries[i].bits % 8);
}

/* Names of the group files of one kind, in order; names that must exist come first. */
struct group_names {
    struct sv *names, *texts;
    uint32_t n;
};

static void add_name(struct group_names *g, struct sv name, struct sv text)
{
    for (uint32_t i = 0; i < g->n; i++)
        if (sv_eq(g->names[i], name)) {
            g->texts[i] = text;
            return;
        }
    g->names[g->n] = name;
    g->texts[g->n++] = text;
}

static struct group_names collect(struct compile *c, const struct tree_file *files, uint32_t n,
                                  struct sv prefix, const struct sv *always, uint32_t n_always)
{
    struct group_names g = {0};

    g.names = compile_array(c, n + n_always, sizeof(struct sv));
    g.texts = compile_array(c, n + n_always, sizeof(struct sv));
    if (!g.names || !g.texts)
        return g;
    for (uint32_t i = 0; i < n_always; i++)
        add_name(&g, always[i], SV_NULL);
    for (uint32_t i = 0; i < n; i++) {
        struct sv name = tree_name_inner(files[i].name, prefix, SV(".txt"));
        if (!name.n)
            continue;
        c->file = files[i].name;
        if (!name_valid(name, 1, 50))
            compile_error(c, 0, SV_NULL, "group name: 1-50 of a-z, 0-9 and \"-\"");
        else if (files[i].text.n > GROUP_FILE_MAX)
            compile_error(c, 0, SV_NULL, "group file is larger than 10 MB");
        else
            add_name(&g, name, files[i].text);
    }
    return g;
}

static int domain_group_cmp(const void *x, const void *y)
{
    return sv_cmp(((const struct domain_group *)x)->name, ((const struct domain_group *)y)->name);
}

static int ip_group_cmp(const void *x, const void *y)
{
    return sv_cmp(((const struct ip_group *)x)->name, ((const struct ip_group *)y)->name);
}

static void compile_domain_groups(struct compile *c, const struct tree_file *files, uint32_t n)
{
    const struct sv always[] = {SV("protected")};
    struct group_names g = collect(c, files, n, SV("groups/domain/"), always, ARRAY_LEN(always));
    struct settings *s = c->s;

    s->domain_groups = compile_array(c, g.n, sizeof(struct domain_group));
    for (uint32_t i = 0; s->domain_groups && i < g.n; i++) {
        c->file = arena_printf(c->a, "groups/domain/%.*s.txt", SV_ARG(g.names[i]));
        s->domain_groups[i].name = g.names[i];
        fill_domain_group(c, &s->domain_groups[i], g.texts[i]);
        s->n_domain_groups++;
    }
    if (s->n_domain_groups)
        sort_items(s->domain_groups, s->n_domain_groups, sizeof(struct domain_group),
                   domain_group_cmp);
    s->protected_domains = settings_domain_group(s, SV("protected"));
}

static void compile_ip_groups(struct compile *c, const struct tree_file *files, uint32_t n)
{
    const struct sv always[] = {SV("gateway"), SV("trusted")};
    struct group_names g = collect(c, files, n, SV("groups/ip/"), always, ARRAY_LEN(always));
    struct settings *s = c->s;

    s->ip_groups = compile_array(c, g.n, sizeof(struct ip_group));
    for (uint32_t i = 0; s->ip_groups && i < g.n; i++) {
        c->file = arena_printf(c->a, "groups/ip/%.*s.txt", SV_ARG(g.names[i]));
        s->ip_groups[i].name = g.names[i];
        fill_ip_group(c, &s->ip_groups[i], g.texts[i]);
        s->n_ip_groups++;
    }
    if (s->n_ip_groups)
        sort_items(s->ip_groups, s->n_ip_groups, sizeof(struct ip_group), ip_group_cmp);
    s->trusted_ips = settings_ip_group(s, SV("trusted"));
    s->gateway_ips = settings_ip_group(s, SV("gateway"));
}

void compile_groups(struct compile *c, const struct tree_file *files, uint32_t n)
{
    compile_domain_groups(c, files, n);
    compile_ip_groups(c, files, n);
}

/* ---- membership ---- */

static bool entry_find(const struct domain_group *g, struct sv entry)
{
    uint32_t low = 0, high = g->n_entries;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int d = sv_cmp(g->entries[mid], entry);
        if (!d)
            return true;
        if (d < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}

bool domain_group_has(const struct domain_group *g, struct sv domain)
{
    char text[1 + 255]; /* '*' replaces the label before each dot in turn */
    size_t n = domain.n;

    if (n && domain.p[n - 1] == '.')
        n--;
    if (!g || !n || n > 255)
        return false;
    for (size_t i = 0; i < n; i++)
        text[1 + i] = domain.p[i] >= 'A' && domain.p[i] <= 'Z' ? (char)(domain.p[i] + ('a' - 'A'))
                                                               : domain.p[i];
    if (text[1] != '*' && entry_find(g, sv_of(text + 1, n)))
        return true;
    for (size_t i = 1; i < n; i++) {
        if (text[1 + i] != '.')
            continue;
        text[i] = '*';
        if (entry_find(g, sv_of(text + i, n - i + 1)))
            return true;
    }
    return false;
}

static bool cidr_find(const struct ip_group *g, const struct cidr *key)
{
    uint32_t low = 0, high = g->n_entries;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int d = cidr_cmp(&g->entries[mid], key);
        if (!d)
            return true;
        if (d < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}

bool ip_group_has(const struct ip_group *g, const struct ip *ip)
{
    struct cidr key = {.net = *ip};
    uint32_t shortest = ip_is_v4(ip) ? 96 : 0; /* "::/0" does not reach into IPv4 */

    /* From the longest prefix down: each step clears one more host bit. */
    for (uint32_t bits = 128; g && g->n_entries; bits--) {
        if (bits < 128)
            key.net.b[bits / 8] &= (uint8_t) ~(0x80u >> bits % 8);
        key.bits = (uint8_t)bits;
        if ((g->lengths[bits / 8] & 1u << bits % 8) && cidr_find(g, &key))
            return true;
        if (bits == shortest)
            break;
    }
    return false;
}

const struct domain_group *settings_domain_group(const struct settings *s, struct sv name)
{
    for (uint32_t i = 0; s->domain_groups && i < s->n_domain_groups; i++)
        if (sv_eq(s->domain_groups[i].name, name))
            return &s->domain_groups[i];
    return NULL;
}

const struct ip_group *settings_ip_group(const struct settings *s, struct sv name)
{
    for (uint32_t i = 0; s->ip_groups && i < s->n_ip_groups; i++)
        if (sv_eq(s->ip_groups[i].name, name))
            return &s->ip_groups[i];
    return NULL;
}

/* ---- canonical text ---- */

void export_domain_group(const struct domain_group *g, struct buf *out)
{
    (void)buf_printf(out,
                     "# Domain group: one domain a line; *.example.com = its subdomains only\n");
    for (uint32_t i = 0; i < g->n_entries; i++) {
        (void)buf_append_sv(out, g->entries[i]);
        (void)buf_append_byte(out, '\n');
    }
}

void export_ip_group(const struct ip_group *g, struct buf *out)
{
    char text[IP_TEXT_MAX];

    (void)buf_printf(out, "# IP group: one address or prefix a line\n");
    for (uint32_t i = 0; i < g->n_entries; i++) {
        (void)cidr_format(&g->entries[i], text);
        (void)buf_printf(out, "%s\n", text);
    }
}
