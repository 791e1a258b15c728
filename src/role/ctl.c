/* Table of verbs and the small argument parser of postsealctl. */
#include "role/ctl.h"
#include "role/bootstrap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

struct verb {
    const char *name;
    int (*run)(struct ctl *c);
    const char *help;
};

static const struct verb verbs[] = {
    {"status", ctl_status, "state of the gateway, its queue and its processes"},
    {"queue", ctl_queue,
     "list | show ID | retry | hold | release | drop | bounce, by filter:\n"
     "  --id ID --sender S --recipient R --domain D --reason TEXT --queue NAME\n"
     "  --older MINUTES; list: --limit N; release: --in-clear; --yes"},
    {"message", ctl_message, "show ID | trace ID | find TEXT: the life of a message"},
    {"scan", ctl_scan, "FILE: what the content scan finds"},
    {"simulate", ctl_simulate,
     "FILE --from ADDRESS --rcpt ADDRESS ... [--client IP] [--user NAME]:\n"
     "  what the mail path would do"},
    {"explain", ctl_explain, "route ADDRESS [--encrypt]: which route and TLS requirement apply"},
    {"settings", ctl_settings,
     "show [FILE] | export DIR [--revision N] | apply DIR [--plan] | diff [DIR]\n"
     "  | deploy [--comment TEXT] | rollback N | history"},
    {"spool", ctl_spool, "verify | export DIR [--id ID]: reads the spool record by record"},
    {"config", ctl_config, "test FILE: checks a bootstrap file"},
    {"log", ctl_log, "level error|warn|info|debug"},
    {"audit", ctl_audit, "list: who changed what"},
    {"password", ctl_password, "hash: reads a password, prints its hash for submitters.conf"},
};

static void help(FILE *to)
{
    fprintf(to, "usage: postsealctl [--data DIR | --config FILE] [--json] VERB ...\n\n");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        fprintf(to, "%-9s %s\n", verbs[i].name, verbs[i].help);
    fprintf(to, "\nDIR is the data_dir of the bootstrap file (default $POSTSEAL_DATA or "
                "/var/lib/postseal).\nExit status as in sysexits.h.\n");
}

int ctl_usage(const char *text)
{
    fprintf(stderr, "postsealctl: %s\n", text);
    return EX_USAGE;
}

static void take(struct ctl *c, int at, int n)
{
    memmove(&c->argv[at], &c->argv[at + n], (size_t)(c->argc - at - n) * sizeof(*c->argv));
    c->argc -= n;
}

const char *ctl_option(struct ctl *c, const char *name)
{
    for (int i = 0; i + 1 < c->argc; i++) {
        if (strcmp(c->argv[i], name) == 0) {
            const char *value = c->argv[i + 1];
            take(c, i, 2);
            return value;
        }
    }
    return NULL;
}

bool ctl_flag(struct ctl *c, const char *name)
{
    for (int i = 0; i < c->argc; i++) {
        if (strcmp(c->argv[i], name) == 0) {
            take(c, i, 1);
            return true;
        }
    }
    return false;
}

bool ctl_number(const char *option, const char *text, long long *out_n)
{
    uint64_t n = 0;

    if (!sv_to_u64(sv_str(text), 0, INT64_MAX, &n)) {
        fprintf(stderr, "postsealctl: %s: \"%s\" is not a number\n", option, text);
        return false;
    }
    *out_n = (long long)n;
    return true;
}

int ctl_no_more(struct ctl *c, int used)
{
    int bad = 0;

    while (bad < c->argc && bad < used && strncmp(c->argv[bad], "--", 2) != 0)
        bad++;
    if (bad == c->argc)
        return EX_OK;
    fprintf(stderr, "postsealctl: unexpected argument \"%s\"; see postsealctl --help\n",
            c->argv[bad]);
    return EX_USAGE;
}

int ctl_main(int argc, char **argv)
{
    struct ctl c = {.argc = argc - 1, .argv = argv + 1};
    const char *data = ctl_option(&c, "--data");

    if (ctl_flag(&c, "--help") || ctl_flag(&c, "-h")) {
        help(stdout);
        return EX_OK;
    }
    if (ctl_flag(&c, "--version")) {
        printf("postsealctl %s\n", POSTSEAL_VERSION);
        return EX_OK;
    }
    const char *config = ctl_option(&c, "--config");
    static struct bootstrap boot; /* its data_dir is used until the end */
    struct errinfo info = {0};
    if (config && bootstrap_load(config, &boot, &info)) {
        char text[1024];
        bootstrap_explain(&info, text, sizeof(text));
        fprintf(stderr, "postsealctl: %s\n", text);
        return EX_CONFIG;
    }
    c.json = ctl_flag(&c, "--json");
    c.yes = ctl_flag(&c, "--yes");
    c.data_dir = data ? data : config ? boot.data_dir : getenv("POSTSEAL_DATA");
    if (!c.data_dir)
        c.data_dir = "/var/lib/postseal";
    for (size_t i = 0; c.argc && i < ARRAY_LEN(verbs); i++) {
        if (strcmp(c.argv[0], verbs[i].name) == 0) {
            take(&c, 0, 1);
            return verbs[i].run(&c);
        }
    }
    if (c.argc)
        fprintf(stderr, "postsealctl: unknown verb \"%s\"\n", c.argv[0]);
    help(stderr);
    return EX_USAGE;
}
