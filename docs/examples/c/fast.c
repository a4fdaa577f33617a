/* A shared library for softcert: softmax by subtracting the maximum, and attention in one pass over the keys.
 *
 *     gcc -O2 -shared -fPIC -I"$(softcert backends --include)" -o libfast.so fast.c -lm
 *     softcert check ./libfast.so
 */
#include "softcert_backend.h"

#include <math.h>
#include <stddef.h>

uint32_t softcert_abi_version(void) { return SOFTCERT_ABI_VERSION; }

const char *softcert_declaration(void) {
    return "{\"name\": \"fast.c\", \"dtypes\": [\"float64\", \"float32\"],"
           " \"contract\": {\"form\": \"division\", \"memory\": \"linear\"}}";
}

static int visible(const softcert_attention_call *call, int64_t row, int64_t query, int64_t key) {
    if (call->causal && key > query + call->keys - call->queries) return 0;
    return call->mask_kind != SOFTCERT_MASK_BOOLEAN || ((const uint8_t *)call->mask)[row * call->keys + key];
}

#define DEFINE_OPS(T, NAME, EXP, LOG)                                                                          \
    static void softmax_##NAME(int64_t rows, int64_t n, const T *x, T *y) {                                   \
        for (int64_t r = 0; r < rows; r++, x += n, y += n) {                                                  \
            T top = -INFINITY, sum = 0;                                                                       \
            for (int64_t i = 0; i < n; i++) top = x[i] > top ? x[i] : top;                                    \
            for (int64_t i = 0; i < n; i++) sum += y[i] = EXP(x[i] - top);                                    \
            for (int64_t i = 0; i < n; i++) y[i] /= sum;                                                      \
        }                                                                                                     \
    }                                                                                                         \
                                                                                                              \
    static T score_##NAME(const softcert_attention_call *call, int64_t row, int64_t key, const T *q,          \
                          const T *k) {                                                                       \
        T sum = 0;                                                                                            \
        for (int64_t d = 0; d < call->features; d++) sum += q[d] * k[d];                                      \
        sum *= (T)call->scale;                                                                                \
        if (call->mask_kind == SOFTCERT_MASK_ADDITIVE) sum += ((const T *)call->mask)[row * call->keys + key]; \
        return sum;                                                                                           \
    }                                                                                                         \
                                                                                                              \
    /* One query: the sum of weights and of weighted values, rescaled whenever a larger score comes. */       \
    static T attend_##NAME(const softcert_attention_call *call, int64_t row, int64_t query, const T *q,       \
                           const T *k, const T *v, T *out) {                                                  \
        T top = -INFINITY, sum = 0;                                                                           \
        for (int64_t e = 0; e < call->columns; e++) out[e] = 0;                                               \
        for (int64_t j = 0; j < call->keys; j++, k += call->features, v += call->columns) {                   \
            if (!visible(call, row, query, j)) continue;                                                      \
            T score = score_##NAME(call, row, j, q, k);                                                       \
            if (score == -INFINITY) continue;                                                                 \
            T larger = score > top ? score : top;                                                             \
            T old = top == larger ? 1 : EXP(top - larger), weight = EXP(score - larger);                      \
            sum = sum * old + weight;                                                                         \
            for (int64_t e = 0; e < call->columns; e++) out[e] = out[e] * old + weight * v[e];                \
            top = larger;                                                                                     \
        }                                                                                                     \
        /* A query that sees no key: 0, and -inf for its lse. */                                              \
        for (int64_t e = 0; e < call->columns; e++) out[e] = sum == 0 ? 0 : out[e] / sum;                     \
        return top + LOG(sum);                                                                                \
    }                                                                                                         \
                                                                                                              \
    static void attention_##NAME(const softcert_attention_call *c, const T *q, const T *k, const T *v,        \
                                 T *out, T *lse) {                                                            \
        for (int64_t b = 0; b < c->batch; b++)                                                                \
            for (int64_t h = 0; h < c->heads; h++)                                                            \
                for (int64_t i = 0; i < c->queries; i++) {                                                    \
                    int64_t row = (b * c->heads + h) * c->queries + i;                                        \
                    int64_t shared = b * c->kv_heads + h / (c->heads / c->kv_heads);                          \
                    T found = attend_##NAME(c, row, i, q + row * c->features,                                 \
                                            k + shared * c->keys * c->features,                               \
                                            v + shared * c->keys * c->columns, out + row * c->columns);       \
                    if (lse) lse[row] = found;                                                                \
                }                                                                                             \
    }

DEFINE_OPS(float, float32, expf, logf)
DEFINE_OPS(double, float64, exp, log)

int softcert_softmax(int32_t dtype, int64_t rows, int64_t n, double beta, const void *x, void *y) {
    if (beta != 1.0) return SOFTCERT_UNSUPPORTED;
    if (dtype == SOFTCERT_FLOAT32) softmax_float32(rows, n, x, y);
    else if (dtype == SOFTCERT_FLOAT64) softmax_float64(rows, n, x, y);
    else return SOFTCERT_UNSUPPORTED;
    return SOFTCERT_OK;
}

int softcert_attention_lse(int32_t dtype, const softcert_attention_call *call, const void *q, const void *k,
                           const void *v, void *out, void *lse) {
    if (dtype == SOFTCERT_FLOAT32) attention_float32(call, q, k, v, out, lse);
    else if (dtype == SOFTCERT_FLOAT64) attention_float64(call, q, k, v, out, lse);
    else return SOFTCERT_UNSUPPORTED;
    return SOFTCERT_OK;
}

int softcert_attention(int32_t dtype, const softcert_attention_call *call, const void *q, const void *k,
                       const void *v, void *out) {
    return softcert_attention_lse(dtype, call, q, k, v, out, NULL);
}
