"""``perennial audit``: are the audit chains whole?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from perennial.cli.output import EnvOption, JsonOption, platform, show
from perennial.errors import PerennialError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Verify the audit chains")
WITH_AUDIT = ("registry", "feature", "trainer", "serving", "monitor")


@app.callback()
def _group() -> None:
    """A group although it has one command."""


@app.command()
def verify(
    service: Annotated[str, typer.Argument(help="A service; all of them when none is named")] = "",
    as_json: JsonOption = False,
    env_file: EnvOption = None,
) -> None:
    """Walk the hash chains; status 1 when a row was edited, deleted or swapped, naming the first bad one."""
    names = (service,) if service else WITH_AUDIT
    with platform(env_file) as found:
        rows = [_verified(found, name) for name in names]
    show(rows, as_json=as_json)
    if not all(row["intact"] for row in rows):
        raise typer.Exit(1)


def _verified(found: Any, service: str) -> dict[str, Any]:
    from perennial.v1.platform_pb2 import VerifyAuditRequest
    from perennial.v1.platform_pb2_grpc import PlatformServiceStub

    try:
        stub = PlatformServiceStub(found.calls.channel(service))
        answer = found.calls.unary(stub.VerifyAudit, VerifyAuditRequest(service=service))
    except PerennialError as error:
        return {"service": service, "rows": 0, "intact": False, "first_bad": "", "reason": f"{error.status}: {error.message}"}
    bad = answer.first_bad if not answer.intact else ""
    return {"service": service, "rows": answer.rows, "intact": answer.intact, "first_bad": bad, "reason": answer.reason}
