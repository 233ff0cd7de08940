"""Networks whose training ltbench knows nothing of, as a method."""

from typing import Literal

from pydantic import Field

from ltbench.method import BackboneFactory, Method, MethodConfig
from ltbench.models.experts import ExpertNetwork


class Imported(Method):
    """A network with weights that others have trained; it predicts, by the mean of its experts' logits."""

    class Config(MethodConfig):
        """What the weights say about the network."""

        experts: int = Field(1, ge=1)
        width: float = Field(1.0, description="width of the experts' stages: 1 or 0.75")
        head: Literal["linear", "cosine"] = "cosine"

    config: Config

    def make_network(self, build: BackboneFactory) -> ExpertNetwork:
        """The network that the weights fit."""
        return build(self.config.experts, width=self.config.width, head=self.config.head)
