// From Oniguruma's Ruby syntax, which Hugging Face's tokenizers takes, to PCRE2's. Most of both is the same. Rewritten: classes
// (`\s` without U+180E, `\w` with marks, numbers and connectors, `\h` = hexadecimal), word boundaries, `\v`, `\u1234`, `{,n}`,
// properties by long name and scripts (Oniguruma's are Script, PCRE2's Script_Extensions), the flag m (Ruby's "dot takes all").
// Refused: what has no counterpart, and what PCRE2 alone has (verbs, recursion, callouts).
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "text/pattern.h"
#include "text/utf8.h"

// As the inside of a class.
#define SPACE "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACE                                                                                   \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}" \
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
// Oniguruma's \w: letters and what else is Alphabetic, marks, connectors, digits; outside brackets, by a table of its own, also
// the other numbers of Latin-1.
#define WORD_IN_BRACKETS                                                                             \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}" \
    "\\x{1f170}-\\x{1f189}"
#define WORD WORD_IN_BRACKETS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define HEX "0-9A-Fa-f"
#define NOT_HEX "\\x{0}-\\x{2f}\\x{3a}-\\x{40}\\x{47}-\\x{60}\\x{67}-\\x{10ffff}"

typedef struct {
    const char *text;
    size_t length, at;
    LvText *out;
    LvError *error;
} Reader;

static bool refuse(const Reader *r, const char *what) {
    return lv_error_set(r->error, LV_ERROR_UNSUPPORTED, "a regular expression has %s near its byte %zu, which is not supported",
                        what, r->at);
}

static char peek(const Reader *r, size_t ahead) { return r->at + ahead < r->length ? r->text[r->at + ahead] : 0; }

// ---- properties

static const struct {
    const char *name, *category;
} categories[] = {
    {"letter", "L"},
    {"uppercaseletter", "Lu"},
    {"lowercaseletter", "Ll"},
    {"titlecaseletter", "Lt"},
    {"casedletter", "L&"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"digit", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"symbol", "S"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"punctuation", "P"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"openpunctuation", "Ps"},
    {"closepunctuation", "Pe"},
    {"initialpunctuation", "Pi"},
    {"finalpunctuation", "Pf"},
    {"otherpunctuation", "Po"},
    {"separator", "Z"},
    {"spaceseparator", "Zs"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"other", "C"},
    {"control", "Cc"},
    {"format", "Cf"},
    {"surrogate", "Cs"},
    {"privateuse", "Co"},
    {"unassigned", "Cn"},
    {"any", "Any"},
};
// Properties of PCRE2 that are neither category nor script.
static const char *const binaries[] = {"alphabetic", "uppercase", "lowercase", "ideographic", "emoji", "extendedpictographic"};
// Of Oniguruma, with a meaning that PCRE2 has under no name, or another under the same.
static const char *const strange[] = {"alnum", "alpha", "ascii", "blank", "cntrl", "graph",  "print",
                                      "punct", "space", "upper", "lower", "word",  "xdigit", "xposixpunct"};

static bool listed(const char *name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!strcmp(name, names[i])) return true;
    }
    return false;
}

// `\p{…}` or `\P{…}`, at its letter.
static bool property(Reader *r) {
    bool negated = r->text[r->at] == 'P';
    char plain[64];
    size_t count = 0, from = r->at + 2, to = from;
    if (peek(r, 1) != '{') return refuse(r, "a property without braces");
    while (to < r->length && r->text[to] != '}') to++;
    if (to == r->length) return refuse(r, "an open property");
    if (from < to && r->text[from] == '^') negated = !negated, from++;
    for (size_t i = from; i < to && count < sizeof plain - 1; i++) {
        if (isalnum((unsigned char)r->text[i]) || r->text[i] == '&') plain[count++] = (char)tolower((unsigned char)r->text[i]);
        else if (!strchr(" _-", r->text[i])) return refuse(r, "an odd property");
    }
    plain[count] = 0;
    if (!count || count >= sizeof plain - 1) return refuse(r, "an odd property");
    r->at = to + 1;
    char kind = negated ? 'P' : 'p';
    for (size_t i = 0; i < sizeof categories / sizeof *categories; i++) {
        if (!strcmp(plain, categories[i].name)) return lv_text_printf(r->out, "\\%c{%s}", kind, categories[i].category), true;
    }
    if (count <= 2) {  // categories by their short name, in any case
        plain[0] = (char)toupper((unsigned char)plain[0]);
        return lv_text_printf(r->out, "\\%c{%s}", kind, plain), true;
    }
    if (listed(plain, strange, sizeof strange / sizeof *strange)) return refuse(r, "a POSIX property");
    bool binary = listed(plain, binaries, sizeof binaries / sizeof *binaries);
    lv_text_printf(r->out, "\\%c{%s%s}", kind, binary ? "" : "sc:", plain);
    return true;
}

// ---- escapes

// `\x41`, `\x{1F600}`, `\u00e9`, at their letter.
static bool code_point(Reader *r) {
    char digits[12];
    size_t count = 0, at = r->at + 1;
    bool braces = r->text[r->at] == 'x' && peek(r, 1) == '{';
    size_t most = braces ? 8 : r->text[r->at] == 'x' ? 2 : 4;
    if (braces) at++;
    while (count < most && at < r->length && isxdigit((unsigned char)r->text[at])) digits[count++] = r->text[at++];
    digits[count] = 0;
    unsigned long code = strtoul(digits, NULL, 16);
    if (!count || (most == 4 && count < 4) || (braces && (at >= r->length || r->text[at] != '}'))) {
        return refuse(r, "an odd code point");
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return refuse(r, "a number that is no code point");
    if (most == 2 && code > 0x7F) return refuse(r, "a single byte of UTF-8");
    r->at = at + braces;
    lv_text_printf(r->out, "\\x{%lx}", code);
    return true;
}

// A class by its letter: text for inside brackets, or NULL. `inside`: where a complement must be spelt out.
static const char *class_text(char letter, bool inside) {
    switch (letter) {
        case 's': return inside ? SPACE : "[" SPACE "]";
        case 'S': return inside ? NOT_SPACE : "[^" SPACE "]";
        case 'w': return inside ? WORD_IN_BRACKETS : "[" WORD "]";
        case 'W': return inside ? NULL : "[^" WORD "]";
        case 'd': return "\\p{Nd}";
        case 'D': return "\\P{Nd}";
        case 'h': return inside ? HEX : "[" HEX "]";
        case 'H': return inside ? NOT_HEX : "[^" HEX "]";
        default: return NULL;
    }
}

// After a backslash, at the letter.
static bool escape(Reader *r, bool inside) {
    if (r->at >= r->length) return refuse(r, "a backslash at its end");
    char letter = r->text[r->at];
    const char *class = class_text(letter, inside);
    if (class) return lv_text_puts(r->out, class), r->at++, true;
    if (letter == 'p' || letter == 'P') return property(r);
    if (letter == 'x' || letter == 'u') return code_point(r);
    if (letter == 'v') return lv_text_puts(r->out, "\\x{b}"), r->at++, true;
    if (!inside && letter == 'b') {
        lv_text_puts(r->out, "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))");
        return r->at++, true;
    }
    if (!inside && letter == 'B') {
        lv_text_puts(r->out, "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))");
        return r->at++, true;
    }
    bool word = isalnum((unsigned char)letter), known = letter && strchr(inside ? "ntrfaeb" : "ntrfaeAzZGR123456789", letter);
    if (!letter || (word && !known)) return refuse(r, "an escape");
    if ((unsigned char)letter < 0x80) lv_text_putc(r->out, '\\');
    lv_text_putc(r->out, letter);
    return r->at++, true;
}

// ---- brackets, groups, intervals

static bool brackets(Reader *r) {
    lv_text_putc(r->out, '[');
    r->at++;
    if (peek(r, 0) == '^') lv_text_putc(r->out, '^'), r->at++;
    if (peek(r, 0) == ']') return refuse(r, "an empty class");
    while (r->at < r->length && r->text[r->at] != ']') {
        char c = r->text[r->at];
        if (c == '[') return refuse(r, "a class within a class");
        if (c == '&' && peek(r, 1) == '&') return refuse(r, "an intersection of classes");
        if (c != '\\') lv_text_putc(r->out, c), r->at++;
        else if (r->at++, !escape(r, true)) return false;
    }
    if (r->at == r->length) return refuse(r, "an open class");
    lv_text_putc(r->out, ']');
    return r->at++, true;
}

// `(?` and the letters after it: flags, at the first of them. Flags for the rest of a group reach over `|` in one syntax and
// not in the other, but mean the same at the very beginning.
static bool flags(Reader *r, bool first) {
    for (; r->at < r->length && strchr("im-", r->text[r->at]); r->at++) {
        lv_text_putc(r->out, r->text[r->at] == 'm' ? 's' : r->text[r->at]);
    }
    char end = peek(r, 0);
    if (end != ':' && !(end == ')' && first)) return refuse(r, "a flag");
    lv_text_putc(r->out, end);
    return r->at++, true;
}

static bool group(Reader *r) {
    static const char *const kinds[] = {":", "=", "!", ">", "<=", "<!"};
    bool first = r->at == 0;
    if (peek(r, 1) == '*') return refuse(r, "a verb");
    if (peek(r, 1) != '?') return lv_text_putc(r->out, '('), r->at++, true;
    lv_text_puts(r->out, "(?");
    r->at += 2;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t size = strlen(kinds[i]);
        if (r->length - r->at >= size && !memcmp(r->text + r->at, kinds[i], size)) {
            lv_text_puts(r->out, kinds[i]);
            return r->at += size, true;
        }
    }
    char c = peek(r, 0);
    if (c && strchr("im-", c)) return flags(r, first);
    return refuse(r, "a kind of group");
}

// `{2}`, `{2,}`, `{,3}`, `{2,3}`; any other brace is itself.
static bool interval(Reader *r) {
    size_t at = r->at + 1, from = at, comma = 0;
    while (at < r->length && (isdigit((unsigned char)r->text[at]) || (r->text[at] == ',' && !comma))) {
        if (r->text[at] == ',') comma = at;
        at++;
    }
    bool whole = at < r->length && r->text[at] == '}' && at > from && !(comma == from && at == from + 1);
    if (!whole) return lv_text_puts(r->out, "\\{"), r->at++, true;
    lv_text_puts(r->out, comma == from ? "{0" : "{");
    lv_text_append(r->out, r->text + from, at + 1 - from);
    r->at = at + 1;
    char next = peek(r, 0);
    if (next == '+' || (next == '?' && !comma)) return refuse(r, "a sign after an interval");  // a second repeat, in Ruby
    return true;
}

bool pattern_translate(const char *regex, size_t length, LvText *out, LvError *error) {
    Reader reader = {regex, length, 0, out, error}, *r = &reader;
    while (r->at < length) {
        bool good = true;
        switch (regex[r->at]) {
            case '\\': r->at++, good = escape(r, false); break;
            case '[': good = brackets(r); break;
            case '(': good = group(r); break;
            case '{': good = interval(r); break;
            default: lv_text_putc(out, regex[r->at++]);
        }
        if (!good) return false;
    }
    return true;
}
