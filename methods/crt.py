"""cRT: the classifier of a cross-entropy network, trained anew on balanced classes."""

from ltbench.method import Choice, MethodConfig, SecondStage, Stage, StageSchedule, class_balanced, hyperparameter
from ltbench.method.losses import cross_entropy
from ltbench.models.heads import reinitialise


class ClassifierRetraining(SecondStage):
    """Freeze the backbone of the CE run and train a new classifier with class-balanced sampling.

    Kang et al. (ICLR 2020), "cRT": the long tail spoils the classifier more than the features. As in the published
    code the frozen batch norms go on updating their running statistics, now of balanced batches, the second stage
    starts at the rate of the first, and a linear head gets new weights that are uniform within 1 / sqrt(D).

    Departures: every image of a batch is of a class drawn at random, where the published sampler visits the classes
    in a shuffled cycle and takes four images at each visit; in expectation the two are the same. Mixing belongs to
    the first stage; the second sees images as they are. A cosine head, which the published code has not, gets new
    weights as it had at first. On Places-LT the published second stage has a rate of its own (0.1, batches of 256).
    """

    class Config(MethodConfig):
        epochs: int = hyperparameter(
            10,
            search=Choice((5, 10, 20, 30)),
            ge=1,
            description="epochs of the second stage, in addition to the recipe's",
        )

    family = "two stages"
    first = "ce"
    revision = 2
    logit_prior = 0.0  # 0: the classifier has seen balanced classes only

    def stages(self, recipe):
        schedule = StageSchedule(recipe.lr)
        return [Stage("classifier", self.config.epochs, ("network.heads",), frozen_norms="train", schedule=schedule)]

    def begin(self, stage, data):
        """Forget the classifier of the first stage."""
        for head in self.network.heads:
            reinitialise(head)

    def samplers(self, labels, stage):
        return {"main": class_balanced(labels)}

    def forward(self, batch, progress):
        """CE(z, y)."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))
