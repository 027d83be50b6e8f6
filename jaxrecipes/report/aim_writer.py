"""The same log as TensorBoard's, for Aim (https://aimstack.io), which is an extra."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrecipes.errors import install_command
from jaxrecipes.files import write_bytes


def import_aim() -> Any:
    """The `aim` package.

    Raises:
      ImportError: it is not installed; the message says how to install it.
    """
    try:
        import aim
    except ImportError as error:
        raise ImportError(
            f"loop.aim_repo is given, which needs the package aim: {install_command('aim')}, "
            "or leave loop.aim_repo out"
        ) from error
    return aim


@dataclasses.dataclass(frozen=True, kw_only=True)
class AimLog:
    """Where a run is logged.

    Attributes:
      repo: folder of the repository, made if need be, or the address of a server (aim://HOST:PORT).
      run_file: keeps the run's identity, so that a run that goes on stays one run.
      experiment: the group that it is shown in.
      hparams: shown as its parameters, nested as they are.
    """

    repo: str
    run_file: pathlib.Path
    experiment: str
    hparams: Mapping[str, Any]


class AimWriter:
    """A `report.writer.Writer`. What a resumed run logs again replaces what was there."""

    def __init__(self, log: AimLog) -> None:
        """Opens the run, or opens it again.

        Raises:
          ImportError: aim is not installed.
        """
        self._aim = import_aim()
        known = log.run_file.read_text().strip() if log.run_file.exists() else None
        self._run = self._aim.Run(
            known,
            repo=log.repo,
            experiment=log.experiment,
            force_resume=True,  # a killed run leaves a lock
            system_tracking_interval=None,
            capture_terminal_logs=False,
        )
        write_bytes(log.run_file, f"{self._run.hash}\n".encode())
        self._run.name = log.run_file.parent.resolve().name
        self._run["hparams"] = dict(log.hparams)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Logs one number per tag at `step`."""
        for tag, value in values.items():
            self._run.track(float(value), name=tag, step=int(step))

    def image(self, step: int, tag: str, image: np.ndarray) -> None:
        """Logs a uint8 `[H, W, 3]` image at `step`."""
        from PIL import Image

        self._run.track(self._aim.Image(Image.fromarray(image)), name=tag, step=int(step))

    def text(self, step: int, tag: str, text: str) -> None:
        """Logs a text at `step`."""
        self._run.track(self._aim.Text(text), name=tag, step=int(step))

    def close(self) -> None:
        """Closes the run; closing twice is fine."""
        self._run.close()
