"""Damages inputs: bytes, pickles, zip archives, JSON, texts, flags. All draw from a `Random`."""

import copy
import io
import json
import pickletools
import random
import zipfile
from collections.abc import Sequence
from typing import Any

HUGE = "9" * 400
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 1e300, 10**30, float("nan"), float("inf")),
    *("", "x", "\0", "é\ud800", "a\nb", "~/none", "../..", "/dev/null", HUGE, "x" * 3000),
    *([], {}, [1], [[[]]], {"a": 1}, [None] * 50, {"": None}),
)
FLAG_VALUES = (
    *("", "0", "-1", "1", "2", "0.5", "1e400", "-inf", "nan", "1e-400", HUGE, "None", "True", "no"),
    *("x", "é", "a\0b", "a\nb", "~/none", "~nobody_here/x", "/dev/null", "24x40", "0x0", "-1x5"),
    *("99999x99999", "[1]", "{}", "1,2", "'", '"', "(", "linear(0, 1)", "x" * 3000, "1 2 3"),
)
_WHOLE = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_CALLS = ("os system", "os mkdir", "builtins eval", "builtins exec", "subprocess Popen")


def damaged(rng: random.Random, data: bytes) -> bytes:
    """One to four changes of the bytes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        end = min(len(changed), at + rng.choice((1, 2, 4, 8, 64, 512)))
        match rng.randrange(8):
            case 0 | 1 if changed:
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            case 2:
                del changed[at:]
            case 3:
                del changed[at:end]
            case 4:
                changed[at:at] = rng.randbytes(rng.randint(1, 32))
            case 5:
                changed[at:at] = changed[at:end] * rng.randint(1, 4)
            case 6:
                size = rng.choice((1, 2, 4, 8))
                value = rng.choice(_WHOLE) % 256**size
                changed[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
            case 7:
                changed[at:end] = bytes(end - at)
    return bytes(changed)


def damaged_text(rng: random.Random, text: str) -> bytes:
    """The text with pieces left out, repeated, swapped or replaced; now and then other bytes."""
    pieces = list(text)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(pieces) + 1)
        end = min(len(pieces), at + rng.choice((1, 1, 2, 5, 20)))
        match rng.randrange(6):
            case 0:
                del pieces[at:end]
            case 1:
                pieces[at:at] = pieces[at:end] * rng.choice((1, 2, 2000))
            case 2:
                pieces[at:end] = rng.choice(('"', ",", ";", "\n", "\0", "\r", "\t", "(", "-", "e9"))
            case 3:
                pieces[at:end] = rng.choice((HUGE, "nan", "inf", "None", "x" * 3000, "((((" * 200))
            case 4:
                start = rng.randrange(len(pieces) + 1)
                pieces[at:at] = pieces[start : start + 20]
            case 5:
                del pieces[at:]
    data = "".join(pieces).encode(errors="surrogatepass")
    return damaged(rng, data) if rng.random() < 0.2 else data


def damaged_json(rng: random.Random, value: Any) -> bytes:
    """The value as JSON with nodes replaced, left out, repeated or nested deeply."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.randint(1, 3)):
        value = _with_node(rng, value)
    text = json.dumps(value)
    match rng.randrange(10):
        case 0:
            return damaged(rng, text.encode())
        case 1:
            return ("[" * 50_000 if rng.random() < 0.5 else '{"a":' * 3000).encode()
    return text.encode()


def _with_node(rng: random.Random, value: Any) -> Any:
    """`value` with one node changed somewhere within it."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return copy.deepcopy(rng.choice(NASTY))
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = rng.choice(list(keys))
    match rng.randrange(8):
        case 0:
            del value[key]
        case 1 if isinstance(value, dict):
            value[str(rng.choice((f"{key}x", "", HUGE, "self", "__class__")))] = copy.deepcopy(
                value[key]
            )
        case 1:
            value.append(copy.deepcopy(value[key]))
        case _:
            value[key] = _with_node(rng, value[key])
    return value


def damaged_pickle(rng: random.Random, data: bytes, canary: str) -> bytes:
    """A pickle with opcodes left out, repeated, swapped, or calling what makes `canary`."""
    try:
        starts = [at for _, _, at in pickletools.genops(data)]
    except ValueError:  # damaged already
        return damaged(rng, data)
    ops = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(ops))
        match rng.randrange(8):
            case 0:
                del ops[at]
            case 1:
                ops[at:at] = [ops[at]] * rng.choice((1, 2, 3000))
            case 2:
                other = rng.randrange(len(ops))
                ops[at], ops[other] = ops[other], ops[at]
            case 3:
                ops[at] = damaged(rng, ops[at])
            case 4:
                ops[at] = rng.choice((b"N", b"]", b"}", b")", b"K\xff", b"J\xff\xff\xff\x7f", b"0"))
            case 5:
                ops[at] = b"\x8a\x08" + rng.choice(_WHOLE).to_bytes(8, "little")
            case _:
                ops[at:at] = [_call(rng, canary)]
        ops = ops or [b"."]
    return b"".join(ops)


def _call(rng: random.Random, canary: str) -> bytes:
    """Opcodes that call a function with the path of the canary, and leave the result or not."""
    module, name = rng.choice(_CALLS).split()
    argument = {
        "mkdir": canary,
        "eval": f"__import__('os').mkdir({canary!r})",
        "exec": f"__import__('os').mkdir({canary!r})",
    }.get(name, f"mkdir {canary}")
    called = f"c{module}\n{name}\n".encode() + b"(" + f"V{argument}\n".encode() + b"tR"
    return called + rng.choice((b"0", b"", b"b"))


def damaged_zip(rng: random.Random, data: bytes, canary: str = "") -> bytes:
    """An archive whose members are damaged and stored again with a right checksum, or itself."""
    if rng.random() < 0.3:
        return damaged(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(rng.randint(1, 2)):
        name = rng.choice(list(members))
        pickles = [each for each in members if each.endswith(".pkl")]
        match rng.randrange(6):
            case 0:
                members.pop(name)
            case 1:
                members[f"{name}x"] = members.pop(name)
            case 2:
                members[name] = damaged(rng, members[name])
            case _ if pickles:
                members[pickles[0]] = damaged_pickle(rng, members[pickles[0]], canary)
            case _:
                members[name] = damaged(rng, members[name][:256]) + members[name][256:]
        members = members or {"x": b""}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def flags(rng: random.Random, names: Sequence[str]) -> list[str]:
    """One to three flags of fields with values that may or may not fit."""
    found = []
    for _ in range(rng.randint(1, 3)):
        name, value = rng.choice(names), rng.choice(FLAG_VALUES)
        name = name if rng.random() < 0.95 else f"{name}x"
        match rng.randrange(6):
            case 0:
                found += [f"--{name}={value}"]
            case 1:
                found += [f"--{name}", value, rng.choice(FLAG_VALUES)]
            case 2:
                found += [f"--{name}"]
            case _:
                found += [f"--{name}", value]
    return found
