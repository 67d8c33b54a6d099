// The text of a tokenizer.json, in the order and with the members that tokenizers itself writes.
#include "text/write.h"

#include <string.h>

static void put_string(LvText *json, const char *text) {
    lv_text_putc(json, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') lv_text_printf(json, "\\%c", *text);
        else if ((unsigned char)*text < 0x20) lv_text_printf(json, "\\u%04x", (unsigned)*text);
        else lv_text_putc(json, *text);
    }
    lv_text_putc(json, '"');
}

static void put_added(const WrittenTokenizer *t, LvText *json) {
    lv_text_puts(json, "  \"added_tokens\": [");
    for (size_t id = (size_t)t->first_special; id < t->tokens.count; id++) {
        lv_text_printf(json, "%s\n    {\n      \"id\": %zu,\n      \"content\": ", id > (size_t)t->first_special ? "," : "",
                       id);
        put_string(json, t->tokens.data[id]);
        // CLIP's are known in capitals too: its authors looked for them after lower-casing.
        lv_text_printf(json,
                       ",\n      \"single_word\": false,\n      \"lstrip\": false,\n      \"rstrip\": false,\n"
                       "      \"normalized\": %s,\n      \"special\": true\n    }",
                       t->clip ? "true" : "false");
    }
    lv_text_puts(json, "\n  ],\n");
}

static void put_steps(const WrittenTokenizer *t, LvText *json) {
    size_t count = t->tokens.count;
    if (!t->clip) {
        lv_text_puts(json, t->lowercase ? "  \"normalizer\": {\n    \"type\": \"Sequence\",\n    \"normalizers\": [\n"
                                          "      {\"type\": \"NFC\"},\n      {\"type\": \"Lowercase\"}\n    ]\n  },\n"
                                        : "  \"normalizer\": {\"type\": \"NFC\"},\n");
        lv_text_puts(json,
                     "  \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
                     "\"use_regex\": true},\n"
                     "  \"post_processor\": null,\n"
                     "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, "
                     "\"use_regex\": true},\n");
        return;
    }
    lv_text_puts(json,
                 "  \"normalizer\": {\n    \"type\": \"Sequence\",\n    \"normalizers\": [\n      {\"type\": \"NFC\"},\n"
                 "      {\"type\": \"Replace\", \"pattern\": {\"Regex\": \"\\\\s+\"}, \"content\": \" \"},\n"
                 "      {\"type\": \"Lowercase\"}\n    ]\n  },\n"
                 "  \"pre_tokenizer\": {\n    \"type\": \"Sequence\",\n    \"pretokenizers\": [\n"
                 "      {\"type\": \"Split\", \"pattern\": {\"Regex\": "
                 "\"'s|'t|'re|'ve|'m|'ll|'d|[\\\\p{L}]+|[\\\\p{N}]|[^\\\\s\\\\p{L}\\\\p{N}]+\"}, "
                 "\"behavior\": \"Removed\", \"invert\": true},\n"
                 "      {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}\n"
                 "    ]\n  },\n");
    lv_text_puts(json, "  \"post_processor\": {\"type\": \"RobertaProcessing\", \"sep\": [");
    put_string(json, t->tokens.data[count - 1]);
    lv_text_printf(json, ", %zu], \"cls\": [", count - 1);
    put_string(json, t->tokens.data[count - 2]);
    lv_text_printf(json, ", %zu], \"trim_offsets\": false, \"add_prefix_space\": false},\n", count - 2);
    lv_text_puts(
        json,
        "  \"decoder\": {\n    \"type\": \"Sequence\",\n    \"decoders\": [\n"
        "      {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true},\n"
        "      {\"type\": \"Replace\", \"pattern\": {\"String\": \"</w>\"}, \"content\": \" \"},\n"
        "      {\"type\": \"Replace\", \"pattern\": {\"Regex\": \"\\\\A | \\\\z\"}, \"content\": \"\"}\n    ]\n  },\n");
}

static void put_model(const WrittenTokenizer *t, LvText *json) {
    lv_text_printf(json,
                   "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
                   "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": %s,\n    \"fuse_unk\": false,\n"
                   "    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n    \"vocab\": {",
                   t->clip ? "\"</w>\"" : "null");
    for (size_t id = 0; id < t->tokens.count; id++) {
        lv_text_puts(json, id ? ",\n      " : "\n      ");
        put_string(json, t->tokens.data[id]);
        lv_text_printf(json, ": %zu", id);
    }
    // As "left right": all versions of tokenizers read that, and no byte's letter is a space.
    lv_text_puts(json, "\n    },\n    \"merges\": [");
    for (size_t i = 0; i < t->merges.count; i++) {
        LvText merge = {0};
        lv_text_printf(&merge, "%s %s", t->tokens.data[t->merges.data[i].left], t->tokens.data[t->merges.data[i].right]);
        lv_text_puts(json, i ? ",\n      " : "\n      ");
        put_string(json, merge.data);
        lv_text_free(&merge);
    }
    lv_text_puts(json, "\n    ]\n  }\n");
}

void write_tokenizer(const WrittenTokenizer *tokenizer, LvText *json) {
    lv_text_puts(json, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    put_added(tokenizer, json);
    put_steps(tokenizer, json);
    put_model(tokenizer, json);
    lv_text_puts(json, "}\n");
}
