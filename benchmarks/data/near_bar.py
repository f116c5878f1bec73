"""Near-duplicates: recall and precision on what is planted in Banking77, and the time of the step beside a peer at the same recall."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from peers import python_of, versions
from rows import MISSES, PLANTED, banking77, made_rows, typos

from support.disjoint_sets import Forest
from tailorbird.data.duplicates import near_duplicates
from tailorbird.text.words import normalise

HERE = Path(__file__).resolve().parent
SEED = 7
#: Settings of the peers that are tried, from fast to thorough: permutations, bands, characters of a gram, places that must agree.
SETTINGS = {
    "rensa": ((64, 16, 3, 0), (128, 32, 3, 0), (128, 32, 3, 0.45)),
    "datasketch": ((128, 32, 3, 0),),
}
#: By so much a peer may find less, and its recall still counts as the same.
SLACK = 0.005


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    print(json.dumps(planted() | against_peers(20_000 if given.quick else 200_000, given.quick)))


def planted() -> dict[str, object]:
    """Each kind of change is planted on 500 messages; each kind of near-miss, too."""
    drawn = random.Random(SEED)
    texts = sorted({normalise(text) for text, _ in banking77()})
    long_enough = [text for text in texts if len(text.split()) >= 5]
    pairs = {kind: [(text, normalise(change(text, drawn))) for text in drawn.sample(texts, 500)] for kind, change in PLANTED.items()}
    misses = {
        kind: [(text, normalise(change(text, drawn.choice(long_enough), drawn))) for text in drawn.sample(long_enough, 500)]
        for kind, change in MISSES.items()
    }
    everything = list(dict.fromkeys([*texts, *(text for made in (*pairs.values(), *misses.values()) for _, text in made)]))
    joined = _joined(everything, near_duplicates(everything))
    recalls = {kind: sum(joined(*pair) for pair in found) / len(found) for kind, found in pairs.items()}
    alarms = {kind: sum(joined(*pair) for pair in found) / len(found) for kind, found in misses.items()}
    hits, wrong = sum(recalls.values()) * 500, sum(alarms.values()) * 500
    recall, precision = sum(recalls.values()) / len(recalls), hits / (hits + wrong)
    return {
        "near_duplicates_recall": {
            "value": round(recall, 4),
            "bar": 0.95,
            "unit": "share",
            "holds": recall >= 0.95,
            "by_kind": {kind: round(rate, 4) for kind, rate in recalls.items()},
        },
        "near_duplicates_precision": {
            "value": round(precision, 4),
            "bar": 0.95,
            "unit": "share",
            "holds": precision >= 0.95,
            "joined_misses": {kind: round(rate, 4) for kind, rate in alarms.items()},
        },
    }


def _joined(texts: list[str], pairs: list[tuple[int, int]]):  # type: ignore[no-untyped-def]
    place, forest = {text: number for number, text in enumerate(texts)}, Forest(len(texts))
    for one, other in pairs:
        forest.join(one, other)
    return lambda one, other: one == other or forest.joined(place[one], place[other])


def against_peers(count: int, quick: bool) -> dict[str, object]:
    """The same rows, with 2,000 planted near-copies and 2,000 planted near-misses, which are counted on both sides."""
    drawn = random.Random(SEED)
    texts = list(dict.fromkeys(normalise(text) for text, _ in made_rows(count, SEED)))
    planted_pairs = [(text, normalise(typos(text, drawn))) for text in drawn.sample(texts, 2000)]
    long_enough = [text for text in texts if len(text.split()) >= 5]
    misses = [
        (text, normalise(change(text, drawn.choice(long_enough), drawn)))
        for text, change in zip(drawn.sample(long_enough, 2000), list(MISSES.values()) * 2000, strict=False)
    ]
    texts = list(dict.fromkeys([*texts, *(made for _, made in (*planted_pairs, *misses))]))
    start = time.perf_counter()
    pairs = near_duplicates(texts)
    seconds = time.perf_counter() - start
    recall, joined = _shares(texts, pairs, planted_pairs, misses)
    print(f"ours: {seconds:.1f} s, recall {recall:.4f}, near-misses joined {joined:.4f}, {len(texts):,} rows", file=sys.stderr)
    tried = [tried for peer in SETTINGS for tried in _peer_runs(peer, texts, (planted_pairs, misses), quick)]
    equal = [run for run in tried if run["recall"] >= recall - SLACK]
    best = min(equal or tried, key=lambda run: run["seconds"])
    return {
        "near_step_vs_best_peer": {
            "value": round(best["seconds"] / seconds, 2),
            "bar": 1.0,
            "unit": "times as fast, at the same recall",
            "holds": bool(equal) and best["seconds"] > seconds,
            "rows": len(texts),
            "seconds": round(seconds, 1),
            "recall": round(recall, 4),
            "misses_joined": round(joined, 4),
            "peers": tried,
            "versions": versions("near"),
        }
    }


def _peer_runs(
    peer: str, texts: list[str], known: tuple[list[tuple[str, str]], list[tuple[str, str]]], quick: bool
) -> list[dict[str, object]]:
    """Its settings in turn."""
    runs: list[dict[str, object]] = []
    for setting in SETTINGS[peer] if not quick else SETTINGS[peer][:2]:
        command = [str(python_of("near")), str(HERE / "near_peer.py"), peer, *map(str, setting)]
        done = subprocess.run(command, input=json.dumps(texts), check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout)
        recall, joined = _shares(texts, found["pairs"], *known)
        runs.append(
            {
                "peer": peer,
                "setting": setting,
                "seconds": round(found["seconds"], 1),
                "recall": round(recall, 4),
                "misses_joined": round(joined, 4),
                "pairs": len(found["pairs"]),
            }
        )
        print(runs[-1], file=sys.stderr)
    return runs


def _shares(texts: list[str], pairs: list[tuple[int, int]], *known: list[tuple[str, str]]) -> list[float]:
    """How many of each list of pairs are joined, as shares."""
    joined = _joined(texts, [tuple(pair) for pair in pairs])  # type: ignore[misc]
    return [sum(joined(*pair) for pair in some) / len(some) for some in known]


if __name__ == "__main__":
    main()
