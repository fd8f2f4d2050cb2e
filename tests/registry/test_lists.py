"""Lists, search, comparison, and the pages they come in."""

import pytest
from perennial.errors import InvalidArgument, NotFound
from perennial.package import Column, ColumnType, Signature
from perennial.v1 import common_pb2 as common
from perennial.v1 import registry_pb2 as pb

from tests.registry.conftest import Registry
from tests.registry.packages import SIGNATURE


async def test_pages_follow_each_other_without_a_gap(registry: Registry, model: str) -> None:
    """Newest first, each version once, also when a version is registered between two pages. # REG-08"""
    for _ in range(5):
        await registry.register(model)
    seen, token = [], ""
    while True:
        page = common.Page(size=2, token=token)
        answer = await registry.call("ListModelVersions", pb.ListModelVersionsRequest(name=model, page=page))
        seen += [version.version for version in answer.model_versions]
        token = answer.next_token
        if not token:
            break
        await registry.register(model)
    assert seen == ["1.0.4", "1.0.3", "1.0.2", "1.0.1", "1.0.0"]


async def test_a_bad_page_is_refused(registry: Registry, model: str) -> None:
    """A token that is none, one of another list, and a page too large are INVALID_ARGUMENT in every list."""
    for _ in range(2):
        await registry.register(model)
    one = common.Page(size=1)
    token = (await registry.call("ListModelVersions", pb.ListModelVersionsRequest(name=model, page=one))).next_token
    lists = {
        "ListModels": pb.ListModelsRequest,
        "SearchModelVersions": pb.SearchModelVersionsRequest,
        "ListEvents": pb.ListEventsRequest,
        "ListApiKeys": pb.ListApiKeysRequest,
    }
    for method, kind in lists.items():
        for page in (common.Page(token="%%"), common.Page(token="AAAA"), common.Page(token=token), common.Page(size=1001)):
            with pytest.raises(InvalidArgument, match="page"):
                await registry.call(method, kind(page=page))
    for method, request in {
        "ListModelVersions": pb.ListModelVersionsRequest(name=model, page=common.Page(token="x")),
        "ListAliasHistory": pb.ListAliasHistoryRequest(name=model, page=common.Page(token=token)),
        "ListStageHistory": pb.ListStageHistoryRequest(name=model, version="1.0.0", page=common.Page(token=token)),
    }.items():
        with pytest.raises(InvalidArgument, match="page"):
            await registry.call(method, request)


async def test_models_are_listed_by_name(registry: Registry, model: str) -> None:
    """Every model is on exactly one page, in the order of names."""
    names = [f"{model}-{letter}" for letter in "abc"]
    for name in reversed(names):
        await registry.call("UpsertModel", pb.UpsertModelRequest(name=name))
    seen, token = [], ""
    while True:
        answer = await registry.call("ListModels", pb.ListModelsRequest(page=common.Page(size=3, token=token)))
        seen += [found.name for found in answer.models]
        token = answer.next_token
        if not token:
            break
    assert seen == sorted(seen)
    assert [name for name in seen if name.startswith(f"{model}-")] == names


async def test_versions_are_found_by_what_is_known_of_them(registry: Registry, model: str) -> None:
    """By stage, tag, tag and value, algorithm, text in name or description, and all of it together. # REG-09"""
    await registry.register(model, header={"tags": {"team": model, "kind": "eta"}, "description": "Arrival DELAY"})
    await registry.register(model, algorithm=f"ridge-{model}", header={"tags": {"team": model}, "first_alias": "champion"})

    async def found(**query: object) -> list[str]:
        answer = await registry.call("SearchModelVersions", pb.SearchModelVersionsRequest(**query))  # type: ignore[arg-type]
        return [version.version for version in answer.model_versions]

    assert await found(tags=[f"team={model}"]) == ["1.1.0", "1.0.0"]
    assert await found(tags=[f"team={model}", "kind"]) == ["1.0.0"]
    assert await found(tags=[f"team={model}", "kind=other"]) == []
    assert await found(algorithm=f"ridge-{model}") == ["1.1.0"]
    assert await found(text=model.upper()) == ["1.1.0", "1.0.0"]
    assert await found(tags=[f"team={model}"], text="arrival delay") == ["1.0.0"]
    first = await registry.call("SearchModelVersions", pb.SearchModelVersionsRequest(text=model, page=common.Page(size=1)))
    assert await found(text=model, page=common.Page(size=1, token=first.next_token)) == ["1.0.0"]
    assert await found(tags=[f"team={model}"], stage=pb.STAGE_PRODUCTION) == ["1.1.0"]
    assert await found(tags=[f"team={model}"], stage=pb.STAGE_ARCHIVED) == []
    with pytest.raises(InvalidArgument, match="tags"):
        await found(tags=["=x"])
    with pytest.raises(InvalidArgument, match="stage"):
        await found(stage=9)


async def test_two_versions_are_compared(registry: Registry, model: str) -> None:
    """Metrics both have as a difference, everything else that differs in words. # REG-10"""
    await registry.register(model, header={"metrics": {"mae": 2.0, "old": 1.0}}, parameters={"depth": 3})
    other = Signature.of([*SIGNATURE.columns, Column("origin", ColumnType.TEXT)])
    await registry.register(
        model, header={"metrics": {"mae": 1.5, "new": 1.0}, "first_alias": "best"}, parameters={"depth": 4}, signature=other
    )
    request = pb.CompareModelVersionsRequest(name=model, version="1.0.0", other="@best")
    answer = await registry.call("CompareModelVersions", request)
    assert dict(answer.metrics_diff) == {"mae": -0.5}
    assert answer.changes["parameters.depth"] == "3.0 -> 4.0"
    assert answer.changes["signature.columns.origin"].startswith("(none) -> 2: text")
    assert (answer.left.version, answer.right.version) == ("1.0.0", "1.1.0")
    assert "algorithm" not in answer.changes
    with pytest.raises(NotFound):
        await registry.call("CompareModelVersions", pb.CompareModelVersionsRequest(name=model, version="1.0.0", other="@none"))


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetModel", pb.GetModelRequest(name="nobody")),
        ("GetModelVersion", pb.GetModelVersionRequest(name="nobody", version="1.0.0")),
        ("GetModelVersion", pb.GetModelVersionRequest(name="nobody", version="@champion")),
        ("ListModelVersions", pb.ListModelVersionsRequest(name="nobody")),
        ("ListAliasHistory", pb.ListAliasHistoryRequest(name="nobody")),
        ("ListStageHistory", pb.ListStageHistoryRequest(name="nobody", version="1.0.0")),
        ("ListChain", pb.ListChainRequest(correlation_id="nothing")),
        ("RevokeApiKey", pb.RevokeApiKeyRequest(name="nobody")),
        ("PromoteModelVersion", pb.PromoteModelVersionRequest(name="nobody", version="1.0.0", stage=pb.STAGE_STAGING)),
    ],
)
async def test_what_is_not_there_is_not_found(registry: Registry, method: str, request_: object) -> None:
    """NOT_FOUND says what is missing."""
    with pytest.raises(NotFound, match=r"nobody|nothing"):
        await registry.call(method, request_)


@pytest.mark.parametrize("text", ["a\x00b", "x" * 200_000])
async def test_no_text_breaks_the_store(registry: Registry, text: str) -> None:
    """A NUL or a text without end is INVALID_ARGUMENT wherever it is given, not an internal error."""
    requests = {
        "GetModel": pb.GetModelRequest(name=text),
        "SearchModelVersions": pb.SearchModelVersionsRequest(text=text),
        "ListChain": pb.ListChainRequest(correlation_id=text),
        "ListEvents": pb.ListEventsRequest(subject=text),
        "GetVersionAt": pb.GetVersionAtRequest(name="m", alias=text),
        "GetModelVersion": pb.GetModelVersionRequest(name="m", version="@" + text),
        "CreateApiKey": pb.CreateApiKeyRequest(name=text, roles=["viewer"]),
    }
    for method, request in requests.items():
        with pytest.raises(InvalidArgument):
            await registry.call(method, request)
