"""Jinja environment of the HTML pages, with the number formats as filters."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined

from tailorbird.crypto.canonical_json import short
from tailorbird.reporting import number_formats


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
        count=number_formats.human_count,
        seconds=number_formats.human_seconds,
        memory=number_formats.human_memory,
        machine_memory=number_formats.machine_memory,
        making_time=number_formats.making_time,
        process_memory=number_formats.process_memory,
        money=number_formats.human_money,
        moment=number_formats.moment,
        estimate=number_formats.estimate_text,
        metric=number_formats.metric_text,
        finding=number_formats.finding_text,
        difference=number_formats.difference_text,
    )
    return made
