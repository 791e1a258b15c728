#include "role/tell.h"

#include "base/log.h"

void role_tell(struct ipc *ch, enum message m, const void *body, int fd)
{
    enum err err = ipc_send(ch, m, body, fd);

    if (err)
        log_msg(LOG_ERROR, "message-lost", "%s to %s %u was not sent: %s", message_name(m),
                role_name(ipc_peer(ch)), ipc_peer_index(ch), err_name(err));
}
