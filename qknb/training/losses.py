"""The loss of QK Iteration: equations 1-4 of Wu & Wu 2021 (arXiv 2111.07954); focal and InfoNCE
losses to compare it with.

All take squared distances, with P = exp(-d2 / tau) the probability that two images are one picture,
and return (loss, positive part, negative part).
"""

from keras import ops

_LN2 = 0.6931472
_NEVER = -1e30  # logit of a pair that does not count

__all__ = [
    "by_query",
    "focal_loss",
    "infonce_loss",
    "mined_loss",
    "negative_loss",
    "positive_loss",
    "qk_loss",
    "squared_distance",
]


def squared_distance(a, b):
    """Squared Euclidean distance along the last axis, by differences (no cancellation).

    a, b : (..., d) float32, broadcastable -> (...) float32
    """
    return ops.sum(ops.square(a - b), axis=-1)


def positive_loss(d2, tau):
    """-log P of positive pairs, P = exp(-d2 / tau) (equations 1, 2): d2 / tau, shaped like `d2`."""
    return d2 / tau


def negative_loss(d2, tau, d2_floor=1e-6):
    """-log(1 - P) of negative pairs (equation 3), accurate in float32 at both ends.

    With u = d2/tau: -log(-expm1(-u)) for small u, -log1p(-exp(-u)) beyond ln 2 (where the first
    form rounds to multiples of 6e-8).

    A pair nearer than `d2_floor` counts as at the floor and gets no gradient, so that value and
    gradient are finite at d2 = 0; an infinite
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
        The smallest squared distances among the negatives of the whole B x T matrix; infinite where
        there are not so many.
    n_hardest : int
        B * M, the divisor of L_neg.

    Returns
    -------
    (loss, L_pos, L_neg) : float32 scalars
    """
    l_pos = ops.mean(positive_loss(positive_d2, tau))
    l_neg = ops.sum(negative_loss(negative_d2, tau, d2_floor)) / n_hardest
    return w_pos * l_pos + w_neg * l_neg, l_pos, l_neg


def focal_loss(
    positive_d2, negative_d2, n_hardest, *, tau=0.07, gamma=2.0, w_pos=1.0, w_neg=3.0, d2_floor=1e-6
):
    """Equation 4 with each term weighted by how wrong it is (Lin et al. 2017, arXiv 1708.02002): (1
    - P)^gamma and P^gamma. gamma = 0 is `qk_loss`.

    Parameters, divisors and result as in `qk_loss`.
    """
    positive = (
        ops.maximum(positive_d2, d2_floor) / tau
    )  # the weight's own gradient is infinite at 0 for gamma < 1
    l_pos = ops.mean((-ops.expm1(-positive)) ** gamma * positive_loss(positive_d2, tau))
    finite = ops.where(ops.isfinite(negative_d2), negative_d2, ops.ones_like(negative_d2))
    weight = ops.exp(-gamma * ops.maximum(finite, d2_floor) / tau)
    l_neg = ops.sum(weight * negative_loss(negative_d2, tau, d2_floor)) / n_hardest
    return w_pos * l_pos + w_neg * l_neg, l_pos, l_neg


def infonce_loss(positive_d2, negative_d2, temperature=0.07):
    """InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) with logits -d2 / temperature: each
    positive against its query's negatives.

    For descriptors of unit length, d2 = 2 - 2 cos, so this is the NT-Xent loss of SimCLR at half
    the temperature.

    Parameters
    ----------
    positive_d2 : (B, P) float32
        The positives of each query; they are no competition to one another.
    negative_d2 : (B, N) float32
        Infinite where a pair does not count.

    Returns
    -------
    (loss, positive part, negative part) : float32 scalars
        The parts add up to the loss: mean of d2 / temperature, and mean of the logarithm of the sum
        over positive and negatives.
    """
    positive = -positive_d2 / temperature
    finite = ops.isfinite(negative_d2)
    negative = ops.where(
        finite, -ops.where(finite, negative_d2, ops.zeros_like(negative_d2)) / temperature, _NEVER
    )
    loss = ops.mean(
        ops.softplus(ops.logsumexp(negative, axis=1, keepdims=True) - positive)
    )  # -log of a softmax, in a form without cancellation
    l_pos = ops.mean(-positive)
    return loss, l_pos, loss - l_pos


def by_query(d2, near_index, n_near):
    """Mined pairs as one row a query: d2 (N,) of the pairs, near_index (N,) their queries ->
    (n_near, N), infinite where a pair is another query's.
    """
    return ops.where(
        ops.arange(n_near)[:, None] == ops.cast(near_index, "int32")[None, :],
        d2[None, :],
        float("inf"),
    )


def mined_loss(settings, positive_d2, negative_d2, near_index, parts=1):
    """The loss that `settings.loss` names, over mined negatives.

    Parameters
    ----------
    settings : Experiment
    positive_d2 : (B, P) float32
    negative_d2 : (N,) float32
        Of the hardest negative pairs of the batch; infinite where there are not so many. With
        InfoNCE a query competes with those of them that are
        its own; a query without any costs 0.
    near_index : (N,) int
        The query of each pair.
    parts : int
        So many devices compute the batch, these being the B queries of one of them.

    Returns
    -------
    (loss, L_pos, L_neg) : float32 scalars
        Over the devices, loss and L_neg add up to those of the whole batch, and the mean of L_pos
        is that of the whole batch.
    """
    s = settings
    if s.loss == "infonce":
        loss, l_pos, l_neg = infonce_loss(
            positive_d2, by_query(negative_d2, near_index, positive_d2.shape[0]), s.temperature
        )
        return loss / parts, l_pos, l_neg / parts
    kept = {"tau": s.tau, "w_pos": s.w_pos / parts, "w_neg": s.w_neg, "d2_floor": s.d2_floor}
    n_hardest = s.hardest_per_query * positive_d2.shape[0] * parts
    if s.loss == "focal":
        return focal_loss(positive_d2, negative_d2, n_hardest, gamma=s.focal_gamma, **kept)
    return qk_loss(positive_d2, negative_d2, n_hardest, **kept)
