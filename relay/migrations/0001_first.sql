-- What the relay remembers. It can read none of it: ids, sizes, times, ciphertext's hashes, sealed bodies.
-- Two tables count with AUTOINCREMENT from a start that `ledger.prepare` sets by the clock (metastore.py).

CREATE TABLE sites (
    site BLOB PRIMARY KEY, name TEXT NOT NULL, card TEXT NOT NULL, at INTEGER NOT NULL,
    stored INTEGER NOT NULL DEFAULT 0   -- bytes of all its packs
) STRICT, WITHOUT ROWID;

CREATE TABLE requests (
    site BLOB NOT NULL, jti BLOB NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (site, jti)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_at ON requests (at);

CREATE TABLE letters (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, owner BLOB NOT NULL,
    sender BLOB NOT NULL,               -- empty: a phone
    digest BLOB NOT NULL, at INTEGER NOT NULL, size INTEGER NOT NULL, body BLOB NOT NULL,
    mb TEXT NOT NULL DEFAULT '', run TEXT NOT NULL DEFAULT '', slot INTEGER NOT NULL DEFAULT 0,
    i INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX letters_once ON letters (owner, sender, digest);
CREATE INDEX letters_pair ON letters (owner, sender, size);
CREATE INDEX letters_owner ON letters (owner);
CREATE INDEX letters_at ON letters (at);
CREATE INDEX letters_mb ON letters (mb) WHERE mb <> '';

CREATE TABLE prekeys (
    site BLOB NOT NULL, kid BLOB NOT NULL, body TEXT NOT NULL, nbf INTEGER NOT NULL, exp INTEGER NOT NULL,
    PRIMARY KEY (site, kid)
) STRICT, WITHOUT ROWID;
CREATE INDEX prekeys_exp ON prekeys (exp);

CREATE TABLE cids (
    cid BLOB PRIMARY KEY, owner BLOB NOT NULL, dies INTEGER NOT NULL, bytes INTEGER NOT NULL DEFAULT 0,
    packs INTEGER NOT NULL DEFAULT 0,
    gone INTEGER NOT NULL DEFAULT 0,    -- 0 alive, 1 deleted or expired, 2 its bytes are erased too
    CHECK (gone IN (0, 1, 2))
) STRICT, WITHOUT ROWID;
CREATE INDEX cids_owner ON cids (owner, gone);
CREATE INDEX cids_dies ON cids (dies) WHERE gone = 0;
CREATE INDEX cids_doomed ON cids (gone) WHERE gone = 1;

CREATE TABLE packs (
    arrival INTEGER PRIMARY KEY AUTOINCREMENT, cid BLOB NOT NULL, n INTEGER NOT NULL,
    kind TEXT NOT NULL, size INTEGER NOT NULL, digest BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX packs_once ON packs (cid, n);
CREATE INDEX packs_cid ON packs (cid);

CREATE TABLE readers (
    cid BLOB NOT NULL, site BLOB NOT NULL,
    PRIMARY KEY (cid, site)
) STRICT, WITHOUT ROWID;

CREATE TABLE mailboxes (
    mb TEXT PRIMARY KEY, owner BLOB NOT NULL,
    body BLOB NOT NULL,                 -- m0 or its tombstone; empty once gone
    ended INTEGER NOT NULL, dies INTEGER NOT NULL, gone INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX mailboxes_owner ON mailboxes (owner, gone);
CREATE INDEX mailboxes_dies ON mailboxes (dies) WHERE gone = 0;

CREATE TABLE messages (
    mb TEXT NOT NULL, run TEXT NOT NULL, slot INTEGER NOT NULL, i INTEGER NOT NULL,
    at INTEGER NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (mb, run, slot, i)
) STRICT, WITHOUT ROWID;
