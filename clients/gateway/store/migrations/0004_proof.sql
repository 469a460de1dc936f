-- How it is known that an instance is in the PACS: 'store' (its answer to the C-STORE) or 'find' (to a query)
ALTER TABLE ledger ADD COLUMN proof TEXT NOT NULL DEFAULT '';
UPDATE ledger SET proof='store' WHERE state='stored';
