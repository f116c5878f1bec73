"""The chat template that an objective asks for: a known one, or that of a file beside the objective."""

from __future__ import annotations

from pathlib import Path

from tailorbird.chat.templates import TEMPLATES
from tailorbird.domain.errors import Forbidden, ModelInvalid
from tailorbird.domain.objective import Objective
from tailorbird.system.outward_access import is_bounded

#: Bytes of a template: those of published models have a few thousand.
_MOST = 1 << 18


def chat_template_of(objective: Objective, folder: Path) -> str | None:
    """The text of the template; None where the base model's own is used.

    Raises ModelInvalid (``chat_template``: no such file, or one that is no text of at most 256 KiB), Forbidden for a file that did
    not come with submitted work.
    """
    name = objective.chat_template
    if name is None or name in TEMPLATES:
        return None if name is None else TEMPLATES[name]
    if is_bounded() and (Path(name).is_absolute() or ".." in Path(name).parts):
        raise Forbidden(f"{name} did not come with the objective", "upload it", code="upload_missing")
    try:
        with (folder / name).open("rb") as file:
            content = file.read(_MOST + 1)
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise _missing(name, "cannot be read as text") from error
    if len(content) > _MOST:
        raise _missing(name, "is larger than 256 KiB")
    return text


def _missing(name: str, why: str) -> ModelInvalid:
    known = ", ".join(TEMPLATES)
    hint = f"give the path of a .jinja file, relative to the folder of the objective; or one of {known}"
    return ModelInvalid(f"the chat template {name} {why}", hint, code="chat_template")
