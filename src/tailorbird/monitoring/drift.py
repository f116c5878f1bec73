"""Two-sample drift tests of texts, lengths and classes, with valid p-values and effect sizes that do not grow with n.

Where no formula gives the p-value at these sizes, it comes from permutation: under no drift the two samples are exchangeable, so the share
of relabellings that look at least as different (the observed one counted among them; Phipson & Smyth 2010) is below α with a probability of
at most α, at every sample size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.value import Value
from tailorbird.monitoring.sketch import vector
from tailorbird.stats.intervals import Floats

#: Messages of either side that are compared; more are drawn from.
MOST_TEXTS = 1000
#: Relabellings: the smallest p-value is 1 / 1000.
_PERMUTATIONS = 999
#: The kernel's exponent at the median squared distance.
_NARROW = 4.0
#: Up to here the exact distribution of Kolmogorov and Smirnov's D is quick.
_EXACT_KS = 500
#: From here on, two texts have the same sketch.
_SAME = 1 - 1e-6
#: Rounding may make equal statistics differ: by this share of them, and by this much around 0.
_TIE, _TIE_AT_ZERO = 1e-9, 1e-12


class DriftTest(Value):
    """A two-sample test. ``effect`` is what its function says; the counts are of the items that were compared."""

    p_value: float
    effect: float
    n_reference: int
    n_live: int


def text_drift(reference: Sequence[str], live: Sequence[str], seed: int) -> DriftTest:
    """Do two sets of sketches come from the same kind of text? Maximum mean discrepancy (Gretton 2012, JMLR 13), permutation p-value.

    The kernel is Gaussian, exp(−4 d² / m), m the median squared distance of the pool: narrower than the customary median rule, which all
    but sees the mean of text vectors only (see docs/design/releases.md). At most 1,000 of either side are compared, drawn with ``seed``;
    give each text once a side. ``effect`` is how often the test's own witness function ranks a live message above a reference one (the
    area under its ROC curve): 0.5 is chance, 1 is always. Raises InvalidInput on fewer than two items a side.
    """
    _check_sizes(len(reference), len(live))
    generator = np.random.default_rng(seed)
    items_R, items_L = (_drawn(side, generator) for side in (reference, live))
    points_ND = np.stack([vector(sketch) for sketch in (*items_R, *items_L)]).astype(np.float64)
    products_NN = points_ND @ points_ND.T
    lengths_N = np.diag(products_NN)
    squares_NN = np.maximum(0.0, lengths_N[:, None] + lengths_N[None, :] - 2 * products_NN)
    median = float(np.median(squares_NN[np.triu_indices(len(points_ND), 1)]))
    # A pool in which most texts are the same has a median of 0; distances of unit vectors then speak for themselves.
    kernel_NN: Floats = np.exp(-_NARROW * squares_NN / (median or 1.0))
    weights_N = np.repeat([-1 / len(items_R), 1 / len(items_L)], [len(items_R), len(items_L)])
    shuffled_PN = generator.permuted(np.tile(weights_N, (_PERMUTATIONS, 1)), axis=1)
    return DriftTest(
        p_value=_permutation_p(float(weights_N @ kernel_NN @ weights_N), np.sum(shuffled_PN @ kernel_NN * shuffled_PN, axis=1)),
        effect=_separation(kernel_NN, len(items_R)),
        n_reference=len(items_R),
        n_live=len(items_L),
    )


def length_drift(reference: Sequence[int], live: Sequence[int]) -> DriftTest:
    """Do two sets of lengths differ? Two-sample Kolmogorov–Smirnov; ``effect`` is D, the largest gap of the distribution functions.

    Lengths have ties, which make the p-value larger than need be, never smaller. Raises InvalidInput on fewer than two items a side.
    """
    from scipy.stats import ks_2samp  # here, because it is slow to import and the gateway never needs it

    _check_sizes(len(reference), len(live))
    method = "exact" if max(len(reference), len(live)) <= _EXACT_KS else "asymp"
    result = ks_2samp(np.asarray(reference, dtype=float), np.asarray(live, dtype=float), method=method)
    return DriftTest(
        p_value=float(np.clip(result.pvalue, 0, 1)), effect=float(result.statistic), n_reference=len(reference), n_live=len(live)
    )


def class_drift(expected: Mapping[str, int], live: Mapping[str, int], seed: int) -> DriftTest:
    """Are two sets of classes shared out alike? G-test of homogeneity with a permutation p-value, so that rare classes do no harm.

    Relabelling items with both totals fixed draws live counts from the multivariate hypergeometric distribution. ``effect`` is the
    population stability index Σ (q − p) ln(q / p), half an item added to each count, less its mean under no drift: raw, it grows with the
    number of classes over the number of items. Raises InvalidInput on fewer than two items a side or a negative count.
    """
    classes = sorted(set(expected) | set(live))
    counts_R, counts_L = (np.array([side.get(name, 0) for name in classes], dtype=np.int64) for side in (expected, live))
    if min(counts_R.min(initial=0), counts_L.min(initial=0)) < 0:
        raise InvalidInput("a class cannot have been seen a negative number of times", "give counts")
    _check_sizes(int(counts_R.sum()), int(counts_L.sum()))
    pooled = counts_R + counts_L
    generator = np.random.default_rng(seed)
    drawn_PC = generator.multivariate_hypergeometric(pooled, int(counts_L.sum()), size=_PERMUTATIONS, method="marginals")
    null_g, null_psi = _g(pooled - drawn_PC, drawn_PC), _stability(pooled - drawn_PC, drawn_PC)
    return DriftTest(
        p_value=_permutation_p(float(_g(counts_R, counts_L)), null_g),
        effect=max(0.0, float(_stability(counts_R, counts_L) - null_psi.mean())),
        n_reference=int(counts_R.sum()),
        n_live=int(counts_L.sum()),
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p-values corrected for being several (Holm 1979), in the order given: the chance of any ≤ α where nothing drifted is at most α."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return tuple(corrected)


def _check_sizes(reference: int, live: int) -> None:
    if min(reference, live) < 2:
        raise InvalidInput(f"{reference} reference and {live} live items cannot be compared", "give at least two of each")


def _drawn(sketches: Sequence[str], generator: np.random.Generator) -> list[str]:
    if len(sketches) <= MOST_TEXTS:
        return list(sketches)
    return [sketches[place] for place in generator.choice(len(sketches), MOST_TEXTS, replace=False)]


def _separation(kernel_NN: Floats, n_reference: int) -> float:
    """Area under the ROC curve of the witness: mean kernel to live items less mean kernel to reference ones.

    An item is left out of the mean of its own side, and one copy of it (kernel 1) out of the other's: so a text that both sides hold speaks
    for neither.
    """
    is_live_N = np.arange(len(kernel_NN)) >= n_reference
    to_reference_N, to_live_N = (_mean_without_one(kernel_NN[:, side_N], own_N=side_N) for side_N in (~is_live_N, is_live_N))
    witness_N = to_live_N - to_reference_N
    reference_R, live_L = np.sort(witness_N[~is_live_N]), witness_N[is_live_N]
    below = np.searchsorted(reference_R, live_L, "left") + np.searchsorted(reference_R, live_L, "right")
    return float(below.mean() / (2 * n_reference))


def _mean_without_one(kernel_NS: Floats, own_N: NDArray[np.bool_]) -> Floats:
    """Mean of each row over the items of one side: without the item itself where it is of that side, without one copy of it elsewhere."""
    left_out_N = own_N | (kernel_NS >= _SAME).any(axis=1)
    means_N: Floats = (kernel_NS.sum(axis=1) - left_out_N) / (kernel_NS.shape[1] - left_out_N)
    return means_N


def _permutation_p(observed: float, null_P: Floats) -> float:
    reached = int(np.sum(null_P >= observed - _TIE * abs(observed) - _TIE_AT_ZERO))
    return (1 + reached) / (1 + len(null_P))


def _g(counts_R: NDArray[np.int64], counts_L: NDArray[np.int64]) -> Floats:
    """Half of G = 2 Σ O ln(O / E), less what is the same for every relabelling; classes on the last axis."""
    g: Floats = np.sum(_x_log_x(counts_R) + _x_log_x(counts_L), axis=-1)
    return g


def _x_log_x(counts: NDArray[np.int64]) -> Floats:
    terms: Floats = counts.astype(np.float64) * np.log(np.maximum(counts, 1))
    return terms


def _stability(counts_R: NDArray[np.int64], counts_L: NDArray[np.int64]) -> Floats:
    """Population stability index over the last axis, half an item added to each count."""
    shares_R, shares_L = ((side + 0.5) / (side + 0.5).sum(axis=-1, keepdims=True) for side in (counts_R, counts_L))
    index: Floats = np.sum((shares_L - shares_R) * np.log(shares_L / shares_R), axis=-1)
    return index
