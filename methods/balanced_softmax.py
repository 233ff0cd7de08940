"""Balanced softmax: the class counts go into the softmax of the training loss."""

from ltbench.config.recipes.augmentations import CIFAR_AUTOAUGMENT_CUTOUT, IMAGENET
from ltbench.method import Batch, Loss, Method, Paper, Progress
from ltbench.method.losses import logit_adjusted_cross_entropy


class BalancedSoftmax(Method):
    """Cross entropy of z + log n, so that the bare logits z belong to a balanced test set.

    Ren et al. (NeurIPS 2020), theorem 1. Equal to the logit adjustment loss with tau = 1; listed under its own
    name because papers do. BalPoE with one expert is this with mixup. The authors' warm-up for CIFAR starts at half of
    the rate, that of ``--recipe paper`` near zero.
    """

    family = "loss"
    revision = 1
    paper = Paper(
        title="Balanced Meta-Softmax for Long-Tailed Visual Recognition",
        authors="Jiawei Ren and Cunjun Yu and Shunan Sheng and Xiao Ma and Haiyu Zhao and Shuai Yi and Hongsheng Li",
        venue="Advances in Neural Information Processing Systems",
        year=2020,
        claims=(
            "Balanced Softmax|CIFAR-100-LT|200|ResNet-32|13000 iters, batch 512",
            "BS|CIFAR-100-LT|100|ResNet-32|standard (200)",
            "Balanced Softmax|ImageNet-LT|256|ResNeXt-50-32x4d|90",
            "Balanced Softmax|ImageNet-LT|256|ResNeXt-50-32x4d|200",
            "Balanced Softmax / joint|ImageNet-LT|256|ResNeXt-50-32x4d|200",
        ),
        recipes={
            "cifar": {
                "epochs": 684,  # of IR 200's 9,502 images: the 13,000 steps of the published configuration
                "batch_size": 512,
                "nesterov": False,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "warmup": 0.06,  # 800 steps; theirs start at half the rate
                "augment": CIFAR_AUTOAUGMENT_CUTOUT,
                "head": "linear",
            },
            "imagenet-lt": {  # theirs is a ResNet-10
                "epochs": 90,
                "batch_size": 512,
                "lr": 0.2,
                "nesterov": False,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "warmup": 0,
                "augment": IMAGENET,
                "head": "linear",
            },
        },
    )

    @property
    def logit_prior(self) -> float:
        """The training prior is taken out of the logits."""
        return 0.0

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """CE(z + log pi, y)."""
        logits = self.network(batch.images)
        one = self.log_prior.new_ones(())
        return batch.loss(lambda labels: logit_adjusted_cross_entropy(logits, labels, self.log_prior, one))
