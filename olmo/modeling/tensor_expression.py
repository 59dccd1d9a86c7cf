"""Tensor expressions in a model: each becomes a PrimFunc once, however many layers have it.

TVM makes a PrimFunc of an expression wherever it is met and then drops those that are equal to
another; a model of 16 layers makes most of them 160 times.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from tvm import relax, te
from tvm.ir import is_prim_var
from tvm.relax.frontend.nn import Tensor, op

Function = Callable[..., te.Tensor]
_Made = tuple[relax.GlobalVar, relax.TensorType]

_made: ContextVar[dict[Hashable, _Made] | None] = ContextVar("_made", default=None)


@contextmanager
def made_once() -> Iterator[None]:
    """Reuse PrimFuncs while one module is built; a module built inside must be the only one."""
    token = _made.set({})
    try:
        yield
    finally:
        _made.reset(token)


def tensor_expression(function: Function, name: str, arguments: Sequence[Tensor]) -> Tensor:
    """Emit a call of the PrimFunc that computes `function` of the arguments.

    It is reused for arguments of equal shapes and dtypes if `function` has the same code and what
    it captures compares equal: so it should capture values, not layers.
    """
    made, key = _made.get(), _key(function, arguments)
    if made is None or key is None:
        return op.tensor_expr_op(function, name, list(arguments))
    expressions = [argument._expr for argument in arguments]  # noqa: SLF001 - the frontend has no public accessor
    builder = relax.BlockBuilder.current()
    if key in made:
        primitive, made_type = made[key]
        return Tensor(_expr=builder.emit(relax.call_tir(primitive, expressions, made_type)))
    result: Tensor = op.tensor_expr_op(function, name, list(arguments))
    call = builder.lookup_binding(result._expr)  # noqa: SLF001 - as above
    if len(call.args) == 2:  # the function and its tensors, no further variables
        made[key] = call.args[0], call.ty_args[0]
    return result


def _key(function: Function, arguments: Sequence[Tensor]) -> Hashable | None:
    captured = tuple(cell.cell_contents for cell in function.__closure__ or ())
    try:
        shapes = tuple((*map(_dimension, argument.shape), argument.dtype) for argument in arguments)
        hash(captured)
    except TypeError:
        return None
    return function.__code__, captured, shapes


def _dimension(extent: object) -> Hashable:
    """Return a fixed extent or a variable; TypeError for any other expression."""
    if isinstance(extent, int) or is_prim_var(extent):
        return extent
    raise TypeError(extent)
