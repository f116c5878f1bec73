"""Holds the mass of the package under a ceiling, which is lowered as the code becomes lighter.

In: src/tailorbird. Out: modules and code tokens, a line a room with --report; exit status 1 above a ceiling.

A code token is a token of Python's tokenizer without comments, docstrings and line breaks: names, layout and prose weigh nothing. A long
string weighs one for each 12 characters. Python 3.11 counts; later ones take f-strings apart, so they count more.
"""

import ast
import sys
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "src" / "tailorbird"
#: Lower them with each removal; never raise them.
MOST_MODULES, MOST_TOKENS = 370, 591_000
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.ENCODING}


def docstring_lines(tree: ast.Module) -> set[int]:
    """The lines where docstrings begin."""
    bodies = (node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list) and node.body)
    firsts = (body[0] for body in bodies if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant))
    return {first.lineno for first in firsts if isinstance(first.value.value, str)}


def code_tokens(path: Path) -> int:
    """What one module weighs."""
    documented = docstring_lines(ast.parse(path.read_text(encoding="utf-8")))
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in LAYOUT]
    strings = [token for token in tokens if token.type == tokenize.STRING]
    code = len(tokens) - len(strings)
    return code + sum(max(1, len(token.string) // 12) for token in strings if token.start[0] not in documented)


def main() -> int:
    """Weighs the package."""
    rooms: Counter[str] = Counter()
    modules = sorted(ROOT.rglob("*.py"))
    for path in modules:
        rooms[path.relative_to(ROOT).parts[0]] += code_tokens(path)
    if "--report" in sys.argv:
        for room, tokens in rooms.most_common():
            print(f"{room:16} {tokens:8,}")
    print(f"{len(modules)} modules (at most {MOST_MODULES}), {rooms.total():,} code tokens (at most {MOST_TOKENS:,})")
    if sys.version_info[:2] != (3, 11):
        return 0
    return int(len(modules) > MOST_MODULES or rooms.total() > MOST_TOKENS)


if __name__ == "__main__":
    sys.exit(main())
