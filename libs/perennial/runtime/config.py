"""Where does a service get its settings, and what happens when they are wrong?

Precedence: ``PERENNIAL_<SERVICE>__X``, then ``PERENNIAL_X``, then the plain names a setting admits (``DATABASE_URL``),
all of them first in the environment and then in the file ``PERENNIAL_ENV_FILE`` (``.perennial/env``); then the default.
``KAFKA__BOOTSTRAP`` and ``KAFKA_BOOTSTRAP`` are the same name. Everything wrong is reported at once; secrets are never
printed.
"""

import difflib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

ENV_FILE = "PERENNIAL_ENV_FILE"
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_EXIT_CONFIGURATION = 2


def setting(default: Any = ..., *, also: tuple[str, ...] = (), **options: Any) -> Any:
    """A field of a service's settings; ``also`` are plain variables it is read from when no PERENNIAL_ one is set."""
    return Field(default, json_schema_extra={"also": list(also)}, **options)


class ServiceConfig(BaseSettings):
    """The settings all services have; each service adds its own in a subclass."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    service: ClassVar[str] = ""
    default_port: ClassVar[int] = 0
    needs_database: ClassVar[bool] = True
    needs_kafka: ClassVar[bool] = True

    host: str = setting("127.0.0.1", description="Address the gRPC server listens on")
    port: int = setting(-1, description="gRPC port; 0 takes a free one; default the service's own")
    metrics_port: int = setting(-1, also=("METRICS_PORT",), description="HTTP port of /metrics; default gRPC port + 1000")
    namespace: str = setting("", description="Prefix of topics, groups, schemas, buckets and keys")
    environment: str = setting("development", pattern="development|production", description="development adds reflection")
    log_level: str = setting("info", pattern="debug|info|warning|error")
    data_dir: Path = setting(Path(".perennial"), description="Folder for what a service keeps on its own disk")

    database_url: SecretStr | None = setting(None, also=("DATABASE_URL",), description="postgresql://…")
    redis_url: SecretStr = setting(SecretStr("redis://127.0.0.1:6379"), also=("REDIS_URL",))
    kafka_bootstrap: str = setting("127.0.0.1:9092", description="Comma list of host:port")
    kafka_username: str = setting("", description="SASL user; empty means no authentication")
    kafka_password: SecretStr = setting(SecretStr(""))
    kafka_ca_file: Path | None = setting(None, description="CA of the brokers; setting it turns TLS on")
    kafka_partitions: int | None = setting(None, ge=1, le=1000, description="Partitions of keyed topics, instead of topics.py")
    kafka_replication: int = setting(1, ge=1, description="Replication factor of topics that are created")
    storage_type: str = setting("s3", also=("MODEL_STORAGE_TYPE",), pattern="s3|local")
    storage_path: Path = setting(Path("./models"), also=("MODEL_STORAGE_PATH",), description="Folder of local storage")
    s3_endpoint: str = setting("http://127.0.0.1:9000", also=("S3_ENDPOINT",))
    s3_access_key: SecretStr = setting(SecretStr(""), also=("S3_ACCESS_KEY", "AWS_ACCESS_KEY_ID"))
    s3_secret_key: SecretStr = setting(SecretStr(""), also=("S3_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"))
    s3_region: str = setting("us-east-1", also=("S3_REGION",))
    model_bucket: str = setting("ml-models", also=("MODEL_BUCKET",), min_length=3)

    secrets_dir: Path = setting(Path(".perennial/secrets"), description="Folder with admin-token and service-key")
    admin_token: SecretStr | None = setting(None, description="Instead of <secrets_dir>/admin-token")
    service_key: SecretStr | None = setting(None, description="Instead of <secrets_dir>/service-key; signs service tokens")
    oidc_issuer: str = setting("", description="Issuer whose JWTs are accepted from people")
    oidc_audience: str = setting("perennial")
    oidc_jwks: str = setting("", description="URL or file of the issuer's keys")
    oidc_roles_claim: str = setting("roles")
    tls_certificate: Path | None = setting(None, description="PEM chain of this service; turns TLS on")
    tls_key: Path | None = setting(None)
    tls_ca: Path | None = setting(None, description="CA of callers and peers; turns mutual TLS on")

    registry_address: str = setting("127.0.0.1:50051")
    feature_address: str = setting("127.0.0.1:50052")
    trainer_address: str = setting("127.0.0.1:50053")
    serving_address: str = setting("127.0.0.1:50054")
    monitor_address: str = setting("127.0.0.1:50055")
    explainer_address: str = setting("127.0.0.1:50056")

    pool_size: int = setting(8, ge=1, le=200, description="Most PostgreSQL connections of this process")
    startup_wait_s: float = setting(10.0, ge=0, description="How long a start waits for PostgreSQL before it goes on without")
    grace_s: float = setting(10.0, ge=0, le=300, description="How long running calls may take when stopping")
    message_bytes: int = setting(4 * 1024 * 1024, ge=1024)
    metadata_bytes: int = setting(16 * 1024, ge=1024)
    concurrent_streams: int = setting(1000, ge=1)
    calls_per_second: float = setting(0.0, ge=0, description="Rate limit per caller; 0 means none")
    processes: int = setting(1, ge=1, le=64, description="Work processes of the executor")
    threads: int = setting(1, ge=1, le=64, description="Threads of numeric libraries in a work process")

    @field_validator("namespace")
    @classmethod
    def _namespace_is_safe(cls, value: str) -> str:
        if value and not _NAMESPACE.fullmatch(value):
            raise ValueError("must be lower-case letters, digits and dashes, at most 40")
        return value

    def model_post_init(self, _context: Any) -> None:
        """Fill in what depends on other settings."""
        if self.port < 0:
            object.__setattr__(self, "port", self.default_port)
        if self.metrics_port < 0:
            object.__setattr__(self, "metrics_port", self.port + 1000 if self.port else 0)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 replaced by our own order of names
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment and the file by our precedence."""
        return init_settings, _Environment(settings_cls)

    @classmethod
    def load(cls, **values: Any) -> Self:
        """The settings of this process; wrong ones end it with status 2 after naming every one of them."""
        try:
            settings = cls(**values)
        except ValidationError as error:
            _refuse(cls, [_complaint(cls, item) for item in error.errors()])
        missing = settings.missing_secrets()
        if missing:
            _refuse(cls, missing)
        return settings

    def missing_secrets(self) -> list[str]:
        """What a start needs and does not have, one sentence each."""
        lines = []
        if self.needs_database and self.database_url is None:
            lines.append(f"{names_of(type(self), 'database_url')}: not set; the address of PostgreSQL is needed")
        for field, file in (("admin_token", "admin-token"), ("service_key", "service-key")):
            if not self.secret(field, file):
                lines.append(f"{names_of(type(self), field)}: not set, and {self.secrets_dir / file} is not there")
        return lines

    def secret(self, field: str, file: str) -> str:
        """A secret given directly or by its file in the secrets folder; empty when there is neither."""
        given: SecretStr | None = getattr(self, field)
        if given is not None:
            return given.get_secret_value().strip()
        path = self.secrets_dir / file
        return path.read_text().strip() if path.is_file() else ""

    # Names as they are outside: everything that is shared between platforms carries the namespace.

    def prefixed(self, name: str) -> str:
        """A topic's or group's name on the broker."""
        return f"{self.namespace}.{name}" if self.namespace else name

    @property
    def schema_name(self) -> str:
        """The service's schema in PostgreSQL."""
        return self.prefixed(self.service).replace(".", "_").replace("-", "_")

    @property
    def bucket_name(self) -> str:
        """The bucket of artifacts and logs."""
        return f"{self.namespace}-{self.model_bucket}" if self.namespace else self.model_bucket

    def redis_key(self, key: str) -> str:
        """A key in Redis."""
        return f"{self.namespace}:{key}" if self.namespace else key


def _normal(name: str) -> str:
    return re.sub(r"_+", "_", name.upper())


def env_file_values(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of the file written by ``perennial up``; empty when there is none."""
    from dotenv import dotenv_values

    environment = os.environ if environment is None else environment
    path = Path(environment.get(ENV_FILE, ".perennial/env"))
    if not path.is_file():
        return {}
    return {name: value for name, value in dotenv_values(path).items() if value is not None}


def _also(field: FieldInfo) -> list[str]:
    extra = field.json_schema_extra
    return [str(name) for name in extra.get("also", [])] if isinstance(extra, dict) else []  # type: ignore[union-attr]


def names_of(config: type[ServiceConfig], field: str) -> str:
    """The variables a setting is read from, for messages."""
    upper = field.upper()
    also = _also(config.model_fields[field]) if field in config.model_fields else []
    return " / ".join([f"PERENNIAL_{config.service.upper()}__{upper}", f"PERENNIAL_{upper}", *also])


class _Environment(PydanticBaseSettingsSource):
    """The environment and the env file, in the order the module names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 pydantic asks for it
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        config: Any = self.settings_cls
        scope = f"PERENNIAL_{config.service.upper()}__"
        found: dict[str, Any] = {}
        sources = [dict(os.environ), env_file_values()]
        for name, field in config.model_fields.items():
            wanted = [scope + name.upper(), f"PERENNIAL_{name.upper()}", *_also(field)]
            value = _first(sources, wanted)
            if value is not None:
                found[name] = self._prepared(name, field, value)
        for source in sources:
            for variable in source:
                rest = _normal(variable[len(scope) :]).lower() if variable.startswith(scope) else ""
                if rest and rest not in config.model_fields:
                    found.setdefault(rest, source[variable])  # refused as unknown, with a suggestion
        return found

    def _prepared(self, name: str, field: FieldInfo, value: str) -> Any:
        if not self.field_is_complex(field):
            return value
        if value.lstrip().startswith(("[", "{")):
            try:
                return self.decode_complex_value(name, field, value)
            except ValueError:
                return value  # pydantic says what is wrong with it, with all the others
        return [part.strip() for part in value.split(",") if part.strip()]


def _first(sources: list[dict[str, str]], wanted: list[str]) -> str | None:
    """The environment beats the file whatever the name, so DATABASE_URL replaces a part of a running stack."""
    for source in sources:
        normal = {_normal(name): value for name, value in source.items()}
        for name in wanted:
            if _normal(name) in normal:
                return normal[_normal(name)]
    return None


def _complaint(config: type[ServiceConfig], item: Any) -> str:
    field = str(item["loc"][0]) if item["loc"] else "settings"
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(field, config.model_fields, n=1)
        hint = f"; did you mean {close[0].upper()}?" if close else ""
        return f"PERENNIAL_{config.service.upper()}__{field.upper()}: there is no such setting{hint}"
    return f"{names_of(config, field)}: {item['msg']}"


def _refuse(config: type[ServiceConfig], complaints: list[str]) -> NoReturn:
    lines = [f"{config.service} cannot start; {len(complaints)} settings are wrong or missing:", *complaints]
    sys.stderr.write("\n  ".join(lines) + "\n")
    sys.exit(_EXIT_CONFIGURATION)
