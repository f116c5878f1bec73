"""Encoders tuned for questions, on a toy encoder: what is learned, saved, and read back where it is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.tiny_encoder import tuning_settings, write_tiny_encoder
from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.prompt import Entry
from tailorbird.inference import open_encoder
from tailorbird.ports.trainer import JudgedQuery, RankingJob
from tailorbird.text.search_index import write_index
from tailorbird.training import open_trainer

D = "sha256:" + "0" * 64
QUERIES = tuple(JudgedQuery(text=f"w{n} w{n + 20}", relevant={f"d{n}": 1.0}) for n in range(12))
ENTRIES = [Entry(id=f"d{n}", text=f"w{n + 8} w{39 - n}", access=(EVERYONE,)) for n in range(12)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder"))


def job_of(kind: str, method: str, base: Path, folder: Path, **changes: Any) -> RankingJob:
    index = folder / "index"
    if not index.is_dir():
        index.mkdir()
        write_index(index, ENTRIES, open_encoder().embed(base, [entry.text for entry in ENTRIES]))
    settings = tuning_settings(method, 5e-3 if method == "lora" else 1e-3, epochs=6, batch_size=4)
    fields = {"train": QUERIES[:9], "held_out": QUERIES[:9], "workspace": folder / f"{kind}-{method}"}
    return RankingJob(kind=kind, base=base, base_digest=D, snapshot=D, settings=settings, index=index, **(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "method",
    [
        "lora",
    ],
)
def test_a_bi_encoder_moves_questions_towards_what_answers_them(base: Path, tmp_path: Path, method: str) -> None:
    job = job_of("bi-encoder", method, base, tmp_path)
    made = open_trainer().tune(job, lambda _: None)
    assert made.report.best_held_out_loss < 0.9 * made.report.first_held_out_loss
    encoder, texts = open_encoder(), [query.text for query in QUERIES[:9]]
    documents = encoder.embed(base, [entry.text for entry in ENTRIES])
    fits = [float(np.mean(np.diag((encoder.embed(base, texts, tuned) @ documents.T)[:, :9]))) for tuned in (None, made.folder)]
    others = [float(np.mean(encoder.embed(base, texts, tuned) @ documents.T)) for tuned in (None, made.folder)]
    assert fits[1] - others[1] > fits[0] - others[0]
    assert (made.folder / "adapter_config.json").is_file() == (method == "lora")


@pytest.mark.parametrize(
    "method",
    [
        "full",
    ],
)
def test_a_cross_encoder_scores_pairs_where_it_is_served(base: Path, tmp_path: Path, method: str) -> None:
    queries = tuple(JudgedQuery(text=f"w{n + 8} w5", relevant={f"d{n}": 1.0}) for n in range(9))
    job = job_of("cross-encoder", method, base, tmp_path, train=queries, held_out=queries)
    made = open_trainer().tune(job, lambda _: None)
    scores = open_encoder().relate(made.folder, [("w1 w2", "w3"), ("w1", "w1 w4 w7")])
    assert len(scores) == 2
    assert all(np.isfinite(scores))
    again = open_encoder().relate(made.folder, [("w1", "w1 w4 w7"), ("w1 w2", "w3")])
    assert scores == pytest.approx(again[::-1], abs=1e-4)
