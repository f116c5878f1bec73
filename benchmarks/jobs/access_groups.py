"""Random questions to a released search over HTTP, by keys of random groups: no passage that the asker may not read.

In: Cranfield's documents (TAILORBIRD_TEST_DATA), each open to everyone or to one or two of six groups. A question is a piece of a document,
mostly one that its asker may not read, or words of several; it is asked by one of sixteen keys. Out: answers that hold a document which the
key may not read. A key of all groups asks some of the questions too: it shows how often the document that a question was taken from would
have been found.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples")]
from climb import DATA, WORK, say  # noqa: E402
from story import Story  # noqa: E402

from tailorbird import settings  # noqa: E402

BARS = {"access_groups_answers_beyond": (0.0, 0.0, "answers", True)}
GROUPS = ("wings", "heat", "shells", "flows", "shocks", "jets")
SEED, KEYS, AT_ONCE, FOUND = 20, 16, 16, 100
#: Documents, questions, and questions that the key of all groups asks, too.
SIZES = {False: (1_400, 10_000, 500), True: (200, 300, 50)}
TENANT, NAME = "aero", "papers"


class Asked(NamedTuple):
    """A question, the place of the key that asks it, and the document that it was taken from."""

    text: str
    key: int
    source: str


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """The values of the bars, and what stands beside them."""
    count, questions, controls = SIZES[quick]
    folder = WORK / ("access_quick" if quick else "access")
    folder.mkdir(parents=True, exist_ok=True)
    documents = _write(folder, count)
    story = Story(folder / "workspace")
    _release(story, folder)
    drawn = random.Random(SEED)
    held = [tuple(sorted(drawn.sample(GROUPS, drawn.randint(0, 4)))) for _ in range(KEYS)]
    stamp = int(time.time())
    keys = [story.key(f"bench-{stamp}-{at}", *_options(groups)) for at, groups in enumerate(held)]
    everything = story.key(f"bench-{stamp}-all", *_options(GROUPS))
    asked = [_question(drawn, documents) for _ in range(questions)]
    with story.serving() as url:
        answers = asyncio.run(_ask(url, [(one.text, keys[one.key]) for one in asked]))
        control = asyncio.run(_ask(url, [(one.text, everything) for one in asked[:controls]]))
    beyond = sum(
        any(not _readable(documents[found], held[one.key]) for found in answer) for one, answer in zip(asked, answers, strict=True)
    )
    closed = [one for one in asked if not _readable(documents[one.source], held[one.key])]
    detail = {
        "documents": len(documents),
        "questions": len(asked),
        "documents_shown": sum(map(len, answers)),
        "least_shown": min(map(len, answers)),
        "about_a_closed_document": len(closed),
        "groups_of_keys": [list(groups) for groups in held],
        "by_all_groups_source_found": round(statistics.fmean(one.source in found for one, found in zip(asked, control, strict=False)), 4),
    }
    return {"access_groups_answers_beyond": beyond}, detail


def _write(folder: Path, count: int) -> dict[str, dict[str, Any]]:
    """Documents with groups, queries, judgements and the objective, below ``folder``; the documents by id."""
    drawn, source = random.Random(SEED), DATA / "cranfield"
    documents = {}
    for line in (source / "corpus.jsonl").read_text(encoding="utf-8").splitlines()[:count]:
        one = json.loads(line)
        groups = ["everyone"] if drawn.random() < 0.3 else sorted(drawn.sample(GROUPS, drawn.choice((1, 1, 2))))
        if one["text"].strip():
            documents[one["_id"]] = {"id": one["_id"], "title": one.get("title", ""), "text": one["text"], "groups": groups}
    (folder / "documents.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents.values()), encoding="utf-8")
    judged = [line.split("\t") for line in (source / "qrels.tsv").read_text(encoding="utf-8").splitlines()]
    kept = [line for line in judged[1:] if line[1] in documents and documents[line[1]]["groups"] == ["everyone"]]
    (folder / "qrels.tsv").write_text("".join("\t".join(line) + "\n" for line in (judged[0], *kept)), encoding="utf-8")
    queries = [json.loads(line) for line in (source / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    answered = {line[0] for line in kept}
    rows = [{"id": one["_id"], "text": one["text"]} for one in queries if one["_id"] in answered]
    (folder / "queries.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    provenance = {"origin": "Cranfield", "license": "see the data", "collected": "unknown", "consent": "not needed: published abstracts"}
    objective = {
        "name": NAME,
        "tenant": TENANT,
        "business": {"goal": "Find papers.", "owner": "bench", "risk": "minimal", "use": "internal"},
        "task": {"kind": "rank", "instruction": "Rank the papers by how well they answer the question."},
        "data": [{"path": "queries.jsonl", "text": "text", "id": "id", "qrels": "qrels.tsv", "source": provenance}],
        "documents": [{"path": "documents.jsonl", "id": "id", "title": "title", "text": "text", "access": "groups", "source": provenance}],
        "base_model": "minilm-l6-v2",
        "kpis": [{"metric": "ndcg@10", "target": 0.05, "because": "a benchmark of access, not of ranking"}],
        "margin": 0.02,
        "budget": {"money": 5, "currency": "EUR", "hours": 1, "memory_gb": "auto"},
        "traffic": {"per_month": 20000, "horizon_months": 12},
        "ladder": ["search"],
        "approvals": "auto",
    }
    (folder / "objective.yaml").write_text(yaml.safe_dump(objective, sort_keys=False), encoding="utf-8")
    return documents


def _release(story: Story, folder: Path) -> None:
    """A search in production; one of an earlier run is kept."""
    if not (story.workspace / "settings.yaml").is_file():
        story.workspace.mkdir()
        models = Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models"))
        settings.save_settings(story.workspace, {"tenant": TENANT, "model_cache": str(models)})
        story.run("init", "--tenant", TENANT, "--workspace", str(story.workspace))
    if story.newest_release() is None:
        story.run("adapt", str(folder / "objective.yaml"))
    newest = story.newest_release()
    if newest is None:
        sys.exit("the climb ended without a release, for the reason above")
    story.put_into_production(str(newest["digest"]))


def _options(groups: Sequence[str]) -> list[str]:
    return [option for group in groups for option in ("--group", group)]


def _question(drawn: random.Random, documents: dict[str, dict[str, Any]]) -> Asked:
    source = drawn.choice(list(documents))
    words = documents[source]["text"].split()
    if drawn.random() < 0.7:
        begin, length = drawn.randrange(max(1, len(words) - 8)), drawn.randint(8, 24)
        said = words[begin : begin + length]
    else:
        others = [drawn.choice(documents[drawn.choice(list(documents))]["text"].split()) for _ in range(drawn.randint(1, 6))]
        said = [*drawn.sample(words, min(len(words), 5)), *others]
    return Asked(" ".join(said), drawn.randrange(KEYS), source)


def _readable(document: dict[str, Any], groups: Sequence[str]) -> bool:
    return bool({"everyone", *groups} & set(document["groups"]))


async def _ask(url: str, asked: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Ids of the documents that each question is shown, all that there are."""
    turns, done = asyncio.Semaphore(AT_ONCE), 0

    async def one(client: httpx.AsyncClient, text: str, key: str) -> list[str]:
        nonlocal done
        async with turns:
            body = {"model": f"{TENANT}/{NAME}", "query": text, "top_n": FOUND}
            for _ in range(60):
                response = await client.post("/v1/rerank", json=body, headers={"authorization": f"Bearer {key}"})
                if response.status_code not in (429, 503):
                    break
                await asyncio.sleep(1)
            response.raise_for_status()
            done += 1
            if done % 1_000 == 0:
                say(f"{done} of {len(asked)} questions")
            return [result["document"]["id"] for result in response.json()["results"]]

    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        return await asyncio.gather(*(one(client, text, key) for text, key in asked))
