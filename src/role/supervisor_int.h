/* Parts of the supervisor: life (supervisor.c), children, sockets, files, notification. */
#ifndef ROLE_SUPERVISOR_INT_H
#define ROLE_SUPERVISOR_INT_H

#include "net/ipc.h"
#include "role/bootstrap.h"
#include "role/supervisor.h"
#include <sys/types.h>

#define SUP_WORKERS_MAX  64
#define SUP_CHILDREN_MAX (5 + 2 * SUP_WORKERS_MAX)
#define SUP_SOCKETS_MAX  (BOOTSTRAP_LISTENERS_MAX * SUP_WORKERS_MAX)

#define SUP_BACKOFF_MIN_MS   100
#define SUP_BACKOFF_MAX_MS   5000
#define SUP_BACKOFF_RESET_MS 60000 /* this long up = the next death starts from the minimum */
#define SUP_READY_MS         60000 /* a child that is not READY by then is killed */

enum child_state { CHILD_DOWN, CHILD_STARTING, CHILD_READY };

struct sup;
struct child {
    struct sup *sup;
    enum role role;
    uint8_t index;
    enum child_state state;
    pid_t pid;           /* 0 = none */
    struct ipc *control; /* NULL = none */
    struct timer *retry;
    uint32_t backoff_ms; /* next one */
    int64_t started_ms;
};

struct listen_socket {
    enum role role;
    uint8_t index; /* worker it is meant for */
    const char *kind;
    char address[128];
    int fd;
};

struct sup {
    struct bootstrap boot;
    struct loop *loop;
    uint8_t workers;
    struct child children[SUP_CHILDREN_MAX];
    size_t n_children;
    struct listen_socket *sockets;
    size_t n_sockets;
    int lock_fd;
    struct timer *tick;
    bool was_ready; /* all children were READY once */
    bool stopping;
    size_t stop_phase;
    struct timer *stop_timer;
    int status; /* exit status */
};

/* supervisor_child.c */
void sup_children_plan(struct sup *s); /* fills the table */
NODISCARD enum err sup_children_start(struct sup *s);
void sup_children_reap(struct sup *s);
void sup_children_tick(struct sup *s);                                    /* start-up deadlines */
size_t sup_children_signal(struct sup *s, unsigned role_bits, int signo); /* how many live */
bool sup_children_ready(const struct sup *s);
/* supervisor.c */
void sup_stop(struct sup *s, int status);
void sup_child_gone(struct sup *s); /* a child was reaped */

/* supervisor_listen.c */
NODISCARD enum err sup_listen(struct sup *s, struct errinfo *info);     /* before privileges drop */
NODISCARD enum err sup_listen_ctl(struct sup *s, struct errinfo *info); /* after */
void sup_unlisten(struct sup *s);

/* supervisor_files.c */
NODISCARD enum err sup_data_dir(struct sup *s, struct errinfo *info); /* layout, lock, owner */
NODISCARD enum err sup_drop_privileges(struct sup *s, struct errinfo *info);
/* Makes keys at the first start, and sees whether all can be read. After the privileges drop. */
NODISCARD enum err sup_first_keys(struct sup *s, struct errinfo *info);
/* Reads what this role is to know and sends it as BYTES (without "end"). */
void sup_push_files(struct sup *s, struct child *c);
/* `keys` asks to keep "key/ID" or "cert/ID". */
void sup_keep_file(struct sup *s, struct sv name, struct sv data);

/* supervisor_notify.c: systemd's notification protocol; nothing happens without $NOTIFY_SOCKET */
void sup_notify(const char *state);
uint64_t sup_watchdog_ms(void); /* 0 = none wanted */

#endif
