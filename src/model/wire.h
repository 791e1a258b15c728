/*
 * Structs that cross process borders or are kept in the spool are described once, as a field table,
 * from which the struct, its encoder, decoder and printer come.
 *
 * Field kinds:  F(kind, name)        scalar: U8 U16 U32 U64 I64 BOOL STR IP
 *               S(type, name)        embedded struct
 *               L(type, name)        list: struct type *name; uint32_t n_name;
 * Wire format: integers little endian; STR = u32 length + bytes; L = u32 count + items. Nothing is
 * skipped and nothing may be left over: a decoder accepts exactly what its encoder writes. Decoded
 * STR views point into the input, lists are allocated in the arena; counts are bounded by the bytes
 * that are left before anything is allocated.
 */
#ifndef MODEL_WIRE_H
#define MODEL_WIRE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/ip.h"

struct wire_in {
    struct sv left;
    struct arena *arena;
    enum err err; /* sticky */
};

/* struct member of each kind */
#define WIRE_T_U8(n)           uint8_t n;
#define WIRE_T_U16(n)          uint16_t n;
#define WIRE_T_U32(n)          uint32_t n;
#define WIRE_T_U64(n)          uint64_t n;
#define WIRE_T_I64(n)          int64_t n;
#define WIRE_T_BOOL(n)         bool n;
#define WIRE_T_STR(n)          struct sv n;
#define WIRE_T_IP(n)           struct ip n;
#define WIRE_MEMBER_F(kind, n) WIRE_T_##kind(n)
#define WIRE_MEMBER_S(type, n) struct type n;
#define WIRE_MEMBER_L(type, n)                                                                     \
    struct type *n;                                                                                \
    uint32_t n_##n;
/* Declares struct `type` from TABLE with its three functions (defined in model/wire.c). */
#define WIRE_DECLARE(type, TABLE)                                                                  \
    struct type {                                                                                  \
        TABLE(WIRE_MEMBER_F, WIRE_MEMBER_S, WIRE_MEMBER_L)                                         \
    };                                                                                             \
    void type##_put(struct buf *out, const struct type *v);                                        \
    void type##_get(struct wire_in *in, struct type *out_v);                                       \
    void type##_print(struct buf *out, const struct type *v); /* key=value, for debug */           \
    NODISCARD enum err type##_decode(struct sv bytes, struct arena *a, struct type *out_v);

#endif
