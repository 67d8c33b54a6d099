// What stands before the kernels' text when it is compiled for the host: the part of CUDA C++ that the backend's texts use, and in
// the place of prelude_instructions.c the functions of the same names. No header of the system is read, as NVRTC reads none.
// text.c rewrites what comes out of the preprocessor: it finds the kernels by lv_sim_global, and gives each __shared__ variable a
// section of its kernel's to lie in.
#define LV_SIM 1
#define __CUDA_ARCH__ LV_SIM_ARCH
#define __CUDACC_RTC__ 1
#define __global__ lv_sim_global
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...) lv_sim_bounds(__VA_ARGS__)
#define LV_D static __device__ __forceinline__
#define LV_SHARED(type, name) type *name = (type *)lv_sim_dynamic_shared()
#define LV_SIM_F static inline __attribute__((always_inline))

typedef decltype(sizeof 0) size_t;

struct lv_sim_index {
    unsigned x, y, z;
};
struct lv_sim_quad {
    float d[4];
};
struct lv_sim_words {
    unsigned r[4];
};

#pragma GCC visibility push(hidden)
extern "C" {
// Never to change, for the compiler: a thread's indices are its own, and their reads are not accesses to be checked.
extern const lv_sim_index lv_sim_threadIdx, lv_sim_blockIdx, lv_sim_blockDim, lv_sim_gridDim;
void lv_sim_vector(const void *address, unsigned bytes);
void lv_sim_barrier(int line);
unsigned long long lv_sim_collective(int kind, unsigned mask, unsigned long long value, unsigned operand, unsigned width);
lv_sim_quad lv_sim_mma(int kind, lv_sim_quad d, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1);
lv_sim_words lv_sim_ldmatrix(int kind, const void *row);
void lv_sim_copy(void *shared, const void *global, int bytes, int size);
void lv_sim_copy_commit();
void lv_sim_copy_wait(int groups);
void lv_sim_wgmma(int kind, unsigned columns, unsigned across, float *sums, unsigned long long left, unsigned long long right);
void lv_sim_proxy_fence();
unsigned lv_sim_shared_address(const void *shared);
unsigned long long lv_sim_atomic_add(void *address, unsigned bytes, unsigned long long more);
void lv_sim_fence();
void *lv_sim_dynamic_shared();
unsigned lv_sim_to_bf16(float x);
unsigned lv_sim_to_f16(float x);
float lv_sim_from_f16(unsigned h);
unsigned lv_sim_to_tf32(float x);
}
#pragma GCC visibility pop
#define threadIdx lv_sim_threadIdx
#define blockIdx lv_sim_blockIdx
#define blockDim lv_sim_blockDim
#define gridDim lv_sim_gridDim
#define warpSize 32

// ---- vectors: read and written whole, from addresses that are multiples of their size. To the compiler they are not aligned, so
// that an address that is not fails with a message and not with a signal.
LV_SIM_F void lv_sim_check(const void *address, unsigned bytes) {
    size_t a = (size_t)address;
    __asm__("" : "+r"(a));
    if (__builtin_expect(a & (bytes - 1), 0)) lv_sim_vector(address, bytes);
}
// Empty ones are constants: what starts an array of them in shared memory when it is first met would be a variable in that memory too.
#define LV_SIM_VECTOR2(T, NAME)                                                        \
    struct NAME {                                                                      \
        T x, y;                                                                        \
        constexpr NAME() : x(), y() {}                                                 \
        LV_SIM_INLINE NAME(T a, T b = 0) : x(a), y(b) {}                               \
        LV_SIM_INLINE NAME(const NAME &o) { lv_sim_check(&o, sizeof o), x = o.x, y = o.y; } \
        LV_SIM_INLINE NAME &operator=(const NAME &o) {                                 \
            lv_sim_check(&o, sizeof o), lv_sim_check(this, sizeof o);                  \
            const T a = o.x, b = o.y;                                                  \
            x = a, y = b;                                                              \
            return *this;                                                              \
        }                                                                              \
    };                                                                                 \
    LV_SIM_F NAME make_##NAME(T x, T y) { return NAME(x, y); }
#define LV_SIM_VECTOR4(T, NAME)                                                        \
    struct NAME {                                                                      \
        T x, y, z, w;                                                                  \
        constexpr NAME() : x(), y(), z(), w() {}                                       \
        LV_SIM_INLINE NAME(T a, T b = 0, T c = 0, T d = 0) : x(a), y(b), z(c), w(d) {} \
        LV_SIM_INLINE NAME(const NAME &o) { lv_sim_check(&o, sizeof o), x = o.x, y = o.y, z = o.z, w = o.w; } \
        LV_SIM_INLINE NAME &operator=(const NAME &o) {                                 \
            lv_sim_check(&o, sizeof o), lv_sim_check(this, sizeof o);                  \
            const T a = o.x, b = o.y, c = o.z, d = o.w;                                \
            x = a, y = b, z = c, w = d;                                                \
            return *this;                                                              \
        }                                                                              \
    };                                                                                 \
    LV_SIM_F NAME make_##NAME(T x, T y, T z, T w) { return NAME(x, y, z, w); }
#define LV_SIM_INLINE inline __attribute__((always_inline))
LV_SIM_VECTOR2(float, float2)
LV_SIM_VECTOR2(int, int2)
LV_SIM_VECTOR2(unsigned, uint2)
LV_SIM_VECTOR2(double, double2)
LV_SIM_VECTOR2(long long, longlong2)
LV_SIM_VECTOR2(short, short2)
LV_SIM_VECTOR2(unsigned short, ushort2)
LV_SIM_VECTOR2(unsigned char, uchar2)
LV_SIM_VECTOR4(float, float4)
LV_SIM_VECTOR4(int, int4)
LV_SIM_VECTOR4(unsigned, uint4)
LV_SIM_VECTOR4(short, short4)
LV_SIM_VECTOR4(unsigned short, ushort4)
LV_SIM_VECTOR4(unsigned char, uchar4)

// ---- barriers and collectives
#define __syncthreads() lv_sim_barrier(__LINE__)
#define __threadfence() lv_sim_fence()
LV_SIM_F int atomicAdd(int *at, int more) { return (int)lv_sim_atomic_add(at, 4, (unsigned)more); }
LV_SIM_F unsigned atomicAdd(unsigned *at, unsigned more) { return (unsigned)lv_sim_atomic_add(at, 4, more); }
LV_SIM_F unsigned long long atomicAdd(unsigned long long *at, unsigned long long more) { return lv_sim_atomic_add(at, 8, more); }
#define __syncwarp(...) lv_sim_sync_warp(__VA_ARGS__)
#define __shfl_sync(...) lv_sim_shuffle(1, __VA_ARGS__)
#define __shfl_up_sync(...) lv_sim_shuffle(2, __VA_ARGS__)
#define __shfl_down_sync(...) lv_sim_shuffle(3, __VA_ARGS__)
#define __shfl_xor_sync(...) lv_sim_shuffle(4, __VA_ARGS__)
#define __ballot_sync(...) lv_sim_vote(5, __VA_ARGS__)
#define __any_sync(...) (int)lv_sim_vote(6, __VA_ARGS__)
#define __all_sync(...) (int)lv_sim_vote(7, __VA_ARGS__)
LV_SIM_F void lv_sim_sync_warp(unsigned mask = 0xFFFFFFFFu) { lv_sim_collective(0, mask, 0, 0, 32); }
LV_SIM_F unsigned lv_sim_vote(int kind, unsigned mask, int predicate) {
    return (unsigned)lv_sim_collective(kind, mask, predicate != 0, 0, 32);
}
template <class T, class W>
LV_SIM_F T lv_sim_shuffle_bits(int kind, unsigned mask, T value, unsigned operand, int width) {
    return __builtin_bit_cast(T, (W)lv_sim_collective(kind, mask, __builtin_bit_cast(W, value), operand, (unsigned)width));
}
#define LV_SIM_SHUFFLE(T, W)                                                                                        \
    LV_SIM_F T lv_sim_shuffle(int kind, unsigned mask, T value, unsigned operand, int width = 32) {       \
        return lv_sim_shuffle_bits<T, W>(kind, mask, value, operand, width);                                  \
    }
LV_SIM_SHUFFLE(int, unsigned)
LV_SIM_SHUFFLE(unsigned, unsigned)
LV_SIM_SHUFFLE(float, unsigned)
LV_SIM_SHUFFLE(double, unsigned long long)
LV_SIM_SHUFFLE(long long, unsigned long long)
LV_SIM_SHUFFLE(unsigned long long, unsigned long long)

// ---- wrappers of instructions
#define lv_mma_bf16(...) lv_sim_product(8, __VA_ARGS__)
#define lv_mma_f16(...) lv_sim_product(9, __VA_ARGS__)
#define lv_mma_tf32(...) lv_sim_product(10, __VA_ARGS__)
#define lv_ldmatrix2(...) lv_sim_load(11, 2, __VA_ARGS__)
#define lv_ldmatrix2_trans(...) lv_sim_load(12, 2, __VA_ARGS__)
#define lv_ldmatrix4(...) lv_sim_load(13, 4, __VA_ARGS__)
#define lv_ldmatrix4_trans(...) lv_sim_load(14, 4, __VA_ARGS__)
#define lv_copy_async16(...) lv_sim_copy_of(16, __VA_ARGS__)
#define lv_copy_async8(...) lv_sim_copy_of(8, __VA_ARGS__)
#define lv_copy_async4(...) lv_sim_copy_of(4, __VA_ARGS__)
#define lv_copy_commit() lv_sim_copy_commit()
#define lv_prefetch(address) ((void)(address))
#define LV_COPY_WAIT(n) lv_sim_copy_wait(n)
LV_SIM_F void lv_sim_product(int kind, float *d, const unsigned *a, const unsigned *b) {
    const lv_sim_quad q = lv_sim_mma(kind, {{d[0], d[1], d[2], d[3]}}, a[0], a[1], a[2], a[3], b[0], b[1]);
    d[0] = q.d[0], d[1] = q.d[1], d[2] = q.d[2], d[3] = q.d[3];
}
LV_SIM_F void lv_sim_load(int kind, int count, unsigned *r, const void *row) {
    const lv_sim_words w = lv_sim_ldmatrix(kind, row);
    r[0] = w.r[0], r[1] = w.r[1];
    if (count == 4) r[2] = w.r[2], r[3] = w.r[3];
}
LV_SIM_F void lv_sim_copy_of(int size, void *shared, const void *global, int bytes) {
    lv_sim_copy(shared, global, bytes, size);
}
// Products of warp groups: those of sm_90 alone.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define lv_wgmma_bf16(...) lv_sim_product_of_group(15, __VA_ARGS__)
#define lv_wgmma_f16(...) lv_sim_product_of_group(16, __VA_ARGS__)
#define lv_wgmma_fence() (void)lv_sim_collective(17, 0xFFFFFFFFu, 0, 0, 0)
#define lv_wgmma_commit() (void)lv_sim_collective(18, 0xFFFFFFFFu, 0, 0, 0)
#define LV_WGMMA_WAIT(n) (void)lv_sim_collective(19, 0xFFFFFFFFu, 0, n, 0)
#define lv_wgmma_keep(d) (void)(d)
#define lv_fence_proxy_async() lv_sim_proxy_fence()
LV_SIM_F void lv_sim_product_of_group(int kind, int columns, int across_a, int across_b, float (*d)[4], unsigned long long a, unsigned long long b) {
    lv_sim_wgmma(kind, (unsigned)columns, (unsigned)(across_a | across_b << 1), &d[0][0], a, b);
}
#define lv_shared_address(shared) lv_sim_shared_address(shared)
#endif
LV_D unsigned short lv_to_bf16(float x) { return (unsigned short)lv_sim_to_bf16(x); }
LV_D unsigned lv_pack_bf16(float low, float high) { return lv_sim_to_bf16(low) | lv_sim_to_bf16(high) << 16; }
LV_D unsigned short lv_to_f16(float x) { return (unsigned short)lv_sim_to_f16(x); }
LV_D float lv_from_f16(unsigned short h) { return lv_sim_from_f16(h); }
LV_D unsigned lv_pack_f16(float low, float high) { return lv_sim_to_f16(low) | lv_sim_to_f16(high) << 16; }
LV_D unsigned lv_to_tf32(float x) { return lv_sim_to_tf32(x); }
extern "C" float exp2f(float);
LV_D float lv_exp2(float x) { return x < -126.0f ? 0.0f : exp2f(x); }

// ---- bits and integers
LV_SIM_F int __float_as_int(float x) { return __builtin_bit_cast(int, x); }
LV_SIM_F unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
LV_SIM_F float __int_as_float(int x) { return __builtin_bit_cast(float, x); }
LV_SIM_F float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
LV_SIM_F long long __double_as_longlong(double x) { return __builtin_bit_cast(long long, x); }
LV_SIM_F double __longlong_as_double(long long x) { return __builtin_bit_cast(double, x); }
LV_SIM_F unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
LV_SIM_F int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
LV_SIM_F unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
LV_SIM_F int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
LV_SIM_F int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
LV_SIM_F int __popc(unsigned x) { return __builtin_popcount(x); }
LV_SIM_F int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
LV_SIM_F int __ffs(int x) { return __builtin_ffs(x); }
LV_SIM_F int __ffsll(long long x) { return __builtin_ffsll(x); }
LV_SIM_F unsigned __brev(unsigned x) {
    x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
    x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
    x = (x >> 4 & 0x0F0F0F0Fu) | (x & 0x0F0F0F0Fu) << 4;
    return __builtin_bswap32(x);
}
template <class T>
LV_SIM_F T __ldg(const T *at) { return *at; }

// min and max of two types are those of the wider one, unsigned where one is, as in CUDA.
#define LV_SIM_LEAST_MOST(T)                            \
    LV_SIM_F T min(T a, T b) { return b < a ? b : a; }  \
    LV_SIM_F T max(T a, T b) { return b > a ? b : a; }
LV_SIM_LEAST_MOST(int)
LV_SIM_LEAST_MOST(unsigned)
LV_SIM_LEAST_MOST(long long)
LV_SIM_LEAST_MOST(unsigned long long)
#define LV_SIM_MIXED(T, A, B)                                     \
    LV_SIM_F T min(A a, B b) { return min((T)a, (T)b); }          \
    LV_SIM_F T min(B a, A b) { return min((T)a, (T)b); }          \
    LV_SIM_F T max(A a, B b) { return max((T)a, (T)b); }          \
    LV_SIM_F T max(B a, A b) { return max((T)a, (T)b); }
LV_SIM_MIXED(unsigned, int, unsigned)
LV_SIM_MIXED(unsigned long long, long long, unsigned long long)

// ---- arithmetic and elementary functions
LV_SIM_F float __fadd_rn(float a, float b) { return a + b; }
LV_SIM_F float __fsub_rn(float a, float b) { return a - b; }
LV_SIM_F float __fmul_rn(float a, float b) { return a * b; }
LV_SIM_F float __fdiv_rn(float a, float b) { return a / b; }
LV_SIM_F float __frcp_rn(float a) { return 1.0f / a; }
LV_SIM_F float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
LV_SIM_F float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
LV_SIM_F double __dadd_rn(double a, double b) { return a + b; }
LV_SIM_F double __dmul_rn(double a, double b) { return a * b; }
LV_SIM_F int __float2int_rn(float x) { return (int)__builtin_rintf(x); }
LV_SIM_F int __float2int_rd(float x) { return (int)__builtin_floorf(x); }
LV_SIM_F int __float2int_rz(float x) { return (int)x; }
LV_SIM_F float __int2float_rn(int x) { return (float)x; }
#define LV_SIM_1(NAME)             \
    extern "C" double NAME(double); \
    extern "C" float NAME##f(float); \
    LV_SIM_F float NAME(float x) { return NAME##f(x); }
#define LV_SIM_2(NAME)                       \
    extern "C" double NAME(double, double);  \
    extern "C" float NAME##f(float, float);  \
    LV_SIM_F float NAME(float x, float y) { return NAME##f(x, y); }
LV_SIM_1(exp) LV_SIM_1(exp2) LV_SIM_1(expm1) LV_SIM_1(log) LV_SIM_1(log2) LV_SIM_1(log10) LV_SIM_1(log1p)
LV_SIM_1(sin) LV_SIM_1(cos) LV_SIM_1(tan) LV_SIM_1(asin) LV_SIM_1(acos) LV_SIM_1(atan) LV_SIM_1(sinh) LV_SIM_1(cosh) LV_SIM_1(tanh)
LV_SIM_1(erf) LV_SIM_1(erfc) LV_SIM_1(lgamma) LV_SIM_1(tgamma) LV_SIM_1(sqrt) LV_SIM_1(cbrt)
LV_SIM_1(floor) LV_SIM_1(ceil) LV_SIM_1(trunc) LV_SIM_1(round) LV_SIM_1(rint) LV_SIM_1(nearbyint) LV_SIM_1(fabs)
LV_SIM_2(pow) LV_SIM_2(fmod) LV_SIM_2(atan2) LV_SIM_2(fmin) LV_SIM_2(fmax) LV_SIM_2(copysign) LV_SIM_2(hypot)
extern "C" double fma(double, double, double);
extern "C" float fmaf(float, float, float);
extern "C" int abs(int);
LV_SIM_F float fma(float a, float b, float c) { return fmaf(a, b, c); }
LV_SIM_F float rsqrtf(float x) { return 1.0f / __builtin_sqrtf(x); }
LV_SIM_F double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
LV_SIM_F float abs(float x) { return __builtin_fabsf(x); }
LV_SIM_F double abs(double x) { return __builtin_fabs(x); }
LV_SIM_F long long abs(long long x) { return x < 0 ? -x : x; }
LV_SIM_F float min(float a, float b) { return fminf(a, b); }
LV_SIM_F float max(float a, float b) { return fmaxf(a, b); }
LV_SIM_F double min(double a, double b) { return fmin(a, b); }
LV_SIM_F double max(double a, double b) { return fmax(a, b); }
LV_SIM_F bool isnan(float x) { return __builtin_isnan(x); }
LV_SIM_F bool isnan(double x) { return __builtin_isnan(x); }
LV_SIM_F bool isinf(float x) { return __builtin_isinf(x); }
LV_SIM_F bool isinf(double x) { return __builtin_isinf(x); }
LV_SIM_F bool isfinite(float x) { return __builtin_isfinite(x); }
LV_SIM_F bool isfinite(double x) { return __builtin_isfinite(x); }

// ---- the table of kernels, which text.c appends
struct LvSimKernel {
    const char *name;
    void (*enter)(void **parameters);
    int parameters;
    const int *bytes;
    int fibers, most_threads;
    char *shared_start, *shared_stop;
};
template <class... T>
struct lv_sim_parameters {
    static constexpr int count = sizeof...(T);
    static constexpr int bytes[] = {(int)sizeof(T)..., 0};
};
template <class... T>
constexpr lv_sim_parameters<T...> lv_sim_of(void (*)(T...)) { return {}; }
#define LV_SIM_UNCHECKED __attribute__((no_sanitize("thread"))) inline
template <int...>
struct lv_sim_numbers {};
template <class... T, int... I>
LV_SIM_UNCHECKED void lv_sim_call_each(void (*kernel)(T...), void **p, lv_sim_numbers<I...>) { kernel(*(T *)p[I]...); }
template <class... T>
LV_SIM_UNCHECKED void lv_sim_call(void (*kernel)(T...), void **p) {
    lv_sim_call_each(kernel, p, lv_sim_numbers<__integer_pack(sizeof...(T))...>{});
}
constexpr int lv_sim_first(int first = 0, int = 0, int = 0) { return first; }
