/*
 * The transcript: the last lines of the dialogue, for whoever must find out why a delivery failed.
 *
 * SECURITY: lines of hostile servers: control and non-ASCII bytes become '?'. Secrets never get
 * here: callers hand in a masked line.
 */
#include "proto/smtp_cli_impl.h"

void cli_log(struct smtp_cli *c, char who, struct sv line)
{
    const char head[3] = {who, ':', ' '};
    line = sv_take(line, CLI_LOG_LINE);
    if (buf_append(&c->log, head, sizeof head) != ERR_OK ||
        buf_reserve(&c->log, line.n + 1) != ERR_OK)
        return;
    for (size_t i = 0; i < line.n; i++) {
        const char ch = line.p[i];
        c->log.p[c->log.n++] = ch >= ' ' && ch < 0x7f ? ch : '?';
    }
    c->log.p[c->log.n++] = '\n';
    /* Trimmed at twice the size, so that most lines cost no move. */
    if (c->log.n > 2 * CLI_LOG_MAX - CLI_LOG_LINE - 8)
        buf_consume(&c->log, c->log.n - CLI_LOG_MAX);
}

struct sv smtp_cli_transcript(const struct smtp_cli *c)
{
    struct sv all = buf_sv(&c->log);
    if (all.n <= CLI_LOG_MAX && (all.n < 3 || all.p[1] == ':'))
        return all;
    if (all.n > CLI_LOG_MAX)
        all = sv_skip(all, all.n - CLI_LOG_MAX);
    const size_t lf = sv_find_byte(all, '\n');
    return lf == SIZE_MAX ? all : sv_skip(all, lf + 1);
}
