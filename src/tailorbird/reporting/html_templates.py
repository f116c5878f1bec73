"""Jinja environment of the HTML pages, with the number formats as filters."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined

from tailorbird.crypto.canonical_json import short
from tailorbird.reporting import tables


def template_environment(package: str = "tailorbird.reporting") -> Environment:
    """Templates of ``package``, autoescaped; those of this package are also found under ``reporting/``."""
    shared = PrefixLoader({"reporting": PackageLoader("tailorbird.reporting")})
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package), shared]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        short=short,
        count=tables.human_count,
        seconds=tables.human_seconds,
        memory=tables.human_memory,
        machine_memory=tables.machine_memory,
        making_time=tables.making_time,
        process_memory=tables.process_memory,
        money=tables.human_money,
        moment=tables.moment,
        estimate=tables.estimate_text,
        metric=tables.metric_text,
        finding=tables.finding_text,
        difference=tables.difference_text,
    )
    return made
