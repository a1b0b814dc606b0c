-- The fleet, its tenants, and what is wished of both. Written for SQLite; store/backend.rs translates the few words
-- that Postgres spells otherwise.
--
-- Ids are texts with a typed prefix, moments are integer microseconds since 1970 UTC, and what
-- is JSON says so. Every row of a tenant carries its account_id.

-- One row: this life of the store. frozen is a reason (JSON) while publishing stands still.
CREATE TABLE meta (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    incarnation TEXT NOT NULL,
    frozen TEXT
) STRICT;

-- Tenants and people ----------------------------------------------------------------------------------------------

CREATE TABLE accounts (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- role is set for staff only: operator or on-call.
CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    role TEXT,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE memberships (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    role TEXT NOT NULL,
    PRIMARY KEY (account_id, user_id)
) STRICT;

-- secret_hash is SHA-256 of 256 random bits: nothing here signs anybody in.
CREATE TABLE api_tokens (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    account_id TEXT REFERENCES accounts (id),
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    secret_hash BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT;

-- A hash chain (domain/audit.rs). entry is JSON.
CREATE TABLE audit (
    seq INTEGER NOT NULL PRIMARY KEY,
    account_id TEXT,
    entry TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;

-- What a repeated request is answered. Without an answer the first one is still being worked on.
CREATE TABLE idempotency (
    user_id TEXT NOT NULL,
    request_key TEXT NOT NULL,
    digest BLOB NOT NULL,
    status INTEGER,
    body TEXT,
    at INTEGER NOT NULL,
    PRIMARY KEY (user_id, request_key)
) STRICT;

-- Hosts -----------------------------------------------------------------------------------------------------------

-- capacity, features and capabilities are JSON, as the host last said. fence counts its sessions.
CREATE TABLE hosts (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    pool TEXT NOT NULL,
    state TEXT NOT NULL,
    sealing_key BLOB NOT NULL,
    agent_version TEXT NOT NULL,
    capacity TEXT NOT NULL,
    features TEXT NOT NULL,
    capabilities TEXT NOT NULL,
    fence INTEGER NOT NULL,
    enrolled_at INTEGER NOT NULL,
    last_seen_at INTEGER
) STRICT;

-- Hosts with a certificate of ours that this store does not know: it is older than they are. outdated is 1 if the host
-- has not come again since publishing was last frozen.
CREATE TABLE strangers (
    host_id TEXT NOT NULL PRIMARY KEY,
    seen_at INTEGER NOT NULL,
    outdated INTEGER NOT NULL
) STRICT;

-- A used token remembers for whom, so that a host whose answer was lost may ask again with the same key.
CREATE TABLE join_tokens (
    id TEXT NOT NULL PRIMARY KEY,
    secret_hash BLOB NOT NULL,
    name TEXT,
    pool TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    host_id TEXT REFERENCES hosts (id),
    csr_digest BLOB
) STRICT;

CREATE TABLE certificates (
    serial BLOB NOT NULL PRIMARY KEY,
    host_id TEXT NOT NULL REFERENCES hosts (id),
    issued_at INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE INDEX certificates_by_host ON certificates (host_id);

-- Deployments -----------------------------------------------------------------------------------------------------

-- version guards every change (compare and set). The three sizes are the plan's, as the current revision pinned them.
CREATE TABLE deployments (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL,
    profile TEXT NOT NULL,
    plan TEXT NOT NULL,
    image TEXT NOT NULL,
    pool TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    revision INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    host_id TEXT REFERENCES hosts (id),
    cpu_millis INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    storage_bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    deleted_at INTEGER,
    version INTEGER NOT NULL
) STRICT;
-- A name is taken until nothing of its deployment is left.
CREATE UNIQUE INDEX deployments_by_name ON deployments (account_id, name) WHERE state <> 'terminated';
CREATE INDEX deployments_by_host ON deployments (host_id);
CREATE INDEX deployments_by_state ON deployments (state);

-- Everything that a revision was made from, pinned. profile, plan, egress (what its owner adds) and blueprint are JSON.
CREATE TABLE revisions (
    deployment_id TEXT NOT NULL REFERENCES deployments (id),
    number INTEGER NOT NULL,
    account_id TEXT NOT NULL,
    profile TEXT NOT NULL,
    plan TEXT NOT NULL,
    egress TEXT NOT NULL,
    image TEXT NOT NULL,
    blueprint TEXT NOT NULL,
    recreate_hash TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (deployment_id, number)
) STRICT;

-- Config and secrets of a revision, encrypted under the keyring. envelope is JSON, key_id the key in it that wraps;
-- version is what it is bound to: the revision that brought the content; bytes is the length of the content.
CREATE TABLE files (
    deployment_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    name TEXT NOT NULL,
    account_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    envelope TEXT NOT NULL,
    PRIMARY KEY (deployment_id, revision, name),
    FOREIGN KEY (deployment_id, revision) REFERENCES revisions (deployment_id, number)
) STRICT;
CREATE INDEX files_by_key ON files (key_id);

-- The same, sealed to a host: once per version, because sealing again makes other bytes and with them another spec. What
-- a new revision does not change stays as it was sealed, and its host rewrites no file.
CREATE TABLE sealed (
    deployment_id TEXT NOT NULL REFERENCES deployments (id),
    host_id TEXT NOT NULL REFERENCES hosts (id),
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    account_id TEXT NOT NULL,
    ciphertext BLOB NOT NULL,
    PRIMARY KEY (deployment_id, host_id, name, version)
) STRICT;

-- Domains that owners bring, as their deployments claim them. Many may claim one; one is verified. due_at is when its
-- proof is looked for next; trouble is JSON.
CREATE TABLE domains (
    deployment_id TEXT NOT NULL REFERENCES deployments (id),
    name TEXT NOT NULL,
    account_id TEXT NOT NULL,
    token TEXT NOT NULL,
    claimed_at INTEGER NOT NULL,
    verified_at INTEGER,
    missing_since INTEGER,
    checked_at INTEGER,
    due_at INTEGER,
    trouble TEXT,
    PRIMARY KEY (deployment_id, name)
) STRICT;
CREATE UNIQUE INDEX domains_by_name ON domains (name) WHERE verified_at IS NOT NULL;
CREATE INDEX domains_by_due ON domains (due_at);

-- Changes of the key that wraps. key_id is the new one, once it is made; trouble is why the last try failed (JSON).
CREATE TABLE rotations (
    id TEXT NOT NULL PRIMARY KEY,
    asked_at INTEGER NOT NULL,
    key_id TEXT,
    trouble TEXT,
    done_at INTEGER
) STRICT;

-- Keys with which nothing may be wrapped any more: they are forgotten, or will be.
CREATE TABLE retired_keys (
    key_id TEXT NOT NULL PRIMARY KEY,
    retired_at INTEGER NOT NULL
) STRICT;

-- What happened to a deployment, in the order of its lines. reason is JSON.
CREATE TABLE timeline (
    id TEXT NOT NULL PRIMARY KEY,
    deployment_id TEXT NOT NULL REFERENCES deployments (id),
    account_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    state TEXT NOT NULL,
    cause TEXT NOT NULL,
    reason TEXT,
    line INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX timeline_by_deployment ON timeline (deployment_id, line);

-- What must happen once. action and outcome are JSON.
CREATE TABLE operations (
    id TEXT NOT NULL PRIMARY KEY,
    deployment_id TEXT NOT NULL REFERENCES deployments (id),
    account_id TEXT NOT NULL,
    action TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    outcome TEXT,
    answered_at INTEGER
) STRICT;
CREATE INDEX operations_by_deployment ON operations (deployment_id, id);

-- Orders to remove, on one host each, kept in its spec until carried out.
CREATE TABLE tombstones (
    id TEXT NOT NULL PRIMARY KEY,
    deployment_id TEXT NOT NULL REFERENCES deployments (id),
    account_id TEXT NOT NULL,
    host_id TEXT NOT NULL REFERENCES hosts (id),
    scope TEXT NOT NULL,
    stop_grace_ms INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    buried_at INTEGER
) STRICT;
CREATE INDEX tombstones_by_host ON tombstones (host_id);

-- The fleet's state ------------------------------------------------------------------------------------------------

-- The latest spec of each host: its bytes are what travels.
CREATE TABLE host_specs (
    host_id TEXT NOT NULL PRIMARY KEY REFERENCES hosts (id),
    generation INTEGER NOT NULL,
    digest BLOB NOT NULL,
    bytes BLOB NOT NULL,
    published_at INTEGER NOT NULL
) STRICT;

-- The highest spec that each host ever said to hold. confirmed_in is the life of the store in which an operator let
-- publishing go on above it: whatever the host holds up to there is known.
CREATE TABLE host_floors (
    host_id TEXT NOT NULL PRIMARY KEY REFERENCES hosts (id),
    generation INTEGER NOT NULL,
    digest BLOB NOT NULL,
    seen_at INTEGER NOT NULL,
    confirmed_in TEXT
) STRICT;

-- The latest report of each host, JSON. outdated is 1 if it came before publishing was last frozen: it may be part of
-- an old copy, and says nothing of what its host runs now.
CREATE TABLE reports (
    host_id TEXT NOT NULL PRIMARY KEY REFERENCES hosts (id),
    fence INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    outdated INTEGER NOT NULL,
    report TEXT NOT NULL
) STRICT;

-- The highest event of each journal that was folded.
CREATE TABLE folded (
    host_id TEXT NOT NULL REFERENCES hosts (id),
    journal TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (host_id, journal)
) STRICT;

-- Hosts whose spec must be compiled anew. marks counts why, so that a mark made meanwhile is not lost. trouble is why the
-- last try failed (JSON).
CREATE TABLE outbox (
    host_id TEXT NOT NULL PRIMARY KEY REFERENCES hosts (id),
    marks INTEGER NOT NULL,
    trouble TEXT
) STRICT;
