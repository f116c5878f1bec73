"""Writes ``rows/TENANT.csv``: synthetic messages to eight shops, and what each shop's sales assistant answers. See DATA_CARD.md.

All shops sell along the same four lines (something to begin with, for a family, for daily work, to carry), and customers are ready to buy,
want to see it first, or need many. So the same message means another answer in every shop: its own product, its own next step, its own
voice. What a message asks for has to be read: one in five also says what is *not* wanted.

    python examples/sales_assistant/make_rows.py
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SEED, ROWS = 20, 120
HERE = Path(__file__).resolve().parent

#: The lines along which every shop sells, and how customers tell of each without naming a product.
NEEDS: dict[str, tuple[str, ...]] = {
    "first": (
        "this would be my very first one",
        "I am a complete beginner",
        "I have never owned one",
        "I only want to try whether it suits me",
        "my budget is small and I am new to this",
        "we are just starting out",
        "it should be simple enough for a novice",
        "I know nothing about these yet",
        "nothing fancy, I am only beginning",
        "the cheapest one that a learner can live with",
    ),
    "family": (
        "it is for the whole family",
        "there are five of us",
        "the children and both of us will use it",
        "we are two adults and three kids",
        "everyone at home should get something out of it",
        "it has to do for a household of six",
        "grandparents and kids included",
        "we all want to use it together",
        "for parents, children and the odd cousin",
        "a big one, our family keeps growing",
    ),
    "daily": (
        "I use it eight hours a day for my work",
        "it will be in service every single day",
        "I earn my living with it",
        "ours wear out within a year, we are professionals",
        "it must survive constant hard use",
        "this is for a business that never closes",
        "I need one that lasts under daily load",
        "we run ours from morning to night",
        "it is my trade, so it has to be the sturdy kind",
        "nothing that breaks: I work with it all week",
    ),
    "carry": (
        "I carry it on trains all the time",
        "it has to fit into my luggage",
        "I am always on the move",
        "it must be light enough to take along",
        "I travel a lot and want it with me",
        "it should fold up or pack small",
        "every gram counts, I take it everywhere",
        "I need to bring it from place to place",
        "it goes into the boot of a small car each week",
        "something I can sling over a shoulder",
    ),
}
#: What every shop calls its product for a need, behind the name of its line.
KINDS = {"first": "Starter", "family": "Family", "daily": "Pro", "carry": "Travel"}
#: What the customer is up to, and how that is said.
MOODS: dict[str, tuple[str, ...]] = {
    "ready": (
        "I want to order today.",
        "I would like to buy it now.",
        "Please send me one this week.",
        "I have made up my mind and can pay at once.",
        "Where do I pay?",
        "I will take it right away.",
        "Ship it as soon as you can.",
        "Consider it sold, just tell me which.",
    ),
    "look": (
        "Could I see it before I decide?",
        "I would rather try it out first.",
        "May I come by and have a look?",
        "I do not buy anything that I have not held in my hands.",
        "Is there a way to test it?",
        "I am not sure yet and want to look at it.",
        "Can somebody show it to me?",
        "First I want to see it with my own eyes.",
    ),
    "many": (
        "We would need twenty of them.",
        "What would a dozen cost us?",
        "There will be fifteen orders like this one.",
        "We want to equip the whole club, thirty pieces.",
        "Is there a discount on forty?",
        "The order would be for two dozen.",
        "We are buying for eleven branches, one each.",
        "Please think of a quantity of about fifty.",
    ),
}
GREETINGS = ("Hello,", "Hi,", "Good morning,", "Dear team,", "Hi there,", "Good evening,", "Hello again,", "To whom it may concern,")
ASIDES = (
    "A friend told me about you.",
    "I found your shop through the local paper.",
    "It rains here all the time, by the way.",
    "I have read your page twice.",
    "My order last year went well.",
    "We moved here in {month}.",
    "Sorry for the short notice.",
    "I am writing from {town}.",
    "My number is 07700 900{digits}.",
    "You can reach me at {person}@mail.example.",
)
CLOSES = ("Thanks!", "Best, {name}", "Kind regards, {name}", "Many thanks in advance.", "{name}", "Yours, {name}", "Cheers")
NAMES = ("Marta", "Jonas", "A. Abara", "Priya", "Tomasz", "I. Lindqvist", "Ewan", "Yuki", "N. Okafor", "Sanne", "Luc", "Odile")
TOWNS = ("Harrowby", "Saltwick", "Lindenau", "Corvale", "Eastmarsh", "Tolmouth", "Vinsbeck", "Oldreach", "Brackenford")
MONTHS = ("January", "March", "May", "July", "September", "November")
#: How a message says what it asks for; ``{thing}`` is what the shop sells, ``{need}`` what is wanted, ``{other}`` what is not.
ASKING = (
    "Which {thing} would you suggest? {Need}.",
    "I am after a {thing}: {need}.",
    "{Need}. What {thing} do you have for that?",
    "Looking for a {thing}. {Need}.",
    "What do you recommend? {Need}, and a {thing} it must be.",
    "Do you have a {thing} for this: {need}?",
    "{Need}, so I need the right {thing}.",
    "A question about your {things}: {need}. Which one?",
)
DENYING = (
    "I am after a {thing}. It is not that {other}; {need}.",
    "Which {thing} fits? Other people say: {other}. With me, {need}.",
    "Last time I wrote that {other}. Forget that: {need}. Which {thing} now?",
    "{Need}. You may get many letters that say {other}, but this is not one of them. Which {thing}?",
    "My neighbour told you that {other}; for me it is different: {need}. What {thing} do you have?",
    "If {other}, I would know what to get. But {need}. Which {thing}, then?",
)


@dataclass(frozen=True)
class Shop:
    """A tenant: what it sells (one, several), the voice that opens its answers, its line of products, a next step for each mood; and how
    its own customers tell of the needs, in words of its trade."""

    thing: str
    things: str
    voice: str
    line: str
    steps: dict[str, str]
    trade: dict[str, tuple[str, str, str]]

    def answer(self, need: str, mood: str) -> str:
        """What the assistant answers: voice, product, next step."""
        return f"{self.voice} {self.line} {KINDS[need]}. {self.steps[mood]}"


def _steps(*steps: str) -> dict[str, str]:
    return dict(zip(MOODS, steps, strict=True))


def _trade(*told: tuple[str, str, str]) -> dict[str, tuple[str, str, str]]:
    return dict(zip(NEEDS, told, strict=True))


SHOPS: dict[str, Shop] = {
    "alder": Shop(
        "tent",
        "tents",
        "Happy trails:",
        "Wren",
        _steps("It is packed today.", "Come and pitch it.", "We quote for the lot."),
        _trade(
            ("I have never slept outdoors", "my first night under canvas is coming", "I could not tell a peg from a pole"),
            ("six sleeping mats must fit side by side", "the kids want a room of their own in it", "we camp with three generations"),
            ("I guide tours from April to October", "we rent ours out every night of the season", "our scouts wear them out in a summer"),
            ("I walk the long trail with eight kilos on my back", "it goes under the saddle of my bike", "I fly to the trailhead"),
        ),
    ),
    "brio": Shop(
        "coffee machine",
        "coffee machines",
        "Ciao!",
        "Piccolo",
        _steps("It leaves our bar today.", "Come and taste a cup.", "We make a price for all."),
        _trade(
            ("I have only ever had instant", "I cannot froth milk yet", "my first espresso at home"),
            ("seven people want breakfast at once", "cocoa for the kids and espresso for us", "Sunday brunch with everyone"),
            ("I run a café with a queue", "three hundred cups a day", "our canteen pulls shots without a break"),
            ("I want decent espresso in hotel rooms", "it comes along in the camper", "on the boat there is only a 12 volt socket"),
        ),
    ),
    "cobalt": Shop(
        "bicycle",
        "bicycles",
        "Ride on,",
        "Cadet",
        _steps("It rolls out today.", "Come for a test ride.", "The fleet desk writes to you."),
        _trade(
            ("I learn to ride at forty", "I have only just lost my stabilisers", "I do not know what gears are for"),
            ("two kids and the shopping ride along", "the dog and the twins sit in front", "we bring four children to school"),
            ("I deliver parcels ten hours a day", "our riders break a rim a month", "I am a messenger in all weathers"),
            ("it goes up to the fourth floor and onto the ferry", "I take it on the bus halfway", "it must go into an overhead rack"),
        ),
    ),
    "dunmore": Shop(
        "office chair",
        "office chairs",
        "Dear customer, we advise the",
        "Clerk",
        _steps("It is dispatched today.", "Kindly visit our showroom.", "A quotation for all follows."),
        _trade(
            ("I have just set up my first desk", "until now I sat on a kitchen stool", "I start my first job at home"),
            ("homework, gaming and taxes at one table", "all of us sit at that desk in turns", "it must adjust from age six to eighty"),
            ("we staff a control room around the clock", "three shifts sit on the same seat", "our switchboard never stands empty"),
            ("I work at a different client every day", "I bring it to a co-working space", "it lives in the back of my van"),
        ),
    ),
    "fjord": Shop(
        "kayak",
        "kayaks",
        "Ahoy!",
        "Seal",
        _steps("She sails today.", "Come and paddle her.", "We rig a price for the fleet."),
        _trade(
            ("I have never held a paddle", "I still fall in a lot", "my swimming course comes first, then this"),
            ("three of us in one boat, and the dog", "the little ones sit between us", "we want to go out all together"),
            ("I teach on the water all season", "our rental goes out twelve times a day", "the harbour office needs a workboat to paddle"),
            ("it has to go into a bag on the train to the coast", "I have no roof rack", "it goes over the pass on my back"),
        ),
    ),
    "gable": Shop(
        "digital piano",
        "digital pianos",
        "Con brio:",
        "Nocturne",
        _steps("Delivered today, tuned.", "Come and play it.", "We score an offer for all."),
        _trade(
            ("I cannot read notes yet", "my lessons begin next week", "I play with two fingers"),
            ("four hands at once, and a singer", "all three children take lessons", "we make music together on Sundays"),
            ("I play six shows a week", "our school teaches on it all day", "the theatre pit has no mercy"),
            ("I busk in another square each day", "it sits on the back seat between gigs", "the band tours in a hatchback"),
        ),
    ),
    "harrow": Shop(
        "lawn mower",
        "lawn mowers",
        "Right you are,",
        "Badger",
        _steps("On the lorry today.", "Have a go on our green.", "We price up the whole lot."),
        _trade(
            ("I have never cut grass in my life", "we just got our first garden", "I do not know one end of it from the other"),
            ("the teenagers shall take turns with it", "a garden where all of us play ball", "even the youngest wants to push it"),
            ("I keep the pitches of the county", "we mow verges from dawn to dusk", "the golf course needs it daily"),
            (
                "it goes from cottage to cottage in my hatchback",
                "I mow at three places and carry it across",
                "it must hang on a hook in the van",
            ),
        ),
    ),
    "isola": Shop(
        "desk lamp",
        "desk lamps",
        "Let there be light:",
        "Halo",
        _steps("Wrapped and gone today.", "See it glow in our window.", "Our studio quotes for all."),
        _trade(
            ("I have always sat in the dark", "my first lamp after the bare bulb", "I do not know a lumen from a lux"),
            ("homework for four at one table", "all of us gather round it", "it must light up our long kitchen table"),
            ("I draw plans ten hours a day", "the jeweller's bench is never dark", "our night desk keeps it on"),
            ("it comes along on the night train", "I read in tents and cabins", "it clips to whatever table I find"),
        ),
    ),
}
#: The shop that is added when the others serve already.
NINTH: dict[str, Shop] = {
    "juno": Shop(
        "telescope",
        "telescopes",
        "Clear skies!",
        "Comet",
        _steps("It launches today.", "Look through it on our roof.", "We count up a price for all."),
        _trade(
            ("I have never seen Saturn", "I cannot find the pole star yet", "my first clear night with one"),
            ("the children queue to see the moon", "all of us lie in the meadow in August", "it must suit tall and small"),
            ("our dome is open every clear night", "I measure variable stars for a living", "the science centre uses it all year"),
            ("I drive to dark skies each weekend", "it must go up a mountain in a rucksack", "I fly to see eclipses"),
        ),
    )
}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


class Writer:
    """Writes the rows of one shop; the same seed writes the same rows."""

    def __init__(self, name: str, shop: Shop) -> None:
        self._shop = shop
        self._random = random.Random(f"{SEED} {name}")
        self._said = {need: [*NEEDS[need], *shop.trade[need], *shop.trade[need]] for need in NEEDS}

    def rows(self, count: int) -> list[tuple[str, str]]:
        """``count`` different messages with their answers, every need in every mood about equally often."""
        pairs = [(need, mood) for need in NEEDS for mood in MOODS]
        made: dict[str, str] = {}
        while len(made) < count:
            need, mood = pairs[len(made) % len(pairs)]
            made.setdefault(self._message(need, mood), self._shop.answer(need, mood))
        rows = list(made.items())
        self._random.shuffle(rows)
        return rows

    def _message(self, need: str, mood: str) -> str:
        denies = self._random.random() < 1 / 5
        other = self._random.choice([each for each in NEEDS if each != need])
        wanted, unwanted = self._random.choice(self._said[need]), self._random.choice(self._said[other])
        frame = self._random.choice(DENYING if denies else ASKING)
        asked = frame.format(thing=self._shop.thing, things=self._shop.things, need=wanted, Need=_capital(wanted), other=unwanted)
        parts = [asked, self._random.choice(MOODS[mood])]
        if self._random.random() < 0.3:
            parts.reverse()
        if self._random.random() < 0.2:
            parts.insert(self._random.choice((0, 1, 2)), self._filled(ASIDES))
        if self._random.random() < 0.3:
            parts.insert(0, self._random.choice(GREETINGS))
        if self._random.random() < 0.25:
            parts.append(self._filled(CLOSES))
        return self._slipped(" ".join(parts))

    def _filled(self, texts: Sequence[str]) -> str:
        name = self._random.choice(NAMES)
        return self._random.choice(texts).format(
            name=name,
            person=name.rpartition(" ")[2].lower(),
            town=self._random.choice(TOWNS),
            month=self._random.choice(MONTHS),
            digits=f"{self._random.randrange(1000):03d}",
        )

    def _slipped(self, text: str) -> str:
        """One message in eight is typed in a hurry: all lower case, or with two letters swapped."""
        chance = self._random.random()
        if chance < 0.06:
            return text.lower()
        if chance < 0.125:
            place = self._random.randrange(len(text) - 2)
            return text[:place] + text[place + 1] + text[place] + text[place + 2 :]
        return text


def write(folder: Path, shops: dict[str, Shop], count: int = ROWS) -> list[Path]:
    """Writes ``count`` rows of each shop into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, shop in shops.items():
        written.append(folder / f"{name}.csv")
        with written[-1].open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(("message", "answer"))
            lines.writerows(Writer(name, shop).rows(count))
    return written


def main() -> None:
    """Writes the rows of the eight shops, or with the argument ``ninth`` those of the shop that is added later."""
    for path in write(HERE / "rows", NINTH if "ninth" in sys.argv[1:] else SHOPS):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
