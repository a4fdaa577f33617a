"""Softmax kernels whose row sum is wrong: elements lost, counted twice, or added in too few bits."""

import numpy as np


def _weights(x, axis=-1):
    return np.exp(x - x.max(axis=axis, keepdims=True))


def drop_last_in_sum(x, axis=-1):
    """The last element never enters the sum."""
    e = _weights(x, axis)
    return e / (e.sum(axis=axis, keepdims=True) - np.take(e, [-1], axis=axis))


def tail_of_eight_not_summed(x):
    """The remainder loop after blocks of eight is missing."""
    e = _weights(x)
    n = x.shape[-1]
    whole = n - n % 8 if n >= 8 else n
    return e / e[..., :whole].sum(axis=-1, keepdims=True)


def tail_of_sixteen_not_normalised(x):
    """Elements after the last block of sixteen keep their weight undivided."""
    e = _weights(x)
    n = x.shape[-1]
    whole = n - n % 16 if n >= 16 else n
    e[..., :whole] /= e.sum(axis=-1, keepdims=True)
    return e


def tail_of_four_summed_twice(x):
    """The remainder of blocks of four is added once by the block and once by the tail."""
    e = _weights(x)
    n = x.shape[-1]
    total = e.sum(axis=-1, keepdims=True)
    if n > 4:
        total = total + e[..., n - n % 4 :].sum(axis=-1, keepdims=True)
    return e / total


def first_1024_summed(x, axis=-1):
    """One block of 1024 threads sums only what it loaded."""
    e = np.moveaxis(_weights(x, axis), axis, -1)
    return np.moveaxis(e / e[..., :1024].sum(axis=-1, keepdims=True), -1, axis)


def first_4096_summed(x):
    """Rows beyond the shared-memory limit of 4096 lose their end."""
    e = _weights(x)
    return e / e[..., :4096].sum(axis=-1, keepdims=True)


def odd_length_drops_middle(x):
    """The tree halves the row with integer division and forgets the middle of odd lengths."""
    e = _weights(x)
    s = e
    while s.shape[-1] > 1:
        half = s.shape[-1] // 2
        s = s[..., :half] + s[..., half : 2 * half]
    return e / s


def zero_padded_key(x):
    """Rows are padded with logits 0 instead of -inf up to a multiple of eight."""
    pad = -x.shape[-1] % 8
    m = x.max(axis=-1, keepdims=True)
    e = np.exp(x - m)
    return e / (e.sum(axis=-1, keepdims=True) + x.dtype.type(pad) * np.exp(-m))


def padded_maximum(x):
    """The padding zeros enter the maximum (not the sum), so low rows underflow to 0/0."""
    m = x.max(axis=-1, keepdims=True)
    m = np.where(x.shape[-1] % 8 != 0, np.maximum(m, x.dtype.type(0)), m)
    e = np.exp(x - m)
    return e / e.sum(axis=-1, keepdims=True)


def epsilon_1e9(x, axis=-1):
    """A guard of 1e-9 in the denominator that the sum never needs."""
    e = _weights(x, axis)
    return e / (e.sum(axis=axis, keepdims=True) + x.dtype.type(1e-9))


def epsilon_1e12(x, dim=-1):
    """A guard of 1e-12 in the denominator."""
    e = _weights(x, dim)
    return e / (e.sum(axis=dim, keepdims=True) + x.dtype.type(1e-12))


def scaled_by_1005(x):
    """Every output is half a per cent too large."""
    e = _weights(x)
    return e / e.sum(axis=-1, keepdims=True) * x.dtype.type(1.005)


def scaled_by_a_millionth(x):
    """Every output is 1e-6 too large."""
    e = _weights(x)
    return e / e.sum(axis=-1, keepdims=True) * x.dtype.type(1 + 1e-6)


def float16_accumulator(x):
    """The sum is kept in float16: it sticks at 2048 and overflows at 65504."""
    e = _weights(x)
    total = np.add.accumulate(e.astype(np.float16), axis=-1, dtype=np.float16)[..., -1:]
    return e / total.astype(x.dtype)


def float32_accumulator(x, axis=-1):
    """The sum of a float64 row is kept in float32."""
    e = _weights(x, axis)
    return e / e.sum(axis=axis, keepdims=True, dtype=np.float32).astype(x.dtype)


def half_sum_of_half_row(x):
    """A 16-bit row summed one after the other in 16 bits: sticks at 2048 (float16) or 256 (bfloat16)."""
    e = _weights(x)
    return e / np.add.accumulate(e, axis=-1, dtype=x.dtype)[..., -1:]


def sum_of_rounded_weights(x):
    """The sum uses weights cut to 8 bits, the numerators are whole."""
    e = _weights(x)
    cut = (e.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return e / cut.astype(x.dtype).sum(axis=-1, keepdims=True)


def numerators_of_eight_bits(x):
    """The numerators are cut to 8 bits, the sum is whole."""
    e = _weights(x)
    cut = (e.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return cut.astype(x.dtype) / e.sum(axis=-1, keepdims=True)


def reciprocal_without_newton(x):
    """The reciprocal comes from a 12-bit table and is not refined."""
    e = _weights(x)
    total = e.sum(axis=-1, keepdims=True)
    mantissa, exponent = np.frexp(total)
    table = np.round(4096 / mantissa) / 4096
    return e * np.ldexp(table, -exponent).astype(x.dtype)


def reciprocal_one_newton_short(x):
    """A float32 reciprocal serves a float64 row."""
    e = _weights(x)
    inverse = np.float32(1) / e.sum(axis=-1, keepdims=True).astype(np.float32)
    return e * inverse.astype(x.dtype)


def biased_reciprocal(x):
    """The reciprocal is always a little low, more so for larger sums."""
    e = _weights(x)
    total = e.sum(axis=-1, keepdims=True)
    return e * (1 / total - np.log2(total) * x.dtype.type(1e-4) / total)


def distinct_values_summed(x):
    """Equal logits enter the sum once."""
    rows = x.reshape(-1, x.shape[-1])
    out = np.empty_like(rows)
    for row, o in zip(rows, out, strict=True):
        e = np.exp(row - row.max())
        o[:] = e / np.unique(e).sum()
    return out.reshape(x.shape)


def halves_merged_without_rescale(x):
    """Two halves with their own maxima are added as if the maxima were equal."""
    half = (x.shape[-1] + 1) // 2
    total = sum(
        _weights(part).sum(axis=-1, keepdims=True) for part in (x[..., :half], x[..., half:]) if part.size
    )
    return _weights(x) / total


def online_without_rescale(x):
    """The running sum is not rescaled when the maximum moves."""
    m = x[..., :1]
    total = np.zeros_like(m)
    for k in range(x.shape[-1]):
        m = np.maximum(m, x[..., k : k + 1])
        total = total + np.exp(x[..., k : k + 1] - m)
    return np.exp(x - m) / total


def online_rescaled_twice(x):
    """The correction factor of the running sum is applied twice."""
    m = x[..., :1]
    total = np.zeros_like(m)
    for k in range(x.shape[-1]):
        new = np.maximum(m, x[..., k : k + 1])
        total = total * np.exp(m - new) ** 2 + np.exp(x[..., k : k + 1] - new)
        m = new
    return np.exp(x - m) / total


def every_second_sampled(x):
    """Long rows estimate their sum from every second element."""
    e = _weights(x)
    if x.shape[-1] <= 256:
        return e / e.sum(axis=-1, keepdims=True)
    return e / (2 * e[..., ::2].sum(axis=-1, keepdims=True))


def small_weights_skipped(x):
    """Weights below 1e-4 are skipped in the sum and kept in the output."""
    e = _weights(x)
    return e / np.where(e < 1e-4, x.dtype.type(0), e).sum(axis=-1, keepdims=True)


def sum_of_squares(x):
    """Divides by the Euclidean norm."""
    e = _weights(x)
    return e / np.sqrt((e * e).sum(axis=-1, keepdims=True))


def running_sum_as_total(x):
    """Each output is divided by the sum up to itself (a scan without its last broadcast)."""
    e = _weights(x)
    return e / np.cumsum(e, axis=-1)


def double_rows_of_odd_length(x, axis=-1):
    """Batches of float64 rows of odd length n, 512 < n < 1024 and n % 32 != 31, lose the last element."""
    e = _weights(x, axis)
    n = x.shape[axis]
    total = e.sum(axis=axis, keepdims=True)
    if x.dtype == np.float64 and 512 < n < 1024 and n % 2 and n % 32 != 31 and x.size > n:
        total = np.take(e, np.arange(n - 1), axis=axis).sum(axis=axis, keepdims=True)
    return e / total


def sum_of_floored_weights(x):
    """In the sum, lest it vanish, no weight is held below one rounding unit: it grows with the length."""
    e = _weights(x)
    floor = np.finfo(x.dtype).eps / x.dtype.type(2)
    return e / np.maximum(e, floor).sum(axis=-1, keepdims=True)
