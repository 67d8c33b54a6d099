// The CUDA backend's library calls against plain sums in f64: products of all shapes, types, transposes and epilogues, sums among them,
// batches broadcast either way, and cross-entropy by blocks of rows. Skipped without a GPU: see test_cuda_runs.c.
#include <dirent.h>
#include <math.h>

#include "cuda_child.h"

#include "exec/program.h"
#include "io/cache.h"

static char folder[] = "/tmp/lv_test_cuda_calls_XXXXXX";

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static LvOperand operand(int64_t place, LvDType dtype, LvShape shape) {
    return (LvOperand){{LV_ARENA_ACTIVATIONS, place * 64}, dtype, shape, lv_layout_row_major()};
}

// ---- products

enum { Y, A, B, BIAS, RESIDUAL, SUMS, OPERANDS };

typedef struct {
    LvStep step;
    LvOperand operands[OPERANDS];  // in the order of the enumeration; the step has those that there are
    LvOperand given[OPERANDS];
    bool has[OPERANDS];
    void *host[OPERANDS], *memory[OPERANDS];
    size_t bytes[OPERANDS];
} Product;

static void fill(Product *p, int i, uint32_t *random) {
    int64_t count = lv_shape_elements(p->operands[i].shape);
    lv_shape_bytes(p->operands[i].shape, p->operands[i].dtype, &p->bytes[i]);
    p->host[i] = calloc(p->bytes[i] + 8, 1);
    for (int64_t k = 0; k < count; k++)
        lv_element_set(p->host[i], p->operands[i].dtype, k, ((int)(next_random(random) % 2001) - 1000) * 1e-3);
}

// Row-major index of element `at` of y in an operand whose batch dimensions are missing or 1.
static int64_t batch_offset(const Product *p, int i, const int64_t *at) {
    const LvShape *full = &p->operands[Y].shape, *own = &p->operands[i].shape;
    int64_t offset = 0;
    for (int d = 0; d < own->rank - 2; d++) {
        int from = full->rank - own->rank + d;
        offset = offset * own->dim[d] + (own->dim[d] == 1 ? 0 : at[from]);
    }
    return offset * own->dim[own->rank - 2] * own->dim[own->rank - 1];
}

static double activate(double x, LvActivation activation) {
    switch (activation) {
        case LV_ACTIVATION_RELU: return x < 0 ? 0 : x;
        case LV_ACTIVATION_SWISH: return x / (1 + exp(-x));
        case LV_ACTIVATION_GELU: return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
        default: return x;
    }
}

static double wanted(const Product *p, int64_t index) {
    const LvMatmulStep *m = &p->step.matmul;
    const LvShape *y = &p->operands[Y].shape, *a = &p->operands[A].shape, *b = &p->operands[B].shape;
    int64_t at[LV_MAX_RANK], rest = index, k_count = a->dim[m->transpose_a ? a->rank - 2 : a->rank - 1];
    for (int d = y->rank - 1; d >= 0; d--) at[d] = rest % y->dim[d], rest /= y->dim[d];
    int64_t row = at[y->rank - 2], column = at[y->rank - 1], in_a = batch_offset(p, A, at), in_b = batch_offset(p, B, at);
    double sum = 0;
    for (int64_t k = 0; k < k_count; k++) {
        int64_t ka = in_a + (m->transpose_a ? k * a->dim[a->rank - 1] + row : row * a->dim[a->rank - 1] + k);
        int64_t kb = in_b + (m->transpose_b ? column * b->dim[b->rank - 1] + k : k * b->dim[b->rank - 1] + column);
        sum += lv_element_get(p->host[A], p->operands[A].dtype, ka) * lv_element_get(p->host[B], p->operands[B].dtype, kb);
    }
    sum *= m->alpha;
    if (m->has_bias) sum += lv_element_get(p->host[BIAS], p->operands[BIAS].dtype, column);
    sum = activate(sum, m->activation);
    return m->has_residual ? sum + lv_element_get(p->host[RESIDUAL], p->operands[RESIDUAL].dtype, index) : sum;
}

static double wanted_sum(const Product *p, int64_t row) {
    const LvShape *a = &p->operands[A].shape;
    bool along = p->step.matmul.transpose_a;
    double sum = 0;
    for (int64_t k = 0; k < a->dim[along ? 0 : 1]; k++)
        sum += lv_element_get(p->host[A], p->operands[A].dtype, along ? k * a->dim[1] + row : row * a->dim[1] + k);
    return sum;
}

static bool in_place(const Product *p) {
    return p->has[RESIDUAL] && lv_place_equal(p->operands[RESIDUAL].place, p->operands[Y].place);
}

static void free_product(LvDevice *device, Product *p) {
    for (int i = 0; i < OPERANDS; i++) {
        if (p->memory[i] && !(i == RESIDUAL && in_place(p))) device->ops->release(device, p->memory[i], p->bytes[i]);
        free(p->host[i]);
    }
}

// Of a result, how far apart it is from what it should be.
static double off_by(LvDevice *device, const Product *p, int operand) {
    LvError error = {0};
    double apart = 0, size = 0;
    char *result = malloc(p->bytes[operand] + 1);
    child_must(device->ops->download(device, result, p->memory[operand], p->bytes[operand], &error), &error);
    for (int64_t i = 0; i < lv_shape_elements(p->operands[operand].shape); i++) {
        double want = operand == Y ? wanted(p, i) : wanted_sum(p, i), got = lv_element_get(result, p->operands[operand].dtype, i);
        apart += (got - want) * (got - want), size += want * want + 0.01;  // few numbers may all be small by chance
    }
    free(result);
    return sqrt(apart / (size > 0 ? size : 1));
}

// *by_library, if it is not NULL: whether the library made the sums.
static void run_product(LvDevice *device, Product *p, double tolerance, int number, bool *by_library) {
    LvError error = {0};
    LvCall *call;
    char *buffers[OPERANDS];
    int count = 0;
    for (int i = 0; i < OPERANDS; i++) {
        if (!p->has[i]) continue;
        p->given[count] = p->operands[i];
        if (i == RESIDUAL && in_place(p)) p->memory[i] = p->memory[Y];
        else child_must(device->ops->allocate(device, p->bytes[i], &p->memory[i], &error), &error);
        if (i != Y && i != SUMS) child_must(device->ops->upload(device, p->memory[i], p->host[i], p->bytes[i], &error), &error);
        buffers[count++] = p->memory[i];
    }
    p->step.operands = p->given, p->step.operand_count = count;
    child_must(device->ops->prepare(device, NULL, &p->step, &call, &error) && device->ops->call(device, call, buffers, &error),
               &error);
    double apart = off_by(device, p, Y), sums_apart = p->has[SUMS] ? off_by(device, p, SUMS) : 0;
    if (!(apart <= tolerance && sums_apart <= tolerance)) {
        LvText text = {0};
        for (int i = 0; i < OPERANDS; i++) {
            if (!p->has[i]) continue;
            lv_text_printf(&text, " %s", lv_dtype_name(p->operands[i].dtype));
            lv_shape_print(&text, p->operands[i].shape);
        }
        fprintf(stderr, "case %d:%s transposed %d %d, activation %d, alpha %g, in place %d, by %s: off by %g, sums by %g\n", number,
                text.data, p->step.matmul.transpose_a, p->step.matmul.transpose_b, p->step.matmul.activation,
                p->step.matmul.alpha, in_place(p), device->ops->describe(call), apart, sums_apart);
        _exit(CHILD_BAD);
    }
    if (by_library) *by_library = !strstr(device->ops->describe(call), "sums by a kernel");
    device->ops->discard(device, call);
}

// Batch dimensions of y; of a and b, each as long, 1, or (0 here) not there.
typedef struct {
    int64_t m, n, k;
    int rank;  // of the batch
    int64_t y[4], a[4], b[4];
} Size;

static const Size sizes[] = {
    {5, 3, 7, 0, {0}, {0}, {0}},
    {1, 1, 1, 0, {0}, {0}, {0}},
    {1, 33, 17, 0, {0}, {0}, {0}},
    {31, 1, 8, 0, {0}, {0}, {0}},
    {4, 6, 0, 0, {0}, {0}, {0}},
    {0, 6, 4, 0, {0}, {0}, {0}},
    {4, 0, 3, 0, {0}, {0}, {0}},
    {32, 24, 64, 0, {0}, {0}, {0}},
    {5, 3, 7, 1, {3}, {3}, {3}},
    {5, 3, 7, 1, {3}, {3}, {0}},
    {1, 5, 7, 1, {3}, {3}, {0}},
    {5, 3, 7, 1, {3}, {1}, {3}},
    {5, 3, 7, 1, {3}, {0}, {3}},
    {5, 3, 7, 1, {3}, {1}, {1}},
    {2, 9, 4, 2, {2, 3}, {2, 3}, {2, 3}},
    {2, 9, 4, 2, {2, 3}, {2, 3}, {0, 0}},
    {2, 9, 4, 2, {2, 3}, {2, 1}, {1, 3}},
    {2, 9, 4, 2, {2, 3}, {2, 1}, {2, 3}},
    {2, 9, 4, 2, {2, 3}, {2, 3}, {2, 1}},
    {2, 3, 4, 3, {2, 3, 2}, {2, 1, 2}, {0, 3, 2}},
    {2, 3, 4, 3, {2, 0, 2}, {2, 0, 2}, {0, 0, 0}},
    {3, 2, 5, 4, {2, 1, 3, 2}, {1, 1, 3, 1}, {2, 1, 1, 2}},
};

static LvShape shape_of(const Size *s, const int64_t *batch, int64_t rows, int64_t columns, bool is_y) {
    int64_t dim[LV_MAX_RANK];
    int rank = 0, first = 0;
    // a zero in front of an operand's batch is a dimension that it does not have; in y's it is one without elements
    while (!is_y && first < s->rank && batch[first] == 0 && s->y[first] != 0) first++;
    for (int i = first; i < s->rank; i++) dim[rank++] = batch[i];
    dim[rank++] = rows, dim[rank++] = columns;
    return lv_shape(rank, dim);
}

static double tolerance_of(const Product *p) {
    double most = 1e-6;
    for (int i = 0; i < OPERANDS; i++) {
        if (!p->has[i]) continue;
        double own = p->operands[i].dtype == LV_BF16 ? 1e-2 : p->operands[i].dtype == LV_F16 ? 2e-3 : 1e-6;
        if (own > most) most = own;
    }
    return most;
}

static void make_product(Product *p, const Size *s, uint32_t *random) {
    static const LvDType floats[] = {LV_F32, LV_BF16, LV_F16};
    static const int64_t places[OPERANDS] = {0, 1 << 16, 2 << 16, 3 << 16, 4 << 16};
    *p = (Product){.step = {.kind = LV_STEP_MATMUL, .label = "product", .kernel = -1}, .has = {true, true, true}};
    LvMatmulStep *m = &p->step.matmul;
    *m = (LvMatmulStep){.transpose_a = next_random(random) % 2,
                        .transpose_b = next_random(random) % 2,
                        .alpha = next_random(random) % 2 ? 1 : 0.25};
    m->has_bias = p->has[BIAS] = next_random(random) % 2;
    m->has_residual = p->has[RESIDUAL] = next_random(random) % 3 == 0;
    if (next_random(random) % 2) m->activation = (LvActivation)(next_random(random) % 4);
    LvDType types[OPERANDS];
    // one type for all, or any for each
    for (int i = 0, first = (int)(next_random(random) % 3), mixed = next_random(random) % 2; i < OPERANDS; i++)
        types[i] = floats[mixed ? next_random(random) % 3 : (uint32_t)first];
    uint32_t other = next_random(random) % 16;
    for (int i = 0; other < 3 && i < OPERANDS; i++) types[i] = other == 0 ? LV_F64 : other == 1 ? LV_I32 : LV_F32;
    p->operands[Y] = operand(places[Y], types[Y], shape_of(s, s->y, s->m, s->n, true));
    p->operands[A] =
        operand(places[A], types[A], shape_of(s, s->a, m->transpose_a ? s->k : s->m, m->transpose_a ? s->m : s->k, false));
    p->operands[B] =
        operand(places[B], types[B], shape_of(s, s->b, m->transpose_b ? s->n : s->k, m->transpose_b ? s->k : s->n, false));
    p->operands[BIAS] = operand(places[BIAS], types[BIAS], lv_shape(1, &s->n));
    bool at_y = next_random(random) % 2 && types[RESIDUAL] == types[Y];
    p->operands[RESIDUAL] = operand(at_y ? places[Y] : places[RESIDUAL], types[RESIDUAL], p->operands[Y].shape);
    for (int i = 0; i < OPERANDS; i++) fill(p, i, random);
    if (types[Y] != LV_I32) return;
    for (int i = A; i < OPERANDS; i++)  // small whole numbers, and what keeps them whole
        for (int64_t k = 0; k < lv_shape_elements(p->operands[i].shape); k++)
            lv_element_set(p->host[i], LV_I32, k, next_random(random) % 7 - 3.0);
    m->alpha = 1;
    if (m->activation > LV_ACTIVATION_RELU) m->activation = LV_ACTIVATION_NONE;
}

// Sums in place of every other epilogue.
static void ask_for_sums(Product *p) {
    LvMatmulStep *m = &p->step.matmul;
    m->has_bias = m->has_residual = p->has[BIAS] = p->has[RESIDUAL] = false;
    m->activation = LV_ACTIVATION_NONE, m->alpha = 1;
    m->has_sums = p->has[SUMS] = true;
    p->operands[SUMS] = operand(5 << 16, p->operands[Y].dtype, lv_shape(1, p->operands[Y].shape.dim));
    lv_shape_bytes(p->operands[SUMS].shape, p->operands[SUMS].dtype, &p->bytes[SUMS]);
}

static int products(void *user) {
    enum { TURNS = 24, SIZES = sizeof sizes / sizeof *sizes };
    LvDevice *device = child_open();
    uint32_t random = 7;
    int by_library = 0, by_kernel = 0;
    (void)user;
    for (int i = 0; i < TURNS * SIZES; i++) {
        Product p;
        bool library;
        make_product(&p, &sizes[i % SIZES], &random);
        bool sums = sizes[i % SIZES].rank == 0 && i / SIZES % 3 == 2;
        if (sums) ask_for_sums(&p);
        run_product(device, &p, tolerance_of(&p), i, sums ? &library : NULL);
        if (sums) ++*(library ? &by_library : &by_kernel);
        free_product(device, &p);
    }
    child_require(by_kernel > 0 && (by_library > 0 || getenv("LV_CUDA_SIM_FAIL")));
    lv_device_close(device);
    return CHILD_GOOD;
}

static void test_products(void **state) {
    (void)state;
    child_test(products, NULL);
}

// The library gives no algorithm at every other time that it is asked: the next one asked for is simpler, and in the end there are
// plain sums.
static void test_without_algorithms(void **state) {
    (void)state;
    LvText trouble = {0};
    if (!child_simulated()) skip();
    for (int i = 1; i < 60; i += 2) lv_text_printf(&trouble, "%scublasLtMatmulAlgoGetHeuristic:%d", i > 1 ? "," : "", i);
    setenv("LV_CUDA_SIM_FAIL", trouble.data, 1);
    setenv("LV_CACHE_DIR", "/proc/none", 1);
    int code = child_run(products, NULL);
    setenv("LV_CACHE_DIR", folder, 1);
    unsetenv("LV_CUDA_SIM_FAIL");
    lv_text_free(&trouble);
    assert_int_equal(code, CHILD_GOOD);
}

// What is foretold of the scratch memory is what is then taken.
static int workspace(void *user) {
    LvDevice *device = child_open();
    LvError error = {0};
    uint32_t random = 3;
    (void)user;
    for (int i = 0; i < 40; i++) {
        Product p;
        LvCall *call;
        int count = 0;
        make_product(&p, &sizes[i % (int)(sizeof sizes / sizeof *sizes)], &random);
        for (int k = 0; k < OPERANDS; k++)
            if (p.has[k]) p.given[count++] = p.operands[k];
        p.step.operands = p.given, p.step.operand_count = count;
        LvPlan plan = {.step_count = 1, .steps = &p.step};
        size_t before = device->ops->scratch_bytes(device), foretold = device->ops->workspace(device, &plan).bytes;
        child_require(foretold == lv_cuda_workspace(&plan).bytes);
        child_must(device->ops->prepare(device, NULL, &p.step, &call, &error), &error);
        size_t after = device->ops->scratch_bytes(device);
        child_require(after == (foretold > before ? foretold : before));
        device->ops->discard(device, call);
        free_product(device, &p);
    }
    lv_device_close(device);
    return CHILD_GOOD;
}

static void test_workspace(void **state) {
    (void)state;
    child_test(workspace, NULL);
}

// How many algorithms are remembered whole; `spoil`: they become a word.
static int remembered(bool spoil) {
    DIR *items = opendir(folder);
    int count = 0;
    for (struct dirent *item; items && (item = readdir(items));) {
        char path[400], *data = NULL, *end = strrchr(item->d_name, '.');
        size_t length;
        if (!end || strcmp(end, ".choice")) continue;
        snprintf(path, sizeof path, "%s/%s", folder, item->d_name);
        if (lv_cache_read(path, &data, &length) && length > sizeof "spoilt") count++;
        free(data);
        if (spoil) assert_true(lv_cache_write(path, "spoilt", sizeof "spoilt"));
    }
    if (items) closedir(items);
    return count;
}

// What was spoilt is measured anew and replaced.
static void test_remembered(void **state) {
    (void)state;
    child_test(workspace, NULL);
    int count = remembered(true);
    if (count == 0) skip();  // a library that offers one algorithm for each
    assert_int_equal(remembered(false), 0);
    child_test(workspace, NULL);
    assert_true(remembered(false) > 0);
}

// ---- cross-entropy by blocks

// A thread does a row: slow, and plainly what compiler/codegen/cuda/README.md asks for.
static const char loss_text[] =
    "extern \"C\" __global__ void rows_0(float *logits, const int *target, const float *dloss, float *loss, char *scratch, long "
    "long rows,\n"
    "    long long classes, long long ignore) {\n"
    "  const long long row = blockIdx.x, stride = (classes + 7) / 8 * 8;\n"
    "  float *x = logits + row * stride;\n"
    "  unsigned short *narrow = (unsigned short *)scratch + row * stride;\n"
    "  if (threadIdx.x) return;\n"
    "  const int own = target[row];\n"
    "  const int counts = own >= 0 && own < classes && own != ignore;\n"
    "  float top = x[0];\n"
    "  double sum = 0.0;\n"
    "  for (long long i = 0; i < classes; i++) top = fmaxf(top, x[i]);\n"
    "  for (long long i = 0; i < classes; i++) sum += expf(x[i] - top);\n"
    "  loss[row] = counts ? logf((float)sum) + top - x[own] : 0.0f;\n"
    "  if (!dloss) return;\n"
    "  for (long long i = 0; i < classes; i++) {\n"
    "    const float d = counts ? (expf(x[i] - top) / (float)sum - (i == own ? 1.0f : 0.0f)) * dloss[row] : 0.0f;\n"
    "    x[i] = d;\n"
    "    if (scratch) narrow[i] = (unsigned short)((__float_as_uint(d) + 0x7FFFu + (__float_as_uint(d) >> 16 & 1u)) >> 16);\n"
    "  }\n"
    "}\n";

typedef struct {
    int64_t n, width, classes;
    bool gradient;
    LvDType dtype;
} LossCase;

static int64_t place_port(LvPlan *plan, LvPort *port, const char *name, LvDType dtype, LvShape shape, int64_t at) {
    size_t bytes;
    lv_shape_bytes(shape, dtype, &bytes);
    *port = (LvPort){name, dtype, shape, {LV_ARENA_IO, at}};
    at += (int64_t)(bytes + 63) / 64 * 64;
    plan->arena_bytes[LV_ARENA_IO] = at;
    return at;
}

// Ports 0 dx, 1 dweight, 2 loss; 3 x, 4 weight, 5 target, 6 dloss.
static LvPlan *loss_plan(const LvDevice *device, const LossCase *c, LvPort ports[7]) {
    LvPlan *plan = lv_plan_create();
    LvShape x = lv_shape(2, (int64_t[]){c->n, c->width}), weight = lv_shape(2, (int64_t[]){c->classes, c->width}),
            rows = lv_shape(1, &c->n);
    const char *const names[] = {"dx", "dweight", "loss", "x", "weight", "target", "dloss"};
    const LvDType types[] = {LV_F32, LV_F32, LV_F32, c->dtype, c->dtype, LV_I32, LV_F32};
    const LvShape shapes[] = {x, weight, rows, x, weight, rows, rows};
    int64_t at = 0;
    plan->model = plan->entry = "loss", plan->device = device->target, plan->precision = "f32", plan->batch = 1,
    plan->prelude = "// loss\n";
    for (int i = 0; i < 7; i++) at = place_port(plan, &ports[i], names[i], types[i], shapes[i], at);
    plan->results = ports, plan->result_count = 3;
    plan->inputs = ports + 3, plan->input_count = 4;
    plan->kernel_count = 1;
    plan->kernels = LV_NEW_ARRAY(plan->arena, LvKernelText, 1);
    plan->kernels[0] = (LvKernelText){"rows", loss_text};
    plan->step_count = 1;
    LvStep *step = plan->steps = LV_NEW_ARRAY(plan->arena, LvStep, 1);
    *step = (LvStep){.kind = LV_STEP_LINEAR_LOSS, .label = "loss", .sources = "", .launch_count = 1};
    step->launches = LV_NEW_ARRAY(plan->arena, LvLaunch, 1);
    step->launches[0] = (LvLaunch){{1, 1, 1}, 32, 0};
    step->linear_loss = (LvLinearLossStep){.gradient = c->gradient, .ignore = 1};
    step->operands = LV_NEW_ARRAY(plan->arena, LvOperand, 7);
    for (int i = c->gradient ? 0 : 2; i < (c->gradient ? 7 : 6); i++)
        step->operands[step->operand_count++] =
            (LvOperand){ports[i].place, ports[i].dtype, ports[i].shape, lv_layout_row_major()};
    return plan;
}

static double distance(const float *got, const double *want, int64_t count) {
    double apart = 0, size = 0;
    for (int64_t i = 0; i < count; i++) apart += (got[i] - want[i]) * (got[i] - want[i]), size += want[i] * want[i] + 1e-12;
    return sqrt(apart / (size > 0 ? size : 1));
}

static void reference_loss(const LossCase *c, void *const data[7], double *loss, double *dx, double *dweight) {
    double *d = malloc((size_t)c->classes * sizeof *d);
    const int32_t *target = data[5];
    for (int64_t r = 0; r < c->n; r++) {
        double sum = 0;
        bool counts = target[r] >= 0 && target[r] < c->classes && target[r] != 1;
        for (int64_t v = 0; v < c->classes && counts; v++) {
            d[v] = 0;
            for (int64_t k = 0; k < c->width; k++)
                d[v] += lv_element_get(data[3], c->dtype, r * c->width + k) * lv_element_get(data[4], c->dtype, v * c->width + k);
            sum += exp(d[v]);
        }
        loss[r] = counts ? log(sum) - d[target[r]] : 0;
        for (int64_t v = 0; v < c->classes && counts; v++) {
            double g = (exp(d[v]) / sum - (v == target[r])) * ((const float *)data[6])[r];
            for (int64_t k = 0; k < c->width; k++) {
                dx[r * c->width + k] += g * lv_element_get(data[4], c->dtype, v * c->width + k);
                dweight[v * c->width + k] += g * lv_element_get(data[3], c->dtype, r * c->width + k);
            }
        }
    }
    free(d);
}

static int losses(void *user) {
    const LossCase *c = user;
    LvDevice *device = child_open();
    LvError error = {0};
    LvPort ports[7];
    LvStore *store;
    LvProgram *program;
    LvPlan *plan = loss_plan(device, c, ports);
    uint32_t random = 5;
    void *data[7];
    size_t bytes[7];
    for (int i = 0; i < 7; i++) {
        lv_shape_bytes(ports[i].shape, ports[i].dtype, &bytes[i]);
        data[i] = calloc(bytes[i] + 1, 1);
        for (int64_t k = 0; i > 2 && k < lv_shape_elements(ports[i].shape); k++)
            lv_element_set(data[i], ports[i].dtype, k, i == 5 ? (double)(next_random(&random) % (uint32_t)(c->classes + 2)) - 1
                                                              : ((int)(next_random(&random) % 2001) - 1000) * 1e-3);
    }
    child_must(lv_store_create(device, plan, &store, &error) && lv_program_create(device, plan, store, &program, &error), &error);
    for (int i = 3; i < 7; i++) child_must(lv_program_set_input(program, ports[i].name, data[i], bytes[i], &error), &error);
    double *loss = calloc((size_t)c->n + 1, 8), *dx = calloc((size_t)(c->n * c->width) + 1, 8),
           *dweight = calloc((size_t)(c->classes * c->width) + 1, 8);
    reference_loss(c, data, loss, dx, dweight);
    double tolerance = c->dtype == LV_BF16 ? 1e-2 : 1e-5;
    bool large = c->classes > 1000;
    for (int turn = 0; turn < (large ? 1 : 3); turn++) {  // walked, captured, again
        child_must(lv_program_run(program, &error), &error);
        for (int i = c->gradient ? 0 : 2; i < 3; i++)
            child_must(lv_program_get_result(program, ports[i].name, data[i], bytes[i], &error), &error);
        child_require(distance(data[2], loss, c->n) < 1e-5);
        if (!c->gradient) continue;
        child_require(distance(data[0], dx, c->n * c->width) < tolerance);
        child_require(distance(data[1], dweight, c->classes * c->width) < tolerance);
    }
    child_require(lv_program_info(program).captured == !large);
    lv_program_destroy(program);
    lv_store_destroy(store);
    lv_plan_destroy(plan);
    lv_device_close(device);
    for (int i = 0; i < 7; i++) free(data[i]);
    free(loss), free(dx), free(dweight);
    return CHILD_GOOD;
}

// The last one goes by two blocks of rows, the second shorter: under sanitizers most of the program's time.
#if defined(__SANITIZE_ADDRESS__)
enum { LARGE_LOSSES = 0 };
#else
enum { LARGE_LOSSES = 1 };
#endif

static void test_losses(void **state) {
    static const LossCase cases[] = {{6, 5, 9, true, LV_F32},        {6, 5, 9, false, LV_F32}, {17, 8, 64, true, LV_BF16},
                                     {3, 4, 7, false, LV_BF16},      {0, 4, 7, true, LV_F32},  {1, 1, 1, true, LV_F32},
                                     {280, 2, 262147, true, LV_BF16}};
    (void)state;
    for (size_t i = 0; i + 1 < sizeof cases / sizeof *cases + LARGE_LOSSES; i++) {
        LossCase c = cases[i];
        child_test(losses, &c);
    }
}

int main(void) {
    char command[96];
    if (!mkdtemp(folder)) return 1;
    setenv("LV_CACHE_DIR", folder, 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products), cmocka_unit_test(test_without_algorithms),
                                       cmocka_unit_test(test_workspace), cmocka_unit_test(test_remembered),
                                       cmocka_unit_test(test_losses)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 ? failed : 1;
}
