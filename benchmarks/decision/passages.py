"""Search among 13,013 passages: what the plan says of each ranking rung against what it takes, and what each finds on dev.

In: Cranfield, Bitext and Unfair ToS (TAILORBIRD_TEST_DATA), MiniLM. Out: of each rung the planned seconds, the wall and processor
seconds of making and measuring it, and its metrics, as one JSON object; progress with both clocks before it. ``python passages.py
FOLDER`` writes the set and its objective where they are absent, and runs it in a new workspace there.

The set is one intranet of three parts: the abstracts of Cranfield; the answers of a support desk, one a question, written for it;
sentences of terms of service until there are 13,013 passages. Queries are Cranfield's with their judgements, and every fourth question
of the desk with its own answer: 225 and 1,129.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TAILORBIRD_TEST_DATA", ROOT.parent / "shared" / "data"))
PASSAGES, EVERY = 13_013, 4
OBJECTIVE = """
name: passages
tenant: default
business: {goal: find the passage that answers, owner: bench, risk: minimal, use: internal}
task: {kind: rank, instruction: Rank the passages by how well they answer the query.}
data:
  - {path: queries.jsonl, text: text, id: id, qrels: qrels.tsv, source: {origin: "Cranfield, Bitext", license: CDLA-Sharing-1.0}}
documents:
  - {path: documents.jsonl, id: id, title: title, text: text, source: {origin: "Cranfield, Bitext, CLAUDETTE", license: CC-BY-4.0}}
base_model: minilm-l6-v2
kpis: [{metric: ndcg@10, target: 0.2, because: a bound that is never the point here}]
compare_on: recall@10
budget: {money: 50, currency: EUR, hours: 8, memory_gb: auto}
ladder: [search, bi-encoder]
"""
_STEP = re.compile(r"\bstep (make|measure) (.+?) \(")


def write(folder: Path) -> None:
    """The set and its objective."""
    folder.mkdir(parents=True)
    abstracts = [json.loads(line) for line in (DATA / "cranfield" / "corpus.jsonl").read_text().splitlines()]
    asked = [json.loads(line) for line in (DATA / "cranfield" / "queries.jsonl").read_text().splitlines()]
    judged = [line.split("\t") for line in (DATA / "cranfield" / "qrels.tsv").read_text().splitlines()[1:]]
    with (DATA / "bitext_support" / "bitext_responses_4514.csv").open(newline="", encoding="utf-8") as file:
        desk = list(csv.DictReader(file))
    terms = [json.loads(line)["text"] for line in (DATA / "unfair_tos" / "unfair_tos_en.jsonl").read_text().splitlines()]
    documents = [{"id": f"c{one['_id']}", "title": one.get("title", ""), "text": one["text"]} for one in abstracts if one["text"].strip()]
    answers = {text: f"d{place}" for place, text in enumerate(dict.fromkeys(row["response"] for row in desk))}
    documents += [{"id": name, "title": "", "text": text} for text, name in answers.items()]
    sentences = [text for text in dict.fromkeys(terms) if len(text.split()) >= 8]
    documents += [{"id": f"t{place}", "title": "", "text": text} for place, text in enumerate(sentences[: PASSAGES - len(documents)])]
    queries = [{"id": f"c{one['_id']}", "text": one["text"]} for one in asked]
    queries += [{"id": f"d{place}", "text": row["instruction"]} for place, row in enumerate(desk) if place % EVERY == 0]
    grades = [(f"c{query}", f"c{document}", grade) for query, document, grade in judged]
    grades += [(f"d{place}", answers[row["response"]], "1") for place, row in enumerate(desk) if place % EVERY == 0]
    (folder / "documents.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents), encoding="utf-8")
    (folder / "queries.jsonl").write_text("".join(json.dumps(one) + "\n" for one in queries), encoding="utf-8")
    (folder / "qrels.tsv").write_text("".join("\t".join(one) + "\n" for one in grades), encoding="utf-8")
    (folder / "objective.yaml").write_text(OBJECTIVE, encoding="utf-8")


def run(folder: Path) -> list[dict[str, Any]]:
    """Adapts in a new workspace; lines of progress are shown with wall and processor seconds."""
    command = [sys.executable, "-m", "tailorbird.cli.main", "--workspace", str(folder / "workspace"), "--json"]
    subprocess.run([*command, "init"], check=True, stdout=subprocess.DEVNULL)
    started, steps = time.monotonic(), list[tuple[str, float, float]]()
    made = subprocess.Popen([*command, "adapt", str(folder / "objective.yaml")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert made.stderr is not None
    for line in made.stderr:
        wall, spent = time.monotonic() - started, _processor_seconds(made.pid)
        print(f"{wall:7.1f} s, {spent:7.1f} s of the processor: {line.rstrip()}", flush=True)
        if "] step " in line:
            found = _STEP.search(line)
            steps.append((found[2] if found else "", wall, spent))
    if made.wait():
        raise SystemExit("the run failed")
    runs = json.loads(subprocess.run([*command, "runs", "list"], check=True, capture_output=True, text=True).stdout)
    told = json.loads(subprocess.run([*command, "runs", "show", runs[0]["id"]], check=True, capture_output=True, text=True).stdout)
    return _compared(told, steps)


def _processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _compared(told: dict[str, Any], steps: list[tuple[str, float, float]]) -> list[dict[str, Any]]:
    """A rung a line; a step lasts until the next one begins."""
    planned = {f"{rung['rung']} {rung['variant']}": rung["time"] for rung in told["plan"]["rungs"]}
    took: dict[str, list[float]] = {}
    for (name, *begun), (_, *ended) in pairwise(steps):
        took[name] = [
            sum(both) for both in zip(took.get(name, [0.0, 0.0]), (b - a for a, b in zip(begun, ended, strict=True)), strict=True)
        ]
    lines = []
    for climb in told["ladder"]["climbs"]:
        name = f"{climb['rung']} {climb['variant']}"
        metrics = {metric: round(found["value"], 4) for metric, found in climb["evidence"]["metrics"].items() if "@" in metric}
        wall, processor = (round(each, 1) for each in took[name])
        lines.append({"rung": name, "planned_seconds": planned[name], "wall": wall, "processor": processor} | metrics)
    return lines


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if not place.exists():
        write(place)
    print(json.dumps(run(place), indent=1))
