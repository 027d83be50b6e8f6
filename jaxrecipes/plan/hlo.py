"""Reads the text of a module that XLA has optimized: its instructions, and what each computes."""

import collections
import dataclasses
import math
import re

_BYTES = {
    **dict.fromkeys(("pred", "s8", "u8", "f8e4m3fn", "f8e5m2"), 1.0),
    **dict.fromkeys(("s16", "u16", "bf16", "f16"), 2.0),
    **dict.fromkeys(("s32", "u32", "f32"), 4.0),
    **dict.fromkeys(("s64", "u64", "f64", "c64"), 8.0),
    **dict.fromkeys(("s4", "u4"), 0.5),
}
_SHAPE = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) ")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)(?= [a-z])|\S+) ([\w\-]+)\((.*)$")

Shape = tuple[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a module.

    Attributes:
      name, op: as the text has them.
      shapes: (dtype, dimensions) of each array of the result.
      operands: their names.
      inside: what stands in the parentheses.
      rest: what follows them.
    """

    name: str
    op: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    inside: str
    rest: str

    @property
    def result_bytes(self) -> float:
        """Of all arrays of the result."""
        return sum(_BYTES[dtype] * math.prod(dims) for dtype, dims in self.shapes)

    @property
    def elements(self) -> int:
        """Numbers in all arrays of the result."""
        return sum(math.prod(dims) for _, dims in self.shapes)

    def called(self, *keys: str) -> list[str]:
        """The computations under these attributes."""
        found: list[str] = []
        for key in keys:
            for group, one in re.findall(rf"\b{key}=(?:\{{([^}}]*)\}}|%?([\w.\-]+))", self.rest):
                found += re.findall(r"[\w.\-]+", group or one)
        return found

    def numbers(self, key: str) -> list[int]:
        """Of an attribute such as `lhs_contracting_dims={1}`."""
        found = re.search(rf"\b{key}=\{{([\d,]*)\}}", self.rest)
        return [int(n) for n in found[1].split(",") if n] if found else []

    @property
    def target(self) -> str:
        """What a custom call calls."""
        found = re.search(r'custom_call_target="([^"]*)"', self.rest)
        return found[1] if found else ""


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
    """The computations of a module by name, and the name of the first one."""

    computations: dict[str, Computation]
    entry: str


def read_module(text: str) -> Module:
    """The module of `compiled.as_text()`.

    Raises:
      ValueError: the text has no entry computation.
    """
    computations: dict[str, Computation] = {}
    current, entry = "", ""
    for line in text.splitlines():
        if line[:1].strip() and line.rstrip().endswith("{") and not line.startswith("HloModule"):
            head = _COMPUTATION.match(line)
            if head:
                current = head[2]
                computations[current] = {}
                entry = current if head[1] else entry
        elif current and (found := _INSTRUCTION.match(line)):
            name, shapes, op, tail = found.groups()
            end = _closing(tail)
            inside = tail[:end]
            computations[current][name] = Instruction(
                name=name,
                op=op,
                shapes=tuple(shapes_in(shapes)),
                operands=tuple(re.findall(r"%([\w.\-]+)", inside)),
                inside=inside,
                rest=tail[end + 1 :],
            )
    if not entry or not computations[entry]:
        raise ValueError("the compiled program is no text of an HLO module that can be read")
    return Module(computations, entry)


def shapes_in(text: str) -> list[Shape]:
    """The arrays of a type such as `(f32[8,4]{1,0}, s32[])`."""
    return [
        (dtype, tuple(int(n) for n in dims.split(",") if n))
        for dtype, dims in _SHAPE.findall(text)
        if dtype in _BYTES
    ]


def _closing(text: str) -> int:
    """Where the parenthesis closes that was open before the text."""
    depth = 1
    for i, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if not depth:
            return i
    return len(text)


def flops_of(
    instruction: Instruction, computation: Computation, module: Module
) -> collections.Counter[str]:
    """Operations in products and convolutions, by the dtype of what is multiplied; two for each
    multiplication, as is usual.
    """
    if instruction.op in ("fusion", "call"):
        total: collections.Counter[str] = collections.Counter()
        for name in instruction.called("calls", "to_apply"):
            body = module.computations.get(name, {})
            for inner in body.values():
                total += flops_of(inner, body, module)
        return total
    target = instruction.target
    if instruction.op == "dot":
        return _product(instruction, computation, instruction.numbers("lhs_contracting_dims"))
    if "gemm" in target or "cublas" in target or "matmul" in target:
        found = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', instruction.rest)
        return _product(
            instruction,
            computation,
            [int(n) for n in re.findall(r"\d+", found[1] if found else "")],
        )
    if "fmha" in target:
        return _attention(instruction, computation)
    if instruction.op == "convolution" or ("conv" in target and "dim_labels" in instruction.rest):
        return _convolution(instruction, computation)
    return collections.Counter()


def _product(
    instruction: Instruction, computation: Computation, contracting: list[int]
) -> collections.Counter[str]:
    dtype, dims = computation[instruction.operands[0]].shapes[0]
    out = math.prod(instruction.shapes[0][1])
    return collections.Counter({dtype: 2 * out * math.prod(dims[d] for d in contracting)})


def _attention(instruction: Instruction, computation: Computation) -> collections.Counter[str]:
    """CuDNN's attention of `[B, T, N, D]` queries: two products; five in its backward pass, which
    computes the scores once more.
    """
    (dtype, query), (_, key) = (computation[name].shapes[0] for name in instruction.operands[:2])
    products = 5 if "Backward" in instruction.target else 2
    count = products * 2 * math.prod(query) * key[1]
    return collections.Counter({dtype: count // 2 if "CAUSAL" in instruction.rest else count})


def _convolution(instruction: Instruction, computation: Computation) -> collections.Counter[str]:
    labels = re.search(r"dim_labels=(\w+)_(\w+)->", instruction.rest)
    if labels is None:
        return collections.Counter()
    (dtype, first), (_, second) = (computation[name].shapes[0] for name in instruction.operands[:2])
    result = instruction.shapes[0][1]
    # The result is moved over for a forward convolution; for cuDNN's backward ones, whose labels
    # are of the forward one, what has the place of the output is another argument.
    moved, kernel = result, second
    if "BackwardFilter" in instruction.target:
        moved, kernel = second, result
    elif "BackwardInput" in instruction.target:
        moved, kernel = first, second
    taps = math.prod(n for n, label in zip(kernel, labels[2], strict=True) if label != "o")
    return collections.Counter({dtype: 2 * math.prod(moved) * taps})
