"""Cross-entropy and its gradient with one fault each."""

import numpy as np


def _parts(x, target, axis, ignore_index):
    z = np.moveaxis(x, axis, -1)
    ignored = target == ignore_index
    own = np.where(ignored, 0, target)[..., None]
    return z, own, ignored


def _log_p(z):
    top = z.max(axis=-1, keepdims=True)
    shifted = z - top
    total = np.exp(shifted).sum(axis=-1, keepdims=True)
    return shifted - np.log(total), (top + np.log(total))[..., 0]


def _loss(x, target, axis, smoothing, ignore_index, z_loss, share=None, log_p=_log_p):
    z, own, ignored = _parts(x, target, axis, ignore_index)
    with np.errstate(all="ignore"):
        log, lse = log_p(z)
        plain = -np.take_along_axis(log, own, axis=-1)[..., 0]
        loss = plain * x.dtype.type(1 - smoothing) if smoothing < 1 else np.zeros_like(plain)
        if smoothing:
            loss = loss + (share or _share)(log, plain, x.dtype.type(smoothing))
        if z_loss:
            loss = loss + x.dtype.type(z_loss) * lse**2
        return np.where(ignored, x.dtype.type(0), loss).astype(x.dtype)


def _share(log, _plain, smoothing):
    return -smoothing / log.dtype.type(log.shape[-1]) * log.sum(axis=-1)


def _slopes(x, target, dloss, axis, smoothing, ignore_index, z_loss, factor=2.0):
    z, own, ignored = _parts(x, target, axis, ignore_index)
    with np.errstate(all="ignore"):
        log, lse = _log_p(z)
        n = z.shape[-1]
        lift = 1 + factor * z_loss * lse[..., None] if z_loss else 1.0
        weights = np.where(np.arange(n) == own, 1 - smoothing, 0.0) + smoothing / n
        slopes = (np.exp(log) * lift - weights) * dloss[..., None]
        return np.moveaxis(np.where(ignored[..., None], 0.0, slopes), -1, axis).astype(x.dtype)


def loss_log_of_softmax(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """The logarithm of a probability, which underflows first."""

    def log_p(z):
        log, lse = _log_p(z)
        return np.log(np.exp(log)), lse

    return _loss(x, target, axis, label_smoothing, ignore_index, z_loss, log_p=log_p)


def loss_clipped(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """Probabilities kept above 1e-7, as Keras does."""

    def log_p(z):
        log, lse = _log_p(z)
        return np.maximum(log, z.dtype.type(np.log(1e-7))), lse

    return _loss(x, target, axis, label_smoothing, ignore_index, z_loss, log_p=log_p)


def loss_without_maximum(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """Exponentials of the logits themselves."""

    def log_p(z):
        lse = np.log(np.exp(z).sum(axis=-1, keepdims=True))
        return z - lse, lse[..., 0]

    return _loss(x, target, axis, label_smoothing, ignore_index, z_loss, log_p=log_p)


def loss_one_maximum_for_all(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """The maximum of the batch in place of the row's: rows far below it underflow."""

    def log_p(z):
        shifted = z - (z.max() if z.size else 0)
        lse = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return shifted - lse, (lse + (z.max() if z.size else 0))[..., 0]

    return _loss(x, target, axis, label_smoothing, ignore_index, z_loss, log_p=log_p)


def loss_smoothing_over_the_others(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """s / (n - 1) on every class but the target."""

    def share(log, plain, smoothing):
        return -smoothing / log.dtype.type(max(log.shape[-1] - 1, 1)) * (log.sum(axis=-1) + plain)

    return _loss(x, target, axis, label_smoothing, ignore_index, z_loss, share)


def loss_smoothing_not_divided(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """The sum of all logarithms in place of their mean."""

    def share(log, _plain, smoothing):
        return -smoothing * log.sum(axis=-1)

    return _loss(x, target, axis, label_smoothing, ignore_index, z_loss, share)


def loss_smoothing_ignored(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """The keyword is taken and not looked at."""
    return _loss(x, target, axis, 0.0, ignore_index, z_loss)


def loss_z_not_squared(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """z |lse| in place of z lse^2."""
    plain = _loss(x, target, axis, label_smoothing, ignore_index, 0.0)
    lse = _log_p(np.moveaxis(x, axis, -1))[1]
    return np.where(target == ignore_index, plain, plain + x.dtype.type(z_loss) * abs(lse)).astype(x.dtype)


def loss_z_of_the_maximum(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """The square of the largest logit, which logsumexp is near."""

    def log_p(z):
        return _log_p(z)[0], z.max(axis=-1)

    return _loss(x, target, axis, label_smoothing, ignore_index, z_loss, log_p=log_p)


def loss_z_smoothed_away(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """The z-loss scaled by 1 - s as the loss of the target is."""
    return _loss(x, target, axis, label_smoothing, ignore_index, z_loss * (1 - label_smoothing))


def loss_target_in_8_bits(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """Classes beyond 127 are others."""
    narrow = np.where(target == ignore_index, target, target.astype(np.int8) % x.shape[axis])
    return _loss(x, narrow, axis, label_smoothing, ignore_index, z_loss)


def loss_target_in_16_bits(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """Classes beyond 32767 are others."""
    narrow = np.where(target == ignore_index, target, target.astype(np.int16) % x.shape[axis])
    return _loss(x, narrow, axis, label_smoothing, ignore_index, z_loss)


def loss_counted_from_one(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """The class before the one that is named."""
    moved = np.where(target == ignore_index, target, np.maximum(target - 1, 0))
    return _loss(x, moved, axis, label_smoothing, ignore_index, z_loss)


def loss_of_targets_behind_the_batch(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """Each row takes the target of the row before it."""
    rolled = np.roll(target, 1) if target.ndim else target
    return _loss(x, rolled, axis, label_smoothing, ignore_index, z_loss)


def loss_ignores_minus_100_alone(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """Another mark is a class, counted from the end where it is negative."""
    return _loss(
        x, np.where(target == -100, target, target % x.shape[axis]), axis, label_smoothing, -100, z_loss
    )


def loss_ignored_by_a_product(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """0 times the NaN or infinity of an ignored row is NaN."""
    counted = target != ignore_index
    every = _loss(x, np.where(counted, target, 0), axis, label_smoothing, ignore_index - 1, z_loss)
    with np.errstate(all="ignore"):
        return np.asarray(every * counted.astype(x.dtype))


def loss_mean(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """The mean of all rows in the place of each."""
    each = _loss(x, target, axis, label_smoothing, ignore_index, z_loss)
    return np.full_like(each, each.mean()) if each.size else each


def loss_in_bits(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """Logarithms to the base 2."""
    return (_loss(x, target, axis, label_smoothing, ignore_index, z_loss) / np.log(2.0)).astype(x.dtype)


def gradient_of_the_mean(x, target, dloss, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """Divided by the number of rows."""
    count = max(int((target != ignore_index).sum()), 1)
    return _slopes(x, target, dloss / x.dtype.type(count), axis, label_smoothing, ignore_index, z_loss)


def gradient_of_the_first_cotangent(
    x, target, dloss, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0
):
    """One cotangent for all rows, as a reduced loss has."""
    first = np.full_like(dloss, dloss.flat[0]) if dloss.size else dloss
    return _slopes(x, target, first, axis, label_smoothing, ignore_index, z_loss)


def gradient_without_the_factor_two(
    x, target, dloss, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0
):
    """Of the z-loss half."""
    return _slopes(x, target, dloss, axis, label_smoothing, ignore_index, z_loss, factor=1.0)


def gradient_not_smoothed(x, target, dloss, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """p - 1 at the target, whatever the smoothing."""
    return _slopes(x, target, dloss, axis, 0.0, ignore_index, z_loss)


def gradient_of_ignored_rows_spoilt(
    x, target, dloss, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0
):
    """A product with 0, which a NaN survives, as in PyTorch 2.13."""
    counted = target != ignore_index
    every = _slopes(x, np.where(counted, target, 0), dloss, axis, label_smoothing, ignore_index - 1, z_loss)
    with np.errstate(all="ignore"):
        return every * np.expand_dims(counted, axis % x.ndim).astype(x.dtype)


def gradient_of_ignored_rows_kept(
    x, target, dloss, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0
):
    """The loss of an ignored row is 0, and its gradient that of class 0."""
    kept = np.where(target == ignore_index, 0, target)
    return _slopes(x, kept, dloss, axis, label_smoothing, ignore_index - 1, z_loss)


def gradient_without_the_target(
    x, target, dloss, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0
):
    """p alone: the one-hot vector is forgotten in rows of more than 16 classes."""
    slopes = _slopes(x, target, dloss, axis, label_smoothing, ignore_index, z_loss)
    if x.shape[axis] <= 16:
        return slopes
    return _slopes(x, target, dloss, axis, 1.0, ignore_index, z_loss)


def gradient_sign(x, target, dloss, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """That of the log-likelihood."""
    return -_slopes(x, target, dloss, axis, label_smoothing, ignore_index, z_loss)
