// The checker on kernels written for it: one in order, and one for each fault.
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "codegen/cuda/prelude.h"

static const struct {
    const char *name, *text;
    int threads, shared;
    const char *said;  // in the report, after the kernel's name; NULL: nothing
    int columns;       // of its operand, of bf16: of 64 rows are whole pieces of 16 bytes
} cases[] = {
    {"in_order",
     "extern \"C\" __global__ void in_order_0(const uint4 *a, const uint4 *b, float *d, char *scratch) {\n"
     "  LV_SHARED(uint4, piece);\n"
     "  lv_copy_async16(piece + threadIdx.x, a + threadIdx.x, 16);\n"
     "  lv_copy_commit();\n"
     "  LV_COPY_WAIT(0);\n"
     "  __syncthreads();\n"
     "  uint4 x = piece[threadIdx.x ^ 1], y = b[threadIdx.x];\n"
     "  unsigned left[4] = {x.x, x.y, x.z, x.w}, right[2] = {y.x, y.y};\n"
     "  float sum[4] = {0, 0, 0, 0};\n"
     "  lv_mma_bf16(sum, left, right);\n"
     "  for (int i = 0; i < 4; i++) d[threadIdx.x * 4 + i] = sum[i];\n"
     "}\n"
     "extern \"C\" __global__ void in_order_1(const uint4 *a, const uint4 *b, float *d, char *scratch) { d[threadIdx.x] += 1; }\n",
     128, 2048, NULL, 64},
    {"stacked",
     "extern \"C\" __global__ void stacked_0(const int *at, float *d, char *scratch) {\n"
     "  float kept[64];\n"
     "  for (int i = 0; i < 64; i++) kept[at[i] & 63] = d[i];\n"
     "  d[threadIdx.x] = kept[at[threadIdx.x] & 63];\n"
     "}\n",
     32, 0, "_0: takes 256 bytes of local memory", 64},
    {"spilled",
     "extern \"C\" __global__ void __launch_bounds__(1024, 2) spilled_0(const float *x, float *d, char *scratch) {\n"
     "  float v[96], sum = 0;\n"
     "#pragma unroll\n"
     "  for (int i = 0; i < 96; i++) v[i] = x[threadIdx.x + i * 1024];\n"
     "  __syncthreads();\n"
     "#pragma unroll\n"
     "  for (int i = 0; i < 96; i++) sum += v[i] * v[95 - i] / (v[(i * 7) % 96] + 1);\n"
     "#pragma unroll\n"
     "  for (int i = 0; i < 96; i++) d[threadIdx.x + i * 1024] = v[i] * sum;\n"
     "}\n",
     1024, 0, "_0: spills", 64},
    {"crowded",
     "extern \"C\" __global__ void __launch_bounds__(256) crowded_0(const float *x, float *d, char *scratch) {\n"
     "  float v[96], sum = 0;\n"
     "#pragma unroll\n"
     "  for (int i = 0; i < 96; i++) v[i] = x[threadIdx.x + i * 1024];\n"
     "  __syncthreads();\n"
     "#pragma unroll\n"
     "  for (int i = 0; i < 96; i++) sum += v[i] * v[95 - i];\n"
     "#pragma unroll\n"
     "  for (int i = 0; i < 96; i++) d[threadIdx.x + i * 1024] = v[i] * sum;\n"
     "}\n",
     1024, 0, "registers a thread are too many for blocks of 1024", 64},
    {"greedy", "extern \"C\" __global__ void greedy_0(float *d, char *scratch) { LV_SHARED(float, s); s[threadIdx.x] = d[0]; d[1] = s[5]; }\n", 32,
     300000, "_0: 300000 bytes of shared memory", 64},
    {"broken", "extern \"C\" __global__ void broken_0(float *d, char *scratch) { d[0] = undeclared; }\n", 32, 0, "undeclared", 64},
    {"absent", "extern \"C\" __global__ void other_0(float *d, char *scratch) { d[0] = 1; }\n", 32, 0, "_0: the program has no such function", 64},
    {"by_hand", "// lv_mma_bf16 is not called\nextern \"C\" __global__ void by_hand_0(float *d, char *scratch) { d[0] = 1; }\n", 32, 0,
     ": no products by tensor cores", 64},
    {"in_turn",
     "extern \"C\" __global__ void in_turn_0(float *d, char *scratch) {\n"
     "  LV_SHARED(unsigned short, s);\n"
     "  const unsigned long long at = lv_wgmma_descriptor(s, 16, 1024);\n"
     "  float v[4] = {0, 0, 0, 0};\n"
     "  lv_wgmma_fence();\n"
     "  asm volatile(\"{\\n.reg .pred p;\\nsetp.eq.u32 p, 0, 0;\\nwgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, %4, %4, p, 1, 1, 0, 0;\\n}\"\n"
     "    : \"+f\"(v[0]), \"+f\"(v[1]), \"+f\"(v[2]), \"+f\"(v[3]) : \"l\"(at));\n"
     "  lv_wgmma_commit();\n"
     "  LV_WGMMA_WAIT(0);\n"
     "  lv_wgmma_keep(v);\n"
     "  d[threadIdx.x] = v[0] + v[1] + v[2] + v[3];\n"
     "}\n",
     128, 2048, "_0: 1 waits for 1 products of warp groups", 64},
    {"waiting", "// lv_copy_async16( is not called\nextern \"C\" __global__ void waiting_0(float *d, char *scratch) { d[0] = 1; }\n", 32, 0,
     ": no asynchronous copies", 64},
    {"lined", "// lv_mma_bf16 and uint4 are not used\nextern \"C\" __global__ void lined_0(float *d, char *scratch) { d[0] = 1; }\n", 32, 0,
     ": no loads of 16 bytes", 64},
    // rows of 74 bytes: nobody can copy them by 16
    {"crooked", "// lv_copy_async16( is not called\nextern \"C\" __global__ void crooked_0(float *d, char *scratch) { d[0] = 1; }\n", 32, 0, NULL, 37},
    {"narrow", "// lv_copy_async4( is not called\nextern \"C\" __global__ void narrow_0(float *d, char *scratch) { d[0] = 1; }\n", 32, 0,
     ": no asynchronous copies", 37},
};
enum { CASE_COUNT = sizeof cases / sizeof *cases };

static LvPlan *plan_of_cases(int sm, const char *prelude) {
    LvPlan *plan = lv_plan_create();
    plan->device = lv_arena_printf(plan->arena, "cuda:sm_%d", sm);
    plan->prelude = prelude;
    plan->kernel_count = plan->step_count = CASE_COUNT;
    plan->kernels = LV_NEW_ARRAY(plan->arena, LvKernelText, CASE_COUNT);
    plan->steps = LV_NEW_ARRAY(plan->arena, LvStep, CASE_COUNT);
    for (int i = 0; i < CASE_COUNT; i++) {
        int launches = i == 0 ? 2 : 1;
        plan->kernels[i] = (LvKernelText){cases[i].name, cases[i].text};
        plan->steps[i] = (LvStep){.kind = LV_STEP_KERNEL, .kernel = i, .launch_count = launches};
        plan->steps[i].operands = LV_NEW(plan->arena, LvOperand);
        plan->steps[i].operand_count = 1;
        plan->steps[i].operands[0] = (LvOperand){.dtype = LV_BF16, .shape = {2, {4, cases[i].columns}}, .layout = {.perm = {0, 1}}};
        plan->steps[i].launches = LV_NEW_ARRAY(plan->arena, LvLaunch, launches);
        for (int l = 0; l < launches; l++) plan->steps[i].launches[l] = (LvLaunch){{1, 1, 1}, cases[i].threads, cases[i].shared};
    }
    return plan;
}

// The faults that the report names of a kernel, all in one line of `out`.
static bool as_expected(const char *report, int i) {
    char about[64];
    snprintf(about, sizeof about, "self.%s", cases[i].name);
    const char *at = strstr(report, about);
    if (!cases[i].said || !at) return !cases[i].said && !at;
    for (; at; at = strstr(at + 1, about)) {
        const char *end = strchr(at, '\n'), *said = strstr(at, cases[i].said);
        if (said && (!end || said < end)) return true;
    }
    return false;
}

bool check_self(Check *check, int sm, LvError *error) {
    LvPlan *plan = plan_of_cases(sm, cuda_prelude_instructions);
    LvText report = {0};
    bool good = check_add(check, plan, error) && check_compile(check, error);
    if (good) check_report(check, "self", true, &report);
    for (int i = 0; good && i < CASE_COUNT; i++) {
        bool right = as_expected(lv_text_get(&report), i);
        printf(right ? "ok self.%s\n" : "not ok self.%s: not what the report says\n", cases[i].name);
        if (!right) good = lv_error_set(error, LV_ERROR_DEVICE, "the report: %s", lv_text_get(&report));
    }
    lv_text_free(&report);
    lv_plan_destroy(plan);
    return good;
}
