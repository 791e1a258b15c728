/*
 * The decision on facts and an envelope as other processes send them, under the default settings:
 * whatever they claim, the marks agree, an Encrypt mark always gets mandatory TLS, and a scan that
 * failed is never clean. Input: 4 bytes length of the facts, the facts, the envelope.
 */
#include "fuzz.h"

#include "core/plan.h"
#include "core/settings.h"

static const struct settings *default_settings(void)
{
    static struct settings_errors errors;
    static struct arena arena;
    static struct settings *s;

    if (s)
        return s;
    arena_init(&arena, 16U << 20);
    if (settings_compile(settings_default_tree(), 1, &arena, &s, &errors))
        abort();
    for (uint32_t i = 0; i < s->n_policies; i++)
        s->policies[i].enabled = true;
    return s;
}

static void check(const struct settings *s, const struct facts *f, const struct decision *d,
                  const struct hop *hop)
{
    if (d->encrypt && hop->tls.level < TLS_LEVEL_ENCRYPT)
        abort();
    if ((d->action == ACTION_QUARANTINE) != (d->hold != HOLD_NONE))
        abort();
    if (f->scan != SCAN_OK && d->action == ACTION_PERMIT)
        abort();
    for (int i = 0; i <= FAILURE_INTERNAL; i++)
        if (d->encrypt && tls_may_fall_back(&hop->tls, (enum failure)i, false))
            abort();
    (void)s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct settings *s = default_settings();
    struct sv in = sv_of((const char *)data, size);
    struct arena arena;
    struct facts f;
    struct envelope env;
    uint32_t n;

    if (size < sizeof(n))
        return 0;
    memcpy(&n, data, sizeof(n));
    arena_init(&arena, 64U << 20);
    if (n <= size - sizeof(n) && !facts_decode(sv_take(sv_skip(in, 4), n), &arena, &f) &&
        !envelope_decode(sv_skip(in, 4 + (size_t)n), &arena, &env)) {
        for (uint32_t i = 0; i < env.n_rcpts && i < 8; i++) {
            struct decision d;
            struct hop hop;
            policy_decide(s, &env, &f, i, &arena, &d);
            if (!plan_route(s, &d, env.rcpts[i].addr, i, &arena, &hop))
                check(s, &f, &d, &hop);
        }
    }
    arena_done(&arena);
    return 0;
}
