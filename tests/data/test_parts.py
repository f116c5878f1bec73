"""A build in parts, whoever does which: the very snapshot that one process builds of the whole."""

from __future__ import annotations

import csv
import io
import json
import random
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.test_snapshot import messages
from support.data import MemoryParts, Store, make_objective
from tailorbird.data import Amendments, BuiltSnapshot, SnapshotRequest, build_snapshot, can_be_helped, help_build
from tailorbird.data.duplicates.exact import Item
from tailorbird.data.duplicates.near_duplicates import BAND_PARTS, NearSearch, Pairs
from tailorbird.data.duplicates.text_index import TextIndex
from tailorbird.data.parts import near_parts, shared_rows
from tailorbird.data.parts.given_parts import TextBlob, packed, unpacked
from tailorbird.data.parts.row_curation import RowPolicy, curated_stretch
from tailorbird.data.parts.row_part import RowPart
from tailorbird.data.pipeline import privacy_of
from tailorbird.data.placed_rows import PlacedRows
from tailorbird.data.prepared_rows import PreparedRows, SealedRows
from tailorbird.data.readers.appended_reader import records_since
from tailorbird.data.readers.csv_file import read_csv
from tailorbird.data.readers.data_file import DataFile, open_file
from tailorbird.data.readers.source_rows import RowBuilder
from tailorbird.data.readers.stretches import WHOLE, Stretch, stretches_of
from tailorbird.domain.curation import CurationPolicy, PersonalKind, PrivacyAction, PrivacyPolicy, ProtectedSet, QualityPolicy, QualityRule
from tailorbird.domain.errors import DataInvalid, Exhausted
from tailorbird.domain.objective import DocumentSource, TaskKind
from tailorbird.domain.split_policy import SplitPolicy

Json = dict[str, Any]
POLICY = CurationPolicy(
    privacy=PrivacyPolicy(kinds={PersonalKind.EMAIL: PrivacyAction.REDACT, PersonalKind.CARD: PrivacyAction.DROP}),
    quality=QualityPolicy(drop=(QualityRule.MARKUP,)),
)
ODD = [
    {"text": 'she said ""no""\nand hung up, "twice"', "label": "a"},
    {"text": "ask bob@example.org, or ask the other one", "label": "b"},
    {"text": "card 4111 1111 1111 1111", "label": "b"},
    {"text": "<div>no text</div>", "label": "a"},
    {"text": "", "label": "a"},
    {"text": "a\r\nletter\n\nof, several lines", "label": "b"},
]
NEAR = "i tried to pay with my new card in the shop down the road and it was refused"


def rows_of(seed: int) -> list[Json]:
    """Rows in any order, with copies and near-copies among them, and what is set aside."""
    drawn = random.Random(seed)
    rows = [*messages(30, "a"), *messages(30, "b", 500), *ODD]
    rows += [dict(row) for row in drawn.sample(rows, 8)]
    rows += [{"text": row["text"] + drawn.choice(["!", "s", " x"]), "label": row["label"]} for row in drawn.sample(rows[:60], 8)]
    rows += [{"text": NEAR.replace("shop", word), "label": "a"} for word in ("shop", "shops", "shp")]
    drawn.shuffle(rows)
    return rows


def as_csv(rows: Sequence[Json]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ("text", "label", "who"), lineterminator="\r\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def request_for(folder: Path, store: Store, parts: MemoryParts | None = None, stretch: int = 1 << 20, **policy: Any) -> SnapshotRequest:
    sources = policy.pop("sources", [{"path": "d.csv"}])
    objective = make_objective(*sources).model_copy(update={"curation": POLICY, **policy})
    given = {"parts": parts} if parts is not None else {}
    return SnapshotRequest(objective, folder, store, {}, lambda _: None, Amendments(secret=b"a secret"), stretch=stretch, **given)


def help_with(request: SnapshotRequest, order: Callable[[Sequence[Any]], list[Any]]) -> None:
    """Helps as a process would that stays until the build has ended."""
    help_build(replace(request, artifacts=Store()), order)


def built_with_help(request: SnapshotRequest, parts: MemoryParts, order: Callable[[Sequence[Any]], list[Any]]) -> BuiltSnapshot:
    """Built while somebody else helps, who had the time to do all of the rows that it would."""
    helper = threading.Thread(target=help_with, args=(request, order))
    helper.start()
    try:
        for _ in range(2000):
            if len(parts.known) >= 1 or not helper.is_alive():
                break
            threading.Event().wait(0.005)
        return build_snapshot(request)
    finally:
        parts.wanted = False
        helper.join()


def same(one: BuiltSnapshot, other: BuiltSnapshot) -> bool:
    parts = ("manifest", "report", "quarantined", "assigned", "rows")
    return all(getattr(one, part) == getattr(other, part) for part in parts)


def backwards(parts: Sequence[Any]) -> list[Any]:
    return list(reversed(parts))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), stretch=st.integers(400, 4000), kept=st.sets(st.integers(0, 40)))
def test_any_sharding_gives_the_same_snapshot(tmp_path_factory: pytest.TempPathFactory, seed: int, stretch: int, kept: set[int]) -> None:
    """However a file is cut, and whichever of the parts of others have come so far."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "d.csv").write_bytes(as_csv(rows_of(seed)))
    store = Store()
    whole = build_snapshot(request_for(folder, store))
    assert same(build_snapshot(request_for(folder, store, stretch=stretch)), whole)
    parts = MemoryParts()
    assert same(built_with_help(request_for(folder, store, parts, stretch), parts, backwards), whole)
    some = MemoryParts()
    some.held = {name: data for number, (name, data) in enumerate(sorted(parts.held.items())) if number in kept}
    assert same(build_snapshot(request_for(folder, store, some, stretch)), whole)


class SlowBuild(MemoryParts):
    """Who builds gives the texts, and goes on once others have searched all bands."""

    def put(self, name: str, data: bytes) -> bool:
        given = super().put(name, data)
        for _ in range(4000 if name == near_parts.TEXTS else 0):
            if sum(part.startswith("bands") for part in self.held) == len(BAND_PARTS):
                break
            threading.Event().wait(0.005)
        return given


def test_near_duplicates_in_parts_of_two_processes_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By who helps: its pairs are noted, and who builds finds none."""
    rows = [{"text": NEAR, "label": "a"}, *messages(40, "a"), *messages(40, "b", 500), {"text": NEAR.replace("shop", "shp"), "label": "b"}]
    (tmp_path / "d.csv").write_bytes(as_csv(rows))
    store, parts, pairs, note = Store(), SlowBuild(), list[int](), NearSearch.note

    def noted(search: NearSearch, given: Pairs) -> None:
        pairs.append(len(given))
        note(search, given)

    monkeypatch.setattr(NearSearch, "note", noted)
    built = built_with_help(request_for(tmp_path, store, parts, 500), parts, backwards)
    one, other = (row for row in built.rows if row.text.startswith("i tried"))
    assert one.group == other.group
    assert any(name.startswith("rows") for name in parts.held)
    assert len(pairs) == len(BAND_PARTS)
    assert sum(pairs) >= 1


def test_who_builds_asks_for_no_part_that_is_not_there(tmp_path: Path) -> None:
    """A look at the record tells which are: it is not read for each."""
    (tmp_path / "d.csv").write_bytes(as_csv(rows_of(7)))
    store, parts = Store(), SlowBuild()
    request = request_for(tmp_path, store, parts, 500)
    whole = built_with_help(request, parts, backwards)
    few = MemoryParts()
    few.held = {name: data for name, data in parts.held.items() if name.startswith("rows") or name == near_parts.part_name(BAND_PARTS[20])}
    assert same(build_snapshot(replace(request, parts=few)), whole)
    assert [name for name in few.asked if name.startswith("bands")] == [near_parts.part_name(BAND_PARTS[20])]
    assert few.looks <= len(BAND_PARTS) + 4


def test_a_part_that_cannot_be_used_is_asked_for_once(tmp_path: Path) -> None:
    """It is fetched, decrypted and unpacked: not again before each stretch of one's own, and after each search."""
    (tmp_path / "d.csv").write_bytes(as_csv(rows_of(8)))
    store, parts = Store(), MemoryParts()
    request = request_for(tmp_path, store, parts, 500)
    whole = built_with_help(request, parts, backwards)
    with open_file("d.csv", tmp_path / "d.csv", ".csv") as file:
        names = [shared_rows.part_name(0, stretch) for stretch in stretches_of(file, 500)]
    assert len(names) > 5
    damaged, last = MemoryParts(), names[-1]
    names += map(near_parts.part_name, BAND_PARTS)
    damaged.held = dict.fromkeys(names, b"damaged") | {last: parts.held[last]}
    assert same(build_snapshot(replace(request, parts=damaged)), whole)
    assert sorted(damaged.asked) == sorted(names)


def test_parts_are_taken_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also later ones, between two of one's own: who helps goes on meanwhile, and waits when all is read."""
    (tmp_path / "d.csv").write_bytes(as_csv(rows_of(4)))
    store, parts = Store(), MemoryParts()
    whole = built_with_help(request_for(tmp_path, store, parts, 500), parts, backwards)
    done = {name: data for name, data in parts.held.items() if name.startswith("rows")}
    later, own = MemoryParts(), list[int]()

    def curated(*given: Any) -> RowPart:
        own.append(len(later.asked))
        if done:
            name = max(done, key=_start)
            later.held[name] = done.pop(name)
        return curated_stretch(*given)

    monkeypatch.setattr(shared_rows, "curated_stretch", curated)
    assert same(build_snapshot(request_for(tmp_path, store, later, 500)), whole)
    assert own[0] == 0
    assert own[1] == 1, "the last part, before the second stretch"


def _start(name: str) -> int:
    return int(name.split()[2].split("-")[0])


def _protected(folder: Path, rows: Sequence[Json]) -> CurationPolicy:
    (folder / "kept.jsonl").write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in rows))
    return CurationPolicy(protected=(ProtectedSet(path="kept.jsonl"),))


@pytest.mark.parametrize("case", ["nothing else", "copies are dropped", "a protected set", "rows are known", "scarce labels"])
def test_rows_that_are_made_ready_while_others_search_are_those_of_one_process(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of them afterwards: another group, another split, or none."""
    rows, store = rows_of(5), Store()
    if case == "scarce labels":  # groups are moved so that each split has each
        rows = [{"text": row["text"], "label": "abcdefgh"[number % 8]} for number, row in enumerate(messages(32, "a"))]
    (tmp_path / "d.csv").write_bytes(as_csv(rows))
    curation = CurationPolicy(near_duplicates="drop") if case == "copies are dropped" else CurationPolicy()
    curation = _protected(tmp_path, rows[10:13]) if case == "a protected set" else curation
    request = replace(request_for(tmp_path, store, stretch=300), objective=request_for(tmp_path, store, curation=curation).objective)
    known = build_snapshot(request).assigned if case == "rows are known" else {}
    known = {row: given for number, (row, given) in enumerate(sorted(known.items())) if number % 3}
    whole = build_snapshot(replace(request, known=known))
    parts = MemoryParts(deaf={near_parts.part_name(BAND_PARTS[-1])})  # so that something is left to be searched
    helped = replace(request, known=known, parts=parts)
    made, make = list[int](), PreparedRows.make

    def noted(prepared: PreparedRows, items: Sequence[Item], *given: Any) -> None:
        make(prepared, items, *given)
        assert prepared.groups is not None
        made.append(int((prepared.groups.number_N >= 0).sum()))

    monkeypatch.setattr(PreparedRows, "make", noted)
    assert same(built_with_help(helped, parts, backwards), whole)
    assert made, "somebody helped"
    assert made[0] >= len(whole.rows) / 4


@pytest.mark.parametrize("case", ["near-copies", "scarce labels", "subjects"])
def test_what_was_made_ready_is_mended_where_groups_change(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, counts, seal, and what is kept for rows that are appended, are those of one process, though most ties are found afterwards."""
    rows, sources = rows_of(9), [{"path": "d.csv"}]
    if case == "scarce labels":
        rows = [{"text": row["text"], "label": "abcdefgh"[number % 8]} for number, row in enumerate(messages(32, "a"))]
        rows += [{"text": row["text"] + "!", "label": row["label"]} for row in rows[:3]]
    if case == "subjects":
        rows, sources = [row | {"who": f"p{number % 40}"} for number, row in enumerate(rows)], [{"path": "d.csv", "subject": "who"}]
    (tmp_path / "d.csv").write_bytes(as_csv(rows))
    store, parts = Store(), MemoryParts(deaf=set(map(near_parts.part_name, BAND_PARTS)))
    request = request_for(tmp_path, store, stretch=300, sources=sources)
    whole = build_snapshot(replace(request))
    changed, stored = list[int](), PreparedRows.stored

    def noted(prepared: PreparedRows, placed: PlacedRows) -> SealedRows:
        assert placed.changed is not None, "all rows were made ready"
        changed.append(len(placed.changed))
        return stored(prepared, placed)

    monkeypatch.setattr(PreparedRows, "stored", noted)
    monkeypatch.setattr(NearSearch, "pairs", property(lambda _search: []))  # none is known when rows are made ready
    assert same(built_with_help(replace(request, parts=parts), parts, backwards), whole)
    assert 0 < changed[0] < len(whole.rows)


def test_what_others_have_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d.csv").write_bytes(as_csv(rows_of(1)))
    store, parts = Store(), MemoryParts(deaf={"read", "searched"})
    request = request_for(tmp_path, store, parts, 500)
    helper = threading.Thread(target=help_with, args=(request, backwards))
    helper.start()
    whole = build_snapshot(request)
    while len([name for name in parts.known if name.startswith("bands")]) < len(BAND_PARTS) and helper.is_alive():
        threading.Event().wait(0.01)
        if "texts" not in parts.known:
            whole = build_snapshot(request)
    parts.wanted = False
    helper.join()
    monkeypatch.setattr(NearSearch, "search", pytest.fail)
    found = {name for name in parts.held if name.startswith("bands")}
    assert len(found) == len(BAND_PARTS)
    assert same(build_snapshot(request), whole)


def test_who_builds_does_without_help_where_nothing_can_be_given(tmp_path: Path) -> None:
    """The quota is used up, or the store is away: neither is needed for what is built."""

    class FullParts(MemoryParts):
        def put(self, name: str, data: bytes) -> bool:
            if name.startswith("rows"):
                return super().put(name, data)
            raise Exhausted("the storage quota of acme would be passed", "ask for more", code="quota_storage")

    (tmp_path / "d.csv").write_bytes(as_csv(rows_of(4)))
    store, parts = Store(), FullParts()
    whole = build_snapshot(request_for(tmp_path, store))
    assert same(built_with_help(request_for(tmp_path, store, parts, 500), parts, backwards), whole)
    assert parts.held


def test_who_helps_stops_where_nothing_is_left(tmp_path: Path) -> None:
    """Rows once all are read, and bands once all are searched."""
    (tmp_path / "d.csv").write_bytes(as_csv(rows_of(3)))
    store, parts = Store(), MemoryParts()
    request = request_for(tmp_path, store, parts, 500)
    built_with_help(request, parts, backwards)
    kept = {name: data for name, data in parts.held.items() if not name.startswith(("rows", "bands"))}
    assert {"read", "texts", "searched"} <= kept.keys()
    later = MemoryParts()
    later.held, later.wanted = dict(kept), True
    assert help_build(request_for(tmp_path, store, later, 500), backwards) == 0
    assert later.held == kept


@pytest.mark.parametrize("change", ["other file", "other policy", "damaged", "other day"])
def test_parts_of_another_build_are_not_taken(tmp_path: Path, change: str) -> None:
    (tmp_path / "d.csv").write_bytes(as_csv(rows_of(2)))
    store, parts = Store(), MemoryParts()
    request = request_for(tmp_path, store, parts, 500)
    built_with_help(request, parts, backwards)
    if change == "other file":
        (tmp_path / "d.csv").write_bytes(as_csv(rows_of(2)[::-1]))
    elif change == "other policy":
        request = replace(request, objective=request.objective.model_copy(update={"curation": CurationPolicy()}))
    elif change == "damaged":
        parts.held = {name: data[: len(data) // 2] for name, data in parts.held.items()}
    else:
        request = replace(request, amendments=Amendments(secret=b"another secret"))
    alone = build_snapshot(replace(request, parts=MemoryParts()))
    assert same(build_snapshot(request), alone)


def test_a_quote_that_misleads_the_cutting_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is cut within a record is read as one, when what was read of it is gone."""
    rows = [f"{row['text']},{row['label']}" for row in [*messages(40, "a"), *messages(40, "b", 500)]]
    rows[3] = f'a {"long " * 30}7" pipe,a'
    rows[9] = '"first line, and\nsecond line",b'
    (tmp_path / "d.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    store = Store()
    with open_file("d.csv", tmp_path / "d.csv", ".csv") as file:
        assert len(stretches_of(file, 100)) == 3, "the second ends within a record, and behind it no end of a line is outside of quotes"
    whole = build_snapshot(request_for(tmp_path, store))
    made, kept = list[weakref.ref[RowPart]](), list[int]()

    def curated(file: DataFile, stretch: Stretch, *given: Any) -> RowPart:
        kept.append(sum(each() is not None for each in made))
        part = curated_stretch(file, stretch, *given)
        made.append(weakref.ref(part))
        return part

    monkeypatch.setattr(shared_rows, "curated_stretch", curated)
    assert same(build_snapshot(request_for(tmp_path, store, stretch=100)), whole)
    assert kept == [0, 1, 0], "the first stretch, the second, which is refused, and the whole file"


def test_an_error_tells_the_place_in_the_whole_file(tmp_path: Path) -> None:
    rows = "".join(f"{row['text']},{row['label']}\n" for row in [*messages(40, "a"), *messages(40, "b", 500)])
    (tmp_path / "d.csv").write_text("text,label\n" + rows + '"open,a\n')
    for stretch in (1 << 20, 300):
        with pytest.raises(DataInvalid, match=r"d\.csv:82"):
            build_snapshot(request_for(tmp_path, Store(), stretch=stretch))


def test_lines_are_numbered_through_all_stretches(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes(as_csv(rows_of(3)))
    whole = build_snapshot(request_for(tmp_path, Store()))
    cut = build_snapshot(request_for(tmp_path, Store(), stretch=150))
    assert [row.provenance.line for row in cut.rows] == [row.provenance.line for row in whole.rows]
    assert max(row.provenance.line for row in cut.rows) > 70


def test_rows_that_are_split_by_a_column_keep_their_sketches(tmp_path: Path) -> None:
    rows = [row | {"who": f"site {number % 7}"} for number, row in enumerate(rows_of(4))]
    (tmp_path / "d.csv").write_bytes(as_csv(rows))
    split = {"split": SplitPolicy(by="who", kind="value", share=0.3)}
    whole = build_snapshot(request_for(tmp_path, Store(), **split))
    parts = MemoryParts()
    request = request_for(tmp_path, Store(), parts, 400, **split)
    assert same(built_with_help(request, parts, backwards), whole)


def test_answers_in_lines_of_json_are_built_in_parts_too(tmp_path: Path) -> None:
    lines = [json.dumps(row | {"label": f"answer {row['text'][::-1]}"}) for row in messages(60, "a")]
    (tmp_path / "d.jsonl").write_text("\n".join(lines) + "\n\n\n")
    objective = make_objective({"path": "d.jsonl"}, kind=TaskKind.GENERATE)
    parts = MemoryParts()
    request = replace(request_for(tmp_path, Store(), parts, 300), objective=objective)
    whole = build_snapshot(replace(request, parts=MemoryParts(), stretch=1 << 20))
    assert same(built_with_help(request, parts, backwards), whole)


def test_only_files_of_rows_are_shared() -> None:
    plain = make_objective({"path": "d.csv"})
    assert can_be_helped(plain)
    assert not can_be_helped(make_objective({"path": "s3://bucket/d.csv"}))
    assert not can_be_helped(make_objective({"path": "d.csv"}, {"path": "more.csv.GZ"}))
    document = DocumentSource(path="docs.jsonl", text="text", id="id", source=plain.data[0].source)
    assert not can_be_helped(plain.model_copy(update={"documents": (document,)}))


@given(seed=st.integers(0, 10**6), size=st.integers(1, 2000))
def test_records_of_all_stretches_are_those_of_the_file(tmp_path_factory: pytest.TempPathFactory, seed: int, size: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "d.csv"
    path.write_bytes(b"\xef\xbb\xbf" * (seed % 2) + as_csv(rows_of(seed)))
    with open_file("d.csv", path, ".csv") as file:
        found = [each for part in stretches_of(file, size) for each in records_since(file, part.start, part.lines, part.stop)]
        assert found == list(read_csv(file, ()))


@pytest.mark.parametrize(("name", "text"), [("d.json", b"[]"), ("d.csv", b"text,label\n"), ("d.parquet", b"PAR1" * 999)])
def test_other_formats_and_short_files_are_read_as_one(tmp_path: Path, name: str, text: bytes) -> None:
    (tmp_path / name).write_bytes(text)
    with open_file(name, tmp_path / name, Path(name).suffix) as file:
        assert stretches_of(file, 100) == [WHOLE]


@given(st.binary(max_size=3000), st.integers(1, 200), st.sampled_from([".csv", ".jsonl"]))
def test_stretches_are_all_of_the_file_once(tmp_path_factory: pytest.TempPathFactory, data: bytes, size: int, kind: str) -> None:
    path = tmp_path_factory.mktemp("cut") / f"d{kind}"
    path.write_bytes(data or b"x")
    with open_file("d", path, kind) as file:
        found = stretches_of(file, size)
    if found != [WHOLE]:
        assert [stretch.start for stretch in found] == [0, *(stretch.stop for stretch in found[:-1])]
        assert found[-1].stop == len(data)
        ends = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if kind == ".csv" else data
        for stretch in found[1:]:
            assert data[stretch.start - 1 : stretch.start] == b"\n"
            before = data[: stretch.start]
            plain = before.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if kind == ".csv" else before
            assert stretch.lines == plain.count(b"\n") <= ends.count(b"\n")


def test_bytes_of_something_else_are_no_part() -> None:
    head = {"of": "this"}
    data = packed(head, {"facts": [1]}, {"first": np.arange(9), "last": np.arange(5)})
    facts, arrays = unpacked(data, head)
    assert facts == {"facts": [1]}
    assert arrays["last"].tolist() == [0, 1, 2, 3, 4]
    for other in (b"", b"PK", data[:20]):
        with pytest.raises(ValueError, match="another build"):
            unpacked(other, head)
    with pytest.raises(ValueError, match="another build"):
        unpacked(data, {"of": "that"})
    for damaged in (data[:-1], data[:-30], data.replace(b'"facts"', b"'facts'"), data[: data.index(b"last")]):
        with pytest.raises(ValueError, match="no part"):
            unpacked(damaged, head)


@pytest.fixture(scope="module")
def row_part(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A part of rows, whose head is empty."""
    folder = tmp_path_factory.mktemp("part")
    (folder / "d.csv").write_bytes(as_csv(rows_of(6)))
    request = request_for(folder, Store())
    source = request.objective.data[0]
    with open_file("d.csv", folder / "d.csv", ".csv") as file:
        making = RowBuilder(request.objective, source, request.amendments.secret)
        policy = RowPolicy(request.objective, privacy_of(request), request.amendments)
        return curated_stretch(file, WHOLE, making, policy).packed({})


def test_what_is_kept_of_a_part_does_not_keep_its_bytes(row_part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the file's texts lie in them, and a build takes many parts."""
    part = RowPart.unpacked(row_part, {})
    assert part.sketches is not None
    kept = [*vars(part.sketches.index).values(), *part.sketches.runs]

    def made(*arrays: Any) -> TextIndex:
        kept.extend(arrays)
        return TextIndex(*arrays)

    arrays = dict(zip(("signatures", "lengths", "histograms"), kept, strict=False)) | TextBlob.arrays("text", [*part.named.folded])
    texts = packed({}, {}, arrays)
    monkeypatch.setattr(near_parts, "TextIndex", made)
    near_parts.search_given(texts, {})
    assert len(kept) == 8
    for data in (row_part, texts):
        assert not [array for array in kept if np.shares_memory(array, np.frombuffer(data, np.uint8))]


@pytest.mark.parametrize("name", ["target", "subject", "fixed", "place", "transforms", "shift"])
@pytest.mark.parametrize("beyond", [-1, 10**6])
def test_a_part_whose_rows_have_values_that_it_does_not_hold_is_none(row_part: bytes, name: str, beyond: int) -> None:
    facts, arrays = unpacked(row_part, {})
    assert len(RowPart.unpacked(packed({}, facts, arrays), {}).named.rows) > 50
    arrays[f"{name}_at"] = np.where(np.arange(len(arrays["line"])) == 3, np.int32(beyond), arrays[f"{name}_at"])
    with pytest.raises(ValueError, match="others"):
        RowPart.unpacked(packed({}, facts, arrays), {})
