"""Croissant 1.1 metadata of a snapshot (https://docs.mlcommons.org/croissant), for other tools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from tailorbird.data.readers import SourcePlace
from tailorbird.domain.objective import Objective
from tailorbird.domain.value import Digest

#: The JSON-LD context that the specification prescribes.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

#: Fields of a row, with what each is.
_FIELDS = {
    "id": "Digest of the normalised text and the target.",
    "text": "What the model is given.",
    "target": "The label, the answer, or the relevant documents.",
    "group": "Rows that must stay on one side of a split.",
    "split": "train, dev or test.",
}


def redescribed(description: bytes, rows: Digest, count: int) -> bytes:
    """The description of a snapshot that was made from another one: the same, over other rows."""
    found = json.loads(description)
    found["description"] = re.sub(r"[\d,]+ rows, cleaned", f"{count:,} rows, cleaned", found["description"])
    return _written(found, rows)


def croissant(objective: Objective, rows: Digest, count: int, places: Iterable[SourcePlace]) -> bytes:
    """The description of the snapshot whose rows are the artifact ``rows``, as canonical JSON."""
    terms = sorted({(place.license, place.origin, place.collected, place.consent) for place in places})
    described = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": re.sub(r"[^A-Za-z0-9_-]", "-", f"{objective.tenant}-{objective.name}"),
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "description": f"{objective.business.goal} {count:,} rows, cleaned, split and frozen by content.",
        "license": sorted({licence for licence, *_ in terms}),
        "datePublished": _date(collected for _, _, collected, _ in terms),
        "creator": [{"@type": "sc:Organization", "name": origin} for origin in sorted({origin for _, origin, _, _ in terms})],
        "isLiveDataset": False,
        "rai:dataCollectionTimeframe": sorted({collected for _, _, collected, _ in terms}),
        "rai:personalSensitiveInformation": sorted({f"consent: {consent}" for _, _, _, consent in terms}),
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "rows",
                "name": "rows",
                "key": {"@id": "rows/id"},
                "field": [_field(*one) for one in _FIELDS.items()],
            }
        ],
    }
    return _written(described, rows)


def _written(described: dict[str, Any], rows: Digest) -> bytes:
    """With the file of rows: it lies in the artifact store under its own hash."""
    plain = rows.removeprefix("sha256:")
    file = {
        "@type": "cr:FileObject",
        "@id": "rows.jsonl",
        "name": "rows.jsonl",
        "contentUrl": f"artifacts/{plain[:2]}/{plain[2:4]}/{plain}",
        "encodingFormat": "application/jsonlines",
        "sha256": plain,
    }
    whole = described | {"distribution": [file], "url": f"urn:sha256:{plain}", "version": f"1.0.0+{plain[:12]}"}
    return json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _field(name: str, what: str) -> dict[str, Any]:
    source = {"fileObject": {"@id": "rows.jsonl"}, "extract": {"column": name}}
    return {"@type": "cr:Field", "@id": f"rows/{name}", "name": name, "description": what, "dataType": "sc:Text", "source": source}


def _date(stated: Iterable[str]) -> str:
    """The latest day, month or year of collection, as a day; where none was stated, the first day of all."""
    found = [re.fullmatch(r"(\d{4})(-\d{2})?(-\d{2})?.*", day) for day in stated]
    days = [f"{day[1]}{day[2] or '-01'}{day[3] or '-01'}" for day in found if day]
    return max(days, default="1970-01-01")
