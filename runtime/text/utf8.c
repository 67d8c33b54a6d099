// Decoding with repair, and classes of characters. The rules of what is well-formed: Unicode standard, table 3-7.
#include "text/utf8.h"

#include <utf8proc.h>

size_t utf8_put(uint32_t code, char out[4]) {
    if (code < 0x80) return out[0] = (char)code, 1;
    if (code < 0x800) return out[0] = (char)(0xC0 | code >> 6), out[1] = (char)(0x80 | (code & 0x3F)), 2;
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

void utf8_append(LvText *text, uint32_t code) {
    char bytes[4];
    lv_text_append(text, bytes, utf8_put(code, bytes));
}

// Bytes at `p` that are a whole character (*good), or the longest beginning of one, at least 1.
static size_t measure(const unsigned char *p, size_t length, bool *good) {
    unsigned char low = 0x80, high = 0xBF, first = p[0];
    size_t wanted = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
    *good = wanted == 1;
    if (wanted < 2) return 1;
    if (first == 0xE0) low = 0xA0;        // no longer form than needed
    else if (first == 0xED) high = 0x9F;  // no surrogates
    else if (first == 0xF0) low = 0x90;
    else if (first == 0xF4) high = 0x8F;  // nothing over U+10FFFF
    for (size_t i = 1; i < wanted; i++, low = 0x80, high = 0xBF) {
        if (i >= length || p[i] < low || p[i] > high) return i;
    }
    *good = true;
    return wanted;
}

bool utf8_is_whole(const char *bytes, size_t length) {
    bool good = true;
    for (size_t at = 0; at < length && good;) at += measure((const unsigned char *)bytes + at, length - at, &good);
    return good;
}

void utf8_append_lossy(LvText *text, const char *bytes, size_t length) {
    size_t kept = 0;  // bytes before this are in `text`
    for (size_t at = 0; at < length;) {
        bool good;
        size_t size = measure((const unsigned char *)bytes + at, length - at, &good);
        if (!good) {
            lv_text_append(text, bytes + kept, at - kept);
            lv_text_append(text, "\xEF\xBF\xBD", 3);
            kept = at + size;
        }
        at += size;
    }
    lv_text_append(text, bytes + kept, length - kept);
}

bool utf8_is_space(uint32_t code) {
    return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
           code == 0x3000;
}

bool utf8_is_word(uint32_t code) {
    switch (utf8proc_category((utf8proc_int32_t)code)) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_MC:
        case UTF8PROC_CATEGORY_ME:
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_PC: return true;
        default:  // symbols that are Alphabetic, and Join_Control
            return (code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) ||
                   (code >= 0x1F150 && code <= 0x1F169) || (code >= 0x1F170 && code <= 0x1F189) || code == 0x200C ||
                   code == 0x200D;
    }
}

static bool stands_for_itself(unsigned byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// The others: 0x00 … 0x20 are U+0100 …, 0x7F … 0xA0 follow, 0xAD is the last.
uint32_t byte_letter(unsigned char byte) {
    if (stands_for_itself(byte)) return byte;
    return byte <= 0x20 ? 0x100u + byte : byte <= 0xA0 ? 0x121u + (byte - 0x7Fu) : 0x143u;
}

int letter_byte(uint32_t letter) {
    if (letter < 0x100) return stands_for_itself(letter) ? (int)letter : -1;
    if (letter <= 0x120) return (int)letter - 0x100;
    if (letter <= 0x142) return (int)letter - 0x121 + 0x7F;
    return letter == 0x143 ? 0xAD : -1;
}
