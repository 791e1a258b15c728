#include "base/rng.h"
#include "core/test_util.h"

static struct settings_errors errors;

static enum err compile_tree(struct sv tree, struct arena *a, struct settings **out_s)
{
    return settings_compile(tree, 7, a, out_s, &errors);
}

/* ---- the default tree ---- */

static void default_tree_is_canonical(void **state)
{
    struct arena a;
    struct settings *s;
    struct buf out;

    (void)state;
    arena_init(&a, TEST_ARENA_MAX);
    buf_init(&out, SETTINGS_TREE_MAX);
    enum err err = compile_tree(settings_default_tree(), &a, &s);
    test_print_errors(&errors);
    assert_int_equal(err, ERR_OK);
    assert_int_equal(settings_export(s, &out), ERR_OK);
    if (!sv_eq(buf_sv(&out), settings_default_tree()))
        fail_msg("share/settings is not canonical: run tools/regen-default-settings");
    buf_done(&out);
    arena_done(&a);
}

static void default_settings_protect(void **state)
{
    struct arena a;
    struct settings *s;

    (void)state;
    arena_init(&a, TEST_ARENA_MAX);
    assert_int_equal(compile_tree(settings_default_tree(), &a, &s), ERR_OK);
    assert_int_equal(s->revision, 7);
    assert_int_equal(s->encryption_method, METHOD_TLS);
    assert_int_equal(s->encryption_backup, METHOD_NONE);
    assert_int_equal(s->encryption_level, TLS_LEVEL_ENCRYPT);
    assert_int_equal(s->encryption_strength, 128);
    assert_int_equal(s->delivery_retry_interval_min, 15);
    assert_int_equal(s->delivery_max_retry_min, 1440);
    assert_int_equal(s->conn_per_ip, 10);
    assert_int_equal(s->conn_timeout_s, 300);
    assert_int_equal(s->msg_max_kb, 10240);
    assert_int_equal(s->msg_max_session_kb, 20480);
    assert_int_equal(s->dlp_outbound, DLP_ENFORCE);
    assert_int_equal(s->exceptions_on_scan_failure, EXCEPTION_HOLD);
    assert_false(s->relay_trusted_bypass_analysis);
    assert_int_equal(s->tls_min_version, 0x0303);
    assert_int_equal(s->n_routes, 1);
    assert_sv(s->routes[0].name, "default");
    assert_true(s->routes[0].tls && !s->routes[0].n_hosts && s->routes[0].port == 25);
    assert_int_equal(s->protected_domains->n_entries, 0);
    assert_int_equal(s->trusted_ips->n_entries, 0);
    assert_int_equal(s->gateway_ips->n_entries, 0);
    assert_int_equal(s->n_policies, 3);
    assert_sv(s->policies[0].name, "opaque-content");
    assert_false(s->policies[0].enabled);
    assert_sv(s->policies[1].name, "pci-card-numbers");
    assert_true(s->policies[1].enabled);
    assert_int_equal(s->policies[1].directions, 1 << DIRECTION_OUTBOUND);
    arena_done(&a);
}

static void empty_tree_takes_defaults(void **state)
{
    struct arena a;
    struct settings *s;

    (void)state;
    arena_init(&a, TEST_ARENA_MAX);
    assert_int_equal(compile_tree(SV(""), &a, &s), ERR_OK);
    assert_int_equal(s->n_routes, 1);
    assert_int_equal(s->n_policies, 0);
    assert_non_null(s->protected_domains);
    assert_non_null(s->trusted_ips);
    assert_non_null(s->gateway_ips);
    assert_int_equal(s->delivery_retry_interval_min, 15);
    arena_done(&a);
}

/* ---- every row of the table ---- */

static void check_value(const struct setting *row, const char *value, bool good)
{
    struct arena a;
    struct settings *s = NULL;
    struct buf tree, text;
    char file[64], conf[1024];

    arena_init(&a, TEST_ARENA_MAX);
    buf_init(&tree, 1u << 20);
    buf_init(&text, 1u << 20);
    (void)snprintf(file, sizeof(file), "%s.conf", row->file);
    (void)snprintf(conf, sizeof(conf), "%s = %s\n", row->key, value);
    const struct piece pieces[] = {{file, conf}, {NULL, NULL}};
    test_tree(pieces, &tree);
    enum err err = compile_tree(buf_sv(&tree), &a, &s);
    if (good != (err == ERR_OK))
        fail_msg("%s.%s = %s: %s", row->file, row->key, value, errors.list[0].text);
    if (good) {
        setting_format(row, s, &text);
        assert_sv(buf_sv(&text), value);
    } else {
        assert_string_equal(errors.list[0].file, file);
        assert_string_equal(errors.list[0].key, row->key);
        assert_int_equal(errors.list[0].line, 1);
    }
    buf_done(&text);
    buf_done(&tree);
    arena_done(&a);
}

static void check_number(const struct setting *row, uint32_t n, bool good)
{
    char text[16];

    (void)snprintf(text, sizeof(text), "%u", n);
    check_value(row, text, good);
}

/* Rows whose extremes collide with a check across rows are tested there. */
static bool bound_elsewhere(const struct setting *row, uint32_t n)
{
    if (row == setting_find(SV("delivery.max_retry_min")))
        return n < 15;
    if (row == setting_find(SV("msg.max_session_kb")))
        return n < 10240;
    return row == setting_find(SV("msg.max_kb")) && n > 20480;
}

static void table_ranges_hold(void **state)
{
    (void)state;
    assert_true(settings_table_n > 50);
    for (size_t i = 0; i < settings_table_n; i++) {
        const struct setting *row = &settings_table[i];
        switch (row->kind) {
        case SETTING_NUMBER:
            assert_true(row->def >= row->min && row->def <= row->max);
            if (!bound_elsewhere(row, row->min))
                check_number(row, row->min, true);
            if (!bound_elsewhere(row, row->max))
                check_number(row, row->max, true);
            check_number(row, row->max + 1, false);
            if (row->min)
                check_number(row, row->min - 1, false);
            check_value(row, "-1", false);
            check_value(row, "1x", false);
            check_value(row, "", false);
            break;
        case SETTING_BOOL:
            check_value(row, "yes", true);
            check_value(row, "no", true);
            check_value(row, "true", false);
            break;
        case SETTING_CHOICE:
            for (size_t k = 0; k < row->choices->n; k++)
                check_value(row, row->choices->rows[k].name, row->choices->rows[k].available);
            check_value(row, "nonsense", false);
            break;
        case SETTING_TEXT:
            check_value(row, "", true);
            break;
        }
    }
}

static void texts_are_bounded(void **state)
{
    char text[600];

    (void)state;
    memset(text, 'a', sizeof(text));
    for (size_t i = 0; i < settings_table_n; i++) {
        const struct setting *row = &settings_table[i];
        if (row->kind != SETTING_TEXT)
            continue;
        text[row->max + 1] = '\0';
        check_value(row, text, false);
        text[row->max + 1] = 'a';
    }
    check_value(setting_find(SV("general.fqdn")), "gw.example.com", true);
    check_value(setting_find(SV("general.sender_address")), "gw@example.com", true);
    check_value(setting_find(SV("dns.servers")), "127.0.0.1, 192.0.2.1:5353, ::1, [::1]:53", true);
}

static void rows_are_found(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 1000);
    assert_non_null(setting_find(SV("conn.per_ip")));
    assert_null(setting_find(SV("conn.per_ipp")));
    assert_null(setting_find(SV("conn")));
    assert_null(setting_find(SV("")));
    setting_range_format(setting_find(SV("conn.per_ip")), &b);
    assert_sv(buf_sv(&b), "1-500; default 10");
    buf_reset(&b);
    setting_range_format(setting_find(SV("encryption.strength")), &b);
    assert_sv(buf_sv(&b), "medium, high; default medium");
    buf_reset(&b);
    setting_range_format(setting_find(SV("tls.offer")), &b);
    assert_sv(buf_sv(&b), "yes or no; default yes");
    buf_reset(&b);
    setting_range_format(setting_find(SV("tls.prefer_rsa")), &b);
    assert_sv(buf_sv(&b), "yes or no; default no");
    buf_reset(&b);
    setting_range_format(setting_find(SV("general.fqdn")), &b);
    assert_sv(buf_sv(&b), "text of at most 255 bytes; default empty");
    buf_done(&b);
}

/* ---- groups ---- */

static void domain_groups_match_whole_names(void **state)
{
    static const struct piece pieces[] = {
        {"groups/domain/protected.txt", "Example.COM\n*.sub.example.org\nb.example\nb.example.\n"},
        {NULL, NULL}};
    static const struct {
        const char *domain;
        bool in;
    } rows[] = {
        {"example.com", true},
        {"EXAMPLE.com", true},
        {"example.com.", true},
        {"a.example.com", false},
        {"xexample.com", false},
        {"example.com.evil", false},
        {"sub.example.org", false},
        {"a.sub.example.org", true},
        {"a.b.sub.example.org", true},
        {"asub.example.org", false},
        {"b.example", true},
        {"", false},
        {".", false},
        {"*.sub.example.org", true},
        {"com", false},
        {".sub.example.org", false},
    };
    struct arena a;

    (void)state;
    arena_init(&a, TEST_ARENA_MAX);
    struct settings *s = test_compile(pieces, &a);
    assert_int_equal(s->protected_domains->n_entries, 3);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (domain_group_has(s->protected_domains, sv_str(rows[i].domain)) != rows[i].in)
            fail_msg("%s", rows[i].domain);
    assert_false(domain_group_has(NULL, SV("example.com")));
    char longest[300];
    memset(longest, 'a', sizeof(longest));
    assert_false(domain_group_has(s->protected_domains, sv_of(longest, sizeof(longest))));
    arena_done(&a);
}

static void ip_groups_match_prefixes(void **state)
{
    static const struct piece pieces[] = {
        {"groups/ip/trusted.txt", "10.1.0.0/16\n192.0.2.7\n2001:db8::/32\n10.1.0.0/16\n"},
        {"groups/ip/all.txt", "::/0\n"},
        {"groups/ip/every4.txt", "0.0.0.0/0\n"},
        {NULL, NULL}};
    static const struct {
        const char *group, *ip;
        bool in;
    } rows[] = {
        {"trusted", "10.1.2.3", true},    {"trusted", "10.2.0.1", false},
        {"trusted", "192.0.2.7", true},   {"trusted", "192.0.2.6", false},
        {"trusted", "2001:db8::1", true}, {"trusted", "2001:db9::1", false},
        {"all", "2001:db8::1", true},     {"all", "10.1.2.3", false},
        {"every4", "10.1.2.3", true},     {"every4", "2001:db8::1", false},
    };
    struct arena a;

    (void)state;
    arena_init(&a, TEST_ARENA_MAX);
    struct settings *s = test_compile(pieces, &a);
    assert_int_equal(s->trusted_ips->n_entries, 3);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ip ip;
        assert_true(ip_parse(sv_str(rows[i].ip), &ip));
        const struct ip_group *g = settings_ip_group(s, sv_str(rows[i].group));
        bool in = ip_group_has(g, &ip), plain = false;
        for (uint32_t k = 0; k < g->n_entries; k++)
            plain |= cidr_has(&g->entries[k], &ip);
        assert_int_equal(in, plain); /* the index agrees with the definition */
        if (in != rows[i].in)
            fail_msg("%s in %s", rows[i].ip, rows[i].group);
    }
    assert_null(settings_ip_group(s, SV("none")));
    assert_null(settings_domain_group(s, SV("none")));
    assert_false(ip_group_has(s->gateway_ips, &s->trusted_ips->entries[0].net));
    arena_done(&a);
}

/* The index of an IP group agrees with the plain definition on random groups. */
static void ip_groups_agree_with_definition(void **state)
{
    struct rng rng = rng_seeded(11);

    (void)state;
    for (int round = 0; round < 200; round++) {
        struct arena a;
        char text[4096];
        size_t used = 0;
        for (int i = 0; i < 20; i++) {
            uint32_t bits = (uint32_t)(rng_u64(&rng) % 33);
            uint32_t net = (uint32_t)rng_u64(&rng) & 0x0f0f0f0fu;
            net = bits ? net & ~(uint32_t)(0xffffffffull >> bits) : 0;
            if (bits > 4)
                used +=
                    (size_t)snprintf(text + used, sizeof(text) - used, "%u.%u.%u.%u/%u\n",
                                     net >> 24, net >> 16 & 255, net >> 8 & 255, net & 255, bits);
        }
        text[used] = '\0';
        arena_init(&a, TEST_ARENA_MAX);
        const struct piece pieces[] = {{"groups/ip/trusted.txt", text}, {NULL, NULL}};
        struct settings *s = test_compile(pieces, &a);
        for (int i = 0; i < 50; i++) {
            uint32_t n = (uint32_t)rng_u64(&rng) & 0x0f0f0f0fu;
            struct ip ip = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, (uint8_t)(n >> 24),
                             (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n}};
            bool plain = false;
            for (uint32_t k = 0; k < s->trusted_ips->n_entries; k++)
                plain |= cidr_has(&s->trusted_ips->entries[k], &ip);
            assert_int_equal(ip_group_has(s->trusted_ips, &ip), plain);
        }
        arena_done(&a);
    }
}

/* ---- parsed values ---- */

static void routes_are_read(void **state)
{
    static const struct piece pieces[] = {
        {"groups/domain/partners.txt", "partner.example\n"},
        {"routes.conf", "[route partners]\r\n"
                        "group = partners\r\n"
                        "deliver = servers\n"
                        "server = Relay.partner.example:2525 preference=10 mx=yes\n"
                        "server = [2001:DB8::1]:26\n"
                        "server = 192.0.2.1 mx=no preference=1\n"
                        "auth = me@example.com secret:partner\n"
                        "\n[route default]\nport = 2525\ntls = off\n"},
        {NULL, NULL}};
    struct arena a;

    (void)state;
    arena_init(&a, TEST_ARENA_MAX);
    const struct route *r = test_compile(pieces, &a)->routes;
    assert_sv(r[0].group->name, "partners");
    assert_int_equal(r[0].n_hosts, 3);
    assert_sv(r[0].hosts[0].name, "Relay.partner.example");
    assert_int_equal(r[0].hosts[0].port, 2525);
    assert_int_equal(r[0].hosts[0].preference, 10);
    assert_true(r[0].hosts[0].mx);
    assert_sv(r[0].hosts[1].name, "2001:db8::1");
    assert_int_equal(r[0].hosts[1].port, 26);
    assert_int_equal(r[0].hosts[1].preference, 5);
    assert_sv(r[0].hosts[2].name, "192.0.2.1");
    assert_int_equal(r[0].hosts[2].port, 25);
    assert_int_equal(r[0].hosts[2].preference, 1);
    assert_sv(r[0].auth_user, "me@example.com");
    assert_sv(r[0].auth_secret, "partner");
    assert_true(r[0].tls);
    assert_null(r[1].group);
    assert_int_equal(r[1].port, 2525);
    assert_false(r[1].tls);
    arena_done(&a);
}

static void policies_are_read(void **state)
{
    static const struct piece pieces[] = {
        {"groups/domain/partners.txt", "partner.example\n"},
        {"phrases.conf", "[phrase project-x]\ntext = Project X\n"},
        {"policies/p.conf", "[policy]\n"
                            "description = A policy\n"
                            "direction = inbound, internal\n"
                            "senders = a@example.com, @example.org\n"
                            "destinations = partners\n"
                            "[rule r]\n"
                            "match = any\n"
                            "count = each-part\n"
                            "condition = not phrase:project-x between 1 and 3\n"
                            "condition = CREDIT_CARD at least 2 unique\n"
                            "condition = size at least 1024 kb\n"
                            "condition = property encrypted\n"
                            "condition = US_SSN none\n"
                            "action = permit severity=low\n"
                            "action = encrypt from=5\n"
                            "action = quarantine severity=high from=10 encrypt-on-release\n"},
        {NULL, NULL}};
    struct arena a;

    (void)state;
    arena_init(&a, TEST_ARENA_MAX);
    struct settings *s = test_compile(pieces, &a);
    const struct policy *p = &s->policies[0];
    const struct rule *r = &p->rules[0];
    assert_sv(p->description, "A policy");
    assert_int_equal(p->directions, 1 << DIRECTION_INBOUND | 1 << DIRECTION_INTERNAL);
    assert_int_equal(p->n_senders, 2);
    assert_sv(p->senders[1], "@example.org");
    assert_ptr_equal(p->destinations, settings_domain_group(s, SV("partners")));
    assert_true(r->any && r->each_part && r->enabled && p->enabled);
    assert_int_equal(r->n_conditions, 5);
    assert_int_equal(r->conditions[0].kind, COND_CLASSIFIER);
    assert_sv(r->conditions[0].name, "project-x");
    assert_true(r->conditions[0].negate && !r->conditions[0].unique);
    assert_int_equal(r->conditions[0].low, 1);
    assert_int_equal(r->conditions[0].high, 3);
    assert_true(r->conditions[1].unique);
    assert_int_equal(r->conditions[2].low, 1024);
    assert_int_equal(r->conditions[3].kind, COND_PROPERTY);
    assert_int_equal(r->conditions[4].threshold, THRESHOLD_NONE);
    assert_int_equal(r->n_lines, 3);
    assert_int_equal(r->lines[1].severity, SEVERITY_MEDIUM);
    assert_int_equal(r->lines[1].matches, 5);
    assert_int_equal(r->lines[2].action, ACTION_QUARANTINE);
    assert_true(r->lines[2].encrypt_on_release);
    arena_done(&a);
}

/* ---- random settings: export(compile(export(compile(x)))) == export(compile(x)) ---- */

static uint32_t pick(struct rng *rng, uint32_t n)
{
    return (uint32_t)(rng_u64(rng) % n);
}

static void random_scalar(struct rng *rng, const struct setting *row, struct buf *b)
{
    (void)buf_printf(b, "%s = ", row->key);
    switch (row->kind) {
    case SETTING_NUMBER: /* pairs with a check across rows keep their default */
        (void)buf_printf(b, "%u\n",
                         bound_elsewhere(row, 1) || bound_elsewhere(row, UINT32_MAX) ||
                                 row == setting_find(SV("delivery.retry_interval_min"))
                             ? row->def
                             : row->min + pick(rng, row->max - row->min + 1));
        break;
    case SETTING_BOOL:
        (void)buf_printf(b, "%s\n", pick(rng, 2) ? "yes" : "no");
        break;
    case SETTING_TEXT:
        (void)buf_printf(b, "\n");
        break;
    case SETTING_CHOICE: {
        const struct name_row *r = &row->choices->rows[pick(rng, (uint32_t)row->choices->n)];
        (void)buf_printf(b, "%s\n",
                         r->available                      ? r->name
                         : row->choices->rows[0].available ? row->choices->rows[0].name
                                                           : "");
        break;
    }
    }
}

static void random_routes(struct rng *rng, struct buf *b)
{
    for (uint32_t i = 0, n = pick(rng, 4); i < n; i++) {
        (void)buf_printf(b, "[route route%u]\ngroup=g%u\n", i, pick(rng, 3));
        if (pick(rng, 2)) {
            (void)buf_printf(b, "deliver = servers\n");
            for (uint32_t k = 0, m = 1 + pick(rng, 4); k < m; k++)
                (void)buf_printf(b, "server=%s:%u preference=%u\n",
                                 pick(rng, 2) ? "[2001:db8:0::1]" : "h.example",
                                 1 + pick(rng, 65535), 1 + pick(rng, 9));
        }
        if (pick(rng, 3) == 0)
            (void)buf_printf(b, "port=%u\n", 1 + pick(rng, 65535));
        if (pick(rng, 3) == 0)
            (void)buf_printf(b, "%s\n", pick(rng, 2) ? "tls = off" : "auth = u secret:s");
    }
    (void)buf_printf(b, "   [  route   last ]  \n");
}

static void random_condition(struct rng *rng, struct buf *b)
{
    static const char *const rows[] = {
        "CREDIT_CARD at least %u",
        "US_SSN at least %u unique",
        "phrase:one between %u and 999",
        "CREDIT_CARD none",
        "attachments at least %u",
        "size at least %u kb",
        "size between %u and 99999 kb",
        "destinations between %u and 999",
        "file-name  *.d%uc",
        "file-type image/*",
        "property  opaque",
        "property type-mismatch",
        "everything",
        "phrase:two   at least   %u",
    };

    (void)buf_printf(b, "condition= %s", pick(rng, 3) ? "" : "not ");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)buf_printf(b, rows[pick(rng, ARRAY_LEN(rows))], 1 + pick(rng, 999));
#pragma GCC diagnostic pop
    (void)buf_append_byte(b, '\n');
}

static void random_policy(struct rng *rng, struct buf *b)
{
    static const char *const directions[] = {"inbound", "outbound,internal",
                                             "internal, inbound , outbound"};
    static const char *const actions[] = {"permit", "encrypt severity=high", "quarantine",
                                          "quarantine severity=low encrypt-on-release"};

    if (pick(rng, 4))
        (void)buf_printf(b, "[policy]\ndescription=\xc3\xa4 d%u\ndirection=%s\n", pick(rng, 99),
                         directions[pick(rng, 3)]);
    if (b->n && pick(rng, 3) == 0)
        (void)buf_printf(b, "senders = A@b.example,@c.example\ndestinations = g%u\n", pick(rng, 3));
    for (uint32_t i = 0, n = pick(rng, 4); i < n; i++) {
        (void)buf_printf(b, "[rule r%u]\n%s%s", i, pick(rng, 2) ? "match = any\n" : "",
                         pick(rng, 2) ? "count = each-part\n" : "");
        for (uint32_t k = 0, m = 1 + pick(rng, 5); k < m; k++)
            random_condition(rng, b);
        for (uint32_t k = 0, m = 1 + pick(rng, 3); k < m; k++)
            (void)buf_printf(b, "action = %s from=%u\n", actions[pick(rng, 4)], 1 + 5 * k);
    }
}

/* A random tree that is valid; pieces live in bufs. */
static void random_tree(struct rng *rng, struct buf *out)
{
    struct buf texts[32];
    struct piece pieces[33] = {{0}};
    char names[32][48];
    uint32_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        buf_init(&texts[i], 1u << 20);
    for (size_t i = 0; i < settings_table_n; i++) {
        const struct setting *row = &settings_table[i];
        if (!n || strncmp(names[n - 1], row->file, strlen(row->file)) != 0)
            (void)snprintf(names[n++], sizeof(names[0]), "%s.conf", row->file);
        if (pick(rng, 2))
            random_scalar(rng, row, &texts[n - 1]);
    }
    for (uint32_t i = 0; i < 3; i++, n++) {
        (void)snprintf(names[n], sizeof(names[0]), "groups/domain/g%u.txt", i);
        for (uint32_t k = 0, m = pick(rng, 5); k < m; k++)
            (void)buf_printf(&texts[n], "%sD%u.example\n", pick(rng, 2) ? "*." : "", pick(rng, 9));
    }
    for (uint32_t i = 0; i < 3; i++, n++) {
        (void)snprintf(names[n], sizeof(names[0]), "policies/p%u%s.conf", i, i ? "-a" : "");
        random_policy(rng, &texts[n]);
    }
    (void)snprintf(names[n], sizeof(names[0]), "phrases.conf");
    (void)buf_printf(&texts[n++], "[phrase one]\ntext=x  y\n[phrase two]\ntext = [#]\n");
    (void)snprintf(names[n], sizeof(names[0]), "routes.conf");
    random_routes(rng, &texts[n++]);
    for (uint32_t i = 0; i < n; i++) {
        (void)buf_append_byte(&texts[i], '\0');
        pieces[i] = (struct piece){names[i], texts[i].p};
    }
    test_tree(pieces, out);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        buf_done(&texts[i]);
}

static void random_settings_round_trip(void **state)
{
    struct rng rng = rng_seeded(42);

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct arena a;
        struct settings *s;
        struct buf tree, once, again;

        arena_init(&a, TEST_ARENA_MAX);
        buf_init(&tree, SETTINGS_TREE_MAX);
        buf_init(&once, SETTINGS_TREE_MAX);
        buf_init(&again, SETTINGS_TREE_MAX);
        random_tree(&rng, &tree);
        enum err err = compile_tree(buf_sv(&tree), &a, &s);
        if (err)
            test_print_errors(&errors);
        assert_int_equal(err, ERR_OK);
        assert_int_equal(settings_export(s, &once), ERR_OK);
        assert_int_equal(compile_tree(buf_sv(&once), &a, &s), ERR_OK);
        assert_int_equal(settings_export(s, &again), ERR_OK);
        assert_true(sv_eq(buf_sv(&once), buf_sv(&again)));
        buf_done(&again);
        buf_done(&once);
        buf_done(&tree);
        arena_done(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_tree_is_canonical),
        cmocka_unit_test(default_settings_protect),
        cmocka_unit_test(empty_tree_takes_defaults),
        cmocka_unit_test(table_ranges_hold),
        cmocka_unit_test(texts_are_bounded),
        cmocka_unit_test(rows_are_found),
        cmocka_unit_test(domain_groups_match_whole_names),
        cmocka_unit_test(ip_groups_match_prefixes),
        cmocka_unit_test(ip_groups_agree_with_definition),
        cmocka_unit_test(routes_are_read),
        cmocka_unit_test(policies_are_read),
        cmocka_unit_test(random_settings_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
