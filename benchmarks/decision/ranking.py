"""Cranfield, all 225 queries cross-fitted: the tuned bi-encoder against the best untuned fusion, paired on nDCG@10.

In: Cranfield (TAILORBIRD_TEST_DATA), MiniLM. Out: the lower end of the paired interval, and means with intervals. Each query is ranked by
an encoder that was tuned on the other four fifths; nothing is chosen on what is measured.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cases import DATA, DIGEST, ROOT
from scipy.stats import bootstrap

from tailorbird.base_models import pull
from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.plan import LoraSettings, TrainingSettings
from tailorbird.domain.prompt import Entry
from tailorbird.evaluation.metrics import ndcg
from tailorbird.inference import open_encoder, open_model_reader
from tailorbird.planning.ladder import EPOCHS
from tailorbird.ports.trainer import JudgedQuery, RankingJob
from tailorbird.text.search_index import SearchIndex, write_index
from tailorbird.training import open_trainer

FOLDS, DEPTH, CONFIDENCE = 5, 100, 0.95
ANYBODY = frozenset({EVERYONE})
TARGETS = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
WORK = ROOT / ".cache" / "benchmarks" / "ranking"


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def read() -> tuple[list[Entry], list[JudgedQuery]]:
    """Documents and judged queries."""
    folder = DATA / "cranfield"
    documents = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    entries = [Entry(id=one["_id"], title=one.get("title", ""), text=one["text"], access=(EVERYONE,)) for one in documents]
    grades: dict[str, dict[str, float]] = {}
    for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        grades.setdefault(query, {})[document] = float(grade)
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    return entries, [JudgedQuery(text=one["text"], relevant=grades[one["_id"]]) for one in queries]


def settings(method: str) -> TrainingSettings:
    """As the planner sets them for this encoder (width 384)."""
    rate = 1.2e-4
    return TrainingSettings(
        method=method,
        lora=LoraSettings(rank=16, alpha=32, targets=TARGETS) if method == "lora" else None,
        learning_rate=10 * rate if method == "lora" else rate,
        epochs=EPOCHS,
        batch_size=16,
        token_budget=8192,
        max_length=512,
        warmup=0.1,
        weight_decay=0.0,
        clip_norm=1.0,
        evaluations_per_epoch=1,
        precision="fp32",
        seed=20,
    )


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """Values of the bars, and the detail beside them."""
    entries, queries = read()
    base = pull("minilm-l6-v2", Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models")), open_model_reader)
    encoder = open_encoder()
    index_folder = WORK / "index"
    if not (index_folder / "vectors.npy").is_file():
        index_folder.mkdir(parents=True, exist_ok=True)
        write_index(index_folder, entries, encoder.embed(base, [f"{one.title} {one.text}".strip() for one in entries]))
    index = SearchIndex(index_folder)
    plain = encoder.embed(base, [query.text for query in queries])
    ways = {
        "words (BM25)": lambda i: (queries[i].text, []),
        "meaning (MiniLM)": lambda i: ("", [plain[i]]),
        "words and meaning, fused": lambda i: (queries[i].text, [plain[i]]),
    }
    scores = {name: _scores(index, queries, way) for name, way in ways.items()}
    for method in ("lora",) if quick else ("lora", "full"):
        tuned = _cross_fitted(base, index_folder, queries, method)
        scores[f"bi-encoder, {method}"] = _scores(index, queries, lambda i, tuned=tuned: (queries[i].text, [plain[i], tuned[i]]))
    best = max(list(ways), key=lambda name: float(scores[name].mean()))
    differences = {name: _paired(scores[name] - scores[best]) for name in scores if name not in ways}
    detail = {
        "queries": len(queries),
        "ndcg@10": {name: round(float(values.mean()), 4) for name, values in scores.items()},
        "best_untuned": best,
        "minus_best_untuned": differences,
        "confidence": CONFIDENCE,
    }
    return {"cranfield_tuned_minus_fusion_low": differences["bi-encoder, lora"]["low"]}, detail


def _scores(index: SearchIndex, queries: Sequence[JudgedQuery], way: Any) -> Any:
    found = []
    for place, query in enumerate(queries):
        text, vectors = way(place)
        ranked = [one.entry.id for one in index.find(text, vectors, ANYBODY, DEPTH)]
        found.append(ndcg(ranked, query.relevant, 10) or 0.0)
    return np.array(found)


def _cross_fitted(base: Path, index: Path, queries: Sequence[JudgedQuery], method: str) -> Any:
    """Each query's vector by an encoder that never saw it. Folds that were done lie in the cache, so that a run that was ended goes on."""
    order = list(range(len(queries)))
    random.Random(1).shuffle(order)
    vectors = np.zeros((len(queries), 384), dtype=np.float32)
    for fold in range(FOLDS):
        test = order[fold::FOLDS]
        kept = WORK / f"{method}-{fold}.npy"
        if not kept.is_file():
            np.save(kept, _tuned_vectors(base, index, queries, (method, [i for i in order if i not in set(test)], test)))
        vectors[test] = np.load(kept)
        say(f"{method}, fold {fold + 1} of {FOLDS}")
    return vectors


def _tuned_vectors(base: Path, index: Path, queries: Sequence[JudgedQuery], part: tuple[str, list[int], list[int]]) -> Any:
    method, rest, test = part
    held = len(rest) // 9
    with tempfile.TemporaryDirectory() as work:
        job = RankingJob(
            kind="bi-encoder",
            base=base,
            base_digest=DIGEST,
            snapshot=DIGEST,
            settings=settings(method),
            index=index,
            train=tuple(queries[i] for i in rest[held:]),
            held_out=tuple(queries[i] for i in rest[:held]),
            workspace=Path(work),
        )
        made = open_trainer().tune(job, lambda line: say(f"  step {line.step}: held-out {line.held_out_loss:.3f}, {line.seconds:.0f} s"))
        return open_encoder().embed(base, [queries[i].text for i in test], made.folder)


def _paired(differences: Any) -> dict[str, float]:
    """The mean with its BCa bootstrap interval."""
    found = bootstrap((differences,), np.mean, confidence_level=CONFIDENCE, n_resamples=9_999, rng=np.random.default_rng(0))
    interval = found.confidence_interval
    return {"mean": round(float(differences.mean()), 4), "low": round(float(interval.low), 4), "high": round(float(interval.high), 4)}
