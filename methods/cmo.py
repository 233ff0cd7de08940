"""CMO: boxes of tail images pasted into images of the natural distribution, over balanced softmax."""

from ltbench.method import MethodConfig, Range, hyperparameter
from ltbench_methods.balanced_softmax import BalancedSoftmax


class CMO(BalancedSoftmax):
    """Balanced softmax on images into which boxes of tail images are pasted, as CutMix does.

    Park et al. (CVPR 2022), equations 2 and 3. In half of the batches a box of images drawn with class-balanced
    chances replaces that part of the images, and the two labels share the loss by area. This is the entry of the
    paper's tables; the pasting is a setting of every method, so CMO over another loss is for example
    ``--method ldam_drw --set cmo=0.5``.

    Where the first and last epochs go without pasting, as published, these are here shares of training, so that they
    scale with its length. In the authors' recipe of 400 epochs each image is augmented by AutoAugment and Cutout or as
    in SimCLR, by chance; ``--recipe paper`` has the first alone.
    """

    class Config(MethodConfig):
        searches_mixup = False

        cmo: float | None = hyperparameter(
            0.5,
            search=Range(0.0, 1.0),
            ge=0,
            le=1,
            description="fraction of the batches into which boxes of tail images are pasted",
        )

    family = "mixing"
    revision = 1
