"""Log-probabilities of the leaves of a tree, and their slopes, with one fault each."""

import numpy as np


def _log_sigma(t):
    return np.minimum(t, 0) - np.log1p(np.exp(-np.abs(t)))


def _sigma(t):
    term = np.exp(-np.abs(t))
    return np.where(t > 0, 1 / (1 + term), term / (1 + term))


def _leaf(s, target, starts, nodes, signs, axis, of_path=None, path_of=None):
    """What `of_path` makes of the signed scores of each path; the sum of log sigma by default."""
    rows = np.moveaxis(s, axis, -1)
    result = np.empty(target.shape, s.dtype)
    choose = path_of or (lambda leaf: slice(starts[leaf], starts[leaf + 1]))
    with np.errstate(all="ignore"):
        for place in np.ndindex(target.shape):
            path = choose(int(target[place]))
            t = rows[place][nodes[path]] * signs[path].astype(s.dtype)
            result[place] = of_path(t) if of_path else np.sum(_log_sigma(t))
    return result


def _slope(s, target, dlogp, starts, nodes, signs, axis, of_row):
    rows = np.moveaxis(s, axis, -1)
    result = np.zeros_like(rows)
    with np.errstate(all="ignore"):
        for place in np.ndindex(target.shape):
            path = slice(starts[target[place]], starts[target[place] + 1])
            of_row(result[place], rows[place], nodes[path], signs[path].astype(s.dtype), dlogp[place])
    return np.moveaxis(result, -1, axis)


def leaf_log_of_product(s, target, path_starts, path_nodes, path_signs, axis=-1):
    """The logarithm of the product of the probabilities, which underflows first."""
    return _leaf(
        s,
        target,
        path_starts,
        path_nodes,
        path_signs,
        axis,
        lambda t: np.log(np.prod(_sigma(t), dtype=t.dtype)),
    )


def leaf_sign_turned(s, target, path_starts, path_nodes, path_signs, axis=-1):
    """Branch 1 taken for the one of sigma(-s)."""
    return _leaf(s, target, path_starts, path_nodes, -path_signs, axis)


def leaf_exp_overflows(s, target, path_starts, path_nodes, path_signs, axis=-1):
    """-log(1 + exp(-t)), whose exponential overflows far from 0."""
    return _leaf(
        s, target, path_starts, path_nodes, path_signs, axis, lambda t: -np.sum(np.log1p(np.exp(-t)))
    )


def leaf_masked_by_a_product(s, target, path_starts, path_nodes, path_signs, axis=-1):
    """Every node computed and those off the path multiplied by 0, which NaN and infinity survive."""
    rows = np.moveaxis(s, axis, -1)
    result = np.empty(target.shape, s.dtype)
    with np.errstate(all="ignore"):
        for place in np.ndindex(target.shape):
            path = slice(path_starts[target[place]], path_starts[target[place] + 1])
            on, sign = np.zeros_like(rows[place]), np.ones_like(rows[place])
            on[path_nodes[path]], sign[path_nodes[path]] = 1, path_signs[path]
            result[place] = np.sum(_log_sigma(rows[place] * sign) * on)
    return result


def leaf_last_node_left_out(s, target, path_starts, path_nodes, path_signs, axis=-1):
    """A loop that ends one node early."""
    return _leaf(
        s, target, path_starts, path_nodes, path_signs, axis,
        path_of=lambda leaf: slice(path_starts[leaf], max(path_starts[leaf], path_starts[leaf + 1] - 1)),
    )  # fmt: skip


def leaf_cut_at_balanced_depth(s, target, path_starts, path_nodes, path_signs, axis=-1):
    """Room for the path of a balanced tree, which those of words and chains are longer than."""
    depth = int(np.ceil(np.log2(len(path_starts) - 1))) if len(path_starts) > 2 else 0

    def path_of(leaf):
        return slice(path_starts[leaf], min(path_starts[leaf] + depth, path_starts[leaf + 1]))

    return _leaf(s, target, path_starts, path_nodes, path_signs, axis, path_of=path_of)


def leaf_clipped(s, target, path_starts, path_nodes, path_signs, axis=-1):
    """Every branch's probability kept above 1e-7."""
    return _leaf(
        s, target, path_starts, path_nodes, path_signs, axis,
        lambda t: np.sum(np.maximum(_log_sigma(t), t.dtype.type(np.log(1e-7)))),
    )  # fmt: skip


def leaf_likely_branch_is_certain(s, target, path_starts, path_nodes, path_signs, axis=-1):
    """A softplus cut off, as that of some libraries is: log sigma(t) = 0 beyond 8."""
    return _leaf(
        s, target, path_starts, path_nodes, path_signs, axis,
        lambda t: np.sum(np.where(t > 8, t.dtype.type(0), _log_sigma(t))),
    )  # fmt: skip


def leaf_of_the_next_class(s, target, path_starts, path_nodes, path_signs, axis=-1):
    """The path of the next class, off by one."""
    last = len(path_starts) - 2

    def path_of(leaf):
        return slice(path_starts[min(leaf + 1, last)], path_starts[min(leaf + 1, last) + 1])

    return _leaf(s, target, path_starts, path_nodes, path_signs, axis, path_of=path_of)


def leaf_one_path_for_all(s, target, path_starts, path_nodes, path_signs, axis=-1):
    """The path of the first row's class for every row."""
    first = int(target.reshape(-1)[0]) if target.size else 0
    return _leaf(
        s, target, path_starts, path_nodes, path_signs, axis,
        path_of=lambda _leaf: slice(path_starts[first], path_starts[first + 1]),
    )  # fmt: skip


def leaf_in_float32(s, target, path_starts, path_nodes, path_signs, axis=-1):
    """Computed in float32 whatever was given."""
    narrow = s.astype(np.float32)
    return _leaf(narrow, target, path_starts, path_nodes, path_signs, axis).astype(s.dtype)


def slope_at_every_node(s, target, dlogp, path_starts, path_nodes, path_signs, axis=-1):
    """t - sigma(s) with t = 0 off the path, where the slope is 0."""

    def of_row(result, row, nodes, signs, cotangent):
        result[:] = -_sigma(row) * cotangent
        result[nodes] = signs * _sigma(-row[nodes] * signs) * cotangent

    return _slope(s, target, dlogp, path_starts, path_nodes, path_signs, axis, of_row)


def slope_of_the_branch_taken(s, target, dlogp, path_starts, path_nodes, path_signs, axis=-1):
    """The probability of the branch taken in place of the other one's."""

    def of_row(result, row, nodes, signs, cotangent):
        result[nodes] = signs * _sigma(row[nodes] * signs) * cotangent

    return _slope(s, target, dlogp, path_starts, path_nodes, path_signs, axis, of_row)


def slope_without_cotangent(s, target, dlogp, path_starts, path_nodes, path_signs, axis=-1):
    """A cotangent that is taken and not looked at."""

    def of_row(result, row, nodes, signs, _cotangent):
        result[nodes] = signs * _sigma(-row[nodes] * signs)

    return _slope(s, target, dlogp, path_starts, path_nodes, path_signs, axis, of_row)


def slope_masked_by_a_product(s, target, dlogp, path_starts, path_nodes, path_signs, axis=-1):
    """Every node's slope times 0 or 1, which a NaN off the path survives."""

    def of_row(result, row, nodes, signs, cotangent):
        on, sign = np.zeros_like(row), np.ones_like(row)
        on[nodes], sign[nodes] = 1, signs
        result[:] = sign * _sigma(-row * sign) * cotangent * on

    return _slope(s, target, dlogp, path_starts, path_nodes, path_signs, axis, of_row)
