"""The search on islands: it follows from its settings alone, hands on what it finds, judges nothing twice."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from softcert.conformance.campaigns import drivers
from softcert.conformance.campaigns.campaign import plan
from softcert.conformance.campaigns.driving import drive
from softcert.conformance.campaigns.executors import executor_lane
from softcert.conformance.campaigns.executors import processes as process_lanes
from softcert.conformance.campaigns.outcome import campaign_run, campaign_worst
from softcert.conformance.campaigns.store import Answer
from softcert.conformance.campaigns.store_files import store_for
from softcert.conformance.campaigns.work import run_slice
from softcert.conformance.hunting.islands import HANDED, SEARCH
from softcert.conformance.hunting.worst_cases import WorstCase, case_from_json, case_to_json
from softcert.conformance.model import RequestError
from softcert.conformance.proofs.subjects import release
from softcert.conformance.spec import Seedling
from softcert.conformance.wire.runs import verdict_to_json

ASKED = {"task": "search", "subject": "numpy", "op": "softmax", "dtype": "float32", "islands": 3,
         "rounds": 3, "budget": 8, "size": 24}  # fmt: skip
THREAD = [executor_lane(lambda: ThreadPoolExecutor(1), 1)]
#: Notes every call beside itself; wrong by a factor where rows have more than four elements.
KERNEL = """
from pathlib import Path
import numpy as np

def softmax(x, axis=-1):
    with Path(__file__).with_suffix(".calls").open("a") as file:
        file.write(f"{x.tobytes().hex()}\\n")
    terms = np.exp(x - np.max(x, axis=axis, keepdims=True))
    y = terms / np.sum(terms, axis=axis, keepdims=True)
    return y * x.dtype.type(FACTOR) if x.shape[-1] > 4 else y
"""


@pytest.fixture(scope="module", autouse=True)
def _no_subject_is_left():
    yield
    release()


@pytest.fixture(scope="module")
def campaign():
    return plan(ASKED)


@pytest.fixture(scope="module")
def whole(campaign, tmp_path_factory):
    """All that a search comes to that one thread drives."""
    return driven(tmp_path_factory.mktemp("whole") / "s.sqlite", campaign)


def outcome(store):
    """All that a search comes to, but for times and machines."""
    verdicts = [verdict_to_json(verdict, "it") for verdict in campaign_run(store).verdicts]
    return list(store.results()), verdicts, [case_to_json(case) for case in campaign_worst(store)]


def driven(path, campaign, lanes=THREAD):
    with store_for(path, campaign) as store:
        assert drive(store, lanes).complete
        return outcome(store)


def by_chance(path, campaign, seed):
    """The same by several drivers, of which some die with what they have, in an order of chance."""
    chance = random.Random(seed)
    with store_for(path, campaign) as store:
        head = store.head()[1]
        while not store.totals().complete:
            driver = drivers.join(store, 1)
            pieces = store.claim(driver, chance.randint(1, 4))
            chance.shuffle(pieces)
            for piece in pieces[: chance.randint(0, len(pieces))]:
                answer = run_slice(head, piece.text, piece.earlier)
                store.add([Answer(piece.number, **answer)] * chance.randint(1, 2))
            drivers.leave(store, driver)
        return outcome(store)


# --- what it comes to ---


def test_the_outcome_follows_from_the_settings_whoever_computes_what_and_when(tmp_path, campaign, whole):
    assert by_chance(tmp_path / "s.sqlite", campaign, 1) == whole
    results = [json.loads(text) for text in whole[0]]
    assert len({json.dumps(result["best"]) for result in results}) > 3
    # The random choices are those of the seed, the round and the island.
    earlier = [results[one] for one in (3, 5, 4)]
    piece = {"key": "round-0002-island-0000", "round": 2, "island": 0, "after": []}
    assert SEARCH.run(ASKED, piece, earlier) == results[6]
    for other in (ASKED | {"seed": 1}, piece), (ASKED, piece | {"round": 3}), (ASKED, piece | {"island": 1}):
        assert SEARCH.run(*other, earlier)["movers"] != results[6]["movers"]


@pytest.mark.slow
def test_one_process_two_and_a_killed_drive_come_to_the_same(tmp_path, campaign, whole):
    assert driven(tmp_path / "one.sqlite", campaign, process_lanes(1)) == whole
    assert driven(tmp_path / "two.sqlite", campaign, process_lanes(2)) == whole
    with store_for(tmp_path / "three.sqlite", campaign) as store:

        def stop(status):
            if status.totals.done >= 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            drive(store, process_lanes(2), progress=stop)
        assert not store.totals().complete
    assert driven(tmp_path / "three.sqlite", campaign, process_lanes(2)) == whole


def test_the_verdict_does_not_depend_on_the_order_of_the_results(whole):
    results, verdicts, cases = whole
    chance = random.Random(3)
    for _ in range(5):
        order = [json.loads(text) for text in chance.sample(results, len(results))]
        (merged,) = SEARCH.merge(ASKED, order)
        assert [verdict_to_json(merged, "it")] == verdicts
        assert [case_to_json(case) for case in SEARCH.worst(ASKED, order)] == cases
    assert cases[0]["margin"] == merged.margin
    assert max(case["error_ulp"][1] for case in cases) == merged.error_max[1]
    assert f"error / bound up to {merged.margin:.4g}, found by {cases[0]['found_by']} on island " in (
        merged.message
    )


def test_inputs_are_no_larger_than_asked(whole):
    best = [case for text in whole[0] for case in json.loads(text)["best"]]
    sizes = [case_from_json(case).seedling.size for case in (*best, *whole[2])]
    assert 8 < max(sizes) <= ASKED["size"]


# --- what is handed on ---


def found(margin, n):
    """A result as a slice gives it, of one case."""
    row = np.linspace(-margin, 0.0, n, dtype=np.float32)
    case = WorstCase("accuracy.certified", "softmax", "float32", "numpy", Seedling((row,)), margin,
                     (1.0, margin), 1.0, "elsewhere")  # fmt: skip
    return case_to_json(case)


def result(*margins, movers=None):
    return {"cases": 9, "round": 0, "island": 0, "broken": False, "largest": None, "verdict": None,
            "best": [found(margin, 3 + place) for place, margin in enumerate(margins)],
            "movers": movers or {}}  # fmt: skip


def test_a_round_begins_with_its_own_best_and_the_best_of_its_neighbours():
    piece = {"key": "round-0001-island-0000", "round": 1, "island": 0, "after": []}
    own, left, right = result(0.2, movers={"ulps": [3.0, 1.0]}), result(0.9, 0.8, 0.7), result(0.6)
    told = SEARCH.run(ASKED | {"budget": 1}, piece, [own, left, right])
    handed = [case["margin"] for case in told["best"] if case["found_by"] == "elsewhere"]
    assert handed == [0.9, 0.8, 0.6, 0.2]
    assert HANDED == 2
    # It judged a few, and none of those.
    assert 1 <= told["cases"] <= 24
    assert told["movers"]["ulps"][0] > 2.0


def test_a_case_that_several_hand_on_is_there_once():
    piece = {"key": "round-0001-island-0000", "round": 1, "island": 0, "after": []}
    told = SEARCH.run(ASKED | {"budget": 1}, piece, [result(0.9)] * 3)
    assert [case["margin"] for case in told["best"]].count(0.9) == 1
    assert len(SEARCH.worst(ASKED, [told, told, result(0.9)])) == len(told["best"])


# --- a subject of one's own ---


def played(folder, factor, **more):
    """The results of a search on a kernel, and the inputs that the kernel was called with."""
    path = folder / "k.py"
    path.write_text(KERNEL.replace("FACTOR", str(factor)), encoding="utf-8")
    settings, results = ASKED | {"subject": str(path)} | more, {}
    for piece in SEARCH.slices(settings):
        before = [[results[key] for key in piece["after"]]] if "after" in piece else []
        results[piece["key"]] = SEARCH.run(settings, piece, *before)
    calls = path.with_suffix(".calls").read_text(encoding="utf-8").splitlines()
    return settings, list(results.values()), calls


def test_every_judgement_is_counted_once_and_every_case_kept_once(tmp_path):
    settings, results, calls = played(tmp_path, 1.0, rounds=2)
    (verdict,) = SEARCH.merge(settings, results)
    # The first is one by which every round sees what the subject takes.
    judged = [call for call in calls if call != calls[0]]
    assert verdict.cases == len(judged) == sum(result["cases"] for result in results)
    keys = [case.key for case in SEARCH.worst(settings, results)]
    assert len(keys) == len(set(keys)) > 2


@pytest.mark.slow
def test_a_broken_bound_ends_the_search_with_a_small_witness(tmp_path):
    settings, results, _ = played(tmp_path, 1.001)
    (verdict,) = SEARCH.merge(settings, results)
    assert verdict.status == "fail"
    assert verdict.witness.trial.calls[0].operands[0].shape == (5,)
    assert SEARCH.worst(settings, results)[0].margin > 1.0
    # Who was handed it looked for nothing more, and handed it on.
    broken = next(one["round"] for one in results if one["broken"])
    later = [one for one in results if one["round"] > broken]
    assert later
    assert all(one["broken"] and one["cases"] == 0 and one["best"] for one in later)


# --- slices ---


@pytest.mark.parametrize(
    ("settings", "after"),
    [
        ({"islands": 4, "rounds": 2}, {4: [0, 3, 1], 5: [1, 0, 2], 6: [2, 1, 3], 7: [3, 2, 0]}),
        ({"islands": 3, "slices": 5}, {3: [0, 2, 1], 4: [1, 0, 2]}),
        ({"islands": 2, "rounds": 3}, {2: [0, 1], 3: [1, 0], 4: [2, 3], 5: [3, 2]}),
        ({"islands": 1, "slices": 3}, {1: [0], 2: [1]}),
    ],
)
def test_islands_are_a_ring(settings, after):
    asked = {name: value for name, value in ASKED.items() if name != "rounds"} | settings
    pieces = list(SEARCH.slices(asked))
    keys = [piece["key"] for piece in pieces]
    assert keys == sorted(set(keys))
    assert len(keys) == asked.get("slices", asked["islands"] * asked.get("rounds", 0))
    named = {place: piece["after"] for place, piece in enumerate(pieces) if "after" in piece}
    assert named == {place: [keys[one] for one in before] for place, before in after.items()}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"op": None}, "the task search needs the op that it hunts"),
        ({"op": "sofmax"}, "did you mean 'softmax'"),
        ({"islands": 0}, "islands"),
        ({"budget": "many"}, "budget"),
        ({"slices": 3}, "either the slices of a search are given, or its rounds"),
    ],
)
def test_settings_that_make_no_search_are_refused(settings, sentence):
    with pytest.raises(RequestError) as error:
        list(SEARCH.slices(ASKED | settings))
    assert sentence in str(error.value)
