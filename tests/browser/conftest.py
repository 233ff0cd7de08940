"""Debian's chromium, and pages for it to open."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from ltbench.report.collection import collect
from ltbench.report.leaderboard import leaderboards
from ltbench.report.page import page, pictures
from ltbench.results.store import Store

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-extensions",
    "--disable-sync", "--hide-scrollbars", "--force-prefers-reduced-motion",
)  # fmt: skip
"""For a machine without a display or a network, perhaps as root in a container."""


class Browser:
    """A window of chromium."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, path: Path, width: int = 1440, height: int = 1000, **media: str) -> None:
        """Open a file in a window of some size, with media features such as prefers_color_scheme="dark"."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(path.as_uri())

    def all(self, selector: str) -> list[WebElement]:
        """The elements that are shown."""
        return [one for one in self.driver.find_elements(By.CSS_SELECTOR, selector) if one.is_displayed()]

    def one(self, selector: str) -> WebElement:
        """The first of them."""
        return self.all(selector)[0]

    def texts(self, selector: str) -> list[str]:
        """Their texts."""
        return [one.text for one in self.all(selector)]

    def ask(self, script: str, *values: Any) -> Any:
        """What a script says."""
        return self.driver.execute_script(f"return {script}", *values)

    def said(self) -> list[str]:
        """The console since the page was opened: errors, warnings, refused requests."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="session")
def _driver() -> Iterator[webdriver.Chrome]:
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        pytest.fail(f"{' and '.join(missing)} not found: apt-get install chromium chromium-driver", pytrace=False)
    options = webdriver.ChromeOptions()
    options.binary_location = str(found["chromium"])
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(found["chromedriver"]))
    yield driver
    driver.quit()


@pytest.fixture
def browser(_driver: webdriver.Chrome) -> Browser:
    """The one browser of all tests."""
    return Browser(_driver)


@pytest.fixture
def make_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write the page of some results; ``figures=True`` draws the figures, which takes seconds."""

    def make(results: Sequence[Any], *, figures: bool = False) -> Path:
        for result in results:
            Store(tmp_path).save(result)
        if not figures:
            monkeypatch.setattr(pictures, "pictures", lambda *values, **options: {})
        stored = collect([tmp_path])
        path = tmp_path / "report.html"
        path.write_text(page.render(stored, leaderboards(stored), [tmp_path]), encoding="utf-8")
        return path

    return make


@pytest.fixture
def some_results(make_full_result: Callable[..., Any]) -> list[Any]:
    """Three methods under the shared recipe, 100, 70.8 and 8.3 % right: not the order of the texts; one of a track.

    ce has no few-shot class.
    """
    labels = [0] * 4 + [1] * 4 + [2] * 4
    right = {"balpoe": (12, 12), "ce": (1, 1), "ride": (8, 9)}

    def predicted(count: int) -> list[int]:
        return [*labels[:count], *((label + 1) % 3 for label in labels[count:])]

    def without_few(result: Any) -> Any:
        test = result.test.model_copy(update={"few": None})  # of two medium-shot classes all images are wrong, too
        groups = {"many": [0], "medium": [1, 2], "few": []}
        data = result.data.model_copy(update={"shots": {"many": 100, "few": 20}, "groups": groups})
        return result.model_copy(update={"data": data, "metrics": {"test": test}})

    made = [
        make_full_result(name, seed, labels=labels, predicted=predicted(count), confidence=[0.9] * 12)
        for name, counts in right.items()
        for seed, count in enumerate(counts)
    ]
    made = [without_few(one) if one.config.method == "ce" else one for one in made]
    return [*made, make_full_result("lift", track="foundation model")]
