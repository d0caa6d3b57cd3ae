
from dataclasses import dataclass
from pathlib import Path
from sweep.perturb import Transform, parameter, register

CANARY = Path("CANARY").open("a").write("ran ")

@register("stripes")
@dataclass(frozen=True, kw_only=True)
class Stripes(Transform):
    """w + s · v, one v ~ N(0, 1) for each output channel."""

    scale: float = parameter("noise level", minimum=0.0)

    @property
    def random(self):
        return self.scale > 0

    def apply(self, weight, variable, generator):
        return weight + self.scale * generator.standard_normal(weight.shape[-1:], dtype="float32")
