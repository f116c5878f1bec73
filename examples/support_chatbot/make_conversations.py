"""Writes the handbook and the conversations of Tarn Sound Ferries: ``handbook.jsonl``, ``train.jsonl``, ``dev.jsonl``, ``test.jsonl``.

Most rules hold for one kind of ticket, so the last question alone does not tell which rule applies: the ticket was named some turns before,
by whoever holds it, and is sometimes corrected. A third of the handbook's subjects stand in no training conversation: whoever answers about
them must read the passage. Some conversations are for people. See DATA_CARD.md.

    python examples/support_chatbot/make_conversations.py
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SEED = 17
HERE = Path(__file__).resolve().parent
ROWS = {"train": 320, "dev": 140, "test": 140}
#: What conversations look like (methods of ``Writer``), and how often. The rows of a split come near ``ROWS``.
SHAPES = {"declared": 4, "followed": 4, "longer": 3, "corrected": 4, "two": 4, "at_once": 2, "not_told": 3, "handed_over": 7}

TICKETS = ("Saver", "Flex", "Resident")
HANDOVER = "I am passing this on to a colleague at the harbour office, who will write to you today."
WHICH = "Which ticket do you hold: Saver, Flex or Resident?"


@dataclass(frozen=True)
class Subject:
    """A subject of the handbook: its title, the rule with a place for the ticket and for numbers, and how customers ask.

    ``unseen``: no training conversation is about it.
    """

    title: str
    rule: str
    numbers: dict[str, tuple[int, ...]]
    questions: tuple[str, ...]
    unseen: bool = False


EUROS = (4, 6, 7, 9, 11, 12, 15, 18, 21, 24, 26, 28, 32, 35, 38, 42, 45, 49)
HOURS = (2, 3, 4, 6, 8, 12, 18, 24, 36, 48)
MINUTES = (15, 20, 25, 30, 35, 40, 45, 50, 60, 75, 90)
DAYS = (2, 3, 5, 7, 9, 10, 14, 21, 28)

SUBJECTS = (
    Subject(
        "Cancellation",
        "You can cancel a {ticket} ticket up to {days} days before sailing for a fee of {euros} euros.",
        {"days": DAYS, "euros": EUROS},
        (
            "Can I cancel the crossing?",
            "What does it cost to cancel?",
            "How late may I cancel?",
            "If we cancel the trip on {day}, what do you charge?",
            "We may have to cancel. What then?",
        ),
    ),
    Subject(
        "Another sailing",
        "A {ticket} ticket can be moved to another sailing until {hours} hours before departure for {euros} euros.",
        {"hours": HOURS, "euros": EUROS},
        (
            "Can I move to another sailing on {day}?",
            "What does a change to another sailing cost?",
            "May we take another sailing than the one we booked?",
            "I would rather take another sailing. Until when can I change?",
        ),
    ),
    Subject(
        "Name on the ticket",
        "The name on a {ticket} ticket can be corrected until {hours} hours before departure for {euros} euros.",
        {"hours": HOURS, "euros": EUROS},
        (
            "The name on the ticket is wrong. Can that be corrected?",
            "My name is spelt wrong, what does a new name cost?",
            "Can somebody else travel in my name, or can the name be changed?",
            "Until when may the name be changed?",
        ),
    ),
    Subject(
        "Missed departure",
        "If you miss the departure with a {ticket} ticket, you may take the next ship for {euros} euros.",
        {"euros": EUROS},
        (
            "What if we miss the departure?",
            "I am stuck in {town} and will miss my departure. What now?",
            "Suppose I have missed the ship: what does the next one cost?",
            "And when somebody misses the departure?",
        ),
    ),
    Subject(
        "Check-in",
        "With a {ticket} ticket check-in closes {minutes} minutes before departure.",
        {"minutes": MINUTES},
        (
            "When does check-in close?",
            "How early must I be at the check-in on {day}?",
            "By when do we have to check in?",
            "Is the check-in open until the last minute?",
        ),
    ),
    Subject(
        "Luggage",
        "A {ticket} ticket includes {pieces} pieces of luggage of up to {kilos} kilos each.",
        {"pieces": (1, 2, 3, 4), "kilos": (8, 10, 12, 15, 18, 20, 23, 25, 30)},
        (
            "How much luggage may I bring?",
            "What luggage is included?",
            "How heavy may the luggage be?",
            "We have a lot of luggage. How much is allowed?",
        ),
    ),
    Subject(
        "Bicycles",
        "With a {ticket} ticket a bicycle travels for {euros} euros.",
        {"euros": EUROS},
        (
            "What do you take for a bicycle?",
            "Can I bring my bicycle on {day}?",
            "Is a bicycle extra?",
            "And my bicycle?",
        ),
    ),
    Subject(
        "Dogs",
        "With a {ticket} ticket a dog travels on a lead for {euros} euros.",
        {"euros": EUROS},
        (
            "May our dog come along?",
            "What does a dog cost?",
            "I have a small dog. Is that all right?",
            "We travel with the dog, what is to pay?",
        ),
    ),
    Subject(
        "Children",
        "With a {ticket} ticket children travel free up to the age of {age}.",
        {"age": (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)},
        (
            "Do children travel free?",
            "Up to what age do children pay nothing?",
            "Do I have to pay for the children?",
            "We are two adults and two children. Do the children pay?",
        ),
    ),
    Subject(
        "Money back after a cancellation",
        "Money for a cancelled {ticket} ticket is paid back within {days} days.",
        {"days": DAYS},
        (
            "How long until I have my money back?",
            "When is the money paid back?",
            "I cancelled last week. When do I get the money back?",
            "How many days does it take until the money is back?",
        ),
    ),
    Subject(
        "Delay",
        "When the ship is more than {minutes} minutes late, {percent} per cent of a {ticket} ticket are paid back.",
        {"minutes": MINUTES, "percent": (10, 15, 20, 25, 30, 35, 40, 50, 60)},
        (
            "What do I get when the ship is late?",
            "The ship to {town} was late. Is anything paid back?",
            "If the ship is more than an hour late, what then?",
            "Do you pay something back for a delay?",
        ),
    ),
    Subject(
        "Seats",
        "With a {ticket} ticket a seat by the window can be reserved for {euros} euros.",
        {"euros": EUROS},
        (
            "Can I reserve a seat by the window?",
            "What does a window seat cost?",
            "We would like to sit together by the window. Can seats be reserved?",
            "Is a reserved seat extra?",
        ),
    ),
    Subject(
        "Lounge",
        "With a {ticket} ticket the lounge on deck {deck} is open for {euros} euros.",
        {"deck": (2, 3, 4, 5, 6, 7, 8, 9), "euros": EUROS},
        ("May I use the lounge?", "What does the lounge cost?", "Is the lounge included?", "And the lounge, where is it?"),
        unseen=True,
    ),
    Subject(
        "Breakfast",
        "Breakfast on board costs {euros} euros with a {ticket} ticket and is served until {hour} o'clock.",
        {"euros": EUROS, "hour": (7, 8, 9, 10, 11)},
        ("Is breakfast included?", "What do you take for breakfast?", "Until when is breakfast served?", "Can we have breakfast on board?"),
        unseen=True,
    ),
    Subject(
        "Trailers",
        "With a {ticket} ticket a trailer of up to {metres} metres travels for {euros} euros.",
        {"metres": (2, 3, 4, 5, 6, 7, 8), "euros": EUROS},
        ("Can I bring a trailer?", "What does a trailer cost?", "How long may the trailer be?", "We have a small trailer. Is that extra?"),
        unseen=True,
    ),
    Subject(
        "Validity",
        "A {ticket} ticket is valid for {months} months from the day of purchase.",
        {"months": (1, 2, 3, 4, 6, 9, 12, 15, 18, 24)},
        (
            "How long is the ticket valid?",
            "Is my ticket still valid in {month}?",
            "For how many months is it valid?",
            "When does it stop being valid?",
        ),
        unseen=True,
    ),
    Subject(
        "Wheelchairs",
        "With a {ticket} ticket a wheelchair must be announced {hours} hours before departure.",
        {"hours": HOURS},
        (
            "I use a wheelchair. Must I announce that?",
            "My father has a wheelchair, what do we have to do?",
            "How early must a wheelchair be announced?",
            "Is there room for a wheelchair?",
        ),
        unseen=True,
    ),
    Subject(
        "Groups",
        "From {people} travellers on, a {ticket} ticket is {percent} per cent cheaper for groups.",
        {"people": (6, 8, 10, 12, 15, 20), "percent": (5, 8, 10, 12, 15, 20, 25, 30)},
        (
            "Is it cheaper for groups?",
            "From how many people on are we a group?",
            "Our club travels as a group. What do groups save?",
            "Is there a price for groups?",
        ),
        unseen=True,
    ),
)

DECLARED = (
    "I have a {ticket} ticket to {town}.",
    "We booked {ticket} tickets for {day}.",
    "It is about my {ticket} ticket.",
    "My ticket is a {ticket}, order {order}.",
    "Order {order}, ticket type {ticket}.",
    "I travel to {town} on {day} and hold a {ticket} ticket.",
    "We sail on {day}, with {ticket} tickets.",
    "One {ticket} ticket for {month}, already paid.",
)
#: Two tickets in one conversation: whose is meant is told later.
TWO = (
    ("My {person} has a {other} ticket, mine is a {ticket}.", "It is about mine."),
    ("I hold a {ticket} ticket, my {person} a {other} one.", "I ask for myself."),
    ("Mine is a {other} ticket, my {person} travels with a {ticket}.", "I ask for my {person}."),
    ("I first wanted a {other} ticket and then took a {ticket}.", ""),
    ("Not a {other} ticket, a {ticket} one, for {day}.", ""),
)
CORRECTED = (
    "Sorry, I looked again: it is a {ticket} ticket.",
    "Wait, that was the wrong one. Mine is a {ticket}.",
    "I see now that I hold a {ticket} ticket, not a {other}.",
    "My mistake, {ticket}, not {other}.",
)
ACKNOWLEDGED = (
    "Thank you. What would you like to know?",
    "Noted. How can I help?",
    "Good, I have that. What is your question?",
    "Thanks, go ahead.",
)
AGAIN = ("So {question}", "Then {question}", "Once more: {question}")
NEXT = ("Thanks. {question}", "Good to know. {question}", "And one more thing. {question}", "Fine. {question}", "I see. {question}")

#: For people: harm, anger, money in dispute, what only the office can do, what no rule is about.
FOR_PEOPLE = (
    "I slipped on the ramp at {town} and hurt my knee.",
    "My {person} was hurt when the car deck was loaded. Who is liable?",
    "Your crew scratched my car on {day}. I want it paid.",
    "My suitcase came back broken from the {town} crossing.",
    "We left a {thing} on board on {day}. Has anybody found it?",
    "I lost my {thing} somewhere on the ship.",
    "You charged my card twice for order {order}.",
    "The fee you took is not what I agreed to, and I want it back.",
    "Your colleague at {town} shouted at my {person}. I want to complain.",
    "This is the third time I write. I want to complain about your office.",
    "Let me talk to a human being, please.",
    "I do not want to talk to a machine. Is anybody there?",
    "Can a person from the office call me back on {day}?",
    "My lawyer will be in touch about order {order}.",
    "I am a reporter and write about the accident at {town}.",
    "My {person} has died and cannot travel. What happens to the booking?",
    "I need an invoice with another company's tax number for order {order}.",
    "Please delete everything you know about me.",
    "Can I get a job on one of your ships this summer?",
    "We want to hire a whole ship for a wedding in {month}.",
    "I have a nut allergy so bad that I carry a syringe. Is the kitchen safe?",
    "I am in my ninth month. Will your doctor let me travel?",
    "Somebody else has used order {order}. I think I was robbed.",
    "The bank says that you never asked for the money for order {order}.",
)
GREETINGS = ("", "", "", "Hello. ", "Good morning. ", "Hi, ", "Good evening, ", "Dear team, ")
CLOSES = ("", "", "", "", " Thank you.", " Thanks, {name}.", " Regards, {name}.")
TOWNS = ("Tarn", "Mellow Point", "Skerrick", "Hollin Quay", "Great Orsay", "Wenna", "Dunmouth", "Sallow Bay")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "the 3rd", "the 12th", "the 21st")
MONTHS = ("March", "April", "May", "June", "July", "August", "September", "October")
PEOPLE = ("sister", "father", "wife", "husband", "neighbour", "son", "daughter", "friend", "aunt", "colleague")
THINGS = ("jacket", "phone", "rucksack", "camera", "violin", "pair of glasses", "stuffed rabbit", "walking stick")
NAMES = ("Ida", "Mr Okonjo", "Tomas", "Ms Varga", "Leila", "Henrik", "Mrs Doyle", "Bao", "Marisol", "Piet")


def handbook(drawn: random.Random) -> dict[tuple[str, str], str]:
    """Each subject's rule for each ticket: no two tickets have the same numbers in one subject."""
    rules: dict[tuple[str, str], str] = {}
    for subject in SUBJECTS:
        chosen = {name: drawn.sample(values, len(TICKETS)) for name, values in subject.numbers.items()}
        for place, ticket in enumerate(TICKETS):
            numbers = {name: values[place] for name, values in chosen.items()}
            rules[subject.title, ticket] = subject.rule.format(ticket=ticket, **numbers)
    return rules


class Writer:
    """Writes conversations from what was drawn."""

    def __init__(self, drawn: random.Random, rules: dict[tuple[str, str], str]) -> None:
        self.drawn = drawn
        self.rules = rules
        self.facts: dict[str, str] = {}

    def conversation(self, shape: str, unseen: bool) -> list[dict[str, str]]:
        """One conversation of a shape, the wanted answer last."""
        self.facts = {
            "town": self.drawn.choice(TOWNS),
            "day": self.drawn.choice(WEEKDAYS),
            "month": self.drawn.choice(MONTHS),
            "person": self.drawn.choice(PEOPLE),
            "thing": self.drawn.choice(THINGS),
            "name": self.drawn.choice(NAMES),
            "order": f"TS-{self.drawn.randrange(10_000, 99_999)}",
        }
        self.facts["ticket"], self.facts["other"] = self.drawn.sample(TICKETS, 2)
        known = [subject for subject in SUBJECTS if not subject.unseen]
        asked = self.drawn.choice([subject for subject in SUBJECTS if subject.unseen] if unseen else known)
        before = self.drawn.choice([subject for subject in known if subject is not asked])
        texts = list(getattr(self, shape)(asked, before))
        return [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)]

    def declared(self, asked: Subject, _: Subject) -> Iterator[str]:
        """The ticket first, then the question."""
        yield self.dressed(self.drawn.choice(DECLARED))
        yield self.drawn.choice(ACKNOWLEDGED)
        yield self.question(asked) + self.close()
        yield self.rule(asked)

    def followed(self, asked: Subject, before: Subject) -> Iterator[str]:
        """A second question, on the ticket of the first."""
        yield self.dressed(f"{self.drawn.choice(DECLARED)} {self.drawn.choice(before.questions)}")
        yield self.rule(before)
        yield self.filled(self.drawn.choice(NEXT).format(question=self.drawn.choice(asked.questions))) + self.close()
        yield self.rule(asked)

    def longer(self, asked: Subject, before: Subject) -> Iterator[str]:
        """The ticket, a first question, a second one."""
        *first, _ = self.declared(before, before)
        yield from first
        yield self.rule(before)
        yield self.filled(self.drawn.choice(NEXT).format(question=self.drawn.choice(asked.questions))) + self.close()
        yield self.rule(asked)

    def corrected(self, asked: Subject, _: Subject) -> Iterator[str]:
        """The ticket was another one."""
        wrong = self.drawn.choice(DECLARED).replace("{ticket}", "{other}")
        question = self.drawn.choice(asked.questions)
        yield self.dressed(f"{wrong} {question}")
        yield self.rule(asked, "other")
        again = self.drawn.choice(AGAIN).format(question=question[0].lower() + question[1:] if not question.startswith("I ") else question)
        yield self.filled(f"{self.drawn.choice(CORRECTED)} {again}")
        yield self.rule(asked)

    def two(self, asked: Subject, _: Subject) -> Iterator[str]:
        """Two tickets, of which one is meant."""
        told, whose = self.drawn.choice(TWO)
        yield self.dressed(told)
        yield self.drawn.choice(ACKNOWLEDGED)
        yield self.filled(f"{self.drawn.choice(asked.questions)} {whose}".strip()) + self.close()
        yield self.rule(asked)

    def at_once(self, asked: Subject, _: Subject) -> Iterator[str]:
        """Everything in one turn."""
        yield self.dressed(f"{self.drawn.choice(DECLARED)} {self.drawn.choice(asked.questions)}") + self.close()
        yield self.rule(asked)

    def not_told(self, asked: Subject, _: Subject) -> Iterator[str]:
        """No ticket was named, so the answer asks for it."""
        yield self.dressed(self.drawn.choice(asked.questions)) + self.close()
        yield WHICH

    def handed_over(self, _: Subject, before: Subject) -> Iterator[str]:
        """A matter for people: at once, or after a question that the handbook answers."""
        matter = self.drawn.choice(FOR_PEOPLE)
        if self.drawn.random() < 0.5:
            yield self.dressed(f"{self.drawn.choice(DECLARED)} {self.drawn.choice(before.questions)}")
            yield self.rule(before)
            yield self.filled(self.drawn.choice(NEXT).format(question=matter)) + self.close()
        else:
            yield self.dressed(matter) + self.close()
        yield HANDOVER

    def rule(self, subject: Subject, whose: str = "ticket") -> str:
        return self.rules[subject.title, self.facts[whose]]

    def question(self, subject: Subject) -> str:
        return self.filled(self.drawn.choice(subject.questions))

    def filled(self, text: str) -> str:
        return text.format(**self.facts)

    def dressed(self, text: str) -> str:
        return self.drawn.choice(GREETINGS) + self.filled(text)

    def close(self) -> str:
        return self.filled(self.drawn.choice(CLOSES))


def main() -> None:
    drawn = random.Random(SEED)
    rules = handbook(drawn)
    sections = [
        {
            "id": f"{subject.title} {ticket}".lower().replace(" ", "-"),
            "title": f"{subject.title}, {ticket}",
            "text": rules[subject.title, ticket],
        }
        for subject in SUBJECTS
        for ticket in TICKETS
    ]
    _write("handbook.jsonl", sections)
    writer, seen = Writer(drawn, rules), set[str]()
    for split, count in ROWS.items():
        often = {shape: round(count * weight / sum(SHAPES.values())) for shape, weight in SHAPES.items()}
        shapes = [shape for shape, number in often.items() for _ in range(number)]
        drawn.shuffle(shapes)
        rows: list[dict[str, object]] = []
        while len(rows) < len(shapes):
            turns = writer.conversation(shapes[len(rows)], unseen=split != "train" and drawn.random() < 0.5)
            text = json.dumps(turns)
            if text not in seen:
                seen.add(text)
                rows.append({"id": f"{split}-{len(rows) + 1:03}", "messages": turns})
        _write(f"{split}.jsonl", rows)


def _write(name: str, rows: list[dict[str, object]] | list[dict[str, str]]) -> None:
    (HERE / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
