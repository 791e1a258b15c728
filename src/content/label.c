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
#define LABEL_WORDS  20

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
    {"pid", false},        {"tid", false},        {"thread", true},       {"receipt", true},
    {"voucher", true},     {"coupon", true},      {"event", true},        {NULL, false}};
/* "loyalty card", "SIM card": cards of another kind. */
static const struct word other_cards[] = {
    {"loyalty", false},  {"member", true},  {"sim", false},    {"library", false},
    {"bonus", false},    {"reward", true},  {"student", true}, {"employee", true},
    {"id", false},       {"memory", false}, {"punch", false},  {"access", false},
    {"boarding", false}, {NULL, false}};
static const struct word filler[] = {
    {"tag", false},    {"door", false}, {"reading", true}, {"label", false},  {"slip", false},
    {"no", false},     {"nos", false},  {"nr", false},     {"number", true},  {"num", false},
    {"nummer", false}, {"id", false},   {"ids", false},    {"code", true},    {"is", false},
    {"was", false},    {"are", false},  {"the", false},    {"your", false},   {"our", false},
    {"my", false},     {"key", false},  {"value", false},  {"numero", false}, {"of", false},
    {"for", false},    {"ist", false},  {"lautet", false}, {"and", false},    {"or", false},
    {"und", false},    {"n", false},    {"s", false},      {NULL, false}};

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
    char first = token.n ? (char)(token.p[0] | 0x20) : 0;
    for (; words->text; words++) {
        if (words->text[0] != first)
            continue;
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
    size_t words;  /* seen so far */
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

/* The word before the one at b->at, when it makes another thing of a card. */
static bool after_other_card(const struct back *b)
{
    size_t end = b->at;
    if (end == 0 || !strchr(" -_", b->text.p[end - 1]) || b->text.p[end - 1] == '\0')
        return false;
    size_t start = --end;
    while (start > 0 && is_alpha(b->text.p[start - 1]) && end - start < 16)
        start--;
    return in_words(sv_of(b->text.p + start, end - start), other_cards);
}

static enum label back_word(struct back *b, const struct word *positive)
{
    size_t end = b->at;
    while (b->at > 0 && is_alpha(b->text.p[b->at - 1]) && end - b->at < 64)
        b->at--;
    struct sv token = sv_of(b->text.p + b->at, end - b->at);
    b->spent += token.n;
    b->words++;
    if (in_words(token, positive))
        return after_other_card(b) ? LABEL_AGAINST : LABEL_FOR;
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
    while (b.at > floor && b.spent < LABEL_WINDOW && b.words < LABEL_WORDS) {
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

/* ---- tables: comma, semicolon, tab or bar between cells, names in the first line ---- */

#define TABLE_BACK     65536 /* bytes looked back for the first line of a table */
#define TABLE_SEARCHES 200   /* of them in one text: hostile text must not make it slow */
#define TABLE_COLUMNS  256
#define TABLE_LINE     4096 /* longest line that is a row */

/* Start of the line; not found within TABLE_LINE bytes = somewhere within it. */
static size_t line_start(struct sv text, size_t at)
{
    size_t floor = at > TABLE_LINE ? at - TABLE_LINE : 0;
    while (at > floor && text.p[at - 1] != '\n')
        at--;
    return at;
}

static struct sv line_at(struct sv text, size_t start)
{
    struct sv rest = sv_skip(text, start);
    return sv_take(rest, sv_find_byte(rest, '\n'));
}

static const char delimiters[] = ",;|\t";

/* Moves on to the number at `start`, counting lines and cells; numbers come in their order. */
static void table_move(struct label_table *t, struct sv text, size_t start)
{
    if (start < t->at)
        *t = (struct label_table){.searches = t->searches};
    for (; t->at < start; t->at++) {
        char c = text.p[t->at];
        const char *d = c ? strchr(delimiters, c) : NULL;
        if (c == '\n') {
            t->line = t->at + 1;
            memset(t->cells, 0, sizeof t->cells);
        } else if (d) {
            t->cells[d - delimiters]++;
        }
    }
}

static char delimiter_or_0(char c)
{
    return c && strchr(delimiters, c) ? c : 0;
}

/* Character that parts cells around the number, 0 = none. */
static char delimiter_of(struct sv text, size_t start, size_t end)
{
    size_t i = start;
    while (i > 0 && (text.p[i - 1] == '"' || text.p[i - 1] == ' ') && start - i < 16)
        i--;
    if (i > 0 && text.p[i - 1] != '\n')
        return delimiter_or_0(text.p[i - 1]);
    for (i = end; i < text.n && i < end + 16 && (text.p[i] == '"' || text.p[i] == ' ');)
        i++;
    return i < text.n ? delimiter_or_0(text.p[i]) : 0;
}

/* First line of the run of lines that hold the delimiter and end before `line`. */
static struct sv table_header(struct sv text, size_t line, char delimiter)
{
    size_t floor = line > TABLE_BACK ? line - TABLE_BACK : 0, top = line;
    while (top > floor) {
        size_t above = line_start(text, top - 1);
        if (sv_find_byte(line_at(text, above), delimiter) == SIZE_MAX)
            break;
        top = above;
    }
    return top < line && top >= floor ? line_at(text, top) : SV_NULL;
}

/* Does every line from `from` up to `to` hold the delimiter? */
static bool table_goes_on(struct sv text, size_t from, size_t to, char delimiter)
{
    while (from < to) {
        struct sv line = line_at(text, from);
        if (sv_find_byte(line, delimiter) == SIZE_MAX)
            return false;
        from += line.n + 1;
    }
    return true;
}

static struct sv column_name(struct sv header, size_t column, char delimiter)
{
    struct sv cell = SV_NULL;
    for (size_t i = 0; i <= column; i++) {
        if (!header.p)
            return SV_NULL;
        cell = sv_cut(&header, delimiter);
    }
    return cell;
}

static enum label label_of_words(struct sv words, const struct word *positive)
{
    enum label label = LABEL_NONE;
    for (size_t i = 0; i < words.n;) {
        size_t start = i;
        while (i < words.n && is_alpha(words.p[i]))
            i++;
        struct sv token = sv_of(words.p + start, i - start);
        if (token.n > 0 && in_words(token, positive))
            return LABEL_FOR;
        if (token.n > 0 && in_words(token, against))
            label = LABEL_AGAINST;
        i += i == start;
    }
    return label;
}

static enum label label_of_column(struct sv text, size_t start, size_t end,
                                  const struct word *positive, struct label_table *t)
{
    table_move(t, text, start);
    char delimiter = delimiter_of(text, start, end);
    if (!delimiter)
        return LABEL_NONE;
    size_t line = t->line;
    bool same = t->known && t->delimiter == delimiter && line >= t->row &&
                table_goes_on(text, t->row, line, delimiter);
    if ((!same || (!t->header.p && line > t->row)) && t->searches < TABLE_SEARCHES) {
        t->searches++;
        t->header = table_header(text, line, delimiter);
        t->delimiter = delimiter;
        same = true;
    }
    t->row = line;
    t->known = same;
    if (!same || !t->header.p)
        return LABEL_NONE;
    size_t column = t->cells[strchr(delimiters, delimiter) - delimiters];
    if (column > TABLE_COLUMNS)
        return LABEL_NONE;
    return label_of_words(column_name(t->header, column, delimiter), positive);
}

enum label label_of(struct sv text, size_t start, size_t end, size_t digits, enum label_type type,
                    struct label_table *table)
{
    bool card = type == LABEL_CARD;
    const struct word *positive = card ? card_for : ssn_for;
    enum label column = label_of_column(text, start, end, positive, table);
    if (column != LABEL_NONE)
        return column;
    if (label_behind(text, end, card ? card_after : ssn_for))
        return LABEL_FOR;
    if (card && expiry_behind(text, end))
        return LABEL_FOR;
    return label_before(text, start, digits, positive);
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
