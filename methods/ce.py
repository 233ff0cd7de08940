"""Cross entropy: the baseline that learns the training prior along with everything else."""

from ltbench.method import Batch, Claim, Loss, Method, Paper, Progress
from ltbench.method.losses import cross_entropy


class CrossEntropy(Method):
    """Plain cross entropy on a single network, sampled uniformly over images.

    Its claims depend on whose baseline it is: on CIFAR-100-LT IR 100 with ResNet-32, papers report 37.7 to 41.4 %. The
    paper named here is the survey that compares others with it under one recipe.
    """

    family = "baseline"
    revision = 1
    paper = Paper(
        title="Deep Long-Tailed Learning: A Survey",
        authors="Yifan Zhang and Bingyi Kang and Bryan Hooi and Shuicheng Yan and Jiashi Feng",
        venue="IEEE Transactions on Pattern Analysis and Machine Intelligence",
        year=2023,
        claims=(
            "CE|CIFAR-100-LT|100|ResNet-32|standard (200)",
            *(f"CE|CIFAR-100-LT|{ratio}|ResNet-32|200" for ratio in (10, 50, 100)),
            "Softmax|CIFAR-100-LT|100|ResNet-32|standard (200)",
            "Softmax|CIFAR-100-LT|100|ResNet-32|200",
            "Softmax|CIFAR-100-LT|200|ResNet-32|13000 iters, batch 512",
            "ERM|CIFAR-100-LT|100|ResNet-32|1419",
            "ERM|CIFAR-100-LT|100|ResNet-32|as TF original",
            *(f"CE|CIFAR-10-LT|{ratio}|ResNet-32|200" for ratio in (50, 100)),
            "ERM|CIFAR-10-LT|100|ResNet-32|1241",
            "ERM|CIFAR-10-LT|100|ResNet-32|as TF original",
            *(f"CE|ImageNet-LT|256|ResNet-50|{epochs}" for epochs in (90, 180)),
            "CE|ImageNet-LT|256|ResNeXt-50-32x4d|100",
            "CE joint|ImageNet-LT|256|ResNeXt-50-32x4d|90(+10 cRT/+5 LWS)",
            "CE stage 1|ImageNet-LT|256|ResNeXt-50-32x4d|90",
            *(
                f"Softmax|ImageNet-LT|256|ResNeXt-50-32x4d|{epochs}"
                for epochs in ("90", "180", "200", "standard (180)")
            ),
            "Softmax / joint|ImageNet-LT|256|ResNeXt-50-32x4d|200",
            *(f"{name}|iNaturalist-2018|500|ResNet-50|100" for name in ("CE", "Softmax")),
            "CE|iNaturalist-2018|500|ResNet-50|see source",
            Claim("Mixup (CE)|CIFAR-100-LT|100|ResNet-32|standard (200)", {"mixup": ...}),
            *(Claim(f"CE+mixup|CIFAR-100-LT|{ratio}|ResNet-32|200", {"mixup": ...}) for ratio in (10, 50, 100)),
            *(
                Claim(f"MiSLAS stage 1 (CE+mixup)|CIFAR-100-LT|{ratio}|ResNet-32|200", {"mixup": 1})
                for ratio in (10, 50, 100)
            ),
            Claim("MiSLAS stage 1 (CE+mixup)|ImageNet-LT|256|ResNet-50|180", {"mixup": 0.2}),
            Claim("MiSLAS stage 1 (CE+mixup)|iNaturalist-2018|500|ResNet-50|200", {"mixup": 0.2}),
        ),
    )

    @property
    def logit_prior(self) -> float:
        """The logits contain the training prior once."""
        return 1.0

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """CE(z, y)."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))
