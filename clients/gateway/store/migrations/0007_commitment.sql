-- What an instance is asked about by, once it is stored: storage commitment names its class (PS3.4 J.3.2.1.1), a query
-- its study and series (C.4.1.2.1). lost: how often the PACS said afterwards that it does not have it.
ALTER TABLE ledger ADD COLUMN sop_class TEXT NOT NULL DEFAULT '';
ALTER TABLE ledger ADD COLUMN study_uid TEXT NOT NULL DEFAULT '';
ALTER TABLE ledger ADD COLUMN series_uid TEXT NOT NULL DEFAULT '';
ALTER TABLE ledger ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
