/* Verbs that read the tracking database: message, audit. */
#include "role/ctl.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static void print_found(void *ctl, const json_t *e)
{
    const struct ctl *c = ctl;
    const json_t *d = json_object_get(e, "detail");
    const char *to = ctl_s(e, "recipient");

    if (c->json)
        ctl_print_json(e);
    else
        printf("%s %.19s from=<%s> to=%s%s \"%s\"\n", ctl_s(e, "id"), ctl_s(e, "at"),
               ctl_s(e, "sender"), *to ? to : ctl_s(d, "first_recipient"),
               ctl_n(d, "recipients") > 1 ? " ..." : "", ctl_s(e, "subject"));
}

int ctl_message(struct ctl *c)
{
    bool trace =
        c->argc == 2 && (strcmp(c->argv[0], "trace") == 0 || strcmp(c->argv[0], "show") == 0);

    if (trace)
        return ctl_ask(c, "store", "message.trace", json_pack("{s:s}", "id", c->argv[1]), -1,
                       ctl_print_event, c, NULL);
    if (c->argc == 2 && strcmp(c->argv[0], "find") == 0)
        return ctl_ask(c, "store", "message.find", json_pack("{s:s}", "text", c->argv[1]), -1,
                       print_found, c, NULL);
    return ctl_usage("message show ID | trace ID | find TEXT");
}

static void print_audit(void *ctl, const json_t *e)
{
    const struct ctl *c = ctl;

    if (c->json)
        ctl_print_json(e);
    else
        printf("%.19s %s %s %s %s\n", ctl_s(e, "at"), ctl_s(e, "user"), ctl_s(e, "action"),
               ctl_s(e, "element"), ctl_s(e, "detail"));
}

int ctl_audit(struct ctl *c)
{
    if (c->argc != 1 || strcmp(c->argv[0], "list") != 0)
        return ctl_usage("audit list");
    return ctl_ask(c, "store", "audit.list", json_object(), -1, print_audit, c, NULL);
}
