// scatter_add for GPUs: updates [I..., ...], index [I...] -> [rows, ...], the same bits each time and no atomics.
//
// Few indices: each block owns a piece of a row and walks over all of them. Many: a stable radix sort of (row, place), 8 bits a
// pass (counts, then moves; a warp ranks its 32 keys by ballots), by one block in one launch where that is enough; then sums over CHUNK sorted
// places a block, whatever rows they belong to, so that one row that gets all updates is no slower than many rows. A row that lies
// within a chunk is written at once; of a row that goes over several, each leaves a part in scratch memory, and the last
// launch adds them up in order and writes zeros to rows that got nothing. Floats are summed as two floats, high and low.
#include "codegen/cuda/templates.h"

enum { BLOCK = 256, SORTED = 2048, CHUNK = 64, FEW = 512 };  // SORTED: keys of a block in the sort

// The sum of one column in this type.
static const char float_sum_text[] =
    "#define $name_sum LvSum\n"
    "static __device__ __forceinline__ LvSum $name_zero(void) { LvSum s = {0.f, 0.f}; return s; }\n"
    "static __device__ __forceinline__ void $name_add(LvSum *s, $type x) { lv_sum_add(s, $from(x)); }\n"
    "static __device__ __forceinline__ void $name_join(LvSum *s, LvSum x) { *s = lv_sum_join(*s, x); }\n"
    "static __device__ __forceinline__ $type $name_get(LvSum s) { return $to(lv_sum_value(s)); }\n";

static const char plain_sum_text[] =
    "#define $name_sum $sum\n"
    "static __device__ __forceinline__ $sum $name_zero(void) { return 0; }\n"
    "static __device__ __forceinline__ void $name_add($sum *s, $type x) { *s += ($sum)x; }\n"
    "static __device__ __forceinline__ void $name_join($sum *s, $sum x) { *s += x; }\n"
    "static __device__ __forceinline__ $type $name_get($sum s) { return ($type)s; }\n";

static const char few_text[] =
    "extern \"C\" __global__ void $name_0(const $type *updates, const int *index, $type *y, char *scratch) {\n"
    "  __shared__ int rows[$fewest];\n"
    "  for (int n = threadIdx.x; n < $count; n += $block) rows[n] = index[n];\n"
    "  __syncthreads();\n"
    "  const int row = blockIdx.x / $slabs, column = blockIdx.x % $slabs * $block + threadIdx.x;\n"
    "  if (row >= $rows || column >= $width) return;\n"
    "  $name_sum sum = $name_zero();\n"
    "  for (int n = 0; n < $count; n++)\n"
    "    if (rows[n] == row) $name_add(&sum, updates[(long long)n * $width + column]);\n"
    "  y[(long long)row * $width + column] = $name_get(sum);\n"
    "}\n";

// Numbers of a block's keys by digit, for each of its warps, in the order of the keys; `rank` of a key among the equal ones of its
// warp so far. A warp's keys are consecutive; 32 at a time, lanes with equal digits find each other by a ballot a bit.
static const char rank_text[] =
    "static __device__ __forceinline__ int $name_rank(int digit, bool valid, int *counts) {\n"
    "  unsigned same = __ballot_sync(0xFFFFFFFFu, valid);\n"
    "  #pragma unroll\n"
    "  for (int bit = 0; bit < 8; bit++) {\n"
    "    const unsigned set = __ballot_sync(0xFFFFFFFFu, digit >> bit & 1);\n"
    "    same &= digit >> bit & 1 ? set : ~set;\n"
    "  }\n"
    "  const int before = __popc(same & ((1u << threadIdx.x % 32) - 1));\n"
    "  int rank = 0;\n"
    "  if (valid) rank = counts[digit] + before;\n"
    "  __syncwarp();\n"
    "  if (valid && before == 0) counts[digit] += __popc(same);\n"
    "  __syncwarp();\n"
    "  return rank;\n"
    "}\n"
    "// the sum of x over all threads before this one\n"
    "static __device__ __forceinline__ int $name_scan(int x, int *warps) {\n"
    "  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;\n"
    "  int sum = x;\n"
    "  for (int o = 1; o < 32; o *= 2) {\n"
    "    const int other = __shfl_sync(0xFFFFFFFFu, sum, lane >= o ? lane - o : lane);\n"
    "    if (lane >= o) sum += other;\n"
    "  }\n"
    "  if (lane == 31) warps[warp] = sum;\n"
    "  __syncthreads();\n"
    "  sum -= x;\n"
    "  for (int w = 0; w < warp; w++) sum += warps[w];\n"
    "  return sum;\n"
    "}\n"
    "// out of range: behind all rows\n"
    "static __device__ __forceinline__ int $name_key(int row) { return row < 0 || row >= $rows ? $rows : row; }\n";

// Keys of each digit by block, for a pass over several blocks.
static const char count_text[] =
    "extern \"C\" __global__ void $name_$launch(const $type *updates, const int *index, $type *y, char *scratch) {\n"
    "  __shared__ int counts[8][256];\n"
    "  int *table = (int *)(scratch + $table);\n"
    "  const int warp = threadIdx.x / 32, begin = blockIdx.x * $sorted + warp * 256 + threadIdx.x % 32;\n"
    "$keys"
    "  for (int w = 0; w < 8; w++) counts[w][threadIdx.x] = 0;\n"
    "  __syncthreads();\n"
    "  for (int n = begin; n < begin + 256; n += 32)\n"
    "    $name_rank(n < $count ? $read >> $shift & 255 : 0, n < $count, counts[warp]);\n"
    "  __syncthreads();\n"
    "  int sum = 0;\n"
    "  for (int w = 0; w < 8; w++) sum += counts[w][threadIdx.x];\n"
    "  table[threadIdx.x * $blocks + blockIdx.x] = sum;\n"
    "}\n";

// Where each of them begins: in a launch of its own where there are many blocks.
static const char offsets_text[] =
    "extern \"C\" __global__ void $name_$launch(const $type *updates, const int *index, $type *y, char *scratch) {\n"
    "  __shared__ int warps[32];\n"
    "  int *table = (int *)(scratch + $table);\n"
    "  const int begin = threadIdx.x * $share, end = begin + $share < 256 * $blocks ? begin + $share : 256 * $blocks;\n"
    "  int sum = 0;\n"
    "  for (int i = begin; i < end; i++) sum += table[i];\n"
    "  int before = $name_scan(sum, warps);\n"
    "  for (int i = begin; i < end; i++) {\n"
    "    const int own = table[i];\n"
    "    table[i] = before;\n"
    "    before += own;\n"
    "  }\n"
    "}\n";

static const char move_begin_text[] =
    "extern \"C\" __global__ void __launch_bounds__($warps * 32, 1) $name_$launch(const $type *updates, const int *index, $type *y, char *scratch) {\n"
    "  __shared__ int counts[$warps][256], warps[32];\n"
    "  const int *table = (const int *)(scratch + $table);\n"
    "  const int warp = threadIdx.x / 32, begin = blockIdx.x * $sorted + warp * 256 + threadIdx.x % 32;\n"
    "  (void)warps, (void)table;\n";

// $before: sets `before`, where keys of digit threadIdx.x begin.
static const char move_text[] =
    "  {\n"
    "    int *to = (int *)(scratch + $to), *to_place = (int *)(scratch + $toplace), rank[8], before = 0;\n"
    "$keys"
    "    for (int w = 0; w < $warps; w++)\n"
    "      if (threadIdx.x < 256) counts[w][threadIdx.x] = 0;\n"
    "    __syncthreads();\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 8; i++) {\n"
    "      const int n = begin + 32 * i;\n"
    "      rank[i] = $name_rank(n < $count ? $read >> $shift & 255 : 0, n < $count, counts[warp]);\n"
    "    }\n"
    "    __syncthreads();\n"
    "$before"
    "    for (int w = 0; w < $warps && threadIdx.x < 256; w++) {\n"
    "      const int own = counts[w][threadIdx.x];\n"
    "      counts[w][threadIdx.x] = before;\n"
    "      before += own;\n"
    "    }\n"
    "    __syncthreads();\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 8; i++) {\n"
    "      const int n = begin + 32 * i;\n"
    "      if (n >= $count) continue;\n"
    "      const int row = $read, at = counts[warp][row >> $shift & 255] + rank[i];\n"
    "      to[at] = row;\n"
    "      to_place[at] = $place;\n"
    "    }\n"
    "    __syncthreads();\n"
    "  }\n";

static const char before_alone_text[] =
    "    int sum = 0;\n"
    "    for (int w = 0; w < $warps && threadIdx.x < 256; w++) sum += counts[w][threadIdx.x];\n"
    "    before = $name_scan(sum, warps);\n";

static const char before_few_text[] =
    "    int sum = 0;\n"
    "    for (int b = 0; b < $blocks; b++) {\n"
    "      const int own = table[threadIdx.x * $blocks + b];\n"
    "      sum += own;\n"
    "      if (b < blockIdx.x) before += own;\n"
    "    }\n"
    "    before += $name_scan(sum, warps);\n";

static const char before_many_text[] = "    before = table[threadIdx.x * $blocks + blockIdx.x];\n";

// A chunk's part of a row that goes over several: slot 0 where the row began before the chunk, else 1.
static const char sums_text[] =
    "static __device__ __forceinline__ int $name_slot(bool before, bool after) { return before ? 0 : after ? 1 : 2; }\n"
    "extern \"C\" __global__ void $name_$sums(const $type *updates, const int *index, $type *y, char *scratch) {\n"
    "  __shared__ int keys[$chunk + 2], places[$chunk];  // keys: one before the chunk and one behind it too\n"
    "  const int *key = (const int *)(scratch + $key), *place = (const int *)(scratch + $keyplace);\n"
    "  $name_sum *parts = ($name_sum *)(scratch + $parts);\n"
    "  const int chunk = blockIdx.x / $slabs, column = blockIdx.x % $slabs * $block + threadIdx.x, begin = chunk * $chunk;\n"
    "  const int size = $count - begin < $chunk ? $count - begin : $chunk;\n"
    "  for (int i = threadIdx.x; i < size + 2; i += $block) {\n"
    "    const int n = begin + i - 1;\n"
    "    keys[i] = n < 0 || n >= $count ? -1 : key[n];\n"
    "    if (i < size) places[i] = place[begin + i];\n"
    "  }\n"
    "  __syncthreads();\n"
    "  if (column >= $width) return;\n"
    "  $name_sum sum = $name_zero();\n"
    "  int from = 0;\n"
    "  for (int first = 0; first < size; first += 8) {\n"
    "    $type x[8];\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 8; i++) x[i] = first + i < size ? updates[(long long)places[first + i] * $width + column] : ($type)0;\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 8; i++) {\n"
    "      const int at = first + i, row = at < size ? keys[at + 1] : $rows;\n"
    "      if (row >= $rows) continue;\n"
    "      if (at == from) sum = $name_zero();\n"
    "      $name_add(&sum, x[i]);\n"
    "      if (at + 1 < size && keys[at + 2] == row) continue;\n"
    "      const int slot = $name_slot(from == 0 && keys[0] == row, keys[at + 2] == row);\n"
    "      if (slot == 2) y[(long long)row * $width + column] = $name_get(sum);\n"
    "      else parts[(2LL * chunk + slot) * $width + column] = sum;\n"
    "      from = at + 1;\n"
    "    }\n"
    "  }\n"
    "}\n"
    "// the first of the sorted places whose row is not before `row`\n"
    "static __device__ __forceinline__ int $name_bound(const int *key, int row) {\n"
    "  int low = 0, high = $count;\n"
    "  while (low < high) {\n"
    "    const int middle = low + (high - low) / 2;\n"
    "    if (key[middle] < row) low = middle + 1;\n"
    "    else high = middle;\n"
    "  }\n"
    "  return low;\n"
    "}\n"
    "extern \"C\" __global__ void $name_$rest(const $type *updates, const int *index, $type *y, char *scratch) {\n"
    "  __shared__ int bounds[$group + 1];\n"
    "  const int *key = (const int *)(scratch + $key);\n"
    "  const $name_sum *parts = (const $name_sum *)(scratch + $parts);\n"
    "  const int row = blockIdx.x / $slabs * $group, column = blockIdx.x % $slabs * $block + threadIdx.x;\n"
    "  for (int i = threadIdx.x; i <= $group; i += $block) bounds[i] = $name_bound(key, row + i < $rows ? row + i : $rows);\n"
    "  __syncthreads();\n"
    "  if (column >= $width) return;\n"
    "  for (int i = 0; i < $group && row + i < $rows; i++) {\n"
    "    const int first = bounds[i] / $chunk, last = (bounds[i + 1] - 1) / $chunk;\n"
    "    if (bounds[i] == bounds[i + 1]) y[(long long)(row + i) * $width + column] = 0;\n"
    "    else if (first != last) {\n"
    "      $name_sum sum = parts[(2LL * first + 1) * $width + column];\n"
    "      #pragma unroll 8\n"
    "      for (int c = first + 1; c <= last; c++) $name_join(&sum, parts[2LL * c * $width + column]);\n"
    "      y[(long long)(row + i) * $width + column] = $name_get(sum);\n"
    "    }\n"
    "  }\n"
    "}\n";

typedef struct {
    LvDType dtype;
    int64_t count, rows, width, slabs;
    int block, sum_bytes;
    const char *sum;  // NULL: LvSum
} Scatter;

static Scatter scatter_of(const Node *node) {
    static const char *const sums[LV_DTYPE_COUNT] = {[LV_F64] = "double", [LV_I32] = "unsigned", [LV_I64] = "unsigned long long"};
    LvDType dtype = node->inputs[0]->dtype;
    Scatter s = {.dtype = dtype, .count = lv_shape_elements(node->inputs[1]->shape), .rows = node->results[0].shape.dim[0],
                 .sum = sums[dtype], .sum_bytes = dtype == LV_I32 ? 4 : 8};
    LvShape shape = node->results[0].shape;
    s.width = 1;
    for (int i = 1; i < shape.rank; i++) s.width *= shape.dim[i];
    s.block = s.width >= BLOCK ? BLOCK : (int)((s.width + 31) / 32 * 32);
    if (!s.block) s.block = 32;
    s.slabs = s.width ? (s.width + s.block - 1) / s.block : 1;
    return s;
}

// Where the sort's arrays lie: keys and places twice, for each pass writes from one into the other.
typedef struct {
    int64_t table, key[2], place[2];
} Arrays;

// Up to ALONE keys are sorted by one block, all passes in a launch; of up to FEW_BLOCKS each adds up the others' numbers itself.
enum { ALONE = 8192, FEW_BLOCKS = 64 };

static int64_t blocks_of(const Scatter *s) { return s->count <= ALONE ? 1 : (s->count + SORTED - 1) / SORTED; }

static void fill_pass(const Scatter *s, const char *name, const char *text, int pass, const Arrays *a, const char *before, LvText *out,
                      const CudaKernel *made) {
    int64_t blocks = blocks_of(s);
    int from = pass % 2, to = 1 - from;
    LvText keys = {0}, read = {0};
    if (pass == 0) TEMPLATE_FILL(&read, "$name_key(index[n])", {"name", name, 0});
    else TEMPLATE_FILL(&keys, "  const int *key = (const int *)(scratch + $key), *place = (const int *)(scratch + $place);\n"
                              "  (void)place;\n",
                       {"key", NULL, a->key[from]}, {"place", NULL, a->place[from]});
    TEMPLATE_FILL(out, text, {"name", name, 0}, {"type", cuda_type(s->dtype), 0}, {"launch", NULL, (int64_t)made->launches.count},
                  {"keys", lv_text_get(&keys), 0}, {"read", pass ? "key[n]" : lv_text_get(&read), 0}, {"place", pass ? "place[n]" : "n", 0},
                  {"count", NULL, s->count}, {"shift", NULL, 8 * pass}, {"blocks", NULL, blocks}, {"warps", NULL, blocks == 1 ? 32 : 8},
                  {"share", NULL, (256 * blocks + 1023) / 1024}, {"sorted", NULL, SORTED}, {"table", NULL, a->table},
                  {"to", NULL, a->key[to]}, {"toplace", NULL, a->place[to]}, {"before", before, 0});
    lv_text_free(&keys);
    lv_text_free(&read);
}

// The number of passes.
static int print_sort(const Scatter *s, const char *name, const Arrays *a, LvText *out, CudaKernel *made) {
    int64_t blocks = blocks_of(s);
    int pass = 0;
    LvText before = {0};
    fill_pass(s, name, blocks == 1 ? before_alone_text : blocks <= FEW_BLOCKS ? before_few_text : before_many_text, 0, a, "", &before, made);
    if (blocks == 1) fill_pass(s, name, move_begin_text, 0, a, "", out, made);
    for (; pass == 0 || s->rows >> (8 * pass); pass++) {
        if (blocks > 1) {
            fill_pass(s, name, count_text, pass, a, "", out, made);
            cuda_push_launch(made, blocks, 1, 1, BLOCK, 0);
        }
        if (blocks > FEW_BLOCKS) {
            fill_pass(s, name, offsets_text, pass, a, "", out, made);
            cuda_push_launch(made, 1, 1, 1, 1024, 0);
        }
        if (blocks > 1) fill_pass(s, name, move_begin_text, pass, a, "", out, made);
        fill_pass(s, name, move_text, pass, a, lv_text_get(&before), out, made);
        if (blocks == 1) continue;
        lv_text_puts(out, "}\n");
        cuda_push_launch(made, blocks, 1, 1, BLOCK, 0);
    }
    if (blocks == 1) {
        lv_text_puts(out, "}\n");
        cuda_push_launch(made, 1, 1, 1, 1024, 0);
    }
    lv_text_free(&before);
    return pass;
}

enum { MANY_ROWS = 4096, GROUP = 32 };  // so many rows share a block's searches in the last launch, where rows are many

static void print_sorted(const Scatter *s, const char *name, LvText *out, CudaKernel *made) {
    int64_t chunks = (s->count + CHUNK - 1) / CHUNK;
    Arrays a = {.table = cuda_take_scratch(made, 4 * 256 * blocks_of(s))};
    for (int i = 0; i < 2; i++) a.key[i] = cuda_take_scratch(made, 4 * s->count), a.place[i] = cuda_take_scratch(made, 4 * s->count);
    int64_t parts = cuda_take_scratch(made, 2 * chunks * s->width * s->sum_bytes);
    TEMPLATE_FILL(out, rank_text, {"name", name, 0}, {"rows", NULL, s->rows});
    int passes = print_sort(s, name, &a, out, made), first = (int)made->launches.count, group = s->rows >= MANY_ROWS ? GROUP : 1;
    TEMPLATE_FILL(out, sums_text, {"name", name, 0}, {"type", cuda_type(s->dtype), 0}, {"sums", NULL, first}, {"rest", NULL, first + 1},
                  {"count", NULL, s->count}, {"rows", NULL, s->rows}, {"width", NULL, s->width}, {"slabs", NULL, s->slabs},
                  {"block", NULL, s->block}, {"chunk", NULL, CHUNK}, {"group", NULL, group}, {"key", NULL, a.key[passes % 2]},
                  {"keyplace", NULL, a.place[passes % 2]}, {"parts", NULL, parts});
    cuda_push_launch(made, chunks * s->slabs, 1, 1, s->block, 0);
    cuda_push_launch(made, (s->rows + group - 1) / group * s->slabs, 1, 1, s->block, 0);
}

bool cuda_print_scatter_add(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made) {
    (void)target;
    Scatter s = scatter_of(node);
    if (s.dtype == LV_BOOL || !cuda_all_row_major(node)) return false;
    if (s.count > INT32_MAX - SORTED || s.rows > INT32_MAX / 2 || s.rows * s.slabs > INT32_MAX || s.count * s.slabs > INT32_MAX) return false;
    if (!out) return true;
    TEMPLATE_FILL(out, s.sum ? plain_sum_text : float_sum_text, {"name", name, 0}, {"type", cuda_type(s.dtype), 0},
                  {"sum", s.sum ? s.sum : "", 0}, {"from", cuda_from(s.dtype), 0}, {"to", cuda_to(s.dtype), 0});
    if (s.count > FEW && s.rows && s.width) {
        print_sorted(&s, name, out, made);
        return true;
    }
    int64_t count = s.rows && s.width ? s.count : 0;
    TEMPLATE_FILL(out, few_text, {"name", name, 0}, {"type", cuda_type(s.dtype), 0}, {"count", NULL, count},
                  {"fewest", NULL, count ? count : 1}, {"rows", NULL, s.rows}, {"width", NULL, s.width}, {"slabs", NULL, s.slabs},
                  {"block", NULL, s.block});
    cuda_push_launch(made, s.rows * s.slabs, 1, 1, s.block, 0);
    return true;
}
