"""A package is what was written, or it is not opened."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from perennial.errors import DataLoss, InvalidArgument, NotFound, PerennialError
from perennial.frames import Table
from perennial.package import (
    MANIFEST,
    MODEL,
    Column,
    ColumnType,
    FileEntry,
    Manifest,
    ModelPackage,
    Signature,
    artifact_digest,
    checked_name,
    load,
    open_package,
    refuse_external_data,
)
from perennial.package.manifest import parse

SIGNATURE = Signature.of([Column("a", ColumnType.NUMBER)])


def graph(*, location: str = "", inner: bool = False, name: str = "numbers") -> bytes:
    """Prediction = numbers + 1, with the 1 perhaps kept in another file, perhaps inside an attribute."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    if location:
        one.ClearField("float_data")
        one.data_location = TensorProto.EXTERNAL
        one.external_data.add(key="location", value=location)
    nodes = [helper.make_node("Add", [name, "one"], ["prediction"])]
    if inner:
        nodes.insert(0, helper.make_node("Constant", [], ["one"], value=one))
    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [None, 1])], [] if inner else [one],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def package(data: bytes | None = None, **files: bytes) -> ModelPackage:
    """A package of the small graph."""
    contents = {MODEL: graph() if data is None else data, **files}
    return ModelPackage.of(Manifest("onnx", "plus_one", SIGNATURE, parameters={"by": 1}), contents)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Manifest, files and digest survive the disk, and the model answers."""
    made = package(**{"background.parquet": b"x"})
    made.write(tmp_path / "m")
    found = ModelPackage.read(tmp_path / "m")
    assert found == made
    assert found.digest == made.digest == artifact_digest(found.entries)
    assert load(tmp_path / "m").predict(Table.of({"a": [1.0, 2.5]})).column("prediction").tolist() == [2.0, 3.5]


def flipped(folder: Path) -> None:
    data = bytearray((folder / MODEL).read_bytes())
    data[-1] ^= 1
    (folder / MODEL).write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (flipped, DataLoss),
        (lambda f: (f / MODEL).unlink(), DataLoss),
        (lambda f: (f / MODEL).write_bytes(b""), DataLoss),
        (lambda f: (f / "more.bin").write_bytes(b"x"), InvalidArgument),
        (lambda f: (f / MANIFEST).unlink(), NotFound),
        (lambda f: (f / MANIFEST).write_text("{}"), InvalidArgument),
        (lambda f: (f / MANIFEST).write_bytes(b"\xff"), InvalidArgument),
        (lambda f: ((f / MODEL).rename(f.parent / "elsewhere"), (f / MODEL).symlink_to(f.parent / "elsewhere")), DataLoss),
    ],
)
def test_a_damaged_package_is_never_opened(tmp_path: Path, damage: Callable[[Path], object], error: type[PerennialError]) -> None:
    """REG: digests are checked at every load, before any file is opened."""
    package().write(tmp_path / "m")
    damage(tmp_path / "m")
    with pytest.raises(error):
        load(tmp_path / "m")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "a b", "ä", "x" * 201, "a\n"])
def test_names_never_become_paths(name: str) -> None:
    """Letters, digits, dot, dash and underscore."""
    with pytest.raises(InvalidArgument):
        checked_name(name)


def test_a_manifest_with_a_path_in_it_is_refused() -> None:
    """Nobody reads or writes outside the folder."""
    text = package().manifest.encoded().replace(MODEL.encode(), b"../" + MODEL.encode())
    with pytest.raises(InvalidArgument, match="only letters"):
        parse(text)


@pytest.mark.parametrize("inner", [False, True])
def test_a_graph_that_reads_other_files_is_refused(inner: bool) -> None:
    """External data is refused wherever the tensor sits, whatever file it names."""
    with pytest.raises(InvalidArgument, match="other files"):
        refuse_external_data(graph(location="/etc/passwd", inner=inner))
    with pytest.raises(InvalidArgument, match="other files"):
        open_package(package(graph(location="weights.bin", inner=inner)))
    refuse_external_data(graph(inner=inner))


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"not a model", bytes([0x08, 0x0A])])
def test_what_is_no_graph_is_refused(data: bytes) -> None:
    """A wrong file says so; nothing crashes."""
    with pytest.raises(InvalidArgument):
        open_package(package(data))


def test_a_graph_that_does_not_fit_its_signature_is_refused() -> None:
    """Inputs and outputs have the contract's names."""
    with pytest.raises(InvalidArgument, match="takes"):
        open_package(package(graph(name="other")))
    texts = Signature.of([Column("a", ColumnType.NUMBER), Column("t", ColumnType.TEXT)])
    made = package()
    with pytest.raises(InvalidArgument, match="texts"):
        open_package(replace(made, manifest=replace(made.manifest, signature=texts)))


def test_the_artifact_digest_does_not_depend_on_order() -> None:
    """It names a set of files."""
    files = [FileEntry.of("a", b"1"), FileEntry.of("b", b"2")]
    assert artifact_digest(files) == artifact_digest(files[::-1])
    assert artifact_digest(files) != artifact_digest([FileEntry.of("a", b"2"), FileEntry.of("b", b"1")])


def test_a_predictor_says_the_same_from_several_threads() -> None:
    """Serving asks from its loop and from shadow threads."""
    from concurrent.futures import ThreadPoolExecutor

    predictor = open_package(package())
    tables = [Table.of({"a": np.arange(10.0) + i}) for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda t: predictor.predict(t).column("prediction"), tables))
    assert all((a == t.column("a") + 1).all() for a, t in zip(answers, tables, strict=True))


def test_onnx_s_own_checker_accepts_the_small_graph() -> None:
    """The graph these tests stand on is a real one."""
    onnx.checker.check_model(graph())
