-- Agents that become another version, a ring of hosts at a time.

-- What an operator calls the ring of a host; a host without a row is in the ring `main`.
CREATE TABLE rings (
    host_id TEXT NOT NULL PRIMARY KEY REFERENCES hosts (id),
    ring TEXT NOT NULL
) STRICT;

-- Each upgrade, JSON (domain/upgrade.rs). At most one is not over.
CREATE TABLE upgrades (
    id TEXT NOT NULL PRIMARY KEY,
    begun_at INTEGER NOT NULL,
    upgrade TEXT NOT NULL
) STRICT;

-- The version that is wished of each host's agent, as its spec says it.
CREATE TABLE agent_wishes (
    host_id TEXT NOT NULL PRIMARY KEY REFERENCES hosts (id),
    operation_id TEXT NOT NULL,
    version TEXT NOT NULL
) STRICT;
