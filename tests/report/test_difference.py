"""Two runs side by side."""

import json

import pytest
from rich.console import Console

from ltbench.report.difference import cells, difference, equal, render, terminal
from ltbench.report.frame import TABLE_KEYS, load_results
from ltbench.results.store import Store


def shown(one, other):
    return {(part, name): rest for part, name, *rest in cells(difference(one, other))}


def test_seeds_only(make_result):
    one, other = make_result(seed=0, top1=60.0), make_result(seed=1, top1=62.5)
    assert difference(one, other).verdict == "They may stand in one table, averaged: only their seeds differ."
    assert shown(one, other) == {
        ("settings", "seed"): ["0", "1", "+1"],
        **{
            ("test metrics", name): ["60", "62.5", "+2.5"] for name in ("top1", "macro", "medium", "few", "worst_class")
        },
    }
    assert "data: all equal" in equal(difference(one, other))
    assert "test metrics: the other 8 equal" in equal(difference(one, other))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"settings": {"hyperparameters": {"mixup": 0.4}}}, "settings"),
        ({"revision": "2"}, "the revision of the method"),
        ({"revision": "2", "recipe": {"lr": 0.2}}, "settings and the revision of the method"),
    ],
)
def test_two_rows_of_one_table(make_result, change, reason):
    verdict = difference(make_result(), make_result(**change)).verdict
    assert verdict == f"They may stand in one table, as two rows, since {reason} differ."


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": "b" * 16}, "their images are not the same (fingerprints)"),
        ({"transductive": True}, "one has adapted to the unlabelled test images"),
        ({"track": "foundation model"}, "one belongs to a comparison group of its own, such as"),
        ({"recipe": {"name": "long"}}, "their recipes have different names"),
        ({"settings": {"validation": True}}, "one was trained without the validation part"),
        ({"recipe": {"epochs": 60}}, "their lengths of training differ"),
        ({"settings": {"backbone": "cifar_resnet8"}}, "their backbones differ"),
        ({"settings": {"precision": "bf16"}}, "they were trained in different precisions"),
        ({"settings": {"pretrained": True}}, "one started from pretrained weights"),
        ({"settings": {"imbalance": "step"}}, "the counts of one fall exponentially"),
        ({"settings": {"class_order": "drawn"}}, "in one the largest classes are the first labels"),
        ({"settings": {"data_seed": 1}}, "their images were drawn with different seeds"),
        ({"settings": {"dataset": "folder-lt"}}, "they are on different data sets"),
    ],
)
def test_what_keeps_runs_out_of_one_table(tmp_path, make_result, change, reason):
    one, other = make_result("ce"), make_result("balpoe", **change)
    found = difference(one, other)
    assert found.verdict.startswith(f"Not to be compared in one table: {reason}")
    assert len(found.obstacles) == 1
    for result in (one, other):
        Store(tmp_path).save(result)
    assert load_results(tmp_path)["table"].nunique() == 2  # the report says the same


def test_every_reason_for_another_table_has_words(make_result):
    from ltbench.report.difference import _WHY

    assert tuple(_WHY) == TABLE_KEYS


def test_processors_of_one_name_differ_in_their_instruction_sets(make_result):
    def on(seed=0, **hardware):
        provenance = {"hardware": {"processor": "Xeon", **hardware}}
        return make_result("ce", seed).model_copy(update={"provenance": provenance})

    told, other, untold = on(instruction_sets=["avx2", "amx_bf16"]), on(1, instruction_sets=["avx2"]), on(1)
    found = difference(told, other)
    assert ["hardware", "instruction_sets", '["avx2", "amx_bf16"]', '["avx2"]', ""] in cells(found)
    assert "Their hardware differs" in found.verdict
    assert "is not known to be equal" in difference(told, untold).verdict


def test_versions_hardware_and_class_counts(make_result):
    one = make_result()
    elsewhere = {"versions": {"python": "3.13.1"}, "hardware": {"accelerator": "a GPU"}}
    data = one.data.model_copy(update={"counts": [30, 1]})
    other = one.model_copy(update={"run_id": "x", "provenance": elsewhere, "data": data})
    assert shown(one, other) == {
        ("data", "class counts"): ["[20, 1]", "[30, 1]", ""],
        ("versions", "python"): ["3.11.7", "3.13.1", ""],
        ("hardware", "accelerator"): ["n/a", "a GPU", ""],
    }
    assert (
        "Their hardware differs or is not known to be equal: training times say little."
        in difference(one, other).verdict
    )


def test_a_run_that_is_not_done_and_one_that_is_the_same(make_result):
    failed = make_result(seed=1, status="failed", reason="the loss is not finite")
    assert f"{failed.run_id} is failed" in difference(make_result(), failed).verdict
    assert shown(make_result(), failed)["test metrics", "top1"] == ["50", "n/a", ""]
    assert difference(failed, failed).verdict == "The two are one run."


def test_long_values_are_cut(make_result):
    one = make_result()
    other = one.model_copy(update={"run_id": "x", "data": one.data.model_copy(update={"classes": ["a" * 99, "b"]})})
    assert shown(one, other)["data", "class names"][1].endswith("aaa...")


def test_the_command(cli, tmp_path, make_result):
    one, other = make_result("ce", top1=50.5), make_result("balpoe", top1=60.25)
    for result in (one, other):
        Store(tmp_path / "runs").save(result)
    printed = cli("report", "--diff", one.run_id, other.run_id, "--format", "md")
    assert printed.code == 0
    assert printed.out == render(difference(one, other), "md")
    assert "| test metrics | top1" in printed.out
    assert "+9.75 |" in printed.out
    cli("report", "--diff", one.run_id, other.run_id, "--format", "json", "--output", "diff.json")
    record = json.loads((tmp_path / "diff.json").read_text())
    assert record["runs"] == [one.run_id, other.run_id]
    assert record["verdict"].startswith("They may stand in one table, as two rows")
    refused = cli("report", "--diff", one.run_id, "0000", "--format", "md")
    assert refused.code == 2
    assert "no run '0000'" in refused.err
    unknown = cli("report", "--diff", one.run_id, other.run_id, "--format", "latex")
    assert unknown.code == 2
    assert "--diff has no format latex" in unknown.err


def test_the_terminal_shows_the_same(make_result):
    found = difference(make_result("ce"), make_result("balpoe", ece=7.5))
    console = Console(width=160, record=True, file=None)
    with console.capture() as captured:
        console.print(terminal(found))
    text = captured.get()
    assert found.verdict in text
    assert all(cell in text for row in cells(found) for cell in row)
    assert all(line in text for line in equal(found))


def test_experts_that_divide_the_backbone_otherwise_are_two_rows(make_result):
    one, other = (
        make_result("balpoe", seed, cost={"parameters": size}) for seed, size in enumerate((270_000, 180_000))
    )
    assert "as two rows, since the stages that experts share differ" in difference(one, other).verdict


def test_batch_norm_over_less_than_a_batch_is_a_row_of_its_own(make_result):
    split = {"divisions": [{"processes": 1, "accumulate": 8, "batch_norm_images": 16}]}
    found = difference(make_result("ce", 0), make_result("ce", 1, cost=split))
    assert "as two rows, since settings differ" in found.verdict
    assert "averaged" in difference(make_result("ce", 0, cost=split), make_result("ce", 1, cost=split)).verdict


def test_two_ids_of_one_run_count_once(make_result):
    other = make_result().model_copy(update={"run_id": "0123456789ab"})
    assert difference(make_result(), other).verdict == (
        "They may stand in one table, which counts them once: settings and seed are equal."
    )
