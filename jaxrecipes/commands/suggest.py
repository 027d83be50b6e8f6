"""Suggests how to fine-tune CLIP for clip_iqa, and why.

  jaxrecipes suggest --samples N --clip vit_l_14 [--focus consistency]

Prints the reasons and the command; nothing is trained.
"""

from jaxrecipes import cli
from jaxrecipes.recipes.clip_iqa.config import SIZES
from jaxrecipes.recipes.clip_iqa.suggest import suggest


def main() -> None:
    flags = cli.parser(__doc__)
    flags.add_argument("--samples", type=int, required=True, help="rated images, in all")
    flags.add_argument("--clip", default="vit_l_14", help=f"{', '.join(SIZES)} (vit_l_14)")
    flags.add_argument(
        "--focus", default="balanced", help="balanced, quality, consistency (balanced)"
    )
    flags.add_argument("--weights", default="WEIGHTS", help="of CLIP, for the command")
    flags.add_argument("--path", default="data.csv", help="of the ratings, for the command")
    own = flags.parse_args()
    suggestion = suggest(own.samples, own.clip, focus=own.focus)
    print(f"preset {suggestion.preset}")
    for reason in suggestion.reasons:
        print(f"  {reason}")
    print(suggestion.command(weights=own.weights, path=own.path))
