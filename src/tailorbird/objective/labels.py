"""Do the labels that KPIs name exist in the data?

In: an objective and a snapshot's manifest. Out: nothing, or the line of the KPI whose label is missing. Must not know: rows.
"""

from __future__ import annotations

from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.foundations.text import nearest
from tailorbird.objective.catalogue import parse_metric
from tailorbird.objective.faults import Fault, raise_faults
from tailorbird.objective.file import ObjectiveFile


def check_labels(file: ObjectiveFile, manifest: SnapshotManifest) -> None:
    """Raises ObjectiveInvalid at the line of each KPI on a label that the data lacks, with the nearest label."""
    faults = []
    for index, kpi in enumerate(file.objective.kpis):
        label = parse_metric(kpi.metric).label
        if label is not None and label not in manifest.label_counts:
            message = f"the KPI {kpi.metric} is on the label {label!r}, which the data does not have"
            faults.append(Fault(file.line_of(f"kpis.{index}.metric"), message, _hint(label, manifest.labels)))
    raise_faults(file.source, faults)


def _hint(label: str, labels: tuple[str, ...]) -> str:
    near = nearest(label, labels)
    shown = ", ".join(labels[:20]) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
    return f"did you mean {near!r}? the data has: {shown}" if near else f"the data has: {shown}"
