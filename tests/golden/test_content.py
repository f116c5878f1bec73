"""What a job leaves is what it left before: rows, splits, rungs, losses, the log, the release, its answers and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from support.golden import CHAT, Story

Golden = Callable[..., None]
#: A loss in bf16 depends on how a processor rounds; another format is another training.
SAME, OTHER = 1e-3, 0.1

ASKED = (
    "I moved to another street, please send everything there.",
    "The password that I set yesterday is refused.",
    "You took the tent back, and where is my money?",
    "ok",
)


def test_rows_and_splits_of_the_snapshot(story: Story, golden: Golden) -> None:
    manifest = story.desk.json("data", "show", "desk")["manifest"]
    digest = manifest["rows"].removeprefix("sha256:")
    stored = (story.desk.workspace / "artifacts" / digest[:2] / digest[2:4] / digest).read_text(encoding="utf-8")
    rows = [json.loads(line) for line in stored.splitlines()]
    each: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: (row["split"], row["target"], row["id"])):
        each.setdefault(f"{row['split']} {row['target']}", []).append(row["id"][7:15])
    counts = {key: manifest[key] for key in ("read", "duplicates", "quarantined", "near_duplicate_groups", "counts", "rows")}
    golden("snapshot", {**counts, **{part: " ".join(ids) for part, ids in each.items()}})


def test_rungs_verdicts_and_choice_of_the_climb(story: Story, golden: Golden) -> None:
    kept = ("rung", "variant", "trained_parameters", "choice")
    climbs = [
        {key: climb[key] for key in kept}
        | {"gate": climb["gate"]["verdict"], "against_below": (climb["against_below"] or {}).get("standing")}
        for climb in story.evidence["ladder"]["climbs"]
    ]
    sealed = {key: story.evidence["gate"][key] for key in ("split", "verdict", "look", "adjusted_confidence")}
    bases = [(base["name"], base["license"]) for base in story.evidence["plan"]["bases"]]
    golden("climb", {"bases": [list(base) for base in bases], "climbs": climbs, "sealed_test": sealed}, 1e-9)


@pytest.mark.models  # bf16 rounds otherwise on another processor: in make models, not in make test
def test_losses_and_metrics_of_both_trainings(story: Story, golden: Golden) -> None:
    timed = ("cost_per_1k_requests", "latency_p95_ms")
    found = {
        climb["variant"]: {
            **climb["fit"],
            **{name: one["value"] for name, one in climb["evidence"]["metrics"].items() if name not in timed},
        }
        for climb in story.evidence["ladder"]["climbs"]
    }
    golden("trainings", found, learned_within(story))


def test_kinds_of_log_entries_in_order(story: Story, golden: Golden) -> None:
    entries = [json.loads(json.loads(line)["body"]) for line in story.desk.run("audit", "export").splitlines()]
    told = [" ".join(filter(None, (entry["actor"], entry["kind"], entry.get("data", {}).get("step", "")))) for entry in entries]
    golden("log", told[: next(place for place, line in enumerate(told) if "key.created" in line) + 1])


def test_fields_of_the_release_and_headings_of_its_card(story: Story, golden: Golden) -> None:
    shown = story.desk.json("release", "show", story.release)
    card = story.desk.run("release", "show", story.release, "--card")
    # Which of two that tie is released, an adapter or weights, is decided by what answers cost as measured.
    shown["content"] = {key: value for key, value in shown["content"].items() if key not in ("adapter", "weights")}
    filled = {part: sorted(key for key, value in shown[part].items() if value not in (None, [], "")) for part in ("content", "dossier")}
    golden("release", {**filled, "card": [line for line in card.splitlines() if line.startswith("#")]})


def test_files_of_an_exported_release(story: Story, golden: Golden) -> None:
    target = story.folder / "exported"
    story.desk.run("export", story.release, str(target))
    told = json.loads((target / "tailorbird.json").read_text(encoding="utf-8"))
    golden("export", {"files": sorted(path.name for path in target.iterdir()), "tailorbird.json": sorted(told), "base": told["base_model"]})


@pytest.mark.parametrize("name", ["words", pytest.param("desk", marks=pytest.mark.models)])
def test_answers_and_probabilities(story: Story, golden: Golden, name: str) -> None:
    answers = {}
    for text in ASKED:
        answer = story.post(CHAT, {"model": f"acme/{name}", "messages": [{"role": "user", "content": text}]}).json()
        answers[text] = {"label": answer["choices"][0]["message"]["content"], **answer["tailorbird"]["probabilities"]}
    golden(f"answers_{name}", answers, SAME if name == "words" else learned_within(story))


def learned_within(story: Story) -> float:
    """How far what was trained here may lie from the files, which were written on a processor with bf16."""
    return SAME if all(rung["training"]["precision"] == "bf16" for rung in story.evidence["plan"]["rungs"]) else OTHER


def asking(**changes: Any) -> dict[str, Any]:
    """A request that is answered, but for ``changes``."""
    return {"model": "acme/desk", "messages": [{"role": "user", "content": "Where is my money?"}]} | changes


REQUESTS: dict[str, Callable[[Story], httpx.Response]] = {
    "a good request": lambda story: story.post(CHAT, asking()),
    "no key": lambda story: story.post(CHAT, asking(), authorization=""),
    "a wrong key": lambda story: story.post(CHAT, asking(), authorization="Bearer tb_nobody_0000"),
    "no JSON": lambda story: story.post(CHAT, b"{"),
    "a list": lambda story: story.post(CHAT, []),
    "no messages": lambda story: story.post(CHAT, asking(messages=[])),
    "an unknown role": lambda story: story.post(CHAT, asking(messages=[{"role": "judge", "content": "x"}])),
    "an unknown name": lambda story: story.post(CHAT, asking(model="acme/nothing")),
    "another tenant's name": lambda story: story.post(CHAT, asking(model="globex/desk")),
    "the staged release": lambda story: story.post(CHAT, asking(model="acme/desk@staging")),
    "a text beyond the model's context": lambda story: story.post(CHAT, asking(messages=[{"role": "user", "content": "money " * 4000}])),
    "a temperature of -1": lambda story: story.post(CHAT, asking(temperature=-1)),
    "two answers of a classifier": lambda story: story.post(CHAT, asking(n=2)),
    "embeddings of a classifier": lambda story: story.post("/v1/embeddings", {"model": "acme/desk", "input": "x"}),
    "a ranking of a classifier": lambda story: story.post("/v1/rerank", {"model": "acme/desk", "query": "x", "documents": ["y"]}),
    "a route that is not there": lambda story: story.post("/v1/nothing", {}),
    "a method that is not there": lambda story: httpx.delete(f"{story.url}{CHAT}", headers={"authorization": f"Bearer {story.key}"}),
    "the control API by an app's key": lambda story: story.post("/api/tenants", {"name": "globex"}),
}


def test_status_and_code_of_answers(story: Story, golden: Golden) -> None:
    golden("statuses", {name: told(ask(story)) for name, ask in REQUESTS.items()})


def told(response: httpx.Response) -> str:
    body = response.json()
    return f"{response.status_code} {body['error']['code'] if 'error' in body else body['object']}"
