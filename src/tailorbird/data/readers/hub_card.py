"""Card of a Hugging Face hub data set: refused where it names files outside of the data set."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from tailorbird.domain.errors import DataInvalid

#: Files of a data set in which its files may be named: the card, and the same without words.
CARDS = ("README.md", ".huggingface.yaml")
#: Below these keys a card names files and folders.
_NAMING = ("data_files", "data_dir")
_FENCE = "---"


def check_card(name: str, file: str, text: str) -> None:
    """Raises DataInvalid when the card ``file`` of the data set ``name`` cannot be read, or names what lies outside of it.

    The library ``datasets`` opens whatever a card names: an absolute path is a file of the machine that reads, an address is asked with
    that machine's credentials. Whoever owns a data set could read both.
    """
    try:
        content = yaml.load(_front(text) if file.endswith(".md") else text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        raise DataInvalid(f"{name}: its card ({file}) cannot be read", "correct the card on the hub", code="file_broken") from None
    if not all(map(is_inside, _named(content))):
        raise DataInvalid(
            f"{name}: its card ({file}) names files outside of the data set",
            "name files of the same repository, by their relative paths",
            code="card_outside",
        )


def _front(text: str) -> str:
    """The YAML at the head of a card."""
    lines = text.lstrip("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != _FENCE:
        return ""
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), len(lines))
    return "\n".join(lines[1:end])


def _named(content: object) -> Iterator[str]:
    """Every text below a key that names files. What aliases lead to again is looked at once."""
    ahead, seen = [(content, False)], set[tuple[int, bool]]()
    while ahead:
        value, names_files = ahead.pop()
        if isinstance(value, str):
            if names_files:
                yield value
        elif isinstance(value, dict | list) and (id(value), names_files) not in seen:
            seen.add((id(value), names_files))
            inside = value.items() if isinstance(value, dict) else ((None, each) for each in value)
            ahead += [(each, names_files or key in _NAMING) for key, each in inside]


def is_inside(path: str) -> bool:
    """True for a relative path (or pattern) that stays below its folder, and is no address or chain of them."""
    outside = path.startswith(("/", "~")) or ":" in path or "\\" in path or ".." in path.split("/")
    return not outside
