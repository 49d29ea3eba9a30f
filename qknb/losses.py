"""The loss of QK Iteration: equations 1-4 of Wu & Wu 2021 (arXiv 2111.07954)."""

from keras import ops

_LN2 = 0.6931472

__all__ = ["squared_distance", "positive_loss", "negative_loss", "qk_loss"]


def squared_distance(a, b):
    """Squared Euclidean distance along the last axis, by differences (no cancellation).

    a, b : (..., d) float32, broadcastable -> (...) float32
    """
    return ops.sum(ops.square(a - b), axis=-1)


def positive_loss(d2, tau):
    """-log P of positive pairs, P = exp(-d2/tau) (equations 1 and 2): d2 / tau. Same shape as `d2`."""
    return d2 / tau


def negative_loss(d2, tau, d2_floor=1e-6):
    """-log(1 - P) of negative pairs (equation 3), accurate in float32 at both ends.

    With u = d2/tau: -log(-expm1(-u)) for small u, -log1p(-exp(-u)) beyond ln 2 (where the first form rounds to multiples of 6e-8).

    A pair nearer than `d2_floor` counts as at the floor and gets no gradient, so that value and gradient are finite at d2 = 0; an infinite
    distance costs 0.
    """
    finite = ops.where(ops.isfinite(d2), d2, ops.ones_like(d2))
    u = ops.maximum(finite, d2_floor) / tau
    small, large = ops.minimum(u, _LN2), ops.maximum(u, _LN2)
    loss = ops.where(u < _LN2, -ops.log(-ops.expm1(-small)), -ops.log1p(-ops.exp(-large)))
    return ops.where(ops.isfinite(d2), loss, ops.zeros_like(d2))


def qk_loss(positive_d2, negative_d2, n_hardest, *, tau=0.07, w_pos=1.0, w_neg=3.0, d2_floor=1e-6):
    """Equation 4: w_pos * L_pos + w_neg * L_neg.

    Parameters
    ----------
    positive_d2 : (n_positives,) float32
        Squared distances of the positive pairs of the batch; L_pos is their mean.
    negative_d2 : (n_hardest,) float32
        The smallest squared distances among the negatives of the whole B x T matrix; infinite where there are not so many.
    n_hardest : int
        B * M, the divisor of L_neg.

    Returns
    -------
    (loss, L_pos, L_neg) : float32 scalars
    """
    l_pos = ops.mean(positive_loss(positive_d2, tau))
    l_neg = ops.sum(negative_loss(negative_d2, tau, d2_floor)) / n_hardest
    return w_pos * l_pos + w_neg * l_neg, l_pos, l_neg
