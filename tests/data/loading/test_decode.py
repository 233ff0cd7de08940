"""Image files to pixels: every kind of pixel at its right brightness or refused by name, and bounds on memory."""

import io
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ltbench.data.datasets.image_folder import decode_one
from ltbench.data.datasets.image_names import is_image
from ltbench.data.loading import decode
from ltbench.data.loading.decode import MAX_PIXELS, UnreadableImageError, read_rgb, several_frames
from ltbench.errors import LtbenchError


def both(file):
    """The pixels as images in memory have them, and as images that stay files: (3, 8, 8) twice."""
    return decode_one(file, 8), read_rgb(file).numpy()


def halves(left, right, dtype):
    pixels = np.full((8, 8), left, dtype=dtype)
    pixels[:, 4:] = right
    return pixels


def tiff(path, pixels, bits, kind, **more):
    """A TIFF file of one strip: kind 1 is unsigned, 2 signed, 3 floating-point. Further tags as ``t262=0``."""
    content = pixels if isinstance(pixels, bytes) else pixels.tobytes()
    tags = {256: 8, 257: 8, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: len(content), 339: kind}
    tags = sorted((tags | {int(tag[1:]): value for tag, value in more.items()}).items())
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    path.write_bytes(
        b"II*\0" + struct.pack("<I", 8 + len(content)) + content + struct.pack("<H", len(tags)) + entries + bytes(4)
    )
    return path


def png(path, colour, bits, rows, transparent=None):
    """A PNG file of 8 x 8 pixels from its rows of bytes."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 8, 8, bits, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    key = chunk(b"tRNS", transparent) if transparent else b""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + key + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def grey_16_bit_tiff(folder):
    return tiff(folder / "a.tif", halves(0x1234, 0xFFFF, "<u2"), 16, 1), (0x12,) * 3, (255,) * 3


def grey_16_bit_tiff_of_a_negative(folder):
    """Zero is white, as radiographs have it."""
    return tiff(folder / "a.tif", halves(0xFFFF - 0x1234, 0, "<u2"), 16, 1, t262=0), (0x12,) * 3, (255,) * 3


def grey_12_bit_tiff(folder):
    """Two values of 12 bits in three bytes; the largest is 4095, of which 8 bits are 255."""
    row = bytes([0x12, 0x31, 0x23]) * 2 + b"\xff" * 6
    return tiff(folder / "a.tif", row * 8, 12, 1), (0x12,) * 3, (255,) * 3


def grey_16_bit_png(folder):
    row = struct.pack(">8H", *[0x1234] * 4, *[0xFFFF] * 4)
    return png(folder / "a.png", 0, 16, [row] * 8), (0x12,) * 3, (255,) * 3


def grey_16_bit_transparent_png(folder):
    row = struct.pack(">8H", *[0x1234] * 4, *[0x1235] * 4)
    return png(folder / "a.png", 0, 16, [row] * 8, struct.pack(">H", 0x1235)), (0x12,) * 3, (255,) * 3


def colour_16_bit_png(folder):
    row = struct.pack(">24H", *[0x1234, 0x8001, 0xFFFE] * 4, *[0xFFFF] * 12)
    return png(folder / "a.png", 2, 16, [row] * 8), (0x12, 0x80, 0xFF), (255,) * 3


def colour_16_bit_transparent_png(folder):
    row = struct.pack(">32H", *[0x1234, 0x8001, 0xFFFE, 0xFFFF] * 4, *[0x1234, 0x8001, 0xFFFE, 0] * 4)
    return png(folder / "a.png", 6, 16, [row] * 8), (0x12, 0x80, 0xFF), (255,) * 3


def grey_16_bit_pgm(folder):
    """Netpbm says what is white: 1023 here."""
    row = struct.pack(">8H", *[0] * 4, *[1023] * 4)
    path = folder / "a.pgm"
    path.write_bytes(b"P5\n8 8\n1023\n" + row * 8)
    return path, (0,) * 3, (255,) * 3


def saved(path, image, **options):
    image.save(path, **options)
    return path


def colour_key(folder):
    image = Image.fromarray(np.stack([halves(10, 1, np.uint8), halves(20, 2, np.uint8), halves(30, 3, np.uint8)], 2))
    return saved(folder / "a.png", image, transparency=(1, 2, 3)), (10, 20, 30), (255,) * 3


def grey_key(folder):
    return saved(folder / "a.png", Image.fromarray(halves(10, 1, np.uint8)), transparency=1), (10,) * 3, (255,) * 3


def palette_with_alpha(folder):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 0, 0, 0])
    image.paste(1, (4, 0, 8, 8))
    return saved(folder / "a.png", image, transparency=bytes([255, 51])), (10, 20, 30), (204,) * 3


def cmyk(folder):
    """(1 - C)(1 - K) of 255: half of red's cyan of 127.5 is rounded down."""
    image = Image.merge("CMYK", [Image.fromarray(halves(0, level, np.uint8)) for level in (0, 255, 255, 0)])
    return saved(folder / "a.tif", image), (255,) * 3, (255, 0, 0)


def lab(folder):
    """L* of 0 and 255 (which stands for 100) are black and white; a* and b* of 0, neither colour, are 128 here."""
    zero = Image.fromarray(np.full((8, 8), 128, np.uint8))
    image = Image.merge("LAB", [Image.fromarray(halves(0, 255, np.uint8)), zero, zero])
    return saved(folder / "a.tif", image), (0,) * 3, (255,) * 3


KINDS = [grey_16_bit_tiff, grey_12_bit_tiff, grey_16_bit_png, colour_16_bit_png, colour_16_bit_transparent_png]
KINDS += [grey_16_bit_tiff_of_a_negative, grey_16_bit_transparent_png]
KINDS += [grey_16_bit_pgm, colour_key, grey_key, palette_with_alpha, cmyk, lab]


@pytest.mark.parametrize("draw", KINDS)
def test_pixels_have_their_brightness_in_memory_and_as_files(draw, tmp_path):
    file, left, right = draw(tmp_path)
    rounded = 1 if draw is lab else 0  # by the colour management
    for pixels in both(file):
        for columns, colour in ((slice(0, 4), left), (slice(4, 8), right)):
            want = np.broadcast_to(np.reshape(colour, (3, 1, 1)), (3, 8, 4))
            np.testing.assert_allclose(pixels[:, :, columns], want, atol=rounded)


@pytest.mark.parametrize(
    ("dtype", "bits", "kind", "words"),
    [
        ("<f4", 32, 3, "floating-point numbers"),
        ("<u4", 32, 1, "32-bit or signed integers"),
        ("<i4", 32, 2, "32-bit or signed integers"),
        ("<i2", 16, 2, "32-bit or signed integers"),
        ("i1", 8, 2, "32-bit or signed integers"),
    ],
)
def test_pixels_of_an_unknown_range_are_refused_by_name(dtype, bits, kind, words, tmp_path):
    file = tiff(tmp_path / "a.tif", halves(0, 1, dtype), bits, kind)
    for read in (read_rgb, lambda file: decode_one(file, 8)):
        with pytest.raises(LtbenchError) as caught:
            read(file)
        assert f"its pixels are {words}, whose range is not known" in str(caught.value)
        assert str(file) in str(caught.value)


def reason(file):
    """Why a file is refused, in memory and as a file that is streamed."""
    found = set()
    for read in (read_rgb, lambda file: decode_one(file, 8)):
        with pytest.raises(UnreadableImageError) as caught:
            read(file)
        found.add(caught.value.reason)
    (one,) = found
    return one


@pytest.mark.parametrize(("dtype", "bits", "kind"), [("<f8", 64, 3), ("<f2", 16, 3), ("<u8", 64, 1)])
def test_a_tiff_that_pillow_does_not_know_is_not_called_truncated(dtype, bits, kind, tmp_path):
    assert "of a kind of TIFF that is not read" in reason(tiff(tmp_path / "a.tif", halves(0, 1, dtype), bits, kind))


def test_channels_of_16_bits_one_after_the_other_are_refused_for_pillow_misreads_them(tmp_path):
    """It takes the two bytes of a value for the values of two pixels."""
    colours = np.stack([halves(level, 65535, "<u2") for level in (0x1234, 0x5678, 0x9ABC)])
    file = tmp_path / "a.tif"
    tags = {256: 8, 257: 8, 258: (16,) * 3, 259: 1, 262: 2, 273: (8, 136, 264), 277: 3, 278: 8, 279: (128,) * 3, 284: 2}
    entries, tail, place = b"", b"", 8 + colours.nbytes + 2 + 12 * len(tags) + 4
    for tag, value in tags.items():
        values = value if isinstance(value, tuple) else (value,)
        content = struct.pack(f"<{len(values)}H", *values)
        entries += struct.pack("<HHI", tag, 3, len(values))
        entries += struct.pack("<I", place + len(tail)) if len(content) > 4 else content.ljust(4, b"\0")
        tail += content if len(content) > 4 else b""
    head = b"II*\0" + struct.pack("<I", 8 + colours.nbytes) + colours.tobytes() + struct.pack("<H", len(tags))
    file.write_bytes(head + entries + bytes(4) + tail)
    assert "16-bit channels lie one after the other" in reason(file)


def test_integers_of_fits_are_signed(tmp_path):
    cards = ("SIMPLE  =  T", "BITPIX  =  16", "NAXIS   =  2", "NAXIS1  =  8", "NAXIS2  =  8", "END")
    file = tmp_path / "a.fits"
    file.write_bytes("".join(card.ljust(80) for card in cards).ljust(2880).encode() + bytes(2880))
    assert "signed integers" in reason(file)


def avif_without_pixels(file):
    if "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF")
    Image.new("RGB", (16, 16)).save(file, "AVIF")
    return file.read_bytes().replace(b"iloc", b"xxxx")


def dds_of_an_unknown_kind(file):
    Image.new("RGB", (16, 16)).save(file, "DDS")
    return file.read_bytes()[:80] + struct.pack("<I", 1 << 16) + file.read_bytes()[84:]


def tiff_with_words_for_numbers(file):
    content = tiff(file, halves(0, 1, np.uint8), 8, 1, t322=8, t323=8).read_bytes()
    for tag in (322, 323):
        content = content.replace(struct.pack("<HH", tag, 3), struct.pack("<HH", tag, 2))
    return content


@pytest.mark.parametrize("make", [avif_without_pixels, dds_of_an_unknown_kind, tiff_with_words_for_numbers])
def test_whatever_pillow_raises_for_a_damaged_file_it_is_told(make, tmp_path):
    Image.init()
    file = tmp_path / "a"
    file.write_bytes(make(file))
    is_image(file)
    assert reason(file) == decode.TRUNCATED


FRAMES = {
    "a.gif": {}, "a.tif": {}, "a.png": {}, "a.webp": {"lossless": True},
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_of_several_frames_the_first_is_used(name, tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    first, *others = (Image.new("RGB", (8, 8), colour) for colour in colours)
    first.save(tmp_path / f"one_{name}", **FRAMES[name])
    first.save(tmp_path / name, save_all=True, append_images=others, **FRAMES[name])
    assert several_frames(tmp_path / name)
    assert not several_frames(tmp_path / f"one_{name}")
    for pixels in both(tmp_path / name):
        assert [pixels[0].min(), pixels[1].max(), pixels[2].max()] == [255, 0, 0]


def test_the_preview_in_a_cameras_file_is_no_frame(tmp_path):
    image = Image.new("RGB", (8, 8))
    image.save(tmp_path / "a.mpo", save_all=True, append_images=[image])
    assert not several_frames(tmp_path / "a.mpo")


def claiming(kind, width, height):
    """A small file that says it has so many pixels."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, kind)
    content = bytearray(stream.getvalue())
    if kind == "JPEG":
        progress = content.index(b"\xff\xc0") + 5
        content[progress : progress + 4] = struct.pack(">HH", height, width)
    else:
        content[16:24] = struct.pack(">II", width, height)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


BOMBS = """
import sys
from pathlib import Path
import torch  # which reading loads, and which is no memory of the images
from ltbench.data.loading import decode as decoding
from ltbench.data.loading.decode import read_rgb, several_frames
from ltbench.data.datasets.image_folder import decode, decode_one

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

pixels = 4000 * 4000
decoding._budget = decoding._PixelBudget(pixels)
before = peak()
decode([Path(f"large{i}.png") for i in range(6)], 32)
print("together", peak() - before)
decoding._budget = decoding._PixelBudget(decoding.PIXELS_AT_ONCE)
before = peak()
for name in ("a.jpg", "a.png"):
    for read in (read_rgb, lambda file: decode_one(file, 32)):
        try:
            read(Path(name))
        except Exception as error:
            print(error)
print("peak", peak() - before)
print("photograph", several_frames(Path("photograph.png")))
"""


@pytest.mark.slow
def test_a_claim_of_too_many_pixels_is_refused_before_they_get_memory(tmp_path):
    """Files of some hundred bytes; 20,000 x 20,000 pixels would take 1.2 GB, and did, several times over.

    Six large images take the memory of as many as there is room for: here of one, 64 MB, and not of six.

    A photograph of 90 megapixels, of which Pillow would warn, is none of them, and nothing is said of it.
    """
    (tmp_path / "a.jpg").write_bytes(claiming("JPEG", 20_000, 20_000))
    (tmp_path / "a.png").write_bytes(claiming("PNG", 20_000, 20_000))
    assert (tmp_path / "a.jpg").stat().st_size < 1000
    (tmp_path / "photograph.png").write_bytes(claiming("PNG", 9_500, 9_500))
    Image.new("RGB", (4000, 4000)).save(tmp_path / "large0.png", compress_level=1)
    for i in range(1, 6):
        shutil.copy(tmp_path / "large0.png", tmp_path / f"large{i}.png")
    done = subprocess.run([sys.executable, "-c", BOMBS], cwd=tmp_path, capture_output=True, text=True, check=True)
    said = done.stdout
    assert said.count(f"the image has more than {MAX_PIXELS:,} pixels\n  where: a.jpg\n") == 2
    assert said.count(f"the image has more than {MAX_PIXELS:,} pixels\n  where: a.png\n") == 2
    assert int(said.partition("peak ")[2].split()[0]) < 100_000, "kilobytes"
    assert int(said.partition("together ")[2].split()[0]) < 150_000
    assert "photograph False" in said
    assert done.stderr == ""


def test_a_tile_of_tiff_counts_as_the_image_does(tmp_path):
    file = tiff(tmp_path / "a.tif", halves(0, 1, np.uint8), 8, 1, t322=30000, t323=30000)
    assert "the image has 30000 x 30000 pixels, more than" in reason(file)


def test_an_icon_may_hold_a_larger_image_than_it_says_and_goes_nearly_alone(tmp_path, monkeypatch):
    seen = []
    holding = decode._budget.holding
    monkeypatch.setattr(decode._budget, "holding", lambda pixels: (seen.append(pixels), holding(pixels))[1])
    Image.new("RGB", (16, 16)).save(tmp_path / "a.ico", sizes=[(16, 16)])
    both(tmp_path / "a.ico")
    assert seen == [MAX_PIXELS] * 2


def test_the_largest_image_is_just_below_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 64)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (65, 1)).save(tmp_path / "b.png")
    assert both(tmp_path / "a.png")[1].shape == (3, 8, 8)
    for read in (read_rgb, lambda file: decode_one(file, 8)):
        with pytest.raises(LtbenchError, match=r"the image has 65 x 1 pixels, more than 64 in all"):
            read(tmp_path / "b.png")


def test_threads_decode_no_more_pixels_at_once_than_there_is_room_for():
    budget, now, most = decode._PixelBudget(100), [0], [0]
    lock = threading.Lock()

    def hold(pixels):
        with budget.holding(pixels):
            with lock:
                now[0] += pixels
                most[0] = max(most[0], now[0])
            time.sleep(0.01)
            with lock:
                now[0] -= pixels

    threads = [threading.Thread(target=hold, args=(pixels,)) for pixels in [40, 30, 60, 20, 100, 50, 10] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert 60 <= most[0] <= 100


def test_an_image_beyond_the_room_goes_alone():
    budget = decode._PixelBudget(100)
    with budget.holding(1000):
        assert budget._free == 0
    assert budget._free == 100


def test_decoding_counts_towards_the_room(tmp_path, monkeypatch):
    seen = []
    real = decode._PixelBudget.holding
    monkeypatch.setattr(
        decode._PixelBudget, "holding", lambda self, pixels: (seen.append(pixels), real(self, pixels))[1]
    )
    Image.new("RGB", (10, 7)).save(tmp_path / "a.jpg")
    both(tmp_path / "a.jpg")
    assert seen == [70, 70]


def test_an_empty_file_is_told_as_that(tmp_path):
    (tmp_path / "a.jpg").touch()
    for read in (read_rgb, lambda file: decode_one(file, 8)):
        with pytest.raises(LtbenchError, match="the file is empty"):
            read(tmp_path / "a.jpg")


def test_a_file_beyond_the_bound_on_bytes_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_BYTES", 100)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    with pytest.raises(LtbenchError, match=r"bytes, more than 100"):
        read_rgb(tmp_path / "a.jpg")


def test_large_images_are_converted_in_strips_to_the_same_pixels(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 30, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    whole = read_rgb(tmp_path / "a.png")
    monkeypatch.setattr(decode, "_STRIP", 7 * 30)
    assert torch.equal(read_rgb(tmp_path / "a.png"), whole)
    share = pixels[..., 3:] / 255
    want = pixels[..., :3] * share + 255 * (1 - share)
    np.testing.assert_allclose(whole.permute(1, 2, 0), want, atol=1)
