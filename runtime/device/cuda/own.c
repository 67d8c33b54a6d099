// The backend's own kernels: see own.h. Types and activations are parameters, so that there is one text of each; a branch that all
// threads take the same way costs little beside the memory that is moved.
#include "device/cuda/own.h"

#include <string.h>

#include "base/arena.h"

enum { KERNEL_FINISH, KERNEL_MATMUL, KERNEL_SUMS, KERNELS, THREADS = 256, MOST_BLOCKS = 4096, MOST_BATCH = 32768 };

// A simulator of CUDA on a host has the first of these of its own (codegen/cuda/prelude_instructions.c). Numbers of types and, below, of
// activations are those of LvDType and LvActivation.
static const char prelude[] =
    "#ifndef LV_SIM\n"
    "static __device__ __forceinline__ unsigned short lv_to_bf16(float x) {\n"
    "  unsigned short h;\n"
    "  asm(\"cvt.rn.bf16.f32 %0, %1;\" : \"=h\"(h) : \"f\"(x));\n"
    "  return h;\n"
    "}\n"
    "static __device__ __forceinline__ unsigned short lv_to_f16(float x) {\n"
    "  unsigned short h;\n"
    "  asm(\"cvt.rn.f16.f32 %0, %1;\" : \"=h\"(h) : \"f\"(x));\n"
    "  return h;\n"
    "}\n"
    "static __device__ __forceinline__ float lv_from_f16(unsigned short h) {\n"
    "  float x;\n"
    "  asm(\"cvt.f32.f16 %0, %1;\" : \"=f\"(x) : \"h\"(h));\n"
    "  return x;\n"
    "}\n"
    "#endif\n"
    "static __device__ double lv_own_get(const char *p, long long type, long long i) {\n"
    "  switch (type) {\n"
    "    case 0: return (double)((const float *)p)[i];\n"
    "    case 1: return (double)__int_as_float((int)((unsigned)((const unsigned short *)p)[i] << 16));\n"
    "    case 2: return (double)lv_from_f16(((const unsigned short *)p)[i]);\n"
    "    case 3: return ((const double *)p)[i];\n"
    "    case 4: return (double)((const int *)p)[i];\n"
    "    case 5: return (double)((const long long *)p)[i];\n"
    "    default: return (double)((const unsigned char *)p)[i];\n"
    "  }\n"
    "}\n"
    "static __device__ void lv_own_set(char *p, long long type, long long i, double x) {\n"
    "  switch (type) {\n"
    "    case 0: ((float *)p)[i] = (float)x; break;\n"
    "    case 1: ((unsigned short *)p)[i] = lv_to_bf16((float)x); break;\n"
    "    case 2: ((unsigned short *)p)[i] = lv_to_f16((float)x); break;\n"
    "    case 3: ((double *)p)[i] = x; break;\n"
    "    case 4: ((int *)p)[i] = (int)x; break;\n"
    "    case 5: ((long long *)p)[i] = (long long)x; break;\n"
    "    default: ((unsigned char *)p)[i] = (unsigned char)(x != 0.0);\n"
    "  }\n"
    "}\n";

static const char finish_text[] =
    "static __device__ __forceinline__ float lv_own_finish_get(const char *p, long long type, long long i) {\n"
    "  if (type == 0) return ((const float *)p)[i];\n"
    "  unsigned short h = ((const unsigned short *)p)[i];\n"
    "  return type == 1 ? __int_as_float((int)((unsigned)h << 16)) : lv_from_f16(h);\n"
    "}\n"
    "static __device__ __forceinline__ void lv_own_finish_set(char *p, long long type, long long i, float x) {\n"
    "  if (type == 0) ((float *)p)[i] = x;\n"
    "  else ((unsigned short *)p)[i] = type == 1 ? lv_to_bf16(x) : lv_to_f16(x);\n"
    "}\n"
    "extern \"C\" __global__ void lv_own_finish_0(char *to, const char *from, const char *bias, const char *add, char *scratch,\n"
    "    long long to_type, long long from_type, long long bias_type, long long add_type, long long activation, long long "
    "count,\n"
    "    long long columns) {\n"
    "  const bool narrow = count < 0x80000000ll;\n"
    "  const long long step = (long long)gridDim.x * blockDim.x;\n"
    "  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {\n"
    "    float x = lv_own_finish_get(from, from_type, i);\n"
    "    if (bias) x += lv_own_finish_get(bias, bias_type, narrow ? (long long)((unsigned)i % (unsigned)columns) : i % "
    "columns);\n"
    "    if (activation == 1) x = x < 0.0f ? 0.0f : x;\n"
    "    else if (activation == 2) x = x / (1.0f + expf(-x));\n"
    "    else if (activation == 3) x = 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));\n"
    "    if (add) x += lv_own_finish_get(add, add_type, i);\n"
    "    lv_own_finish_set(to, to_type, i, x);\n"
    "  }\n"
    "}\n";

// A thread an element of y, a row of blocks for each of the batch.
static const char matmul_text[] =
    "extern \"C\" __global__ void lv_own_matmul_0(char *y, const char *a, const char *b, const char *bias, const char *add, char "
    "*scratch,\n"
    "    long long type_y, long long type_a, long long type_b, long long type_bias, long long type_add, long long m, long long "
    "n,\n"
    "    long long k, long long count, long long y_row, long long y_column, long long y_step, long long a_row, long long "
    "a_column,\n"
    "    long long a_step, long long b_row, long long b_column, long long b_step, double alpha, long long activation) {\n"
    "  const long long step = (long long)gridDim.x * blockDim.x;\n"
    "  for (long long z = blockIdx.y; z < count; z += gridDim.y)\n"
    "    for (long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x; at < m * n; at += step) {\n"
    "      const long long row = at / n, column = at % n, to = z * y_step + row * y_row + column * y_column;\n"
    "      double x = 0.0;\n"
    "      for (long long i = 0; i < k; i++)\n"
    "        x += lv_own_get(a, type_a, z * a_step + row * a_row + i * a_column) *\n"
    "             lv_own_get(b, type_b, z * b_step + i * b_row + column * b_column);\n"
    "      x *= alpha;\n"
    "      if (bias) x += lv_own_get(bias, type_bias, column);\n"
    "      if (activation == 1) x = x < 0.0 ? 0.0 : x;\n"
    "      else if (activation == 2) x = x / (1.0 + exp(-x));\n"
    "      else if (activation == 3) x = 0.5 * x * (1.0 + erf(x * 0.70710678118654752440));\n"
    "      if (add) x += lv_own_get(add, type_add, to);\n"
    "      lv_own_set(y, type_y, to, x);\n"
    "    }\n"
    "}\n";

// A lane a row of the matrix, 32 of them a block, whose THREADS / 32 warps take turns along the columns.
static const char sums_text[] =
    "extern \"C\" __global__ void lv_own_sums_0(char *to, const char *from, char *scratch, long long to_type, long long from_type,\n"
    "    long long rows, long long columns, long long row, long long column) {\n"
    "  __shared__ double parts[256];\n"
    "  const long long lane = threadIdx.x % 32, turn = threadIdx.x / 32, turns = blockDim.x / 32, at = blockIdx.x * 32ll + lane;\n"
    "  double sum = 0.0;\n"
    "  for (long long i = turn; at < rows && i < columns; i += turns) sum += lv_own_get(from, from_type, at * row + i * column);\n"
    "  parts[threadIdx.x] = sum;\n"
    "  __syncthreads();\n"
    "  if (turn || at >= rows) return;\n"
    "  for (long long i = 1; i < turns; i++) sum += parts[i * 32 + lane];\n"
    "  lv_own_set(to, to_type, at, sum);\n"
    "}\n";

LvPlan *cuda_own_plan(const char *device) {
    static const LvKernelText kernels[KERNELS] = {{"lv_own_finish", finish_text}, {"lv_own_matmul", matmul_text}, {"lv_own_sums", sums_text}};
    LvPlan *plan = lv_plan_create();
    plan->entry = "", plan->device = lv_arena_strdup(plan->arena, device), plan->prelude = prelude;
    plan->kernel_count = plan->step_count = KERNELS;
    plan->kernels = LV_NEW_ARRAY(plan->arena, LvKernelText, KERNELS);
    plan->steps = LV_NEW_ARRAY(plan->arena, LvStep, KERNELS);
    for (int k = 0; k < KERNELS; k++) {
        LvLaunch *launch = LV_NEW(plan->arena, LvLaunch);
        *launch = (LvLaunch){{1, 1, 1}, THREADS, 0};
        plan->kernels[k] = kernels[k];
        plan->steps[k] = (LvStep){.kind = LV_STEP_KERNEL, .label = kernels[k].name, .kernel = k, .launch_count = 1, .launches = launch};
    }
    return plan;
}

bool cuda_own_load(LvCuda *gpu, LvError *error) {
    if (gpu->own) return true;
    LvLoadInfo info;
    LvPlan *plan = cuda_own_plan(gpu->target);
    bool good = cuda_kernels_load(gpu, plan, &gpu->own, &info, error);
    lv_plan_destroy(plan);
    return good;
}

static uint64_t address(const void *at) { return (uint64_t)(uintptr_t)at; }

static int32_t blocks_for(int64_t elements) {
    int64_t blocks = (elements + THREADS - 1) / THREADS;
    return (int32_t)(blocks > MOST_BLOCKS ? MOST_BLOCKS : blocks);
}

bool cuda_own_finish(LvCuda *gpu, const OwnFinish *f, LvError *error) {
    uint64_t parameters[] = {address(f->to), address(f->from), address(f->bias), address(f->add), 0, f->to_type, f->from_type,
                             f->bias_type, f->add_type, f->activation, (uint64_t)f->count, (uint64_t)f->columns};
    LvLaunch launch = {{blocks_for(f->count), 1, 1}, THREADS, 0};
    return f->count == 0 || cuda_kernels_launch_one(gpu, gpu->own, KERNEL_FINISH, 0, launch, parameters,
                                                    sizeof parameters / sizeof *parameters, error);
}

bool cuda_own_matmul(LvCuda *gpu, const OwnMatmul *m, void *y, const void *a, const void *b, const void *bias, const void *add,
                     LvError *error) {
    uint64_t parameters[] = {address(y),
                             address(a),
                             address(b),
                             address(bias),
                             address(add),
                             0,
                             m->type_y,
                             m->type_a,
                             m->type_b,
                             m->type_bias,
                             m->type_add,
                             (uint64_t)m->m,
                             (uint64_t)m->n,
                             (uint64_t)m->k,
                             (uint64_t)m->count,
                             (uint64_t)m->y_row,
                             (uint64_t)m->y_column,
                             (uint64_t)m->y_step,
                             (uint64_t)m->a_row,
                             (uint64_t)m->a_column,
                             (uint64_t)m->a_step,
                             (uint64_t)m->b_row,
                             (uint64_t)m->b_column,
                             (uint64_t)m->b_step,
                             0,
                             (uint64_t)m->activation};
    enum { COUNT = sizeof parameters / sizeof *parameters };
    memcpy(&parameters[COUNT - 2], &m->alpha, sizeof m->alpha);
    LvLaunch launch = {{blocks_for(m->m * m->n), (int32_t)(m->count > MOST_BATCH ? MOST_BATCH : m->count), 1}, THREADS, 0};
    return m->m * m->n == 0 || m->count == 0 ||
           cuda_kernels_launch_one(gpu, gpu->own, KERNEL_MATMUL, 0, launch, parameters, COUNT, error);
}

bool cuda_own_sums(LvCuda *gpu, const OwnSums *s, void *to, const void *from, LvError *error) {
    uint64_t parameters[] = {address(to), address(from), 0, s->to_type, s->from_type, (uint64_t)s->rows, (uint64_t)s->columns,
                             (uint64_t)s->row, (uint64_t)s->column};
    LvLaunch launch = {{(int32_t)((s->rows + 31) / 32), 1, 1}, THREADS, 0};
    return s->rows == 0 || cuda_kernels_launch_one(gpu, gpu->own, KERNEL_SUMS, 0, launch, parameters,
                                                   sizeof parameters / sizeof *parameters, error);
}
