/* Mail addresses (RFC 5321 4.1.2). Pure. */
#ifndef CODEC_MAILADDR_H
#define CODEC_MAILADDR_H

#include "base/buf.h"

#define MAILADDR_MAX 254

/* A path without <>: local-part "@" domain or address literal. */
bool mailaddr_valid(struct sv addr);
bool mailaddr_literal_valid(struct sv v); /* "[192.0.2.1]", "[IPv6:2001:db8::1]" */
/* Domain in lower case without a final dot; literal kept with its brackets. "" when there is none.
 */
struct sv mailaddr_domain(struct sv addr, char out_domain[256]);
struct sv mailaddr_local(struct sv addr);
/* Local parts that smuggle a route: contains '%', '!', or a quoted or second '@'. */
bool mailaddr_is_routed(struct sv addr);
/* LDH labels or A-labels, <= 253, no final dot; the last label is not all digits. */
bool domain_valid(struct sv domain);

#endif
