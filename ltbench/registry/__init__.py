"""Finds methods and data sets by name; imports torch for what is loaded, and not for names."""

import hashlib
import importlib
import importlib.resources
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from ltbench.errors import LtbenchError, LtbenchWarning, unknown

if TYPE_CHECKING:
    from ltbench.data.datasets.base import Source
    from ltbench.method import Method
    from ltbench.method.declaration import Declaration

Loaded = TypeVar("Loaded")

_from_folders: dict[str, Path] = {}
_DATASETS = {
    "digits-lt": "ltbench.data.datasets.digits:Digits",
    "cifar10-lt": "ltbench.data.datasets.cifar:Cifar10",
    "cifar100-lt": "ltbench.data.datasets.cifar:Cifar100",
    "folder-lt": "ltbench.data.datasets.image_folder:Folder",
    "imagenet-lt": "ltbench.data.datasets.imagenet_lt:ImageNetLT",
    "inaturalist2018": "ltbench.data.datasets.inaturalist:INaturalist2018",
    "places-lt": "ltbench.data.datasets.places_lt:PlacesLT",
}
_TORCHVISION = "torchvision:"
"""How the names of torchvision's data sets begin; see ``ltbench.data.datasets.from_torchvision``."""


def add_methods_dir(folder: Path) -> None:
    """Make every method file of a folder known under its file name.

    Raises:
        LtbenchError: if the folder is not there, holds no method file, or a name is taken.
    """
    if not folder.is_dir():
        raise LtbenchError("the methods folder is not there", where=folder.absolute(), hint="see --methods-dir")
    files = sorted(file for file in folder.glob("*.py") if not file.name.startswith("_"))
    if not files:
        raise LtbenchError("no method files in the folder", where=folder.absolute(), hint="one my_method.py a method")
    for file in files:
        add_method_file(file)


def add_method_file(file: Path) -> str:
    """Make one method file known; returns the method's name, which is the file's.

    Raises:
        LtbenchError: if the file is not there, its name is no method name, or it is taken.
    """
    name = file.stem
    if not file.is_file():
        raise LtbenchError("the method file is not there", where=file.absolute(), hint="give one file, my_method.py")
    if file.suffix != ".py":
        raise LtbenchError("a method file's name ends in .py", where=file, hint="give one file, my_method.py")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise LtbenchError(f"'{name}' is no method name", where=file, hint="use small letters, digits and _")
    if name in _builtin_methods() or name in _entry_points("methods"):
        raise LtbenchError(f"there is a method '{name}' already", where=file, hint="rename the file")
    _from_folders[name] = file.resolve()
    return name


@contextmanager
def temporary_methods() -> Iterator[None]:
    """Forget at its end the methods that were made known within it, as a test does."""
    before = dict(_from_folders)
    try:
        yield
    finally:
        _from_folders.clear()
        _from_folders.update(before)


def method_names() -> list[str]:
    """Every method, by name; that of a faulty file or package cannot be loaded."""
    return sorted({*_builtin_methods(), *_entry_points("methods"), *_from_folders})


def check_method(name: str, *, where: object = "--method") -> None:
    """Refuse a name that no method has.

    Args:
        name: to look for.
        where: it was given, for the error.

    Raises:
        LtbenchError: with the nearest known names.
    """
    if name not in _from_folders and name not in _builtin_methods() and name not in _entry_points("methods"):
        raise unknown("method", name, method_names(), where=where)


def declaration(name: str) -> "Declaration":
    """What a method says of itself without its algorithm. Methods of ltbench's own are read, not imported.

    Raises:
        LtbenchError: as ``method``; or for a fault in the TOML file beside it.
    """
    from ltbench.method.declaration import Declaration, read_declaration

    module = f"ltbench_methods.{name}"
    if name not in _from_folders and name in _builtin_methods() and module not in sys.modules:
        with suppress(LookupError):  # an edited file that cannot be read so is imported
            file = importlib.resources.files("ltbench_methods").joinpath(f"{name}.py")
            return read_declaration(Path(str(file)))
    return Declaration.of(method(name))


def method(name: str) -> "type[Method]":
    """The class of a method.

    Raises:
        LtbenchError: if the name is unknown, or its file or the package that registers it is at fault.
    """
    if name in _from_folders:
        return _method_of(_load_file(_from_folders[name]), name)
    if name in _builtin_methods():
        return _method_of(importlib.import_module(f"ltbench_methods.{name}"), name)
    check_method(name)
    from ltbench.method import Method

    entry = _entry_points("methods")[name]
    loaded = _load_entry_point(entry)
    if isinstance(loaded, ModuleType):
        return _method_of(loaded, name)
    if not (inspect.isclass(loaded) and issubclass(loaded, Method)):
        raise _faulty(entry, f"it is no subclass of Method and no module with one, but {loaded!r}")
    return loaded


def revision(cls: "type[Method]") -> str:
    """What stands for a method's code in a run id: its revision, or a hash of its file where it has none."""
    if cls.__dict__.get("revision") is not None:
        return str(cls.revision)
    source = Path(inspect.getfile(cls)).read_bytes()
    return "file " + hashlib.sha256(source).hexdigest()[:12]


def error_location(error: BaseException, cls: "type[Method]") -> str | None:
    """File and line in a method's own code that an error came through; None if it came from elsewhere."""
    file = inspect.getfile(cls)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{Path(file).name}, line {own[-1].lineno}" if own else None


def method_files() -> list[Path]:
    """The method files that were made known, for making them known in another process."""
    return list(_from_folders.values())


def folder_of(name: str) -> Path | None:
    """The --methods-dir that a method came from, if it did."""
    return _from_folders[name].parent if name in _from_folders else None


def dataset_names() -> list[str]:
    """Every data set, by name."""
    return sorted({*_DATASETS, *_from_torchvision().names(), *_entry_points("datasets")})


def is_own_dataset(name: str) -> bool:
    """Whether a data set comes with ltbench."""
    return name in _DATASETS or _is_of_torchvision(name)


def _is_of_torchvision(name: str) -> bool:
    return name.startswith(_TORCHVISION) and name in _from_torchvision().names()


def _from_torchvision() -> ModuleType:
    """What reads the names of torchvision's data sets; imported as the others are, when it is needed."""
    return importlib.import_module("ltbench.data.datasets.from_torchvision")


def check_dataset(name: str, *, where: object = "--dataset") -> None:
    """Refuse a name that no data set has.

    Args:
        name: to look for.
        where: it was given, for the error.

    Raises:
        LtbenchError: with the nearest known names.
    """
    if not is_own_dataset(name) and name not in dataset_names():  # which looks through all installed packages
        if name.startswith(_TORCHVISION):
            refusal: LtbenchError = _from_torchvision().refuse(name, where=where)
            raise refusal
        raise unknown("data set", name, dataset_names(), where=where)


def check_paper(name: str) -> None:
    """Refuse data sets and methods in the TOML file of a method that there are not.

    Raises:
        LtbenchError: with the file, the table and the nearest known names.
    """
    declared = declaration(name)
    for one in declared.paper.defaults:
        check_dataset(one, where=f"{declared.paper_file}, [defaults.{one}]")
    for one in declared.paper.same_as:
        check_method(one, where=f"{declared.paper_file}, [same_as.{one}]")


def dataset(name: str, *, where: str = "--dataset") -> "Source":
    """A data set.

    Args:
        name: its name.
        where: it was given, for the error.

    Raises:
        LtbenchError: if the name is unknown, or the package that registers it is at fault.
    """
    if name in _DATASETS:
        module, _, attribute = _DATASETS[name].partition(":")
        found: type[Source] = getattr(importlib.import_module(module), attribute)
        return found()
    if _is_of_torchvision(name):
        source: Source = _from_torchvision().source(name)
        return source
    check_dataset(name, where=where)
    return _source_of(_entry_points("datasets")[name])


def loadable(names: Iterable[str], load: Callable[[str], Loaded]) -> dict[str, Loaded]:
    """What loads, by name: what a method file or another package spoils is left out, with a warning that names it.

    Args:
        names: of methods or data sets.
        load: ``method`` or ``dataset``.
    """
    found = {}
    for name in names:
        try:
            found[name] = load(name)
        except LtbenchError as error:
            warnings.warn(f"'{name}' is left out: {error}", LtbenchWarning, stacklevel=2)
    return found


@cache
def _builtin_methods() -> frozenset[str]:
    import ltbench_methods

    return frozenset(module.name for module in pkgutil.iter_modules(ltbench_methods.__path__))


def _entry_points(kind: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=f"ltbench.{kind}")}


def _load_entry_point(entry: EntryPoint) -> Any:
    """What another package registers.

    Raises:
        LtbenchError: if its code raises anything, SystemExit included.
    """
    try:
        return entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _faulty(entry, f"{type(error).__name__}: {error}") from None


def _source_of(entry: EntryPoint) -> "Source":
    from ltbench.data.datasets.base import Source

    cls = _load_entry_point(entry)
    if not (inspect.isclass(cls) and issubclass(cls, Source)):
        raise _faulty(entry, f"it is no subclass of Source, but {cls!r}")
    try:
        source: Source = cls()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _faulty(entry, f"{type(error).__name__}: {error}") from None
    needed = ("name", "summary", "recipe_table", "backbone", "image_size")
    lacking = [name for name in needed if not hasattr(source, name)]
    if lacking:
        raise _faulty(entry, f"{cls.__name__} does not say its {', '.join(lacking)}")
    return source


def _faulty(entry: EntryPoint, what: str) -> LtbenchError:
    package = entry.dist.name if entry.dist is not None else entry.module.partition(".")[0]
    kind = entry.group.removeprefix("ltbench.")
    return LtbenchError(
        f"the entry point '{entry.name}' of the package {package} cannot be loaded: {what}",
        where=f"{entry.group}: {entry.name} = {entry.value}",
        hint=f"update or uninstall {package}; ltbench's own {kind} do not need it",
    )


def _load_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ltbench_user_methods.{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where inspect and pydantic look up a class's module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, too
        del sys.modules[spec.name]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        raise LtbenchError(
            f"the method file cannot be loaded: {type(error).__name__}: {error}",
            where=f"{file}, line {line}" if line else file,
        ) from None
    return module


def _method_of(module: ModuleType, name: str) -> "type[Method]":
    from ltbench.method import Method

    own = [
        cls
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, Method) and cls.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise LtbenchError(
            f"method file '{name}' defines {len(own)} subclasses of Method, expected one",
            where=module.__file__,
        )
    return own[0]
