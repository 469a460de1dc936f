-- Imports whose study is offered before all of it is here (docs/adr/0016). A row goes when its last image is in;
-- one that could not be finished stays, without its path, for as long as its study: what is missing is counted.
CREATE TABLE imports (
    id INTEGER PRIMARY KEY, study TEXT NOT NULL REFERENCES studies(id) ON DELETE CASCADE, path TEXT NOT NULL,
    actor TEXT NOT NULL, skipped INTEGER NOT NULL, at INTEGER NOT NULL, stopped TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX imports_study ON imports (study);
CREATE TABLE import_files (
    import INTEGER NOT NULL REFERENCES imports(id) ON DELETE CASCADE, sop_uid TEXT NOT NULL, series TEXT NOT NULL,
    size INTEGER NOT NULL, PRIMARY KEY (import, sop_uid)
) STRICT, WITHOUT ROWID;
