"""What all tests of the data layer share: no network, and image files to read."""

import socket

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """A test that opens a connection fails."""

    def refuse(*args, **kwargs):
        raise AssertionError("a test tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def write_image():
    """Write an image file from pixels (H, W) or (H, W, channels); missing folders are made."""

    def write(path, pixels, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(pixels)).save(path, **options)
        return path

    return write


@pytest.fixture
def class_folders(write_image):
    """Write random 8 x 8 colour images, as many as asked for in each class: name -> images (N, 3, 8, 8)."""

    def write(folder, sizes, *, seed=0, first=0):
        generator = np.random.default_rng(seed)
        made = {}
        for name, size in sizes.items():
            images = generator.integers(0, 256, (size, 8, 8, 3), dtype=np.uint8)
            for i, image in enumerate(images, start=first):
                write_image(folder / name / f"{i:03}.png", image)
            made[name] = images.transpose(0, 3, 1, 2)
        return made

    return write
