"""What all tests of the data layer share: no network, and image files to read."""

import socket
import threading
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltbench import registry
from ltbench.data.official_lists import split_list

FOLDERS = {
    "imagenet-lt": ("n01440764", "n01443537", "n01484850", "n01491361"),
    "inaturalist2018": ("Animalia/0", "Arachnida/1", "Plantae/2", "Plantae/3"),
    "places-lt": ("a/airfield", "a/apartment_building/outdoor", "b/bar", "z/zen_garden"),
}


_CONNECT, _LOOK_UP = socket.socket.connect, socket.getaddrinfo


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


@pytest.fixture
def closed(monkeypatch):
    """Take away the right to look into a folder, also from root: ``closed(folder)``."""

    def close(folder):
        look, walk = Path.stat, Path.iterdir

        def refuse(path, kept, *args, **kwargs):
            if folder in (path.parent if kept is look else path, *path.parents):
                raise PermissionError(13, "Permission denied", str(path))
            return kept(path, *args, **kwargs)

        monkeypatch.setattr(Path, "stat", lambda path, **how: refuse(path, look, **how))
        monkeypatch.setattr(Path, "iterdir", lambda path: refuse(path, walk))

    return close


class Server:
    """A web server on this machine that can break off, forget about ranges, or refuse."""

    def __init__(self):
        self.files = {}
        self.asked = []
        """The Range header of every request, or None."""
        self.breaks = []
        """Bytes after which one answer after the other breaks off."""
        self.ranges, self.status, self.length = True, None, True
        self.busy = []
        """Status and Retry-After of the first answers."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, name):
        return f"http://127.0.0.1:{self._server.server_port}/{name}"

    def answer(self, request):
        content, asked = self.files.get(request.path.strip("/")), request.headers.get("Range")
        self.asked.append(asked)
        if self.busy:
            status, wanted = self.busy.pop(0)
            request.send_response(status)
            request.send_header("Retry-After", wanted)
            request.end_headers()
            return
        if self.status or content is None:
            request.send_error(self.status or 404)
            return
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if begin >= len(content) > 0:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(content)}")
            request.end_headers()
            return
        request.send_response(206 if begin else 200)
        if begin:
            request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if self.length:
            request.send_header("Content-Length", str(len(content) - begin) if self.length is True else self.length)
        request.end_headers()
        request.wfile.write(content[begin:][: self.breaks.pop(0) if self.breaks else None])

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine; everything else stays out of reach."""
    real = _CONNECT

    def only_here(self, address):
        assert address[0] == "127.0.0.1", "a test tried to reach the network"
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)
    monkeypatch.setattr(socket, "getaddrinfo", _LOOK_UP)
    started = Server()
    yield started
    started.stop()


@dataclass
class Tiny:
    """A data set of official lists with four classes and a few small JPEG files, in all else as published."""

    source: Any
    folder: Path
    counts: tuple[int, ...]
    members: dict[str, list[tuple[str, str, str, int]]]
    """Part -> set of images, folder of the class, file, label."""

    @property
    def published(self):
        return self.source.published

    def path(self, layouts, images, folder, image):
        """Of an image in given layouts."""
        return layouts[images].format(folder=folder, flat=self.published.layout.flat_name(folder), image=image)

    def write_images(self, layouts=None):
        """Write the images in given layouts, the official ones if none are."""
        layouts = {**self.published.layout.official(), **(layouts or {})}
        generator = np.random.default_rng(0)
        for images, folder, image, _ in (one for members in self.members.values() for one in members):
            path = self.folder / self.path(layouts, images, folder, image)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (36, 48, 3), dtype=np.uint8)).save(path, "JPEG")
        return self

    def text(self, part, written=None):
        """The list of a part; ``written`` makes a path from the set, the folder, and the file."""
        written = written or partial(self.path, self.published.layout.official())
        return "".join(f"{written(*one[:3])} {one[3]}\n" for one in self.members[part])

    def write_lists(self, written=None, into="."):
        """Write the lists."""
        for part in self.published.parts:
            self.list(part, into).parent.mkdir(parents=True, exist_ok=True)
            self.list(part, into).write_text(self.text(part, written))
        return self

    def list(self, part, into="."):
        """The file of a list."""
        return self.folder / into / self.published.parts[part].lists[0]

    def all_paths(self, part, layouts=None):
        """The paths of a part's images in the data folder."""
        layouts = {**self.published.layout.official(), **(layouts or {})}
        return [self.path(layouts, *one[:3]) for one in self.members[part]]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Make a small copy of an official data set: ``tiny(name)``."""

    def make(name):
        source = registry.dataset(name)
        cls, counts = type(source), (7, 4, 2, 1)
        folders = FOLDERS[name]
        members = {part: [] for part in source.published.parts}
        for part, one in source.published.parts.items():
            for label, folder in enumerate(folders):
                for i in range(counts[label] if part == "train" else 1 if part == "validation" else 2):
                    number = 1000 * list(source.published.parts).index(part) + 10 * label + i + 1
                    image = {
                        "imagenet-lt": f"ILSVRC2012_val_{number:08}.JPEG"
                        if part == "test"
                        else f"{folder}_{number}.JPEG",
                        "inaturalist2018": f"{number:032x}.jpg",
                        "places-lt": f"Places365_val_{number:08}.jpg" if part == "test" else f"{number:08}.jpg",
                    }[name]
                    members[part].append((one.image_set, folder, image, label))
        made = Tiny(source, tmp_path / "data", counts, members)
        parts = {
            part: replace(
                one,
                size=len(members[part]),
                per_class=None if part == "train" else len(members[part]) // 4,
                blob=split_list.blob_id(made.text(part).encode()) if one.blob else None,
            )
            for part, one in source.published.parts.items()
        }
        published = replace(
            source.published,
            parts=parts,
            class_count=4,
            shot_groups=(0, 0, 4),
            train_counts=counts if name != "inaturalist2018" else None,
        )
        monkeypatch.setattr(cls, "published", published)
        return made

    return make
