"""Text index, word runs and ties of earlier rows merged with those of new rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailorbird.data import contamination
from tailorbird.data.contamination import WordRuns
from tailorbird.data.duplicates.components import component_labels
from tailorbird.data.duplicates.exact import Item
from tailorbird.data.duplicates.near_duplicates import pairs_since
from tailorbird.data.duplicates.shared_text import PARTS, SAMPLE, SharedText
from tailorbird.data.duplicates.text_index import TextIndex, index_texts
from tailorbird.data.incremental.conditions import found_in
from tailorbird.data.incremental.state import Arrays, NotAnAppend, State
from tailorbird.data.item_digests import told_digests

Pairs = NDArray[np.int32]


@dataclass(frozen=True)
class MergedIndex:
    """Of all texts: ``label`` int32[T] numbers the group of near-duplicates that a text is in; of all items: ``text`` int32[N],
    ``subject`` int32[N], ``part`` int32[N], the part that texts and subjects tie together. ``arrays`` are those of texts, to be kept;
    ``undone`` are earlier texts that lost a tie, because what they share has become a phrase."""

    label: NDArray[np.int32]
    text: NDArray[np.int32]
    subject: NDArray[np.int32]
    part: NDArray[np.int32]
    shared: NDArray[np.bool_]
    pairs: Pairs
    arrays: Arrays
    undone: NDArray[np.int32]


def join(state: State, items: Sequence[Item], subjects: NDArray[np.int32], texts_at: Callable[[list[int]], list[str]]) -> MergedIndex:
    """Ties new ``items`` to each other and to earlier ones, of whose texts ``texts_at`` gives some. Raises NotAnAppend where a
    text of one person becomes one of several."""
    size = len(state["told"])
    numbers, texts = _texts(state, items)

    def any_at(places: list[int]) -> list[str]:
        earlier = iter(texts_at([place for place in places if place < size]))
        return [next(earlier) if place < size else texts[place - size] for place in places]

    index, runs, former = (
        index_of(state).joined(index_texts(texts)),
        runs_of(state).joined(contamination.runs_of(texts)),
        labels_of(state, size),
    )
    group_N = np.concatenate([former, np.arange(len(texts), dtype=np.int32) + size])
    later = pairs_since(index, any_at, size, group_N)
    held, undone = contamination.pairs_since(runs, any_at, size, state["overlaps"].astype(np.int64))
    lost = set(undone)
    still = np.array([tuple(pair) not in lost for pair in state["overlaps"].tolist()] if undone else [], dtype=np.bool_)
    earlier = state["overlaps"][still] if undone else state["overlaps"]
    arrays = {
        "told": np.concatenate([state["told"], told_digests(texts)]),
        "near": np.concatenate([state["near"], pairs_array(later)]),
        "overlaps": np.concatenate([earlier, pairs_array(held)]),
        **arrays_of(index, runs),
        **shared_of(state).arrays,
    }
    pairs, text = np.concatenate([arrays["near"], arrays["overlaps"]]), np.concatenate([state["text"], numbers])
    subject = np.concatenate([state["subject"], subjects])
    label = component_labels(len(group_N), *pairs.T)
    shared = shared_labels(label[text], subject)
    if (subject >= 0).any() and (shared[label[text[: len(state["text"])]]] != _former_shared(state, former)).any():
        raise NotAnAppend("a text of one person has become one of several")
    return MergedIndex(label, text, subject, _parts(label[text], subject, shared), shared, pairs, arrays, np.unique(pairs_array(undone)))


def shared_of(state: State) -> SharedText:
    """What most of the earlier rows share."""
    return SharedText(*(state[f"shared_{name}"] for name in PARTS))


def sample_since(ids_ND: NDArray[np.uint8], later_KD: NDArray[np.uint8]) -> list[int]:
    """The places of the sample of earlier and later items, as ``sampled``."""
    size = len(ids_ND) + len(later_KD)
    first_N = np.concatenate([ids_ND, later_KD])[:, :8].copy().view(">u8")[:, 0]
    near = np.argpartition(first_N, SAMPLE)[: SAMPLE + 1] if size > SAMPLE + 1 else np.arange(size)

    def id_at(place: int) -> bytes:
        return bytes(ids_ND[place] if place < len(ids_ND) else later_KD[place - len(ids_ND)])

    return sorted(near.tolist(), key=id_at)[:SAMPLE]


def index_of(state: State) -> TextIndex:
    """The index of the earlier texts."""
    return TextIndex(state["signatures"], state["lengths"], state["histograms"])


def runs_of(state: State) -> WordRuns:
    """The runs of the earlier texts."""
    return WordRuns(state["runs"], state["holders"], state["counts"])


def arrays_of(index: TextIndex, runs: WordRuns) -> dict[str, NDArray[Any]]:
    """Both, to be kept."""
    return {
        "signatures": index.signatures_PN,
        "lengths": index.lengths_N,
        "histograms": index.histograms_NB,
        "runs": runs.runs_R,
        "holders": runs.holders_R,
        "counts": runs.counts_N,
    }


def pairs_array(pairs: Sequence[tuple[int, int]]) -> Pairs:
    """Pairs, to be kept."""
    return np.array(pairs, dtype=np.int32).reshape(-1, 2)


def labels_of(state: State, size: int) -> NDArray[np.int32]:
    """The group of each earlier text."""
    return component_labels(size, *np.concatenate([state["near"], state["overlaps"]]).T)


def shared_labels(label_N: NDArray[np.int32], subject_N: NDArray[np.int32]) -> NDArray[np.bool_]:
    """By label: whether several subjects wrote texts of the group, which then tie nobody's rows together."""
    owned = subject_N >= 0
    subjects = int(subject_N.max(initial=-1)) + 1
    both = np.unique(label_N[owned].astype(np.int64) * subjects + subject_N[owned])
    return np.bincount(both // max(subjects, 1), minlength=int(label_N.max(initial=-1)) + 1) > 1


def _former_shared(state: State, former: NDArray[np.int32]) -> NDArray[np.bool_]:
    label_N = former[state["text"]]
    return np.asarray(shared_labels(label_N, state["subject"])[label_N])


def _parts(label_N: NDArray[np.int32], subject_N: NDArray[np.int32], shared: NDArray[np.bool_]) -> NDArray[np.int32]:
    size = len(shared)
    tied = (subject_N >= 0) & ~shared[label_N]
    pairs = np.unique(np.stack([label_N[tied], subject_N[tied] + np.int32(size)], axis=1), axis=0)
    return component_labels(size + int(subject_N.max(initial=-1)) + 1, *pairs.T)[label_N]


def _texts(state: State, items: Sequence[Item]) -> tuple[NDArray[np.int32], list[str]]:
    """The number of each item's text, and the texts that are new."""
    distinct = list(dict.fromkeys(item.compared for item in items))
    digests = told_digests(distinct)
    places = found_in(state["told"], digests)
    numbers, new = dict[str, int](), list[str]()
    for text, digest in zip(distinct, digests, strict=True):
        earlier = places.get(digest.tobytes())
        numbers[text] = len(state["told"]) + len(new) if earlier is None else earlier
        if earlier is None:
            new.append(text)
    return np.array([numbers[item.compared] for item in items], dtype=np.int32), new
