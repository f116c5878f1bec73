"""Base models on this machine: a Hugging Face folder or a GGUF file, read by a confined process.

Base models of the Hugging Face hub: ``hf://OWNER/NAME[@REVISION]``.

Only safetensors, configuration and tokenizer are downloaded: a pickle or code of the model's own never reaches this machine. The library
``huggingface_hub`` does it, from the hub or from a mirror that ``HF_ENDPOINT`` names.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from tailorbird.base_models.model_cache import ModelCache
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.base_model import CatalogueEntry, ModelSource
from tailorbird.domain.endpoint import OF_WORKER
from tailorbird.domain.errors import Corrupt, ModelInvalid, Unavailable
from tailorbird.system.files import digest_file
from tailorbird.system.outward_access import grant_for
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, call

#: A header of weights of the largest size that the format allows takes less memory than this, and far less time.
_LOOKING = SandboxLimits(memory=3 << 30, processor=30, wait=80.0, output=16 << 20)


def job_for(folder: Path, target: str) -> SandboxJob:
    """Sandbox job that runs ``target`` on ``folder``; no tensor is loaded."""
    given = {"folder": str(folder.absolute())}
    return SandboxJob(target, given, _LOOKING, folder.name, ModelInvalid, (target.partition(":")[0],), broken="model_config")


_PICKLED = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
_FILES = {".safetensors", ".json", ".jinja", ".model", ".txt", ".gguf"}


def check_source(path: Path) -> None:
    """Raises ModelInvalid when ``path`` is neither a GGUF file nor a folder with safetensors and a plain config."""
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelInvalid(f"{path.name} is not a model file", "give a .gguf file or a folder with safetensors")
        return
    check_code(path)
    check_weights(path.name, {item.suffix for item in path.iterdir() if item.is_file()})


def check_code(folder: Path) -> None:
    """Raises ModelInvalid when the model in ``folder`` has no readable config, or one that asks to run code of its own."""
    call(job_for(folder, f"{__name__}:code"))


def code(given: dict[str, Any]) -> Iterator[Any]:
    """In a confined process: as ``check_code``."""
    folder = Path(given["folder"])
    if "auto_map" in _read_json(folder, "config.json") or "auto_map" in _read_json(folder, "tokenizer_config.json", needed=False):
        raise ModelInvalid(
            f"the model in {folder.name} asks to run code of its own (auto_map)",
            "tailorbird never runs a model's own code: use a model whose architecture transformers knows",
            code="model_unsafe",
        )
    yield True


def check_weights(name: str, suffixes: Collection[str]) -> None:
    """Raises ModelInvalid when, of files with these ``suffixes``, none can hold weights, or only a pickle can."""
    if ".safetensors" in suffixes:
        return
    if not _PICKLED.isdisjoint(suffixes):
        raise ModelInvalid(
            f"the weights in {name} are pickled; loading them could run code",
            "convert the model to safetensors where you trust it, and give that folder",
            code="model_unsafe",
        )
    raise ModelInvalid(f"there are no weights in {name}", "give a folder that holds *.safetensors", code="model_unreadable")


def _read_json(folder: Path, name: str, *, needed: bool = True) -> dict[str, Any]:
    path = folder / name
    if not path.is_file() and not needed:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelInvalid(
            f"{folder.name} has no readable {name}", "give a model folder in Hugging Face form", code="model_config"
        ) from error
    return content if isinstance(content, dict) else {}


def source_id(path: Path) -> str:
    """Twelve hex digits of a hash over file names, sizes and modification times; contents are not read."""
    # Modules of an encoder lie in folders beside its config.
    found = [path] if path.is_file() else [item for item in (*path.iterdir(), *path.glob("*/*")) if item.suffix in _FILES]
    stats = {str(item.relative_to(path)): [item.stat().st_size, str(item.stat().st_mtime_ns)] for item in sorted(found)}
    return short(digest_of({"path": str(path.resolve()), "files": stats}))


def source_name(path: Path) -> str:
    """A short name for a local model, made from its path."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", path.resolve().stem.lower() if path.is_file() else path.resolve().name.lower())
    return plain.strip("._-")[:40] or "model"


#: Bytes that are read of a file for a licence: keys of a GGUF file that concern the whole of it come first.
_MOST = 1 << 16
_NAME = re.compile(r"(?!other$)[A-Za-z0-9][\w.+-]{0,60}", re.ASCII)
_IN_CARD = re.compile(r"^licen[cs]e(?:_name)?:[ \t]*(?:\n[ \t]*-[ \t]*)?[\"']?([^\s\"'#]+)", re.MULTILINE)
_IN_GGUF = struct.pack("<Q", 15) + b"general.license" + struct.pack("<I", 8)


def licence_of(path: Path) -> str:
    """Licence of the model in the folder, or GGUF file, ``path``, as its card or its config names it; or "unknown"."""
    return str(call(job_for(path, f"{__name__}:licence")))


def licence(given: dict[str, Any]) -> Iterator[Any]:
    """In a confined process: as ``licence_of``."""
    path = Path(given["folder"])
    names = [_of_gguf(path)] if path.is_file() else [*_of_card(path), _of_config(path)]
    yield next((name for name in names if _NAME.fullmatch(name)), "unknown")


def _head(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return stream.read(_MOST).decode("utf-8", errors="replace").replace("\r\n", "\n")


def _of_gguf(path: Path) -> str:
    with path.open("rb") as stream:
        value = stream.read(_MOST).partition(_IN_GGUF)[2]
    return value[8 : 8 + int.from_bytes(value[:8], "little")].decode("ascii", errors="replace")


def _of_card(folder: Path) -> list[str]:
    front = re.match(r"---\s*\n(.*?)\n---", _head(folder / "README.md"), re.DOTALL)
    return _IN_CARD.findall(front[1]) if front else []


def _of_config(folder: Path) -> str:
    with suppress(ValueError, RecursionError, AttributeError):
        return str(json.loads(_head(folder / "config.json")).get("license", ""))
    return ""


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
_HUB_NAME = re.compile(rf"hf://(?!datasets/|spaces/)(?P<repository>{_PART}/{_PART})(?:@(?P<revision>{_PART}(?:/{_PART})*))?")


def is_name(name: str) -> bool:
    """True where ``name`` is a hub model name."""
    return _HUB_NAME.fullmatch(name) is not None


def resolve(name: str) -> CatalogueEntry:
    """The entry of the model ``name``, pinned to the commit that its revision stands for now (``source.version``).

    Raises ModelInvalid (name that does not read as one, no such model or revision), Forbidden (submitted work, and no place of its tenant
    covers it), Unavailable (library, network or access missing).
    """
    found = _HUB_NAME.fullmatch(name)
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
        # Large files are listed with their SHA-256.
        path = folder / sibling.rfilename
        if sibling.lfs is None or not path.is_file():
            pass
        elif digest_file(path) != f"sha256:{sibling.lfs['sha256']}":
            path.unlink()
            raise Corrupt(f"{path.name} of {entry.title} is not what the hub lists", "pull the model again", code="model_corrupt")


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
