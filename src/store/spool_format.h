/*
 * The spool's bytes on disk (private to store/spool*.c). Pure: no I/O, no time, no allocation.
 *
 * Segment file: SPOOL_HEAD bytes of header (the same SPOOL_HEAD_COPY bytes twice, so that damage in
 * one copy costs nothing), then records, each padded to 8 bytes. All integers little endian.
 *
 * Record header (REC_HEADER bytes)
 *   0  u32 magic      4  u8 kind   5  u8 flags   6  u16 fragment   8  u32 payload length
 *   12 u32 head       32 bits of a SipHash over this header: lengths can be trusted before the
 *                     payload is read, and look-alikes in bodies are dismissed for the price of it
 *   16 u64 lsn        24 u64 message id
 *   32 u64 durable    every record up to this LSN was synced when this one was written
 *   40 u64 tag        SipHash-2-4 under the life's salt over {header with tag = segment sequence
 * and crc = 0, payload as stored} 48 u32 crc        CRC32C over {header with crc = 0, payload as
 * stored} 52 u32 zero `fragment` counts BODY records of a message from 0; in ENVELOPE it is how
 * many there are.
 */
#ifndef STORE_SPOOL_FORMAT_H
#define STORE_SPOOL_FORMAT_H

#include "base/sv.h"

#define SPOOL_HEAD_COPY   4096u
#define SPOOL_HEAD        (2 * SPOOL_HEAD_COPY)
#define SPOOL_WRAPPED_MAX 512u
#define REC_HEADER        56u
#define SPOOL_FRAGMENT    (32u * 1024)
#define SPOOL_FRAGMENTS   2u /* SPOOL_INLINE_MAX / SPOOL_FRAGMENT */
#define SPOOL_NAME_MAX    64u

enum rec_kind { REC_BODY = 1, REC_ENVELOPE, REC_STATE, REC_DONE };
enum { REC_COPY = 1, REC_FILE = 2 }; /* flags: copied forward; the body is in a file */

/* One life of a segment. */
struct life {
    uint64_t sequence;    /* 1, 2, ... over the whole spool; 0 = none */
    uint64_t first_lsn;   /* records of earlier lives from here on are void */
    uint64_t checkpoints; /* how many were ever written before: tells a lost one from none */
    uint32_t size;        /* of the file */
    uint8_t salt[16];
    uint16_t wrapped_n;
    uint8_t wrapped[SPOOL_WRAPPED_MAX];
};

struct rec {
    enum rec_kind kind;
    uint8_t flags;
    uint16_t fragment;
    uint32_t length;
    uint64_t lsn, id, durable;
};

static inline uint32_t rec_size(uint32_t length)
{
    return (REC_HEADER + length + 7u) & ~7u;
}

uint32_t le32_get(const void *p);
uint64_t le64_get(const void *p);
void le32_put(void *p, uint32_t v);
void le64_put(void *p, uint64_t v);

void life_encode(const struct life *l, uint8_t out_head[SPOOL_HEAD]);
/* The newest valid copy; false when there is none. */
bool life_decode(const uint8_t head[SPOOL_HEAD], struct life *out_life);

/* Writes an unsealed header; rec_seal completes it once LSN and life are known (payload already
 * encrypted; p has room for rec_size, the padding is zeroed). */
void rec_begin(char *p, const struct rec *r);
void rec_seal(const struct life *l, char *p, uint64_t lsn, uint64_t durable);
/* Is there a header of this life at p (REC_HEADER bytes)? Says nothing about the payload. */
bool rec_peek(const struct life *l, const char *p, struct rec *out_rec);
/* Whole check of header and payload at p (rec_size bytes readable). p is written to meanwhile and
 * restored. */
bool rec_check(const struct life *l, char *p, struct rec *out_rec);

/* "seg-NNNNNNNN" */
#define SEG_NAME_MAX 24
void seg_name(uint32_t number, char out_name[SEG_NAME_MAX]);
bool seg_name_parse(const char *name, uint32_t *out_number);

#endif
