"""Models in folders: a config and the weights, as huggingface_hub lays them out.

<!-- not run: a map -->
```text
folder/
  config.json          what the model was made from
  model.safetensors    its weights, with a checksum
  README.md            what it is and how to load it
```

Loading trusts nothing. The config is read with bounds and imports no plugin that the caller did not name. The file's
header is held against the model, which is built without memory, before a single weight is read; whatever differs is
told at once. Nothing is loaded by halves.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from obverse.config import MOST_PARAMETERS, from_json, to_json
from obverse.errors import ConfigError, ObverseError
from obverse.files import write_whole
from obverse.shapes import shape_text

if TYPE_CHECKING:
    from obverse.model import Autoencoder

__all__ = ["load", "load_weights", "push", "save"]

Model = TypeVar("Model", bound="Autoencoder")
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
MOST_HEADER = 100_000_000
"""Bytes of a header, which safetensors itself allows at most."""
MOST_SHOWN = 20
"""Mismatches that an error shows; the rest are counted."""


def save(model: Autoencoder, folder: str | os.PathLike[str]) -> None:
    """Save a model to a folder.

    >>> import tempfile
    >>> from obverse import Autoencoder, Chain, Conv
    >>> model = Autoencoder(Chain(Conv(4, 3, stride=2)), (1, 28, 28))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save_pretrained(folder)
    ...     again = Autoencoder.from_pretrained(folder)
    >>> torch.equal(model.encoder[0].weight, again.encoder[0].weight)
    True

    Each file appears whole or not at all, and an old one stays until then; a README.md that is there already stays.

    Args:
        model: an `Autoencoder`.
        folder: where to; it is made if it is not there.

    Raises:
        ConfigError: for a model with a block that has no config; nothing is written.
        ImportError: if safetensors is not installed: `pip install "obverse[hub]"`.
    """
    config = model.to_config()
    weights = _serialized(model.state_dict(), _digest(_canonical(config)))
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    write_whole(place / WEIGHTS, weights)
    write_whole(place / CONFIG, to_json(config))
    if not (place / CARD).exists():
        write_whole(place / CARD, _card(model))


def load(
    kind: type[Model],
    folder: str | os.PathLike[str],
    *,
    plugins: Collection[str] = (),
    max_parameters: int = MOST_PARAMETERS,
    device: torch.device | str = "cpu",
    **download: Any,
) -> Model:
    """The model in a folder or a repository, in evaluation mode.

    >>> import tempfile
    >>> from obverse import Autoencoder, Chain, Conv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Autoencoder(Chain(Conv(4, 3, stride=2)), (1, 28, 28)), folder)
    ...     model = load(Autoencoder, folder)
    >>> model.code_shape, model.training
    ((4, 13, 13), False)

    Args:
        kind: `Autoencoder`.
        folder: a folder, or the name of a repository on the Hugging Face Hub, `"somebody/something"`.
        plugins: names of the plugins that its config may import, as in `plugins=["wavelet"]`.
        max_parameters: how many numbers the model may hold.
        device: where the weights go.
        **download: what `huggingface_hub.hf_hub_download` takes: `revision`, `token`, `cache_dir`, …

    Raises:
        ConfigError: for a config or weights that are damaged, of another version, or of another model.
        ImportError: if safetensors, or for a repository huggingface_hub, is not installed.
    """
    config_file, weights_file = _files(folder, download)
    config = from_json(_text(config_file))
    options: dict[str, Any] = {"plugins": plugins, "max_parameters": max_parameters}
    state = _state(kind.from_config(config, device="meta", **options), weights_file, _digest(_canonical(config)))
    model = kind.from_config(config, device=device, **options)
    model.load_state_dict({name: tensor.to(device) for name, tensor in state.items()}, assign=True)  # in its own dtype
    return model.eval()


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load weights into a model that is there, such as those of a model written by hand.

    They have the same names and shapes as a composed model's, so a file of either serves the other.

    >>> import tempfile
    >>> from obverse import Autoencoder, Chain, Conv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Autoencoder(Chain(Conv(4, 3)), (1, 28, 28)), folder)
    ...     load_weights(Autoencoder(Chain(Conv(5, 3)), (1, 28, 28)), f"{folder}/model.safetensors")
    Traceback (most recent call last):
        ...
    obverse.errors.ConfigError: model.safetensors holds the weights of another model; 3 of them differ:
      encoder.0.weight: the file has 4×1×3×3, the model 5×1×3×3
      encoder.0.bias: the file has 4, the model 5
      decoder.0.weight: the file has 4×1×3×3, the model 5×1×3×3
    Load it into the model that it was saved from, or compose that one.

    Args:
        model: any module; it changes only if the whole file fits.
        path: a file that safetensors wrote.

    Raises:
        ConfigError: for a damaged file, and for names and shapes that differ, all of them at once.
    """
    model.load_state_dict(_state(model, Path(path), None))


def push(model: Autoencoder, repo_id: str, **options: Any) -> str:
    """Save a model to a repository of the Hugging Face Hub, by huggingface_hub's own means.

    >>> from obverse import Autoencoder, Chain, Conv
    >>> model = Autoencoder(Chain(Conv(4, 3)), (1, 28, 28))
    >>> push(model, "somebody/digits", private=True)    # doctest: +SKIP

    Args:
        model: an `Autoencoder`.
        repo_id: `"somebody/something"`.
        **options: what `huggingface_hub.ModelHubMixin.push_to_hub` takes.

    Returns:
        The address of the commit.

    Raises:
        ImportError: if huggingface_hub is not installed: `pip install "obverse[hub]"`.
    """
    try:
        from huggingface_hub import ModelHubMixin
    except ImportError as error:
        raise _missing("huggingface_hub", error) from error

    class Pushed(ModelHubMixin):
        """What uploads a folder that something saves."""

        def save_pretrained(self, save_directory: str | Path, **_: Any) -> None:
            save(model, save_directory)

    return str(Pushed().push_to_hub(repo_id, **options))


def _missing(name: str, error: ImportError) -> ImportError:
    return ImportError(f'models are saved with {name}: pip install "obverse[hub]"', name=error.name)


# Writing ------------------------------------------------------------------------------------------------------------


def _serialized(state: Mapping[str, Tensor], config: str) -> bytes:
    try:
        from safetensors.torch import save as to_bytes
    except ImportError as error:
        raise _missing("safetensors", error) from error
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in state.items():
        if tensor.is_meta:
            raise ObverseError(f"{name} has no values: the model is on the meta device.", "Build it on the CPU.")
        plain = tensor.detach().cpu().contiguous()
        where = plain.untyped_storage().data_ptr()
        tensors[name] = plain.clone() if where in seen else plain  # safetensors refuses memory that is shared
        seen.add(where)
    data = to_bytes(tensors)
    header, start = _header(data, len(data), WEIGHTS)
    digest = _checksum(header, memoryview(data)[start:])
    return bytes(to_bytes(tensors, metadata={"format": "pt", "sha256": digest, "config": config}))


def _canonical(config: Any) -> bytes:
    return json.dumps(config, sort_keys=True, separators=(",", ":")).encode()


def _digest(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _checksum(header: Mapping[str, Any], data: memoryview) -> str:
    """Of the weights and of what the header says about them."""
    said = {name: entry for name, entry in header.items() if name != "__metadata__"}
    return _digest(_canonical(said), data)


def _card(model: Autoencoder) -> str:
    shape, code = shape_text(model.input_shape), shape_text(model.code_shape)
    return f"""---
library_name: obverse
tags: [autoencoder, obverse, model_hub_mixin]
---

# An autoencoder of {shape}

Its code is {code}; it learns {model.plan.parameters:,} numbers. Composed with obverse:

```python
from obverse import Autoencoder

model = Autoencoder.from_pretrained("this folder, or the name of this repository")
reconstruction, code = model(images)    # images: N×{shape}
```
"""


# Reading ------------------------------------------------------------------------------------------------------------


def _files(folder: str | os.PathLike[str], download: Mapping[str, Any]) -> tuple[Path, Path]:
    place = Path(folder)
    if place.is_dir():
        missing = [name for name in (CONFIG, WEIGHTS) if not (place / name).is_file()]
        if missing:
            raise ConfigError(f"the folder {place} has no {' and no '.join(missing)}.", "Save a model to it first.")
        return place / CONFIG, place / WEIGHTS
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        if str(folder).count("/") == 1:
            raise _missing("huggingface_hub", error) from error
        raise ConfigError(f"there is no folder {folder}.", "Give the folder that a model was saved to.") from None
    try:
        config = hf_hub_download(str(folder), CONFIG, **download)
        return Path(config), Path(hf_hub_download(str(folder), WEIGHTS, **download))
    except HFValidationError:
        raise ConfigError(
            f"there is no folder {folder}, and no repository has such a name.",
            "Give the folder that a model was saved to.",
        ) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path.name} is no text.", "It is damaged: fetch or save it again.") from None


class Entry(NamedTuple):
    """What a header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]


_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_FLOATS = ("F64", "F32", "F16", "BF16")
_NAMES = {
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def _state(model: nn.Module, path: Path, config: str | None) -> dict[str, Tensor]:
    """The weights in a file, if all of them fit a model, which may be without memory."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load as from_bytes
    except ImportError as error:
        raise _missing("safetensors", error) from error
    size = path.stat().st_size
    with path.open("rb") as file:
        front = file.read(8)
        front += file.read(_header_length(front, size, path.name))
        header, start = _header(front, size, path.name)
        entries = _entries(header, path.name)
        _compare(entries, model, path.name)
        expected = start + sum(map(_bytes, entries.values()))
        if size != expected:
            raise _damaged(path.name, f"it has {size:,} bytes, and its header says {expected:,}")
        data = front + file.read(expected - start)
    _verify(header, memoryview(data)[start:], path.name, config)
    try:
        return dict(from_bytes(data))
    except SafetensorError as error:
        raise _damaged(path.name, str(error)) from None


def _header_length(front: bytes, size: int, name: str) -> int:
    length = int.from_bytes(front[:8], "little")
    if len(front) < 8 or length > min(MOST_HEADER, size - 8):
        raise _damaged(name, f"its header would have {length:,} bytes, and the file has {size:,}")
    return length


def _header(front: bytes, size: int, name: str) -> tuple[dict[str, Any], int]:
    """The header of a file, and where its tensors begin.

    Form: eight bytes of length, little-endian; so much JSON; the tensors' bytes.
    """
    length = _header_length(front, size, name)
    try:
        table = json.loads(front[8 : 8 + length].decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, f"its header cannot be read ({type(error).__name__})") from None
    if not isinstance(table, dict):
        raise _damaged(name, "its header is no table")
    return table, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name is there twice")
    return table


def _entries(header: Mapping[str, Any], name: str) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for tensor, said in header.items():
        if tensor == "__metadata__":
            continue
        dtype, shape = (said.get("dtype"), said.get("shape")) if isinstance(said, dict) else (None, None)
        listed = isinstance(shape, list) and all(type(n) is int and 0 <= n < 2**63 for n in shape)
        if not isinstance(dtype, str) or shape is None or not listed:
            raise _damaged(name, f"its header says of {tensor!r:.80} neither dtype nor shape")
        entries[tensor] = Entry(dtype, tuple(shape))
    return entries


def _bytes(entry: Entry) -> int:
    number = _SIZES[entry.dtype]
    for size in entry.shape:
        number *= size
    return number


def _compare(entries: Mapping[str, Entry], model: nn.Module, name: str) -> None:
    """Refuse names, shapes and dtypes that are not the model's, all at once."""
    state = model.state_dict()
    unknown = [(key, entry) for key, entry in entries.items() if key not in state]
    wrong = [f"{key}: the file has {shape_text(entry.shape)}, the model none" for key, entry in unknown]
    for key, tensor in state.items():
        entry = entries.get(key)
        if entry is None:
            wrong.append(f"{key}: the model has {shape_text(tensor.shape)}, the file none")
        elif entry.shape != tuple(tensor.shape):
            wrong.append(f"{key}: the file has {shape_text(entry.shape)}, the model {shape_text(tensor.shape)}")
        elif entry.dtype not in (_FLOATS if tensor.is_floating_point() else (_NAMES.get(tensor.dtype),)):
            wanted = "floating-point numbers" if tensor.is_floating_point() else _NAMES.get(tensor.dtype, "others")
            wrong.append(f"{key}: the file has {entry.dtype:.20}, the model {wanted}")
    if wrong:
        rest = [f"… and {len(wrong) - MOST_SHOWN:,} more"] if len(wrong) > MOST_SHOWN else []
        listed = "\n  ".join([*(line[:200] for line in wrong[:MOST_SHOWN]), *rest])
        raise ConfigError(
            f"{name} holds the weights of another model; {len(wrong)} of them differ:\n  {listed}",
            "Load it into the model that it was saved from, or compose that one.",
        )


def _verify(header: Mapping[str, Any], data: memoryview, name: str, config: str | None) -> None:
    """Hold a file against the checksums in it; a file that somebody else wrote has none."""
    said = header.get("__metadata__") or {}
    if not isinstance(said, dict):
        raise _damaged(name, "its metadata are no table")
    if "sha256" in said and said["sha256"] != _checksum(header, data):
        raise _damaged(name, "its checksum is not that of its bytes")
    if config is not None and said.get("config", config) != config:
        raise ConfigError(
            f"{CONFIG} is not the one that {name} was saved with: it was changed, or is another model's.",
            f"Save the model again. If the change is meant: load_weights(Autoencoder.from_config(config), {name!r}).",
        )


def _damaged(name: str, why: str) -> ConfigError:
    return ConfigError(f"{name} is damaged, or no safetensors file: {why}.", "Fetch or save it again.")
