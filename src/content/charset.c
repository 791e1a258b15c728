/*
 * Charset conversion: see content/charset.h.
 *
 * SECURITY: hostile bytes and labels. A label is looked up in a fixed table and never reaches
 * iconv_open, which would search the file system for it.
 */
#include "content/charset.h"
#include "base/utf8.h"
#include <errno.h>
#include <iconv.h>
#include <stdlib.h>

/* Names known to glibc's iconv. Order: index into the handles. */
static const char *const names[] = {"utf-8",        "us-ascii",
                                    "utf-16",       "utf-16le",
                                    "utf-16be",     "utf-32",
                                    "utf-32le",     "utf-32be",
                                    "utf-7",        "iso-8859-1",
                                    "iso-8859-2",   "iso-8859-3",
                                    "iso-8859-4",   "iso-8859-5",
                                    "iso-8859-6",   "iso-8859-7",
                                    "iso-8859-8",   "iso-8859-9",
                                    "iso-8859-10",  "iso-8859-11",
                                    "iso-8859-13",  "iso-8859-14",
                                    "iso-8859-15",  "iso-8859-16",
                                    "windows-1250", "windows-1251",
                                    "windows-1252", "windows-1253",
                                    "windows-1254", "windows-1255",
                                    "windows-1256", "windows-1257",
                                    "windows-1258", "koi8-r",
                                    "koi8-u",       "koi8-t",
                                    "ibm037",       "ibm437",
                                    "ibm500",       "cp737",
                                    "ibm775",       "ibm850",
                                    "ibm852",       "ibm855",
                                    "ibm857",       "ibm858",
                                    "ibm860",       "ibm861",
                                    "ibm862",       "ibm863",
                                    "ibm864",       "ibm865",
                                    "ibm866",       "ibm869",
                                    "ibm1047",      "macintosh",
                                    "mac-cyrillic", "tis-620",
                                    "windows-874",  "tcvn",
                                    "viscii",       "shift_jis",
                                    "windows-31j",  "euc-jp",
                                    "iso-2022-jp",  "iso-2022-jp-2",
                                    "euc-kr",       "uhc",
                                    "iso-2022-kr",  "johab",
                                    "gb2312",       "gbk",
                                    "gb18030",      "big5",
                                    "big5-hkscs",   "euc-tw",
                                    "iso-2022-cn",  "hp-roman8",
                                    "armscii-8",    "georgian-ps",
                                    "pt154",        NULL};
#define N_NAMES (ARRAY_LEN(names) - 1)

struct alias {
    const char *alias, *name;
};
static const struct alias aliases[] = {
    {"utf8", "utf-8"},
    {"unicode-1-1-utf-8", "utf-8"},
    {"ascii", "us-ascii"},
    {"ansi_x3.4-1968", "us-ascii"},
    {"iso646-us", "us-ascii"},
    {"default", "us-ascii"},
    {"unicode-1-1-utf-7", "utf-7"},
    {"utf7", "utf-7"},
    {"utf16", "utf-16"},
    {"unicode", "utf-16"},
    {"ucs-2", "utf-16"},
    {"iso-10646-ucs-2", "utf-16"},
    {"utf32", "utf-32"},
    {"ucs-4", "utf-32"},
    {"latin1", "iso-8859-1"},
    {"iso8859-1", "iso-8859-1"},
    {"iso_8859-1", "iso-8859-1"},
    {"iso-8859-1-windows-3.1-latin-1", "iso-8859-1"},
    {"l1", "iso-8859-1"},
    {"latin2", "iso-8859-2"},
    {"iso-8859-8-i", "iso-8859-8"},
    {"latin5", "iso-8859-9"},
    {"latin-9", "iso-8859-15"},
    {"latin9", "iso-8859-15"},
    {"x-ansi", "windows-1252"},
    {"ansi", "windows-1252"},
    {"koi8r", "koi8-r"},
    {"cskoi8r", "koi8-r"},
    {"koi", "koi8-r"},
    {"mac", "macintosh"},
    {"x-mac-roman", "macintosh"},
    {"macroman", "macintosh"},
    {"x-mac-cyrillic", "mac-cyrillic"},
    {"x-sjis", "shift_jis"},
    {"sjis", "shift_jis"},
    {"ms_kanji", "shift_jis"},
    {"cp932", "windows-31j"},
    {"ms932", "windows-31j"},
    {"x-euc-jp", "euc-jp"},
    {"ujis", "euc-jp"},
    {"ks_c_5601-1987", "uhc"},
    {"ksc5601", "uhc"},
    {"ksc_5601", "uhc"},
    {"cp949", "uhc"},
    {"windows-949", "uhc"},
    {"gb_2312-80", "gbk"},
    {"x-gbk", "gbk"},
    {"cp936", "gbk"},
    {"ms936", "gbk"},
    {"euc-cn", "gb2312"},
    {"x-x-big5", "big5"},
    {"cn-big5", "big5"},
    {"cp950", "big5"},
    {"ms950", "big5"},
    {"ebcdic-cp-us", "ibm037"},
    {"cp037", "ibm037"},
    {"ebcdic-cp-be", "ibm500"},
    {"dos-874", "windows-874"},
};

struct charsets {
    iconv_t handle[N_NAMES];
};

const char *const *charsets_names(void)
{
    return names;
}

enum err charsets_new(struct charsets **out_cs, struct errinfo *info)
{
    struct charsets *cs = calloc(1, sizeof *cs);
    if (!cs)
        return err_set(info, ERR_LIMIT, "out of memory");
    for (size_t i = 0; i < N_NAMES; i++) {
        const char *name = names[i];
        /* glibc has no "windows-..." for all of them, but "cp..." */
        char cp[24] = "CP";
        if (strncmp(name, "windows-", 8) == 0 && name[8] >= '0' && name[8] <= '9' &&
            strcmp(name, "windows-31j") != 0) {
            for (size_t k = 0; name[8 + k]; k++)
                cp[2 + k] = name[8 + k];
            name = cp;
        }
        cs->handle[i] = iconv_open("UTF-8", name);
        if (cs->handle[i] == (iconv_t)-1) {
            int sys = errno;
            for (size_t k = 0; k < i; k++)
                (void)iconv_close(cs->handle[k]);
            free(cs);
            return err_set_sys(info, ERR_NOTFOUND, sys, "no converter for charset %s", names[i]);
        }
    }
    *out_cs = cs;
    return ERR_OK;
}

void charsets_free(struct charsets *cs)
{
    if (!cs)
        return;
    for (size_t i = 0; i < N_NAMES; i++)
        (void)iconv_close(cs->handle[i]);
    free(cs);
}

static size_t name_index(struct sv label)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        if (sv_eq_nocase(label, sv_str(names[i])))
            return i;
    }
    return SIZE_MAX;
}

static size_t label_index(struct sv label)
{
    size_t i = name_index(label);
    if (i != SIZE_MAX)
        return i;
    for (size_t k = 0; k < ARRAY_LEN(aliases); k++) {
        if (sv_eq_nocase(label, sv_str(aliases[k].alias)))
            return name_index(sv_str(aliases[k].name));
    }
    char other[32];
    bool cp = sv_starts_nocase(label, SV("cp")) || sv_starts_nocase(label, SV("ms"));
    if (!cp || label.n < 4 || label.n > 8)
        return SIZE_MAX;
    static const char *const prefixes[] = {"windows-", "ibm"};
    for (size_t k = 0; k < ARRAY_LEN(prefixes); k++) {
        size_t n = strlen(prefixes[k]);
        memcpy(other, prefixes[k], n);
        memcpy(other + n, label.p + 2, label.n - 2);
        i = name_index(sv_of(other, n + label.n - 2));
        if (i != SIZE_MAX)
            return i;
    }
    return SIZE_MAX;
}

/* Runs one converter; every byte it refuses becomes U+FFFD. */
static bool convert(iconv_t h, struct sv bytes, struct buf *out)
{
    bool clean = true;
    (void)iconv(h, NULL, NULL, NULL, NULL);
    char *in = (char *)(uintptr_t)bytes.p; /* iconv never writes there */
    size_t left = bytes.n;
    while (left > 0) {
        if (buf_reserve(out, left + 64) && buf_reserve(out, 64))
            return false;
        size_t room = out->cap - out->n;
        if (room > out->max - out->n)
            room = out->max - out->n;
        char *o = out->p + out->n;
        size_t before = room;
        size_t r = iconv(h, &in, &left, &o, &room);
        int err = errno;
        out->n += before - room;
        if (r != (size_t)-1) {
            o = out->p + out->n;
            room = before = out->cap - out->n < 8 ? 0 : 8;
            if (before > 0 && iconv(h, NULL, NULL, &o, &room) != (size_t)-1)
                out->n += before - room;
            break;
        }
        if (err == E2BIG && before - room == 0 && buf_reserve(out, left * 3 + 256))
            return false;
        if (err == EILSEQ || err == EINVAL) {
            (void)buf_append(out, "\xef\xbf\xbd", 3);
            clean = false;
            in++;
            left--;
        }
    }
    return clean;
}

/* UTF-16 gives itself away by its BOM, or by NULs in every other byte. */
static const char *sniff_utf16(struct sv b)
{
    const uint8_t *p = (const uint8_t *)b.p;
    if (b.n >= 2 && ((p[0] == 0xff && p[1] == 0xfe) || (p[0] == 0xfe && p[1] == 0xff)))
        return "utf-16";
    if (b.n < 8 || !memchr(p, 0, b.n < 512 ? b.n : 512))
        return NULL;
    size_t n = b.n < 4096 ? b.n & ~(size_t)1 : 4096;
    size_t even = 0, odd = 0;
    for (size_t i = 0; i < n; i += 2) {
        even += p[i] == 0;
        odd += p[i + 1] == 0;
    }
    if (even == 0 && odd > n / 8)
        return "utf-16le";
    if (odd == 0 && even > n / 8)
        return "utf-16be";
    if (odd > even * 8 && odd > n / 8)
        return "utf-16le";
    return even > odd * 8 && even > n / 8 ? "utf-16be" : NULL;
}

static bool is_wide(const char *name)
{
    return strncmp(name, "utf-16", 6) == 0 || strncmp(name, "utf-32", 6) == 0;
}
static bool is_ascii_like(const char *name)
{
    return !is_wide(name) && strcmp(name, "utf-7") != 0 && strcmp(name, "ibm037") != 0 &&
           strcmp(name, "ibm500") != 0 && strcmp(name, "ibm1047") != 0 &&
           strncmp(name, "iso-2022", 8) != 0;
}

static struct charset_result apply(struct charsets *cs, const char *name, bool clean,
                                   struct sv bytes, struct buf *out)
{
    struct charset_result r = {name, clean, is_ascii_like(name)};
    if (!convert(cs->handle[name_index(sv_str(name))], bytes, out))
        r.clean = false;
    return r;
}

static struct charset_result copy(const char *name, bool clean, struct sv bytes, struct buf *out)
{
    if (sv_starts(bytes, SV("\xef\xbb\xbf")))
        bytes = sv_skip(bytes, 3);
    (void)buf_append_sv(out, bytes);
    return (struct charset_result){name, clean, true};
}

/* Labels that say "plain ASCII or UTF-8", or nothing. */
static bool is_neutral(size_t index)
{
    return index == SIZE_MAX || index <= 1;
}

struct charset_result charset_to_utf8(struct charsets *cs, struct sv label, struct sv bytes,
                                      struct buf *out)
{
    label = sv_trim(label);
    size_t index = label.n > 0 ? label_index(label) : 1;
    bool known = index != SIZE_MAX;
    const char *name = known ? names[index] : "us-ascii";
    bool neutral = is_neutral(index);
    const char *wide = is_wide(name) ? NULL : sniff_utf16(bytes);
    if (wide)
        return apply(cs, wide, label.n == 0, bytes, out);
    if (is_wide(name) && strcmp(name, "utf-16") == 0) {
        /* RFC 2781 4.3: big endian without a BOM, unless the bytes say otherwise. */
        const char *sniffed = sniff_utf16(bytes);
        return apply(cs, sniffed ? sniffed : "utf-16be", true, bytes, out);
    }
    if (!neutral && !is_ascii_like(name))
        return apply(cs, name, true, bytes, out);
    if (sv_is_ascii(bytes))
        return copy(neutral ? "us-ascii" : name, known, bytes, out);
    if (!neutral) {
        /* iso-8859-1 has no printable character where windows-1252 has some (WHATWG). */
        const char *real = strcmp(name, "iso-8859-1") == 0 ? "windows-1252" : name;
        return apply(cs, real, true, bytes, out);
    }
    if (utf8_valid(bytes))
        return copy("utf-8", known && (label.n == 0 || index == 0), bytes, out);
    return apply(cs, "windows-1252", false, bytes, out);
}

bool charset_is_plain(struct sv label, struct sv bytes)
{
    size_t index = 1;
    label = sv_trim(label);
    if (label.n > 0 && !sv_eq_nocase(label, SV("utf-8")))
        index = label_index(label);
    if (index == SIZE_MAX || !is_ascii_like(names[index]))
        return false;
    return sv_is_ascii(bytes) && !(bytes.n && memchr(bytes.p, 0, bytes.n));
}
