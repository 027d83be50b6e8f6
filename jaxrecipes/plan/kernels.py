"""What a compiled step launches, reads, writes and sends."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

import numpy as np

from jaxrecipes.plan.hlo import Computation, Instruction, Module, flops_of

_VIEWS = {
    *("parameter", "get-tuple-element", "tuple", "bitcast", "constant", "after-all"),
    *("partition-id", "replica-id", "opt-barrier", "async-done", "async-update", "copy-done"),
    *("all-reduce-done", "all-gather-done", "collective-permute-done"),
}
_COLLECTIVE = re.compile(
    r"(all-reduce|all-gather|reduce-scatter|all-to-all|ragged-all-to-all|collective-permute|"
    r"collective-broadcast)(-start)?$"
)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One launch, perhaps many times.

    Attributes:
      flops: by dtype, of one launch.
      traffic: bytes that it reads and writes.
      times: how often a step launches it, as far as the compiler knows.
    """

    flops: collections.Counter[str]
    traffic: float
    times: int


@dataclasses.dataclass(frozen=True)
class Collective:
    """Devices that exchange arrays.

    Attributes:
      kind: all-gather, all-reduce, reduce-scatter ...
      bytes, elements: of the whole array, on one device.
      groups: which devices exchange with each other; empty: all of them.
      times: how often in a step.
    """

    kind: str
    bytes: float
    elements: int
    groups: tuple[tuple[int, ...], ...]
    times: int

    def seconds(self, *, devices: int, per_host: int, link: float, network: float) -> float:
        """At the least, in a ring of links (bytes a second, one way) within hosts, and of the
        network between them.
        """
        groups = self.groups or (tuple(range(devices)),)
        size = len(groups[0])
        if size < 2:
            return 0.0
        across = any(
            device // per_host != group[0] // per_host for group in groups for device in group
        )
        rounds = 2 if self.kind == "all-reduce" else 1
        share = 1.0 if self.kind.startswith("collective") else (size - 1) / size
        return self.times * rounds * share * self.bytes / (network if across else link)


@dataclasses.dataclass(frozen=True)
class Work:
    """What one device does in a step.

    Attributes:
      kernels, collectives: in order.
      data_loops: loops whose length the compiler does not know; they are counted as one round.
      data_branches: branches that data decides; each way is counted.
    """

    kernels: list[Kernel]
    collectives: list[Collective]
    data_loops: int
    data_branches: int


def work_of(module: Module) -> Work:
    """What the entry computation does, loops of a known length as often as they run."""
    work = Work([], [], 0, 0)
    loops, branches = [], []
    for instruction, computation, times in _launched(module, module.entry, 1):
        if instruction.op == "while":
            loops.append(instruction)
        elif instruction.op == "conditional":
            branches.append(instruction)
        elif kind := _COLLECTIVE.match(instruction.op):
            work.collectives.append(_collective(instruction, computation, kind[1], times))
        else:
            flops = flops_of(instruction, computation, module)
            traffic = instruction.result_bytes + _read(instruction, computation, module)
            work.kernels.append(Kernel(flops, traffic, times))
    return dataclasses.replace(work, data_loops=len(loops), data_branches=len(branches))


def _launched(
    module: Module, name: str, times: int
) -> Iterator[tuple[Instruction, Computation, int]]:
    """Every launch with where it stands and how often; also loops of unknown length and branches,
    followed by what is in them.
    """
    computation = module.computations[name]
    for instruction in computation.values():
        inner, rounds = [], times
        if instruction.op in _VIEWS:
            continue
        if instruction.op == "while":
            known = re.search(r"known_trip_count[^\d}]*(\d+)", instruction.rest)
            if known is None:
                yield instruction, computation, times
            rounds = times * (int(known[1]) if known else 1)
            inner = instruction.called("body")
        elif instruction.op == "conditional":
            yield instruction, computation, times
            inner = instruction.called(
                "branch_computations", "true_computation", "false_computation"
            )
        elif instruction.op in ("call", "async-start"):
            inner = instruction.called("to_apply", "calls")
        else:
            yield instruction, computation, times
        for callee in inner:
            yield from _launched(module, callee, rounds)


def _read(instruction: Instruction, computation: Computation, module: Module) -> float:
    """Bytes that are read of the operands: of one that is only sliced or gathered, the slices."""
    bodies = [module.computations.get(name, {}) for name in instruction.called("calls")]
    body = bodies[0] if instruction.op == "fusion" and bodies else {}
    parameters = {i.inside.strip(): i.name for i in body.values() if i.op == "parameter"}
    total = 0.0
    for number, operand in enumerate(instruction.operands):
        if operand not in computation:
            continue
        whole = computation[operand].result_bytes
        parameter = parameters.get(str(number))
        users = [i for i in body.values() if parameter in i.operands]
        if users and all(_takes_part(user, parameter) for user in users):
            parts = (i.result_bytes for i in users if i.op != "dynamic-update-slice")
            whole = min(whole, sum(parts))
        total += whole
    return total


def _takes_part(user: Instruction, parameter: str | None) -> bool:
    ops = ("slice", "dynamic-slice", "gather", "dynamic-update-slice")
    return user.op in ops and user.operands[0] == parameter


def _collective(
    instruction: Instruction, computation: Computation, kind: str, times: int
) -> Collective:
    """With the bytes of the whole: what is gathered, or what is there before it is scattered."""
    given = [computation[name] for name in instruction.operands if name in computation]
    operands = sum(one.result_bytes for one in given), sum(one.elements for one in given)
    whole = instruction.result_bytes, instruction.elements
    if kind == "reduce-scatter":
        whole = operands
    elif instruction.op.endswith("-start") and kind in ("all-gather", "collective-permute"):
        whole = whole[0] - operands[0], whole[1] - operands[1]  # the result holds them as well
    return Collective(kind, *whole, _groups(instruction.rest), times)


def _groups(rest: str) -> tuple[tuple[int, ...], ...]:
    """Of `replica_groups={{0,1},{2,3}}` or `[2,2]<=[4]` or `[2,2]<=[2,2]T(1,0)`."""
    listed = re.search(r"replica_groups=\{(\{[\d,{} ]*\})\}", rest)
    if listed:
        groups = re.findall(r"\{([\d, ]+)\}", listed[1])
        return tuple(tuple(int(n) for n in group.split(",")) for group in groups)
    grid = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest)
    if not grid:
        return ()
    shape, dims, order = ([int(n) for n in x.split(",")] if x else [] for x in grid.groups())
    numbers = np.arange(math.prod(dims)).reshape(dims)
    if order:
        numbers = numbers.transpose(order)
    return tuple(map(tuple, numbers.reshape(shape).tolist()))
