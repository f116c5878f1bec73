"""Beds of every kind of task: generated answers, several labels an item, a floor that is a rung, traffic that turns the order of rungs.

In: data sets (TAILORBIRD_TEST_DATA), a bed, what its rows are for. Out: a folder with an objective and its files. Must not know: what a
rung reaches, which target is put where.

As in ``beds.py``, rows fall into ``train``; ``truth``, on which every rung is measured to know the right answer; ``dev`` and ``test``, on
which ``adapt`` decides. Messages and answers of ``tickets`` and ``replies`` are made here, for this project.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from beds import DATA, _banking, _bitext, _unfair, _wishes

#: A text, and its answer, its label or its labels.
Pair = tuple[str, str | list[str]]


@dataclass(frozen=True)
class KindBed:
    """``task`` and ``more`` are keys of the objective. ``rungs`` are all that may be the answer, and what ``truth`` is measured on;
    ``ladder`` is what a decision asks for (empty: the same list). ``sizes`` are rows of train, truth, dev and test. ``rival`` is the share
    of rows that a hosted model answers rightly (0: there is none)."""

    name: str
    rows: str
    metric: str
    task: Mapping[str, Any]
    rungs: tuple[str, ...]
    sizes: tuple[int, int, int, int]
    ladder: str | tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    rival: float = 0.0


_GENERATE = {"kind": "generate"}
_TICKET = _GENERATE | {"instruction": "Turn the customer's message into our ticket line. Answer with the line alone."}
_FORMAT = {"pattern": r"QUEUE=[a-z]+ ORDER=\d+ URGENT=(yes|no)"}
_REPLY = _GENERATE | {"instruction": "Write our reply to the customer's message, as our desk writes it, in one line."}
_MANY = {"kind": "classify", "labels": "many", "instruction": "Say why this clause of a contract may be unfair."}
_INTENT = {"kind": "classify", "instruction": "Name the intent of the customer's message."}
_UNFAIR = {"kind": "classify", "instruction": "Say why this clause of a contract may be unfair."}
_PROMPTS, _WITHOUT_TRAINING = ("prompt", "nearest"), ("floor", "prompt", "nearest")
_REFERENCE = {"floor": {"vectors": False, "role": "reference"}}
_SEARCHED, _CALLS, _MORE_CALLS = ("prompt", "prompt-search"), {"prompt_search": {"calls": 400}}, {"prompt_search": {"calls": 600}}
#: What beds of a hosted model say of it (``rivals.py``).
_RIVAL = {"hosted": {"endpoint": "rival", "model": "rival-large"}}
_PLACED = {"kind": "classify", "instruction": "Name the shelf of the thing that the customer wants."}

#: Each decision takes minutes of one core at most: few rungs are trained, and answers are short.
KINDS = {
    bed.name: bed
    for bed in (
        KindBed("floor-banking-8", "banking-8", "accuracy", _INTENT, ("floor",), (64, 136, 136, 136), ladder="auto"),
        KindBed("floor-unfair-5", "unfair-5", "accuracy", _UNFAIR, ("floor",), (50, 110, 110, 110), ladder="auto"),
        KindBed("many-natural", "natural", "micro_f1", _MANY, ("floor",), (1600, 1600, 1600, 1200)),
        KindBed("tickets-format", "tickets", "format_valid", _TICKET | {"format": _FORMAT}, _PROMPTS, (50, 70, 60, 60)),
        KindBed("tickets-exact", "tickets", "exact_match", _TICKET, _PROMPTS, (50, 70, 60, 60)),
        KindBed("replies-chrf", "replies", "chrf", _REPLY, _PROMPTS, (50, 70, 60, 60)),
        KindBed("replies-rouge", "replies", "rouge_l", _REPLY, _PROMPTS, (50, 70, 60, 60)),
        KindBed("many-half", "half", "micro_f1", _MANY, _WITHOUT_TRAINING, (160, 120, 100, 100)),
        KindBed("many-bearing", "bearing", "micro_f1", _MANY, _WITHOUT_TRAINING, (160, 120, 100, 100)),
        KindBed("traffic", "banking-8", "accuracy", _INTENT, ("prompt", "nearest", "lora"), (64, 136, 136, 136), "auto", _REFERENCE),
        # A hosted model that is right where the house's own rungs are not; and one that is no better than a floor.
        KindBed("shelves-hosted", "shelves", "accuracy", _PLACED, ("floor", "hosted"), (144, 132, 132, 132), more=_RIVAL, rival=0.92),
        KindBed("tickets-hosted", "tickets", "exact_match", _TICKET, (*_PROMPTS, "hosted"), (50, 70, 60, 60), more=_RIVAL, rival=0.92),
        KindBed("floor-or-hosted", "banking-8", "accuracy", _INTENT, ("floor", "hosted"), (64, 136, 136, 136), more=_RIVAL, rival=0.92),
        # Few messages of many labels: floors read words alone.
        KindBed("few-of-banking-40", "banking-40", "accuracy", _INTENT, ("floor", "encoder"), (120, 280, 280, 280)),
        KindBed("few-of-bitext-24", "bitext-24", "accuracy", _INTENT, ("floor", "encoder"), (48, 168, 168, 168)),
        KindBed("few-of-banking-24", "banking-24", "accuracy", _INTENT, ("floor", "encoder", "nearest"), (96, 168, 168, 168)),
        # More examples than few-shot shows, and such as are typical.
        KindBed("tickets-searched", "more-tickets", "exact_match", _TICKET, _SEARCHED, (80, 160, 160, 160), more=_CALLS),
        KindBed("replies-searched", "more-replies", "rouge_l", _REPLY, _SEARCHED, (80, 160, 160, 160), more=_CALLS),
        KindBed("replies-verbatim", "more-replies", "exact_match", _REPLY, _SEARCHED, (80, 160, 160, 160), more=_CALLS),
        # More labels than few-shot shows, on public data; the floor stands beside, as a reference.
        KindBed("searched-banking-24", "more-banking-24", "accuracy", _INTENT, _SEARCHED, (240, 192, 192, 192), more=_MORE_CALLS),
        KindBed(
            "searched-banking-others-24", "more-banking-others-24", "accuracy", _INTENT, _SEARCHED, (240, 192, 192, 192), more=_MORE_CALLS
        ),
        KindBed("searched-bitext-27", "more-bitext-27", "accuracy", _INTENT, _SEARCHED, (216, 162, 162, 162), more=_MORE_CALLS),
    )
}
#: Requests a month, by the name of the case, of the bed ``traffic``.
VOLUMES = {"little": 100, "much": 1_000_000}


def write_kind(bed: KindBed, measured: str, more: Mapping[str, Any], folder: Path) -> Path:
    """Writes the objective and its rows; ``more`` are keys that win over the bed's own. Rows are the same whatever is asked of the bed."""
    folder.mkdir(parents=True)
    parts, data = _parts(bed), []
    source = _SOURCE | ({"processors": [bed.more["hosted"]["endpoint"]]} if bed.rival else {})
    for split in ("train", "dev", "test"):
        rows = parts[measured if split == "dev" else split]
        lines = (json.dumps({"text": text, "answer": answer}) for text, answer in rows)
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        data.append({"path": f"{split}.jsonl", "split": split, "text": "text", "label": "answer", "source": source})
    content = {
        "name": bed.name,
        "tenant": "bench",
        "business": {"goal": "Benchmark.", "owner": "bench", "risk": "minimal"},
        "task": dict(bed.task),
        "data": data,
        "limits": {"latency_p95_ms": {"at_concurrency": 32, "max": 1e9}},
        "budget": {"money": 1000, "hours": 100},
        "seed": 20,
    }
    if "prompt_search" in bed.more:
        content["curation"] = {"protected": [_unlearned(parts["dev" if measured == "truth" else "truth"], folder)]}
    if bed.task["kind"] == "classify":
        content["floor"] = {"vectors": False}
    path = folder / "objective.yaml"
    path.write_text(yaml.safe_dump(content | dict(bed.more) | dict(more), sort_keys=False), encoding="utf-8")
    return path


def _unlearned(rows: Sequence[Pair], folder: Path) -> dict[str, str]:
    """The part that is not measured on. Training rows much like it are set aside, as those are that are like dev: so the same rows are
    learned from whichever part is measured, and the prompt whose truth is known is the one that is decided on."""
    (folder / "other.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in rows), encoding="utf-8")
    return {"path": "other.jsonl", "text": "text"}


_SOURCE = {"origin": "benchmark", "license": "see the data set"}


def _parts(bed: KindBed) -> dict[str, list[Pair]]:
    rows = list(_ROWS[bed.rows]())
    needed = sum(bed.sizes)
    assert len(rows) >= needed, f"{bed.name}: {len(rows)} rows, {needed} needed"
    parts, start = {}, 0
    for part, count in zip(("train", "truth", "dev", "test"), bed.sizes, strict=True):
        parts[part] = rows[start : start + count]
        start += count
    return parts


def rows_of(bed: KindBed) -> list[Pair]:
    """All rows of a bed."""
    return [row for rows in _parts(bed).values() for row in rows]


def bearing(bed: KindBed, part: str) -> int:
    """Rows of a part that bear on the metric. With several labels an item: half of those that have any, as an F1 goes by what was missed
    and by what was given too much, and its interval is wider than a share's."""
    found = sum(bool(answer) for _, answer in _parts(bed)[part])
    return found // 2 if bed.task.get("labels") == "many" else found


def _mixed(rows: list[Pair], name: str) -> list[Pair]:
    return random.Random(f"kinds/{name}").sample(rows, len(rows))


def _of_labels(rows: Iterator[tuple[str, str]], name: str, labels: int, each: int) -> list[Pair]:
    """``each`` rows of so many labels, in turns, so that every part has as many of each."""
    drawn, by_label = random.Random(f"kinds/{name}"), defaultdict(list)
    for text, label in dict(rows).items():
        by_label[label].append(text)
    chosen = sorted(drawn.sample(sorted(label for label, texts in by_label.items() if len(texts) >= each), labels))
    texts = {label: drawn.sample(by_label[label], each) for label in chosen}
    return [(texts[label][place], label) for place in range(each) for label in chosen]


def _once(rows: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Rows that differ by more than their numbers and the size of letters."""
    seen = set[str]()
    for text, label in rows:
        bare = " ".join(re.sub(r"\d+", "", text).casefold().split())
        if bare not in seen:
            yield text, label
        seen.add(bare)


def _clauses() -> list[Pair]:
    """Clauses once each, with the five commonest labels; rows that bear others are left out."""
    with (DATA / "unfair_tos" / "unfair_tos_en.jsonl").open(encoding="utf-8") as file:
        clauses = {one["text"]: one["labels"] for one in map(json.loads, file) if len(one["text"]) >= 40}
    known = {label for label, _ in Counter(label for labels in clauses.values() for label in labels).most_common(5)}
    return [(text, [label.replace("_", " ") for label in labels]) for text, labels in clauses.items() if set(labels) <= known]


def _natural() -> list[Pair]:
    return _mixed(_clauses(), "natural")


def _half() -> list[Pair]:
    """As many clauses that bear nothing as clauses that bear labels."""
    rows = _mixed(_clauses(), "half")
    bearing = [row for row in rows if row[1]]
    return [row for pair in zip(bearing, (row for row in rows if not row[1]), strict=False) for row in pair]


def _bearing() -> list[Pair]:
    return [row for row in _mixed(_clauses(), "bearing") if row[1]]


_OPENINGS = (
    "Hello there,", "Good evening.", "Hi team!", "To whom it may concern:", "Hey,", "Dear all,", "Excuse me,", "Morning!", "Hi,",
)  # fmt: skip
_ASKED = {
    "refund": (
        "I sent the {thing} back and the money for order {order} has not arrived", "please pay me back for the {thing} of order {order}",
        "order {order} was charged twice, return one payment for the {thing}", "I returned my {thing}, where is the money of order {order}",
    ),
    "delivery": (
        "the parcel with my {thing} is still on its way, order {order}", "when does the courier bring the {thing} of order {order}",
        "order {order} was to be here on Monday and no {thing} came", "my {thing} is lost in the post, the order is {order}",
    ),
    "repair": (
        "the {thing} of order {order} broke on its second day", "my {thing} makes a noise and stops, bought as order {order}",
        "the handle of the {thing} came off, order {order}", "order {order}: the {thing} does not switch on any more",
    ),
    "account": (
        "I cannot log in to see order {order} with the {thing}", "my password is refused when I look for the {thing} of order {order}",
        "the site locked me out of order {order} for a {thing}", "change the e-mail of my profile, last bought a {thing}, order {order}",
    ),
}  # fmt: skip
_URGENT = ("I need this today.", "It is urgent!", "Please hurry, we leave tomorrow.", "This cannot wait.")
_CALM = ("No rush.", "Whenever it suits you.", "Thank you for your help.", "Have a nice week.", "There is time until next month.")
_THINGS = (
    "kettle", "tent", "lamp", "drill", "saddle", "camera", "blender", "jacket", "clock", "heater", "printer", "bicycle", "radio", "sofa",
    "mirror", "guitar", "stove", "ladder", "rucksack", "telescope",
)  # fmt: skip
_NAMES = ("Mara", "Jon", "Petra", "Ali", "Sofia", "Tom", "Ines", "Karl", "Yuki", "Nadia", "Leo", "Ruth")
_HOUSE = {
    "refund": "your money for order {order} is on its way and reaches you within five days",
    "delivery": "the courier has order {order} and rings before noon tomorrow",
    "repair": "our workshop takes in order {order} free of charge, the label is in your mail",
    "account": "your profile is open again and order {order} is shown under purchases",
}
_MADE, _MANY_MADE = 240, 560


def _messages(name: str, made: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Messages, once each, with what an answer says: queue, order, urgency, name."""
    drawn = random.Random(f"kinds/{name}")
    orders = drawn.sample(range(1000, 9999), made)
    for place, order in enumerate(orders):
        queue, urgent, person = sorted(_ASKED)[place % len(_ASKED)], drawn.random() < 0.5, drawn.choice(_NAMES)
        asked = drawn.choice(_ASKED[queue]).format(thing=drawn.choice(_THINGS), order=order)
        closing = drawn.choice(_URGENT if urgent else _CALM)
        yield f"{drawn.choice(_OPENINGS)} {asked}. {closing} {person}", queue, {"order": order, "urgent": urgent, "name": person}


def _tickets(name: str = "tickets", made: int = _MADE) -> list[Pair]:
    """A fixed form, which examples show and the instruction does not."""
    return [
        (text, f"QUEUE={queue} ORDER={told['order']} URGENT={'yes' if told['urgent'] else 'no'}")
        for text, queue, told in _messages(name, made)
    ]


def _replies(name: str = "replies", made: int = _MADE) -> list[Pair]:
    """What the desk always says of a queue, which examples of the same queue show best."""
    return [
        (text, f"Dear {told['name']}, {_HOUSE[queue].format(order=told['order'])}. Yours, the harbour desk")
        for text, queue, told in _messages(name, made)
    ]


_ROWS: dict[str, Callable[[], list[Pair]]] = {
    "banking-8": lambda: _of_labels(_banking(), "banking-8", 8, 60),
    "unfair-5": lambda: _of_labels(_unfair(), "unfair-5", 5, 76),
    "natural": _natural,
    "half": _half,
    "bearing": _bearing,
    "tickets": _tickets,
    "replies": _replies,
    "more-tickets": lambda: _tickets("more-tickets", _MANY_MADE),
    "more-replies": lambda: _replies("more-replies", _MANY_MADE),
    "banking-24": lambda: _of_labels(_banking(), "banking-24", 24, 25),
    "banking-40": lambda: _of_labels(_banking(), "banking-40", 40, 24),
    "bitext-24": lambda: _of_labels(_bitext(), "bitext-24", 24, 23),
    "more-banking-24": lambda: _of_labels(_banking(), "more-banking-24", 24, 34),
    "more-banking-others-24": lambda: _of_labels(_banking(), "more-banking-others-24", 24, 34),
    "more-bitext-27": lambda: _of_labels(_once(_bitext()), "more-bitext-27", 27, 26),
    "shelves": lambda: _of_labels(_wishes(), "shelves", 12, 45),
}
