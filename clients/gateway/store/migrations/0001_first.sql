-- The gateway's memory. Columns named *_sealed hold secrets under the site key; NULL once erased.

CREATE TABLE own (k TEXT PRIMARY KEY, v BLOB) STRICT;

CREATE TABLE prekeys (
    kid BLOB PRIMARY KEY, pair_sealed BLOB, message TEXT NOT NULL, exp INTEGER NOT NULL,
    published INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE peers (
    site BLOB PRIMARY KEY, card TEXT NOT NULL, name TEXT NOT NULL, place TEXT NOT NULL, page TEXT NOT NULL,
    roles TEXT NOT NULL, pinned_at INTEGER NOT NULL, pinned_by TEXT NOT NULL,
    prekey TEXT, prekey_exp INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE users (
    name TEXT PRIMARY KEY, role TEXT NOT NULL, hash TEXT NOT NULL, created_at INTEGER NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE sessions (token TEXT PRIMARY KEY, data BLOB NOT NULL, expires_at INTEGER NOT NULL) STRICT;

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
    subject TEXT NOT NULL, detail TEXT NOT NULL, hash BLOB NOT NULL
) STRICT;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;

-- What arrived here to be sent
CREATE TABLE studies (
    id TEXT PRIMARY KEY, uid TEXT NOT NULL UNIQUE, patient_name TEXT NOT NULL, patient_id TEXT NOT NULL,
    issuer TEXT NOT NULL, birth_date TEXT NOT NULL, sex TEXT NOT NULL, accession TEXT NOT NULL,
    date TEXT NOT NULL, time TEXT NOT NULL, description TEXT NOT NULL, source TEXT NOT NULL,
    first_at INTEGER NOT NULL, last_at INTEGER NOT NULL, closed INTEGER NOT NULL DEFAULT 0,
    closed_by TEXT NOT NULL DEFAULT '', refused INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE series (
    study TEXT NOT NULL REFERENCES studies(id) ON DELETE CASCADE, uid TEXT NOT NULL, no INTEGER NOT NULL,
    number TEXT NOT NULL, modality TEXT NOT NULL, description TEXT NOT NULL, scout INTEGER NOT NULL,
    PRIMARY KEY (study, uid)
) STRICT;
CREATE TABLE instances (
    id INTEGER PRIMARY KEY, study TEXT NOT NULL REFERENCES studies(id) ON DELETE CASCADE, series TEXT NOT NULL,
    sop_uid TEXT NOT NULL, sop_class TEXT NOT NULL, syntax TEXT NOT NULL, file TEXT NOT NULL,
    data_offset INTEGER NOT NULL, size INTEGER NOT NULL, hash BLOB NOT NULL, scout INTEGER NOT NULL,
    number INTEGER NOT NULL, at INTEGER NOT NULL, UNIQUE (study, sop_uid)
) STRICT;
CREATE UNIQUE INDEX instances_file ON instances (file);
CREATE TABLE refusals (
    id INTEGER PRIMARY KEY, study TEXT, code TEXT NOT NULL, file TEXT NOT NULL, source TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;

-- S
CREATE TABLE spools (
    cid BLOB PRIMARY KEY, study TEXT NOT NULL, k_sealed BLOB, position INTEGER NOT NULL DEFAULT 0,
    next_n INTEGER NOT NULL DEFAULT 0, next_i INTEGER NOT NULL DEFAULT 0, last_record BLOB,
    frozen INTEGER, ended INTEGER NOT NULL DEFAULT 0, dropped INTEGER NOT NULL DEFAULT 0,
    unsent INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE packs (
    cid BLOB NOT NULL REFERENCES spools(cid) ON DELETE CASCADE, n INTEGER NOT NULL, kind TEXT NOT NULL,
    size INTEGER NOT NULL, hash BLOB NOT NULL, record INTEGER, uploaded INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (cid, n)
) STRICT;
CREATE INDEX packs_waiting ON packs (uploaded, cid, n) WHERE uploaded = 0;
CREATE TABLE records (
    cid BLOB NOT NULL REFERENCES spools(cid) ON DELETE CASCADE, i INTEGER NOT NULL, n INTEGER NOT NULL,
    hash BLOB NOT NULL, PRIMARY KEY (cid, i)
) STRICT;
CREATE TABLE items (
    cid BLOB NOT NULL REFERENCES spools(cid) ON DELETE CASCADE, no INTEGER NOT NULL, instance INTEGER NOT NULL,
    series INTEGER NOT NULL, codec TEXT NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    record INTEGER, PRIMARY KEY (cid, no), UNIQUE (cid, instance)
) STRICT;
CREATE TABLE spool_series (
    cid BLOB NOT NULL REFERENCES spools(cid) ON DELETE CASCADE, no INTEGER NOT NULL, uid TEXT NOT NULL,
    closed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (cid, no), UNIQUE (cid, uid)
) STRICT;
CREATE TABLE sends (
    tid BLOB PRIMARY KEY, cid BLOB NOT NULL, study TEXT NOT NULL, peer BLOB NOT NULL, state TEXT NOT NULL,
    why TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL, created_by TEXT NOT NULL, created_at INTEGER NOT NULL,
    exp INTEGER NOT NULL DEFAULT 0, ended_at INTEGER NOT NULL DEFAULT 0,
    offer TEXT, prekey TEXT, summary TEXT, salt BLOB,
    q_sealed BLOB, pin_sealed BLOB, mailbox BLOB NOT NULL, reopens INTEGER NOT NULL DEFAULT 0,
    joined_at INTEGER NOT NULL DEFAULT 0, check_code TEXT NOT NULL DEFAULT '',
    decision TEXT NOT NULL DEFAULT '', decided_at INTEGER NOT NULL DEFAULT 0,
    grant_sealed BLOB, vp BLOB, release TEXT, receipt TEXT,
    alarmed INTEGER NOT NULL DEFAULT 0, swept INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE tries (
    run BLOB PRIMARY KEY, tid BLOB NOT NULL, mailbox BLOB NOT NULL, state TEXT NOT NULL, at INTEGER NOT NULL,
    vp BLOB NOT NULL, m4 BLOB, channel_sealed BLOB, last_m5 BLOB, told TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX tries_tid ON tries (tid);

-- R
CREATE TABLE receives (
    tid BLOB PRIMARY KEY, cid BLOB NOT NULL, peer BLOB NOT NULL, state TEXT NOT NULL,
    why TEXT NOT NULL DEFAULT '', offer TEXT NOT NULL, created_at INTEGER NOT NULL, exp INTEGER NOT NULL,
    ended_at INTEGER NOT NULL DEFAULT 0, release TEXT, grant_sealed BLOB, k_sealed BLOB,
    opened_at INTEGER NOT NULL DEFAULT 0, first_stored_at INTEGER NOT NULL DEFAULT 0,
    last_stored_at INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0, receipt TEXT,
    patient_name TEXT NOT NULL DEFAULT '', birth_date TEXT NOT NULL DEFAULT '', what TEXT NOT NULL DEFAULT '',
    swept INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE used (tid BLOB PRIMARY KEY, release BLOB NOT NULL) STRICT;
CREATE TABLE waiting (hash BLOB PRIMARY KEY, tid BLOB NOT NULL, peer BLOB NOT NULL, body TEXT NOT NULL,
    at INTEGER NOT NULL) STRICT;
CREATE TABLE in_packs (
    cid BLOB NOT NULL, n INTEGER NOT NULL, kind TEXT NOT NULL, size INTEGER NOT NULL,
    have INTEGER NOT NULL DEFAULT 0, bad INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (cid, n)
) STRICT;
CREATE TABLE in_records (cid BLOB NOT NULL, i INTEGER NOT NULL, n INTEGER NOT NULL, compact TEXT NOT NULL,
    PRIMARY KEY (cid, i)) STRICT;
CREATE TABLE in_series (
    cid BLOB NOT NULL, no INTEGER NOT NULL, uid TEXT NOT NULL, want INTEGER NOT NULL, closed INTEGER NOT NULL,
    label TEXT NOT NULL DEFAULT '', PRIMARY KEY (cid, no)
) STRICT;
CREATE TABLE ledger (
    destination TEXT NOT NULL, sop_uid TEXT NOT NULL, tid BLOB NOT NULL, no INTEGER NOT NULL,
    series INTEGER NOT NULL, hash BLOB NOT NULL, state TEXT NOT NULL, status INTEGER,
    note TEXT NOT NULL DEFAULT '', at INTEGER NOT NULL, PRIMARY KEY (destination, sop_uid, tid)
) STRICT;
CREATE INDEX ledger_tid ON ledger (tid, no);

-- Both
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, target TEXT NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL,
    tid BLOB, created_at INTEGER NOT NULL, next_at INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    UNIQUE (kind, target, hash)
) STRICT;
CREATE TABLE alarms (
    id INTEGER PRIMARY KEY, tid BLOB, code TEXT NOT NULL, sentence TEXT NOT NULL, at INTEGER NOT NULL,
    UNIQUE (tid, code)
) STRICT;
