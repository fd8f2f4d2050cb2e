"""What happens when the same command comes twice?

A command with a ``request_id`` runs in one transaction together with the record of its answer, so its effect and the
record exist both or neither. The same id and body gives the first answer again for 24 hours; another body is refused.
"""

import hashlib
from collections.abc import Awaitable, Callable

from perennial import metrics
from perennial.errors import AlreadyExists, InvalidArgument
from perennial.runtime import telemetry
from perennial.runtime.identity import Principal
from perennial.runtime.postgres import Postgres

KEEP_HOURS = 24
_LENGTH = 200
_LOCK = "select pg_advisory_xact_lock(hashtextextended($1, 7))"
_FIND = """
select body, response from requests
where caller = $1 and method = $2 and request_id = $3 and answered_at > now() - interval '24 hours'
"""
_STORE = """
insert into requests (caller, method, request_id, body, response) values ($1, $2, $3, $4, $5)
on conflict (caller, method, request_id) do update
set body = excluded.body, response = excluded.response, answered_at = now()
"""


async def once(
    postgres: Postgres, *, method: str, who: Principal, request_id: str, body: bytes, work: Callable[[], Awaitable[bytes]]
) -> bytes:
    """The answer of ``work``, or the stored one when this caller asked this method with this id before."""
    if len(request_id) > _LENGTH:
        raise InvalidArgument(f"request_id is longer than {_LENGTH} characters")
    key = (f"{who.kind}:{who.name}", method, request_id)
    digest = hashlib.sha256(body).digest()
    async with postgres.ambient() as transaction:
        await transaction.execute(_LOCK, "\n".join((postgres.schema, *key)))
        stored = await transaction.fetchrow(_FIND, *key)
        if stored is not None:
            if stored["body"] != digest:
                raise AlreadyExists(f"request_id {request_id} was used for another {method.rsplit('/', 1)[-1]}; use a new one")
            telemetry.metric(metrics.REQUESTS_REPEATED).labels(method).inc()
            return bytes(stored["response"])
        answer = await work()
        await transaction.execute(_STORE, *key, digest, answer)
        return answer


async def forget_old(postgres: Postgres) -> None:
    """Remove answers nobody may ask for any more, and inbox rows past every topic's retention."""
    await postgres.execute("delete from requests where answered_at < now() - make_interval(hours => $1)", KEEP_HOURS)
    await postgres.execute("delete from inbox where seen_at < now() - interval '45 days'")
