"""Fuzzes every reader of the library with the mutators of tests/fuzz, and prints the counts.

  python tests/slow/fuzz_campaign.py [--cases 20000] [--seed 1] [--only TARGET] [--show 20]

Each part of the cases runs in a process of its own (Linux) with a limit on its addresses. A case is
named by its number: `--first N --cases 1` runs it alone. Exit status 1 if any input ended in a
traceback, a message that is no clear line, code that ran, more than 20 seconds or more than 1 GiB.
"""

import argparse
import collections
import dataclasses
import json
import pathlib
import resource
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fuzz")]

_PART = 2500
_ADDRESSES = 8 << 30  # threads reserve many, and use few
_SECONDS = 20.0


def main() -> int:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--cases", type=int, default=20_000, help="how many (20000)")
    flags.add_argument("--first", type=int, default=0, help="number of the first (0)")
    flags.add_argument("--seed", type=int, default=1, help="of all cases (1)")
    flags.add_argument("--only", default="", help="only targets whose name has this in it")
    flags.add_argument("--show", type=int, default=20, help="how many failures are shown (20)")
    flags.add_argument("--part", action="store_true", help=argparse.SUPPRESS)
    own = flags.parse_args()
    if own.part:
        return _run_part(own)
    return _run_all(own)


def _run_all(own: argparse.Namespace) -> int:
    """Runs the parts one after the other; a part that dies is gone on with after its last case."""
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    failures, slowest = [], 0.0
    number, end = own.first, own.first + own.cases
    while number < end:
        size = min(_PART, end - number)
        command = [sys.executable, __file__, "--part", "--first", str(number), "--cases", str(size)]
        command += ["--seed", str(own.seed), "--only", own.only]
        part = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert part.stdout is not None
        for line in part.stdout:
            found = json.loads(line)
            number = found["number"] + 1
            counts[found["target"]][found["kind"]] += 1
            slowest = max(slowest, found["seconds"])
            if found["bad"]:
                failures.append(found)
        assert part.stderr is not None
        said = part.stderr.read()
        if part.wait() != 0:
            if number == own.first:
                print(said, file=sys.stderr)
                return 1
            counts["a process"]["died"] += 1
            died = {"target": "a process", "kind": "died", "said": said, "number": number}
            failures.append(died)
            number += 1
        print(f"{number - own.first} of {own.cases}, {len(failures)} failures", file=sys.stderr)
    kinds = sorted({kind for counter in counts.values() for kind in counter})
    print(f"{'target':24}" + "".join(f"{kind:>12}" for kind in kinds))
    for target, counter in counts.items():
        print(f"{target:24}" + "".join(f"{counter[kind]:12}" for kind in kinds))
    total = sum(counts.values(), collections.Counter())
    print(f"{'all':24}" + "".join(f"{total[kind]:12}" for kind in kinds))
    print(f"slowest case: {slowest:.1f} s")
    for failure in failures[: own.show]:
        print(f"\n{failure['target']}, case {failure['number']}: {failure['kind']}")
        print(failure["said"][-1500:])
    return 1 if failures else 0


def _run_part(own: argparse.Namespace) -> int:
    from fuzz_oracle import GOOD, outcome
    from fuzz_targets import cases

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        numbers = range(own.first, own.first + own.cases)
        limited = False
        for target, number, use, canary in cases(
            folder / "base", folder / "case", seed=own.seed, numbers=numbers, only=own.only
        ):
            if not limited:
                _limit_memory()
                limited = True
            found = outcome(use, canary=canary, limit_s=_SECONDS)
            facts = dataclasses.asdict(found) | {"target": target, "number": number}
            facts |= {"bad": found.kind not in GOOD}
            facts["said"] = facts["said"] if facts["bad"] else ""
            print(json.dumps(facts), flush=True)
    return 0


def _limit_memory() -> None:
    size = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _ADDRESSES, size + _ADDRESSES))


if __name__ == "__main__":
    sys.exit(main())
