"""How a model is divided over devices, as data: tensor parallelism and pipeline stages.

A tensor-parallel shard has the rows or columns of a matrix that `olmo.weights` says, of every stored
tensor of the matrix alike; a pipeline stage has whole layers. Names of divided tensors and of the
functions that divide them are MLC's (its `support/tensor_parallel.py` and `support/preshard.py`).
Imports neither numpy nor tvm.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from olmo.configuration.config import OLMoConfig
from olmo.errors import OlmoError
from olmo.quantization import Quantization
from olmo.weights import Parameter, Weight, is_quantized, part_name, stored, weights


@dataclass(frozen=True, slots=True)
class Division:
    """A stored tensor in `shards` parts: of each of its `segments` along `axis` an equal piece.

    `whole` is the tensor, `function` the name of the library's function that divides it.
    """

    whole: Parameter
    function: str
    axis: int
    segments: tuple[int, ...]
    shards: int

    @property
    def part(self) -> Parameter:
        """One part, under the name of the whole."""
        shape = list(self.whole.shape)
        shape[self.axis] //= self.shards
        return Parameter(self.whole.name, tuple(shape), self.whole.dtype)

    def named_part(self, shard: int) -> Parameter:
        """One part under the name that it has in a directory of divided weights."""
        part = self.part
        return Parameter(part_name(part.name, shard), part.shape, part.dtype)

    def pieces(self, shard: int) -> Iterator[tuple[slice, ...]]:
        """Yield the indices of the pieces that, along `axis`, make up one part."""
        start = 0
        for segment in self.segments:
            size = segment // self.shards
            first = start + shard * size
            yield (slice(None),) * self.axis + (slice(first, first + size),)
            start += segment


@dataclass(frozen=True, slots=True)
class Placed:
    """A stored tensor and where it goes: to each shard all of it or a part, and to which stages."""

    parameter: Parameter
    division: Division | None
    stages: tuple[int, ...]

    @property
    def local(self) -> Parameter:
        """What one device holds, under the tensor's own name."""
        return self.parameter if self.division is None else self.division.part

    @property
    def presharded(self) -> tuple[Parameter, ...]:
        """What a directory of divided weights holds."""
        if self.division is None:
            return (self.parameter,)
        return tuple(self.division.named_part(shard) for shard in range(self.division.shards))


def placed(config: OLMoConfig, quantization: Quantization) -> tuple[Placed, ...]:
    """Return every stored tensor of the model, in model order, with its place on the devices.

    Raises:
        OlmoError: as `check_shards`.
    """
    check_shards(config, quantization)
    shards = config.tensor_parallel_shards
    return tuple(
        Placed(parameter, division(weight, parameter, shards), _stages(config, weight))
        for weight in weights(config)
        for parameter in stored(weight, quantization)
    )


def division(weight: Weight, parameter: Parameter, shards: int) -> Division | None:
    """Return how one of the tensors that store a weight is divided; None if it is not.

    Along the outputs, each source of the weight is a segment. A scale of the whole tensor, of shape
    [1], belongs to every part.
    """
    split = weight.split
    if split is None or shards == 1 or len(parameter.shape) == 1:
        return None
    suffix = parameter.name.removeprefix(weight.name).removeprefix(".")
    function = split.function if suffix == "weight" else f"{split.function}_{suffix}"
    extent = parameter.shape[split.axis]
    rows = tuple(source.shape[0] for source in weight.sources)
    return Division(parameter, function, split.axis, (extent,) if split.axis else rows, shards)


def check_shards(config: OLMoConfig, quantization: Quantization) -> None:
    """Refuse quantizations that cannot be divided over the config's `tensor_parallel_shards`.

    Heads and intermediate size have been checked by the config itself.

    Raises:
        OlmoError: a layout that is not divided, or groups that shards do not divide evenly.
    """
    shards = config.tensor_parallel_shards
    if shards == 1:
        return
    reason = undividable(quantization)
    if reason is not None:
        raise OlmoError(f"{quantization.name} with tensor_parallel_shards {shards}: {reason}")
    for weight in weights(config):
        columns = weight.shape[1]
        grouped = quantization.kind == "group" and is_quantized(weight, quantization)
        if weight.split is not None and weight.split.axis and grouped:
            unit = quantization.group_size * shards
            if columns % unit:
                raise OlmoError(
                    f"{quantization.name} with tensor_parallel_shards {shards}: the {columns} "
                    f"inputs of {weight.name} are not groups of {quantization.group_size} for "
                    f"each shard",
                    "choose fewer shards, or a quantization without groups such as q0f16",
                )


def undividable(quantization: Quantization) -> str | None:
    """Return why weights of this quantization are not divided; None if they are. As in MLC."""
    if quantization.layout == "KN":
        return "the transposed layout KN is not divided; choose a quantization that ends in _1"
    if quantization.kind == "awq":
        return "AWQ's packed weights are not divided; choose q4f16_1 of the unquantized checkpoint"
    return None


def layer_partition(config: OLMoConfig) -> tuple[int, ...]:
    """Return the first layer of each pipeline stage, and the number of layers at the end."""
    stages = config.pipeline_parallel_stages
    each = config.num_hidden_layers // stages
    return tuple(each * stage for stage in range(stages + 1))


def _stages(config: OLMoConfig, weight: Weight) -> tuple[int, ...]:
    """Return the stages that hold a weight: all of them hold the embedding and the head."""
    stages = config.pipeline_parallel_stages
    if weight.layer is None:
        return tuple(range(stages))
    return (weight.layer * stages // config.num_hidden_layers,)
