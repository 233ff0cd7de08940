"""The HTML page in a real browser: pytest -m browser."""

import re

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

pytestmark = [pytest.mark.browser, pytest.mark.slow]
ROWS = "#table-1 tr[data-entry] > th"
HOSTILE = """<script>document.title = "x"</script>'"><img src=x onerror="document.title = 'x'">"""


@pytest.fixture
def opened(browser, make_page, some_results):
    """The browser with the page of ``some_results``."""
    browser.open(make_page(some_results))
    return browser


def heading(browser, name):
    """The button that sorts by a column of the first table."""
    return next(one for one in browser.all("#table-1 .leaderboard thead button") if one.text.startswith(name))


def press(browser, *keys):
    ActionChains(browser.driver).send_keys(*keys).perform()


def focused(browser):
    return browser.ask("document.activeElement.textContent")


def test_numbers_sort_as_numbers_and_what_is_missing_comes_last(opened):
    assert opened.texts(ROWS) == ["BalPoE", "RIDE", "Cross Entropy"]
    accuracy = heading(opened, "Acc")
    accuracy.click()
    assert opened.texts(ROWS) == ["BalPoE", "RIDE", "Cross Entropy"]  # 100.0, 70.8, 8.3: the highest first
    accuracy.click()
    assert opened.texts(ROWS) == ["Cross Entropy", "RIDE", "BalPoE"]
    assert opened.ask("arguments[0].closest('th').ariaSort", accuracy) == "ascending"
    few = heading(opened, "Few")
    few.click()
    assert opened.texts(ROWS) == ["BalPoE", "RIDE", "Cross Entropy"]
    few.click()
    assert opened.texts(ROWS) == ["RIDE", "BalPoE", "Cross Entropy"]  # the lowest first, and what is missing last again
    assert opened.ask("[...document.querySelectorAll('#table-1 .leaderboard [aria-sort]')].length") == 1
    heading(opened, "Method").click()
    assert opened.texts(ROWS) == ["BalPoE", "Cross Entropy", "RIDE"]


def test_every_column_sorts(opened):
    for button in opened.all("#table-1 .leaderboard thead button"):
        button.click()
        assert opened.ask("arguments[0].closest('th').ariaSort", button) in ("ascending", "descending")


def test_rows_are_filtered_by_words_of_the_method_and_counted(opened):
    search = opened.one("#filter")
    search.send_keys("L")
    assert opened.texts("tr[data-entry] > th") == ["BalPoE", "LIFT"]
    search.send_keys("IF")
    assert opened.texts("tr[data-entry] > th") == ["LIFT"]
    assert opened.one("#count").text == "1 of 4 rows"
    assert opened.texts(".none") == ["No method here fits the filter."]
    search.clear()
    search.send_keys("z", Keys.BACKSPACE)
    assert opened.one("#count").text == "4 of 4 rows"


def test_one_kind_of_table_can_be_shown_alone(opened):
    opened.one("#comparison-group").send_keys("Foundation")
    assert opened.texts("h3") == [opened.one("#table-2 h3").text]
    assert opened.texts("tr[data-entry] > th") == ["LIFT"]


def test_a_row_opens_to_classes_confusions_reliability_and_bibtex(opened):
    button = opened.all(f"{ROWS} button")[2]
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    detail = f"#{button.get_attribute('aria-controls')}"
    matrix = [row.text.split() for row in opened.all(f"{detail} .matrix tr")]
    assert matrix == [["ant", "bee", "cow"], ["ant", "2", "6", "·"], ["bee", "·", "·", "8"], ["cow", "8", "·", "·"]]
    assert "ant 120 many 25.0" in opened.one(detail).text
    assert "cow ant 8 100.0" in opened.one(detail).text
    assert opened.all(f"{detail} svg.chart rect.value")
    assert "@inproceedings{some2020" in opened.one(f"{detail} .bibtex").text
    opened.one(f"{detail} .button").click()
    assert re.search("Copied|Selected", opened.one(f"{detail} [role=status]").text)
    heading(opened, "Acc").click()
    heading(opened, "Acc").click()
    above = opened.ask("document.querySelector(arguments[0]).previousElementSibling.cells[0].textContent", detail)
    assert above == "Cross Entropy"  # the details went along
    opened.ask("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    assert not opened.all(detail)
    assert button.get_attribute("aria-expanded") == "false"


def test_a_link_to_a_row_opens_it(opened):
    opened.driver.get(opened.driver.current_url + "#row-1-1")
    opened.driver.refresh()
    assert opened.all("#row-1-1-detail")


def test_everything_is_reached_and_worked_by_keyboard(opened):
    press(opened, Keys.TAB)
    assert focused(opened) == "Skip to the tables"
    assert opened.one(".skip").rect["x"] >= 0
    reached = set()
    for _ in range(80):
        press(opened, Keys.TAB)
        reached.add(focused(opened).split("%")[0].strip())
        outline = opened.ask("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or opened.ask("document.activeElement === document.body")
    assert {"Dark", "Acc", "Method", "Cross Entropy", "BalPoE", "What the columns mean"} <= reached
    opened.ask("document.activeElement.blur()")
    for _ in range(2):
        heading(opened, "Few").send_keys(Keys.ENTER)
    assert opened.texts(ROWS)[0] == "ride"
    opened.one(f"{ROWS} button").send_keys(Keys.SPACE)
    assert opened.all(".detail .matrix")


def background(browser):
    """How bright the page is, 0 to 255."""
    red, green, blue = map(int, re.findall(r"\d+", browser.ask("getComputedStyle(document.body).backgroundColor"))[:3])
    return (red + green + blue) / 3


def test_light_and_dark_follow_the_system_and_the_switch(browser, make_page, some_results):
    path = make_page(some_results)
    browser.open(path, prefers_color_scheme="light")
    assert background(browser) > 200
    browser.open(path, prefers_color_scheme="dark")
    assert background(browser) < 60
    browser.one("#theme").click()
    assert background(browser) > 200
    assert browser.one("#theme").text == "Dark"
    browser.ask("localStorage.clear()")


@pytest.mark.parametrize("width", [320, 400, 768, 1280, 1440, 1920])
def test_the_page_is_never_wider_than_the_window(browser, make_page, make_full_result, some_results, width):
    long = make_full_result("an_extraordinarily_long_name_" * 4, settings={"hyperparameters": {"mixup": 0.4}})
    browser.open(make_page([*some_results, long]), width, 800)
    browser.one(f"{ROWS} button").click()
    for closed in browser.driver.find_elements("css selector", "section.table > details:not(.entries)"):
        browser.ask("arguments[0].open = true", closed)
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
    detail = browser.one(".detail .entry").rect
    assert detail["width"] <= width


def test_on_a_phone_the_first_column_stays_and_targets_are_large(browser, make_page, some_results):
    browser.open(make_page(some_results), 375, 800)
    browser.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    first = browser.one(ROWS)
    before = first.rect["x"]
    browser.ask("document.querySelector('#table-1 .tall').scrollLeft = 200")
    assert browser.ask("document.querySelector('#table-1 .tall').scrollLeft") == 200
    assert first.rect["x"] == before
    small = [one.text for one in browser.all("button, select, input, summary") if one.rect["height"] < 44]
    browser.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert small == []


def test_nothing_is_said_on_the_console_and_nothing_is_fetched(browser, make_page, some_results):
    browser.open(make_page(some_results, figures=True))
    browser.one(f"{ROWS} button").click()
    assert browser.said() == []
    assert browser.ask("performance.getEntriesByType('resource').length") == 0
    assert len(browser.all(".sheet svg")) > 3


def test_names_that_look_like_markup_do_nothing(browser, make_page, make_full_result):
    shift = {
        "distribution": [HOSTILE], "prior": ["unknown"], "prior_error": [None], "images": [1], "classes": [1],
        **{name: [50.0] for name in ("top1", "macro", "many", "medium", "few", "ece", "mce", "nll")},
    }  # fmt: skip
    settings = {"hyperparameters": {"note": HOSTILE}}
    result = make_full_result(
        "x", classes=(HOSTILE, "bee", "cow"), bibtex=HOSTILE, settings=settings, shift=shift, track=HOSTILE
    )
    browser.open(make_page([result, make_full_result("y", track=HOSTILE)]))
    browser.one("tr[data-entry] button").click()
    browser.all("tr[data-entry] button")[1].click()
    assert browser.driver.title == "ltbench report"
    assert not browser.driver.find_elements("css selector", "img")
    assert HOSTILE in browser.texts(".matrix th")
    assert browser.said() == []


def test_a_thousand_classes_are_drawn_in_a_bounded_picture(browser, make_page, make_full_result):
    labels = np.repeat(np.arange(1000), 2)
    predicted = np.where(np.arange(2000) % 2, labels, (labels + 1) % 1000)
    classes = tuple(f"class {label}" for label in range(1000))
    result = make_full_result(classes=classes, labels=labels, predicted=predicted, confidence=np.full(2000, 0.5))
    path = make_page([result])
    assert path.stat().st_size < 150_000
    browser.open(path)
    browser.one(f"{ROWS} button").click()
    assert browser.ask("document.querySelectorAll('.detail circle.dot').length") == 1000
    assert browser.ask("document.querySelector('.detail canvas').width") == 100
    assert len(browser.all(".detail table")) < 10
    assert browser.said() == []


def test_without_javascript_tables_and_details_are_readable(browser, make_page, some_results):
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open(make_page(some_results))
        assert browser.texts(ROWS) == ["BalPoE", "RIDE", "Cross Entropy"]
        assert not browser.all("button, form")
        browser.one("#table-1 .entries > summary").click()
        browser.one("#row-1-2 > summary").click()
        assert "cow ant 8 100.0" in browser.one("#row-1-2").text
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_print_leaves_out_the_controls_and_shows_all_columns(browser, make_page, some_results):
    browser.open(make_page(some_results))
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not browser.all("#theme, .filters")
        assert browser.ask("getComputedStyle(document.querySelector('.tall')).overflowX") == "visible"
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
