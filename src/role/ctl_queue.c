/* Verbs that talk to the queue: status, queue, scan, simulate, explain, log. */
#include "role/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* ---- status ---- */

int ctl_status(struct ctl *c)
{
    json_t *v = NULL;
    const char *name;
    const json_t *n;
    int exit = ctl_no_more(c, 0);

    if (!exit)
        exit = ctl_ask(c, "queue", "status", json_object(), -1, NULL, NULL, &v);
    if (exit || c->json) {
        if (!exit)
            ctl_print_json(v);
        json_decref(v);
        return exit;
    }
    const json_t *q = json_object_get(v, "queue"), *w = json_object_get(v, "workers");
    printf("postseal %s on %s, settings revision %lld, %s\n", ctl_s(v, "version"), ctl_s(v, "host"),
           ctl_n(v, "revision"), ctl_b(v, "accepting") ? "accepting mail" : "NOT accepting mail");
    printf("queue: %lld messages (%lld new, %lld delivering or delayed, %lld held), %lld marked "
           "Encrypt\n",
           ctl_n(q, "messages"), ctl_n(q, "new"), ctl_n(q, "delivering_or_delayed"),
           ctl_n(q, "held"), ctl_n(q, "encrypt"));
    printf("processes: %lld smtp, %lld content, store %s, lookup %s, web %s\n", ctl_n(w, "smtp"),
           ctl_n(w, "content"), ctl_b(w, "store") ? "up" : "DOWN",
           ctl_b(w, "lookup") ? "up" : "DOWN", ctl_b(w, "web") ? "up" : "DOWN");
    printf("since start:");
    json_object_foreach(json_object_get(v, "since_start"), name, n)
    {
        if (json_integer_value(n))
            printf(" %s=%lld", name, json_integer_value(n));
    }
    putchar('\n');
    json_decref(v);
    return EX_OK;
}

/* ---- queue ---- */

static const char *const filter_names[] = {"id",     "sender", "recipient",
                                           "domain", "reason", "queue"};

/* NULL when an option cannot be read: its reason is printed. */
static json_t *filter(struct ctl *c)
{
    json_t *args = json_object();
    char option[32];
    long long minutes = 0;

    for (size_t i = 0; i < ARRAY_LEN(filter_names); i++) {
        snprintf(option, sizeof(option), "--%s", filter_names[i]);
        const char *v = ctl_option(c, option);
        if (v)
            json_object_set_new(args, filter_names[i], json_string(v));
    }
    const char *older = ctl_option(c, "--older");
    if (older && !ctl_number("--older", older, &minutes)) {
        json_decref(args);
        return NULL;
    }
    if (older)
        json_object_set_new(args, "older_min", json_integer(minutes));
    return args;
}

static void print_message(void *ctx, const json_t *m)
{
    const struct ctl *c = ctx;
    const json_t *r;
    size_t i;

    if (c->json) {
        ctl_print_json(m);
        return;
    }
    printf("%s %-15s%s %s from=<%s> %lld bytes \"%s\"\n", ctl_s(m, "id"), ctl_s(m, "queue"),
           ctl_b(m, "encrypt") ? " [encrypt]" : "", ctl_s(m, "received"), ctl_s(m, "sender"),
           ctl_n(m, "size"), ctl_s(m, "subject"));
    if (*ctl_s(m, "reason"))
        printf("    held: %s\n", ctl_s(m, "reason"));
    json_array_foreach(json_object_get(m, "recipients"), i, r)
    {
        printf("    to=%s %s, %lld attempts", ctl_s(r, "address"), ctl_s(r, "state"),
               ctl_n(r, "attempts"));
        if (*ctl_s(r, "next"))
            printf(", next %s", ctl_s(r, "next"));
        if (*ctl_s(r, "reason"))
            printf("\n        %s: %s%s%s", ctl_s(r, "failure"), ctl_s(r, "reason"),
                   *ctl_s(r, "remote") ? " at " : "", ctl_s(r, "remote"));
        putchar('\n');
    }
    if (*ctl_s(json_object_get(m, "decision"), "reason")) { /* "show" only */
        printf("    decided: ");
        ctl_print_decision(json_object_get(m, "decision"));
    }
}

static int queue_show(struct ctl *c, json_t *args, const char *verb)
{
    json_t *last = NULL;
    int exit = ctl_ask(c, "queue", verb, args, -1, print_message, c, &last);

    if (!exit && !c->json && strcmp(verb, "queue.list") == 0)
        printf("%lld messages, %lld shown\n", ctl_n(last, "matched"), ctl_n(last, "shown"));
    else if (!exit && c->json && strcmp(verb, "queue.list") == 0)
        ctl_print_json(last);
    json_decref(last);
    return exit;
}

static bool confirm(const struct ctl *c, const char *action, long long n)
{
    char line[16];

    if (c->yes)
        return true;
    fprintf(stderr, "%s %lld messages? Type yes: ", action, n);
    return fgets(line, sizeof(line), stdin) && strcmp(line, "yes\n") == 0;
}

/* The true count first, then the question, then the deed. */
static int queue_act(struct ctl *c, json_t *args, const char *action)
{
    json_t *count = NULL, *done = NULL;
    char verb[32];

    if (!json_object_size(args)) {
        json_decref(args);
        return ctl_usage("an ID or a filter is needed; see postsealctl --help");
    }
    int exit = ctl_ask(c, "queue", "queue.count", json_deep_copy(args), -1, NULL, NULL, &count);
    long long n = ctl_n(count, "matched");

    json_decref(count);
    if (exit || !n) {
        if (!exit)
            fprintf(stderr, "postsealctl: no message matches\n");
        json_decref(args);
        return exit ? exit : EX_NOINPUT;
    }
    if (!confirm(c, action, n)) {
        json_decref(args);
        fprintf(stderr, "postsealctl: nothing was done (use --yes to go on without a question)\n");
        return EX_TEMPFAIL;
    }
    snprintf(verb, sizeof(verb), "queue.%s", action);
    exit = ctl_ask(c, "queue", verb, args, -1, NULL, NULL, &done);
    if (c->json && !exit)
        ctl_print_json(done);
    else if (!c->json && json_object_get(done, "matched"))
        printf("%s: %lld of %lld messages (%lld being delivered, %lld not applicable)\n", action,
               ctl_n(done, "done"), ctl_n(done, "matched"), ctl_n(done, "being_delivered"),
               ctl_n(done, "not_applicable"));
    json_decref(done);
    return exit;
}

int ctl_queue(struct ctl *c)
{
    static const char *const actions[] = {"retry", "hold", "release", "drop", "bounce"};
    json_t *args = filter(c);
    const char *limit = ctl_option(c, "--limit");
    bool in_clear = ctl_flag(c, "--in-clear");
    const char *verb = c->argc ? c->argv[0] : "list";
    long long n = 0;

    if (!args || ctl_no_more(c, 2) || (limit && !ctl_number("--limit", limit, &n))) {
        json_decref(args);
        return EX_USAGE;
    }
    if (limit && strcmp(verb, "list") == 0)
        json_object_set_new(args, "limit", json_integer(n));
    if (c->argc > 1) /* "show ID", "retry ID" */
        json_object_set_new(args, "id", json_string(c->argv[1]));
    if (in_clear && strcmp(verb, "release") == 0 && json_object_size(args))
        json_object_set_new(args, "in_clear", json_true());
    if (strcmp(verb, "list") == 0)
        return queue_show(c, args, "queue.list");
    if (strcmp(verb, "show") == 0)
        return queue_show(c, args, "queue.show");
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        if (strcmp(verb, actions[i]) == 0)
            return queue_act(c, args, verb);
    }
    json_decref(args);
    return ctl_usage("queue list | show ID | retry | hold | release | drop | bounce");
}

/* ---- scan, simulate ---- */

static void print_facts(const json_t *f)
{
    const json_t *p;
    size_t i;

    printf("scan %s%s%s, %lld bytes, %lld attachments, %lld us\n", ctl_s(f, "scan"),
           *ctl_s(f, "error") ? ": " : "", ctl_s(f, "error"), ctl_n(f, "size"),
           ctl_n(f, "attachments"), ctl_n(f, "micros"));
    json_array_foreach(json_object_get(f, "parts"), i, p) printf(
        "  part %-8s %s%s%s%s%s%s%lld bytes%s%s%s%s\n", ctl_s(p, "path"), ctl_s(p, "type"),
        *ctl_s(p, "true_type") ? " is " : "", ctl_s(p, "true_type"),
        *ctl_s(p, "name") ? " name " : "", ctl_s(p, "name"), *ctl_s(p, "type") ? ", " : "",
        ctl_n(p, "size"), ctl_b(p, "opaque") ? ", opaque" : "",
        ctl_b(p, "encrypted") ? ", encrypted" : "", ctl_b(p, "malformed") ? ", malformed" : "",
        ctl_b(p, "type_mismatch") ? ", type does not match" : "");
    json_array_foreach(json_object_get(f, "hits"), i, p)
        printf("  found %s in part %s: %lld (%lld distinct)%s%s\n", ctl_s(p, "classifier"),
               ctl_s(p, "part"), ctl_n(p, "count"), ctl_n(p, "unique"),
               *ctl_s(p, "example") ? ", for example " : "", ctl_s(p, "example"));
}

static void print_plan(const json_t *r)
{
    const json_t *rule, *h = json_object_get(r, "hop");
    size_t i;

    if (!ctl_b(r, "accepted"))
        printf("%s: refused at RCPT: %lld %s %s\n", ctl_s(r, "address"), ctl_n(r, "code"),
               ctl_s(r, "status"), ctl_s(r, "text"));
    printf("%s: %s -> %s%s%s%s\n", ctl_s(r, "address"), ctl_s(r, "direction"), ctl_s(r, "action"),
           ctl_b(r, "monitor") ? " (monitor mode)" : "", ctl_b(r, "encrypt") ? ", method " : "",
           ctl_b(r, "encrypt") ? ctl_s(r, "method") : "");
    json_array_foreach(json_object_get(r, "rules"), i, rule)
        printf("  policy %s, rule %s: %s\n", ctl_s(rule, "policy"), ctl_s(rule, "rule"),
               ctl_s(rule, "why"));
    printf("  reason: %s\n  route %s by %s, TLS %s (%s)\n", ctl_s(r, "reason"), ctl_s(h, "route"),
           ctl_s(h, "deliver"), ctl_s(h, "tls_required"), ctl_s(h, "tls_required_by"));
}

static int with_file(struct ctl *c, const char *verb, json_t *args, const char *path)
{
    json_t *v = NULL;
    const json_t *r;
    size_t i;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        fprintf(stderr, "postsealctl: %s: %s\n", path, strerror(errno));
        json_decref(args);
        return EX_NOINPUT;
    }
    int exit = ctl_ask(c, "queue", verb, args, fd, NULL, NULL, &v);
    if (!exit && c->json) {
        ctl_print_json(v);
    } else if (!exit) {
        print_facts(json_object_get(v, "facts"));
        json_array_foreach(json_object_get(v, "recipients"), i, r) print_plan(r);
    }
    json_decref(v);
    return exit;
}

int ctl_scan(struct ctl *c)
{
    if (c->argc != 1)
        return ctl_usage("scan FILE");
    return with_file(c, "scan", json_object(), c->argv[0]);
}

int ctl_simulate(struct ctl *c)
{
    json_t *args = json_object(), *rcpts = json_array();
    const char *from = ctl_option(c, "--from"), *client = ctl_option(c, "--client");
    const char *user = ctl_option(c, "--user"), *rcpt;

    while ((rcpt = ctl_option(c, "--rcpt")) != NULL)
        json_array_append_new(rcpts, json_string(rcpt));
    json_object_set_new(args, "rcpts", rcpts);
    json_object_set_new(args, "from", json_string(from ? from : ""));
    if (client)
        json_object_set_new(args, "client", json_string(client));
    if (user)
        json_object_set_new(args, "user", json_string(user));
    if (c->argc != 1 || !json_array_size(rcpts)) {
        json_decref(args);
        return ctl_usage("simulate FILE --from ADDRESS --rcpt ADDRESS ... [--client IP] "
                         "[--user NAME]");
    }
    return with_file(c, "simulate", args, c->argv[0]);
}

/* ---- explain, log ---- */

int ctl_explain(struct ctl *c)
{
    json_t *v = NULL, *args = json_object();
    const json_t *s;
    size_t i;

    if (ctl_flag(c, "--encrypt"))
        json_object_set_new(args, "encrypt", json_true());
    if (c->argc != 2 || strcmp(c->argv[0], "route") != 0) {
        json_decref(args);
        return ctl_usage("explain route ADDRESS [--encrypt]");
    }
    json_object_set_new(args, "address", json_string(c->argv[1]));
    int exit = ctl_ask(c, "queue", "explain.route", args, -1, NULL, NULL, &v);
    if (!exit && c->json) {
        ctl_print_json(v);
    } else if (!exit) {
        printf("%s: route %s, delivery by %s, TLS %s (%s, at least %lld bits)\n",
               ctl_s(v, "address"), ctl_s(v, "route"), ctl_s(v, "deliver"),
               ctl_s(v, "tls_required"), ctl_s(v, "tls_required_by"), ctl_n(v, "tls_bits"));
        json_array_foreach(json_object_get(v, "servers"), i, s)
            printf("  server %s:%lld preference %lld%s\n", ctl_s(s, "name"), ctl_n(s, "port"),
                   ctl_n(s, "preference"), ctl_b(s, "mx") ? " (its MX)" : "");
    }
    json_decref(v);
    return exit;
}

int ctl_log(struct ctl *c)
{
    if (c->argc != 2 || strcmp(c->argv[0], "level") != 0)
        return ctl_usage("log level error|warn|info|debug");
    return ctl_ask(c, "queue", "log.level", json_pack("{s:s}", "level", c->argv[1]), -1, NULL, NULL,
                   NULL);
}
