/*
 * The supervisor: binds ports, drops privileges, starts the other processes, hands each its
 * channels, listeners and files, restarts what dies, and ends all in order. Parses nothing from the
 * network.
 */
#ifndef ROLE_SUPERVISOR_H
#define ROLE_SUPERVISOR_H

/* Runs until SIGTERM or SIGINT; returns the exit status (sysexits: 78 for a bad configuration). */
int supervisor_run(const char *config_file);
/* Says whether the file is good; 0 or 78. */
int supervisor_check(const char *config_file);

#endif
