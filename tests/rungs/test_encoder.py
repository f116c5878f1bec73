"""The encoder that is tuned for labels: its job, its artifact, and a real one that the engine serves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.e2e import support_rows
from support.rungs import LABELS, D, FolderStore, build_context, make_plan_of, make_rows, make_settings
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Internal
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.scope import ScopePolicy, ScopeTrial
from tailorbird.inference import open_encoder, open_engine
from tailorbird.ledger import open_artifacts
from tailorbird.rungs import encoder_job, fit_floor, make_candidate, trial_of
from tailorbird.rungs.encoder import scaled, sureness
from tailorbird.rungs.scope import Fit
from tailorbird.testing import MemoryEncoder, MemoryTrainer
from tailorbird.text.label_sets import join
from tailorbird.text.linear_classifier import ENCODER, read_linear
from tailorbird.text.prompt_rendering import messages_for
from tailorbird.training import open_trainer

INTENTS = ("account_login", "order_status", "refund_missing")


def test_its_job_learns_train_alone_and_holds_a_tenth_out(tmp_path: Path) -> None:
    plan = make_plan_of("encoder", "all weights", training=make_settings("full")).model_copy(update={"encoder": D})
    job = encoder_job(build_context(tmp_path, plan, encoder_folder=tmp_path))
    assert (len(job.train), len(job.held_out), job.alone) == (108, 12, False)
    assert {row.labels for row in (*job.train, *job.held_out)} == {("delivery",), ("invoice",), ("refund",)}
    assert (job.base, job.base_digest) == (tmp_path, D)


def test_a_plan_without_an_encoder_is_incomplete(tmp_path: Path) -> None:
    context = build_context(tmp_path, make_plan_of("encoder", "all weights", training=make_settings("full")))
    with pytest.raises(Internal) as told:
        make_candidate(context)
    assert told.value.error_code == "plan_incomplete"


def test_where_a_row_may_bear_several_labels_a_fifth_is_held_out(tmp_path: Path) -> None:
    plan = make_plan_of("encoder", "all weights", training=make_settings("full")).model_copy(update={"encoder": D})
    context = build_context(tmp_path, plan, encoder_folder=tmp_path)
    task = context.objective.task.model_copy(update={"labels": "many"})
    rows = tuple(row.model_copy(update={"target": join((row.target,) if place < 30 else ())}) for place, row in enumerate(context.train))
    context = replace(context, objective=context.objective.model_copy(update={"task": task}), train=rows)
    job = encoder_job(context)
    assert job.alone
    assert len(job.train) == 96
    bearing = sum(bool(text.labels) for text in job.held_out)
    assert sum(bool(text.labels) for text in job.train) == 30 - bearing
    assert len(job.held_out) <= max(1, 2 * bearing)


def test_how_sure_it_is_is_taken_from_rows_that_it_did_not_learn() -> None:
    rows = make_rows(90)
    wrong = tuple(row.model_copy(update={"target": LABELS[(LABELS.index(row.target) + 1) % 3]}) for row in rows[60:75])
    learn, held_out = rows[:60], (*wrong, *rows[75:])
    head, partial = (fit_floor(shown, LABELS, 7) for shown in (rows, learn))
    found = scaled(head, sureness(partial, learn, held_out))
    texts = [row.text for row in rows]
    before, after = (np.exp(model.linear.log_probabilities(texts)) for model in (head, found))
    assert (before.argmax(axis=1) == after.argmax(axis=1)).all()
    assert before.max(axis=1).mean() > 0.9
    assert after.max(axis=1).mean() < 0.7, "half of the rows held out are answered wrongly"
    assert sureness(partial, (), held_out) == 1.0
    assert scaled(head, 1.0) is head


class ReadingStore(FolderStore):
    """Reads the linear model that it is given last."""

    def put_tree(self, folder: Path, *, public: bool = False) -> str:
        if (folder / ENCODER).is_dir():
            self.stored = read_linear(folder)
        return super().put_tree(folder, public=public)


def test_what_tells_requests_out_of_scope_is_chosen_with_heads_as_sure_as_the_released_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows(90)
    noisy = tuple(row.model_copy(update={"target": LABELS[place % 3]}) if place % 2 else row for place, row in enumerate(rows[::-1]))
    store, tried = ReadingStore(), list[Fit]()

    def kept(fit: Fit, *given: Any) -> ScopeTrial | None:
        tried.append(fit)
        return trial_of(fit, *given)

    monkeypatch.setattr("tailorbird.rungs.encoder.trial_of", kept)
    plan = make_plan_of("encoder", "all weights", training=make_settings("full")).model_copy(update={"encoder": D})
    given = {"encoder": MemoryEncoder, "encoder_folder": tmp_path, "artifacts": store, "train": noisy, "leaves_labels_out": True}
    context = replace(build_context(tmp_path, plan, **given), trainer=MemoryTrainer, dev=rows)
    task = context.objective.task.model_copy(update={"out_of_scope": ScopePolicy()})
    made = make_candidate(replace(context, objective=context.objective.model_copy(update={"task": task})))
    assert made.scope is not None
    assert made.scope.by == "labels"
    [fit] = tried
    again, plain = fit(noisy, LABELS).linear, fit_floor(noisy, LABELS, 7, embed=fit(noisy, LABELS).embed).linear
    np.testing.assert_allclose(again.weights_KF, store.stored.weights_KF)
    assert abs(again.intercepts_K / plain.intercepts_K - 1).min() > 0.1, "they were not as sure before"


def spread(vectors_NH: NDArray[np.float32], labels: list[str]) -> float:
    """How much closer texts of one label lie than those of two, as a cosine."""
    cosines_NN = vectors_NH @ vectors_NH.T
    same_NN = np.equal.outer(np.array(labels), np.array(labels))
    return float(cosines_NN[same_NN].mean() - cosines_NN[~same_NN].mean())


@pytest.mark.slow
def test_a_real_encoder_is_tuned_stored_and_served(encoder_folder: Path, tmp_path: Path) -> None:
    said = support_rows(INTENTS, 30)
    texts, labels = [text for text, _ in said], [label for _, label in said]
    rows = tuple(row.model_copy(update={"text": text, "target": label}) for row, (text, label) in zip(make_rows(90), said, strict=True))
    settings = make_settings("full").model_copy(update={"learning_rate": 1e-4, "epochs": 2, "batch_size": 32})
    plan = make_plan_of("encoder", "all weights", training=settings).model_copy(update={"encoder": D})
    store = open_artifacts(str(tmp_path / "artifacts"), tmp_path / "cache")
    given = {"encoder": open_encoder, "encoder_folder": encoder_folder, "artifacts": store, "labels": INTENTS, "train": rows}
    context = replace(build_context(tmp_path, plan, **given), trainer=open_trainer)
    made = make_candidate(context)
    assert made.candidate.rung is RungKind.ENCODER
    assert made.training is not None
    assert made.training.best_held_out_loss < made.training.first_held_out_loss
    assert made.candidate.floor is not None
    artifact = store.get_tree(made.candidate.floor)
    encoder = open_encoder()
    before, after = encoder.embed(encoder_folder, texts), encoder.embed(artifact / ENCODER, texts)
    assert spread(after, labels) > spread(before, labels) + 0.05
    engine = open_engine()
    try:
        servable = Servable(
            id=D,
            tenant="acme",
            task=TaskKind.CLASSIFY,
            base="",
            adapter=None,
            weights=None,
            prompt=made.candidate.prompt,
            floor=str(artifact),
        )
        engine.load(servable)
        asked = "I am locked out: the password for my account is not accepted."
        [found] = engine.score(D, [messages_for(servable.prompt, asked)], INTENTS)
        assert INTENTS[int(np.argmax(found.log_probabilities))] == "account_login"
        assert found.prompt_tokens == 0
    finally:
        engine.close()
