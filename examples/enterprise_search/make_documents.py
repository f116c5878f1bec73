"""Writes the intranet of a ferry company that does not exist: documents with access groups, judged queries, and questions with answers.

Documents use official names; people ask in the words of the house ("the Pillow", "lates money"), which no public model has read. A ship or
a port has several documents and each kind of document exists for every ship or port, so that neither the name nor the matter alone tells
the document. See DATA_CARD.md.

    python examples/enterprise_search/make_documents.py
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SEED = 20
HERE = Path(__file__).resolve().parent
#: Names, kinds of documents with their facts, rules, and closed documents: see the comments there.
WORDS: dict[str, Any] = yaml.safe_load((HERE / "words.yml").read_text(encoding="utf-8"))
#: Queries and questions for each document that everybody may read; every fourth question is the last turn of a conversation.
QUERIES, QUESTIONS, TALK_EVERY = 8, 2, 4
#: How many of the questions are kept.
TALKS = 150
#: Of how many mentions a name is that of the house rather than the official one.
HOUSE_NAMES = 0.65


@dataclass(frozen=True)
class Told:
    """A fact of a document, with the value that stands in it."""

    fact: dict[str, Any]
    value: str

    @property
    def answer(self) -> str:
        """The right answer."""
        return str(self.fact.get("answer", "{value}")).format(value=self.value)


@dataclass(frozen=True)
class Page:
    """A document: ``names`` are what people call its ship, port or rule, the official name first."""

    id: str
    title: str
    text: str
    groups: tuple[str, ...]
    names: tuple[str, ...]
    facts: tuple[Told, ...]
    related: str = ""

    @property
    def is_open(self) -> bool:
        """True when everybody may read it."""
        return "everyone" in self.groups


def main() -> None:
    drawn = random.Random(SEED)
    pages = [*_of_things(drawn), *(_of_policy(drawn, policy) for policy in WORDS["policies"]), *_restricted()]
    queries, judged = _queries(drawn, [page for page in pages if page.is_open])
    talks = _talks(drawn, [page for page in pages if page.is_open])
    _write("documents.jsonl", [{"id": p.id, "title": p.title, "text": p.text, "groups": list(p.groups)} for p in pages])
    _write("queries.jsonl", [{"id": name, "text": text} for name, text in queries])
    (HERE / "qrels.tsv").write_text("query\tdocument\tgrade\n" + "".join(f"{q}\t{d}\t{g}\n" for q, d, g in judged), encoding="utf-8")
    _write("questions.jsonl", [{"messages": talk} for talk in talks])
    print(f"{len(pages)} documents ({sum(p.is_open for p in pages)} open), {len(queries)} queries, {len(talks)} questions")


def _of_things(drawn: random.Random) -> list[Page]:
    """Each kind of document for every ship or port that it is about."""
    return [_page(drawn, kind, names) for kind in WORDS["kinds"] for names in WORDS["ships" if kind["about"] == "ship" else "places"]]


def _page(drawn: random.Random, kind: dict[str, Any], names: Sequence[str]) -> Page:
    title, told = kind["title"].format(name=names[0]), _facts(drawn, kind)
    notes = [note.format(name=names[0]) for note in drawn.sample(WORDS["notes"], 2)]
    text = [drawn.choice(WORDS["openings"]).format(title=title), *_mixed(drawn, _sentences(drawn, told, names[0]), notes)]
    stem = names[0].lower().removeprefix("m/s ").replace(" ", "-")
    related = f"{stem}-{kind['related']}" if "related" in kind else ""
    return Page(f"{stem}-{kind['slug']}", title, " ".join(text), tuple(kind["groups"]), tuple(names), told, related)


def _facts(drawn: random.Random, of: dict[str, Any]) -> tuple[Told, ...]:
    return tuple(Told(fact, drawn.choice(fact["values"])) for fact in of["facts"])


def _sentences(drawn: random.Random, told: Sequence[Told], name: str) -> list[str]:
    return [drawn.choice(one.fact["sentences"]).format(name=name, value=one.value) for one in told]


def _mixed(drawn: random.Random, facts: Sequence[str], notes: Sequence[str]) -> list[str]:
    """Facts in their order, with the notes anywhere between them."""
    mixed = list(facts)
    for note in notes:
        mixed.insert(drawn.randint(0, len(mixed)), note)
    return mixed


def _of_policy(drawn: random.Random, policy: dict[str, Any]) -> Page:
    names, told = tuple(policy["names"]), _facts(drawn, policy)
    notes = drawn.sample([note for note in WORDS["notes"] if "{name}" not in note], 2)
    text = [policy["purpose"], *_mixed(drawn, _sentences(drawn, told, names[0]), notes)]
    return Page(policy["slug"], names[0], " ".join(text), ("everyone",), names, told)


def _restricted() -> list[Page]:
    """Documents of the people team, of finance, of the fleet and of the board, as they were written."""
    return [Page(one["id"], one["title"], one["text"], tuple(one["groups"]), (), ()) for one in WORDS["restricted"]]


def _called(drawn: random.Random, names: tuple[str, ...]) -> str:
    house = names[1:]
    official = names[0].removeprefix("M/S ")
    if house and drawn.random() < HOUSE_NAMES:
        return drawn.choice(house)
    return f"the {official}" if names[0].startswith("M/S ") else official


def _asked(drawn: random.Random, page: Page, told: Told) -> str:
    """A question as somebody types it."""
    text = drawn.choice(told.fact["questions"]).format(name=_called(drawn, page.names))
    text = f"{drawn.choice(WORDS['asides'])} {text}" if drawn.random() < 0.35 else text
    if drawn.random() < 0.25:
        text = text.lower().rstrip("?")
    return text[0].upper() + text[1:] if drawn.random() < 0.6 else text


def _queries(drawn: random.Random, pages: Sequence[Page]) -> tuple[list[tuple[str, str]], list[tuple[str, str, int]]]:
    """Queries, and what answers them: the document with the fact (2) and, where there is one, the document beside it (1)."""
    texts: dict[str, Page] = {}
    seen = set[str]()
    for page in pages:
        facts = [told for told in page.facts for _ in range(4 * QUERIES)]
        drawn.shuffle(facts)
        for told in facts:
            if sum(one is page for one in texts.values()) == QUERIES:
                break
            text = _asked(drawn, page, told)
            if text.lower() not in seen:
                seen.add(text.lower())
                texts[text] = page
    listed = list(texts.items())
    drawn.shuffle(listed)
    queries = [(f"q{place:03}", text) for place, (text, _) in enumerate(listed)]
    judged = []
    for place, (_, page) in enumerate(listed):
        judged.append((f"q{place:03}", page.id, 2))
        if page.related:
            judged.append((f"q{place:03}", page.related, 1))
    return queries, judged


def _talks(drawn: random.Random, pages: Sequence[Page]) -> list[list[dict[str, str]]]:
    """Questions with their answers; some are the last turn of a conversation, and do not say what they are about."""
    talks, seen = [], set[str]()
    for page in pages:
        for place in range(QUESTIONS):
            told = page.facts[place % len(page.facts)]
            turns = [_asked(drawn, page, told), told.answer]
            if len(page.facts) > 1 and (len(talks) + 1) % TALK_EVERY == 0:
                other = page.facts[(place + 1) % len(page.facts)]
                turns += [drawn.choice(WORDS["follow_ups"]).format(asked=other.fact["then"]), other.answer]
            if "\n".join(turns) not in seen:
                seen.add("\n".join(turns))
                talks.append([{"role": ("user", "assistant")[number % 2], "content": turn} for number, turn in enumerate(turns)])
    drawn.shuffle(talks)
    return talks[:TALKS]


def _write(name: str, rows: Sequence[dict[str, object]]) -> None:
    (HERE / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
