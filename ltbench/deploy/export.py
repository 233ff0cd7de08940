"""A trained run as a file: TorchScript, ONNX, or weights in safetensors; none is kept that predicts otherwise."""

import importlib.util
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ltbench import rng
from ltbench.data.images import LabelledImages
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.deploy.predictor import Card, Predictor, build, check_finite
from ltbench.deploy.readme import in_words, readme
from ltbench.errors import LtbenchError
from ltbench.files.output import is_regular, write_bytes, write_text

METADATA = "ltbench"
"""Key of the card, as JSON text, in the metadata of each format."""
TOLERANCE = 1e-4
"""Between the logits of a file and the run's: relative, and absolute."""


@dataclass(frozen=True)
class Format:
    """The writer and the reader of one file format."""

    suffix: str
    save: Callable[[Predictor, Path], None]
    load: Callable[[Path], Callable[[Tensor], Tensor]]
    """Gives what maps (N, channels, H, W) pixels to (N, C) logits."""
    packages: tuple[str, ...] = ()
    """Needed, and not installed with ltbench."""


def check_packages(kind: str) -> None:
    """Refuse a format whose packages are not installed.

    Raises:
        LtbenchError: with the command that installs them.
    """
    missing = [package for package in FORMATS[kind].packages if importlib.util.find_spec(package) is None]
    if missing:
        raise LtbenchError(
            f"{', '.join(missing)} not installed",
            where=f"--format {kind}",
            hint=f'python -m pip install "ltbench[{kind}]"',
        )


def export(predictor: Predictor, kind: str, path: Path) -> float:
    """Write a predictor to a file, once the file has been loaded again and predicts the same.

    Args:
        predictor: on the CPU.
        kind: of the file, a key of ``FORMATS``.
        path: to write; replaced if it is there.

    Returns:
        The largest difference between logits of the file and of the run, on random images.

    Raises:
        LtbenchError: if packages are missing, the network cannot be exported, or the file predicts otherwise; what was
            at ``path`` is untouched then.
    """
    check_packages(kind)
    how = FORMATS[kind]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated ways and of assumptions, which the comparison tests
        draft = Path(folder) / f"predictor{how.suffix}"
        try:
            with torch.no_grad():
                how.save(predictor, draft)
                difference = _compare(predictor, how.load(draft))
        except Exception as error:  # exporters meet what they cannot do, in as many ways as there are networks
            reason = str(error).strip().splitlines()
            raise LtbenchError(
                f"the network cannot be written as {kind}: {type(error).__name__}{': ' + reason[0] if reason else ''}",
                where=f"run {predictor.card.run_id} ({predictor.card.config.backbone})",
                hint=f"try another --format: {', '.join(FORMATS.keys() - {kind})}",
            ) from error
        if difference is None:
            raise LtbenchError(
                f"the {kind} file and the run give different logits; the file is not kept",
                where=f"run {predictor.card.run_id} ({predictor.card.config.backbone})",
                hint=f"try another --format: {', '.join(FORMATS.keys() - {kind})}",
            )
        with draft.open("rb") as source:
            write_bytes(path, lambda stream: shutil.copyfileobj(source, stream))
    return difference


def write_readme(card: Card, kind: str, path: Path) -> Path | None:
    """Write how a photograph becomes the input of an exported file beside it, as Markdown.

    Returns:
        The path; None where the file is no regular one, such as a pipe, and nothing stands beside it.

    Raises:
        LtbenchError: if it cannot be written.
    """
    if not is_regular(path):
        return None
    about = path.with_name(f"{path.name}.md")
    write_text(about, readme(card, kind, path.name))
    return about


def _metadata(card: Card) -> str:
    """The card as JSON, with the way from a photograph to the input in words."""
    return json.dumps({**card.model_dump(mode="json"), "preprocessing": in_words(card)})


def _compare(predictor: Predictor, load: Callable[[Tensor], Tensor]) -> float | None:
    """The largest difference to the method's own logits, for batches of several sizes; None if they are too far off."""
    card, differences = predictor.card, []
    for count in (1, 3):
        pixels = rng.numpy_generator(0, "export", count).integers(0, 256, (count, *card.input), dtype=np.uint8)
        data = LabelledImages(pixels, np.zeros(count, dtype=np.int64))
        loader = InMemoryLoader(data, card.mean, card.std, torch.device("cpu"), labelled=False)
        expected = predictor.method.predict(loader.normalised(loader.images))
        found = load(torch.from_numpy(pixels).float() / 255)
        if found.shape != expected.shape or not torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
            return None
        differences.append(float((found - expected).abs().max()))
    return max(differences)


def load_predictor(path: str | Path) -> Predictor:
    """The predictor that ``ltbench export --format safetensors`` has written, on the CPU, in evaluation mode.

    Its ``card`` has the names of the classes and the rest of the metadata.

    Raises:
        LtbenchError: if the file is missing, damaged or of another origin, or its method has changed since.
    """
    try:
        with safe_open(path, "pt") as stored:
            text = (stored.metadata() or {})[METADATA]
        values = dict(json.loads(text))
        values.pop("preprocessing", None)
        card = Card.model_validate(values)
        weights = load_file(path)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise LtbenchError(
            f"not a predictor that ltbench has exported ({type(error).__name__})",
            where=path,
            hint="write one with: ltbench export RUN --format safetensors",
        ) from None
    predictor = build(card)
    predictor.load_state_dict(weights)
    check_finite(predictor, path, "write it anew with: ltbench export RUN --format safetensors")
    return predictor


def _example(predictor: Predictor) -> Tensor:
    return torch.zeros(2, *predictor.card.input)


def _save_torchscript(predictor: Predictor, path: Path) -> None:
    # Deprecated by torch in favour of torch.export, whose files no TorchScript runtime reads.
    traced = torch.jit.trace(predictor, _example(predictor))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, str(path), _extra_files={METADATA: _metadata(predictor.card)})


def _load_torchscript(path: Path) -> Callable[[Tensor], Tensor]:
    loaded: Callable[[Tensor], Tensor] = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return loaded


def _save_onnx(predictor: Predictor, path: Path) -> None:
    program = torch.onnx.export(
        predictor,
        (_example(predictor),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["images"],
        output_names=["logits"],
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props[METADATA] = _metadata(predictor.card)
    program.save(str(path), external_data=False)


def _load_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _save_safetensors(predictor: Predictor, path: Path) -> None:
    weights = {name: value.contiguous() for name, value in predictor.state_dict().items()}
    save_file(weights, path, metadata={METADATA: _metadata(predictor.card)})


FORMATS = {
    "torchscript": Format(".pt", _save_torchscript, _load_torchscript),
    "onnx": Format(".onnx", _save_onnx, _load_onnx, ("onnx", "onnxscript", "onnxruntime")),
    "safetensors": Format(".safetensors", _save_safetensors, load_predictor),
}
