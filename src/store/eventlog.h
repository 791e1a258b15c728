/*
 * Tracking events between `queue` (writer) and `store` (reader): append-only files
 * events/NNNNNNNNNNNNNNNN.log named by the seq of their first event, records {u32 length, u32
 * CRC32C, struct event}. The writer gathers a loop turn's events into one write (no sync; a lost
 * tail loses tracking, never mail). The reader keeps its cursor in the database, in the transaction
 * that stores the events; files below the acknowledged cursor are removed. Bounded by max_bytes:
 * beyond, the oldest file is dropped and counted.
 */
#ifndef STORE_EVENTLOG_H
#define STORE_EVENTLOG_H

#include "model/events.h"

struct eventlog;
NODISCARD enum err eventlog_open_writer(const char *dir, uint64_t max_bytes,
                                        struct eventlog **out_log, struct errinfo *info);
/* Assigns event->seq and gathers. */
void eventlog_add(struct eventlog *l, struct event *e);
/* Writes what was gathered; returns the last seq written (0 = nothing new). */
uint64_t eventlog_flush(struct eventlog *l);
void eventlog_stored(struct eventlog *l, uint64_t seq); /* the reader's acknowledgement */
uint64_t eventlog_dropped(const struct eventlog *l);

NODISCARD enum err eventlog_open_reader(const char *dir, uint64_t after_seq,
                                        struct eventlog **out_log, struct errinfo *info);
/* Next event into the arena; ERR_AGAIN at the end. Damaged records are skipped. */
NODISCARD enum err eventlog_next(struct eventlog *l, struct arena *a, struct event *out_event);
void eventlog_close(struct eventlog *l);

#endif
