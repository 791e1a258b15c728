/* Checks that are no cryptography by themselves: CRC32C (Castagnoli, SSE4.2 when present) and
 * SipHash-2-4 (64-bit tag under a 128-bit key). */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *p, size_t n);          /* start with 0 */
uint32_t crc32c_portable(uint32_t crc, const void *p, size_t n); /* same, without SSE4.2 */
uint64_t siphash24(const uint8_t key[16], const void *p, size_t n);

#endif
