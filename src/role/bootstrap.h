/*
 * The bootstrap file: what a process needs before it can read its settings. At most 25 effective
 * lines; everything else is settings in revisions. Syntax (libConfuse, checked more strictly by
 * us):
 *
 *   hostname = "mx1.example.org"             required
 *   data_dir = "/var/lib/postseal"           required, absolute
 *   user     = "postseal"                    taken when started as root ("root" = stay root)
 *   database = "sqlite:/var/lib/postseal/db/postseal.db"    default DATA_DIR/db/postseal.db
 *   workers  = 4                             smtp and content processes each; default: CPUs
 *   sandbox  = require                       or best-effort
 *   log { format = text  level = info }      text json journal | error warn info debug
 *   listen {
 *       smtp        = {"0.0.0.0:25", "[::]:25"}     "*:25" means both
 *       submission  = {"*:587"}
 *       submissions = {"*:465"}
 *       internal    = {"10.0.0.1:10025"}
 *       https       = {"*:8443"}
 *   }
 */
#ifndef ROLE_BOOTSTRAP_H
#define ROLE_BOOTSTRAP_H

#include "base/ip.h"
#include "base/log.h"

#define BOOTSTRAP_FILE_MAX      (64u * 1024)
#define BOOTSTRAP_LISTENERS_MAX 32

enum listen_kind {
    LISTEN_SMTP,
    LISTEN_SUBMISSION,
    LISTEN_SUBMISSIONS,
    LISTEN_INTERNAL,
    LISTEN_HTTPS,
    LISTEN_KINDS
};

struct bootstrap_listener {
    enum listen_kind kind;
    struct ip ip;
    uint16_t port;
    uint32_t line;
    char address[IP_TEXT_MAX + 8]; /* canonical "IP:PORT", "[IP]:PORT" */
};

struct bootstrap {
    char hostname[256];
    char data_dir[256];
    char user[64];
    char database[512];
    uint8_t workers; /* 0 = number of CPUs */
    bool sandbox_require;
    enum log_format log_format;
    enum log_level log_level;
    struct bootstrap_listener listeners[BOOTSTRAP_LISTENERS_MAX];
    size_t n_listeners;
};

const char *listen_kind_name(enum listen_kind kind);

/* ERR_SYNTAX: info has file, line, key and a sentence that ends with the nearest valid word. */
NODISCARD enum err bootstrap_parse(struct sv text, const char *file, struct bootstrap *out_b,
                                   struct errinfo *info);
NODISCARD enum err bootstrap_load(const char *file, struct bootstrap *out_b, struct errinfo *info);
/* "FILE:LINE: KEY: TEXT" without what is empty. */
void bootstrap_explain(const struct errinfo *info, char *out_text, size_t n);

#endif
