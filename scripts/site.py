"""Hook of the site (``mkdocs.yml``): what a page links to outside ``docs`` stands there by its path in the repository."""

from __future__ import annotations

import re
from posixpath import join, normpath
from typing import Any


def on_page_markdown(markdown: str, *, page: Any, **_others: Any) -> str:
    """The page with each link that leaves the folder of the documentation as a name: ``[the demo](../examples/demo.py)``."""

    def named(link: re.Match[str]) -> str:
        target = normpath(join("docs", page.file.src_uri, "..", link[2].partition("#")[0]))
        inside = target.startswith("docs/") or "://" in link[2] or link[2].startswith("#")
        return link[0] if inside else f"{link[1]} (`{target}`)" if link[1].strip("`") != target else link[1]

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", named, markdown)
