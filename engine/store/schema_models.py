"""Tables of the registry of models: backends and groups, what was found at backends, and models that are fetched."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from engine.store.schema import ByteText, truth

# One row: `config` counts changes of backends and groups, `seen` what was found out about backends. Workers look at it.
registry_marks = Table(
    "registry_marks",
    truth,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("config", BigInteger, nullable=False),
    Column("seen", BigInteger, nullable=False),
)

# What the operator declared by API or CLI; `body` is what a table of everstep.toml says, as JSON.
registry_entries = Table(
    "registry_entries",
    truth,
    # backend or group; they have names of their own
    Column("kind", String(16), primary_key=True),
    Column("name", String(128), primary_key=True),
    # which came first: the order of everstep.toml goes on in it
    Column("position", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("rev", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("actor", String(255), nullable=False),
)

# What the last check of a backend found, whoever declared it.
backend_states = Table(
    "backend_states",
    truth,
    Column("backend", String(128), primary_key=True),
    # environment, file, bundled or store; and what the worker that looked knows of it
    Column("source", String(16), nullable=False),
    Column("body", Text, nullable=False),
    # up, down, refused
    Column("state", String(16), nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("checked_us", BigInteger, nullable=False),
    Column("latency_us", BigInteger),
    # of the last check that failed, also after the backend is well again
    Column("error_code", String(64), nullable=False),
    Column("error_message", Text, nullable=False),
    Column("error_us", BigInteger),
    # failed checks in a row
    Column("failures", Integer, nullable=False),
    # of the declared models those that it does not have, as a JSON list
    Column("missing", Text, nullable=False),
)

# Models that a backend said it has, and what it said of them (JSON).
found_models = Table(
    "found_models",
    truth,
    Column("backend", String(128), primary_key=True),
    Column("model", String(255), primary_key=True),
    Column("body", Text, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
)

# Models that are to be fetched by backends, one row for each; those that ended stay until they are fetched again.
model_pulls = Table(
    "model_pulls",
    truth,
    Column("id", String(64), primary_key=True),
    Column("backend", String(128), nullable=False),
    Column("model", String(255), nullable=False),
    # queued, running, done, failed, cancelled
    Column("state", String(16), nullable=False),
    # how often it was asked for; what belongs to an earlier time changes nothing
    Column("round", Integer, nullable=False),
    # in the server's words
    Column("status", Text, nullable=False),
    Column("done_bytes", BigInteger, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error_code", String(64), nullable=False),
    Column("error_message", Text, nullable=False),
    # declared = the reconciliation found it missing, asked = somebody wants it
    Column("reason", String(16), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("started_us", BigInteger),
    Column("updated_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Index("ix_model_pulls_queue", "backend", "state", "created_us"),
)

TABLES = (registry_marks, registry_entries, backend_states, found_models, model_pulls)

for _table in TABLES:
    for _column in _table.columns:
        if isinstance(_column.type, String):
            _column.type = _column.type.with_variant(ByteText(), "postgresql")
