"""``tailorbird export``: a release as one model that other engines load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.groups import command
from tailorbird.cli.progress import ProgressDisplay
from tailorbird.cli.session import err, open_session, out, print_json, say
from tailorbird.crypto.canonical_json import short
from tailorbird.usecases.releases.export import export_release

export = command()


@export.command()
def _export(
    digest: Annotated[str, typer.Argument(help="Digest of the release, or its prefix.", metavar="RELEASE")],
    target: Annotated[Path, typer.Argument(help="Folder to create.", metavar="TARGET")],
) -> None:
    """Export an approved release as one merged model: safetensors, config, tokenizer, chat template, model card.

    The merged model is compared with the release first; one that differs is deleted.
    """
    session = open_session()
    with ProgressDisplay(err) as progress:
        found = export_release(session.deps, session.actor("operator"), digest, target, progress)
    if session.as_json:
        print_json(found)
        return
    out.print(f"release {short(found.release)} lies in {target}: {', '.join(found.files)}", markup=False)
    if found.merged:
        close = f"{found.merged.mean_kl:.1e} nats a token, {found.merged.max_kl:.1e} at most, over {found.merged.positions} tokens"
        out.print(f"merged in {found.merged.dtype}; it differs from base and adapter by {close}", markup=False)
    say(f"next: vllm serve {target}; or convert it with llama.cpp: convert_hf_to_gguf.py {target}")


apps = {"export": export}
