/* routes.conf, submitters.conf, phrases.conf (spec D2-D8, K17). */
#include "base/utf8.h"
#include "codec/mailaddr.h"
#include "core/compile.h"

#define PREFERENCE_DEFAULT 5
#define PORT_DEFAULT       25
#define PHRASE_MAX         255

/* ---- routes ---- */

struct route_block {
    struct route *route;
    struct sv group; /* name, looked up at the end of the block */
    bool servers, bad;
    uint32_t line;
};

static void route_group(struct compile *c, void *block, const struct conf_item *item)
{
    struct route_block *b = block;

    b->route->group = settings_domain_group(c->s, item->value);
    if (!b->route->group)
        compile_error(c, item->line, item->key, "no domain group \"%.*s\"", SV_ARG(item->value));
    b->bad |= !b->route->group;
}

static void route_deliver(struct compile *c, void *block, const struct conf_item *item)
{
    struct route_block *b = block;

    b->servers = sv_eq(item->value, SV("servers"));
    if (!b->servers && !sv_eq(item->value, SV("mx")))
        compile_error(c, item->line, item->key, "\"%.*s\" is neither mx nor servers",
                      SV_ARG(item->value));
}

/* "name", "name:port", "192.0.2.1:port", "[2001:db8::1]:port" */
static bool parse_host_port(struct compile *c, struct sv text, struct host *out_host,
                            bool *out_literal)
{
    struct sv name = text, port = SV_NULL;
    struct ip ip;
    uint64_t n = PORT_DEFAULT;
    char ip_text[IP_TEXT_MAX];
    bool bracket = text.n && text.p[0] == '[';
    size_t cut = bracket ? sv_find_byte(text, ']') : sv_find_byte(text, ':');

    if (cut != SIZE_MAX) {
        name = bracket ? sv_skip(sv_take(text, cut), 1) : sv_take(text, cut);
        port = sv_skip(text, bracket ? cut + 1 : cut);
    }
    if (port.n && (port.p[0] != ':' || !sv_to_u64(sv_skip(port, 1), 1, 65535, &n)))
        return false;
    *out_literal = ip_parse(name, &ip);
    if (bracket ? !*out_literal || ip_is_v4(&ip) : !*out_literal && !domain_valid(name))
        return false;
    if (*out_literal)
        name = arena_sv(c->a, sv_of(ip_text, ip_format(&ip, ip_text)));
    *out_host = (struct host){.name = name, .port = (uint16_t)n, .preference = PREFERENCE_DEFAULT};
    return true;
}

static bool server_option(struct sv word, struct host *h)
{
    uint64_t n;

    if (sv_starts(word, SV("preference="))) {
        if (!sv_to_u64(sv_skip(word, strlen("preference=")), 1, 65535, &n))
            return false;
        h->preference = (uint16_t)n;
        return true;
    }
    h->mx = sv_eq(word, SV("mx=yes"));
    return h->mx || sv_eq(word, SV("mx=no"));
}

static void route_server(struct compile *c, void *block, const struct conf_item *item)
{
    struct route_block *b = block;
    struct route *route = b->route;
    struct sv rest = item->value, word = value_word(&rest);
    struct host h;
    bool literal;

    if (!parse_host_port(c, word, &h, &literal)) {
        compile_error(c, item->line, item->key,
                      "\"%.*s\" is not HOST:PORT ([IPv6]:PORT, port 1-65535)", SV_ARG(word));
        return;
    }
    while (rest.n) {
        word = value_word(&rest);
        if (!server_option(word, &h)) {
            compile_error(c, item->line, item->key,
                          "\"%.*s\": options are preference=1..65535 and mx=yes|no", SV_ARG(word));
            return;
        }
    }
    if (h.mx && literal)
        compile_error(c, item->line, item->key, "mx=yes needs a host name, not an address");
    else if (route->n_hosts == ROUTE_HOSTS_MAX)
        compile_error(c, item->line, item->key, "more than %d servers", ROUTE_HOSTS_MAX);
    else
        route->hosts[route->n_hosts++] = h;
}

static void route_port(struct compile *c, void *block, const struct conf_item *item)
{
    struct route_block *b = block;
    uint64_t n;

    if (sv_to_u64(item->value, 1, 65535, &n))
        b->route->port = (uint16_t)n;
    else
        compile_error(c, item->line, item->key, "\"%.*s\" is not a number from 1 to 65535",
                      SV_ARG(item->value));
}

static void route_tls(struct compile *c, void *block, const struct conf_item *item)
{
    struct route_block *b = block;

    b->route->tls = sv_eq(item->value, SV("opportunistic"));
    if (!b->route->tls && !sv_eq(item->value, SV("off")))
        compile_error(c, item->line, item->key, "\"%.*s\" is neither opportunistic nor off",
                      SV_ARG(item->value));
}

static void route_auth(struct compile *c, void *block, const struct conf_item *item)
{
    struct route_block *b = block;
    struct sv rest = item->value, user = value_word(&rest);
    struct sv name = sv_starts(rest, SV("secret:")) ? sv_skip(rest, strlen("secret:")) : SV_NULL;

    if (!name_valid(name, 1, 50)) {
        compile_error(c, item->line, item->key, "expected \"USER secret:NAME\"");
        return;
    }
    b->route->auth_user = user;
    b->route->auth_secret = name;
}

static const struct block_key route_keys[] = {
    {"group", false, route_group},  {"deliver", false, route_deliver},
    {"server", true, route_server}, {"port", false, route_port},
    {"tls", false, route_tls},      {"auth", false, route_auth},
};

static bool route_name_valid(struct sv name)
{
    if (name.n < 4 || name.n > 50)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char ch = name.p[i];
        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
              ch == '-' || ch == '_' || ch == '.'))
            return false;
    }
    return true;
}

static void route_end(struct compile *c, const struct route_block *b, bool last)
{
    const struct route *r = b->route;

    if (!r)
        return;
    if (b->servers && !r->n_hosts)
        compile_error(c, b->line, r->name, "deliver = servers needs a server line");
    if (!b->servers && r->n_hosts)
        compile_error(c, b->line, r->name, "server lines need deliver = servers");
    if (r->auth_user.n && !r->tls)
        compile_error(c, b->line, r->name, "auth needs TLS; it is never sent in clear");
    if (!last && !r->group && !b->bad)
        compile_error(c, b->line, r->name, "only the last route may lack a group line");
    if (last && (r->group || b->bad))
        compile_error(c, b->line, r->name,
                      "the last route must have no group line: it is the default route");
}

static void *route_begin(struct compile *c, void *ctx, const struct conf_item *item)
{
    struct route_block *b = ctx;
    struct settings *s = c->s;

    route_end(c, b, false);
    if (!route_name_valid(item->value))
        compile_error(c, item->line, item->value,
                      "route name: 4-50 letters, digits, \"-\", \"_\", \".\"");
    for (uint32_t i = 0; i < s->n_routes; i++)
        if (sv_eq(s->routes[i].name, item->value))
            compile_error(c, item->line, item->value, "a route of this name stands above");
    *b = (struct route_block){.route = &s->routes[s->n_routes++], .line = item->line};
    *b->route = (struct route){.name = item->value, .tls = true, .port = PORT_DEFAULT};
    b->route->hosts = compile_array(c, ROUTE_HOSTS_MAX, sizeof(struct host));
    return b->route->hosts ? b : NULL;
}

static const struct block_kind route_kind = {"route", route_keys, ARRAY_LEN(route_keys),
                                             route_begin};

static const char default_route[] = "[route default]\n";

void compile_routes(struct compile *c, struct sv text)
{
    struct route_block last = {0};

    text = text.p ? text : sv_str(default_route);
    c->s->routes = compile_array(c, conf_count_sections(text), sizeof(struct route));
    if (c->s->routes)
        blocks_compile(c, text, &route_kind, &last);
    route_end(c, &last, true);
    if (!c->s->n_routes)
        compile_error(c, 0, SV_NULL, "no route; the last [route NAME] is the default route");
}

static void export_host(const struct host *h, struct buf *out)
{
    bool v6 = sv_find_byte(h->name, ':') != SIZE_MAX;

    (void)buf_printf(out, "server = %s%.*s%s:%u preference=%u mx=%s\n", v6 ? "[" : "",
                     SV_ARG(h->name), v6 ? "]" : "", (unsigned)h->port, (unsigned)h->preference,
                     h->mx ? "yes" : "no");
}

void export_routes(const struct settings *s, struct buf *out)
{
    (void)buf_printf(out, "# Routes in order: the first whose domain group has the recipient's "
                          "domain is taken;\n# the last has no group and takes the rest\n");
    for (uint32_t i = 0; i < s->n_routes; i++) {
        const struct route *r = &s->routes[i];
        (void)buf_printf(out, "\n[route %.*s]\n", SV_ARG(r->name));
        if (r->group)
            (void)buf_printf(out, "group = %.*s\n", SV_ARG(r->group->name));
        (void)buf_printf(out, "deliver = %s\n", r->n_hosts ? "servers" : "mx");
        for (uint32_t j = 0; j < r->n_hosts; j++)
            export_host(&r->hosts[j], out);
        if (!r->n_hosts || r->port != PORT_DEFAULT)
            (void)buf_printf(out, "port = %u\n", (unsigned)r->port);
        (void)buf_printf(out, "tls = %s\n", r->tls ? "opportunistic" : "off");
        if (r->auth_user.n)
            (void)buf_printf(out, "auth = %.*s secret:%.*s\n", SV_ARG(r->auth_user),
                             SV_ARG(r->auth_secret));
    }
}

/* ---- submitters ---- */

static bool user_valid(struct sv user)
{
    for (size_t i = 0; i < user.n; i++)
        if (user.p[i] <= ' ' || user.p[i] > '~' || user.p[i] == ']')
            return false;
    return user.n > 0 && user.n <= 254;
}

static void submitter_hash(struct compile *c, void *block, const struct conf_item *item)
{
    struct submitter *u = block;

    if (!sv_starts(item->value, SV("$argon2id$")) || item->value.n > 127)
        compile_error(c, item->line, item->key, "not an argon2id hash ($argon2id$...)");
    else
        u->hash = item->value;
}

static const struct block_key submitter_keys[] = {{"hash", false, submitter_hash}};

static void *submitter_begin(struct compile *c, void *ctx UNUSED, const struct conf_item *item)
{
    struct settings *s = c->s;

    if (!user_valid(item->value)) {
        compile_error(c, item->line, SV_NULL, "expected [submitter NAME], NAME without spaces");
        return NULL;
    }
    for (uint32_t i = 0; i < s->n_submitters; i++)
        if (sv_eq(s->submitters[i].user, item->value))
            compile_error(c, item->line, item->value, "a submitter of this name stands above");
    s->submitters[s->n_submitters].user = item->value;
    return &s->submitters[s->n_submitters++];
}

static const struct block_kind submitter_kind = {"submitter", submitter_keys,
                                                 ARRAY_LEN(submitter_keys), submitter_begin};

void compile_submitters(struct compile *c, struct sv text)
{
    struct settings *s = c->s;

    s->submitters = compile_array(c, conf_count_sections(text), sizeof(struct submitter));
    if (!s->submitters)
        return;
    blocks_compile(c, text, &submitter_kind, NULL);
    for (uint32_t i = 0; i < s->n_submitters; i++)
        if (!s->submitters[i].hash.n)
            compile_error(c, 0, s->submitters[i].user, "lacks its hash line");
}

void export_submitters(const struct settings *s, struct buf *out)
{
    (void)buf_printf(out, "# Users who may submit mail after AUTH\n");
    for (uint32_t i = 0; i < s->n_submitters; i++)
        (void)buf_printf(out, "\n[submitter %.*s]\nhash = %.*s\n", SV_ARG(s->submitters[i].user),
                         SV_ARG(s->submitters[i].hash));
}

/* ---- key phrases ---- */

static size_t characters(struct sv v)
{
    size_t n = 0;

    for (size_t i = 0; i < v.n; i++)
        n += ((uint8_t)v.p[i] & 0xc0) != 0x80;
    return n;
}

static void phrase_text(struct compile *c, void *block, const struct conf_item *item)
{
    struct phrase *p = block;

    if (!item->value.n || characters(item->value) > PHRASE_MAX)
        compile_error(c, item->line, item->key, "a phrase has 1-%d characters", PHRASE_MAX);
    else
        p->text = item->value;
}

static const struct block_key phrase_keys[] = {{"text", false, phrase_text}};

static void *phrase_begin(struct compile *c, void *ctx UNUSED, const struct conf_item *item)
{
    struct settings *s = c->s;

    if (!name_valid(item->value, 1, 50)) {
        compile_error(c, item->line, SV_NULL,
                      "expected [phrase NAME], NAME of 1-50 a-z, 0-9 and \"-\"");
        return NULL;
    }
    for (uint32_t i = 0; i < s->n_phrases; i++)
        if (sv_eq(s->phrases[i].name, item->value))
            compile_error(c, item->line, item->value, "a phrase of this name stands above");
    s->phrases[s->n_phrases].name = item->value;
    return &s->phrases[s->n_phrases++];
}

static const struct block_kind phrase_kind = {"phrase", phrase_keys, ARRAY_LEN(phrase_keys),
                                              phrase_begin};

void compile_phrases(struct compile *c, struct sv text)
{
    struct settings *s = c->s;

    s->phrases = compile_array(c, conf_count_sections(text), sizeof(struct phrase));
    if (!s->phrases)
        return;
    blocks_compile(c, text, &phrase_kind, NULL);
    for (uint32_t i = 0; i < s->n_phrases; i++)
        if (!s->phrases[i].text.n)
            compile_error(c, 0, s->phrases[i].name, "lacks its text line");
}

void export_phrases(const struct settings *s, struct buf *out)
{
    (void)buf_printf(out, "# Key phrases: literal text, found in any case; conditions say "
                          "phrase:NAME\n");
    for (uint32_t i = 0; i < s->n_phrases; i++)
        (void)buf_printf(out, "\n[phrase %.*s]\ntext = %.*s\n", SV_ARG(s->phrases[i].name),
                         SV_ARG(s->phrases[i].text));
}
