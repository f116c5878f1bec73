"""Unfair clauses of 50 terms of service, nine labels: tuned encoder and floor minus a tuned TF-IDF + linear SVM; a label that comes later.

In: unfair_tos (TAILORBIRD_TEST_DATA) with its authors' five folds of documents, MiniLM. Out: the lower ends of the paired differences in
macro-F1 over all 17,383 clauses, each answered by what had learned the other four folds, clustered by document; and that of the old labels
when the rows of one label (``LATER``) are appended. Both sides learn the same rows, and choose what they choose on them alone: the SVM its
features, C and class weights, by cross-validation over documents. A fold that is done is kept in the cache.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from climb import DATA, ROOT, WORK, say
from numpy.typing import NDArray

from tailorbird.base_models import pull
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.evidence import ItemResult
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import MetricReading, corpus_metric_of, metrics_of
from tailorbird.inference import open_encoder, open_model_reader
from tailorbird.planning.floor import LABEL_SET_PASSES, LABEL_SET_RATE, tuning_settings
from tailorbird.planning.setting_rules import usual_precision
from tailorbird.ports.trainer import LabelJob
from tailorbird.rungs import TunedLabels, fit_floor, fit_label_set_head, held_out_groups, label_set_texts
from tailorbird.stats.intervals import resample
from tailorbird.text.label_rules import join, labels_above, read_prototypes, split
from tailorbird.training import open_trainer

BARS = {
    "unfair_tos_encoder_minus_svm_low": (0.0, 0.02, "macro-F1", False),
    "unfair_tos_floor_minus_svm_low": (0.0, 0.02, "macro-F1", False),
    "unfair_tos_old_labels_low": (-0.02, 0.0, "macro-F1", False),
}
FOLDS, CONFIDENCE, SEED = 5, 0.95, 20
#: The label whose rows are held back at first.
LATER = "arbitration"
#: What the SVM may choose (features, C, class weights), on so many parts of the training documents.
SVM_GRID = (
    *product(("words and characters",), (0.1, 0.3, 1.0), ("balanced",)),
    ("words and characters", 1.0, None),
)
SVM_FOLDS = 2
TERMS = Provenance(file="unfair_tos_en.jsonl", line=1, origin="CLAUDETTE", license="CC-BY-4.0", collected="2021", consent="published terms")
Answers = list[str]


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """The values of the bars, and what lies behind them; a quick run does the first fold alone."""
    folds = range(1 if quick else FOLDS)
    asked = [row for fold in folds for row in parts(fold)[1]]
    answers = {name: [each for fold in folds for each in kept(name, fold)] for name in MAKERS}
    spec = MeasureSpec(TaskKind.CLASSIFY, labels(), CONFIDENCE, SEED, 0.0, many=True)
    items = {name: _items(asked, found) for name, found in answers.items()}
    whole, tuned = _compared(items["floor"], items["svm"]), _compared(items["encoder"], items["svm"])
    old = _compared(items["floor"], items["floor before the label"], tuple(label for label in labels() if label != LATER))
    measured = {name: metrics_of(found, spec) for name, found in items.items()}
    detail = {
        "clauses": len(asked),
        "documents": len({row.group for row in asked}),
        "confidence": CONFIDENCE,
        "metrics": {name: _told(metrics) for name, metrics in measured.items()},
        "encoder_minus_svm": tuned,
        "encoder_minus_floor": _compared(items["encoder"], items["floor"]),
        "floor_minus_svm": whole,
        "svm_chose": [json.loads(_path("svm", fold).read_text())["chosen"] for fold in folds],
        "later_label": LATER,
        "old_labels_after_minus_before": old,
    }
    values = {"unfair_tos_encoder_minus_svm_low": tuned["low"], "unfair_tos_floor_minus_svm_low": whole["low"]}
    return values | {"unfair_tos_old_labels_low": old["low"]}, detail


@cache
def clauses() -> tuple[Row, ...]:
    """All clauses in order, with the document as the group."""
    rows = []
    for number, line in enumerate((DATA / "unfair_tos" / "unfair_tos_en.jsonl").read_text(encoding="utf-8").splitlines(), start=1):
        told = json.loads(line)
        where = TERMS.model_copy(update={"line": number})
        name = digest_bytes(f"{told['doc']} {told['i']}".encode())
        rows.append(Row(id=name, text=told["text"], target=join(told["labels"]), split=Split.TRAIN, group=told["doc"], provenance=where))
    return tuple(rows)


@cache
def labels() -> tuple[str, ...]:
    return tuple(sorted({label for row in clauses() for label in split(row.target)}))


def parts(fold: int) -> tuple[list[Row], list[Row]]:
    """What is learned, each text with its labels once, and what is asked."""
    documents = (DATA / "unfair_tos" / f"LIST_TEST_{fold}.txt").read_text(encoding="utf-8").split()
    tested = {name.removesuffix(".txt") for name in documents}
    learned = {(" ".join(row.text.lower().split()), row.target): row for row in reversed(clauses()) if row.group not in tested}
    return list(learned.values())[::-1], [row for row in clauses() if row.group in tested]


def _path(name: str, fold: int) -> Path:
    return WORK / f"unfair_tos {name} {fold}.json"


def kept(name: str, fold: int) -> Answers:
    """The answers to a fold; made where they are not there yet."""
    path = _path(name, fold)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        say(f"  {name}, fold {fold + 1} of {FOLDS}")
        path.write_text(json.dumps(MAKERS[name](fold)), encoding="utf-8")
    answers: Answers = json.loads(path.read_text(encoding="utf-8"))["answers"]
    return answers


@cache
def _vectors() -> dict[str, NDArray[np.float32]]:
    """The vector of every text."""
    texts, path = sorted({row.text for row in clauses()}), WORK / "unfair_tos vectors.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        model, encoder = pull("minilm-l6-v2", ROOT / ".cache" / "models", open_model_reader), open_encoder()
        lots = [encoder.embed(model, texts[start : start + 512]) for start in range(0, len(texts), 512)]
        np.save(path, np.concatenate(lots))
    return dict(zip(texts, np.load(path), strict=True))


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    found = _vectors()
    return np.stack([found[text] for text in texts])


def floor(fold: int, without: str = "") -> dict[str, Any]:
    """What the floor answers, as ``adapt`` fits it for macro-F1; ``without`` a label, as long as no row of it was there."""
    train, test = parts(fold)
    train = [row for row in train if not without or without not in split(row.target)]
    known = tuple(label for label in labels() if label != without)
    model = fit_floor(train, known, SEED, many=True, embed=embed, goal="macro_f1")
    texts = [row.text for row in test]
    found = np.exp(model.linear.log_probabilities(texts, embed(texts)))
    answers = [labels_above(dict(zip(known, map(float, each), strict=True)), model.thresholds) for each in found]
    return {"answers": answers, "seconds": round(model.seconds, 1), "thresholds": model.thresholds}


def encoder(fold: int) -> dict[str, Any]:
    """What the tuned encoder answers, as ``adapt`` tunes it and fits its head for macro-F1."""
    train, test = parts(fold)
    learn, held_out = label_set_texts(train, SEED)
    model, reader, digest = pull("minilm-l6-v2", ROOT / ".cache" / "models", open_model_reader), open_encoder(), digest_bytes(b"")
    settings = tuning_settings(LABEL_SET_RATE, LABEL_SET_PASSES, SEED, 1, usual_precision(open_trainer().measure_machine()))
    known = {"base": model, "base_digest": digest, "snapshot": digest, "settings": settings, "labels": labels(), "alone": True}
    started, used = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        job = LabelJob.model_validate(known | {"train": learn, "held_out": held_out, "workspace": Path(folder)})
        tuned = open_trainer().tune(job, lambda line: say(f"    step {line.step}: {line.held_out_loss:.4f}"))
        trained = time.perf_counter() - started
        found = TunedLabels(partial(reader.embed, tuned.folder), read_prototypes(tuned.folder, len(labels())))
        head = fit_label_set_head(train, held_out_groups(train, SEED), labels(), SEED, "macro_f1", found)
        answers = [str(each.answer) for each in head.predict(test, 32)]
    told = {"thresholds": head.thresholds, "best_step": tuned.report.best_step, "steps": tuned.report.steps}
    seconds = {"seconds": time.perf_counter() - started, "tuning_seconds": trained, "processor_seconds": time.process_time() - used}
    return {"answers": answers, **told, **{name: round(value, 1) for name, value in seconds.items()}}


def svm(fold: int) -> dict[str, Any]:
    """What the SVM answers with the settings that do best on parts of the training documents that it had not learned."""
    train, test = parts(fold)
    documents = sorted({row.group for row in train})
    np.random.default_rng(SEED).shuffle(documents)
    part_N = np.array([documents.index(row.group) % SVM_FOLDS for row in train])
    borne_NK = _marks([row.target for row in train])
    scores_of: dict[Any, NDArray[np.bool_]] = {setting: np.zeros_like(borne_NK) for setting in SVM_GRID}
    for part in range(SVM_FOLDS):
        learned, left = np.flatnonzero(part_N != part), np.flatnonzero(part_N == part)
        for features in ("words", "words and characters"):
            matrix, asked = _tf_idf(features, [train[n].text for n in learned], [train[n].text for n in left])
            for setting in SVM_GRID:
                if setting[0] == features:
                    scores_of[setting][left] = _svm_given(matrix, borne_NK[learned], asked, setting)
    reached = {setting: _macro_f1(given, borne_NK) for setting, given in scores_of.items()}
    chosen = max(SVM_GRID, key=reached.__getitem__)
    matrix, asked = _tf_idf(chosen[0], [row.text for row in train], [row.text for row in test])
    given_NK = _svm_given(matrix, borne_NK, asked, chosen)
    answers = [join(label for label, given in zip(labels(), each, strict=True) if given) for each in given_NK]
    return {"answers": answers, "chosen": list(chosen), "reached": round(reached[chosen], 4)}


def _svm_given(matrix: Any, borne_NK: NDArray[np.bool_], asked: Any, setting: tuple[str, float, Any]) -> NDArray[np.bool_]:
    from sklearn.svm import LinearSVC

    given = []
    for borne_N in borne_NK.T:
        model = LinearSVC(C=setting[1], class_weight=setting[2], random_state=SEED)
        given.append(model.fit(matrix, borne_N).predict(asked) if borne_N.any() else np.zeros(asked.shape[0], dtype=bool))
    return np.stack(given, axis=1)


def _tf_idf(features: str, learned: list[str], asked: list[str]) -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=2)
    union = FeatureUnion([("words", words), *([("characters", characters)] if features != "words" else [])])
    return union.fit_transform(learned), union.transform(asked)


def _marks(targets: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([[label in split(target) for label in labels()] for target in targets], dtype=bool)


def _macro_f1(given_NK: NDArray[np.bool_], borne_NK: NDArray[np.bool_]) -> float:
    hits_K, total_K = (given_NK & borne_NK).sum(axis=0), given_NK.sum(axis=0) + borne_NK.sum(axis=0)
    return float(np.mean(2 * hits_K / np.maximum(total_K, 1)))


#: What answers, by name.
MAKERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "encoder": encoder,
    "svm": svm,
    "floor": floor,
    "floor before the label": partial(floor, without=LATER),
}


def _items(rows: Sequence[Row], answers: Answers) -> list[ItemResult]:
    return [
        ItemResult(item=row.id, group=row.group, target=row.target, prediction=found, correct=row.target == found)
        for row, found in zip(rows, answers, strict=True)
    ]


def _compared(upper: list[ItemResult], lower: list[ItemResult], of: tuple[str, ...] = ()) -> dict[str, float]:
    """``upper`` minus ``lower`` in macro-F1 over the labels ``of`` (empty: all), with a bootstrap over documents (BCa)."""
    sides = [[_within(item, of) for item in items] if of else items for items in (upper, lower)]
    ours, theirs = (corpus_metric_of("macro_f1", items, MetricReading(many=True)) for items in sides)
    whole = np.ones(len(upper))
    drawn = resample(lambda weights: ours.value(weights) - theirs.value(weights), [item.group for item in upper], CONFIDENCE, SEED)
    return {"value": round(ours.value(whole) - theirs.value(whole), 4), "low": round(drawn.low, 4), "high": round(drawn.high, 4)}


def _within(item: ItemResult, of: tuple[str, ...]) -> ItemResult:
    return item.model_copy(update={"target": _only(item.target, of), "prediction": _only(item.prediction, of)})


def _only(text: str, of: tuple[str, ...]) -> str:
    return join(label for label in split(text) if label in of)


def _told(metrics: dict[str, Any]) -> dict[str, list[float]]:
    named = [name for name in metrics if name in ("macro_f1", "micro_f1") or name.startswith("f1[")]
    return {name: [round(end, 4) for end in (metrics[name].value, metrics[name].low, metrics[name].high)] for name in named}
