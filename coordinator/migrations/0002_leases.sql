-- Hosts that get nothing new, bots that may move, and what keeps them from it.

-- Set while an operator wants nothing new on it; its state says the same while it is heard.
ALTER TABLE hosts ADD COLUMN cordoned_at INTEGER;

-- What becomes of it when its host falls silent: keep or failover. The lease itself is in the revision's blueprint.
ALTER TABLE deployments ADD COLUMN policy TEXT NOT NULL DEFAULT 'keep';

-- One row once it matters: which hosts fell silent together, JSON (domain/silence.rs).
CREATE TABLE failover (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    suspicion TEXT NOT NULL
) STRICT;
