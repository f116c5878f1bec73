"""The encoder that is tuned for labels: its job, its artifact, and a real one that the engine serves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.rungs import LABELS, D, build_context, make_plan_of, make_rows, make_settings
from support.tiny_encoder import LABELS as TINY_LABELS
from support.tiny_encoder import text_of, tuning_settings, write_tiny_encoder
from tailorbird.chat.prompts import messages_for
from tailorbird.domain.dataset import Row
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import TaskKind
from tailorbird.inference import open_encoder, open_engine
from tailorbird.ledger import open_artifacts
from tailorbird.rungs import encoder_job, make_candidate
from tailorbird.rungs.encoder import parts_of
from tailorbird.text.linear_classifier import ADAPTER, read_linear
from tailorbird.training import open_trainer


def test_its_job_learns_train_and_the_names_of_labels_and_divides_each_label_over_the_parts(tmp_path: Path) -> None:
    plan = make_plan_of("encoder", "averaged", training=make_settings("full")).model_copy(update={"encoder": D})
    job = encoder_job(build_context(tmp_path, plan, encoder_folder=tmp_path))
    assert (len(job.train), len(job.held_out), job.alone) == (123, 0, False)
    assert [(row.text, row.labels) for row in job.train[120:]] == [(label, (label,)) for label in LABELS]
    divided = Counter((row.labels[0], part) for row, part in zip(job.train, job.parts, strict=True))
    assert divided == {(label, part): 33 if part < 0 else 2 for label in LABELS for part in range(-1, 4)}
    assert (job.base, job.base_digest) == (tmp_path, D)


def test_rows_of_a_group_are_of_one_part() -> None:
    rows = make_rows(60, groups=12)
    parts = parts_of(rows, 7)
    assert len({(row.group, part) for row, part in zip(rows, parts, strict=True)}) == 12
    assert set(parts) == {-1, 0, 1, 2, 3}
    assert parts == parts_of(rows, 7)
    with pytest.raises(DataInvalid, match="of one group"):
        parts_of(make_rows(6, groups=1), 7)


def sized(*sizes: int) -> tuple[Row, ...]:
    """Rows of groups of so many rows."""
    names = [f"g{group}" for group, size in enumerate(sizes) for _ in range(size)]
    return tuple(row.model_copy(update={"group": name}) for row, name in zip(make_rows(len(names)), names, strict=True))


@pytest.mark.parametrize(
    ("sizes", "lacked"),
    [
        ((240, *[1] * 160), [8, 8, 8, 8]),
        ((41, 40, *[1] * 319), [17, 17, 17, 17]),
        ((240, 80, 80), [80, 80]),
        ((100, 100, 100, 100), [100, 100, 100, 100]),
    ],
)
def test_parts_are_of_like_many_rows_and_a_large_group_is_learned_by_all(sizes: tuple[int, ...], lacked: list[int]) -> None:
    for seed in range(5):
        parts = Counter(parts_of(sized(*sizes), seed))
        assert sorted(count for part, count in parts.items() if part >= 0) == lacked
        assert set(range(len(lacked))) == set(parts) - {-1}


def test_an_adapter_is_released_beside_its_head_and_names_the_encoder(tmp_path: Path) -> None:
    """A toy encoder tuned by the real trainer: what the engine answers is what the rung fitted."""
    base, texts = write_tiny_encoder(tmp_path / "base"), [text_of(number) for number in range(60)]
    rows = tuple(
        row.model_copy(update={"text": text, "target": TINY_LABELS[place % 2]})
        for place, (row, text) in enumerate(zip(make_rows(60), texts, strict=True))
    )
    settings = tuning_settings("lora", 5e-3, epochs=8, batch_size=8)
    plan = make_plan_of("encoder", "r4, averaged", training=settings).model_copy(update={"encoder": D})
    store = open_artifacts(str(tmp_path / "artifacts"), tmp_path / "cache")
    given = {"encoder": open_encoder, "encoder_folder": base, "artifacts": store, "labels": TINY_LABELS[:2], "train": rows}
    made = make_candidate(replace(build_context(tmp_path / "work", plan, **given), trainer=open_trainer)).candidate
    assert (made.encoder, made.floor is None) == (D, False)
    artifact = store.get_tree(made.floor or "")
    assert sorted(path.name for path in artifact.iterdir()) == ["adapter", "floor.json", "idf.npy", "intercepts.npy", "weights.npy"]
    assert sorted(path.name for path in (artifact / ADAPTER).iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    vectors = open_encoder().embed(base, texts, artifact / ADAPTER)
    fitted = read_linear(artifact).log_probabilities(texts, vectors)
    assert (fitted.argmax(axis=1) == np.arange(60) % 2).mean() > 0.9
    servable = Servable(
        id=D, tenant="acme", task=TaskKind.CLASSIFY, base="", adapter=None, weights=None, prompt=made.prompt, floor=str(artifact)
    )
    engine = open_engine()
    try:
        engine.load(servable.model_copy(update={"encoder": str(base)}))
        found = engine.score(D, [messages_for(made.prompt, text) for text in texts], TINY_LABELS[:2])
        np.testing.assert_allclose([each.log_probabilities for each in found], fitted, atol=1e-4)
    finally:
        engine.close()
