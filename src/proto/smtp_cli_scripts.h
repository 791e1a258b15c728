/* What the client must say to each kind of server, and what comes of it (smtp_cli_test.c). */
#ifndef PROTO_SMTP_CLI_SCRIPTS_H
#define PROTO_SMTP_CLI_SCRIPTS_H

#include "proto/smtp_cli.h"

#define HANGUP    "(hangup)"
#define TIMEOUT   "(timeout)"
#define MAX_TURNS 12

struct turn {
    const char *sent;  /* exactly what the client must have sent since the last turn */
    const char *reply; /* what the server says then */
};
struct script {
    const char *name;
    struct smtp_cli_config config;
    const char *rcpts; /* local parts, comma separated; at example.net */
    const char *body;
    struct turn turns[MAX_TURNS];
    const char *results; /* per recipient D(elivered) T(emporary) F(ailed); "" = no transaction */
    enum failure failure;
    bool open; /* the session is still usable at the end */
    bool tls_fails;
    bool ahead; /* replies come before their commands only when they come at once */
    uint8_t body_type;
    uint64_t size;
    const char *envid, *orcpt;
    uint8_t notify;
};

/* clang-format off */
#define CLEAR {.helo = {"gw.example.com", 14}}
#define TLS   {.helo = {"gw.example.com", 14}, .want_tls = true}
#define MUST  {.helo = {"gw.example.com", 14}, .want_tls = true, .require_tls = true}
#define AUTH  {.helo = {"gw.example.com", 14}, .tls_on = true, .auth_user = {"u", 1}, .auth_password = {"p", 1}}
#define E     "EHLO gw.example.com\r\n"
#define HI    {"", "220 mx ESMTP\r\n"}
#define PIPE  "250-mx\r\n250-PIPELINING\r\n250 SIZE 1000\r\n"
#define OK    "250 2.0.0 ok\r\n"
#define M     "MAIL FROM:<s@example.com>"
#define R(x)  "RCPT TO:<" x "@example.net>\r\n"

static const struct script scripts[] = {
    {"no pipelining", CLEAR, "a,b", "hi\r\n",
     {HI, {E, "250 mx\r\n"}, {M "\r\n", OK}, {R("a"), OK}, {R("b"), OK}, {"DATA\r\n", "354 go\r\n"},
      {"hi\r\n.\r\n", OK}}, "DD", FAILURE_NONE, .open = true},
    {"pipelining", CLEAR, "a,b", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") R("b") "DATA\r\n", OK OK OK "354 go\r\n"}, {"hi\r\n.\r\n", OK}},
     "DD", FAILURE_NONE, .open = true},
    {"mixed recipients", CLEAR, "a,b,c", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") R("b") R("c") "DATA\r\n",
      OK "550 5.1.1 no\r\n" OK "451 4.2.0 later\r\n" "354 go\r\n"}, {"hi\r\n.\r\n", OK}},
     "FDT", FAILURE_SMTP_TEMP, .open = true},
    {"all refused, DATA refused", CLEAR, "a,b", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") R("b") "DATA\r\n", OK "550 no\r\n550 no\r\n554 no valid\r\n"}},
     "FF", FAILURE_SMTP_PERM, .open = true},
    {"all refused, DATA accepted: lone dot", CLEAR, "a", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", OK "550 no\r\n354 go\r\n"}, {".\r\n", OK}},
     "F", FAILURE_SMTP_PERM, .open = true},
    {"all refused without pipelining: no DATA", CLEAR, "a", "hi\r\n",
     {HI, {E, "250 mx\r\n"}, {M "\r\n", OK}, {R("a"), "550 no\r\n"}}, "F", FAILURE_SMTP_PERM, .open = true},
    {"MAIL refused", CLEAR, "a,b", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") R("b") "DATA\r\n", "451 later\r\n503 no\r\n503 no\r\n503 no\r\n"}},
     "TT", FAILURE_SMTP_TEMP, .open = true},
    {"MAIL refused, rest accepted by a broken server", CLEAR, "a", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", "550 no\r\n" OK "354 go\r\n"}, {".\r\n", "250 ok\r\n"}},
     "F", FAILURE_SMTP_PERM, .open = true},
    {"refused at the end", CLEAR, "a", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"}, {"hi\r\n.\r\n", "554 5.7.1 spam\r\n"}},
     "F", FAILURE_SMTP_PERM, .open = true},
    {"multi-line replies", CLEAR, "a", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", "250-2.1.0 a\r\n250-2.1.0 b\r\n250 2.1.0 c\r\n" OK "354-x\r\n354 go\r\n"},
      {"hi\r\n.\r\n", "250-one\r\n250 two\r\n"}}, "D", FAILURE_NONE, .open = true},
    {"code only, LF only", CLEAR, "a", "hi\r\n",
     {{"", "220\n"}, {E, "250-x\n250 PIPELINING\n"}, {M "\r\n" R("a") "DATA\r\n", "250\n250\n354\n"},
      {"hi\r\n.\r\n", "250\n"}}, "D", FAILURE_NONE, .open = true},
    {"552 after an accepted recipient is temporary", CLEAR, "a,b", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") R("b") "DATA\r\n", OK OK "552 too many\r\n354 go\r\n"}, {"hi\r\n.\r\n", OK}},
     "DT", FAILURE_SMTP_TEMP, .open = true},
    {"size too large", CLEAR, "a", "hi\r\n", {HI, {E, PIPE}}, "F", FAILURE_SIZE, .open = true, .size = 1001},
    {"size said", CLEAR, "a", "hi\r\n",
     {HI, {E, PIPE}, {M " SIZE=1000\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"}, {"hi\r\n.\r\n", OK}},
     "D", FAILURE_NONE, .open = true, .size = 1000},
    {"8-bit not taken", CLEAR, "a", "hi\r\n", {HI, {E, PIPE}}, "F", FAILURE_8BIT, .open = true, .body_type = BODY_8BITMIME},
    {"8-bit and DSN", CLEAR, "a", "hi\r\n",
     {HI, {E, "250-mx\r\n250-8BITMIME\r\n250-DSN\r\n250 PIPELINING\r\n"},
      {M " BODY=8BITMIME RET=HDRS ENVID=e+2B1\r\n"
       "RCPT TO:<a@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x+2By@example.org\r\nDATA\r\n",
       OK OK "354 go\r\n"}, {"hi\r\n.\r\n", OK}},
     "D", FAILURE_NONE, .open = true, .body_type = BODY_8BITMIME, .envid = "e+1", .orcpt = "rfc822;x+y@example.org",
     .notify = NOTIFY_SUCCESS | NOTIFY_FAILURE},
    {"DSN not offered", CLEAR, "a", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"}, {"hi\r\n.\r\n", OK}},
     "D", FAILURE_NONE, .open = true, .envid = "e", .orcpt = "rfc822;x@y.example", .notify = NOTIFY_NEVER},
    /* TLS */
    {"STARTTLS", MUST, "a", "hi\r\n",
     {HI, {E, "250-mx\r\n250 STARTTLS\r\n"}, {"STARTTLS\r\n", "220 go\r\n"}, {E, PIPE},
      {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"}, {"hi\r\n.\r\n", OK}}, "D", FAILURE_NONE, .open = true},
    {"offers before TLS are forgotten", TLS, "a", "hi\r\n",
     {HI, {E, "250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n"}, {"STARTTLS\r\n", "220 go\r\n"}, {E, "250 mx\r\n"},
      {M "\r\n", OK}, {R("a"), OK}, {"DATA\r\n", "354 go\r\n"}, {"hi\r\n.\r\n", OK}}, "D", FAILURE_NONE, .open = true},
    {"not offered, wanted: goes on in clear", TLS, "a", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"}, {"hi\r\n.\r\n", OK}}, "D", FAILURE_NONE, .open = true},
    {"refused, wanted: goes on in clear", TLS, "a", "hi\r\n",
     {HI, {E, "250-mx\r\n250-STARTTLS\r\n250 PIPELINING\r\n"}, {"STARTTLS\r\n", "454 no\r\n"},
      {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"}, {"hi\r\n.\r\n", OK}}, "D", FAILURE_NONE, .open = true},
    {"not offered, required", MUST, "a", "", {HI, {E, PIPE}, {"STARTTLS\r\n", "502 no\r\n"}, {"QUIT\r\n", NULL}},
     "", FAILURE_TLS_NOT_OFFERED, .open = false},
    {"offer cut out, required: asked anyway", MUST, "a", "hi\r\n",
     {HI, {E, "250 XXXXXXXX\r\n"}, {"STARTTLS\r\n", "220 go\r\n"}, {E, PIPE},
      {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"}, {"hi\r\n.\r\n", OK}}, "D", FAILURE_NONE, .open = true},
    {"refused 454, required", MUST, "a", "",
     {HI, {E, "250-mx\r\n250 STARTTLS\r\n"}, {"STARTTLS\r\n", "454 4.7.0 no\r\n"}, {"QUIT\r\n", NULL}}, "", FAILURE_TLS_REFUSED, .open = false},
    {"refused 554, required", MUST, "a", "",
     {HI, {E, "250-mx\r\n250 STARTTLS\r\n"}, {"STARTTLS\r\n", "554 no\r\n"}, {"QUIT\r\n", NULL}}, "", FAILURE_TLS_REFUSED, .open = false},
    {"handshake fails", TLS, "a", "",
     {HI, {E, "250-mx\r\n250 STARTTLS\r\n"}, {"STARTTLS\r\n", "220 go\r\n"}}, "", FAILURE_TLS_HANDSHAKE, .tls_fails = true},
    {"EHLO after TLS refused", MUST, "a", "",
     {HI, {E, "250-mx\r\n250 STARTTLS\r\n"}, {"STARTTLS\r\n", "220 go\r\n"}, {E, "421 bye\r\n"}}, "", FAILURE_SMTP_TEMP, .open = false},
    {"EHLO refused, TLS required: no HELO", MUST, "a", "", {HI, {E, "502 no\r\n"}, {"QUIT\r\n", NULL}}, "", FAILURE_TLS_NOT_OFFERED, .open = false},
    {"EHLO refused: HELO", TLS, "a", "hi\r\n",
     {HI, {E, "502 no\r\n"}, {"HELO gw.example.com\r\n", "250 mx\r\n"}, {M "\r\n", OK}, {R("a"), OK},
      {"DATA\r\n", "354 go\r\n"}, {"hi\r\n.\r\n", OK}}, "D", FAILURE_NONE, .open = true},
    {"EHLO deferred", TLS, "a", "", {HI, {E, "451 later\r\n"}, {"QUIT\r\n", NULL}}, "", FAILURE_SMTP_TEMP, .open = false},
    /* AUTH */
    {"AUTH PLAIN", AUTH, "a", "hi\r\n",
     {HI, {E, "250-mx\r\n250-PIPELINING\r\n250 AUTH LOGIN PLAIN\r\n"}, {"AUTH PLAIN AHUAcA==\r\n", "235 ok\r\n"},
      {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"}, {"hi\r\n.\r\n", OK}}, "D", FAILURE_NONE, .open = true},
    {"AUTH LOGIN", AUTH, "a", "hi\r\n",
     {HI, {E, "250-PIPELINING\r\n250-PIPELINING\r\n250 AUTH LOGIN\r\n"}, {"AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n"},
      {"dQ==\r\n", "334 UGFzc3dvcmQ6\r\n"}, {"cA==\r\n", "235 ok\r\n"},
      {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"}, {"hi\r\n.\r\n", OK}}, "D", FAILURE_NONE, .open = true},
    {"AUTH PLAIN unsupported after all", AUTH, "a", "",
     {HI, {E, "250-mx\r\n250 AUTH LOGIN PLAIN\r\n"}, {"AUTH PLAIN AHUAcA==\r\n", "504 no\r\n"}, {"AUTH LOGIN\r\n", "535 no\r\n"},
      {"QUIT\r\n", NULL}}, "", FAILURE_AUTH, .open = false},
    {"AUTH refused", AUTH, "a", "",
     {HI, {E, "250-mx\r\n250 AUTH PLAIN\r\n"}, {"AUTH PLAIN AHUAcA==\r\n", "535 5.7.8 no\r\n"}, {"QUIT\r\n", NULL}}, "", FAILURE_AUTH, .open = false},
    {"AUTH deferred", AUTH, "a", "",
     {HI, {E, "250-mx\r\n250 AUTH PLAIN\r\n"}, {"AUTH PLAIN AHUAcA==\r\n", "454 4.7.0 no\r\n"}, {"QUIT\r\n", NULL}}, "", FAILURE_SMTP_TEMP, .open = false},
    {"AUTH not offered", AUTH, "a", "", {HI, {E, PIPE}}, "", FAILURE_AUTH, .open = false},
    {"EHLO refused, credentials due: no HELO", AUTH, "a", "", {HI, {E, "502 no\r\n"}, {"QUIT\r\n", NULL}}, "", FAILURE_AUTH, .open = false},
    {"AUTH answered 250", AUTH, "a", "",
     {HI, {E, "250-mx\r\n250 AUTH PLAIN\r\n"}, {"AUTH PLAIN AHUAcA==\r\n", OK}, {"QUIT\r\n", NULL}}, "", FAILURE_PROTOCOL, .open = false},
    {"AUTH asked for more than it was told", AUTH, "a", "",
     {HI, {E, "250-mx\r\n250 AUTH PLAIN\r\n"}, {"AUTH PLAIN AHUAcA==\r\n", "334 \r\n"}, {"QUIT\r\n", NULL}}, "", FAILURE_PROTOCOL, .open = false},
    {"AUTH LOGIN: user refused", AUTH, "a", "",
     {HI, {E, "250-mx\r\n250 AUTH LOGIN\r\n"}, {"AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n"}, {"dQ==\r\n", "535 no\r\n"},
      {"QUIT\r\n", NULL}}, "", FAILURE_AUTH, .open = false},
    /* the gallery */
    {"greeting 554", CLEAR, "a", "", {{"", "554 go away\r\n"}, {"QUIT\r\n", NULL}}, "", FAILURE_SMTP_PERM, .open = false},
    {"greeting 421", CLEAR, "a", "", {{"", "421 busy\r\n"}}, "", FAILURE_SMTP_TEMP, .open = false},
    {"greeting garbage", CLEAR, "a", "", {{"", "SSH-2.0-OpenSSH_9.2\r\n"}}, "", FAILURE_PROTOCOL, .open = false},
    {"no greeting", CLEAR, "a", "", {{"", HANGUP}}, "", FAILURE_CONNECT, .open = false},
    {"slow greeting", CLEAR, "a", "", {{"", TIMEOUT}}, "", FAILURE_TIMEOUT, .open = false},
    {"half a greeting", CLEAR, "a", "", {{"", "220 mx"}, {"", HANGUP}}, "", FAILURE_CONNECT, .open = false},
    {"code 199", CLEAR, "a", "", {{"", "199 hm\r\n"}}, "", FAILURE_PROTOCOL, .open = false},
    {"code changes in a reply", CLEAR, "a", "", {{"", "220-a\r\n250 b\r\n"}}, "", FAILURE_PROTOCOL, .open = false},
    {"two greetings", CLEAR, "a", "", {HI, {E, PIPE "250 more\r\n"}}, "", FAILURE_PROTOCOL, .open = false},
    {"421 while idle", CLEAR, "a", "", {HI, {E, PIPE "421 bye\r\n"}}, "", FAILURE_SMTP_TEMP, .open = false},
    {"421 to RCPT", CLEAR, "a,b,c", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") R("b") R("c") "DATA\r\n", OK "550 no\r\n" OK "421 4.3.2 bye\r\n"}}, "FTT", FAILURE_SMTP_TEMP, .open = false},
    {"421 to DATA", CLEAR, "a", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", OK OK "421 bye\r\n"}}, "T", FAILURE_SMTP_TEMP, .open = false},
    {"421 at the end", CLEAR, "a", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"}, {"hi\r\n.\r\n", "421 bye\r\n"}}, "T", FAILURE_SMTP_TEMP, .open = false},
    {"hang-up after the dot", CLEAR, "a,b", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") R("b") "DATA\r\n", OK OK "550 no\r\n" "354 go\r\n"}, {"hi\r\n.\r\n", HANGUP}},
     "TF", FAILURE_PROTOCOL, .open = false},
    {"silence after the dot", CLEAR, "a", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"}, {"hi\r\n.\r\n", TIMEOUT}}, "T", FAILURE_TIMEOUT, .open = false},
    {"reply, then hang-up at once", CLEAR, "a", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"}, {"hi\r\n.\r\n", OK HANGUP}}, "D", FAILURE_NONE, .open = false},
    {"hang-up in RCPT", CLEAR, "a,b", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") R("b") "DATA\r\n", OK OK HANGUP}}, "TT", FAILURE_PROTOCOL, .open = false},
    {"all answered ahead", CLEAR, "a", "hi\r\n", {HI, {E, PIPE OK OK "354 go\r\n" OK}}, "", FAILURE_PROTOCOL, .open = false},
    {"delivery claimed before the body", CLEAR, "a", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n" OK}}, "T", FAILURE_PROTOCOL, .open = false},
    {"refused before the body", CLEAR, "a", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n552 5.3.4 big\r\n"}}, "F", FAILURE_SMTP_PERM, .open = false},
    {"250 to DATA", CLEAR, "a", "hi\r\n", {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", OK OK OK}}, "T", FAILURE_PROTOCOL, .open = false},
    {"354 to RCPT", CLEAR, "a", "hi\r\n", {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", OK "354 go\r\n"}}, "T", FAILURE_PROTOCOL, .open = false},
    {"334 at the end", CLEAR, "a", "hi\r\n",
     {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"}, {"hi\r\n.\r\n", "334 x\r\n"}}, "T", FAILURE_PROTOCOL, .open = false},
    {"EHLO answered 3xx", CLEAR, "a", "", {HI, {E, "354 go\r\n"}, {"QUIT\r\n", NULL}}, "", FAILURE_PROTOCOL, .open = false},
    {"HELO refused as well", CLEAR, "a", "",
     {HI, {E, "502 no\r\n"}, {"HELO gw.example.com\r\n", "550 no\r\n"}, {"QUIT\r\n", NULL}}, "", FAILURE_SMTP_PERM, .open = false},
    {"HELO deferred", CLEAR, "a", "",
     {HI, {E, "502 no\r\n"}, {"HELO gw.example.com\r\n", "450 no\r\n"}, {"QUIT\r\n", NULL}}, "", FAILURE_SMTP_TEMP, .open = false},
    {"SIZE without a number is no limit", CLEAR, "a", "hi\r\n",
     {HI, {E, "250-mx\r\n250-SIZE much\r\n250 PIPELINING\r\n"}, {M " SIZE=5000\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"},
      {"hi\r\n.\r\n", OK}}, "D", FAILURE_NONE, .open = true, .size = 5000},
    {"STARTTLS answered 3xx", TLS, "a", "",
     {HI, {E, "250-mx\r\n250 STARTTLS\r\n"}, {"STARTTLS\r\n", "334 go\r\n"}, {"QUIT\r\n", NULL}}, "", FAILURE_PROTOCOL, .open = false},
    {"3xx to MAIL", CLEAR, "a", "hi\r\n", {HI, {E, PIPE}, {M "\r\n" R("a") "DATA\r\n", "334 x\r\n"}}, "T", FAILURE_PROTOCOL, .open = false},
    {"ORCPT without an address type is not passed on", CLEAR, "a", "hi\r\n",
     {HI, {E, "250-mx\r\n250-DSN\r\n250 PIPELINING\r\n"}, {M "\r\n" R("a") "DATA\r\n", OK OK "354 go\r\n"}, {"hi\r\n.\r\n", OK}},
     "D", FAILURE_NONE, .open = true, .orcpt = "rfc 822;x@example.org"},
    {"reply ahead of a command that is not sent yet", CLEAR, "a,b", "hi\r\n",
     {HI, {E, "250 mx\r\n"}, {M "\r\n", OK OK}}, "TT", FAILURE_PROTOCOL, .open = false, .ahead = true},
};
/* clang-format on */

#endif
