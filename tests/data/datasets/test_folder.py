"""folder-lt on real image files: formats, the stored split, the cache, and every error's words."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltbench.data.datasets import image_folder as image_folder
from ltbench.data.datasets.image_folder import SPLIT_FILE, Folder, decode, read
from ltbench.data.long_tail import fingerprint
from ltbench.errors import LtbenchError
from ltbench.files.paths import cache_dir

WHITE = (255, 255, 255)


def grey(path):
    Image.new("L", (8, 8), 77).save(path.with_suffix(".png"))
    return (77, 77, 77), (77, 77, 77)


def black_and_white(path):
    image = Image.new("1", (8, 8), 0)
    image.paste(1, (4, 0, 8, 8))
    image.save(path.with_suffix(".png"))
    return (0, 0, 0), WHITE


def transparent(path):
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((10, 20, 30, 255), (4, 0, 8, 8))
    image.save(path.with_suffix(".png"))
    return WHITE, (10, 20, 30)


def half_transparent_grey(path):
    image = Image.new("LA", (8, 8), (0, 51))
    image.paste((90, 255), (4, 0, 8, 8))
    image.save(path.with_suffix(".png"))
    return (204, 204, 204), (90, 90, 90)  # 0 * 51/255 + 255 * 204/255


def palette(path):
    _palette().save(path.with_suffix(".gif"))
    return (10, 20, 30), (200, 0, 100)


def palette_with_transparency(path):
    _palette().save(path.with_suffix(".png"), transparency=1)
    return (10, 20, 30), WHITE


def _palette():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 0, 100])
    image.paste(1, (4, 0, 8, 8))
    return image


def grey_16_bit(path):
    _sixteen().save(path.with_suffix(".png"))
    return (128, 128, 128), WHITE


def grey_16_bit_tiff(path):
    _sixteen().save(path.with_suffix(".tif"))
    return (128, 128, 128), WHITE


def _sixteen():
    pixels = np.full((8, 8), 128 * 256, dtype=np.uint16)
    pixels[:, 4:] = 65535
    return Image.fromarray(pixels)


def rotated_by_exif(path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise: the bottom row is the left column
    image = Image.new("RGB", (8, 8), (200, 200, 200))
    image.paste((20, 20, 20), (0, 4, 8, 8))
    image.save(path.with_suffix(".jpg"), exif=exif, quality=100)
    return (20, 20, 20), (200, 200, 200)


def wide(path):
    image = Image.new("RGB", (16, 8), (255, 0, 0))
    image.paste((0, 255, 0), (4, 0, 8, 8))
    image.paste((0, 0, 255), (8, 0, 12, 8))
    image.save(path.with_suffix(".bmp"))
    return (0, 255, 0), (0, 0, 255)


def tall_and_large(path):
    image = Image.new("RGB", (64, 200), (255, 0, 0))
    image.paste((0, 0, 0), (0, 60, 32, 140))
    image.paste((9, 9, 9), (32, 60, 64, 140))
    image.save(path.with_suffix(".webp"), lossless=True)
    return (0, 0, 0), (9, 9, 9)


KINDS = [grey, black_and_white, transparent, half_transparent_grey, palette, palette_with_transparency]
KINDS += [grey_16_bit, grey_16_bit_tiff, rotated_by_exif, wide, tall_and_large]


@pytest.mark.parametrize("draw", KINDS)
def test_every_kind_of_image_becomes_rgb_of_one_size(draw, tmp_path):
    left, right = draw(tmp_path / "image")
    (file,) = tmp_path.iterdir()
    image = decode([file], 8)[0]
    assert (image.shape, image.dtype) == ((3, 8, 8), np.uint8)
    # The outer columns: a scaled edge or a JPEG blurs those between.
    for columns, colour in ((slice(0, 2), left), (slice(6, 8), right)):
        want = np.broadcast_to(np.array(colour).reshape(3, 1, 1), (3, 8, 2))
        np.testing.assert_allclose(image[:, :, columns], want, atol=3 if file.suffix == ".jpg" else 0)


def test_images_of_the_right_size_keep_every_pixel(tmp_path, class_folders):
    made = class_folders(tmp_path / "train", {"ant": 5, "bee": 3})
    class_folders(tmp_path / "test", {"ant": 1, "bee": 2}, seed=1)
    data = read(tmp_path, 8)
    np.testing.assert_array_equal(data.train.images, np.concatenate([made["ant"], made["bee"]]))
    assert data.train.labels.tolist() == [0] * 5 + [1] * 3
    assert data.test.labels.tolist() == [0, 1, 1]
    assert data.classes == ("ant", "bee")
    assert not (tmp_path / SPLIT_FILE).exists()


def parts(data):
    return fingerprint(data.train.images, data.train.labels), fingerprint(data.test.images, data.test.labels)


@pytest.mark.parametrize("below", ["", "train"])
def test_without_test_images_a_fifth_of_each_class_is_set_aside_and_stays(below, tmp_path, class_folders):
    sizes = {"ant": 20, "bee": 8, "cat": 2}
    class_folders(tmp_path / below, sizes)
    data = read(tmp_path, 8)
    assert np.bincount(data.test.labels).tolist() == [4, 2, 1]
    assert np.bincount(data.train.labels).tolist() == [16, 6, 1]
    stored = (tmp_path / SPLIT_FILE).read_text().splitlines()
    assert stored[0] == "test_image"
    assert len(stored) == 1 + 7
    tests = decode([tmp_path / name for name in stored[1:]], 8)
    assert fingerprint(tests, np.repeat([0, 1, 2], [4, 2, 1])) == parts(data)[1]
    assert parts(read(tmp_path, 8)) == parts(data)

    class_folders(tmp_path / below, {"ant": 10, "cat": 3}, seed=1, first=20)
    later = read(tmp_path, 8)
    assert parts(later)[1] == parts(data)[1]
    assert np.bincount(later.train.labels).tolist() == [26, 6, 4]


def test_a_copy_of_the_folder_is_split_alike(tmp_path, class_folders):
    for place in ("one", "other"):
        class_folders(tmp_path / place, {"ant": 20, "bee": 8})
    assert parts(read(tmp_path / "one", 8)) == parts(read(tmp_path / "other", 8))


def test_a_class_added_later_gets_test_images_and_the_others_keep_theirs(tmp_path, class_folders):
    class_folders(tmp_path, {"bee": 10, "cat": 10})
    read(tmp_path, 8)
    before = set((tmp_path / SPLIT_FILE).read_text().split())
    class_folders(tmp_path, {"ant": 10}, seed=1)
    data = read(tmp_path, 8)
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    added = set((tmp_path / SPLIT_FILE).read_text().split()) - before
    assert [name.split("/")[0] for name in sorted(added)] == ["ant", "ant"]
    assert before < set((tmp_path / SPLIT_FILE).read_text().split())


def test_a_split_edited_by_hand_counts(tmp_path, class_folders):
    made = class_folders(tmp_path, {"ant": 4, "bee": 4})
    (tmp_path / SPLIT_FILE).write_text("test_image\nant/002.png\nbee/000.png\n")
    data = read(tmp_path, 8)
    np.testing.assert_array_equal(data.test.images, np.stack([made["ant"][2], made["bee"][0]]))


def test_hidden_files_and_folders_are_no_data(tmp_path, class_folders):
    class_folders(tmp_path, {"ant": 4, "bee": 4})
    before = parts(read(tmp_path, 8))
    (tmp_path / ".git").mkdir()
    (tmp_path / "ant" / ".DS_Store").write_bytes(b"no image")
    (tmp_path / "readme.txt").write_text("about the data")
    assert parts(read(tmp_path, 8)) == before


def _no_folder(folder, make):
    return read(folder / "nowhere", 8)


def _truncated(folder, make):
    make(folder, {"ant": 3, "bee": 3})
    file = folder / "bee" / "001.png"
    file.write_bytes(file.read_bytes()[:100])


def _cut_off_in_a_file_of_full_size(folder, make):
    make(folder, {"ant": 3, "bee": 3})
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = folder / "ant" / "camera.jpg"
    Image.fromarray(noise).save(file)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def _a_text_file_named_like_an_image(folder, make):
    make(folder, {"ant": 3, "bee": 3})
    (folder / "ant" / "notes.png").write_text("the best ants")


def _exif_of_the_wrong_kind(folder, make):
    make(folder, {"ant": 3, "bee": 3})
    tags = b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + b"\0\x01\x02\0\x02\0\0\0ab\0\0"  # turn; a width in letters
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + tags + b"\0\0\0\0"
    Image.new("RGB", (8, 8)).save(folder / "ant" / "camera.jpg", exif=exif)


def _an_empty_class(folder, make):
    make(folder, {"ant": 3, "bee": 3})
    (folder / "cat").mkdir()


def _one_class(folder, make):
    make(folder, {"ant": 3})


def _no_class(folder, make):
    folder.mkdir()


def _one_image(folder, make):
    make(folder, {"ant": 3, "bee": 1})


def _classes_that_disagree(folder, make):
    make(folder / "train", {"ant": 3, "bee": 3, "cat": 3})
    make(folder / "test", {"ant": 1, "bee": 1, "cow": 1})


def _a_damaged_split(folder, make):
    make(folder, {"ant": 5, "bee": 5})
    (folder / SPLIT_FILE).write_text("image\nant/000.png\n")


def _a_test_image_that_is_gone(folder, make):
    make(folder, {"ant": 5, "bee": 5})
    read(folder, 8)
    (folder / (folder / SPLIT_FILE).read_text().split()[1]).unlink()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_no_folder, ["not there", "data/nowhere", "--data-dir"]),
        (_truncated, ["1 of 6", "truncated", "data/bee/001.png"]),
        (_cut_off_in_a_file_of_full_size, ["1 of 7", "truncated", "data/ant/camera.jpg"]),
        (_a_text_file_named_like_an_image, ["1 of 7", "no image", "data/ant/notes.png"]),
        (_exif_of_the_wrong_kind, ["1 of 7", "data/ant/camera.jpg"]),
        (_an_empty_class, ["no images", "data/cat"]),
        (_one_class, ["1 class folders", "at least two", "/data"]),
        (_no_class, ["0 class folders", "/data"]),
        (_one_image, ["one image", "data/bee/000.png"]),
        (_classes_that_disagree, ["cat, cow", "train/", "test/", "/data"]),
        (_a_damaged_split, ["stored split cannot be read", SPLIT_FILE]),
        (_a_test_image_that_is_gone, ["1 test images", "gone", "ant/0", SPLIT_FILE]),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_the_error_names_what_is_wrong(spoil, named, tmp_path, class_folders):
    folder = tmp_path / "data"
    with pytest.raises(LtbenchError) as caught:
        spoil(folder, class_folders)
        read(folder, 8)
    assert [part for part in named if part not in str(caught.value)] == []


def test_a_test_part_can_be_required(tmp_path, class_folders):
    class_folders(tmp_path / "train", {"ant": 3, "bee": 3})
    with pytest.raises(LtbenchError, match="no test/"):
        read(tmp_path, 8, needs_test=True)


def test_a_quick_look_finds_class_folders(tmp_path, class_folders):
    assert not Folder().available(tmp_path / "nowhere")
    assert not Folder().available(tmp_path)
    class_folders(tmp_path, {"ant": 1})
    assert Folder().available(tmp_path)


@pytest.fixture
def decoded(monkeypatch):
    """The files that are decoded, as they are."""
    seen: list[Path] = []
    real = image_folder.decode_one
    monkeypatch.setattr(image_folder, "decode_one", lambda file, size: (seen.append(file), real(file, size))[1])
    return seen


def test_images_are_decoded_once(tmp_path, class_folders, decoded):
    class_folders(tmp_path, {"ant": 5, "bee": 5})
    first = parts(read(tmp_path, 8))
    assert len(decoded) == 10
    assert parts(read(tmp_path, 8)) == first
    assert len(decoded) == 10
    assert read(tmp_path, 4).train.images.shape == (8, 3, 4, 4)
    assert len(decoded) == 20


def test_a_changed_file_is_decoded_again(tmp_path, write_image, decoded):
    file = write_image(tmp_path / "ant.bmp", np.zeros((8, 8, 3), np.uint8))
    assert decode([file], 8).max() == 0
    before = file.stat()
    write_image(file, np.full((8, 8, 3), 200, np.uint8))
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert decode([file], 8).min() == 200
    assert len(decoded) == 2


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", [b"train/a/caf\xe9.png", b"train/caf\xe9/1.png", b"train/a/caf\xe9/1.png"])
def test_a_name_that_is_not_utf_8_is_told(tmp_path, class_folders, cli, monkeypatch, name, streamed):
    monkeypatch.setattr(image_folder, "STREAMED_ABOVE", 0 if streamed else 2**31)
    for part in ("train", "test"):
        class_folders(tmp_path / part, {"a": 3, "b": 3})
    odd = tmp_path / os.fsdecode(name)
    odd.parent.mkdir(exist_ok=True)
    (tmp_path / "train/a/000.png").rename(odd)
    done = cli("data", "verify", "folder-lt", "--data-dir", tmp_path)
    assert done.code == 2
    assert "is not UTF-8" in done.err
    assert "caf\\udce9" in done.err
    assert "rename it" in done.err


def test_the_data_folder_may_be_called_anything(tmp_path, class_folders):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    class_folders(folder, {"a": 3, "b": 3})
    assert len(read(folder, 8).train) == 4


def test_the_name_of_a_decoded_copy_tells_how_it_was_decoded(tmp_path, class_folders, monkeypatch):
    class_folders(tmp_path, {"é": 1})
    file = tmp_path / "é/000.png"
    os.utime(file, ns=(0, 0))
    decode([file], 8)
    about = f"{file}\0{file.stat().st_size}\0{0}\n"
    name = hashlib.blake2b(b"3 8" + about.encode(), digest_size=16).hexdigest()
    assert (cache_dir() / "decoded" / f"{name}.npy").exists(), "and not b'8', by which older versions call theirs"


def test_a_class_folder_that_is_not_readable_is_told(tmp_path, class_folders, cli, closed):
    class_folders(tmp_path, {"a": 3, "b": 3})
    closed(tmp_path / "b")
    done = cli("run", "--dataset", "folder-lt", "--data-dir", tmp_path)
    assert done.code == 2
    assert f"permission denied in the data folder\n  where: {tmp_path}/b" in done.err


def test_a_class_whose_training_images_are_gone_is_told(tmp_path, class_folders, cli):
    folder = tmp_path / "photos"
    class_folders(folder, {"a": 5, "b": 5})
    image_folder.read(folder, 8)
    tested = (folder / SPLIT_FILE).read_text().split()[1:]
    for file in (folder / "a").iterdir():
        if f"a/{file.name}" not in tested:
            file.unlink()
    for command in (["data", "verify", "folder-lt"], ["run", "--method", "ce", "--dataset", "folder-lt"]):
        done = cli(*command, "--data-dir", folder)
        assert done.code == 2
        assert "all images left of a class are test images: a" in done.err
        assert "delete the split file" in done.err


def test_postscript_is_no_image(tmp_path, class_folders):
    """Pillow would have Ghostscript carry it out."""
    class_folders(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a" / "logo.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    found = image_folder.find_parts(tmp_path)
    assert [(path.name, reason) for path, reason in found.listing.skipped] == [("logo.eps", "files that are no images")]
