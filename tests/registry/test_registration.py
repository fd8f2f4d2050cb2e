"""Registering versions, over real gRPC with real PostgreSQL, Kafka and objects."""

import asyncio
import math

import grpc
import pytest
from perennial.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    from_status,
)
from perennial.package import Column, ColumnType, FileEntry, Manifest, ModelPackage, Signature
from perennial.v1 import common_pb2 as common
from perennial.v1 import registry_pb2 as pb
from perennial.v1 import registry_pb2_grpc as pb_grpc

from tests.registry.conftest import Registry
from tests.registry.packages import ONNX, SIGNATURE, entries_of, package, upload, with_entry


async def test_a_registered_version_can_be_read_back(registry: Registry, model: str) -> None:
    """Everything the client said of the version is in the answer and in what is read later. # REG-04 REG-07"""
    made = await registry.register(model, header={"metrics": {"mae": 1.5}, "description": "eta", "tags": {"team": "ops"}})
    read = (await registry.call("GetModelVersion", pb.GetModelVersionRequest(name=model, version="1.0.0"))).model_version
    assert read == made
    assert (made.version, made.stage, made.algorithm, made.metrics["mae"]) == ("1.0.0", pb.STAGE_DEVELOPMENT, "lightgbm", 1.5)
    assert made.author.name == "service:trainer"


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"name": "../model.onnx"}, "a path"),
        ({"name": ".hidden"}, "a dot first"),
        ({"name": "a/b"}, "a slash"),
        ({"name": "model.pkl"}, "code on load"),
        ({"sha256": "zz"}, "no digest"),
    ],
)
async def test_a_bad_file_entry_is_refused(registry: Registry, model: str, files: dict[str, str], what: str) -> None:
    """A file's name is a name and never a path, never of a format that runs code; its digest is one."""
    made = package()
    with pytest.raises(InvalidArgument):
        await registry.register(model, made=made, entries=with_entry(made, "model.onnx", **files))


@pytest.mark.parametrize("name", ["", "Flights", "a b", "ä", "../x", "a/b", "-x", "x" * 101])
async def test_a_bad_model_name_is_refused(registry: Registry, name: str) -> None:
    """A model's name is lower-case letters, digits, dash and underscore."""
    with pytest.raises(InvalidArgument, match="model"):
        await registry.register(name)


async def test_a_wrong_digest_names_the_file(registry: Registry, model: str) -> None:
    """Bytes that do not match their digest are DATA_LOSS with the file's name, and no version exists afterwards."""
    made = package()
    with pytest.raises(DataLoss, match=r"model\.onnx"):
        await registry.register(model, made=made, data=made.data("manifest.json") + b"x" * len(ONNX))
    with pytest.raises(NotFound):
        await registry.call("GetModel", pb.GetModelRequest(name=model))


@pytest.mark.parametrize(("change", "match"), [(-1, r"model\.onnx.*bytes came"), (1, "more bytes")])
async def test_missing_and_surplus_bytes_are_refused(registry: Registry, model: str, change: int, match: str) -> None:
    """The pieces make exactly the files the header names."""
    made = package()
    data = b"".join(made.data(entry.name) for entry in made.entries)
    data = data[:change] if change < 0 else data + b"x" * change
    with pytest.raises(InvalidArgument, match=match):
        await registry.register(model, made=made, data=data)


async def test_pieces_need_not_follow_the_files(registry: Registry, model: str) -> None:
    """Pieces of seven bytes, or of everything at once, make the same artifact."""
    one = await registry.register(model, piece=7)
    other = await registry.register(model)
    assert one.artifact_digest == other.artifact_digest


async def test_the_first_message_is_the_header(registry: Registry) -> None:
    """Bytes before the header, a second header and no message at all are refused."""
    piece = pb.RegisterModelVersionRequest(chunk=b"x")
    with pytest.raises(InvalidArgument, match="first message"):
        await registry.call("RegisterModelVersion", iter([piece]))
    with pytest.raises(InvalidArgument, match="first message"):
        await registry.call("RegisterModelVersion", iter([]))
    header = next(upload("m"))
    with pytest.raises(InvalidArgument, match="after the header"):
        await registry.call("RegisterModelVersion", iter([header, header]))


async def test_a_piece_is_at_most_a_mebibyte(registry: Registry, model: str) -> None:
    """Larger pieces are refused, so a sender cannot fill the memory."""
    big = package(files={"notes.txt": b"n" * (1 << 21)})
    with pytest.raises(InvalidArgument, match="piece"):
        await registry.register(model, made=big, piece=(1 << 20) + 1)
    assert (await registry.register(model, made=big)).version == "1.0.0"


async def test_the_manifest_must_be_there_and_agree(registry: Registry, model: str) -> None:
    """No manifest, one that is no JSON, or one that names other files: INVALID_ARGUMENT."""
    made = package()
    without = [entry for entry in entries_of(made) if entry.name != "manifest.json"]
    with pytest.raises(InvalidArgument, match=r"manifest\.json is missing"):
        await registry.register(model, made=made, entries=without)
    extra = package(files={"notes.txt": b"n"})
    fewer = [entry for entry in entries_of(extra) if entry.name != "notes.txt"]
    with pytest.raises(InvalidArgument, match=r"notes\.txt is in manifest\.json only"):
        await registry.register(model, made=extra, entries=fewer, data=extra.data("manifest.json") + ONNX)
    junk = [FileEntry.of("manifest.json", b"[]")]
    entries = [common.FileEntry(name=f.name, sha256=f.sha256, size=f.size) for f in junk]
    with pytest.raises(InvalidArgument, match=r"manifest\.json"):
        await registry.register(model, made=made, entries=entries, data=b"[]")


async def test_a_graph_that_is_none_is_refused(registry: Registry, model: str) -> None:
    """model.onnx must be an ONNX graph that keeps to itself."""
    manifest = Manifest(framework="x", algorithm="y", signature=SIGNATURE)
    with pytest.raises(InvalidArgument, match="ONNX"):
        await registry.register(model, made=ModelPackage.of(manifest, {"model.onnx": b"\xff\xff\xff"}))


async def test_the_files_can_be_downloaded(registry: Registry, model: str) -> None:
    """What comes back is what was sent, all of it or the files asked for. # REG-02"""
    made = package(files={"notes.txt": b"n" * (3 << 20)})
    await registry.register(model, made=made)
    assert await download(registry, model) == {entry.name: made.data(entry.name) for entry in made.entries}
    assert set(await download(registry, model, "model.onnx")) == {"model.onnx"}
    with pytest.raises(NotFound, match="no file nothing"):
        await download(registry, model, "nothing")


async def test_a_damaged_object_is_noticed(registry: Registry, model: str) -> None:
    """Bytes that changed in the store, or are gone, are DATA_LOSS before a single one leaves."""
    version = await registry.register(model, files={"notes.txt": model.encode()})
    key = f"{version.artifact_prefix}/notes.txt"
    await registry.runtime.objects.put(key, b"other")
    with pytest.raises(DataLoss, match=r"notes\.txt is damaged"):
        await download(registry, model)
    await registry.runtime.objects.delete(key)
    with pytest.raises(DataLoss, match=r"notes\.txt is gone"):
        await download(registry, model)


async def test_a_request_id_makes_one_version(registry: Registry, model: str) -> None:
    """The same header again gives the same version, also at the same time; another header is ALREADY_EXISTS."""
    header = {"request_id": f"job-{model}"}
    made = await asyncio.gather(*(registry.register(model, header=header) for _ in range(4)))
    assert {version.version for version in made} == {"1.0.0"}
    with pytest.raises(AlreadyExists, match="request_id"):
        await registry.register(model, header={**header, "description": "another"})
    other_caller = await registry.register(model, header=header, by="admin")
    assert other_caller.version == "1.0.1"


async def test_versions_are_numbered_by_the_rule(registry: Registry, model: str) -> None:
    """Signature → major, columns or algorithm → minor, retrained → patch, other parameters without a parent → minor. # REG-06"""
    assert (await registry.register(model)).version == "1.0.0"
    assert (await registry.register(model, lineage={"parent": "1.0.0"}, parameters={"depth": 3})).version == "1.0.1"
    assert (await registry.register(model, lineage={"parent": "1.0.0"})).version == "1.0.2"
    assert (await registry.register(model, algorithm="ridge")).version == "1.1.0"
    wider = Signature.of([*SIGNATURE.columns, Column("origin", ColumnType.TEXT)])
    assert (await registry.register(model, algorithm="ridge", signature=wider)).version == "1.2.0"
    stricter = Signature.of([*SIGNATURE.columns, Column("origin", ColumnType.TEXT, nullable=False)])
    assert (await registry.register(model, signature=stricter)).version == "2.0.0"
    assert (await registry.register(model, signature=stricter, parameters={"depth": 4})).version == "2.1.0"
    assert (await registry.register(model, lineage={"parent": "1.0.1"})).version == "1.0.3"
    with pytest.raises(InvalidArgument, match=r"lineage\.parent"):
        await registry.register(model, lineage={"parent": "7.0.0"})


async def test_an_explicit_number_must_fit_the_rule(registry: Registry, model: str) -> None:
    """Higher is fine, lower is FAILED_PRECONDITION, taken is ALREADY_EXISTS, anything else INVALID_ARGUMENT."""
    assert (await registry.register(model, header={"version": "0.3.0"})).version == "0.3.0"
    assert (await registry.register(model, header={"version": "2.0.0"}, algorithm="ridge")).version == "2.0.0"
    with pytest.raises(FailedPrecondition, match="minor step"):
        await registry.register(model, header={"version": "2.0.1"}, algorithm="other")
    with pytest.raises(AlreadyExists, match=r"2\.0\.0"):
        await registry.register(model, header={"version": "2.0.0"}, lineage={"parent": "0.3.0"})
    for wrong in ("1", "1.0", "01.0.0", "1.0.0-rc1", "@champion", "1.0.9999999999"):
        with pytest.raises(InvalidArgument, match="version"):
            await registry.register(model, header={"version": wrong})


async def test_concurrent_registrations_get_numbers_of_their_own(registry: Registry, model: str) -> None:
    """Ten at once are 1.0.0 to 1.0.9: nothing is lost and nothing shared."""
    made = await asyncio.gather(*(registry.register(model, files={"n.txt": str(n).encode()}) for n in range(10)))
    assert sorted(version.version for version in made) == [f"1.0.{n}" for n in range(10)]


async def test_figures_without_a_value_stay_without(registry: Registry, model: str) -> None:
    """A metric that is NaN comes back as NaN; infinity is refused."""
    made = await registry.register(model, header={"metrics": {"auc": float("nan")}})
    read = (await registry.call("GetModelVersion", pb.GetModelVersionRequest(name=model, version="1.0.0"))).model_version
    assert math.isnan(made.metrics["auc"])
    assert math.isnan(read.metrics["auc"])
    with pytest.raises(InvalidArgument, match="infinity"):
        await registry.register(model, header={"metrics": {"auc": float("inf")}})


async def test_only_those_who_may_register(registry: Registry, model: str) -> None:
    """Another service, a viewer and a caller without a token are turned away before anything is read."""
    with pytest.raises(PermissionDenied):
        await registry.register(model, by="service:monitor")
    with pytest.raises(PermissionDenied):
        await registry.register(model, token=await registry.key(f"v-{model}", "viewer"))
    with pytest.raises(Unauthenticated):
        await registry.register(model, token="nonsense")


async def test_limits_hold(registry: Registry, model: str) -> None:
    """Too many bytes, too many files and a file named twice are refused by the header alone."""
    made = package()
    huge = with_entry(made, "model.onnx", size=2**40)
    with pytest.raises(InvalidArgument, match="together are more"):
        await registry.register(model, made=made, entries=huge)
    with pytest.raises(InvalidArgument, match="named twice"):
        await registry.register(model, made=made, entries=[*entries_of(made), *entries_of(made)])
    many = [common.FileEntry(name=f"f{n}", sha256="0" * 64) for n in range(101)]
    with pytest.raises(InvalidArgument, match="files: 102"):
        await registry.register(model, made=made, entries=[*many, *entries_of(made)][1:])


async def download(registry: Registry, model: str, *files: str) -> dict[str, bytes]:
    """A version's files by name."""
    stub = pb_grpc.RegistryServiceStub(registry.channel)
    metadata = (("authorization", f"Bearer {registry.token('admin')}"),)
    request = pb.DownloadModelVersionRequest(name=model, version="1.0.0", files=files)
    found: dict[str, bytes] = {}
    try:
        async for piece in stub.DownloadModelVersion(request, timeout=20, metadata=metadata):
            found[piece.file] = found.get(piece.file, b"") + piece.chunk
    except grpc.aio.AioRpcError as error:
        raise from_status(error.code().name, error.details() or "") from None
    return found
