"""The file of a campaign: read as it was written, known by what it says, refused in a sentence."""

from __future__ import annotations

import json

import pytest

from softcert.conformance.campaigns.campaign import plan, read_campaign, write_campaign
from softcert.conformance.campaigns.tasks import TASKS, find_task
from softcert.conformance.environment import softcert_version
from softcert.conformance.model import RequestError
from softcert.conformance.wire.files import validate


@pytest.fixture
def path(tmp_path, counting):
    return write_campaign(tmp_path / "c.json", counting(5, seconds=0.5, word="Übung\n"))


def changed(path, change):
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def test_a_campaign_is_read_as_it_was_written(path, counting):
    read = read_campaign(path)
    assert read == counting(5, seconds=0.5, word="Übung\n")
    assert [piece["key"] for piece in read.slices] == ["n0", "n1", "n2", "n3", "n4"]
    assert read.versions["softcert"] == read.softcert == softcert_version()
    assert {"numpy", "mpmath"} <= read.versions.keys()


def test_the_file_obeys_the_schema_and_has_a_line_for_each_slice(path):
    text = path.read_text(encoding="utf-8")
    validate(json.loads(text), "campaign")
    assert sum('"key":' in line for line in text.splitlines()) == 5


def test_the_digest_is_that_of_what_the_file_says(path):
    digest = read_campaign(path).digest
    changed(path, lambda document: document["settings"].update(dict(document["settings"])))
    assert read_campaign(path).digest == digest
    changed(path, lambda document: document["slices"][3].update(number=4))
    assert read_campaign(path).digest != digest


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(kind="run"), "holds a run, not a campaign"),
        (lambda d: d.update(extra=1), "not a valid campaign"),
        (lambda d: d["settings"].pop("task"), "'task' is a required property"),
        (lambda d: d.update(slices=[]), "not a valid campaign: at $.slices"),
        (lambda d: d["slices"][3].pop("key"), "at $.slices[3]"),
        (lambda d: d["slices"][3].update(key=""), "at $.slices[3].key"),
        (lambda d: d["slices"][3].update(key=7), "at $.slices[3].key"),
        (lambda d: d["slices"].append([1]), "at $.slices[5]"),
        (lambda d: d["slices"][3].update(key="n1"), "the key 'n1' is there twice"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(path, change, sentence):
    changed(path, change)
    with pytest.raises(RequestError) as error:
        read_campaign(path)
    assert sentence in str(error.value)
    assert str(path) in str(error.value)


def test_a_million_slices_are_read_without_the_validator_seeing_each(tmp_path, counting, monkeypatch):
    """A hundredth of them, and none of the validator's work."""
    path = write_campaign(tmp_path / "c.json", counting(10_000))
    seen = []
    monkeypatch.setattr(
        "softcert.conformance.campaigns.campaign.validate",
        lambda document, *_: seen.append(len(document["slices"])),
    )
    assert len(read_campaign(path).slices) == 10_000
    assert seen == [1]


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ("nothing", "there is no task 'nothing'; the tasks are"),
        ("campaign_tasks:NO_TASK", "is no task but a dict"),
        ("campaign_tasks:ABSENT", "cannot be loaded"),
        ("no_such_module:TASK", "cannot be loaded: No module named"),
    ],
)
def test_an_unknown_task_is_refused(task, sentence):
    with pytest.raises(RequestError, match=sentence):
        plan({"task": task})


def test_each_task_is_found_by_its_name():
    assert TASKS
    assert all(find_task(name) is task and task.name == name for name, task in TASKS.items())


def test_a_campaign_without_slices_is_refused(counting):
    with pytest.raises(RequestError, match="has no slices"):
        counting(0)
