"""Label decision: from the scores of answers to one label or several, in evaluation and serving alike.

With several labels an answer is a set of them (``py``), and the answers that are scored are the sets that training showed. A
label's probability is that of all sets which hold it, or what was found for it alone, and a label is given when that reaches its threshold:
so a set can be answered that no training row had. The threshold is a half, or what the prompt names: it was chosen on rows held out of
train (``rungs.label_thresholds``).
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.errors import InvalidInput, ModelInvalid
from tailorbird.domain.evidence import ScopeRule, ScopeScorer
from tailorbird.domain.prompt import PromptSpec, written_answer
from tailorbird.ports.engine import LabelScores
from tailorbird.text.linear_classifier import LinearText

#: What the empty set is written as, and so no label's name.
NONE = "none"
SEPARATOR = "|"


def join(labels: Iterable[str]) -> str:
    """The text of a set of labels: sorted, each once, `` | `` between; ``none`` for the empty set.

    Raises InvalidInput when a label could not be told from the text around it: see ``check``.
    """
    distinct = sorted(set(labels))
    for label in distinct:
        check(label)
    return f" {SEPARATOR} ".join(distinct) or NONE


def split(text: str) -> tuple[str, ...]:
    """The labels in ``text``, sorted, each once.

    Any text is taken: outer white space and what is empty between separators do not count, nor does a ``none`` beside other labels. So
    ``split(join(labels))`` gives the labels back, and ``join(split(text))`` is the one spelling of ``text``.
    """
    parts = {part.strip() for part in text.split(SEPARATOR)}
    return tuple(sorted(part for part in parts if part and part.casefold() != NONE))


def check(label: str) -> None:
    """Raises InvalidInput when ``label`` is blank, has outer white space, holds the separator, or reads as the empty set."""
    if not label.strip() or label != label.strip():
        raise InvalidInput("a label is blank or has outer white space", "write the label without it")
    if SEPARATOR in label:
        hint = f"rename the label without {SEPARATOR!r}, which stands between labels"
        raise InvalidInput(f"the label {label[:80]!r} holds {SEPARATOR!r}", hint)
    if label.casefold() == NONE:
        hint = f"rename the label (to 'other', say): {NONE!r} alone says that no label applies, which in a list is []"
        raise InvalidInput(f"a label cannot be called {label!r}", hint)


#: A label is given at this probability, unless the prompt names another.
THRESHOLD = 0.5


@dataclass(frozen=True)
class LabelDecision:
    """An answer and the probability of each label: they add to 1 where one label is asked for."""

    answer: str
    probabilities: dict[str, float]


def decide_label(prompt: PromptSpec, log_probabilities: Sequence[float]) -> LabelDecision:
    """The answer to a text; ``log_probabilities`` (nats) are those of ``prompt.answers``, normalised over them, in their order.

    Of labels that score alike the first one listed wins. What the model prefers before it has read anything is taken off first.
    """
    probabilities = [math.exp(nats) for nats in without_priors(prompt, log_probabilities)]
    scored = dict(zip(prompt.answers, probabilities, strict=True))
    if prompt.alone:
        return LabelDecision(labels_above(scored, prompt.thresholds), scored)
    if not prompt.label_sets:
        return LabelDecision(max(scored, key=scored.__getitem__), scored)
    marginals = dict.fromkeys(prompt.labels, 0.0)
    for answer, probability in scored.items():
        for label in split(answer):
            marginals[label] += probability
    capped = {label: min(1.0, probability) for label, probability in marginals.items()}
    return LabelDecision(labels_above(capped, prompt.thresholds), capped)


def without_priors(prompt: PromptSpec, log_probabilities: Sequence[float]) -> tuple[float, ...]:
    """Log-probabilities less the prompt's priors, normalised again; as they are where there are no priors."""
    scores, total = _less_priors(prompt, log_probabilities)
    return tuple(score - total for score in scores)


def _less_priors(prompt: PromptSpec, log_probabilities: Sequence[float]) -> tuple[list[float], float]:
    """Scores less the prompt's priors, and the logarithm of their exponentiated sum (0 without priors: they are normalised)."""
    if not prompt.priors:
        return list(log_probabilities), 0.0
    scores = [nats - prior for nats, prior in zip(log_probabilities, prompt.priors, strict=True)]
    highest = max(scores)
    return scores, highest + math.log(sum(math.exp(score - highest) for score in scores))


def labels_above(marginals: dict[str, float], thresholds: Sequence[float] = ()) -> str:
    """The set of the labels whose probability reaches its threshold; ``thresholds`` in the order of ``marginals``, empty: a half."""
    bounds = thresholds or (THRESHOLD,) * len(marginals)
    return join(label for (label, found), bound in zip(marginals.items(), bounds, strict=True) if found >= bound)


def is_referred(found: LabelDecision, refer_below: float | None) -> bool:
    """True when the answer is not sure enough to be given, and a person must decide: its probability lies below ``refer_below``."""
    return refer_below is not None and found.probabilities.get(found.answer, 0.0) < refer_below


#: Names of the files.
PROTOTYPES, LEFT_OUT = "label_prototypes.npy", "left_out.npy"


@dataclass(frozen=True)
class LabelPrototypes:
    """Weights (labels, width) and intercepts (labels,) of log-odds in nats."""

    weights_KH: NDArray[np.float64]
    intercepts_K: NDArray[np.float64]

    def log_odds(self, vectors_NH: NDArray[np.float32]) -> NDArray[np.float64]:
        """(texts, labels), in nats, of texts whose vectors have length 1."""
        found: NDArray[np.float64] = vectors_NH.astype(np.float64) @ self.weights_KH.T + self.intercepts_K
        return found

    def classifier(self, labels: Sequence[str], factor: float) -> LinearText:
        """What answers one of ``labels``, those of the prototypes: log-odds times ``factor``, of vectors alone."""
        weights_KF, intercepts_K = factor * self.weights_KH, factor * self.intercepts_K
        if len(labels) == 2:
            weights_KF, intercepts_K = weights_KF[1:] - weights_KF[:1], intercepts_K[1:] - intercepts_K[:1]
        return LinearText(tuple(labels), {}, {}, np.zeros(0), weights_KF, intercepts_K, width=self.weights_KH.shape[1])


def write_prototypes(prototypes: LabelPrototypes, folder: Path) -> None:
    """Writes the file into ``folder``; equal prototypes give equal bytes."""
    whole = np.concatenate([prototypes.weights_KH, prototypes.intercepts_K[:, None]], axis=1)
    np.save(folder / PROTOTYPES, np.ascontiguousarray(whole, dtype=np.float32), allow_pickle=False)


def read_prototypes(folder: Path, labels: int) -> LabelPrototypes:
    """What ``write_prototypes`` wrote, of so many ``labels``. Raises ModelInvalid (``prototypes``)."""
    try:
        whole = np.load(folder / PROTOTYPES, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError) as error:
        raise _invalid("the tuned encoder holds no prototypes of labels that can be read") from error
    if whole.ndim != 2 or whole.shape[0] != labels or whole.shape[1] < 2 or not np.isfinite(whole).all():
        raise _invalid("the prototypes of the tuned encoder do not fit the labels of the task")
    return LabelPrototypes(whole[:, :-1], whole[:, -1])


def write_left_out(nats_NK: NDArray[np.float32], folder: Path) -> None:
    """Writes what encoders said of training rows that they had not learned."""
    np.save(folder / LEFT_OUT, np.ascontiguousarray(nats_NK, dtype=np.float32), allow_pickle=False)


def read_left_out(folder: Path, rows: int, labels: int) -> NDArray[np.float64]:
    """What ``write_left_out`` wrote (rows, labels). Raises ModelInvalid (``prototypes``)."""
    try:
        found: NDArray[np.float64] = np.load(folder / LEFT_OUT, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError) as error:
        raise _invalid("the tuned encoder does not tell how sure it is") from error
    if found.shape != (rows, labels):
        raise _invalid("what the tuned encoder tells of training rows does not fit them")
    return found


def _invalid(message: str) -> ModelInvalid:
    return ModelInvalid(message, "restore the artifact, or adapt again", code="prototypes")


#: What models put around a label: quotes, brackets, marks of Markdown, and a full stop.
_AROUND = " \t\r\n\"'`*_.:,;!()[]{}<>“”‘’«»。，、！：；「」『』（）【】《》"
#: Those of them that are seldom part of a label.
_QUOTES = " \"'`“”‘’«»"
#: What stands before a label: ``Label: refund``.
_BEFORE = re.compile(r"^(?:the\s+)?(?:label|labels|answer|category|intent|class)(?:\s+is)?\s*:?\s+", re.IGNORECASE)
#: Letters of Chinese, Japanese and Korean, beside which no space tells where a word ends.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003134f"
#: Words of an answer that are looked through for a label.
_SEARCHED = 2000


def answered_label(prompt: PromptSpec, text: str) -> str:
    """The label of ``prompt`` that a written answer gives, or the set of them as one text; empty where it gives none, or not one alone.

    An answer that is a label as it is written is that label; then one that is a label but for case, for quotes and a full stop, for any
    marks around it; else the only label that occurs in it as whole words. Where several labels are alike in that, it gives none. A block of
    reasoning before the answer is not read, and nothing is where the answer ends within it.
    """
    said = written_answer(text)
    if prompt.label_sets or prompt.alone:
        return _answered_set(prompt.labels, said)
    if (named := _named(prompt.labels, said)) is None:
        named = _named(prompt.labels, _after(said))
    return _occurring(prompt.labels, said[:_SEARCHED]) if named is None else named


def _answered_set(labels: tuple[str, ...], text: str) -> str:
    for said in (text, _after(text)):
        parts = [part for part in said.split(SEPARATOR) if _spaced(part)]
        if [_plain(part) for part in parts] == [NONE]:
            return NONE
        named = [_named(labels, part) for part in parts]
        if named and all(named):
            return join(label for label in named if label)
    return ""


def _named(labels: tuple[str, ...], text: str) -> str | None:
    """The label that ``text`` is, in the strictest form in which it is any; empty where it is several alike, None where it is none."""
    for form in _FORMS:
        if found := _names(labels, form).get(form(text)):
            return found[0] if len(found) == 1 else ""
    return None


def _after(text: str) -> str:
    """What follows ``Label:`` or the like."""
    return _BEFORE.sub("", text.lstrip(_AROUND))


def _spaced(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _cased(text: str) -> str:
    return _spaced(text).casefold()


def _unquoted(text: str) -> str:
    return _cased(text).strip(_QUOTES).rstrip(_QUOTES + ".")


def _plain(text: str) -> str:
    return _cased(text).strip(_AROUND)


#: What is compared of a label and an answer, the strictest first.
_FORMS: tuple[Callable[[str], str], ...] = (_spaced, _cased, _unquoted, _plain)


@lru_cache(maxsize=16)
def _names(labels: tuple[str, ...], form: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    """The labels by what ``form`` leaves of them; those of which it leaves nothing are missing. Longer names come first."""
    names = sorted({form(label) for label in labels} - {""}, key=lambda name: (-len(name), name))
    return {name: tuple(label for label in labels if form(label) == name) for name in names}


def _occurring(labels: tuple[str, ...], text: str) -> str:
    """The only label that occurs in ``text`` as whole words, apart from those that occur within a longer one; empty where there is none, or
    another one. Labels are looked for with the marks that belong to them, then without. Where words are not spaced, a label of two letters
    or more may stand within others."""
    for form in (_cased, _plain):
        left, found = _cased(text), list[str]()
        for name, alike in _names(labels, form).items():
            whole = _whole(name)
            if re.search(whole, left):
                found += alike
                left = re.sub(whole, " ", left)
        if found:
            return found[0] if len(found) == 1 else ""
    return ""


def _whole(name: str) -> str:
    """A pattern of ``name`` as whole words."""
    before, after = _edge(name, name[0]), _edge(name, name[-1])
    return f"(?<!{before}){re.escape(name)}(?!{after})"


def _edge(name: str, letter: str) -> str:
    """What may not stand beside ``letter``, the first or the last of ``name``."""
    if not re.match(f"[{_UNSPACED}]", letter):
        return rf"[^\W{_UNSPACED}]"
    return r"\w" if len(name) == 1 else r"[^\s\S]"


#: Parts of the labels, each left out once: three quarters are known, as is usual where open intents are measured (Zhang et al. 2021).
PARTS = 4


def left_out_labels(labels: Sequence[str]) -> tuple[frozenset[str], ...]:
    """Parts of ``labels`` that are left out in turn, as many as leave two labels each; none where no label can be spared."""
    if len(labels) < 3:
        return ()
    ordered = sorted(labels, key=lambda label: hashlib.sha256(f"tailorbird/scope/v1\n{label}".encode()).digest())
    parts = min(PARTS, len(ordered))
    return tuple(frozenset(ordered[part::parts]) for part in range(parts))


#: Nats that a cosine of 1 is worth beside a probability: chosen on Banking77.
_NATS = 5.0


def scope_scores(prompt: PromptSpec, scores: LabelScores) -> dict[ScopeScorer, float]:
    """Every score of a request that can be told, of a prompt with one label an item; more lies further in scope. The prompt's priors are
    taken off the labels' scores before any of them is made."""
    energy = None if scores.energy is None else scores.energy + _less_priors(prompt, scores.log_probabilities)[1]
    return scores_of(without_priors(prompt, scores.log_probabilities), energy, scores.nearness)


def scores_of(log_probabilities: Sequence[float], energy: float | None, nearness: float | None) -> dict[ScopeScorer, float]:
    """The same from the log-probabilities (nats) of labels, of which there are two or more."""
    first, second = sorted(log_probabilities, reverse=True)[:2]
    found = {ScopeScorer.PROBABILITY: float(first), ScopeScorer.MARGIN: float(first - second)}
    if energy is not None:
        found[ScopeScorer.ENERGY] = energy
    if nearness is not None:
        found |= {ScopeScorer.NEARNESS: nearness, ScopeScorer.BOTH: float(first) + _NATS * nearness}
    return found


#: Spaces, ends of lines, controls and marks without a shape; not what this version of Unicode does not know: it may be a new emoji.
_UNSEEN = ("Zs", "Zl", "Zp", "Cc", "Cf")


def is_blank(text: str) -> bool:
    """True for a text of nothing but spaces and what is not seen. No row is blank, so that no scorer was chosen to tell such a request."""
    return all(category(letter) in _UNSEEN for letter in text)


def is_outside(scores: Mapping[ScopeScorer, float], rule: ScopeRule | None) -> bool:
    """True where the rule refuses a request; what its scorer gives no number is refused, too. False where there is no rule."""
    if rule is None:
        return False
    found = scores.get(rule.scorer)
    return found is None or not found >= rule.refuse_below
