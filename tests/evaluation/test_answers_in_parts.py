"""The real model, asked in parts by another engine and from the last to the first: it answers as one that is asked from the first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.deployment import Servable
from tailorbird.domain.evidence import Prediction
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSpec
from tailorbird.evaluation import PredictionRequest, chunks_of, engine_predictions
from tailorbird.ports.engine import Engine

PLACE = Provenance(file="f.csv", file_digest=digest_bytes(b"f"), line=1, origin="o", license="l", collected="c", consent="c")
THINGS = ("parcel", "refund", "password", "invoice", "coupon", "delivery date", "receipt")
SAID = ("Where is my {}?", "I never asked for this {}.", "Your colleague promised me a {} last week, and nothing has come since.")
#: 22 rows: what is timed, and chunks of which the last is a small one.
ROWS = tuple(
    Row(id=digest_bytes(text.encode()), text=text, target="delivery", group="g", split=Split.DEV, provenance=PLACE)
    for number in range(22)
    for text in [f"{SAID[number % 3].format(THINGS[number % 7])} My number is {number * 7919}."]
)
TIMED, CHUNK = 4, 8


def asked(engine: Engine, base: Path, rows: tuple[Row, ...], timed: int) -> list[Prediction]:
    prompt = PromptSpec(instruction="Classify the message.", labels=("delivery", "money", "account"))
    servable = Servable(
        id=digest_bytes(b"s"), tenant="acme", task=TaskKind.CLASSIFY, base=str(base), adapter=None, weights=None, prompt=prompt
    )
    engine.load(servable)
    try:
        return engine_predictions(PredictionRequest(engine, servable, rows, lambda _done, _of: None, timed=timed, chunk=CHUNK))
    finally:
        engine.unload(servable.id)


@pytest.mark.slow
def test_parts_are_answered_as_the_whole_is(base_model_folder: Path) -> None:
    """Sums are rounded by the company of a batch, which an engine makes of what has come by then: so it does in one process, too."""
    from tailorbird.inference import open_engine

    one, other = open_engine("fp32"), open_engine("fp32")
    whole = asked(one, base_model_folder, ROWS, TIMED)
    found = dict[int, list[Prediction]]()
    for start, stop in reversed(chunks_of(len(ROWS), TIMED, CHUNK)):
        found[start] = asked(other, base_model_folder, ROWS[start:stop], 0)
    parts = [prediction for start in sorted(found) for prediction in found[start]]
    assert [(each.item, each.answer, each.prompt_tokens) for each in parts] == [
        (each.item, each.answer, each.prompt_tokens) for each in whole[TIMED:]
    ]
    for mine, theirs in zip(parts, whole[TIMED:], strict=True):
        assert mine.log_probabilities == pytest.approx(theirs.log_probabilities, abs=1e-4)
    assert len({round((each.log_probabilities or {})["money"], 3) for each in whole}) > 10, "the answers do not depend on the rows"
