"""Checks of ``deploy/`` by other people's tools: Helm renders the chart, Kubernetes' schemas take it, hadolint and systemd read the rest.

``make deploy-check`` runs it in an environment of its own, which has Helm's library, the schemas and hadolint. With ``--write`` the
rendered examples are written anew to ``deploy/helm/rendered``; the fast tests read them there, and see by a digest that they are of this
chart.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
CHART, EXAMPLES, RENDERED = (DEPLOY / "helm" / name for name in ("tailorbird", "values", "rendered"))
#: Versions of Kubernetes whose schemas are asked: the oldest that the chart names, and the newest that the tool has.
KUBERNETES = ("1.28", "1.37")
#: The highest exposure (0 to 10) that ``systemd-analyze security`` may find.
EXPOSURE = 20


def digest(example: Path) -> str:
    """SHA-256 over the chart's files and the example, with their names."""
    told = hashlib.sha256()
    for file in (*sorted(path for path in CHART.rglob("*") if path.is_file()), example):
        content = file.read_bytes()
        told.update(f"{file.relative_to(DEPLOY)} {len(content)}\n".encode() + content)
    return told.hexdigest()


def head(example: Path) -> str:
    """The first line of a rendered example."""
    return f"# The chart with values/{example.name}, rendered by `make deploy-render`. Chart and example: sha256:{digest(example)}\n"


def render(example: Path) -> str:
    """All manifests of the chart with the values of ``example``."""
    import helm_python
    import yaml

    with helm_python.Chart.load(str(CHART)) as chart:
        parts = chart.render(yaml.safe_load(example.read_text(encoding="utf-8")), name="tb", namespace="tailorbird")
    texts = [parts[name].strip() for name in sorted(parts) if any(yaml.safe_load_all(parts[name]))]
    lines = "\n---\n".join(text.removeprefix("---\n") for text in texts).splitlines()
    return head(example) + "".join(f"{line.rstrip()}\n" for line in lines)


def rendered(example: Path) -> Path:
    """Where the manifests of ``example`` are kept."""
    return RENDERED / example.name


def refusals() -> Iterator[str]:
    """Values that the chart must refuse, and does not."""
    import helm_python
    import yaml

    plain = yaml.safe_load((EXAMPLES / "plain.yaml").read_text(encoding="utf-8"))
    wrong: dict[str, dict[str, object]] = {
        "an image without a digest": {"image": {"repository": "registry.example/tailorbird"}},
        "a secret among the settings": {"settings": {"webhook_secret": "s"}},
        "a setting that the chart sets": {"settings": {"database": "sqlite:///x"}},
        "a gateway that everybody reaches": {"networkPolicy": plain["networkPolicy"] | {"callers": []}},
        "no database": {"database": {}},
        "a key that is no value": {"gatewy": {}},
        "a secret that is for nobody": {"secretEnvironment": {"TOKEN": {"secretName": "s", "key": "k"}}},
        "a secret for a role that is none": {"secretEnvironment": {"TOKEN": {"secretName": "s", "key": "k", "roles": ["gatewy"]}}},
        "an engine of another kind": {"engine": {"kind": "open"}},
    }
    with helm_python.Chart.load(str(CHART)) as chart:
        for what, values in wrong.items():
            try:
                chart.render(plain | values, name="tb", namespace="tailorbird")
            except helm_python.HelmError:
                continue
            yield f"the chart takes {what}"


def chart_problems() -> Iterator[str]:
    """What is wrong with the chart and its rendered examples."""
    for example in sorted(EXAMPLES.glob("*.yaml")):
        kept = rendered(example)
        if not kept.is_file() or kept.read_text(encoding="utf-8") != render(example):
            yield f"{kept.relative_to(ROOT)} is not what the chart renders: make deploy-render"
        tool = Path(sys.executable).with_name("kubernetes-validate")
        for version in KUBERNETES:
            yield from _run([str(tool), "--strict", "--quiet", "--no-warn", "-k", version, str(kept)])
    yield from refusals()


def image_problems() -> Iterator[str]:
    """What hadolint finds in the Containerfile."""
    yield from _run([str(Path(sys.executable).with_name("hadolint")), "--failure-threshold", "style", str(DEPLOY / "Containerfile")])


def unit_problems() -> Iterator[str]:
    """What systemd finds in the units, as if they were installed."""
    if shutil.which("systemd-analyze") is None:
        yield "systemd-analyze is not installed: the units were not checked"
        return
    with tempfile.TemporaryDirectory(prefix="tailorbird-units-") as folder:
        place = Path(folder, "etc/systemd/system")
        place.mkdir(parents=True)
        program = Path(folder, "opt/tailorbird/bin/tailorbird")
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        shutil.copytree("/usr/lib/systemd/system", Path(folder, "usr/lib/systemd/system"), symlinks=True)
        units = sorted((DEPLOY / "systemd").glob("tailorbird-*"))
        for unit in units:
            shutil.copy(unit, place)
        yield from _run(["systemd-analyze", "verify", f"--root={folder}", *(str(place / unit.name) for unit in units)], silent=True)
        for unit in (unit for unit in units if unit.suffix == ".service"):
            asked = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", f"--root={folder}", unit.name]
            yield from _run(asked)


def _run(command: list[str], *, silent: bool = False) -> Iterator[str]:
    """What a tool says that ends badly; with ``silent``, that says anything."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = (done.stdout + done.stderr).strip()
    if done.returncode or (silent and told):
        yield f"{Path(command[0]).name} {' '.join(command[1:3])}: {told[-2000:]}"


def main() -> int:
    """Exit status 1 where anything is found."""
    if "--write" in sys.argv:
        RENDERED.mkdir(exist_ok=True)
        for example in sorted(EXAMPLES.glob("*.yaml")):
            rendered(example).write_text(render(example), encoding="utf-8")
        return 0
    problems = [*chart_problems(), *image_problems(), *unit_problems()]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
