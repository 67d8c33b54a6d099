// Every op on a GPU against the reference evaluation: the cases of cases.c with their gradients, and the golden cases. Where there is
// no GPU, tests/cuda_sim/run puts stand-ins for its libraries in the way; without either all is skipped.
//
// To compile a few hundred small plans would take minutes, so the cases are taken together: PART cases are one graph, with their own
// inputs and results, and become one plan. Each is run fused, and once more with a kernel a node.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend.h"
#include "device/device.h"
#include "golden.h"

enum { PART = 48 };

static LvDevice *device;  // NULL: none here
static const char *device_name;
static LvError reason;    // why
static GoldenCases golden;

typedef struct {
    LvArena *arena;
    Graph *graph;
    Graph *own[PART];                // the cases' graphs: names are theirs
    int count;
    OpCase *cases[PART];             // NULL: a golden case
    const GoldenCase *golden[PART];
    TensorSet inputs[PART], want[PART], got[PART];
    BackendPart parts[PART];
} Batch;

static void add(Batch *b, const Graph *graph) {
    char prefix[16];
    int i = b->count++;
    snprintf(prefix, sizeof prefix, "%d:", i);
    graph_append(b->graph, graph, prefix);
    b->parts[i] = (BackendPart){lv_arena_strdup(b->arena, prefix), &b->inputs[i], &b->got[i]};
}

static void add_case(Batch *b, const char *text) {
    int at = b->count;
    OpCase *c = b->cases[at] = case_parse(text, b->arena);
    TensorSet *inputs = &b->inputs[at];
    for (int i = 0; i < c->input_count; i++) set_add(inputs, lv_arena_printf(b->arena, "x%d", i), case_input(c, i));
    Graph *graph = b->own[at] = case_graph(c);
    if (backend_has_gradient(c)) case_differentiate(graph, c, 1, b->arena, inputs);
    evaluate_set(graph, false, inputs, &b->want[at], b->arena);
    add(b, graph);
}

static void add_golden(Batch *b, const GoldenCase *c) {
    int at = b->count;
    b->golden[at] = c;
    b->inputs[at] = c->inputs;
    add(b, c->graph);
}

static bool compare(const Batch *b, int i, const char *how, LvText *message) {
    const GoldenCase *c = b->golden[i];
    if (b->cases[i]) return backend_compare(b->cases[i], &b->inputs[i], &b->want[i], &b->got[i], how, message);
    for (int k = 0; k < c->want.count; k++) {
        const char *name = c->want.at[k].name;
        double apart = tensor_distance(set_find(&b->got[i], name), c->want.at[k].tensor);
        if (apart <= (!strncmp(name, "grad_", 5) ? 1e-4 : 1e-5)) continue;
        lv_text_printf(message, "%s: %s %s is off by %g", c->name, name, how, apart);
        return false;
    }
    return true;
}

static int run(Batch *b, bool no_fuse, LvText *message) {
    LvError error = {0};
    Graph *copy = graph_copy(b->graph);
    const char *how = no_fuse ? "a kernel a node" : "fused";
    bool good = backend_run(device, device->target, copy, no_fuse, b->parts, b->count, b->arena, &error);
    graph_destroy(copy);
    if (!good) {
        lv_text_printf(message, "%s%s: %s", message->length ? "\n" : "", how, error.message ? error.message : "no plan");
        lv_error_clear(&error);
        lv_device_close(device);  // a fault takes the context with it
        device = NULL;
        if (!lv_device_open(device_name, 0, &device, &error)) fail_msg("%s: and the device does not open again", error.message);
        return 1;
    }
    int wrong = 0;
    for (int i = 0; i < b->count; i++) {
        LvText one = {0};
        if (!compare(b, i, how, &one)) lv_text_printf(message, "%s%s", message->length ? "\n" : "", lv_text_get(&one)), wrong++;
        lv_text_free(&one);
    }
    return wrong;
}

static void finish(Batch *b) {
    LvText message = {0};
    int wrong = run(b, false, &message);
    wrong += run(b, true, &message);
    for (int i = 0; i < b->count; i++)
        if (b->own[i]) graph_destroy(b->own[i]);
    graph_destroy(b->graph);
    lv_arena_destroy(b->arena);
    if (wrong) fail_msg("%s", lv_text_get(&message));
    lv_text_free(&message);
}

static Batch begin(void) {
    return (Batch){.arena = lv_arena_create(), .graph = graph_create("cases")};
}

static void test_cases(void **state) {
    if (!device) skip();
    const char *const *first = *state;
    int left = op_case_count - (int)(first - op_cases);
    Batch b = begin();
    for (int i = 0; i < PART && i < left; i++) add_case(&b, first[i]);
    finish(&b);
}

static void test_golden(void **state) {
    if (!device) skip();
    int first = *(int *)*state;
    Batch b = begin();
    for (int i = 0; i < PART && first + i < golden.count; i++) add_golden(&b, &golden.cases[first + i]);
    finish(&b);
}

// test_cuda TEXT: only the cases whose line has TEXT in it, each by itself.
static void test_one(void **state) {
    if (!device) skip();
    Batch b = begin();
    add_case(&b, *state);
    finish(&b);
}

int main(int argc, char **argv) {
    LvArena *arena = lv_arena_create();
    golden = golden_load(arena);
    device_name = getenv("LV_TEST_DEVICE") ? getenv("LV_TEST_DEVICE") : "cuda";
    if (!lv_device_open(device_name, 0, &device, &reason)) fprintf(stderr, "# skipped: %s\n", reason.message);
    struct CMUnitTest *tests = lv_calloc((size_t)(op_case_count + golden.count) + 1, sizeof *tests);
    int *firsts = lv_calloc((size_t)golden.count + 1, sizeof *firsts);
    size_t count = 0;
    for (int i = 0; i < op_case_count; i++) {
        void *at = (void *)(argc > 1 ? (uintptr_t)op_cases[i] : (uintptr_t)&op_cases[i]);
        if (argc > 1 && !strstr(op_cases[i], argv[1])) continue;
        if (argc == 1 && i % PART) continue;
        tests[count++] = (struct CMUnitTest){lv_arena_printf(arena, argc > 1 ? "%s" : "from %s", op_cases[i]), argc > 1 ? test_one : test_cases, NULL, NULL, at};
    }
    for (int i = 0; i < golden.count && argc == 1; i += PART) {
        firsts[i] = i;
        tests[count++] = (struct CMUnitTest){lv_arena_printf(arena, "golden from %s", golden.cases[i].name), test_golden, NULL, NULL, &firsts[i]};
    }
    int failed = _cmocka_run_group_tests("cuda", tests, count, NULL, NULL);
    free(tests), free(firsts);
    golden_free(&golden);
    lv_arena_destroy(arena);
    lv_device_close(device);
    lv_error_clear(&reason);
    return failed;
}
