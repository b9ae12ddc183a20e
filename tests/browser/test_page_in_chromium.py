"""The page in a real browser: sorting, filtering, marks and tips work; it asks for nothing and complains of nothing."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from tests.browser.conftest import N_TRIALS
from tests.report.facts import facts, success
from xautolm_hpc.report import summarise, to_html

pytestmark = pytest.mark.browser

LEAST_RULES = 20

SCREENSHOTS_DIR = Path(__file__).resolve().parents[2] / "build" / "screenshots"
"""Where the screenshots lie that a person looks at."""


def rows(page: Chrome) -> list[list[str]]:
    """Read the rows of the table of trials that are shown, in their order."""
    script = (
        "return [...document.querySelectorAll('#trials-table tbody tr')].filter((row) => !row.hidden)"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    found: list[list[str]] = page.execute_script(script)
    return found


def heading(page: Chrome, text: str) -> WebElement:
    """Find the button that sorts by a column."""
    return page.find_element(By.XPATH, f"//table[@id='trials-table']//th/button[.='{text}']")


def column(page: Chrome, text: str) -> list[str]:
    """Read a column of the table of trials."""
    heads = page.find_elements(By.CSS_SELECTOR, "#trials-table thead button")
    place = [head.text for head in heads].index(text)
    return [row[place] for row in rows(page)]


def test_a_heading_sorts_by_number_and_back_and_what_is_unknown_comes_last(page: Chrome) -> None:
    known = sorted((float(text) for text in column(page, "F1") if text != "–"), reverse=True)

    heading(page, "F1").click()
    falling = column(page, "F1")
    heading(page, "F1").click()
    rising = column(page, "F1")

    assert [float(text) for text in falling[: len(known)]] == known
    assert [float(text) for text in rising[: len(known)]] == known[::-1]
    assert set(falling[len(known) :]) == set(rising[len(known) :]) == {"–"}
    sorted_heads = page.find_elements(By.CSS_SELECTOR, "#trials-table th[aria-sort]")
    assert [head.get_attribute("aria-sort") for head in sorted_heads] == ["ascending"]


def test_small_learning_rates_are_sorted_by_value_not_by_their_letters(page: Chrome) -> None:
    heading(page, "learning_rate").send_keys(Keys.ENTER)  # by keyboard

    values = [float(text) for text in column(page, "learning_rate")]

    assert values == sorted(values, reverse=True)
    assert len(values) == N_TRIALS


def test_filters_leave_the_trials_that_fit_all_of_them(page: Chrome) -> None:
    total = len(rows(page))

    Select(page.find_element(By.ID, "filter-method")).select_by_value("lora")
    Select(page.find_element(By.ID, "filter-result")).select_by_value("succeeded")
    page.find_element(By.ID, "filter-text").send_keys("ROBERTA")

    shown = rows(page)
    assert 0 < len(shown) < total
    assert all("roberta" in row[1] and row[2:4] == ["lora", "succeeded"] for row in shown)
    assert page.find_element(By.ID, "filter-count").text == f"{len(shown)} of {total} trials"


def test_a_filter_that_is_emptied_shows_all_again(page: Chrome) -> None:
    field = page.find_element(By.ID, "filter-text")

    field.send_keys("nothing has this")
    none = len(rows(page))
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.BACKSPACE)

    assert (none, len(rows(page))) == (0, N_TRIALS)


def test_a_trial_s_number_marks_it_in_every_chart_until_it_is_pressed_again(page: Chrome) -> None:
    button = page.find_element(By.CSS_SELECTOR, "#trials-table tr[data-trial='0'] button.mark")

    button.send_keys(Keys.SPACE)
    marked = page.find_elements(By.CSS_SELECTOR, "svg [data-trial='0'].marked")
    pressed = button.get_attribute("aria-pressed")
    button.send_keys(Keys.SPACE)

    assert len(marked) >= 3
    assert pressed == "true"
    assert not page.find_elements(By.CSS_SELECTOR, ".marked")


def test_the_pointer_on_a_point_shows_what_it_is_and_escape_hides_it(page: Chrome) -> None:
    point = page.find_element(By.CSS_SELECTOR, "#pareto circle.front")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    tip = page.find_element(By.ID, "tip")

    ActionChains(page).move_to_element(point).perform()
    shown, text = tip.is_displayed(), tip.text
    near = page.find_elements(By.CSS_SELECTOR, "tr.near")
    ActionChains(page).send_keys(Keys.ESCAPE).perform()

    assert shown
    assert text.startswith(f"trial {point.get_attribute('data-trial')}: ")
    assert len(near) == 1
    assert not tip.is_displayed()


def test_nothing_is_asked_for_and_nothing_is_complained_of(page: Chrome, page_path: Path) -> None:
    heading(page, "F1").click()
    page.find_element(By.ID, "filter-text").send_keys("a")

    complaints = page.get_log("browser")
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    assert complaints == []
    assert set(asked) == {page_path.as_uri()}


def test_the_page_is_whole_without_its_script(chromium: Chrome, page_path: Path) -> None:
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        chromium.get(page_path.as_uri())
        tree = chromium.execute_cdp_cmd("DOM.getDocument", {"depth": 0})
        html = chromium.execute_cdp_cmd("DOM.getOuterHTML", {"nodeId": tree["root"]["nodeId"]})["outerHTML"]
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

    assert html.count('<tr data-trial="') == N_TRIALS
    assert '<form id="filters" hidden=""' in html


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(page: Chrome, axe: str, scheme: str) -> None:
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    page.execute_cdp_cmd("Runtime.evaluate", {"expression": axe})

    result: dict[str, Any] = page.execute_async_script(
        "axe.run(document, {resultTypes: ['violations']}).then(arguments[arguments.length - 1])"
    )

    found = [
        f"{v['id']}: {v['help']}; {v['nodes'][0]['html'][:200]}"
        for v in result["violations"]
        if v["impact"] in ("serious", "critical")
    ]
    assert not found
    assert len(result["passes"]) >= LEAST_RULES  # it did look


@pytest.mark.parametrize("look", ["light", "dark", "print"])
def test_screenshots_are_taken_for_a_person_to_look_at(page: Chrome, look: str) -> None:
    SCREENSHOTS_DIR.mkdir(parents=True, exist_ok=True)
    features = [{"name": "prefers-color-scheme", "value": "light" if look == "print" else look}]
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"media": "print" if look == "print" else "", "features": features}
    )
    size = page.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]

    clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 8000), "scale": 0.7}
    shot = page.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})

    image = base64.b64decode(shot["data"])
    (SCREENSHOTS_DIR / f"{look}.png").write_bytes(image)
    assert image.startswith(b"\x89PNG")
    assert size["width"] <= 1200  # nothing is wider than the window; what is scrolls in itself


def test_it_prints_as_pages(page: Chrome) -> None:
    printed = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})

    content = base64.b64decode(printed["data"])
    SCREENSHOTS_DIR.mkdir(parents=True, exist_ok=True)
    (SCREENSHOTS_DIR / "print.pdf").write_bytes(content)
    assert content.startswith(b"%PDF")


PAGE_WIDTHS_PX = {"portrait": 718, "landscape": 1047}
"""Width of an A4 page between Chromium's margins."""

BROKEN = """
const found = [];
const walker = document.createTreeWalker(document.querySelector(arguments[0]), NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  for (const word of walker.currentNode.data.matchAll(/\\S+/g)) {
    const range = document.createRange();
    range.setStart(walker.currentNode, word.index);
    range.setEnd(walker.currentNode, word.index + word[0].length);
    if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1) found.push(word[0]);
  }
}
return found;
"""
"""Lists the words of an element that stand on more than one line; ``<wbr>`` ends a word."""


def show(page: Chrome, *, width_px: int, media: str = "") -> None:
    """Show the page as wide as a telephone or a sheet."""
    size = {"width": width_px, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": []})


@pytest.mark.parametrize("sheet", list(PAGE_WIDTHS_PX))
def test_no_word_of_the_trials_is_broken_in_print(page: Chrome, sheet: str) -> None:
    show(page, width_px=PAGE_WIDTHS_PX[sheet], media="print")

    broken = page.execute_script(BROKEN, "#trials-table")

    assert broken == []


def test_the_trials_fit_a_sheet_and_so_does_the_rest(page: Chrome) -> None:
    show(page, width_px=PAGE_WIDTHS_PX["landscape"], media="print")
    landscape = page.execute_script("return document.getElementById('trials-table').offsetWidth")
    show(page, width_px=PAGE_WIDTHS_PX["portrait"], media="print")
    rest = page.execute_script(
        "return [...document.querySelectorAll('section:not(#trials) :is(table, svg, pre)')]"
        ".filter((part) => !part.closest('details')).map((part) => part.getBoundingClientRect().right)"
    )

    assert landscape <= PAGE_WIDTHS_PX["landscape"]
    assert len(rest) > 8
    assert max(rest) <= PAGE_WIDTHS_PX["portrait"]


def test_what_is_folded_is_open_in_print(page: Chrome) -> None:
    opened = "return [...document.querySelectorAll('details')].map((part) => part.open)"
    before = page.execute_script(opened)

    page.execute_cdp_cmd("Page.printToPDF", {})

    assert before == [False]
    assert page.execute_script(opened) == [True]


WIDER = """
const wide = [...document.querySelectorAll("main *")].filter((part) => part.checkVisibility()
  && part.scrollWidth > part.clientWidth && getComputedStyle(part).overflowX === "auto");
arguments[0](wide.map((part) => [part.getAttribute("aria-label"), part.tabIndex,
  getComputedStyle(part, "::before").content]));
"""


def test_on_a_telephone_what_is_wider_scrolls_by_keyboard_too_and_says_so(page: Chrome) -> None:
    show(page, width_px=400)

    wide = page.execute_async_script(f"requestAnimationFrame(() => requestAnimationFrame(() => {{ {WIDER} }}))")

    assert {"All trials", "Learning curves", "Pareto set"} <= {name for name, _, _ in wide}
    assert [(name, index, hint) for name, index, hint in wide if index != 0 or "sideways" not in hint] == []
    assert page.execute_script("return document.documentElement.scrollWidth") <= 400
    assert page.execute_script(BROKEN, "pre") == []


def test_the_texts_of_charts_are_as_large_on_a_telephone_as_they_can_be_read(page: Chrome) -> None:
    show(page, width_px=400)

    sizes = page.execute_script(
        "return [...document.querySelectorAll('svg text')]"
        ".map((text) => [parseFloat(getComputedStyle(text).fontSize), text.getScreenCTM()])"
        ".map(([size, {a, b}]) => size * Math.hypot(a, b))"
    )

    assert min(sizes) >= 8


def test_a_wide_window_has_no_hint_at_what_fits(page: Chrome) -> None:
    show(page, width_px=1200)

    hints = page.execute_async_script(
        "requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]("
        "document.querySelectorAll('#pareto .wider').length)))"
    )

    assert hints == 0


def test_each_trial_of_the_learning_curves_has_the_colour_of_its_legend(page: Chrome, tmp_path: Path) -> None:
    trials = [success(n, curve=((1.0, 0.5, 0.5, 0.9 - 0.1 * n, 3.0 + n),)) for n in range(7)]
    (tmp_path / "dots.html").write_text(to_html(summarise(facts(trials))))

    page.get((tmp_path / "dots.html").as_uri())

    dots, legend = (
        page.execute_script(f"return [...document.querySelectorAll('#curves {part}')].map({look})")
        for part, look in (
            (".curve circle", "(dot) => getComputedStyle(dot).fill"),
            (".legend i", "(line) => getComputedStyle(line).backgroundColor"),
        )
    )
    assert sorted(dots) == sorted(legend)
    assert len(set(dots)) == 7
