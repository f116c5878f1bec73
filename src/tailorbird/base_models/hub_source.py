"""Base models of the Hugging Face hub: ``hf://OWNER/NAME[@REVISION]``.

Only safetensors, configuration and tokenizer are downloaded: a pickle or code of the model's own never reaches this machine. The library
``huggingface_hub`` does it, from the hub or from a mirror that ``HF_ENDPOINT`` names.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from tailorbird.base_models.local_source import check_code, check_weights
from tailorbird.base_models.model_cache import ModelCache
from tailorbird.domain.allowed_places import OF_WORKER
from tailorbird.domain.base_model import CatalogueEntry, ModelSource
from tailorbird.domain.errors import Corrupt, ModelInvalid, Unavailable
from tailorbird.system.files import digest_file
from tailorbird.system.outward_access import grant_for

PREFIX = "hf://"

#: What says how the model and its tokenizer are made.
_PLAIN = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
)
_WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")
#: Pooling and linear layers of an encoder, in folders beside its config.
_MODULES = ("[0-9]_*/config.json", "[0-9]_*/model.safetensors")

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_NAME = re.compile(rf"hf://(?!datasets/|spaces/)(?P<repository>{_PART}/{_PART})(?:@(?P<revision>{_PART}(?:/{_PART})*))?")


def is_name(name: str) -> bool:
    """True where ``name`` is a hub model name."""
    return _NAME.fullmatch(name) is not None


def resolve(name: str) -> CatalogueEntry:
    """The entry of the model ``name``, pinned to the commit that its revision stands for now (``source.version``).

    Raises ModelInvalid (name that does not read as one, no such model or revision), Forbidden (submitted work, and no place of its tenant
    covers it), Unavailable (library, network or access missing).
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ModelInvalid(
            f"{name[:200]} is no model of the hub", "write hf://OWNER/NAME or hf://OWNER/NAME@REVISION", code="model_unknown"
        )
    repository = found["repository"]
    token = token_for(name)
    with _explained(name):
        info = _info(repository, found["revision"], token)
    source = ModelSource(kind="hub", location=repository, version=info.sha)
    return CatalogueEntry(name=name, title=repository, license=_license(info), parameters=_parameters(info), source=source)


def token_for(name: str) -> str | bool | None:
    """What the model ``name`` is read with: None, what the library finds around it; False, nothing. Raises Forbidden, Unavailable."""
    grant = grant_for(name)
    return None if grant is None or grant.credential == OF_WORKER else grant.options.get("token", False)


def cache_for(name: str, cache: ModelCache) -> ModelCache:
    """Where the model ``name`` is kept. Of the hub's, those that submitted work reads with another credential than the worker's lie apart
    for each: nobody is given what was read with somebody else's. Raises Forbidden, Unavailable."""
    grant = grant_for(name) if name.startswith(PREFIX) else None
    if grant is None or grant.credential == OF_WORKER:
        return cache
    return ModelCache(cache.own / "by-credential" / grant.credential)


def download(entry: CatalogueEntry, folder: Path, progress: Callable[[str], None]) -> None:
    """The files of the pinned commit into ``folder``; what a killed process has left there is gone on with.

    Raises ModelInvalid (pickled, code of its own), Unavailable, Corrupt (a file is not the one that the hub lists).
    """
    source, token = entry.source, token_for(entry.name)
    with _explained(entry.name):
        info = _info(source.location, source.version, token)
        names = {sibling.rfilename for sibling in info.siblings or ()}
        loadable = {name for name in names if not name.endswith(".safetensors") or fnmatchcase(name, _WEIGHTS[0])}
        check_weights(source.location, {PurePosixPath(name).suffix for name in loadable if "/" not in name})
        _fetch(source, folder, _PLAIN, token)
        check_code(folder)
        progress(f"downloading {source.location} at {source.version[:12]}")
        _fetch(source, folder, _WEIGHTS, token)
        _fetch(source, folder, _MODULES, token, ignored=())
    for sibling in info.siblings or ():
        _check_bytes(folder / sibling.rfilename, sibling, entry)


def _info(repository: str, revision: str | None, token: str | bool | None) -> Any:
    from huggingface_hub import HfApi, constants

    constants.HF_HUB_DISABLE_TELEMETRY = True  # otherwise each request tells the hub what is installed here
    return HfApi(token=token).model_info(repository, revision=revision, files_metadata=True)


def _fetch(
    source: ModelSource, folder: Path, patterns: tuple[str, ...], token: str | bool | None, ignored: tuple[str, ...] = ("*/*",)
) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    snapshot_download(
        source.location,
        revision=source.version,
        local_dir=folder,
        allow_patterns=list(patterns),
        ignore_patterns=list(ignored),
        token=token,
    )


def _parameters(info: Any) -> int:
    """As the hub counts them in the headers of the weights; 0 where it says nothing."""
    return int(getattr(getattr(info, "safetensors", None), "total", 0) or 0)


def _license(info: Any) -> str:
    """As the model's card gives it; the hub repeats it as a tag."""
    tags = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    return tags[0] if tags else "unknown"


def _check_bytes(path: Path, sibling: Any, entry: CatalogueEntry) -> None:
    """Large files are listed with their SHA-256."""
    if sibling.lfs is None or not path.is_file():
        return
    if digest_file(path) != f"sha256:{sibling.lfs['sha256']}":
        path.unlink()
        raise Corrupt(f"{path.name} of {entry.title} is not what the hub lists", "pull the model again", code="model_corrupt")


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What the library says, as an error of ours."""
    try:
        from huggingface_hub import errors as hub
    except ImportError as error:
        hint = 'pip install "tailorbird[local]"'
        raise Unavailable("models of the hub need huggingface_hub", hint, code="package_missing") from error
    try:
        yield
    except hub.GatedRepoError as error:
        hint = "ask for access on the model's page of the hub, and set HF_TOKEN"
        raise ModelInvalid(f"{name}: the owner has not given access", hint, code="model_gated") from error
    except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError) as error:
        hint = "check owner, name and revision; what is private needs a token in HF_TOKEN"
        raise ModelInvalid(f"{name}: the hub has no such model", hint, code="model_unknown") from error
    except _no_answer() as error:
        hint = "check the network and HF_ENDPOINT (HF_HUB_OFFLINE must not be set), or set base_model to a local folder with safetensors"
        raise Unavailable(f"{name}: the hub cannot be reached ({type(error).__name__})", hint, code="hub_unreachable") from error


def _no_answer() -> tuple[type[Exception], ...]:
    """What says that the hub was not asked, or did not answer: the library speaks through httpx, or through the httpx2 that follows it."""
    return (OSError, *(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules))
