"""Parameter types of use cases: how runs, releases, snapshots and people are named from outside."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

RunId = Annotated[str, Field(min_length=1, max_length=64, description="Id of the run, or how it begins.")]
ReleaseDigest = Annotated[str, Field(pattern=r"^(sha256:)?[0-9a-f]{1,64}$", description="Digest of the release, or how it begins.")]
SnapshotName = Annotated[
    str,
    Field(
        min_length=1, max_length=80, pattern=r"^[A-Za-z0-9._:-]+$", description="Digest, or how it begins; an objective; a run; a release."
    ),
]
Reason = Annotated[str, Field(max_length=2000, description="Why, in a sentence.")]
PublicKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$", description="Raw Ed25519 public key in base64.")]
#: The length of a page of a list, and how many entries are left out before it.
PageSize = Annotated[int, Field(ge=1, le=1000)]
Skip = Annotated[int, Field(ge=0, le=10_000_000)]
