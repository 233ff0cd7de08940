"""What a long-tailed method is, and all that an author of one needs.

Only ``forward`` must be written; everything else has a default that fits one network with one head:

    class CrossEntropy(Method):
        def forward(self, batch, progress):
            return batch.loss(lambda labels: cross_entropy(self.network(batch.images), labels))

See ``ltbench/method/base.py`` for what may be overridden.
"""

from typing import TYPE_CHECKING

from ltbench.lazy import lazy_names
from ltbench.method.method_config import MethodConfig as MethodConfig
from ltbench.method.method_config import SelectedTau as SelectedTau
from ltbench.method.search_space import Choice as Choice
from ltbench.method.search_space import Range as Range
from ltbench.method.search_space import hyperparameter as hyperparameter

if TYPE_CHECKING:
    from ltbench.method.base import BackboneFactory as BackboneFactory
    from ltbench.method.base import ClassPrior as ClassPrior
    from ltbench.method.base import Method as Method
    from ltbench.method.base import StageData as StageData
    from ltbench.method.base import base_run as base_run
    from ltbench.method.batch import Batch as Batch
    from ltbench.method.batch import Loss as Loss
    from ltbench.method.sampler import Sampler as Sampler
    from ltbench.method.sampler import Shuffled as Shuffled
    from ltbench.method.sampler import Weighted as Weighted
    from ltbench.method.sampler import class_balanced as class_balanced
    from ltbench.method.second_stage import SecondStage as SecondStage
    from ltbench.method.second_stage import best_tau as best_tau
    from ltbench.method.second_stage import need_validation as need_validation
    from ltbench.method.stage import Progress as Progress
    from ltbench.method.stage import Stage as Stage
    from ltbench.method.stage import StageSchedule as StageSchedule
    from ltbench.method.stage import at_rest as at_rest
    from ltbench.method.stage import deferred as deferred

_HOMES = {
    "BackboneFactory": "base",
    "ClassPrior": "base",
    "Method": "base",
    "StageData": "base",
    "base_run": "base",
    "Batch": "batch",
    "Loss": "batch",
    "Sampler": "sampler",
    "Shuffled": "sampler",
    "Weighted": "sampler",
    "class_balanced": "sampler",
    "SecondStage": "second_stage",
    "best_tau": "second_stage",
    "need_validation": "second_stage",
    "Progress": "stage",
    "Stage": "stage",
    "StageSchedule": "stage",
    "at_rest": "stage",
    "deferred": "stage",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)  # what needs torch comes on first use
