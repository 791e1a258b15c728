/*
 * SMTP client session as an object (sans-I/O): one connection, many transactions. PIPELINING, SIZE,
 * 8BITMIME, DSN, STARTTLS, AUTH PLAIN/LOGIN, ENHANCEDSTATUSCODES. It reports TLS facts and replies;
 * it judges nothing: no MAIL leaves before the driver says smtp_cli_begin.
 *
 * SECURITY: reads replies of hostile servers. Bytes behind the 220 to STARTTLS are a protocol
 * failure; the writer can emit only CRLF lines and stuffs dots by construction, so no byte sequence
 * of a body ends the data early.
 */
#ifndef PROTO_SMTP_CLI_H
#define PROTO_SMTP_CLI_H

#include "base/buf.h"
#include "model/delivery.h"

struct smtp_cli;

struct smtp_cli_config {
    struct sv helo;
    bool want_tls;    /* use STARTTLS when offered (ask anyway when require_tls) */
    bool require_tls; /* never go on in clear */
    bool tls_on;      /* implicit TLS */
    struct sv auth_user, auth_password; /* "" = no AUTH; only ever sent over TLS */
};
enum smtp_cli_step_kind {
    CLI_NEED_INPUT, /* feed bytes of the server; step.wait says for what (time-outs) */
    CLI_SEND,       /* send step.bytes (valid until next call) */
    CLI_START_TLS,  /* handshake, then smtp_cli_tls_done or smtp_cli_tls_failed */
    CLI_READY,      /* session established or transaction ended: begin, or quit */
    CLI_NEED_BODY,  /* give body bytes: smtp_cli_body; final = true with the last */
    CLI_DONE,       /* transaction over: results in smtp_cli_result; then CLI_READY or CLI_CLOSE */
    CLI_CLOSE       /* close the connection; smtp_cli_failure says why when not after quit */
};
enum smtp_cli_wait { WAIT_GREETING, WAIT_COMMAND, WAIT_DATA, WAIT_END_OF_DATA, WAIT_QUIT };
struct smtp_cli_step {
    enum smtp_cli_step_kind kind;
    struct sv bytes;
    enum smtp_cli_wait wait;
};
/* Results of a transaction, one per recipient, in order. */
struct smtp_cli_rcpt {
    enum rcpt_result result;
    uint16_t code;
    char status[16];
    char reply[512]; /* printable: code and text of the reply, its lines joined by a space; or a
                        reason of ours (code 0) */
};

NODISCARD enum err smtp_cli_new(const struct smtp_cli_config *config, struct smtp_cli **out_cli);
void smtp_cli_free(struct smtp_cli *cli);
/* Call whenever the server sent something. Takes nothing in CLI_START_TLS (the bytes belong to the
 * handshake) and after CLI_CLOSE. Returns how many were taken. */
size_t smtp_cli_feed(struct smtp_cli *cli, struct sv bytes);
struct smtp_cli_step smtp_cli_next(struct smtp_cli *cli);
void smtp_cli_tls_done(struct smtp_cli *cli);
void smtp_cli_tls_failed(struct smtp_cli *cli);
/* In CLI_READY: start a transaction; strings must live until CLI_DONE. A size above the server's
 * SIZE or an 8-bit body without 8BITMIME fails at once (FAILURE_SIZE, FAILURE_8BIT); an address
 * that cannot be said in SMTP fails alone (5.1.3; as sender 5.1.7). RSET is sent where it is
 * needed. */
void smtp_cli_begin(struct smtp_cli *cli, const struct delivery *job);
void smtp_cli_quit(struct smtp_cli *cli);
/* In CLI_NEED_BODY: raw body bytes (CRLF lines), any number and any split; dot-stuffed here; must
 * live until the next CLI_NEED_BODY, CLI_DONE or CLI_CLOSE. A last line without CRLF gets one. Bare
 * CR or LF fails the transaction for good (5.6.11) and cuts the connection. */
void smtp_cli_body(struct smtp_cli *cli, struct sv bytes, bool final);
/* The body cannot be completed (hash mismatch, read error): the connection is cut before the final
 * dot, nothing is delivered. */
void smtp_cli_abort_body(struct smtp_cli *cli);
/* The connection ended (EOF or error) or a deadline passed. What was fed before still counts; then
 * recipients without a final reply are deferred: CLI_DONE, CLI_CLOSE. why NONE = FAILURE_PROTOCOL
 * (FAILURE_CONNECT before the greeting). */
void smtp_cli_lost(struct smtp_cli *cli, enum failure why);

/* Of the session: why it was closed. Of a transaction, at CLI_DONE: FAILURE_NONE when all
 * recipients are delivered, else FAILURE_SMTP_TEMP when one is deferred, else FAILURE_SMTP_PERM; or
 * the more exact reason that ended it (SIZE, 8BIT, PROTOCOL, TIMEOUT, CORRUPT). */
enum failure smtp_cli_failure(const struct smtp_cli *cli);
bool smtp_cli_dsn_offered(const struct smtp_cli *cli);
bool smtp_cli_tls_offered(const struct smtp_cli *cli);
const struct smtp_cli_rcpt *smtp_cli_results(const struct smtp_cli *cli, uint32_t *out_n);
/* Last reply or reason that belongs to the session (greeting, EHLO, STARTTLS, AUTH): "" if none. */
struct smtp_cli_rcpt smtp_cli_session_reply(const struct smtp_cli *cli);
/* Last lines of the dialogue "C: ..." "S: ...", secrets masked, at most 4 KiB. */
struct sv smtp_cli_transcript(const struct smtp_cli *cli);

#endif
