// lvrun generate: text that a language model writes, a token at a time. The model has two entries that share caches:
//   begin(prompt: i32[B, P], count: i32[], …) -> {token: i32[B], left: i32[]}   anew: reads the first `count` tokens
//   next(token: i32[B], …) -> {token: i32[B], left: i32[]}                      reads one more
// Each gives the token that it chooses, and how many more can be read before the caches are full; `begin` then reads the end of
// what has been written, as much as it takes. Both may take seed i64[B], temperature f32[B], top_k i32[B] and top_p f32[B].
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "companions.h"
#include "session.h"

static const OptionSpec specs[] = {
    {"prompt", OPTION_VALUE, "TEXT", "what the text begins with (default: the beginning of a text)"},
    {"length", OPTION_VALUE, "N", "tokens to write, bytes where there is no tokenizer (default 256); fewer if the text ends"},
    {"temperature", OPTION_VALUE, "T", "divides the logits: below 1 bolder, above 1 wilder, 0 greedy (default 1)"},
    {"top-k", OPTION_VALUE, "K", "choose among the K likeliest tokens (default 0: all)"},
    {"top-p", OPTION_VALUE, "P", "among the fewest tokens that have this much of the probability (default 1: all)"},
    {"tokenizer", OPTION_VALUE, "FILE", "tokenizer.json, in place of the checkpoint's own"},
    SESSION_OPTIONS,
    {0},
};

typedef struct {
    LvPlan *plan;
    LvProgram *program;
} Entry;

typedef struct {
    Session *session;
    Companions companions;
    Entry begin, next;
    LvTokenIds ids;         // prompt and text
    int32_t *prompt;        // [window], of `begin`
    int64_t window, length, seed;
    int32_t end;            // ends a text; -1: nothing does
    float temperature, top_p;
    int32_t top_k, left;
} Generate;

static bool read_options(Generate *g, const Options *options, LvError *error) {
    int64_t top_k = 0;
    double temperature = 1, top_p = 1;
    g->length = 256, g->seed = 42;
    if (!options_integer(options, "length", 1, INT32_MAX, &g->length, error) ||
        !options_integer(options, "seed", INT64_MIN, INT64_MAX, &g->seed, error) ||
        !options_integer(options, "top-k", 0, INT32_MAX, &top_k, error) ||
        !options_number(options, "temperature", &temperature, error) || !options_number(options, "top-p", &top_p, error)) {
        return false;
    }
    if (!(temperature >= 0)) return lv_error_set(error, LV_ERROR_USAGE, "--temperature is 0 or more, not %g", temperature);
    if (!(top_p > 0 && top_p <= 1)) return lv_error_set(error, LV_ERROR_USAGE, "--top-p is above 0 and at most 1, not %g", top_p);
    g->temperature = (float)temperature, g->top_p = (float)top_p, g->top_k = (int32_t)top_k;
    return true;
}

// ---- the model's entries

static const LvPort *find(const LvPort *ports, int count, const char *name, LvDType dtype, int rank) {
    for (int i = 0; i < count; i++) {
        if (!strcmp(ports[i].name, name) && ports[i].dtype == dtype && ports[i].shape.rank == rank) return &ports[i];
    }
    return NULL;
}

static bool refuse(const Entry *entry, LvError *error) {
    const LvPlan *p = entry->plan;
    lv_error_set(error, LV_ERROR_UNSUPPORTED, "entry '%s' of %s is none that writes text", p->entry, p->model);
    return lv_error_hint(error, "begin(prompt: i32[B, P], count: i32[], …) and next(token: i32[B], …), both -> {token: i32[B], left: "
                                "i32[]}; … of seed i64[B], temperature f32[B], top_k i32[B], top_p f32[B]. See examples/gpt.lv");
}

// How tokens are chosen is the same for all of them.
static bool set_choice(const Generate *g, const Entry *entry, LvError *error) {
    const struct {
        const char *name;
        LvDType dtype;
        const void *value;
        size_t bytes;
    } choice[] = {{"seed", LV_I64, &g->seed, sizeof g->seed},
                  {"temperature", LV_F32, &g->temperature, sizeof g->temperature},
                  {"top_k", LV_I32, &g->top_k, sizeof g->top_k},
                  {"top_p", LV_F32, &g->top_p, sizeof g->top_p}};
    int known = 0, count = entry->plan->input_count;
    for (int i = 0; i < count; i++) known += entry->plan->inputs[i].name[0] == '$';
    for (int i = 0; i < 4; i++) {
        if (!find(entry->plan->inputs, count, choice[i].name, choice[i].dtype, 1)) continue;
        if (!lv_program_set_input(entry->program, choice[i].name, choice[i].value, choice[i].bytes, error)) return false;
        known++;
    }
    known += entry->plan->entry[0] == 'b' ? 2 : 1;  // prompt and count; token
    return known == count || refuse(entry, error);
}

static bool open_entry(Generate *g, const char *name, Entry *entry, LvError *error) {
    if (!session_program(g->session, name, 1, &entry->plan, &entry->program, error)) return false;
    const LvPlan *p = entry->plan;
    return (find(p->results, p->result_count, "token", LV_I32, 1) && find(p->results, p->result_count, "left", LV_I32, 0)) ||
           refuse(entry, error);
}

static bool open_entries(Generate *g, LvError *error) {
    if (!open_entry(g, "begin", &g->begin, error) || !open_entry(g, "next", &g->next, error)) return false;
    const LvPlan *p = g->begin.plan;
    const LvPort *prompt = find(p->inputs, p->input_count, "prompt", LV_I32, 2);
    const LvPort *count = find(p->inputs, p->input_count, "count", LV_I32, 0);
    if (!prompt || prompt->shape.dim[1] < 1 || !count) return refuse(&g->begin, error);
    if (!find(g->next.plan->inputs, g->next.plan->input_count, "token", LV_I32, 1)) return refuse(&g->next, error);
    g->window = prompt->shape.dim[1];
    g->prompt = lv_calloc((size_t)g->window, sizeof *g->prompt);
    session_tell_memory(g->session);
    return set_choice(g, &g->begin, error) && set_choice(g, &g->next, error);
}

// ---- text and tokens

static bool check_vocabulary(const Generate *g, LvError *error) {
    const LvTokenizer *t = g->companions.tokenizer;
    int64_t has, wanted = t ? lv_tokenizer_vocabulary(t) : 256;
    if (!model_find_integer(g->session->open.model, "vocab", &has) || has == wanted || (!t && has < wanted)) return true;
    lv_error_set(error, LV_ERROR_USAGE, "the model's vocab is %" PRId64 ", and %s %" PRId64, has,
                 t ? "the tokenizer's" : "there is no tokenizer; the bytes of a text are", wanted);
    return lv_error_hint(error, "--tokenizer FILE names the one that the model was trained with");
}

static bool read_prompt(Generate *g, LvError *error) {
    const char *text = options_get(&g->session->options, "prompt", "");
    const LvTokenizer *t = g->companions.tokenizer;
    int64_t vocabulary = INT32_MAX;
    g->end = t ? lv_tokenizer_end(t) : 0;
    if (t && !lv_tokenizer_encode(t, text, strlen(text), 0, &g->ids, error)) return lv_error_prefix(error, "--prompt");
    for (const char *c = text; !t && *c; c++) lv_vec_push(&g->ids, (unsigned char)*c);
    if (!g->ids.count && g->end < 0)
        return lv_error_set(error, LV_ERROR_USAGE, "--prompt is missing: the tokenizer has no token that ends a text before it");
    if (!g->ids.count) lv_vec_push(&g->ids, g->end);
    model_find_integer(g->session->open.model, "vocab", &vocabulary);
    for (size_t i = 0; i < g->ids.count; i++) {
        if (g->ids.data[i] < vocabulary) continue;
        return lv_error_set(error, LV_ERROR_USAGE, "--prompt holds the id %d, and the model's vocab is %" PRId64, g->ids.data[i],
                            vocabulary);
    }
    return true;
}

// Bytes go out as they come; tokens all at the end, as only together they are whole characters.
static void print_byte(const Generate *g, int32_t id) {
    if (g->companions.tokenizer || id == g->end) return;
    putchar(id);
    fflush(stdout);
}

static bool print_rest(const Generate *g, LvError *error) {
    LvText text = {0};
    const LvTokenizer *t = g->companions.tokenizer;
    bool good = !t || lv_tokenizer_decode(t, g->ids.data, g->ids.count, LV_DECODE_SKIP_SPECIALS, &text, error);
    if (good) printf("%s\n", lv_text_get(&text));
    fflush(stdout);  // before what is said of it
    lv_text_free(&text);
    return good;
}

// ---- a token

static bool set_prompt(Generate *g, LvError *error) {
    int32_t count = (int32_t)((int64_t)g->ids.count < g->window ? (int64_t)g->ids.count : g->window);
    memcpy(g->prompt, g->ids.data + g->ids.count - count, (size_t)count * sizeof *g->prompt);
    return lv_program_set_input(g->begin.program, "prompt", g->prompt, (size_t)g->window * sizeof *g->prompt, error) &&
           lv_program_set_input(g->begin.program, "count", &count, sizeof count, error);
}

static bool choose(Generate *g, int32_t number, int32_t *token, LvError *error) {
    LvProgram *program = g->left > 0 ? g->next.program : g->begin.program;
    const int32_t *last = &g->ids.data[g->ids.count - 1];
    bool good = (g->left > 0 ? lv_program_set_input(program, "token", last, sizeof *last, error) : set_prompt(g, error)) &&
                lv_program_set_input(program, "$step", &number, sizeof number, error) && lv_program_run(program, error) &&
                lv_program_get_result(program, "token", token, sizeof *token, error) &&
                lv_program_get_result(program, "left", &g->left, sizeof g->left, error);
    if (!good || g->companions.tokenizer || (*token >= 0 && *token < 256)) return good;
    lv_error_set(error, LV_ERROR_USAGE, "the model writes the id %d, which is no byte", *token);
    return lv_error_hint(error, "--tokenizer FILE names the one that the model was trained with");
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool write_text(Generate *g, LvError *error) {
    double start = now();
    int32_t made = 0, token = -1;
    for (size_t i = 0; i < g->ids.count; i++) print_byte(g, g->ids.data[i]);
    while (made < g->length) {
        if (!choose(g, made + 1, &token, error)) return false;
        made++;
        if (token == g->end) break;
        lv_vec_push(&g->ids, token);
        print_byte(g, token);
    }
    double seconds = now() - start;
    if (!print_rest(g, error)) return false;
    fprintf(stderr, "%d tokens in %.2f s, %.0f a second%s\n", made, seconds, made / fmax(seconds, 1e-9),
            token == g->end ? "; the text ended" : "");
    return true;
}

static bool generate(Session *session, LvError *error) {
    Generate g = {.session = session};
    const char *tokenizer = options_get(&session->options, "tokenizer", NULL);
    bool good = read_options(&g, &session->options, error) &&
                companions_open(&g.companions, &session->open, tokenizer, NULL, error) &&
                check_vocabulary(&g, error) && read_prompt(&g, error) && open_entries(&g, error) && write_text(&g, error);
    lv_program_destroy(g.begin.program);
    lv_program_destroy(g.next.program);
    lv_plan_destroy(g.begin.plan);
    lv_plan_destroy(g.next.plan);
    companions_close(&g.companions);
    lv_vec_free(&g.ids);
    free(g.prompt);
    return good;
}

int cmd_generate(int argc, char **argv) {
    static const SessionCommand command = {
        "lvrun generate MODEL [--prompt TEXT] [options]",
        "Writes text by a language model's entries `begin` and `next`: the prompt and what the model goes on with. Of a prompt\n"
        "that is longer than the model takes, it reads the end.",
        "  lvrun generate runs/gpt/checkpoints/best.safetensors --prompt \"static bool \" --length 400 --temperature 0.8\n"
        "  lvrun generate runs/gpt/checkpoints/best.safetensors --temperature 0      the likeliest text, from its beginning\n",
        specs, 0, generate, NULL};
    return session_main(&command, argc, argv);
}
