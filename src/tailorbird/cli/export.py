"""``tailorbird export``: a release as a model or adapter that other engines load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.groups import command
from tailorbird.cli.progress import ProgressDisplay
from tailorbird.cli.session import err, open_session, out, print_json, say
from tailorbird.crypto.canonical_json import short
from tailorbird.ports.model_reader import GgufPrecision
from tailorbird.usecases.releases.export import ExportForm, ExportFormat, ExportPart, export_release

export = command()


@export.command()
def _export(
    digest: Annotated[str, typer.Argument(help="Digest of the release, or its prefix.", metavar="RELEASE")],
    target: Annotated[Path, typer.Argument(help="Folder to create.", metavar="TARGET")],
    format_: Annotated[ExportFormat, typer.Option("--format", help="Hugging Face form, or a file for llama.cpp.")] = "safetensors",
    part: Annotated[ExportPart, typer.Option(help="One model, the adapter alone, or the base model that adapters are for.")] = "merged",
    precision: Annotated[GgufPrecision, typer.Option(help="Weights in a GGUF file; held: as they are, nothing is rounded.")] = "held",
) -> None:
    """Export an approved release as one merged model: safetensors, config, tokenizer, chat template, model card; or as GGUF.

    What is written is compared with the release first; one that differs is deleted.
    """
    session = open_session()
    form = ExportForm(format=format_, part=part, precision=precision)
    with ProgressDisplay(err) as progress:
        found = export_release(session.deps, session.actor("operator"), digest, target, progress, form)
    if session.as_json:
        print_json(found)
        return
    out.print(f"release {short(found.release)} lies in {target}: {', '.join(found.files)}", markup=False)
    if found.merged:
        close = f"{found.merged.mean_kl:.1e} nats a token, {found.merged.max_kl:.1e} at most, over {found.merged.positions} tokens"
        out.print(f"merged in {found.merged.dtype}; it differs from base and adapter by {close}", markup=False)
    if found.gguf and found.gguf.positions:
        close = f"{found.gguf.mean_kl:.1e} nats a token, {found.gguf.max_kl:.1e} at most, over {found.gguf.positions} tokens"
        out.print(f"written as {found.gguf.architecture}; read back, it differs from that by {close}", markup=False)
    say(f"next: {_next(target, form)}")


def _next(target: Path, form: ExportForm) -> str:
    """The command that serves what was written."""
    if form.format == "gguf":
        if form.part == "adapter":
            return (
                f"export the base once (--format gguf --part base), then: llama-server --model BASE/base.gguf --lora {target}/adapter.gguf"
            )
        return f"llama-server --model {target}/{'base' if form.part == 'base' else 'model'}.gguf"
    return f"serve {target} on its base: vllm serve BASE --enable-lora" if form.part == "adapter" else f"vllm serve {target}"


apps = {"export": export}
