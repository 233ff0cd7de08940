"""The picture shows all of the table and asks nothing of the network."""

import html
import re

from ltbench.report.collection import collect
from ltbench.report.contents import contents
from ltbench.report.leaderboard import leaderboards
from ltbench.report.svg import svg
from ltbench.results.store import Store


def test_every_cell_is_shown_whole_and_nothing_is_fetched(tmp_path, make_result):
    settings = {"hyperparameters": {"taus": [0.125, 0.875, 2.0], "mixup": 0.4, "width": 1.0}}
    for seed in range(3):
        Store(tmp_path).save(make_result("balpoe", seed, top1=50.0 + seed, settings=settings))
        Store(tmp_path).save(make_result("balpoe", seed, top1=40.0 + seed))
    stored = collect([tmp_path])
    picture = svg(contents(leaderboards(stored), stored))
    text = html.unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", picture))).replace("\xa0", " ")
    assert "BalPoE, taus=0.125,0.875,2" in text
    assert "51.0 ± 1.0" in text
    assert "…" not in text
    assert "@font-face" not in picture
    assert "url(http" not in picture
