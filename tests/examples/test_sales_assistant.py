"""The example with eight shops: its data are what its card says, an answer tells whose it is, a small form goes from rows to answers."""

from __future__ import annotations

import csv
import importlib
import re
import shutil
import subprocess
import sys
from collections import Counter
from itertools import takewhile
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tailorbird.objective import read_objective
from tailorbird.settings import save_settings

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sales_assistant"
TENANTS = ("alder", "brio", "cobalt", "dunmore", "fjord", "gable", "harrow", "isola")
FICTIONAL_PHONE = re.compile(r"07700 900\d{3}")


def rows_of(tenant: str) -> list[dict[str, str]]:
    with (EXAMPLE / "rows" / f"{tenant}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


ROWS = {tenant: rows_of(tenant) for tenant in TENANTS}


def opening(rows: list[dict[str, str]]) -> str:
    """The words that all answers of a shop begin with."""
    split = [row["answer"].split() for row in rows]
    return " ".join(words[0] for words in takewhile(lambda words: len(set(words)) == 1, zip(*split, strict=False)))


def test_the_rows_are_those_that_the_program_writes(tmp_path: Path) -> None:
    shutil.copyfile(EXAMPLE / "make_rows.py", tmp_path / "make_rows.py")
    subprocess.run([sys.executable, tmp_path / "make_rows.py"], check=True, capture_output=True)
    assert {path.stem for path in (EXAMPLE / "rows").iterdir()} == set(TENANTS)
    for tenant in TENANTS:
        assert (tmp_path / "rows" / f"{tenant}.csv").read_bytes() == (EXAMPLE / "rows" / f"{tenant}.csv").read_bytes()


@pytest.mark.parametrize("tenant", TENANTS)
def test_every_shop_has_as_many_rows_of_each_answer_and_no_message_twice(tenant: str) -> None:
    rows = ROWS[tenant]
    assert len(rows) == len({row["message"] for row in rows}) == 120
    assert set(Counter(row["answer"] for row in rows).values()) == {10}
    assert not [row for row in rows if re.search(r"[<>{}|]", row["message"] + row["answer"])]


def test_an_answer_tells_whose_it_is() -> None:
    """Every answer begins with the voice and the line of its shop, and no word of either opens an answer of another."""
    openings = {tenant: opening(rows) for tenant, rows in ROWS.items()}
    assert all(len(each.split()) >= 2 for each in openings.values())
    assert len({each.split()[0] for each in openings.values()}) == len({each.split()[-1] for each in openings.values()}) == len(TENANTS)
    for tenant, mine in openings.items():
        for other, rows in ROWS.items():
            assert tenant == other or not any(mine.split()[-1] in row["answer"] for row in rows)


def test_shops_are_asked_in_words_that_do_not_tell_them_apart() -> None:
    """What is left of a message without the shop's trade stands in the rows of nearly every shop, with another answer in each."""
    said = {tenant: " ".join(row["message"] for row in rows).lower() for tenant, rows in ROWS.items()}
    for phrase in (
        "i am a complete beginner",
        "could i see it before i decide?",
        "it is for the whole family",
        "we would need twenty of them.",
    ):
        assert sum(phrase in text for text in said.values()) >= 6, phrase


def test_a_fifth_of_the_messages_also_say_what_is_not_wanted() -> None:
    denying = re.compile(
        r"It is not that|Other people say|Forget that|not one of them|told you that|I would know what to get", re.IGNORECASE
    )
    share = sum(bool(denying.search(row["message"])) for rows in ROWS.values() for row in rows) / sum(map(len, ROWS.values()))
    assert 0.14 < share < 0.27


def test_personal_details_are_fictional() -> None:
    text = " ".join(row["message"] for rows in ROWS.values() for row in rows)
    numbers = re.findall(r"\d[\d ]{6,}\d", text)
    assert len(numbers) > 8
    assert not [number for number in numbers if not FICTIONAL_PHONE.fullmatch(number)]
    assert set(re.findall(r"@([\w.-]+\w)", text)) == {"mail.example"}


def test_the_objective_is_bound_to_each_shop() -> None:
    for tenant in TENANTS:
        file = read_objective(EXAMPLE / "objective.yaml", tenant)
        assert file.for_tenants
        assert (file.objective.tenant, file.objective.places) == (tenant, (f"rows/{tenant}.csv",))
        assert not [other for other in TENANTS if other != tenant and other in file.objective.model_dump_json()]
    listed = [line for line in (EXAMPLE / "tenants.txt").read_text().splitlines() if not line.startswith("#")]
    assert listed == list(TENANTS)


def test_the_card_counts_right_and_shows_the_answers() -> None:
    card = (EXAMPLE / "DATA_CARD.md").read_text(encoding="utf-8")
    assert "synthetic" in card
    assert "Apache-2.0" in card
    for tenant, rows in ROWS.items():
        (line,) = [line for line in card.splitlines() if line.startswith(f"| `{tenant}`")]
        assert line.split("|")[2].strip() in {row["answer"] for row in rows}
    words = sorted(len(row["message"].split()) for rows in ROWS.values() for row in rows)
    assert f"messages of {words[0]} to {words[-1]} words, median {words[len(words) // 2]}" in card


@pytest.fixture
def vendor(tmp_path: Path, base_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example's module, and an environment in which its commands find the base model."""
    for folder in (EXAMPLE.parent, EXAMPLE):
        monkeypatch.syspath_prepend(str(folder))
    for name, value in {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    workspace = tmp_path / "workspace"
    workspace.mkdir(mode=0o700)
    save_settings(workspace, {"tenant": "vendor", "model_cache": str(base_model_folder.parent), "fetch_encoder": False})
    return importlib.import_module("vendor")


@pytest.mark.slow
def test_a_small_form_goes_from_rows_to_answers(vendor: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two of the shops, without the limit on latency: what an answer takes beside other tests is nothing to judge by."""
    job = tmp_path / "job"
    (job / "rows").mkdir(parents=True)
    for tenant in ("alder", "fjord"):
        shutil.copyfile(EXAMPLE / "rows" / f"{tenant}.csv", job / "rows" / f"{tenant}.csv")
    objective = yaml.safe_load((EXAMPLE / "objective.yaml").read_text()) | {"limits": {}}
    (job / "objective.yaml").write_text(yaml.safe_dump(objective, sort_keys=False))
    vendor.tell(vendor.Vendor(tmp_path / "workspace", job), ["alder", "fjord"], ninth=False)
    said = capfd.readouterr().out
    asked = said.partition("each shop asks with its own key")[2]
    answers = dict(re.findall(r"^  (alder|fjord) +(.*)  \(release", asked.partition("━━")[0], flags=re.MULTILINE))
    assert answers["alder"].startswith("Happy trails:")
    assert answers["fjord"].startswith("Ahoy!")
    assert "the key of alder asks for fjord/sales-assistant: NotFoundError" in said
    assert re.search(r"request [2-7]: 429 quota_requests", said)
    back = said.partition("is taken back, and no other")[2].partition("━━")[0]
    assert re.search(r"^  alder +Happy trails:", back, flags=re.MULTILINE)
    assert re.search(r"^  fjord +404", back, flags=re.MULTILINE)


@pytest.mark.jobs
def test_the_whole_example_runs(vendor: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILORBIRD_WORKSPACE", str(tmp_path / "workspace"))
    done = subprocess.run([sys.executable, EXAMPLE / "demo.py"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    voices = {tenant: opening(rows) for tenant, rows in ROWS.items()}
    asked = done.stdout.partition("each shop asks with its own key")[2].partition("━━")[0]
    assert re.search(r"^  juno +Clear skies! ", done.stdout, flags=re.MULTILINE)
    for tenant, voice in voices.items():
        assert re.search(rf"^  {tenant} +{re.escape(voice)} ", asked, flags=re.MULTILINE), tenant
