/*
 * File signatures: see content/filetype.h.
 *
 * SECURITY: hostile bytes; every offset is checked against the length, walks are bounded.
 */
#include "content/filetype.h"
#include "base/utf8.h"

/* Families: types that may stand for one another. */
enum family {
    FAMILY_NONE,
    FAMILY_ZIP,
    FAMILY_OLE,
    FAMILY_PDF,
    FAMILY_PNG,
    FAMILY_JPEG,
    FAMILY_GIF,
    FAMILY_RTF,
    FAMILY_EXE,
    FAMILY_GZIP,
    FAMILY_7Z,
    FAMILY_RAR,
    FAMILY_AUDIO,
    FAMILY_VIDEO,
    FAMILY_IMAGE,
    FAMILY_HTML,
    FAMILY_XZ,
    FAMILY_BZIP2,
    FAMILY_SQLITE,
    FAMILY_TNEF
};

struct magic {
    uint16_t offset;
    uint8_t n;
    const char *bytes;
    const char *type;
    enum family family;
};
static const struct magic magics[] = {
    {0, 5, "%PDF-", "application/pdf", FAMILY_PDF},
    {0, 4, "PK\x03\x04", "application/zip", FAMILY_ZIP},
    {0, 4, "PK\x05\x06", "application/zip", FAMILY_ZIP},
    {0, 8, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage", FAMILY_OLE},
    {0, 8, "\x89PNG\r\n\x1a\n", "image/png", FAMILY_PNG},
    {0, 3, "\xff\xd8\xff", "image/jpeg", FAMILY_JPEG},
    {0, 6, "GIF87a", "image/gif", FAMILY_GIF},
    {0, 6, "GIF89a", "image/gif", FAMILY_GIF},
    {0, 5, "{\\rtf", "application/rtf", FAMILY_RTF},
    {0, 4,
     "\x7f"
     "ELF",
     "application/x-elf", FAMILY_EXE},
    {0, 2, "MZ", "application/x-dosexec", FAMILY_EXE},
    {0, 3, "\x1f\x8b\x08", "application/gzip", FAMILY_GZIP},
    {0, 6, "7z\xbc\xaf\x27\x1c", "application/x-7z-compressed", FAMILY_7Z},
    {0, 6, "Rar!\x1a\x07", "application/vnd.rar", FAMILY_RAR},
    {0, 6,
     "\xfd"
     "7zXZ\0",
     "application/x-xz", FAMILY_XZ},
    {0, 3, "BZh", "application/x-bzip2", FAMILY_BZIP2},
    {0, 3, "ID3", "audio/mpeg", FAMILY_AUDIO},
    {0, 2, "\xff\xfb", "audio/mpeg", FAMILY_AUDIO},
    {0, 4, "OggS", "audio/ogg", FAMILY_AUDIO},
    {0, 4, "fLaC", "audio/flac", FAMILY_AUDIO},
    {4, 4, "ftyp", "video/mp4", FAMILY_VIDEO},
    {0, 4, "\x1a\x45\xdf\xa3", "video/x-matroska", FAMILY_VIDEO},
    {8, 4, "AVI ", "video/x-msvideo", FAMILY_VIDEO},
    {8, 4, "WAVE", "audio/wav", FAMILY_AUDIO},
    {8, 4, "WEBP", "image/webp", FAMILY_IMAGE},
    {0, 4, "II*\0", "image/tiff", FAMILY_IMAGE},
    {0, 4, "MM\0*", "image/tiff", FAMILY_IMAGE},
    {0, 4, "\0\0\1\0", "image/x-icon", FAMILY_IMAGE},
    {0, 16, "SQLite format 3\0", "application/vnd.sqlite3", FAMILY_SQLITE},
    {0, 4, "\x78\x9f\x3e\x22", "application/ms-tnef", FAMILY_TNEF},
};

/* Zip containers tell their kind by the name of the first entries. */
static struct sv zip_kind(struct sv b)
{
    struct sv head = sv_take(b, 4096);
    if (sv_find(head, SV("mimetypeapplication/vnd.oasis.opendocument")) != SIZE_MAX)
        return SV("application/vnd.oasis.opendocument");
    bool ooxml = sv_find(head, SV("[Content_Types].xml")) != SIZE_MAX;
    if (sv_find(head, SV("word/")) != SIZE_MAX)
        return SV("application/vnd.openxmlformats-officedocument.wordprocessingml.document");
    if (sv_find(head, SV("xl/")) != SIZE_MAX && ooxml)
        return SV("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet");
    if (sv_find(head, SV("ppt/")) != SIZE_MAX && ooxml)
        return SV("application/vnd.openxmlformats-officedocument.presentationml.presentation");
    if (ooxml)
        return SV("application/vnd.openxmlformats-officedocument");
    return SV("application/zip");
}

static const struct magic *magic_find(struct sv b)
{
    for (size_t i = 0; i < ARRAY_LEN(magics); i++) {
        const struct magic *m = &magics[i];
        if (b.n >= (size_t)m->offset + m->n && memcmp(b.p + m->offset, m->bytes, m->n) == 0)
            return m;
    }
    return NULL;
}

/* Readable: no NUL, hardly a control character, and valid UTF-8 or mostly ASCII. */
static bool is_readable(struct sv b)
{
    struct sv head = sv_take(b, 4096);
    size_t odd = 0, high = 0;
    if (head.n && memchr(head.p, 0, head.n))
        return false;
    for (size_t i = 0; i < head.n; i++) {
        uint8_t c = (uint8_t)head.p[i];
        if (c >= ' ' && c < 127)
            continue;
        odd +=
            (c < 32 && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != 0x1b) || c == 127;
        high += c >= 0x80;
    }
    if (head.n == 0 || odd * 50 > head.n)
        return false;
    return high * 4 < head.n || utf8_valid(sv_take(head, b.n > 4096 ? 4090 : head.n));
}

static struct sv text_kind(struct sv b)
{
    struct sv head = sv_trim(sv_take(b, 1024));
    if (sv_starts(head, SV("\xef\xbb\xbf")))
        head = sv_skip(head, 3);
    if (sv_starts_nocase(head, SV("<!doctype html")) || sv_starts_nocase(head, SV("<html")) ||
        sv_starts_nocase(head, SV("<head")) || sv_starts_nocase(head, SV("<body")))
        return SV("text/html");
    return SV("text/plain");
}

struct sv filetype_of(struct sv bytes)
{
    const struct magic *m = magic_find(bytes);
    if (m && m->family == FAMILY_ZIP)
        return zip_kind(bytes);
    /* "MZ", "BZh", "ID3" may begin a text, too */
    if (m && (m->n > 3 || !is_readable(bytes)))
        return sv_str(m->type);
    return is_readable(bytes) ? text_kind(bytes) : SV_NULL;
}

struct known {
    const char *text; /* media type (prefix) or extension */
    enum family family;
};
static const struct known types[] = {{"application/pdf", FAMILY_PDF},
                                     {"application/zip", FAMILY_ZIP},
                                     {"application/x-zip", FAMILY_ZIP},
                                     {"application/vnd.openxmlformats", FAMILY_ZIP},
                                     {"application/vnd.oasis.opendocument", FAMILY_ZIP},
                                     {"application/java-archive", FAMILY_ZIP},
                                     {"application/epub", FAMILY_ZIP},
                                     {"application/msword", FAMILY_OLE},
                                     {"application/vnd.ms-excel", FAMILY_OLE},
                                     {"application/vnd.ms-powerpoint", FAMILY_OLE},
                                     {"application/x-ole-storage", FAMILY_OLE},
                                     {"image/png", FAMILY_PNG},
                                     {"image/jpeg", FAMILY_JPEG},
                                     {"image/jpg", FAMILY_JPEG},
                                     {"image/gif", FAMILY_GIF},
                                     {"application/rtf", FAMILY_RTF},
                                     {"text/rtf", FAMILY_RTF},
                                     {"application/x-elf", FAMILY_EXE},
                                     {"application/x-dosexec", FAMILY_EXE},
                                     {"application/gzip", FAMILY_GZIP},
                                     {"application/x-gzip", FAMILY_GZIP},
                                     {"application/x-7z-compressed", FAMILY_7Z},
                                     {"application/vnd.rar", FAMILY_RAR},
                                     {"application/x-rar", FAMILY_RAR},
                                     {"application/x-xz", FAMILY_XZ},
                                     {"application/x-bzip2", FAMILY_BZIP2},
                                     {"application/ms-tnef", FAMILY_TNEF},
                                     {"application/vnd.ms-tnef", FAMILY_TNEF},
                                     {"application/vnd.sqlite3", FAMILY_SQLITE},
                                     {"audio/", FAMILY_AUDIO},
                                     {"video/", FAMILY_VIDEO},
                                     {"image/", FAMILY_IMAGE},
                                     {"text/html", FAMILY_HTML},
                                     {NULL, FAMILY_NONE}};
static const struct known extensions[] = {
    {".pdf", FAMILY_PDF},    {".zip", FAMILY_ZIP},   {".docx", FAMILY_ZIP},
    {".xlsx", FAMILY_ZIP},   {".pptx", FAMILY_ZIP},  {".odt", FAMILY_ZIP},
    {".ods", FAMILY_ZIP},    {".odp", FAMILY_ZIP},   {".jar", FAMILY_ZIP},
    {".png", FAMILY_PNG},    {".jpg", FAMILY_JPEG},  {".jpeg", FAMILY_JPEG},
    {".gif", FAMILY_GIF},    {".exe", FAMILY_EXE},   {".dll", FAMILY_EXE},
    {".gz", FAMILY_GZIP},    {".tgz", FAMILY_GZIP},  {".7z", FAMILY_7Z},
    {".rar", FAMILY_RAR},    {".xz", FAMILY_XZ},     {".bz2", FAMILY_BZIP2},
    {".mp3", FAMILY_AUDIO},  {".wav", FAMILY_AUDIO}, {".mp4", FAMILY_VIDEO},
    {".mkv", FAMILY_VIDEO},  {".tif", FAMILY_IMAGE}, {".tiff", FAMILY_IMAGE},
    {".webp", FAMILY_IMAGE}, {NULL, FAMILY_NONE}};

static enum family family_of_type(struct sv type)
{
    for (const struct known *k = types; k->text; k++) {
        if (sv_starts_nocase(type, sv_str(k->text)))
            return k->family;
    }
    return FAMILY_NONE;
}
static enum family family_of_name(struct sv name)
{
    for (const struct known *k = extensions; k->text; k++) {
        if (sv_ends_nocase(name, sv_str(k->text)))
            return k->family;
    }
    return FAMILY_NONE;
}

/* Mail programs name Office files by their older types, and pictures loosely. */
static bool families_agree(enum family truth, enum family said)
{
    if (truth == said || said == FAMILY_NONE)
        return true;
    if ((truth == FAMILY_ZIP && said == FAMILY_OLE) || (truth == FAMILY_OLE && said == FAMILY_ZIP))
        return true;
    bool media_said = said == FAMILY_AUDIO || said == FAMILY_VIDEO;
    return media_said && (truth == FAMILY_AUDIO || truth == FAMILY_VIDEO);
}

bool filetype_mismatch(struct sv true_type, struct sv declared, struct sv name)
{
    enum family said = family_of_type(declared), named = family_of_name(name);
    if (true_type.n == 0)
        return named == FAMILY_PDF || named == FAMILY_ZIP;
    enum family truth = family_of_type(true_type);
    if (truth == FAMILY_NONE || truth == FAMILY_HTML) /* readable text under a binary's label */
        return (said != FAMILY_NONE && said != FAMILY_HTML && said != FAMILY_RTF &&
                !sv_starts_nocase(declared, SV("image/svg"))) ||
               (named != FAMILY_NONE);
    if (sv_starts_nocase(declared, SV("text/")) && said != truth)
        return true;
    return !families_agree(truth, said) || !families_agree(truth, named);
}

static uint32_t le16(const char *p)
{
    return (uint32_t)(uint8_t)p[0] | (uint32_t)(uint8_t)p[1] << 8;
}
static uint32_t le32(const char *p)
{
    return le16(p) | le16(p + 2) << 16;
}

/* Central directory entries (or local headers when it is damaged) with the encryption bit. */
static bool zip_encrypted(struct sv b)
{
    if (b.n >= 8 && sv_starts(b, SV("PK\x03\x04")) && (le16(b.p + 6) & 1))
        return true;
    size_t tail = b.n > 66000 ? b.n - 66000 : 0;
    struct sv end = sv_skip(b, tail);
    size_t at = sv_find(end, SV("PK\x05\x06"));
    if (at == SIZE_MAX || at + 22 > end.n)
        return false;
    size_t pos = le32(end.p + at + 16);
    for (int i = 0; i < 10000 && pos + 46 <= b.n; i++) {
        const char *p = b.p + pos;
        if (le32(p) != 0x02014b50)
            return false;
        if (le16(p + 8) & 1)
            return true;
        pos += 46 + le16(p + 28) + le16(p + 30) + le16(p + 32);
    }
    return false;
}

static bool rar_encrypted(struct sv b)
{
    if (b.n > 12 && b.p[6] == 0x01) /* RAR 5: header of type 4 = archive encryption */
        return b.p[12] == 4 || (b.n > 13 && b.p[13] == 4);
    return b.n > 11 && (le16(b.p + 10) & 0x80) != 0;
}

static bool pdf_encrypted(struct sv b)
{
    size_t at = sv_find(b, SV("/Encrypt"));
    if (at == SIZE_MAX || at + 9 >= b.n)
        return false;
    char c = b.p[at + 8];
    return c == ' ' || c == '<' || c == '\r' || c == '\n' || (c >= '0' && c <= '9');
}

bool filetype_encrypted(struct sv true_type, struct sv b)
{
    switch (family_of_type(true_type)) {
    case FAMILY_ZIP:
        return zip_encrypted(b);
    case FAMILY_RAR:
        return rar_encrypted(b);
    case FAMILY_PDF:
        return pdf_encrypted(b);
    case FAMILY_OLE: /* "EncryptedPackage" in UTF-16 (MS-OFFCRYPTO) */
        return sv_find(b, SV("E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0")) != SIZE_MAX;
    case FAMILY_7Z: /* coder id of AES-256 */
        return sv_find(b, SV("\x06\xf1\x07\x01")) != SIZE_MAX;
    case FAMILY_NONE:
    case FAMILY_PNG:
    case FAMILY_JPEG:
    case FAMILY_GIF:
    case FAMILY_RTF:
    case FAMILY_EXE:
    case FAMILY_GZIP:
    case FAMILY_AUDIO:
    case FAMILY_VIDEO:
    case FAMILY_IMAGE:
    case FAMILY_HTML:
    case FAMILY_XZ:
    case FAMILY_BZIP2:
    case FAMILY_SQLITE:
    case FAMILY_TNEF:
        break;
    }
    return sv_find(sv_take(b, 65536), SV("-----BEGIN PGP MESSAGE-----")) != SIZE_MAX;
}

bool filetype_is_text(struct sv t)
{
    static const char *const other[] = {"application/json",
                                        "application/xml",
                                        "application/javascript",
                                        "application/x-javascript",
                                        "application/csv",
                                        "application/sql",
                                        "application/x-yaml",
                                        "application/yaml",
                                        "application/x-sh",
                                        "application/x-ndjson",
                                        "application/ics",
                                        "application/xhtml+xml",
                                        "application/x-www-form-urlencoded",
                                        "message/delivery-status",
                                        "message/disposition-notification",
                                        "message/feedback-report",
                                        "message/external-body",
                                        "message/partial",
                                        "image/svg+xml",
                                        NULL};
    if (sv_starts_nocase(t, SV("text/")) && !sv_eq_nocase(t, SV("text/rtf")))
        return true;
    for (const char *const *o = other; *o; o++) {
        if (sv_eq_nocase(t, sv_str(*o)))
            return true;
    }
    return sv_ends_nocase(t, SV("+xml")) || sv_ends_nocase(t, SV("+json"));
}

bool filetype_is_container(struct sv t)
{
    switch (family_of_type(t)) {
    case FAMILY_ZIP:
    case FAMILY_OLE:
    case FAMILY_PDF:
    case FAMILY_RTF:
    case FAMILY_GZIP:
    case FAMILY_7Z:
    case FAMILY_RAR:
    case FAMILY_XZ:
    case FAMILY_BZIP2:
    case FAMILY_TNEF:
        return true;
    case FAMILY_NONE:
    case FAMILY_PNG:
    case FAMILY_JPEG:
    case FAMILY_GIF:
    case FAMILY_EXE:
    case FAMILY_AUDIO:
    case FAMILY_VIDEO:
    case FAMILY_IMAGE:
    case FAMILY_HTML:
    case FAMILY_SQLITE:
        break;
    }
    return sv_starts_nocase(t, SV("message/"));
}
