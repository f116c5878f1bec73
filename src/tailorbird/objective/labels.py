"""Do the labels that KPIs, ``compare_on`` and margins name exist in the data?

In: an objective and a snapshot's manifest. Out: nothing, or the line of the metric whose label is missing. Must not know: rows.
"""

from __future__ import annotations

from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.foundations.measures import label_of
from tailorbird.foundations.text import nearest
from tailorbird.objective.faults import Fault, raise_faults
from tailorbird.objective.file import ObjectiveFile


def check_labels(file: ObjectiveFile, manifest: SnapshotManifest) -> None:
    """Raises ObjectiveInvalid at the line of each metric of a label that the data lacks, with the nearest label."""
    objective, faults = file.objective, []
    named = [(f"the KPI {kpi.metric}", kpi.metric, f"kpis.{index}.metric") for index, kpi in enumerate(objective.kpis)]
    named += [(f"`compare_on: {objective.compare_on}`", objective.compare_on, "compare_on")] if objective.compare_on else []
    named += [
        (f"the margin of {name}", name, f"margin.{name}") for name in (objective.margin if isinstance(objective.margin, dict) else ())
    ]
    for what, metric, path in named:
        label = label_of(metric)
        if label is not None and label not in manifest.label_counts:
            message = f"{what} is on the label {label!r}, which the data does not have"
            faults.append(Fault(file.line_of(path), message, _hint(label, manifest.labels)))
    raise_faults(file.source, faults)


def _hint(label: str, labels: tuple[str, ...]) -> str:
    near = nearest(label, labels)
    shown = ", ".join(labels[:20]) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
    return f"did you mean {near!r}? the data has: {shown}" if near else f"the data has: {shown}"
