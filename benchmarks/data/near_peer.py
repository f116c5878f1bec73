"""A peer over rows: run in its own environment. ``near_peer.py PEER PERMUTATIONS BANDS GRAM AGREEING`` reads a JSON list of texts on stdin.

Writes {"seconds": ..., "pairs": [[i, j], ...]}: the pairs that its index gives, of these those whose signatures agree in the share
``AGREEING`` of their places at least (its estimate of likeness; 0: not asked). Reading and writing are not counted. The texts come
normalised, and are cut into grams inside words as ours are.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np


def grams(text: str, size: int) -> list[str]:
    padded = f" {text} "
    return list({padded[at : at + size] for at in range(len(padded) - size + 1) if " " not in padded[at + 1 : at + size - 1]})


def main() -> None:
    peer, permutations, bands, size, agreeing = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
    texts = json.load(sys.stdin)
    start = time.perf_counter()
    pairs = (with_rensa if peer == "rensa" else with_datasketch)(texts, permutations, bands, size, agreeing)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "pairs": pairs}))


def with_rensa(texts: list[str], permutations: int, bands: int, size: int, agreeing: float) -> list[tuple[int, int]]:
    """Its calls for many texts at once, which are its fastest."""
    from rensa import RMinHash, RMinHashLSH

    signatures = RMinHash.from_token_sets([grams(text, size) for text in texts], permutations, 42)
    index = RMinHashLSH(threshold=0.5, num_perm=permutations, num_bands=bands)
    index.insert_pairs(list(enumerate(signatures)))
    found = index.query_all(signatures)
    if not agreeing:
        return [(other, place) for place, others in enumerate(found) for other in others if other < place]
    digests_NP = np.array([signature.digest() for signature in signatures], dtype=np.uint32)
    pairs: list[tuple[int, int]] = []
    for place, others in enumerate(found):
        others_K = np.array(others, dtype=np.intp)
        others_K = others_K[others_K < place]
        agree_K = (digests_NP[others_K] == digests_NP[place]).mean(axis=1) >= agreeing
        pairs += [(other, place) for other in others_K[agree_K].tolist()]
    return pairs


def with_datasketch(texts: list[str], permutations: int, bands: int, size: int, agreeing: float) -> list[tuple[int, int]]:
    from datasketch import MinHash, MinHashLSH

    index, pairs = MinHashLSH(num_perm=permutations, params=(bands, permutations // bands)), list[tuple[int, int]]()
    signatures: list[MinHash] = []
    for place, text in enumerate(texts):
        signature = MinHash(num_perm=permutations)
        signature.update_batch([gram.encode() for gram in grams(text, size)])
        pairs += [(other, place) for other in index.query(signature) if not agreeing or signatures[other].jaccard(signature) >= agreeing]
        index.insert(place, signature)
        signatures.append(signature)
    return pairs


if __name__ == "__main__":
    main()
