"""A campaign as it stands, as a document: what is done, who works on it, and what failed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from softcert.conformance.campaigns.drivers import Driver, Watch, drivers
from softcert.conformance.campaigns.store import Store, Totals, Trouble
from softcert.reports.document import Column, Document, Row, Section, Sentence, Table

#: Slices with failures that are shown; the others are counted.
_SHOWN = 100
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def describe_campaign(store: Store, watch: Watch | None = None) -> Document:
    """Return the state of a campaign as a document.

    Parameters
    ----------
    watch : tells which drivers live; one that is kept from page to page knows more than a new one.
    """
    head, totals, troubles = json.loads(store.head()[1]), store.totals(), store.troubles()
    seen = watch if watch is not None else Watch()
    living = [driver for driver in drivers(store) if not seen.is_dead(driver)]
    return Document(
        title=_title(head),
        headline=_headline(totals, living),
        sections=(
            _progress(totals),
            _drivers(living),
            _troubles(troubles),
            _settings(head, store.environments()),
        ),
    )


def duration(seconds: float) -> str:
    """Return a duration as one says it: "42 s", "3 min 5 s", "7 h 12 min", "2 d 3 h"."""
    whole = max(round(seconds), 0)
    units = ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (1, "s"))
    for (large, name), (small, below) in pairwise(units):
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {name}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def _title(head: Mapping[str, Any]) -> str:
    settings = head["settings"]
    name = head.get("subject", {}).get("name", "")
    parts = [name, *(str(settings[key]) for key in ("op", "dtype", "domain") if key in settings)]
    return f"Campaign {settings['task']}: {' '.join(filter(None, parts))}".removesuffix(": ")


def _headline(totals: Totals, living: Sequence[Driver]) -> Sentence:
    done = f"{totals.done} of {totals.slices} slices done ({totals.done / totals.slices:.1%})"
    if totals.complete:
        return Sentence(f"{done}: the campaign is complete.", "better")
    aside = f", {totals.aside} set aside" if totals.aside else ""
    if not totals.remaining:
        return Sentence(f"{done}{aside}: nothing is left to be tried.", "worse")
    rate = sum(driver.rate for driver in living)
    if not living:
        return Sentence(f"{done}{aside}; no driver works on it.", "unsure")
    left = f", {duration(totals.remaining / rate)} left" if rate else ""
    return Sentence(f"{done}{aside}; {rate:.3g} slices a second{left}.", "worse" if totals.aside else "")


def _progress(totals: Totals) -> Section:
    sentences = (
        f"{totals.cases} cases judged.",
        f"{duration(totals.seconds)} of computing in all"
        + (f", {totals.seconds / totals.done:.3g} s a slice." if totals.done else "."),
        f"{totals.remaining} slices are to be computed.",
    )
    return Section("progress", "Progress", tuple(map(Sentence, sentences)), drawings=(_bar(totals),))


def _bar(totals: Totals) -> str:
    """A bar of what is done and what is set aside."""
    done, aside = (1000 * part / totals.slices for part in (totals.done, totals.aside))
    return (
        '<svg viewBox="0 0 1000 24" role="img" width="100%" height="24" preserveAspectRatio="none">'
        f"<title>{totals.done} of {totals.slices} slices done, {totals.aside} set aside</title>"
        '<rect width="1000" height="24" style="fill:var(--rule)"/>'
        f'<rect width="{done:.2f}" height="24" style="fill:var(--pass)"/>'
        f'<rect x="{done:.2f}" width="{aside:.2f}" height="24" style="fill:var(--fail)"/></svg>'
    )


def _drivers(living: Sequence[Driver]) -> Section:
    columns = (
        Column("process", "code"),
        Column("slices at once", "number"),
        Column("holds", "number"),
        Column("done", "number"),
        Column("a second", "number"),
    )
    rows = tuple(
        Row((
            driver.process.partition(" ")[0], str(driver.workers), str(driver.holds), str(driver.done),
            f"{driver.rate:.3g}",
        ))
        for driver in living
    )  # fmt: skip
    return Section("drivers", "Drivers", table=Table("Who computes slices now", columns, rows))


def _troubles(troubles: Sequence[Trouble]) -> Section:
    columns = (Column("slice", "code"), Column("failed", "number"), Column("state"), Column("reason"))
    rows = tuple(
        Row(
            (one.key, str(one.count), "set aside" if one.aside else "is tried again", one.reason),
            "worse" if one.aside else "unsure",
        )
        for one in troubles[:_SHOWN]
    )
    more = len(troubles) - len(rows)
    return Section(
        "failures",
        "Slices that failed",
        table=Table("With the reason of the last failure", columns, rows),
        notes=(f"{more} more are not shown.",) if more else (),
    )


def _settings(head: Mapping[str, Any], environments: Sequence[str]) -> Section:
    facts = {**head["settings"], **{f"version of {name}": text for name, text in head["versions"].items()}}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}
    columns = (Column("name"), Column("value", "code"))
    several = len(environments) > 1
    return Section(
        "settings",
        "What is computed",
        (Sentence(f"Results come from {len(environments)} machines or sets of versions.", "unsure"),)
        if several
        else (),
        Table("Settings, and the versions that results rest on", columns, tuple(map(Row, texts.items()))),
        folded=not several,
    )
