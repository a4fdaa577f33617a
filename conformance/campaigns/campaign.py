"""The file of a campaign: its settings, its slices, one a line, and the digest that a store knows it by."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from softcert.backends import Worker
from softcert.backends.contract import Contract
from softcert.conformance.campaigns.tasks import find_task
from softcert.conformance.environment import ORACLES, installed_versions, softcert_version
from softcert.conformance.model import SCHEMA, RequestError
from softcert.conformance.wire.files import read_json, replacing, validate

#: By which a slice is known, and by which it names those that have to be done before it.
_KEY, _AFTER = "key", "after"


@dataclass(frozen=True)
class Campaign:
    """A campaign as its file holds it.

    Attributes
    ----------
    settings : what the task is told, `task` among them.
    slices : each with a unique string `key`; `after`, where one has it, names earlier ones.
    versions : of the distributions that results rest on.
    subject : `name`, `spec` and `contract` of what is judged, or empty.
    softcert : the version that planned it.
    """

    settings: Mapping[str, Any]
    slices: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    subject: Mapping[str, Any] = field(default_factory=dict)
    softcert: str = ""

    @property
    def head(self) -> dict[str, Any]:
        """The document without its slices."""
        subject = {"subject": dict(self.subject)} if self.subject else {}
        return {
            "schema": SCHEMA,
            "kind": "campaign",
            "softcert": self.softcert,
            "versions": dict(self.versions),
            **subject,
            "settings": dict(self.settings),
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the file says, however it is laid out."""
        return digest_of(canonical(self.head), map(canonical, self.slices))


def canonical(document: Any) -> str:
    """Return a document as JSON in one way alone: keys sorted, no spaces.

    Raises
    ------
    TypeError, ValueError : it is not JSON, or holds a NaN or infinity.
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(head: str, slices: Iterable[str]) -> str:
    """SHA-256 of a head and slices, each canonical, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for text in chain([head], slices):
        # A canonical text holds no newline.
        digest.update(text.encode("utf-8", errors="surrogatepass") + b"\n")
    return digest.hexdigest()


def plan(settings: Mapping[str, Any]) -> Campaign:
    """Cut what settings ask for into slices, and note the versions that its results will rest on.

    Raises
    ------
    RequestError : the task is unknown, or refuses the settings, or its slices are none.
    SubjectError : the subject cannot be loaded.
    """
    task = find_task(settings["task"])
    subject, libraries = _described(settings)
    slices = tuple(dict(piece) for piece in task.slices(settings))
    _require_slices(slices, f"the task {task.name}")
    versions = installed_versions(("softcert", *ORACLES, *libraries))
    return Campaign(dict(settings), slices, versions, subject, softcert_version())


def _described(settings: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The subject that settings name, and the libraries that it rests on; nothing where they name none."""
    spec = settings.get("subject")
    if not spec:
        return {}, ()
    contract = settings.get("contract")
    with Worker(
        spec,
        op=settings.get("op"),
        contract=None if contract is None else Contract.from_mapping(contract),
    ) as worker:
        described = worker.description
    return (
        {"name": described.name, "spec": spec, "contract": described.contract.to_mapping()},
        tuple(described.versions),
    )


def _require_slices(slices: Iterable[Any], source: str) -> None:
    """Make sure that there are slices, each with a key of its own, and after none but earlier ones.

    Raises
    ------
    RequestError : with the first that is none.
    """
    seen: set[str] = set()
    for number, piece in enumerate(slices):
        key = piece.get(_KEY) if isinstance(piece, dict) else None
        if not isinstance(key, str) or not key:
            raise RequestError(f"{source}: slice {number} has no key")
        if key in seen:
            raise RequestError(f"{source}: the key {key!r} is there twice")
        _require_earlier(piece, seen, source)
        seen.add(key)
    if not seen:
        raise RequestError(f"{source} has no slices")


def _require_earlier(piece: Mapping[str, Any], seen: Collection[str], source: str) -> None:
    named = piece.get(_AFTER, [])
    if not _is_list_of_keys(named) or len(set(named)) < len(named):
        raise RequestError(f"{source}: slice {piece[_KEY]!r} has no list of different keys in `{_AFTER}`")
    for key in named:
        if key not in seen:
            raise RequestError(f"{source}: slice {piece[_KEY]!r} is after {key!r}, which is no earlier slice")


def _is_list_of_keys(named: Any) -> bool:
    return isinstance(named, (list, tuple)) and all(isinstance(key, str) for key in named)


def write_campaign(path: str | os.PathLike[str], campaign: Campaign) -> Path:
    """Write a campaign to a file, whole or not at all, with a line for each slice.

    Raises
    ------
    RequestError : it cannot be written.
    """
    with replacing(path) as file:
        for text in _lines(campaign):
            file.write(text.encode("utf-8"))
    return Path(path)


def _lines(campaign: Campaign) -> Iterator[str]:
    head = json.dumps(campaign.head, indent=1, ensure_ascii=False, allow_nan=False)
    yield head.removesuffix("\n}") + ',\n "slices": [\n'
    for number, piece in enumerate(campaign.slices):
        yield f"{',' if number else ' '}{canonical(piece)}\n"
    yield "]}\n"


def read_campaign(path: str | os.PathLike[str]) -> Campaign:
    """Return the campaign in a file.

    Raises
    ------
    RequestError : one sentence, if there is none.
    """
    document = read_json(path)
    validate(_without_plain_slices(document), "campaign", str(path))
    _require_slices(document["slices"], str(path))
    return Campaign(
        settings=document["settings"],
        slices=tuple(document["slices"]),
        versions=document["versions"],
        subject=document.get("subject", {}),
        softcert=document["softcert"],
    )


def _without_plain_slices(document: Any) -> Any:
    """The document with its first slice alone, where all of them are as the schema has them.

    The validator takes some twenty microseconds for each, and a campaign may have a million.
    """
    slices = document.get("slices") if isinstance(document, dict) else None
    if not isinstance(slices, list) or not all(map(_is_plain, slices)):
        return document
    return {**document, "slices": slices[:1]}


def _is_plain(piece: Any) -> bool:
    if not isinstance(piece, dict) or not isinstance(piece.get(_KEY), str) or not piece[_KEY]:
        return False
    # What `after` may hold is seen for every slice by whoever reads the file.
    return _is_list_of_keys(piece.get(_AFTER, []))
