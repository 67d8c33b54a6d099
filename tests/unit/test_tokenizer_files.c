// Tokenizer files that are wrong, odd or meant to harm, and what is said of them; regular expressions that are refused, and those
// that would never end.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <zlib.h>

#include "text/pattern.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

static void refused(const char *bytes, size_t length, const char *message) {
    LvTokenizer *t = NULL;
    LvError error = {0};
    if (lv_tokenizer_parse(&t, bytes, length, "t", &error)) fail_msg("taken, not refused as '%s'", message);
    if (strcmp(error.message, message) != 0) fail_msg("'%s', not '%s'", error.message, message);
    assert_null(t);
    lv_error_clear(&error);
}

// A file made of these members beside a model of the tokens a, b, ab and the merge of the two.
static char *with(const char *members, const char *model) {
    LvText text = {0};
    lv_text_printf(&text, "{%s%s\"model\": {%s%s\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]}}", members,
                   *members ? ", " : "", model, *model ? ", " : "");
    return text.data;
}

static void refused_with(const char *members, const char *model, const char *message) {
    char *text = with(members, model);
    refused(text, strlen(text), message);
    free(text);
}

static LvTokenizer *taken_with(const char *members, const char *model) {
    char *text = with(members, model);
    LvTokenizer *t = NULL;
    LvError error = {0};
    if (!lv_tokenizer_parse(&t, text, strlen(text), "t", &error)) fail_msg("%s", error.message);
    free(text);
    return t;
}

static void expect_ids(const LvTokenizer *t, const char *text, const char *wanted) {
    LvTokenIds ids = {0};
    LvError error = {0};
    LvText got = {0};
    if (!lv_tokenizer_encode(t, text, strlen(text), LV_ENCODE_SPECIALS, &ids, &error)) fail_msg("%s", error.message);
    for (size_t i = 0; i < ids.count; i++) lv_text_printf(&got, "%s%d", i ? " " : "", ids.data[i]);
    assert_string_equal(lv_text_get(&got), wanted);
    lv_vec_free(&ids);
    lv_text_free(&got);
}

// ---- no tokenizers

static void other_files(void **state) {
    (void)state;
    LvTokenizer *t = NULL;
    LvError error = {0};
    refused("", 0, "t: is no tokenizer");
    refused("hello", 5, "t: is no tokenizer");
    refused("[]", 2, "t: is no tokenizer");
    refused("#version: 0.2\na b\n", 18, "t: is no tokenizer");  // GPT-2's merges.txt: its vocabulary is another file
    refused("{}", 2, "t: it has no 'model'");
    refused("{", 1, "t: line 1: string or '}' expected near end of file");
    refused("{\"a\": 1, \"a\": 2}", 16, "t: line 1: duplicate object key near '\"a\"'");
    refused("{\"a\": \"\xFF\"}", 10, "t: line 1: unable to decode byte 0xff near '\"'");
    refused("\x1F\x8B\x08\x00", 4, "t: is broken gzip");
    refused("{\"model\": []}", 13, "t: it has no 'model'");
    refused("{\"model\": {}}", 13, "t: the model has no 'vocab'");
    refused("{\"model\": {\"vocab\": {}}}", 24, "t: the model has no 'merges'");
    refused("{\"model\": {\"vocab\": {}, \"merges\": []}}", 38, "t: has no tokens");
    refused("{\"model\": {\"type\": \"WordPiece\"}}", 32, "t: the model is of type 'WordPiece'");
    assert_false(lv_tokenizer_open(&t, "/nowhere/at/all.json", &error));
    assert_string_equal(error.message, "cannot open '/nowhere/at/all.json': No such file or directory");
    assert_int_equal(error.kind, LV_ERROR_IO);
    lv_error_clear(&error);
}

static void vocabularies(void **state) {
    (void)state;
    static const struct { const char *vocab, *merges, *message; } cases[] = {
        {"\"a\": 0, \"b\": 0", "", "t: the id 0 belongs to two tokens, 'a' and 'b'"},
        {"\"a\": 4194304", "", "t: the token 'a' has the id 4194304; ids are 0 … 4194303"},
        {"\"a\": -1", "", "t: the token 'a' has the id -1; ids are 0 … 4194303"},
        {"\"a\": 9223372036854775807", "", "t: the token 'a' has the id 9223372036854775807; ids are 0 … 4194303"},
        {"\"a\": 1.5", "", "t: the token 'a' has no whole number for its id"},
        {"\"a\": \"0\"", "", "t: the token 'a' has no whole number for its id"},
        {"\"a\": 0", "\"a b\"", "t: merge 0 needs the token 'b', which the vocabulary lacks"},
        {"\"a\": 0, \"b\": 1", "\"a b\"", "t: merge 0 needs the token 'ab', which the vocabulary lacks"},
        {"\"a\": 0, \"b\": 1", "[\"b\", \"c\"]", "t: merge 0 needs the token 'c', which the vocabulary lacks"},
        {"\"a\": 0", "\"a\"", "t: merge 0 is neither 'left right' nor [left, right]"},
        {"\"a\": 0", "\"a b c\"", "t: merge 0 is neither 'left right' nor [left, right]"},
        {"\"a\": 0", "[\"a\"]", "t: merge 0 is neither 'left right' nor [left, right]"},
        {"\"a\": 0", "[\"a\", 1]", "t: merge 0 is neither 'left right' nor [left, right]"},
        {"\"a\": 0", "7", "t: merge 0 is neither 'left right' nor [left, right]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        LvText text = {0};
        lv_text_printf(&text, "{\"model\": {\"vocab\": {%s}, \"merges\": [%s]}}", cases[i].vocab, cases[i].merges);
        refused(text.data, text.length, cases[i].message);
        lv_text_free(&text);
    }
    refused_with("", "\"dropout\": 0.1", "t: 'dropout' other than 0: its encoding is random");
    refused_with("", "\"fuse_unk\": 1", "t: 'fuse_unk' is neither true nor false");
    refused_with("", "\"end_of_word_suffix\": 1", "t: 'end_of_word_suffix' is no text");
}

static void added_tokens(void **state) {
    (void)state;
    refused_with("\"added_tokens\": {}", "", "t: 'added_tokens' is no list");
    refused_with("\"added_tokens\": [1]", "", "t: an added token lacks its 'content' or 'id'");
    refused_with("\"added_tokens\": [{\"id\": 3}]", "", "t: an added token lacks its 'content' or 'id'");
    refused_with("\"added_tokens\": [{\"id\": 5, \"content\": \"x\"}]", "", "t: the added token 'x' has the id 5 where 3 is due");
    refused_with("\"added_tokens\": [{\"id\": 1, \"content\": \"a\"}]", "", "t: the added token 'a' has the id 1 where 0 is due");
    refused_with("\"added_tokens\": [{\"id\": 99999999, \"content\": \"x\"}]", "", "t: 'id' is no number from 0 to 4194303");
    refused_with("\"added_tokens\": [{\"id\": 3, \"content\": \"x\"}, {\"id\": 4, \"content\": \"x\"}]", "", "t: the token 'x' is there twice");
    refused_with("\"added_tokens\": [{\"id\": 3, \"content\": \"x\", \"lstrip\": 1}]", "", "t: 'lstrip' is neither true nor false");
    LvTokenizer *t = taken_with("\"added_tokens\": [{\"id\": 0, \"content\": \"a\"}, {\"id\": 3, \"content\": \"bx\", \"special\": true}, {\"id\": 9, \"content\": \"\"}]", "");
    expect_ids(t, "abxab", "0 3 0 1");
    lv_tokenizer_close(t);
    t = taken_with("\"added_tokens\": [{\"id\": 3, \"content\": \"aab\"}, {\"id\": 4, \"content\": \"aa\"}, {\"id\": 5, \"content\": \"abbbb\"}]", "");
    expect_ids(t, "aaabbaabbb", "4 2 1 3 1 1");  // leftmost, of those the longest
    lv_tokenizer_close(t);
}

static void steps(void **state) {
    (void)state;
    refused_with("\"normalizer\": {\"type\": \"Precompiled\"}", "", "t: the normalizer 'Precompiled' is not supported");
    refused_with("\"normalizer\": {}", "", "t: a normalizer has no 'type'");
    refused_with("\"normalizer\": 5", "", "t: a normalizer has no 'type'");
    refused_with("\"normalizer\": {\"type\": \"Sequence\"}", "", "t: a Sequence has no list 'normalizers'");
    refused_with("\"normalizer\": {\"type\": \"Replace\", \"content\": \"\"}", "", "t: a 'Replace' has no 'pattern'");
    refused_with("\"pre_tokenizer\": {\"type\": \"Metaspace\"}", "", "t: the pre-tokenizer 'Metaspace' is not supported");
    refused_with("\"pre_tokenizer\": {\"type\": \"Split\"}", "", "t: a 'Split' has no 'behavior'");
    refused_with("\"pre_tokenizer\": {\"type\": \"Split\", \"behavior\": \"Gone\"}", "", "t: a 'Split' has an odd 'behavior'");
    refused_with("\"decoder\": {\"type\": \"CTC\"}", "", "t: the decoder 'CTC' is not supported");
    refused_with("\"decoder\": {\"type\": \"Strip\", \"content\": \"\"}", "", "t: a 'Strip' has an empty 'content'");
    refused_with("\"post_processor\": {\"type\": \"Magic\"}", "", "t: the post-processor 'Magic' is not supported");
    refused_with("\"post_processor\": {\"type\": \"RobertaProcessing\", \"sep\": [\"x\", 3], \"cls\": [\"x\", 0]}", "",
                 "t: the post-processor adds a token whose id is not in the vocabulary");
    refused_with("\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"x\"}}]}", "",
                 "t: a piece of the post-processor's 'single' is odd");
    refused_with("\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": []}", "",
                 "t: the post-processor has the text 0 times, not once");
    LvTokenizer *t = taken_with("\"post_processor\": {\"type\": \"Sequence\", \"processors\": [{\"type\": \"RobertaProcessing\", \"sep\": [\"b\", 1], "
                                "\"cls\": [\"a\", 0]}, {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"b\"}}, "
                                "{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"b\": {\"ids\": [1, 2]}}}]}", "");
    expect_ids(t, "ab", "1 2 0 2 1");
    lv_tokenizer_close(t);
}

// Lists in lists, many steps, many values, a long token, much from little: an answer soon, not the machine's memory.
static void bombs(void **state) {
    (void)state;
    LvText text = {0};
    for (int i = 0; i < 1000; i++) lv_text_puts(&text, "{\"type\": \"Sequence\", \"normalizers\": [");
    LvText deep = {0};
    lv_text_printf(&deep, "{\"normalizer\": %s", text.data);
    for (int i = 0; i < 1000; i++) lv_text_puts(&deep, "]}");
    lv_text_puts(&deep, "}");
    refused(deep.data, deep.length, "t: 'normalizers' holds more than 64 steps");
    deep.length = 0;
    for (int i = 0; i < 100000; i++) lv_text_puts(&deep, "{\"a\":");
    refused(deep.data, deep.length, "t: line 1: maximum parsing depth reached near '{'");
    deep.length = 0;
    lv_text_puts(&deep, "{\"a\": [");
    for (int i = 0; i < 5000000; i++) lv_text_puts(&deep, "1,");
    refused(deep.data, deep.length, "t: holds more than 4000000 values");
    lv_text_free(&deep);
    text.length = 0;
    lv_text_puts(&text, "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [");
    for (int i = 0; i < 20; i++) {
        lv_text_printf(&text, "%s{\"type\": \"Replace\", \"pattern\": {\"String\": \"a\"}, \"content\": \"aaaaaaaaaaaaaaaa\"}", i ? ", " : "");
    }
    lv_text_puts(&text, "]}");
    LvTokenizer *t = taken_with(text.data, "");
    LvTokenIds ids = {0};
    LvError error = {0};
    assert_false(lv_tokenizer_encode(t, "a", 1, 0, &ids, &error));
    assert_string_equal(error.message, "a text grows over 268435456 bytes by what the tokenizer puts into it");
    lv_error_clear(&error);
    lv_tokenizer_close(t);
    lv_text_free(&text);
}

// ---- CLIP's list, and gzip

static void expect_list(const char *lines, const char *message) {
    LvText text = {0};
    LvTokenizer *t = NULL;
    LvError error = {0};
    lv_text_printf(&text, "\"bpe_simple_vocab_16e6.txt#version: 0.2\n%s", lines);
    if (message) {
        refused(text.data, text.length, message);
    } else {
        assert_true(lv_tokenizer_parse(&t, text.data, text.length, "t", &error));
        assert_int_equal(lv_tokenizer_vocabulary(t), 512 + 2 + 2);
        lv_tokenizer_close(t);
    }
    lv_text_free(&text);
}

static void merge_lists(void **state) {
    (void)state;
    expect_list("i n\nin g</w>\n", NULL);
    expect_list("i n\r\nin g</w>", NULL);
    expect_list("", "t: line 2 of CLIP's merges is not there");
    expect_list("in\n", "t: line 2 of CLIP's merges is not 'left right'");
    expect_list("i n g\n", "t: line 2 of CLIP's merges is not 'left right'");
    expect_list("i n\nth e\n", "t: line 3 of CLIP's merges merges what no line before it makes");
    expect_list("i n\ni n\n", "t: line 3 of CLIP's merges makes a token that is there");
    expect_list("i \xFF\n", "t: CLIP's merges are not UTF-8 text");
}

static void zip(const char *in, size_t length, LvText *out) {
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)length};
    unsigned char block[65536];
    int answer;
    deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
    do {
        stream.next_out = block;
        stream.avail_out = sizeof block;
        answer = deflate(&stream, Z_FINISH);
        lv_text_append(out, (char *)block, sizeof block - stream.avail_out);
    } while (answer == Z_OK);
    deflateEnd(&stream);
}

static void zipped(void **state) {
    (void)state;
    char *json = with("", "");
    LvText out = {0};
    LvTokenizer *t = NULL;
    LvError error = {0};
    zip(json, strlen(json), &out);
    assert_true(lv_tokenizer_parse(&t, out.data, out.length, "t", &error));
    assert_string_equal(lv_tokenizer_text(t, NULL), json);
    lv_tokenizer_close(t);
    for (size_t cut = 2; cut < out.length; cut++) refused(out.data, cut, "t: is broken gzip");
    free(json);
    out.length = 0;
    char *zeros = calloc(80 << 20, 1);
    zip(zeros, 80 << 20, &out);
    refused(out.data, out.length, "t: is more than 67108864 bytes when unpacked");
    free(zeros);
    lv_text_free(&out);
}

// ---- regular expressions

static void expect_syntax(const char *regex, const char *wanted) {
    LvText out = {0};
    LvError error = {0};
    bool good = pattern_translate(regex, strlen(regex), &out, &error);
    const char *got = good ? lv_text_get(&out) : error.message;
    if (strcmp(got, wanted) != 0) fail_msg("%s became '%s', not '%s'", regex, got, wanted);
    lv_text_free(&out);
    lv_error_clear(&error);
}

static void syntax(void **state) {
    (void)state;
    expect_syntax("[^\\r\\n\\p{L}]?\\p{L}+|\\p{N}{1,3}", "[^\\r\\n\\p{L}]?\\p{L}+|\\p{N}{1,3}");
    expect_syntax("(?i:'s|'t)(?!a)(?<=b)(?>c)(?m:.)", "(?i:'s|'t)(?!a)(?<=b)(?>c)(?s:.)");
    expect_syntax("(?i)a", "(?i)a");
    expect_syntax("a{,3}b{2}{x", "a{0,3}b{2}\\{x");
    expect_syntax("\\p{Letter}\\p{^lu}\\P{Han}", "\\p{L}\\P{Lu}\\P{sc:han}");
    expect_syntax("\\u00e9\\x41\\x{1F600}\\v", "\\x{e9}\\x{41}\\x{1f600}\\x{b}");
    expect_syntax("\\d[\\D\\h]", "\\p{Nd}[\\P{Nd}0-9A-Fa-f]");
#define REFUSED(what, at) "a regular expression has " what " near its byte " at ", which is not supported"
    expect_syntax("(*COMMIT)", REFUSED("a verb", "0"));
    expect_syntax("(?R)", REFUSED("a kind of group", "2"));
    expect_syntax("(?C1)", REFUSED("a kind of group", "2"));
    expect_syntax("(?<name>a)", REFUSED("a kind of group", "2"));
    expect_syntax("a(?i)b", REFUSED("a flag", "4"));
    expect_syntax("[a&&b]", REFUSED("an intersection of classes", "2"));
    expect_syntax("[a[b]]", REFUSED("a class within a class", "2"));
    expect_syntax("[[:alpha:]]", REFUSED("a class within a class", "1"));
    expect_syntax("[]a]", REFUSED("an empty class", "1"));
    expect_syntax("[a", REFUSED("an open class", "2"));
    expect_syntax("[\\W]", REFUSED("an escape", "2"));
    expect_syntax("\\K", REFUSED("an escape", "1"));
    expect_syntax("\\C", REFUSED("an escape", "1"));
    expect_syntax("\\", REFUSED("a backslash at its end", "1"));
    expect_syntax("\\p{Alpha}", REFUSED("a POSIX property", "9"));
    expect_syntax("\\pL", REFUSED("a property without braces", "1"));
    expect_syntax("\\p{L", REFUSED("an open property", "1"));
    expect_syntax("\\p{}", REFUSED("an odd property", "1"));
    expect_syntax("\\p{a)b}", REFUSED("an odd property", "1"));
    expect_syntax("\\xFF", REFUSED("a single byte of UTF-8", "1"));
    expect_syntax("\\x{110000}", REFUSED("a number that is no code point", "1"));
    expect_syntax("\\u12", REFUSED("an odd code point", "1"));
    expect_syntax("a{1,2}+", REFUSED("a sign after an interval", "6"));
}

static void bad_regexes(void **state) {
    (void)state;
    static const char *const wrong[] = {"(", ")", "*", "a**", "(?<=a+)b", "[b-a]", "\\p{NoSuchScript}", "(?i", "a{99999}", "\\9"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Pattern *pattern = NULL;
        LvError error = {0};
        assert_false(pattern_regex(&pattern, wrong[i], strlen(wrong[i]), &error));
        assert_non_null(error.message);
        lv_error_clear(&error);
    }
}

// Expressions that try exponentially or polynomially many ways, on texts where they fail: an error or an end, within bounds.
static void endless(void **state) {
    (void)state;
    static const char *const regexes[] = {"(a+)+$", "(a|aa)+$", "(a|a?)+$", "(.*)*x", "(a*)*b", "a*a*a*a*b", "(?:a|b|ab)*c", "\\s*a*$b"};
    LvText text = {0};
    time_t begun = time(NULL);
    while (text.length < 40000) lv_text_puts(&text, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xC3\xA9 ");
    for (size_t i = 0; i < sizeof regexes / sizeof *regexes; i++) {
        LvText members = {0};
        lv_text_printf(&members, "\"pre_tokenizer\": {\"type\": \"Split\", \"behavior\": \"Isolated\", \"pattern\": {\"Regex\": \"");
        for (const char *c = regexes[i]; *c; c++) lv_text_printf(&members, *c == '\\' ? "\\\\" : "%c", *c);
        lv_text_puts(&members, "\"}}");
        LvTokenizer *t = taken_with(members.data, "");
        LvTokenIds ids = {0};
        LvError error = {0};
        if (!lv_tokenizer_encode(t, text.data, text.length, 0, &ids, &error)) {
            assert_non_null(strstr(error.message, "takes too long on a text of"));
            assert_int_equal(ids.count, 0);
        }
        lv_error_clear(&error);
        lv_vec_free(&ids);
        lv_text_free(&members);
        lv_tokenizer_close(t);
    }
    assert_true(time(NULL) - begun < 120);
    lv_text_free(&text);
}

// ---- UTF-8

static void repair(void **state) {
    (void)state;
#define FFFD "\xEF\xBF\xBD"
    static const struct { const char *in, *out; } cases[] = {
        {"", ""},
        {"a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
        {"\x80", FFFD},
        {"a\xFF\xFE z", "a" FFFD FFFD " z"},
        {"\xC3", FFFD},
        {"\xC3z", FFFD "z"},
        {"\xE2\x82", FFFD},
        {"\xE2\x82z", FFFD "z"},
        {"\xE2z", FFFD "z"},
        {"\xF0\x9F\x98", FFFD},
        {"\xF0\x9F\x98\xF0\x9F\x98\x80", FFFD "\xF0\x9F\x98\x80"},
        {"\xC0\x80", FFFD FFFD},
        {"\xE0\x80\x80", FFFD FFFD FFFD},
        {"\xED\xA0\x80", FFFD FFFD FFFD},
        {"\xF0\x80\x80\x80", FFFD FFFD FFFD FFFD},
        {"\xF4\x90\x80\x80", FFFD FFFD FFFD FFFD},
        {"\xF4\x8F\xBF\xBF", "\xF4\x8F\xBF\xBF"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        LvText out = {0};
        size_t length = strlen(cases[i].in);
        utf8_append_lossy(&out, cases[i].in, length);
        assert_string_equal(lv_text_get(&out), cases[i].out);
        assert_int_equal(utf8_is_whole(cases[i].in, length), !strcmp(cases[i].in, cases[i].out));
        lv_text_free(&out);
    }
    for (int byte = 0; byte < 256; byte++) assert_int_equal(letter_byte(byte_letter((unsigned char)byte)), byte);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_files), cmocka_unit_test(vocabularies), cmocka_unit_test(added_tokens), cmocka_unit_test(steps),
        cmocka_unit_test(bombs),       cmocka_unit_test(merge_lists),  cmocka_unit_test(zipped),       cmocka_unit_test(syntax),
        cmocka_unit_test(bad_regexes), cmocka_unit_test(endless),      cmocka_unit_test(repair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
