"""The page in a real browser: it runs, draws, filters, copies and prints, and names on it execute nothing."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest

import softcert
from softcert.reports import render_html, write_report

REQUIRED = "SOFTCERT_REQUIRE_BROWSER"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAM = next(filter(None, map(shutil.which, BROWSERS)), None)
#: Milliseconds until a page of 20 backends has to be there.
LOADED_WITHIN = 2000
HOSTILE = (
    "<img src=x onerror=\"window.ran='image'\">",
    "</script><script>window.ran='script'</script>",
    "\"' onmouseover=\"window.ran='attribute'\" x='",
    "</style></title><svg onload=window.ran='svg'>&lt;b&gt;",
    "\u202eright to left\u202c \u2066isolate\u2069",
)

#: Of a page: colours that are text, each with the ratio of its contrast to what is behind it.
CONTRASTS = """(selector) => {
  const numbers = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((v) => {
      v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const c = numbers(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || (c.length === 4 && c[3] === 1)) return c;
    }
    return [255, 255, 255];
  };
  const found = {};
  for (const element of document.querySelectorAll(selector)) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = element.closest("svg") ? style.fill : style.color;
    const [a, b] = [luminance(numbers(ink)), luminance(behind(element))].sort((x, y) => y - x);
    found[`${element.tagName} ${ink} on ${behind(element)}`] = (a + 0.05) / (b + 0.05);
  }
  return found;
}"""

#: Sizes of what each chart has drawn: its shapes, less those that only frame or define others.
DRAWN = """() => [...document.querySelectorAll("figure")].filter((f) => f.checkVisibility()).map((figure) => {
  const kinds = ["path", "use", "circle", "rect", "line", "polyline"].map((kind) => `svg ${kind}`);
  return [...figure.querySelectorAll(kinds.join())].filter((shape) => {
    if (shape.closest("defs, clipPath")) return false;
    const box = shape.getBoundingClientRect();
    return box.width > 0 || box.height > 0;
  }).length;
})"""


@pytest.fixture(scope="module")
def browser():
    def refuse(reason):
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)

    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        refuse("needs Playwright: pip install 'softcert[browser]'")
    if PROGRAM is None:
        refuse("needs Chromium: apt-get install chromium")
    pytest.importorskip("matplotlib")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def two(build, tmp_path_factory):
    """A report on two subjects, of which one breaks clauses."""
    same = {"ops": ("softmax", "logsumexp"), "dtypes": ("float64", "float32")}
    runs = [build("broken", 14.0, **same), build("good", 1.6, **same)]
    return write_report(runs, tmp_path_factory.mktemp("two")).html


@contextmanager
def opened(browser, path, *, fragment="", **context):
    """Open the page of a report; whatever it logs, throws or is refused fails the test."""
    said = []
    with browser.new_context(**context) as within:
        page = within.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"exception: {error}"))
        page.on("requestfailed", lambda request: said.append(f"refused: {request.url}"))
        page.on("request", lambda request: request.url.startswith("file:") or said.append(request.url))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => console.error(e.violatedDirective))"
        )
        page.goto(path.resolve().as_uri() + fragment)
        yield page
        assert not said


@pytest.fixture
def page(browser, two):
    with opened(browser, two) as page:
        yield page


def shown_rows(page):
    return page.locator("#matrix tr[data-op]:visible").count()


# --- it runs and draws ---


def test_every_chart_has_marks(page):
    choice = page.locator("#plot-choice")
    for op in choice.locator("select[name=op] option").evaluate_all("all => all.map((o) => o.value)"):
        choice.locator("select[name=op]").select_option(op)
        for dtype in choice.locator("select[name=dtype] option").evaluate_all(
            "all => all.map((o) => o.value)"
        ):
            choice.locator("select[name=dtype]").select_option(dtype)
            drawn = page.evaluate(DRAWN)
            assert drawn
            assert min(drawn) > 5  # more than a frame


def test_nothing_on_the_page_is_without_effect(page):
    """The buttons and filters that a script has to show are shown."""
    assert page.locator("button[hidden], form[hidden]").count() == 0
    assert page.locator("button:visible").count() > 0


def test_the_page_works_without_scripts(browser, two):
    with opened(browser, two, java_script_enabled=False) as page:
        assert page.locator("#matrix td[data-status]:visible").count() > 0
        assert page.locator("button:visible, select:visible").count() == 0
        assert page.locator(".panel:visible svg:visible").count() == page.locator(".panel figure").count() > 0


# --- filters ---


def test_filters_change_the_rows_and_are_reset(page):
    every = shown_rows(page)
    form = page.locator("#filters")
    for name in form.locator("select").evaluate_all("all => all.map((one) => one.name)"):
        choices = form.locator(f"select[name={name}] option").evaluate_all("all => all.map((o) => o.value)")
        counts = []
        for value in choices[1:]:
            form.locator(f"select[name={name}]").select_option(value)
            counts.append(shown_rows(page))
            assert form.locator("output").text_content().startswith(f"{counts[-1]} of {every} ")
        form.locator("button[type=reset]").click()
        page.wait_for_function(
            "n => document.querySelectorAll('#matrix tr[data-op]:not([hidden])').length === n",
            arg=every,
        )
        # A filter by backend hides no row, so that its end is not seen by them.
        page.wait_for_function("() => !document.querySelector('#matrix [data-subject][hidden]')")
        assert name == "subject" or min(counts) < every


def test_a_filter_by_status_shows_rows_of_that_status_alone(page):
    page.locator("select[name=status]").select_option("fail")
    rows = page.locator("#matrix tr[data-op]:visible")
    assert rows.count() > 0
    for row in rows.all():
        assert row.locator("td[data-status=fail]").count() > 0


def test_a_filter_by_backend_hides_the_other_columns(page):
    page.locator("select[name=subject]").select_option("1")
    shown = page.locator("#matrix [data-subject]:visible")
    assert set(shown.evaluate_all("all => all.map((cell) => cell.dataset.subject)")) == {"1"}


# --- copying and links ---


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A report on a real run, whose witnesses can be replayed."""
    run = softcert.check(
        "numpy-naive", ops=["softmax"], dtypes=["float32"], clauses=["logistic.two-classes"], profile="smoke"
    )
    return write_report([run], tmp_path_factory.mktemp("real")).html


def test_what_is_copied_replays_the_witness(browser, real):
    with opened(browser, real, permissions=["clipboard-read", "clipboard-write"]) as page:
        button = page.locator("details.witness[open] button.copy").first
        button.click()
        page.wait_for_function("b => b.textContent === 'Copied'", arg=button.element_handle())
        line = page.evaluate("navigator.clipboard.readText()")
        page.wait_for_function("b => b.textContent === 'Copy'", arg=button.element_handle())
    program, *words = shlex.split(line)
    assert program == "softcert"
    replayed = subprocess.run(
        [sys.executable, "-m", program, *words], cwd=real.parent, capture_output=True, text=True, check=False
    )
    assert replayed.returncode == 1, replayed.stderr
    assert "logistic.two-classes" in replayed.stdout


def test_every_copy_button_copies_the_line_beside_it(browser, two):
    with opened(browser, two, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")
        for button in page.locator("button.copy").all():
            button.click()
            page.wait_for_function("b => b.textContent === 'Copied'", arg=button.element_handle())
            beside = button.evaluate("b => b.previousElementSibling.textContent")
            assert page.evaluate("navigator.clipboard.readText()") == beside


def test_where_copying_is_refused_the_line_is_selected(browser, two):
    with opened(browser, two) as page:
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
        button = page.locator("button.copy:visible").first
        button.click()
        page.wait_for_function("b => b.textContent === 'Selected'", arg=button.element_handle())
        assert page.evaluate("getSelection().toString()") == button.get_attribute("data-copy")


def test_a_cell_leads_to_its_witness_and_opens_it(page):
    page.locator("details.witness").evaluate_all("all => all.forEach((one) => { one.open = false; })")
    link = page.locator("#matrix td a").last
    target = page.locator(link.get_attribute("href"))
    link.click()
    # The page opens it once it hears of the new address, which is after the click.
    target.locator("dl").first.wait_for(state="visible")
    assert target.get_attribute("open") is not None


def test_a_link_to_a_witness_from_elsewhere_opens_it(browser, two):
    with opened(browser, two) as page:
        last = page.locator("details.witness").last.get_attribute("id")
    with opened(browser, two, fragment=f"#{last}") as page:
        page.locator(f"#{last}[open]").wait_for()


# --- keyboard, screen readers, narrow screens, dark, paper ---


def test_every_control_is_reached_by_tab(page):
    wanted = page.locator(
        "a[href]:visible, button:visible, select:visible, summary:visible, [tabindex='0']:visible"
    ).evaluate_all("all => { all.forEach((e, i) => { e.dataset.stop = i; }); return all.length; }")
    reached = []
    for _ in range(wanted + 20):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.dataset.stop"))
        if len(set(reached) - {None}) == wanted:
            break
    missed = set(map(str, range(wanted))) - set(reached)
    assert not missed, page.evaluate(
        "s => document.querySelector(`[data-stop='${s}']`).outerHTML", min(missed)
    )


def test_the_skip_link_leads_past_the_head(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    box = page.locator(".skip").bounding_box()
    assert box["x"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_what_a_screen_reader_is_told(page):
    levels = page.locator("h1, h2, h3, h4, h5, h6").evaluate_all(
        "all => all.map((h) => Number(h.tagName[1]))"
    )
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.locator("table").count() == page.locator("table > caption").count()
    for image in page.locator("svg, img").all():
        assert image.evaluate(
            "e => e.closest('[aria-hidden=true]') !== null || (e.getAttribute('role') === 'img' && "
            "(e.getAttribute('aria-label') || e.querySelector('title') || e.getAttribute('aria-labelledby')))"
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_rules_of_accessibility_and_contrast_hold(browser, two, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with opened(browser, two, color_scheme=scheme, reduced_motion="reduce") as page:
        page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")
        result = axe.Axe().run(page)
        assert result.violations_count == 0, result.generate_report()
        contrasts = page.evaluate(CONTRASTS, "body *:not(option):not(script):not(style)")
        low = {what: ratio for what, ratio in contrasts.items() if ratio < 4.5}
        assert contrasts
        assert not low


@pytest.mark.parametrize("width", [320, 400])
def test_a_narrow_screen_scrolls_down_only(browser, two, width):
    with opened(browser, two, viewport={"width": width, "height": 800}) as page:
        page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_paper_shows_everything_and_no_control(page):
    page.emulate_media(media="print")
    # The legend is made of buttons, and a printed plot needs it.
    assert page.locator("button:not(.keys *):visible, select:visible, nav:visible").count() == 0
    for part in page.locator("details > *:not(summary)").all():
        assert part.evaluate("e => e.getBoundingClientRect().height > 0 || !e.textContent.trim()")
    assert page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("told", ["beforehand", "by the media"])
def test_plots_not_looked_at_yet_are_printed_too(page, told):
    every, held = page.locator(".panel").count(), page.locator(".panel noscript")
    assert held.count() == every - 1 > 0
    page.pdf() if told == "beforehand" else page.emulate_media(media="print")
    page.wait_for_function("() => !document.querySelector('.panel noscript')")
    assert page.locator(".panel svg").count() == page.locator(".panel figure").count() > every


# --- large, and hostile ---


@pytest.fixture(scope="module")
def large(crowd, tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "report.html"
    path.write_text(render_html(crowd), encoding="utf-8")
    return path


def milliseconds_to_load(browser, path):
    """What the page's main thread computes until the page has loaded, and how many charts it shows then.

    Not by the clock: on a shared machine most of that is the work of others. Parsing, style, layout and
    scripts are all on this thread, which waits for nothing but the file.
    """
    with browser.new_context() as within:
        page = within.new_page()
        session = within.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(path.resolve().as_uri(), wait_until="load")
        metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        assert page.locator(".card").count() == 20
        return 1000 * metrics["TaskDuration"], page.evaluate(DRAWN)


def test_twenty_backends_are_there_at_once(browser, large):
    taken, drawn = zip(*(milliseconds_to_load(browser, large) for _ in range(3)), strict=True)
    assert 0 < min(taken) < LOADED_WITHIN
    assert all(len(charts) > 10 and min(charts) > 5 for charts in drawn)


def test_a_link_leads_past_tables_not_yet_laid_out(browser, large):
    with opened(browser, large, reduced_motion="reduce") as page:
        for target in ("speed", "verdicts", "reproduce"):
            page.locator(f"nav a[href='#{target}']").click()
            page.wait_for_function(
                "id => Math.abs(document.getElementById(id).getBoundingClientRect().top) < 40", arg=target
            )


def _hostile(run, text):
    def spoilt(verdict):
        witness = verdict.witness
        if witness is not None:
            finding = replace(witness.finding, message=text, observed=text, quantity=text)
            trial = replace(witness.trial, family=text)
            witness = replace(witness, finding=finding, subject=text, trial=trial)
        return replace(verdict, message=text, witness=witness, controls={text: "passed"})

    return replace(
        run,
        name=text,
        subject=text,
        verdicts=tuple(map(spoilt, run.verdicts)),
        environment={**run.environment, "processor": text, "versions": {text: text}},
        contract={text: text},
    )


def test_markup_in_names_is_text_and_runs_nothing(browser, build, tmp_path):
    same = {"ops": ("softmax",), "dtypes": ("float32",)}
    runs = [_hostile(build("one", 14.0, **same), text) for text in HOSTILE]
    report = write_report(runs, tmp_path, title=HOSTILE[0])
    with opened(browser, report.html) as page:
        page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")
        for cell in page.locator("#matrix td:visible, .card").all()[:20]:
            cell.hover()
        page.pdf()  # So that every plot is drawn, with the names in it.
        assert page.evaluate("window.ran") is None
        assert page.evaluate("document.scripts.length") == 1
        assert page.locator("img").count() == 0
        assert page.title() == HOSTILE[0]
        shown = page.locator(".card h2").all_text_contents()
        for text, seen in zip(HOSTILE[:4], shown[:4], strict=True):
            assert text in seen
        assert not any(mark in page.content() for mark in "\u202e\u202c\u2066\u2069")
        button = page.locator("button.copy:visible").first
        button.click()
        page.wait_for_function("b => b.textContent !== 'Copy'", arg=button.element_handle())
