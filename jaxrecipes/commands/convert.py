"""Imports a PyTorch checkpoint, or writes one that the original program loads.

  jaxrecipes convert ocec --from-torch FILE.pt --output RUN
  jaxrecipes convert ocec --to-torch FILE.pt --checkpoint RUN [--weights raw]

RUN is then a run's folder: evaluate, predict, export it, or train on with
  jaxrecipes train --config RUN/config.json --workdir RUN --data.path DATA --epochs N
                          --allow_config_change
with --steps N for hand_pose, which counts steps, and whose FILE may be the folder checkpoint-STEP.
Files are read without running any code in them.
"""

import pathlib

from jaxrecipes import cli
from jaxrecipes.paths import check_output_file, check_output_folder, user_path
from jaxrecipes.runs.recipe_module import load_recipe
from jaxrecipes.runs.runtime import start_devices


def main() -> None:
    flags = cli.parser(__doc__)
    flags.add_argument("name", help="the recipe, such as ocec")
    direction = flags.add_mutually_exclusive_group(required=True)
    direction.add_argument(
        "--from-torch", type=cli.path, metavar="FILE", help="the original's checkpoint to read"
    )
    direction.add_argument("--to-torch", type=cli.path, metavar="FILE", help="the file to write")
    flags.add_argument(
        "--output", type=cli.path, help="with --from-torch: the run's folder to make"
    )
    flags.add_argument(
        "--use-torch", action="store_true", help="let an installed PyTorch read an old file format"
    )
    cli.add_checkpoint_flags(flags, required=False)
    arguments = flags.parse_args()
    if arguments.from_torch:
        if arguments.output is None:
            load_recipe(arguments.name)
            raise ValueError("--from-torch needs --output, the folder to make")
        import_torch(
            arguments.name,
            arguments.from_torch,
            arguments.output,
            use_torch=arguments.use_torch,
        )
        return
    module = load_recipe(arguments.name)
    if arguments.checkpoint is None:
        raise ValueError("--to-torch needs --checkpoint, the folder of a run")
    check_output_file(arguments.to_torch, what="--to-torch")
    trained = cli.trained_from(arguments)
    if module.name != trained.module.name:
        raise ValueError(
            f"{arguments.checkpoint} holds a run of {trained.module.name!r}, not of {module.name!r}"
        )
    module.export_torch(trained, arguments.to_torch, weights=arguments.weights)


def import_torch(
    name: str, file: str | pathlib.Path, folder: str | pathlib.Path, *, use_torch: bool = False
) -> None:
    """Turns a checkpoint of a recipe's original into a run's folder, as `jaxrecipes convert` does.

    Args:
      name: the recipe.
      file: the checkpoint; no code that it may hold is run.
      folder: the run's folder to make.
      use_torch: let an installed PyTorch read a file format that is older than version 1.6.

    Raises:
      ValueError: the file is none of the original's, or the folder holds a run already.
    """
    module = load_recipe(name)
    target = user_path(folder)
    check_output_folder(target, what="--output")
    start_devices()
    module.import_torch(user_path(file), target, use_torch=use_torch)
