/* An address: parts of a valid one are valid and clean, and put together they give it again. */
#include "fuzz.h"

#include "codec/mailaddr.h"

static void require(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sv addr = sv_of((const char *)data, size);
    char room[256];
    struct sv domain = mailaddr_domain(addr, room), local = mailaddr_local(addr);
    bool routed = mailaddr_is_routed(addr);

    require(domain.n < sizeof(room));
    if (!mailaddr_valid(addr))
        return 0;
    require(local.n + 1 + domain.n == addr.n && local.n > 0);
    require(sv_eq_nocase(sv_skip(addr, local.n + 1), domain));
    require(domain_valid(domain) || mailaddr_literal_valid(domain));
    for (size_t i = 0; i < addr.n; i++)
        require(addr.p[i] >= ' ' && addr.p[i] <= '~');
    require(routed ==
            (sv_find_byte(local, '%') != SIZE_MAX || sv_find_byte(local, '!') != SIZE_MAX ||
             sv_find_byte(local, '@') != SIZE_MAX));
    return 0;
}
