"""Features that several processes compute in chunks."""

import shutil
import threading
import time
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from ltbench.errors import LtbenchWarning
from ltbench.features.chunks import chunks_of, load_or_compute
from ltbench.files.lock import exclusive

ROWS = torch.arange(14.0).reshape(7, 2)


def compute(chunk):
    return ROWS[chunk.images] + 100 * chunk.view


def test_chunks_cover_every_image_of_every_view():
    assert [(chunk.view, chunk.images.start, chunk.images.stop) for chunk in chunks_of(2, 5, 3)] == [
        (0, 0, 3), (0, 3, 5), (1, 0, 3), (1, 3, 5),
    ]  # fmt: skip


def test_chunks_are_put_together_in_order(tmp_path):
    found = load_or_compute(tmp_path / "some.npy", chunks_of(2, 7, 3), compute)
    assert torch.equal(found, torch.stack([ROWS, ROWS + 100]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some.lock", "some.npy"]


def test_half_a_file_of_a_killed_process_is_removed(tmp_path):
    (tmp_path / ".some.npy.0123abcd.tmp").write_bytes(b"half")
    load_or_compute(tmp_path / "some.npy", chunks_of(1, 7, 3), compute)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some.lock", "some.npy"]


def test_no_images_have_no_features(tmp_path):
    assert load_or_compute(tmp_path / "none.npy", chunks_of(1, 0, 3), compute).shape == (1, 0, 2)


@pytest.mark.parametrize("message_after", [1.0, 0.0])  # waiting without a word, and with one
def test_who_waits_for_a_chunk_finds_all_of_them_in_the_file(tmp_path, monkeypatch, message_after):
    monkeypatch.setattr("ltbench.files.lock.MESSAGE_AFTER", message_after)
    file, (chunk,), held = tmp_path / "some.npy", chunks_of(1, 7, 7), threading.Event()

    def other_process():
        folder = file.with_suffix(".parts")
        with exclusive(folder / f"{chunk.view}-{chunk.images.start}.lock", "computing"):
            held.set()
            time.sleep(0.3)
            np.save(file, ROWS[None].numpy())
            shutil.rmtree(folder)

    other = threading.Thread(target=other_process)
    other.start()
    held.wait(10)
    with nullcontext() if message_after else pytest.warns(LtbenchWarning, match="under way in another process"):
        found = load_or_compute(file, [chunk], lambda chunk: pytest.fail("the other process computes it"))
    other.join()
    assert torch.equal(found[0], ROWS)
