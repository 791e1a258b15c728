/*
 * Structured logging for roles (libraries below L5 never log). One line per event, first a
 * Postfix-compatible part, then key=value pairs; or one JSON object per line. Values are escaped:
 * no line break, no control byte ever reaches the log. Never content, never secrets.
 *
 *   log_init(LOG_TEXT, "smtp");
 *   struct log_line l = log_begin(LOG_INFO, "attempt");       event name from model/events.h
 *   log_text(&l, "%s: to=<%.*s>, ...", id, SV_ARG(to));        Postfix-compatible head
 *   log_kv(&l, "tls", tls_version);  log_kv_u64(&l, "bits", 256);
 *   log_end(&l);
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/buf.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON, LOG_JOURNAL };

struct log_line {
    struct buf text;
    struct buf kv;
    struct buf fields; /* LOG_JOURNAL only */
    const char *event;
    const char *program; /* NULL = the role */
    enum log_level level;
    bool on;
};

/* Format LOG_TEXT writes "Nov 24 05:36:00 HOST postseal/ROLE[PID]: ..." to stderr (journald when
 * stderr is its stream and format is LOG_JOURNAL: fields by the native datagram protocol). Call it
 * again after fork: it opens all that a sandbox would forbid later, and keeps the process id. At
 * LOG_ERROR and LOG_WARN the text begins with "error: " or "warning: ", so lines that pflogsumm
 * must count are LOG_INFO. */
void log_init(enum log_format format, const char *role, const char *host);
void log_set_level(enum log_level level);
bool log_level_parse(struct sv name, enum log_level *out_level);
struct log_line log_begin(enum log_level level, const char *event);
/* Writes the line under another Postfix program name ("smtpd", "smtp", "qmgr", "cleanup"), which
 * `pflogsumm --syslog-name=postseal` tells apart. A literal: not copied. */
void log_as(struct log_line *l, const char *program);
void log_text(struct log_line *l, const char *fmt, ...) PRINTF(2, 3);
void log_kv(struct log_line *l, const char *key, struct sv value);
void log_kv_u64(struct log_line *l, const char *key, uint64_t value);
void log_end(struct log_line *l);
/* Short forms. */
void log_msg(enum log_level level, const char *event, const char *fmt, ...) PRINTF(3, 4);
/* Lines are gathered in memory and written by log_flush (call once per loop turn) or when 16 KiB
 * are waiting; errors are written at once. */
void log_flush(void);
void log_set_fd(int fd);      /* instead of stderr; for tests and tools */
void log_set_journal(int fd); /* connected datagram socket instead of journald's; for tests */
uint64_t log_dropped(void);   /* lines lost because nobody read them */

#endif
