"""Synthetic clauses of terms of service, and the articles of an invented code that they breach: ``clauses.csv``, ``new_rule.csv``.

Each article has clauses that breach it and clauses that keep it, about the same matter and in much the same words: a period of notice, a
consent, an exception for what the provider did itself make the difference. A clause may breach several articles, and most breach none.
Ten offices draft the documents, each in a voice of its own. ``new_rule.csv`` holds documents of the year in which the code gets another
article. See DATA_CARD.md.

    python examples/regulatory_classification/make_clauses.py
"""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phrases import ARTICLES, CLOSINGS, CONNECTIVES, NEUTRAL, NEW_ARTICLE, OFFICES, OPENINGS, SERVICES, Article, Office

SEED = 17
HERE = Path(__file__).resolve().parent
#: Documents of before the new article, and of the year after it; clauses taken from each.
DOCUMENTS, NEW_DOCUMENTS, CLAUSES = 330, 105, (4, 8)
#: Shares of clauses that breach one article, that breach two, and that keep one; the others are about something else.
BREACH, TWO, KEEP = 0.42, 0.10, 0.26
#: Planted flaws, in ``clauses.csv``: rows that repeat another one exactly, clauses taken over from another document with little changed,
#: rows with a label too many or too few.
EXACT, NEAR, WRONG = 16, 40, 20
CHOICE = re.compile(r"\[([^\[\]]*)\]")
GAP = re.compile(r"\{(\w+)\}")
TOWNS = ("Saltwick", "Upper Dunmere", "Corvale", "Lindenau", "Eastmarsh", "Port Vinsbeck", "Harrowby", "Oldreach")


@dataclass(frozen=True)
class Clause:
    """One row."""

    text: str
    labels: frozenset[str]
    document: str
    author: str


def main() -> None:
    drawn = random.Random(SEED)
    services = drawn.sample(SERVICES, len(SERVICES))
    seen: set[str] = set()
    first = [clause for n in range(DOCUMENTS) for clause in document(services[n], ARTICLES, seen, drawn)]
    later = [clause for n in range(NEW_DOCUMENTS) for clause in document(services[DOCUMENTS + n], (*ARTICLES, NEW_ARTICLE), seen, drawn)]
    write("clauses.csv", flawed(first, drawn), broken=True)
    write("new_rule.csv", later, broken=False)


def document(service: tuple[str, str], articles: Sequence[Article], seen: set[str], drawn: random.Random) -> list[Clause]:
    """The clauses of one document, none of which any document had before."""
    firm, product = service
    office = drawn.choice(OFFICES)
    numbered, made = drawn.random() < 0.35, list[Clause]()
    # The article that is new is what documents of its year are looked at for.
    weights = [3.0 if article is NEW_ARTICLE else drawn.choice((0.5, 1.0, 1.5)) for article in articles]
    wanted = drawn.randint(*CLAUSES)
    while len(made) < wanted:
        body, labels = content(articles, weights, drawn)
        text = voiced(body, office, firm, product, drawn)
        if numbered:
            text = f"{len(made) // 6 + 2}.{len(made) % 6 + 1} {text}"
        key = text.casefold().lstrip("0123456789. ")
        if key not in seen:
            seen.add(key)
            made.append(Clause(text, labels, f"{firm}, terms of service", office.name))
    return made


def content(articles: Sequence[Article], weights: Sequence[float], drawn: random.Random) -> tuple[str, frozenset[str]]:
    """A clause with its gaps, and the articles that it breaches."""
    kind = drawn.random()
    first, second = two(articles, weights, drawn)
    if kind < TWO:
        return joined(drawn.choice(first.breach), drawn.choice(second.breach), drawn), frozenset((first.label, second.label))
    if kind < BREACH:
        breach = drawn.choice(first.breach)
        if drawn.random() < 0.25:
            other = drawn.choice(second.keep) if drawn.random() < 0.6 else drawn.choice(NEUTRAL)
            breach = joined(*drawn.sample((breach, other), 2), drawn)
        return breach, frozenset((first.label,))
    if kind < BREACH + KEEP:
        kept = drawn.choice(first.keep)
        return (joined(kept, drawn.choice(NEUTRAL), drawn) if drawn.random() < 0.2 else kept), frozenset()
    return drawn.choice(NEUTRAL), frozenset()


def two(articles: Sequence[Article], weights: Sequence[float], drawn: random.Random) -> tuple[Article, Article]:
    """Two different articles."""
    first = drawn.choices(articles, weights)[0]
    rest = [(article, weight) for article, weight in zip(articles, weights, strict=True) if article is not first]
    return first, drawn.choices([article for article, _ in rest], [weight for _, weight in rest])[0]


def joined(one: str, other: str, drawn: random.Random) -> str:
    """Two statements in one clause."""
    return f"{one}{drawn.choice(CONNECTIVES)}{other}"


def voiced(body: str, office: Office, firm: str, product: str, drawn: random.Random) -> str:
    """The clause as an office writes it: choices made, gaps filled, an opening before it."""
    opening = drawn.choice(OPENINGS) if drawn.random() < office.opens else ""
    body = f"{opening}{body}.{drawn.choice(CLOSINGS) if drawn.random() < office.opens else ''}"
    while choice := CHOICE.search(body):
        body = body[: choice.start()] + drawn.choice(choice[1].split("|")) + body[choice.end() :]
    filled = {
        "P": office.provider,
        "Po": office.provider_object,
        "Ps": office.provider_possessive,
        "C": office.customer,
        "Co": office.customer_object,
        "Cs": office.customer_possessive,
        "firm": firm,
        "product": f"the {product} service",
    }
    filled = {name: text.replace("{firm}", firm) for name, text in filled.items()}
    draws = {
        "days": lambda: drawn.choice(("7", "ten", "14", "21", "thirty", "30", "45", "60", "ninety")),
        "months": lambda: drawn.choice(("three", "six", "nine", "twelve", "12", "24")),
        "sum": lambda: drawn.choice(("20 crowns", "50 crowns", "100 crowns", "250 crowns", "500 crowns")),
        "town": lambda: drawn.choice(TOWNS),
        "n": lambda: str(drawn.randint(2, 19)),
    }
    body = GAP.sub(lambda gap: filled[gap[1]] if gap[1] in filled else draws[gap[1]](), body)
    return sentences(body)


def sentences(text: str) -> str:
    """Each sentence with a capital letter."""
    return re.sub(r"(^|\. )([a-z])", lambda found: found[1] + found[2].upper(), text)


def flawed(rows: list[Clause], drawn: random.Random) -> list[Clause]:
    """With wrong labels, and with clauses that stand twice."""
    names = [article.label for article in ARTICLES]
    wrong, out = set(drawn.sample(range(len(rows)), WRONG)), list[Clause]()
    for place, row in enumerate(rows):
        out.append(row)
        if place in wrong:
            out[-1] = Clause(row.text, row.labels ^ {drawn.choice(sorted(row.labels) or names)}, row.document, row.author)
    sound = [row for place, row in enumerate(rows) if place not in wrong]
    out += drawn.sample(sound, EXACT)
    for row in drawn.sample([row for row in sound if len(row.text) > 120], NEAR):
        other = drawn.choice(sound)
        firm, new = row.document.split(",")[0], other.document.split(",")[0]
        word = drawn.choice(("amended", "as before", "restated", "reviewed"))
        out.append(Clause(f"{row.text.replace(firm, new)} ({word})", row.labels, other.document, other.author))
    return out


def write(name: str, rows: list[Clause], *, broken: bool) -> None:
    rows = sorted(rows, key=lambda row: row.document)
    with (HERE / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["text", "labels", "document", "author"])
        writer.writerows((row.text, " | ".join(sorted(row.labels)) or "none", row.document, row.author) for row in rows)
        if broken:
            writer.writerow(["", "none", rows[0].document, rows[0].author])
            writer.writerow(["The parties may agree on further services in writing.", "", rows[-1].document, rows[-1].author])
    print(name, len(rows), Counter(label for row in rows for label in row.labels), Counter(len(row.labels) for row in rows))


if __name__ == "__main__":
    main()
