/*
 * policies/NAME.conf: [policy] and its [rule NAME] blocks (spec K2-K12, K24, K35). What a file
 * leaves out takes the default that protects: enabled, match = any of the directions named.
 */
#include "codec/mailaddr.h"
#include "core/compile.h"
#include "core/names.h"
#include "core/sort.h"
#include "model/facts.h"

#define COUNT_MAX   999
#define SIZE_KB_MAX 1048576
#define DIRECTIONS_ALL                                                                             \
    (1u << DIRECTION_INBOUND | 1u << DIRECTION_OUTBOUND | 1u << DIRECTION_INTERNAL)

struct policy_block {
    struct policy *policy;
    struct rule *rule;
    uint32_t line;
};

struct flag_row {
    const char *name;
    uint32_t flag;
};
static const struct flag_row property_rows[] = {
    {"encrypted", PART_ENCRYPTED},
    {"malformed", PART_MALFORMED},
    {"opaque", PART_OPAQUE},
    {"type-mismatch", PART_TYPE_MISMATCH},
};

#define CLASSIFIER_NAME(id, doc) #id,
static const char *const classifier_names[] = {CLASSIFIERS(CLASSIFIER_NAME)};

static bool classifier_known(struct sv name)
{
    for (size_t i = 0; i < ARRAY_LEN(classifier_names); i++)
        if (sv_eq(name, sv_str(classifier_names[i])))
            return true;
    return false;
}

/* ---- [policy] ---- */

static void policy_description(struct compile *c, void *block, const struct conf_item *item)
{
    struct policy_block *b = block;

    if (item->value.n > 255)
        compile_error(c, item->line, item->key, "text is longer than 255 bytes");
    else
        b->policy->description = item->value;
}

static void policy_enabled(struct compile *c, void *block, const struct conf_item *item)
{
    struct policy_block *b = block;

    (void)value_bool(c, item, &b->policy->enabled);
}

static void policy_direction(struct compile *c, void *block, const struct conf_item *item)
{
    struct policy_block *b = block;
    struct sv rest = item->value;
    uint32_t direction;

    b->policy->directions = 0;
    while (rest.p) {
        struct sv one = sv_trim(sv_cut(&rest, ','));
        if (value_choice(c, item->line, item->key, &names_direction, one, &direction))
            b->policy->directions |= (uint8_t)(1u << direction);
    }
}

static bool sender_valid(struct sv v)
{
    if (v.n && v.p[0] == '@')
        return domain_valid(sv_skip(v, 1));
    return mailaddr_valid(v) && sv_find_byte(v, ',') == SIZE_MAX;
}

static void add_sender(struct compile *c, struct policy *p, const struct conf_item *item,
                       struct sv sender)
{
    if (!sender_valid(sender))
        compile_error(
            c, item->line, item->key,
            "\"%.*s\" is neither an address nor @domain; leave the line out for everybody",
            SV_ARG(sender));
    else if (p->n_senders == POLICY_SENDERS_MAX)
        compile_error(c, item->line, item->key, "more than %d senders", POLICY_SENDERS_MAX);
    else
        p->senders[p->n_senders++] = sender;
}

static void policy_senders(struct compile *c, void *block, const struct conf_item *item)
{
    struct policy_block *b = block;
    struct policy *p = b->policy;
    struct sv rest = item->value;

    if (!p->senders)
        p->senders = compile_array(c, POLICY_SENDERS_MAX, sizeof(struct sv));
    while (p->senders && rest.p)
        add_sender(c, p, item, sv_trim(sv_cut(&rest, ',')));
}

static void policy_destinations(struct compile *c, void *block, const struct conf_item *item)
{
    struct policy_block *b = block;

    b->policy->destinations = settings_domain_group(c->s, item->value);
    if (!b->policy->destinations)
        compile_error(c, item->line, item->key, "no domain group \"%.*s\"", SV_ARG(item->value));
}

static const struct block_key policy_keys[] = {
    {"description", false, policy_description},   {"enabled", false, policy_enabled},
    {"direction", false, policy_direction},       {"senders", true, policy_senders},
    {"destinations", false, policy_destinations},
};

/* ---- [rule NAME] ---- */

static void rule_enabled(struct compile *c, void *block, const struct conf_item *item)
{
    struct policy_block *b = block;

    (void)value_bool(c, item, &b->rule->enabled);
}

static void rule_match(struct compile *c, void *block, const struct conf_item *item)
{
    struct policy_block *b = block;

    b->rule->any = sv_eq(item->value, SV("any"));
    if (!b->rule->any && !sv_eq(item->value, SV("all")))
        compile_error(c, item->line, item->key, "\"%.*s\" is neither all nor any",
                      SV_ARG(item->value));
}

static void rule_count(struct compile *c, void *block, const struct conf_item *item)
{
    struct policy_block *b = block;

    b->rule->each_part = sv_eq(item->value, SV("each-part"));
    if (!b->rule->each_part && !sv_eq(item->value, SV("message")))
        compile_error(c, item->line, item->key, "\"%.*s\" is neither message nor each-part",
                      SV_ARG(item->value));
}

/* ---- conditions ---- */

/* "at least N" | "between A and B" | "none" at the head of *rest, N in 1..max. */
static bool parse_threshold(struct sv *rest, uint32_t max, struct condition *out)
{
    struct sv word = value_word(rest);
    uint64_t low = 0, high = 0;

    if (sv_eq(word, SV("none"))) {
        out->threshold = THRESHOLD_NONE;
        return true;
    }
    if (sv_eq(word, SV("at")) && sv_eq(value_word(rest), SV("least"))) {
        out->threshold = THRESHOLD_AT_LEAST;
        if (!sv_to_u64(value_word(rest), 1, max, &low))
            return false;
        out->low = (uint32_t)low;
        return true;
    }
    if (!sv_eq(word, SV("between")) || !sv_to_u64(value_word(rest), 1, max, &low) ||
        !sv_eq(value_word(rest), SV("and")) || !sv_to_u64(value_word(rest), low, max, &high))
        return false;
    out->threshold = THRESHOLD_BETWEEN;
    out->low = (uint32_t)low;
    out->high = (uint32_t)high;
    return true;
}

static bool parse_size(struct sv *rest, struct condition *out)
{
    return parse_threshold(rest, SIZE_KB_MAX, out) && out->threshold != THRESHOLD_NONE &&
           sv_eq(value_word(rest), SV("kb"));
}

static bool parse_classifier(struct sv *rest, struct condition *out)
{
    if (!parse_threshold(rest, COUNT_MAX, out))
        return false;
    out->unique = sv_eq(*rest, SV("unique")) && out->threshold != THRESHOLD_NONE;
    if (out->unique)
        *rest = SV_NULL;
    return true;
}

static bool parse_property(struct sv name, struct condition *out)
{
    for (size_t i = 0; i < ARRAY_LEN(property_rows); i++)
        if (sv_eq(name, sv_str(property_rows[i].name))) {
            out->name = name;
            out->flag = property_rows[i].flag;
        }
    return out->flag != 0;
}

static bool wildcard_valid(struct sv v)
{
    return v.n > 0 && v.n <= 255;
}

/* Rest of a condition whose first word (the subject) is known; false: malformed. */
static bool parse_subject(struct sv subject, struct sv *rest, struct condition *out)
{
    if (sv_eq(subject, SV("everything"))) {
        out->kind = COND_ALL;
        return true;
    }
    if (sv_eq(subject, SV("attachments")) || sv_eq(subject, SV("destinations"))) {
        out->kind = subject.p[0] == 'a' ? COND_ATTACHMENTS : COND_DESTINATIONS;
        return parse_threshold(rest, COUNT_MAX, out);
    }
    if (sv_eq(subject, SV("size"))) {
        out->kind = COND_SIZE_KB;
        return parse_size(rest, out);
    }
    if (sv_eq(subject, SV("property"))) {
        out->kind = COND_PROPERTY;
        return parse_property(value_word(rest), out);
    }
    if (sv_eq(subject, SV("file-name")) || sv_eq(subject, SV("file-type"))) {
        out->kind = sv_eq(subject, SV("file-name")) ? COND_FILE_NAME : COND_FILE_TYPE;
        out->name = *rest;
        *rest = SV_NULL;
        return wildcard_valid(out->name);
    }
    out->kind = COND_CLASSIFIER;
    out->name = sv_starts(subject, SV("phrase:")) ? sv_skip(subject, strlen("phrase:")) : subject;
    return parse_classifier(rest, out);
}

static bool phrase_known(const struct settings *s, struct sv name)
{
    for (uint32_t i = 0; i < s->n_phrases; i++)
        if (sv_eq(s->phrases[i].name, name))
            return true;
    return false;
}

static const char *const subjects[] = {
#define SUBJECT(id, doc) #id,
    CLASSIFIERS(SUBJECT)
#undef SUBJECT
        "everything",
    "attachments",
    "destinations",
    "size",
    "property",
    "file-name",
    "file-type",
};

/* Is the first word of a condition one that we know? Reports when it is not. */
static bool subject_known(struct compile *c, const struct conf_item *item, struct sv subject)
{
    if (sv_starts(subject, SV("phrase:"))) {
        struct sv name = sv_skip(subject, strlen("phrase:"));
        if (phrase_known(c->s, name))
            return true;
        compile_error(c, item->line, item->key, "no phrase \"%.*s\" in phrases.conf", SV_ARG(name));
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(subjects); i++)
        if (sv_eq(subject, sv_str(subjects[i])))
            return true;
    compile_error(c, item->line, item->key, "unknown condition \"%.*s\"%s", SV_ARG(subject),
                  compile_hint(c, subject, subjects, ARRAY_LEN(subjects)));
    return false;
}

static const char *condition_form(enum cond_kind kind)
{
    switch (kind) {
    case COND_CLASSIFIER:
        return "at least N | between A and B | none, N from 1 to 999, then \"unique\" or nothing";
    case COND_ATTACHMENTS:
    case COND_DESTINATIONS:
        return "at least N | between A and B | none, N from 1 to 999";
    case COND_SIZE_KB:
        return "at least N kb | between A and B kb, N from 1 to 1048576";
    case COND_FILE_NAME:
    case COND_FILE_TYPE:
        return "a pattern of 1-255 bytes, * and ? as wildcards";
    case COND_PROPERTY:
        return "encrypted | malformed | opaque | type-mismatch";
    case COND_ALL:
        break;
    }
    return "nothing behind it";
}

static void rule_condition(struct compile *c, void *block, const struct conf_item *item)
{
    struct policy_block *b = block;
    struct rule *r = b->rule;
    struct condition cond = {0};
    struct sv rest = item->value, subject = value_word(&rest);

    cond.negate = sv_eq(subject, SV("not"));
    if (cond.negate)
        subject = value_word(&rest);
    if (!subject_known(c, item, subject))
        return;
    if (!parse_subject(subject, &rest, &cond) || rest.n)
        compile_error(c, item->line, item->key, "%.*s wants: %s", SV_ARG(subject),
                      condition_form(cond.kind));
    else if (r->n_conditions == RULE_CONDITIONS_MAX)
        compile_error(c, item->line, item->key, "more than %d conditions", RULE_CONDITIONS_MAX);
    else
        r->conditions[r->n_conditions++] = cond;
}

/* ---- severity lines ---- */

static bool action_option(struct compile *c, const struct conf_item *item, struct sv word,
                          struct severity_line *line)
{
    uint32_t v;
    uint64_t n;

    if (sv_eq(word, SV("encrypt-on-release"))) {
        line->encrypt_on_release = true;
        if (line->action == ACTION_QUARANTINE)
            return true;
        compile_error(c, item->line, item->key, "encrypt-on-release goes with quarantine only");
        return false;
    }
    if (sv_starts(word, SV("severity="))) {
        if (!value_choice(c, item->line, item->key, &names_severity,
                          sv_skip(word, strlen("severity=")), &v))
            return false;
        line->severity = (enum severity)v;
        return true;
    }
    if (sv_starts(word, SV("from=")) &&
        sv_to_u64(sv_skip(word, strlen("from=")), 1, COUNT_MAX, &n)) {
        line->matches = (uint32_t)n;
        return true;
    }
    compile_error(c, item->line, item->key,
                  "\"%.*s\": options are severity=low|medium|high, from=1..%d, encrypt-on-release",
                  SV_ARG(word), COUNT_MAX);
    return false;
}

static void rule_action(struct compile *c, void *block, const struct conf_item *item)
{
    struct policy_block *b = block;
    struct rule *r = b->rule;
    struct severity_line line = {.matches = 1, .severity = SEVERITY_MEDIUM};
    struct sv rest = item->value, word = value_word(&rest);
    uint32_t action;

    if (!value_choice(c, item->line, item->key, &names_action, word, &action))
        return;
    line.action = (enum action)action;
    while (rest.n)
        if (!action_option(c, item, value_word(&rest), &line))
            return;
    if (r->n_lines == RULE_LINES_MAX)
        compile_error(c, item->line, item->key, "more than %d action lines", RULE_LINES_MAX);
    else if (!r->n_lines && line.matches != 1)
        compile_error(c, item->line, item->key, "the first action line counts from 1");
    else if (r->n_lines && line.matches <= r->lines[r->n_lines - 1].matches)
        compile_error(c, item->line, item->key, "from= must rise from line to line");
    else
        r->lines[r->n_lines++] = line;
}

static const struct block_key rule_keys[] = {
    {"enabled", false, rule_enabled}, {"match", false, rule_match},
    {"count", false, rule_count},     {"condition", true, rule_condition},
    {"action", true, rule_action},
};

/* ---- files ---- */

static void rule_end(struct compile *c, struct policy_block *b)
{
    if (b->rule && !b->rule->n_conditions)
        compile_error(c, b->line, b->rule->name,
                      "has no condition; \"condition = everything\" is always true");
    if (b->rule && !b->rule->n_lines)
        compile_error(c, b->line, b->rule->name, "has no action line");
    b->rule = NULL;
}

static bool rule_begin(struct compile *c, struct policy_block *b, const struct conf_item *item)
{
    struct policy *p = b->policy;

    if (!name_valid(item->value, 1, 50)) {
        compile_error(c, item->line, item->value, "rule name: 1-50 of a-z, 0-9 and \"-\"");
        return false;
    }
    for (uint32_t i = 0; i < p->n_rules; i++)
        if (sv_eq(p->rules[i].name, item->value))
            compile_error(c, item->line, item->value, "a rule of this name stands above");
    b->rule = &p->rules[p->n_rules++];
    b->line = item->line;
    *b->rule = (struct rule){.name = item->value, .enabled = true};
    b->rule->conditions = compile_array(c, RULE_CONDITIONS_MAX, sizeof(struct condition));
    return b->rule->conditions;
}

/* Returns the keys that are valid behind this header, NULL when none are. */
static const struct block_key *section_begin(struct compile *c, struct policy_block *b,
                                             const struct conf_item *item, bool *seen_policy,
                                             size_t *out_n)
{
    rule_end(c, b);
    if (sv_eq(item->key, SV("policy")) && !item->value.n && !*seen_policy) {
        *seen_policy = true;
        *out_n = ARRAY_LEN(policy_keys);
        return policy_keys;
    }
    if (sv_eq(item->key, SV("rule"))) {
        *out_n = ARRAY_LEN(rule_keys);
        return rule_begin(c, b, item) ? rule_keys : NULL;
    }
    compile_error(c, item->line, SV_NULL, "expected [policy] once and [rule NAME]");
    return NULL;
}

static void compile_policy(struct compile *c, struct policy *p, struct sv text)
{
    struct conf r = {.c = c, .left = text};
    struct policy_block block = {.policy = p};
    const struct block_key *keys = NULL;
    struct conf_item item;
    bool seen_policy = false, outside = true;
    uint32_t seen = 0;
    size_t n = 0;

    p->rules = compile_array(c, conf_count_sections(text), sizeof(struct rule));
    while (p->rules && conf_next(&r, &item)) {
        if (item.section) {
            keys = section_begin(c, &block, &item, &seen_policy, &n);
            outside = false;
            seen = 0;
        } else if (keys) {
            block_set(c, keys, n, &seen, &block, &item);
        } else if (outside) {
            compile_error(c, item.line, item.key, "stands outside [policy] and [rule NAME]");
        }
    }
    rule_end(c, &block);
    if (!p->directions)
        compile_error(c, 0, SV("direction"), "no direction: inbound, outbound, internal");
}

static int policy_cmp(const void *x, const void *y)
{
    return sv_cmp(((const struct policy *)x)->name, ((const struct policy *)y)->name);
}

void compile_policies(struct compile *c, const struct tree_file *files, uint32_t n)
{
    struct settings *s = c->s;

    s->policies = compile_array(c, n, sizeof(struct policy));
    for (uint32_t i = 0; s->policies && i < n; i++) {
        struct sv name = tree_name_inner(files[i].name, SV("policies/"), SV(".conf"));
        if (!name.n)
            continue;
        c->file = files[i].name;
        if (!name_valid(name, 1, 50)) {
            compile_error(c, 0, SV_NULL, "policy name: 1-50 of a-z, 0-9 and \"-\"");
            continue;
        }
        struct policy *p = &s->policies[s->n_policies++];
        *p = (struct policy){.name = name, .enabled = true, .directions = DIRECTIONS_ALL};
        compile_policy(c, p, files[i].text);
    }
    if (s->n_policies)
        sort_items(s->policies, s->n_policies, sizeof(struct policy), policy_cmp);
}

/* ---- canonical text ---- */

static void export_threshold(const struct condition *c, const char *unit, struct buf *out)
{
    switch (c->threshold) {
    case THRESHOLD_AT_LEAST:
        (void)buf_printf(out, " at least %u%s", (unsigned)c->low, unit);
        break;
    case THRESHOLD_BETWEEN:
        (void)buf_printf(out, " between %u and %u%s", (unsigned)c->low, (unsigned)c->high, unit);
        break;
    case THRESHOLD_NONE:
        (void)buf_printf(out, " none");
        break;
    }
    (void)buf_printf(out, "%s", c->unique ? " unique" : "");
}

static void export_condition(const struct condition *c, struct buf *out)
{
    (void)buf_printf(out, "condition = %s", c->negate ? "not " : "");
    switch (c->kind) {
    case COND_CLASSIFIER:
        (void)buf_printf(out, "%s%.*s",
                         classifier_known(c->name) ? "" : "phrase:", SV_ARG(c->name));
        export_threshold(c, "", out);
        break;
    case COND_ATTACHMENTS:
        (void)buf_printf(out, "attachments");
        export_threshold(c, "", out);
        break;
    case COND_SIZE_KB:
        (void)buf_printf(out, "size");
        export_threshold(c, " kb", out);
        break;
    case COND_DESTINATIONS:
        (void)buf_printf(out, "destinations");
        export_threshold(c, "", out);
        break;
    case COND_FILE_NAME:
        (void)buf_printf(out, "file-name %.*s", SV_ARG(c->name));
        break;
    case COND_FILE_TYPE:
        (void)buf_printf(out, "file-type %.*s", SV_ARG(c->name));
        break;
    case COND_PROPERTY:
        (void)buf_printf(out, "property %.*s", SV_ARG(c->name));
        break;
    case COND_ALL:
        (void)buf_printf(out, "everything");
        break;
    }
    (void)buf_append_byte(out, '\n');
}

static void export_rule(const struct rule *r, struct buf *out)
{
    (void)buf_printf(out, "\n[rule %.*s]\nenabled = %s\nmatch = %s\ncount = %s\n", SV_ARG(r->name),
                     r->enabled ? "yes" : "no", r->any ? "any" : "all",
                     r->each_part ? "each-part" : "message");
    for (uint32_t i = 0; i < r->n_conditions; i++)
        export_condition(&r->conditions[i], out);
    for (uint32_t i = 0; i < r->n_lines; i++) {
        const struct severity_line *l = &r->lines[i];
        (void)buf_printf(out, "action = %s severity=%s", name_of_value(&names_action, l->action),
                         name_of_value(&names_severity, l->severity));
        if (i)
            (void)buf_printf(out, " from=%u", (unsigned)l->matches);
        (void)buf_printf(out, "%s\n", l->encrypt_on_release ? " encrypt-on-release" : "");
    }
}

static void export_directions(uint8_t directions, struct buf *out)
{
    const char *sep = " ";

    (void)buf_printf(out, "direction =");
    for (size_t i = 0; i < names_direction.n; i++)
        if (directions & 1u << names_direction.rows[i].value) {
            (void)buf_printf(out, "%s%s", sep, names_direction.rows[i].name);
            sep = ", ";
        }
    (void)buf_append_byte(out, '\n');
}

void export_policy(const struct policy *p, struct buf *out)
{
    (void)buf_printf(out, "[policy]\ndescription =%s%.*s\nenabled = %s\n",
                     p->description.n ? " " : "", SV_ARG(p->description),
                     p->enabled ? "yes" : "no");
    export_directions(p->directions, out);
    for (uint32_t i = 0; i < p->n_senders; i++)
        (void)buf_printf(out, "senders = %.*s\n", SV_ARG(p->senders[i]));
    if (p->destinations)
        (void)buf_printf(out, "destinations = %.*s\n", SV_ARG(p->destinations->name));
    for (uint32_t i = 0; i < p->n_rules; i++)
        export_rule(&p->rules[i], out);
}
