/* Inside of the `store` process: store.c (tracking, channels), store_ctl.c (verbs),
 * store_settings.c (revisions). */
#ifndef ROLE_STORE_PRIV_H
#define ROLE_STORE_PRIV_H

#include "core/settings.h"
#include "role/ctl_verb.h"
#include "role/role.h"
#include "role/tell.h"
#include "store/db.h"
#include "store/eventlog.h"

struct store {
    struct role_ctx *role;
    struct db *db;
    struct eventlog *events;
    struct ipc *queue, *web;
    struct timer *gather, *purge;
    bool gathering;
    int ctl_fd;
    uint32_t keep_days, keep_mb;
    char data_dir[4096], events_dir[4200], db_dir[4200];
    /* a deploy that waits for the queue's answer */
    struct ipc *deploy_ch;
    uint64_t deploy_tag, deploy_revision;
};

void store_nudge(struct store *s, uint64_t ms);
void store_reopen_events(struct store *s);

/* store_ctl.c */
void store_request(struct store *s, struct ipc *ch, const struct ctl_req *r);

/* store_settings.c */
void store_settings(struct store *s, struct ipc *ch, const struct ctl_req *r, const char *verb,
                    const json_t *args);
void store_settings_of_queue(struct store *s, const struct settings_msg *m);
void store_settings_ack(struct store *s, const struct settings_ack *a);
void store_deploy_failed(struct store *s, const char *why);

#endif
