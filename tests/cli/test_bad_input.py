"""Bad input: one message that names the thing, exit code 2, no traceback, nothing stored."""

import resource

import pytest
import torch

from ltbench.results.store import Store

RUN = ("run", "--epochs", "1", "--device", "cpu")
SETUP = {
    "file": "",
    "malformed.toml": "seed = 1\nmethod = = 'ce'",
    "unknown_key.toml": "methd = 'ce'",
    "unknown_run_key.toml": "[[runs]]\nepoch = 3",
    "no_tables.toml": "hyperparameters = 3",
    "bad_recipe.toml": "[recipe]\nlrr = 0.1",
    "recipe_of_its_own.toml": "epoch = 3",
    "digits.toml": "epochs = " + "1" * 5000,
    "digits.json": "1" * 5000,
    "hexadecimal.toml": "epochs = 0x" + "1" * 5000,
    "no_number.toml": "[[runs]]\nmethod = 'ce'\nhyperparameters = { mixup = nan }",
    "deep.toml": "epochs = " + "[" * 20000,
    "deep.json": "[" * 20000,
    "zero.toml": 'recipe = "\\u0000.toml"',
    "damaged.json": '{"run_id": "abc"',
    "broken/method.py": "x = 1\nclass Broken(:\n",
    "taken/ce.py": "",
    "runs/digits-lt/ce/damaged.json": "{",
}
BAD = [
    # names
    (["run", "--method", "balpo"], ["unknown method 'balpo'", "--method", "balpoe"]),
    (["run", "--method", "ce,"], ["unknown method ''"]),
    (["run", "--dataset", "digit-lt"], ["unknown data set 'digit-lt'", "--dataset", "digits-lt"]),
    (["run", "--backbone", "cifar_resnet21"], ["unknown backbone 'cifar_resnet21'", "--backbone", "cifar_resnet20"]),
    (["run", "--recipe", "standart"], ["unknown recipe 'standart'", "--recipe", "standard"]),
    (["run", "--set", "mixpu=1"], ["unknown hyper-parameter of balpoe 'mixpu'", "--set", "mixup"]),
    (["run", "--method", "ce", "--set", "taus=0,1,2"], ["unknown hyper-parameter of ce 'taus'"]),
    (["run", "--method", "ce,balpoe", "--set", "taus=0,1,2"], ["unknown hyper-parameter of ce 'taus'"]),
    (["run", "--device", "tpu9000"], ["unknown device 'tpu9000'", "--device"]),
    (["run", "--device", "meta"], ["device 'meta' is not supported", "--device"]),
    # values
    (["run", "--imbalance-ratio", "0.5"], ["imbalance_ratio", "greater than or equal to 1", "0.5"]),
    (["run", "--imbalance-ratio", "nan"], ["--imbalance-ratio", "nan is no finite number"]),
    (
        ["run", "--imbalance-ratio", "1e6"],
        ["1e+06 leaves no image for 6 of 10 classes: 4, 5, 6, 7, 8, 9", "138 images"],
    ),
    (["run", "--set", "mixup=-1"], ["mixup", "greater than or equal to 0", "-1"]),
    (["run", "--set", "mixup=NaN"], ["mixup", "finite number"]),
    (["run", "--set", "mixup=NaN", "--dry-run"], ["mixup", "finite number"]),
    (["run", "--suite", "smoke", "--set", "mixup=NaN"], ["mixup", "finite number"]),
    (["report", "--suite", "no_number.toml"], ["mixup", "finite number"]),
    (["run", "--feature-views", "8"], ["no frozen features", "--feature-views", "--train head"]),
    (["run", "--method", "ce", "--set", "remix=3"], ["remix has no effect without mixup or CutMix", "--set"]),
    (["tune", "--method", "remix", "--set", "mixup=0"], ["cannot turn remix off", "let it begin above 0"]),
    (["tune", "--method", "glmc", "--set", "cutmix=null"], ["cannot turn cutmix off", "--set", "write 0"]),
    (["run", "--set", "mixup=a lot"], ["mixup", "valid number", "'a lot'"]),
    (["run", "--set", "taus="], ["taus", "at least 1 item"]),
    (["run", "--set", "taus=[[0,1],[2,1]]"], ["balpoe: a tau has 2 numbers for 10 classes", "--set"]),
    (["run", "--set", "experts=1,2"], ["experts must be 1, 2, ...", "[1, 2]"]),
    (["run", "--set", "experts=2", "--set", "taus=0,2"], ["give either taus, or experts and spread"]),
    (["run", "--set", "mixup"], ["'mixup' has no '='", "--set", "NAME=VALUE"]),
    (["run", "--set", "=1"], ["unknown hyper-parameter of balpoe ''"]),
    (["run", "--epochs", "0"], ["epochs", "greater than or equal to 1", "0"]),
    (["run", "--batch-size", "1"], ["batch_size", "greater than or equal to 2"]),
    (["run", "--lr", "-0.1"], ["lr", "greater than 0"]),
    (["run", "--image-size", "16"], ["digits-lt has images of 8 pixels, not 16", "--image-size"]),
    (["run", "--seeds", "3-1"], ["'3-1' is no list of seeds", "--seeds"]),
    (["run", "--seeds", "4294967296"], ["seed", "less than 4294967296"]),
    (["tune", "--trials", "0"], ["0 trials are too few", "--trials"]),
    (["tune", "--method", "ce", "--set", "mixup=0"], ["method 'ce' leaves nothing to search", "its space is mixup"]),
    (["tune", "--method", "balpoe", "--set", "taus=0,2"], ["give either taus, or experts and spread"]),
    (["tune", "--method", "balpoe,ce", "--set", "mixup=0"], ["method 'ce' leaves nothing to search"]),
    (["run", "--epochs", "1" * 5000], ["--epochs"]),
    (["run", "--epochs", "1000000000"], ["epochs", "less than or equal to 1000000"]),
    (["run", "--batch-size", "1" * 18], ["batch_size", "less than or equal to 10000000"]),
    (["run", "--seeds", "0-99999999"], ["more than 10,000 seeds", "--seeds"]),
    (["run", "--seeds", "0-999999999999"], ["no list of seeds", "--seeds"]),
    (["run", "--seeds", "0-" + "9" * 5000], ["no list of seeds", "--seeds"]),
    (["run", "--seeds", "0-9999,10000"], ["more than 10,000 seeds", "--seeds"]),
    (["run", "--set", "mixup=" + "1" * 5000], ["the value of 'mixup' has thousands of digits", "--set"]),
    (["run", "--set", "taus=" + "[" * 20000], ["the value of 'taus'", "nested thousands deep", "--set"]),
    (["run", "--set", "mixup=a=b"], ["mixup", "valid number", "'a=b'"]),
    (["run", "--set", "mixup=1e400"], ["mixup", "finite number"]),
    (["run", "--lr", "nan"], ["'--lr'", "nan is no finite number"]),
    (["run", "--lr", "1e400"], ["'--lr'", "inf is no finite number"]),
    (["run", "--checkpoint-every", "nan"], ["'--checkpoint-every'", "nan is no finite number"]),
    (["watch", "--interval", "inf"], ["'--interval'", "inf is no finite number"]),
    (["run", "--parallel", "1000000"], ["too many", "--parallel", "1000"]),
    (["run", "--workers", "1000000"], ["--workers", "1000"]),
    (["evaluate", "--all", "--bins", "1000000000"], ["--bins", "10000"]),
    (["evaluate", "--all", "--shots", f"{10**30},5"], ["no shot rule", "--shots"]),
    (["run", "--backbone", "resnet50.nosuchtag"], ["unknown backbone 'resnet50.nosuchtag'", "resnet50.a1_in1k"]),
    (["run", "--out", ""], ["'--out'", "it is empty"]),
    (["run", "--out=", "--rerun"], ["'--out'", "it is empty"]),
    (["run", "--data-dir", ""], ["'--data-dir'", "it is empty"]),
    (["run", "--config", ""], ["'--config'", "it is empty"]),
    (["run", "--methods-dir", ""], ["'--methods-dir'", "it is empty"]),
    (["tune", "--out", ""], ["'--out'", "it is empty"]),
    (["report", "--results", "a", "--results", ""], ["'--results'", "it is empty"]),
    (["report", "--output", ""], ["'--output'", "it is empty"]),
    (["show", ""], ["'run'", "it is empty"]),
    (["check", "file"], ["ends in .py", "file"]),
    # what the command line itself refuses
    (["run", "--methd", "ce"], ["No such option", "--methd", "--method"]),
    (["run", "--cache-resized", "0"], ["Invalid value for '--cache-resized'", "4"]),
    (["run", "--epochs", "many"], ["--epochs", "valid integer"]),
    (["run", "--precision", "fp64"], ["--precision", "'fp64'"]),
    (["report", "--format", "docx"], ["'--format': 'docx' is not one of", "latex"]),
    (["run", "--weights", "hf-hub:../.."], ["'../..' is no name of a repository", "--weights", "hf-hub:OWNER/MODEL"]),
    (["list", "colours"], ["'colours'", "methods"]),
    (["trian"], ["No such command", "trian"]),
    # files
    (["run", "--config", "none.toml"], ["none.toml", "cannot read the file"]),
    (["run", "--config", "malformed.toml"], ["malformed.toml", "not a valid TOML file", "line 2"]),
    (["run", "--config", "unknown_key.toml"], ["unknown_key.toml", "'methd'", "did you mean method"]),
    (["run", "--config", "unknown_run_key.toml"], ["unknown_run_key.toml", "'epoch'", "did you mean epochs"]),
    (["run", "--config", "no_tables.toml"], ["no_tables.toml", "'hyperparameters'"]),
    (["run", "--config", "bad_recipe.toml"], ["bad_recipe.toml", "'lrr'", "did you mean lr"]),
    (["run", "--config", "digits.toml"], ["digits.toml", "not a valid TOML file: Exceeds the limit (4300 digits)"]),
    (["run", "--config", "digits.json"], ["digits.json", "not a valid result"]),
    (["run", "--config", "deep.toml"], ["deep.toml", "nested too deeply"]),
    (["run", "--config", "deep.json"], ["deep.json", "not a valid result"]),
    (["run", "--config", "hexadecimal.toml"], ["hexadecimal.toml", "epochs", "thousands of digits"]),
    (["run", "--config", "zero.toml"], ["cannot read the file: embedded null byte"]),
    (["run", "--config", "/dev/zero"], ["/dev/zero", "cannot read the file: it is a device or a pipe"]),
    (["run", "--config", "damaged.json"], ["damaged.json", "not a valid result"]),
    (["run", "--config", "runs"], ["runs", "cannot read the file"]),
    (["run", "--batch-norm-images", "1"], ["batch_norm_images", "greater than or equal to 2"]),
    (["run", "--batch-norm-images", "32"], ["--batch-norm-images", "over 64 images, not 32", "--accumulate 2"]),
    (["run", "--recipe", "none.toml"], ["none.toml", "cannot read the file"]),
    (["run", "--recipe", "recipe_of_its_own.toml"], ["recipe_of_its_own.toml", "'epoch'", "did you mean epochs"]),
    (["run", "--methods-dir", "none"], ["none", "methods folder is not there"]),
    (["run", "--methods-dir", "taken"], ["ce.py", "there is a method 'ce' already"]),
    (["run", "--methods-dir", "broken", "--method", "method"], ["broken/method.py, line 2", "SyntaxError"]),
    (["run", "--dataset", "folder-lt", "--data-dir", "none"], ["none", "data folder is not there"]),
    (["run", "--dataset", "cifar10-lt", "--data-dir", "none"], ["none", "no data found", "data prepare cifar10-lt"]),
    (
        ["run", "--dataset", "imagenet-lt", "--data-dir", "none"],
        ["ImageNet_LT_train.txt", "ILSVRC2012_img_train.tar (147.9 GB)", "data prepare imagenet-lt --data-dir none"],
    ),
    (["run", "--dataset", "places-lt", "--data-dir", "none"], ["Places_LT_test.txt", "data prepare places-lt"]),
    (["run", "--out", "file/results"], ["file/results", "results cannot be saved", "--out"]),
    (["tune", "--out", "file/search"], ["file/search", "cannot save", "--out"]),
    (["report", "--results", "none"], ["none", "results folder does not exist"]),
    (["report"], ["no finished run to report", "damaged.json"]),
    (["show", "ffff"], ["no run 'ffff'", "runs"]),
    (["show", "none/result.json"], ["no run 'none/result.json'"]),
    (["show", "/none/result.json"], ["no run '/none/result.json'"]),
    (["show", "damaged"], ["runs/digits-lt/ce/damaged.json", "not a valid result"]),
    (["data", "verify", "mnist"], ["unknown data set 'mnist'", "where: NAME"]),
    (["data", "verify", "digits-lt", "--imbalance-ratio", "0.5"], ["imbalance_ratio", "0.5"]),
    (["data", "verify", "cifar10-lt", "--data-dir", "none"], ["none", "no data found"]),
    (["data", "verify", "inaturalist2018", "--data-dir", "none"], ["train2018.json", "data prepare inaturalist2018"]),
    (["data", "prepare", "mnist"], ["unknown data set 'mnist'", "where: NAME"]),
    (["data", "order", "mnist"], ["unknown data set 'mnist'", "where: NAME"]),
    (["run", "--dataset", "imagenet-lt", "--data-dir", "no dir"], ["prepare imagenet-lt --data-dir 'no dir'"]),
    (
        ["data", "verify", "places-lt", "--data-dir", "no dir"],
        ["data prepare places-lt --data-dir 'no dir' then downloads"],
    ),
    (["run", "--dataset", "cifar10-lt", "--data-dir", "no dir"], ["prepare cifar10-lt --data-dir 'no dir' downloads"]),
]


@pytest.fixture
def folder(tmp_path):
    """A folder with the files that the commands above are about."""
    for name, text in SETUP.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def files_in(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if "__pycache__" not in name}


@pytest.mark.parametrize(("words", "parts"), BAD, ids=lambda value: " ".join(value)[:50])
def test_bad_input_is_one_message_and_stores_nothing(cli, folder, tmp_path_factory, monkeypatch, words, parts):
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LTBENCH_CACHE", str(cache))
    done = cli(*words)  # anything but a clean exit would come out of here as an exception
    assert done.code == 2
    assert done.out == ""
    for part in parts:
        assert part in done.err
    assert "Traceback" not in done.err
    assert files_in(folder) == set(SETUP)
    assert files_in(cache) == set()


def test_a_gpu_that_is_not_there_is_refused(cli, folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for device in ("cuda", "cuda:1"):
        done = cli("run", "--device", device)
        assert done.code == 2
        assert f"device '{device}' is not there" in done.err
        assert "--device cpu" in done.err
    assert files_in(folder) == set(SETUP)


def test_bad_input_in_the_last_run_is_found_before_the_first_one_starts(cli, folder):
    (folder / "runs.toml").write_text("epochs = 1\n[[runs]]\nmethod = 'ce'\n[[runs]]\nmethod = 'cee'\n")
    assert cli("run", "--config", "runs.toml", "--device", "cpu").code == 2
    assert files_in(folder) == {*SETUP, "runs.toml"}


def test_a_folder_given_as_methods_beats_no_built_in_name(cli, folder):
    done = cli("list", "methods", "--methods-dir", "taken")
    assert (done.code, done.out) == (2, "")


def test_an_output_file_that_cannot_be_written_is_named(cli, folder, make_result):
    Store(folder / "runs").save(make_result())
    done = cli("report", "--output", "file/board.md")
    assert done.code == 2
    assert "cannot save: " in done.err
    assert "file/board.md" in done.err


@pytest.mark.slow
def test_a_full_disk_is_one_message_and_leaves_nothing_half_written(cli, folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        done = cli(*RUN, "--method", "ce")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.code == 2
    assert "cannot save: File too large" in done.err
    assert "free some disk space" in done.err
    assert files_in(folder) == set(SETUP)
