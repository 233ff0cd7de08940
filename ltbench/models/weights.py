"""Pre-trained weights: where they are, what identifies them, and what their network expects of an image."""

import hashlib
import json
import os
import re
import socket
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
from timm.models import PretrainedCfg
from timm.models._hub import download_cached_file
from torch import Tensor, nn

from ltbench.errors import LtbenchError, first_line
from ltbench.files import paths
from ltbench.files.atomic import write_text
from ltbench.files.reading import read_text
from ltbench.models.state_file import read_state
from ltbench.printable import printable_name

OWN = "timm"
"""Stands for the weights that timm offers under the backbone's name (``--pretrained``)."""
_HUB, _FOLDER, _HASH = "hf-hub:", "local-dir:", "sha256:"
_FILES = ("model.safetensors", "pytorch_model.bin", "model.pth")
"""What a folder or a repository of the hub calls its weights."""
_HUB_TIMEOUT = 2.0
"""Seconds that the hub has to answer, before anything is downloaded."""


@dataclass(frozen=True)
class Weights:
    """Pre-trained weights in a file, and what their network expects of an image."""

    file: Path
    sha256: str
    """Hash of the file, in hexadecimal."""
    input: PretrainedCfg | None = field(compare=False)
    """The record that timm has of the input: size, mean, std, crop, interpolation. None: nobody has said it."""
    usual: PretrainedCfg | None = field(default=None, compare=False)
    """The record of the backbone, where the weights have one of their own in ``config.json``."""

    @property
    def name(self) -> str:
        """What settings store: the hash, so that a run is the same wherever its weights lie."""
        return _HASH + self.sha256

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The tensors by name.

        Raises:
            LtbenchError: if the file is damaged or holds more than tensors.
        """
        return read_state(self.file)

    @property
    def image_size(self) -> int | None:
        """Side of the images that the network was trained on, pixels."""
        return int(self.input.input_size[1]) if self.input is not None else None

    @property
    def own_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Means and standard deviations of the weights' own record, where those of the backbone's are others."""
        if self.input is None or self.input is self.usual:
            return None
        own = tuple(self.input.mean), tuple(self.input.std)
        return None if self.usual and own == (tuple(self.usual.mean), tuple(self.usual.std)) else own

    def statistics(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Channel means and standard deviations of pixels in [0, 1]; None: nobody has said them.

        Args:
            channels: of the images; grey ones get the mean over the colours.
        """
        if self.input is None:
            return None
        mean, std = self.input.mean, self.input.std
        if len(mean) == channels:
            return tuple(mean), tuple(std)
        return (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels


def find_weights(given: str, backbone: str) -> Weights:
    """The weights that a user names.

    Args:
        given: a file (.safetensors, .pth, .bin), a folder with ``config.json`` and such a file, ``hf-hub:OWNER/MODEL``,
            ``timm`` for those that timm offers, or ``sha256:...`` for weights that were used on this machine before.
        backbone: name of the timm model that they are for.

    Raises:
        LtbenchError: if they are not there, cannot be downloaded, or are of another architecture by their own words.
    """
    if given.startswith(_HASH):
        return _remembered(given, backbone)
    source, file, own_input = _locate(given, backbone)
    usual = _input_of(backbone)
    found = Weights(file, _hashed(file), own_input or usual, usual)
    remember = _memory(found.sha256)
    text = json.dumps({"weights": source})
    if not remember.exists() or remember.read_text(encoding="utf-8") != text:
        write_text(remember, text)
    return found


def create(backbone: str, weights: Weights, **options: Any) -> nn.Module:
    """A timm model with its weights and without a classifier.

    Every tensor of the model but those of a classifier must be in the file, and the other way round.

    Args:
        backbone: name of the timm model.
        weights: to load.
        options: of ``timm.create_model``, without ``num_classes``.

    Raises:
        LtbenchError: naming the tensors that do not fit.
    """
    errors: list[Exception] = []
    for classes in dict.fromkeys((_classes(weights, backbone), 0, 1000)):
        overlay = {"state_dict": dict(weights.state), "num_classes": classes, "label_offset": 0, "source": ""}
        try:
            model: nn.Module = timm.create_model(
                backbone, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay, **options
            )
        except (RuntimeError, KeyError, AttributeError, ValueError) as error:
            errors.append(error)
            continue
        model.reset_classifier(0)  # type: ignore[operator]
        return model
    raise LtbenchError(
        f"the weights do not fit '{backbone}': {_misfits(errors[0])}",
        where=weights.file,
        hint="give the --backbone that they were trained with, or other --weights",
    ) from None


def _locate(given: str, backbone: str) -> tuple[str, Path, PretrainedCfg | None]:
    """What finds the weights again, their file, and what they say about their input."""
    if given == OWN:
        return f"{OWN}:{backbone}", _own(backbone), None
    if given.startswith(_HUB):
        identifier = given.removeprefix(_HUB)
        config = _settings_in(_from_hub(identifier, ("config.json",)))
        return given, _from_hub(identifier, _FILES), _described(config, backbone, given)
    path = Path(given.removeprefix(_FOLDER)).expanduser().absolute()
    if not path.is_dir():
        if not path.is_file():
            raise LtbenchError(
                "the weights are not there",
                where=path,
                hint=f"give a file (.safetensors, .pth), a folder, {_HUB}OWNER/MODEL, or {OWN} for timm's own",
            )
        return str(path), path, None
    file = next((path / name for name in _FILES if (path / name).is_file()), None)
    if file is None:
        raise LtbenchError("no weights in the folder", where=path, hint=f"it should have one of {', '.join(_FILES)}")
    config_file = path / "config.json"
    if not config_file.is_file():
        return str(path), file, None
    return str(path), file, _described(_settings_in(config_file), backbone, config_file)


def _settings_in(file: Path) -> Any:
    try:
        return json.loads(read_text(file))
    except ValueError as error:
        raise LtbenchError(f"the file is no JSON: {error}", where=file) from None


def _described(config: Any, backbone: str, where: object) -> PretrainedCfg:
    """What ``config.json`` says, in the layout of timm's ``save_for_hf``."""
    if not isinstance(config, dict):
        raise LtbenchError("config.json is no table of settings", where=where)
    architecture = config.get("architecture")
    if architecture is not None and architecture != backbone.partition(".")[0]:
        raise LtbenchError(
            f"the weights are of '{architecture}', not of '{backbone}'",
            where=where,
            hint=f"add --backbone {architecture}",
        )
    base, said = _input_of(backbone) or PretrainedCfg(), config.get("pretrained_cfg", {})
    known = {name: said[name] for name in ("input_size", "mean", "std", "interpolation", "crop_pct") if name in said}
    return PretrainedCfg(**{**vars(base), **{k: tuple(v) if isinstance(v, list) else v for k, v in known.items()}})


def _remembered(given: str, backbone: str) -> Weights:
    """Weights by their hash: where they were when a run used them last."""
    memory = _memory(given.removeprefix(_HASH))
    hint = "give the file itself: --weights FILE"
    if not memory.is_file():
        raise LtbenchError(
            f"the weights {given[:19]}... have not been used on this machine", where="--weights", hint=hint
        )
    try:
        source = str(json.loads(memory.read_text(encoding="utf-8"))["weights"])
    except (ValueError, KeyError, TypeError):
        raise LtbenchError("what is remembered of the weights cannot be read", where=memory, hint=hint) from None
    own, _, named = source.partition(":")
    found = find_weights(OWN, named) if own == OWN else find_weights(source, backbone)
    if found.name != given:
        raise LtbenchError(f"the weights are no longer those of the run ({given[:19]}...)", where=found.file, hint=hint)
    return found


def _memory(sha256: str) -> Path:
    return paths.cache_dir() / "weights" / f"{sha256}.json"


def _own(backbone: str) -> Path:
    """The file of the weights that timm offers, downloaded if need be."""
    config = timm.get_pretrained_cfg(backbone)
    if config is None or not config.has_weights:
        raise LtbenchError(
            f"timm has no pre-trained weights for '{backbone}'",
            where="--pretrained",
            hint="choose another --backbone, e.g. resnet18, give a file (--weights FILE), or train from scratch",
        )
    if config.hf_hub_id:
        names = (config.hf_hub_filename,) if config.hf_hub_filename else _FILES
        return _from_hub(config.hf_hub_id, names)
    url = config.url if isinstance(config.url, str) else (config.url or ("",))[0]
    _check_reachable(url)
    try:
        return Path(download_cached_file(url, progress=False))
    except OSError as error:
        raise _no_download(url, error) from None


def _from_hub(identifier: str, names: tuple[str, ...]) -> Path:
    """The first of these files that a repository of the Hugging Face hub has, from the local cache if it is there."""
    import huggingface_hub
    from huggingface_hub import errors

    repository, _, revision = identifier.partition("@")
    try:
        for name in names:
            cached = huggingface_hub.try_to_load_from_cache(repository, name, revision=revision or None)
            if isinstance(cached, str):
                return Path(cached)
    except errors.HFValidationError:
        raise LtbenchError(
            f"'{printable_name(repository)}' is no name of a repository",
            where="--weights",
            hint="write hf-hub:OWNER/MODEL, as the address of its page at huggingface.co ends",
        ) from None
    endpoint = huggingface_hub.constants.ENDPOINT
    _check_reachable(endpoint)
    for name in names:
        try:
            return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision or None))
        except errors.EntryNotFoundError:
            continue
        except (OSError, ValueError, errors.HfHubHTTPError) as error:
            raise _no_download(f"{endpoint}/{repository}", error) from None
    raise LtbenchError(f"no weights in the repository '{repository}'", where=endpoint, hint="give another --weights")


def _check_reachable(url: str) -> None:
    """Fail at once without a network, where a download would try again for minutes; a proxy is left to itself."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    place = urlsplit(url)
    port = place.port or (80 if place.scheme == "http" else 443)
    try:
        socket.create_connection((place.hostname or "", port), timeout=_HUB_TIMEOUT).close()
    except OSError as error:
        raise _no_download(url, error) from None


def _no_download(url: str, error: Exception) -> LtbenchError:
    reason = first_line(error)
    return LtbenchError(
        f"the weights cannot be downloaded: {reason}",
        where=url,
        hint="download them elsewhere and give the file (--weights FILE), or train from scratch",
    )


def _input_of(backbone: str) -> PretrainedCfg | None:
    """The record that timm has of the input of a backbone that it offers weights for."""
    config = timm.get_pretrained_cfg(backbone)
    return config if config is not None and config.has_weights else None


def _classes(weights: Weights, backbone: str) -> int:
    """The number of classes of the classifier in the file; 0: there is none under the name that timm gives it."""
    config = timm.get_pretrained_cfg(backbone)
    named = config.classifier if config is not None else None
    (name, *_) = (named,) if isinstance(named, str) else (named or ("fc",))
    weight = weights.state.get(f"{name}.weight")
    return 0 if weight is None else int(weight.shape[0])


def _misfits(error: Exception) -> str:
    """What torch says about a state dictionary of another network, in a line."""
    found, message = [], str(error)
    for kind, words in (("Missing", "missing"), ("Unexpected", "not of this network")):
        if named := re.search(rf"{kind} key\(s\) in state_dict: (.*?)\.\s*(?:\n|$)", message):
            names = re.findall(r'"([^"]+)"', named[1])
            found.append(f"{len(names)} tensors {words} ({_shown(names)})")
    if shapes := re.findall(r"size mismatch for (\S+): .*?torch.Size\((.*?)\).*?torch.Size\((.*?)\)", message):
        own = [f"{name} is {stored} in the file and {wanted} here" for name, stored, wanted in shapes]
        found.append(f"{len(own)} tensors of another shape ({_shown(own)})")
    return "; ".join(found) or first_line(error)


def _shown(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _hashed(file: Path) -> str:
    about = file.stat()
    return _sha256(file, about.st_size, about.st_mtime_ns)


@lru_cache
def _sha256(file: Path, size: int, changed: int) -> str:
    """The hash of a file that has not changed since."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise LtbenchError(f"the weights cannot be read: {error.strerror}", where=file) from None
