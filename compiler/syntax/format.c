// lvc --format: a file in the one canonical style. As gofmt does, it keeps the author's line breaks and decides everything else:
// indentation, the spaces between tokens, blank lines. It works on the text, so comments stay where they are; that the text
// parses is the caller's to know. Formatting twice changes nothing more.
#include <ctype.h>
#include <string.h>

#include "syntax/ast.h"

typedef enum { PIECE_NONE, PIECE_NAME, PIECE_KEYWORD, PIECE_NUMBER, PIECE_STRING, PIECE_OPERATOR, PIECE_COMMENT, PIECE_NEWLINE, PIECE_END } PieceKind;

typedef struct {
    PieceKind kind;
    const char *at;
    size_t length;
} Piece;

typedef struct {
    char open;      // ( [ { or, of a record, r
    int column;     // of what stands behind it; continuation lines align with it
    int indent;     // of its line
    bool hangs;     // it ends its line: what follows is indented, not aligned
} Bracket;

enum { MAX_BRACKETS = 512, INDENT = 4 };

typedef struct {
    const char *at, *end;
    LvText *out;
    Bracket stack[MAX_BRACKETS];
    int depth;
    Piece before;        // the piece before, on this line or (if a newline was just written) PIECE_NONE
    bool line_empty, continues, before_is_unary;
    int blank_lines, column, indent;
    int statement_indent;  // of the line where the statement under way began
} Formatter;

static bool is(Piece piece, const char *text) {
    return piece.length == strlen(text) && !memcmp(piece.at, text, piece.length);
}

static bool is_keyword(Piece piece) {
    static const char *const words[] = {"if", "else", "for", "in", "return", "and", "or", "not"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (is(piece, words[i])) return true;
    }
    return false;
}

static size_t operator_length(const char *at, const char *end) {
    static const char *const several[] = {"...", "->", "<-", "+=", "==", "!=", "<=", ">=", "**"};
    for (size_t i = 0; i < sizeof several / sizeof *several; i++) {
        size_t n = strlen(several[i]);
        if ((size_t)(end - at) >= n && !memcmp(at, several[i], n)) return n;
    }
    return 1;
}

static size_t word_length(const char *at, const char *end, PieceKind kind) {
    size_t n = 1;
    for (; at + n < end; n++) {
        unsigned char c = (unsigned char)at[n];
        bool inside = isalnum(c) || c == '_';
        if (kind == PIECE_NUMBER && !inside)
            inside = (c == '.' && at + n + 1 < end && isdigit((unsigned char)at[n + 1])) || ((c == '+' || c == '-') && tolower(at[n - 1]) == 'e');
        if (!inside) break;
    }
    return n;
}

static Piece next_piece(Formatter *f) {
    while (f->at < f->end && (*f->at == ' ' || *f->at == '\t' || *f->at == '\r')) f->at++;
    Piece piece = {PIECE_END, f->at, 0};
    if (f->at >= f->end) return piece;
    unsigned char c = (unsigned char)*f->at;
    size_t left = (size_t)(f->end - f->at);
    if (c == '\n') {
        piece.kind = PIECE_NEWLINE, piece.length = 1;
    } else if (c == '/' && left > 1 && f->at[1] == '/') {
        const char *line_end = memchr(f->at, '\n', left);
        piece.kind = PIECE_COMMENT, piece.length = line_end ? (size_t)(line_end - f->at) : left;
        while (piece.length && isspace((unsigned char)f->at[piece.length - 1])) piece.length--;
    } else if (c == '"') {
        piece.kind = PIECE_STRING, piece.length = 1;
        while (piece.length < left && f->at[piece.length] != '"' && f->at[piece.length] != '\n') piece.length += f->at[piece.length] == '\\' && piece.length + 1 < left ? 2 : 1;
        if (piece.length < left && f->at[piece.length] == '"') piece.length++;
        if (piece.length > left) piece.length = left;
    } else if (isdigit(c)) {
        piece.kind = PIECE_NUMBER, piece.length = word_length(f->at, f->end, PIECE_NUMBER);
    } else if (isalpha(c) || c == '_') {
        piece.length = word_length(f->at, f->end, PIECE_NAME);
        piece.kind = is_keyword(piece) ? PIECE_KEYWORD : PIECE_NAME;
    } else {
        piece.kind = PIECE_OPERATOR, piece.length = operator_length(f->at, f->end);
    }
    f->at += piece.length;
    return piece;
}

static char innermost(const Formatter *f) { return f->depth ? f->stack[f->depth - 1].open : 0; }

// Whether an operand has just ended, so that `-` is a difference and `[` an index.
static bool ends_operand(Piece piece) {
    if (piece.kind == PIECE_NAME || piece.kind == PIECE_NUMBER || piece.kind == PIECE_STRING) return true;
    return piece.kind == PIECE_OPERATOR && (is(piece, ")") || is(piece, "]") || is(piece, "..."));
}

static bool space_between(const Formatter *f, Piece a, Piece b) {
    if (a.kind == PIECE_NONE) return false;
    if (b.kind == PIECE_COMMENT) return true;
    bool after_open = a.kind == PIECE_OPERATOR && (is(a, "(") || is(a, "["));
    if (after_open || is(a, ".") || f->before_is_unary) return false;
    if (b.kind == PIECE_OPERATOR) {
        if (is(b, ",") || is(b, ";") || is(b, ")") || is(b, "]") || is(b, ".")) return false;
        if (is(b, ":")) return is(a, ",");
        if (is(b, "(") || is(b, "[")) return !ends_operand(a) && !(is(a, ":") && innermost(f) == '[');
        if (is(b, "}")) return innermost(f) == '{' && !is(a, "{");
    }
    if (is(a, "{")) return innermost(f) == '{';
    if (is(a, ":")) return innermost(f) != '[';
    return true;
}

static void write_spaces(Formatter *f, int count) {
    for (int i = 0; i < count; i++) lv_text_putc(f->out, ' ');
    f->column += count;
}

static int line_indent(const Formatter *f, Piece first) {
    bool closes = first.kind == PIECE_OPERATOR && (is(first, ")") || is(first, "]") || is(first, "}"));
    if (!f->depth) return f->continues ? INDENT : 0;
    const Bracket *inner = &f->stack[f->depth - 1];
    if (inner->open == '{') return closes ? inner->indent : inner->indent + INDENT + (f->continues ? INDENT : 0);
    if (inner->hangs) return closes ? inner->indent : inner->indent + INDENT;
    return inner->column;
}

static void begin_line(Formatter *f, Piece piece) {
    bool opened = !f->out->length || (f->before.kind == PIECE_OPERATOR && is(f->before, "{"));
    if (f->blank_lines > 1 && !opened && !is(piece, "}")) lv_text_putc(f->out, '\n');
    f->column = 0;
    // a comment among continuation lines stands where the next line will
    f->indent = line_indent(f, piece);
    if ((!f->depth || innermost(f) == '{') && !f->continues) f->statement_indent = f->indent;
    write_spaces(f, f->indent);
    f->line_empty = false;
    f->before = (Piece){0};
    f->before_is_unary = false;
}

static bool opens_record(const Formatter *f) {
    return f->before.kind != PIECE_NONE && (is(f->before, "return") || is(f->before, "->"));
}

static void track(Formatter *f, Piece piece) {
    if (piece.kind != PIECE_OPERATOR || piece.length != 1) return;
    char c = *piece.at;
    if (c == '(' || c == '[' || c == '{') {
        if (f->depth == MAX_BRACKETS) return;
        char open = c == '{' && opens_record(f) ? 'r' : c;
        const char *next = f->at;
        while (next < f->end && (*next == ' ' || *next == '\t' || *next == '\r')) next++;
        bool hangs = next >= f->end || *next == '\n' || (*next == '/' && next + 1 < f->end && next[1] == '/');
        f->stack[f->depth++] = (Bracket){open, f->column + 1, open == '{' ? f->statement_indent : f->indent, hangs};
    } else if ((c == ')' || c == ']' || c == '}') && f->depth) {
        f->depth--;
    }
}

// A line goes on in the next one outside of brackets if it ends in an operator.
static bool line_continues(const Formatter *f, Piece last) {
    if (f->depth && f->stack[f->depth - 1].open != '{') return f->continues;
    if (last.kind == PIECE_KEYWORD) return !is(last, "return");
    return last.kind == PIECE_OPERATOR && !is(last, ")") && !is(last, "]") && !is(last, "}") && !is(last, "{") && !is(last, ";") && !is(last, "...");
}

static void write_piece(Formatter *f, Piece piece) {
    if (f->line_empty) begin_line(f, piece);
    else if (space_between(f, f->before, piece)) write_spaces(f, piece.kind == PIECE_COMMENT ? 2 : 1);
    bool unary = piece.kind == PIECE_OPERATOR && is(piece, "-") && !ends_operand(f->before);
    track(f, piece);
    lv_text_append(f->out, piece.at, piece.length);
    f->column += (int)piece.length;
    if (piece.kind == PIECE_COMMENT) return;
    f->before = piece;
    f->before_is_unary = unary;
}

void syntax_format(const SyntaxTree *tree, const LvSources *sources, LvText *out) {
    const LvSource *source = &sources->files.data[tree->file];
    Formatter f = {.at = source->text, .end = source->text + source->length, .out = out, .line_empty = true};
    for (Piece piece; (piece = next_piece(&f)).kind != PIECE_END;) {
        if (piece.kind != PIECE_NEWLINE) {
            write_piece(&f, piece);
            f.blank_lines = 0;
            continue;
        }
        if (!f.line_empty) {
            lv_text_putc(out, '\n');
            f.continues = f.before.kind != PIECE_NONE && line_continues(&f, f.before);
        }
        f.line_empty = true;
        f.blank_lines++;
    }
    if (!f.line_empty) lv_text_putc(out, '\n');
}
