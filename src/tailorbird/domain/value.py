"""Base class of domain values: frozen, closed to unknown fields, serialisable."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

#: ``sha256:`` followed by 64 hexadecimal digits: the name of some bytes or of some value.
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]

#: A name that may stand in a path, a URL and a YAML file: tenants, objectives, identities.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class Value(BaseModel):
    """A frozen value: equal by content, safe to share, refused when it carries unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Section(Value):
    """A part of the objective file. The text below a field says what it is for, here and in an editor."""

    model_config = ConfigDict(use_attribute_docstrings=True)
