/*
 * postsealctl: the command line of administrators. Each verb is a row of a table (ctl.c); requests
 * go over the local sockets DATA/run/{queue,store}.sock; answers are JSON, printed as they are with
 * --json, else as text. Exit status from sysexits.
 */
#ifndef ROLE_CTL_H
#define ROLE_CTL_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

struct ctl {
    const char *data_dir;
    bool json, yes;
    int argc; /* arguments behind the verb */
    char **argv;
};

int ctl_main(int argc, char **argv);

/* ctl_client.c: asks "queue" or "store". Calls each() for every answer but the last, which goes to
 * *out_last (owned by the caller). Returns the exit status; on failure the reason is printed. */
typedef void ctl_each(void *ctx, const json_t *answer);
int ctl_ask(struct ctl *c, const char *socket, const char *verb, json_t *args, int fd,
            ctl_each *each, void *ctx, json_t **out_last);

/* Options "--name VALUE" and "--name" among the arguments; taken ones are removed. */
const char *ctl_option(struct ctl *c, const char *name);
bool ctl_flag(struct ctl *c, const char *name);
int ctl_usage(const char *text); /* prints, returns EX_USAGE */
/* A number of an option: prints and returns false when text is not one. */
bool ctl_number(const char *option, const char *text, long long *out_n);
/* Left-over arguments, and options that were not taken, are an error: prints and returns EX_USAGE,
 * else EX_OK. */
int ctl_no_more(struct ctl *c, int used);

/* ctl_print.c */
void ctl_print_json(const json_t *v);
const char *ctl_s(const json_t *o, const char *key); /* "" when absent */
long long ctl_n(const json_t *o, const char *key);
bool ctl_b(const json_t *o, const char *key);
void ctl_print_decision(const json_t *decision);
void ctl_print_event(void *ctl, const json_t *event);

/* verbs */
int ctl_status(struct ctl *c);
int ctl_queue(struct ctl *c);
int ctl_message(struct ctl *c);
int ctl_audit(struct ctl *c);
int ctl_scan(struct ctl *c);
int ctl_simulate(struct ctl *c);
int ctl_explain(struct ctl *c);
int ctl_log(struct ctl *c);
int ctl_settings(struct ctl *c);
int ctl_spool(struct ctl *c);
int ctl_config(struct ctl *c);
int ctl_password(struct ctl *c);

/* ctl_tree.c: text trees on disk */
NODISCARD enum err ctl_tree_read(const char *dir, struct buf *out_tree, struct errinfo *info);
NODISCARD enum err ctl_tree_write(const char *dir, struct sv tree, struct errinfo *info);
/* Prints what differs, file by file, line by line; returns whether anything does. */
bool ctl_tree_diff(struct sv from, struct sv to);

#endif
