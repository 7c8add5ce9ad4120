/* The recurrence of the selective scan and its gradient, for float32 on a CPU. Called by native_scan.py.
 *
 *     h[t] = exp(dt[t] a) h[t-1] + b[t] x[t],    y[t] = sum over states of c[t] h[t]
 *
 * Arrays are contiguous and time first: dt, x, y (L, P, W); b, c (L, P, N); states (P, N, W); a (N, W), or one for
 * each item (P, N, W), told by `a_step`, the distance between items. Kept states: (chunks, P, N, W), the state
 * before each chunk of SCAN_CHUNK steps; the gradient computes the states of a chunk again from it.
 *
 * Items `first` to `last` are computed, so that threads can share the work. The inner loops run along channels,
 * where compilers vectorise them; channels are taken in blocks whose states stay in the cache.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SCAN_CHUNK 16
#define SCAN_BLOCK 128

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__) && __GNUC__ >= 12
/* One build, and the widest vectors that the processor which runs it has. */
#define WIDEST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDEST
#endif

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* Within 2 units in the last place. x = k ln 2 + r: a polynomial of r on half an octave, times 2^k. NaN stays NaN. */
static inline __attribute__((always_inline)) float exponential(float x)
{
    float inside = x < -87.3f ? -87.3f : x;
    inside = inside > 88.3f ? 88.3f : inside;
    float k = floorf(inside * 1.44269504f + 0.5f);
    float r = inside - k * 0.693359375f; /* ln 2 in two parts: the first product is exact */
    r += k * 2.12194440e-4f;
    float p = 1.98756915e-4f;
    p = p * r + 1.39819995e-3f;
    p = p * r + 8.33345191e-3f;
    p = p * r + 4.16657959e-2f;
    p = p * r + 1.66666655e-1f;
    p = p * r + 5.00000012e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = (int32_t)((uint32_t)((int32_t)k + 127) << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    p *= power;
    p = x < -87.3f ? 0.0f : p;
    return x > 88.3f ? INFINITY : p;
}

EXPORT int scan_chunk(void) { return SCAN_CHUNK; }

EXPORT WIDEST int scan_forward(long first, long last, long L, long P, long W, long N, long a_step, const float *dt,
                                const float *x, const float *a, const float *b, const float *c, const float *start,
                                float *y, float *kept, float *end)
{
    for (long p = first; p < last; p++) {
        float *h = end + p * N * W;
        memcpy(h, start + p * N * W, sizeof(float) * N * W);
        for (long t = 0; t < L; t++) {
            const float *dt_t = dt + (t * P + p) * W, *x_t = x + (t * P + p) * W;
            float *y_t = y + (t * P + p) * W;
            if (t % SCAN_CHUNK == 0)
                memcpy(kept + (t / SCAN_CHUNK * P + p) * N * W, h, sizeof(float) * N * W);
            memset(y_t, 0, sizeof(float) * W);
            for (long n = 0; n < N; n++) {
                float b_n = b[(t * P + p) * N + n], c_n = c[(t * P + p) * N + n];
                const float *restrict a_n = a + p * a_step + n * W;
                const float *restrict d = dt_t, *restrict in = x_t;
                float *restrict state = h + n * W, *restrict read = y_t;
#pragma omp simd
                for (long w = 0; w < W; w++) {
                    float now = exponential(d[w] * a_n[w]) * state[w] + b_n * in[w];
                    state[w] = now;
                    read[w] += c_n * now;
                }
            }
        }
    }
    return 0;
}

/* Gradients of a loss by dt, x, a (of each item), b, c and the start, given those by y and by the last state.
 * grad_b and grad_c come in as zeros. Gives 0, or 1 where there is no memory for the states of a chunk. */
EXPORT WIDEST int scan_backward(long first, long last, long L, long P, long W, long N, long a_step, const float *dt,
                                const float *x, const float *a, const float *b, const float *c, const float *kept,
                                const float *grad_y, const float *grad_end, float *grad_dt, float *grad_x,
                                float *grad_a, float *grad_b, float *grad_c, float *grad_start)
{
    long row = SCAN_BLOCK, step = N * row; /* states of a step: N rows of one block of channels */
    float *states = malloc(sizeof(float) * step * (2 * SCAN_CHUNK + 1));
    if (!states)
        return 1;
    float *decays = states + step * (SCAN_CHUNK + 1);
    for (long p = first; p < last; p++) {
        memcpy(grad_start + p * N * W, grad_end + p * N * W, sizeof(float) * N * W);
        memset(grad_a + p * N * W, 0, sizeof(float) * N * W);
        for (long from = 0; from < W; from += SCAN_BLOCK) {
            long width = W - from < SCAN_BLOCK ? W - from : SCAN_BLOCK;
            for (long chunk = (L + SCAN_CHUNK - 1) / SCAN_CHUNK - 1; chunk >= 0; chunk--) {
                long begin = chunk * SCAN_CHUNK, end = begin + SCAN_CHUNK < L ? begin + SCAN_CHUNK : L;
                for (long n = 0; n < N; n++)
                    memcpy(states + n * row, kept + ((chunk * P + p) * N + n) * W + from, sizeof(float) * width);
                for (long t = begin; t < end; t++) {
                    for (long n = 0; n < N; n++) {
                        float b_n = b[(t * P + p) * N + n];
                        long at = (t * P + p) * W + from;
                        const float *restrict d = dt + at, *restrict in = x + at;
                        const float *restrict a_n = a + p * a_step + n * W + from;
                        const float *restrict before = states + (t - begin) * step + n * row;
                        float *restrict after = states + (t - begin + 1) * step + n * row;
                        float *restrict decay = decays + (t - begin) * step + n * row;
#pragma omp simd
                        for (long w = 0; w < width; w++) {
                            float factor = exponential(d[w] * a_n[w]);
                            decay[w] = factor;
                            after[w] = factor * before[w] + b_n * in[w];
                        }
                    }
                }
                for (long t = end - 1; t >= begin; t--) {
                    long at = (t * P + p) * W + from;
                    memset(grad_dt + at, 0, sizeof(float) * width);
                    memset(grad_x + at, 0, sizeof(float) * width);
                    for (long n = 0; n < N; n++) {
                        float b_n = b[(t * P + p) * N + n], c_n = c[(t * P + p) * N + n], by_b = 0, by_c = 0;
                        const float *restrict d = dt + at, *restrict in = x + at, *restrict out = grad_y + at;
                        const float *restrict a_n = a + p * a_step + n * W + from;
                        const float *restrict before = states + (t - begin) * step + n * row;
                        const float *restrict after = states + (t - begin + 1) * step + n * row;
                        const float *restrict decay = decays + (t - begin) * step + n * row;
                        float *restrict carry = grad_start + (p * N + n) * W + from;
                        float *restrict by_a = grad_a + (p * N + n) * W + from;
                        float *restrict by_dt = grad_dt + at, *restrict by_x = grad_x + at;
#pragma omp simd reduction(+ : by_b, by_c)
                        for (long w = 0; w < width; w++) {
                            float grad = carry[w] + c_n * out[w];
                            by_c += after[w] * out[w];
                            by_b += grad * in[w];
                            by_x[w] += b_n * grad;
                            grad *= decay[w];
                            carry[w] = grad;
                            grad *= before[w]; /* of dt a */
                            by_dt[w] += grad * a_n[w];
                            by_a[w] += grad * d[w];
                        }
                        grad_b[(t * P + p) * N + n] += by_b;
                        grad_c[(t * P + p) * N + n] += by_c;
                    }
                }
            }
        }
    }
    free(states);
    return 0;
}
