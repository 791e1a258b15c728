/*
 * sd_notify(3) in its documented form: one datagram of VARIABLE=VALUE lines to the socket named by
 * $NOTIFY_SOCKET ("@" = abstract). Failure is of no interest.
 */
#include "role/supervisor_int.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void sup_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;

    if (n < 2 || n >= sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(to.sun_path, path, n);
    if (path[0] == '@')
        to.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&to,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    (void)close(fd);
}

uint64_t sup_watchdog_ms(void)
{
    const char *usec = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    uint64_t us = 0, p = 0;

    if (pid && (!sv_to_u64(sv_str(pid), 1, INT32_MAX, &p) || p != (uint64_t)getpid()))
        return 0;
    if (!usec || !sv_to_u64(sv_str(usec), 2000, UINT64_C(3600000000), &us))
        return 0;
    return us / 2000;
}
