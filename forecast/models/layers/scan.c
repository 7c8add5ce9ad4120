/* The selective scan and its gradient, for float32 on a CPU. Called by native_scan.py.
 *
 *     dt = softplus(delta + bias),    h[t] = exp(dt[t] a) h[t-1] + b[t] dt[t] u[t]
 *     y[t] = (sum over states of c[t] h[t] + d u[t]) silu(z[t])
 *
 * Arrays have steps first, L x P x W values, or L x P x N for b and c. Rows are contiguous; an `array` tells the
 * distances of its steps and items, so that nothing is copied to call this. States are (P, N, W). Kept states are
 * (chunks, P, N, W), the state before each chunk of steps; the gradient computes all others again from them.
 *
 * Items `first` to `last` are computed, so that threads can share the work. The inner loops run along channels,
 * where compilers vectorise them; channels are taken in blocks whose states stay in the cache.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SCAN_INTERFACE 2   /* raised with every change of what native_scan.py calls */
#define SCAN_CHUNK 32      /* steps from one kept state to the next */
#define SCAN_BLOCK 128     /* channels of a block, at the most */
#define SCAN_VALUES 2048   /* states of a block at one step, channels times N, that a cache has room for */

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

#define INLINE static inline __attribute__((always_inline))

/* Rows of W or N values: NULL, or the first one and the distances, in values, to the next step and the next item. */
struct array {
    float *values;
    ptrdiff_t step, item;
};

/* Packed by native_scan.py: every field is as wide as a pointer. The second line holds states and constants, whose
 * `step` leads to the next of the N rows of an item; constants that all items share have 0 for `item`. */
struct scan {
    ptrdiff_t steps, items, width, states, soft;
    struct array u, delta, b, c, z;
    struct array a, d, bias, start, kept;
};

struct outputs {
    struct array y, end;
};

struct gradients {
    struct array y, end;              /* given */
    struct array u, delta, b, c, z;   /* to be computed */
    struct array a, d, bias, start;   /* one for each item */
};

/* Within 2 units in the last place. x = k ln 2 + r: a polynomial of r on half an octave, times 2^k. NaN stays NaN. */
INLINE float exponential(float x)
{
    float inside = x < -88.0f ? -88.0f : x; /* k = -127, whose power is 0 below */
    inside = inside > 89.0f ? 89.0f : inside; /* k = 128, whose power is infinite */
    float shifted = inside * 1.44269504f + 12582912.0f; /* 3 * 2^22: the last bits of this hold k, to the nearest */
    float k = shifted - 12582912.0f;
    float r = inside - k * 0.693359375f; /* ln 2 in two parts: the first product is exact */
    r += k * 2.12194440e-4f;
    float p = 1.98756915e-4f;
    p = p * r + 1.39819995e-3f;
    p = p * r + 8.33345191e-3f;
    p = p * r + 4.16657959e-2f;
    p = p * r + 1.66666655e-1f;
    p = p * r + 5.00000012e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + (127u << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* log(1 + e) for e from 0 to 1, as twice the area tangent of e / (2 + e): exact in the last places for small e too. */
INLINE float log_one_plus(float e)
{
    float s = e / (2.0f + e), q = s * s; /* q up to 1/9 */
    float p = 1.0f / 15.0f;
    p = p * q + 1.0f / 13.0f;
    p = p * q + 1.0f / 11.0f;
    p = p * q + 1.0f / 9.0f;
    p = p * q + 1.0f / 7.0f;
    p = p * q + 1.0f / 5.0f;
    p = p * q + 1.0f / 3.0f;
    return 2.0f * (s + s * q * p);
}

INLINE float logistic(float x) { return 1.0f / (1.0f + exponential(-x)); }

INLINE float *row(struct array of, ptrdiff_t step, ptrdiff_t item)
{
    return of.values + step * of.step + item * of.item;
}

INLINE ptrdiff_t smaller(ptrdiff_t one, ptrdiff_t other) { return one < other ? one : other; }

/* Channels of a block: fewer where there are many states, but always whole vectors. */
INLINE ptrdiff_t block_of(const struct scan *s)
{
    ptrdiff_t fit = SCAN_VALUES / s->states / 16 * 16;
    return fit < 16 ? 16 : smaller(fit, SCAN_BLOCK);
}

/* dt of one step and, unless `slope` is NULL, its derivative by delta. */
INLINE void step_sizes(const struct scan *s, ptrdiff_t t, ptrdiff_t p, ptrdiff_t from, ptrdiff_t width,
                       float *restrict dt, float *restrict slope)
{
    const float *restrict delta = row(s->delta, t, p) + from;
    if (s->bias.values) {
        const float *restrict bias = row(s->bias, 0, p) + from;
#pragma omp simd
        for (ptrdiff_t w = 0; w < width; w++)
            dt[w] = delta[w] + bias[w];
    } else
        memcpy(dt, delta, sizeof(float) * width);
    if (!s->soft) {
        if (slope)
            for (ptrdiff_t w = 0; w < width; w++)
                slope[w] = 1.0f;
        return;
    }
    if (!slope) {
#pragma omp simd
        for (ptrdiff_t w = 0; w < width; w++)
            dt[w] = (dt[w] > 0 ? dt[w] : 0) + log_one_plus(exponential(-fabsf(dt[w])));
        return;
    }
#pragma omp simd
    for (ptrdiff_t w = 0; w < width; w++) {
        float e = exponential(-fabsf(dt[w]));
        slope[w] = (dt[w] > 0 ? 1.0f : e) / (1.0f + e);
        dt[w] = (dt[w] > 0 ? dt[w] : 0) + log_one_plus(e);
    }
}

INLINE void begin_state(const struct scan *s, ptrdiff_t p, ptrdiff_t n, ptrdiff_t from, ptrdiff_t width, float *state)
{
    if (s->start.values)
        memcpy(state, row(s->start, n, p) + from, sizeof(float) * width);
    else
        memset(state, 0, sizeof(float) * width);
}

EXPORT int scan_interface(void) { return SCAN_INTERFACE; }

EXPORT int scan_chunk(void) { return SCAN_CHUNK; }

EXPORT WIDEST int scan_forward(const struct scan *s, const struct outputs *o, ptrdiff_t first, ptrdiff_t last)
{
    const ptrdiff_t L = s->steps, P = s->items, W = s->width, N = s->states, block = block_of(s);
    for (ptrdiff_t p = first; p < last; p++)
        for (ptrdiff_t from = 0; from < W; from += block) {
            ptrdiff_t width = smaller(block, W - from);
            float dt[SCAN_BLOCK], in[SCAN_BLOCK], out[SCAN_BLOCK];
            for (ptrdiff_t n = 0; n < N; n++)
                begin_state(s, p, n, from, width, row(o->end, n, p) + from);
            for (ptrdiff_t t = 0; t < L; t++) {
                const float *restrict u = row(s->u, t, p) + from;
                const float *b = row(s->b, t, p), *c = row(s->c, t, p);
                if (t % SCAN_CHUNK == 0)
                    for (ptrdiff_t n = 0; n < N; n++)
                        memcpy(row(s->kept, n, t / SCAN_CHUNK * P + p) + from, row(o->end, n, p) + from,
                               sizeof(float) * width);
                step_sizes(s, t, p, from, width, dt, NULL);
                if (s->d.values) {
                    const float *restrict d = row(s->d, 0, p) + from;
#pragma omp simd
                    for (ptrdiff_t w = 0; w < width; w++) {
                        in[w] = dt[w] * u[w];
                        out[w] = d[w] * u[w];
                    }
                } else {
#pragma omp simd
                    for (ptrdiff_t w = 0; w < width; w++) {
                        in[w] = dt[w] * u[w];
                        out[w] = 0;
                    }
                }
                for (ptrdiff_t n = 0; n < N; n++) {
                    const float *restrict a = row(s->a, n, p) + from;
                    float *restrict state = row(o->end, n, p) + from;
                    float b_n = b[n], c_n = c[n];
#pragma omp simd
                    for (ptrdiff_t w = 0; w < width; w++) {
                        float now = exponential(dt[w] * a[w]) * state[w] + b_n * in[w];
                        state[w] = now;
                        out[w] += c_n * now;
                    }
                }
                float *restrict y = row(o->y, t, p) + from;
                if (s->z.values) {
                    const float *restrict z = row(s->z, t, p) + from;
#pragma omp simd
                    for (ptrdiff_t w = 0; w < width; w++)
                        y[w] = out[w] * z[w] * logistic(z[w]);
                } else
                    memcpy(y, out, sizeof(float) * width);
            }
        }
    return 0;
}

/* Gives 0, or 1 where there is no memory for the states of a chunk. */
EXPORT WIDEST int scan_backward(const struct scan *s, const struct gradients *g, ptrdiff_t first, ptrdiff_t last)
{
    const ptrdiff_t L = s->steps, P = s->items, W = s->width, N = s->states, block = block_of(s);
    const ptrdiff_t step = N * block; /* states of a step: N rows of one block of channels */
    float *states = malloc(sizeof(float) * (step * (2 * SCAN_CHUNK + 1) + 2 * block * SCAN_CHUNK));
    if (!states)
        return 1;
    float *decays = states + step * (SCAN_CHUNK + 1), *dts = decays + step * SCAN_CHUNK;
    float *slopes = dts + block * SCAN_CHUNK;
    for (ptrdiff_t p = first; p < last; p++)
        for (ptrdiff_t from = 0; from < W; from += block) {
            ptrdiff_t width = smaller(block, W - from);
            float in[SCAN_BLOCK], read[SCAN_BLOCK], out[SCAN_BLOCK], by_dt[SCAN_BLOCK], by_in[SCAN_BLOCK];
            for (ptrdiff_t n = 0; n < N; n++) {
                float *carry = row(g->start, n, p) + from;
                if (g->end.values)
                    memcpy(carry, row(g->end, n, p) + from, sizeof(float) * width);
                else
                    memset(carry, 0, sizeof(float) * width);
                memset(row(g->a, n, p) + from, 0, sizeof(float) * width);
            }
            if (g->d.values)
                memset(row(g->d, 0, p) + from, 0, sizeof(float) * width);
            if (g->bias.values)
                memset(row(g->bias, 0, p) + from, 0, sizeof(float) * width);
            for (ptrdiff_t chunk = (L - 1) / SCAN_CHUNK; chunk >= 0 && L > 0; chunk--) {
                ptrdiff_t begin = chunk * SCAN_CHUNK, end = smaller(begin + SCAN_CHUNK, L);
                for (ptrdiff_t n = 0; n < N; n++)
                    memcpy(states + n * block, row(s->kept, n, chunk * P + p) + from, sizeof(float) * width);
                for (ptrdiff_t t = begin; t < end; t++) {
                    float *restrict dt = dts + (t - begin) * block;
                    const float *restrict u = row(s->u, t, p) + from;
                    const float *b = row(s->b, t, p);
                    step_sizes(s, t, p, from, width, dt, slopes + (t - begin) * block);
#pragma omp simd
                    for (ptrdiff_t w = 0; w < width; w++)
                        in[w] = dt[w] * u[w];
                    for (ptrdiff_t n = 0; n < N; n++) {
                        const float *restrict a = row(s->a, n, p) + from;
                        const float *restrict before = states + (t - begin) * step + n * block;
                        float *restrict after = states + (t - begin + 1) * step + n * block;
                        float *restrict decay = decays + (t - begin) * step + n * block;
                        float b_n = b[n];
#pragma omp simd
                        for (ptrdiff_t w = 0; w < width; w++) {
                            float factor = exponential(dt[w] * a[w]);
                            decay[w] = factor;
                            after[w] = factor * before[w] + b_n * in[w];
                        }
                    }
                }
                for (ptrdiff_t t = end - 1; t >= begin; t--) {
                    const float *restrict dt = dts + (t - begin) * block, *restrict u = row(s->u, t, p) + from;
                    const float *restrict slope = slopes + (t - begin) * block;
                    const float *restrict grad_y = row(g->y, t, p) + from;
                    const float *b = row(s->b, t, p), *c = row(s->c, t, p);
                    const float *after_all = states + (t - begin + 1) * step;
                    float *restrict grad_u = row(g->u, t, p) + from;
#pragma omp simd
                    for (ptrdiff_t w = 0; w < width; w++) {
                        in[w] = dt[w] * u[w];
                        by_dt[w] = by_in[w] = 0;
                        out[w] = grad_y[w];
                    }
                    if (s->z.values) { /* undo the gate */
                        const float *restrict z = row(s->z, t, p) + from;
                        float *restrict grad_z = row(g->z, t, p) + from;
                        memset(read, 0, sizeof(float) * width);
                        for (ptrdiff_t n = 0; n < N; n++) {
                            const float *restrict after = after_all + n * block;
                            float c_n = c[n];
#pragma omp simd
                            for (ptrdiff_t w = 0; w < width; w++)
                                read[w] += c_n * after[w];
                        }
                        if (s->d.values) {
                            const float *restrict d = row(s->d, 0, p) + from;
#pragma omp simd
                            for (ptrdiff_t w = 0; w < width; w++)
                                read[w] += d[w] * u[w];
                        }
#pragma omp simd
                        for (ptrdiff_t w = 0; w < width; w++) {
                            float open = logistic(z[w]);
                            grad_z[w] = out[w] * read[w] * open * (1.0f + z[w] * (1.0f - open));
                            out[w] *= z[w] * open;
                        }
                    }
                    float *by_b = row(g->b, t, p), *by_c = row(g->c, t, p);
                    for (ptrdiff_t n = 0; n < N; n++) {
                        float b_n = b[n], c_n = c[n], sum_b = 0, sum_c = 0;
                        const float *restrict a = row(s->a, n, p) + from;
                        const float *restrict before = after_all - step + n * block, *restrict after = after_all + n * block;
                        const float *restrict decay = decays + (t - begin) * step + n * block;
                        float *restrict carry = row(g->start, n, p) + from, *restrict by_a = row(g->a, n, p) + from;
#pragma omp simd reduction(+ : sum_b, sum_c)
                        for (ptrdiff_t w = 0; w < width; w++) {
                            float grad = carry[w] + c_n * out[w];
                            sum_c += after[w] * out[w];
                            sum_b += grad * in[w];
                            by_in[w] += b_n * grad;
                            grad *= decay[w];
                            carry[w] = grad;
                            grad *= before[w]; /* of dt a */
                            by_dt[w] += grad * a[w];
                            by_a[w] += grad * dt[w];
                        }
                        by_b[n] = from ? by_b[n] + sum_b : sum_b;
                        by_c[n] = from ? by_c[n] + sum_c : sum_c;
                    }
                    float *restrict grad_delta = row(g->delta, t, p) + from;
#pragma omp simd
                    for (ptrdiff_t w = 0; w < width; w++) {
                        grad_delta[w] = (by_dt[w] + by_in[w] * u[w]) * slope[w];
                        grad_u[w] = by_in[w] * dt[w];
                    }
                    if (s->d.values) {
                        const float *restrict d = row(s->d, 0, p) + from;
                        float *restrict by_d = row(g->d, 0, p) + from;
#pragma omp simd
                        for (ptrdiff_t w = 0; w < width; w++) {
                            grad_u[w] += out[w] * d[w];
                            by_d[w] += out[w] * u[w];
                        }
                    }
                    if (s->bias.values) {
                        float *restrict by_bias = row(g->bias, 0, p) + from;
#pragma omp simd
                        for (ptrdiff_t w = 0; w < width; w++)
                            by_bias[w] += grad_delta[w];
                    }
                }
            }
        }
    free(states);
    return 0;
}
