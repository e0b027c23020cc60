"""What chance does to an AUROC, counted in groups: a meme and its translations are one observation, not several."""

from collections.abc import Callable

import numpy as np

RESAMPLES_AT_ONCE = 100  # bounds the memory to 100 weights a row


def bootstrap_interval(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, samples: int, seed: int
) -> list[float] | None:
    """95 % percentile interval of the AUROC over `samples` draws of whole groups (cluster bootstrap).

    labels (0 or 1), scores and groups have shape [rows]. A draw without both labels does not count; None where none
    has both.
    """
    names, member = np.unique(groups, return_inverse=True)
    random = np.random.default_rng(seed)

    def draw(count: int) -> np.ndarray:
        counts = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)[:, member]
        return weighted_aurocs(scores, counts * labels, counts * (1 - labels))

    aurocs = in_portions(draw, samples)
    return [float(bound) for bound in np.percentile(aurocs, [2.5, 97.5])] if len(aurocs) else None


def shuffled_aurocs(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """AUROCs of the same scores against labels shuffled by group, shape [samples]: what chance gives on these rows."""
    random = np.random.default_rng(seed)

    def draw(count: int) -> np.ndarray:
        shuffled = np.stack([shuffle_by_group(labels, groups, random) for _ in range(count)])
        return weighted_aurocs(scores, shuffled, 1 - shuffled)

    return in_portions(draw, samples)


def in_portions(draw: Callable[[int], np.ndarray], samples: int) -> np.ndarray:
    """`samples` AUROCs from `draw(count)`, those left out that are NaN because a draw lacked a label."""
    portions = [draw(min(RESAMPLES_AT_ONCE, samples - start)) for start in range(0, samples, RESAMPLES_AT_ONCE)]
    aurocs = np.concatenate(portions)
    return aurocs[~np.isnan(aurocs)]


def weighted_aurocs(scores: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """AUROC of each draw, shape [draws]; positives and negatives [draws, rows] say how often a row counts as which."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # equal scores are one step of the curve
    positives = np.add.reduceat(positives[:, order], starts, axis=1)
    negatives = np.add.reduceat(negatives[:, order], starts, axis=1)
    below = negatives.cumsum(axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return np.divide((positives * below).sum(axis=1), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def shuffle_by_group(labels: np.ndarray, groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Labels (0 or 1) dealt out anew among the groups; a meme and its translations keep one label, as true labels do.

    Dealt out row by row, a meme's translations would contradict each other: a classifier would learn less of the
    nonsense than it can, and a control would look tamer than chance is. In a group of both labels, such as a harmful
    meme and its harmless twin, the rows of either label are dealt one of their own.
    """
    _, member = np.unique(groups, return_inverse=True)
    _, firsts, dealt = np.unique(2 * member + labels, return_index=True, return_inverse=True)
    return random.permutation(labels[firsts])[dealt]
