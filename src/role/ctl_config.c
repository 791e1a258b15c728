/* config test, password hash: verbs that need no running gateway. */
#include "role/bootstrap.h"
#include "role/ctl.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

int ctl_config(struct ctl *c)
{
    struct bootstrap b;
    struct errinfo info = {0};
    char text[1024];

    if (c->argc != 2 || strcmp(c->argv[0], "test") != 0)
        return ctl_usage("config test FILE");
    if (bootstrap_load(c->argv[1], &b, &info)) {
        bootstrap_explain(&info, text, sizeof(text));
        fprintf(stderr, "%s\n", text);
        return EX_CONFIG;
    }
    printf("%s: good (%zu listeners, data in %s)\n", c->argv[1], b.n_listeners, b.data_dir);
    return EX_OK;
}

int ctl_password(struct ctl *c)
{
    char password[512], hash[crypto_pwhash_STRBYTES];

    if (c->argc != 1 || strcmp(c->argv[0], "hash") != 0)
        return ctl_usage("password hash   (the password is read from standard input)");
    if (!fgets(password, sizeof(password), stdin) || sodium_init() < 0)
        return EX_NOINPUT;
    password[strcspn(password, "\n")] = 0;
    int bad =
        crypto_pwhash_str(hash, password, strlen(password), crypto_pwhash_OPSLIMIT_INTERACTIVE,
                          crypto_pwhash_MEMLIMIT_INTERACTIVE);
    sodium_memzero(password, sizeof(password));
    if (bad)
        return EX_OSERR;
    printf("%s\n", hash);
    return EX_OK;
}
