"""The authors' values by data set and imbalance ratio, as their configurations and scripts state them."""

import pytest

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.method.paper import paper_of
from ltbench.runs.resolve import resolve
from ltbench.training.schedule import recipe_lr

SMOOTHED = ("smooth_head", "smooth_tail", "lr_factor", "shift_norms", "mixup")
VALUES = {
    # MiSLAS, config/*/*_stage2_mislas.yaml, and alpha of *_stage1_mixup.yaml
    ("mislas", "cifar10-lt", 100): dict(zip(SMOOTHED, (0.3, 0, 0.5, False, 1), strict=True)),
    ("mislas", "cifar10-lt", 50): dict(zip(SMOOTHED, (0.2, 0, 0.2, False, 1), strict=True)),
    ("mislas", "cifar10-lt", 10): dict(zip(SMOOTHED, (0.1, 0, 0.2, False, 1), strict=True)),
    ("mislas", "cifar100-lt", 100): dict(zip(SMOOTHED, (0.4, 0.1, 0.2, True, 1), strict=True)),
    ("mislas", "cifar100-lt", 50): dict(zip(SMOOTHED, (0.3, 0, 0.1, True, 1), strict=True)),
    ("mislas", "cifar100-lt", 10): dict(zip(SMOOTHED, (0.2, 0, 0.1, True, 1), strict=True)),
    ("mislas", "imagenet-lt", None): dict(zip(SMOOTHED, (0.3, 0, 0.05, True, 0.2), strict=True)),
    ("mislas", "inaturalist2018", None): dict(zip(SMOOTHED, (0.3, 0, 0.05, True, 0.2), strict=True)),
    ("mislas", "places-lt", None): dict(zip(SMOOTHED, (0.4, 0.1, 0.05, True, 0.2), strict=True)),
    ("label_aware_smoothing", "cifar10-lt", 100): {"smooth_head": 0.3, "smooth_tail": 0},
    ("label_aware_smoothing", "cifar10-lt", 50): {"smooth_head": 0.2, "smooth_tail": 0},
    ("label_aware_smoothing", "cifar10-lt", 10): {"smooth_head": 0.1, "smooth_tail": 0},
    ("label_aware_smoothing", "cifar100-lt", 50): {"smooth_head": 0.3, "smooth_tail": 0},
    ("label_aware_smoothing", "cifar100-lt", 10): {"smooth_head": 0.2, "smooth_tail": 0},
    ("label_aware_smoothing", "places-lt", None): {"smooth_head": 0.4, "smooth_tail": 0.1},
    # LADE, the commands of its read-me
    ("lade", "cifar100-lt", 100): {"alpha": 0.1, "square": 0.01},
    ("lade", "imagenet-lt", None): {"alpha": 0.05, "square": 0.5},
    ("lade", "inaturalist2018", None): {"alpha": 0.05, "square": 0.5},
    ("lade", "places-lt", None): {"alpha": 0.005, "square": 0.1},
    # PaCo and GPaCo, LT/sh/*.sh, and the default length of the queue
    ("paco", "cifar100-lt", 10): {"alpha": 0.01, "temperature": 0.05, "queue": 1024},
    ("paco", "imagenet-lt", None): {"alpha": 0.05, "temperature": 0.2, "queue": 8192},
    ("paco", "places-lt", None): {"alpha": 0.05, "temperature": 0.2, "queue": 8192},
    ("gpaco", "imagenet-lt", None): {"alpha": 0.045, "temperature": 0.2, "queue": 8192},
    ("gpaco", "inaturalist2018", None): {"alpha": 0.05, "temperature": 0.2, "queue": 8192},
    ("gpaco", "places-lt", None): {"alpha": 0.02, "temperature": 0.2, "queue": 8192},
    # BalPoE, configs/mixup/*/*.json: tau_list and alpha
    ("balpoe", "cifar10-lt", 100): {"taus": [0, 1, 2], "mixup": 0.8},
    ("balpoe", "cifar10-lt", 10): {"taus": [0, 1, 2], "mixup": 0.8},
    ("balpoe", "cifar100-lt", 50): {"taus": [0, 1, 2], "mixup": 0.4},
    ("balpoe", "imagenet-lt", None): {"taus": [0, 1.25, 2.5], "mixup": 0.3},
    ("balpoe", "inaturalist2018", None): {"taus": [-1, 1, 3], "mixup": 0.2},
    # SADE and MDCS, configs/*.json: tau, and full width where reduce_dimension is false
    ("sade", "cifar100-lt", 10): {"tau": 2, "width": 0.75},
    ("sade", "inaturalist2018", None): {"tau": 1, "width": 0.75},
    ("sade", "places-lt", None): {"tau": 1, "width": 1},
    ("mdcs", "inaturalist2018", None): {"width": 0.75},
    ("mdcs", "places-lt", None): {"width": 1},
    # RIDE, configs/*.json, and the default of its loss
    ("ride", "cifar100-lt", 100): {"diversity": -0.45, "reweight": 0.05},
    ("ride", "imagenet-lt", None): {"diversity": -0.2, "reweight": 0.02},
    ("ride", "inaturalist2018", None): {"diversity": -0.2, "reweight": 0.015},
    # BCL and ProCo, temp of main.py; ProCo's for CIFAR
    ("bcl", "inaturalist2018", None): {"temperature": 0.07, "ce_weight": 1, "contrast_weight": 0.35},
    ("proco", "cifar10-lt", 50): {"temperature": 0.1},
    ("proco", "imagenet-lt", None): {"temperature": 0.07},
    # Class-balanced loss, BETA of cifar_im_trainval_cb.sh and tpu/run_inat2018.sh
    ("class_balanced", "cifar10-lt", 50): {"beta": 0.9999},
    ("class_balanced", "inaturalist2018", None): {"beta": 0.999},
    # GML, sh/*_train_student.sh; its ImageNet code does not pass on the weight of distillation
    ("gml", "cifar100-lt", 100): {"temperature": 0.1, "queue": 4096, "smallest": 2, "distill_weight": 1},
    ("gml", "imagenet-lt", None): {"temperature": 0.07, "queue": 16384, "smallest": 3, "distill_weight": 0},
    # Weight balancing, demo2_second-stage-training.py; LOS, its read-me and utils/config.py; H2T, config/cifar100
    ("weight_balancing", "cifar100-lt", 100): {"classifier_decay": 0.1, "threshold": 0.1, "lr": 0.01, "epochs": 10},
    ("los", "cifar100-lt", 100): {"smoothing": 0.98, "epochs": 20, "lr": 0.0005},
    ("h2t", "cifar100-lt", 50): {"share": 0.25, "lr_factor": 0.2, "epochs": 10, "mixup": 1},
    # DBM, the commands of its read-me and utils/config.py; CAR, the command of its read-me
    ("dbm", "cifar100-lt", 100): {"margin": 0.1, "tau": 1, "adjustment": 1},
    ("car", "imagenet-lt", None): {"factor": 0.3, "decay": 0.5, "smoothing": 0.5, "temperature": 1},
    # cRT and LWS, num_epochs of config/*/cls_*.yaml
    ("crt", "imagenet-lt", None): {"epochs": 10},
    ("crt", "inaturalist2018", None): {"epochs": 30},
    ("crt", "places-lt", None): {"epochs": 10},
    ("lws", "inaturalist2018", None): {"epochs": 5},
}
RECIPES = {
    # epochs, batch, rate, weight decay, schedule, of the scripts above
    ("paco", "inaturalist2018"): (400, 128, 0.02, 1e-4, "cosine"),
    ("gpaco", "inaturalist2018"): (400, 128, 0.04, 1e-4, "cosine"),
    ("bcl", "inaturalist2018"): (100, 256, 0.2, 1e-4, "cosine"),
    ("proco", "inaturalist2018"): (90, 256, 0.2, 1e-4, "cosine"),
    ("class_balanced", "cifar10-lt"): (200, 128, 0.1, 2e-4, "step"),
    ("balanced_softmax", "imagenet-lt"): (90, 512, 0.2, 5e-4, "cosine"),
    ("sade", "places-lt"): (30, 128, 0.01, 4e-4, "step"),
    ("mdcs", "places-lt"): (30, 64, 0.01, 4e-4, "step"),
    ("lift", "places-lt"): (10, 128, 0.01, 5e-4, "cosine"),
    ("weight_balancing", "cifar100-lt"): (200, 64, 0.01, 5e-3, "cosine"),
    ("los", "cifar100-lt"): (200, 64, 0.01, 5e-3, "cosine"),
    ("dbm", "cifar100-lt"): (200, 64, 0.1, 2e-4, "cosine"),
    ("h2t", "cifar100-lt"): (200, 128, 0.1, 2e-4, "step"),
    ("glmc", "cifar100-lt"): (200, 64, 0.01, 5e-3, "cosine"),
    ("glmc", "imagenet-lt"): (135, 120, 0.1, 2e-4, "cosine"),
    ("glmc", "inaturalist2018"): (120, 128, 0.1, 1e-4, "cosine"),
    ("gml", "cifar100-lt"): (200, 128, 0.1, 5e-4, "step"),
    ("bbn", "cifar10-lt"): (200, 128, 0.1, 2e-4, "step"),
    ("cmo", "inaturalist2018"): (400, 128, 0.02, 1e-4, "cosine"),
}
WARMUPS = {
    # Epochs of warm-up: warmup_epoch of configs/*.json (BalPoE, SADE, RIDE, MDCS), WARM_EPOCH of config/*.yaml (NCL,
    # BBN), warm_epoch of config/*.yaml (LADE), and the constants of the others' scripts
    ("balpoe", "cifar100-lt"): 5,
    ("sade", "cifar10-lt"): 5,
    ("sade", "inaturalist2018"): 5,
    ("ride", "cifar100-lt"): 5,
    ("ride", "imagenet-lt"): 5,
    ("mdcs", "cifar10-lt"): 20,
    ("mdcs", "cifar100-lt"): 20,
    ("mdcs", "imagenet-lt"): 0,
    ("mdcs", "inaturalist2018"): 5,
    ("mdcs", "places-lt"): 0,
    ("ncl", "cifar100-lt"): 5,
    ("ncl", "imagenet-lt"): 0,
    ("bbn", "cifar100-lt"): 5,
    ("lade", "cifar100-lt"): 5,
    ("paco", "cifar100-lt"): 10,
    ("paco", "imagenet-lt"): 10,
    ("gpaco", "inaturalist2018"): 10,
    ("cmo", "cifar100-lt"): 10,
    ("cmo", "inaturalist2018"): 10,
    ("proco", "cifar100-lt"): 5,
    ("vs", "cifar10-lt"): 5,
    ("ldam_drw", "cifar100-lt"): 5,
    ("gml", "cifar100-lt"): 5,
    ("dbm", "cifar100-lt"): 5,
    ("crt", "imagenet-lt"): 0,
    ("disalign", "imagenet-lt"): 0,
}


@pytest.mark.slow
@pytest.mark.parametrize(("method", "dataset", "ratio"), VALUES)
def test_hyperparameters_are_the_authors_for_the_data_set_and_its_imbalance_ratio(method, dataset, ratio):
    config = resolve(RunConfig(method=method, dataset=dataset, imbalance_ratio=ratio)).config
    want = VALUES[method, dataset, ratio]
    assert {name: config.hyperparameters[name] for name in want} == want


@pytest.mark.parametrize(("method", "dataset"), RECIPES)
def test_the_recipe_is_the_authors(method, dataset):
    recipe = resolve(RunConfig(method=method, dataset=dataset, recipe="paper")).recipe
    stated = (recipe.epochs, recipe.batch_size, recipe.lr, recipe.weight_decay, recipe.schedule)
    assert stated == RECIPES[method, dataset]


@pytest.mark.parametrize(("method", "dataset"), WARMUPS)
def test_the_rate_warms_up_for_as_many_epochs_as_the_authors(method, dataset):
    recipe = resolve(RunConfig(method=method, dataset=dataset, recipe="paper")).recipe
    warmup = recipe.epochs_of(recipe.warmup)
    assert warmup == WARMUPS[method, dataset]
    rates = [recipe_lr(recipe, epoch) for epoch in range(warmup + 1)]
    assert rates[:warmup] == pytest.approx([recipe.lr * epoch / warmup for epoch in range(1, warmup + 1)])
    assert rates[warmup] == pytest.approx(recipe.lr, rel=1e-2)


def test_the_hard_classes_of_ncl_are_as_many_as_published():
    # 30 of 100, 300 of 1000, 2442 of 8142, 122 of 365
    for dataset, classes, hard in (
        ("cifar100-lt", 100, 30),
        ("imagenet-lt", 1000, 300),
        ("inaturalist2018", 8142, 2442),
        ("places-lt", 365, 122),
    ):
        share = resolve(RunConfig(method="ncl", dataset=dataset)).config.hyperparameters["hard_categories"]
        assert int(share * classes + 1e-6) == hard


@pytest.mark.parametrize("name", registry.method_names())
def test_every_recipe_of_authors_augments_its_images(name):
    for table, recipe in paper_of(registry.method(name)).recipe.items():
        augment = recipe.augment
        assert augment.crop or augment.padding, table
        assert augment.flip, table
