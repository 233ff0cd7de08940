"""What stands beside an exported file: how a photograph becomes its input, and lines of code that do it."""

from ltbench.data.loading.from_files import MARGIN
from ltbench.deploy.predictor import Card

_LOAD = {
    "onnx": (
        ("import onnxruntime",),
        'network = onnxruntime.InferenceSession({file}, providers=["CPUExecutionProvider"])',
        '(logits,) = network.run(None, {"images": pixels})',
    ),
    "torchscript": (
        ("import torch",),
        "network = torch.jit.load({file})",
        "logits = network(torch.from_numpy(pixels)).detach().numpy()",
    ),
    "safetensors": (
        ("import ltbench", "import torch"),
        "network = ltbench.load_predictor({file})",
        "logits = network(torch.from_numpy(pixels)).detach().numpy()",
    ),
}
"""Imports, loading and the call, by format."""


def readme(card: Card, kind: str, file: str) -> str:
    """Markdown on an exported file: its input, its output, and code for a photograph.

    Args:
        card: of the run.
        kind: format of the file.
        file: its name.
    """
    channels, side, _ = card.input
    imports, load, call = _LOAD[kind]
    code = [
        *sorted(
            ["import numpy as np", "from PIL import Image, ImageOps", *imports],
            key=lambda line: line.split()[1].lower(),
        ),
        "",
        'image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")',
        *_resize(card),
        *(['image = image.convert("L")'] if channels == 1 else []),
        f"pixels = np.asarray(image, np.float32).reshape({side}, {side}, {channels}).transpose(2, 0, 1)[None] / 255",
        load.format(file=repr(file)),
        call,
        "print(classes[logits[0].argmax()])",
    ]
    colours = "grey" if channels == 1 else "red, green, blue"
    classes = ", ".join(f"{index} {name}" for index, name in enumerate(card.classes))
    return f"""# {file}

{card.config.method}, run {card.run_id}, exported by ltbench {card.ltbench}.

- Input `images`: (N, {channels}, {side}, {side}) float32, {colours} in [0, 1]. \
The network subtracts the mean and divides by the standard deviation itself.
- Output `logits`: (N, {len(card.classes)}) float32; their softmax are probabilities.
- A photograph becomes its input as the test images did: {in_words(card)}.
- Classes: {classes}.

```python
{chr(10).join(code[: code.index("") + 1])}
classes = {card.classes!r}
{chr(10).join(code[code.index("") + 1 :])}
```
"""


def _resize(card: Card) -> list[str]:
    """Lines that scale and cut an image as evaluation does."""
    side = card.input[1]
    if not card.streamed:
        return [f"image = ImageOps.fit(image, ({side}, {side}), Image.Resampling.BILINEAR)"]
    larger = round(MARGIN * side)
    return [
        f"image = image.resize([{larger} * length // min(image.size) for length in image.size], "
        "Image.Resampling.BILINEAR)",
        f"left, top = (round((length - {side}) / 2) for length in image.size)",
        f"image = image.crop((left, top, left + {side}, top + {side}))",
    ]


def in_words(card: Card) -> str:
    """How a photograph becomes the input of a predictor, in one sentence without its full stop."""
    side, grey = card.input[1], "; turned grey" if card.input[0] == 1 else ""
    upright = "turned upright as its EXIF data say; "
    if not card.streamed:
        return f"{upright}its largest centred square, scaled to {side} x {side} pixels (bilinear, antialiased){grey}"
    larger = round(MARGIN * side)
    cached = ""
    if card.config.cache_resized:
        cached = f"scaled to a shorter side of {card.config.cache_resized} pixels and saved as JPEG (left out below); "
    return (
        f"{upright}{cached}its shorter side scaled to {larger} pixels (bilinear, antialiased); the central "
        f"{side} x {side} pixels{grey}"
    )
