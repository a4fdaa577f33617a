/* softcert_backend.h - what a shared library exports to be judged by softcert, version 1.
 *
 *     gcc -O2 -shared -fPIC -I"$(softcert backends --include)" -o libfast.so fast.c -lm
 *     softcert check ./libfast.so --op attention --dtype float32
 *
 * Export softcert_abi_version and any of the ops; each op that is exported is judged. Other languages
 * need no header: the symbols are plain C functions.
 *
 * Every array is in C order (the last axis is contiguous), in the machine's byte order, and aligned to
 * its element, no more: a load of a whole vector has to be an unaligned one. Sizes are in elements and may
 * be 0. The library owns no memory that it is handed: operands are read only, results are written whole.
 * A result starts full of NaN, and the page behind each array cannot be touched.
 *
 * float16 and bfloat16 are the 16 bits of the number, in a uint16_t. With them lse is float32; otherwise
 * it has the dtype of the other arrays.
 */
#ifndef SOFTCERT_BACKEND_H
#define SOFTCERT_BACKEND_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SOFTCERT_EXPORT __attribute__((visibility("default")))
#else
#define SOFTCERT_EXPORT
#endif

#define SOFTCERT_ABI_VERSION 1

/* The dtype of an op's arrays. */
enum { SOFTCERT_FLOAT64 = 0, SOFTCERT_FLOAT32 = 1, SOFTCERT_FLOAT16 = 2, SOFTCERT_BFLOAT16 = 3 };

/* What an op returns. UNSUPPORTED says that the library does not have what was asked: the dtype, a mask,
 * heads that share keys. It is not a fault, and is reported as what the library lacks. Any other status but
 * OK is a failed call. */
enum { SOFTCERT_OK = 0, SOFTCERT_UNSUPPORTED = 1, SOFTCERT_FAILED = 2 };

/* Required. Return SOFTCERT_ABI_VERSION. */
SOFTCERT_EXPORT uint32_t softcert_abi_version(void);

/* Optional. A JSON object that stays valid, with any of the keys
 *     "name"      how reports call the library
 *     "dtypes"    list of those that it takes; without it float64 and float32 are tried
 *     "contract"  object of what it promises, see docs/how-to/write-a-contract.md
 *     "beta"      true if softmax takes a beta that is not 1
 *     "versions"  object of library names and versions, for the report
 */
SOFTCERT_EXPORT const char *softcert_declaration(void);

/* --- softmax: arrays (rows, n), along n ------------------------------------------------------------ */

/* y = exp(beta x) / sum exp(beta x). beta is 1 unless the declaration says that others are taken. */
SOFTCERT_EXPORT int softcert_softmax(int32_t dtype, int64_t rows, int64_t n, double beta,
                                     const void *x, void *y);
/* y = x - log sum exp(x). */
SOFTCERT_EXPORT int softcert_log_softmax(int32_t dtype, int64_t rows, int64_t n, const void *x, void *y);
/* lse = log sum exp(x), an array (rows) of the dtype of x. */
SOFTCERT_EXPORT int softcert_logsumexp(int32_t dtype, int64_t rows, int64_t n, const void *x, void *lse);
/* dx = y (dy - sum y dy), from the y given. */
SOFTCERT_EXPORT int softcert_softmax_vjp(int32_t dtype, int64_t rows, int64_t n,
                                         const void *y, const void *dy, void *dx);
/* dy = y (dx - sum y dx), from the y given. */
SOFTCERT_EXPORT int softcert_softmax_jvp(int32_t dtype, int64_t rows, int64_t n,
                                         const void *y, const void *dx, void *dy);

/* Sparsemax, the nearest point of the simplex: y = max(x - tau, 0), tau such that y sums to 1. */
SOFTCERT_EXPORT int softcert_sparsemax(int32_t dtype, int64_t rows, int64_t n, const void *x, void *y);
/* dx = s (dy - sum s dy / sum s), from the y given: s = 1 where y > 0, else 0. */
SOFTCERT_EXPORT int softcert_sparsemax_vjp(int32_t dtype, int64_t rows, int64_t n,
                                           const void *y, const void *dy, void *dx);
/* y = max((alpha - 1) x - tau, 0)^(1 / (alpha - 1)), alpha > 1. UNSUPPORTED is an answer to an alpha. */
SOFTCERT_EXPORT int softcert_entmax(int32_t dtype, int64_t rows, int64_t n, double alpha,
                                    const void *x, void *y);
/* As sparsemax_vjp with s = y^(2 - alpha) where y > 0. */
SOFTCERT_EXPORT int softcert_entmax_vjp(int32_t dtype, int64_t rows, int64_t n, double alpha,
                                        const void *y, const void *dy, void *dx);

/* Cross-entropy of rows of logits, whose targets (rows) are int64 and lie in 0 .. n - 1 or are ignore_index:
 * loss = (1 - s) (lse - x_t) + (s / n) sum_j (lse - x_j) + z lse^2, an array (rows) of the dtype of x; 0 where
 * the target is ignored. s is label_smoothing, z is z_loss. UNSUPPORTED is an answer to any of the options. */
SOFTCERT_EXPORT int softcert_cross_entropy(int32_t dtype, int64_t rows, int64_t n, double label_smoothing,
                                           int64_t ignore_index, double z_loss,
                                           const void *x, const void *target, void *loss);
/* dx = its gradient times dloss (rows): dloss (p_j (1 + 2 z lse) - (1 - s) [j = t] - s / n). */
SOFTCERT_EXPORT int softcert_cross_entropy_vjp(int32_t dtype, int64_t rows, int64_t n,
                                               double label_smoothing, int64_t ignore_index, double z_loss,
                                               const void *x, const void *target, const void *dloss,
                                               void *dx);

/* The hierarchical softmax: a tree of n + 1 classes, whose n nodes have the scores s (rows, n). The path of class
 * w is at path_starts[w] .. path_starts[w + 1] - 1 of path_nodes and path_signs, which are 1 or -1; all are int64.
 * logp = sum over the path of target (rows) of log sigma(sign s_node), an array (rows) of the dtype of s. */
SOFTCERT_EXPORT int softcert_hierarchical_log_softmax(int32_t dtype, int64_t rows, int64_t n,
                                                      const void *s, const void *target,
                                                      const void *path_starts, const void *path_nodes,
                                                      const void *path_signs, void *logp);
/* ds (rows, n) = its gradient times dlogp (rows): dlogp sign sigma(-sign s_node) on the path, 0 off it. */
SOFTCERT_EXPORT int softcert_hierarchical_log_softmax_vjp(int32_t dtype, int64_t rows, int64_t n,
                                                          const void *s, const void *target,
                                                          const void *dlogp, const void *path_starts,
                                                          const void *path_nodes, const void *path_signs,
                                                          void *ds);

/* Gumbel-softmax: y = softmax((x + g) / tau), g drawn independently with P(g <= t) = exp(-exp(-t)); where hard is
 * 1 the one-hot vector of its largest. seed fixes g, the same for every tau and for hard. Nothing outlives the
 * call. UNSUPPORTED is an answer to a tau or to hard. */
SOFTCERT_EXPORT int softcert_gumbel_softmax(int32_t dtype, int64_t rows, int64_t n, double tau, int64_t hard,
                                            int64_t seed, const void *x, void *y);

/* --- attention ------------------------------------------------------------------------------------- */

enum { SOFTCERT_MASK_NONE = 0, SOFTCERT_MASK_BOOLEAN = 1, SOFTCERT_MASK_ADDITIVE = 2 };

/* Shapes:  q, dq             (batch, heads, queries, features)
 *          k, dk             (batch, kv_heads, keys, features)
 *          v, dv             (batch, kv_heads, keys, columns)
 *          out, dout         (batch, heads, queries, columns)
 *          lse               (batch, heads, queries), natural logarithm
 *          mask              (batch, heads, queries, keys)
 * Head h of q reads head h / (heads / kv_heads) of k and v. */
typedef struct softcert_attention_call {
    int64_t batch, heads, kv_heads, queries, keys, features, columns;
    double scale;       /* factor of q k^T; 1 / sqrt(features) unless another was asked */
    int32_t causal;     /* 1: query i sees key j only if j <= i + keys - queries */
    int32_t mask_kind;  /* what mask holds */
    const void *mask;   /* BOOLEAN: one byte each, 1 is visible; ADDITIVE: dtype, added to scores; else NULL */
} softcert_attention_call;

SOFTCERT_EXPORT int softcert_attention(int32_t dtype, const softcert_attention_call *call,
                                       const void *q, const void *k, const void *v, void *out);
SOFTCERT_EXPORT int softcert_attention_lse(int32_t dtype, const softcert_attention_call *call,
                                           const void *q, const void *k, const void *v,
                                           void *out, void *lse);
/* Gradients at dout, the scores made again from the out and lse given. */
SOFTCERT_EXPORT int softcert_attention_vjp(int32_t dtype, const softcert_attention_call *call,
                                           const void *q, const void *k, const void *v,
                                           const void *out, const void *lse, const void *dout,
                                           void *dq, void *dk, void *dv);
/* Attention over the union of two disjoint sets of keys: out (rows, columns), lse (rows). */
SOFTCERT_EXPORT int softcert_attention_merge(int32_t dtype, int64_t rows, int64_t columns,
                                             const void *out_a, const void *lse_a,
                                             const void *out_b, const void *lse_b,
                                             void *out, void *lse);

#ifdef __cplusplus
}
#endif

#endif
