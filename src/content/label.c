/*
 * Labels near a number: see content/label.h.
 *
 * SECURITY: hostile text; looks at most LABEL_WINDOW bytes around the number, and at most
 * LABEL_COLUMN bytes back when only numbers of one kind lie between.
 */
#include "content/label.h"

#define LABEL_WINDOW 96
#define LABEL_COLUMN 2048
#define LABEL_AFTER  40

struct word {
    const char *text;
    bool prefix;
};

static const struct word card_for[] = {
    {"card", true},       {"credit", true},   {"debit", true},     {"visa", false},
    {"mastercard", true}, {"amex", false},    {"american", false}, {"discover", false},
    {"diners", false},    {"jcb", false},     {"maestro", false},  {"unionpay", false},
    {"cc", false},        {"ccn", false},     {"ccnum", true},     {"pan", false},
    {"cvv", true},        {"cvc", true},      {"kredit", true},    {"karte", true},
    {"carte", false},     {"tarjeta", true},  {"carta", false},    {"cartao", false},
    {"karta", true},      {"kaart", true},    {"kort", true},      {"kortti", false},
    {"payment", true},    {"expir", true},    {"exp", false},      {"mir", false},
    {"charge", false},    {"charged", false}, {"plastic", false},  {NULL, false}};
static const struct word card_after[] = {{"cvv", true},   {"cvc", true},    {"exp", false},
                                         {"expir", true}, {"valid", false}, {"gueltig", true},
                                         {"cvn", false},  {"csc", false},   {NULL, false}};
static const struct word ssn_for[] = {{"ssn", true},    {"ssns", false}, {"social", true},
                                      {"socsec", true}, {"soc", false},  {NULL, false}};
static const struct word against[] = {
    {"order", true},       {"bestell", true},     {"auftrag", true},      {"commande", false},
    {"pedido", false},     {"ordine", false},     {"track", true},        {"sendung", true},
    {"suivi", false},      {"shipment", true},    {"shipping", false},    {"parcel", true},
    {"paket", true},       {"package", false},    {"waybill", false},     {"awb", false},
    {"consignment", true}, {"ups", false},        {"fedex", false},       {"usps", false},
    {"dhl", false},        {"dpd", false},        {"gls", false},         {"hermes", false},
    {"invoice", true},     {"rechnung", true},    {"facture", false},     {"factura", false},
    {"fattura", false},    {"isbn", true},        {"ean", false},         {"gtin", false},
    {"upc", false},        {"sku", false},        {"barcode", true},      {"strichcode", true},
    {"artikel", true},     {"article", true},     {"item", true},         {"part", false},
    {"product", true},     {"produkt", true},     {"model", false},       {"imei", true},
    {"meid", false},       {"iccid", false},      {"imsi", false},        {"serial", true},
    {"serien", true},      {"phone", true},       {"tel", false},         {"telephone", true},
    {"telefon", true},     {"fax", true},         {"mobile", true},       {"cell", false},
    {"ticket", true},      {"case", false},       {"reference", true},    {"ref", false},
    {"referenz", true},    {"transaction", true}, {"txn", false},         {"trx", false},
    {"trace", false},      {"session", true},     {"request", true},      {"correlation", true},
    {"guid", false},       {"uuid", false},       {"hash", false},        {"checksum", false},
    {"sha", false},        {"md", false},         {"commit", false},      {"build", false},
    {"batch", true},       {"lot", false},        {"customer", true},     {"kunden", true},
    {"client", true},      {"member", true},      {"loyalty", false},     {"policy", false},
    {"claim", true},       {"contract", true},    {"vertrag", true},      {"iban", false},
    {"bic", false},        {"swift", false},      {"routing", false},     {"konto", true},
    {"booking", true},     {"reservation", true}, {"confirmation", true}, {"pnr", false},
    {"vin", false},        {"meter", true},       {"sensor", true},       {"device", true},
    {"timestamp", true},   {"epoch", false},      {"unix", false},        {"offset", false},
    {"sequence", true},    {"seq", false},        {"message", true},      {"document", true},
    {"doc", false},        {"zip", false},        {"postal", false},      {"aba", false},
    {"ein", false},        {"npi", false},        {"passport", false},    {"employee", true},
    {"student", true},     {"patient", true},     {"mrn", false},         {"duns", false},
    {"license", true},     {"licence", true},     {"asset", true},        {"inventory", true},
    {"catalog", true},     {"docket", false},     {"filing", false},      {"permit", false},
    {"receipt", true},     {"voucher", true},     {"coupon", true},       {"event", true},
    {NULL, false}};
static const struct word filler[] = {
    {"no", false},     {"nos", false}, {"nr", false},     {"number", true},  {"num", false},
    {"nummer", false}, {"id", false},  {"ids", false},    {"code", true},    {"is", false},
    {"was", false},    {"are", false}, {"the", false},    {"your", false},   {"our", false},
    {"my", false},     {"key", false}, {"value", false},  {"numero", false}, {"of", false},
    {"for", false},    {"ist", false}, {"lautet", false}, {"and", false},    {"or", false},
    {"und", false},    {"n", false},   {"s", false},      {NULL, false}};

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool in_words(struct sv token, const struct word *words)
{
    for (; words->text; words++) {
        struct sv w = sv_str(words->text);
        if (sv_eq_nocase(token, w) || (words->prefix && sv_starts_nocase(token, w)))
            return true;
    }
    return false;
}

/* Walks back over the text in tokens of letters or digits. */
struct back {
    struct sv text;
    size_t at;     /* everything from here on was seen */
    size_t spent;  /* bytes walked that count */
    size_t digits; /* of the number itself */
    bool denied;   /* a word that is no filler, or another number, lies between */
};

/* Number token that ends at b->at. One like ours belongs to the same column. */
static void back_number(struct back *b)
{
    size_t end = b->at;
    while (b->at > 0 && is_digit(b->text.p[b->at - 1]) && end - b->at < 64)
        b->at--;
    size_t len = end - b->at;
    if (len == b->digits || len == 4)
        return;
    b->spent += len;
    if (len >= 5)
        b->denied = true;
}

static enum label back_word(struct back *b, const struct word *positive)
{
    size_t end = b->at;
    while (b->at > 0 && is_alpha(b->text.p[b->at - 1]) && end - b->at < 64)
        b->at--;
    struct sv token = sv_of(b->text.p + b->at, end - b->at);
    b->spent += token.n;
    if (in_words(token, positive))
        return LABEL_FOR;
    if (!b->denied && in_words(token, against))
        return LABEL_AGAINST;
    if (!in_words(token, filler))
        b->denied = true;
    return LABEL_NONE;
}

static enum label label_before(struct sv text, size_t start, size_t digits,
                               const struct word *positive)
{
    struct back b = {.text = text, .at = start, .digits = digits};
    size_t floor = start > LABEL_COLUMN ? start - LABEL_COLUMN : 0;
    while (b.at > floor && b.spent < LABEL_WINDOW) {
        char c = text.p[b.at - 1];
        if (is_digit(c)) {
            back_number(&b);
            continue;
        }
        if (is_alpha(c)) {
            enum label l = back_word(&b, positive);
            if (l != LABEL_NONE)
                return l;
            continue;
        }
        b.at--;
        if (c != ' ' && c != '\t' && c != '\r' && c != '\n' && c != ',' && c != ';' && c != '|')
            b.spent++;
        if ((c == '!' || c == '?') && b.spent > 0)
            b.denied = true;
    }
    return LABEL_NONE;
}

static bool label_behind(struct sv text, size_t end, const struct word *words)
{
    struct sv rest = sv_take(sv_skip(text, end), LABEL_AFTER);
    size_t i = 0;
    while (i < rest.n) {
        size_t start = i;
        while (i < rest.n && is_alpha(rest.p[i]))
            i++;
        if (i > start && in_words(sv_of(rest.p + start, i - start), words))
            return true;
        /* another long number: its label is not ours */
        start = i;
        while (i < rest.n && is_digit(rest.p[i]))
            i++;
        if (i - start >= 5)
            return false;
        if (i < rest.n && !is_alpha(rest.p[i]))
            i++;
    }
    return false;
}

/* "12/27" or "12/2027" directly behind: an expiry date. */
static bool expiry_behind(struct sv text, size_t end)
{
    struct sv v = sv_skip(text, end);
    size_t i = 0;
    while (i < v.n && i < 4 && strchr(" \t,;|:/", v.p[i]))
        i++;
    v = sv_skip(v, i);
    if (i == 0 || v.n < 5 || !is_digit(v.p[0]) || !is_digit(v.p[1]) || !is_digit(v.p[3]))
        return false;
    int month = (v.p[0] - '0') * 10 + v.p[1] - '0';
    return month >= 1 && month <= 12 && (v.p[2] == '/' || v.p[2] == '|') && is_digit(v.p[4]);
}

enum label label_of(struct sv text, size_t start, size_t end, size_t digits, enum label_type type)
{
    bool card = type == LABEL_CARD;
    if (label_behind(text, end, card ? card_after : ssn_for))
        return LABEL_FOR;
    if (card && expiry_behind(text, end))
        return LABEL_FOR;
    return label_before(text, start, digits, card ? card_for : ssn_for);
}

bool label_in_url(struct sv text, size_t start, size_t end)
{
    if (start > 0 && strchr("/\\@", text.p[start - 1]))
        return true;
    if (end < text.n && (text.p[end] == '@' || text.p[end] == '\\'))
        return true;
    size_t i = start;
    size_t floor = start > 256 ? start - 256 : 0;
    while (i > floor && (uint8_t)text.p[i - 1] > ' ' && !strchr("\"'<>()", text.p[i - 1]))
        i--;
    struct sv head = sv_of(text.p + i, start - i);
    return sv_find(head, SV("://")) != SIZE_MAX || sv_starts_nocase(head, SV("www."));
}
