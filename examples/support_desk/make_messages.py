"""Writes ``messages.csv``: synthetic messages in which the words alone do not tell what is asked.

Every message names two matters or three, of which one is what the customer wants: the others are settled, withdrawn, somebody else's, or
come later. Matters and frames are combined at random, so that the words of a matter stand in messages of every label; what tells the
label is who did what to whom, what is negated, what came first, and on what condition. See DATA_CARD.md.

    python examples/support_desk/make_messages.py
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

SEED, ROWS_EACH = 20, 152
HERE = Path(__file__).resolve().parent
#: Planted flaws: rows that repeat another one exactly, rows that repeat it nearly, wrong labels.
EXACT, NEAR, WRONG = 14, 40, 12

ITEMS = (
    "tent",
    "hand mower",
    "parasol",
    "camping stove",
    "hammock",
    "garden bench",
    "rain barrel",
    "leaf blower",
    "head torch",
    "wheelbarrow",
    "bird bath",
    "sleeping bag",
    "pruning saw",
    "fire bowl",
    "cool box",
    "trekking poles",
    "greenhouse",
    "hose reel",
    "water filter",
    "folding table",
    "solar lamp",
    "compost bin",
    "rucksack",
    "hedge trimmer",
    "bicycle bag",
    "plant trellis",
    "deck chair",
    "air mattress",
    "seed spreader",
    "rope ladder",
    "lantern",
    "potting bench",
    "patio heater",
    "canoe paddle",
    "garden swing",
    "thermos jug",
)
PARTS = ("handle", "zip", "motor", "pump", "hinge", "strap", "valve", "wheel", "battery", "switch", "frame", "lid")
TOWNS = ("Upper Dunmere", "Harrowby", "Saltwick", "Lindenau", "Corvale", "Eastmarsh", "Brackenford", "Tolmouth", "Vinsbeck", "Oldreach")
NAMES = ("Marta", "Jonas", "Mr Abara", "Ms Lindqvist", "Priya", "Tomasz", "Mrs Okafor", "Ewan", "Mr Castellan", "Yuki")
PEOPLE = ("neighbour", "sister", "father", "colleague", "daughter", "flatmate", "brother-in-law", "landlady", "cousin", "walking partner")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "the 3rd", "the 12th", "the 21st", "last week")
SUMS = ("40 euros", "18.50", "112 euros", "75 euros", "63.20", "25 euros", "89.90", "230 euros")

#: What each desk does, as people say it: ``thing`` can be received, ``affair`` can be spoken of, ``do`` follows "please", ``done`` is a
#: sentence whose "has been" can be denied.
MATTERS: dict[str, dict[str, tuple[str, ...]]] = {
    "refund_missing": {
        "thing": (
            "the refund for the {item}",
            "my money for the {item}",
            "the {sum} you owe me",
            "the money back for order {order}",
            "the repayment for the {item}",
            "the refund",
            "my money back",
        ),
        "affair": (
            "the refund for the {item}",
            "the repayment of {sum}",
            "the money for the {item}",
            "the refund of order {order}",
            "getting my money back",
        ),
        "do": (
            "pay me back for the {item}",
            "refund the {item}",
            "send me the {sum} back",
            "refund order {order}",
            "pay back what I gave for the {item}",
        ),
        "done": (
            "the {item} has been refunded",
            "the {sum} has been paid back",
            "order {order} has been refunded",
            "my money has been sent back",
        ),
    },
    "delivery_problem": {
        "thing": (
            "the {item}",
            "the parcel with the {item}",
            "order {order}",
            "the second box of order {order}",
            "the {item} I ordered",
            "the parcel",
        ),
        "affair": (
            "the delivery of the {item}",
            "the parcel with the {item}",
            "the lost parcel {order}",
            "the delivery",
            "the driver and the {item}",
        ),
        "do": (
            "deliver the {item}",
            "find the parcel with the {item}",
            "get the {item} to my door",
            "bring the missing {item}",
            "trace parcel {order}",
        ),
        "done": (
            "the {item} has been delivered",
            "parcel {order} has been found",
            "the {item} has been brought to my door",
            "the parcel has been handed over",
        ),
    },
    "return_item": {
        "thing": (
            "the return label for the {item}",
            "the slip for sending the {item} back",
            "a pick-up date for the {item}",
            "the return form",
        ),
        "affair": (
            "the return of the {item}",
            "the exchange of the {item}",
            "sending the {item} back",
            "the pick-up of the {item}",
            "the return",
        ),
        "do": (
            "take back the {item}",
            "exchange the {item} for a bigger one",
            "collect the {item} I don't like",
            "let me return the {item}",
            "swap the {item}",
        ),
        "done": (
            "the {item} has been taken back",
            "the {item} has been exchanged",
            "the {item} has been collected from me",
            "the return has been accepted",
        ),
    },
    "change_address": {
        "thing": (
            "a note that my new address is stored",
            "the mail about my new address",
            "the confirmation for {town}",
            "word on my move to {town}",
        ),
        "affair": ("the change of my address", "my move to {town}", "the new address in {town}", "the old street in my profile"),
        "do": (
            "change my address to {town}",
            "store my new address in {town}",
            "take the old street out of my profile",
            "put {town} as my address",
        ),
        "done": (
            "my address has been changed",
            "the new address in {town} has been stored",
            "my move to {town} has been noted",
            "the old street has been taken out",
        ),
    },
    "cancel_order": {
        "thing": (
            "the cancellation of order {order}",
            "the mail that the {item} is cancelled",
            "proof that order {order} is stopped",
            "the cancellation",
        ),
        "affair": ("the cancellation of order {order}", "cancelling the {item}", "stopping order {order}", "the cancellation"),
        "do": ("cancel order {order}", "cancel the {item}", "stop the order of the {item}", "take the {item} off my order"),
        "done": (
            "order {order} has been cancelled",
            "the {item} has been cancelled",
            "the order of the {item} has been stopped",
            "the {item} has been taken off my order",
        ),
    },
    "invoice_request": {
        "thing": (
            "the invoice for the {item}",
            "a receipt for order {order}",
            "the bill over {sum}",
            "the invoice in my firm's name",
            "the invoice",
        ),
        "affair": (
            "the invoice for the {item}",
            "the receipt for order {order}",
            "the bill over {sum}",
            "the invoice",
            "the tax number on the invoice",
        ),
        "do": (
            "send the invoice for the {item}",
            "write a receipt for order {order}",
            "correct the bill over {sum}",
            "put my firm's name on the invoice",
        ),
        "done": (
            "the invoice for the {item} has been sent",
            "the bill over {sum} has been corrected",
            "the receipt for order {order} has been written",
            "the invoice has been fixed",
        ),
    },
    "account_login": {
        "thing": ("the code for signing in", "the link for a new password", "a working password", "access to my account"),
        "affair": ("the blocked account", "the login", "the password reset", "signing in", "the lost password"),
        "do": ("unlock my account", "send the sign-in code", "reset my password", "let me into my account again", "sort out the login"),
        "done": (
            "my account has been unlocked",
            "the password has been reset",
            "the login has been repaired",
            "the sign-in code has been sent",
        ),
    },
    "warranty_claim": {
        "thing": ("the spare {part} for the {item}", "the repaired {item}", "a new {part} under warranty", "the replacement {part}"),
        "affair": ("the repair of the {item}", "the warranty on the {item}", "the broken {part} of the {item}", "the warranty claim"),
        "do": ("repair the {item}", "replace the broken {part}", "mend the {item} under warranty", "fix the {part} of the {item}"),
        "done": (
            "the {item} has been repaired",
            "the broken {part} has been replaced",
            "the {item} has been mended",
            "the {part} of the {item} has been fixed",
        ),
    },
}

#: B is wanted; A and C are not.
FRAMES: dict[str, tuple[str, ...]] = {
    "what came and what did not": (
        "I did get {A.thing}, but {B.thing} never came.",
        "I got {A.thing}, but not {B.thing}.",
        "{B.thing} never came, although I did get {A.thing}.",
        "I have {A.thing}. What I do not have is {B.thing}.",
        "What I am missing is {B.thing}, since {A.thing} turned up on {day}.",
        "I asked for {B.thing} and what I got was {A.thing}.",
        "What you sent on {day} was {A.thing}. What you should have sent was {B.thing}.",
        "Instead of {A.thing} I would have liked to get {B.thing}.",
        "{A.thing} and {C.thing} are here, {B.thing} is not.",
        "Still waiting for {B.thing}. Not for {A.thing}, that came on {day}.",
        "Not {A.thing}, that is here since {day}: it is {B.thing} I wait for.",
        "Of the two, {A.thing} and {B.thing}, only the first ever reached me.",
        "Of the two, {B.thing} and {A.thing}, only the second ever reached me.",
    ),
    "done and not done": (
        "{A.done}, {B.undone}.",
        "{B.undone}, {A.done}.",
        "{A.done}, but {B.undone}.",
        "{B.undone} yet, even though {A.done}.",
        "While {A.done}, {B.undone}.",
        "Nothing has happened about {B.affair}, whereas {A.affair} went through on {day}.",
        "{A.affair} went through on {day}, whereas nothing has happened about {B.affair}.",
        "{A.affair}: fine. {B.affair}: still nothing.",
        "{B.affair}: still nothing. {A.affair}: fine.",
        "{A.done} and {C.done}, thank you. {B.undone}.",
        "It is not true that {B.done}. What is true: {A.done}.",
        "You say that {B.done}. No. What is done is {A.affair}.",
    ),
    "negation": (
        "I do not want you to {A.do}. I want you to {B.do}.",
        "I want you to {B.do}. I do not want you to {A.do}.",
        "Please {B.do}. You need not {A.do}.",
        "You need not {A.do}. Please {B.do}.",
        "It isn't {A.affair} that troubles me, it is {B.affair}.",
        "It is {B.affair} that troubles me, not {A.affair}.",
        "I am writing about {B.affair} and not about {A.affair}.",
        "I am not writing about {A.affair} but about {B.affair}.",
        "Do not {A.do}, just {B.do}.",
        "Just {B.do}, do not {A.do}.",
        "Leave {A.affair} alone and {B.do}.",
        "Neither {A.affair} nor {C.affair} is urgent, {B.affair} is.",
        "Rather than {C.do} or {A.do}, could you {B.do}?",
        "No need to {A.do}, all I ask is that you {B.do}.",
    ),
    "order of events": (
        "Before you {A.do}, {B.do}. The rest can wait.",
        "You can {A.do} next month. Now {B.do}, please.",
        "Now {B.do}, please. You can {A.do} next month.",
        "Last month it was {A.affair}, this time it is {B.affair}.",
        "This time it is {B.affair}, after {A.affair} last month.",
        "Once {A.affair} was settled, {B.affair} went wrong.",
        "{B.affair} went wrong right after {A.affair} had been settled.",
        "On {day} I wanted you to {A.do}. Today I only want you to {B.do}.",
        "Today I only want you to {B.do}. That I wanted you to {A.do} is past.",
        "First I thought I had to ask you to {A.do}, now I see that you should {B.do}.",
        "We spoke on the phone until {A.affair} was cleared up. Then {B.affair} started to go wrong.",
    ),
    "who did what": (
        "My {person} waits for {A.thing}. I wait for {B.thing}.",
        "I wait for {B.thing}. My {person} is the one who waits for {A.thing}.",
        "{name} from your team thinks I want {A.thing}, but I want {B.thing}.",
        "I want {B.thing}, whatever {name} from your team wrote about {A.thing}.",
        "My {person} asked you to {A.do} and you did. I asked you to {B.do} and you did not.",
        "I asked you to {B.do} and you did not. My {person} asked you to {A.do} and you did.",
        "{name} promised my {person} {A.thing} and me {B.thing}. Only my {person} got anything.",
        "{name} promised me {B.thing} and my {person} {A.thing}. I am the one who got nothing.",
        "It was my {person} who asked you to {A.do}. What I asked was to {B.do}.",
        "Your mail tells my {person} how you will {A.do}. Mine should tell how you will {B.do}.",
        "My {person} has a question about {A.affair} and will write herself; mine is about {B.affair}.",
    ),
    "condition": (
        "Only if you cannot {B.do} would I ask you to {A.do}.",
        "I would ask you to {A.do} only if you could not {B.do}.",
        "Had you not dealt with {A.affair}, I would complain; as you have, please {B.do}.",
        "If {A.thing} had not come I would write about that. It came. So this is about {B.affair}.",
        "As long as {A.affair} is under way I ask nothing more of you there, but do {B.do}.",
        "Should {A.affair} ever be a problem I will tell you. For now {B.affair} is one.",
        "Unless you {B.do} by {day} I will have to ask you to {A.do}, which I would hate.",
        "I could live without {A.thing}. I cannot live without {B.thing}.",
    ),
    "correction": (
        "I wrote that you should {A.do}. Forget that and {B.do}.",
        "{B.do}, please, and forget that I wrote you should {A.do}.",
        "Wrong subject line, sorry: not {A.affair} but {B.affair}.",
        "My note of {day} was about {A.affair}, which is over. This one is about {B.affair}.",
        "This one is about {B.affair}. My note of {day} about {A.affair} has been answered.",
        "I ticked the box for {A.affair} because there was none for {B.affair}.",
        "There was no box for {B.affair}, so I ticked the one for {A.affair}.",
        "Your answer explains {A.affair} at length. My question was about {B.affair}.",
        "Thanks for {A.thing}, it came on {day}. Could you now {B.do}?",
        "Could you {B.do}? And thanks for {A.thing}, it came on {day}.",
    ),
}

GREETINGS = (
    "Hi,",
    "Hello,",
    "Good morning,",
    "Dear team,",
    "Hello Quillmoor,",
    "Hey,",
    "Good evening,",
    "To the support desk:",
    "Hi there,",
    "Morning!",
)
CLOSES = (
    "Thanks",
    "Thank you!",
    "Best wishes, {name}",
    "Please answer soon.",
    "Kind regards",
    "Cheers, {name}",
    "Many thanks in advance",
    "Yours, {name}",
    "My number is {phone}.",
    "Write to {mail}, please.",
)
ASIDES = (
    "I have been a customer for years.",
    "I am at home in the mornings only.",
    "We leave for our trip on {day}.",
    "My English is not perfect, sorry.",
    "I hope I am in the right place.",
    "This is my second message.",
    "I tried the phone and gave up.",
    "The {item} I bought in spring is great, by the way.",
    'Your site calls this a "simple matter".',
    "My customer number is {customer}.",
    "I write from my {person}'s phone.",
    "It rains here in {town}.",
)
CHANNELS = (("email", 0.37), ("web_form", 0.26), ("chat", 0.24), ("app", 0.13))


@dataclass(frozen=True)
class Message:
    """One row."""

    text: str
    intent: str
    channel: str


def main() -> None:
    drawn = random.Random(SEED)
    seen: set[str] = set()
    rows: list[Message] = []
    for intent in MATTERS:
        while sum(row.intent == intent for row in rows) < ROWS_EACH:
            row = message(intent, drawn)
            if row.text.casefold() not in seen:
                seen.add(row.text.casefold())
                rows.append(row)
    rows = flawed(rows, drawn)
    drawn.shuffle(rows)
    with (HERE / "messages.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["text", "intent", "channel"])
        writer.writerows((row.text, row.intent, row.channel) for row in rows)
    print(len(rows), Counter(row.intent for row in rows))


def message(intent: str, drawn: random.Random) -> Message:
    """One message whose one wish is ``intent``."""
    others = drawn.sample([each for each in MATTERS if each != intent], 2)
    frame = drawn.choice(FRAMES[drawn.choice(list(FRAMES))])
    roles = {"B": intent, "A": others[0], "C": others[1]}
    filled = {
        f"{role}.{form}": phrase(MATTERS[matter], form, drawn)
        for role, matter in roles.items()
        for form in ("thing", "affair", "do", "done", "undone")
    }
    body = sentences(slots(substitute(frame, filled), drawn))
    channel = drawn.choices([name for name, _ in CHANNELS], [weight for _, weight in CHANNELS])[0]
    return Message(dressed(body, channel, drawn), intent, channel)


def phrase(matter: dict[str, tuple[str, ...]], form: str, drawn: random.Random) -> str:
    """What a matter is called; ``undone`` denies what is done."""
    if form == "undone":
        denied = drawn.choice((" has not been ", " has still not been ", " has never been "))
        return drawn.choice(matter["done"]).replace(" has been ", denied)
    return drawn.choice(matter[form])


def substitute(frame: str, filled: dict[str, str]) -> str:
    for role, text in filled.items():
        frame = frame.replace("{" + role + "}", text)
    return frame


def slots(text: str, drawn: random.Random) -> str:
    """Fills what is left open, each place anew."""
    made = {
        "item": lambda: drawn.choice(ITEMS),
        "part": lambda: drawn.choice(PARTS),
        "town": lambda: drawn.choice(TOWNS),
        "person": lambda: drawn.choice(PEOPLE),
        "name": lambda: drawn.choice(NAMES),
        "day": lambda: drawn.choice(DAYS),
        "sum": lambda: drawn.choice(SUMS),
        "order": lambda: f"QM-{drawn.randrange(100_000, 999_999)}",
        "customer": lambda: str(drawn.randrange(10_000, 99_999)),
        "phone": lambda: f"07700 900{drawn.randrange(1000):03}",
        "mail": lambda: f"{drawn.choice(NAMES).split()[-1].lower()}{drawn.randrange(10, 99)}@example.com",
    }
    # The same person twice in a frame is one person.
    person = drawn.choice(PEOPLE)
    text = text.replace("{person}", person)
    for name, draw in made.items():
        while "{" + name + "}" in text:
            text = text.replace("{" + name + "}", draw(), 1)
    return text.replace("on last week", "last week").replace("by last week", "by Friday").replace("of last week", "of last week")


def sentences(text: str) -> str:
    """Each sentence with a capital letter."""
    out, start = [], True
    for place, letter in enumerate(text):
        out.append(letter.upper() if start and letter.isalpha() else letter)
        if letter.isalnum():
            start = False
        ends = letter in ".!?" and (place + 1 == len(text) or text[place + 1] == " ")
        start = start or ends
    return "".join(out)


def dressed(body: str, channel: str, drawn: random.Random) -> str:
    """With a greeting, an aside and a close as the channel has them, and slips of the keyboard."""
    polite = {"email": 0.9, "web_form": 0.5, "chat": 0.2, "app": 0.15}[channel]
    lines = [body]
    if drawn.random() < 0.3:
        lines.insert(drawn.randrange(2), slots(drawn.choice(ASIDES), drawn))
    text = " ".join(lines)
    between = "\n\n" if channel == "email" and drawn.random() < 0.7 else " "
    if drawn.random() < polite:
        text = drawn.choice(GREETINGS) + between + text
    if drawn.random() < polite * 0.8:
        text = text + between + slots(drawn.choice(CLOSES), drawn)
    if channel in ("chat", "app") and drawn.random() < 0.4:
        text = text.lower()
    return slipped(text, drawn) if drawn.random() < 0.12 else text


def slipped(text: str, drawn: random.Random) -> str:
    """Two letters within a word change places."""
    places = [place for place in range(1, len(text) - 2) if text[place : place + 2].isalpha() and text[place - 1].isalpha()]
    place = drawn.choice(places)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def flawed(rows: list[Message], drawn: random.Random) -> list[Message]:
    """With wrong labels, repetitions, and rows that are broken."""
    wrong = set(drawn.sample(range(len(rows)), WRONG))
    others = list(MATTERS)
    rows = [Message(row.text, drawn.choice(others), row.channel) if place in wrong else row for place, row in enumerate(rows)]
    kept = [row for place, row in enumerate(rows) if place not in wrong]
    exact = drawn.sample(kept, EXACT)
    near = [
        Message(f"{drawn.choice(('Second try: ', 'Again: ', 'Once more: '))}{row.text}", row.intent, "web_form")
        for row in drawn.sample(kept, NEAR)
    ]
    broken = [
        Message("", "return_item", "email"),
        Message("   ", "invoice_request", "app"),
        Message("Did my last message reach you?", "", "chat"),
    ]
    return rows + exact + near + broken


if __name__ == "__main__":
    main()
