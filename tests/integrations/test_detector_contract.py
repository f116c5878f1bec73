"""What every detector of personal data must do: our own and Presidio, in an environment of its own (``make detectors``)."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from support.data import ORIGIN, Store, make_objective
from tailorbird import wiring
from tailorbird.data import SnapshotRequest, build_snapshot
from tailorbird.data.privacy import OwnDetector
from tailorbird.domain.curation import CurationPolicy, CurationReport, PersonalKind, PrivacyAction, PrivacyPolicy
from tailorbird.domain.errors import Unavailable
from tailorbird.ports.detector import Detector

K = PersonalKind
LETTER = "Ada Lovelace of Acme Corp wrote to Jane Smith in London."
#: Per detector a text with personal data that it knows, and of which kinds.
KNOWN: dict[str, tuple[str, set[PersonalKind]]] = {
    "tailorbird": ("write to ada@example.org or call +44 20 7946 0958", {K.EMAIL, K.PHONE}),
    "presidio": (f"{LETTER} Her SSN is 536-90-4399.", {K.PERSON, K.PLACE, K.ORGANISATION, K.NATIONAL_ID}),
}


def opened(name: str) -> Detector:
    if name == "tailorbird":
        return OwnDetector(("GB",))
    if find_spec("presidio_analyzer") is None:
        pytest.skip("the package presidio_analyzer is not installed: make detectors")
    return wiring.open_detectors([name])[0]


@pytest.fixture(params=["tailorbird", pytest.param("presidio", marks=pytest.mark.detectors)])
def detector(request: pytest.FixtureRequest) -> Detector:
    return opened(request.param)


def test_it_finds_what_it_knows_at_its_place(detector: Detector) -> None:
    text, kinds = KNOWN[detector.name]
    (spans,) = detector.detect([text])
    assert {span.kind for span in spans} == kinds
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    shown = {text[span.start : span.end] for span in spans}
    assert ("ada@example.org" if detector.name == "tailorbird" else "Ada Lovelace") in shown


def test_texts_are_told_apart_and_come_in_order(detector: Detector) -> None:
    text, _ = KNOWN[detector.name]
    alone = detector.detect([text])[0]
    assert detector.detect([]) == []
    assert detector.detect(["", "it does not work", text, " ", text]) == [[], [], alone, [], alone]


@pytest.mark.detectors
def test_a_snapshot_is_redacted_and_says_which_versions_looked(tmp_path: Path) -> None:
    detector = opened("presidio")
    letters = "abcdefghijklmnopqrstuvwxyz"
    rows = [f"it is {' '.join(''.join(Random(9 * n + k).sample(letters, 7)) for k in range(6))}" for n in range(64)]
    rows[5] = "Ada Lovelace wrote to Jane Smith in London about the parcel"
    lines = ["text,label", *(f"{row},{'ab'[n % 2]}" for n, row in enumerate(rows))]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    policy = PrivacyPolicy(default=PrivacyAction.REDACT, detectors=("presidio",))
    objective = make_objective({"path": "rows.csv", "source": ORIGIN}).model_copy(update={"curation": CurationPolicy(privacy=policy)})
    store = Store()
    built = build_snapshot(SnapshotRequest(objective, tmp_path, store, {}, lambda _: None, detectors=lambda _: [detector]))
    texts = {row.text for row in built.rows}
    assert any(text.startswith("[PERSON] wrote to [PERSON] in [PLACE]") for text in texts)
    report = CurationReport.model_validate_json(store.get(str(built.manifest.curation)))
    assert report.schemes["privacy.presidio"] == detector.version
    assert {count.kind: count.rows for count in report.personal}[K.PERSON] >= 1


def test_a_package_that_is_missing_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tailorbird.integrations.presidio", raising=False)
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    wiring._presidio.cache_clear()
    with pytest.raises(Unavailable) as caught:
        wiring.open_detectors(["presidio"])
    assert caught.value.error_code == "package_missing"
    assert "presidio_analyzer" in caught.value.message
    assert caught.value.hint == "pip install 'tailorbird[presidio]'"
