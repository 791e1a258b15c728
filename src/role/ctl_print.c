/* Text for people: events as a timeline. Values come from mail, so control bytes never reach the
 * terminal. */
#include "role/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ctl_print_json(const json_t *v)
{
    (void)json_dumpf(v, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
    putchar('\n');
}

/* jansson keeps strings as UTF-8; C0 and C1 controls are shown as '?'. */
static void clean(char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == 0x7f ||
            (c == 0xc2 && (unsigned char)s[1] >= 0x80 && (unsigned char)s[1] < 0xa0))
            *s = '?';
    }
}

const char *ctl_s(const json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);

    if (!json_is_string(v))
        return "";
    /* the document is ours alone: cleaned in place, once */
    char *text = (char *)(uintptr_t)json_string_value(v);
    clean(text);
    return text;
}

long long ctl_n(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

bool ctl_b(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}

/* passed: a message went over this connection. */
static void tls(const json_t *d, bool passed)
{
    const json_t *t = json_object_get(d, "tls");

    if (!t)
        return;
    if (strcmp(ctl_s(t, "version"), "none") == 0) {
        printf("             %s\n", passed ? "in clear (no TLS)" : "no TLS session");
        return;
    }
    printf("             %s %s, %lld bits%s\n", ctl_s(t, "version"), ctl_s(t, "cipher"),
           ctl_n(t, "bits"), ctl_b(t, "resumed") ? ", resumed" : "");
    if (*ctl_s(t, "peer"))
        printf("             certificate %s, issued by %s, until %.10s; chain %s, name %s\n",
               ctl_s(t, "peer"), ctl_s(t, "issuer"), ctl_s(t, "not_after"),
               ctl_b(t, "chain_ok") ? "trusted" : "not trusted",
               ctl_b(t, "name_ok") ? "matches" : "does not match");
    if (*ctl_s(t, "verify_error"))
        printf("             verification: %s\n", ctl_s(t, "verify_error"));
}

void ctl_print_decision(const json_t *d)
{
    const json_t *rules = json_object_get(d, "rules"), *r, *n;
    const char *name;
    size_t i;

    printf("%s -> %s%s%s%s\n", ctl_s(d, "direction"), ctl_s(d, "action"),
           ctl_b(d, "monitor") ? " (monitor mode)" : "", ctl_b(d, "encrypt") ? ", method " : "",
           ctl_b(d, "encrypt") ? ctl_s(d, "method") : "");
    if (*ctl_s(d, "scan_error"))
        printf("             scan: %s\n", ctl_s(d, "scan_error"));
    json_object_foreach((json_t *)(uintptr_t)json_object_get(d, "found"), name, n)
        printf("             found %lld x %s\n", json_integer_value(n), name);
    json_array_foreach(rules, i, r) printf(
        "             policy %s, rule %s: %s (severity %s, asks for %s)\n", ctl_s(r, "policy"),
        ctl_s(r, "rule"), ctl_s(r, "why"), ctl_s(r, "severity"), ctl_s(r, "action"));
    if (*ctl_s(d, "reason"))
        printf("             reason: %s\n", ctl_s(d, "reason"));
}

static void attempt(const json_t *e, const json_t *d)
{
    printf("to=%s", ctl_s(e, "recipient"));
    if (*ctl_s(d, "host"))
        printf(", %s[%s]:%lld", ctl_s(d, "host"), ctl_s(d, "ip"), ctl_n(d, "port"));
    if (*ctl_s(d, "route"))
        printf(", route %s", ctl_s(d, "route"));
    putchar('\n');
    if (*ctl_s(d, "required"))
        printf("             TLS required: %s (%s)\n", ctl_s(d, "required"),
               ctl_s(d, "required_by"));
    tls(d, strcmp(ctl_s(e, "event"), "delivered") == 0);
    if (*ctl_s(d, "failure") && strcmp(ctl_s(d, "failure"), "none") != 0)
        printf("             failure: %s\n", ctl_s(d, "failure"));
    if (*ctl_s(d, "reply"))
        printf("             reply: %s\n", ctl_s(d, "reply"));
    if (*ctl_s(d, "human"))
        printf("             %s\n", ctl_s(d, "human"));
    if (*ctl_s(d, "next"))
        printf("             next attempt: %s\n", ctl_s(d, "next"));
}

void ctl_print_event(void *ctl, const json_t *e)
{
    const struct ctl *c = ctl;
    const json_t *d = json_object_get(e, "detail");
    const char *event = ctl_s(e, "event");

    if (c->json) {
        ctl_print_json(e);
        return;
    }
    printf("%.23s  %s  %-10s ", ctl_s(e, "at"), ctl_s(e, "id"), event);
    if (strcmp(event, "decided") == 0) {
        ctl_print_decision(d);
    } else if (strcmp(event, "received") == 0) {
        printf("from=<%s> to=%s%s client %s, %lld bytes, subject \"%s\"\n", ctl_s(e, "sender"),
               ctl_s(d, "first_recipient"), ctl_n(d, "recipients") > 1 ? " ..." : "",
               ctl_s(d, "client"), ctl_n(d, "size"), ctl_s(e, "subject"));
        tls(d, true);
    } else if (json_object_get(d, "attempt")) {
        attempt(e, d);
    } else if (d && json_object_size(d)) {
        char *text = json_dumps(d, JSON_COMPACT);
        printf("%s%s%s\n", ctl_s(e, "recipient"), *ctl_s(e, "recipient") ? " " : "",
               text ? text : "");
        free(text);
    } else {
        printf("%s\n", ctl_s(e, "recipient"));
    }
}
