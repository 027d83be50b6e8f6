"""Published weights: one file, or several with an index, and JSON files beside them."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from jaxrecipes.convert.file_fields import Fields, naming, telling
from jaxrecipes.convert.reader import load_torch
from jaxrecipes.convert.rules import ConversionError, described, unwrapped
from jaxrecipes.convert.safetensors import load_safetensors, save_safetensors
from jaxrecipes.convert.torchscript import is_torchscript, load_torchscript
from jaxrecipes.errors import cause
from jaxrecipes.files import check_content, write_bytes
from jaxrecipes.paths import user_path

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class Published(Generic[Config]):
    """How the files of a published network are read.

    Attributes:
      name: the network's, for messages.
      sources: where such files come from, for messages.
      folders: of each kind of folder the file of its configuration, the function that reads it, and
        the names that the weights may have. Hugging Face's is the first.
      clean: takes out of a state dict what is no parameter.
      find_layout: tells by its keys whose they are.
      from_shapes: the configuration that a state dict in a layout implies.
      within: see `read_state_dict`.
    """

    name: str
    sources: str
    folders: Sequence[tuple[str, Callable[[Mapping[str, Any]], Config], Sequence[str]]]
    clean: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
    find_layout: Callable[[Mapping[str, np.ndarray]], Any]
    from_shapes: Callable[[Mapping[str, np.ndarray], Any], Config]
    within: Sequence[str] = ("state_dict",)

    def read(
        self, path: str | os.PathLike[str], *, use_torch: bool = False
    ) -> tuple[Config, Mapping[str, np.ndarray]]:
        """The configuration and the state dict of a folder, or of a file of weights alone.

        A file in Hugging Face's layout has its configuration from a config.json beside it; without
        one, and in other layouts, the shapes of the weights give it.

        Raises:
          FileNotFoundError: nothing there; the message says where such weights come from.
          ValueError: a damaged file, or one of another network.
        """
        path = user_path(path)
        if not path.exists():
            raise FileNotFoundError(f"no {self.name} at {path}. {self.sources}")
        with naming(path), telling("its architecture"):
            if path.is_dir():
                return self._read_folder(path, use_torch)
            state_dict = self.clean(read_state_dict(path, within=self.within, use_torch=use_torch))
            layout, (name, read_config, _) = self.find_layout(state_dict), self.folders[0]
            beside = path.with_name(name)
            if layout == "huggingface" and beside.exists():
                return read_config(read_json(beside)), state_dict
            return self.from_shapes(state_dict, layout), state_dict

    def _read_folder(
        self, folder: pathlib.Path, use_torch: bool
    ) -> tuple[Config, Mapping[str, np.ndarray]]:
        for name, read_config, weights in self.folders:
            if (folder / name).exists():
                config = read_config(read_json(folder / name))
                state_dict = read_weights(folder, weights, use_torch=use_torch)
                if state_dict is not None:
                    return config, state_dict
        names = " or ".join(name for name, *_ in self.folders)
        raise FileNotFoundError(f"no {names} with weights beside it in {folder}. {self.sources}")


def write_huggingface(
    folder: str | os.PathLike[str], config: Mapping[str, Any], state_dict: Mapping[str, np.ndarray]
) -> None:
    """Writes config.json and model.safetensors, as `transformers` reads them."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_safetensors(folder / "model.safetensors", state_dict, metadata={"format": "pt"})
    text = json.dumps(config, indent=2, sort_keys=True)
    write_bytes(folder / "config.json", f"{text}\n".encode())


def read_state_dict(
    file: pathlib.Path, *, within: Sequence[str] = ("state_dict",), use_torch: bool = False
) -> dict[str, np.ndarray]:
    """Names and arrays of a file: safetensors, `torch.save`, or a TorchScript archive.

    Args:
      file: to read; safetensors are known by their suffix.
      within: keys under which training programs keep the state dict, if the file holds more.
      use_torch: see `load_torch`.

    Raises:
      ValueError: a damaged file, or one that holds anything but tensors.
    """
    try:
        if file.suffix == ".safetensors":
            return unwrapped(load_safetensors(file)[0])
        if is_torchscript(file):
            return unwrapped(load_torchscript(file))
        loaded = load_torch(file, use_torch=use_torch)
        if isinstance(loaded, dict):
            loaded = next((loaded[key] for key in within if key in loaded), loaded)
        state_dict = unwrapped(loaded)
    except ConversionError as error:
        raise ConversionError(f"{file}: {error}") from error
    for key, value in state_dict.items():
        if not isinstance(value, np.ndarray):
            raise ValueError(
                f"{file} is not a state dict: expected names and tensors alone, got "
                f"{described(value)} "
                f"at {key!r}"
            )
    return state_dict


def read_weights(
    folder: pathlib.Path, names: Sequence[str], *, use_torch: bool = False
) -> dict[str, np.ndarray] | None:
    """The first of `names` in a folder, whole or in parts with an index; None if none is there."""
    for name in names:
        index = folder / f"{name}.index.json"
        if (folder / name).exists():
            return read_state_dict(folder / name, use_torch=use_torch)
        if index.exists():
            state_dict: dict[str, np.ndarray] = {}
            parts = Fields(read_json(index), f"{index}:").get("weight_map", dict[str, str])
            for part in sorted(set(parts.values())):
                state_dict |= read_state_dict(folder / part, use_torch=use_torch)
            return state_dict
    return None


def read_json(file: pathlib.Path) -> dict[str, Any]:
    """The object in a file of JSON.

    Raises:
      ValueError: not JSON, or not an object.
    """
    check_content(file)
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {cause(error)}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{file} holds a {type(value).__name__}; expected an object of JSON")
    return value
