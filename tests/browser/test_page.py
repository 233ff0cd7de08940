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
    search = opened.one(".filters input")
    search.send_keys("L")
    assert opened.texts("tr[data-entry] > th") == ["BalPoE", "LIFT"]
    search.send_keys("IF")
    assert opened.texts("tr[data-entry] > th") == ["LIFT"]
    assert opened.one(".filters output").text == "1 of 4 rows"
    assert opened.texts(".none") == ["No method here fits the filter."]
    assert not opened.all("#table-1 .point")
    search.clear()
    search.send_keys("z", Keys.BACKSPACE)
    assert len(opened.all("tr[data-entry]")) == 4


@pytest.fixture
def two_data_sets(make_page, some_results, make_result):
    """A page of two data sets; cifar100-lt has one row."""
    return make_page([*some_results, make_result("sade", settings={"dataset": "cifar100-lt"})])


def test_data_sets_are_tabs_the_fullest_first(browser, two_data_sets):
    browser.open(two_data_sets)
    assert browser.texts(".tabs a") == ["digits-lt 4", "cifar100-lt 1"]
    assert browser.texts("[aria-current]") == ["digits-lt 4"]
    assert "SADE" not in browser.texts("tr[data-entry] > th")
    browser.all(".tabs a")[1].click()
    assert browser.texts("tr[data-entry] > th") == ["SADE"]
    assert browser.texts("[aria-current]") == ["cifar100-lt 1"]
    browser.driver.back()
    assert browser.texts(ROWS) == ["BalPoE", "RIDE", "Cross Entropy"]


def test_tab_filter_order_columns_and_row_stand_in_the_address(opened):
    heading(opened, "Few").click()
    heading(opened, "Few").click()
    opened.one(".more input").click()
    opened.one(".filters input").send_keys("e")
    opened.all(f"{ROWS} .opens")[1].click()
    address = opened.driver.current_url
    opened.driver.get("about:blank")
    opened.driver.get(address)
    assert opened.one(".drawer h2").text == "BalPoE"
    press(opened, Keys.ESCAPE)
    assert not opened.all(".drawer")
    assert opened.texts(ROWS) == ["RIDE", "BalPoE", "Cross Entropy"]
    assert opened.one(".filters input").get_attribute("value") == "e"
    assert opened.all("#table-1 .leaderboard th.c-parameters")


def test_a_row_opens_to_classes_confusions_reliability_and_bibtex(opened):
    button = opened.all(f"{ROWS} .opens")[2]
    button.click()
    matrix = [row.text.split() for row in opened.all(".drawer .matrix tr")]
    assert matrix == [["ant", "bee", "cow"], ["ant", "2", "6", "·"], ["bee", "·", "·", "8"], ["cow", "8", "·", "·"]]
    assert "ant 120 many 25.0" in opened.one(".drawer").text
    assert "cow ant 8 100.0" in opened.one(".drawer").text
    assert opened.all(".drawer svg.chart rect.value")
    assert "@inproceedings{some2020" in opened.one(".drawer .bibtex").text
    opened.one(".drawer .bibtex + p button").click()
    assert re.search("Copied|Selected", opened.one(".drawer [role=status]").text)
    opened.one(".drawer header button").click()
    assert not opened.all(".drawer")
    assert opened.ask("document.activeElement === arguments[0]", button)


def test_the_back_button_closes_an_opened_row(opened):
    opened.one(f"{ROWS} .opens").click()
    assert opened.all(".drawer")
    opened.driver.back()
    assert not opened.all(".drawer")


def test_a_link_to_a_row_opens_it(opened):
    row = opened.ask("document.querySelectorAll('tr[data-entry]')[1].dataset.entry")
    opened.driver.get(opened.driver.current_url.partition("#")[0] + f"#{row}")
    opened.driver.refresh()
    assert opened.one(".drawer h2").text == "RIDE"


def test_points_of_the_plot_and_rows_light_up_together(browser, make_page, make_result):
    costs = {"ce": 10.0, "ride": 20.0, "sade": 40.0}
    made = [make_result(name, top1=60.0, cost={"training_seconds": seconds}) for name, seconds in costs.items()]
    browser.open(make_page(made))
    points = browser.all(".point")
    assert [one.get_attribute("aria-label") for one in points] == [
        f"{name}: 60.0 %, {seconds:.0f} s" for name, seconds in zip(browser.texts(ROWS), costs.values(), strict=True)
    ]
    for point, row in zip(points, browser.all("tr[data-entry]"), strict=True):
        ActionChains(browser.driver).move_to_element(point).perform()
        assert browser.all("tr.lit") == [row]
    ActionChains(browser.driver).move_to_element(browser.one("h1")).perform()
    browser.ask("arguments[0].focus()", points[0])
    press(browser, Keys.ARROW_RIGHT)
    assert browser.ask("document.activeElement === arguments[0]", points[1])
    assert browser.all("tr.lit") == [browser.all("tr[data-entry]")[1]]
    press(browser, Keys.ENTER)
    assert focused(browser) == browser.texts(ROWS)[1]


def test_other_settings_open_below_their_row(browser, make_page, make_result):
    other = make_result("balpoe", top1=40.0, settings={"hyperparameters": {"mixup": 0.4}})
    third = make_result("balpoe", top1=41.0, settings={"hyperparameters": {"mixup": 0.3}})
    browser.open(make_page([other, third, make_result("ce", top1=30.0)]))
    assert not browser.all("tr.other")
    button = browser.one(".further button")
    assert button.text == "+1 setting"
    button.click()
    assert len(browser.all("tr.other")) == 1
    heading(browser, "Acc").click()
    heading(browser, "Acc").click()
    rows = "[...document.querySelectorAll('#table-1 .leaderboard tbody tr')]"
    kinds = browser.ask(f"{rows}.map((one) => one.classList.contains('other'))")
    assert kinds == [False, False, True]  # ce is the lowest now; the other setting went along with its row


def test_columns_are_explained_by_keyboard_and_touch(opened):
    button = heading(opened, "Few")
    opened.ask("arguments[0].focus()", button)
    assert "fewer than" in opened.one("#tip").text
    press(opened, Keys.ESCAPE)
    assert not opened.all("#tip")
    button.click()
    assert "fewer than" in opened.one("#tip").text
    opened.one('.tools a[href^="#"]').click()
    assert "fewer than" in opened.one(".meanings").text


def test_everything_is_reached_and_worked_by_keyboard(opened):
    press(opened, Keys.TAB)
    assert focused(opened) == "Skip to the tables"
    assert opened.one(".skip").rect["x"] >= 0
    reached = set()
    for _ in range(60):
        press(opened, Keys.TAB)
        reached.add(focused(opened).split("%")[0].strip())
        outline = opened.ask("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or opened.ask("document.activeElement === document.body")
    assert {"Dark", "Acc", "Method", "Cross Entropy", "BalPoE", "What the columns mean"} <= reached
    opened.ask("document.activeElement.blur()")
    for _ in range(2):
        heading(opened, "Few").send_keys(Keys.ENTER)
    assert opened.texts(ROWS)[0] == "RIDE"
    opened.one(f"{ROWS} .opens").send_keys(Keys.SPACE)
    assert opened.all(".drawer .matrix")


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
    for closed in browser.driver.find_elements("css selector", "section.table details:not(.entries)"):
        browser.ask("arguments[0].open = true", closed)
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
    browser.one(f"{ROWS} .opens").click()
    assert browser.one(".drawer").rect["width"] <= width
    beyond = """[...document.querySelectorAll(".drawer *")].filter(
        (one) => !one.closest(".box") && one.getBoundingClientRect().right > innerWidth + 0.5).length"""
    assert browser.ask(beyond) == 0
    assert browser.ask("document.querySelector('.drawer').scrollWidth <= innerWidth")


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_the_answer_and_the_first_row_are_on_the_first_screen(browser, two_data_sets, width, height):
    browser.open(two_data_sets, width, height)
    assert "BalPoE" in browser.one(".answer").text
    row = browser.one("tr[data-entry]").rect
    assert browser.one(".answer").rect["y"] < row["y"]
    assert row["y"] + row["height"] < height


def test_on_a_phone_rows_are_cards_that_sort_and_targets_are_large(browser, make_page, some_results):
    browser.open(make_page(some_results), 375, 800)
    browser.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    first = browser.one("tr[data-entry]")
    assert browser.ask("getComputedStyle(arguments[0]).display", first) == "grid"
    assert browser.ask("getComputedStyle(arguments[0], '::before').content", browser.one("td.c-few")) == '"Few, %"'
    assert first.rect["x"] >= 0
    assert first.rect["x"] + first.rect["width"] <= 375
    browser.one("#table-1 .order select").send_keys("Method")
    assert browser.texts(ROWS) == ["BalPoE", "Cross Entropy", "RIDE"]
    controls = ".opens, #theme, select, .filters input, summary"
    small = [one.text for one in browser.all(controls) if one.rect["height"] < 44]
    browser.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert small == []


def test_nothing_is_said_on_the_console_and_nothing_is_fetched(browser, make_page, some_results):
    browser.open(make_page(some_results, figures=True))
    browser.one(f"{ROWS} .opens").click()
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
    browser.one("tr[data-entry] .opens").click()
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
    browser.one(f"{ROWS} .opens").click()
    assert browser.ask("document.querySelectorAll('.drawer circle.dot').length") == 1000
    assert browser.ask("document.querySelector('.drawer canvas').width") == 100
    assert len(browser.all(".drawer table")) < 10
    assert browser.said() == []


def test_without_javascript_tables_and_details_are_readable(browser, make_page, some_results):
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open(make_page(some_results))
        assert browser.texts(ROWS) == ["BalPoE", "RIDE", "Cross Entropy"]
        assert not browser.all("button, form")
        browser.one("#table-1 .entries > summary").click()
        last = browser.all("#table-1 .entries > details > summary")[-1]
        last.click()
        assert "cow ant 8 100.0" in last.find_element("xpath", "..").text
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_print_leaves_out_the_controls_and_shows_all_columns(browser, make_page, some_results):
    browser.open(make_page(some_results))
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not browser.all("#theme, .filters, .tools")
        assert browser.ask("getComputedStyle(document.querySelector('.tall')).overflowX") == "visible"
        assert browser.all("#table-1 th.c-parameters")
        heading = "document.querySelector('.leaderboard thead button')"
        assert browser.ask(f"getComputedStyle({heading}).display") == "contents"  # pages but the first lack buttons
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
