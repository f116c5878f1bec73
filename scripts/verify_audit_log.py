#!/usr/bin/env python3
"""Verifies an exported audit log on its own: Python's standard library and `cryptography`, nothing of tailorbird.

    python verify_audit_log.py log.jsonl --checkpoints kept.jsonl --key 'tailorbird/log+1a2b3c4d+Ae...'

What it takes
    log.jsonl      one JSON object a line: {"index": 0, "leaf_hash": "<hex>", "body": "<the event's canonical JSON, as text>"}
    --checkpoints  files of signed notes (https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint): a note itself, or one JSON object
                   a line with a "note". Best those that were kept off the machine on which the log is written.
    --key          a public key of the log, as a C2SP verifier key (name+hash+base64) or as 32 bytes in base64: the newest that you got
                   from elsewhere than the log's machine, and never one that leaked

What it shows, if it finds no problem
    1. The entries are numbered 0, 1, 2 ... without a gap, and each leaf hash is SHA-256(0x00 ‖ body).
    2. Each note was signed with the key that the log had at its size: the one given, or one to which changes of the key lead from there.
       A change is an entry that the key before and the key after both signed. What a former key signed counts as far as a note by
       the key after it covers the change: whoever holds a key that leaked cannot begin another log with it.
    3. The Merkle tree (RFC 6962) over the first n entries has the root that the note for size n states. So no entry up to the newest
       note was changed, moved, added or taken away since that note was signed.

It exits with 0 when everything holds, with 1 when anything does not, with 2 when it was called wrongly. It reads the log as a stream.
"""

import argparse
import base64
import binascii
import hashlib
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ED25519 = b"\x01"
#: The event of a change of the log's key.
ROTATED = "log.key_rotated"


class Key(NamedTuple):
    """The log's public key; `name` is empty where it was given without one."""

    name: str
    public: bytes


class Term(NamedTuple):
    """A public key of the log, the sizes of the log (from, up to) at which it signs, and for a former one the key whose notes it needs."""

    public: bytes
    begin: float
    end: float
    after: bytes = b""


class Head(NamedTuple):
    """What a signed note states: the log had `size` entries, and `root` (32 bytes) was the root over them."""

    size: int
    root: bytes
    key: bytes = b""


class Tree:
    """The tree of RFC 6962 (section 2.1). It grows by a leaf at a time and remembers the roots of its complete subtrees, largest first."""

    def __init__(self) -> None:
        self.size = 0
        self.subtrees: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Two complete subtrees of the same size become one of twice the size, as a carry does in binary addition."""
        number = self.size
        while number & 1:
            leaf = node_hash(self.subtrees.pop(), leaf)
            number >>= 1
        self.subtrees.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        if not self.subtrees:
            return hashlib.sha256(b"").digest()
        *larger, root = self.subtrees
        for subtree in reversed(larger):
            root = node_hash(subtree, root)
        return root


def leaf_hash(body: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def read_key(text: str) -> Key:
    """Raises ValueError for what is no key."""
    found = re.fullmatch(r"([^\s+]+)\+([0-9a-f]{8})\+(\S+)", text)
    name, stated_hash, encoded = found.groups() if found else ("", "", text)
    public = base64.b64decode(encoded, validate=True)
    if found:
        if public[:1] != ED25519 or key_hash(name, public[1:]).hex() != stated_hash:
            raise ValueError("the verifier key does not have the hash that it states, or is not an Ed25519 key")
        public = public[1:]
    Ed25519PublicKey.from_public_bytes(public)
    return Key(name, public)


def key_hash(name: str, public: bytes) -> bytes:
    """The first four bytes of SHA-256(name ‖ newline ‖ 0x01 ‖ public key): how a signature line tells whose it is."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public).digest()[:4]


def notes_in(file: Path) -> list[str]:
    """The text of every note in a file. A line that is cut off (the power failed while it was written) is no note and proves nothing."""
    text = file.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("{"):
        return [text]
    notes = []
    for line in text.rstrip("\n").split("\n"):
        try:
            notes.append(str(json.loads(line)["note"]))
        except (ValueError, KeyError, TypeError):
            print(f"note: {file} has a line that is no checkpoint", file=sys.stderr)
    return notes


def rotations_in(log: Path) -> list[tuple[int, bytes, bytes]]:
    """(index, key before, key after) of each change of the key that both of them signed."""
    found = []
    with log.open("rb") as lines:
        for line in lines:
            if ROTATED.encode() not in line:
                continue
            try:
                entry = json.loads(line)
                event = json.loads(entry["body"])
                data, index = event["data"], int(entry["index"])
                keys = {"former": data["former"], "public": data["public"]}
                former, public = (base64.b64decode(key, validate=True) for key in keys.values())
                digest = hashlib.sha256(json.dumps(keys, separators=(",", ":"), sort_keys=True).encode()).hexdigest()
                message = f"tailorbird/log-key/v1\nsha256:{digest}\n".encode()
                for key, by in ((former, "signed_by_former"), (public, "signed_by_new")):
                    Ed25519PublicKey.from_public_bytes(key).verify(base64.b64decode(data[by], validate=True), message)
            except (ValueError, KeyError, TypeError, InvalidSignature):
                continue  # no change of the key; that the entry is whole is judged by its leaf hash
            if event.get("kind") == ROTATED:
                found.append((index, former, public))
    return found


def terms_of(key: bytes, rotations: list[tuple[int, bytes, bytes]]) -> list[Term]:
    """The given key and all that lead from it, back and onwards. A change is the last thing that the key before vouches for."""
    first = next((number for number, (_, former, _) in enumerate(rotations) if former == key), len(rotations))
    terms, begun = [Term(key, 0, math.inf)], key
    for index, former, public in rotations[first:]:  # onwards
        if former == begun:
            terms[-1] = terms[-1]._replace(end=index)
            terms.append(Term(public, index, math.inf))
            begun = public
    begun = key
    for index, former, public in reversed(rotations[:first]):  # back
        if public == begun:
            place = next(number for number, term in enumerate(terms) if term.public == public and term.begin == 0)
            terms[place] = terms[place]._replace(begin=index)
            terms.append(Term(former, 0, index, public))
            begun = former
    return terms


def read_head(note: str, name: str, terms: list[Term]) -> Head:
    """What a note states, after its signature was checked. Raises ValueError."""
    text, blank, signatures = note.rpartition("\n\n")
    lines = text.split("\n")
    if not blank or len(lines) < 3 or not re.fullmatch(r"0|[1-9][0-9]*", lines[1]):
        raise ValueError("a checkpoint is not a signed note of a log's head")
    origin, size = lines[0], int(lines[1])
    if name not in ("", origin):
        raise ValueError(f"the checkpoint over {size} entries is of the log {origin}, not of {name}")
    keys = [term.public for term in terms if term.begin <= size <= term.end]
    signed = next((key for key in keys if any(is_signed(text + "\n", line, origin, key) for line in signatures.split("\n"))), None)
    if signed is None:
        raise ValueError(f"the checkpoint over {size} entries is not signed with the key of this log")
    return Head(size, base64.b64decode(lines[2]), signed)


def is_signed(text: str, line: str, origin: str, public: bytes) -> bool:
    """True when `line` ("— name base64(key hash ‖ signature)") is a signature over `text` by this key."""
    found = re.fullmatch(r"— (\S+) (\S+)", line)
    try:
        blob = base64.b64decode(found[2], validate=True) if found and found[1] == origin else b""
        Ed25519PublicKey.from_public_bytes(public).verify(blob[4:], text.encode())
    except (binascii.Error, InvalidSignature):
        return False
    return blob[:4] == key_hash(origin, public)


def check_log(log: Path, heads: list[Head]) -> Iterator[str]:
    """Every problem that the entries show, in order; the last entry that can be read ends it."""
    tree = Tree()
    yield from disagreements(tree, heads)
    with log.open("rb") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
                index, stated, leaf = entry["index"], entry["leaf_hash"], leaf_hash(entry["body"].encode())
            except (ValueError, TypeError, KeyError, AttributeError):
                yield f"line {tree.size + 1} is not an entry of a log"
                return
            if index != tree.size:
                yield f"entry {tree.size} is missing: the next one is numbered {index}"
                return
            if leaf.hex() != stated:
                yield f"entry {index} was changed: its body does not have the leaf hash beside it"
            tree.append(leaf)
            yield from disagreements(tree, heads)
    yield from (f"the checkpoint over {head.size} entries covers more than the {tree.size} here" for head in heads if head.size > tree.size)


def disagreements(tree: Tree, heads: list[Head]) -> Iterator[str]:
    for head in heads:
        if head.size == tree.size and head.root != tree.root():
            yield f"the checkpoint over {head.size} entries states another root than they have"


def check(log: Path, checkpoints: list[Path], key: Key) -> tuple[list[str], list[Head]]:
    """The problems, and the heads that the key signed. Raises OSError."""
    heads, problems, terms = [], [], terms_of(key.public, rotations_in(log))
    for note in (note for file in checkpoints for note in notes_in(file)):
        try:
            heads.append(read_head(note, key.name, terms))
        except ValueError as problem:
            problems.append(str(problem))
    for term in terms:
        is_used = term.after and any(head.key == term.public for head in heads)
        if is_used and not any(head.key == term.after and head.size > term.end for head in heads):
            problems.append(f"the log's key was changed at entry {term.end}, and no checkpoint by the key after that covers the change")
    if not heads:
        problems.append("no signed checkpoint: without one, nothing shows that the log is the one that was written")
    return problems + list(check_log(log, heads)), heads


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Verifies an exported audit log against signed checkpoints.")
    parser.add_argument("log", type=Path, help="the exported log")
    parser.add_argument("--checkpoints", type=Path, nargs="+", required=True, help="files of signed notes")
    parser.add_argument("--key", required=True, help="the public key of the log (verifier key, or base64)")
    given = parser.parse_args(arguments)
    try:
        problems, heads = check(given.log, given.checkpoints, read_key(given.key))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    for problem in problems[:20]:
        print(f"PROBLEM  {problem}")
    print(f"{len(problems)} problems; {len(heads)} checkpoints, the newest over {max(heads, default=Head(0, b'')).size} entries")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
