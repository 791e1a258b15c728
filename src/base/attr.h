/* Compiler attributes under readable names. C17 with GNU extensions; gcc 12 and clang 14. */
#ifndef BASE_ATTR_H
#define BASE_ATTR_H

#define NODISCARD         __attribute__((warn_unused_result))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define CLEANUP(fn)       __attribute__((cleanup(fn)))
#define UNUSED            __attribute__((unused))
#define NORETURN          __attribute__((noreturn))
#define FALLTHROUGH       __attribute__((fallthrough))
#define ARRAY_LEN(a)      (sizeof(a) / sizeof((a)[0]))

#endif
