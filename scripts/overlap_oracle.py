"""Writes tests/text/overlap_oracle.json: what rouge-score and sacrebleu say about pairs of texts.

In: nothing; run it where ``rouge-score==0.1.2`` and ``sacrebleu==2.5.1`` are installed. Out: the file that our own ROUGE-L and chrF are
tested against, so that neither library (nor what it brings along) is needed to test.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

TEXTS = (
    "The parcel was delivered to a neighbour on Tuesday.",
    "Your refund of 12.50 EUR will arrive within five working days.",
    "Restart the router, wait a minute, and try again.",
    "I am sorry, but I cannot help with that.",
    "Der Brief liegt seit gestern beim Nachbarn – bitte klingeln!",
    "naïve café, jalapeño & crème brûlée",
    "A",
    "Yes.",
    "42",
    "The contract ends on 31 March 2026 unless both parties renew it in writing.",
    "we do not ship to that country yet we do not ship to that country yet",
)


def pairs() -> list[tuple[str, str]]:
    """Each text against itself, others, and changed copies of itself."""
    random, found = Random(20), []
    for text in TEXTS:
        words = text.split()
        shuffled = random.sample(words, len(words))
        kept = [word for word in words if random.random() < 0.6] or words[:1]
        doubled = [word for word in words for _ in range(random.choice((1, 1, 2)))]
        found += [(text, text), (" ".join(shuffled), text), (" ".join(kept), text), (" ".join(doubled), text)]
        found += [(text, random.choice(TEXTS)) for _ in range(3)]
    return found


def main() -> None:
    rouge, chrf = RougeScorer(["rougeL"]), CHRF(eps_smoothing=False)
    rows = [
        {
            "answer": answer,
            "target": target,
            "rouge_l": rouge.score(target, answer)["rougeL"].fmeasure,
            "chrf": chrf.sentence_score(answer, [target]).score / 100,
        }
        for answer, target in pairs()
    ]
    place = Path(__file__).parents[1] / "tests" / "text" / "overlap_oracle.json"
    place.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
