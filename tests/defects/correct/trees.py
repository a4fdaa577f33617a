"""Correct log-probabilities of leaves and their slopes in forms that other people write."""

import numpy as np


def _padded(starts, nodes, signs):
    """Paths as matrices (K, depth), padded; and which places are no padding."""
    lengths = np.diff(starts)
    inside = np.arange(lengths.max(initial=0)) < lengths[:, None]
    which, branch = np.zeros(inside.shape, np.int64), np.ones(inside.shape, np.int64)
    which[inside], branch[inside] = nodes, signs
    return which, branch, inside


def _branches(s, target, paths, axis):
    rows = np.moveaxis(s, axis, -1)
    which, branch, inside = (a[target] for a in _padded(*paths))
    t = np.take_along_axis(rows, which, axis=-1) * branch.astype(s.dtype)
    return which, branch, np.where(inside, t, t.dtype.type(np.inf)), inside


def leaf_by_padded_paths(s, target, path_starts, path_nodes, path_signs, axis=-1):
    """All rows at once, short paths padded with certainties: -log(1 + exp(-t)) by logaddexp."""
    if not s.shape[axis]:
        return np.zeros(target.shape, s.dtype)
    with np.errstate(all="ignore"):
        _, _, t, inside = _branches(s, target, (path_starts, path_nodes, path_signs), axis)
        logs = np.where(inside, -np.logaddexp(s.dtype.type(0), -t), s.dtype.type(0))
        return logs.sum(axis=-1).astype(s.dtype)


def leaf_from_the_leaf_up(s, target, path_starts, path_nodes, path_signs, axis=-1):
    """The path from its end to the root, in float64."""
    rows = np.moveaxis(s, axis, -1)
    result = np.zeros(target.shape, s.dtype)
    with np.errstate(all="ignore"):
        for place in np.ndindex(target.shape):
            total = 0.0
            for k in range(path_starts[target[place] + 1] - 1, path_starts[target[place]] - 1, -1):
                t = float(rows[place][path_nodes[k]]) * int(path_signs[k])
                total += min(t, 0.0) - np.log1p(np.exp(-abs(t))) if not np.isnan(t) else np.nan
            result[place] = total
    return result


def slope_as_difference(s, target, dlogp, path_starts, path_nodes, path_signs, axis=-1):
    """dlogp (t - sigma(s)), t of 1 or 0 by the branch: the way of word2vec."""
    result = np.zeros_like(np.moveaxis(s, axis, -1))
    if not s.shape[axis]:
        return np.moveaxis(result, -1, axis)
    rows = np.moveaxis(s, axis, -1)
    one = s.dtype.type(1)
    with np.errstate(all="ignore"):
        for place in np.ndindex(target.shape):
            path = slice(path_starts[target[place]], path_starts[target[place] + 1])
            nodes = path_nodes[path]
            label = (path_signs[path] > 0).astype(s.dtype)
            result[place][nodes] = (label - one / (one + np.exp(-rows[place][nodes]))) * dlogp[place]
    return np.moveaxis(result, -1, axis)


def slope_by_padded_paths(s, target, dlogp, path_starts, path_nodes, path_signs, axis=-1):
    """All rows at once, put to their places by a loop over the depth."""
    result = np.zeros_like(np.moveaxis(s, axis, -1))
    if not s.shape[axis]:
        return np.moveaxis(result, -1, axis)
    with np.errstate(all="ignore"):
        which, branch, t, inside = _branches(s, target, (path_starts, path_nodes, path_signs), axis)
        other = np.exp(np.minimum(-t, 0)) / (1 + np.exp(-np.abs(t)))
        slopes = (other * branch.astype(s.dtype) * dlogp[..., None]).astype(s.dtype)
        flat, at = result.reshape(-1, result.shape[-1]), which.reshape(-1, which.shape[-1])
        values, there = slopes.reshape(at.shape), inside.reshape(at.shape)
        for k in range(at.shape[-1]):
            rows = np.flatnonzero(there[:, k])
            flat[rows, at[rows, k]] = values[rows, k]
    return np.moveaxis(flat.reshape(result.shape), -1, axis)
