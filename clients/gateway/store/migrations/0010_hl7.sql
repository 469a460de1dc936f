-- Reports that came by HL7 before the images of their study, and were acknowledged: the message is in DIR/hl7.
CREATE TABLE hl7_waiting (
    id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, file TEXT NOT NULL, size INTEGER NOT NULL, at INTEGER NOT NULL
) STRICT;
-- Under what their study may be known: accession numbers, a Study Instance UID.
CREATE TABLE hl7_keys (
    report INTEGER NOT NULL REFERENCES hl7_waiting(id) ON DELETE CASCADE, key TEXT NOT NULL, PRIMARY KEY (report, key)
) STRICT, WITHOUT ROWID;
