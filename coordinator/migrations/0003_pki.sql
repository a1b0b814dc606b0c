-- Who signs for hosts, and how one issuing CA takes over from another.

-- Every issuing CA that this installation has had, by the SHA-256 of its certificate. The key of the first lies in the
-- data directory; that of each later one is here, encrypted under the keyring (envelope, JSON), until the CA is retired.
-- bridge is a certificate of the same key by the root before. ended_at: it signs no more, and its hosts are shut out.
CREATE TABLE issuers (
    id BLOB NOT NULL PRIMARY KEY,
    root BLOB NOT NULL,
    certificate BLOB NOT NULL,
    bridge BLOB,
    key_id TEXT,
    envelope TEXT,
    added_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;

-- One issuing CA taking over from another (domain/rotation.rs has the phases).
CREATE TABLE ca_rotations (
    id TEXT NOT NULL PRIMARY KEY,
    old_issuer BLOB NOT NULL REFERENCES issuers (id),
    new_issuer BLOB NOT NULL REFERENCES issuers (id),
    phase TEXT NOT NULL,
    begun_at INTEGER NOT NULL,
    phase_at INTEGER NOT NULL
) STRICT;

-- What each host says that it holds on its disk.
CREATE TABLE host_trust (
    host_id TEXT NOT NULL PRIMARY KEY REFERENCES hosts (id),
    bundle BLOB NOT NULL,
    issuer BLOB NOT NULL,
    told_at INTEGER NOT NULL
) STRICT;

-- Who signed it; none: the first CA.
ALTER TABLE certificates ADD COLUMN issuer BLOB;
