/* The exact edges of settings text: lengths, alphabets of names, counts, keys that stand twice. */
#include "core/test_util.h"

static struct settings_errors errors;

/* Compiles one file; what the error says is tested elsewhere. */
static bool accepted(const char *file, const char *text)
{
    const struct piece pieces[] = {{file, text}, {NULL, NULL}};
    struct arena a;
    struct settings *s = NULL;
    struct buf tree;

    arena_init(&a, TEST_ARENA_MAX);
    buf_init(&tree, SETTINGS_TREE_MAX);
    test_tree(pieces, &tree);
    enum err err = settings_compile(buf_sv(&tree), 1, &a, &s, &errors);
    assert_int_equal(err == ERR_OK, errors.total == 0);
    buf_done(&tree);
    arena_done(&a);
    return err == ERR_OK;
}

#define FORM_MAX 9000

/* head, n times unit, tail */
static bool accepted_n(const char *file, const char *head, const char *unit, size_t n,
                       const char *tail)
{
    struct buf b;

    buf_init(&b, 1u << 20);
    (void)buf_append_sv(&b, sv_str(head));
    for (size_t i = 0; i < n; i++)
        (void)buf_append_sv(&b, sv_str(unit));
    (void)buf_append_sv(&b, sv_str(tail));
    (void)buf_append_byte(&b, '\0');
    bool ok = accepted(file, b.p);
    buf_done(&b);
    return ok;
}

struct length_row {
    const char *file, *head, *unit, *tail;
    size_t min, max; /* of the repeated unit; min 0 = none is no error */
};
static const struct length_row length_table[] = {
    {"routes.conf", "[route ", "a", "]\n", 4, 50},
    {"submitters.conf", "[submitter ", "a", "]\nhash = $argon2id$\n", 1, 254},
    {"submitters.conf", "[submitter a]\nhash = $argon2id$", "x", "\n", 0, 117},
    {"phrases.conf", "[phrase ", "a", "]\ntext = x\n", 1, 50},
    {"phrases.conf", "[phrase a]\ntext = ", "x", "\n", 1, 255},
    {"phrases.conf", "[phrase a]\ntext = ", "\xe2\x82\xac", "\n", 1, 255},
    {"policies/p.conf", "[policy]\ndescription = ", "x", "\n", 0, 255},
    {"policies/p.conf", "[rule ", "a", "]\ncondition = everything\naction = permit\n", 1, 50},
    {"policies/p.conf", "[rule a]\naction = permit\n", "condition = everything\n", "", 1, 32},
    {"policies/p.conf", "[rule a]\naction = permit\ncondition = file-name ", "x", "\n", 1, 255},
    {"policies/p.conf", "[policy]\n", "senders = @a.example\n", "", 0, 1000},
    {"routes.conf", "[route default]\ndeliver = servers\n", "server = a.example\n", "", 1, 16},
    {"general.conf", "sender_address = a@b.example", "x", "\n", 0, 63 - 7},
    {"general.conf", "sender_address = x", "x", "@b.example\n", 0, 254 - 11},
    {"dns.conf", "servers = 192.0.2.10:1", ",192.0.2.1", "\n", 0, 50},
    {"general.conf", "# ", "x", "\n", 0, FORM_MAX}, /* a comment has no length */
    {"general.conf", "fqdn = a.example", " ", "\n", 0, 4096 - 16},
};

static void lengths_are_exact(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(length_table); i++) {
        const struct length_row *r = &length_table[i];
        if (!accepted_n(r->file, r->head, r->unit, r->max, r->tail))
            fail_msg("row %zu: %zu is too many: %s", i, r->max, errors.list[0].text);
        if (r->max != FORM_MAX && accepted_n(r->file, r->head, r->unit, r->max + 1, r->tail))
            fail_msg("row %zu: %zu is not too many", i, r->max + 1);
        if (!accepted_n(r->file, r->head, r->unit, r->min, r->tail))
            fail_msg("row %zu: %zu is too few: %s", i, r->min, errors.list[0].text);
        if (r->min && accepted_n(r->file, r->head, r->unit, r->min - 1, r->tail))
            fail_msg("row %zu: %zu is not too few", i, r->min - 1);
    }
}

/* Every ASCII character inside a name: which are let in. */
struct alphabet_row {
    const char *file, *form; /* form with one %c */
    const char *letters;     /* beside these and the ranges below */
    bool upper, all;         /* A-Z too; every printable but ']' */
};
static const struct alphabet_row alphabet_table[] = {
    {"routes.conf", "[route ab%ccd]\n", "-_.", true, false},
    {"phrases.conf", "[phrase a%cb]\ntext = x\n", "-", false, false},
    {"policies/p.conf", "[rule a%cb]\ncondition = everything\naction = permit\n", "-", false,
     false},
    {"submitters.conf", "[submitter a%cb]\nhash = $argon2id$\n", "", true, true},
    {"routes.conf", "[route default]\nauth = u secret:a%cb\n", "-", false, false},
};

static bool in_alphabet(const struct alphabet_row *r, char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (r->upper && c >= 'A' && c <= 'Z'))
        return true;
    if (r->all)
        return c > ' ' && c <= '~' && c != ']';
    return strchr(r->letters, c) != NULL;
}

static void alphabets_are_exact(void **state)
{
    char text[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(alphabet_table); i++)
        for (int c = 1; c < 128; c++) {
            const struct alphabet_row *r = &alphabet_table[i];
            if (c == '\n' || c == '\r')
                continue;
            struct sv form = sv_str(r->form);
            size_t at = sv_find(form, SV("%c"));
            (void)snprintf(text, sizeof(text), "%.*s%c%s", (int)at, form.p, c, form.p + at + 2);
            if (accepted(r->file, text) != in_alphabet(r, (char)c))
                fail_msg("row %zu: character %d", i, c);
        }
}

/* Names of files in the tree. */
static void file_names_are_exact(void **state)
{
    static const struct {
        const char *name;
        bool good;
    } rows[] = {
        {"groups/ip/a.txt", true},
        {"groups/ip/a-9.txt", true},
        {"groups/ip/.txt", false},
        {"groups/domain/a.txt", true},
        {"groups/ip/a.conf", false},
        {"groups/ip/a.b.txt", false},
        {"groups/domain/a/b.txt", false},
        {"policies/a.conf", true},
        {"policies/a.txt", false},
        {"policies/a/b.conf", false},
        {"groups/x/a.txt", false},
        {"phrases.txt", false},
        {"tls.conf", true},
        {"tls.txt", false},
        {"a/tls.conf", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct piece pieces[] = {{rows[i].name, ""}, {NULL, NULL}};
        struct tree_file file = {sv_str(pieces[0].name), SV("")};
        struct buf tree;
        struct arena a;
        struct settings *s = NULL;
        buf_init(&tree, 1000);
        arena_init(&a, TEST_ARENA_MAX);
        bool good = tree_join(&file, 1, &tree) == ERR_OK &&
                    settings_compile(buf_sv(&tree), 1, &a, &s, &errors) == ERR_OK;
        if (good != rows[i].good)
            fail_msg("%s", rows[i].name);
        arena_done(&a);
        buf_done(&tree);
    }
}

static void file_names_are_bounded(void **state)
{
    char name[102];

    (void)state;
    memset(name, 'a', sizeof(name));
    for (size_t n = 99; n <= 101; n++) {
        struct tree_file file = {sv_of(name, n), SV("")};
        struct buf tree;
        buf_init(&tree, 1000);
        assert_int_equal(tree_join(&file, 1, &tree), n <= 100 ? ERR_OK : ERR_SYNTAX);
        buf_done(&tree);
    }
}

static void keys_stand_once(void **state)
{
    static const struct {
        const char *file, *head, *line;
    } rows[] = {
        {"policies/p.conf", "[policy]\n", "description = x\n"},
        {"policies/p.conf", "[policy]\n", "enabled = no\n"},
        {"policies/p.conf", "[policy]\n", "direction = inbound\n"},
        {"policies/p.conf", "[policy]\n", "destinations = protected\n"},
        {"policies/p.conf", "", "[policy]\n"},
        {"policies/p.conf", "[rule a]\ncondition = everything\naction = permit\n",
         "enabled = no\n"},
        {"policies/p.conf", "[rule a]\ncondition = everything\naction = permit\n", "match = any\n"},
        {"policies/p.conf", "[rule a]\ncondition = everything\naction = permit\n",
         "count = message\n"},
        {"routes.conf", "[route default]\n", "deliver = mx\n"},
        {"routes.conf", "[route default]\n", "port = 26\n"},
        {"routes.conf", "[route default]\n", "tls = opportunistic\n"},
        {"routes.conf", "[route default]\n", "auth = a secret:b\n"},
        {"submitters.conf", "[submitter a]\n", "hash = $argon2id$\n"},
        {"phrases.conf", "[phrase a]\n", "text = x\n"},
        {"tls.conf", "", "offer = yes\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (!accepted_n(rows[i].file, rows[i].head, rows[i].line, 1, ""))
            fail_msg("once: %s: %s", rows[i].line, errors.list[0].text);
        if (accepted_n(rows[i].file, rows[i].head, rows[i].line, 2, ""))
            fail_msg("twice: %s", rows[i].line);
    }
    assert_false(accepted("routes.conf", "[route first]\ngroup = protected\ngroup = protected\n"
                                         "[route default]\n"));
    /* the memory of what stood is that of one block */
    assert_true(accepted("routes.conf", "[route first]\ngroup = protected\nport = 26\n"
                                        "[route default]\nport = 26\n"));
    assert_true(
        accepted("policies/p.conf",
                 "[policy]\nenabled = yes\n[rule a]\nenabled = yes\ncondition = everything\n"
                 "action = permit\n[rule b]\nenabled = yes\ncondition = everything\n"
                 "action = permit\n"));
    assert_true(accepted("phrases.conf", "[phrase a]\ntext = x\n[phrase b]\ntext = y\n"));
}

static void counts_are_exact(void **state)
{
    static const struct {
        const char *condition;
        bool good;
    } rows[] = {
        {"CREDIT_CARD at least 1", true},
        {"CREDIT_CARD at least 999", true},
        {"CREDIT_CARD at least 1000", false},
        {"CREDIT_CARD at least 0", false},
        {"CREDIT_CARD between 1 and 999", true},
        {"CREDIT_CARD between 999 and 999", true},
        {"CREDIT_CARD between 0 and 5", false},
        {"CREDIT_CARD between 5 and 4", false},
        {"CREDIT_CARD between 1 and 1000", false},
        {"CREDIT_CARD between 1 or 5", false},
        {"CREDIT_CARD between 1", false},
        {"CREDIT_CARD at", false},
        {"CREDIT_CARD at least", false},
        {"CREDIT_CARD", false},
        {"size at least 1 kb", true},
        {"size at least 1048576 kb", true},
        {"size at least 1048577 kb", false},
        {"size at least 0 kb", false},
        {"size at least 1 mb", false},
        {"size at least 1 kb x", false},
        {"attachments at least 999", true},
        {"attachments at least 1000", false},
        {"property opaque x", false},
        {"not not everything", false},
        {"not", false},
        {"phrase: at least 1", false},
        {"everything", true},
        {"not everything", true},
    };
    char text[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        (void)snprintf(text, sizeof(text), "[rule a]\ncondition = %s\naction = permit\n",
                       rows[i].condition);
        if (accepted("policies/p.conf", text) != rows[i].good)
            fail_msg("%s", rows[i].condition);
    }
}

static void actions_are_exact(void **state)
{
    static const struct {
        const char *actions;
        bool good;
    } rows[] = {
        {"action = encrypt from=1\naction = encrypt from=2\naction = encrypt from=999\n", true},
        {"action = encrypt\naction = encrypt from=1000\n", false},
        {"action = encrypt\naction = encrypt\n", false},
        {"action = encrypt\naction = encrypt from=5\naction = encrypt from=5\n", false},
        {"action = encrypt\naction = encrypt from=5\naction = encrypt from=4\n", false},
        {"action = quarantine encrypt-on-release severity=low from=1\n", true},
        {"action = encrypt from=\n", false},
        {"action = encrypt severity=\n", false},
        {"action =\n", false},
    };
    char text[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        (void)snprintf(text, sizeof(text), "[rule a]\ncondition = everything\n%s", rows[i].actions);
        if (accepted("policies/p.conf", text) != rows[i].good)
            fail_msg("%s", rows[i].actions);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_are_exact),    cmocka_unit_test(alphabets_are_exact),
        cmocka_unit_test(file_names_are_exact), cmocka_unit_test(file_names_are_bounded),
        cmocka_unit_test(keys_stand_once),      cmocka_unit_test(counts_are_exact),
        cmocka_unit_test(actions_are_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
