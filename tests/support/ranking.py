"""Toy models that rank and that hold passages, and an objective of kind rank, played with twins."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from random import Random

import yaml

from support.doubles import MemoryModelReader
from support.doubles.model_reader import toy_encoder
from tailorbird.domain.base_model import EncoderDescription

TOPICS = ("wing", "engine", "cabin", "fuel")


class EncoderReader(MemoryModelReader):
    """Reads every source as a toy encoder."""

    def convert(self, source: Path, target: Path, stated: EncoderDescription | None = None) -> None:
        super().convert(source, target, stated or toy_encoder().description)


class WideReader(MemoryModelReader):
    """Reads every source as a toy model whose context holds passages."""

    def convert(self, source: Path, target: Path, stated: EncoderDescription | None = None) -> None:
        super().convert(source, target, stated)
        config = json.loads((target / "config.json").read_text()) | {"max_position_embeddings": 4096}
        (target / "config.json").write_text(json.dumps(config))


def _word(number: int) -> str:
    """Words that no other query has, so that no two of them are near-duplicates, which would all be in one split."""
    return "".join(Random(number).sample("abcdefghijklmnopqrstuvwxyz", 12))


def write_ranking(folder: Path, **changes: object) -> Path:
    """Queries of which each is answered by the document that bears its number."""
    folder.mkdir()
    (folder / "base").mkdir()
    MemoryModelReader().convert(folder, folder / "base")
    with (folder / "queries.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(400):
            words = f"{_word(number)} {_word(number + 400)}"
            writer.writerow([f"{words}: does the {TOPICS[number % 4]} part w{number} work", f"d{number}"])
    documents = [{"id": f"d{n}", "text": f"The {TOPICS[n % 4]} part w{n} works like this."} for n in range(400)]
    (folder / "documents.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
    origin = {"origin": "written for this test", "license": "Apache-2.0"}
    content: dict[str, object] = {
        "name": "search",
        "tenant": "acme",
        "business": {"goal": "Find.", "owner": "support", "risk": "limited"},
        "task": {"kind": "rank", "instruction": "Rank the documents."},
        "data": [{"path": "queries.csv", "source": origin}],
        "documents": [{"path": "documents.jsonl", "source": origin}],
        "base_model": "base",
        "kpis": [{"metric": "ndcg@10", "target": 0.7}],
    }
    path = folder / "objective.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return path
