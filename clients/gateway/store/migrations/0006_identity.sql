-- Under which identity a received study is filed: decided once for a transfer, before its first C-STORE.
-- change: JSON of `dicom.coercion.Change`, empty where the sender's identity stays.
CREATE TABLE identities (tid BLOB PRIMARY KEY, change BLOB NOT NULL, by TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
