// Draws the emoji of emoji-test.txt with a colour font: a real, small data set of pictures and captions.
// HarfBuzz turns a sequence (flags, families, skin tones joined by ZWJ) into one glyph; FreeType hands out that glyph's
// bitmap as the font stores it (Noto Color Emoji: 136 x 128, BGRA, premultiplied); libspng writes it with transparency.
//
//   OUT/{train,val}/GROUP/CODEPOINTS.png    and .txt beside it with the CLDR name
//
// A picture belongs to `val` when the FNV-1a hash of its file name is 0 modulo 10: fixed, and about a tenth of each group.
#include <errno.h>
#include <ft2build.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include FT_FREETYPE_H
#include <hb-ft.h>
#include <hb.h>
#include <spng.h>

enum {
    MAX_CODES = 16,    // the longest sequence of Unicode 15 has 10 code points
    MAX_BITMAP = 1024  // pixels a side; strikes of colour fonts are 64 to 160
};

typedef struct {
    uint32_t codes[MAX_CODES];
    int count;
    char group[64];  // as a folder's name: "smileys-emotion"
    char stem[MAX_CODES * 9];  // "1f469-200d-1f680"
    char *caption;             // into the line that was read
} Emoji;

typedef struct {
    int width, height;
    uint8_t *rgba;  // [height, width, 4], straight alpha
} Bitmap;

static const char usage[] =
    "usage: render [--font FILE] [--list FILE] OUT\n"
    "Draws every fully-qualified emoji as a PNG with its name in a .txt beside it, into OUT/train and OUT/val.\n"
    "  --font FILE   a colour bitmap font (default /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf)\n"
    "  --list FILE   Unicode's emoji-test.txt (default /usr/share/unicode/emoji/emoji-test.txt)\n"
    "example: render examples/emoji/data\n";

static bool complain(const char *what, const char *path, const char *hint) {
    fprintf(stderr, "render: error: %s: %s\n", path, what);
    if (hint) fprintf(stderr, "  hint: %s\n", hint);
    return false;
}

// ---- the list

static void slug(char *out, size_t size, const char *text) {
    size_t n = 0;
    for (; *text && *text != '\n' && n + 2 < size; text++) {
        char c = *text >= 'A' && *text <= 'Z' ? (char)(*text + 32) : *text;
        bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (word) out[n++] = c;
        else if (n && out[n - 1] != '-') out[n++] = '-';
    }
    while (n && out[n - 1] == '-') n--;
    out[n] = 0;
}

// "1F469 200D 1F680  ; fully-qualified  # 👩‍🚀 E4.0 woman astronaut"; false for any other line.
static bool parse_line(char *line, Emoji *emoji) {
    char *status = strchr(line, ';'), *name = status ? strchr(status, '#') : NULL;
    if (line[0] == '#' || !name || strncmp(status + 1 + strspn(status + 1, " "), "fully-qualified ", 16)) return false;
    emoji->count = 0;
    size_t length = 0;
    for (char *at = line, *end; emoji->count < MAX_CODES; at = end) {
        unsigned long code = strtoul(at, &end, 16);
        if (end == at) break;
        if (code == 0 || code > 0x10FFFF) return false;
        emoji->codes[emoji->count++] = (uint32_t)code;
        length += (size_t)snprintf(emoji->stem + length, sizeof emoji->stem - length, "%s%lx", length ? "-" : "", code);
    }
    name = strstr(name, " E");  // the version; after it, the name
    name = name ? strchr(name + 1, ' ') : NULL;
    if (!name || !emoji->count) return false;
    emoji->caption = name + 1;
    emoji->caption[strcspn(emoji->caption, "\r\n")] = 0;
    return true;
}

static bool is_val(const Emoji *emoji) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (const char *c = emoji->stem; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001B3u;
    return hash % 10 == 0;
}

// ---- one glyph

// The one glyph that the font has for the whole sequence; 0 when it would take several, or is missing.
static uint32_t shape(hb_font_t *font, hb_buffer_t *buffer, const uint32_t *codes, int count) {
    hb_buffer_reset(buffer);
    hb_buffer_add_utf32(buffer, codes, count, 0, count);
    hb_buffer_set_direction(buffer, HB_DIRECTION_LTR);
    hb_buffer_guess_segment_properties(buffer);
    hb_shape(font, buffer, NULL, 0);
    unsigned glyphs = 0;
    const hb_glyph_info_t *info = hb_buffer_get_glyph_infos(buffer, &glyphs);
    return glyphs == 1 ? info[0].codepoint : 0;
}

static bool draw(FT_Face face, uint32_t glyph, Bitmap *bitmap) {
    if (!glyph || FT_Load_Glyph(face, glyph, FT_LOAD_COLOR | FT_LOAD_DEFAULT)) return false;
    const FT_Bitmap *from = &face->glyph->bitmap;
    if (from->pixel_mode != FT_PIXEL_MODE_BGRA || !from->width || !from->rows) return false;
    if (from->width > MAX_BITMAP || from->rows > MAX_BITMAP) return false;
    bitmap->width = (int)from->width, bitmap->height = (int)from->rows;
    for (int y = 0; y < bitmap->height; y++) {
        const uint8_t *in = from->buffer + (ptrdiff_t)y * from->pitch;
        uint8_t *out = bitmap->rgba + (size_t)y * from->width * 4;
        for (int x = 0; x < bitmap->width; x++, in += 4, out += 4) {
            int a = in[3];
            for (int c = 0; c < 3; c++) {  // premultiplied -> straight
                int v = a ? (in[2 - c] * 255 + a / 2) / a : 0;
                out[c] = (uint8_t)(v > 255 ? 255 : v);
            }
            out[3] = (uint8_t)a;
        }
    }
    return true;
}

// ---- files

static bool make_folders(const char *path) {
    char part[4096];
    if ((size_t)snprintf(part, sizeof part, "%s", path) >= sizeof part) return complain("name too long", path, NULL);
    for (char *slash = part + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        if (mkdir(part, 0777) && errno != EEXIST) return complain(strerror(errno), part, NULL);
        *slash = '/';
    }
    return (mkdir(part, 0777) && errno != EEXIST) ? complain(strerror(errno), part, NULL) : true;
}

static bool write_file(const char *path, const void *data, size_t length) {
    FILE *file = fopen(path, "wb");
    if (!file) return complain(strerror(errno), path, NULL);
    bool good = fwrite(data, 1, length, file) == length;
    good = fclose(file) == 0 && good;
    return good ? true : complain("could not be written", path, "is the disk full?");
}

static bool write_png(const char *path, const Bitmap *bitmap) {
    spng_ctx *context = spng_ctx_new(SPNG_CTX_ENCODER);
    struct spng_ihdr header = {.width = (uint32_t)bitmap->width, .height = (uint32_t)bitmap->height,
                               .bit_depth = 8, .color_type = SPNG_COLOR_TYPE_TRUECOLOR_ALPHA};
    size_t length = 0, size = (size_t)bitmap->width * (size_t)bitmap->height * 4;
    int error = 0;
    void *png = NULL;
    spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1);
    spng_set_option(context, SPNG_IMG_COMPRESSION_LEVEL, 6);
    spng_set_ihdr(context, &header);
    if (!spng_encode_image(context, bitmap->rgba, size, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE))
        png = spng_get_png_buffer(context, &length, &error);
    spng_ctx_free(context);
    bool good = png && write_file(path, png, length);
    free(png);
    return good;
}

static bool save(const char *out, const Emoji *emoji, const Bitmap *bitmap) {
    char path[4096], folder[4096];
    snprintf(folder, sizeof folder, "%s/%s/%s", out, is_val(emoji) ? "val" : "train", emoji->group);
    if (!make_folders(folder)) return false;
    int room = snprintf(path, sizeof path, "%s/%s.txt", folder, emoji->stem);
    if (room < 0 || (size_t)room >= sizeof path) return complain("name too long", folder, NULL);
    char line[512];
    int length = snprintf(line, sizeof line, "%s\n", emoji->caption);
    if (length < 0 || (size_t)length >= sizeof line) return complain("caption too long", path, NULL);
    if (!write_file(path, line, (size_t)length)) return false;
    memcpy(path + room - 3, "png", 3);  // last: a picture never stands without its caption
    return write_png(path, bitmap);
}

// ---- all of them

typedef struct {
    int train, val, groups, missing;
} Tally;

static bool render_all(FILE *list, FT_Face face, const char *out, Tally *tally) {
    static uint8_t pixels[MAX_BITMAP * MAX_BITMAP * 4];
    hb_font_t *font = hb_ft_font_create_referenced(face);
    hb_buffer_t *buffer = hb_buffer_create();
    Emoji emoji = {0};
    Bitmap bitmap = {.rgba = pixels};
    char *line = NULL, last[sizeof emoji.group] = "";
    size_t capacity = 0;
    bool good = true;
    while (good && getline(&line, &capacity, list) > 0) {
        if (!strncmp(line, "# group: ", 9)) slug(emoji.group, sizeof emoji.group, line + 9);
        if (!parse_line(line, &emoji)) continue;
        if (!draw(face, shape(font, buffer, emoji.codes, emoji.count), &bitmap)) {
            tally->missing++;
            continue;
        }
        good = save(out, &emoji, &bitmap);
        if (strcmp(last, emoji.group)) tally->groups++, memcpy(last, emoji.group, sizeof last);
        if (is_val(&emoji)) tally->val++;
        else tally->train++;
    }
    free(line);
    hb_buffer_destroy(buffer);
    hb_font_destroy(font);
    return good;
}

int main(int argc, char **argv) {
    const char *font_path = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf";
    const char *list_path = "/usr/share/unicode/emoji/emoji-test.txt", *out = NULL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help")) return fputs(usage, stdout), 0;
        else if (!strcmp(argv[i], "--font") && i + 1 < argc) font_path = argv[++i];
        else if (!strcmp(argv[i], "--list") && i + 1 < argc) list_path = argv[++i];
        else if (argv[i][0] != '-' && !out) out = argv[i];
        else return fputs(usage, stderr), 2;
    }
    if (!out) return fputs(usage, stderr), 2;
    FT_Library library;
    FT_Face face;
    if (FT_Init_FreeType(&library)) return complain("cannot start", "FreeType", NULL), 1;
    if (FT_New_Face(library, font_path, 0, &face)) {
        return complain("cannot be read as a font", font_path, "apt install fonts-noto-color-emoji, or --font FILE"), 1;
    }
    if (!FT_HAS_COLOR(face) || face->num_fixed_sizes < 1 || FT_Select_Size(face, 0)) {
        return complain("has no colour bitmaps", font_path, "a CBDT font is needed, as Debian's Noto Color Emoji is"), 1;
    }
    FILE *list = fopen(list_path, "r");
    if (!list) return complain(strerror(errno), list_path, "apt install unicode-data, or --list FILE"), 1;
    Tally tally = {0};
    bool good = render_all(list, face, out, &tally);
    fclose(list);
    FT_Done_Face(face);
    FT_Done_FreeType(library);
    if (!good) return 1;
    if (!tally.train) return complain("names no emoji that the font has", list_path, NULL), 1;
    printf("%s: %d pictures in %d groups, %d to train, %d to validate", out, tally.train + tally.val, tally.groups,
           tally.train, tally.val);
    if (tally.missing) printf("; %d are not in the font", tally.missing);
    printf("\n");
    return 0;
}
