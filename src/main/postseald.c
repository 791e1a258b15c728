/*
 * postseald --config FILE            the supervisor (role/supervisor.h)
 * postseald --config FILE --check    is the file good? 0 or 78
 * postseald --version
 * postseald --role NAME              internal: a child, its control channel at fd 3 (role/role.h)
 */
#include "role/role.h"
#include "role/supervisor.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static const struct {
    enum role role;
    int (*run)(struct role_ctx *r);
} roles[] = {
    {ROLE_SMTP, smtp_run},     {ROLE_QUEUE, queue_run}, {ROLE_CONTENT, content_run},
    {ROLE_LOOKUP, lookup_run}, {ROLE_STORE, store_run}, {ROLE_WEB, web_run},
    {ROLE_KEYS, keys_run},
};

static int run_role(const char *name)
{
    static struct role_ctx ctx;
    struct errinfo info = {0};

    if (role_start(&ctx, name, &info) != ERR_OK) {
        (void)fprintf(stderr, "postseald: --role %s: %s\n", name, info.text);
        return EX_USAGE;
    }
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (roles[i].role == ctx.role)
            return roles[i].run(&ctx);
    return EX_SOFTWARE;
}

static int usage(FILE *to, int status)
{
    (void)fputs("Usage: postseald --config FILE [--check]\n"
                "       postseald --version\n"
                "  -c, --config FILE   bootstrap file, see postseald(8)\n"
                "      --check         check the file and exit: 0 good, 78 bad\n"
                "      --version       print the version\n",
                to);
    return status;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"check", no_argument, NULL, 'k'},
        {"role", required_argument, NULL, 'r'},   {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
    const char *config = NULL;
    bool check = false;

    for (int c; (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        switch (c) {
        case 'c':
            config = optarg;
            break;
        case 'k':
            check = true;
            break;
        case 'r':
            return run_role(optarg);
        case 'v':
            return puts("postseald " POSTSEAL_VERSION) < 0;
        case 'h':
            return usage(stdout, EX_OK);
        default:
            return usage(stderr, EX_USAGE);
        }
    }
    if (!config || optind != argc)
        return usage(stderr, EX_USAGE);
    return check ? supervisor_check(config) : supervisor_run(config);
}
