/*
 * JSON writer (prefix jw_; jansson owns json_) for event details and control replies: keys and
 * values are escaped, commas are its business. Strings that are not valid UTF-8 are written byte by
 * byte as Latin-1.
 */
#ifndef ROLE_JSON_H
#define ROLE_JSON_H

#include "base/buf.h"

void jw_open(struct buf *b, const char *key);  /* { with key NULL for an anonymous object */
void jw_close(struct buf *b);                  /* } */
void jw_array(struct buf *b, const char *key); /* [ */
void jw_array_end(struct buf *b);
void jw_sv(struct buf *b, const char *key, struct sv v);
void jw_str(struct buf *b, const char *key, const char *v);
void jw_u64(struct buf *b, const char *key, uint64_t v);
void jw_i64(struct buf *b, const char *key, int64_t v);
void jw_bool(struct buf *b, const char *key, bool v);
void jw_time(struct buf *b, const char *key, int64_t wall_ms); /* ISO 8601, null when 0 */
void jw_id(struct buf *b, const char *key, uint64_t id);       /* queue id as text, null when 0 */
void jw_raw(struct buf *b, const char *key, struct sv json);   /* a finished value */

#endif
