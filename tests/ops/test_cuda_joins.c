// A convolution's kernel whose blocks meet (template_conv_join.c), and whose threads and warps join
// moments of what they store (template_conv_moments.c), or multiply in groups of warps
// (template_conv_group.c), and the same text made wrong, which must
// fail: a fence or a counter less gives wrong results, counters that are not zero when it ends, or
// a race that the stand-ins name (LV_CUDA_SIM_CHECK=2). Each form runs in a process of
// its own, `test_cuda_joins --form N`. Skipped where the stand-ins are not on the path.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cases.h"
#include "codegen/cuda/template_conv.h"
#include "cuda_device.h"

typedef struct {
    const char *what, *from, *to;  // the first `from` of the text becomes `to`
    const char *said;  // part of what the stand-ins say; NULL: wrong results or counters, or any race
    const char *cut;   // this is cut out of it too
} Form;

static const Form forms[] = {
    {"as it is", "", "", NULL, ""},
    {"no fence before it counts itself", "  __threadfence();\n  __syncthreads();",
     "  __syncthreads();", "race in device memory: read", ""},
    {"no fence after counting", "*done = 0;\n    __threadfence();", "*done = 0;",
     "race in device memory: read", "if (!lv_have_come(scratch, counter, 1, last))"},
    {"a counter that is not cleared", "if (*last) *done = 0;", "", NULL, ""},
    {"tiles share counters", "counter = tile * ", "counter = 0 * ", NULL, ""},
    {"all meetings at one counter", "(mine | d) - 1", "0", NULL, ""},
    {"the first goes on", "counter, 2, last", "counter, 1, last", NULL, ""},
    {"the first leaves nothing", "if (!lv_have_come(", "if (false && !lv_have_come(", NULL, ""},
    {"its own sums twice", "left + (other *", "left + (mine *", NULL, ""},
    {"rows leave while others read", "  __syncthreads();\n  return true;", "  return true;",
     "race in shared memory", ""},
    {"does not wait for a copy", "LV_COPY_WAIT(0);\n      #pragma", "      #pragma", "", ""},
    {"no sums of the odd one", "if (other >= 5)", "if (other >= 4)", NULL, ""},
    {"warps join before the last has left its own", "  __syncthreads();\n  conv_moments(",
     "  conv_moments(", "race in shared memory", ""},
    {"lanes do not join", "d < 32; d *= 2, rows", "d < 16; d *= 2, rows", NULL, ""},
    {"as if each had half the rows", "0.5f * rows", "0.25f * rows", NULL, ""},
    {"warps do not join", "d < 2; d *= 2", "d < 1; d *= 2", NULL, ""},
    {"begins anew with each row", "i == 0 && g == 0", "g == 0", NULL, ""},
    {"no difference of the means", "fmaf(d * d,", "fmaf(0.0f,", NULL, ""},
    {"of what is not rounded", "v[i] = lv_from_bf16(lv_to_bf16(v[i]));", "", NULL, ""},
    {"all strips in one place", "squares[(int)strip", "squares[(int)0", NULL, ""},
    {"copies not shown to tensor cores", "    lv_fence_proxy_async();\n", "",
     "no fence.proxy.async shows", ""},
    {"no barrier before a slice", "lv_fence_proxy_async();\n    __syncthreads();",
     "lv_fence_proxy_async();", "race in shared memory", ""},
    {"sums not fenced", "    lv_wgmma_fence();\n", "", "without wgmma.fence", ""},
    {"does not wait before the next copies", "    LV_WGMMA_WAIT(1);\n", "", NULL, ""},
    {"does not wait for the last", "  LV_WGMMA_WAIT(0);\n", "", NULL, ""},
    {"shared memory as it comes", "(unsigned short *)lv_align_shared(shared)", "shared",
     "no multiple of 1024", ""},
    {"a slice's place is filled too early", "next = next + 1 == 3 ? 0 : next + 1", "next = now", NULL,
     ""},
};
enum {
    FORMS = sizeof forms / sizeof *forms,
    RIGHT = 0,
    WRONG = 1,
    OF_MOMENTS = 12,  // forms from this one on, and the right one: with moments
    OF_GROUPS = 20,   // from this one on: by groups of warps
    NO_PLACE = 7,
    SPLITS = 5
};

typedef enum { PLAIN, MOMENTS, GROUPS, KINDS } Kind;
static const int tiles[KINDS] = {5, 5, 12};

// Processes: all forms, and the right one of the other kinds.
enum { PROCESSES = FORMS + KINDS - 1 };
static Kind kind_of(int process) {
    if (process >= FORMS) return (Kind)(process - FORMS + 1);
    return process >= OF_GROUPS ? GROUPS : process >= OF_MOMENTS ? MOMENTS : PLAIN;
}

// Without moments the last rows of a tile are no pixels.
static const char *const lines[KINDS] = {
    "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true} bf16[1, 96, 9, 9] bf16[72, 96, 3, "
    "3] bf16[72]",
    "conv2d_moments {stride = [1, 1], pad = [1, 1, 1, 1], bias = true, strips = 1} "
    "bf16[2, 96, 8, 8] bf16[72, 96, 3, 3] f32[72]:9:12",
    "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true} bf16[1, 96, 9, 9] bf16[72, 96, 3, "
    "3] bf16[72]",
};

static const char *replaced(const char *text, const char *from, const char *to, LvArena *arena) {
    const char *at = strstr(text, from);
    if (!at) exit(NO_PLACE);
    return lv_arena_printf(arena, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

static void put(CuPointer to, const Value *v, const Tensor *t) {
    int64_t n = lv_shape_elements(v->shape), index[LV_MAX_RANK];
    char *bytes = lv_calloc((size_t)n * 4 + 4, 1);
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = i;
        for (int k = v->shape.rank - 1; k >= 0; k--)
            index[k] = rest % v->shape.dim[k], rest /= v->shape.dim[k];
        lv_element_set(bytes, v->dtype, lv_layout_offset(v->layout, v->shape, index), t->f[i]);
    }
    cuda_device_put(to, bytes, (size_t)n * lv_dtype_size(v->dtype));
    free(bytes);
}

static bool is_right(const char *bytes, const Value *y, const Tensor *want) {
    int64_t index[4];
    double most = 0, apart = 0;
    for (int64_t i = 0, n = lv_shape_elements(y->shape); i < n; i++) {
        int64_t rest = i;
        for (int k = 3; k >= 0; k--)
            index[k] = rest % y->shape.dim[k], rest /= y->shape.dim[k];
        double off =
            fabs(lv_element_get(bytes, y->dtype, lv_layout_offset(y->layout, y->shape, index)) -
                 want->f[i]);
        if (!(off <= apart)) apart = off;
        if (fabs(want->f[i]) > most) most = fabs(want->f[i]);
    }
    return apart <= most / 128;
}

static double get(const char *bytes, const Value *v, int64_t b, int64_t c, int64_t i, int64_t j) {
    int64_t at = lv_layout_offset(v->layout, v->shape, (int64_t[]){b, c, i, j});
    return lv_element_get(bytes, v->dtype, at);
}

// Of what is stored, a strip a picture, as exact as f32 is.
static bool are_moments(const char *bytes, const Value *y, const float *means,
                        const float *squares) {
    const int64_t *d = y->shape.dim, n = d[2] * d[3];
    for (int64_t at = 0; at < d[0] * d[1]; at++) {
        double mean = 0, square = 0;
        for (int64_t i = 0; i < n; i++)
            mean += get(bytes, y, at / d[1], at % d[1], i / d[3], i % d[3]) / (double)n;
        for (int64_t i = 0; i < n; i++)
            square += pow(get(bytes, y, at / d[1], at % d[1], i / d[3], i % d[3]) - mean, 2);
        if (!(fabs(means[at] - mean) <= 1e-6 * fabs(mean))) return false;
        if (!(fabs(squares[at] - square) <= 4e-6 * square)) return false;
    }
    return true;
}

static Graph *make_graph(const OpCase *c) {
    Graph *graph = case_graph(c);
    for (int i = 0; i < 2; i++)
        graph->last->inputs[i]->layout = lv_layout_nhwc();
    graph->last->results[0].layout = lv_layout_nhwc();
    return graph;
}

static size_t bytes_of(const Value *v) {
    return (size_t)lv_shape_elements(v->shape) * lv_dtype_size(v->dtype);
}

// The kernel's text as the form has it.
static const char *print_form(const Form *form, Kind kind, const Conv *conv, CudaKernel *made,
                              LvArena *arena) {
    ConvTile tile = conv_tile(conv, tiles[kind], SPLITS);
    LvText text = {0};
    cuda_put_prelude(&text);
    conv_print(conv, &tile, "conv", &text, made);
    const char *right = lv_arena_printf(arena, "%s", lv_text_get(&text));
    lv_text_free(&text);
    return replaced(replaced(right, form->from, form->to, arena), form->cut, "", arena);
}

// RIGHT or WRONG, or NO_PLACE.
static int try_form(const Form *form, Kind kind, const OpCase *c, Graph *graph, CudaKernel *made,
                    LvArena *arena) {
    CudaDevice device;
    Conv conv;
    const Node *node = graph->last;
    if (!cuda_device_open(&device)) return NO_PLACE;
    if (!conv_read(node, &(Target){.cuda = true, .sm = device.sm}, &conv)) return NO_PLACE;
    CuModule module = cuda_device_compile(&device, print_form(form, kind, &conv, made, arena));

    enum { BYTES = 2 * 9 * 9 * 72 * 2, INPUTS = 3 };
    static float found[2][2 * 72];
    unsigned long long parameters[7];
    int count = 0;
    TensorSet inputs = {0}, want;
    const Value *y = &node->results[0];
    parameters[count++] = cuda_device_memory(BYTES, 0xFF);
    for (int i = 0; i < INPUTS; i++) {
        Tensor *input = case_input(c, i);
        set_add(&inputs, lv_arena_printf(arena, "x%d", i), input);
        parameters[count] = cuda_device_memory(bytes_of(node->inputs[i]), 0xFF);
        put(parameters[count++], node->inputs[i], input);
    }
    for (int i = 1; i < node->result_count; i++)
        parameters[count++] = cuda_device_memory(sizeof found[0], 0xFF);
    evaluate_set(graph, false, &inputs, &want, arena);
    char head[LV_SCRATCH_HEAD] = {0}, bytes[BYTES];
    CuPointer scratch = cuda_device_memory((size_t)made->scratch + LV_SCRATCH_HEAD, 0xFF);
    cuda_device_put(scratch, head, sizeof head);
    parameters[count++] = scratch + LV_SCRATCH_HEAD;
    cuda_device_launch(module, "conv", made->launches.data, made->launches.count, parameters,
                       count, form->what);
    cuda_device_get(bytes, parameters[0], bytes_of(y));
    for (int i = 1; i < node->result_count; i++)
        cuda_device_get(found[i - 1], parameters[INPUTS + i], sizeof found[0]);
    cuda_device_get(head, scratch, sizeof head);
    for (size_t i = 0; i < sizeof head; i++)
        if (head[i]) return WRONG;
    if (kind == MOMENTS && !are_moments(bytes, y, found[0], found[1])) return WRONG;
    return is_right(bytes, y, want.at[0].tensor) ? RIGHT : WRONG;
}

static int run_form(const Form *form, Kind kind) {
    LvArena *arena = lv_arena_create();
    OpCase *c = case_parse(lines[kind], arena);
    Graph *graph = make_graph(c);
    CudaKernel made = {0};
    int status = try_form(form, kind, c, graph, &made, arena);
    cuda_kernel_free(&made);
    graph_destroy(graph);
    lv_arena_destroy(arena);
    return status;
}

// ---- the processes

static int run_process(int number, char *said, size_t room) {
    int ends[2], status;
    char argument[16];
    snprintf(argument, sizeof argument, "%d", number);
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], 1), dup2(ends[1], 2);
        close(ends[0]), close(ends[1]);
        setenv("LV_CUDA_SIM_CHECK", "2", 1);
        execl("/proc/self/exe", "test_cuda_joins", "--form", argument, (char *)NULL);
        _exit(NO_PLACE);
    }
    close(ends[1]);
    size_t length = 0;
    char rest[512];
    for (ssize_t n; (n = read(ends[0], rest, sizeof rest)) > 0;)
        for (ssize_t i = 0; i < n && length + 1 < room; i++)
            said[length++] = rest[i];
    said[length] = 0;
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void wrong_forms_fail(void **state) {
    (void)state;
    const char *path = getenv("LD_LIBRARY_PATH");
    if (!path || !strstr(path, "cuda_sim")) skip();
    for (int i = 0; i < PROCESSES; i++) {
        char said[4096];
        bool right = i == 0 || i >= FORMS;
        const Form *form = &forms[right ? 0 : i];
        int status = run_process(i, said, sizeof said);
        if (status == NO_PLACE) fail_msg("%s: the text has no such place", form->what);
        if (right && status != RIGHT) fail_msg("%s: exit %d\n%s", form->what, status, said);
        if (!right && !form->said && status != WRONG && !strstr(said, "race in"))
            fail_msg("%s: not noticed: exit %d\n%s", form->what, status, said);
        if (!right && form->said && (status == RIGHT || !strstr(said, form->said)))
            fail_msg("%s: not noticed as a race: exit %d\n%s", form->what, status, said);
    }
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "--form")) {
        int number = atoi(argv[2]) % PROCESSES;
        return run_form(&forms[number >= FORMS ? 0 : number], kind_of(number));
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(wrong_forms_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
