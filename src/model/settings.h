/*
 * Settings: an immutable, numbered snapshot (spec table P). Its source is a canonical text tree
 * ("tree"): files under names, in one byte string that every process compiles by itself with the
 * same pure code (core/settings.h). Pointers live in the arena the snapshot was compiled into.
 *
 * Every scalar setting stands in SETTINGS once: section file, key, kind, range, default, doc line;
 * parser, exporter, man page and range tests come from it.
 */
#ifndef MODEL_SETTINGS_H
#define MODEL_SETTINGS_H

#include "base/arena.h"
#include "base/ip.h"
#include "model/decision.h"
#include "model/delivery.h"

/* clang-format off */
/* kinds: U(min,max,default)  B(default)  T(maxlen,default)  E(enum name table,default) */
/*    file         key                        kind and range                    doc */
#define SETTINGS(U, B, T, E)                                                                       \
    T(general,    fqdn,                       255, "",                                             \
      "Name of this gateway in greeting, EHLO, links; empty = host name of the bootstrap file")   \
    T(general,    administrator_address,      254, "",                                             \
      "Address of the administrator for notices; empty = postmaster@fqdn")                         \
    T(general,    sender_address,             254, "",                                             \
      "From address of notifications; empty = mailer-daemon@fqdn")                                 \
    E(encryption, method,                     method, METHOD_TLS,                                  \
      "How messages marked Encrypt travel: tls (service, thirdparty, portal: not yet available)") \
    E(encryption, backup,                     backup, METHOD_NONE,                                 \
      "Second method when TLS fails: none (service, thirdparty, portal: not yet available)")       \
    E(encryption, level,                      tls_level, TLS_LEVEL_ENCRYPT,                        \
      "What mandatory TLS demands of the next hop (certificate name, chain)")                      \
    E(encryption, strength,                   tls_strength, TLS_STRENGTH_MEDIUM,                   \
      "medium = at least 128 bits, high = at least 256 bits")                                      \
    U(delivery,   retry_interval_min,         1, 1440, 15,                                         \
      "Minutes to the first retry; each gap is twice the one before")                              \
    U(delivery,   max_retry_min,              1, 43200, 1440,                                      \
      "Minutes after which undelivered mail is returned; a last attempt is made at the end")       \
    T(delivery,   ndr_failure_address,        254, "",                                             \
      "Told when a non-delivery report itself cannot be delivered; empty = administrator")        \
    U(delivery,   delay_warning_min,          0, 43200, 240,                                       \
      "Minutes until the sender is told of a delay; 0 = never")                                    \
    U(delivery,   destination_concurrency,    1, 500, 20,                                          \
      "Parallel connections to one destination")                                                   \
    U(delivery,   recipients_per_transaction, 1, 1000, 100,                                        \
      "RCPT commands in one transaction out")                                                      \
    U(delivery,   connection_reuse,           1, 10000, 100,                                       \
      "Messages sent over one connection")                                                         \
    U(delivery,   connection_idle_s,          0, 300, 5,                                           \
      "Seconds an idle connection out is kept for reuse")                                          \
    U(delivery,   connect_timeout_s,          1, 300, 30, "TCP connect, per address")              \
    U(delivery,   greeting_timeout_s,         1, 600, 300, "Greeting (RFC 5321 4.5.3.2)")          \
    U(delivery,   command_timeout_s,          1, 600, 300, "EHLO, MAIL, RCPT, STARTTLS")           \
    U(delivery,   data_timeout_s,             1, 600, 120, "DATA command and each block")          \
    U(delivery,   end_of_data_timeout_s,      1, 1800, 600, "Reply to the final dot")              \
    U(delivery,   attempt_max_s,              1, 86400, 900,                                       \
      "One attempt in all, and a second more for each 10 KiB; not the reply to the final dot")     \
    U(conn,       per_ip,                     1, 500, 10,                                          \
      "Simultaneous connections from one address (IPv6: one /64); trusted addresses exempt")      \
    U(conn,       max_total,                  10, 100000, 10000,                                   \
      "Simultaneous connections of one worker; one fifth is kept for trusted addresses")           \
    U(conn,       timeout_s,                  1, 43200, 300, "Idle time until 421")                \
    U(conn,       first_mail_s,               1, 3600, 60, "Time until the first MAIL command")    \
    U(conn,       handshake_timeout_s,        1, 300, 20, "TLS handshake")                         \
    U(conn,       session_max_s,              60, 86400, 1800,                                     \
      "Whole session unless it makes progress")                                                    \
    U(conn,       data_min_rate,              0, 1000000, 1000,                                    \
      "Bytes a second that a sender must reach in DATA, over 30 s; 0 = off")                       \
    U(conn,       rate_per_min,               0, 100000, 120,                                      \
      "New connections of one address in a minute; 0 = off; trusted and loopback exempt")          \
    U(conn,       handshakes_per_min,         0, 100000, 30,                                       \
      "Full TLS handshakes of one address in a minute; 0 = off; trusted and loopback exempt")      \
    U(conn,       messages_per_min,           0, 1000000, 600,                                     \
      "MAIL commands of one address in a minute; 0 = off; trusted and loopback exempt")            \
    U(conn,       recipients_per_min,         0, 1000000, 3000,                                    \
      "RCPT commands of one address in a minute; 0 = off; trusted and loopback exempt")            \
    U(conn,       pregreet_ms,                0, 10000, 2000,                                      \
      "Greeting delay on the MX listener; who talks first is refused; trusted, loopback exempt")   \
    U(conn,       tarpit_ms,                  0, 10000, 1000,                                      \
      "Delay of each error reply, times the number of errors; trusted addresses exempt")           \
    U(conn,       max_errors,                 1, 100, 10, "Errors until 421")                      \
    U(conn,       max_junk,                   1, 10000, 100,                                       \
      "NOOP, RSET, VRFY, HELP, EHLO between two messages; each one more counts as an error")       \
    U(conn,       messages,                   1, 100000, 1000, "Messages in one connection")       \
    U(msg,        max_kb,                     1, 102400, 10240, "Largest message, KiB")            \
    U(msg,        max_session_kb,             1, 204800, 20480,                                    \
      "Data of one connection, KiB; trusted addresses exempt")                                     \
    U(msg,        max_recipients,             1, 1000, 1000, "Recipients of one message")          \
    U(msg,        max_hops,                   5, 200, 50, "Received fields until 5.4.6")           \
    U(msg,        max_header_kb,              16, 4096, 256, "Header section, KiB")                \
    B(tls,        offer,                      true, "Offer STARTTLS on the MX listener")           \
    E(tls,        min_version,                tls_version, 0x0303, "tls1.2 or tls1.3")             \
    B(tls,        prefer_rsa,                 false, "Present the RSA certificate first")          \
    B(submission, require_tls,                true, "No AUTH and no MAIL without TLS on 587")      \
    U(submission, auth_failures,              1, 20, 3, "Failed AUTH until 421")                   \
    E(relay,      outbound,                   relay, RELAY_TRUSTED,                                \
      "Who may send to outside domains: trusted (Trusted IP, Encryption Gateway, AUTH)")           \
    B(relay,      trusted_bypass_analysis,    false,                                               \
      "Skip analysis of mail from trusted addresses between outside domains (audited)")            \
    E(dlp,        inbound,                    dlp_mode, DLP_ENFORCE, "monitor or enforce")         \
    E(dlp,        outbound,                   dlp_mode, DLP_ENFORCE, "monitor or enforce")         \
    E(dlp,        internal,                   dlp_mode, DLP_ENFORCE, "monitor or enforce")         \
    U(content,    scan_timeout_s,             1, 600, 60, "Time limit of one scan")                \
    U(content,    max_depth,                  1, 200, 50, "MIME nesting")                          \
    U(content,    max_parts,                  1, 100000, 5000, "MIME parts")                       \
    U(content,    max_text_kb,                64, 1048576, 65536, "Decoded text of a message, KiB") \
    E(exceptions, on_scan_failure,            exception_action, EXCEPTION_HOLD,                    \
      "hold in the exception queue, or encrypt; never passes as clean")                            \
    U(tracking,   keep_days,                  1, 3650, 30, "Retention of tracking by age")         \
    U(tracking,   keep_mb,                    10, 1048576, 2048, "Retention of tracking by size")  \
    T(dns,        servers,                    512, "",                                             \
      "Resolvers \"127.0.0.1:53, ...\"; empty = those of resolv.conf")                             \
    U(dns,        timeout_ms,                 100, 30000, 700, "One query")                        \
    U(dns,        tries,                      1, 10, 3, "Queries until temporary failure")

/* One row per file of scalar settings: name and the heading of its canonical text. */
#define SETTINGS_FILES(X)                                                                          \
    X(conn, "Connections in: how many, how long, how slow")                                        \
    X(content, "Content scan: limits of one message")                                              \
    X(delivery, "Delivery: retries, reports, connections out")                                     \
    X(dlp, "Data loss prevention: monitor or enforce, by direction")                               \
    X(dns, "Name resolution")                                                                      \
    X(encryption, "Encryption of messages that a policy marks Encrypt")                            \
    X(exceptions, "Messages that cannot be processed")                                             \
    X(general, "Names and addresses of this gateway")                                              \
    X(msg, "Messages in: sizes and counts")                                                        \
    X(relay, "Relay control")                                                                      \
    X(submission, "Submission by authenticated users")                                             \
    X(tls, "TLS of connections in")                                                                \
    X(tracking, "Message tracking")

/* Identifier classifiers that content/scan counts; key phrases have lower case names. */
#define CLASSIFIERS(X)                                                                             \
    X(CREDIT_CARD, "payment card numbers (validated)")                                             \
    X(US_SSN, "US social security numbers (validated)")

/* clang-format on */
enum relay_mode { RELAY_TRUSTED, RELAY_ALL_INTERNAL };
enum dlp_mode { DLP_MONITOR, DLP_ENFORCE };
enum exception_action { EXCEPTION_HOLD, EXCEPTION_ENCRYPT };

#define SETTINGS_U(file, key, min, max, def, doc) uint32_t file##_##key;
#define SETTINGS_B(file, key, def, doc)           bool file##_##key;
#define SETTINGS_T(file, key, maxlen, def, doc)   struct sv file##_##key;
#define SETTINGS_E(file, key, table, def, doc)    uint32_t file##_##key;

/* Names "protected", "trusted", "gateway" are the undeletable default groups (spec E3). */
struct domain_group {
    struct sv name;     /* file name under groups/domain/, [a-z0-9-]{1,50} */
    struct sv *entries; /* lower case, sorted; "example.com" or "*.example.com" (subdomains only) */
    uint32_t n_entries;
};
struct ip_group {
    struct sv name;       /* file name under groups/ip/ */
    struct cidr *entries; /* sorted by network, then length */
    uint32_t n_entries;
    uint8_t lengths[17]; /* bitmap of the prefix lengths that occur: bit n % 8 of byte n / 8 */
};

struct route {
    struct sv name;                   /* 4-50 characters */
    const struct domain_group *group; /* NULL = every other domain (the default route, last) */
    struct host *hosts;               /* n_hosts == 0: MX of the recipient's domain */
    uint32_t n_hosts;                 /* at most ROUTE_HOSTS_MAX */
    bool tls;                         /* opportunistic TLS */
    uint16_t port;                    /* for MX delivery; 25 unless set */
    struct sv auth_user, auth_secret;
};
#define ROUTE_HOSTS_MAX     16
#define RULE_CONDITIONS_MAX 32
#define RULE_LINES_MAX      3
#define POLICY_SENDERS_MAX  1000

struct submitter {
    struct sv user;
    struct sv hash; /* argon2id, libsodium string form */
};

struct phrase {     /* key phrase classifier (spec K17) */
    struct sv name; /* referred to by conditions */
    struct sv text; /* literal, case-insensitive, <= 255 characters */
};

/* ---- policies (spec K) ---- */
enum cond_kind {
    COND_CLASSIFIER,   /* identifier or phrase by name, count against a threshold */
    COND_ATTACHMENTS,  /* number of attachments */
    COND_SIZE_KB,      /* message size */
    COND_DESTINATIONS, /* distinct recipient domains */
    COND_FILE_NAME,    /* wildcard over attachment names */
    COND_FILE_TYPE,    /* true or declared media type, wildcard */
    COND_PROPERTY,     /* opaque, encrypted, malformed, type-mismatch */
    COND_ALL           /* "all activities": always true (K6) */
};
enum threshold { THRESHOLD_AT_LEAST, THRESHOLD_BETWEEN, THRESHOLD_NONE };

struct condition {
    enum cond_kind kind;
    struct sv name; /* classifier, wildcard or property */
    uint32_t flag;  /* PART_* of a property */
    enum threshold threshold;
    uint32_t low, high; /* 1..999 for counts */
    bool unique;        /* only distinct matches count (K11) */
    bool negate;
};
struct severity_line {
    uint32_t matches; /* from this many on (K24) */
    enum severity severity;
    enum action action;
    bool encrypt_on_release;
};
struct rule {
    struct sv name;
    bool enabled;
    bool any;       /* at least one condition; else all */
    bool each_part; /* threshold inside one part; else message as a whole (K7) */
    struct condition *conditions;
    uint32_t n_conditions;
    struct severity_line lines[RULE_LINES_MAX]; /* ascending matches; line 0 from 1 on */
    uint32_t n_lines;
};
struct policy {
    struct sv name; /* file name under policies/ */
    struct sv description;
    bool enabled;
    uint8_t directions; /* bits 1 << enum direction */
    struct sv *senders; /* addresses, domains "@example.com"; empty = everybody */
    uint32_t n_senders;
    const struct domain_group *destinations; /* NULL = all */
    struct rule *rules;
    uint32_t n_rules;
};

struct settings {
    uint64_t revision;
    SETTINGS(SETTINGS_U, SETTINGS_B, SETTINGS_T, SETTINGS_E)
    struct domain_group *domain_groups;
    uint32_t n_domain_groups;
    struct ip_group *ip_groups;
    uint32_t n_ip_groups;
    struct route *routes; /* in order; the last has group == NULL */
    uint32_t n_routes;
    struct submitter *submitters;
    uint32_t n_submitters;
    struct phrase *phrases;
    uint32_t n_phrases;
    struct policy *policies;
    uint32_t n_policies;
    const struct domain_group *protected_domains;
    const struct ip_group *trusted_ips, *gateway_ips;
};

#endif
