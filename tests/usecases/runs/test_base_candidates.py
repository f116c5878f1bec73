"""Several base models: climbed on one ladder, compared on the same items, and known to the release that is chosen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from support.bases import Biased, author_of, two_bases
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.ladder import Ladder
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import LoadRequest
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.releases.load_verification import admit
from tailorbird.usecases.runs import submit as climbing

SILENT = Progress()


@pytest.fixture
def biased(another_parts: Callable[[], Dependencies]) -> Dependencies:
    engine = Biased()
    return replace(another_parts(), engine=lambda: engine)


def test_the_base_that_passes_is_chosen_released_and_served(biased: Dependencies, tmp_path: Path) -> None:
    author = author_of(biased)
    ended = climbing.adapt(biased, author, two_bases(tmp_path / "job", ladder=["prompt"]), SILENT)
    assert ended.conclusion.release is not None
    with biased.ledger.work("acme", write=False) as work:
        ladder = work.records.get(Ladder, ended.conclusion.ladder)
        content = work.releases.get(ended.conclusion.release).content
        wide = next(
            base for digest in work.records.digests(BaseModelRef) if (base := work.records.get(BaseModelRef, digest)).name == "wide"
        )
    assert {climb.variant.partition(" on ")[2] for climb in ladder.climbs} == {"base", "wide"}
    assert len({climb.evidence.n for climb in ladder.climbs}) == 1
    chosen = next(climb for climb in ladder.climbs if climb.candidate == ladder.chosen)
    assert chosen.variant.endswith("on wide")
    across = next(climb for climb in ladder.climbs if climb.variant == "zero-shot on wide").against_below
    assert across.n == chosen.evidence.n
    assert across.low > 0
    assert (content.base_model_name, content.base_model) == ("wide", wide.digest)
    card = biased.artifacts.get(_card(biased, ended.conclusion.release)).decode()
    assert "base_model: wide" in card
    servable = admit(biased, LoadRequest(tenant="acme", release=ended.conclusion.release, purpose="staging"))
    assert json.loads((Path(servable.base) / "config.json").read_text())["hidden_size"] == 16


def _card(deps: Dependencies, release: Digest) -> Digest:
    with deps.ledger.work("acme", write=False) as work:
        return work.releases.get(release).dossier.card


def test_the_plan_tells_why_each_base_is_in_or_out(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = two_bases(tmp_path / "job", base_models=["base", "wide", "encoder", "again"])
    encoder, again = tmp_path / "job" / "encoder", tmp_path / "job" / "again"
    for folder in (encoder, again):
        folder.mkdir()
        for file in (tmp_path / "job" / "base").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    (encoder / "config.json").write_text('{"auto_map": {"AutoModel": "its.Code"}}')
    stage = climbing.plan(deps, author, path, SILENT)
    told = {base.label: base.reason for base in stage.plan.bases}
    assert told["base"].startswith("in: ")
    assert told["wide"].startswith("in: ")
    assert "asks to run code of its own" in told["encoder"]
    assert told["again"].startswith("out: it is the same model as base")
    assert "somebody must read its licence (unknown)" in told["base"]
