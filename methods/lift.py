"""LIFT: small adapters in a frozen pre-trained vision transformer."""

import math

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ltbench.method import Choice, Method, MethodConfig, hyperparameter
from ltbench.method.losses import cross_entropy
from ltbench.models.heads import CosineLinear

SCALE = 25.0
"""Scale of the cosine classifier."""


class LIFT(Method):
    """Freeze a pre-trained vision transformer, train an adapter in each block and a cosine classifier, with LA loss.

    Shi et al. (ICML 2024): full fine-tuning makes the features of tail classes worse, a few parameters are enough.
    The adapters (AdaptFormer: norm, down-projection, ReLU, up-projection, learned scale) stand in parallel to the
    blocks' perceptrons and start at zero; their width is 2^floor(log2(C / 2L)) for C classes and L blocks, at least 1.

    Meant for ``--backbone vit_base_patch16_clip_224.openai --pretrained --recipe paper``, or ``--weights FILE`` with
    those of a CLIP or ImageNet-21k transformer, and for data sets whose images can be read in its size. From random
    weights it is a classifier on random features and cannot come near cross entropy: on digits-lt 84 % macro accuracy
    over five seeds, where cross entropy has 95 %.

    Departures: there is no text encoder here, so the classifier starts from the classes' mean features (one of the
    initialisations of the published code, whose default is CLIP's text features); no test-time ensemble of five
    crops; CIFAR's images keep their 32 pixels, where the authors enlarge them to 224. In a network without timm's
    plain transformer blocks there is no place for adapters: there the norms train, beside the classifier.
    """

    class Config(MethodConfig):
        bottleneck: int | None = hyperparameter(
            None,
            search=Choice((4, 16, 64)),
            ge=1,
            description="width of the adapters; by default 2^floor(log2(C / 2L)) for C classes, L blocks",
        )

    family = "fine-tuning"
    revision = 1
    logit_prior = 0.0  # the prior is in the loss, not in the logits
    head = "cosine"
    comparison_group = "foundation model"
    trains_backbone = True

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        modules = list(self.network.modules())
        norms = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
        adapters: list[nn.Module] = [module for module in modules if isinstance(module, Adapter)]
        tuned = adapters or [module for module in modules if isinstance(module, norms)]
        self.requires_grad_(False)
        for module in (*tuned, *self.network.heads):
            module.requires_grad_(True)

    def make_network(self, build):
        network = build(head=self.head)
        for head in network.heads:
            assert isinstance(head, CosineLinear)
            head.scale = SCALE
        blocks = [(name, module) for name, module in network.named_modules() if type(module) is Block]
        if blocks:
            width = self.config.bottleneck or bottleneck(len(self.prior.counts), len(blocks))
            for name, block in blocks:
                network.set_submodule(name, AdaptedBlock(block, width))
        return network

    @torch.no_grad()
    def begin(self, stage, data):
        """Point the classifier's weights to the classes' mean features, before anything trains."""
        if stage.after_head:
            return
        self.network.eval()  # the loop puts it in training mode again
        (head,) = self.network.heads
        assert isinstance(head, CosineLinear)
        sums = torch.zeros_like(head.weight)  # of a class: in the direction of its mean
        for batch in data.eval_batches():
            members = F.one_hot(batch.labels, len(sums)).float()
            sums += members.T @ self.network.features(batch.images)[0]
        head.weight.copy_(F.normalize(sums, dim=1))

    def forward(self, batch, progress):
        """CE(z + log pi, y)."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits + self.log_prior, labels))


class AdaptedBlock(nn.Module):
    """A transformer block with an adapter in parallel to its perceptron.

    Args:
        block: of timm's plain vision transformer.
        width: of the adapter.
    """

    def __init__(self, block: Block, width: int) -> None:
        super().__init__()
        assert isinstance(block.norm2.weight, Tensor)
        self.block = block
        self.adapter = Adapter(len(block.norm2.weight), width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, D) from the same."""
        block = self.block
        x = x + block.drop_path1(block.ls1(block.attn(block.norm1(x))))
        adapted: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x)))) + self.adapter(x)
        return adapted


class Adapter(nn.Module):
    """AdaptFormer's: scale * up(relu(down(norm(x)))), zero at first.

    Chen et al., "AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition" (NeurIPS 2022), with
    the scale learned, as in LIFT's published code.

    Args:
        features: D.
        width: of what is between the projections.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.down = nn.Linear(features, width)
        self.up = nn.Linear(width, features)
        self.scale = nn.Parameter(torch.ones(1))
        nn.init.kaiming_normal_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, D) from the same."""
        adapted: Tensor = self.scale * self.up(F.relu(self.down(self.norm(x))))
        return adapted


def bottleneck(classes: int, blocks: int) -> int:
    """The adapters' width, 2^floor(log2(C / 2L)) and at least 1: all of them have about as many weights as the head."""
    return int(2 ** max(0, math.floor(math.log2(classes / (2 * blocks)))))
