/* DNS answers: first byte chooses the type asked for, the rest is the message. Names that come out
 * are host names, and cleaning one again changes nothing. */
#include "fuzz.h"

#include "net/dns_msg.h"

static void check_record(const struct dns_record *r)
{
    char again[DNS_NAME_MAX];

    if (!r->name[0]) /* an address, or the root */
        return;
    if (!dns_name_clean(sv_str(r->name), again) || strcmp(again, r->name) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum dns_type types[] = {DNS_A, DNS_AAAA, DNS_MX, DNS_PTR};
    struct dns_answer a;

    if (size == 0)
        return 0;
    struct sv msg = sv_of((const char *)data + 1, size - 1);
    if (dns_answer_parse(msg, types[data[0] % ARRAY_LEN(types)], &a) != ERR_OK)
        return 0;
    if (a.n > DNS_RECORDS_MAX || a.ttl > DNS_TTL_MAX || (a.n > 0) != (a.status == DNS_S_DATA))
        abort();
    for (uint32_t i = 0; i < a.n; i++)
        check_record(&a.records[i]);
    return 0;
}
