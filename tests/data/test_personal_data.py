"""Personal data: found where it is, not found where it only looks like it, and dealt with as the policy says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.data import Store, build, make_objective
from support.unicode_texts import near
from tailorbird.data import Amendments, SnapshotRequest, build_snapshot, load_quarantine
from tailorbird.data.checked_numbers import national_ids
from tailorbird.data.privacy import OwnDetector, Redaction, disjoint
from tailorbird.domain.curation import WITHHELD, CurationPolicy, PersonalKind, PrivacyAction, PrivacyPolicy
from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.ports.detector import Span

K = PersonalKind


FOUND = [
    (K.EMAIL, "write to ann.o'neil+x@mail.example.co.uk, please", "ann.o'neil+x@mail.example.co.uk"),
    (K.EMAIL, "ann (at) example (dot) org is mine", "ann (at) example (dot) org"),
    (K.PHONE, "call me on +49 30 901820 tomorrow", "+49 30 901820"),
    (K.PHONE, "my number is (212) 736-5000.", "(212) 736-5000"),
    (K.CARD, "card 4111 1111 1111 1111 was declined", "4111 1111 1111 1111"),
    (K.IBAN, "pay to DE89 3704 0044 0532 0130 00 please", "DE89 3704 0044 0532 0130 00"),
    (K.IP, "it logs 203.0.113.7 all day", "203.0.113.7"),
    (K.IP, "from 2001:db8::8a2e:370:7334 again", "2001:db8::8a2e:370:7334"),
    (K.URL_CREDENTIALS, "clone https://bob:hunter22@git.example.org/x now", "https://bob:hunter22@git.example.org/x"),
    (K.NATIONAL_ID, "Mi DNI es 12345678Z.", "12345678Z"),
    (K.NATIONAL_ID, "codice fiscale RSSMRA85T10A562S", "RSSMRA85T10A562S"),
    (K.NATIONAL_ID, "PESEL 44051401359", "44051401359"),
    (K.NATIONAL_ID, "my BSN is 111222333", "111222333"),
    (K.NATIONAL_ID, "henkilötunnus 131052-308T", "131052-308T"),
    (K.NATIONAL_ID, "AHV 756.9217.0769.85", "756.9217.0769.85"),
    (K.NATIONAL_ID, "my NHS number is 943 476 5919", "943 476 5919"),
    (K.SECRET, "key AKIAIOSFODNN7EXAMPLE leaked", "AKIAIOSFODNN7EXAMPLE"),
    (K.SECRET, "my password is Xk9#mQ2vLp and it fails", "Xk9#mQ2vLp"),
    (K.BIRTH_DATE, "I was born on 12.03.1984 in Graz", "12.03.1984"),
]


NOTHING = [
    "where is order 4111111111111112",
    "order number 4111111111111111 is late",
    "version 10.1.12.3 crashes",
    "IBAN DE00 3704 0044 0532 0130 00 is an example",
    "see logo@2x.png",
    "invoice 2023-00012345 is wrong",
    "it took from 2019-01-12 to 2020-02-13",
    "my password is wrong",
]


def spans(text: str) -> list[tuple[PersonalKind, str]]:
    return [(span.kind, text[span.start : span.end]) for span in OwnDetector(PrivacyPolicy().regions).detect([text])[0]]


def test_it_is_found() -> None:
    assert [(kind, value) for kind, text, value in FOUND if (kind, value) not in spans(text)] == []


def test_it_only_looks_like_it() -> None:
    assert [text for text in NOTHING if spans(text)] == []


@given(near([text for _, text, _ in FOUND]) | st.text("0123456789 +-.:@/ABab", max_size=60))
def test_any_text_can_be_searched_and_spans_lie_apart(text: str) -> None:
    found = OwnDetector(("DE", "US")).detect([text])[0]
    list(national_ids(text))
    assert all(0 <= span.start < span.end <= len(text) for span in found)
    assert all(one.end <= other.start for one, other in pairwise(found))


#: A letter that is İ or ſ where case does not count, and a digit of another script, where a table of checks has neither.
ODD = ["İSSMRA85T10A562S", "RſSMRA85T10A562S", "RSSMRA85T10A56۴S", "PESEL 4405140135९", "²8401359 123456789"]


@pytest.mark.parametrize("text", ODD)
def test_letters_that_no_table_has_end_nothing(text: str) -> None:
    assert list(national_ids(text)) == []
    assert Redaction(PrivacyPolicy()).treat([text, "fine"])[1].text == "fine"


@pytest.mark.parametrize(("kind", "text", "value"), [(K.NATIONAL_ID, "PESEL 44051401359", "44051401359"), FOUND[4]])
def test_a_number_is_found_in_the_digits_of_any_script(kind: PersonalKind, text: str, value: str) -> None:
    other = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
    assert (kind, value.translate(other)) in spans(text.translate(other))


class Fails:
    """Fails on every text that holds ``poison``, in an error that quotes it."""

    name, version = "fails", "1"

    def detect(self, texts: Sequence[str]) -> list[list[Span]]:
        for text in texts:
            if "poison" in text:
                raise KeyError(text)
        return [[] for _ in texts]


@pytest.mark.parametrize("size", [7])
def test_a_text_on_which_a_detector_fails_is_withheld_alone(size: int, caplog: pytest.LogCaptureFixture) -> None:
    texts = ["write to ann@example.org"] * size
    for place in range(size):
        treated = Redaction(PrivacyPolicy(default=PrivacyAction.REDACT), [Fails()]).treat([*texts[:place], "a poison", *texts[place + 1 :]])
        assert [one.text for one in treated] == ["write to [EMAIL]"] * place + [WITHHELD] + ["write to [EMAIL]"] * (size - place - 1)
        assert [one.failed for one in treated] == [n == place for n in range(size)]
    assert "poison" not in caplog.text
    assert "KeyError" in caplog.text


def test_a_row_on_which_a_detector_fails_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnDetector, "detect", Fails.detect)
    store, rows = Store(), [*ground(), {"text": "a poison", "label": "a"}]
    built = build(objective(PrivacyPolicy()), write(tmp_path, rows), store=store)
    assert [(entry.line, entry.code) for entry in load_quarantine(built.manifest, store)] == [(81, "detector_failed")]
    assert built.manifest.size == 80


SPANS = st.builds(lambda start, length, kind: Span(start, start + length, kind), st.integers(0, 20), st.integers(0, 6), st.sampled_from(K))


@given(st.lists(SPANS, max_size=12))
def test_of_spans_that_overlap_the_first_stays(spans: list[Span]) -> None:
    """Empty ones, too, which a detector of an installation may tell: they hide nothing that begins beside them."""
    taken: list[Span] = []
    for span in spans:
        if all(span.end <= other.start or other.end <= span.start for other in taken):
            taken.append(span)
    assert disjoint(spans) == sorted(taken)


def test_long_texts_do_not_make_a_pattern_run_away() -> None:
    for part in ("1 ", "a@", "1.", "AB12 ", "a.", "::", "(1", "password: "):
        OwnDetector(("DE",)).detect([part * 20_000])


SECRET = b"k" * 32


ROWS = [
    {"text": "please call me on +49 30 901820 about the refund", "label": "a"},
    {"text": "write to ann@example.org about the card", "label": "a"},
    {"text": "write to ANN@example.org and to bob@example.org about other things", "label": "b"},
    {"text": "my card 4111 1111 1111 1111 was declined in the shop", "label": "b"},
]


def ground() -> list[dict[str, Any]]:
    return [
        {"text": f"{word} {word[::-1]} {word * 2} asks about {n}", "label": "ab"[n % 2]} for n, word in enumerate(map(_word, range(80)))
    ]


def _word(number: int) -> str:
    return "".join(chr(97 + number * factor % 26) for factor in (1, 3, 5, 7, 11))


def objective(policy: PrivacyPolicy, kind: TaskKind = TaskKind.CLASSIFY) -> Objective:
    return make_objective({"path": "d.jsonl"}, kind=kind).model_copy(update={"curation": CurationPolicy(privacy=policy)})


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_by_default_everything_stays_and_is_counted(tmp_path: Path) -> None:
    store = Store()
    built = build(objective(PrivacyPolicy()), write(tmp_path, ROWS + ground()), store=store)
    assert {row["text"] for row in ROWS} <= {row.text for row in built.rows}
    found = {count.kind: (count.rows, count.occurrences, count.action) for count in built.report.personal}
    assert found == {K.CARD: (1, 1, "keep"), K.EMAIL: (2, 3, "keep"), K.PHONE: (1, 1, "keep")}
    stored = store.get(built.report.findings or "") + store.get(built.manifest.curation or "")
    assert not any(value in stored for value in (b"ann@", b"4111", b"901820", b"refund"))


def test_each_kind_is_dealt_with_as_the_policy_says(tmp_path: Path) -> None:
    policy = PrivacyPolicy(default=PrivacyAction.REDACT, kinds={K.CARD: PrivacyAction.DROP})
    store = Store()
    built = build(objective(policy), write(tmp_path, ROWS + ground()), store=store)
    texts = {row.text: row for row in built.rows}
    assert "please call me on [PHONE] about the refund" in texts
    assert "write to [EMAIL] and to [EMAIL] about other things" in texts
    assert texts["write to [EMAIL] about the card"].provenance.transforms == ("redact:email",)
    assert [(entry.line, entry.code) for entry in load_quarantine(built.manifest, store)] == [(4, "personal_data")]
    step = next(step for step in built.report.flow if step.name == "personal data")
    assert (step.before, step.after, step.changed, step.reasons) == (84, 83, 3, {"personal_data": 1})


def test_pseudonyms_are_stable_and_keyed(tmp_path: Path) -> None:
    policy = PrivacyPolicy(kinds={K.EMAIL: PrivacyAction.PSEUDONYMISE})
    write(tmp_path, ROWS + ground())

    def texts(secret: bytes) -> set[str]:
        amendments = Amendments(secret=secret)
        return {row.text for row in build_snapshot(SnapshotRequest(objective(policy), tmp_path, Store(), {}, print, amendments)).rows}

    one = next(text for text in texts(SECRET) if text.endswith("about the card"))
    two = next(text for text in texts(SECRET) if text.endswith("other things"))
    name = one.split()[2]
    assert name.startswith("[EMAIL-")
    assert two.split()[2] == name != two.split()[5]
    assert name not in " ".join(texts(b"x" * 32))
    with pytest.raises(InvalidInput) as caught:
        build(objective(policy), tmp_path)
    assert caught.value.error_code == "invalid_input"


def test_answers_are_treated_too(tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": f"Answer {n}: ask bob{n}@example.org."} for n, row in enumerate(ground())]
    built = build(objective(PrivacyPolicy(default=PrivacyAction.REDACT), TaskKind.GENERATE), write(tmp_path, rows))
    assert all("[EMAIL]" in row.target for row in built.rows)


def test_a_detector_that_is_not_there_is_no_silence(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        build(objective(PrivacyPolicy(detectors=("presidio",))), write(tmp_path, ROWS + ground()))
    assert caught.value.error_code == "package_missing"
