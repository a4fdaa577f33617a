"""A campaign as a document: what its state is called, on a terminal and on a page."""

from __future__ import annotations

import json

import pytest

from softcert.conformance.campaigns import drivers
from softcert.conformance.campaigns.campaign import Campaign
from softcert.conformance.campaigns.store import Answer
from softcert.conformance.campaigns.store_files import store_for
from softcert.reports.campaigns import describe_campaign, duration
from softcert.reports.document_html import document_html

SLICES = tuple({"key": f"<{number}>"} for number in range(8))
CAMPAIGN = Campaign(
    {"task": "proof", "op": "softmax", "dtype": "float16", "slices": 8},
    SLICES,
    {"numpy": "2.0"},
    {"name": "numpy", "spec": "numpy", "contract": {}},
)


@pytest.fixture
def store(tmp_path):
    with store_for(tmp_path / "s.sqlite", CAMPAIGN) as opened:
        yield opened


def answers(*numbers, environment="{}"):
    return [Answer(number, json.dumps({"cases": 5}), 5, 90.0, environment) for number in numbers]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (7 * 3600 + 12 * 60 + 9, "7 h 12 min"),
        (2 * 86400 + 3 * 3600, "2 d 3 h"),
        (86400, "1 d"),
    ],
)
def test_a_duration_is_said_in_its_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_the_headline_says_how_far_it_is(store):
    assert describe_campaign(store).title == "Campaign proof: numpy softmax float16"
    assert describe_campaign(store).headline.text == "0 of 8 slices done (0.0%); no driver works on it."
    number = drivers.join(store, 2)
    store.add(answers(0, 1))
    drivers.beat(store, number, workers=2, done=2, rate=0.05, seconds=40.0)
    assert describe_campaign(store).headline.text == (
        "2 of 8 slices done (25.0%); 0.05 slices a second, 2 min left."
    )
    store.charge(7, "reason", 1)
    store.add(answers(2, 3, 4, 5, 6))
    headline = describe_campaign(store).headline
    assert (headline.text, headline.tone) == (
        "7 of 8 slices done (87.5%), 1 set aside: nothing is left to be tried.", "worse",
    )  # fmt: skip
    store.add(answers(7))
    headline = describe_campaign(store).headline
    assert (headline.text, headline.tone) == (
        "8 of 8 slices done (100.0%): the campaign is complete.",
        "better",
    )


def test_a_dead_driver_does_not_work_on_it(store):
    number = drivers.join(store, 2)
    store.connection.execute("UPDATE drivers SET process = '999999999 1', rate = 3 WHERE id = ?", (number,))
    assert "no driver works on it" in describe_campaign(store).headline.text


def test_the_page_shows_reasons_harmlessly_and_asks_again_if_it_is_to(store):
    store.charge(3, "<script>alert(1)</script>", 1)
    store.charge(4, "later", 2)
    document = describe_campaign(store)
    page = document_html(document, refresh=7)
    assert '<meta http-equiv="refresh" content="7">' in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;3&gt;" in page
    assert "set aside" in page
    assert "is tried again" in page
    assert 'width="125.00"' in page  # an eighth of the bar is red
    assert "refresh" not in document_html(document)


def test_results_of_several_environments_are_told(store):
    store.add([*answers(0, environment='{"cores":1}'), *answers(1, environment='{"cores":2}')])
    settings = describe_campaign(store).sections[-1]
    assert not settings.folded
    assert settings.sentences[0].text == "Results come from 2 machines or sets of versions."
