"""Many trials of one network in one forward pass.

T perturbed copies of a network see the same images. Their activations are carried together, each layer acts on all of
them at once (`rules`), and what no perturbed weight has reached yet is computed once for all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import keras

from sweep.engine.graph import Graph, Unsupported
from sweep.engine.sites import Site
from sweep.engine.stacked import taps
from sweep.engine.stacked.layouts import Activation, Call, Layout
from sweep.engine.stacked.rules import RULES, activate, is_covered
from sweep.engine.steps import Step, Tensor


class StackedNetwork:
    """The forward pass of T perturbed copies of a network, as pure tensor code.

    The caller wraps `forward`, and `run_prefix` of the graph, in compiled functions of fixed shapes; T is read from the
    weights.

    Attributes:
        graph: the steps of the model and where they are cut.
        varied: the sorted indices into `model.weights` that trials perturb.
    """

    def __init__(
        self, model: keras.Model, varied: Collection[int], sites: Sequence[Site] = (), products: bool = False
    ) -> None:
        """Plans the pass.

        Args:
            model, varied, sites: as for `Graph`.
            products: as of `Call`.

        Raises:
            Unsupported: as `Graph`, or a layer after the first perturbed one is not in `RULES`, or not in this form.
        """
        self.graph = Graph(model, varied, sites)
        self.graph.check_rest()
        self._products = products
        self.varied = self.graph.varied
        for step in self.graph.rest:
            if not is_covered(step):
                raise Unsupported(f"{step} is not in the list of stacked layers")
        self._pooled = {step.outputs[0]: behind for step, behind in self._pairs()} if products else {}

    def forward(self, boundary: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """The outputs of all trials.

        Args:
            boundary: what `graph.run_prefix` returned, for B images.
            weights: the values (T, *shape) of the varied weights, then of the sites, in the order of `varied`.

        Returns:
            (T, B, outputs).
        """
        graph, trials = self.graph, int(weights[0].shape[0])
        varied: Mapping[int, Tensor] = dict(zip(graph.varied, weights, strict=True))
        slots = {i: Activation(x, Layout.SHARED, trials) for i, x in zip(graph.boundary, boundary, strict=True)}
        with keras.StatelessScope(state_mapping=[], collect_losses=False):
            for step in graph.rest:
                if step.outputs[0] in slots:
                    continue
                inputs = tuple(slots[i] for i in step.inputs)
                call = Call(step.operation, inputs, step.fill, varied, graph.number, trials, self._products)
                behind = self._pooled.get(step.outputs[0])
                if behind:
                    slots[behind.outputs[0]] = activate(
                        taps.write_out(call, behind.operation), step.operation.activation
                    )
                else:
                    slots[step.outputs[0]] = RULES[type(step.operation)](call)
        return slots[graph.output].per_trial()

    def _pairs(self) -> Iterator[tuple[Step, Step]]:
        """Convolutions, each with the pooling that alone reads it, that are one."""
        for step in self.graph.rest:
            readers = [other for other in self.graph.rest if set(step.outputs) & set(other.inputs)]
            if len(readers) == 1 and self.graph.output not in step.outputs and taps.is_pooled(step, readers[0]):
                yield step, readers[0]
