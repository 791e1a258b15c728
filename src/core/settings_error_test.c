/* What is said about settings that are wrong: the place, the key, the reason, a suggestion. */
#include "core/test_util.h"

static struct settings_errors errors;

static enum err compile_tree(struct sv tree, struct arena *a, struct settings **out_s)
{
    return settings_compile(tree, 7, a, out_s, &errors);
}

/* ---- errors: one file, what is said about it ---- */

struct bad {
    const char *file, *text, *error;
};
static const struct bad bad_table[] = {
    {"delivery.conf", "retry_intervall_min = 5\n",
     "delivery.conf:1: retry_intervall_min: unknown key \"retry_intervall_min\"; did you mean "
     "\"retry_interval_min\"?"},
    {"delivery.conf", "\n# c\nretry_interval_min = 0\n",
     "delivery.conf:3: retry_interval_min: \"0\" is not a number from 1 to 1440"},
    {"delivery.conf", "per_ip = 5\n",
     "delivery.conf:1: per_ip: unknown key \"per_ip\"; it belongs into conn.conf"},
    {"delivery.conf", "xyzzy_plugh = 5\n",
     "delivery.conf:1: xyzzy_plugh: unknown key \"xyzzy_plugh\""},
    {"delivery.conf", "retry_interval_min = 15\nretry_interval_min = 15\n",
     "delivery.conf:2: retry_interval_min: stands twice"},
    {"delivery.conf", "retry_interval_min 5\n",
     "delivery.conf:1: retry_interval_min 5: expected \"key = value\""},
    {"delivery.conf", "= 5\n", "delivery.conf:1: expected \"key = value\""},
    {"delivery.conf", "[retry]\n", "delivery.conf:1: this file has no sections, only keys"},
    {"delivery.conf", "[retry\n", "delivery.conf:1: section header lacks its closing bracket"},
    {"delivery.conf", "[]\n", "delivery.conf:1: section header lacks its closing bracket"},
    {"delivery.conf", "max_retry_min = 14\n",
     "delivery.conf:1: max_retry_min: must not be less than retry_interval_min (15)"},
    {"delivery.conf", "ndr_failure_address = nobody\n",
     "delivery.conf:1: ndr_failure_address: \"nobody\" is not a mail address"},
    {"delivery.conf", "retry_interval_min = 5\001\n",
     "delivery.conf:1: control character or damaged UTF-8 in the line"},
    {"general.conf", "fqdn = gw\xff\n",
     "general.conf:1: control character or damaged UTF-8 in the line"},
    {"general.conf", "fqdn = -gw.example\n",
     "general.conf:1: fqdn: \"-gw.example\" is not a host name"},
    {"general.conf", "administrator_address = a@[\n",
     "general.conf:1: administrator_address: \"a@[\" is not a mail address"},
    {"msg.conf", "max_session_kb = 10239\n",
     "msg.conf:1: max_session_kb: must not be less than max_kb (10240)"},
    {"dns.conf", "servers = 127.0.0.1:0\n",
     "dns.conf:1: servers: \"127.0.0.1:0\" is not an address with port"},
    {"dns.conf", "servers = resolver.example\n",
     "dns.conf:1: servers: \"resolver.example\" is not an address with port"},
    {"dns.conf", "servers = [127.0.0.1]:53\n",
     "dns.conf:1: servers: \"[127.0.0.1]:53\" is not an address with port"},
    {"dns.conf", "servers = [::1:53\n",
     "dns.conf:1: servers: \"[::1:53\" is not an address with port"},
    {"encryption.conf", "method = portal\n",
     "encryption.conf:1: method: method portal is not available in this version"},
    {"encryption.conf", "backup = thirdparty\n",
     "encryption.conf:1: backup: backup thirdparty is not available in this version"},
    {"encryption.conf", "method = none\n",
     "encryption.conf:1: method: unknown method \"none\"; one of: tls"},
    {"encryption.conf", "level = verfy\n",
     "encryption.conf:1: level: unknown level \"verfy\"; one of: encrypt, encrypt_cn, verify, "
     "verify_cn; did you mean \"verify\"?"},
    {"encryption.conf", "level = opportunistic\n",
     "encryption.conf:1: level: unknown level \"opportunistic\"; one of: encrypt, encrypt_cn, "
     "verify, "
     "verify_cn"},
    {"tls.conf", "offer = on\n", "tls.conf:1: offer: \"on\" is neither yes nor no"},
    {"relay.conf", "outbound = all_internal\n",
     "relay.conf:1: outbound: mode all_internal is not available in this version"},
    {"deliver.conf", "", "deliver.conf: unknown file; did you mean \"delivery.conf\"?"},
    {"quux/quuux.json", "", "quux/quuux.json: unknown file"},
    {"groups/domain/a.txt", "example.com\nexa mple.com\n",
     "groups/domain/a.txt:2: \"exa mple.com\" is not a domain; one domain a line, *.example.com = "
     "subdomains"},
    {"groups/domain/a.txt", "*\n",
     "groups/domain/a.txt:1: \"*\" is not a domain; one domain a line, *.example.com = subdomains"},
    {"groups/domain/a_b.txt", "", "groups/domain/a_b.txt: group name: 1-50 of a-z, 0-9 and \"-\""},
    {"groups/ip/a.txt", "10.0.0.1/8\n",
     "groups/ip/a.txt:1: \"10.0.0.1/8\" is not an address or a prefix with its host bits zero"},
    {"groups/ip/a.txt", "localhost\n",
     "groups/ip/a.txt:1: \"localhost\" is not an address or a prefix with its host bits zero"},
    {"routes.conf", "", "routes.conf: no route; the last [route NAME] is the default route"},
    {"routes.conf", "tls = off\n[route default]\n",
     "routes.conf:1: tls: stands outside a [route NAME] block"},
    {"routes.conf", "[rout default]\n", "routes.conf:1: expected [route NAME]"},
    {"routes.conf", "[route abc]\n",
     "routes.conf:1: abc: route name: 4-50 letters, digits, \"-\", \"_\", \".\""},
    {"routes.conf", "[route a bcd]\n",
     "routes.conf:1: a bcd: route name: 4-50 letters, digits, \"-\", \"_\", \".\""},
    {"routes.conf", "[route default]\ngroup = protected\n[route default]\n",
     "routes.conf:3: default: a route of this name stands above"},
    {"routes.conf", "[route first]\n[route default]\n",
     "routes.conf:1: first: only the last route may lack a group line"},
    {"routes.conf", "[route default]\ngroup = protected\n",
     "routes.conf:1: default: the last route must have no group line: it is the default route"},
    {"routes.conf", "[route first]\ngroup = protectd\n[route default]\n",
     "routes.conf:2: group: no domain group \"protectd\""},
    {"routes.conf", "[route default]\ndeliver = servers\n",
     "routes.conf:1: default: deliver = servers needs a server line"},
    {"routes.conf", "[route default]\nserver = a.example:25\n",
     "routes.conf:1: default: server lines need deliver = servers"},
    {"routes.conf", "[route default]\ndeliver = server\n",
     "routes.conf:2: deliver: \"server\" is neither mx nor servers"},
    {"routes.conf", "[route default]\ndeliver = servers\nserver = a.example:0\n",
     "routes.conf:3: server: \"a.example:0\" is not HOST:PORT ([IPv6]:PORT, port 1-65535)"},
    {"routes.conf", "[route default]\ndeliver = servers\nserver = [192.0.2.1]:25\n",
     "routes.conf:3: server: \"[192.0.2.1]:25\" is not HOST:PORT ([IPv6]:PORT, port 1-65535)"},
    {"routes.conf", "[route default]\ndeliver = servers\nserver = 192.0.2.1:25 mx=yes\n",
     "routes.conf:3: server: mx=yes needs a host name, not an address"},
    {"routes.conf", "[route default]\ndeliver = servers\nserver = a.example preference=0\n",
     "routes.conf:3: server: \"preference=0\": options are preference=1..65535 and mx=yes|no"},
    {"routes.conf", "[route default]\ndeliver = servers\nserver = a.example mx=maybe\n",
     "routes.conf:3: server: \"mx=maybe\": options are preference=1..65535 and mx=yes|no"},
    {"routes.conf", "[route default]\ntls = yes\n",
     "routes.conf:2: tls: \"yes\" is neither opportunistic nor off"},
    {"routes.conf", "[route default]\nport = 65536\n",
     "routes.conf:2: port: \"65536\" is not a number from 1 to 65535"},
    {"routes.conf", "[route default]\nauth = user hunter2\n",
     "routes.conf:2: auth: expected \"USER secret:NAME\""},
    {"routes.conf", "[route default]\ntls = off\nauth = user secret:name\n",
     "routes.conf:1: default: auth needs TLS; it is never sent in clear"},
    {"routes.conf", "[route default]\ngrup = protected\n",
     "routes.conf:2: grup: unknown key \"grup\"; did you mean \"group\"?"},
    {"routes.conf", "[route default]\nport = 25\nport = 25\n", "routes.conf:3: port: stands twice"},
    {"submitters.conf", "[submitter a b]\n",
     "submitters.conf:1: expected [submitter NAME], NAME without spaces"},
    {"submitters.conf", "[submitter a]\n", "submitters.conf: a: lacks its hash line"},
    {"submitters.conf", "[submitter a]\nhash = plain\n",
     "submitters.conf:2: hash: not an argon2id hash ($argon2id$...)"},
    {"submitters.conf", "hash = x\n",
     "submitters.conf:1: hash: stands outside a [submitter NAME] block"},
    {"submitters.conf", "[submitter a]\nhash = $argon2id$x\n[submitter a]\nhash = $argon2id$x\n",
     "submitters.conf:3: a: a submitter of this name stands above"},
    {"phrases.conf", "[phrase A]\ntext = x\n",
     "phrases.conf:1: expected [phrase NAME], NAME of 1-50 a-z, 0-9 and \"-\""},
    {"phrases.conf", "[phrase a]\n", "phrases.conf: a: lacks its text line"},
    {"phrases.conf", "[phrase a]\ntext =\n", "phrases.conf:2: text: a phrase has 1-255 characters"},
    {"phrases.conf", "text = a\n", "phrases.conf:1: text: stands outside a [phrase NAME] block"},
    {"phrases.conf", "[phrase a]\ntext = x\n[phrase a]\ntext = x\n",
     "phrases.conf:3: a: a phrase of this name stands above"},
};

static void check_error(const char *file, const char *text, const char *error)
{
    const struct piece pieces[] = {{file, text}, {NULL, NULL}};
    struct arena a;
    struct settings *s = NULL;
    struct buf tree, line;

    arena_init(&a, TEST_ARENA_MAX);
    buf_init(&tree, SETTINGS_TREE_MAX);
    buf_init(&line, 4096);
    test_tree(pieces, &tree);
    if (compile_tree(buf_sv(&tree), &a, &s) != ERR_SYNTAX)
        fail_msg("accepted: %s: %s", file, text);
    assert_null(s); /* untouched on failure */
    settings_error_format(&errors.list[0], &line);
    if (!sv_eq(buf_sv(&line), sv_str(error)))
        fail_msg("\n got: %.*s\nwant: %s", SV_ARG(buf_sv(&line)), error);
    buf_done(&line);
    buf_done(&tree);
    arena_done(&a);
}

static void errors_name_the_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_table); i++)
        check_error(bad_table[i].file, bad_table[i].text, bad_table[i].error);
}

/* Policy files: the head [policy] and [rule r] are put in front where the row begins with a key. */
struct bad_rule {
    const char *text, *error;
};
static const struct bad_rule bad_rules[] = {
    {"condition = CREDIT_CRD at least 1",
     "condition: unknown condition \"CREDIT_CRD\"; did you mean \"CREDIT_CARD\"?"},
    {"condition = CREDIT_CARD at least 0",
     "condition: CREDIT_CARD wants: at least N | between A and B | none, N from 1 to 999, then "
     "\"unique\" or nothing"},
    {"condition = CREDIT_CARD at least 1000",
     "condition: CREDIT_CARD wants: at least N | between A and B | none, N from 1 to 999, then "
     "\"unique\" or nothing"},
    {"condition = CREDIT_CARD at most 3",
     "condition: CREDIT_CARD wants: at least N | between A and B | none, N from 1 to 999, then "
     "\"unique\" or nothing"},
    {"condition = CREDIT_CARD between 3 and 2",
     "condition: CREDIT_CARD wants: at least N | between A and B | none, N from 1 to 999, then "
     "\"unique\" or nothing"},
    {"condition = CREDIT_CARD at least 1 uniq",
     "condition: CREDIT_CARD wants: at least N | between A and B | none, N from 1 to 999, then "
     "\"unique\" or nothing"},
    {"condition = CREDIT_CARD none unique",
     "condition: CREDIT_CARD wants: at least N | between A and B | none, N from 1 to 999, then "
     "\"unique\" or nothing"},
    {"condition = phrase:nothing at least 1", "condition: no phrase \"nothing\" in phrases.conf"},
    {"condition = attachments many",
     "condition: attachments wants: at least N | between A and B | none, N from 1 to 999"},
    {"condition = destinations at least 1 unique",
     "condition: destinations wants: at least N | between A and B | none, N from 1 to 999"},
    {"condition = size at least 5",
     "condition: size wants: at least N kb | between A and B kb, N from 1 to 1048576"},
    {"condition = size none kb",
     "condition: size wants: at least N kb | between A and B kb, N from 1 to 1048576"},
    {"condition = property sealed",
     "condition: property wants: encrypted | malformed | opaque | type-mismatch"},
    {"condition = file-name",
     "condition: file-name wants: a pattern of 1-255 bytes, * and ? as wildcards"},
    {"condition = not file-type",
     "condition: file-type wants: a pattern of 1-255 bytes, * and ? as wildcards"},
    {"condition = everything else", "condition: everything wants: nothing behind it"},
    {"condition =", "condition: unknown condition \"\""},
    {"action = encript", "action: unknown action \"encript\"; one of: permit, encrypt, quarantine; "
                         "did you mean \"encrypt\"?"},
    {"action = drop_attachments",
     "action: action drop_attachments is not available in this version"},
    {"action = encrypt severity=huge",
     "action: unknown severity \"huge\"; one of: low, medium, high; did you mean \"high\"?"},
    {"action = encrypt from=2", "action: the first action line counts from 1"},
    {"action = encrypt from=0", "action: \"from=0\": options are severity=low|medium|high, "
                                "from=1..999, encrypt-on-release"},
    {"action = encrypt encrypt-on-release", "action: encrypt-on-release goes with quarantine only"},
    {"action = encrypt\naction = quarantine from=1", "action: from= must rise from line to line"},
    {"action = encrypt\naction = encrypt from=2\naction = encrypt from=3\naction = encrypt from=4",
     "action: more than 3 action lines"},
    {"match = most", "match: \"most\" is neither all nor any"},
    {"count = parts", "count: \"parts\" is neither message nor each-part"},
    {"enabled = maybe", "enabled: \"maybe\" is neither yes nor no"},
    {"enabled = yes\nenabled = yes", "enabled: stands twice"},
    {"acton = encrypt", "acton: unknown key \"acton\"; did you mean \"action\"?"},
    {"[policy]", "expected [policy] once and [rule NAME]"},
    {"[rules x]", "expected [policy] once and [rule NAME]"},
    {"[rule A]", "A: rule name: 1-50 of a-z, 0-9 and \"-\""},
};

static void rule_errors_name_the_place(void **state)
{
    char text[2048], want[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_rules); i++) {
        const char *body = bad_rules[i].text;
        uint32_t line = 7;
        (void)snprintf(text, sizeof(text),
                       "[policy]\ndescription = d\n[rule r0]\ncondition = "
                       "everything\naction = permit\n[rule r1]\n%s\n",
                       body);
        for (const char *p = body; *p; p++)
            line += *p == '\n';
        (void)snprintf(want, sizeof(want), "policies/p.conf:%u: %s", line, bad_rules[i].error);
        if (body[0] == '[') { /* r1 ends without lines: two errors come first */
            (void)snprintf(text, sizeof(text), "[policy]\n\n\n\n\n\n%s\n", body);
        }
        check_error("policies/p.conf", text, want);
    }
    check_error(
        "policies/p.conf", "[rule a]\naction = permit\n",
        "policies/p.conf:1: a: has no condition; \"condition = everything\" is always true");
    check_error("policies/p.conf", "[rule a]\ncondition = everything\n",
                "policies/p.conf:1: a: has no action line");
    check_error("policies/p.conf", "enabled = yes\n",
                "policies/p.conf:1: enabled: stands outside [policy] and [rule NAME]");
    check_error("policies/p.conf", "[policy]\ndirection = outward\n",
                "policies/p.conf:2: direction: unknown direction \"outward\"; one of: inbound, "
                "outbound, internal");
    check_error("policies/p.conf", "[policy]\nsenders = a@b.example, bob\n",
                "policies/p.conf:2: senders: \"bob\" is neither an address nor @domain; leave the "
                "line out for everybody");
    check_error("policies/p.conf", "[policy]\nsenders = @-b\n",
                "policies/p.conf:2: senders: \"@-b\" is neither an address nor @domain; leave the "
                "line out for everybody");
    check_error("policies/p.conf", "[policy]\ndestinations = friends\n",
                "policies/p.conf:2: destinations: no domain group \"friends\"");
    check_error("policies/p_q.conf", "",
                "policies/p_q.conf: policy name: 1-50 of a-z, 0-9 and \"-\"");
    check_error("policies/p.conf", "[rule a]\ncondition = everything\naction = permit\n[rule a]\n",
                "policies/p.conf:4: a: a rule of this name stands above");
}

/* head, then n times line; out has room for REPEAT_MAX bytes. */
#define REPEAT_MAX 70000
static void repeat(char *out, const char *head, const char *line, size_t n)
{
    struct buf b;

    buf_init(&b, REPEAT_MAX - 1);
    (void)buf_append_sv(&b, sv_str(head));
    for (size_t i = 0; i < n; i++)
        (void)buf_append_sv(&b, sv_str(line));
    assert_false(b.overflow);
    memcpy(out, b.p, b.n);
    out[b.n] = '\0';
    buf_done(&b);
}

static void counts_are_bounded(void **state)
{
    static char text[REPEAT_MAX];

    (void)state;
    repeat(text, "[route default]\ndeliver = servers\n", "server = a.example\n", 17);
    check_error("routes.conf", text, "routes.conf:19: server: more than 16 servers");
    repeat(text, "[rule a]\n", "condition = everything\n", 33);
    check_error("policies/p.conf", text, "policies/p.conf:34: condition: more than 32 conditions");
    repeat(text, "[policy]\n", "senders = a@b.example\n", 1001);
    check_error("policies/p.conf", text, "policies/p.conf:1002: senders: more than 1000 senders");
    repeat(text, "[policy]\ndescription = ", "a", 256);
    check_error("policies/p.conf", text,
                "policies/p.conf:2: description: text is longer than 255 bytes");
    repeat(text, "[phrase a]\ntext = ", "\xc3\xa4", 256);
    check_error("phrases.conf", text, "phrases.conf:2: text: a phrase has 1-255 characters");
    repeat(text, "fqdn = ", "a", 4096);
    check_error("general.conf", text, "general.conf:1: line is longer than 4096 bytes");
    repeat(text, "[rule a]\ncondition = file-name ", "a", 256);
    check_error("policies/p.conf", text,
                "policies/p.conf:2: condition: file-name wants: a pattern of 1-255 bytes, * and ? "
                "as wildcards");
}

static void all_errors_are_collected(void **state)
{
    static char text[REPEAT_MAX];
    struct arena a;
    struct settings *s = NULL;
    struct buf tree;

    (void)state;
    repeat(text, "", "nonsense = 1\n", 60);
    const struct piece pieces[] = {
        {"conn.conf", text}, {"tls.conf", "offer = maybe\n"}, {NULL, NULL}};
    arena_init(&a, TEST_ARENA_MAX);
    buf_init(&tree, SETTINGS_TREE_MAX);
    test_tree(pieces, &tree);
    assert_int_equal(compile_tree(buf_sv(&tree), &a, &s), ERR_SYNTAX);
    assert_int_equal(errors.n, SETTINGS_ERRORS_MAX);
    assert_int_equal(errors.total, 61);
    buf_done(&tree);
    arena_done(&a);
}

static void damaged_trees_are_refused(void **state)
{
    static const char *const trees[] = {
        "x",
        "== tls.conf 5\noff",
        "== tls.conf\n",
        "== tls.conf x\n",
        "== tls.conf 0",
        "== ../tls.conf 0\n",
        "== /tls.conf 0\n",
        "== TLS.conf 0\n",
        "== groups/ip//a.txt 0\n",
        "== groups/ip/.a.txt 0\n",
        "== groups/ip/ 0\n",
        "==  0\n",
        "== tls.conf 0\n== tls.conf 0\n", /* twice */
        "== tls.conf 0\n== dns.conf 0\n", /* out of order */
    };
    struct arena a;
    struct settings *s = NULL;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(trees); i++) {
        arena_init(&a, TEST_ARENA_MAX);
        if (compile_tree(sv_str(trees[i]), &a, &s) != ERR_SYNTAX)
            fail_msg("accepted: %s", trees[i]);
        assert_true(errors.total >= 1);
        arena_done(&a);
    }
    arena_init(&a, 4096);
    assert_int_equal(compile_tree(settings_default_tree(), &a, &s), ERR_LIMIT);
    assert_true(errors.total >= 1);
    arena_done(&a);
    assert_null(s);
}

static void full_arena_is_an_error(void **state)
{
    struct arena a;
    struct settings *s = NULL;

    (void)state;
    for (size_t cap = 1024; cap < 40000; cap += 997) {
        arena_init(&a, cap);
        enum err err = compile_tree(settings_default_tree(), &a, &s);
        assert_true(err == ERR_LIMIT || (err == ERR_OK && !a.overflow));
        arena_done(&a);
    }
}

static void trees_join_in_order(void **state)
{
    struct tree_file files[] = {{SV("b.conf"), SV("2\n")}, {SV("a.conf"), SV("1\n")}};
    struct tree_file twice[] = {{SV("a.conf"), SV("")}, {SV("a.conf"), SV("")}};
    struct tree_file bad[] = {{SV("../a"), SV("")}};
    struct buf b;

    (void)state;
    buf_init(&b, 1000);
    assert_int_equal(tree_join(files, 2, &b), ERR_OK);
    assert_sv(buf_sv(&b), "== a.conf 2\n1\n== b.conf 2\n2\n");
    assert_int_equal(tree_join(twice, 2, &b), ERR_CONFLICT);
    assert_int_equal(tree_join(bad, 1, &b), ERR_SYNTAX);
    buf_done(&b);
    buf_init(&b, 10);
    assert_int_equal(tree_join(files, 2, &b), ERR_LIMIT);
    buf_done(&b);
}

static void export_is_bounded(void **state)
{
    struct arena a;
    struct settings *s;
    struct buf b;

    (void)state;
    arena_init(&a, TEST_ARENA_MAX);
    assert_int_equal(compile_tree(settings_default_tree(), &a, &s), ERR_OK);
    buf_init(&b, 100);
    assert_int_equal(settings_export(s, &b), ERR_LIMIT);
    buf_done(&b);
    arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_name_the_place),     cmocka_unit_test(rule_errors_name_the_place),
        cmocka_unit_test(counts_are_bounded),        cmocka_unit_test(all_errors_are_collected),
        cmocka_unit_test(damaged_trees_are_refused), cmocka_unit_test(full_arena_is_an_error),
        cmocka_unit_test(trees_join_in_order),       cmocka_unit_test(export_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
